"""How well people are understood: words of a person, one by one and in strings, recorded well and in bad conditions.

A person is a folder of single words, one word a file, with a metadata.csv (file_name, transcript, speaker). Strings are
words of one person joined. What the talker transcribes is compared with what was said, word by word.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minittt.codec import Codec
from minittt.errors import MinitttError
from minittt.evaluation.refusals import refused
from minittt.evaluation.scores import Score, error_rate
from minittt.talker import Talker, decoding_settings
from minittt.world.microphone import Recording, record
from minittt.world.users import RATE, Users

ROWS = 32  # utterances transcribed together


@dataclass(frozen=True)
class Said:
    """What a person said: the wave (samples,) and its words."""

    wave: np.ndarray
    text: str


def single_words(people: Users, speaker: str, most: int | None = None) -> list[Said]:
    """Every take of every word of a person, cycling through the words; at most `most` in all."""
    takes = people.takes[speaker]
    longest = max(len(waves) for waves in takes.values())
    found = []
    for i in range(longest):
        for word in sorted(takes):
            if i < len(takes[word]):
                found.append(Said(takes[word][i], word))
    return found[:most]


def strings(
    people: Users, speaker: str, n: int, seed: int = 0, words: tuple[int, int] = (2, 4)
) -> list[Said]:
    """n strings of a person; `words`: the fewest and the most words in one."""
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        said = people.joined(speaker, int(rng.integers(words[0], words[1] + 1)), rng)
        found.append(Said(said.wave, said.text))
    return found


def read_conditions(path: str | Path) -> dict[str, tuple[Recording, int]]:
    """Conditions by name from a JSON file: the fields of `microphone.Recording`, and a seed."""
    try:
        listed = json.loads(Path(path).read_text(encoding="utf-8"))
        conditions = {}
        for name, fields in listed.items():
            seed = int(fields.pop("seed"))
            conditions[name] = (Recording(**fields), seed)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise MinitttError(f"{path}: these are no conditions ({type(error).__name__}: {error})") from error
    return conditions


def recorded(said: list[Said], how: Recording, seed: int) -> list[Said]:
    """The same words as a microphone gives them under a condition."""
    found = []
    for i, one in enumerate(said):
        heard, _ = record(one.wave, how, RATE, np.random.default_rng([seed, i]))
        found.append(Said(heard, one.text))
    return found


def transcripts(talker: Talker, codec: Codec, said: list[Said]) -> list[str]:
    """What the talker hears in each, in order."""
    settings = replace(decoding_settings(), max_spans=0)  # text alone
    prompts: list[list[list]] = [
        [["system", "transcribe"], ["user", talker.listen(codec, one.wave)]] for one in said
    ]
    order = sorted(range(len(said)), key=lambda i: len(prompts[i][1][1]))
    texts = [""] * len(said)
    for start in tqdm(range(0, len(order), ROWS), desc="people", leave=False):
        chosen = order[start : start + ROWS]
        replies = talker.converse([prompts[i] for i in chosen], settings)
        for i, reply in zip(chosen, replies, strict=True):
            texts[i] = reply.text
    return texts


def word_error_rate(name: str, talker: Talker, codec: Codec, said: list[Said]) -> Score:
    """Edits over words, with its interval over utterances; its note says how many were refused.

    A reply that nothing was understood counts as an empty transcript, not as one of four words: all words are missing.
    """
    heard = transcripts(talker, codec, said)
    refusals = [refused(text) for text in heard]
    heard = ["" if is_refusal else text for is_refusal, text in zip(refusals, heard, strict=True)]
    score = error_rate(name, [one.text for one in said], heard)
    if any(refusals):
        score = replace(score, note=f"{sum(refusals)} refused")
    return score


def hear_people(
    talker: Talker,
    codec: Codec,
    folder: str | Path,
    speakers: list[str] | None = None,
    limit: int | None = None,
    conditions: dict[str, tuple[Recording, int]] | None = None,
) -> list[Score]:
    """Word error rates of each person: single words, strings of two to four, and those strings under each condition.

    speakers: whose words are used (default: everyone's in the folder). limit: the most utterances of each kind.
    """
    people = Users(None, Path(folder))
    unknown = sorted(set(speakers or []) - set(people.speakers))
    if unknown:
        raise MinitttError(f"{folder} has no {', '.join(unknown)}; it has {', '.join(people.speakers)}")
    scores = []
    for speaker in speakers or people.speakers:
        words = single_words(people, speaker, limit or 500)
        scores.append(word_error_rate(f"{speaker}: single words wrong", talker, codec, words))
        said = strings(people, speaker, limit or 200)
        scores.append(word_error_rate(f"{speaker}: words of strings wrong", talker, codec, said))
        for name, (how, seed) in (conditions or {}).items():
            heard = recorded(said, how, seed)
            scores.append(word_error_rate(f"{speaker}: {name}", talker, codec, heard))
    return scores
