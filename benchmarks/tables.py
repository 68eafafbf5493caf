"""The sections of tutorials/results.md, each a function of the JSONs: computed sentences, and the tables behind them."""

import math
import statistics
from collections import Counter

from ablations import ROWS, SEEDS
from claims import (
    CLAIMS,
    FAILS,
    HOLDS,
    LEFT_TO_RIGHT,
    MEASURES,
    UNTOLD,
    Claim,
    Difference,
    Measure,
    difference,
    holm,
    over_seeds,
    score,
    sentence,
    signed,
)

Runs = dict[tuple[str, int], dict]  # the grid's JSONs by (row, seed)


def number(value: float) -> str:
    """Three decimals; a dash for what was not measured."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def bounds(score: dict) -> str:
    """'0.953 [0.931, 0.972]'."""
    return f"{number(score['value'])} [{number(score['low'])}, {number(score['high'])}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def section(sentences: list[str], *tables: str) -> str:
    """A list of sentences, then what they rest on."""
    return "\n\n".join(["\n".join(f"- {s}" for s in sentences), *tables])


def of_row(runs: Runs, row: str) -> list[dict]:
    """The runs of one row, by seed."""
    return [runs[key] for key in sorted(runs) if key[0] == row]


# ---- the grid

GREEDY = Measure(
    "spoken question, text right, greedy, new renditions, equal time",
    score("equal_time", "renditions", "greedy", "spoken question, text answer right"),
    1,
)  # shown, and part of no claim


def grid(runs: Runs, wanted: tuple[str, ...] = ROWS, seeds: int = SEEDS) -> str:
    """What has run, what is missing, and each row's figures over its seeds."""
    said = [f"{len(runs)} of {len(wanted) * seeds} runs are here."]
    absent = {row: [str(seed) for seed in range(seeds) if (row, seed) not in runs] for row in wanted}
    parts = [f"`{row}` {' '.join(those)}" for row, those in absent.items() if those]
    said += [f"Missing, with their seeds: {'; '.join(parts)}."] if parts else []
    about = {
        "Seconds of training": lambda run: f"{run['budget']['seconds']:g}",
        "Seconds in which the network they start from learned to hear": lambda run: (
            f"{run['budget']['base_seconds']:g}"
        ),
        "Equal data after, records": lambda run: run["budget"]["equal_records"],
        "Machine": lambda run: run["machine"],
        "Commit": lambda run: run["commit"],
        "Parameters": lambda run: run["parameters"],
    }
    for name, of in about.items():
        found = Counter(of(run) for run in runs.values())
        said += (
            [f"{name}: {', '.join(f'{value} ({n} runs)' for value, n in found.items())}."] if found else []
        )
    there = [row for row in wanted if of_row(runs, row)]
    if not there:
        return section(said)
    seen = [statistics.mean(run["curve"][-1]["records"] for run in of_row(runs, row)) for row in there]
    rows = [
        ["seeds", *(str(len(of_row(runs, row))) for row in there)],
        ["records seen", *(f"{records:.0f}" for records in seen)],
        ["share of the seconds in warm-up", *(warm_up(of_row(runs, row)) for row in there)],
        [
            "spoken answers that count, new renditions, equal time",
            *(counted(of_row(runs, row)) for row in there),
        ],
    ]
    for measure in [*MEASURES, GREEDY, *LEFT_TO_RIGHT]:
        rows.append([measure.name, *(mean_of(measure, of_row(runs, row)) for row in there)])
    head = ["mean ± standard deviation of the seeds", *(f"`{row}`" for row in there)]
    return section(said, table(head, rows))


def warm_up(runs: list[dict]) -> str:
    """'0.49': the mean share of a run's seconds before its learning rate was at its full height; a dash if unknown."""
    shares = []
    for run in runs:
        steps = run.get("settings", {}).get("warmup")
        ended = [entry["seconds"] for entry in run.get("log", []) if steps and entry["step"] >= steps]
        if ended:
            shares.append(ended[0] / run["budget"]["seconds"])
    return f"{statistics.mean(shares):.2f}" if shares else "-"


def counted(runs: list[dict]) -> str:
    """'32 to 43': how many spoken answers of a run are judged, those whose text is right; a dash if unknown."""
    items = []
    for run in runs:
        found = run["scores"].get("equal_time", {}).get("renditions", {}).get("drawn", [])
        items += [s["items"] for s in found if s["name"] == "spoken answer: words recognised"]
    return f"{min(items)} to {max(items)}" if items else "-"


def mean_of(measure: Measure, runs: list[dict]) -> str:
    """'0.606 ± 0.020' over runs; a dash if one of them was not measured."""
    values = [measure.of(run) for run in runs]
    if any(map(math.isnan, values)) or len(values) < 2:
        return number(sum(values) / len(values))
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


# ---- the claims


def claims(runs: Runs) -> str:
    """One sentence per claim, then every difference behind it."""
    said, tables, heads = [], [], []
    for claim in CLAIMS:
        found = [difference(runs, claim, measure) for measure in claim.measures]
        heads += [(claim, d) for d in found if d.measure.headline and d.seeds > 1]
        said.append(("" if claim.of_the_paper else "(ours) ") + sentence(claim, found))
        if any(d.seeds for d in found):
            tables.append(f"### `{claim.ours}` less `{claim.theirs}`\n\n{_differences(found)}")
    return section([*said, *corrected(heads), *lengths(runs)[0]], *lengths(runs)[1], *tables)


def corrected(heads: list[tuple[Claim, Difference]]) -> list[str]:
    """Which of the claims' headline differences stand once corrected for how many there are."""
    if not heads:
        return []
    ps = holm([d.p for _, d in heads])
    verdicts = [
        (p, f"{claim.text}: {d.measure.name.split(', ')[1]}, {'p < .001' if p < 5e-4 else f'p = {p:.3f}'}")
        for p, (claim, d) in sorted(zip(ps, heads, strict=True), key=lambda pair: pair[0])
        if d.verdict != UNTOLD
    ]
    stay = [said for p, said in verdicts if p < 0.05]
    go = [said for p, said in verdicts if p >= 0.05]
    return [
        f"Corrected for {len(heads)} comparisons (Holm), these verdicts stand: {'; '.join(stay) or 'none'}. "
        f"These do not: {'; '.join(go) or 'none'}."
    ]


def _differences(found: list[Difference]) -> str:
    head = ["measure", "better is", "difference, 95 %", "seeds", "verdict"]
    return table(head, [_cells(d) for d in found])


def _cells(d: Difference) -> list[str]:
    name = f"**{d.measure.name}**" if d.measure.headline else d.measure.name
    better = "more" if d.measure.better > 0 else "less"
    return [name, better, str(d), str(d.seeds), d.verdict]


def longer(runs: Runs) -> str:
    """The same tables, of the rows that were trained for more time, with all seeds that are there."""
    rows = tuple(row for row in ROWS if of_row(runs, row))
    both = [claim for claim in CLAIMS if {claim.ours, claim.theirs} <= set(rows)]
    seeds = 1 + max(seed for _, seed in runs)
    return "\n\n".join([grid(runs, rows, seeds), *(_sentence_and_table(runs, c) for c in both)])


def _sentence_and_table(runs: Runs, claim: Claim) -> str:
    found = [difference(runs, claim, measure) for measure in claim.measures]
    return f"{sentence(claim, found)}\n\n{_differences(found)}"


def lengths(runs: Runs) -> tuple[list[str], list[str]]:
    """Whether blocks handle replies of any length: true lengths and block ends, the intervals of all seeds together."""
    rows, said = [], []
    for row in ("paper", "mended", "exact"):
        found = [
            run["scores"].get("equal_time", {}).get("renditions", {}).get("drawn", [])
            for run in of_row(runs, row)
        ]
        ratios, ends = (
            [s for scores in found for s in scores if s["name"] == f"TTS: {name}" and s["items"]]
            for name in ("length against true", "spans that end on a block end")
        )
        if not ratios or not ends:
            continue
        low, high = min(s["low"] for s in ratios), max(s["high"] for s in ratios)
        at_end = f"{min(s['low'] for s in ends):.3f} to {max(s['high'] for s in ends):.3f}"
        rows.append([f"`{row}`", f"{low:.3f} to {high:.3f}", at_end])
        if row == "paper":
            word = HOLDS if low >= 0.95 and high <= 1.05 else FAILS if low > 1.05 or high < 0.95 else UNTOLD
            said = [
                f"Blocks handle replies of any length (`paper`, length within 5 % of the true one): **{word}**."
            ]
    head = ["row", "TTS length against true", "spans that end on a block end (by chance 0.125)"]
    return said, [table(head, rows)] if rows else []


# ---- the other studies


def premise(runs: list[dict]) -> str:
    """What text and audio lose without their source or their past: means over training runs, Student's interval."""
    families = list(runs[0]["scores"])
    found = {
        (family, name): over_seeds([values[name] for values in by_seed])
        for family in families
        for by_seed in [[{s["name"]: s["value"] for s in run["scores"][family]} for run in runs]]
        for name in by_seed[0]
    }
    said = [
        f"Means over {len(runs)} training runs of {runs[0]['seconds']:g} seconds from the shipped talker on; 95 % intervals."
    ]
    for name, text, sign in (
        ("text: past less source", "Text leans on its own past more than on its source", 1),
        ("audio: past less source", "Audio leans on its source more than on the blocks before", -1),
        ("audio: all its past less source", "Audio leans on its source more than on all of its own past", -1),
    ):
        mean, low, high = found["all", name]
        told = not math.isnan(low) and not low <= 0 <= high
        word = (HOLDS if low * sign > 0 else FAILS) if told else UNTOLD
        said.append(f"{text}: **{word}** ({signed(mean, low, high)} nats per token, past less source).")
    early = {name: over_seeds([_value(run["halfway"], name) for run in runs])[0] for _, name in found}
    names = list(dict.fromkeys(name for _, name in found))
    rows = [
        [name, number(early[name]), *(signed(*found[family, name]) for family in families)] for name in names
    ]
    return section(said, table(["nats per token", "all, halfway", *families], rows))


def _value(scores: list[dict], name: str) -> float:
    return next(s["value"] for s in scores if s["name"] == name)


FRONT = """Ways that no other beats in one quality (at one step per block, all policies are the same). In the picture below,
marks are filled at temperature 1, half filled at 0.5, hollow at 0, and larger for larger blocks."""
QUALITIES = ("voice coherence", "words recognised", "text right")


def sweep(made: dict) -> str:
    """Where steps matter: one step per block against one per slot; and the ways that nothing beats."""
    plain = {
        (r["block"], r["steps"]): r
        for r in made["rows"]
        if r["policy"] == "random_order" and r["temperature"] == 1.0
    }
    largest, said = max(block for block, _ in plain), []
    for quality in QUALITIES:
        one, each = plain[largest, 1][quality], plain[largest, largest][quality]
        apart = one["high"] < each["low"] or each["high"] < one["low"]
        word = "matters" if apart else "makes no difference that can be told"
        said.append(
            f"{quality}: the number of steps **{word}**: {bounds(one)} at one step per block of {largest}, "
            f"{bounds(each)} at one per slot (random order, temperature 1)."
        )
    rows = []
    for r in sorted(made["rows"], key=lambda r: r["forwards per token"]["value"]):
        alone = (
            r["steps"] > 1 or r["policy"] == "random_order"
        )  # at one step per block, all policies are the same
        if "on the front of" in r and alone:
            how = [str(r["block"]), str(r["steps"]), r["policy"], str(r["temperature"])]
            found = [number(r[name]["value"]) for name in ("forwards per token", *QUALITIES)]
            rows.append([*how, *found, number(r["voices even"]), ", ".join(r["on the front of"])])
    head = [
        "block",
        "steps",
        "policy",
        "temperature",
        "forwards per token",
        *QUALITIES,
        "voices even",
        "best in",
    ]
    return section(
        said,
        FRONT,
        table(head, rows),
    )


def sampler(made: dict) -> str:
    """The oracle's table, and what it shows of the released rule."""
    rows = made["rows"]
    [two] = [
        r
        for r in rows
        if r["world"].startswith("two") and r["policy"] == "confidence_released" and r["steps"] > 1
    ]
    kept = HOLDS if all(r["kl"] <= r["entropy_bound"] + 1e-4 for r in rows if r["promised"]) else FAILS
    single = max(
        abs(r["kl"])
        for r in rows
        if r["promised"] and r["entropy_bound"] == 0 and "threshold" not in r["policy"]
    )
    released = [r for r in rows if r["world"] == rows[0]["world"] and r["policy"] == "confidence_released"]
    worse = released[-1]["kl"] > released[0]["kl"]
    said = [
        f"Two independent bits, 1 with probability .9: the released confidence rule draws 11 with probability "
        f"{two['p_of_likeliest']:.3f}; the true probability is {two['q_of_likeliest']:.3f}.",
        f"More steps make the released rule **{'worse' if worse else 'no worse'}**: in the world of {released[0]['world']}, "
        f"KL {released[0]['kl']:.3f} nats at one step, {released[-1]['kl']:.3f} at one slot per step.",
        f"One slot per step is exact for every policy that does not look at drawn tokens (largest KL {single:.1e} nats).",
        f"Every such policy stays within the entropy bound at any number of steps: **{kept}**.",
    ]
    cells = [
        [
            r["world"],
            r["policy"],
            f"{r['steps']:.2f}",
            number(r["kl"]),
            number(r["total_variation"]),
            _promise(r),
        ]
        for r in rows
    ]
    head = ["world", "policy", "steps", "KL(data, sampler), nats", "total variation", "entropy bound"]
    return section(said, table(head, cells))


def _promise(row: dict) -> str:
    return number(row["entropy_bound"]) if row["promised"] else "none"
