"""The readers, each with a small valid input and a way to mutate it: `READERS[name](folder)` gives a `Reader`."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from minittt.codec import Codec, read_audio
from minittt.data import encode, headers
from minittt.data.corpus import load_corpus, save_corpus
from minittt.data.tokenisers import load_tokeniser
from minittt.data.vocabulary import train_tokeniser
from minittt.evaluation.people import read_conditions
from minittt.evaluation.referee import Referee
from minittt.talker import Talker
from minittt.training import checkpoints
from minittt.training.optimiser import CombinedOptimiser
from minittt.world.recordings import contents_of, read_metadata, split_rows
from tests.fuzz import mutate

OLD = Path(__file__).parents[1] / "golden" / "old_files"
KINDS = {"codec": Codec, "talker": Talker, "referee": Referee}


@dataclass
class Reader:
    """What reads, a file that it reads, that file's valid content, and what changes it."""

    read: Callable[[], object]
    path: Path
    valid: bytes
    mutate: Callable[[bytes, random.Random], bytes]

    def case(self, number: int) -> None:
        """Read mutation `number`. Raises what the reader raises."""
        self.path.write_bytes(self.mutate(self.valid, random.Random(number)))
        try:
            self.read()
        finally:
            self.path.write_bytes(self.valid)


def _safetensors(name: str) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        source = OLD / f"{name}.safetensors"
        path = folder / "file.safetensors"
        path.write_bytes(source.read_bytes())

        def change(valid: bytes, rng: random.Random) -> bytes:
            if rng.random() < 0.3:
                return mutate.of_bytes(valid, rng)
            return mutate.of_safetensors(source, rng)

        return Reader(lambda: KINDS[name].load(path), path, source.read_bytes(), change)

    return make


def _state(folder: Path) -> Reader:
    """A training state, read and put back into a model."""
    model = torch.nn.Linear(2, 3)
    optimiser = CombinedOptimiser([torch.optim.AdamW(model.parameters())])
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    about = {"settings": {"seed": 1, "steps": 9}, "parts": 1}
    checkpoints.save(folder, 3, checkpoints.tensors_of(model, optimiser), about, keep=1)
    log = folder / "log.jsonl"
    [path] = checkpoints.states(folder)
    valid = path.read_bytes()
    source = folder / "valid"
    source.write_bytes(valid)

    def change(valid: bytes, rng: random.Random) -> bytes:
        line = mutate.as_text(mutate.of_json({"step": 2, "loss": 1.5}, rng), rng)
        log.write_text(line + "\n" if rng.random() < 0.2 else '{"step": 2}\n', encoding="utf-8")
        if rng.random() < 0.3:
            return mutate.of_bytes(valid, rng)
        return mutate.of_safetensors(source, rng)

    def read() -> None:
        step, tensors, found = checkpoints.load(folder)
        checkpoints.check(folder, found, about)
        checkpoints.restore(model, optimiser, tensors)
        checkpoints.tidy(folder, step)
        checkpoints.steps_of(folder)

    return Reader(read, path, valid, change)


def _small_corpus(folder: Path) -> None:
    train_tokeniser(["one two three", "speak"], folder / "tokeniser.model", 60)
    messages = [["system", "speak"], ["user", "one two", 0], ["assistant", "three", 1]]
    records = [{"family": "tts", "messages": messages}, {"family": "d", "messages": [["document", "one", 1]]}]
    info = {"codec": "0", "sample_rate": 8000, "frame_rate": 25.0, "codebook_size": 4, "n_codebooks": 1}
    codes = [np.array([1, 2, 3]), np.array([0])]
    utterances = [{"text": "nine", "voice": ""}, {"text": "ten", "voice": "a"}]
    save_corpus(folder, info, codes, utterances, {"train": records}, np.ones((4, 2)))


def _corpus(name: str, change: Callable) -> Callable[[Path], Reader]:
    """One file of a corpus is changed; the checksums do not tell."""

    def make(folder: Path) -> Reader:
        _small_corpus(folder)
        about = folder / "corpus.json"
        info = headers.describe(about)
        info["checksums"] = None
        about.write_text(mutate.as_text(info, random.Random(0)), encoding="utf-8")
        path = folder / name
        valid = path.read_bytes()

        def read() -> None:
            corpus = load_corpus(folder)
            for record in corpus.splits.get("train", []):
                corpus.seed_of(record)

        return Reader(read, path, valid, change)

    return make


def _of_json_file(valid: bytes, rng: random.Random) -> bytes:
    import json

    if rng.random() < 0.2:
        return mutate.of_bytes(valid, rng)
    return mutate.as_text(mutate.of_json(json.loads(valid), rng), rng).encode()


def _tokeniser(folder: Path) -> Reader:
    path = folder / "tokeniser.model"
    train_tokeniser(["one two three"], path, 60)

    def read() -> None:
        tokeniser = load_tokeniser(path)
        tokeniser.decode(tokeniser.encode("one two"))
        tokeniser.all_pieces()

    return Reader(read, path, path.read_bytes(), mutate.of_bytes)


def _metadata(folder: Path) -> Reader:
    lines = ["file_name,transcript,speaker,reply"]
    for number in range(5):
        (folder / f"{number}.wav").write_bytes(bytes([number]))
        lines.append(f"{number}.wav,one two {number},voice {number % 3},two")
    path = folder / "metadata.csv"
    path.write_text("\n".join(lines), encoding="utf-8")

    def read() -> None:
        rows = read_metadata(folder)
        split_rows(rows, contents=contents_of(folder, rows))

    return Reader(read, path, path.read_bytes(), mutate.of_table)


def _audio(suffix: str, subtype: str | None = None) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        path = folder / f"a.{suffix}"
        wave = 0.5 * np.sin(np.arange(2000) / 5)
        soundfile.write(path, np.stack([wave, wave], axis=1), 16_000, subtype=subtype)
        return Reader(lambda: read_audio(path, 8000), path, path.read_bytes(), mutate.of_bytes)

    return make


def _shards(folder: Path) -> Reader:
    path = folder / "shard-00000-of-00001.safetensors"
    tensors = {"codes": torch.arange(5).int(), "offsets": torch.tensor([0, 2, 5])}
    header = {"format": encode.FORMAT, "codec": "0", "front_end": "none", "files": '["a.wav", "b.wav"]'}
    encode.write_tensors(path, tensors, {**header, "left_out": "{}"})
    source = folder / "valid"
    source.write_bytes(path.read_bytes())

    def change(valid: bytes, rng: random.Random) -> bytes:
        return mutate.of_safetensors(source, rng)

    return Reader(lambda: list(encode.read_shards(folder)), path, path.read_bytes(), change)


def _conditions(folder: Path) -> Reader:
    path = folder / "conditions.json"
    path.write_text(
        '{"loud": {"seed": 1, "level": 6.0, "mp3": false, "before": 0.5}, "far": {"seed": 2}}',
        encoding="utf-8",
    )
    return Reader(lambda: read_conditions(path), path, path.read_bytes(), _of_json_file)


READERS = {
    "talker": _safetensors("talker"),
    "codec": _safetensors("codec"),
    "referee": _safetensors("referee"),
    "state": _state,
    "corpus.json": _corpus("corpus.json", _of_json_file),
    "records": _corpus("train.jsonl.gz", mutate.of_lines),
    "utterances": _corpus("utterances.jsonl.gz", mutate.of_lines),
    "codes": _corpus("audio.npz", mutate.of_arrays),
    "tokeniser": _tokeniser,
    "metadata": _metadata,
    "wav": _audio("wav"),
    "float wav": _audio("wav", "FLOAT"),
    "flac": _audio("flac"),
    "ogg": _audio("ogg"),
    "mp3": _audio("mp3"),
    "shards": _shards,
    "conditions": _conditions,
}
