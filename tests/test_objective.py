"""Laws of the objective (DESIGN, laws 11 to 15): two streams, the exact bound, released losses, train = decode."""

import itertools
import math
import random
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
    """Every state that decoding can reach, at the block sizes trained: the noisy stream is the draft, C what is kept."""
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
