"""Records to tokens: what is a target, what is filled, what is a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import SOURCE, TARGET, TEXT
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


def test_a_conversation_is_laid_out_as_the_docstring_says():
    """Written by hand: markers, spans and fillers in their places; targets are the text that the model is to say."""
    corpus = toy_corpus(0)
    v = corpus.vocabulary
    one, two, four = (corpus.tokeniser.encode(word)[0] for word in ("one", "two", "four"))
    code = v.first_code
    record = {
        "messages": [
            ["system", "one"],
            ["user", [3, 1]],
            ["assistant", "two", [4, 0, 2], "one"],
            ["user", "four"],
            ["assistant", [1]],
        ]
    }
    expected = [  # id, kind, whether it is a target
        (v.bos, TEXT, False),
        (one, TEXT, False),
        (v.user, TEXT, False),
        (v.open, TEXT, False),
        (code + 3, SOURCE, False),
        (code + 1, SOURCE, False),
        (v.eoa, SOURCE, False),
        (v.assistant, TEXT, False),
        (two, TEXT, True),
        (v.open, TEXT, True),
        (code + 4, TARGET, False),
        (code + 0, TARGET, False),
        (code + 2, TARGET, False),
        (v.eoa, TARGET, False),  # ends a first block of one slot and one of three
        (one, TEXT, True),
        (v.end, TEXT, True),
        (v.user, TEXT, False),
        (four, TEXT, False),
        (v.assistant, TEXT, False),
        (v.open, TEXT, True),
        (code + 1, TARGET, False),
        (v.eoa, TARGET, False),
        (v.eoa, TARGET, False),  # filler, to the end of the second block
        (v.eoa, TARGET, False),
        (v.end, TEXT, True),
    ]
    sequence = render(record, corpus, block_size=3, first_block=1)
    assert list(zip(sequence.ids, sequence.kinds, sequence.targets, strict=True)) == expected
    unfilled = render(record, corpus)
    assert unfilled.ids == [token for i, (token, *_) in enumerate(expected) if i not in (22, 23)]
    document = render({"messages": [["document", "one", [2]]]}, corpus, 2)
    assert document.ids == [v.bos, one, v.open, code + 2, v.eoa, v.end]
    assert document.targets == [False, True, True, False, False, True]


def test_only_what_ends_with_a_reply_has_a_reply_text():
    assert reply_text({"messages": [["user", "one"], ["assistant", "two", 0, "four"]]}) == "two four"
    with pytest.raises(MinitttError, match="does not end with a reply"):
        reply_text({"messages": [["assistant", "two"], ["user", "one"]]})
