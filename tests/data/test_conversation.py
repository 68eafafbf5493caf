"""Records to tokens to rows: what is target, what is filled, what is packed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import PAD_KIND, SOURCE, TARGET, TEXT, assign_groups
from minittt.data.batches import lay_out, pack
from minittt.data.conversation import filler, render, reply_text
from minittt.errors import MinitttError
from tests.toy import toy_corpus

SEEDS = st.integers(0, 10_000)


@given(st.integers(1, 60), st.sampled_from([None, 1, 2, 4, 8, 16]), st.sampled_from([None, 1, 3]))
def test_filler_completes_blocks_and_no_more(length, block, first):
    if block is None:
        assert filler(length, block) == 0
        return
    first = first if first and first < block else None
    total = length + filler(length, block, first)
    assert total == (first or block) or (total - (first or block)) % block == 0
    assert 0 <= filler(length, block, first) < max(block, first or 0)


@given(SEEDS, st.sampled_from([None, 1, 4, 8]))
def test_what_is_said_is_target_and_what_is_told_is_not(seed, block):
    corpus = toy_corpus(seed)
    v = corpus.vocabulary
    for record in corpus.split("train"):
        sequence = render(record, corpus, block)
        assert len(sequence.ids) == len(sequence.kinds) == len(sequence.targets)
        assert sequence.ids[0] == v.bos
        assert sequence.ids[-1] == v.end or record["messages"][-1][0] == "user"
        for token, kind, target in zip(sequence.ids, sequence.kinds, sequence.targets, strict=True):
            assert (kind == TEXT) == (token < v.first_code)  # no text inside audio, no audio inside text
            assert not target or kind == TEXT
        n_source = sum(
            not isinstance(p, str) for role, *parts in record["messages"] if role == "user" for p in parts
        )
        runs = [k for k, before in zip(sequence.kinds, [None, *sequence.kinds], strict=False) if k != before]
        assert runs.count(SOURCE) == n_source
        n_target = sum(
            not isinstance(p, str) for role, *parts in record["messages"] if role != "user" for p in parts
        )
        assert runs.count(TARGET) == n_target
        assert sequence.ids.count(v.eoa) >= n_source + n_target


@given(SEEDS)
def test_the_prompt_is_the_beginning_of_the_whole(seed):
    corpus = toy_corpus(seed)
    for record in corpus.split("train"):
        if record["family"] != "document":
            prompt, whole = render(record, corpus, 4, reply=False), render(record, corpus, 4)
            assert whole.ids[: len(prompt.ids)] == prompt.ids
            assert prompt.ids[-1] == corpus.vocabulary.assistant
            assert corpus.tokeniser.encode(reply_text(record)) == [
                i for i in whole.ids[len(prompt.ids) :] if i < corpus.vocabulary.text_size
            ]


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
    assert not document[5, n:].any()


def test_a_document_too_long_for_a_row_is_not_cut():
    with pytest.raises(MinitttError, match="does not fit a row of 5"):
        pack([torch.zeros(6, 9).long()], 5, 0)


def test_packing_wastes_little():
    corpus = toy_corpus(0)
    documents = [lay_out(render(r, corpus, 8), 8) for r in corpus.split("train") * 20]
    assert pack(documents, 256, corpus.vocabulary.pad).useful > 0.95
