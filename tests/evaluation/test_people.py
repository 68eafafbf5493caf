"""People are asked word by word and in strings, and conditions are what their file says."""

import json
from pathlib import Path

import numpy as np
import pytest

from minittt.codec import Codec
from minittt.errors import MinitttError
from minittt.evaluation import people
from minittt.evaluation.people import (
    hear_people,
    read_conditions,
    recorded,
    single_words,
    strings,
    word_error_rate,
)
from minittt.settings import samples_folder
from minittt.talker import Talker
from minittt.world.lexicon import NOT_UNDERSTOOD
from minittt.world.microphone import Recording
from minittt.world.users import Users
from tests.world.test_users import folder_of

CONDITIONS = Path(__file__).parent.parent / "conditions.json"
SAMPLES = samples_folder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = []
    for who in ("ann", "bob"):
        for word in ("one", "two", "three"):
            rows += [(f"{who}_{word}_{i}.wav", word, who) for i in range(2)]
    return folder_of(tmp_path_factory.mktemp("people") / "words", rows)


def test_words_come_in_turn_and_strings_have_their_length(folder):
    crowd = Users(None, folder)
    assert [said.text for said in single_words(crowd, "ann")] == ["one", "three", "two"] * 2
    assert [said.text for said in single_words(crowd, "ann", 2)] == ["one", "three"]
    lengths = [len(said.text.split()) for said in strings(crowd, "bob", 40)]
    assert set(lengths) == {2, 3, 4}
    again = strings(crowd, "bob", 40)
    assert [said.text for said in again] == [said.text for said in strings(crowd, "bob", 40)]


def test_the_conditions_are_those_of_the_file():
    conditions = read_conditions(CONDITIONS)
    seeds = [seed for _, seed in conditions.values()]
    assert len(set(seeds)) == len(seeds) >= 10
    assert conditions["level -30 dB"][0] == Recording(level=-30)
    assert conditions["MP3"][0] == Recording(mp3=True)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"a": {"level": 1}}', '{"a": {"seed": 1, "volume": 3}}', '{"a": 1}']
)
def test_conditions_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "c.json").write_text(content, encoding="utf-8")
    with pytest.raises(MinitttError, match="these are no conditions"):
        read_conditions(tmp_path / "c.json")


def test_a_condition_is_applied_to_every_utterance_with_noise_of_its_own(folder):
    said = strings(Users(None, folder), "ann", 3)
    heard = recorded(said, Recording(noise=10), seed=3)
    assert [one.text for one in heard] == [one.text for one in said]
    noise = [a.wave - b.wave for a, b in zip(heard, said, strict=True)]
    shortest = min(map(len, noise))
    assert not np.allclose(noise[0][:shortest], noise[1][:shortest])
    again = recorded(said, Recording(noise=10), seed=3)
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(heard, again, strict=True))


def test_errors_are_counted_over_words(folder, monkeypatch):
    said = strings(Users(None, folder), "ann", 3)
    texts = [one.text for one in said]
    texts[0] = ""
    monkeypatch.setattr(people, "transcripts", lambda *_: texts)
    score = word_error_rate("ann", None, None, said)
    lost = len(said[0].text.split())
    assert score.value == pytest.approx(lost / sum(len(one.text.split()) for one in said))
    assert score.items == 3


def test_a_refusal_is_no_transcript_of_four_words(folder, monkeypatch):
    said = strings(Users(None, folder), "ann", 3)
    texts = [one.text for one in said]
    texts[0] = NOT_UNDERSTOOD
    monkeypatch.setattr(people, "transcripts", lambda *_: texts)
    score = word_error_rate("ann", None, None, said)
    lost = len(said[0].text.split())
    assert score.value == pytest.approx(lost / sum(len(one.text.split()) for one in said))
    assert score.note == "1 refused"


def test_everybody_is_heard_under_every_condition_and_who_is_not_there_is_named(folder):
    talker = Talker.load(SAMPLES / "talker.safetensors")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    conditions = {"quiet": (Recording(level=-20), 0)}
    scores = hear_people(talker, codec, folder, ["ann"], limit=3, conditions=conditions)
    assert [score.name for score in scores] == [
        "ann: single words wrong",
        "ann: words of strings wrong",
        "ann: quiet",
    ]
    with pytest.raises(MinitttError, match="has no cy; it has ann, bob"):
        hear_people(talker, codec, folder, ["cy"])
    assert json.loads(CONDITIONS.read_text(encoding="utf-8"))
