"""Confidence is a chance: among replies of which it says .8, four in five are right."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.evaluation.confidence import Calibration, calibrate, surprise


def drawn(n: int, offset: float, slope: float, seed: int):
    """Certainties, and whether the reply was right with the chance that this curve gives."""
    rng = np.random.default_rng(seed)
    certainties = np.exp(-np.exp(rng.uniform(-8, 1, n)))
    truth = Calibration(offset, slope, 0, 0.0)
    chances = np.array([truth.confidence(c) for c in certainties])
    return certainties.tolist(), (rng.random(n) < chances).tolist(), chances


@given(st.integers(0, 1000), st.floats(-3, 1), st.floats(0.5, 2.5))
def test_the_curve_that_made_the_data_is_found(seed, offset, slope):
    certainties, right, chances = drawn(4000, offset, slope, seed)
    found = calibrate(certainties, right)
    said = np.array([found.confidence(c) for c in certainties])
    assert np.abs(said - chances).mean() < 0.03
    assert said.mean() == pytest.approx(np.mean(right), abs=1e-3)  # right on the whole
    assert found.items == 4000


@given(st.integers(0, 1000), st.lists(st.floats(1e-9, 1.0), min_size=2, max_size=20))
def test_more_surprise_is_never_more_confidence(seed, certainties):
    right = (np.random.default_rng(seed).random(len(certainties)) < 0.5).tolist()
    found = calibrate(certainties, right)
    said = [found.confidence(c) for c in sorted(certainties)]
    assert all(0 <= p <= 1 for p in said)
    assert all(a <= b + 1e-12 for a, b in zip(said, said[1:], strict=False))


def test_data_that_can_be_told_apart_give_finite_numbers():
    found = calibrate([0.999] * 20 + [0.5] * 20, [True] * 20 + [False] * 20)
    assert math.isfinite(found.offset)
    assert found.confidence(0.999) > 0.95
    assert found.confidence(0.5) < 0.05


def test_all_right_and_all_wrong_and_nothing_said():
    assert calibrate([0.9, 0.99, 0.999], [True] * 3).confidence(0.99) > 0.6
    assert calibrate([0.9, 0.99, 0.999], [False] * 3).confidence(0.99) < 0.4
    assert Calibration(5.0, 1.0, 1, 1.0).confidence(math.nan) == 0.0
    assert surprise(1.0) < surprise(0.9) < surprise(0.1)
