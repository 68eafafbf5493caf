"""Who is in a folder of single words: takes, seconds, pitch and a checksum for each speaker, as a Markdown table.

    python benchmarks/about_people.py DIGITS        # a folder with a metadata.csv: file_name, transcript, speaker

Pitch: the median and the middle 80 % of all voiced frames, by autocorrelation. The checksum covers the samples alone,
whatever the files are called and however they are ordered: it is the SHA-256 of the sorted SHA-256s of each take's samples
(16 bit, little endian). So a speaker can be found again in another copy of the dataset, under another name.
"""

import csv
import hashlib
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

WINDOW = 0.04  # seconds
HOP = 0.01
LOWEST, HIGHEST = 60, 400  # Hz
VOICED = 0.6  # of the energy comes back after one period


def samples_of(path: Path) -> tuple[np.ndarray, int]:
    """A take's samples (n,) as 16-bit integers, and their rate in Hz."""
    wave, rate = soundfile.read(path, dtype="int16")
    return wave, rate


def pitches(wave: np.ndarray, rate: int) -> list[float]:
    """The pitch in Hz of each voiced frame."""
    shortest = round(rate / HIGHEST)
    longest = round(rate / LOWEST)
    width = round(WINDOW * rate)
    found = []
    for start in range(0, len(wave) - width - longest, round(HOP * rate)):
        frame = wave[start : start + width].astype(float)
        frame -= frame.mean()
        scores = []
        for lag in range(shortest, longest + 1):
            later = wave[start + lag : start + lag + width].astype(float)
            later -= later.mean()
            scale = np.sqrt((frame @ frame) * (later @ later))
            scores.append(frame @ later / scale if scale else 0.0)
        best = max(scores)
        if best >= VOICED:
            # of multiples of the period, which are as good, the first
            lag = next(i for i, score in enumerate(scores) if score >= 0.9 * best)
            while lag + 1 < len(scores) and scores[lag + 1] > scores[lag]:
                lag += 1
            found.append(rate / (shortest + lag))
    return found


def checksum(takes: list[np.ndarray]) -> str:
    """Of all takes of a speaker, in whatever order."""
    each = sorted(hashlib.sha256(wave.astype("<i2").tobytes()).hexdigest() for wave in takes)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def main(folder: Path) -> None:
    """Print the table."""
    files = defaultdict(list)
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            files[row["speaker"]].append(folder / row["file_name"])
    print("| speaker | takes | seconds | pitch, Hz: median [10 %, 90 %] | SHA-256 of the samples |")
    print("|---|---|---|---|---|")
    for speaker, paths in sorted(files.items()):
        takes = [samples_of(path) for path in paths]
        seconds = sum(len(wave) / rate for wave, rate in takes)
        heard = [pitch for wave, rate in takes for pitch in pitches(wave, rate)]
        low, middle, high = np.percentile(heard, [10, 50, 90])
        sum_of = checksum([wave for wave, _ in takes])
        print(
            f"| {speaker} | {len(takes)} | {seconds:.0f} | {middle:.0f} [{low:.0f}, {high:.0f}] | {sum_of} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
