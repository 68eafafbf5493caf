"""Ten words of another language as a folder of recordings, to try `minittt adapt` with.

    python benchmarks/ten_words.py ten_words            # Estonian, one to ten
    minittt adapt ten_words -o runs/ten_words --hold-out aunty linda travis

Twelve espeak-ng voices say each word a few times, at any rate and pitch. `adapt` is told which of them are held out.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from minittt.codec import write_audio
from minittt.world import synthesis

LANGUAGE = "et"
WORDS = "üks kaks kolm neli viis kuus seitse kaheksa üheksa kümme".split()
VOICES = "m1 m2 m3 m4 f1 f2 f4 Alex adam aunty linda travis".split()


def main(arguments: list[str] | None = None) -> None:
    """Write the recordings and their metadata.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--takes", type=int, default=4, help="of each word by each voice")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True)
    rng = np.random.default_rng(args.seed)
    rows = []
    for voice in VOICES:
        for word in WORDS:
            for take in range(args.takes):
                rate = int(rng.integers(130, 221))  # words per minute
                pitch = int(rng.integers(30, 71))
                name = f"{voice}_{word}_{take}.wav"
                wave = synthesis.say(word, f"{LANGUAGE}+{voice}", rate, pitch)
                write_audio(args.out / name, wave, synthesis.SAMPLE_RATE)
                rows.append({"file_name": name, "transcript": word, "speaker": voice})
    with (args.out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "transcript", "speaker"])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} takes of {len(WORDS)} words by {len(VOICES)} voices in {args.out}")


if __name__ == "__main__":
    main()
