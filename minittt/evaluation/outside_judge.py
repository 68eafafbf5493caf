"""An outside judge: Whisper, which knows neither this project's words nor its voices, beside the referee, which knows both.

The referee says whether a reply is as clear as the synthesiser that the talker learned from. How clear that is to a stranger
only a stranger can tell. Needs `pip install 'minittt[judge]'` (faster-whisper) and a folder that holds a Whisper model for
CTranslate2 (model.bin, config.json, tokenizer.json, vocabulary.json or .txt); nothing is downloaded.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from minittt.errors import MinitttError
from minittt.evaluation.scores import normal
from minittt.world.lexicon import NUMBERS

RATE = 16000  # Hz: what Whisper hears
NEEDED = ("model.bin", "config.json", "tokenizer.json")
SIGNS = {"+": " plus ", "=": " equals ", "−": " minus ", "–": " minus "}


class OutsideJudge:
    """Whisper from a folder, greedy, English. `name` says which weights: the first digits of the SHA-256 of model.bin."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise MinitttError(
                f"{folder}: no Whisper model for CTranslate2 ({', '.join(missing)} missing); it is a folder with "
                f"{', '.join(NEEDED)}"
            )
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MinitttError(
                f"the outside judge needs faster-whisper ({error}): pip install 'minittt[judge]'"
            ) from error
        self.model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)
        self.name = f"whisper {hashlib.sha256((folder / 'model.bin').read_bytes()).hexdigest()[:8]}"

    def transcribe(self, waves: list[np.ndarray], sample_rate: int) -> list[str]:
        """The words heard in each wave (samples,), numbers spelled out as the talker writes them."""
        texts = []
        for wave in tqdm(waves, "outside judge", leave=False):
            texts.append(self._transcribe(wave, sample_rate))
        return texts

    def _transcribe(self, wave: np.ndarray, sample_rate: int) -> str:
        if len(wave) == 0:
            return ""
        wave = soxr.resample(wave.astype(np.float32), sample_rate, RATE)
        segments, _ = self.model.transcribe(
            wave,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return spelled_out(" ".join(segment.text for segment in segments))


def spelled_out(text: str) -> str:
    """A transcript as the talker would write it: "2 + 3 = 5." is "two plus three equals five"; above 20, digit by digit."""
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"(?<=\d)\s*-\s*(?=\d)", " minus ", text)
    words = []
    for word in normal(text).split():
        if not word.isdecimal():
            words.append(word)
        elif int(word) < len(NUMBERS):
            words.append(NUMBERS[int(word)])
        else:
            words += [NUMBERS[int(digit)] for digit in word]
    return " ".join(words)
