"""Scores mean what they say."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minittt.scores import character_errors, normal, ratio, word_errors, words_right

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


def test_words_right_are_true_words_less_errors_and_never_fewer_than_none():
    assert words_right(["one two", "one"], ["one", "two two two"]) == ([1, 0], [2, 1])


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


def test_nothing_to_measure_gives_nan_not_a_crash():
    assert math.isnan(ratio("x", []).value)
    assert math.isnan(ratio("x", [1.0], [0.0]).value)


def test_text_is_compared_without_case_and_spacing():
    assert normal(" Two  PLUS two ") == "two plus two"
