"""Laws of the strategies (DESIGN, law 14), and of the baseline that denoises text."""

import math
import random
from collections import Counter
from itertools import groupby

import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import SOURCE, TARGET, TEXT
from minittt.data.batches import lay_out, pack
from minittt.data.conversation import TokenSequence, render
from minittt.strategies import (
    denoise_replies,
    mix_objectives,
    preserve_prefix,
    span_numbers,
    truncate_span,
)
from tests.toy import toy_corpus

SEEDS = st.integers(0, 10_000)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@given(SEEDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_law_14_banom_keeps_whole_batches_clean_at_its_rate(seed, rate):
    g, segments = generator(seed), torch.tensor([[-1, 0, 0, 1], [-1, -1, 2, 2]])
    drawn = [mix_objectives(segments, rate, g) for _ in range(400)]
    clean = [bool((kept == -1).all()) for kept in drawn]
    assert all(torch.equal(kept, segments) for kept, none in zip(drawn, clean, strict=True) if not none)
    assert abs(sum(clean) / 400 - rate) <= 4 * math.sqrt(rate * (1 - rate) / 400)  # four standard deviations


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=3))
def test_law_14_spans_are_numbered_run_by_run(rows):
    numbers = span_numbers(torch.tensor(rows)).tolist()
    for row, found in zip(rows, numbers, strict=True):
        runs = [(said, len(list(run))) for said, run in groupby(row)]
        count, expected = -1, []
        for said, length in runs:
            count += said
            expected += [count if said else -1] * length
        assert found == expected


@given(SEEDS)
def test_law_14_ppm_keeps_whole_earlier_spans(seed):
    """Rows of several records, each with a coin of its own; what stays noised are a record's spans from one on."""
    corpus = toy_corpus(seed)
    documents = [lay_out(render(record, corpus), None, None, False) for record in corpus.split("train")]
    batch = pack(documents, 200, corpus.vocabulary.pad)
    target = batch.kinds == TARGET
    spans, segments = span_numbers(target), torch.where(target, batch.documents, -1)
    kept = preserve_prefix(segments, spans, 1.0, generator(seed))
    assert torch.equal(kept[kept >= 0], segments[kept >= 0])
    for row in range(len(kept)):
        for record in segments[row][segments[row] >= 0].unique():
            mine = segments[row] == record
            state = [(kept[row][mine & (spans[row] == s)] >= 0).tolist() for s in spans[row][mine].unique()]
            assert all(all(s) or not any(s) for s in state)  # a span is kept or noised whole
            noised = [all(s) for s in state]
            assert noised[-1]
            assert noised == sorted(noised)
    assert torch.equal(preserve_prefix(segments, spans, 0.0, generator(seed)), segments)


@given(SEEDS)
def test_law_14_ppm_draws_a_record_at_its_rate_and_every_span_alike(seed):
    """Two records of three spans in one row: half are touched, and of those each span begins a third."""
    spans = torch.tensor([[0, 0, 1, 2, 2, 3, 4, 5]])
    segments = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    g, begins = generator(seed), Counter()
    for _ in range(300):
        kept = preserve_prefix(segments, spans, 0.5, g)
        begins.update(int(spans[0][kept[0] == record].min()) % 3 for record in (0, 1))
    for first, p in ((0, 0.5 + 0.5 / 3), (1, 0.5 / 3), (2, 0.5 / 3)):
        assert abs(begins[first] / 600 - p) < 4.5 * math.sqrt(
            p * (1 - p) / 600
        )  # as many standard deviations


@given(SEEDS, st.integers(1, 30))
def test_law_14_sst_drops_the_end_and_all_after(seed, length):
    ids, kinds = [1, 2, *range(10, 10 + length), 99, 3, 4], [0, 0, *[TARGET] * (length + 1), 0, 0]
    whole = TokenSequence(ids, kinds, [True] * len(ids))
    cut = truncate_span(whole, random.Random(seed))
    if length + 1 <= 10:
        assert cut == whole
        return
    kept = len(cut.ids) - 2
    assert cut.ids == ids[: 2 + kept]
    assert 99 not in cut.ids
    assert 0.3 * (length + 1) - 1 < kept <= 0.9 * (length + 1)
    assert cut.kinds == kinds[: 2 + kept]
    assert len(cut.targets) == len(cut.ids)


@given(SEEDS)
def test_law_14_sst_cuts_the_last_of_several_spans_anywhere_from_30_to_90_per_cent(seed):
    kinds = [TEXT, *[TARGET] * 12, TEXT, *[TARGET] * 20, TEXT]
    whole = TokenSequence(list(range(len(kinds))), kinds, [False] * len(kinds))
    rng = random.Random(seed)
    kept = Counter(len(truncate_span(whole, rng).ids) - 14 for _ in range(600))
    assert set(kept) == set(range(6, 18))  # uniform on [6, 18), rounded down
    without = TokenSequence([1, 2], [TEXT, SOURCE], [True, False])
    ten, eleven = (TokenSequence([*range(n)], [TARGET] * n, [False] * n) for n in (10, 11))
    assert truncate_span(without, rng) == without
    assert truncate_span(ten, rng) == ten
    assert truncate_span(eleven, rng) != eleven


@given(SEEDS, st.sampled_from([1, 4, 8]), st.sampled_from([None, 1, 3]))
def test_law_15_nar_replies_are_whole_blocks_of_slots_and_nothing_else_changes(seed, block, first):
    corpus = toy_corpus(seed)
    first = first if first and first < block else None
    for record in corpus.split("train"):
        plain = render(record, corpus)  # not filled
        out = denoise_replies(render(record, corpus, block, first), block, first)
        assert not any(out.targets)
        said = [t or k == TARGET for t, k in zip(plain.targets, plain.kinds, strict=True)]
        at = 0
        for spoken, run in groupby(
            zip(said, plain.ids, plain.kinds, strict=True), key=lambda token: token[0]
        ):
            _, ids, kinds = map(list, zip(*run, strict=True))
            assert out.ids[at : at + len(ids)] == ids
            assert out.kinds[at : at + len(ids)] == ([TARGET] * len(ids) if spoken else kinds)
            at += len(ids)
            if spoken:
                assert ids[-1] == corpus.vocabulary.end
                length = len(ids)
                while at < len(out.ids) and out.kinds[at] == TARGET:
                    assert out.ids[at] == corpus.vocabulary.end
                    at, length = at + 1, length + 1
                over = length - (first or block)
                assert over % block == 0
                assert length - len(ids) < block
        assert at == len(out.ids)
