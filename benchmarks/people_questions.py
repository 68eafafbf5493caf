"""Two people saying numbers, for the demonstration: strings of their recorded words.

    python benchmarks/people_questions.py --people DIR -o data_samples/people

Each has its own seed and is written as recorded: level and edges are left to whoever listens.
"""

import argparse
from pathlib import Path

import numpy as np

from minittt.codec import write_audio
from minittt.world.users import RATE, Users

SAID = (("speaker_b", 3), ("speaker_c", 4))  # who, and how many words


def main(arguments: list[str] | None = None) -> None:
    """Write person_1.wav, person_2.wav, ... and print what is said in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True, help="a folder of single words")
    parser.add_argument("-o", "--output", type=Path, default=Path("data_samples/people"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    people = Users(None, args.people)
    for i, (speaker, n_words) in enumerate(SAID):
        rng = np.random.default_rng([args.seed, i])
        said = people.joined(speaker, n_words, rng)
        path = args.output / f"person_{i + 1}.wav"
        write_audio(path, said.wave, RATE)
        print(f"{path}: {said.text} ({speaker})")


if __name__ == "__main__":
    main()
