"""What is done to every waveform that is listened to, before the codec encodes it: offset removed, edges cut, level set.

A codec gives a quiet recording other tokens than a loud one, and a talker trained on recordings that begin with speech
is lost after half a second of silence. So whatever listens (talk, transcribe, caption, evaluate, data import) and whatever
makes a corpus passes its waves through here. The front end that a corpus was made with is named in its header, and in that
of every talker trained on it: `front_end_named` finds it.
"""

from collections.abc import Callable

import numpy as np

from minittt.data.headers import NO_FRONT_END
from minittt.errors import MinitttError

FrontEnd = Callable[[np.ndarray, int], np.ndarray]  # wave (samples,) and its rate in Hz -> wave (samples',)

LOWEST = 60.0  # Hz: below it there is offset, drift and rumble, but no voice
LEVEL = 0.2  # of the loudest tenth of a second, as root mean square; voices peak at about three times that
WINDOW = 0.030  # seconds over which power is averaged
HOP = 0.005  # seconds between two averages
LOUD = 0.100  # seconds: a sound that is loud for less than this is a click
SHORTEST = 0.040  # seconds: a sound that stands out for less is a click, too
DEEPEST = 35.0  # dB below the loudest part: the faintest that counts as speech in a quiet room
SHARE = 0.6  # of the distance between the loudest part and the background, where that is smaller
BEFORE = 0.100  # seconds kept before the first sound: soft consonants
AFTER = 0.150  # seconds kept after the last one


def listen(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """The front end called "listen-1": wave (samples,) in [-1, 1] at sample_rate Hz -> (samples',) float32.

    A wave without any sound comes back unchanged.
    """
    wave = without_offset(wave, sample_rate)
    start, stop = edges(wave, sample_rate)
    return at_level(wave[start:stop], sample_rate)


NAME = "listen-1"
FRONT_ENDS: dict[str, FrontEnd] = {
    NO_FRONT_END: lambda wave, sample_rate: wave,
    NAME: listen,
}


def front_end_named(name: str | None) -> FrontEnd:
    """The front end that a header names. Raises MinitttError for one that this version does not have."""
    name = name or NO_FRONT_END
    if name not in FRONT_ENDS:
        raise MinitttError(
            f"there is no front end {name!r}; this version has {', '.join(FRONT_ENDS)}: update minittt"
        )
    return FRONT_ENDS[name]


def without_offset(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,) without what is below LOWEST Hz; the gain rises smoothly over half an octave."""
    if len(wave) == 0:
        return wave.astype(np.float32)
    spectrum = np.fft.rfft(wave)
    frequency = np.fft.rfftfreq(len(wave), 1 / sample_rate)  # Hz
    octaves_above = np.log2(np.maximum(frequency, 1e-9) / (LOWEST / np.sqrt(2)))
    rise = np.clip(2 * octaves_above, 0, 1)  # from 0 to 1 between LOWEST / sqrt 2 and LOWEST
    gain = np.sin(np.pi / 2 * rise) ** 2
    return np.fft.irfft(spectrum * gain, len(wave)).astype(np.float32)


def decibels(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power over WINDOW seconds, every HOP seconds: (frames,) in dB, frame i centred at i * HOP seconds."""
    half = max(1, round(WINDOW / 2 * sample_rate))
    hop = max(1, round(HOP * sample_rate))
    padded = np.pad(wave.astype(np.float64) ** 2, (half, half))
    total = np.concatenate([[0.0], padded.cumsum()])
    mean = (total[2 * half :] - total[: -2 * half])[:-1:hop] / (2 * half)  # (frames,)
    return 10 * np.log10(np.maximum(mean, 1e-10))


def loudest(power: np.ndarray) -> float:
    """The level in dB that power (frames,) reaches for LOUD seconds in all."""
    frames = min(len(power), round(LOUD / HOP))
    return float(np.sort(power)[-frames])


def edges(wave: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """Where there is something to hear, in samples: from the first to the last sound that stands out, plus a margin.

    What stands out depends on the background, which is taken to be the level that a tenth of the frames stay below.
    """
    if len(wave) == 0:
        return 0, 0
    power = decibels(wave, sample_rate)  # (frames,)
    top = loudest(power)
    background = float(np.percentile(power, 10))
    threshold = top - min(DEEPEST, SHARE * (top - background))
    stands_out = _without_short_runs(power > threshold, round(SHORTEST / HOP))
    found = np.flatnonzero(stands_out)
    if len(found) == 0:
        return 0, len(wave)
    start = (found[0] * HOP - BEFORE) * sample_rate
    stop = (found[-1] * HOP + AFTER) * sample_rate
    return max(0, round(start)), min(len(wave), round(stop))


def _without_short_runs(flags: np.ndarray, shortest: int) -> np.ndarray:
    """flags (frames,) bool without runs of True that are shorter than `shortest` frames."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    kept = np.zeros_like(flags)
    for begin, end in zip(changes[::2], changes[1::2], strict=True):
        if end - begin >= shortest:
            kept[begin:end] = True
    return kept


def at_level(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,) with its loudest tenth of a second at LEVEL; what would then exceed 1 is clipped. Silence stays."""
    if len(wave) == 0:
        return wave.astype(np.float32)
    rms = 10 ** (loudest(decibels(wave, sample_rate)) / 20)
    if rms <= 2e-5:  # digital silence, or as good as
        return wave.astype(np.float32)
    return np.clip(wave * (LEVEL / rms), -1, 1).astype(np.float32)
