"""Training a talker: records in, one Transformer out, with everything random a function of (seed, step, part).

Nothing but the step number has to be remembered to draw the same batch and the same noise again: a checkpoint holds
weights, optimiser and step, and a resumed run is the uninterrupted one, number for number.

    torchrun --nproc-per-node 2 -m minittt.training --data data_samples/corpus -o runs/two

A step is cut into as many parts as there are processes times `accumulate`. Text and audio are each averaged over the
tokens of the whole step, so that the gradient depends on what is in the parts, not on who computes them.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from tqdm import tqdm

from minittt import checkpoints
from minittt.accumulation import Accumulator
from minittt.corpus import Corpus, load_corpus
from minittt.distributed import Worker, join, leave, share_out, whole
from minittt.errors import MinitttError
from minittt.held_out import held_out_losses, questions, sample_replies
from minittt.loader import Loader
from minittt.model import ModelConfig, Transformer, place_codes
from minittt.objective import preset
from minittt.optimiser import make_optimiser
from minittt.packing import Batch
from minittt.talker import Talker

PRECISIONS = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides a training run. Raises MinitttError naming the setting that makes no sense."""

    preset: str = "exact"
    steps: int = 5000
    records: int = 40  # per step, over all processes
    accumulate: int = 1  # passes per step and process; the loss stays the mean over the step
    row_length: int = 384  # tokens, both streams counted
    source_noise: float = 0.1  # most of the codes listened to that training replaces by random ones, a share
    split: bool = False  # records longer than a row become several documents; else they are left out
    optimiser: str = "muon"  # for the Transformer's matrices, AdamW for the rest; "adamw" for all
    learning_rate: float = 2e-3  # AdamW's peak
    muon_learning_rate: float = 5e-3  # Muon's peak, scaled to compare with AdamW's
    warmup: int = 100  # steps
    schedule: str = "cosine"  # down to 2 % at the last step; "anytime": falling with no end in view
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0  # bound on the gradient's norm; the norm before clipping is logged
    precision: str = "auto"  # bfloat16: by autocast, weights stay float32; auto: bfloat16 where it is fast
    compile: bool = False  # torch.compile the Transformer
    shard: bool = False  # FSDP2: every process keeps a share of the weights; else DDP
    seed: int = 0
    evaluate_every: int = 250
    samples: int = 3  # replies decoded at each evaluation, of different families
    save_every: int = 250
    keep: int = 2  # checkpoints, the newest
    model: dict = field(default_factory=dict)  # overrides of ModelConfig

    def __post_init__(self) -> None:
        for name in ("steps", "records", "accumulate", "row_length", "evaluate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise MinitttError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise MinitttError(
                f"there is no precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}"
            )
        if self.schedule not in ("cosine", "anytime"):
            raise MinitttError(f"there is no schedule {self.schedule!r}; choose cosine or anytime")
        if self.optimiser not in ("muon", "adamw"):
            raise MinitttError(f"there is no optimiser {self.optimiser!r}; choose muon or adamw")
        if self.compile and self.shard:
            raise MinitttError("compile and shard do not go together: choose one")


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16: every CUDA device is taken to, of CPUs those that say so."""
    if device.type != "cpu":
        return device.type == "cuda"
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def rate_share(step: int, s: TrainingSettings) -> float:
    """The learning rates at a step, as a share of their peaks: a linear warm-up, then a cosine down to 2 %.

    "anytime": no end is known, so the rate stays for four warm-ups and then falls as one over the root of the steps.
    """
    warm = min(1.0, (step + 1) / max(1, s.warmup))
    if s.schedule == "anytime":
        return warm * min(1.0, math.sqrt(4 * max(1, s.warmup) / (step + 1)))
    cosine = 0.5 * (1 + math.cos(math.pi * step / s.steps))
    return warm * (0.02 + 0.98 * cosine)


class Trainer:
    """One run: `train()` goes on from the newest checkpoint in `out` if `resume`, and leaves talker.safetensors there.

    One process of several if torchrun started it: every one of them makes the same calls, and the first writes.
    """

    def __init__(self, corpus: Corpus, out: str | Path, s: TrainingSettings, resume: bool = False) -> None:
        self.corpus, self.out, self.s, self.p = corpus, Path(out), s, preset(s.preset)
        self.world = join()
        self.parts, self.step = self.world.size * s.accumulate, 0
        if self.parts > s.records:
            raise MinitttError(f"{s.records} records a step cannot be shared out in {self.parts} parts")
        self.loader = self._loader("train", s.seed)
        self.out.mkdir(parents=True, exist_ok=True)
        self.held_out, self.questions = self._unseen()
        self._build()
        if resume:
            self._resume()
        elif checkpoints.states(self.out):
            raise MinitttError(f"{self.out} holds an unfinished run: resume it, or give another folder")
        elif self.world.rank == 0:  # what lies here is of a run that ended before its first checkpoint
            checkpoints.tidy(self.out, 0)
            (self.out / "log.jsonl").unlink(missing_ok=True)
        self.world.wait()

    def _loader(self, split: str, seed: int) -> Loader:
        s = self.s
        noise = s.source_noise if split == "train" else 0.0
        return Loader(
            self.corpus.split(split), self.corpus, self.p, seed, s.records, s.row_length, s.split, noise
        )

    def _unseen(self) -> tuple[list[Batch], list[dict]]:
        """Batches of unseen renditions at fixed block sizes, so that curves can be compared, and questions to ask."""
        try:
            loader = self._loader("renditions", 12345)
        except MinitttError as error:
            tqdm.write(f"nothing is held out: {error}")
            return [], []
        batches = [loader.batch(i).to(self.world.device) for i in range(4)]
        return batches, questions(self.corpus.split("renditions"), self.s.samples)

    def _build(self) -> None:
        s, vocabulary = self.s, self.corpus.vocabulary
        torch.manual_seed(s.seed)
        torch.set_flush_denormal(True)  # denormal numbers slow a CPU down many times over
        sizes = {"max_length": max(512, s.row_length), **s.model}
        dtype = torch.float64 if s.precision == "float64" else torch.float32
        self.model = Transformer(ModelConfig(vocabulary.size, **sizes)).to(self.world.device, dtype)
        if self.corpus.codebooks is not None:
            place_codes(self.model, vocabulary.first_code, torch.from_numpy(self.corpus.codebooks))
        self.worker = Worker(self.model, vocabulary, self.p, self.world, s.compile)
        half = PRECISIONS[s.precision] == torch.bfloat16
        half |= s.precision == "auto" and bfloat16_is_fast(self.world.device)
        shared = share_out(self.worker, s.shard)
        self.accumulator = Accumulator(self.worker, shared, self.loader, s.accumulate, half)
        rates = (s.learning_rate, s.muon_learning_rate)
        self.optimiser = make_optimiser(self.model, s.optimiser, *rates, s.weight_decay, s.betas)

    def train(self, until: int | None = None) -> Talker:
        """Train to the last step (or to `until`, for tests), logging to log.jsonl, and write the talker."""
        stop = min(until or self.s.steps, self.s.steps)
        started, tokens, first = time.time(), 0, self.world.rank == 0
        bar = tqdm(
            total=stop, initial=self.step, desc=f"train {self.s.preset}", unit="step", disable=not first
        )
        while self.step < stop:
            line, n = self._one_step()
            tokens, line["seconds"] = tokens + n, time.time() - started
            line["tokens_per_s"] = tokens / line["seconds"]
            bar.set_postfix_str(
                "{text:.3f} text, {audio:.3f} audio, {tokens_per_s:.0f} tokens/s".format(**line)
            )
            bar.update()
            if self.step % self.s.evaluate_every == 0 or self.step == stop:
                line |= self.evaluate()
                if first:
                    tqdm.write(f"step {self.step}\n{line['sample']}")
            if first:
                self._log(line)
            if self.step % self.s.save_every == 0 or self.step == stop:
                self._save()
        bar.close()
        talker = self.talker()
        if first:
            talker.save(self.out / "talker.safetensors")
        self.world.wait()
        return talker

    def _log(self, line: dict) -> None:
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(rounded) + "\n")

    def _one_step(self) -> tuple[dict, int]:
        self.model.train()
        self.optimiser.set_rate(rate_share(self.step, self.s))
        self.optimiser.zero_grad()
        text, audio, n = self.accumulator.add_gradient(self.step)
        line = {"step": self.step + 1, "text": text / max(1, n.text), "audio": audio / max(1, n.audio)}
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.s.clip)
        line["gradient_norm"] = whole(norm).item()
        wrong = [name for name in ("text", "audio", "gradient_norm") if not math.isfinite(line[name])]
        if wrong:
            raise MinitttError(
                f"{' and '.join(wrong).replace('_', ' ')} not finite at step {self.step}: lower the learning rate, now "
                f"{self.s.learning_rate * rate_share(self.step, self.s):.2g}; the newest checkpoint is from before"
            )
        self.optimiser.step()
        self.step += 1
        return line, int(n.tokens)

    def evaluate(self) -> dict:
        """Losses on held-out renditions under fixed noise, and sample replies. All processes must call it."""
        self.model.eval()
        return {**held_out_losses(self.worker, self.held_out), "sample": self.sample()}

    def sample(self) -> str:
        """A few held-out questions beside the replies to them; the first process alone replies."""
        talker = self.talker()
        if self.world.rank:
            return ""
        return sample_replies(talker, self.corpus, self.questions, self.p)

    def talker(self) -> Talker:
        """The model as it is now, ready to talk. All processes must call it."""
        about = self.corpus.info
        info = {
            "codec": about["codec"],
            "tokeniser": self.corpus.tokeniser.fingerprint(),
            "words": self.corpus.words,
            "front_end": about.get("front_end"),
            "licence": about.get("licence"),
            "block_sizes": list(self.p.block_sizes),
            "step": self.step,
            "training": asdict(self.s),
        }
        model = self.model
        if self.s.shard:
            model = Transformer(self.model.config).to(self.world.device)
            with torch.no_grad():
                for copy, parameter in zip(model.parameters(), self.model.parameters(), strict=True):
                    copy.copy_(whole(parameter))
        return Talker(model.eval(), self.corpus.vocabulary, self.corpus.tokeniser, info)

    def _header(self) -> dict:
        data = f"{len(self.loader.records)} records of codec {self.corpus.info['codec']}"
        tokeniser = self.corpus.tokeniser.fingerprint()
        return {"settings": asdict(self.s), "parts": self.parts, "data": data, "tokeniser": tokeniser}

    def _save(self) -> None:
        tensors = checkpoints.tensors_of(self.model, self.optimiser)
        if self.world.rank == 0:
            checkpoints.save(self.out, self.step, tensors, self._header(), self.s.keep)

    def _resume(self) -> None:
        self.step, tensors, header = checkpoints.load(self.out)
        checkpoints.check(self.out, header, self._header())
        checkpoints.restore(self.model, self.optimiser, tensors)
        if self.world.rank == 0:
            checkpoints.tidy(self.out, self.step)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m minittt.training", description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, required=True, help="corpus folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    parser.add_argument("--layers", type=int, help="of the Transformer")
    parser.add_argument("--width", type=int, help="of the Transformer: d_model")
    for f in fields(TrainingSettings):
        option = "--" + f.name.replace("_", "-")
        if isinstance(f.default, bool):
            parser.add_argument(option, action="store_true", default=None)
        elif isinstance(f.default, int | float | str):
            parser.add_argument(option, type=type(f.default), help=f"default: {f.default}")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line, alone or as one of the processes that torchrun starts. Returns the exit code."""
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    given = {f.name: getattr(args, f.name, None) for f in fields(TrainingSettings)}
    sizes = {name: n for name, n in (("d_model", args.width), ("n_layers", args.layers)) if n}
    try:
        settings = TrainingSettings(**{n: v for n, v in given.items() if v is not None}, model=sizes)
        trainer = Trainer(load_corpus(args.data), args.output, settings, args.resume)
        if trainer.loader.left_out and trainer.world.rank == 0:
            print(f"{trainer.loader.left_out} records do not fit {settings.row_length} tokens: left out")
        trainer.train()
    except ValueError as error:
        print(f"minittt: {error}", file=sys.stderr)
        return 2
    finally:
        leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
