"""What the clipped share of words gives a reply that says something else: the floors under the grid's "words recognised".

    python benchmarks/floors.py        # writes data_samples/scores/floors.json: seconds

The true tokens of the grid's sixty sentences go through the codec and the referee. They are compared with the words of every
other sentence, and their first fifth with their own words. Beside the clipped shares are those that the rest of the
repository uses, 1 minus the word error rate, which have no floor but go below 0.
"""

import json
from pathlib import Path

import numpy as np
import torch

from minittt.app.cli import SAMPLES
from minittt.codec import Codec, whole_file
from minittt.data.corpus import Corpus, load_corpus
from minittt.evaluation.evaluate import codes_of_reply, family, words_of_reply
from minittt.evaluation.referee import Referee
from minittt.evaluation.scores import words_right

SPLIT = "renditions"
LIMIT = 60  # as in the grid
OUT = SAMPLES / "scores" / "floors.json"


def shares(said: list[str], heard: list[str]) -> dict[str, float]:
    """The share of words that are recognised: the mean of shares clipped at 0, and 1 minus the word error rate."""
    right, words = words_right(said, heard)
    clipped = [max(0, good) / of for good, of in zip(right, words, strict=True)]
    return {"clipped": round(float(np.mean(clipped)), 3), "unclipped": round(sum(right) / sum(words), 3)}


def every_other(said: list[str], heard: list[str]) -> tuple[list[str], list[str]]:
    """Each text that was said beside each that was heard of another sentence."""
    pairs = [(a, b) for i, a in enumerate(said) for j, b in enumerate(heard) if i != j]
    return [a for a, _ in pairs], [b for _, b in pairs]


def sounds(codec: Codec, spans: list[list[int]]) -> list[np.ndarray]:
    """What the codec makes of codes, span by span: (samples,) each."""
    return [codec.decode(torch.tensor([[span]]))[0].numpy() for span in spans]


def floors(corpus: Corpus, codec: Codec, referee: Referee) -> dict:
    """The floors over the text-to-speech records that the grid asks."""
    records = family(corpus, SPLIT, "tts", LIMIT)
    said = []
    whole = []
    beginnings = []
    for record in records:
        said.append(words_of_reply(corpus, record))
        codes = [code for span in codes_of_reply(corpus, record) for code in span]
        whole.append(codes)
        beginnings.append(codes[: max(1, len(codes) // 5)])
    heard = referee.transcribe(sounds(codec, whole))
    return {
        "sentences": len(records),
        "something_else": shares(*every_other(said, heard)),
        "first_fifth": shares(said, referee.transcribe(sounds(codec, beginnings))),
        "all_of_it": shares(said, heard),
    }


def main(out: Path = OUT) -> None:
    """Measure, and write the JSON."""
    corpus = load_corpus(SAMPLES / "corpus")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    referee = Referee.load(SAMPLES / "referee.safetensors")
    made = floors(corpus, codec, referee)
    with whole_file(out) as unfinished:
        unfinished.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
