"""The claims that are tested, and how a verdict is computed: paired differences over seeds, with Student's t interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass

STUDENT = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
)  # 97.5 % quantiles, 1, 2, ... degrees
HOLDS, FAILS, UNTOLD = "holds", "does not hold", "cannot be told at this scale"
MISSING = "not measured yet"  # fewer than two seeds of both rows


@dataclass(frozen=True)
class Measure:
    """A figure of a run (its JSON) and which way is better: +1 more, -1 less. headline: it decides a claim."""

    name: str
    of: Callable[[dict], float]
    better: int
    headline: bool = False


def score(when: str, split: str, way: str, name: str) -> Callable[[dict], float]:
    """The value of one score of a run; nan where it was not measured."""

    def value(run: dict) -> float:
        found = run["scores"].get(when, {}).get(split, {}).get(way, [])
        return next((s["value"] for s in found if s["name"] == name), math.nan)

    return value


def loss(what: str, equal_data: bool) -> Callable[[dict], float]:
    """Nats per token at the end, or after equal data."""
    mark = "equal_data" if equal_data else "last"
    return lambda run: next((point.get(what, math.nan) for point in run["curve"] if point[mark]), math.nan)


def off_length(run: dict) -> float:
    """How far the length of spoken text is from the true one, as a share."""
    return abs(score("equal_time", "renditions", "drawn", "TTS: length against true")(run) - 1)


def _quality(when: str, where: str) -> list[Measure]:
    split = {"new renditions": "renditions", "voices never heard": "voices"}[where]
    head = when == "equal_time" and split == "renditions"
    after = {"equal_time": "equal time", "equal_data": "equal data"}[when]
    at = f"{where}, {after}"

    def named(label: str, way: str, name: str, better: int, headline: bool = False) -> Measure:
        return Measure(f"{label}, {at}", score(when, split, way, name), better, headline and head)

    return [
        named("spoken question, text right", "drawn", "spoken question, text answer right", 1, True),
        named("ASR word error rate", "drawn", "ASR word error rate", -1),
        named("spoken answer, words recognised", "drawn", "spoken answer: words recognised", 1),
        named("TTS, words recognised", "drawn", "TTS: words recognised", 1, True),
        *(
            [named("TTS, words recognised, greedy", "greedy", "TTS: words recognised", 1)]
            if split == "renditions" and when == "equal_time"
            else []
        ),
        named("TTS, voice coherence", "drawn", "TTS: voice coherence", 1),
    ]


MEASURES = [
    *_quality("equal_time", "new renditions"),
    *_quality("equal_time", "voices never heard"),
    *_quality("equal_data", "new renditions"),
    Measure("TTS, length off by, equal time", off_length, -1),
    Measure("text, nats per token, equal time", loss("text", False), -1),
    Measure("text, nats per token, equal data", loss("text", True), -1),
]


AUDIO = Measure("audio, nats per token, equal time", loss("audio", False), -1)
LEFT_TO_RIGHT = [
    Measure(f"audio left to right, nats per token, {when}", loss("audio_left_to_right", equal), -1)
    for when, equal in (("equal time", False), ("equal data", True))
]


@dataclass(frozen=True)
class Claim:
    """What is said, and the two rows that test it: `ours` is to beat `theirs`."""

    text: str
    ours: str
    theirs: str
    of_the_paper: bool = True

    @property
    def measures(self) -> list[Measure]:
        """All; and nats of audio where both rows measure the same likelihood of it."""
        both = {self.ours, self.theirs}
        if all(row.startswith("paper") for row in both):
            return [*MEASURES, AUDIO]
        return [*MEASURES, *LEFT_TO_RIGHT] if both == {"exact", "ar"} else MEASURES


CLAIMS = (
    Claim("AR text with NAR audio beats AR alone", "paper", "ar"),
    Claim("AR text with NAR audio beats NAR alone", "paper", "nar"),
    Claim("BANOM helps", "paper", "paper-banom"),
    Claim("PPM helps", "paper", "paper-ppm"),
    Claim("SST helps", "paper", "paper-sst"),
    Claim("the three mistakes mended, `paper` is better", "mended", "paper", False),
    Claim("`exact` beats `paper`", "exact", "paper", False),
    Claim("`exact` beats AR alone", "exact", "ar", False),
    Claim("`exact` beats NAR alone", "exact", "nar", False),
)


@dataclass(frozen=True)
class Difference:
    """ours - theirs, a mean over seeds, its 95 % interval, and what it says."""

    measure: Measure
    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return signed(self.mean, self.low, self.high)

    @property
    def p(self) -> float:
        """How often a mean at least so far from zero would be seen if nothing differed; 1 where it cannot be told."""
        if self.seeds < 2 or math.isnan(self.low):
            return 1.0
        error = (self.high - self.low) / 2 / quantile(self.seeds - 1)  # standard error of the mean
        if error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return two_sided(self.mean / error, self.seeds - 1)

    @property
    def verdict(self) -> str:
        """Holds if the whole interval is on the better side."""
        if math.isnan(self.low) or self.low <= 0 <= self.high:
            return UNTOLD
        return HOLDS if (self.low > 0) == (self.measure.better > 0) else FAILS


def difference(runs: dict[tuple[str, int], dict], claim: Claim, measure: Measure) -> Difference:
    """Seed by seed: the same records in the same order, the same questions. runs: by (row, seed)."""
    seeds = sorted(seed for row, seed in runs if row == claim.ours and (claim.theirs, seed) in runs)
    pairs = [(measure.of(runs[claim.ours, s]), measure.of(runs[claim.theirs, s])) for s in seeds]
    values = [a - b for a, b in pairs if not math.isnan(a - b)]
    return Difference(measure, *over_seeds(values), len(values))


def over_seeds(values: list[float]) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval of the mean; nan bounds for fewer than two values."""
    n = len(values)
    mean = sum(values) / n if n else math.nan
    if n < 2:
        return mean, math.nan, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = quantile(n - 1) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


def quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; beyond nine degrees that of nine, which is a little too wide."""
    return STUDENT[min(degrees, len(STUDENT)) - 1]


def two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|) of Student's t with a whole number of degrees of freedom: a finite sum, without tables."""
    angle = math.atan(abs(t) / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for j in range(1, degrees // 2 + 1):
        total += term
        term *= cosine**2 * (2 * j / (2 * j + 1) if odd else (2 * j - 1) / (2 * j))
    inside = math.sin(angle) * total
    if odd:
        inside = 2 / math.pi * (angle + inside)
    return max(0.0, 1 - inside)


def holm(ps: list[float]) -> list[float]:
    """Holm's correction for many comparisons, whatever their dependence: each p as it stands among the others."""
    corrected = [1.0] * len(ps)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected


def signed(mean: float, low: float, high: float) -> str:
    """'+0.050 [-0.020, +0.120]'."""
    if math.isnan(mean):
        return "-"
    return f"{mean:+.3f}" + ("" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")


def verdict(found: list[Difference]) -> str:
    """Of a claim, by its headline measures: those that can be told must agree."""
    heads = [d for d in found if d.measure.headline]
    if all(d.seeds < 2 for d in heads):
        return MISSING
    told = {d.verdict for d in heads} - {UNTOLD}
    return told.pop() if len(told) == 1 else UNTOLD


def sentence(claim: Claim, found: list[Difference]) -> str:
    """The verdict on a claim, with the figures of its headline measures."""
    heads = [d for d in found if d.measure.headline and d.seeds > 1]
    why = ", as measures disagree" if {HOLDS, FAILS} <= {d.verdict for d in heads} else ""
    figures = "; ".join(f"{d.measure.name} {d}" for d in heads)
    return f"{claim.text}: **{verdict(found)}**{why}" + (f" ({figures})." if heads else ".")
