"""A toy world for tests: a corpus of a few random records in memory, and a small model in float64."""

import random

import numpy as np
import torch

from minittt.codec import Codec, CodecConfig
from minittt.data.corpus import Corpus
from minittt.data.vocabulary import Vocabulary
from minittt.model import ModelConfig, Transformer
from minittt.settings import samples_folder
from minittt.world.recordings import import_recordings

WORDS = "one two three four answer speak".split()


def write_small_corpus(folder) -> None:
    """A corpus folder that is read in no time: the shipped recordings, as a codec that has learned nothing hears them."""
    torch.manual_seed(0)
    codec = Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8)).eval()
    import_recordings(samples_folder() / "wav", folder, codec)


class ToyTokeniser:
    """Words to numbers; piece 0 is <unk>."""

    def __len__(self) -> int:
        return len(WORDS) + 1

    never_written = (0,)

    def fingerprint(self) -> str:
        return "toy"

    def all_pieces(self) -> list[str]:
        return ["<unk>", *WORDS]

    def encode(self, text: str) -> list[int]:
        return [WORDS.index(word) + 1 for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(WORDS[i - 1] for i in ids)


def toy_corpus(seed: int, codebook_size: int = 5, n: int = 6, longest: int = 9) -> Corpus:
    """n utterances of 1 to `longest` codes, and as many records of each shape that conversations have."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, codebook_size, rng.integers(1, longest + 1)) for _ in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in codes])])
    pick = random.Random(seed)
    some = lambda: pick.randrange(n)  # noqa: E731
    records = [
        {
            "family": "qa",
            "messages": [
                ["system", "answer"],
                ["user", some()],
                ["assistant", "one two", some(), "three", some()],
            ],
        },
        {"family": "tts", "messages": [["system", "speak"], ["user", "four"], ["assistant", some()]]},
        {"family": "asr", "messages": [["user", some()], ["assistant", "two"]]},
        {"family": "document", "messages": [["document", "one", some(), some(), "two"]]},
        {
            "family": "qa",
            "messages": [
                ["user", some()],
                ["assistant", "one", some()],
                ["user", "two"],
                ["assistant", some()],
            ],
        },
    ]
    info = {"codec": "toy", "codebook_size": codebook_size, "n_codebooks": 1}
    utterances = [{"text": "one", "voice": "toy"} for _ in range(n)]
    splits = {"train": records, "renditions": records}
    return Corpus(info, ToyTokeniser(), np.concatenate(codes).astype(np.uint16), offsets, utterances, splits)


def toy_model(
    vocabulary: Vocabulary, seed: int = 0, dtype: torch.dtype = torch.float64, **sizes
) -> Transformer:
    """A random Transformer with weights large enough for every path to matter."""
    torch.manual_seed(seed)
    config = {
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "d_ff": 24,
        "max_length": 256,
    } | sizes
    model = Transformer(ModelConfig(vocabulary.size, **config)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()
