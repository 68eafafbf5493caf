"""Confidence is a chance: among replies of which it says .8, four in five are right."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.errors import MinitttError
from minittt.evaluation import confidence as module
from minittt.evaluation.confidence import (
    Calibration,
    below_which_few_are_right,
    calibrate,
    calibrate_on,
    confidence,
    expected_calibration_error,
    surprise,
)
from minittt.evaluation.evaluate import Answers
from minittt.talker import Declining, Reply
from minittt.world.lexicon import NOT_UNDERSTOOD


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


@given(st.floats(-5, 3))
def test_surprise_is_the_log_of_the_nats_a_token(x):
    assert surprise(math.exp(-math.exp(x))) == pytest.approx(x, abs=0.02)
    assert surprise(1.0) == pytest.approx(math.log(1e-4))  # no certainty counts for more than this


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


def replies_of(texts: list[str], certainty: float) -> list[Reply]:
    return [Reply(text=text, log_p=[math.log(certainty)] * 3) for text in texts]


class Knowing:
    """In place of a talker: all that calibration asks of one that was taught to decline."""

    words = NOT_UNDERSTOOD.split()

    def always_guess(self):
        return self


def test_it_is_fitted_to_replies_that_are_right_word_for_word(monkeypatch):
    asked = {"family": "qa", "messages": [["system", "answer"], ["user", 0], ["assistant", "two three"]]}
    dictated = {**asked, "messages": [["system", "transcribe"], *asked["messages"][1:]]}
    sure = replies_of(["two three"] * 18 + ["two"] * 2, 0.999)
    unsure = replies_of(["Two three."] * 4 + ["three"] * 16, 0.6)
    answers = Answers([asked] * 20 + [dictated] * 20, sure + unsure)
    monkeypatch.setattr(module, "ask", lambda *args: answers)
    found, declining = calibrate_on(Knowing(), None, answers.records)
    # 18 answers are right and none of them may be lost; what is right as a dictation does not count
    assert declining == Declining(pytest.approx(0.999), NOT_UNDERSTOOD, "answer")
    assert (found.items, found.right) == (40, 22 / 40)
    info = {"confidence": found.as_field()}
    assert confidence(info, 0.999) == pytest.approx(0.9, abs=0.03)
    assert confidence(info, 0.6) == pytest.approx(0.2, abs=0.03)
    assert confidence({"confidence": None}, 0.9) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.floats(0, 0.5))
def test_declining_loses_no_more_right_answers_than_it_may_and_could_not_refuse_more(certainties, share):
    below = below_which_few_are_right(certainties, share)
    lost = sum(certainty < below for certainty in certainties)
    assert lost <= share * len(certainties)
    higher = [certainty for certainty in certainties if certainty > below]
    if higher:  # the next threshold that differs would lose too many
        assert sum(certainty < min(higher) for certainty in certainties) > share * len(certainties)


def test_nothing_to_calibrate_on_is_said(monkeypatch):
    with pytest.raises(MinitttError, match="no record to calibrate on"):
        calibrate_on(Knowing(), None, [])
    records = [{"family": "asr", "messages": [["user", 0], ["assistant", "two"]]}] * 3
    monkeypatch.setattr(module, "ask", lambda *args: Answers(records, replies_of(["two"] * 3, 0.9)))
    with pytest.raises(MinitttError, match="all 3 answers are right"):
        calibrate_on(Knowing(), None, records)


def test_the_calibration_error_of_a_perfect_and_of_a_boastful_forecast():
    right = [True] * 3 + [False]
    assert expected_calibration_error([0.75] * 4, right) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, right) == pytest.approx(0.25)
    assert expected_calibration_error([0.95, 0.95, 0.05, 0.05], [True, True, False, True]) == pytest.approx(
        0.25
    )
