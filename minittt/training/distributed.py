"""Several processes, one run: each computes its parts of a step, and their gradients are summed.

torchrun starts the processes and says in the environment who is who (`join`). DDP keeps a whole model in each of them,
FSDP2 a share of every weight. Both average gradients over processes; losses are made so that the average is the sum that
one process would have computed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minittt.data.batches import Batch
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.objective import Noise, Preset, unified_loss


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


def join() -> World:
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


def leave() -> None:
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


def share_out(worker: Worker, shard: bool) -> nn.Module:
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


def passing(module: nn.Module, last: bool) -> AbstractContextManager:
    """The context of one pass: DDP sums gradients over processes once a step, after the last part."""
    wait = isinstance(module, DistributedDataParallel) and not last
    return module.no_sync() if wait else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (all processes must ask), any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor sharded as `parameter` is, if it is."""
    tensor = tensor.to(parameter.device)
    if not hasattr(parameter, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
