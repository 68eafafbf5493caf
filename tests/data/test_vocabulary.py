"""One id line: every id means one thing, and a tokeniser never writes what it does not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.data.vocabulary import CONTROL, TextTokeniser, Vocabulary, train_tokeniser
from minittt.errors import MinitttError
from minittt.settings import samples_folder

SENTENCES = [
    "what is two plus three",
    "two plus three equals five",
    "count from three to eight",
    "what is eight minus three",
    "say seven two nine",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"


@given(st.integers(2, 9), st.integers(1, 7), st.integers(1, 3))
def test_every_id_is_one_thing_and_follows_the_last(text_size, codebook_size, n_codebooks):
    """Pieces, control ids, the codes of every codebook, EOA, MASK: no gap, no overlap, no id left over."""
    v = Vocabulary(text_size, codebook_size, n_codebooks)
    control = [getattr(v, name.lower()) for name in CONTROL]
    codes = [v.first_code + i for i in range(n_codebooks * codebook_size)]
    assert [*range(text_size), *control, *codes, v.eoa, v.mask] == list(range(v.size))
    names = [f"text {i}" for i in range(text_size)] + list(CONTROL)
    names += [f"#{i}" for i in range(len(codes))] + ["EOA", "MASK"]
    assert [v.name(i) for i in range(v.size)] == names


@given(st.integers(2, 9), st.integers(1, 7), st.integers(1, 3))
def test_what_may_be_written_and_what_may_be_said(text_size, codebook_size, n_codebooks):
    """Text: every piece but <unk>, OPEN and END. Audio: every code, and EOA. Both in order, for bisection."""
    v = Vocabulary(text_size, codebook_size, n_codebooks)
    text, audio = v.text_choices().tolist(), v.audio_choices().tolist()
    assert text == [*range(1, text_size), v.open, v.end]
    assert audio == [*range(v.first_code, v.eoa), v.eoa]
    assert text == sorted(text)
    classes = v.classes()
    assert classes.text.nonzero()[:, 0].tolist() == text
    assert classes.audio.nonzero()[:, 0].tolist() == audio
    assert (classes.open_audio, classes.end_audio, classes.end) == (v.open, v.eoa, v.end)
    assert (classes.mask, classes.pad) == (v.mask, v.pad)


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory):
    return train_tokeniser(SENTENCES, tmp_path_factory.mktemp("pieces") / "small.model", size=60)


def test_a_tokeniser_has_the_size_that_was_asked_for(tokeniser, tmp_path):
    """At most `size`, all of it where there is enough to merge; a small corpus has fewer pieces than it might."""
    assert len(tokeniser) == 60
    assert len(train_tokeniser(SENTENCES, tmp_path / "large.model", size=75)) == 75
    assert 75 < len(train_tokeniser(SENTENCES, tmp_path / "default.model")) < 400


def test_a_tokeniser_writes_back_what_it_reads_in_lower_case(tokeniser):
    for sentence in [*SENTENCES, "five four", "zebra 0123, quiz?"]:
        ids = tokeniser.encode(sentence)
        assert tokeniser.decode(ids) == sentence
        assert tokeniser.encode(sentence.upper()) == ids
        tokeniser.encode(sentence).append(0)  # what is handed out is the caller's
        assert tokeniser.encode(sentence) == ids
    for letter in LETTERS:
        assert tokeniser.pieces.unk_id() not in tokeniser.encode(letter)


@pytest.mark.parametrize("bytes_for_unknown", [False, True])
def test_more_letters_than_pieces_and_a_letter_that_is_rare_are_read(tmp_path, bytes_for_unknown):
    chinese = ["".join(chr(0x4E00 + 40 * i + j) for j in range(40)) for i in range(18)]
    rare = ["two plus three " * 40] * 60 + ["two ж"]
    for sentences in (chinese, rare):
        tokeniser = train_tokeniser(sentences, tmp_path / "t.model", bytes_for_unknown=bytes_for_unknown)
        for sentence in sentences:
            assert tokeniser.decode(tokeniser.encode(sentence)) == sentence.strip()


def test_every_piece_but_the_first_is_text(tokeniser):
    """`Vocabulary.text_choices` leaves out piece 0 alone: a control piece among the rest could be written into a reply."""
    assert tokeniser.pieces.unk_id() == 0
    assert not any(
        tokeniser.pieces.is_control(i) or tokeniser.pieces.is_unused(i) for i in range(1, len(tokeniser))
    )


def test_what_a_tokeniser_does_not_know_is_refused_by_letter(tokeniser, tmp_path):
    with pytest.raises(MinitttError, match="never seen 'ß ü'"):
        tokeniser.encode("grüße")
    with pytest.raises(MinitttError, match="no SentencePiece model at"):
        TextTokeniser(tmp_path / "missing.model")


def test_a_model_with_a_piece_that_is_no_text_is_refused():
    """Found by mutated files: SentencePiece reads it, and fails when the piece is asked for."""
    proto = (samples_folder() / "corpus" / "tokeniser.model").read_bytes()
    longest = max(TextTokeniser.from_proto(proto, "whole").all_pieces(), key=len).encode()
    assert proto.count(longest) == 1
    damaged = proto.replace(longest, b"\xff" * len(longest))
    with pytest.raises(MinitttError, match="damaged: not a SentencePiece model"):
        TextTokeniser.from_proto(damaged, "damaged")
