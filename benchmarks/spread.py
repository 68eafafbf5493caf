"""Runs that differ in their seed alone, as one row each: mean and standard deviation of every figure.

    python benchmarks/spread.py runs/ar-0.json runs/ar-1.json runs/ar-2.json runs/exact-?.json

The files are what `minittt evaluate --json` writes. What a name says before its last hyphen is what is compared.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path


def table(files: list[Path]) -> str:
    """A Markdown table: a row for each figure, a column for each group of files, in the order in which they are named."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        group = file.stem.rpartition("-")[0] or file.stem
        for score in json.loads(file.read_text(encoding="utf-8")):
            found[score["name"]][group].append(score["value"])
    groups = list(dict.fromkeys(file.stem.rpartition("-")[0] or file.stem for file in files))
    lines = ["| | " + " | ".join(groups) + " |", "| --- |" + " --- |" * len(groups)]
    for name, values in found.items():
        cells = [_cell(values[group]) for group in groups]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3f} (one seed)"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} (n={len(values)})"


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="named WHAT-SEED.json")
    print(table(parser.parse_args(arguments).files))


if __name__ == "__main__":
    main()
