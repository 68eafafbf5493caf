"""The grid: every preset, several seeds, equal data and parameters, one JSON per run. Start it, leave it, start it again.

    python benchmarks/ablations.py --jobs 2                      # what is missing, two runs at a time, a core each
    python benchmarks/ablations.py --seconds 60 --base-seconds 60 --limit 8 --seeds 1 --out out/grid       # to try it
    python benchmarks/ablations.py --seconds 1200 --base-seconds 1200 --width 512 --layers 8 --records 256 \
        --equal-records 400000 --out data_samples/scores/ablations_gpu       # a GPU is used where there is one

As in the paper, all runs of a seed start from one network that knows language but cannot speak a word: here it has learned
to hear, left to right, from records whose replies are written (`base`). What is compared is learning to speak.

Each run trains for the same number of seconds (one core's processor time, or a GPU's wall-clock), on the same records in
the same order. Losses are measured along the way, scores at the end (equal time) and after `--equal-records` records (equal
data). A run whose JSON exists is skipped; one that was killed begins anew. `results.py` makes the tables.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
from timed_training import ROOT, Point, provenance, rounded, thinned, train_for

from minittt.app.cli import SAMPLES
from minittt.attention import TARGET
from minittt.codec import Codec, whole_file
from minittt.data.conversation import render
from minittt.data.corpus import Corpus, load_corpus
from minittt.decoding import Settings
from minittt.evaluation.evaluate import Evaluation, in_turn, trained_with
from minittt.evaluation.likelihood import estimator, reply_nats
from minittt.evaluation.referee import Referee
from minittt.objective import Preset
from minittt.talker import Talker, decoding_settings
from minittt.training.trainer import Trainer, TrainingSettings
from minittt.unmasking import confidence_released, random_order

ROWS = ("exact", "paper", "ar", "nar", "mended", "paper-banom", "paper-ppm", "paper-sst")
SEEDS = 5
SPLITS = ("renditions", "voices")
DICTATIONS = 3000  # asr records in the grid: enough not to forget
WORDS = "1 minus the word error rate"  # how words recognised are measured: older runs do not say it, and clip


def hearing(corpus: Corpus) -> Corpus:
    """The corpus of the base: what is heard is written down or answered, and nothing is spoken."""

    def written(record: dict) -> dict:
        messages = [
            [role, " ".join(part for part in parts if isinstance(part, str))]
            if role == "assistant"
            else [role, *parts]
            for role, *parts in record["messages"]
        ]
        return {**record, "messages": messages}

    corpus.splits = {
        name: [written(r) for r in records if r["family"] in ("asr", "qa")]
        for name, records in corpus.splits.items()
    }
    return corpus


def speaking(corpus: Corpus) -> Corpus:
    """The corpus of the grid: sentences to speak, questions to answer aloud, and a little to write down."""
    corpus.splits = {
        name: [r for r in records if r["family"] in ("asr", "tts", "qa")]
        for name, records in corpus.splits.items()
    }
    train = corpus.split("train")
    dictations = [r for r in train if r["family"] == "asr"][:DICTATIONS]
    corpus.splits["train"] = [r for r in train if r["family"] != "asr"] + dictations
    return corpus


def fitting(corpus: Corpus, row_length: int) -> Corpus:
    """The corpus with those training records that fit a row in every preset: all runs see the same ones."""

    def most(record: dict) -> int:
        bare = render(record, corpus)
        spoken = [message for message in record["messages"] if message[0] in ("assistant", "document")]
        spans = sum(isinstance(part, int) for message in spoken for part in message[1:])
        # at the worst, all that is said lies in both streams, and each span has a block of filler
        return len(bare.ids) + sum(bare.targets) + bare.kinds.count(TARGET) + 2 * 16 * max(1, spans)

    corpus.splits["train"] = [r for r in corpus.split("train") if most(r) <= row_length]
    return corpus


def block_of(p: Preset) -> int:
    """How many slots of audio form a block when a talker is decoded and measured: as many as it was trained for."""
    return 1 if p.block_sizes == (1,) else 8


def ways(p: Preset) -> dict[str, Settings]:
    """How a talker is decoded: audio drawn in random order, and the surest slots first, greedily, as was released."""
    block, full = block_of(p), not p.two_streams
    drawn = decoding_settings(block, block, 0.5, full, random_order)
    greedy = decoding_settings(block, block, 0.0, full, confidence_released)
    # true replies have 3 spans at most, of 64 tokens: one that never ends must not cost more than it says
    short = {"max_text": 40, "max_span": 80, "max_spans": 4}
    return {"drawn": replace(drawn, **short), "greedy": replace(greedy, **short)}


def scores(talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, limit: int, brief: bool) -> dict:
    """{split: {way: scores}} of at most `limit` replies of each family; greedy on the first split alone, unless `brief`."""
    found: dict = {}
    for split in SPLITS[:1] if brief else SPLITS:
        found[split] = {}
        for way, settings in ways(trained_with(talker)).items():
            if way == "greedy" and (brief or split != SPLITS[0]):
                continue
            evaluation = Evaluation(talker, corpus, codec, referee, split, settings)
            if way == "drawn" or evaluation.denoises_text:
                evaluation.text(limit)
            evaluation.questions(limit)
            evaluation.speech(limit)
            found[split][way] = [asdict(score) for score in evaluation.scores]
    return found


def losses(trainer: Trainer, records: int) -> dict[str, float]:
    """Nats per token of true replies of new renditions; and of their audio left to right, if a talker has learned that."""
    p = trainer.p
    some = in_turn(trainer.corpus.split("renditions"), records)
    found = reply_nats(trainer.model, trainer.corpus, some, estimator(p, block_of(p)), draws=4)
    nats = {}
    for what in ("text", "audio"):
        score = found.score(what, what)
        if score is not None:  # a base is trained on records without audio in their replies
            nats[what] = score.value
    if 1 in p.block_sizes:  # blocks of one: nothing is drawn at random, and the bound is -log p itself
        alone = reply_nats(trainer.model, trainer.corpus, some, estimator(p, 1), draws=1)
        score = alone.score("audio", "audio")
        if score is not None:
            nats["audio_left_to_right"] = score.value
    return nats


def weights_of_base(seed: int, args) -> Path:
    """Where the network lies from which all rows of a seed start: not kept in the repository."""
    return ROOT / "runs" / "ablations" / f"base-{seed}-{args.base_seconds:g}s.safetensors"


def settings_of(preset_name: str, seed: int, args) -> TrainingSettings:
    """Alike in all but the preset and the seed."""
    sizes = {name: n for name, n in (("d_model", args.width), ("n_layers", args.layers)) if n}
    sizes["max_length"] = 768  # what a reply may need that does not end
    how = {"records": args.records, "row_length": args.row_length, "samples": 0}
    return TrainingSettings(preset=preset_name, seed=seed, model=sizes, **how)


def run_base(seed: int, args) -> dict:
    """Train the network that a seed's rows start from, and keep its weights."""
    corpus = fitting(hearing(load_corpus(args.data)), args.row_length)
    settings = settings_of("ar", seed, args)
    trainer = Trainer(corpus, ROOT / "runs" / "ablations" / f"base-{seed}", settings)
    log, curve = [], []
    for point in train_for(trainer, args.base_seconds, args.points, None, log):
        curve.append({**asdict(point), "text": losses(trainer, args.limit)["text"]})
        if point.last:
            trainer.talker().save(weights_of_base(seed, args))
    return _about("base", seed, args.base_seconds, trainer, args) | {"curve": curve, "log": thinned(log)}


def run(row: str, seed: int, args) -> dict:
    """Train and measure one run."""
    corpus = fitting(speaking(load_corpus(args.data)), args.row_length)
    codec, referee = Codec.load(args.codec), Referee.load(args.referee)
    trainer = Trainer(corpus, ROOT / "runs" / "ablations" / f"{row}-{seed}", settings_of(row, seed, args))
    if args.base_seconds:
        trainer.model.load_state_dict(Talker.load(weights_of_base(seed, args)).model.state_dict())
    log, curve, found = [], [], {}
    for point in train_for(trainer, args.seconds, args.points, args.equal_records, log):
        curve.append({**asdict(point), **losses(trainer, args.limit)})
        for when in _moments(point):
            found[when] = scores(trainer.talker(), corpus, codec, referee, args.limit, when == "equal_data")
        if point.last:
            trainer.talker().save(trainer.out / "talker.safetensors")
    made = _about(row, seed, args.seconds, trainer, args)
    return made | {"curve": curve, "scores": found, "log": thinned(log)}


def _about(row: str, seed: int, seconds: float, trainer: Trainer, args) -> dict:
    """What a run was."""
    budget = {"seconds": seconds, "base_seconds": args.base_seconds, "equal_records": args.equal_records}
    parameters = sum(p.numel() for p in trainer.model.parameters())
    about = {"row": row, "seed": seed, "budget": {**budget, "limit": args.limit}}
    about |= {"settings": asdict(trainer.s), "parameters": parameters, "codec": trainer.corpus.info["codec"]}
    about |= {"training_records": len(trainer.loader.records), "words": WORDS}
    return about | provenance(trainer.world.device)


def _moments(point: Point) -> list[str]:
    return ["equal_data"] * point.equal_data + ["equal_time"] * point.last


def missing(args) -> list[tuple[str, int]]:
    """Runs without a JSON, a seed of all rows before the next seed: a grid stopped halfway is still one."""
    grid = [(row, seed) for seed in range(args.seeds) for row in args.rows]
    return [(row, seed) for row, seed in grid if not (args.out / f"{row}-{seed}.json").is_file()]


def missing_bases(args) -> list[tuple[str, int]]:
    """Those that runs which are to do must start from."""
    seeds = sorted({seed for _, seed in missing(args)}) if args.base_seconds else []
    return [("base", seed) for seed in seeds if not weights_of_base(seed, args).is_file()]


def run_apart(row: str, seed: int, arguments: list[str]) -> int:
    """One run in a process of one thread. Returns its exit code."""
    command = [sys.executable, __file__, *arguments, "--run", row, str(seed)]
    print(f"{row}, seed {seed}: begins", flush=True)
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    last = done.stderr.strip().splitlines()[-1:] if done.returncode else ["done"]
    print(f"{row}, seed {seed}: {' '.join(last)}", flush=True)
    return done.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    add("--seeds", type=int, default=SEEDS)
    add("--jobs", type=int, default=1, help="runs at a time, one thread each")
    add("--seconds", type=float, default=240, help="of training, per run: of one core, or of a GPU")
    add(
        "--base-seconds",
        type=float,
        default=420,
        help="of each seed's base; 0: every run starts from nothing",
    )
    add("--equal-records", type=int, default=6_000, help="scores are taken after so many records, too")
    add("--records", type=int, default=40, help="per step")
    add("--row-length", type=int, default=384)
    add("--width", type=int, help="of the Transformer")
    add("--layers", type=int, help="of the Transformer")
    add("--limit", type=int, default=60, help="replies measured of each family and split")
    add("--points", type=int, default=10, help="of the loss curve")
    add("--data", type=Path, default=SAMPLES / "corpus")
    add("--codec", type=Path, default=SAMPLES / "codec.safetensors")
    add("--referee", type=Path, default=SAMPLES / "referee.safetensors")
    add("--out", type=Path, default=SAMPLES / "scores" / "ablations", help="folder of the JSONs")
    add("--run", nargs=2, metavar=("ROW", "SEED"), help="this one run, here and now")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing. Returns the exit code: 1 if a run failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    if args.run:
        row, seed = args.run[0], int(args.run[1])
        torch.set_num_threads(1)
        made = rounded(run_base(seed, args) if row == "base" else run(row, seed, args))
        path = args.out / "bases" / f"{seed}.json" if row == "base" else args.out / f"{row}-{seed}.json"
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        return 0
    bases, todo = missing_bases(args), missing(args)
    print(f"{len(bases)} bases and {len(todo)} runs to do")
    with ThreadPoolExecutor(args.jobs) as pool:
        codes = list(pool.map(lambda cell: run_apart(*cell, arguments), bases))
        if not any(codes):
            codes = list(pool.map(lambda cell: run_apart(*cell, arguments), todo))
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
