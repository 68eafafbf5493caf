"""Draws tutorials/pictures/overview.svg: from a waveform to a spoken answer, and the group numbers that decide everything.

python tutorials/pictures/overview.py
"""

import math
from pathlib import Path

COLOURS = {
    "control": "#404040",
    "text": "#0072B2",
    "source": "#009E73",
    "target": "#E69F00",
    "mask": "#D4D4D4",
}
WIDTH, HEIGHT = 960, 430
FONT = "DejaVu Sans, Verdana, sans-serif"
# (what is written in the slot, its kind, its group)
TOKENS = [
    ("USER", "control", 0),
    ("OPEN", "control", 1),
    ("c7", "source", 2),
    ("c2", "source", 2),
    ("c9", "source", 2),
    ("c4", "source", 2),
    ("EOA", "source", 2),
    ("ANSW", "control", 3),
    ("two", "text", 4),
    ("plus", "text", 5),
    ("OPEN", "control", 6),
    ("c5", "target", 7),
    ("c1", "target", 7),
    ("c8", "target", 7),
    ("c3", "target", 7),
    ("c6", "target", 8),
    ("", "mask", 8),
    ("c2", "target", 8),
    ("", "mask", 8),
]


def text(
    x: float,
    y: float,
    words: str,
    size: int = 13,
    anchor: str = "middle",
    colour: str = "#202020",
    weight: str = "normal",
) -> str:
    """A line of text."""
    style = f'font-family="{FONT}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = "#202020") -> str:
    """A rounded box."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="5" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """An arrow."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#202020" stroke-width="1.6" marker-end="url(#tip)"/>'


def wave(x: float, y: float, width: float, colour: str, seed: float) -> str:
    """A waveform of `width`, around the height y."""
    points = []
    for i in range(121):
        share = i / 120
        loud = math.sin(math.pi * share) * (0.6 + 0.4 * math.sin(9 * share + seed))
        points.append(f"{x + width * share:.1f},{y + 20 * loud * math.sin(60 * share + seed):.1f}")
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def drawing() -> str:
    """The whole picture."""
    told = (
        "A question as a wave becomes codes; one Transformer reads them, writes text left to right and fills in "
        "blocks of codes; the codes become a wave"
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    tip = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{told}">',
        f'<defs><marker id="tip" {tip}><path d="M0,0 L8,4 L0,8 z" fill="#202020"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    slot, gap, left, row = 45, 3, 26, 205
    centres = [left + i * (slot + gap) + slot / 2 for i in range(len(TOKENS))]
    # the question on the left, the answer on the right
    parts += [text(150, 26, "question", 15, weight="bold"), wave(80, 58, 140, COLOURS["source"], 1.0)]
    parts += [arrow(150, 84, 150, 98), box(90, 100, 120, 30, "#E8F5F0"), text(150, 120, "codec encoder")]
    middle = (centres[2] + centres[6]) / 2
    parts += [arrow(150, 132, middle, row - 12)]
    parts += [text(790, 26, "answer", 15, weight="bold"), wave(720, 58, 140, COLOURS["target"], 2.0)]
    parts += [box(730, 100, 120, 30, "#FDF1DA"), text(790, 120, "codec decoder"), arrow(790, 98, 790, 84)]
    parts += [arrow((centres[11] + centres[18]) / 2, row - 12, 790, 134)]
    parts += [text((centres[8] + centres[9]) / 2, row - 34, "writes text", 13, colour=COLOURS["text"])]
    parts += [text((centres[8] + centres[9]) / 2, row - 18, "token by token", 13, colour=COLOURS["text"])]
    # the sequence
    for (name, kind, _), centre in zip(TOKENS, centres, strict=True):
        light = kind in ("mask", "target")
        parts.append(box(centre - slot / 2, row, slot, 32, COLOURS[kind]))
        label = "MASK" if kind == "mask" else name
        parts.append(text(centre, row + 21, label, 11, colour="#202020" if light else "#ffffff"))
    # group numbers, one brace a group
    parts.append(text(left, row + 74, "group", 12, anchor="start", weight="bold"))
    for group in sorted({group for *_, group in TOKENS}):
        mine = [centre for (_, _, g), centre in zip(TOKENS, centres, strict=True) if g == group]
        first, last = mine[0] - slot / 2 + 3, mine[-1] + slot / 2 - 3
        parts.append(f'<path d="M{first:.1f},{row + 38} v6 H{last:.1f} v-6" fill="none" stroke="#202020"/>')
        middle = (first + last) / 2
        parts.append(text(middle, row + 60, str(group), 13, weight="bold"))
    # the Transformer
    width = centres[-1] + slot / 2 - left
    parts.append(box(left, row + 92, width, 46, "#F3F3F3"))
    rule = "one Transformer: a token sees every token whose group number is not larger than its own"
    parts.append(text(left + width / 2, row + 120, rule, 14))
    # what is what
    parts.append(
        text(
            left,
            row + 168,
            "text and control tokens: a group each, next-token prediction, left to right",
            13,
            "start",
        )
    )
    parts.append(
        text(left, row + 188, "audio heard: one group, only listened to", 13, "start", COLOURS["source"])
    )
    spoken = "audio spoken: a group for each block, its masked slots filled in over a few steps (absorbing diffusion)"
    parts.append(text(left, row + 208, spoken, 13, "start", "#8A5F00"))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    path = Path(__file__).parent / "overview.svg"
    path.write_text(drawing(), encoding="utf-8")
    print(f"wrote {path.name}")
