"""Everybody who may ask: synthesised voices of several makes, and people; how they are recorded, and what is heard.

    formant       espeak-ng, in process (`synthesis.py`)
    other makes   a folder that `makes.py` wrote: FLAC files and a metadata.csv
    people        a folder of single words, one per file, with a metadata.csv; words by one person are joined into strings

Every utterance may have its voice perturbed, is recorded somewhere (`microphone.py`), and passes through the front end, as
it will when the talker is used.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from minittt.codec import read_audio
from minittt.data import front_end
from minittt.errors import MinitttError
from minittt.world import lexicon, makes, microphone, synthesis
from minittt.world.foreign import Recordings
from minittt.world.recordings import read_metadata

RATE = synthesis.SAMPLE_RATE
MOST_WORDS = 6  # in a string of single words
SHARES = {"formant": 0.4, "makes": 0.35, "people": 0.25}  # of all who ask, where there are all three


@dataclass(frozen=True)
class Utterance:
    """What somebody said, undisturbed: the wave (samples,) at RATE, its words, and who it was."""

    wave: np.ndarray
    text: str
    speaker: str


class Users:
    """Draws utterances: the generator passed in decides who says what, and how."""

    def __init__(
        self,
        recorded: Path | None = None,
        people: Path | None = None,
        left_out: tuple[str, ...] = (),
        formant: tuple[str, ...] = lexicon.USER,
        foreign: Path | None = None,
    ) -> None:
        """recorded, people: folders with a metadata.csv. left_out: speakers in these two who are not to be heard.
        foreign: a folder of what is not to be understood (`foreign.Recordings`)."""
        self.formant = formant
        self.recorded = _rows(recorded, left_out)
        self.takes = _takes(people, left_out)
        self.speakers = sorted(self.takes)
        self.foreign = None if foreign is None else Recordings(foreign)

    def kinds(self) -> list[str]:
        """The kinds of voices: formant, and whatever is in the folders."""
        found = ["formant"]
        makes_heard = {row["voice"].split()[0] for row in self.recorded}
        found += sorted(makes_heard)
        if self.speakers:
            found.append("people")
        return found

    def draw(self, rng: np.random.Generator) -> Utterance:
        """One utterance by somebody."""
        kinds = ["formant"]
        if self.recorded:
            kinds.append("makes")
        if self.speakers:
            kinds.append("people")
        shares = np.array([SHARES[kind] for kind in kinds])
        kind = rng.choice(kinds, p=shares / shares.sum())
        if kind == "formant":
            return self._say(rng)
        if kind == "makes":
            row = self.recorded[rng.integers(len(self.recorded))]
            return Utterance(take_of(row["file"]), row["text"], row["voice"])
        return self.joined(str(rng.choice(self.speakers)), int(rng.integers(1, MOST_WORDS + 1)), rng)

    def _say(self, rng: np.random.Generator) -> Utterance:
        text = makes.draw_question(rng)
        voice = str(rng.choice(self.formant))
        rate = int(rng.integers(120, 231))  # words per minute
        pitch = int(rng.integers(30, 76))
        return Utterance(synthesis.say(text, voice, rate, pitch), text, voice)

    def joined(self, speaker: str, n_words: int, rng: np.random.Generator) -> Utterance:
        """A string of single words by one person, drawn at random."""
        words = sorted(self.takes[speaker])
        chosen = [str(word) for word in rng.choice(words, n_words)]
        return self.join(speaker, chosen, rng)

    def join(self, speaker: str, words: list[str], rng: np.random.Generator) -> Utterance:
        """These words in any of a person's takes, with pauses of up to a quarter of a second."""
        parts = []
        for word in words:
            takes = self.takes[speaker][word]
            parts.append(takes[rng.integers(len(takes))])
            pause = rng.uniform(0, 0.25) ** 2 * 4  # seconds, short ones more often
            parts.append(np.zeros(round(pause * RATE), np.float32))
        wave = np.concatenate(parts[:-1])
        return Utterance(synthesis.trim(wave), " ".join(words), speaker)


def take_of(file: Path) -> np.ndarray:
    """A recording (samples,) at RATE."""
    return read_audio(file, RATE)


def _rows(folder: Path | None, left_out: tuple[str, ...]) -> list[dict]:
    if folder is None:
        return []
    return [row for row in read_metadata(folder) if row["voice"] not in left_out]


def _takes(folder: Path | None, left_out: tuple[str, ...]) -> dict[str, dict[str, list[np.ndarray]]]:
    """The takes (samples,) of single words, by speaker and word. Raises MinitttError for longer transcripts."""
    takes: dict = defaultdict(lambda: defaultdict(list))
    for row in _rows(folder, left_out):
        if " " in row["text"]:
            raise MinitttError(
                f"{row['file']}: {row['text']!r} is more than a word; people are asked for one a file"
            )
        takes[row["voice"]][row["text"]].append(take_of(row["file"]))
    return {speaker: dict(words) for speaker, words in takes.items()}


def perturbed(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another voice of the same kind: all frequencies times .85 to 1.35, so men become women and children; tilted."""
    factor = np.exp(rng.uniform(np.log(0.85), np.log(1.35)))
    wave = soxr.resample(wave, RATE * factor, RATE)
    return synthesis.tilted(wave, rng)


def listened(
    wave: np.ndarray, rng: np.random.Generator, how: microphone.Recording | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """wave (samples,) recorded and passed through the front end, and the clean voice: two waves (samples',).

    how: drawn if not given. Both waves are cut at the same places and set to the front end's level.
    """
    if how is None:
        how = microphone.draw_recording(rng)
    heard, clean = microphone.record(wave, how, RATE, rng)
    heard = front_end.without_offset(heard, RATE)
    start, stop = front_end.edges(heard, RATE)
    return front_end.at_level(heard[start:stop], RATE), front_end.at_level(clean[start:stop], RATE)
