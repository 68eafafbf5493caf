"""Typed text as a talker was taught to read it: digits and signs become words, common ways of asking become the taught one.

A small talker knows a few dozen words, in one spelling. What people type has capitals, digits and signs, and is phrased in
many ways. Any remaining word that was never taught is refused by name: a talker would answer it with an invention.
"""

import os
import re
import unicodedata
from pathlib import Path

from minittt.errors import MinitttError
from minittt.world.lexicon import NUMBERS

FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")  # of a one-word name: question.m4a is not a text
AUDIO_SUFFIXES = {
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".aiff",
    ".aif",
    ".au",
    ".caf",
    ".mp3",
    ".mp4",
    ".m4a",
}
AUDIO_SUFFIXES |= {".aac", ".wma", ".webm", ".amr", ".3gp"}
PATH_BEGINNINGS = ("./", "../", "/", "~/")
SIGNS = {"+": "plus", "-": "minus", "−": "minus", "–": "minus", "=": "equals"}
_NUMBER = "|".join(sorted(NUMBERS, key=len, reverse=True))
_SUM = rf"(?P<a>{_NUMBER}) (?P<operator>plus|minus) (?P<b>{_NUMBER})"
_ASKING = (
    r"(?:please )?(?:(?:can you )?tell me )?"
    r"(?:what is|what does|what do|how much is|how much does|calculate|compute)?"
)
_WHAT = r"(?: (?:equals|equal|make|makes|is|give|gives))?(?: what)?"
_ADD = rf"(?:please )?add (?P<a>{_NUMBER}) (?:and|to) (?P<b>{_NUMBER})"
_SUM_OF = (
    r"(?:what is|how much is|calculate|compute)(?: the sum of)? "
    rf"(?P<a>{_NUMBER}) and (?P<b>{_NUMBER})"
)
_SUBTRACT = rf"(?:please )?subtract (?P<b>{_NUMBER}) from (?P<a>{_NUMBER})"
_COUNT = rf"(?:please )?count (?:up )?(?:from )?(?P<a>{_NUMBER}) (?:up )?to (?P<b>{_NUMBER})"
_ECHO = rf"(?:please )?(?:say|repeat|speak)(?: after me)? (?P<words>(?:{_NUMBER})(?: (?:{_NUMBER}))*)"
QUESTIONS = (  # how people ask, and how the talker was taught to be asked
    (re.compile(rf"{_ASKING} ?{_SUM}{_WHAT}"), r"what is \g<a> \g<operator> \g<b>"),
    (re.compile(_ADD), r"what is \g<a> plus \g<b>"),
    (re.compile(_SUM_OF), r"what is \g<a> plus \g<b>"),
    (re.compile(_SUBTRACT), r"what is \g<a> minus \g<b>"),
    (re.compile(_COUNT), r"count from \g<a> to \g<b>"),
    (re.compile(_ECHO), r"say \g<words>"),
)


def is_audio(question: str) -> bool:
    """Whether a question names a recording, even a missing one: a mistyped path must not be answered as a text.

    Anything that exists does, as does anything written like a path, and a single word that ends like a file's name.
    """
    if not question.strip():
        return False
    path = Path(question)
    if path.suffix.lower() in AUDIO_SUFFIXES or question.startswith(PATH_BEGINNINGS):
        return True
    is_one_word = len(question.split()) == 1
    if is_one_word and (FILE_SUFFIX.fullmatch(path.suffix) or question.endswith(os.sep)):
        return True
    try:
        is_in_a_folder = is_one_word and len(path.parts) > 1 and path.parent.is_dir()
        return is_in_a_folder or path.exists()
    except (OSError, ValueError):  # too long, or not possible for a name
        return False


def knows_numbers(taught: list[str] | None) -> bool:
    """Whether a talker was taught the spoken world: how others read is not known."""
    return taught is not None and {*NUMBERS, "plus", "minus", "equals"} <= set(taught)


def spelled_out(text: str) -> list[str]:
    """The words of a text in lower case, digits and signs written out: "2+3?" gives two, plus, three.

    Raises MinitttError for a number above twenty, which has no word here.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = re.sub(r"\b(what|how|who|it|that)'s\b", r"\1 is", plain)
    plain = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", plain)  # a hyphen inside a word is not a minus
    words = []
    for token in re.findall(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*|[+\-−–=*/×÷]", plain):
        if token.isdigit():
            if int(token) >= len(NUMBERS):
                raise MinitttError(f"{token} is too large: use numbers from 0 to 20")
            words.append(NUMBERS[int(token)])
        else:
            words.append(SIGNS.get(token, token))
    return words


def question(text: str, taught: list[str] | None) -> str:
    """What was typed as a question, in the words that the talker was taught (`Talker.words`; None: not known).

    A talker from a world other than the spoken one gets it unchanged. Raises MinitttError naming words that are new.
    """
    _check_text(text)
    if not knows_numbers(taught):
        return text
    asked = " ".join(spelled_out(text))
    for pattern, known in QUESTIONS:
        found = pattern.fullmatch(asked)
        if found:
            asked = found.expand(known)
            break
    check_words(asked, taught)
    return asked


def sentence(text: str, taught: list[str] | None) -> str:
    """What to say aloud, in the words that the talker was taught; see `question`."""
    _check_text(text)
    if not knows_numbers(taught):
        return text
    words = " ".join(spelled_out(text))
    check_words(words, taught)
    return words


def _check_text(text: str) -> None:
    """Raise MinitttError for what no talker can read: nothing, or bytes that are not letters."""
    if not text.strip():
        raise MinitttError("there are no words in the text: write, for instance, 'what is two plus three'")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MinitttError(
            "the text holds characters that are not UTF-8: type it again, in a terminal that is set to UTF-8"
        ) from error


def check_words(text: str, taught: list[str]) -> None:
    """Raise MinitttError if there is nothing to read, or words that the talker never met."""
    words = text.split()
    if not words:
        raise MinitttError("there are no words in the text: write, for instance, 'what is two plus three'")
    new = list(dict.fromkeys(word for word in words if word not in set(taught)))
    if new:
        raise MinitttError(
            f"this talker does not know {', '.join(map(repr, new))}: use numbers from 0 to 20, plus, minus, "
            "equals, what is, count from ... to ..., say"
        )


LONGEST = 5  # words that a talker has learned to say in one go


def pieces(text: str, longest: int = LONGEST) -> list[str]:
    """A long text in parts of about equal length, with at most `longest` words each."""
    words = text.split()
    n_parts = -(-len(words) // longest)  # rounded up
    parts = []
    for i in range(n_parts):
        begin = len(words) * i // n_parts
        end = len(words) * (i + 1) // n_parts
        parts.append(" ".join(words[begin:end]))
    return parts
