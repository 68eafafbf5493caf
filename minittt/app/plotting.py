"""Pictures of one style: text, audio heard, audio spoken, MASK and control tokens have one colour everywhere.

The colours are those of Okabe and Ito, safe for colour-blind eyes, chosen so that each also has its own lightness and can
be told apart in greyscale. Audio that is heard is hatched as well: nobody can name a grey. Every function draws on the axes
it is given (`draw_curves` makes its own figure); none touches pyplot or changes matplotlib's settings. For your own
figures: `with house_style():`.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.rcsetup import cycler

from minittt.attention import PAD_KIND, SOURCE, TARGET, TEXT
from minittt.data.vocabulary import CONTROL

COLOURS = {
    "control": "#404040",
    "text": "#0072B2",
    "source": "#009E73",
    "target": "#E69F00",
    "mask": "#D4D4D4",
}
KIND_NAMES = {PAD_KIND: "mask", TEXT: "text", SOURCE: "source", TARGET: "target"}
LABELS = {
    "text": "text",
    "source": "audio heard",
    "target": "audio spoken",
    "mask": "MASK",
    "control": "control token",
}
HATCHES = {"source": "//////"}  # audio heard is hatched: without colour it would look much like text
EARLIER = 0.45  # strength of the colour of a key in an earlier group; in the query's own group it is 1
SPECTRUM = "magma"  # the colour map of spectrograms
FLOOR = -70.0  # dB relative to the loudest point: anything below counts as nothing
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same pictures on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[COLOURS[n] for n in ("text", "target", "source", "control")]),
    "figure.dpi": 100,
    "legend.frameon": False,
}


def house_style():
    """`with house_style():` figures made inside have this project's fonts, lines and colours."""
    return matplotlib.rc_context(STYLE)


def legend(ax: Axes, names: Sequence[str], **where) -> None:
    """Say what the colours mean, in the corner that a mask leaves free; `names` are keys of `LABELS`."""
    patches = []
    for name in names:
        patches.append(Patch(facecolor=COLOURS[name], label=LABELS[name], **_hatching(name)))
    where = {"loc": "upper right", "bbox_to_anchor": (1.0, 0.95), "fontsize": 9, **where}
    ax.legend(handles=patches, frameon=False, **where)


def _hatching(name: str) -> dict:
    """What a patch needs besides its colour to be hatched; nothing for kinds that are not."""
    if name not in HATCHES:
        return {}
    return {"hatch": HATCHES[name], "edgecolor": "white", "linewidth": 0}


# ---- attention masks


def shade_mask(mask, kinds, groups) -> np.ndarray:
    """What to paint where: 0 hidden, 1 + 2 * kind for a key in another group, 2 + 2 * kind in the query's own group.

    mask (L, L) bool, [q, k] True where q sees k; kinds, groups (L,). Returns (L, L) indices into `mask_palette()`.
    """
    mask = np.asarray(mask, bool)
    kinds = np.asarray(kinds)
    groups = np.asarray(groups)
    if mask.shape != (len(kinds), len(kinds)) or kinds.shape != groups.shape:
        shapes = f"{mask.shape} needs as many kinds and groups, not {kinds.shape} and {groups.shape}"
        raise ValueError(f"a mask {shapes}")
    own = groups[:, None] == groups[None, :]  # (L, L)
    return np.where(mask & (kinds >= 0), 1 + 2 * kinds[None, :] + own, 0)


def mask_palette() -> np.ndarray:
    """(7, 4) red, green, blue and opacity: nothing, then for each kind the pale colour and the full one."""
    shades = [(1.0, 1.0, 1.0, 0.0)]
    for kind in (TEXT, SOURCE, TARGET):
        colour = colors.to_rgb(COLOURS[KIND_NAMES[kind]])
        for strength in (EARLIER, 1.0):
            shades.append((*colour, strength))
    return np.array(shades)


def draw_mask(ax: Axes, mask, kinds, groups, labels: Sequence[str] | None = None) -> None:
    """Who sees whom: a row per query, a column per key in the key's colour, full strength within one group.

    mask (L, L) bool; kinds, groups (L,); labels: L names for the ticks, else the group numbers.
    """
    # 1. The mask.
    shades = shade_mask(mask, kinds, groups)  # (L, L)
    ax.imshow(mask_palette()[shades], interpolation="nearest")
    # 2. A band of colours along both sides shows the kind of each token.
    band = max(0.4, len(kinds) / 40)
    near = -0.5 - 0.3 * band
    far = -0.5 - 1.3 * band
    end = len(kinds) - 0.5
    row = np.array([[colors.to_rgb(COLOURS[KIND_NAMES[int(kind)]]) for kind in kinds]])  # (1, L, 3)
    ax.imshow(row, extent=(-0.5, end, near, far), interpolation="nearest")
    ax.imshow(row.transpose(1, 0, 2), extent=(far, near, end, -0.5), interpolation="nearest")
    # 3. Hatching over the keys that are audio heard, and over their part of the bands.
    seen = np.asarray(mask, bool) & (np.asarray(kinds) == SOURCE)[None, :]  # (L, L)
    for left, right in _runs(seen.T):
        _hatch(ax, left - 0.5, far, right - left, near - far)
        _hatch(ax, far, left - 0.5, near - far, right - left)
        for top, bottom in _runs(seen[:, left]):
            _hatch(ax, left - 0.5, top - 0.5, right - left, bottom - top)
    ax.set(xlim=(far, end), ylim=(end, far), aspect="equal")
    _tick_groups(ax, np.asarray(groups), labels)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Runs of equal adjacent rows, each as (first, one past the last); empty rows are left out."""
    begins = [0]
    for i in range(1, len(rows)):
        if not np.array_equal(rows[i], rows[i - 1]):
            begins.append(i)
    ends = [*begins[1:], len(rows)]
    runs = zip(begins, ends, strict=True)
    return [(begin, end) for begin, end in runs if np.any(rows[begin])]


def _hatch(ax: Axes, x: float, y: float, wide: float, high: float) -> None:
    """White hatching over a rectangle, without a face or frame."""
    ax.add_patch(Rectangle((x, y), wide, high, facecolor="none", **_hatching("source")))


def _tick_groups(ax: Axes, groups: np.ndarray, labels: Sequence[str] | None) -> None:
    """Name every token, or number the groups where they begin."""
    if labels is not None:
        at = list(range(len(groups)))
        texts = list(labels)
        rotation = 90
        by_group = ""
    else:
        apart = max(1, len(groups) // 18)  # numbers closer than this would touch, and are left out
        at = []
        for i in range(len(groups)):
            begins = i == 0 or groups[i] != groups[i - 1]
            if begins and (not at or i - at[-1] >= apart):
                at.append(i)
        texts = [str(int(groups[i])) for i in at]
        rotation = 0
        by_group = ", by group"
    ax.set_xticks(at, texts, rotation=rotation, fontsize=9)
    ax.set_yticks(at, texts, fontsize=9)
    ax.tick_params(length=0)
    ax.set_xlabel(f"key{by_group}", fontsize=9)
    ax.set_ylabel(f"query{by_group}", fontsize=9)


# ---- sound


def spectrogram(wave, sample_rate: int) -> np.ndarray:
    """wave (samples,) -> (F, T) in dB below its loudest point, `FLOOR` to 0; Hann windows, 32 ms every 8 ms.

    Row 0 is 0 Hz, the last row sample_rate / 2.
    """
    wave = np.asarray(wave, np.float64)
    if wave.ndim != 1 or len(wave) == 0:
        raise ValueError(f"a spectrogram needs a wave (samples,), 1 or more, not {wave.shape}")
    size = max(8, round(0.032 * sample_rate))
    hop = max(1, size // 4)
    padded = np.pad(wave, (size // 2, size // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]  # (T, size)
    spectrum = np.fft.rfft(frames * np.hanning(size), axis=1).T  # (F, T)
    power = np.abs(spectrum) ** 2
    loudest = max(power.max(), 1e-12)
    lowest = 10 ** (FLOOR / 10)
    return 10 * np.log10(np.maximum(power / loudest, lowest))


def draw_spectrogram(ax: Axes, wave, sample_rate: int) -> None:
    """A spectrogram of wave (samples,) over seconds and kHz."""
    extent = (0, len(wave) / sample_rate, 0, sample_rate / 2000)
    decibels = spectrogram(wave, sample_rate)
    ax.imshow(decibels, extent=extent, origin="lower", aspect="auto", cmap=SPECTRUM, vmin=FLOOR, vmax=0)
    ax.set_xlabel("seconds", fontsize=9)
    ax.set_ylabel("kHz", fontsize=9)
    ax.tick_params(labelsize=9)


# ---- sequences and their unmasking


def token_look(name: str, kind: int) -> str:
    """The key in `COLOURS` for a token of this name and kind."""
    if name == "MASK":
        return "mask"
    if kind == TEXT and name in CONTROL:
        return "control"
    return KIND_NAMES[kind]


def draw_sequence(ax: Axes, ids, kinds, groups, names: Callable[[int], str], width: float = 48.0) -> None:
    """An interleaved sequence as boxes, each group with its number below; audio codes are empty boxes.

    ids, kinds, groups (L,); names: id -> its name; width: that of a line, where a code is 1 wide. EOA is hollow.
    """
    x = 0.0  # where the next box begins
    y = 0.0  # of its line
    left = 0.0  # where the group begins
    before = None  # the group of the box before, in the same line
    tokens = []
    for token, kind, group in zip(ids, kinds, groups, strict=True):
        tokens.append((names(int(token)), int(kind), int(group)))
    for i, (name, kind, group) in enumerate(tokens):
        # 1. The box: on this line, or on the next if it no longer fits.
        is_code = kind in (SOURCE, TARGET)
        wide = 1.0 if is_code else 1.0 + 0.72 * len(name.strip())
        if before is not None and before != group:
            x += 0.35
        if x > 0 and x + wide > width:
            x = 0.0
            y += 1.72
            before = None
        if before != group:
            left = x
        _box(ax, x, y, wide, name, token_look(name, kind))
        x += wide
        before = group
        # 2. The number of the group, below its middle.
        if i + 1 == len(tokens) or tokens[i + 1][2] != group:
            middle = (left + x) / 2
            ax.text(middle, y + 1.34, f"{group}", ha="center", va="center", fontsize=9, color="#555555")
    ax.set(xlim=(-0.3, width + 0.3), ylim=(y + 1.7, -0.3))
    ax.set_axis_off()


def _box(ax: Axes, x: float, y: float, wide: float, name: str, look: str) -> None:
    """One token as a coloured box with its name in it."""
    colour = COLOURS[look]
    face = "white" if name == "EOA" else colour
    size = (wide - 0.2, 0.9)
    ax.add_patch(Rectangle((x + 0.1, y + 0.05), *size, facecolor=face, edgecolor=colour))
    if look in HATCHES and name != "EOA":  # over the box, so that its frame keeps its colour
        hatching = [Rectangle((x + 0.1, y + 0.05), *size)]
        ax.add_collection(PatchCollection(hatching, facecolor="none", **_hatching(look)))
    labels = {"text": name.strip(), "control": name, "mask": "?"}
    label = labels.get(look, "")
    ink = "#333333" if look == "mask" else "white"
    ax.text(x + wide / 2, y + 0.5, label, ha="center", va="center", fontsize=9, color=ink)


def draw_unmasking(
    ax: Axes, steps: Sequence, mask_id: int, end_audio: int | None = None, first_code: int = 0
) -> None:
    """How a block, or a span of several, was filled in: a row per step, a column per slot.

    steps: the `decoding.DenoisingStep`s of one span, in order. The higher its entropy was in this step, the darker a masked
    slot; what the step revealed has a frame; end_audio is pale. Codes are printed, minus `first_code`, if there are at most
    20 slots. Raises: ValueError if there is no step, or if there are steps of several spans.
    """
    spans = {step.span for step in steps}
    if len(spans) != 1:
        raise ValueError(f"draw_unmasking needs the steps of one span, not of {len(spans)}")
    states, entropies, revealed = _unroll(steps, mask_id)
    n_slots = len(states[-1])
    known = [entropy for row in entropies for entropy in row if entropy is not None]
    highest = max(1e-9, *known)
    for y, x in product(range(len(states)), range(n_slots)):
        token = states[y][x]
        entropy = entropies[y][x]
        # 1. The slot: coloured if revealed, grey by its entropy if masked.
        look: dict[str, Any] = {"linewidth": 0}
        if token != mask_id:
            look["facecolor"] = COLOURS["target"]
            look["alpha"] = 0.35 if token == end_audio else 1.0
        elif entropy is not None:
            look["facecolor"] = f"{0.9 - 0.55 * entropy / highest:.3f}"
        else:
            continue  # in a block not begun yet
        ax.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, **look))
        # 2. A frame around what this step revealed.
        if x in revealed[y]:
            ax.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor="black"))
        # 3. The code.
        if token != mask_id and n_slots <= 20:
            label = "EOA" if token == end_audio else f"{token - first_code}"
            ax.text(x + 0.5, y + 0.5, label, ha="center", va="center", fontsize=8)
    ax.set(xlim=(0, n_slots), ylim=(len(states), 0), xlabel="slot", ylabel="step", xticks=[])
    rows = range(0, len(states), max(1, len(states) // 16))  # those that are numbered
    ax.set_yticks([y + 0.5 for y in rows], [f"{y + 1}" for y in rows], fontsize=9)
    ax.tick_params(length=0)


def _unroll(
    steps: Sequence, mask_id: int
) -> tuple[list[list[int]], list[list[float | None]], list[set[int]]]:
    """Per step: every slot of the span; entropies, None outside the step's block; the slots revealed."""
    # 1. Where each block begins.
    sizes = {step.block: len(step.ids) for step in steps}
    starts = {}
    n_slots = 0
    for block in sorted(sizes):
        starts[block] = n_slots
        n_slots += sizes[block]
    # 2. The whole span after each step.
    state = [mask_id] * n_slots
    states: list[list[int]] = []
    entropies: list[list[float | None]] = []
    revealed: list[set[int]] = []
    for step in steps:
        start = starts[step.block]
        where = slice(start, start + len(step.ids))
        state[where] = step.ids
        entropy: list[float | None] = [None] * n_slots
        entropy[where] = step.entropies
        states.append(list(state))
        entropies.append(entropy)
        revealed.append({start + slot for slot in step.revealed})
    return states, entropies, revealed


# ---- training


def draw_curves(log_lines: Sequence[dict]) -> Figure:
    """Training curves from the lines of log.jsonl (see `trainer.py`): losses, gradient norm, speed."""
    if not log_lines:
        raise ValueError("there is nothing to draw: the log has no lines")
    with house_style():
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        axes = figure.subplots(2, 2)
        for ax, name, colour in ((axes[0, 0], "text", "text"), (axes[0, 1], "audio", "target")):
            _draw_loss(ax, log_lines, name, COLOURS[colour])
        norms = _series(log_lines, "gradient_norm")
        speeds = _series(log_lines, "tokens_per_s")
        axes[1, 0].plot(*norms, color=COLOURS["control"], linewidth=0.7)
        axes[1, 0].set(title="gradient norm, before clipping", yscale="log")
        axes[1, 1].plot(*speeds, color=COLOURS["source"])
        axes[1, 1].set(title="tokens per second")
        axes[1, 1].set_ylim(0, 1.15 * max([*speeds[1], 1]))
        for ax in axes.flat:
            ax.set_xlabel("step")
            ax.grid(alpha=0.25, linewidth=0.6)
    return figure


def _draw_loss(ax: Axes, lines: Sequence[dict], name: str, colour: str) -> None:
    """The loss of each step, its running mean, and the held-out loss."""
    steps, losses = _series(lines, name)
    ax.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.7)
    window = max(1, len(losses) // 40)
    means = losses
    if len(losses):
        means = np.convolve(losses, np.ones(window) / window, "valid")
    middles = steps[window // 2 :][: len(means)]
    ax.plot(middles, means, color=colour, label="training")
    held_out = _series(lines, f"held_out_{name}")
    ax.plot(*held_out, color="black", linestyle="--", marker="o", markersize=3, label="held out")
    ax.set(title=f"{name} loss, nats per token")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9)


def _series(lines: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one figure in the log, where it was logged."""
    noted = [line for line in lines if key in line]
    steps = np.array([line["step"] for line in noted])
    values = np.array([line[key] for line in noted])
    return steps, values
