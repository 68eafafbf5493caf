"""One step of training in several parts, by one process or by many: the gradient is that of the whole step.

torchrun starts the processes and says in the environment who is who (`join_processes`). DDP keeps a whole model in each of
them, FSDP2 a shard of every weight; both average gradients over processes, and losses are scaled so that the average is the
sum that one process would have computed.

A mean of means would weigh a token by how few others its part has. So all noise of a step is drawn first, then its text
targets and audio slots are counted over all parts of all processes, and every part is normalised by these counts.
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
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.objective import Noise, Preset, draw_noise, targets, unified_loss
from minittt.training.loader import Loader, seed_of

# ---- processes


def best_device() -> torch.device:
    """CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join_processes() -> World:
    """The world that torchrun started this process into, or a world of one."""
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            return World(device=best_device())
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = best_device()
    if device.type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank(fallback_rank=dist.get_rank()))
        torch.cuda.set_device(device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def leave_processes() -> None:
    """Close what `join` opened."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Worker(nn.Module):
    """The unified loss as the forward of one module, which is where DDP and FSDP2 hook themselves in."""

    def __init__(
        self, model: Transformer, vocabulary: Vocabulary, p: Preset, world: World, compiled: bool
    ) -> None:
        super().__init__()
        self.model, self.vocabulary, self.p, self.world = model, vocabulary, p, world
        # rows differ in number and length from step to step: without `dynamic` each new shape is compiled anew
        self.hidden = torch.compile(model.hidden, dynamic=True) if compiled else model.hidden

    def logits(self, hidden: Tensor, choices: Tensor | None = None) -> Tensor:
        """As `Transformer.logits`."""
        return self.model.logits(hidden, choices)

    def forward(
        self, batch: Batch, noise: Noise, counts: tuple[int, int] | None = None, p: Preset | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, text sum and audio sum of one part, each (). counts: see `objective.unified_loss`."""
        loss = unified_loss(self, batch, self.vocabulary, p or self.p, None, noise, counts)
        return loss.total, loss.text_sum, loss.audio_sum


def wrap_for_processes(worker: Worker, shard: bool) -> nn.Module:
    """What to call in a training step instead of `worker`: DDP around it, or itself with its weights sharded."""
    world = worker.world
    if world.size == 1:
        if shard:
            raise MinitttError("there is one process only: start several with torchrun to shard over them")
        return worker
    if not shard:
        return DistributedDataParallel(
            worker, device_ids=[world.device] if world.device.type == "cuda" else None
        )
    from torch.distributed.device_mesh import init_device_mesh  # slow to import, and rarely wanted
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for layer in worker.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(worker, mesh=mesh)  # all that no layer owns: embeddings and the last norm


def gradient_sync(module: nn.Module, last: bool) -> AbstractContextManager:
    """The context of one pass: DDP sums gradients over processes once a step, after the last part."""
    wait = isinstance(module, DistributedDataParallel) and not last
    return module.no_sync() if wait else nullcontext()


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (all processes must ask), any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor sharded as `parameter` is, if it is."""
    tensor = tensor.to(parameter.device)
    if not hasattr(parameter, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


# ---- parts of a step


class Counts(NamedTuple):
    """Of a part or a step: text targets, maskable audio slots, records, tokens."""

    text: float
    audio: float
    records: float
    tokens: float


class MicroBatch(NamedTuple):
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
            with gradient_sync(self.shared, last=i == len(parts) - 1):
                text_sum, audio_sum = self._pass(part, counts)
            text, audio = text + text_sum.item(), audio + audio_sum.item()
        return *world.sum([text, audio]), counts

    def draw(self, step: int, part: int) -> MicroBatch:
        """The batch and the noise of one part. BANOM's coin, one a batch, is tossed for each part."""
        worker, p = self.worker, self.worker.p
        batch = self.loader.batch(step, part, worker.world.size * self.passes).to(worker.world.device)
        seed = random.Random(seed_of(self.loader.seed, "noise", step, part)).getrandbits(63)
        dtype = torch.promote_types(worker.model.embed_tokens.weight.dtype, torch.float32)
        noise = draw_noise(batch, p, torch.Generator().manual_seed(seed), dtype)
        counted = (*targets(batch, noise, worker.vocabulary, p), batch.kinds >= 0)
        n_text, n_audio, n_tokens = (int(where.sum()) for where in counted)
        records = int((batch.documents.amax(1) + 1).sum())  # documents of a row count up from 0
        return MicroBatch(batch, noise, Counts(n_text, n_audio, records, n_tokens))

    def _pass(self, part: MicroBatch, step: Counts) -> tuple[Tensor, Tensor]:
        """Forward and backward of one part. Means over records are weighed by its share of the step's records."""
        world, by_token = self.worker.world, self.worker.p.normalise == "token"
        with torch.autocast(world.device.type, torch.bfloat16, enabled=self.half):
            counts = (step.text, step.audio) if by_token else None
            total, text_sum, audio_sum = self.shared(part.batch, part.noise, counts)
        share = 1.0 if by_token else part.counts.records / step.records
        (total * (share * world.size)).backward()  # DDP and FSDP2 divide by the number of processes
        return text_sum, audio_sum
