"""Draw the pictures of `tutorials/strategies.md`, each by calling the function it explains.

python tutorials/pictures/strategies.py [folder]        # default: where this file lies
"""

import random
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minittt.app.plotting import COLOURS, house_style, legend
from minittt.attention import TARGET, TEXT
from minittt.data.conversation import TokenSequence
from minittt.diffusion import independent_masks, random_k_subset
from minittt.strategies import (
    denoise_replies,
    mix_objectives,
    preserve_prefix,
    span_numbers,
    truncate_span,
)

REPLY = "USER two plus three ? ASSISTANT two plus [10 makes five [13 done [6 END".split()
CONTROL = ("USER", "ASSISTANT", "OPEN", "EOA", "END")


def spell(words: list[str]) -> tuple[list[str], TokenSequence]:
    """Names and a TokenSequence of a record; "[10" is OPEN, ten codes and EOA. An id is a place in the sequence."""
    names, sequence = [], TokenSequence()
    for word in words:
        span = word.startswith("[")
        parts = ["OPEN", *[""] * int(word[1:]), "EOA"] if span else [word]
        for i, name in enumerate(parts):
            kind = TARGET if span and i else TEXT
            said = "ASSISTANT" in names
            sequence.add([len(names)], kind, said and kind == TEXT)
            names.append(name)
    return names, sequence


def draw_row(ax, y: float, label: str, names, kinds, masked=(), learned=(), gone=(), gaps=()) -> None:
    """One sequence as boxes on a line, with room before `gaps`.

    A dot stands below what has a loss; a token that is `gone` is an outline alone.
    """
    x = 0.0
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        x += 0.5 * (i in gaps)
        wide = 1.0 if kind == TARGET and name in ("", "EOA") else 0.9 + 0.55 * len(name)
        look = (
            "target" if kind == TARGET and name in ("", "EOA") else "control" if name in CONTROL else "text"
        )
        look = "mask" if i in masked else look
        hollow = i in gone or (name == "EOA" and i not in masked)
        style = {"facecolor": "white" if hollow else COLOURS[look], "edgecolor": COLOURS[look]}
        if i in gone:
            style |= {"edgecolor": "#BBBBBB", "linestyle": ":"}
        ax.add_patch(Rectangle((x + 0.06, y + 0.04), wide - 0.12, 0.92, **style))
        said = "?" if i in masked else "" if i in gone or name == "EOA" else name
        ink = "#333333" if i in masked else "white"
        ax.text(x + wide / 2, y + 0.5, said, ha="center", va="center", fontsize=6, color=ink)
        if i in learned:
            ax.plot(x + wide / 2, y + 1.2, ".", color="black", markersize=3)
        x += wide
    ax.text(-0.6, y + 0.5, label, ha="right", va="center", fontsize=8)
    ax.set_xlim(-13, max(x + 0.5, ax.get_xlim()[1]))


def draw_figure(path: Path, rows: list[tuple]) -> None:
    """Rows of `draw_row` arguments (label, names, kinds, masked, learned, gone, gaps), one below the other, as a PNG."""
    with house_style():
        figure = Figure(figsize=(9.6, 0.34 * len(rows) + 0.62), layout="constrained")
        ax = figure.subplots()
        ax.set_xlim(-13, 1)
        for i, row in enumerate(rows):
            draw_row(ax, 1.75 * i, *row)
        ax.set_ylim(1.75 * len(rows) + 1.6, -0.4)
        ax.set_axis_off()
        legend(
            ax, ["text", "target", "mask", "control"], loc="lower left", bbox_to_anchor=(0.12, -0.04), ncols=4
        )
        ax.text(ax.get_xlim()[1], 1.75 * len(rows) + 0.75, "dot: has a loss", ha="right", fontsize=8)
        figure.savefig(path, dpi=150)


def noised(sequence: TokenSequence, segments: torch.Tensor, generator: torch.Generator) -> tuple[set, set]:
    """Places masked in a single stream, and places with a loss: text targets and what is masked."""
    masked = independent_masks(segments, generator, 0.2)[0][0].nonzero().flatten().tolist()
    return set(masked), set(masked) | {i for i, said in enumerate(sequence.targets) if said}


def draw_banom(folder: Path) -> None:
    names, sequence = spell(REPLY)
    g, rows = torch.Generator().manual_seed(9), []
    segments = torch.where(torch.tensor([sequence.kinds]) == TARGET, 0, -1)
    for batch in range(5):
        kept = mix_objectives(segments, 0.3, g)
        masked, learned = noised(sequence, kept, g)
        label = f"batch {batch + 1}" + ("" if (kept >= 0).any() else ", clean")
        rows.append((label, names, sequence.kinds, masked, learned))
    draw_figure(folder / "banom.png", rows)


def draw_ppm(folder: Path) -> None:
    names, sequence = spell(REPLY)
    target = torch.tensor([sequence.kinds]) == TARGET
    segments, found = torch.where(target, 0, -1), {}
    for seed in range(50):  # until each outcome was drawn
        kept = preserve_prefix(segments, span_numbers(target), 0.6, torch.Generator().manual_seed(seed))
        masked, learned = noised(sequence, kept, torch.Generator().manual_seed(5))
        first = int(span_numbers(target)[kept >= 0].min())
        label = ("all may be masked", "span 1 is kept", "spans 1, 2 kept")[first]
        found.setdefault(first, (label, names, sequence.kinds, masked, learned))
    draw_figure(folder / "ppm.png", [found[first] for first in sorted(found)])


def draw_sst(folder: Path) -> None:
    names, sequence = spell("USER say 7 3 1 ASSISTANT here [24 END".split())
    rows = []
    for seed in (None, 1, 0, 3):
        cut = sequence if seed is None else truncate_span(sequence, random.Random(seed))
        segments = torch.where(torch.tensor([cut.kinds]) == TARGET, 0, -1)
        masked, learned = noised(cut, segments, torch.Generator().manual_seed(5))
        n = cut.kinds.count(TARGET)
        label = "whole: 25 slots" if seed is None else f"cut to {n} of 25"
        gone = set(range(len(cut.ids), len(names)))
        rows.append((label, names, sequence.kinds, masked, learned, gone))
    draw_figure(folder / "sst.png", rows)


def draw_two_streams(folder: Path) -> None:
    """The clean stream above the noisy one, whose slots stand under their twins: blocks of four."""
    names, sequence = spell("USER two plus three ? ASSISTANT two plus [11 makes five [7 END".split())
    kinds = torch.tensor([sequence.kinds])
    within = torch.tensor([[0] * kinds.shape[1]])
    spans = span_numbers(kinds == TARGET)
    for span in range(2):
        within[spans == span] = torch.arange(int((spans == span).sum())) // 4
    segments = torch.where(spans >= 0, 10 * spans + within, -1)
    masked = set(
        random_k_subset(segments, torch.Generator().manual_seed(4))[0][0].nonzero().flatten().tolist()
    )
    text = {i for i, said in enumerate(sequence.targets) if said}
    audio = {i for i, kind in enumerate(sequence.kinds) if kind == TARGET}
    block = segments[0].tolist()
    gaps = {i for i in range(1, len(block)) if block[i] != block[i - 1] and block[i] >= 0 <= block[i - 1]}
    rows = [
        ("clean stream", names, sequence.kinds, (), text, (), gaps),
        ("noisy stream", names, sequence.kinds, masked, masked, set(range(len(names))) - audio, gaps),
    ]
    draw_figure(folder / "two_streams.png", rows)


def draw_denoised_text(folder: Path) -> None:
    """The clean reply, filled with END, above its noisy copy: blocks of eight."""
    names, sequence = spell("USER two plus three ? ASSISTANT two plus [10 makes five [6 END".split())
    out = denoise_replies(sequence, 8)
    looks = [names[i] for i in out.ids]
    slots = torch.tensor(out.kinds) == TARGET
    start = int(slots.nonzero()[0])
    segments = torch.where(slots, (torch.arange(len(slots)) - start) // 8, -1)[None]
    masked = set(
        random_k_subset(segments, torch.Generator().manual_seed(2))[0][0].nonzero().flatten().tolist()
    )
    gaps = set(range(start + 8, len(looks), 8))
    rows = [
        ("clean stream", looks, out.kinds, (), (), (), gaps),
        ("noisy stream", looks, out.kinds, masked, masked, set(range(start)), gaps),
    ]
    draw_figure(folder / "denoised_text.png", rows)


def main(folder: Path) -> None:
    for draw in (draw_banom, draw_ppm, draw_sst, draw_two_streams, draw_denoised_text):
        draw(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
