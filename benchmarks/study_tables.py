"""tutorials/studies.md from the JSONs of `studies.py`, by one command. Nothing in it is typed by hand.

    python benchmarks/study_tables.py

A difference of two arms is looked at in three ways: seed by seed in pairs (the same base, records and questions), over seeds
without pairing, and item by item over all seeds. The first decides, corrected by Holm over all differences of a study.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from claims import holm, over_seeds, quantile, signed, two_sided
from studies import ARMS, ONE_SIZE, STUDIES
from timed_training import ROOT

SCORES = ROOT / "data_samples" / "scores" / "studies"
PAGE = ROOT / "tutorials" / "studies.md"
DRAWS = 2000  # bootstrap draws of items
LEVEL = 0.05
SEEDS = 3
HEAD = """# When does Text-to-Talk win? Three bounded studies

*Written by `python benchmarks/study_tables.py` from the JSONs in `data_samples/scores/studies`; a test compares the two.
The runs are made by `python benchmarks/studies.py`. What we make of it: [chapter 6](06_does_it_hold.md).*

This is a toy: a million parameters, minutes of one core, synthetic voices, two dozen words, three seeds. All arms of a
seed start from one network that has learned, left to right, to hear and to write, and has never spoken; they see the same
records in the same order and are asked the same questions, drawn anew for each seed. Equal time is processor time: the steps
of all presets were timed in turns on one core, and a run takes as many as fit into its minutes at that cost. The learning
rate warms up for a twentieth of the steps, whatever a step costs. Text is decoded greedily; audio is drawn at temperature
.5, slots in random order. `8/4` means blocks of 8 slots, each in 4 steps; `paper` and `nar` redraft whole spans in that way.

*Words* are 1 minus the referee's word error rate, over **all** questions, whether their text was right or not; it is below 0
where there are more errors than words to be said. *By chance* compares the same sound with the next question's truth: the
score of a row that says something else. *Forwards* are denoising steps per token of audio; *core-seconds* are processor
time per second of speech, one sentence at a time, without decoding the sound, all ways of all rows timed in turns in one
process: use them for ratios between rows, not for other machines. Nats of audio are a bound in blocks of 8, left to right
for `ar`, and over whole spans for `paper`: they are not compared here. A cell gives the mean of the seeds, and in brackets
the value of each. Intervals are 95 %, each for itself.

A verdict needs p below .05 after Holm's correction over all differences of a study, seeds in pairs. With three seeds that is
strict: an interval may leave 0 out and the verdict still be open. How many seeds *it would take* assumes that mean and
spread stay what they are, and counts the correction at its strictest; the intervals over items say what can be told of
these trainings alone."""


@dataclass(frozen=True)
class Measure:
    """A figure of a run, from its items in the way of decoding that decides: numerators and denominators."""

    name: str
    part: str  # of what `studies.measure` returns

    def items(self, run: dict, way: str) -> tuple[np.ndarray, np.ndarray]:
        """(n,) and (n,): of each item, what is right and of how much."""
        found = run["ways"][way][self.part]
        if self.part == "text_right":
            return np.array(found, float), np.ones(len(found))
        return np.array(found["right"], float), np.array(found["words"], float)

    def of(self, run: dict, way: str) -> float:
        """The figure of a run."""
        right, total = self.items(run, way)
        return float(right.sum() / total.sum())


MEASURES = (
    Measure("text of answers right", "text_right"),
    Measure("words of spoken answers", "answers"),
    Measure("words of text to speech", "tts"),
)


@dataclass(frozen=True)
class Side:
    """An arm, decoded in some way."""

    arm: str
    way: str

    def __str__(self) -> str:
        return f"`{self.arm}` {self.way}"


@dataclass(frozen=True)
class Claim:
    """What is said, and what is to beat what."""

    text: str
    ours: Side
    theirs: Side


CLAIMS = {
    "claims": (
        Claim("AR text with NAR audio, as released, beats AR alone", Side("paper", "8/8"), Side("ar", "1/1")),
        Claim(
            "AR text with NAR audio, as released, beats NAR alone", Side("paper", "8/8"), Side("nar", "8/8")
        ),
        Claim("`exact` beats `paper`", Side("exact", "8/8"), Side("paper", "8/8")),
        Claim("`exact` beats AR alone", Side("exact", "8/8"), Side("ar", "1/1")),
        Claim("`exact` beats NAR alone", Side("exact", "8/8"), Side("nar", "8/8")),
    ),
    "sizes": (
        Claim("one block size beats all, one step per slot", Side(ONE_SIZE, "8/8"), Side("exact", "8/8")),
        Claim("one block size beats all, half the steps", Side(ONE_SIZE, "8/4"), Side("exact", "8/4")),
        Claim(
            "one block size beats all, a quarter of the steps", Side(ONE_SIZE, "8/2"), Side("exact", "8/2")
        ),
        Claim("at half the forwards, `exact` beats AR alone", Side("exact", "4/2"), Side("ar", "1/1")),
        Claim("at equal forwards, one block size beats AR alone", Side(ONE_SIZE, "8/8"), Side("ar", "1/1")),
        Claim(
            "at half the forwards, one block size beats AR alone", Side(ONE_SIZE, "8/4"), Side("ar", "1/1")
        ),
    ),
    "little": (
        Claim(
            "with 1,000 records, denoising beats left to right",
            Side("exact-1000-records", "8/8"),
            Side("ar-1000-records", "1/1"),
        ),
        Claim(
            "with 300 records, denoising beats left to right",
            Side("exact-300-records", "8/8"),
            Side("ar-300-records", "1/1"),
        ),
    ),
}

Runs = dict[tuple[str, int], dict]


def load_runs(folder: Path = SCORES) -> Runs:
    """All runs that are there, by arm and seed."""
    runs = {}
    for name in ARMS:
        for seed in range(SEEDS):
            path = folder / f"{name}-{seed}.json"
            if path.is_file():
                runs[name, seed] = json.loads(path.read_text(encoding="utf-8"))
    return runs


# ---- differences


@dataclass(frozen=True)
class Difference:
    """ours - theirs of one measure: a mean over seeds, with three intervals of 95 %."""

    claim: Claim
    measure: Measure
    seeds: int
    mean: float
    paired: tuple[float, float]
    unpaired: tuple[float, float]
    items: tuple[float, float]

    @property
    def p(self) -> float:
        """How often so large a mean of pairs would be seen if nothing differed; 1 where it cannot be told."""
        error = (self.paired[1] - self.paired[0]) / 2 / quantile(max(1, self.seeds - 1))
        if self.seeds < 2 or math.isnan(error):
            return 1.0
        if error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return two_sided(self.mean / error, self.seeds - 1)

    def seeds_needed(self, comparisons: int) -> int | None:
        """Seeds after which the same mean and spread would be told from 0 among so many comparisons; None beyond 99.

        comparisons: what p is multiplied by: their number at most, in Holm's correction.
        """
        if self.seeds < 2 or self.mean == 0:
            return None
        deviation = (self.paired[1] - self.mean) / quantile(self.seeds - 1) * math.sqrt(self.seeds)
        for n in range(2, 100):
            error = deviation / math.sqrt(n)
            if error == 0 or comparisons * two_sided(self.mean / error, n - 1) < LEVEL:
                return n
        return None


def difference(runs: Runs, claim: Claim, measure: Measure) -> Difference | None:
    """Of the seeds that both arms have; None without any."""
    ours, theirs = claim.ours, claim.theirs
    seeds = [seed for seed in range(SEEDS) if (ours.arm, seed) in runs and (theirs.arm, seed) in runs]
    if not seeds:
        return None
    a = [measure.of(runs[ours.arm, seed], ours.way) for seed in seeds]
    b = [measure.of(runs[theirs.arm, seed], theirs.way) for seed in seeds]
    mean, *paired = over_seeds([x - y for x, y in zip(a, b, strict=True)])
    pairs = [
        (measure.items(runs[ours.arm, seed], ours.way), measure.items(runs[theirs.arm, seed], theirs.way))
        for seed in seeds
    ]
    return Difference(claim, measure, len(seeds), mean, tuple(paired), without_pairs(a, b), over_items(pairs))


def without_pairs(a: list[float], b: list[float]) -> tuple[float, float]:
    """The interval of a difference of means if the two lists had nothing to do with each other; degrees as the shorter's."""
    n = min(len(a), len(b))
    if n < 2:
        return math.nan, math.nan
    error = math.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))
    mean = float(np.mean(a) - np.mean(b))
    half = quantile(n - 1) * error
    return mean - half, mean + half


def over_items(pairs: list) -> tuple[float, float]:
    """The interval if these trainings were all there are: items are drawn again, in pairs, within each seed."""
    rng = np.random.default_rng(0)
    total = np.zeros(DRAWS)
    for (right, words), (their_right, their_words) in pairs:
        n = len(right)
        drawn = rng.integers(0, n, (DRAWS, n))
        ours = right[drawn].sum(1) / words[drawn].sum(1)  # (DRAWS,)
        theirs = their_right[drawn].sum(1) / their_words[drawn].sum(1)
        total += (ours - theirs) / len(pairs)
    low, high = np.quantile(total, (LEVEL / 2, 1 - LEVEL / 2))
    return float(low), float(high)


def verdict(found: Difference, corrected: float, comparisons: int) -> str:
    """In words; where nothing can be told, after how many seeds it might be. corrected: p among so many comparisons."""
    if found.seeds < SEEDS:
        return f"not measured yet ({found.seeds} of {SEEDS} seeds)"
    if corrected < LEVEL:
        return "**holds**" if found.mean > 0 else "**does not hold: the other way round**"
    needed = found.seeds_needed(comparisons)
    how_many = "more than 99 seeds" if needed is None else f"about {max(needed, SEEDS + 1)} seeds"
    return f"cannot be told; it would take {how_many}"


# ---- the page


def interval(bounds: tuple[float, float]) -> str:
    """'[+0.010, +0.020]'."""
    return "-" if math.isnan(bounds[0]) else f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]"


def differences(runs: Runs, study: str) -> list[Difference]:
    """Of each claim of a study and each measure, where there are runs."""
    found = []
    for claim in CLAIMS[study]:
        for measure in MEASURES:
            one = difference(runs, claim, measure)
            if one is not None:
                found.append(one)
    return found


def differences_of(runs: Runs, study: str) -> list[str]:
    """The table of a study's differences, their p corrected over the whole of it."""
    found = differences(runs, study)
    corrected = holm([one.p for one in found])
    lines = [
        "| claim | measure | difference, in pairs of seeds | unpaired | over items | p, after Holm | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, p in zip(found, corrected, strict=True):
        cells = [
            f"{one.claim.text} ({one.claim.ours} against {one.claim.theirs})",
            one.measure.name,
            signed(one.mean, *one.paired),
            interval(one.unpaired),
            interval(one.items),
            f"{p:.3f}" if one.seeds == SEEDS else "-",
            verdict(one, p, len(found)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if found else ["Not measured yet."]


def spread(values: list[float]) -> str:
    """The mean, and each seed's value."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{sum(known) / len(known):.3f} ({', '.join(f'{value:.2f}' for value in known)})"


def rows_of(runs: Runs, study: str, paces: dict[str, dict]) -> list[str]:
    """The table of a study: each arm in each way of decoding, a mean and each seed's value. paces: of an arm's ways."""
    lines = [
        "| | text right | words of answers | by chance | words of text to speech | by chance | voice coherence"
        " | length | forwards | core-seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in STUDIES[study]:
        some = [runs[arm, seed] for seed in range(SEEDS) if (arm, seed) in runs]
        for way in some[0]["ways"] if some else []:
            each = [run["ways"][way] for run in some]
            cells = [f"`{arm}` {way}", *(spread([m.of(run, way) for run in some]) for m in MEASURES[:2])]
            cells.append(spread([one["answers"]["floor"] for one in each]))
            cells.append(spread([MEASURES[2].of(run, way) for run in some]))
            for name in ("floor", "coherence", "length", "forwards_per_token"):
                cells.append(spread([one["tts"][name] for one in each]))
            seconds = paces.get(ARMS[arm].preset, {}).get(way)
            cells.append("-" if seconds is None else f"{seconds:.3f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else ["Not measured yet."]


def trained(runs: Runs, study: str) -> list[str]:
    """What was trained: steps, epochs, word errors of dictation, nats."""
    lines = [
        "| | seeds | steps | epochs | dictation: words wrong | text: nats per token | audio: nats per token, its own way |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in STUDIES[study]:
        some = [runs[arm, seed] for seed in range(SEEDS) if (arm, seed) in runs]
        if not some:
            lines.append(f"| `{arm}` | 0 of {SEEDS} | | | | | |")
            continue
        wrong = [sum(run["asr"]["errors"]) / sum(run["asr"]["words"]) for run in some]
        last = [run["curve"][-1] for run in some]
        cells = [
            f"`{arm}`",
            f"{len(some)} of {SEEDS}",
            f"{some[0]['steps']:,}",
            f"{some[0]['epochs']:.1f}",
            spread(wrong),
            spread([point["text"] for point in last]),
            spread([point["audio"] for point in last]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def over_time(runs: Runs) -> list[str]:
    """Little data: scores on held-out questions during training, where over-fitting shows."""
    lines = ["| | minutes | epochs | text right | words of answers | words of text to speech | audio: nats |"]
    lines.append("|---|---|---|---|---|---|---|")
    for arm in STUDIES["little"]:
        some = [runs[arm, seed] for seed in range(SEEDS) if (arm, seed) in runs]
        for number, point in enumerate(some[0]["curve"] if some else []):
            at = [run["curve"][number] for run in some]
            minutes = some[0]["budget"]["seconds"] / 60 * point["steps"] / some[0]["steps"]
            cells = [f"`{arm}`", f"{minutes:.0f}", f"{point['epochs']:.0f}"]
            cells += [spread([one[name] for one in at]) for name in ("text_right", "answers", "tts", "audio")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else ["Not measured yet."]


def bases_again(folder: Path) -> list[str]:
    """A sentence on the bases that were trained again for the last study, or nothing."""
    told = []
    for seed in range(SEEDS):
        path = folder / "bases" / f"{seed}.json"
        base = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for again in base.get("again", []):
            text = base["curve"][-1]["text"]
            told.append(
                f"seed {seed} on {again['machine']}: {again['text']:.3f} nats of text, {text:.3f} the first time"
            )
    if not told:
        return []
    return [
        "For this study some bases were trained again, in as many steps as the first time. The data and all that is drawn"
        " are the same, but another processor rounds otherwise, and a training soon goes elsewhere: so compare these rows"
        f" with each other, not with those above ({'; '.join(told)})."
    ]


TITLES = {
    "claims": "1. The claims: twenty minutes each",
    "sizes": "2. One block size or many",
    "little": "3. Little data: three quarters of an hour on 300 and on 1,000 records",
}


def page(folder: Path = SCORES) -> str:
    """The whole page."""
    runs = load_runs(folder)
    parts = [HEAD]
    cost = folder / "cost.json"
    if cost.is_file():
        known = json.loads(cost.read_text(encoding="utf-8"))
        each = ", ".join(f"`{name}` {seconds:.2f}" for name, seconds in known["seconds_a_step"].items())
        parts.append(f"Seconds per step: {each} ({known['machine']}, torch {known['torch']}).")
    paces = {}
    if (folder / "pace.json").is_file():
        timed = json.loads((folder / "pace.json").read_text(encoding="utf-8"))
        paces = timed["core_seconds_a_second"]
        parts.append(f"Speech was timed on: {timed['machine']}, torch {timed['torch']}.")
    for study, title in TITLES.items():
        parts.append(f"## {title}")
        if study == "little":
            parts += bases_again(folder)
        parts.append("\n".join(trained(runs, study)))
        parts.append("\n".join(rows_of(runs, study, paces)))
        if study == "little":
            parts.append("\n".join(over_time(runs)))
        parts.append("\n".join(differences_of(runs, study)))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
