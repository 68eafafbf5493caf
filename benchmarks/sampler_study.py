"""The sampler's own error: an oracle answers (`oracle.py`), so the only error comes from drawing several slots at once.

    python benchmarks/sampler_study.py       # under a minute; writes data_samples/scores/sampler_study.json and a picture

For each policy and number of steps: the exact divergence KL(data || sampler) and total variation, by enumeration, beside the
entropy bound: the sum over steps of sum H - max H over what is revealed together. At one slot per step, every policy that
does not look at drawn tokens is exact; the released confidence rule is not, even where slots are independent.
"""

import argparse
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure
from oracle import HiddenMarkov, Sampled, biased_bits, enumerate_sampler, kl, total_variation, voices
from pictures import save
from timed_training import ROOT, rounded

from minittt.app.cli import SAMPLES
from minittt.app.plotting import COLOURS, house_style
from minittt.codec import whole_file
from minittt.unmasking import policy_named

LENGTH = 6
WORLDS = {
    "one voice": voices(1.0, LENGTH),
    "a voice that stays 8 times in 10": voices(0.8, LENGTH),
    "independent bits, p = .9": biased_bits(0.9, LENGTH),
    "two independent bits, p = .9": biased_bits(0.9, 2),
}
STEPPED = ("random_order", "left_to_right", "entropy_order", "confidence_released")
OPEN = ("confidence_threshold:0.6", "confidence_threshold:0.9", "entropy_bound:0.5", "entropy_bound:1.2")
# so that lines can be told apart without colour, too: left to right and entropy order often coincide
LOOKS = ("o-", "s--", "^-.", "x:")
STEPS = (1, 2, 3, 6)
PICTURE = ROOT / "tutorials" / "pictures" / "sampler_study.png"


def row(world: str, oracle: HiddenMarkov, policy: str, steps: int) -> dict:
    """One policy at one number of steps; policies with a threshold take as many as they need."""
    q = oracle.joint()
    found: Sampled = enumerate_sampler(oracle, policy_named(policy), steps)
    certain = max(q, key=q.get)
    return {
        "world": world,
        "policy": policy,
        "steps": found.steps,
        "kl": max(0.0, kl(q, found.p)),  # not -0 by rounding
        "total_variation": total_variation(q, found.p),
        "entropy_bound": found.bound,
        "promised": policy != "confidence_released",
        "p_of_likeliest": found.p[certain],
        "q_of_likeliest": q[certain],
    }


def study() -> list[dict]:
    """All worlds, policies and steps."""
    rows = []
    for world, oracle in WORLDS.items():
        steps = [k for k in STEPS if k <= oracle.length]
        rows += [row(world, oracle, policy, k) for policy in STEPPED for k in steps]
        rows += [row(world, oracle, policy, oracle.length) for policy in OPEN]
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """KL against steps, a panel a world; the entropy bound of random order dashed."""
    with house_style():
        figure = Figure(figsize=(12, 3.4), layout="constrained")
        worlds = list(WORLDS)[:3]
        for ax, world in zip(figure.subplots(1, 3), worlds, strict=True):
            mine = [r for r in rows if r["world"] == world]
            colours = [COLOURS[name] for name in ("text", "source", "control", "target")]
            for policy, colour, look in zip(STEPPED, colours, LOOKS, strict=True):
                line = [r for r in mine if r["policy"] == policy]
                steps = [r["steps"] for r in line]
                kl = [r["kl"] for r in line]
                ax.plot(steps, kl, look, color=colour, markersize=5, fillstyle="none", label=policy)
                if policy == "random_order":
                    ax.plot(
                        steps,
                        [r["entropy_bound"] for r in line],
                        linestyle=(0, (1, 1)),
                        color=colour,
                        label="its entropy bound",
                    )
            for policy, marker in zip(OPEN, "^v<>", strict=True):
                [r] = [r for r in mine if r["policy"] == policy]
                ax.plot(r["steps"], r["kl"], marker, color=COLOURS["control"], markersize=5, label=policy)
            ax.set(
                title=world, xlabel="steps", ylabel="KL(data || sampler), nats", xticks=range(1, LENGTH + 1)
            )
        figure.legend(*ax.get_legend_handles_labels(), fontsize=7, loc="outside right upper")
        save(figure, path)


def main() -> None:
    """Enumerate, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=SAMPLES / "scores" / "sampler_study.json")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = study()
    with whole_file(args.json) as unfinished:
        unfinished.write_text(
            json.dumps(rounded({"length": LENGTH, "rows": rows}), indent=1) + "\n", encoding="utf-8"
        )
    draw(rows, args.picture)
    for r in rows:
        print(
            "{world:36} {policy:26} {steps:5.2f} steps  KL {kl:.4f}  TV {total_variation:.4f}  bound "
            "{entropy_bound:.4f}".format(**r)
        )


if __name__ == "__main__":
    main()
