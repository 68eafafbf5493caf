"""One training step in several parts, by one process or by many: the gradient is that of the whole step.

torchrun starts the processes and tells each through the environment which one it is (`join_processes`). DDP keeps a whole
model in each of them, FSDP2 a shard of every weight; both average gradients over processes, and losses are scaled so that
the average is the sum that one process would have computed.

In a mean of means, a token would weigh more the fewer others its part has. So all noise of a step is drawn first, then its
text targets and audio slots are counted over all parts of all processes, and every part is normalised by these counts.
"""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minittt.data.batches import Batch
from minittt.data.vocabulary import Vocabulary
from minittt.device import device_named
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.objective import Noise, Preset, combine_losses, draw_noise, predict, targets
from minittt.training.heartbeat import Heartbeat, heartbeat_of_torchrun
from minittt.training.loader import Loader, seed_of

# ---- processes


@dataclass(frozen=True)
class World:
    """Which process this is (`rank`) of how many (`size`), and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def add_up(self, sums: Tensor) -> Tensor:
        """Like `sum`, for a tensor, on its own device; the host does not wait."""
        if self.size > 1:
            dist.all_reduce(sums)
        return sums

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join_processes(device: str = "auto") -> World:
    """The world that torchrun started this process into, or a world of one. device: see `device_named`."""
    device = device_named(device)
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            return World(device=device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _beat()
    if device.type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank(fallback_rank=dist.get_rank()))
        torch.cuda.set_device(device)
    return World(dist.get_rank(), dist.get_world_size(), device)


_HEARTBEATS: list[Heartbeat] = []  # of this process: one at most


def _beat() -> None:
    """Give signs of life to the other processes, and watch for theirs."""
    if dist.get_world_size() > 1:
        heartbeat = heartbeat_of_torchrun(dist.get_rank(), dist.get_world_size())
        heartbeat.start()
        _HEARTBEATS.append(heartbeat)


def leave_processes() -> None:
    """Close what `join` opened."""
    while _HEARTBEATS:
        _HEARTBEATS.pop().leave()
    if dist.is_initialized():
        dist.destroy_process_group()


@dataclass(frozen=True)
class Task:
    """What a worker computes the loss of. Not a tuple: FSDP2 would find the tensors inside and move them to the device."""

    batch: Batch
    noise: Noise
    counts: tuple[float, float] | None = None  # see `objective.unified_loss`
    p: Preset | None = None  # in place of the worker's own


class Worker(nn.Module):
    """The unified loss as the forward of one module, which is where DDP and FSDP2 hook in."""

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        p: Preset,
        world: World,
        compiled: bool,
        attention: str = "dense",
    ) -> None:
        """attention: see `objective.who_sees_whom`."""
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.p = p
        self.world = world
        self.attention = attention
        self.hidden = model.hidden
        if compiled:
            # the number and length of rows vary from step to step: without `dynamic` each new shape is compiled anew
            self.hidden = torch.compile(model.hidden, dynamic=True)

    @property
    def embed_tokens(self) -> nn.Embedding:
        """As `Transformer.embed_tokens`."""
        return self.model.embed_tokens

    def logits(self, hidden: Tensor, choices: Tensor | None = None) -> Tensor:
        """As `Transformer.logits`."""
        return self.model.logits(hidden, choices)

    def forward(self, task: Task) -> tuple[Tensor, Tensor, Tensor]:
        """Total, text sum and audio sum of one part, each ()."""
        p = task.p or self.p
        text, audio = predict(self, task.batch, self.vocabulary, p, task.noise, self.attention)
        loss = combine_losses(text, audio, task.batch.documents, p, task.counts)
        return loss.total, loss.text_sum, loss.audio_sum


def wrap_for_processes(worker: Worker, shard: bool) -> nn.Module:
    """What to call in a training step instead of `worker`: DDP around it, or itself with its weights sharded."""
    world = worker.world
    if world.size == 1:
        if shard:
            raise MinitttError("there is one process only: start several with torchrun to shard over them")
        return worker
    if not shard:
        return DistributedDataParallel(worker)
    from torch.distributed.device_mesh import init_device_mesh  # slow to import, and rarely wanted
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for layer in worker.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(worker, mesh=mesh)  # everything that no layer owns: embeddings and the last norm
    return worker


def gradient_sync(module: nn.Module, last: bool) -> AbstractContextManager:
    """The context of one pass: DDP sums gradients over processes once per step, after the last part."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (all processes must ask); any other is returned unchanged."""
    if hasattr(tensor, "full_tensor"):
        return tensor.full_tensor()
    return tensor


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, sharded as `parameter` is, if it is; one that is sharded already is returned unchanged."""
    tensor = tensor.to(parameter.device)
    if not hasattr(parameter, "device_mesh") or hasattr(tensor, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # a parameter that has a mesh is a DTensor, and has placements too
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


# ---- parts of a step


class Counts(NamedTuple):
    """How many there are in a part or a step: text targets, maskable audio slots, records, tokens."""

    text: float
    audio: float
    records: float
    tokens: float


class MicroBatch(NamedTuple):
    """What one pass computes: its rows, their noise, and the counts of what they hold."""

    batch: Batch
    noise: Noise
    counts: Counts


@dataclass
class Accumulator:
    """This process's parts of every step. `shared` is what to call: `worker` itself, or DDP around it."""

    worker: Worker
    shared: nn.Module
    loader: Loader
    passes: int = 1  # per step, by this process
    half: bool = False  # autocast to bfloat16

    def add_gradient(self, step: int) -> tuple[Tensor, Tensor, Counts]:
        """Add a step's gradient to that of the parameters. Returns its text sum and audio sum in nats, and its counts.

        The sums are () and on the device: the host reads them when it has to.
        """
        world = self.worker.world
        # 1. Draw all parts of this process, batch and noise.
        parts = [self.draw(step, world.rank * self.passes + i) for i in range(self.passes)]
        # 2. Count over all parts of all processes.
        here = [sum(column) for column in zip(*(part.counts for part in parts), strict=True)]
        counts = Counts(*world.sum(here))
        # 3. Forward and backward of each part, normalised by the counts of the whole step.
        sums = []
        for i, part in enumerate(parts):
            with gradient_sync(self.shared, last=i == len(parts) - 1):
                sums.append(self._forward_and_backward(part, counts))
        # 4. The sums of all processes, for the log.
        text, audio = world.add_up(torch.stack(sums).sum(0))
        return text, audio, counts

    def draw(self, step: int, part: int) -> MicroBatch:
        """The batch and the noise of one part. BANOM's coin, one per batch, is tossed for each part."""
        worker = self.worker
        # 1. The rows.
        parts = worker.world.size * self.passes
        batch = self.loader.batch(step, part, parts)
        # 2. The noise, from a seed of its own.
        seed = random.Random(seed_of(self.loader.seed, "noise", step, part)).getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        dtype = torch.promote_types(worker.model.embed_tokens.weight.dtype, torch.float32)
        noise = draw_noise(batch, worker.p, generator, dtype)
        # 3. How much there is to average over.
        in_text, in_audio = targets(batch, noise, worker.vocabulary, worker.p)  # (B, L), (B, L)
        counts = Counts(
            text=int(in_text.sum()),
            audio=int(in_audio.sum()),
            records=int((batch.documents.amax(1) + 1).sum()),  # the documents of a row are numbered from 0
            tokens=int((batch.kinds >= 0).sum()),
        )
        return MicroBatch(batch, noise, counts)

    def _forward_and_backward(self, part: MicroBatch, step: Counts) -> Tensor:
        """Text sum and audio sum of one part, (2,), whose gradient is accumulated. step: the counts of the whole step."""
        world = self.worker.world
        by_token = self.worker.p.normalise == "token"
        counts = None
        share = part.counts.records / step.records  # a mean over records is weighted by its share of them
        if by_token:
            counts = (step.text, step.audio)
            share = 1.0
        with torch.autocast(world.device.type, torch.bfloat16, enabled=self.half):
            total, text_sum, audio_sum = self.shared(Task(part.batch, part.noise, counts))
        loss = total * (share * world.size)  # DDP and FSDP2 divide by the number of processes
        loss.backward()
        return torch.stack([text_sum, audio_sum])
