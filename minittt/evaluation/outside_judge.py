"""Outside judges, which know neither this project nor its voices: Whisper for sentences, PocketSphinx for single words.

The referee says whether a reply is as clear as the synthesiser that the talker learned from. How clear that is to a stranger
only a stranger can tell. Needs `pip install 'minittt[judge]'` (faster-whisper, pocketsphinx) and, for Whisper, a folder that
holds a model for CTranslate2 (model.bin, config.json, tokenizer.json, vocabulary.json or .txt); nothing is downloaded.
"""

import hashlib
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from minittt.errors import MinitttError
from minittt.evaluation.scores import normal
from minittt.world.lexicon import NUMBERS

RATE = 16000  # Hz: what Whisper hears
NEEDED = ("model.bin", "config.json", "tokenizer.json")
SURROUNDED = 0.3  # seconds of near silence before and after a single word
LOUDEST = 0.7  # of full scale: the peak of a single word
SIGNS = {"+": " plus ", "=": " equals ", "−": " minus ", "–": " minus "}


class OutsideJudge:
    """Whisper from a folder, English, a beam of five. `name`: the first digits of the SHA-256 of its weights (model.bin).

    A sentence of three number words gives Whisper next to nothing to go by: it guesses at another subject, or repeats
    itself without end. So it is told what the subject is, as you would tell a person: see `transcribe`.
    """

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

    def transcribe(self, waves: list[np.ndarray], sample_rate: int, context: Sequence[str] = ()) -> list[str]:
        """The words heard in each wave (samples,), numbers spelled out as the talker writes them.

        context: other sentences on the same subject, given to Whisper as what was said before; none: it knows nothing.
        """
        before = " ".join(f"{sentence.capitalize()}." for sentence in context)
        texts = []
        for wave in tqdm(waves, "outside judge", leave=False):
            texts.append(self._transcribe(wave, sample_rate, before))
        return texts

    def _transcribe(self, wave: np.ndarray, sample_rate: int, before: str) -> str:
        if len(wave) == 0:
            return ""
        wave = soxr.resample(wave.astype(np.float32), sample_rate, RATE)
        segments, _ = self.model.transcribe(
            wave,
            language="en",
            beam_size=5,
            temperature=0.0,
            initial_prompt=before or None,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return spelled_out(" ".join(segment.text for segment in segments))


class WordJudge:
    """PocketSphinx with a grammar that knows only single words: it has to hear one of them.

    Whisper is made for sentences and stumbles over a single word, however clear. This one can only choose among the
    words, like somebody who listens for a digit.
    """

    def __init__(self, words: Sequence[str] = NUMBERS[:10]) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise MinitttError(
                f"the judge of single words needs pocketsphinx ({error}): pip install 'minittt[judge]'"
            ) from error
        self.decoder = pocketsphinx.Decoder(lm=None, samprate=RATE, loglevel="FATAL")
        grammar = f"#JSGF V1.0;\ngrammar words;\npublic <word> = {' | '.join(words)};\n"
        self.decoder.add_jsgf_string("words", grammar)
        self.decoder.activate_search("words")
        self.name = f"pocketsphinx {version('pocketsphinx')}, one of {len(words)} words"

    def transcribe(self, waves: list[np.ndarray], sample_rate: int) -> list[str]:
        """The word heard in each wave (samples,); "" where none is."""
        return [self._transcribe(wave, sample_rate) for wave in tqdm(waves, "outside judge", leave=False)]

    def _transcribe(self, wave: np.ndarray, sample_rate: int) -> str:
        wave = soxr.resample(np.asarray(wave, np.float32), sample_rate, RATE)
        loudest = np.abs(wave).max(initial=0.0)
        if loudest == 0:
            return ""
        # Its noise floor is estimated from what surrounds the word: digital silence would upset it.
        silence = np.random.default_rng(0).normal(0, 1e-3, round(SURROUNDED * RATE)).astype(np.float32)
        whole = np.concatenate([silence, LOUDEST / loudest * wave, silence])
        self.decoder.start_utt()
        self.decoder.process_raw((whole * 32767).astype(np.int16).tobytes(), full_utt=True)
        self.decoder.end_utt()
        heard = self.decoder.hyp()
        return "" if heard is None else heard.hypstr


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
