"""The outside judge: its transcripts are spelled as the talker writes, and what is missing is said."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.errors import MinitttError
from minittt.evaluation.outside_judge import NEEDED, RATE, OutsideJudge, spelled_out
from minittt.world.lexicon import NUMBERS, SUMS, equation


@given(st.sampled_from(SUMS))
def test_an_equation_in_digits_is_the_equation_in_words(fact):
    a, operator, b = fact
    sign = {"plus": "+", "minus": "-"}[operator]
    value = a + b if operator == "plus" else a - b
    assert spelled_out(f" {a} {sign} {b} = {value}. ") == equation(*fact)
    assert spelled_out(f"{a}{sign}{b}={value}") == equation(*fact)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_numbers_are_spelled_out_and_words_stay(numbers):
    words = " ".join(NUMBERS[n] for n in numbers)
    assert spelled_out(", ".join(map(str, numbers)) + ".") == words
    assert spelled_out(words.capitalize() + "!") == words


def test_long_numbers_are_read_digit_by_digit():
    assert spelled_out("472") == "four seven two"
    assert spelled_out("Twenty-one, don't") == "twenty one don't"
    assert spelled_out("") == ""


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(MinitttError, match="model.bin, config.json, tokenizer.json missing"):
        OutsideJudge(tmp_path)
    for name in NEEDED:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MinitttError, match=r"minittt\[judge\]"):
        OutsideJudge(tmp_path)


def test_waves_are_resampled_and_silence_is_not_asked_about(tmp_path, monkeypatch):
    heard = []

    class Whisper:
        def __init__(self, folder, **options):
            pass

        def transcribe(self, wave, **options):
            heard.append(len(wave))
            return [SimpleNamespace(text=" 2 +"), SimpleNamespace(text=" 3.")], None

    module = ModuleType("faster_whisper")
    module.WhisperModel = Whisper
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    for name in NEEDED:
        (tmp_path / name).write_bytes(b"weights")
    judge = OutsideJudge(tmp_path)
    waves = [np.ones(8000, np.float32), np.zeros(0, np.float32)]
    assert judge.transcribe(waves, 8000) == ["two plus three", ""]
    assert heard == [RATE]
    assert judge.name.startswith("whisper ") and len(judge.name) == 16
