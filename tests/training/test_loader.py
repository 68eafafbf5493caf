"""From records to batches: every draw a function of (seed, step, part), nothing cut in silence."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import SOURCE, TARGET, TEXT, assign_groups
from minittt.data.conversation import TokenSequence, render
from minittt.data.streaming_records import RecordStream
from minittt.errors import MinitttError
from minittt.objective import Preset, preset
from minittt.training.loader import Loader, length, mishear, split
from tests.toy import toy_corpus


def loader(corpus, name="exact", per_step=4, row_length=160, **more):
    return Loader(corpus.split("train"), corpus, preset(name), 0, per_step, row_length, **more)


def documents(batch):
    return sorted(
        tuple(row[numbers == i].tolist())
        for row, numbers in zip(batch.ids, batch.documents, strict=True)
        for i in range(int(numbers.max()) + 1)
    )


def test_every_step_draws_other_records_and_each_epoch_all_of_them():
    corpus = toy_corpus(2)
    corpus.splits["train"] = corpus.split("train") * 4
    made = loader(corpus)
    drawn = [[made._order(e)[i] for i in range(20)] for e in (0, 1)]
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(20))
    assert drawn[0] != drawn[1]
    assert torch.equal(made.batch(3).ids, made.batch(3).ids)
    assert not torch.equal(made.batch(3).ids, made.batch(4).ids)


@given(st.integers(0, 100), st.integers(1, 7), st.integers(0, 50))
def test_law_01_the_parts_of_a_step_are_its_records_each_once(seed, parts, step):
    corpus = toy_corpus(seed)
    made = loader(corpus, "mended", per_step=7)  # blocks are whole spans: a record renders in one way alone
    made.p = Preset(False, (None,))  # and without truncation
    whole = documents(made.batch(step))
    shared = [document for part in range(parts) for document in documents(made.batch(step, part, parts))]
    assert sorted(shared) == whole


def test_records_too_long_are_counted_not_cut():
    corpus = toy_corpus(3)
    short = loader(corpus, "paper", row_length=14)
    assert 0 < short.left_out == len(corpus.split("train")) - len(short.records)
    with pytest.raises(MinitttError, match="no record fits a row of 3"):
        loader(corpus, "paper", row_length=3)
    divided = loader(corpus, "paper", row_length=14, split=True)
    assert divided.left_out < short.left_out
    assert all(divided.batch(step).ids.shape[1] <= 14 for step in range(5))


@given(st.integers(0, 1000), st.integers(8, 60), st.booleans(), st.sampled_from([None, 1, 4]))
def test_law_02_a_split_sequence_is_whole_and_cut_before_text_only(seed, row_length, two, block):
    corpus = toy_corpus(seed)
    for record in corpus.split("train"):
        sequence = render(record, corpus, block)
        pieces = split(sequence, row_length, two)
        assert sum((piece.ids for piece in pieces), []) == sequence.ids
        assert sum((piece.kinds for piece in pieces), []) == sequence.kinds
        start = 0
        for number, piece in enumerate(pieces):
            assert piece.kinds[0] == TEXT
            expected = sequence.targets[start : start + len(piece.ids)]
            assert piece.targets == ([False, *expected[1:]] if number else expected)
            start += len(piece.ids)
            if length(piece, two) > row_length:  # one span behind its OPEN, which cannot be cut
                assert TEXT not in piece.kinds[1:]
        groups = [assign_groups(torch.tensor(piece.kinds), block) for piece in pieces]
        whole = assign_groups(torch.tensor(sequence.kinds), block)
        assert sum(int(g.max()) + 1 for g in groups) == int(whole.max()) + 1  # no group was cut
        for a, b in zip(pieces, pieces[1:], strict=False):  # and no two neighbours would have shared a row
            stop = next((i for i, k in enumerate(b.kinds[1:], 1) if k == TEXT), len(b.kinds))
            unit = stop + two * b.kinds[:stop].count(TARGET)
            assert length(a, two) + unit > row_length


@given(st.integers(0, 10_000), st.sampled_from([0.2, 1.0]))
def test_mishearing_touches_only_codes_that_are_listened_to(seed, most):
    corpus = toy_corpus(seed)
    v = corpus.vocabulary
    for record in corpus.split("train"):
        clean = render(record, corpus, 4)
        noisy = mishear(clean, corpus, most, random.Random(seed))
        assert noisy.kinds == clean.kinds
        for before, after, kind in zip(clean.ids, noisy.ids, clean.kinds, strict=True):
            assert before == after or (kind == SOURCE and before != v.eoa and v.first_code <= after < v.eoa)
    rng, n = random.Random(seed), 400
    sequence = TokenSequence([v.first_code] * n, [SOURCE] * n, [False] * n)
    changed = [
        sum(i != v.first_code for i in mishear(sequence, corpus, most, rng).ids) / n for _ in range(60)
    ]
    heard_right = most / 2 * (1 - 1 / v.codebook_size)  # a random code may be the true one
    assert abs(sum(changed) / 60 - heard_right) < 0.1 * most + 0.02


def test_misheard_frames_stay_whole():
    """Of several codebooks, each slot keeps its own."""
    v = replace(toy_corpus(0).vocabulary, n_codebooks=3)
    corpus = SimpleNamespace(vocabulary=v)
    frames = [v.first_code + slot % 3 * v.codebook_size for slot in range(300)]
    sequence = TokenSequence(frames, [SOURCE] * 300, [False] * 300)
    heard = mishear(sequence, corpus, 1.0, random.Random(1)).ids
    assert heard != frames
    assert [(i - v.first_code) // v.codebook_size for i in heard] == [slot % 3 for slot in range(300)]


@given(st.integers(0, 100), st.integers(20, 120))
def test_replies_whose_text_is_denoised_fit_their_rows(seed, row_length):
    """Text in two streams takes two slots: a record that fits a row otherwise may not fit it here."""
    corpus = toy_corpus(seed)
    try:
        made = loader(corpus, "nar", row_length=row_length)
    except MinitttError:
        return  # no record fits
    assert all(made.batch(step).ids.shape[1] <= row_length for step in range(8))


def test_splitting_what_has_no_group_border_is_refused():
    with pytest.raises(MinitttError, match="cannot be split"):
        loader(toy_corpus(0), "nar", split=True)


class Gaps(RecordStream):
    """A stream of which one record in ten is sound; the others are left out."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return 1000

    def drawn(self, epoch, position):
        number, rest = divmod(position, 10)
        return None if rest else self.records[number]


def test_a_part_without_a_sound_record_takes_the_next_one():
    corpus = toy_corpus(1)
    records = corpus.split("train")[:3]
    gaps = Loader(Gaps(records), corpus, preset("ar"), 0, 2, 160)
    expected = []
    for record in records:
        expected.append(documents(Loader([record], corpus, preset("ar"), 0, 1, 160).batch(0)))
    assert documents(gaps.batch(0)) == expected[0]  # records 0 and 1
    assert documents(gaps.batch(1)) == expected[1]  # in place of 2 and 3 the next sound one, 10
    assert documents(gaps.batch(6)) == expected[2]
    gaps.records.drawn = lambda epoch, position: None
    with pytest.raises(MinitttError, match="no record of step 1, nor one of the 100 after it, is sound"):
        gaps.batch(1)
