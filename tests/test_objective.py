"""Laws of the objective (DESIGN, laws 11 to 15): two streams, the exact bound, released losses, train = decode."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import PAD_KIND, TARGET, TEXT, group_mask, two_stream_mask, visible
from minittt.context import CachedContext
from minittt.data.batches import Batch, lay_out, pack
from minittt.data.conversation import render
from minittt.diffusion import corrupt
from minittt.errors import MinitttError
from minittt.objective import (
    PRESETS,
    Noise,
    Preset,
    draw_blocks,
    draw_noise,
    example,
    maskable_segments,
    preset,
    targets,
    unified_loss,
)
from minittt.strategies import preserve_prefix, span_numbers
from minittt.theory.released import load_qwen2, released_groups
from tests.toy import toy_corpus, toy_model

SEEDS = st.integers(0, 10_000)
BLOCKS = st.sampled_from([1, 2, 3, 4, 8, None])
ONE_STREAM = Preset(False, (None,))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def packed(corpus, block, two_streams=True, records=None, row_length=200):
    documents = [
        lay_out(render(r, corpus, block), block, None, two_streams) for r in records or corpus.split("train")
    ]
    return pack(documents, row_length, corpus.vocabulary.pad)


def noise(batch, seed):
    """Any masking of the noisy stream at all, with at least something masked and something clean on average."""
    return batch.noisy & (torch.rand(batch.ids.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)


@given(SEEDS, BLOCKS)
def test_law_11_clean_stream_equals_a_clean_pass(seed, block):
    corpus = toy_corpus(seed)
    model, batch = toy_model(corpus.vocabulary, seed), packed(corpus, block)
    ids = corrupt(batch.ids, noise(batch, seed), corpus.vocabulary.mask)
    both = model(ids, two_stream_mask(batch.groups, batch.noisy, batch.documents), batch.positions)
    for row in range(len(ids)):
        clean = ~batch.noisy[row] & (batch.groups[row] >= 0)
        groups, documents = batch.groups[row, clean][None], batch.documents[row, clean][None]
        alone = model(
            batch.ids[row, clean][None], group_mask(groups, documents), batch.positions[row, clean][None]
        )
        torch.testing.assert_close(both[row, clean], alone[0], rtol=1e-10, atol=1e-10)


@given(SEEDS, BLOCKS)
def test_law_11_noisy_stream_equals_one_pass_per_group(seed, block):
    corpus = toy_corpus(seed)
    vocabulary = corpus.vocabulary
    model, batch = toy_model(vocabulary, seed), packed(corpus, block, records=corpus.split("train")[:1])
    ids = corrupt(batch.ids, noise(batch, seed), vocabulary.mask)
    both = model(ids, two_stream_mask(batch.groups, batch.noisy, batch.documents), batch.positions)[0]
    for group in batch.groups[batch.noisy].unique():
        earlier = ~batch.noisy[0] & (batch.groups[0] >= 0) & (batch.groups[0] < group)
        mine = batch.noisy[0] & (batch.groups[0] == group)
        row = torch.cat([ids[0, earlier], ids[0, mine]])[None]
        groups = torch.cat([batch.groups[0, earlier], batch.groups[0, mine]])[None]
        positions = torch.cat([batch.positions[0, earlier], batch.positions[0, mine]])[None]
        alone = model(row, visible(groups, groups), positions)[0, -int(mine.sum()) :]
        torch.testing.assert_close(both[mine], alone, rtol=1e-10, atol=1e-10)


@given(SEEDS)
def test_law_11_holds_in_float32(seed):
    corpus = toy_corpus(seed)
    model = toy_model(corpus.vocabulary, seed, torch.float32)
    both, clean = (
        packed(corpus, 4, records=corpus.split("train")[:1]),
        packed(corpus, 4, False, corpus.split("train")[:1]),
    )
    ids = corrupt(both.ids, noise(both, seed), corpus.vocabulary.mask)
    theirs = model(clean.ids, group_mask(clean.groups, clean.documents), clean.positions)
    ours = model(ids, two_stream_mask(both.groups, both.noisy, both.documents), both.positions)
    torch.testing.assert_close(ours[~both.noisy], theirs[0], rtol=1e-4, atol=1e-4)


@given(SEEDS, st.sampled_from([(1, None), (4, None), (4, 2), (None, None)]))
def test_law_11_an_example_holds_every_slot_twice_in_the_group_of_its_twin(seed, blocks):
    corpus, p = toy_corpus(seed), preset("exact")
    sequence = render(corpus.split("train")[seed % 5], corpus, *blocks)
    ids, kinds, groups, positions, noisy, _ = example(sequence, p, *blocks, random.Random(seed))
    n = len(sequence.ids)
    twins = [i for i in range(n) if sequence.kinds[i] == TARGET]
    assert ids.tolist() == sequence.ids + [sequence.ids[i] for i in twins]
    assert positions.tolist() == [*range(n), *twins]
    assert noisy.tolist() == [0] * n + [1] * len(twins)
    assert groups[n:].tolist() == groups[:n][twins].tolist()
    sizes = (groups[n:].unique(return_counts=True)[1]).tolist()
    assert blocks[0] is None or set(sizes) <= {size for size in blocks if size}
    assert kinds[n:].tolist() == [TARGET] * len(twins)


def bound_of_group(model, vocabulary, earlier_ids, earlier_groups, block):
    """Any-order bound on -log p(block | earlier), by all orders: the mean over permutations, token by token."""
    n, choices = len(block), vocabulary.audio_choices()
    total = 0.0
    for order in itertools.permutations(range(n)):
        state = [vocabulary.mask] * n
        for slot in order:
            ids = torch.tensor([earlier_ids + state])
            groups = torch.tensor([earlier_groups + [max(earlier_groups) + 1] * n])
            log_p = model(ids, visible(groups, groups))[0, len(earlier_ids) + slot, choices].log_softmax(-1)
            total -= log_p[block[slot] - vocabulary.first_code].item()
            state[slot] = block[slot]
    return total / math.factorial(n)


def exact_bound(model, vocabulary, ids, kinds, groups, targets):
    """U(x): text cross-entropy plus the any-order bound of each target group, one clean pass or one group at a time."""
    g = torch.tensor([groups])
    log_p = model(torch.tensor([ids]), visible(g, g))[0]
    choices = vocabulary.text_choices()
    text = sum(
        -log_p[i - 1, choices].log_softmax(-1)[(choices == ids[i]).nonzero().item()].item()
        for i in range(len(ids))
        if targets[i]
    )
    audio = 0.0
    for group in sorted({g for g, kind in zip(groups, kinds, strict=True) if kind == TARGET}):
        n = groups.index(group)
        audio += bound_of_group(
            model,
            vocabulary,
            ids[:n],
            groups[:n],
            [t for t, g in zip(ids, groups, strict=True) if g == group],
        )
    return text, audio


def every_draw(n):
    """(probability, subset, weight) of every draw of the k-subset estimator for a group of n."""
    for k in range(1, n + 1):
        for subset in itertools.combinations(range(n), k):
            yield 1 / n / math.comb(n, k), subset, n / k


def with_every_draw(batch):
    """A row for each draw of noise of each group of a batch of one row, with weights times the draw's probability.

    So one loss is the expectation over all draws.
    """
    masks, weights, segments = [], [], []
    for group in batch.groups[batch.noisy].unique():
        slots = (batch.noisy[0] & (batch.groups[0] == group)).nonzero().flatten()
        for probability, subset, weight in every_draw(len(slots)):
            chosen = slots[list(subset)]
            masks.append(torch.zeros_like(batch.noisy[0]).index_fill(0, chosen, True))
            weights.append(probability * weight * masks[-1].double())
            segments.append(torch.full_like(batch.ids[0], -1).index_fill(0, slots, int(group)))
    rows = Batch(**{name: value.repeat(len(masks), 1) for name, value in vars(batch).items()})
    return rows, Noise(torch.stack(masks), torch.stack(weights), torch.stack(segments))


@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_law_12_and_15_the_two_stream_estimate_is_unbiased_for_u(seed, block):
    corpus = toy_corpus(seed, longest=4)
    vocabulary, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)
    record = corpus.split("train")[seed % 5]
    batch = packed(corpus, block, records=[record])
    sequence = render(record, corpus, block)
    clean = ~batch.noisy[0]
    text, audio = exact_bound(
        model, vocabulary, sequence.ids, sequence.kinds, batch.groups[0, clean].tolist(), sequence.targets
    )
    p = PRESETS["ar" if block == 1 else "exact"]
    loss = unified_loss(model, batch, vocabulary, p, generator(seed))
    assert math.isclose(loss.text_sum.item(), text, rel_tol=1e-10)
    assert (loss.n_text, loss.n_audio) == (sum(sequence.targets), sequence.kinds.count(TARGET))
    if batch.noisy.any():
        rows, noise = with_every_draw(batch)
        expected = unified_loss(model, rows, vocabulary, p, None, noise).audio_sum.item()
        assert math.isclose(expected, audio, rel_tol=1e-10)
    if block == 1:  # nothing is left to chance: the bound of a single slot is -log p itself
        assert math.isclose(loss.audio_sum.item(), audio, rel_tol=1e-10, abs_tol=1e-10)


class OracleNetwork:
    """In place of a Transformer: of an explicit joint over whole sequences, the law of a token given what is seen.

    sequences (S, n) long, equally long; log_p (S,). A query at position i of the clean stream answers for i + 1, one of
    the noisy stream for its own.
    """

    def __init__(self, sequences, log_p, vocabulary, noisy):
        self.sequences, self.p, self.vocabulary, self.noisy = sequences, log_p.exp(), vocabulary, noisy
        self.embed_tokens = SimpleNamespace(weight=self.p)  # its precision

    def hidden(self, ids, mask, positions):
        out = torch.zeros(*ids.shape, self.vocabulary.size, dtype=torch.float64)
        for b, q in itertools.product(*map(range, ids.shape)):
            seen = mask[b, q] & (ids[b] != self.vocabulary.mask)
            agrees = (self.sequences[:, positions[b, seen]] == ids[b, seen]).all(1)  # (S,)
            asked = int(positions[b, q]) + int(not self.noisy[q])
            if asked < self.sequences.shape[1]:
                out[b, q].index_add_(0, self.sequences[agrees, asked], self.p[agrees])
        return out.log().clamp(min=-1e4)

    def logits(self, hidden, choices):
        return hidden[:, choices]


@given(SEEDS, st.sampled_from([1, 2, 3, None]))
def test_law_12_with_the_true_conditionals_the_mean_of_u_is_the_entropy(seed, block):
    """For every partition into blocks: H(X) of one word, a span of three slots, and a word that depends on them."""
    vocabulary = toy_corpus(0, codebook_size=2).vocabulary
    kinds = [TEXT, TEXT, TEXT, TARGET, TARGET, TARGET, TEXT]
    spoken = [vocabulary.first_code, vocabulary.first_code + 1]
    choices = [[vocabulary.bos], [1, 2], [vocabulary.open], spoken, spoken, spoken, [3, 4]]
    sequences = torch.tensor(list(itertools.product(*choices)))  # (S, n)
    log_p = torch.randn(len(sequences), generator=generator(seed), dtype=torch.float64).log_softmax(0)
    mean = 0.0
    for ids, log_q in zip(sequences.tolist(), log_p.tolist(), strict=True):
        columns = SimpleNamespace(
            ids=ids, kinds=kinds, targets=[i > 0 and k == TEXT for i, k in enumerate(kinds)]
        )
        batch = pack([lay_out(columns, block)], 20, vocabulary.pad)
        network = OracleNetwork(sequences, log_p, vocabulary, batch.noisy[0])
        rows, noise = with_every_draw(batch)
        loss = unified_loss(network, rows, vocabulary, PRESETS["exact"], None, noise)
        mean += math.exp(log_q) * (loss.text_sum.item() / len(rows.ids) + loss.audio_sum.item())
    assert math.isclose(mean, -(log_p.exp() * log_p).sum().item(), rel_tol=1e-10)


@given(SEEDS)
def test_law_12_u_is_never_below_minus_log_p(seed):
    """-log of the mean over orders of p(block): what the any-order sampler really gives, by Jensen at most U."""
    corpus = toy_corpus(seed, longest=2)
    vocabulary, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)
    prefix, groups = [vocabulary.bos, vocabulary.open], [0, 1]
    block = [vocabulary.first_code + int(i) for i in corpus.audio(0)] + [vocabulary.eoa]
    paths = []
    for order in itertools.permutations(range(len(block))):
        state, log_p = [vocabulary.mask] * len(block), 0.0
        for slot in order:
            g = torch.tensor([groups + [2] * len(block)])
            logits = model(torch.tensor([prefix + state]), visible(g, g))[
                0, 2 + slot, vocabulary.audio_choices()
            ]
            log_p += logits.log_softmax(-1)[block[slot] - vocabulary.first_code].item()
            state[slot] = block[slot]
        paths.append(log_p)
    minus_log_p = -torch.tensor(paths).logsumexp(0).item() + math.log(len(paths))
    assert minus_log_p <= bound_of_group(model, vocabulary, prefix, groups, block) + 1e-10


# ---- law 13: the released losses, through `paper`

GOLDEN = Path(__file__).parent / "golden"
MASKS, RECORDED = (np.load(GOLDEN / f"{name}.npz", allow_pickle=False) for name in ("masks", "released"))
RELEASED_IDS = SimpleNamespace(mask=564)  # all that a softmax over the whole vocabulary asks of one
BATCHES = ("b0", "b1", "b4", "b5")
FORWARDS = [(b, "random", part) for b in BATCHES for part in ("ar", "diff0", "diff1", "diff2")]
FORWARDS += [(b, "toy", part) for b in BATCHES for part in ("ar", "diff0")]


def recorded(name):
    values = torch.from_numpy(RECORDED[name])
    return values.long() if values.dtype == torch.int16 else values


@cache
def network(weights):
    return load_qwen2(GOLDEN / weights)[0]


def released_batch(name):
    """A recorded batch in this project's terms: each row a record, audio all TARGET."""
    ids = torch.from_numpy(MASKS[f"{name}_input_ids"]).long()
    real, labels = torch.from_numpy(MASKS[f"{name}_attention_mask"]), recorded(f"{name}_labels")
    kinds = torch.where(ids < 307, TEXT, TARGET).masked_fill(~real, PAD_KIND)
    text_targets = (labels >= 0) & (labels < 307)
    text_targets[:, 0] = False
    return Batch(
        ids,
        kinds,
        groups=released_groups(ids, 307).masked_fill(~real, -1),
        documents=real.long() - 1,
        positions=torch.arange(ids.shape[1]).expand_as(ids),
        noisy=torch.zeros_like(real),
        text_targets=text_targets,
    )


def released_segments(name, part=None):
    """What could have been masked: audio behind the prompt and, by the draws of `part`, behind a preserved prefix."""
    batch = released_batch(name)
    position = torch.arange(batch.ids.shape[1])
    maskable = (batch.kinds == TARGET) & (position >= recorded(f"{name}_prompt_lengths")[:, None])
    if part is not None:
        keeps = recorded(f"{name}_{part}_u_prefix") < recorded(f"{name}_{part}_prefix_ratio")
        split = torch.zeros(len(keeps), dtype=torch.long)
        split[keeps] = recorded(f"{name}_{part}_split_draw")
        maskable &= position >= split[:, None]
        assert torch.equal(maskable.sum(1).clamp(min=1), recorded(f"{name}_{part}_answer_lengths"))
    return torch.where(maskable, 0, -1)


def released_noise(name, part):
    """The recorded draw; the released code masks some questions too, and asks nothing of them: weight 0."""
    masked, p = recorded(f"{name}_{part}_masked"), recorded(f"{name}_{part}_p_mask")[:, None]
    asked = masked & (recorded(f"{name}_labels") != -100)
    return Noise(masked, asked / p, released_segments(name, part))


@pytest.mark.parametrize("name, weights, part", FORWARDS)
def test_law_13_paper_gives_the_released_losses_and_gradient_norms(name, weights, part):
    """Batches that BANOM left clean ("ar") and noised ones; batches of one and of two turns, with heard audio."""
    model, p = network(weights), replace(preset("paper"), banom=1.0)  # the coin, unless the noise is given
    noise = None if part == "ar" else released_noise(name, part)
    loss = unified_loss(model, released_batch(name), RELEASED_IDS, p, generator(0), noise)
    near = dict(rtol=1e-5, atol=0.0)
    theirs = recorded(f"{name}_{weights}_{part}_losses").sum()
    torch.testing.assert_close(loss.total.detach(), theirs, **near)
    names = [str(key).removeprefix("model.") for key in RECORDED["grad_names"]]
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss.total, [parameters[key] for key in names])
    norms = torch.stack([gradient.norm() for gradient in gradients])
    torch.testing.assert_close(norms, recorded(f"{name}_{weights}_{part}_grad_norm"), **near)


@pytest.mark.parametrize("name", ["b0", "b1", "b5"])
@pytest.mark.parametrize("part", ["diff1", "diff2"])
def test_law_13_recorded_prefixes_are_ones_that_ppm_can_draw(name, part):
    whole, theirs = released_segments(name), released_segments(name, part)
    spans = span_numbers(whole >= 0)
    ours = [preserve_prefix(whole, spans, 0.7, generator(seed)) for seed in range(60)]
    for row in range(len(whole)):
        assert any(torch.equal(draw[row], theirs[row]) for draw in ours)


@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from(["token", "sample"]))
def test_law_13_every_switch_is_what_it_says_token_by_token(seed, restrict, at_mask, normalise):
    """Packed records in one stream; the loss written out in loops, over the network's own logits."""
    corpus = toy_corpus(seed, longest=4)
    vocabulary, model, batch = (
        corpus.vocabulary,
        toy_model(corpus.vocabulary, seed),
        packed(corpus, None, False),
    )
    p = replace(ONE_STREAM, restrict_classes=restrict, text_at_mask=at_mask, normalise=normalise, ppm=0.5)
    noise = draw_noise(batch, p, generator(seed), torch.float64)
    ids = corrupt(batch.ids, noise.masked, vocabulary.mask)
    logits = model(ids, group_mask(batch.groups, batch.documents), batch.positions)

    def cost(b, place, token, choices):
        kept = choices.tolist() if restrict else list(range(vocabulary.size))
        return -logits[b, place, kept].log_softmax(-1)[kept.index(token)].item()

    text, audio = {}, {}  # (row, document) -> costs
    for b, i in (batch.kinds >= 0).nonzero().tolist():
        record, token = (b, int(batch.documents[b, i])), int(batch.ids[b, i])
        text.setdefault(record, []), audio.setdefault(record, [])
        if batch.text_targets[b, i] and (at_mask or ids[b, i - 1] != vocabulary.mask):
            text[record].append(cost(b, i - 1, token, vocabulary.text_choices()))
        if noise.segments[b, i] >= 0:
            weight = noise.weight[b, i].item()
            audio[record].append(weight * cost(b, i, token, vocabulary.audio_choices()) if weight else 0.0)

    def mean(costs):
        together = list(itertools.chain(*costs.values()))
        if normalise == "token":
            return sum(together) / max(1, len(together))
        return sum(sum(one) / max(1, len(one)) for one in costs.values()) / len(costs)

    loss = unified_loss(model, batch, vocabulary, p, None, noise)
    assert math.isclose(loss.total.item(), mean(text) + mean(audio), rel_tol=1e-10)
    assert math.isclose(loss.text_sum.item(), sum(map(sum, text.values())), rel_tol=1e-10)
    assert math.isclose(loss.audio_sum.item(), sum(map(sum, audio.values())), rel_tol=1e-10, abs_tol=1e-12)
    assert (loss.n_text, loss.n_audio) == tuple(sum(map(len, c.values())) for c in (text, audio))


@given(SEEDS)
def test_law_14_banom_takes_the_audio_loss_of_a_whole_batch(seed):
    corpus = toy_corpus(seed, longest=3)
    batch, model = packed(corpus, None, two_streams=False), toy_model(corpus.vocabulary, seed)
    p, g = replace(ONE_STREAM, banom=0.5), generator(seed)
    noised = [(maskable_segments(batch, p, g) >= 0).any().item() for _ in range(100)]
    assert 30 <= sum(noised) <= 70  # four standard deviations
    loss = unified_loss(model, batch, corpus.vocabulary, replace(p, banom=1.0), g)
    assert loss.n_audio == 0
    assert loss.audio_sum == 0
    assert loss.n_text == int(batch.text_targets.sum())


@given(SEEDS)
def test_law_14_the_objective_draws_prefixes_and_cuts_spans_when_asked_to(seed):
    corpus, g = toy_corpus(seed, longest=12), generator(seed)
    batch = packed(corpus, None, two_streams=False)
    n, p = int((batch.kinds == TARGET).sum()), replace(ONE_STREAM, ppm=1.0)
    left = [int((maskable_segments(batch, p, g) >= 0).sum()) for _ in range(20)]
    assert min(left) > 0
    assert min(left) < n
    assert int((maskable_segments(batch, ONE_STREAM, g) >= 0).sum()) == n
    whole = render({"messages": [["document", list(range(1, 5)) * 3]]}, corpus)  # 12 codes, EOA, END
    for sst in (0.0, 1.0):
        ids = example(whole, replace(ONE_STREAM, sst=sst), None, None, random.Random(seed))[0].tolist()
        assert ids == whole.ids[: len(ids)]
        assert (len(ids) == len(whole.ids)) if sst == 0 else (len(ids) < len(whole.ids) - 2)


@given(SEEDS, st.sampled_from([1, 2, 4, 8]), st.sampled_from([None, 1, 2]))
def test_law_15_training_logits_equal_decoding_logits(seed, block, first):
    """Every pattern of masks that decoding can reach, at the block sizes trained.

    The noisy stream is the draft, C what is kept.
    """
    first = first if first and first < block else None
    corpus = toy_corpus(seed)
    vocabulary, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)
    sequence = render(corpus.split("train")[seed % 5], corpus, block, first)
    batch = pack([lay_out(sequence, block, first)], 200, vocabulary.pad)
    masked = noise(batch, seed)
    ids = corrupt(batch.ids, masked, vocabulary.mask)
    trained = model(ids, two_stream_mask(batch.groups, batch.noisy, batch.documents), batch.positions)[0]
    clean_groups, context, done = batch.groups[0, ~batch.noisy[0]], CachedContext(model, 1, vocabulary.pad), 0
    for group in batch.groups[batch.noisy].unique():
        n = int((clean_groups < group).sum())
        draft = ids[:, batch.noisy[0] & (batch.groups[0] == group)]
        commit = torch.tensor([sequence.ids[done:n]])
        decoded = context.step(commit, clean_groups[None, done:n], draft)[0]
        done = n
        torch.testing.assert_close(
            decoded[1:], trained[batch.noisy[0] & (batch.groups[0] == group)], rtol=1e-10, atol=1e-10
        )
        torch.testing.assert_close(decoded[0], trained[n - 1], rtol=1e-10, atol=1e-10)


@given(SEEDS)
def test_law_15_nar_with_blocks_of_one_is_the_chain_rule_over_the_whole_reply(seed):
    """Text, markers and codes alike: -log p(reply) is the sum of both modalities, each slot read behind a MASK."""
    corpus = toy_corpus(seed, longest=4)
    vocabulary, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)
    p, record = replace(preset("nar"), block_sizes=(1,)), corpus.split("train")[seed % 5]
    sequence = render(record, corpus)
    batch = pack([example(sequence, p, 1, None, random.Random(seed))], 200, vocabulary.pad)
    said = [i for i in range(len(sequence.ids)) if sequence.targets[i] or sequence.kinds[i] == TARGET]
    either = torch.cat([vocabulary.text_choices(), vocabulary.audio_choices()]).tolist()
    clean_groups = batch.groups[:, ~batch.noisy[0]]
    expected = {True: 0.0, False: 0.0}
    for i in said:
        row, groups = torch.tensor([[*sequence.ids[:i], vocabulary.mask]]), clean_groups[:, : i + 1]
        log_p = model(row, visible(groups, groups))[0, i, either].log_softmax(-1)
        expected[sequence.ids[i] < vocabulary.first_code] -= log_p[either.index(sequence.ids[i])].item()
    loss = unified_loss(model, batch, vocabulary, p, generator(seed))
    assert math.isclose(loss.text_sum.item(), expected[True], rel_tol=1e-10)
    assert math.isclose(loss.audio_sum.item(), expected[False], rel_tol=1e-10, abs_tol=1e-10)
    assert loss.n_text == sum(sequence.ids[i] < vocabulary.first_code for i in said)
    assert loss.n_text + loss.n_audio == len(said)


@given(SEEDS, st.sampled_from(["exact", "mended", "nar"]))
def test_totals_of_parts_add_up_to_the_total_of_the_step(seed, name):
    corpus = toy_corpus(seed, longest=4)
    p, model = preset(name), toy_model(corpus.vocabulary, seed)
    rng = random.Random(seed)
    documents = [example(render(r, corpus, 4), p, 4, None, rng) for r in corpus.split("train")]
    batch = pack(documents, 120, corpus.vocabulary.pad)
    noise = draw_noise(batch, p, generator(seed), torch.float64)
    whole = unified_loss(model, batch, corpus.vocabulary, p, None, noise)
    counts = tuple(int(counted.sum()) for counted in targets(batch, noise, corpus.vocabulary, p))
    assert counts == (whole.n_text, whole.n_audio)
    total = 0.0
    for row in range(len(batch.ids)):
        part = Batch(**{key: value[row : row + 1] for key, value in vars(batch).items()})
        noise_of_part = Noise(*(value[row : row + 1] for value in noise))
        total += unified_loss(model, part, corpus.vocabulary, p, None, noise_of_part, counts).total.item()
    assert math.isclose(total, whole.total.item(), rel_tol=1e-10)
    with pytest.raises(MinitttError, match="token"):
        unified_loss(model, batch, corpus.vocabulary, replace(p, normalise="sample"), None, noise, counts)


def test_the_noise_and_loss_of_a_seed_stay_what_they_are():
    """A run goes on bit for bit only if one seed means one noise: these figures must never move."""
    corpus = toy_corpus(0)
    loss = unified_loss(
        toy_model(corpus.vocabulary, 0, torch.float32),
        packed(corpus, 4),
        corpus.vocabulary,
        preset("exact"),
        generator(0),
    )
    assert (loss.n_text, loss.n_audio) == (20, 76)
    assert loss.total.item() == pytest.approx(4.946460723876953, rel=1e-5)


class TwoSlots:
    """A network by table: a code at place 1 has .5; one at place 3 has .1 after the true code, .9 after MASK."""

    def __init__(self, vocabulary, mask_instead: float) -> None:
        self.embed_tokens = SimpleNamespace(weight=torch.zeros(1, dtype=torch.float64))
        self.vocabulary = vocabulary
        self.mask_instead = mask_instead

    def hidden(self, ids, mask, positions):
        v = self.vocabulary
        after_mask = (ids[:, 1] == v.mask)[:, None]
        p = torch.tensor([[0.5, 0.5, 0.1, 0.1]], dtype=torch.float64).repeat(len(ids), 1)  # (B, L)
        p[:, 2:] = p[:, 2:].where(~after_mask, self.mask_instead)
        rest = (1 - p) / (v.size - 1)  # (B, L): of every other id
        is_code = torch.arange(v.size) == v.first_code
        return torch.where(is_code, p[..., None], rest[..., None]).log()  # (B, L, V)

    def logits(self, hidden, choices):
        return hidden if choices is None else hidden[:, choices]


def test_one_stream_bounds_nothing():
    """Chapter 5's example: two spans of one slot, and one level of noise t for both; the mean over all t is exact."""
    v = toy_corpus(0).vocabulary
    ids = torch.tensor([[v.open, v.first_code, v.open, v.first_code]] * 4)
    slots = torch.tensor([[False, True, False, True]])
    masked = torch.tensor([[False, a, False, b] for a in (False, True) for b in (False, True)])
    kinds = torch.where(slots, TARGET, TEXT).expand_as(ids)
    nothing = torch.zeros_like(masked)
    groups = torch.arange(4).expand_as(ids)
    batch = Batch(ids, kinds, groups, torch.zeros_like(ids), groups, nothing, nothing)
    times, shares = np.polynomial.legendre.leggauss(4)  # exact for polynomials up to degree 7
    mean = 0.0
    for t, share in zip((1 + times) / 2, shares / 2, strict=True):
        n_masked = masked.sum(1)
        chance = torch.tensor([t]) ** n_masked * (1 - torch.tensor([t])) ** (2 - n_masked)  # (4,)
        draw = Noise(masked, masked * chance[:, None] / t, torch.where(slots, 0, -1).expand_as(ids))
        loss = unified_loss(TwoSlots(v, 0.9), batch, v, preset("paper"), None, draw)
        mean += share * loss.audio_sum.item()
    true = math.log(2) + math.log(10)
    assert mean == pytest.approx(math.log(2) - 0.5 * (math.log(0.1) + math.log(0.9)), rel=1e-12)
    assert mean == pytest.approx(1.90, abs=0.005)
    assert true == pytest.approx(3.00, abs=0.005)


def test_contradictions_are_named():
    with pytest.raises(MinitttError, match="there is no preset 'papre'; choose one of paper"):
        preset("papre")
    with pytest.raises(MinitttError, match="'token' or 'sample'"):
        Preset(True, (1,), normalise="batch")
    for wrong in (Preset(False, (4,)), Preset(True, (None,)), Preset(True, (4,), sst=0.5)):
        with pytest.raises(MinitttError, match="denoise_text needs"):
            replace(wrong, denoise_text=True)


@given(SEEDS)
def test_block_sizes_are_drawn_from_the_list_with_a_smaller_first_block_half_the_time(seed):
    rng, p = random.Random(seed), preset("exact")
    drawn = [draw_blocks(p, rng) for _ in range(800)]
    assert {block for block, _ in drawn} == set(p.block_sizes)
    assert all(first is None or first < block for block, first in drawn)
    large = [first for block, first in drawn if block > 1]
    assert 0.4 < sum(first is not None for first in large) / len(large) < 0.6


@given(SEEDS)
def test_mended_drops_next_text_loss_where_the_input_is_mask(seed):
    corpus = toy_corpus(seed)
    vocabulary, model, g = corpus.vocabulary, toy_model(corpus.vocabulary, seed), torch.Generator()
    batch = packed(corpus, None, two_streams=False)
    full = replace(ONE_STREAM, eps=0.999, text_at_mask=False)  # masks practically everything
    after_audio = (batch.text_targets[:, 1:] & (batch.kinds[:, :-1] == TARGET)).sum().item()
    loss = unified_loss(model, batch, vocabulary, full, g.manual_seed(seed))
    assert (
        int(batch.text_targets.sum()) - after_audio
        <= loss.n_text
        <= int(batch.text_targets.sum()) - after_audio + 2
    )


@pytest.mark.parametrize("name", PRESETS)
def test_examples_of_every_preset_train(name):
    """Twelve steps on one batch under one draw of noise: the gradient goes where the loss falls."""
    corpus, rng, p = toy_corpus(0, longest=4), random.Random(3), preset(name)
    blocks = [draw_blocks(p, rng) for _ in corpus.split("train")]
    documents = [
        example(render(record, corpus, *b), p, *b, rng)
        for record, b in zip(corpus.split("train"), blocks, strict=True)
    ]
    batch = pack(documents, 150, corpus.vocabulary.pad)
    model, losses = toy_model(corpus.vocabulary, 0, torch.float32), []
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(12):
        loss = unified_loss(model, batch, corpus.vocabulary, p, generator(2))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(loss.total.item())
    assert losses[-1] < 0.75 * losses[0]


# ---- what is drawn, rather than given: noise, and the sizes of blocks

ONE_STREAM_PRESETS = [name for name, p in PRESETS.items() if not p.two_streams]
TWO_STREAM_PRESETS = [name for name, p in PRESETS.items() if p.two_streams]


def slots_to_mask(rows, n, noisy):
    """A batch of `rows` documents that are n slots of target audio each, all one group: only what noise looks at."""
    shape = (rows, n)
    zeros = torch.zeros(shape, dtype=torch.long)
    return Batch(
        ids=zeros,
        kinds=torch.full(shape, TARGET),
        groups=zeros,
        documents=zeros,
        positions=torch.arange(n).expand(shape),
        noisy=torch.full(shape, noisy),
        text_targets=torch.zeros(shape, dtype=torch.bool),
    )


def without_coins(name, **changes):
    """A preset that noises every batch, and all of it: neither BANOM nor PPM leaves anything clean."""
    return replace(preset(name), banom=0.0, ppm=0.0, **changes)


@pytest.mark.parametrize("name", ONE_STREAM_PRESETS)
@pytest.mark.parametrize("eps", [None, 0.3])
def test_one_stream_weighs_what_it_draws_by_one_over_the_probability_of_the_sample(name, eps):
    """1/p, with the p that masked it: not by how many slots it happened to hit, nor by 1/t.

    Of a record of 20,000 slots a share p is masked, to within .35 %. p is uniform from eps to 1: so neither does it come
    from another eps, nor is it one for all records."""
    p = without_coins(name) if eps is None else without_coins(name, eps=eps)
    batch, n, shares = slots_to_mask(30, 20_000, False), 20_000, []
    noise = draw_noise(batch, p, generator(0), torch.float64)
    for masked, weight in zip(noise.masked, noise.weight, strict=True):
        assert not weight[~masked].any()
        [w] = weight[masked].unique().tolist()  # one p for a record
        share, k = 1 / w, int(masked.sum())
        assert abs(k / n - share) < 5 * math.sqrt(share * (1 - share) / n) + 1e-4
        by_count = (n + 1) / k
        assert not math.isclose(w, by_count, rel_tol=1e-9)
        shares.append(share)
    assert min(shares) >= p.eps
    spread = [(share - p.eps) / (1 - p.eps) for share in sorted(shares)]  # uniform on 0 to 1
    assert (
        max(abs(u - (i + 0.5) / 30) for i, u in enumerate(spread)) < 0.35
    )  # Kolmogorov and Smirnov's, at 99.9 %


@pytest.mark.parametrize("name", ["paper", "mended"])
def test_what_one_stream_draws_has_the_mean_of_one_over_p_for_every_masked_set(name):
    """E[weight, set S masked] is the integral of p^(k - 1) (1 - p)^(n - k), up to the stated eps: what makes 1/p unbiased.

    Every set of three slots, from 40,000 records; at eps = .3, where another weight has another mean."""
    n, records, eps = 3, 40_000, 0.3
    noise = draw_noise(
        slots_to_mask(records, n, False), without_coins(name, eps=eps), generator(1), torch.float64
    )
    number = (noise.masked * 2 ** torch.arange(n)).sum(1)
    x, w = np.polynomial.legendre.leggauss(12)
    p = (1 + eps) / 2 + (1 - eps) / 2 * x
    for subset in range(1, 2**n):
        k = subset.bit_count()
        expected = (w / 2 * p ** (k - 1) * (1 - p) ** (n - k)).sum()  # the mean over p of P(S | p) / p
        estimates = noise.weight.amax(1) * (number == subset)
        error = estimates.std().item() / math.sqrt(records)
        assert abs(estimates.mean().item() - expected) < 4 * error
    # the exact weight of a set, (1 - eps)(n + 1)/k over the chance of so few, has another mean: the test can tell them
    all_masked = (number == 2**n - 1).double()
    by_count = (1 - eps) * (n + 1) / n / (1 - eps ** (n + 1)) * all_masked.mean().item()
    estimates = noise.weight.amax(1) * all_masked
    assert abs(estimates.mean().item() - by_count) > 8 * estimates.std().item() / math.sqrt(records)


@pytest.mark.parametrize("name", TWO_STREAM_PRESETS)
def test_two_streams_draw_every_subset_with_its_probability_and_weigh_it_by_n_over_k(name):
    """The draws are those of `every_draw`, by which law 15 shows the estimate unbiased: 12,000 groups of three slots."""
    groups = 12_000
    noise = draw_noise(slots_to_mask(groups, 3, True), preset(name), generator(2), torch.float64)
    number = (noise.masked * 2 ** torch.arange(3)).sum(1)
    for probability, subset, weight in every_draw(3):
        drawn = number == sum(2**i for i in subset)
        assert torch.equal(noise.weight[drawn], noise.masked[drawn] * float(weight))
        assert abs(drawn.sum().item() - groups * probability) < 4 * math.sqrt(groups * probability)
    assert (number > 0).all()


@given(SEEDS, st.integers(1, 5))
def test_two_streams_spread_the_numbers_of_masks_evenly_over_a_batch(seed, block):
    """Stratified: of the G blocks of a batch, each number of masks falls to G/n, rounded down or up.

    Drawn apart, some batches would by chance be nearly clean and others nearly all MASK: the same mean, more variance."""
    corpus = toy_corpus(seed)
    batch = packed(corpus, block)
    noise = draw_noise(batch, PRESETS["exact"], generator(seed))
    counts = [0] * (block + 1)
    blocks = set_of_groups(batch)
    for slots in blocks.values():
        assert len(slots) == block
        counts[sum(bool(noise.masked[b, i]) for b, i in slots)] += 1
    assert counts[0] == 0
    assert set(counts[1:]) <= {len(blocks) // block, -(-len(blocks) // block)}


def set_of_groups(batch):
    """The slots (row, place) of the noisy stream of each block: (row, document, group) -> slots."""
    found = {}
    for b, i in batch.noisy.nonzero().tolist():
        found.setdefault((b, int(batch.documents[b, i]), int(batch.groups[b, i])), []).append((b, i))
    return found


@given(SEEDS, st.sampled_from([1, 3, 4]))
def test_blocks_of_packed_documents_have_a_draw_each(seed, block):
    """Documents count their groups from 0 each: blocks of the same number in one row must not be masked as one.

    Of one draw they would be together nearly clean or nearly all MASK, and their weights those of a group twice as long."""
    corpus = toy_corpus(seed)
    batch = packed(corpus, block)
    assert batch.documents.max() > 0
    segments = maskable_segments(batch, PRESETS["exact"], generator(seed))
    assert torch.equal(segments >= 0, batch.noisy)
    draws = {(b, int(segments[b, i])) for b, i in batch.noisy.nonzero().tolist()}
    blocks = set_of_groups(batch)
    assert len(draws) == len(blocks)
    for slots in blocks.values():
        assert len({int(segments[b, i]) for b, i in slots}) == 1


@given(SEEDS)
def test_records_packed_into_one_row_have_a_draw_each_in_one_stream(seed):
    corpus = toy_corpus(seed)
    batch = packed(corpus, None, two_streams=False)
    segments = maskable_segments(batch, ONE_STREAM, generator(seed))
    target = batch.kinds == TARGET
    assert torch.equal(segments >= 0, target)
    records = {(b, int(batch.documents[b, i])): int(segments[b, i]) for b, i in target.nonzero().tolist()}
    assert len({(b, s) for (b, _), s in records.items()}) == len(
        records
    )  # another number for each record of a row
    for (b, document), number in records.items():
        assert (segments[b][target[b] & (batch.documents[b] == document)] == number).all()


@pytest.mark.parametrize("name", PRESETS)
def test_the_loss_is_that_of_the_noise_it_draws(name):
    """All laws above that hand noise in would prove nothing of training if the loss drew by itself in another way."""
    corpus, p, rng = toy_corpus(1, longest=12), preset(name), random.Random(1)
    model = toy_model(corpus.vocabulary, 1)
    block = p.block_sizes[-1]
    documents = [example(render(r, corpus, block), p, block, None, rng) for r in corpus.split("train")]
    batch = pack(documents, 200, corpus.vocabulary.pad)
    for seed in range(4):
        noise = draw_noise(batch, p, generator(seed), torch.float64)
        given_, drawn = (
            unified_loss(model, batch, corpus.vocabulary, p, generator(seed), x) for x in (noise, None)
        )
        assert (drawn.n_text, drawn.n_audio) == (given_.n_text, given_.n_audio)
        assert torch.equal(drawn.total, given_.total)


@pytest.mark.parametrize("normalise", ["token", "sample"])
def test_a_batch_that_banom_left_clean_has_an_audio_loss_of_nothing_not_of_nan(normalise):
    """No slot could have been masked, so means over slots divide by their number, 0; nor does a gradient become nan."""
    corpus = toy_corpus(0, longest=3)
    batch, model = packed(corpus, None, two_streams=False), toy_model(corpus.vocabulary, 0)
    p = replace(preset("paper"), banom=1.0, normalise=normalise)
    loss = unified_loss(model, batch, corpus.vocabulary, p, generator(0))
    assert (loss.n_audio, loss.audio, loss.audio_sum.item()) == (0, 0.0, 0.0)
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(
        parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None
    )
    text = replace(p, audio_weight=0.0)
    assert loss.total == unified_loss(model, batch, corpus.vocabulary, text, generator(0)).total


@pytest.mark.parametrize("name", PRESETS)
def test_block_sizes_are_uniform_and_so_is_a_smaller_first_block(name):
    """Half of the time, where there is a smaller size: a decoder may be asked for any, not for the smallest alone."""
    n, rng, p = 12_000, random.Random(0), preset(name)
    found = Counter(draw_blocks(p, rng) for _ in range(n))
    expected = {}
    for block in p.block_sizes:
        smaller = [size for size in p.block_sizes if block and size and size < block]
        share = 1 / len(p.block_sizes)
        some = p.short_first_block if smaller else 0.0
        expected[block, None] = share * (1 - some)
        expected |= {(block, first): share * some / len(smaller) for first in smaller if some}
    assert set(found) == set(expected)
    for drawn, q in expected.items():
        assert abs(found[drawn] - n * q) <= 4.5 * math.sqrt(n * q * (1 - q)), (
            drawn
        )  # as many standard deviations
    if name in ("exact", "nar"):
        assert sum(q for (_, first), q in expected.items() if first) == pytest.approx(
            0.5 * (1 - 1 / len(p.block_sizes))
        )


@given(SEEDS, st.sampled_from([(4, 1), (4, 2), (8, 4), (4, None)]))
def test_a_reply_whose_text_is_denoised_begins_with_the_short_first_block(seed, blocks):
    """`nar`: of every reply the first block, and no other, has the first size; its spans have no blocks of their own."""
    corpus, p = toy_corpus(seed), preset("nar")
    sequence = render(corpus.split("train")[seed % 5], corpus, *blocks)
    batch = pack([example(sequence, p, *blocks, random.Random(seed))], 400, corpus.vocabulary.pad)
    block, first = blocks
    sizes = {group: len(slots) for (_, _, group), slots in sorted(set_of_groups(batch).items())}
    openers = {group for group in sizes if group - 1 not in sizes}  # a prompt's token stands before it
    for group, size in sizes.items():
        assert size == (first if first and group in openers else block)
