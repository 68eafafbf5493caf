"""Laws of the objective (DESIGN, laws 11 to 15): two streams, the exact bound, the strategies, train = decode."""

import itertools
import math
import random

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import TARGET, group_mask, two_stream_mask, visible
from minittt.context import CachedContext
from minittt.conversation import Sequence, render
from minittt.diffusion import corrupt
from minittt.objective import (
    PRESETS,
    Preset,
    draw_blocks,
    example,
    maskable_segments,
    preserve_prefix,
    preset,
    span_numbers,
    truncate_span,
    unified_loss,
)
from minittt.packing import lay_out, pack
from tests.toy import toy_corpus, toy_model

SEEDS = st.integers(0, 10_000)
BLOCKS = st.sampled_from([1, 2, 3, 4, 8, None])


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
    mask = two_stream_mask(batch.groups, batch.noisy, batch.documents)
    expected = 0.0
    for group in batch.groups[batch.noisy].unique():
        slots = (batch.noisy[0] & (batch.groups[0] == group)).nonzero().flatten()
        for probability, subset, weight in every_draw(len(slots)):
            chosen = slots[list(subset)]
            masked = torch.zeros_like(batch.noisy)
            masked[0, chosen] = True
            log_p = model(corrupt(batch.ids, masked, vocabulary.mask), mask, batch.positions)[0, chosen][
                :, vocabulary.audio_choices()
            ]
            loss = F.cross_entropy(
                log_p, batch.ids[0, chosen] - vocabulary.first_code, reduction="sum"
            ).item()
            expected += probability * weight * loss
    assert math.isclose(expected, audio, rel_tol=1e-10, abs_tol=1e-10)
    loss = unified_loss(model, batch, vocabulary, PRESETS["exact"], torch.Generator().manual_seed(seed))
    assert math.isclose(loss.text_sum.item(), text, rel_tol=1e-6)  # the trainer's cross-entropy is in float32
    assert (loss.n_text, loss.n_audio) == (sum(sequence.targets), sequence.kinds.count(TARGET))


@given(SEEDS)
def test_law_12_u_is_never_below_minus_log_p(seed):
    """-log of the mean over orders of p(block): what the any-order sampler really gives, by Jensen at most U."""
    corpus = toy_corpus(seed, longest=3)
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
    assert minus_log_p <= bound_of_group(model, vocabulary, prefix, groups, block) + 1e-5


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
def test_law_14_banom_keeps_whole_batches_clean_at_its_rate(seed):
    corpus = toy_corpus(seed)
    batch, generator = packed(corpus, None, two_streams=False), torch.Generator().manual_seed(seed)
    clean = sum(
        int((maskable_segments(batch, Preset(False, (None,), banom=0.3), generator) < 0).all())
        for _ in range(400)
    )
    assert abs(clean / 400 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 400)  # four standard deviations
    model = toy_model(corpus.vocabulary, seed)
    loss = unified_loss(model, batch, corpus.vocabulary, Preset(False, (None,), banom=1.0), generator)
    assert loss.n_audio == 0
    assert loss.audio_sum == 0
    assert loss.n_text == int(batch.text_targets.sum())


@given(SEEDS)
def test_law_14_ppm_keeps_whole_earlier_spans(seed):
    corpus = toy_corpus(seed)
    batch = packed(corpus, None, two_streams=False)
    spans = span_numbers(batch)
    segments = torch.where(batch.kinds == TARGET, batch.documents, -1)
    kept = preserve_prefix(segments, spans, 1.0, torch.Generator().manual_seed(seed))
    for row in range(len(kept)):
        for record in segments[row][segments[row] >= 0].unique():
            mine = segments[row] == record
            state = [
                (kept[row][mine & (spans[row] == span)] >= 0).tolist() for span in spans[row][mine].unique()
            ]
            assert all(all(s) or not any(s) for s in state)  # a span is kept or noised whole
            noised = [all(s) for s in state]
            assert noised[-1]
            assert noised == sorted(noised)
    assert torch.equal(preserve_prefix(segments, spans, 0.0, torch.Generator().manual_seed(seed)), segments)


@given(SEEDS, st.integers(1, 30))
def test_law_14_sst_drops_the_end_and_all_after(seed, length):
    ids, kinds = [1, 2, *range(10, 10 + length), 99, 3, 4], [0, 0, *[TARGET] * (length + 1), 0, 0]
    whole = Sequence(ids, kinds, [True] * len(ids))
    cut = truncate_span(whole, random.Random(seed))
    if length + 1 <= 10:
        assert cut == whole
        return
    kept = len(cut.ids) - 2
    assert cut.ids == ids[: 2 + kept]
    assert 99 not in cut.ids
    assert 0.3 * (length + 1) - 1 < kept <= 0.9 * (length + 1)
    assert cut.kinds == kinds[: 2 + kept]


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
    full = Preset(False, (None,), eps=0.999, text_at_mask=False)  # masks practically everything
    after_audio = (batch.text_targets[:, 1:] & (batch.kinds[:, :-1] == TARGET)).sum().item()
    loss = unified_loss(model, batch, vocabulary, full, g.manual_seed(seed))
    assert (
        int(batch.text_targets.sum()) - after_audio
        <= loss.n_text
        <= int(batch.text_targets.sum()) - after_audio + 2
    )


def test_examples_of_both_presets_train():
    corpus = toy_corpus(0)
    rng, g = random.Random(0), torch.Generator().manual_seed(0)
    for name in PRESETS:
        p, model = preset(name), toy_model(corpus.vocabulary, 0, torch.float32)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for _ in range(60):
            blocks = [draw_blocks(p, rng) for _ in corpus.split("train")]
            documents = [
                example(render(r, corpus, *b), p, *b, rng)
                for r, b in zip(corpus.split("train"), blocks, strict=True)
            ]
            loss = unified_loss(model, pack(documents, 200, corpus.vocabulary.pad), corpus.vocabulary, p, g)
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
            losses.append(loss.text)
        assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), name
