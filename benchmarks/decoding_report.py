"""What `decoding.py` found, as tables and a plot."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path


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

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    for way, preset in dict.fromkeys((r["way"], r["preset"]) for r in found["compare"]):
        rows = [r for r in found["compare"] if (r["way"], r["preset"]) == (way, preset)]
        axes[0].loglog(
            [r["prompt"] for r in rows], [r["total_s"] for r in rows], "o-", label=f"{way}, {preset}"
        )
    axes[0].set(xlabel="prompt, tokens", ylabel="s per reply", title="one reply")
    one, *batches = found["sweep"]
    for key in ("total_s", "text_s", "denoising_s"):
        gains = [one[key] / one["rows"] / (r[key] / r["rows"]) for r in batches]
        axes[1].loglog([r["rows"] for r in batches], gains, "o-", label=key[:-2])
    axes[1].set(xlabel="rows in a batch", ylabel="times faster than one by one", title="batches")
    for row in found.get("policies", []):
        axes[2].plot(row["ms_per_token"], 100 * row["right"], "o")
        axes[2].annotate(row["name"], (row["ms_per_token"], 100 * row["right"]), fontsize=7)
    axes[2].set(xlabel="ms per audio token", ylabel="words right, %", title="shipped talker")
    for axis in axes[:2]:
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
