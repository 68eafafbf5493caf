"""Scores mean what they say."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.evaluation.scores import (
    Score,
    character_errors,
    normal,
    ratio,
    same_text,
    word_errors,
    words_right,
    write_scores,
)

WORDS = st.lists(st.sampled_from("one two three".split()), max_size=6)


def edit_distance(said, heard):
    table = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        above, table[0] = table[:], i
        for j, b in enumerate(heard, 1):
            table[j] = min(above[j] + 1, table[j - 1] + 1, above[j - 1] + (a != b))
    return table[-1]


@given(WORDS, WORDS)
def test_errors_are_the_edit_distance_over_words_and_over_characters(said, heard):
    a, b = " ".join(said), " ".join(heard)
    assert word_errors(a, b) == (edit_distance(said, heard), len(said))
    assert character_errors(a, b) == (edit_distance(a, b), len(a))


def test_words_right_are_true_words_minus_errors():
    """1 - word error rate, not clipped: an answer of other words scores 0 or less, not a flattering .067."""
    assert words_right(["one two", "one"], ["one", "two two two"]) == ([1, -2], [2, 1])


@given(st.lists(st.sampled_from(["One", "TWO,", "three.", "don't", "vier!"]), min_size=1, max_size=6))
def test_a_perfect_transcriber_scores_no_error_whatever_the_transcript_looks_like(words):
    """Both sides are normalised: an imported transcript has capitals and full stops that no talker writes."""
    transcript = "  ".join(words)
    written = " ".join(word.lower().strip(",.!") for word in words)
    assert word_errors(transcript, written) == (0, len(words))
    assert word_errors(written, transcript) == (0, len(words))
    assert character_errors(transcript, written)[0] == 0
    assert same_text(transcript, written)
    assert words_right([transcript], [written]) == ([len(words)], [len(words)])


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_rate_lies_in_its_interval_and_certainty_has_none(right):
    score = ratio("x", right)
    assert math.isclose(score.value, sum(right) / len(right))
    assert score.low <= score.value <= score.high
    assert (score.low == score.high) == (len(set(right)) == 1)


def test_the_interval_narrows_with_items_and_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = widths = 0
    for _ in range(100):
        few, many = rng.random(50) < 0.8, rng.random(800) < 0.8
        small, large = ratio("", few), ratio("", many)
        covered += small.low <= 0.8 <= small.high
        widths += (large.high - large.low) < (small.high - small.low)
    assert covered > 85  # of 100, at a nominal 95 %
    assert widths == 100


def test_what_cannot_be_measured_is_no_figure():
    assert ratio("x", []) is None
    assert ratio("x", [1.0], [0.0]) is None


def reference_interval(tops, bottoms):
    """What `ratio` says it does, written out: 1,000 draws of whole items, 2.5 and 97.5 % quantiles."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(tops), (1000, len(tops)))
    draws = sorted(sum(tops[i] for i in row) / sum(bottoms[i] for i in row) for row in chosen.tolist())
    return np.quantile(draws, 0.025), np.quantile(draws, 0.975)


def test_the_interval_draws_items_whole_a_thousand_times_at_95_percent():
    """Fails if denominators are not drawn with their numerators, for 20 draws, and for a 90 % interval."""
    rng = np.random.default_rng(1)
    bottoms = rng.integers(1, 30, 25)
    tops = bottoms * rng.random(25)
    score = ratio("x", tops, bottoms)
    low, high = reference_interval(tops.tolist(), bottoms.tolist())
    assert math.isclose(score.low, low, rel_tol=1e-12)
    assert math.isclose(score.high, high, rel_tol=1e-12)


def test_scores_are_written_as_json_without_nan(tmp_path):
    write_scores(tmp_path / "scores.json", [ratio("x", [1, 0])])
    [written] = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert written["value"] == 0.5
    write_scores(tmp_path / "other.json", [Score("x", math.nan, 0.0, 1.0, 1)])
    [written] = json.loads((tmp_path / "other.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert written["value"] is None


def test_text_is_compared_without_case_punctuation_and_spacing():
    assert normal(" Two  PLUS two. ") == "two plus two"
    assert normal("\uff34\uff57\uff4f plus-one") == "two plus one"  # full-width letters; a hyphen parts words
    assert normal("Don\u2019t, 'he' said") == "don't he said"
    assert normal("caf\u00e9") == normal("CAFE\u0301")
