"""Several processes that train together, for tests: forked from one that has imported torch, or each would import it."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
PRELOADED = [
    "minittt.app.cli",
    "minittt.training.trainer",
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "tests.toy",
]


def _joined(rank: int, size: int, meeting: str, work: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    work(rank, *args)
    if dist.is_initialized():  # a command leaves its group itself
        dist.destroy_process_group()


def together(size: int, meeting: Path, work: Callable, *args) -> None:
    """Call work(rank, *args) in `size` processes of one gloo group. meeting: a file that is not there yet."""
    if METHOD == "forkserver":
        multiprocessing.get_context(METHOD).set_forkserver_preload(PRELOADED)
    mp.start_processes(_joined, (size, str(meeting), work, args), nprocs=size, start_method=METHOD)
