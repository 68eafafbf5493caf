"""Two checkouts side by side: how much longer does the new one take to train and to decode?

    python benchmarks/compare.py OLD NEW                  # 20 interleaved pairs
    python benchmarks/compare.py OLD NEW --pairs 5 --json out/compare.json

Each run is a separate process with one thread and the checkout first on its path; it loads, warms up, and times one piece of
work. Pairs alternate (old new, new old, ...), so that a machine that slows down slows both. What is printed is the median of
the ratios new / old with a 95 % bootstrap interval: never a time. Nothing else should run meanwhile.

A checkout's modules are found by the names of the classes in them, wherever they are: this handles both layouts that the
project has had.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

WORK = r"""
import importlib, json, sys, tempfile, time
from dataclasses import replace
import torch

def find(name, *modules):
    for module in modules:
        try:
            return getattr(importlib.import_module(f"minittt.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"{name} is in none of {modules}")

torch.set_num_threads(1)
work, samples, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
load_corpus = find("load_corpus", "data.corpus", "corpus")
corpus = load_corpus(f"{samples}/corpus")
if work == "training":
    Trainer = find("Trainer", "training.trainer", "training")
    Settings = find("TrainingSettings", "settings", "training")
    settings = Settings(steps=10**6, records=12, precision="float32", samples=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(corpus, folder, settings)
        for _ in range(2):
            trainer._one_step()
        begin = time.perf_counter()
        for _ in range(size):
            trainer._one_step()
        seconds = time.perf_counter() - begin
else:
    Talker = find("Talker", "talker")
    ask = find("ask", "evaluation.evaluate", "evaluation")
    family = find("family", "evaluation.evaluate", "evaluation")
    decoding_settings = find("decoding_settings", "evaluation.evaluate", "evaluation")
    talker = Talker.load(f"{samples}/talker.safetensors")
    records = family(corpus, "voices", "qa", 4 * size)
    rows = 1 if work == "decoding one by one" else 16
    settings = decoding_settings(8, 8)
    ask(talker, corpus, records[:2], settings, rows=rows)
    begin = time.perf_counter()
    answers = ask(talker, corpus, records, settings, rows=rows)
    seconds = time.perf_counter() - begin
    seconds /= sum(reply.nfe for reply in answers.replies)  # a forward: replies may differ between checkouts
print(json.dumps(seconds))
"""
WORKS = ("training", "decoding one by one", "decoding 16 rows")


def seconds_of(checkout: Path, work: str, size: int) -> float:
    """Seconds of one piece of work in a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", WORK, work, str(checkout / "data_samples"), str(size)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {work} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    drawn = np.random.default_rng(0).choice(ratios, (1000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare(old: Path, new: Path, pairs: int, size: int) -> list[dict]:
    """One line for each piece of work."""
    lines = []
    for work in WORKS:
        ratios = []
        for pair in range(pairs):
            seconds = {}
            order = (old, new) if pair % 2 == 0 else (new, old)
            for place, checkout in enumerate(order):
                is_old = (place == 0) == (pair % 2 == 0)
                seconds["old" if is_old else "new"] = seconds_of(checkout, work, size)
            ratios.append(seconds["new"] / seconds["old"])
        low, high = interval(ratios)
        line = {"work": work, "ratio": round(statistics.median(ratios), 3)}
        line |= {"low": round(low, 3), "high": round(high, 3), "pairs": pairs}
        line["ratios"] = [round(ratio, 3) for ratio in ratios]
        print(
            "{work:<20} new / old {ratio:.3f} [{low:.3f}, {high:.3f}], {pairs} pairs".format(**line),
            flush=True,
        )
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None) -> list[dict]:
    """Compare two checkouts and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="folder of a checkout")
    parser.add_argument("new", type=Path, help="folder of another")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--size", type=int, default=12, help="training steps, and a quarter of the replies")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    lines = compare(args.old.resolve(), args.new.resolve(), args.pairs, args.size)
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return lines


if __name__ == "__main__":
    main()
