"""One step's gradient from several parts, equal to that of one batch: sums are added up, and divided by joint counts.

A mean of means would weigh a token by how few others its part has. So all noise of a step is drawn first, then its text
targets and audio slots are counted over all parts of all processes, and every part is normalised by these counts.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minittt.data.batches import Batch
from minittt.objective import Noise, draw_noise, targets
from minittt.training.distributed import Worker, passing
from minittt.training.loader import Loader, seed_of


class Counts(NamedTuple):
    """Of a part or a step: text targets, maskable audio slots, records, tokens."""

    text: float
    audio: float
    records: float
    tokens: float


class Part(NamedTuple):
    """What one pass computes: its rows, their noise, and how much there is in them."""

    batch: Batch
    noise: Noise
    counts: Counts


@dataclass
class Accumulator:
    """This process's parts of every step. `shared` is what calls `worker`, itself or DDP around it."""

    worker: Worker
    shared: nn.Module
    loader: Loader
    passes: int = 1  # a step, by this process
    half: bool = False  # autocast to bfloat16

    def add_gradient(self, step: int) -> tuple[float, float, Counts]:
        """Add a step's gradient to the parameters'. Returns the step's text sum and audio sum, nats, and its counts."""
        world = self.worker.world
        parts = [self.draw(step, world.rank * self.passes + i) for i in range(self.passes)]
        counts = Counts(*world.sum([sum(column) for column in zip(*(p.counts for p in parts), strict=True)]))
        text = audio = 0.0
        for i, part in enumerate(parts):
            with passing(self.shared, last=i == len(parts) - 1):
                text_sum, audio_sum = self._pass(part, counts)
            text, audio = text + text_sum.item(), audio + audio_sum.item()
        return *world.sum([text, audio]), counts

    def draw(self, step: int, part: int) -> Part:
        """The batch and the noise of one part. BANOM's coin, one a batch, is tossed for each part."""
        worker, p = self.worker, self.worker.p
        batch = self.loader.batch(step, part, worker.world.size * self.passes).to(worker.world.device)
        seed = random.Random(seed_of(self.loader.seed, "noise", step, part)).getrandbits(63)
        dtype = torch.promote_types(worker.model.embed_tokens.weight.dtype, torch.float32)
        noise = draw_noise(batch, p, torch.Generator().manual_seed(seed), dtype)
        counted = (*targets(batch, noise, worker.vocabulary, p), batch.kinds >= 0)
        n_text, n_audio, n_tokens = (int(where.sum()) for where in counted)
        records = int((batch.documents.amax(1) + 1).sum())  # documents of a row count up from 0
        return Part(batch, noise, Counts(n_text, n_audio, records, n_tokens))

    def _pass(self, part: Part, step: Counts) -> tuple[Tensor, Tensor]:
        """Forward and backward of one part. Means over records are weighed by its share of the step's records."""
        world, by_token = self.worker.world, self.worker.p.normalise == "token"
        with torch.autocast(world.device.type, torch.bfloat16, enabled=self.half):
            counts = (step.text, step.audio) if by_token else None
            total, text_sum, audio_sum = self.shared(part.batch, part.noise, counts)
        share = 1.0 if by_token else part.counts.records / step.records
        (total * (share * world.size)).backward()  # DDP and FSDP2 divide by the number of processes
        return text_sum, audio_sum
