"""How sure a talker is: from the probabilities of its own text to a chance of being right, calibrated on separate data.

A network is too sure of what it has never met, and its probabilities are not chances of being right. So replies to records
that no training run saw, some of them foreign, are marked right or wrong, and a logistic curve is fitted to them. Its
parameters go into the talker's header. So does the certainty below which the talker answers a question by saying that it
did not understand: as high as it can be at the cost of one right answer in two hundred.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus
from minittt.errors import MinitttError
from minittt.evaluation.evaluate import ask
from minittt.evaluation.refusals import knows_how_to_decline, refused
from minittt.evaluation.scores import same_text
from minittt.talker import Declining, Talker, decoding_settings
from minittt.world.lexicon import NOT_UNDERSTOOD

ANSWER = "answer"  # the instruction under which questions are asked
RIGHT_LOST = 0.005  # share of right answers that may be declined for being unsure
FLOOR = 1e-4  # nats per token: anything more certain counts as this certain


@dataclass(frozen=True)
class Calibration:
    """P(right) = 1 / (1 + exp(-(offset - slope * surprise))); with a note of what it was fitted on."""

    offset: float
    slope: float  # 0 or more: more surprise is never more confidence
    items: int  # replies that it was fitted on
    right: float  # share of them that was right

    def confidence(self, certainty: float) -> float:
        """The chance that a reply of this certainty (`Reply.certainty`) is right; 0 for a reply without text."""
        if math.isnan(certainty):
            return 0.0
        return float(_logistic(self.offset - self.slope * surprise(certainty)))

    def as_field(self) -> dict:
        """For the header."""
        return asdict(self)


def confidence(info: dict, certainty: float) -> float | None:
    """The chance that a reply of this certainty is right, by the calibration in a talker's `info`; None without one."""
    fields = info.get("confidence")
    if fields is None:
        return None
    return Calibration(**fields).confidence(certainty)


def calibrate_on(talker: Talker, corpus: Corpus, records: list[dict]) -> tuple[Calibration, Declining | None]:
    """Have the talker reply to these records, and fit the curve to which answers are right, word for word.

    It guesses from then on, whatever its file said. The second result is when it should decline, for a talker that knows how
    to say so. Raises MinitttError without records, or if all answers are right or all wrong: then there is nothing to learn.
    """
    if not records:
        raise MinitttError("there is no record to calibrate on: use a corpus that has the split")
    settings = decoding_settings(16, 1)  # how well it speaks does not count
    answers = ask(talker.always_guess(), corpus, records, settings)
    certainties = [reply.certainty for reply in answers.replies]
    right = [same_text(reply_text(record), reply.text) for record, reply in answers.pairs()]
    if len(set(right)) == 1:
        which = "right" if right[0] else "wrong"
        raise MinitttError(f"all {len(right)} answers are {which}: there is nothing to calibrate on")
    declining = None
    if knows_how_to_decline(talker):
        understood = []
        for (record, reply), is_right in zip(answers.pairs(), right, strict=True):
            is_answer = record["messages"][0] == ["system", ANSWER]
            if is_answer and is_right and not refused(reply.text):
                understood.append(reply.opening_certainty)
        declining = Declining(below_which_few_are_right(understood), NOT_UNDERSTOOD, ANSWER)
    return calibrate(certainties, right), declining


def below_which_few_are_right(certainties: list[float], share: float = RIGHT_LOST) -> float:
    """The largest threshold that at most this share of `certainties`, those of right answers, falls below; 0 without any."""
    lost = int(share * len(certainties))
    return sorted(certainties)[lost] if certainties else 0.0


def expected_calibration_error(confidences: list[float], right: list[bool], bins: int = 10) -> float:
    """Mean distance between confidence and share right, over bins of equal width, weighted by their number of items."""
    confidences = np.asarray(confidences)  # (n,)
    right = np.asarray(right, float)  # (n,)
    bin_of = np.minimum((confidences * bins).astype(int), bins - 1)
    error = 0.0
    for b in np.unique(bin_of):
        inside = bin_of == b
        error += inside.sum() * abs(confidences[inside].mean() - right[inside].mean())
    return float(error / len(right))


def surprise(certainty: float) -> float:
    """Log of the average nats per text token: spreads out certainties near 1."""
    nats = -math.log(max(certainty, 1e-12))
    return math.log(nats + FLOOR)


def _logistic(x: np.ndarray | float) -> Any:
    """Between 0 and 1, elementwise: an array for an array, a number for a number."""
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def calibrate(
    certainties: list[float], right: list[bool], strength: float = 1e-2, rounds: int = 60
) -> Calibration:
    """Fit the curve by Newton's method.

    strength: of a pull towards a flat curve, so that perfectly separable data give finite parameters.
    """
    x = np.array([surprise(certainty) for certainty in certainties])  # (n,)
    y = np.array(right, float)  # (n,)
    centre = x.mean()
    design = np.stack([np.ones(len(x)), -(x - centre)], 1)  # (n, 2): offset and slope
    weights = np.zeros(2)
    for _ in range(rounds):
        p = _logistic(design @ weights)  # (n,)
        gradient = design.T @ (p - y) + strength * weights  # (2,)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + strength * np.eye(2)  # (2, 2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step / max(1.0, np.abs(step).max())
    offset, slope = weights
    if slope < 0:  # more surprise, more often right: then surprise tells nothing
        share = np.clip(y.mean(), 1e-3, 1 - 1e-3)
        return Calibration(float(np.log(share / (1 - share))), 0.0, len(x), float(y.mean()))
    return Calibration(float(offset + slope * centre), float(slope), len(x), float(y.mean()))
