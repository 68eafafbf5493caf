"""Training a talker: records in, one Transformer out, with everything random a function of (seed, step).

Nothing but the step number has to be remembered to draw the same batch and the same noise again: a checkpoint holds
weights, optimiser and step, and a resumed run is the uninterrupted one, number for number.
"""

import json
import math
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from minittt.attention import TARGET
from minittt.codec import whole_file
from minittt.conversation import render
from minittt.corpus import Corpus
from minittt.decoding import Settings
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer
from minittt.objective import Loss, Preset, draw_blocks, example, preset, unified_loss
from minittt.packing import Batch, pack
from minittt.talker import Talker
from minittt.unmasking import Sampling


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides a training run."""

    preset: str = "exact"
    steps: int = 2500
    records: int = 64  # per step
    row_length: int = 384  # tokens, both streams counted
    learning_rate: float = 2e-3
    warmup: int = 100  # steps
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0  # bound on the gradient's norm; the norm before clipping is logged
    seed: int = 0
    evaluate_every: int = 250
    save_every: int = 250
    model: dict = field(default_factory=dict)  # overrides of ModelConfig

    def __post_init__(self) -> None:
        for name in ("steps", "records", "row_length", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise MinitttError(f"{name} must be 1 or more, not {getattr(self, name)}")


def best_device() -> torch.device:
    """CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate(step: int, s: TrainingSettings) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / s.steps))
    return s.learning_rate * min(1.0, (step + 1) / max(1, s.warmup)) * (0.02 + 0.98 * cosine)


class Loader:
    """Draws the batch of any step. Records come epoch by epoch, each epoch in an order of its own."""

    def __init__(self, records: list[dict], corpus: Corpus, p: Preset, s: TrainingSettings) -> None:
        self.corpus, self.p, self.s = corpus, p, s
        self.records = [record for record in records if self._longest(record) <= s.row_length]
        self.left_out = len(records) - len(self.records)
        if not self.records:
            raise MinitttError(f"no record fits a row of {s.row_length} tokens: use longer rows")

    def _longest(self, record: dict) -> int:
        """The most tokens a record can take, over all block sizes that may be drawn."""
        length = 0
        for block in self.p.block_sizes:
            for first in (None, *(size for size in self.p.block_sizes if block and size and size < block)):
                kinds = render(record, self.corpus, block, first).kinds
                length = max(length, len(kinds) + self.p.two_streams * kinds.count(TARGET))
        return length

    def batch(self, step: int) -> Batch:
        """The batch of one step: a pure function of the settings and the step."""
        rng = random.Random(f"{self.s.seed} batch {step}")
        documents = []
        for i in range(step * self.s.records, (step + 1) * self.s.records):
            epoch, at = divmod(i, len(self.records))
            record = self.records[self._order(epoch)[at]]
            block, first = draw_blocks(self.p, rng)
            documents.append(example(render(record, self.corpus, block, first), self.p, block, first, rng))
        return pack(documents, self.s.row_length, self.corpus.vocabulary.pad)

    def _order(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            self._shuffled = list(range(len(self.records)))
            random.Random(f"{self.s.seed} epoch {epoch}").shuffle(self._shuffled)
            self._epoch = epoch
        return self._shuffled


class Trainer:
    """One run: `train()` goes on from the newest checkpoint in `out` if `resume`, and leaves talker.safetensors there."""

    def __init__(self, corpus: Corpus, out: str | Path, s: TrainingSettings, resume: bool = False) -> None:
        self.corpus, self.out, self.s, self.p = corpus, Path(out), s, preset(s.preset)
        self.device, self.step = best_device(), 0
        torch.manual_seed(s.seed)
        torch.set_flush_denormal(True)  # denormal numbers slow a CPU down many times over
        config = ModelConfig(corpus.vocabulary.size, **s.model)
        self.model = Transformer(config).to(self.device)
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": s.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=s.learning_rate, betas=s.betas)
        self.out.mkdir(parents=True, exist_ok=True)
        self.loader = Loader(corpus.split("train"), corpus, self.p, s)
        self.held_out = self._held_out()
        if resume:
            self._resume()
        elif any(self.out.glob("state-*.safetensors")):
            raise MinitttError(f"{self.out} holds an unfinished run: resume it, or give another folder")
        else:
            (self.out / "log.jsonl").unlink(
                missing_ok=True
            )  # of a run that ended before its first checkpoint

    def _held_out(self) -> list[Batch]:
        """Batches of unseen renditions at fixed block sizes, so that loss curves can be compared."""
        s = TrainingSettings(**{**asdict(self.s), "seed": 12345})
        loader = Loader(self.corpus.split("renditions"), self.corpus, self.p, s)
        return [loader.batch(i).to(self.device) for i in range(4)]

    def talker(self) -> Talker:
        """The model as it is now, ready to talk."""
        info = {"codec": self.corpus.info["codec"], "step": self.step, "training": asdict(self.s)}
        return Talker(self.model, self.corpus.vocabulary, self.corpus.tokeniser, info)

    def train(self, until: int | None = None) -> Talker:
        """Train to the last step (or to `until`, for tests), logging to log.jsonl, and write the talker."""
        stop = min(until or self.s.steps, self.s.steps)
        started, tokens = time.time(), 0
        with tqdm(
            total=stop, initial=self.step, desc=f"train {self.s.preset}", unit="step", smoothing=0.05
        ) as bar:
            while self.step < stop:
                line, n = self._one_step()
                tokens += n
                line["seconds"], line["tokens_per_s"] = (
                    time.time() - started,
                    tokens / (time.time() - started),
                )
                bar.set_postfix_str(
                    f"text {line['text']:.3f}, audio {line['audio']:.3f}, {line['tokens_per_s']:.0f} tokens/s"
                )
                bar.update()
                if self.step % self.s.evaluate_every == 0 or self.step == stop:
                    line |= self.evaluate()
                    tqdm.write(f"step {self.step}: {line['sample']}")
                with (self.out / "log.jsonl").open("a") as log:
                    log.write(
                        json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
                        + "\n"
                    )
                if self.step % self.s.save_every == 0 or self.step == stop:
                    self._save()
        talker = self.talker()
        talker.model.eval()
        talker.save(self.out / "talker.safetensors")
        return talker

    def _one_step(self) -> tuple[dict, int]:
        batch = self.loader.batch(self.step).to(self.device)
        generator = torch.Generator().manual_seed(hash_seed(self.s.seed, self.step))
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.s)
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = unified_loss(self.model, batch, self.corpus.vocabulary, self.p, generator)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.s.clip).item()
        if not math.isfinite(norm):
            raise MinitttError(f"the gradient is not finite at step {self.step}: lower the learning rate")
        self.optimiser.step()
        self.step += 1
        line = {"step": self.step, "text": loss.text, "audio": loss.audio, "gradient_norm": norm}
        return line, int((batch.kinds >= 0).sum())

    @torch.no_grad()
    def evaluate(self) -> dict:
        """Losses on held-out renditions under fixed noise, and one sample reply."""
        self.model.eval()
        losses: list[Loss] = []
        for i, batch in enumerate(self.held_out):
            generator = torch.Generator().manual_seed(i)
            losses.append(unified_loss(self.model, batch, self.corpus.vocabulary, self._quiet(), generator))
        text = sum(loss.text_sum.item() for loss in losses) / max(1, sum(loss.n_text for loss in losses))
        audio = sum(loss.audio_sum.item() for loss in losses) / max(1, sum(loss.n_audio for loss in losses))
        return {"held_out_text": text, "held_out_audio": audio, "sample": self.sample()}

    def _quiet(self) -> Preset:
        """The preset without its coins: every held-out batch is noised, and whole."""
        return Preset(**{**asdict(self.p), "banom": 0.0, "ppm": 0.0, "sst": 0.0})

    def sample(self) -> str:
        """The reply to the first held-out question, beside the true one."""
        record = next(r for r in self.corpus.split("renditions") if r["family"] == "qa")
        settings = Settings(
            8,
            full_span=not self.p.two_streams,
            steps=4,
            text_sampling=Sampling(0.0),
            max_text=24,
            max_span=128,
        )
        messages = [self._loaded(m) for m in record["messages"][:2]]
        [reply] = self.talker().converse([messages], settings)
        asked = self.corpus.utterances[record["messages"][1][1]]["text"]
        return f"{asked!r} -> {reply.text!r} and {[len(s) for s in reply.spans]} audio tokens"

    def _loaded(self, message: list) -> list:
        return [self.corpus.audio(part).tolist() if isinstance(part, int) else part for part in message]

    def _save(self, keep: int = 2) -> None:
        tensors = {
            f"model.{n}": t
            for n, t in self.model.state_dict().items()
            if n != "lm_head.weight" or not self.model.config.tie_embeddings
        }
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{n}": t for n, t in state.items()}
        header = {"step": str(self.step), "settings": json.dumps(asdict(self.s))}
        with whole_file(self.out / f"state-{self.step:08d}.safetensors") as unfinished:
            save_file({n: t.contiguous() for n, t in tensors.items()}, unfinished, metadata=header)
        for old in sorted(self.out.glob("state-*.safetensors"))[:-keep]:
            old.unlink()

    def _resume(self) -> None:
        states = sorted(self.out.glob("state-*.safetensors"))
        if not states:
            raise MinitttError(f"{self.out} holds no state to resume from")
        tensors = load_file(states[-1])
        self.step = int(states[-1].stem.split("-")[1])
        self.model.load_state_dict(
            {n[6:]: t for n, t in tensors.items() if n.startswith("model.")}, strict=False
        )
        state: dict[int, dict] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, i, key = name.split(".")
                state.setdefault(int(i), {})[key] = tensor
        self.optimiser.load_state_dict(
            {"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]}
        )
        log = self.out / "log.jsonl"
        if log.is_file():  # what was logged after the checkpoint will be logged again
            lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))


def hash_seed(seed: int, step: int) -> int:
    """One number for the noise of one step of one run."""
    return random.Random(f"{seed} noise {step}").getrandbits(63)
