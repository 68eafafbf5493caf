"""Write the README's table of scores from data_samples/scores/*.json, between its two markers. Nothing is typed by hand.

python benchmarks/readme_scores.py          rewrite README.md
"""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"
SPLITS = {"renditions": "new renditions", "voices": "voices never heard", "facts": "facts never asked"}


def load() -> dict[str, list[dict]]:
    """Scores of each split, in the order of `SPLITS`."""
    folder = ROOT / "data_samples" / "scores"
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in SPLITS
        if (folder / f"{name}.json").is_file()
    }


def cell(score: dict | None) -> str:
    """'0.953 [0.93, 0.97] (450)'; a dash where a split has no such score."""
    if score is None:
        return "-"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] ({score['items']})"


def table(scores: dict[str, list[dict]]) -> str:
    """A Markdown table: a row a score, a column a split; value, 95 % interval, items; notes at the end."""
    names = list(dict.fromkeys(score["name"] for split in scores.values() for score in split))
    lines = ["| | " + " | ".join(SPLITS[name] for name in scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for name in names:
        found = [next((s for s in split if s["name"] == name), None) for split in scores.values()]
        note = "; ".join(dict.fromkeys(s["note"] for s in found if s and s["note"].startswith("true")))
        lines.append(f"| {name}{f' ({note})' if note else ''} | " + " | ".join(map(cell, found)) + " |")
    return "\n".join(lines)


def rewritten(readme: str) -> str:
    """The README with its table made anew."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(load())}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text()))
    print(f"wrote {path.name}")
