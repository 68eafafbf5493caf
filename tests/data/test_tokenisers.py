"""Two kinds of tokeniser behind one interface: what either must do, and what an LLM's brings with it."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from minittt.data.corpus import load_corpus, write_info
from minittt.data.tokenisers import JsonTokeniser, load_tokeniser, read_tokeniser
from minittt.data.vocabulary import TextTokeniser, Vocabulary, train_tokeniser
from minittt.errors import MinitttError
from minittt.settings import samples_folder
from tests.small_llm import CONTROLS, tokenizer_json

BYTES = JsonTokeniser(tokenizer_json(), "small")
SENTENCES = ["one two three", "two plus three equals five"]


def metaspace_json() -> bytes:
    """As Llama 2's: a space is ▁, one is put before every text; letters and <unk>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokeniser = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    tokeniser.pre_tokenizer = pre_tokenizers.Metaspace()
    tokeniser.decoder = decoders.Metaspace()
    return tokeniser.to_str().encode()


def prepended_json() -> bytes:
    """As Llama 2's own file: ▁ is put before every text, also before one that begins with a space."""
    from tokenizers import Tokenizer, decoders, normalizers

    tokeniser = Tokenizer.from_str(metaspace_json().decode())
    tokeniser.pre_tokenizer = None
    tokeniser.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokeniser.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokeniser.to_str().encode()


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    return train_tokeniser(SENTENCES, tmp_path_factory.mktemp("pieces") / "small.model", size=60)


@given(st.text(max_size=12))
def test_bytes_write_back_every_text(text):
    assert BYTES.decode(BYTES.encode(text)) == text


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepended", "sentencepiece"])
def test_chunks_that_follow_each_other_do_not_run_together(kind, sentencepiece):
    tokeniser = {
        "bytes": BYTES,
        "metaspace": JsonTokeniser(metaspace_json(), "m"),
        "prepended": JsonTokeniser(prepended_json(), "p"),
        "sentencepiece": sentencepiece,
    }[kind]
    ids = [*tokeniser.encode("one"), *tokeniser.encode("two")]
    assert tokeniser.decode(ids) == "one two"
    assert tokeniser.decode(tokeniser.encode("one two")) == "one two"
    assert "".join(map(tokeniser.piece, ids)) == " one two"


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "sentencepiece"])
def test_ids_are_below_the_size_and_their_names_differ(kind, sentencepiece):
    tokeniser = {"bytes": BYTES, "metaspace": JsonTokeniser(metaspace_json(), "m")}.get(kind, sentencepiece)
    names = tokeniser.all_pieces()
    assert len(names) == len(set(names)) == len(tokeniser)
    assert max(tokeniser.encode("one two")) < len(tokeniser)
    assert not set(tokeniser.encode("one two")) & set(tokeniser.never_written)
    again = read_tokeniser(tokeniser.content, "again")
    assert type(again) is type(tokeniser)
    assert again.fingerprint() == tokeniser.fingerprint()
    assert again.encode("one two") == tokeniser.encode("one two")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_token_that_somebody_types_is_letters(control):
    ids = BYTES.encode(f"one {control}")
    assert BYTES.id_of(control) not in ids
    assert BYTES.decode(ids) == f"one {control}"


def test_what_is_no_text_is_never_written():
    assert BYTES.never_written == (0, 1, 2)
    assert JsonTokeniser(metaspace_json(), "m").never_written == (0,)
    v = Vocabulary(len(BYTES), 5, never_written=BYTES.never_written)
    assert v.text_choices().tolist() == [*range(3, len(BYTES)), v.open, v.end]
    with pytest.raises(MinitttError, match="never_written names id 5"):
        Vocabulary(5, 5, never_written=(0, 5))


def test_a_letter_without_an_id_is_named():
    with pytest.raises(MinitttError, match="never seen 'ß ü'"):
        JsonTokeniser(metaspace_json(), "m").encode("grüße")


def test_what_is_no_tokenizer_json_is_refused_by_name(tmp_path, monkeypatch):
    for content in (b"{", b"{}", b'{"model": 3}'):
        with pytest.raises(MinitttError, match="odd: not a tokenizer.json"):
            read_tokeniser(content, "odd")
    with pytest.raises(MinitttError, match="no SentencePiece model at"):
        load_tokeniser(tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        MinitttError, match=r"small needs the tokenizers package .* pip install minittt\[llm\]"
    ):
        JsonTokeniser(BYTES.content, "small")


def test_a_corpus_may_hold_either_and_be_read_by_either(tmp_path):
    """As `data import --like` writes it for a talker that was an LLM; the records stay as they are."""
    shipped = load_corpus(samples_folder() / "corpus")
    assert isinstance(shipped.tokeniser, TextTokeniser)
    for path in (samples_folder() / "corpus").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokeniser.model").write_bytes(BYTES.content)
    write_info(tmp_path, shipped.info)
    other = load_corpus(tmp_path)
    assert other.tokeniser.fingerprint() == other.info["tokeniser"] == BYTES.fingerprint()
    read = shipped.read_by(BYTES)
    assert read.info == {**shipped.info, "tokeniser": BYTES.fingerprint()}
    assert read.vocabulary == other.vocabulary
    assert read.vocabulary.never_written == (0, 1, 2)
    assert read.splits == other.splits
