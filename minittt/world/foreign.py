"""What the talker was not taught, so that it learns to say so: other words, other languages, music, noise, mumbling.

A talker that has only ever heard questions takes everything for one and invents an answer. In training, these sounds all
get one reply, `NOT_UNDERSTOOD`. They are made here, or cut from a folder of recordings; measurements must use others:
languages, music and noise not heard in training.
"""

from functools import cache
from pathlib import Path

import numpy as np

from minittt.codec import LONGEST_IN_PIECES, read_audio
from minittt.errors import MinitttError
from minittt.world import lexicon, synthesis
from minittt.world.microphone import band, room_noise

RATE = synthesis.SAMPLE_RATE
OTHER_WORDS = (
    "good morning tomorrow yesterday weather today music light kitchen window please thank you where when who why which "
    "garden water coffee bread table chair house street car train station ticket paper letter phone message call "
    "mother father brother sister doctor teacher school work office computer "
    "table open close turn on off left right up down stop go "
    "play song red green blue yellow black white big small long short old new happy sad tired hungry cold warm winter "
    "summer spring autumn monday tuesday friday sunday january april july october river mountain forest animal dog cat "
    "horse bird fish apple orange cheese butter sugar salt pepper dinner breakfast lunch friend people children money price "
    "buy sell pay bring take give send read write listen speak learn think know remember forget believe love want need "
    "could should would maybe always never often sometimes because before after under over between behind through around"
).split()
PHRASES = {  # by espeak-ng's name for the language; French, Italian, Russian and Spanish are left to tests
    "de": "guten morgen|wie viel uhr ist es|drei und vier sind sieben|wo ist der bahnhof|eine tasse kaffee bitte|eins zwei",
    "nl": "goede morgen|hoe laat is het|drie en vier is zeven|waar is het station|een kopje koffie|een twee drie",
    "sv": "god morgon|hur mycket är klockan|tre och fyra är sju|var ligger stationen|en kopp kaffe tack|ett två tre",
    "pl": "dzień dobry|która jest godzina|trzy i cztery to siedem|gdzie jest dworzec|poproszę kawę|jeden dwa trzy",
    "tr": "günaydın|saat kaç|üç artı dört yedi eder|istasyon nerede|bir kahve lütfen|bir iki üç",
    "fi": "hyvää huomenta|paljonko kello on|kolme ja neljä on seitsemän|missä asema on|kahvi kiitos|yksi kaksi kolme",
    "hu": "jó reggelt|hány óra van|három meg négy az hét|hol van az állomás|egy kávét kérek|egy kettő három",
    "pt": "bom dia|que horas são|três e quatro são sete|onde fica a estação|um café por favor|um dois três",
    "cs": "dobré ráno|kolik je hodin|tři a čtyři je sedm|kde je nádraží|kávu prosím|jedna dva tři",
    "ro": "bună dimineața|cât este ceasul|trei și patru fac șapte|unde este gara|o cafea vă rog|unu doi trei",
    "id": "selamat pagi|jam berapa sekarang|tiga tambah empat sama dengan tujuh|di mana stasiun|satu kopi|satu dua tiga",
    "sw": "habari ya asubuhi|saa ngapi sasa|tatu na nne ni saba|kituo kiko wapi|kahawa tafadhali|moja mbili tatu",
}
KINDS = ("other words", "other languages", "music", "noise", "mumbling")
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".gsm", ".aiff"}  # of recording files


class Recordings:
    """Recordings of what is not to be understood: a folder with one folder per kind, each with any folders and files in it.

    Short recordings in one folder are taken to be from one speaker: they are joined until they are as long as a question.
    """

    LENGTHS = (0.7, 3.5)  # seconds of a piece
    PAUSE = 0.15  # seconds between joined recordings
    LONGEST = 60  # seconds of a file that are used

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.sources: dict[str, list[list[Path]]] = {}  # by kind, the files of each folder
        kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        for kind in kinds:
            by_folder: dict[Path, list[Path]] = {}
            for path in sorted(kind.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    by_folder.setdefault(path.parent, []).append(path)
            if by_folder:
                self.sources[kind.name] = list(by_folder.values())
        if not self.sources:
            raise MinitttError(f"{folder}: make it a folder with a folder of recordings for each kind")
        self.kinds = tuple(self.sources)

    def draw(self, kind: str, rng: np.random.Generator) -> np.ndarray:
        """A piece of this kind, (samples,) float32 at 8 kHz with a peak of .7."""
        sources = self.sources[kind]
        files = sources[rng.integers(len(sources))]
        length = round(rng.uniform(*self.LENGTHS) * RATE)
        pause = np.zeros(round(self.PAUSE * RATE), np.float32)
        parts: list[np.ndarray] = []
        for _ in range(8):
            wave = _recorded(files[rng.integers(len(files))])
            start = rng.integers(max(1, len(wave) - length))
            parts += [wave[start : start + length], pause]
            if sum(map(len, parts)) >= length:
                break
        wave = np.concatenate(parts)[:length]
        return (wave / (np.abs(wave).max() + 1e-6) * 0.7).astype(np.float32)


@cache
def _recorded(path: Path) -> np.ndarray:
    """The beginning of a recording at 8 kHz, without the silence around it; many pieces are cut from it."""
    wave = read_audio(path, RATE, LONGEST_IN_PIECES)
    return synthesis.trim(wave[: Recordings.LONGEST * RATE])


def foreign(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A new sound of one of KINDS, (samples,) float32 at 8 kHz with a peak of .7."""
    makers = {
        "other words": _other_words,
        "other languages": _other_language,
        "music": _music,
        "noise": _noise,
        "mumbling": _mumbling,
    }
    wave = makers[kind](rng)
    return (wave / (np.abs(wave).max() + 1e-6) * 0.7).astype(np.float32)


def _variant(rng: np.random.Generator) -> str:
    """A user voice without its language: "+m3"."""
    voice = str(rng.choice(lexicon.USER))
    return voice[voice.index("+") :]


def _say(text: str, voice: str, rng: np.random.Generator) -> np.ndarray:
    return synthesis.say(text, voice, int(rng.integers(120, 231)), int(rng.integers(30, 76)))


def _other_words(rng: np.random.Generator) -> np.ndarray:
    """One to seven words that were never taught, now and then with one that was."""
    words = [str(word) for word in rng.choice(OTHER_WORDS, rng.integers(1, 8))]
    if len(words) > 2 and rng.random() < 0.3:
        words[rng.integers(len(words))] = str(rng.choice(lexicon.NUMBERS))
    return _say(" ".join(words), f"en-us{_variant(rng)}", rng)


def _other_language(rng: np.random.Generator) -> np.ndarray:
    language = str(rng.choice(list(PHRASES)))
    phrase = str(rng.choice(PHRASES[language].split("|")))
    return _say(phrase, f"{language}{_variant(rng)}", rng)


def _music(rng: np.random.Generator) -> np.ndarray:
    """A tune, a series of chords, or both: tones on a scale, with harmonics, that are struck and fade."""
    scale = (
        np.array([0, 2, 4, 5, 7, 9, 11, 12]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10, 12])
    )
    root = 110 * 2 ** rng.uniform(0, 2)  # Hz
    beat = rng.uniform(0.12, 0.5)  # seconds
    n_notes = int(rng.integers(4, 14))
    decay = rng.uniform(2, 12)  # per second
    brightness = rng.uniform(0.8, 2.5)
    wave = np.zeros(int((n_notes + 2) * beat * RATE))
    for i in range(n_notes):
        chord = rng.choice(scale, int(rng.integers(1, 5)))
        for step in chord:
            note = _tone(root * 2 ** (step / 12), 2 * beat, decay, brightness)
            begin = int(i * beat * RATE)
            wave[begin : begin + len(note)] += note[: len(wave) - begin]
    return wave


def _tone(hertz: float, seconds: float, decay: float, brightness: float) -> np.ndarray:
    """One struck tone; its harmonics fall as number ** -brightness."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = np.zeros(len(time))
    for harmonic in range(1, 9):
        if harmonic * hertz < RATE / 2:
            wave += np.sin(2 * np.pi * harmonic * hertz * time) * harmonic**-brightness
    attack = np.minimum(1, time / 0.01)
    return wave * attack * np.exp(-decay * time)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Steady noise, gusts or knocks, in any band."""
    n = int(rng.uniform(0.5, 3.0) * RATE)
    wave = room_noise(n, rng.uniform(0, 9), RATE, rng)
    time = np.arange(n) / RATE
    kind = rng.random()
    if kind < 0.35:  # gusts
        wave *= 0.3 + np.abs(np.sin(2 * np.pi * rng.uniform(0.2, 3) * time + rng.uniform(0, 6)))
    elif kind < 0.7:  # knocks
        wave *= np.exp(-rng.uniform(10, 60) * (time % rng.uniform(0.1, 0.8)))
    if rng.random() < 0.5:
        low = rng.uniform(50, 1500)
        wave = band(wave, low, low * rng.uniform(1.5, 6), RATE)
    return wave


def _mumbling(rng: np.random.Generator) -> np.ndarray:
    """Speech that cannot be understood: backwards, behind a wall, or several voices at once."""
    voice = f"en-us{_variant(rng)}"
    wave = _say(lexicon.draw_sentence(rng), voice, rng)
    kind = rng.random()
    if kind < 0.4:
        return wave[::-1]
    if kind < 0.7:
        return band(wave, 0, rng.uniform(250, 400), RATE)
    for _ in range(2):
        other = _say(lexicon.draw_sentence(rng), f"en-us{_variant(rng)}", rng)
        n = max(len(wave), len(other))
        wave = np.pad(wave, (0, n - len(wave))) + np.pad(other, (0, n - len(other)))
    return wave
