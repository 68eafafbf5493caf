"""Runs that differ only in their seed: mean and standard deviation of every figure, as a Markdown table.

    python benchmarks/spread.py runs/ar-0.json runs/ar-1.json runs/ar-2.json runs/exact-?.json
    python benchmarks/spread.py runs/ar-?/log.jsonl runs/exact-?/log.jsonl

The first are scores (`minittt evaluate --json`), the second are training logs, whose last fifty steps are averaged. Runs are
grouped by the name of the file, or of the log's folder, up to its last hyphen; the groups are compared.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

LAST = 50  # steps of a log


def figures(file: Path) -> tuple[str, dict[str, float]]:
    """What a file is about, and its figures by name."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".jsonl":
        return _group(file.stem), {score["name"]: score["value"] for score in json.loads(text)}
    steps = [json.loads(line) for line in text.splitlines()]
    found = {"steps": steps[-1]["step"]}
    for name in ("text", "audio"):
        values = [step[name] for step in steps[-LAST:] if step[name]]  # 0 where BANOM left a batch clean
        found[f"{name}, nats a token, last {LAST} steps"] = statistics.mean(values)
    return _group(file.parent.name), found


def _group(name: str) -> str:
    return name.rpartition("-")[0] or name


def table(files: list[Path]) -> str:
    """A row for each figure, a column for each group of files, in the order in which they are named."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    groups = {}  # a set in order
    for file in files:
        group, found = figures(file)
        groups[group] = True
        for name, value in found.items():
            values[name][group].append(value)
    lines = ["| | " + " | ".join(groups) + " |", "| --- |" + " --- |" * len(groups)]
    for name, by_group in values.items():
        cells = [_cell(by_group[group]) for group in groups]
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
    parser.add_argument("files", type=Path, nargs="+", help="WHAT-SEED.json, or WHAT-SEED/log.jsonl")
    print(table(parser.parse_args(arguments).files))


if __name__ == "__main__":
    main()
