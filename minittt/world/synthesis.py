"""Sounds of the spoken world: a speech synthesiser in process, and a few sounds that are not speech.

Speech comes from espeak-ng through `espeakng-loader` (extra `[data]`): the library and its voices ship in one wheel.
All waveforms are float32 mono in [-1, 1] at `SAMPLE_RATE` Hz.
"""

import ctypes
import sys
from functools import cache

import numpy as np
import soxr

from minittt.errors import MinitttError

SAMPLE_RATE = 8000  # Hz: enough for words and voices, and cheap to learn from
_SYNCHRONOUS, _UTF8 = 2, 1  # espeak_AUDIO_OUTPUT, and a flag of espeak_Synth
_DO_NOT_EXIT = 0x8000  # option of espeak_Initialize: report an error instead of ending the process
_RATE, _PITCH = 1, 3  # espeak_PARAMETER numbers
_LONGEST_PATH = 159  # bytes: all that libespeak-ng has room for
_SILENCE = 0.004  # amplitude under which the ends of an utterance are cut away


@cache
def _paths() -> tuple[str, bytes]:
    """Where the library and its data are. Raises MinitttError if they are missing, or their path is too long for it."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise MinitttError("speech synthesis needs espeakng-loader: pip install 'minittt[data]'") from error
    data = espeakng_loader.get_data_path().encode()
    if len(data) > _LONGEST_PATH:
        raise MinitttError(
            f"espeak-ng cannot read its data from a path of {len(data)} bytes, {_LONGEST_PATH} at most: "
            "install espeakng-loader in a folder less deep"
        )
    return espeakng_loader.get_library_path(), data


def _unload(library: ctypes.CDLL) -> None:
    """Unload a library from the process, and with it all that it remembers."""
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _seed(library: ctypes.CDLL) -> None:
    """Seed both sources of randomness: espeak's own generator (seeded by the clock at its start), and libc's."""
    library.espeak_ng_SetRandSeed(1)
    libc = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    libc.srand(1)


def _speak(text: str, voice: str, rate: int, pitch: int) -> tuple[np.ndarray, int]:
    """(samples,) float32 and their sample rate, straight from libespeak-ng; the same in every call and every process.

    libespeak-ng remembers where its oscillators, flutter and noise were when the last utterance ended, even across
    espeak_Terminate: the second call in a process gives different samples from the first, and a few more or fewer of
    them. No call resets this. So the library is loaded for each utterance, seeded, and unloaded (7 ms per utterance;
    keeping it loaded took 3).
    """
    path, data = _paths()
    library = ctypes.CDLL(path)
    try:
        sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
        if sample_rate <= 0:
            raise MinitttError("espeak-ng cannot read its data: reinstall espeakng-loader")
        chunks: list[np.ndarray] = []

        def collect(samples, count, _events) -> int:
            """Called by espeak-ng with each piece of sound: keep a copy; 0 means "go on"."""
            if count > 0 and samples:
                chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
            return 0

        prototype = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        callback = prototype(collect)  # it needs a name: ctypes would free it while the library uses it
        library.espeak_SetSynthCallback(callback)
        _seed(library)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise MinitttError(
                f"espeak-ng has no voice {voice!r}; a voice is a language and a variant, as en-us+f2"
            )
        library.espeak_SetParameter(_RATE, rate, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        encoded = text.encode() + b"\0"
        library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        library.espeak_Terminate()
    finally:
        _unload(library)
    if not chunks:
        raise MinitttError(f"espeak-ng said nothing for {text!r}: give it words")
    return np.concatenate(chunks).astype(np.float32) / 32768, sample_rate


def say(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50) -> np.ndarray:
    """Speak `text`. rate in words per minute, pitch from 0 to 99 (50 is the voice's own). Returns (samples,) float32.

    Silence at both ends is cut to a few hundredths of a second; the peak is 0.7. Equal arguments give equal samples.
    """
    wave, sample_rate = _speak(text, voice, rate, pitch)
    return trim(soxr.resample(wave, sample_rate, SAMPLE_RATE))


def trim(wave: np.ndarray) -> np.ndarray:
    """(samples,) at 8 kHz with all but a few hundredths of a second of silence cut from both ends, and a peak of .7."""
    loud = np.flatnonzero(np.abs(wave) > _SILENCE)
    if len(loud):
        wave = wave[max(0, loud[0] - SAMPLE_RATE // 50) : loud[-1] + SAMPLE_RATE // 25]
    return (wave / (np.abs(wave).max() + 1e-6) * 0.7).astype(np.float32)


def vary(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rendition as a cheap microphone hears it: gain between -6 and +2 dB, white noise 30 to 50 dB under the peak."""
    white = rng.normal(size=len(wave))
    noise = white * 0.7 * _amplitude(-rng.uniform(30, 50))
    gain = _amplitude(rng.uniform(-6, 2))
    return np.clip((wave + noise) * gain, -1, 1).astype(np.float32)


def _amplitude(decibels):
    """A level in dB as a factor."""
    return 10 ** (decibels / 20)


def disguise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A perturbed voice: formants and tempo moved by up to 10 %, the spectrum tilted by up to 8 dB either way.

    Training on such renditions is what prepares a talker for voices it has never heard.
    """
    factor = rng.uniform(0.9, 1.1)
    # resampled, and then played at the old rate: all frequencies are divided by the factor
    wave = soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE * factor)
    return tilted(wave, rng)


def tilted(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(samples,) with a different spectrum: the gain at five frequencies is drawn up to 8 dB either way; peak .7."""
    knots = rng.uniform(-8, 8, 5)  # dB, evenly spaced from 0 Hz to half the sample rate
    spectrum = np.fft.rfft(wave)
    place = np.linspace(0, 4, len(spectrum))  # the place of each frequency among the knots
    gain = np.interp(place, np.arange(5), knots)  # dB
    wave = np.fft.irfft(spectrum * _amplitude(gain), len(wave))
    peak = np.abs(wave).max() + 1e-6
    return (wave / peak * 0.7).astype(np.float32)


def _fade(wave: np.ndarray) -> np.ndarray:
    """Ramp both ends over 10 ms, so that no sound begins or ends with a click."""
    edge = min(SAMPLE_RATE // 100, len(wave) // 2)
    ramp = np.ones(len(wave))
    ramp[:edge] = np.linspace(0, 1, edge)
    ramp[len(wave) - edge :] = np.linspace(1, 0, edge)
    return wave * ramp


def _seconds(duration: float) -> np.ndarray:
    return np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE


def _beeps(rng: np.random.Generator, rising: bool) -> np.ndarray:
    """Three or four tones, each higher (or lower) than the last, with short gaps."""
    lowest = 350 * 1.25 ** rng.uniform(0, 2)  # Hz
    interval = rng.uniform(1.25, 1.5)
    pitches = lowest * interval ** np.arange(rng.integers(3, 5))
    if not rising:
        pitches = pitches[::-1]
    time = _seconds(rng.uniform(0.12, 0.2))
    gap = np.zeros(int(rng.uniform(0.03, 0.08) * SAMPLE_RATE))
    parts = []
    for pitch in pitches:
        parts.append(_fade(np.sin(2 * np.pi * pitch * time)))
        parts.append(gap)
    return np.concatenate(parts[:-1])


def _noise_bursts(rng: np.random.Generator) -> np.ndarray:
    parts = []
    for _ in range(rng.integers(2, 5)):
        n_burst = int(rng.uniform(0.08, 0.2) * SAMPLE_RATE)
        parts.append(_fade(0.5 * rng.normal(size=n_burst)))
        n_gap = int(rng.uniform(0.06, 0.15) * SAMPLE_RATE)
        parts.append(np.zeros(n_gap))
    return np.concatenate(parts[:-1])


def _hum(rng: np.random.Generator, low: bool) -> np.ndarray:
    """A steady tone with a few harmonics."""
    lowest, highest = (80, 140) if low else (500, 900)  # Hz
    pitch = rng.uniform(lowest, highest)
    time = _seconds(rng.uniform(0.6, 1.2))
    wave = np.zeros(len(time))
    for harmonic in (1, 2, 3):
        phase = rng.uniform(0, 6.3)
        wave += np.sin(2 * np.pi * pitch * harmonic * time + phase) / harmonic
    return _fade(wave)


SOUNDS = {
    "rising beeps": lambda rng: _beeps(rng, rising=True),
    "falling beeps": lambda rng: _beeps(rng, rising=False),
    "noise bursts": _noise_bursts,
    "a low hum": lambda rng: _hum(rng, low=True),
    "a high hum": lambda rng: _hum(rng, low=False),
}


def sound(name: str, rng: np.random.Generator) -> np.ndarray:
    """A new rendition of a sound that is not speech; names are the keys of `SOUNDS`. Returns (samples,) float32."""
    if name not in SOUNDS:
        raise MinitttError(f"no sound is called {name!r}; there are: {', '.join(SOUNDS)}")
    wave = np.clip(SOUNDS[name](rng), -3, 3)
    return (wave / (np.abs(wave).max() + 1e-6) * 0.6).astype(np.float32)
