"""A task family of your own, from existing recordings: number words in, the same words backwards, written.

python benchmarks/backwards.py build my_corpus
minittt train --data my_corpus --mix data_samples/corpus --init data_samples/talker.safetensors -o runs/backwards
python benchmarks/backwards.py score my_corpus runs/backwards/talker.safetensors
"""

import argparse
import shutil
from pathlib import Path

from thin_corpus import OF_THE_CODEC

from minittt.data.corpus import load_corpus, save_corpus
from minittt.evaluation.evaluate import ask, family
from minittt.evaluation.scores import Score, ratio, same_text, write_scores
from minittt.settings import samples_folder
from minittt.talker import Talker, decoding_settings
from minittt.world.lexicon import NUMBERS

TRAINED, LONGER = (2, 3, 4), (5, 6)  # words in a string
SPLITS = {name: (name, TRAINED) for name in ("train", "renditions", "voices")}
SPLITS["longer"] = ("voices", LONGER)


def turned_round(records: list[dict], lengths: tuple[int, ...]) -> list[dict]:
    """Records of the new family, from the number strings of these lengths among records of the family asr."""
    found = []
    for record in records:
        _, [_, heard], [_, text] = record["messages"]
        words = text.split()
        if len(words) in lengths and set(words) <= set(NUMBERS):
            messages = [["system", "backwards"], ["user", heard], ["assistant", " ".join(reversed(words))]]
            found.append({"family": "backwards", "messages": messages})
    return found


def build(out: Path) -> None:
    """Write a corpus of the new family alone, over the utterances of the shipped one."""
    shipped = load_corpus(samples_folder() / "corpus")
    splits = {name: turned_round(family(shipped, split, "asr"), n) for name, (split, n) in SPLITS.items()}
    out.mkdir(parents=True)
    shutil.copyfile(samples_folder() / "corpus" / "tokeniser.model", out / "tokeniser.model")
    codes = [shipped.audio(number) for number in range(len(shipped.utterances))]
    about = {name: shipped.info[name] for name in OF_THE_CODEC}
    save_corpus(out, about, codes, shipped.utterances, splits, shipped.codebooks, shipped.info["licence"])
    print(f"wrote {out}:", ", ".join(f"{len(records)} {name}" for name, records in splits.items()))


def score(folder: Path, file: Path) -> list[Score]:
    """How many strings come back word for word, in voices never heard: as long as those trained, and longer."""
    corpus = load_corpus(folder)
    talker = Talker.load(file)
    scores = []
    for split in ("voices", "longer"):
        answers = ask(talker, corpus, family(corpus, split, "backwards"), decoding_settings(16, 1))
        right = [same_text(record["messages"][-1][1], reply.text) for record, reply in answers.pairs()]
        scores.append(ratio(f"backwards, {split}", right))
    return scores


def main(arguments: list[str] | None = None) -> None:
    """Build the corpus, or score a talker on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("build", "score"))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("talker", type=Path, nargs="?", help="what is scored")
    parser.add_argument("--json", type=Path, help="write the scores here, too")
    args = parser.parse_args(arguments)
    if args.action == "build":
        return build(args.corpus)
    scores = score(args.corpus, args.talker)
    print(*scores, sep="\n")
    if args.json is not None:
        write_scores(args.json, scores)


if __name__ == "__main__":
    main()
