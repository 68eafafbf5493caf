"""How often the host waits for the device: per training step, per text token, per denoising step. No GPU is needed.

    python benchmarks/device_counts.py --json benchmarks/figures/device_counts.json

A small network trains and decodes on the pretend device of `tests/pretend_device.py`, which counts operations, waits and
copies; its docstring says what it sees. A small network on a GPU is bound by waits, not by arithmetic. The counts do not
depend on the machine, the size of the matrices or the weights; operations grow with the number of layers (2 here). Each
count is shown beside the one from before batches, noise and indices were made on the host
(`figures/device_counts_before.json`, measured with the same instrument).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from minittt import device  # noqa: E402
from minittt.context import CachedContext  # noqa: E402
from minittt.data.corpus import Corpus, load_corpus  # noqa: E402
from minittt.decoding import DenoisingStep, Settings, TextToken, generate  # noqa: E402
from minittt.model import ModelConfig, Transformer  # noqa: E402
from minittt.settings import TrainingSettings  # noqa: E402
from minittt.training.trainer import Trainer  # noqa: E402
from tests.pretend_device import DEVICE, Counts, pretend_device  # noqa: E402

BEFORE = ROOT / "benchmarks" / "figures" / "device_counts_before.json"
PRESETS = ("exact", "paper", "nar")
SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}


def small_corpus() -> Corpus:
    """The shipped corpus, a few records of it."""
    corpus = load_corpus(ROOT / "data_samples" / "corpus")
    corpus.splits = {name: records[:40] for name, records in corpus.splits.items()}
    return corpus


def training_step(corpus: Corpus, preset: str) -> Counts:
    """One optimiser step, after a first one that lets the optimiser make its moments."""
    settings = TrainingSettings(
        preset=preset, records=8, precision="float32", samples=0, optimiser="adamw", model=SIZES
    )
    real = device.best_device
    device.best_device = lambda: DEVICE
    try:
        with tempfile.TemporaryDirectory() as folder, pretend_device():
            trainer = Trainer(corpus, folder, settings)
            trainer._one_step()
            with pretend_device() as counts:
                trainer._one_step()
    finally:
        device.best_device = real
    return counts


def decoding(corpus: Corpus, rows: int) -> dict[str, Counts]:
    """One text token and one denoising step of `rows` rows: the second of each, so that no prompt is in them."""
    vocabulary = corpus.vocabulary
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocabulary.size, **SIZES)).eval()
    classes = vocabulary.classes()
    settings = Settings(block_size=4, steps=4, max_text=6, max_span=8, max_spans=1)
    found: dict[str, Counts] = {}
    for name, kind, prompt in (
        ("text token", TextToken, [vocabulary.bos]),
        ("denoising step", DenoisingStep, [vocabulary.bos, vocabulary.open]),
    ):
        with pretend_device():
            context = CachedContext(model.to(DEVICE), rows, vocabulary.pad, 64, classes)
            prompts = [list(prompt) for _ in range(rows)]
            groups = [list(range(len(prompt))) for _ in range(rows)]
            generators = [torch.Generator().manual_seed(row) for row in range(rows)]
            events = generate(context, prompts, groups, classes, settings, generators)
            forwards = 0
            step = context.step

            def counted(*given, step=step):
                nonlocal forwards
                forwards += 1
                return step(*given)

            context.step = counted
            with pretend_device() as counts:
                first = Counts()
                for event in events:
                    if forwards == 1:
                        first = Counts(**asdict(counts))
                    if forwards == 2 and isinstance(event, kind) and event.row == rows - 1:
                        break
            found[name] = Counts(
                **{what: number - asdict(first)[what] for what, number in asdict(counts).items()}
            )
    return found


def measure() -> dict:
    """All counts, as JSON has them."""
    corpus = small_corpus()
    made = {"training step": {preset: asdict(training_step(corpus, preset)) for preset in PRESETS}}
    for rows in (1, 4):
        made[f"decoding, {rows} row{'s' if rows > 1 else ''}"] = {
            name: asdict(counts) for name, counts in decoding(corpus, rows).items()
        }
    return made


def main(arguments: list[str] | None = None) -> dict:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    made = measure()
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    for what, lines in made.items():
        for name, counts in lines.items():
            said = ", ".join(
                f"{before[what][name][kind]} -> {number} {kind.replace('_', ' ')}"
                for kind, number in counts.items()
            )
            print(f"{what:<20} {name:<16} {said}")
    if args.json:
        args.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    main()
