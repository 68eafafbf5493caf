"""The format of TtT's released data: records of text with audio written into it, to and from ours.

    {"messages": [{"role": "user", "content": "...", "text_content": null}, ...]}     a conversation
    {"text": "..."}                                                                   a document

Audio is written into the text as marks: an opener, codes `<|audio_N|>`, a closer. A span's place decides its marks:

    what a user says                        <|begin_of_audio|>  codes  <|end_of_audio|>
    a reply or a document, not the last     <|begin_of_audio|>  codes  <|end_of_audio_new|>
    its last span                           <|begin_of_quad|>   codes  <|end_of_audio_span_last|>

So nothing is lost when marks become lists of codes: `from_released` reads a record as ours ({"family", "messages"}, a part
being text or a list of codes), and `to_released` writes the same characters back.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from minittt.errors import MinitttError

CODEBOOK_SIZE = 16384  # of the released tokenizer, 12.5 codes a second
TEXT_CHUNK = 13  # text tokens before a span of a reply
AUDIO_CHUNK = 26  # codes of every span of a reply but the last

OPEN, OPEN_LAST = "<|begin_of_audio|>", "<|begin_of_quad|>"
CLOSE_HEARD, CLOSE, CLOSE_LAST = "<|end_of_audio|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>"
HEARD = (OPEN, CLOSE_HEARD)
SAID = (OPEN, CLOSE)
SAID_LAST = (OPEN_LAST, CLOSE_LAST)

_MARK = re.compile(r"<\|(?:audio_|begin_of_|end_of_audio)[^|<>]*\|>")
_CODE = re.compile(r"<\|audio_(0|[1-9][0-9]*)\|>")
_ASKS_FOR_WORDS = re.compile(r"\b(transcribe|speech recognition)\b", re.IGNORECASE)

Part = str | list[int]


class RecordError(MinitttError):
    """A record that is not in the format: what is wrong with it, and what would be right."""


class Tokeniser(Protocol):
    """What interleaving asks of a text tokeniser: `decode(encode(text)) == text`."""

    def encode(self, text: str) -> list[int]:
        """Text -> ids."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Ids -> text."""
        ...


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RecordError(message)


# ---- reading


def from_released(released: Any, codebook_size: int = CODEBOOK_SIZE) -> dict:
    """A released record as ours: {"family", "messages": [[role, part, ...], ...], "fields"}.

    "fields" keeps whatever else each message held, in order, so that nothing is lost on the way back. Raises RecordError
    for anything that is not in the format.
    """
    _require(isinstance(released, dict), f"a record is a JSON object, not {_kind(released)}")
    has_messages, has_text = "messages" in released, "text" in released
    _require(has_messages or has_text, "a record has the field 'messages' or 'text', and this has neither")
    _require(not (has_messages and has_text), "a record has 'messages' or 'text', and this has both")
    if has_text:
        parts = _parts_of(released["text"], "the text", codebook_size, heard=False)
        return {
            "family": "document",
            "messages": [["document", *parts]],
            "fields": [_without(released, "text")],
        }
    messages = released["messages"]
    _require(isinstance(messages, list) and len(messages) > 0, "'messages' is a list of one or more messages")
    _check_turns(messages)
    read = []
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        where = f"message {number} ({role})"
        _require("content" in message, f"{where} has no field 'content'")
        parts = _parts_of(message["content"], where, codebook_size, heard=role != "assistant")
        silent = all(isinstance(part, str) for part in parts)
        _require(silent or role != "system", f"{where} holds audio: only users and the assistant speak")
        read.append([role, *parts])
    fields = [_without(message, "content") for message in messages]
    others = {name: value for name, value in released.items() if name != "messages"}
    record: dict = {"family": family_of(read), "messages": read, "fields": fields}
    if others:
        record["others"] = others
    return record


def _check_turns(messages: list) -> None:
    """Raise RecordError unless user and assistant alternate, after at most one system message, and end with a reply."""
    expected = ("system", "user")
    for number, message in enumerate(messages, start=1):
        _require(isinstance(message, dict), f"message {number} is a JSON object, not {_kind(message)}")
        role = message.get("role")
        known = role in ("system", "user", "assistant")
        _require(known, f"message {number} has the role {role!r}; roles are system, user and assistant")
        _require(
            role in expected, f"message {number} is of {role}, where {' or '.join(expected)} is expected"
        )
        expected = ("assistant",) if role == "user" else ("user",)
    _require(role == "assistant", f"the last message is of {role}: a conversation ends with a reply")


def _parts_of(content: Any, where: str, codebook_size: int, heard: bool) -> list[Part]:
    """Text and spans of one content, in order. heard: the spans are a user's."""
    _require(isinstance(content, str), f"{where} holds {_kind(content)}, not a string")
    _require(content != "", f"{where} is empty")
    parts: list[Part] = []
    marks_of_spans = []
    opener: str | None = None  # of the span that is being read
    codes: list[int] = []
    at = 0
    for mark in _MARK.finditer(content):
        text, at = content[at : mark.start()], mark.end()
        _require(
            opener is None or text == "", f"{where}, character {mark.start()}: text {text!r:.20} in a span"
        )
        if text:
            parts.append(text)
        name = mark.group()
        place = f"{where}, character {mark.start()}"
        if code := _CODE.fullmatch(name):
            _require(opener is not None, f"{place}: {name} stands outside a span; {OPEN} opens one")
            number = int(code[1])
            _require(number < codebook_size, f"{place}: {name} is none of the codes 0 to {codebook_size - 1}")
            codes.append(number)
        elif name in (OPEN, OPEN_LAST):
            _require(opener is None, f"{place}: {name} inside a span that is still open")
            opener = name
            codes = []
        elif name in (CLOSE_HEARD, CLOSE, CLOSE_LAST):
            _require(opener is not None, f"{place}: {name} closes a span that nothing opened")
            _require(len(codes) > 0, f"{place}: the span that ends here has no codes")
            marks_of_spans.append((opener, name))
            parts.append(codes)
            opener = None
        else:
            raise RecordError(f"{place}: {name} is no mark of the format")
    _require(opener is None, f"{where}: its last span, opened by {opener}, is never closed")
    if content[at:]:
        parts.append(content[at:])
    _check_marks(marks_of_spans, where, heard)
    return parts


def _check_marks(found: list[tuple[str, str]], where: str, heard: bool) -> None:
    """Raise RecordError for a span whose opener and closer are not those of its place."""
    for number, (marks, right) in enumerate(zip(found, _marks(len(found), heard), strict=True), start=1):
        place = f"{where}, span {number} of {len(found)}"
        _require(marks[0] == right[0], f"{place}: opened by {marks[0]}; here it is {right[0]}")
        _require(marks[1] == right[1], f"{place}: closed by {marks[1]}; here it is {right[1]}")


def _marks(n: int, heard: bool) -> list[tuple[str, str]]:
    """Opener and closer of each of the n spans of a message."""
    if heard or n == 0:
        return [HEARD] * n
    return [SAID] * (n - 1) + [SAID_LAST]


def family_of(messages: list[list]) -> str:
    """What a conversation teaches, by what is heard and said in it: chat, tts, caption, asr or qa.

    Recognition and conversation have the same shape: there the system prompt decides.
    """
    asked = [part for role, *parts in messages if role == "user" for part in parts]
    replied = [part for role, *parts in messages if role == "assistant" for part in parts]
    if not any(isinstance(part, list) for part in asked):
        return "tts" if any(isinstance(part, list) for part in replied) else "chat"
    if any(isinstance(part, str) for part in asked):
        return "caption"  # an instruction and a sound: events, scenes, captions
    told = " ".join(part for role, *parts in messages if role == "system" for part in parts)
    return "asr" if _ASKS_FOR_WORDS.search(told) else "qa"


def _without(message: dict, name: str) -> dict:
    """The message with its field `name` emptied, in its place among the others."""
    return {**message, name: None}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# ---- writing


def to_released(record: dict, audio: Callable[[int], Sequence[int]] | None = None) -> dict:
    """One of our records in the released format; undoes `from_released`.

    audio: gives the codes of a part that is the number of an utterance (`Corpus.audio`). Raises RecordError where a text
    holds a mark of the format, which would be read as audio.
    """
    messages = record["messages"]
    fields = record.get("fields") or [None] * len(messages)
    if messages[0][0] == "document":
        others = fields[0] or {"text": None}
        return {**others, "text": _content(messages[0], audio)}
    written = []
    for (role, *parts), others in zip(messages, fields, strict=True):
        others = others or {"role": role, "content": None, "text_content": None}
        written.append({**others, "content": _content([role, *parts], audio)})
    return {"messages": written, **record.get("others", {})}


def _content(message: list, audio: Callable[[int], Sequence[int]] | None) -> str:
    role, *parts = message
    n_spans = sum(not isinstance(part, str) for part in parts)
    marks = iter(_marks(n_spans, heard=role not in ("assistant", "document")))
    pieces = []
    for part in parts:
        if isinstance(part, str):
            _require(_MARK.search(part) is None, f"the text {part!r:.60} holds a mark of the format")
            pieces.append(part)
            continue
        _require(isinstance(part, list) or audio is not None, f"utterance {part}: give its codes, by `audio`")
        codes = part if isinstance(part, list) else audio(part)
        opener, closer = next(marks)
        pieces.append(opener + "".join(f"<|audio_{int(code)}|>" for code in codes) + closer)
    return "".join(pieces)


# ---- interleaving


def interleave(
    text: str,
    codes: list[int],
    tokeniser: Tokeniser,
    n_text: int = TEXT_CHUNK,
    n_audio: int = AUDIO_CHUNK,
    fit: bool = False,
) -> list[Part]:
    """A reply's text and codes in turn, n_text text tokens and n_audio codes; after the last text come all remaining codes.

    fit: a span and its end mark fill blocks of n_audio slots, so it has n_audio - 1 codes. In the released data it has
    n_audio, and the mark begins a second block. The texts join to `text`, the spans to `codes`; a chunk is a little shorter
    than n_text tokens where a character is made of several. Raises RecordError if the tokeniser does not give the text back.
    """
    _require(len(text) > 0 and len(codes) > 0, "a reply to interleave has a text and codes")
    in_span = n_audio - 1 if fit else n_audio
    _require(n_text >= 1 and in_span >= 1, "chunks hold one text token and one code at least")
    cuts = _cuts(text, tokeniser, n_text)
    n_spans = min(len(cuts), -(-len(codes) // in_span))  # rounded up: no span is empty
    cuts = [*cuts[: n_spans - 1], len(text)]
    parts: list[Part] = []
    start = 0
    for number, stop in enumerate(cuts):
        parts.append(text[start:stop])
        last = number == len(cuts) - 1
        parts.append(codes[number * in_span :] if last else codes[number * in_span : (number + 1) * in_span])
        start = stop
    return parts


def _cuts(text: str, tokeniser: Tokeniser, n_text: int) -> list[int]:
    """Where chunks of n_text tokens end, in characters; the last is the end of the text."""
    ids = tokeniser.encode(text)
    _require(tokeniser.decode(ids) == text, f"the tokeniser does not give the text {text!r:.40} back")
    cuts = [0]
    stop = n_text
    while stop < len(ids):
        end = stop
        prefix = tokeniser.decode(ids[:end])
        while not (text.startswith(prefix) and len(prefix) > cuts[-1]) and end > stop - n_text + 1:
            end -= 1  # the token before last may end within a character
            prefix = tokeniser.decode(ids[:end])
        if text.startswith(prefix) and len(prefix) > cuts[-1]:
            cuts.append(len(prefix))
        else:
            end = stop  # no border here: the next chunk takes these tokens, too
        stop = end + n_text
    if cuts[-1] < len(text):
        cuts.append(len(text))
    return cuts[1:]
