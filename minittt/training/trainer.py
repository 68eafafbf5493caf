"""Training a talker: records in, one Transformer out, with everything random a function of (seed, step, part).

Only the step number has to be remembered to draw the same batch and the same noise again: a checkpoint holds weights,
optimiser and step, and a resumed run equals the uninterrupted one, number for number (only its clock restarts at 0).

    torchrun --nproc-per-node 2 -m minittt train -o runs/two

A step is cut into as many parts as there are processes, times `accumulate`. Text and audio are each averaged over the
tokens of the whole step, so that the gradient depends on what is in the parts, not on who computes them.
"""

import math
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from tqdm import tqdm

from minittt.data.batches import Batch
from minittt.data.corpus import Corpus
from minittt.data.streaming_records import RecordStream
from minittt.device import bfloat16_is_fast
from minittt.errors import MinitttError
from minittt.files import json_text, locked
from minittt.model import ModelConfig, Transformer, place_codes
from minittt.objective import preset
from minittt.settings import TrainingSettings
from minittt.talker import Talker
from minittt.training import checkpoints
from minittt.training.adapters import add_adapters, merged
from minittt.training.held_out import held_out_losses, questions, sample_replies
from minittt.training.loader import Loader
from minittt.training.optimiser import make_optimiser
from minittt.training.parallel import Accumulator, Worker, full_tensor, join_processes, wrap_for_processes
from minittt.training.sharded_states import Shards
from minittt.training.warm_start import warm_start

TRIED = 5  # steps that are timed
TRAINED = 0.9  # share of the time that goes into steps; the rest into checkpoints and held-out losses
HELD_OUT_SEED = 12345  # for the held-out batches: the same in every run, whatever its own seed


def rate_share(step: int, s: TrainingSettings) -> float:
    """The learning rates at a step, as a share of their peaks: a linear warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / max(1, s.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * step / s.steps))
    return warm * (0.02 + 0.98 * cosine)


def steps_in(
    minutes: float, corpus: Corpus, s: TrainingSettings, start: Talker | None = None, device: str = "auto"
) -> int:
    """How many steps of such a run fit into these minutes, judging by the time that a few of them take here and now.

    Raises MinitttError where several processes train together: each would arrive at a different number.
    """
    if join_processes(device).size > 1:
        raise MinitttError("several processes cannot train by the clock: give the number of steps")
    with TemporaryDirectory() as folder:
        trial = Trainer(corpus, folder, replace(s, steps=TRIED + 2, samples=0), start=start, device=device)
        for _ in range(2):
            trial._one_step()  # the first ones are slower
        begin = time.perf_counter()
        for _ in range(TRIED):
            trial._one_step()
        seconds = (time.perf_counter() - begin) / TRIED
    return max(1, int(60 * minutes * TRAINED / seconds))


class Trainer:
    """One run: with `resume`, `train()` continues from the newest checkpoint in `out`; it leaves talker.safetensors there.

    If torchrun started it, this is one process of several: each of them makes the same calls, and the first one writes.
    """

    def __init__(
        self,
        corpus: Corpus,
        out: str | Path,
        s: TrainingSettings,
        resume: bool = False,
        start: Talker | None = None,
        device: str = "auto",
    ) -> None:
        """start: a talker whose weights the run begins with instead of random ones. device: see `device_named`."""
        self.corpus = corpus
        self.start = start
        self.out = Path(out)
        self.s = s
        self.p = preset(s.preset)
        self.world = join_processes(device)
        self.rate = rate_share  # another schedule may be put in its place
        self.step = 0
        self._check_parts()
        self.lock = ExitStack()  # held until `train` ends
        if self.world.rank == 0:
            self.lock.enter_context(locked(self.out))
        state = None
        if resume:
            state = checkpoints.load(self.out, self.world)
            self._keep_parts(state[2])
        self.loader = self._loader("train", s.seed)
        self.held_out, self.questions = self._unseen()
        self._build()
        if state is not None:
            self._resume(*state)
        elif checkpoints.states(self.out):
            raise MinitttError(f"{self.out} holds an unfinished run: resume it, or give another folder")
        elif self.world.rank == 0:  # what is here comes from a run that ended before its first checkpoint
            checkpoints.tidy(self.out, 0)
            (self.out / "log.jsonl").unlink(missing_ok=True)
        self.world.wait()

    @property
    def parts(self) -> int:
        """How many parts a step is cut into, over all processes."""
        return self.world.size * self.s.accumulate

    def _check_parts(self) -> None:
        if self.parts > self.s.records:
            raise MinitttError(f"{self.s.records} records a step cannot be divided into {self.parts} parts")

    def _keep_parts(self, header: dict) -> None:
        """A run that is resumed by a different number of processes keeps its parts: each takes more of them, or fewer.

        Only where the settings leave `accumulate` at 1. Raises MinitttError if they cannot be divided equally.
        """
        parts = header.get("parts")
        size = self.world.size
        is_sound = type(parts) is int and 1 <= parts <= self.s.records
        if self.s.accumulate > 1 or not is_sound:
            return  # `checkpoints.check` compares
        if parts % size != 0:
            fitting = [str(n) for n in range(1, parts + 1) if parts % n == 0]
            raise MinitttError(
                f"a step of the run in {self.out} has {parts} parts, which {size} processes cannot share equally: "
                f"resume it with {' or '.join(fitting)}"
            )
        self.s = replace(self.s, accumulate=parts // size)

    def _loader(self, split: str, seed: int) -> Loader:
        s = self.s
        noise = s.source_noise if split == "train" else 0.0
        return Loader(
            self.corpus.split(split), self.corpus, self.p, seed, s.records, s.row_length, s.split, noise
        )

    def _unseen(self) -> tuple[list[Batch], list[dict]]:
        """Batches of held-out renditions and questions to ask: the same in every run, so that curves can be compared."""
        try:
            loader = self._loader("renditions", HELD_OUT_SEED)
        except MinitttError as error:
            tqdm.write(f"nothing is held out: {error}")
            return [], []
        batches = [loader.batch(i) for i in range(4)]
        return batches, questions(self.corpus.split("renditions"), self.s.samples)

    def _build(self) -> None:
        s = self.s
        vocabulary = self.corpus.vocabulary
        torch.manual_seed(s.seed)
        torch.set_flush_denormal(True)  # denormal numbers slow a CPU down many times over
        # 1. The model, its code embeddings placed where the codec has its codes.
        sizes = {"max_length": max(512, s.row_length), **s.model}
        if self.start is not None:  # its sizes, unless others are asked for
            known = asdict(self.start.model.config)
            del known["vocab_size"]
            known["max_length"] = max(known["max_length"], s.row_length)
            sizes = {**known, **s.model}
        dtype = torch.float64 if s.precision == "float64" else torch.float32
        self.model = Transformer(ModelConfig(vocabulary.size, **sizes)).to(self.world.device, dtype)
        self.model.gradient_checkpointing = s.gradient_checkpointing
        if self.corpus.codebooks is not None:
            place_codes(self.model, vocabulary.first_code, torch.from_numpy(self.corpus.codebooks))
        if self.start is not None:
            warm_start(self.model, self.corpus, self.start)
        if s.lora is not None:
            self._adapt(s.lora)
        # 2. The loss, in one process or several, and what accumulates its gradient.
        self.worker = Worker(self.model, vocabulary, self.p, self.world, s.compile, self._attention())
        shared = wrap_for_processes(self.worker, s.shard)
        self.accumulator = Accumulator(self.worker, shared, self.loader, s.accumulate, self._in_bfloat16())
        # 3. The optimiser.
        self.optimiser = make_optimiser(
            self.model, s.optimiser, s.learning_rate, s.muon_learning_rate, s.weight_decay, s.betas
        )

    def _adapt(self, rank: int) -> None:
        """Freeze what the run began with and train adapters beside it. Raises MinitttError if it began with nothing."""
        mine = self.corpus.tokeniser.fingerprint()
        if self.start is None or self.start.tokeniser.fingerprint() != mine:
            raise MinitttError(
                "lora keeps the text that a model knows: start from one, with --init, that has this corpus's tokeniser"
            )
        add_adapters(self.model, rank, known=self.corpus.vocabulary.text_size)

    def _attention(self) -> str:
        """How the mask is laid out. Raises MinitttError where the requested layout cannot be trained."""
        if self.s.attention == "flex" and self.world.device.type != "cuda":
            raise MinitttError(
                f"attention flex has no backward pass on {self.world.device.type}: use auto or dense"
            )
        if self.s.precision == "float64":  # FlexAttention's kernels have none
            return "dense"
        return self.s.attention

    def _in_bfloat16(self) -> bool:
        """Whether forward and backward run under autocast to bfloat16."""
        if self.s.precision == "auto":
            return bfloat16_is_fast(self.world.device)
        return self.s.precision == "bfloat16"

    def train(self, until: int | None = None) -> Talker:
        """Train to the last step (or to `until`, for tests), logging to log.jsonl, and write the talker."""
        with self.lock:
            return self._train(until)

    def _train(self, until: int | None) -> Talker:
        stop = min(until or self.s.steps, self.s.steps)
        first = self.world.rank == 0
        started = time.time()
        tokens = 0
        bar = tqdm(
            total=stop, initial=self.step, desc=f"train {self.s.preset}", unit="step", disable=not first
        )
        while self.step < stop:
            # 1. One step.
            line, n = self._one_step()
            tokens += n
            line["seconds"] = time.time() - started
            line["tokens_per_s"] = tokens / line["seconds"]
            bar.set_postfix_str(
                "{text:.3f} text, {audio:.3f} audio, {tokens_per_s:.0f} tokens/s".format(**line)
            )
            bar.update()
            # 2. Now and then, losses on held-out records, and a few replies.
            is_last = self.step == stop
            if is_last or self.step % self.s.evaluate_every == 0:
                line |= self.evaluate()
                if first:
                    tqdm.write(f"step {self.step}\n{line['sample']}")
            # 3. The log first, then the checkpoint: resuming cuts the log back to the checkpoint's step.
            if first:
                self._log(line)
            if is_last or self.step % self.s.save_every == 0:
                self._save()
        bar.close()
        talker = self.talker()
        if first:
            talker.save(self.out / "talker.safetensors")
        self.world.wait()
        return talker

    def _log(self, line: dict) -> None:
        rounded = {}
        for name, value in line.items():
            rounded[name] = round(value, 5) if isinstance(value, float) else value
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json_text(rounded) + "\n")

    def _one_step(self) -> tuple[dict, int]:
        """One optimiser step. Returns its line of the log, and how many tokens it saw."""
        self.model.train()
        # 1. The learning rates of this step.
        share = self.rate(self.step, self.s)
        self.optimiser.set_rate(share)
        # 2. The gradient, over all parts and all processes.
        self.optimiser.zero_grad()
        text, audio, n = self.accumulator.add_gradient(self.step)
        # 3. Clip it; the norm before clipping is logged.
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.s.clip)
        # 4. Read what is logged: the only time that the host waits for the device.
        text, audio, norm = torch.stack([text, audio, full_tensor(norm)]).tolist()
        line = {
            "step": self.step + 1,
            "text": text / max(1, n.text),
            "audio": audio / max(1, n.audio),
            "gradient_norm": norm,
        }
        # 5. A loss that is not finite ends the run before it reaches the weights.
        wrong = [name for name in ("text", "audio", "gradient_norm") if not math.isfinite(line[name])]
        if wrong:
            what = " and ".join(wrong).replace("_", " ")
            raise MinitttError(
                f"{what} not finite at step {self.step + 1}: lower the learning rate, now "
                f"{self.s.learning_rate * share:.2g}; the newest checkpoint is from before"
            )
        # 6. Move the weights.
        self.optimiser.step()
        self.step += 1
        return line, int(n.tokens)

    def evaluate(self) -> dict:
        """Losses on held-out renditions under fixed noise, and sample replies. All processes must call it."""
        self.model.eval()
        return {**held_out_losses(self.worker, self.held_out), "sample": self.sample()}

    def sample(self) -> str:
        """A few held-out questions and the replies to them; only the first process replies."""
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
            "started_from": self._started_from(),
        }
        model = merged(self.model)
        if self.s.shard:
            model = Transformer(self.model.config).to(self.world.device)
            with torch.no_grad():
                for copy, parameter in zip(model.parameters(), self.model.parameters(), strict=True):
                    copy.copy_(full_tensor(parameter))
        return Talker(model.eval(), self.corpus.vocabulary, self.corpus.tokeniser, info)

    def _started_from(self) -> dict | None:
        """Which talker the run began with: its fingerprint and the steps it had taken."""
        if self.start is None:
            return None
        return {"talker": self.start.fingerprint(), "step": self.start.info.get("step")}

    def _header(self) -> dict:
        data = f"{len(self.loader.records)} records of codec {self.corpus.info['codec']}"
        header = {
            "settings": asdict(self.s),
            "parts": self.parts,
            "next_record": self.step * self.s.records,  # counted over all epochs
            "data": data,
            "tokeniser": self.corpus.tokeniser.fingerprint(),
            "start": self._started_from(),
        }
        if isinstance(self.loader.records, RecordStream):
            header["files"] = self.loader.records.contents()
        return header

    def _save(self) -> None:
        header = self._header()
        if self.s.shard:
            tensors = checkpoints.changing(self.model, self.optimiser)
            checkpoints.save_shards(self.out, self.step, tensors, header, self.s.keep, self.world)
        elif self.world.rank == 0:
            tensors = checkpoints.tensors_of(self.model, self.optimiser)
            checkpoints.save(self.out, self.step, tensors, header, self.s.keep)

    def _resume(self, step: int, tensors: dict[str, Tensor] | Shards, header: dict) -> None:
        self.step = step
        checkpoints.check(self.out, header, self._header())
        checkpoints.restore(self.model, self.optimiser, tensors)
        if self.world.rank == 0:
            checkpoints.tidy(self.out, self.step)
