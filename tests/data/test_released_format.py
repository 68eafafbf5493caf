"""The released data format: read and written without losing a character, and each kind of malformed record named."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.data.released_format import RecordError, from_released, interleave, to_released
from tests.toy import toy_corpus

OFFICIAL = Path(__file__).parents[2].parent / "shared" / "official_format"


def codes(*numbers):
    return "".join(f"<|audio_{n}|>" for n in numbers)


def heard(*numbers):
    return f"<|begin_of_audio|>{codes(*numbers)}<|end_of_audio|>"


def said(*numbers):
    return f"<|begin_of_audio|>{codes(*numbers)}<|end_of_audio_new|>"


def last(*numbers):
    return f"<|begin_of_quad|>{codes(*numbers)}<|end_of_audio_span_last|>"


def message(role, content, text_content=None):
    return {"role": role, "content": content, "text_content": text_content}


def conversation(*contents, system="Answer in text and speech."):
    roles = ["user", "assistant"] * len(contents)
    turns = [message(role, content) for role, content in zip(roles, contents, strict=False)]
    return {"messages": [message("system", system), *turns]}


RECORDS = {
    "chat": [
        conversation("What is 2 + 2?\n(A) 4", "4."),
        {"messages": [message("user", "a"), message("assistant", "b")]},
    ],
    "qa": [
        conversation(heard(1, 2), "Two words" + said(3, 16383) + " and more." + last(4)),
        conversation(heard(1), "Yes." + last(2), heard(3, 4), "No." + last(5)),
        conversation(heard(1) + heard(2), "Yes" + said(1) + said(2) + last(3)),
    ],
    "asr": [conversation(heard(7, 8), "spoken words" + last(7), system="Transcribe what you hear.")],
    "tts": [conversation("say this", last(1, 2))],
    "caption": [
        {
            "messages": [
                {"content": "Name the event." + heard(5), "role": "user", "text_content": "Name the event."},
                {"content": "a dog barks" + last(6), "role": "assistant", "text_content": None},
            ],
            "source": "own",
        }
    ],
    "document": [
        {"text": said(1) + " text between " + said(2) + " " + last(3) + " and after the last."},
        {"text": "水管" + said(9) + said(8) + last(7) + "。"},
        {"text": "words alone"},
        {"id": 3, "text": last(0)},
    ],
}


def as_json(record):
    return json.dumps(record, ensure_ascii=False)


@pytest.mark.parametrize(
    "family, number", [(f, i) for f, those in RECORDS.items() for i in range(len(those))]
)
def test_law_01_every_family_comes_back_character_for_character(family, number):
    released = RECORDS[family][number]
    record = from_released(released)
    assert record["family"] == family
    assert "<|" not in as_json(record["messages"])
    assert as_json(to_released(record)) == as_json(released)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the released samples are not here")
def test_law_01_the_released_samples_come_back_character_for_character():
    families = set()
    for path in sorted(OFFICIAL.glob("*.json")):
        for released in json.loads(path.read_text(encoding="utf-8")):
            record = from_released(released)
            families.add(record["family"])
            assert as_json(to_released(record)) == as_json(released)
    assert families == {"chat", "qa", "asr", "caption", "document"}


TEXTS = st.text(st.characters(exclude_characters="<|>", exclude_categories=["Cs"]), min_size=1, max_size=8)
SPANS = st.lists(st.integers(0, 16383), min_size=1, max_size=5)
PARTS = st.lists(TEXTS | SPANS, min_size=1, max_size=6).filter(
    lambda parts: (
        not any(isinstance(a, str) and isinstance(b, str) for a, b in zip(parts, parts[1:], strict=False))
    )
)


@given(st.lists(st.tuples(PARTS, PARTS), min_size=1, max_size=3), st.none() | TEXTS)
def test_law_02_any_record_of_ours_is_read_as_it_was_written(turns, system):
    messages = [["system", system]] if system else []
    for asked, replied in turns:
        messages += [["user", *asked], ["assistant", *replied]]
    assert from_released(to_released({"messages": messages}))["messages"] == messages
    document = [["document", *turns[0][0]]]
    assert from_released(to_released({"messages": document}))["messages"] == document


def test_records_of_a_corpus_are_written_with_the_codes_of_their_utterances():
    corpus = toy_corpus(0)
    for record in corpus.split("train"):
        written = from_released(to_released(record, corpus.audio))
        for (_, *parts), (_, *read) in zip(record["messages"], written["messages"], strict=True):
            assert read == [corpus.audio(p).tolist() if isinstance(p, int) else p for p in parts]
    with pytest.raises(RecordError, match="give its codes"):
        to_released(corpus.split("train")[0])
    with pytest.raises(RecordError, match="holds a mark"):
        to_released({"messages": [["document", "a <|audio_3|>"]]})


MALFORMED = {
    "a record is a JSON object, not a list": [],
    "'messages' or 'text', and this has neither": {"content": "x"},
    "'messages' or 'text', and this has both": {"messages": [], "text": "x"},
    "'messages' is a list of one or more": {"messages": []},
    "message 1 is a JSON object, not a string": {"messages": ["x"]},
    "message 1 has the role 'bot'": {"messages": [message("bot", "x")]},
    "message 2 is of user, where assistant is expected": {"messages": [message("user", "x"), message("user", "y")]},
    "message 2 is of system, where user": {"messages": [message("system", "x"), message("system", "y")]},
    "the last message is of user": {"messages": [message("user", "x")]},
    r"message 1 \(user\) has no field 'content'": {"messages": [{"role": "user"}, message("assistant", "x")]},
    "holds a number, not a string": conversation(3, "x"),
    r"message 2 \(user\) is empty": conversation("", "x"),
    "the text holds null, not a string": {"text": None},
    r"message 1 \(system\) holds audio": conversation("x", "y", system=heard(1)),
    "character 0: <|audio_5|> stands outside a span": conversation(codes(5), "x"),
    "is none of the codes 0 to 16383": conversation(heard(16384), "x"),
    "<|audio_07|> is no mark of the format": conversation("<|begin_of_audio|><|audio_07|><|end_of_audio|>", "x"),
    "<|begin_of_sound|> is no mark of the format": conversation("<|begin_of_sound|>", "x"),
    "inside a span that is still open": conversation("<|begin_of_audio|>" + heard(1), "x"),
    "closes a span that nothing opened": conversation("x<|end_of_audio|>", "x"),
    "text 'oh' in a span": conversation("<|begin_of_audio|>oh" + codes(1) + "<|end_of_audio|>", "x"),
    "the span that ends here has no codes": conversation(heard(), "x"),
    "opened by <|begin_of_audio|>, is never closed": conversation("<|begin_of_audio|>" + codes(1), "x"),
    "span 1 of 1: opened by <|begin_of_quad|>; here it is <|begin_of_audio|>": conversation(last(1), "x"),
    "span 1 of 1: closed by <|end_of_audio_new|>; here it is <|end_of_audio|>": conversation(said(1), "x"),
    "span 1 of 2: opened by <|begin_of_quad|>": conversation("x", "y" + last(1) + last(2)),
    "span 2 of 2: opened by <|begin_of_audio|>; here it is <|begin_of_quad|>": {"text": said(1) + said(2)},
}  # fmt: skip


@pytest.mark.parametrize("complaint", MALFORMED)
def test_every_malformed_record_has_its_own_complaint(complaint):
    released = MALFORMED[complaint]
    with pytest.raises(RecordError) as error:
        from_released(released)
    found = [text for text in MALFORMED if re.search(text.replace("|", r"\|"), str(error.value))]
    assert found == [complaint]


class Bytes:
    """A tokeniser of UTF-8 bytes: most characters of a Chinese text are three tokens."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.integers(1, 120),
    st.integers(1, 13),
    st.integers(2, 26),
    st.booleans(),
)
def test_law_03_interleaving_loses_nothing_and_keeps_its_sizes(text, n_codes, n_text, n_audio, fit):
    numbers = list(range(n_codes))
    parts = interleave(text, numbers, Bytes(), n_text, n_audio, fit)
    texts, spans = parts[::2], parts[1::2]
    assert "".join(texts) == text
    assert sum(spans, []) == numbers
    assert all(len(span) == n_audio - fit for span in spans[:-1])  # with its end mark, it fills its block
    assert len(spans[-1]) >= 1
    longest = max(n_text, 4) + 3  # where a character has more bytes than a chunk has tokens, it is not cut
    assert all(len(chunk.encode()) <= longest for chunk in texts[:-1])
    written = to_released({"messages": [["user", "x"], ["assistant", *parts]]})
    assert from_released(written)["messages"][1] == ["assistant", *parts]


def test_interleaving_has_the_sizes_of_the_released_data():
    parts = interleave("abcdefghijklm" * 2 + "nop", list(range(100)), Bytes())
    assert [len(part) for part in parts] == [13, 26, 13, 26, 3, 48]
    with pytest.raises(RecordError, match="does not give the text"):
        interleave(
            "Ab", [1], type("Lower", (Bytes,), {"encode": lambda self, text: list(text.lower().encode())})()
        )
