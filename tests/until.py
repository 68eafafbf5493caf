"""A command whose training ends after a step, as if it had been stopped there: python -m tests.until STEP train ..."""

import sys

from minittt.app.cli import main
from minittt.training.trainer import Trainer


def run_until(rank: int, step: int, arguments: list[str]) -> None:
    """Run a command; its training ends after this step. rank: which process this is, as `tests.processes` says it."""
    train = Trainer.train
    Trainer.train = lambda trainer: train(trainer, until=step)
    try:
        status = main(arguments)
    finally:
        Trainer.train = train
    if status != 0:
        raise RuntimeError(f"the command ended with {status}")


if __name__ == "__main__":
    run_until(0, int(sys.argv[1]), sys.argv[2:])
