"""Three bounded studies of when Text-to-Talk is worth having: one JSON per run. Start it, stop it, start it again.

    python benchmarks/studies.py --measure-cost              # first, on an idle machine: seconds per step, for each preset
    python benchmarks/studies.py                             # all that is missing, one run after another
    python benchmarks/studies.py --study claims --jobs 2     # one study, two runs at a time, a core each
    python benchmarks/studies.py --measure-pace              # last, on an idle machine: what a second of speech costs
    python benchmarks/studies.py --seconds 20 --base-seconds 20 --items 4 --seeds 1 --out out/studies  # to try it (cost too)

claims: exact, paper, ar and nar, twenty processor-minutes each. sizes: exact trained with blocks of 8 only, beside exact and
ar from the first study. little: exact and ar on 300 and on 1,000 records, three quarters of an hour each.

As in the paper, all runs of a seed start from one network that knows language but cannot speak a word
(`ablations.run_base`). A seed decides the base, the order of the records, which records the small sets hold, and which
questions are asked: these are drawn anew for each seed, and are the same for all arms of a seed.

Equal time is counted in steps: `--measure-cost` times the steps of all presets in turn on one core, and a run takes as many
as fit into its seconds at that cost. So a run is the same whatever else the machine does, and one that was killed continues
from its last state to the same end. The learning rate warms up for a share of the steps. `study_tables.py` makes the page.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import ablations
import torch
from safetensors import safe_open
from timed_training import ROOT, Average, Clock, provenance, rounded, thinned, train_for

from minittt.app.cli import SAMPLES
from minittt.codec import Codec, whole_file, write_tensors
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus, load_corpus
from minittt.decoding import DenoisingStep, Settings
from minittt.evaluation.evaluate import Evaluation, ask, family, true_spans, words_of_reply
from minittt.evaluation.referee import Referee
from minittt.evaluation.scores import same_text, word_errors, words_right
from minittt.nar import DenoisingTalker
from minittt.objective import PRESETS
from minittt.settings import TrainingSettings
from minittt.talker import Reply, Talker, decoding_settings
from minittt.training import checkpoints
from minittt.training.trainer import Trainer
from minittt.unmasking import confidence_released, random_order

ONE_SIZE = "exact-8"
WARM_UP = 0.05  # share of the seconds
HELD_FOR = 4  # times the warm-up: until then the rate stays at its peak, then it falls as one over the root of the time
SAVED_EVERY = 250  # steps
TIMED = (15, 3)  # rounds, and steps of each preset in a round
SPLIT = "renditions"
PACED = 6  # replies that are timed one at a time
PACE_ROUNDS = 3  # in each of which all ways take their turn


@dataclass(frozen=True)
class Arm:
    """What one run trains: a preset, for how long, on how many records (None: all), looked at how often."""

    preset: str
    seconds: float = 1200
    records: int | None = None
    points: int = 4


ARMS = {
    "exact": Arm("exact"),
    "paper": Arm("paper"),
    "ar": Arm("ar"),
    "nar": Arm("nar"),
    ONE_SIZE: Arm(ONE_SIZE),
    "exact-1000-records": Arm("exact", 2700, 1000, 9),
    "ar-1000-records": Arm("ar", 2700, 1000, 9),
    "exact-300-records": Arm("exact", 2700, 300, 9),
    "ar-300-records": Arm("ar", 2700, 300, 9),
}
STUDIES = {
    "claims": ("exact", "paper", "ar", "nar"),
    "sizes": (ONE_SIZE, "exact", "ar"),
    "little": ("exact-1000-records", "ar-1000-records", "exact-300-records", "ar-300-records"),
}


# ---- what is trained on and asked


def items(corpus: Corpus, seed: int, n: int) -> dict[str, list[dict]]:
    """n records of each family that is measured, drawn for this seed: other seeds are asked other questions."""
    rng = random.Random(f"items {seed}")
    drawn = {}
    for name in ("asr", "qa", "tts"):
        records = family(corpus, SPLIT, name)
        drawn[name] = rng.sample(records, min(n, len(records)))
    return drawn


def corpus_of(arm: Arm, seed: int, args) -> Corpus:
    """The corpus of `ablations.speaking`, with the few records of this arm, and with this seed's questions alone."""
    corpus = ablations.fitting(ablations.speaking(load_corpus(args.data)), args.row_length)
    asked = items(corpus, seed, args.items)
    corpus.splits[SPLIT] = [record for records in asked.values() for record in records]
    if arm.records is not None:
        rng = random.Random(f"few {seed}")  # 300 records are the first of 1,000
        train = corpus.split("train")
        corpus.splits["train"] = rng.sample(train, len(train))[: arm.records]
    return corpus


# ---- how a talker is decoded


def ways(arm: Arm) -> dict[str, Settings]:
    """Ways of decoding, by name: "8/4" are blocks of 8 slots in 4 steps. The first is the one that decides.

    Audio is drawn at temperature .5 in random order; "greedy" takes the surest slots first at temperature 0, as released.
    """
    p = PRESETS[arm.preset]
    full = not p.two_streams
    if p.block_sizes == (1,):
        shapes = [(1, 1)]
    elif full or p.block_sizes == (8,):
        shapes = [(8, 8), (8, 4), (8, 2)]
    elif p.denoise_text:
        shapes = [(8, 8), (8, 2)]
    else:
        shapes = [(8, 8), (8, 4), (8, 2), (4, 4), (4, 2), (16, 16), (16, 4), (1, 1)]
    short = {
        "max_text": 40,
        "max_span": 80,
        "max_spans": 4,
    }  # a reply that never ends must not cost more than it says
    found = {}
    for block, steps in shapes:
        settings = decoding_settings(block, steps, 0.5, full, random_order)
        found[f"{block}/{steps}"] = replace(settings, **short)
    if p.block_sizes != (1,):
        settings = decoding_settings(8, 8, 0.0, full, confidence_released)
        found["8/8 greedy"] = replace(settings, **short)
    return found


# ---- what is measured, item by item


def spoken(e: Evaluation, records: list[dict], replies: list[Reply]) -> dict:
    """Words of spoken replies, item by item, beside the words that the same sound has in common with another truth."""
    said = [words_of_reply(e.corpus, record) for record in records]
    heard = e._heard([reply.spans for reply in replies])
    right, words = words_right(said, heard)
    shifted = said[1:] + said[:1]  # what chance agreement looks like: the next item's truth
    by_chance, chance_words = words_right(shifted, heard)
    true_lengths = [sum(len(e.corpus.audio(n)) for n in true_spans(record)) for record in records]
    lengths = [sum(map(len, reply.spans)) for reply in replies]
    steps = [sum(isinstance(event, DenoisingStep) for event in reply.events) for reply in replies]
    slots = [sum(len(span) + 1 for span in reply.spans) for reply in replies]
    coherence = e.coherence("", [reply.spans for reply in replies])
    return {
        "right": right,
        "words": words,
        "floor": sum(by_chance) / max(1, sum(chance_words)),
        "length": sum(lengths) / max(1, sum(true_lengths)),
        "coherence": coherence.value if coherence else None,
        "forwards_per_token": sum(steps) / max(1, sum(slots)),
    }


def measure(
    talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, settings: Settings, seed: int
) -> dict:
    """Questions answered (text, and speech of all of them, right or wrong) and sentences spoken, item by item."""
    e = Evaluation(talker, corpus, codec, referee, SPLIT, settings, seed)
    found = {}
    questions = family(corpus, SPLIT, "qa")
    replies = ask(e.talker, corpus, questions, settings, seed).replies
    found["text_right"] = [
        int(same_text(reply_text(record), reply.text))
        for record, reply in zip(questions, replies, strict=True)
    ]
    found["answers"] = spoken(e, questions, replies)
    sentences = family(corpus, SPLIT, "tts")
    found["tts"] = spoken(e, sentences, ask(e.talker, corpus, sentences, settings, seed).replies)
    return found


def dictated(
    talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, settings: Settings, seed: int
) -> dict:
    """Word errors of transcripts, item by item: text alone, the same however audio is decoded."""
    e = Evaluation(talker, corpus, codec, referee, SPLIT, settings, seed)
    records = family(corpus, SPLIT, "asr")
    replies = ask(e.talker, corpus, records, settings, seed).replies
    errors, words = zip(
        *(
            word_errors(reply_text(record), reply.text)
            for record, reply in zip(records, replies, strict=True)
        ),
        strict=True,
    )
    return {"errors": list(errors), "words": list(words)}


def pace(talker: Talker, corpus: Corpus, codec: Codec, settings: Settings, seed: int) -> float | None:
    """Processor-seconds of one core per second of speech, one sentence at a time, or None if nothing is said."""
    spent = 0.0
    tokens = 0
    for record in family(corpus, SPLIT, "tts")[:PACED]:
        begin = time.process_time()
        [reply] = ask(talker, corpus, [record], settings, seed).replies
        spent += time.process_time() - begin
        tokens += sum(map(len, reply.spans))
    return spent * codec.frame_rate / tokens if tokens else None


# ---- what a step costs


def settings_of(preset_name: str, seed: int, args) -> TrainingSettings:
    """As in the grid, with one state kept."""
    return replace(ablations.settings_of(preset_name, seed, args), keep=1)


def cost_file(args) -> Path:
    """Where the cost of a step is noted."""
    return args.out / "cost.json"


def measure_cost(args) -> dict:
    """Processor-seconds a step of each preset takes, the least of rounds in which all take turns on one core."""
    rounds, steps = TIMED
    spent: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        trainers = {}
        for name in dict.fromkeys(arm.preset for arm in ARMS.values()):
            corpus = corpus_of(Arm(name), 0, args)
            trainers[name] = Trainer(corpus, Path(folder) / name, settings_of(name, 0, args))
            spent[name] = []
        for number in range(rounds + 1):
            for name, trainer in trainers.items():
                begin = time.process_time()
                for _ in range(steps):
                    trainer._one_step()
                if number > 0:  # the first ones are slower
                    spent[name].append((time.process_time() - begin) / steps)
        about = provenance(trainer.world.device)
    return {"seconds_a_step": {name: min(times) for name, times in spent.items()}, **about}


def pace_file(args) -> Path:
    """Where it is noted what a second of speech costs."""
    return args.out / "pace.json"


def talker_of(name: str, seed: int) -> Talker:
    """The talker of a finished run, of the kind that decodes as it was trained."""
    talker = Talker.load(folder_of(name, seed) / "talker.safetensors")
    if not PRESETS[ARMS[name].preset].denoise_text:
        return talker
    return DenoisingTalker(talker.model, talker.vocabulary, talker.tokeniser, talker.info)


def measure_pace(args) -> dict:
    """What a second of speech costs in each way of each arm with all records, by the talkers of seed 0 that are finished.

    All ways take turns in one process, and the least of the rounds counts: other work then changes their ratios little.
    """
    codec = Codec.load(args.codec)
    corpus = corpus_of(Arm("exact"), 0, args)  # the same sentences for all arms
    least: dict[str, dict[str, float | None]] = {}
    talkers = {}
    for name, arm in ARMS.items():
        if arm.records is None and (args.out / f"{name}-0.json").is_file():
            talkers[name] = talker_of(name, 0)
            least[name] = {}
    for _ in range(PACE_ROUNDS):
        for name, talker in talkers.items():
            for way, settings in ways(ARMS[name]).items():
                known = [least[name].get(way), pace(talker, corpus, codec, settings, 0)]
                least[name][way] = min((seconds for seconds in known if seconds is not None), default=None)
    return {"core_seconds_a_second": least, **provenance(torch.device("cpu"))}


def steps_of(arm: Arm, args) -> int:
    """How many steps fit into the seconds of an arm."""
    seconds = args.seconds or arm.seconds
    cost = json.loads(cost_file(args).read_text(encoding="utf-8"))["seconds_a_step"]
    return max(arm.points, round(seconds / cost[arm.preset]))


# ---- one run


def rate_share(share: float) -> float:
    """The learning rates, as a share of their peaks, in the step after which this share of all is done."""
    warm = min(1.0, share / WARM_UP)
    falling = (HELD_FOR * WARM_UP / share) ** 0.5
    return warm * min(1.0, falling)


def folder_of(name: str, seed: int) -> Path:
    """Where a run keeps its states, and its talker at the end."""
    return ROOT / "runs" / "studies" / f"{name}-{seed}"


class Run:
    """A training of so many steps which can be stopped, and goes on where its last state was."""

    def __init__(self, name: str, arm: Arm, seed: int, args) -> None:
        self.arm = arm
        self.seed = seed
        self.args = args
        self.steps = steps_of(arm, args)
        self.corpus = corpus_of(arm, seed, args)
        self.codec = Codec.load(args.codec)
        self.referee = Referee.load(args.referee)
        self.folder = folder_of(name, seed)
        self.clock = Clock(torch.device("cpu"))
        self.curve: list[dict] = []
        self.log: list[dict] = []
        settings = settings_of(arm.preset, seed, args)
        resume = bool(checkpoints.states(self.folder))
        self.trainer = Trainer(self.corpus, self.folder, settings, resume=resume)
        self.trainer.rate = lambda step, s: rate_share((step + 1) / self.steps)
        if not resume and args.base_seconds:
            base = Talker.load(ablations.weights_of_base(seed, args))
            self.trainer.model.load_state_dict(base.model.state_dict())
        self.average = Average(self.trainer.model)
        if resume:
            self._go_on()

    def _beside(self, step: int) -> Path:
        """Where what belongs to a state of the trainer is kept."""
        return self.folder / f"study-{step:08d}.safetensors"

    def _save(self) -> None:
        """The average and the curve first, then the trainer's own state: a state is never without them."""
        known = {"seconds": self.clock.seconds, "curve": self.curve, "log": self.log}
        tensors = {f"{number:04d}": kept for number, kept in enumerate(self.average.kept)}
        write_tensors(self._beside(self.trainer.step), tensors, {"study": json.dumps(known)})
        self.trainer._save()
        kept = {self._beside(int(path.stem[-8:])) for path in checkpoints.states(self.folder)}
        for path in set(self.folder.glob("study-*.safetensors")) - kept:
            path.unlink()

    def _go_on(self) -> None:
        """Put back what belongs to the state that the trainer has resumed from."""
        with safe_open(self._beside(self.trainer.step), "pt") as file:
            known = json.loads(file.metadata()["study"])
            self.average.kept = [file.get_tensor(name) for name in sorted(file.keys())]
        self.average.steps = self.trainer.step
        self.clock.seconds = known["seconds"]
        self.curve = known["curve"]
        self.log = known["log"]

    def train(self) -> dict:
        """Train to the last step, looking at it `points` times; returns what the JSON holds."""
        points = self.arm.points
        while self.trainer.step < self.steps:
            with self.clock:
                line, _ = self.trainer._one_step()
                self.average.update()
            self.log.append(line)
            if points * self.trainer.step // self.steps > len(self.curve):
                self._look()
            if self.trainer.step % SAVED_EVERY == 0:
                self._save()
        return self._finish()

    def _look(self) -> None:
        """Losses on held-out replies, and words in the way that decides."""
        self.trainer.model.eval()
        with self.average.in_place():
            settings = next(iter(ways(self.arm).values()))
            talker = self.trainer.talker()
            point = {"steps": self.trainer.step, "epochs": self._epochs()}
            point |= ablations.losses(self.trainer, self.args.items)
            found = measure(talker, self.corpus, self.codec, self.referee, settings, self.seed)
            point["text_right"] = sum(found["text_right"]) / len(found["text_right"])
            for what in ("answers", "tts"):
                point[what] = sum(found[what]["right"]) / sum(found[what]["words"])
            self.curve.append(rounded(point))

    def _epochs(self) -> float:
        return self.trainer.step * self.trainer.s.records / len(self.trainer.loader.records)

    def _finish(self) -> dict:
        """Everything that is measured at the end."""
        self.trainer.model.eval()
        with self.average.in_place():
            talker = self.trainer.talker()
            found = {}
            for name, settings in ways(self.arm).items():
                found[name] = measure(talker, self.corpus, self.codec, self.referee, settings, self.seed)
            settings = next(iter(ways(self.arm).values()))
            asr = dictated(talker, self.corpus, self.codec, self.referee, settings, self.seed)
            talker.save(self.folder / "talker.safetensors")
        seconds = self.args.seconds or self.arm.seconds
        return {
            "preset": self.arm.preset,
            "seed": self.seed,
            "budget": {
                "seconds": seconds,
                "base_seconds": self.args.base_seconds,
                "items": self.args.items,
            },
            "steps": self.steps,
            "seconds_spent": self.clock.seconds,
            "training_records": len(self.trainer.loader.records),
            "epochs": self._epochs(),
            "parameters": sum(p.numel() for p in self.trainer.model.parameters()),
            "settings": asdict(self.trainer.s),
            "codec": self.corpus.info["codec"],
            **provenance(self.trainer.world.device),
            "curve": self.curve,
            "ways": found,
            "asr": asr,
            "log": thinned(self.log),
        }


# ---- all runs


def missing(args) -> list[tuple[str, int]]:
    """Runs without a JSON: a seed of all arms before the next seed, so that a study stopped halfway is still one."""
    names = list(dict.fromkeys(name for study in args.study for name in STUDIES[study]))
    todo = [(name, seed) for seed in range(args.seeds) for name in names]
    return [(name, seed) for name, seed in todo if not (args.out / f"{name}-{seed}.json").is_file()]


def missing_bases(args) -> list[int]:
    """Seeds whose base is not trained yet."""
    if not args.base_seconds:
        return []
    seeds = sorted({seed for _, seed in missing(args)})
    return [seed for seed in seeds if not ablations.weights_of_base(seed, args).is_file()]


def base_file(seed: int, args) -> Path:
    """Where it is noted what a base was."""
    return args.out / "bases" / f"{seed}.json"


class Steps(Clock):
    """A clock that ticks once a step."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_) -> None:
        self.seconds += 1


def base_again(seed: int, args) -> None:
    """Train once more a base whose weights are gone, for as many steps as its JSON tells, and add a note of it there.

    Its learning rate depends on the step alone, so the weights are the same again on a processor of the same kind. Another
    kind rounds otherwise, and that is enough to lead a training elsewhere.
    """
    made = json.loads(base_file(seed, args).read_text(encoding="utf-8"))
    steps = made["curve"][-1]["steps"]
    corpus = ablations.fitting(ablations.hearing(load_corpus(args.data)), args.row_length)
    with TemporaryDirectory() as folder:
        trainer = Trainer(corpus, Path(folder), ablations.settings_of("ar", seed, args))
        for _ in train_for(trainer, steps, 1, None, [], Steps(trainer.world.device)):
            text = ablations.losses(trainer, args.limit)["text"]
            trainer.talker().save(ablations.weights_of_base(seed, args))
        again = {"steps": steps, "text": text, **provenance(trainer.world.device)}
    write(base_file(seed, args), made | {"again": [*made.get("again", []), again]})


def apart(name: str, seed: int, arguments: list[str]) -> int:
    """One run in a process of one thread. Returns its exit code."""
    print(f"{name}, seed {seed}: begins", flush=True)
    command = [sys.executable, __file__, *arguments, "--run", name, str(seed)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    last = done.stderr.strip().splitlines()[-1:] if done.returncode else ["done"]
    print(f"{name}, seed {seed}: {' '.join(last)}", flush=True)
    return done.returncode


def write(path: Path, made: dict) -> None:
    """Write a JSON, whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(rounded(made)) + "\n", encoding="utf-8")


def here(name: str, seed: int, args) -> None:
    """One run in this process; its JSON is written when it is whole, and its states are removed."""
    torch.set_num_threads(1)
    if name == "base":
        path = base_file(seed, args)
        if path.is_file():
            base_again(seed, args)
            return
        made = ablations.run_base(seed, args)
    else:
        run = Run(name, ARMS[name], seed, args)
        made = run.train()
        path = args.out / f"{name}-{seed}.json"
    write(path, made)
    if name != "base":
        for state in [*checkpoints.states(run.folder), *run.folder.glob("study-*.safetensors")]:
            shutil.rmtree(state) if state.is_dir() else state.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--study", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    add("--seeds", type=int, default=3)
    add("--jobs", type=int, default=1, help="runs at a time, one thread each")
    add("--seconds", type=float, help="of training, in place of each arm's own: of one core, or of a GPU")
    add("--base-seconds", type=float, default=420, help="of each seed's base; 0: runs start from nothing")
    add("--items", type=int, default=100, help="replies measured of each family, drawn anew for each seed")
    add("--records", type=int, default=40, help="per step")
    add("--row-length", type=int, default=384)
    add("--width", type=int, help="of the Transformer")
    add("--layers", type=int, help="of the Transformer")
    add("--data", type=Path, default=SAMPLES / "corpus")
    add("--codec", type=Path, default=SAMPLES / "codec.safetensors")
    add("--referee", type=Path, default=SAMPLES / "referee.safetensors")
    add("--out", type=Path, default=SAMPLES / "scores" / "studies", help="folder of the JSONs")
    add("--measure-cost", action="store_true", help="time the steps of all presets, and note it for all runs")
    add(
        "--measure-pace",
        action="store_true",
        help="time the speech of all finished arms, way by way, and note it",
    )
    add("--run", nargs=2, metavar=("ARM", "SEED"), help="this one run, here and now")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing. Returns the exit code: 1 if a run failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    args.limit = args.items  # the name that `ablations` knows it by
    args.points = 4  # of a base's loss curve
    args.equal_records = None
    if args.run:
        here(args.run[0], int(args.run[1]), args)
        return 0
    if args.measure_cost:
        torch.set_num_threads(1)
        write(cost_file(args), measure_cost(args))
        return 0
    if args.measure_pace:
        torch.set_num_threads(1)
        write(pace_file(args), measure_pace(args))
        return 0
    if not cost_file(args).is_file():
        print("what a step costs is not known yet: run it with --measure-cost first", file=sys.stderr)
        return 2
    bases = [("base", seed) for seed in missing_bases(args)]
    todo = missing(args)
    print(f"{len(bases)} bases and {len(todo)} runs to do", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        codes = list(pool.map(lambda cell: apart(*cell, arguments), bases))
        if not any(codes):
            codes = list(pool.map(lambda cell: apart(*cell, arguments), todo))
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
