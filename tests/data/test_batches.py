"""Sequences to rows: every document in one piece, apart from its neighbours, and few slots wasted."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import PAD_KIND, TARGET, assign_groups
from minittt.data.batches import lay_out, pack
from minittt.data.conversation import render
from minittt.errors import MinitttError
from tests.toy import toy_corpus

SEEDS = st.integers(0, 10_000)
PAD = 77


def plain_document(length):
    """A document of which only the length matters, (6, length)."""
    return torch.ones(6, length, dtype=torch.long)


def rows_of(lengths, row_length):
    """What pack makes of documents so long: the lengths in each row, in order."""
    batch = pack([plain_document(n) for n in lengths], row_length, PAD)
    return [[int((row == number).sum()) for number in range(int(row.max()) + 1)] for row in batch.documents]


@given(SEEDS, st.sampled_from([1, 4, None]), st.integers(100, 200))
def test_packing_keeps_every_document_whole_and_apart(seed, block, row_length):
    corpus = toy_corpus(seed)
    documents = [lay_out(render(r, corpus, block), block) for r in corpus.split("train") * 3]
    batch = pack(documents, row_length, corpus.vocabulary.pad)
    assert batch.ids.shape[1] <= row_length
    found = []
    for row in range(len(batch.ids)):
        for number in range(int(batch.documents[row].max()) + 1):
            mine = batch.documents[row] == number
            assert (mine.nonzero().diff(dim=0) == 1).all()  # in one piece
            columns = (
                batch.ids,
                batch.kinds,
                batch.groups,
                batch.positions,
                batch.noisy.long(),
                batch.text_targets.long(),
            )
            found.append(torch.stack([c[row, mine] for c in columns]))
    key = lambda d: d.flatten().tolist()  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, documents))
    assert ((batch.kinds == PAD_KIND) == (batch.groups == -1)).all()


@given(SEEDS, st.sampled_from([1, 4, None]))
def test_the_noisy_stream_is_a_copy_of_the_target_audio(seed, block):
    corpus = toy_corpus(seed)
    sequence = render(corpus.split("train")[0], corpus, block)
    document, n = lay_out(sequence, block), len(sequence.ids)
    twin = torch.tensor(sequence.kinds) == TARGET
    assert torch.equal(document[[0, 1, 2, 3]][:, n:], document[[0, 1, 2, 3]][:, :n][:, twin])
    assert torch.equal(document[2, :n], assign_groups(torch.tensor(sequence.kinds), block))
    assert document[3, :n].tolist() == list(range(n))  # a position is a token's place in its document, from 0
    assert document[4].tolist() == [0] * n + [1] * int(twin.sum())
    assert document[5, :n].tolist() == sequence.targets
    assert not document[5, n:].any()


def test_a_document_too_long_for_a_row_is_not_cut():
    with pytest.raises(MinitttError, match="does not fit a row of 5"):
        pack([torch.zeros(6, 9).long()], 5, 0)


def test_packing_wastes_little():
    corpus = toy_corpus(0)
    documents = [lay_out(render(r, corpus, 8), 8) for r in corpus.split("train") * 20]
    assert pack(documents, 256, corpus.vocabulary.pad).useful > 0.95


def fewest_rows(lengths, row_length):
    """By trying every assignment of documents to rows."""
    for n in range(1, len(lengths) + 1):
        for rows in itertools.product(range(n), repeat=len(lengths)):
            filled = [0] * n
            for row, length in zip(rows, lengths, strict=True):
                filled[row] += length
            if max(filled) <= row_length:
                return n


def test_packing_takes_the_longest_documents_first():
    """Short ones first fill rows that long ones need: four rows where three do, a quarter of all slots wasted."""
    for lengths in ([2, 3, 5, 5, 7, 8], [8, 2, 7, 3, 5, 5], [5, 8, 5, 2, 3, 7]):
        assert rows_of(lengths, 10) == [[8, 2], [7, 3], [5, 5]]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_packing_takes_the_longest_documents_first_and_keeps_its_bound(lengths):
    """First-fit decreasing needs at most 11/9 of the fewest rows that there could be, and 6/9 of one."""
    rows = rows_of(lengths, 10)
    assert sorted(n for row in rows for n in row) == sorted(lengths)
    assert all(row == sorted(row, reverse=True) for row in rows)
    assert 9 * len(rows) <= 11 * fewest_rows(lengths, 10) + 6


@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.integers(10, 30))
def test_a_batch_is_as_wide_as_its_fullest_row_and_padding_is_nothing(lengths, row_length):
    """Slots beyond the fullest row would be computed for nothing; a padding slot is no key, no target, no document."""
    batch = pack([plain_document(n) for n in lengths], row_length, PAD)
    filled = (batch.documents >= 0).sum(1)
    assert batch.ids.shape[1] == int(filled.max())
    assert batch.useful == pytest.approx(sum(lengths) / batch.ids.numel())
    padding = batch.documents < 0
    assert (batch.ids[padding] == PAD).all()
    assert (batch.kinds[padding] == PAD_KIND).all()
    assert (batch.groups[padding] == -1).all()
    assert not batch.noisy[padding].any()
    assert not batch.text_targets[padding].any()
    assert batch.noisy.dtype == batch.text_targets.dtype == torch.bool


def test_one_stream_is_the_clean_one_alone():
    corpus = toy_corpus(0)
    sequence = render(corpus.split("train")[0], corpus)
    both = lay_out(sequence, None)
    assert torch.equal(lay_out(sequence, None, two_streams=False), both[:, : len(sequence.ids)])
