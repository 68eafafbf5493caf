"""Recordings as microphones and rooms make them: silence, noise, reverberation, narrow bands, clipping, MP3, any level.

The corpus is clean, but users sit in rooms. `record` puts a voice into one, as `draw_recording` draws it. `record` also
returns the clean voice, aligned with the recording, so that a codec can learn to leave the room out of its tokens.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

PEAK = 0.7  # peak of a voice before anything is done to it


@dataclass(frozen=True)
class Recording:
    """How a voice is recorded. None, 0 or infinity switches an effect off."""

    level: float = 0.0  # dB, of everything, relative to a voice with the peak PEAK
    before: float = 0.0  # seconds of silence, or of the room's noise
    after: float = 0.0
    noise: float = np.inf  # dB that the voice is above the room's noise
    tilt: float = 0.0  # dB per octave by which that noise falls
    reverberation: float = 0.0  # seconds until an echo has fallen by 60 dB
    direct: float = 6.0  # dB that the direct sound is above all echoes together
    low: float = 0.0  # Hz: the band of the microphone
    high: float = np.inf  # Hz
    clipped: float = 0.0  # dB by which the loudest parts exceed what the microphone can take
    mp3: bool = False
    offset: float = 0.0  # constant, added to all samples


def record(
    wave: np.ndarray, how: Recording, sample_rate: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """wave (samples,) in a room -> what the microphone delivers, and the clean voice aligned with it, both (samples',)."""
    before = round(how.before * sample_rate)
    after = round(how.after * sample_rate)
    clean = np.pad(wave.astype(np.float64), (before, after))
    heard = clean
    # 1. The room.
    if how.reverberation > 0:
        heard = np.convolve(heard, echoes(how, sample_rate, rng))[: len(clean)]
    if np.isfinite(how.noise):
        heard = heard + room_noise(len(clean), how.tilt, sample_rate, rng) * _rms(wave) * _factor(-how.noise)
    # 2. The microphone.
    if how.low > 0 or how.high < sample_rate / 2:
        heard = band(heard, how.low, how.high, sample_rate)
    heard = heard * _factor(how.level)
    if how.clipped > 0:
        most = np.abs(heard).max() * _factor(-how.clipped)
        heard = np.clip(heard, -most, most)
    heard = heard + how.offset
    # 3. The file.
    heard = np.clip(heard, -1, 1)
    if how.mp3:
        heard = through_mp3(heard, sample_rate)
    return heard.astype(np.float32), clean.astype(np.float32)


def draw_recording(rng: np.random.Generator) -> Recording:
    """Draw any of these effects, often several at once: a third of recordings are good, the rest are not."""
    how: dict[str, Any] = {
        "level": rng.uniform(-35, 0),
        "before": rng.uniform(0, 1.2),
        "after": rng.uniform(0, 1.2),
    }
    if rng.random() < 0.33:
        return Recording(**how, noise=rng.uniform(30, 50))
    if rng.random() < 0.7:
        how["noise"] = rng.uniform(8, 35)
        how["tilt"] = rng.uniform(0, 6)
    if rng.random() < 0.4:
        how["reverberation"] = rng.uniform(0.1, 0.7)
        how["direct"] = rng.uniform(-2, 10)
    if rng.random() < 0.3:
        how["low"] = rng.uniform(50, 300)
        how["high"] = rng.uniform(2500, 4000)
    if rng.random() < 0.1:
        how["clipped"] = rng.uniform(3, 12)
    if rng.random() < 0.05:
        how["mp3"] = True
    if rng.random() < 0.1:
        how["offset"] = rng.uniform(-0.1, 0.1)
    return Recording(**how)


def echoes(how: Recording, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """An impulse response (samples,): the direct sound, then noise that falls by 60 dB in `how.reverberation` seconds."""
    n = max(2, round(how.reverberation * sample_rate))
    seconds = np.arange(n) / sample_rate
    tail = rng.normal(size=n) * 10 ** (-3 * seconds / how.reverberation)
    tail[: max(1, round(0.002 * sample_rate))] = 0  # the nearest wall
    tail *= _factor(-how.direct) / np.sqrt((tail**2).sum() + 1e-12)
    tail[0] = 1.0
    return tail


def room_noise(n: int, tilt: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) noise with a root mean square of 1 that falls by `tilt` dB per octave above 100 Hz."""
    if n == 0:
        return np.zeros(0)
    spectrum = np.fft.rfft(rng.normal(size=n))
    frequency = np.fft.rfftfreq(n, 1 / sample_rate)
    octaves = np.log2(np.maximum(frequency, 100.0) / 100.0)
    noise = np.fft.irfft(spectrum * 10 ** (-tilt * octaves / 20), n)
    return noise / (_rms(noise) + 1e-12)


def band(wave: np.ndarray, low: float, high: float, sample_rate: int) -> np.ndarray:
    """(samples,) limited to low..high Hz; outside, it falls by 24 dB per octave."""
    spectrum = np.fft.rfft(wave)
    frequency = np.maximum(np.fft.rfftfreq(len(wave), 1 / sample_rate), 1.0)
    gain = np.ones(len(frequency))
    if low > 0:
        gain *= np.minimum(1.0, (frequency / low) ** 4)
    if np.isfinite(high):
        gain *= np.minimum(1.0, (high / frequency) ** 4)
    return np.fft.irfft(spectrum * gain, len(wave))


def through_mp3(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,) written as MP3 and read back, aligned with the original."""
    file = io.BytesIO()
    soundfile.write(file, wave, sample_rate, format="MP3")
    file.seek(0)
    read, _ = soundfile.read(file)
    if len(read) < len(wave):
        read = np.pad(read, (0, len(wave) - len(read)))
    return read[: len(wave)]


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


def _factor(decibels: float) -> float:
    """A difference in dB as an amplitude factor."""
    return 10 ** (decibels / 20)
