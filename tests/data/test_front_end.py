"""Whatever the level, the offset and the silence around it, the same words reach the codec."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec, read_audio
from minittt.data import front_end
from minittt.data.front_end import (
    FRONT_ENDS,
    NAME,
    at_level,
    decibels,
    edges,
    front_end_named,
    listen,
    loudest,
)
from minittt.errors import MinitttError
from minittt.settings import samples_folder
from minittt.talker import Talker, decoding_settings
from minittt.world.recordings import read_metadata

SAMPLES = samples_folder()
RATE = 8000
QUESTIONS = [read_audio(SAMPLES / "wav" / f"question_{i}.wav", RATE) for i in (1, 2, 3)]
SEEDS = st.integers(0, 2**31 - 1)


def tone(seconds: float, hertz: float = 440.0, amplitude: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return amplitude * np.sin(2 * np.pi * hertz * time)


def noise(n: int, rms: float, seed: int = 0) -> np.ndarray:
    return rms * np.random.default_rng(seed).normal(size=n)


@given(st.sampled_from([0, 1, 2]), st.floats(-40, 0))
def test_a_quieter_recording_gives_the_same_wave(which, level):
    wave = QUESTIONS[which]
    quiet = wave * 10 ** (level / 20)
    np.testing.assert_allclose(listen(quiet, RATE), listen(wave, RATE), atol=1e-5)


@given(st.floats(-0.3, 0.3))
def test_an_offset_gives_the_same_wave(offset):
    wave = QUESTIONS[0]
    np.testing.assert_allclose(listen(wave + offset, RATE), listen(wave, RATE), atol=1e-5)


@given(st.floats(0, 2.0), st.floats(0, 2.0))
def test_silence_on_either_side_leaves_the_margins_alone(before, after):
    """A tone of half a second is found where it is, to two windows, whatever silence lies around it."""
    wave = np.concatenate([np.zeros(round(before * RATE)), tone(0.5), np.zeros(round(after * RATE))])
    start, stop = edges(wave, RATE)
    slack = 2 * front_end.WINDOW
    assert start / RATE == pytest.approx(max(0, before - front_end.BEFORE), abs=slack)
    assert stop / RATE == pytest.approx(min(before + 0.5 + front_end.AFTER, len(wave) / RATE), abs=slack)


@given(SEEDS, st.floats(10, 40), st.floats(0.3, 1.2), st.floats(0.3, 1.2))
def test_room_noise_is_not_taken_for_speech(seed, ratio, before, after):
    """Down to 10 dB: no more than a fifth of a second beside the margins is kept, and of the tone nothing is lost."""
    speech = tone(0.6)
    pads = round(before * RATE), round(after * RATE)
    wave = np.pad(speech, pads) + noise(len(speech) + sum(pads), 0.3 / np.sqrt(2) * 10 ** (-ratio / 20), seed)
    start, stop = edges(wave, RATE)
    assert before - front_end.BEFORE - 0.2 <= start / RATE <= before
    assert before + 0.6 <= stop / RATE <= before + 0.6 + front_end.AFTER + 0.2


def test_a_click_is_neither_speech_nor_loud():
    quiet = tone(0.5, amplitude=0.05)
    wave = np.concatenate([np.zeros(RATE), quiet, np.zeros(RATE)])
    wave[RATE // 2] = 1.0  # half a second before
    start, _ = edges(wave, RATE)
    assert start > RATE // 2
    assert np.abs(at_level(wave, RATE)[RATE : RATE + 4000]).max() > 0.2


@given(SEEDS, st.floats(0.01, 3.0))
def test_the_loudest_part_has_the_level(seed, scale):
    wave = noise(RATE, 0.02 * scale, seed)
    assert loudest(decibels(at_level(wave, RATE), RATE)) == pytest.approx(
        20 * np.log10(front_end.LEVEL), abs=0.1
    )


@pytest.mark.parametrize("n", [0, 1, 5, 100, 8000])
def test_silence_and_next_to_nothing_come_back(n):
    for wave in (np.zeros(n), np.full(n, 0.25), noise(n, 1e-7)):
        heard = listen(wave, RATE)
        assert heard.dtype == np.float32
        assert len(heard) <= n
        assert np.isfinite(heard).all()
        assert len(heard) == 0 or np.abs(heard).max() < 1e-3


def test_a_front_end_is_found_by_its_name():
    assert front_end_named(NAME) is listen
    wave = QUESTIONS[0]
    for nothing in ("none", None):
        assert front_end_named(nothing)(wave, RATE) is wave
    with pytest.raises(MinitttError, match="no front end 'listen-9'.*none, listen-1"):
        front_end_named("listen-9")
    assert set(FRONT_ENDS) == {"none", "listen-1"}


def test_codes_survive_level_and_offset():
    """Through the shipped codec: 95 in 100 codes of a question at -30 dB, with an offset, are its own."""
    codec = Codec.load(SAMPLES / "codec.safetensors")
    for wave in QUESTIONS:
        padded = np.pad(wave, (800, 1200))
        plain = listen(padded, RATE)
        disturbed = listen(padded * 0.03 + 0.01, RATE)
        assert abs(len(plain) - len(disturbed)) <= front_end.HOP * RATE
        ours, theirs = (codec.encode_many([heard])[0][0].tolist() for heard in (plain, disturbed))
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        assert same >= 0.95 * max(len(ours), len(theirs))


def test_words_survive_level_and_silence():
    """Through the shipped talker, which hears none of nine right at -30 dB with .7 s of silence around: eight or nine."""
    talker = Talker.load(SAMPLES / "talker.safetensors")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    heard = []
    for row in read_metadata(SAMPLES / "wav"):
        wave = read_audio(row["file"], RATE)
        far = np.pad(wave * 0.03, (5600, 5600)) + 0.01
        codes = talker.listen(codec, listen(far, RATE))
        heard.append([["system", "transcribe"], ["user", codes]])
    replies = talker.converse(heard, replace(decoding_settings(), max_spans=0))
    said = [row["text"] for row in read_metadata(SAMPLES / "wav")]
    right = [reply.text == text for reply, text in zip(replies, said, strict=True)]
    assert sum(right) >= len(right) - 1
