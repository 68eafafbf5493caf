"""One figure with its interval: ratios of sums, drawn again from the items, and the errors they are made of."""

import re
from dataclasses import dataclass

import jiwer
import numpy as np


@dataclass
class Score:
    """One figure over items: a ratio of sums, with a 95 % interval from 1000 bootstrap draws of the items."""

    name: str
    value: float
    low: float
    high: float
    items: int
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name:<52} {self.value:7.3f}  [{self.low:.3f}, {self.high:.3f}]  n={self.items}  {self.note}"


def ratio(
    name: str, numerators: list[float], denominators: list[float] | None = None, note: str = ""
) -> Score:
    """sum(numerators) / sum(denominators), the latter 1 each by default: a rate over items, or WER over words."""
    a = np.asarray(numerators, float)
    b = np.ones_like(a) if denominators is None else np.asarray(denominators, float)
    if not len(a) or not b.sum():
        return Score(name, float("nan"), float("nan"), float("nan"), len(a), note)
    drawn = np.random.default_rng(0).integers(0, len(a), (1000, len(a)))
    draws = a[drawn].sum(1) / np.maximum(b[drawn].sum(1), 1e-9)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(name, float(a.sum() / b.sum()), float(low), float(high), len(a), note)


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions between two texts, and the number of true words."""
    if not said.split():
        return len(heard.split()), 0
    out = jiwer.process_words(said, heard if heard.strip() else "")
    return out.substitutions + out.deletions + out.insertions, len(said.split())


def character_errors(said: str, heard: str) -> tuple[int, int]:
    """The same over characters, blanks between words among them."""
    if not said:
        return len(heard), 0
    out = jiwer.process_characters(said, heard)
    return out.substitutions + out.deletions + out.insertions, len(said)


def words_right(said: list[str], heard: list[str]) -> tuple[list[float], list[float]]:
    """Words got right, 1 - WER as a ratio: true words less errors, over true words."""
    counts = [word_errors(a, b) for a, b in zip(said, heard, strict=True)]
    return [max(0, words - errors) for errors, words in counts], [words for _, words in counts]


def normal(text: str) -> str:
    """Lower case, one blank between words."""
    return re.sub(r"\s+", " ", text.lower()).strip()
