"""Training against the clock: a fixed number of seconds whatever an objective costs, with weights that are good at any time.

With a schedule that falls towards a known end, runs of different speed would differ in more than speed. Here the rate never
knows the end ("anytime"), and what is measured is a mean of the weights over about the last tenth of all steps so far, which
averages out the noise of a high rate just as decaying to zero would.
"""

import math
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from minittt.settings import TrainingSettings
from minittt.training.trainer import Trainer

POWER = 16.0  # step t of T weighs as t ** 16
ROOT = Path(__file__).parent.parent


def anytime_rate(step: int, s: TrainingSettings) -> float:
    """The learning rates at a step, as a share of their peaks, where no end is known: a linear warm-up, the peak until four
    times its length, then one over the root of the steps."""
    warmup = max(1, s.warmup)
    warm = min(1.0, (step + 1) / warmup)
    return warm * min(1.0, math.sqrt(4 * warmup / (step + 1)))


class Clock:
    """`with clock:` adds to `seconds`: processor time on a CPU, which other work does not change, else wall-clock."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __enter__(self) -> None:
        self._begun = self._now()

    def __exit__(self, *_) -> None:
        self.seconds += self._now() - self._begun


class Average:
    """Weights averaged over training, step t in proportion to t ** POWER: of the same share of it whenever asked."""

    def __init__(self, model: nn.Module) -> None:
        self.live = list(model.parameters())
        self.kept, self.steps = [p.detach().clone() for p in self.live], 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        share = 1 - (1 - 1 / self.steps) ** (POWER + 1)
        for kept, live in zip(self.kept, self.live, strict=True):
            kept.lerp_(live, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights inside, its own again after."""
        own = [p.detach().clone() for p in self.live]
        self._set(self.kept)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.live, values, strict=True):
            parameter.copy_(value)


@dataclass
class Point:
    """A moment of training."""

    seconds: float
    steps: int
    records: int
    tokens: int  # laid down in rows: filler and noisy twins among them
    equal_data: bool = False  # the moment when every run has seen equally many records
    last: bool = False


def train_for(
    trainer: Trainer,
    seconds: float,
    points: int,
    records: int | None,
    log: list[dict],
    clock: Clock | None = None,
) -> Iterator[Point]:
    """Train, and yield `points` moments evenly spread over the seconds, and the one after so many records. At each of them
    the model holds its averaged weights. `log` gets a line a step. clock: by default one of the trainer's device; whatever
    is given must measure as `Clock` does."""
    trainer.rate = anytime_rate
    if clock is None:
        clock = Clock(trainer.world.device)
    average = Average(trainer.model)
    tokens, reached = 0, 0
    waiting = records is not None
    while clock.seconds < seconds:
        with clock:
            line, n = trainer._one_step()
            average.update()
        tokens, seen = tokens + n, trainer.step * trainer.s.records
        log.append({**line, "seconds": clock.seconds})
        equal = waiting and seen >= records
        now = min(points, int(clock.seconds / seconds * points))
        if equal or now > reached:
            waiting, reached = waiting and not equal, now
            trainer.model.eval()
            with average.in_place():
                yield Point(clock.seconds, trainer.step, seen, tokens, equal, now == points)


def thinned(log: list[dict], lines: int = 60) -> list[dict]:
    """About so many lines of a log, its figures short."""
    return [rounded(line) for line in log[:: max(1, len(log) // lines)]]


def rounded(value):
    """JSON with five decimals."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def provenance(device: torch.device) -> dict:
    """What kind of machine computed, with which code: no names, no paths."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        lines = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if Path("/proc/cpuinfo").is_file()
            else []
        )
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        machine = f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} thread(s)"

    def git(*arguments: str) -> str:
        told = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
        return told.stdout.strip()

    changed = "+changes" if git("status", "--porcelain", "--", "minittt", "benchmarks") else ""
    return {
        "machine": machine,
        "torch": torch.__version__,
        "commit": git("rev-parse", "--short", "HEAD") + changed,
    }
