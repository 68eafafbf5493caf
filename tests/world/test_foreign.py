"""What was not taught is made in many ways, holds none of the taught sentences, and gets one reply."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import write_audio
from minittt.errors import MinitttError
from minittt.world import foreign, lexicon
from minittt.world.foreign import KINDS, OTHER_WORDS, PHRASES, Recordings
from minittt.world.lexicon import NOT_UNDERSTOOD
from minittt.world.peopled_world import PeopledWorld, synthesise
from minittt.world.users import Users


@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_every_kind_gives_a_sound_and_one_seed_the_same(kind, seed):
    wave, again = (foreign.foreign(kind, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(wave, again)
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() == pytest.approx(0.7, abs=1e-3)
    assert 0.2 * 8000 < len(wave) < 12 * 8000


def test_other_words_are_other_words_and_the_languages_of_the_tests_are_not_heard():
    assert not set(OTHER_WORDS) & {*lexicon.WORDS, "how", "much"}
    assert len(set(OTHER_WORDS)) > 120
    assert not {"fr", "it", "ru", "es"} & set(PHRASES)
    assert all(len(phrases.split("|")) >= 5 for phrases in PHRASES.values())


def test_the_reply_to_it_is_always_the_same_and_spoken_where_an_answer_is_due():
    world = PeopledWorld(random.Random(0), crowd=Users())
    kinds = set()
    for _ in range(200):
        (_, instruction), (_, heard), (_, text, *speech) = world.foreign()
        utterance = world.utterances[heard]
        kinds.add(utterance["voice"])
        assert utterance["recorded"]
        assert text == NOT_UNDERSTOOD
        assert len(speech) == (1 if instruction == "answer" else 0)
        for number in speech:
            assert world.utterances[number]["text"] == NOT_UNDERSTOOD
            assert world.utterances[number]["voice"] in lexicon.REPLY
    assert kinds == set(KINDS)
    assert len(synthesise(world.utterances[0], 0, Users())) > 0


# ---- recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two kinds: music, one long file; speech, words of two speakers, each speaker at a frequency of their own."""
    folder = tmp_path_factory.mktemp("foreign")
    seconds = {"music/long.wav": (30, 100), "speech/ann/1.flac": (0.4, 400), "speech/ann/2.flac": (0.3, 400)}
    seconds |= {"speech/bob/1.wav": (0.5, 1200), "speech/bob/deep/readme.txt": (0, 0)}
    for name, (length, hertz) in seconds.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no recording", encoding="utf-8")
            continue
        time = np.arange(int(length * 8000)) / 8000
        write_audio(path, (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), 8000)
    return folder


def loudest_hertz(wave: np.ndarray) -> float:
    """The frequency with the largest amplitude."""
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * 8000 / len(wave))


@given(seed=st.integers(0, 10_000))
def test_a_piece_is_of_one_kind_and_one_speaker_and_as_long_as_a_question(folder, seed):
    recordings = Recordings(folder)
    assert recordings.kinds == ("music", "speech")
    shortest, longest = Recordings.LENGTHS
    for kind, frequencies in (("music", (100,)), ("speech", (400, 1200))):
        wave, again = (recordings.draw(kind, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(wave, again)
        assert shortest * 8000 <= len(wave) <= longest * 8000
        assert np.abs(wave).max() == pytest.approx(0.7, abs=1e-3)
        assert min(abs(loudest_hertz(wave) - hertz) for hertz in frequencies) < 5
        spectrum = np.abs(np.fft.rfft(wave))
        others = [hertz for hertz in (100, 400, 1200) if abs(loudest_hertz(wave) - hertz) > 5]
        for hertz in others:
            assert spectrum[round(hertz * len(wave) / 8000)] < 0.2 * spectrum.max()


def test_where_there_are_recordings_most_of_what_is_foreign_is_cut_from_them(folder):
    world = PeopledWorld(random.Random(0), crowd=Users(foreign=folder))
    kinds = []
    for _ in range(200):
        (_, _), (_, heard), (_, text, *_) = world.foreign()
        kinds.append(world.utterances[heard]["voice"])
        assert text == NOT_UNDERSTOOD
    recorded = [kind for kind in kinds if kind.startswith("recorded ")]
    assert {*KINDS, "recorded music", "recorded speech"} == set(kinds)
    assert 0.5 < len(recorded) / len(kinds) < 0.7
    utterance = next(u for u in world.utterances if u["voice"] == "recorded speech")
    assert len(synthesise(utterance, 0, world.crowd)) > 0


def test_a_folder_without_recordings_is_named(tmp_path):
    (tmp_path / "music").mkdir()
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(MinitttError, match="a folder with a folder of recordings for each kind"):
            Recordings(path)
