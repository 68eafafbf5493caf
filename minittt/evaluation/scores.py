"""One figure with its interval: ratios of sums over items, bootstrapped, and the error counts they are made of.

Two texts are compared only after both have gone through `normal`: an imported transcript has capitals and full stops that no
talker writes, and a perfect transcriber must score a word error rate of 0.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np

from minittt.codec import whole_file
from minittt.files import json_text

DRAWS = 1000  # bootstrap draws of an interval
INTERVAL = (0.025, 0.975)  # quantiles of the draws: a 95 % interval


@dataclass
class Score:
    """One figure over items: a ratio of sums, with a 95 % interval from 1,000 bootstrap draws of the items."""

    name: str
    value: float
    low: float
    high: float
    items: int
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name:<52} {self.value:7.3f}  [{self.low:.3f}, {self.high:.3f}]  n={self.items}  {self.note}"


def ratio(
    name: str,
    numerators: Sequence[float],
    denominators: Sequence[float] | None = None,
    note: str = "",
) -> Score | None:
    """sum(numerators) / sum(denominators): a mean over items by default, or errors over words.

    The interval draws items with replacement, numerator and denominator together. Returns None if there is no figure:
    no items, or denominators that sum to 0.
    """
    a = np.asarray(numerators, float)  # (n,)
    b = np.ones_like(a)
    if denominators is not None:
        b = np.asarray(denominators, float)
    n = len(a)
    if n == 0 or b.sum() == 0:
        return None
    drawn = np.random.default_rng(0).integers(0, n, (DRAWS, n))
    tops = a[drawn].sum(1)  # (DRAWS,)
    bottoms = b[drawn].sum(1)
    low, high = np.quantile(tops / np.maximum(bottoms, 1e-9), INTERVAL)
    return Score(name, float(a.sum() / b.sum()), float(low), float(high), n, note)


def write_scores(path: str | Path, scores: list[Score]) -> None:
    """Write scores as JSON, whole or not at all; a figure that is not finite is null."""
    text = json_text([asdict(score) for score in scores], indent=1) + "\n"
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def normal(text: str) -> str:
    """What two texts have in common if they say the same: lower case, no punctuation, one space between words.

    Compatibility forms (full-width letters, ligatures) are unified (Unicode NFKC), letters keep their accents and
    apostrophes stay inside words ("don't"). Digits are not spelled out.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    kept = []
    for character in text:
        is_punctuation = unicodedata.category(character).startswith("P") and character != "'"
        kept.append(" " if is_punctuation else character)
    words = "".join(kept).split()
    words = [word.strip("'") for word in words]
    return " ".join(word for word in words if word)


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions between two texts, and the number of true words."""
    said = normal(said)
    heard = normal(heard)
    if not said:
        return len(heard.split()), 0
    out = jiwer.process_words(said, heard)
    return out.substitutions + out.deletions + out.insertions, len(said.split())


def error_rate(name: str, said: Sequence[str], heard: Sequence[str]) -> Score | None:
    """The word error rate of texts that were heard, each against what was said."""
    counts = [word_errors(a, b) for a, b in zip(said, heard, strict=True)]
    return ratio(name, [wrong for wrong, _ in counts], [words for _, words in counts])


def character_errors(said: str, heard: str) -> tuple[int, int]:
    """The same over characters, spaces between words among them."""
    said = normal(said)
    heard = normal(heard)
    if not said:
        return len(heard), 0
    out = jiwer.process_characters(said, heard)
    return out.substitutions + out.deletions + out.insertions, len(said)


def words_right(said: list[str], heard: list[str]) -> tuple[list[int], list[int]]:
    """1 - word error rate as a ratio: of each text, true words minus errors, and true words.

    Insertions count: a text twice as long as what was said has more errors than words, and counts below 0.
    """
    right = []
    total = []
    for a, b in zip(said, heard, strict=True):
        errors, words = word_errors(a, b)
        right.append(words - errors)
        total.append(words)
    return right, total


def same_text(said: str, heard: str) -> bool:
    """Whether two texts are the same words."""
    return normal(said) == normal(heard)
