"""A corpus with fewer training records: the part that is shipped of one that would be too large.

    python benchmarks/thin_corpus.py my_corpus data_samples/people/corpus --train 12000 --without mbrola recorded

Every other split stays whole, except for voices that must not be passed on (their licences do not allow it, or not for every
use). Utterances that no record needs any more are left out.
"""

import argparse
import random
import shutil
from pathlib import Path

from minittt.data.corpus import Corpus, load_corpus, save_corpus

OF_THE_CODEC = ("codec", "sample_rate", "frame_rate", "codebook_size", "n_codebooks")


def needed(splits: dict[str, list[dict]]) -> list[int]:
    """The numbers of the utterances in these records, in order."""
    numbers = set()
    for records in splits.values():
        for record in records:
            for _, *parts in record["messages"]:
                numbers.update(part for part in parts if isinstance(part, int))
    return sorted(numbers)


def renumbered(record: dict, place: dict[int, int]) -> dict:
    """The record with each utterance's new number."""
    messages = []
    for role, *parts in record["messages"]:
        messages.append([role, *(place[part] if isinstance(part, int) else part for part in parts)])
    return {**record, "messages": messages}


def may_be_passed_on(corpus: Corpus, record: dict, without: tuple[str, ...]) -> bool:
    """Whether nobody is heard in a record whose voice is of one of these makes."""
    for _, *parts in record["messages"]:
        for part in parts:
            if isinstance(part, int) and corpus.utterances[part]["voice"].split()[0] in without:
                return False
    return True


def thin(
    corpus: Corpus, out: Path, tokeniser: Path, n_train: int, seed: int = 0, without: tuple[str, ...] = ()
) -> None:
    """Write `corpus` with n_train of its training records, drawn at random, to the folder `out`.

    without: makes of voices (the first word of a voice's name) of which no record is kept, in any split.
    """
    splits = {}
    for name, records in corpus.splits.items():
        splits[name] = [record for record in records if may_be_passed_on(corpus, record, without)]
    train = splits["train"]
    kept = sorted(random.Random(seed).sample(range(len(train)), min(n_train, len(train))))
    splits["train"] = [train[i] for i in kept]
    numbers = needed(splits)
    place = {number: i for i, number in enumerate(numbers)}
    splits = {name: [renumbered(r, place) for r in records] for name, records in splits.items()}
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokeniser, out / "tokeniser.model")
    about = {name: corpus.info[name] for name in OF_THE_CODEC}
    save_corpus(
        out,
        about,
        [corpus.audio(number) for number in numbers],
        [corpus.utterances[number] for number in numbers],
        splits,
        corpus.codebooks,
        corpus.info["licence"],
        corpus.info["front_end"],
    )
    if load_corpus(out).words != corpus.words:
        raise SystemExit(f"{n_train} records do not hold all words of the corpus: keep more")


def main(arguments: list[str] | None = None) -> None:
    """Thin one corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=12_000, help="training records to keep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="MAKE", help="voices that are not passed on"
    )
    args = parser.parse_args(arguments)
    tokeniser = args.corpus / "tokeniser.model"
    thin(load_corpus(args.corpus), args.out, tokeniser, args.train, args.seed, tuple(args.without))


if __name__ == "__main__":
    main()
