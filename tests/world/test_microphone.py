"""A recording is what its description says, and the clean voice lies beside it at the same place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.world import microphone
from minittt.world.microphone import Recording, draw_recording, echoes, record, room_noise

RATE = 8000
SEEDS = st.integers(0, 2**31 - 1)


def voice(seconds: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * 300 * time) * np.hanning(len(time))).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_recording_without_anything_is_the_voice():
    heard, clean = record(voice(), Recording(), RATE, rng())
    np.testing.assert_allclose(heard, voice(), atol=1e-7)
    np.testing.assert_allclose(clean, voice(), atol=1e-7)


@given(SEEDS)
def test_every_recording_is_a_wave_beside_its_clean_voice(seed):
    how = draw_recording(rng(seed))
    heard, clean = record(voice(), how, RATE, rng(seed + 1))
    assert len(heard) == len(clean) == len(voice()) + round(how.before * RATE) + round(how.after * RATE)
    assert heard.dtype == clean.dtype == np.float32
    assert np.abs(heard).max() <= 1.01  # MP3 rings a little
    begin = round(how.before * RATE)
    np.testing.assert_allclose(clean[begin : begin + len(voice())], voice(), atol=1e-6)
    assert not clean[:begin].any()


@given(SEEDS)
def test_one_seed_gives_one_recording(seed):
    one, other = (record(voice(), draw_recording(rng(seed)), RATE, rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])


@given(SEEDS, st.floats(0, 40), st.floats(0, 6))
def test_noise_is_as_loud_as_said(seed, ratio, tilt):
    heard, clean = record(voice(2.0), Recording(noise=ratio, tilt=tilt), RATE, rng(seed))
    found = 20 * np.log10(microphone._rms(clean) / microphone._rms(heard - clean))
    assert found == pytest.approx(ratio, abs=0.2)


@given(SEEDS, st.floats(2, 6))
def test_tilted_noise_falls_by_so_much_an_octave(seed, tilt):
    power = np.abs(np.fft.rfft(room_noise(20 * RATE, tilt, RATE, rng(seed)))) ** 2
    at = lambda hertz: power[20 * hertz : 40 * hertz].mean()  # noqa: E731  one octave
    assert 10 * np.log10(at(500) / at(1000)) == pytest.approx(tilt, abs=0.5)


@given(SEEDS, st.floats(0.1, 0.8), st.floats(-3, 12))
def test_echoes_decay_and_are_as_far_below_the_direct_sound_as_said(seed, seconds, direct):
    response = echoes(Recording(reverberation=seconds, direct=direct), RATE, rng(seed))
    assert response[0] == 1.0
    tail = response[1:]
    assert -10 * np.log10((tail**2).sum()) == pytest.approx(direct, abs=1e-6)
    half = len(tail) // 2  # 30 dB lower
    early, late = (tail[:half] ** 2).sum(), (tail[half:] ** 2).sum()
    assert 10 * np.log10(early / late) > 20


def test_level_clipping_offset_and_band():
    wave = voice()
    quiet, _ = record(wave, Recording(level=-20), RATE, rng())
    np.testing.assert_allclose(quiet, wave * 0.1, atol=1e-6)
    clipped, _ = record(wave, Recording(clipped=6.0206), RATE, rng())
    assert np.abs(clipped).max() == pytest.approx(np.abs(wave).max() / 2, rel=1e-3)
    shifted, _ = record(wave, Recording(offset=0.1), RATE, rng())
    np.testing.assert_allclose(shifted, wave + 0.1, atol=1e-6)
    narrow, _ = record(wave, Recording(low=1200), RATE, rng())  # two octaves above the tone: 48 dB
    assert microphone._rms(narrow) < 0.02 * microphone._rms(wave)


def test_mp3_keeps_place_and_length():
    wave = voice()
    heard, _ = record(wave, Recording(mp3=True), RATE, rng())
    assert len(heard) == len(wave)
    assert np.corrcoef(heard, wave)[0, 1] > 0.95
    assert not np.array_equal(heard, wave)  # it was coded
