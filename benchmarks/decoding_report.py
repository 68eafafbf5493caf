"""What `decoding.py` found, as tables and a plot."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from minittt.app.plotting import house_style


@dataclass
class Run:
    """One way of decoding, measured: seconds of text and denoising forwards, and until the first block of sound."""

    way: str
    preset: str
    prompt: int
    rows: int
    text: list[float] = field(default_factory=list)
    denoising: list[float] = field(default_factory=list)
    first_sound: float = 0.0
    total: float = 0.0
    ids: list[list[int]] = field(default_factory=list)


def row_of(run: Run) -> dict:
    """Medians, and what follows from them, per row."""
    steps = statistics.median(run.denoising) if run.denoising else float("nan")
    return {
        "way": run.way,
        "preset": run.preset,
        "prompt": run.prompt,
        "rows": run.rows,
        "text_ms": 1e3 * statistics.median(run.text),
        "step_ms": 1e3 * steps,
        "text_s": sum(run.text),
        "denoising_s": sum(run.denoising),
        "first_sound_s": run.first_sound,
        "total_s": run.total,
    }


HEAD = f"{'':12} {'preset':7} {'prompt':>6} {'rows':>5} {'ms/text':>8} {'ms/step':>8} {'sound s':>8} {'all s':>8}"


def line(row: dict) -> str:
    """One line of the table."""
    names = f"{row['way']:12} {row['preset']:7} {row['prompt']:6} {row['rows']:5}"
    times = f"{row['text_ms']:8.2f} {row['step_ms']:8.2f} {row['first_sound_s']:8.3f} {row['total_s']:8.3f}"
    return f"{names} {times}"


def show(found: dict, args) -> None:
    """Print the tables and what they say."""
    print(
        f"{found['parameters']:,} parameters, {found['device']}, {found['threads']} threads, clock: {args.clock}"
    )
    print(f"{args.text} text tokens, a span of {args.span}, block {args.block}, {args.steps} steps\n{HEAD}")
    for row in found["compare"]:
        print(line(row))
    kept = {(r["preset"], r["prompt"]): r for r in found["compare"] if r["way"] == "cached"}
    for row in found["compare"]:
        if row["way"] in ("recomputing", "released"):
            ratio = row["total_s"] / kept[row["preset"], row["prompt"]]["total_s"]
            print(
                f"cached is {ratio:.1f} x faster than {row['way']}, {row['preset']}, prompt {row['prompt']}"
            )
    first, last = args.prompts[0], args.prompts[-1]
    times = kept["exact", last]["denoising_s"] / kept["exact", first]["denoising_s"]
    count = found["operations"][-1] / found["operations"][0]
    print(f"a block at prompt {last} takes {times:.2f} x that at {first}; operations: {count:.2f} x\n{HEAD}")
    one = found["sweep"][0]
    for row in found["sweep"]:
        gain = [one[k] / one["rows"] / (row[k] / row["rows"]) for k in ("total_s", "text_s", "denoising_s")]
        print(line(row), "  faster than one by one: all {:.2f}, text {:.2f}, denoising {:.2f}".format(*gain))
    if "graphs" not in {row["way"] for row in found["compare"]}:
        print("CUDA graphs: not measured (no CUDA device)")


def plot(found: dict, path: Path) -> None:
    """Seconds of a reply by prompt length, the gain of batches, and what the policies cost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with house_style():
        figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
        _replies(axes[0], found["compare"])
        _batches(axes[1], found["sweep"])
        if found.get("policies"):
            _policies(axes[2], found["policies"])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        pyplot.close(figure)


def _plain_ticks(axis, values: list[int]) -> None:
    axis.set_xticks(values, [str(value) for value in values])
    axis.set_xticks([], minor=True)


def _replies(axis, compare: list[dict]) -> None:
    for number, (way, preset) in enumerate(dict.fromkeys((r["way"], r["preset"]) for r in compare)):
        rows = [r for r in compare if (r["way"], r["preset"]) == (way, preset)]
        style = ("o-", "s--", "^-", "v--", "D:")[number % 5]
        seconds = [r["total_s"] for r in rows]
        axis.loglog([r["prompt"] for r in rows], seconds, style, label=f"{way}, {preset}")
    _plain_ticks(axis, sorted({r["prompt"] for r in compare}))
    axis.set(xlabel="prompt, tokens", ylabel="s", title="one reply")
    axis.legend(fontsize=8, loc="upper left")
    axis.set_ylim(top=axis.get_ylim()[1] * 6)  # room for the names


def _batches(axis, sweep: list[dict]) -> None:
    one, *batches = sweep
    for key, style in (("total_s", "o-"), ("text_s", "s--"), ("denoising_s", "^:")):
        gains = [one[key] / one["rows"] / (r[key] / r["rows"]) for r in batches]
        axis.semilogx([r["rows"] for r in batches], gains, style, label=key[:-2])
    _plain_ticks(axis, [r["rows"] for r in batches])
    axis.set(xlabel="rows in a batch", title="times faster than one by one", ylim=(0, None))
    axis.legend(fontsize=8)


def _policies(axis, policies: list[dict]) -> None:
    """Random order as a line per block size, a number of steps at each mark; other policies by marks of their own."""
    random_order = [r for r in policies if r["policy"] == "random_order"]
    for block, style in zip(sorted({r["block"] for r in random_order}), ("*", "s--", "o-"), strict=False):
        rows = [r for r in random_order if r["block"] == block]
        points = [(r["ms_per_token"], 100 * r["right"]) for r in rows]
        axis.plot(*zip(*points, strict=True), style, label=f"random order, block {block}, K =")
        for row, point in zip(rows, points, strict=True):
            axis.annotate(row["steps"], point, xytext=(5, -10), textcoords="offset points", fontsize=8)
    others = [r for r in policies if r["policy"] != "random_order"]
    for row, mark in zip(others, "v^<>DPX", strict=False):
        axis.plot(row["ms_per_token"], 100 * row["right"], mark, label=row["name"].replace("_", " "))
    axis.set(xlabel="ms per audio token", title="shipped talker: words right, %")
    axis.legend(fontsize=7, loc="lower right")
