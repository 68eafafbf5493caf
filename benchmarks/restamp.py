"""Rewrite the headers of the shipped files as this version writes them, without changing a tensor.

    python benchmarks/restamp.py

Needed when a field is added to the headers (`minittt/data/headers.py`), not when a network is retrained: training writes
the header itself.
"""

import argparse
from pathlib import Path

import torch

from minittt.codec import Codec, read_tensors, write_tensors
from minittt.data.corpus import load_corpus, write_info
from minittt.data.headers import NO_FRONT_END
from minittt.evaluation.referee import Referee
from minittt.talker import Talker

LICENCE = "MIT"
HEARD = ["formant"]  # what the referee was trained on: espeak-ng alone, whatever the voice


def rewrite(path: Path, header: dict[str, str]) -> None:
    """Write the tensors of a file under another header of the same format."""
    before = read_tensors(path, header["format"])[1]
    write_tensors(path, before, header)
    after = read_tensors(path, header["format"])[1]
    if before.keys() != after.keys():
        raise SystemExit(f"{path}: its tensors have other names than before")
    for name, tensor in before.items():
        if tensor.dtype != after[name].dtype or not torch.equal(tensor, after[name]):
            raise SystemExit(f"{path}: {name} is not what it was")


def restamp(folder: Path) -> None:
    """Complete the headers of codec, referee, corpus and talker in a folder laid out as data_samples is."""
    codec = Codec.load(folder / "codec.safetensors")
    codec.licence = LICENCE
    rewrite(folder / "codec.safetensors", codec.header())

    referee = Referee.load(folder / "referee.safetensors")
    referee.info |= {"licence": LICENCE, "heard": HEARD}
    rewrite(folder / "referee.safetensors", referee.header())

    corpus = load_corpus(folder / "corpus")
    corpus.info |= {"licence": LICENCE, "front_end": NO_FRONT_END}
    write_info(folder / "corpus", corpus.info)

    talker = Talker.load(folder / "talker.safetensors")
    talker.info |= {"licence": LICENCE, "front_end": NO_FRONT_END, "words": corpus.words}
    talker.check_codec(codec)
    talker.check_corpus(corpus)
    rewrite(folder / "talker.safetensors", talker.header())


def main() -> None:
    """Restamp one folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    samples = Path(__file__).parent.parent / "data_samples"
    parser.add_argument("--folder", type=Path, default=samples)
    restamp(parser.parse_args().folder)


if __name__ == "__main__":
    main()
