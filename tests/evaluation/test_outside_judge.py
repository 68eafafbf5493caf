"""The outside judge: its transcripts are spelled as the talker writes, and what is missing is said."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.errors import MinitttError
from minittt.evaluation import outside_judge
from minittt.evaluation.outside_judge import NEEDED, RATE, OutsideJudge, WordJudge, spelled_out
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
    told = []

    class Whisper:
        def __init__(self, folder, **options):
            pass

        def transcribe(self, wave, **options):
            heard.append(len(wave))
            told.append(options["initial_prompt"])
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
    judge.transcribe(waves[:1], 8000, ["one two", "two plus two equals four"])
    assert told == [None, "One two. Two plus two equals four."]
    assert judge.name.startswith("whisper ") and len(judge.name) == 16


def test_a_word_judge_hears_one_of_its_words_in_any_level_and_nothing_in_silence(monkeypatch):
    heard = []

    class Decoder:
        def __init__(self, lm, samprate, loglevel):
            self.grammars = {}

        def add_jsgf_string(self, name, grammar):
            self.grammars[name] = grammar

        def activate_search(self, name):
            self.words = self.grammars[name]

        def start_utt(self):
            pass

        def process_raw(self, samples, full_utt):
            heard.append(np.frombuffer(samples, np.int16))

        def end_utt(self):
            pass

        def hyp(self):
            return SimpleNamespace(hypstr="two")

    module = ModuleType("pocketsphinx")
    module.Decoder = Decoder
    monkeypatch.setitem(sys.modules, "pocketsphinx", module)
    monkeypatch.setattr(outside_judge, "version", lambda package: "0")
    judge = WordJudge(("one", "two"))
    assert "<word> = one | two;" in judge.decoder.words
    tone = np.sin(np.arange(4000) / 5).astype(np.float32)
    assert judge.transcribe([tone, 0.01 * tone, np.zeros(4000, np.float32)], 8000) == ["two", "two", ""]
    loud, quiet = heard
    assert len(loud) == 8000 + 2 * 0.3 * RATE
    assert np.abs(loud - quiet.astype(int)).max() <= 2
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MinitttError, match=r"minittt\[judge\]"):
        WordJudge()
