"""Write the table of tutorials/shipped_talker.md from data_samples/scores/*.json. Nothing is typed by hand.

python benchmarks/readme_scores.py          rewrite the page between its two markers

`results.py` puts the whole table into tutorials/results.md.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "tutorials" / "shipped_talker.md"
BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"
SPLITS = {"renditions": "new renditions", "voices": "voices never heard", "facts": "facts never asked"}
HEADLINES = (
    "ASR word error rate",
    "caption right",
    "spoken question, text answer right",
    "spoken answer: words recognised",
    "TTS: words recognised",
    "TTS: length against true",
    "TTS: spans that end on a block end",
    "voice coherence of true tokens",
    "voice coherence of true tokens, voice redrawn every 8",
    "voice coherence, block 16, 1 steps",
    "voice coherence, block 16, 4 steps",
    "voice coherence, block 16, 16 steps",
    "codec: words recognised",
    "originals: words recognised",
)


def load(folder: Path = ROOT / "data_samples" / "scores") -> dict[str, list[dict]]:
    """Scores of each split, in the order of `SPLITS`."""
    return {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in SPLITS
        if (folder / f"{name}.json").is_file()
    }


def cell(score: dict | None) -> str:
    """'0.953 [0.93, 0.97] (450)', with what the true tokens have, if that was measured; a dash where there is no score."""
    if score is None:
        return "-"
    true = f"; {score['note']}" if score["note"].startswith("true") else ""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] ({score['items']}{true})"


def table(scores: dict[str, list[dict]], names: tuple[str, ...] = ()) -> str:
    """A Markdown table: a row a score (all, if no names are given), a column a split; value, 95 % interval, items."""
    names = names or tuple(dict.fromkeys(score["name"] for split in scores.values() for score in split))
    lines = ["| | " + " | ".join(SPLITS[name] for name in scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for name in names:
        found = [next((s for s in split if s["name"] == name), None) for split in scores.values()]
        lines.append(f"| {name} | " + " | ".join(map(cell, found)) + " |")
    return "\n".join(lines)


def rewritten(page: str) -> str:
    """The page with its table made anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(load(), HEADLINES)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = PAGE
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {path.name}")
