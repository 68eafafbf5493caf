"""A training state in shards: each process writes its part of every tensor and reads the parts that it needs.

    state-00000250/
        shard-00001-model-00001-of-00001.safetensors ...   one from each process that had something to write
        state.json                                         step, settings, shapes, and the SHA-256 of each shard

Nobody gathers the whole state. torch.distributed.checkpoint does the writing, and re-cuts the tensors when a different
number of processes reads them. Its own storage pickles an index; the one used here, made for Hugging Face's safetensors,
has none: a lost shard would look like a smaller tensor, or leave a hole. `state.json` says what must be there, and is
written last.
"""

import hashlib
import json
import math
import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minittt.codec import WRITER
from minittt.data.headers import STATE, complete
from minittt.errors import MinitttError
from minittt.files import unfinished_name, whole_folder
from minittt.training.parallel import World

FORMAT = "minittt sharded training state 1"
STATED_IN = "state.json"
DIGEST = 32  # bytes in a SHA-256


@dataclass(frozen=True)
class Shards:
    """The tensors of a state that is stored in shards: their shapes by name, and the folder to read them from."""

    folder: Path
    shapes: dict[str, torch.Size]

    def read_into(self, tensors: dict[str, Tensor]) -> None:
        """Fill tensors, whole or sharded over processes, in place. All processes must call it.

        Raises MinitttError where a shard cannot be read, or does not hold what `state.json` says.
        """
        import torch.distributed.checkpoint as dcp  # slow to import, and rarely wanted

        reader = dcp.HuggingFaceStorageReader(str(self.folder))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*in a single process")  # a single process is intended
                dcp.load(tensors, storage_reader=reader)
        except (dcp.api.CheckpointException, OSError, ValueError, RuntimeError, AssertionError) as error:
            raise MinitttError(f"{self.folder}: its shards cannot be read ({error})") from error


def save(folder: Path, tensors: dict[str, Tensor], run: dict, world: World) -> None:
    """Write a state: the whole folder, or nothing. All processes must call it, and see the same folder.

    tensors: whole, or sharded over processes; a whole one is written by one of them. run: the step, and whatever else the
    state says about itself.
    """
    import torch.distributed.checkpoint as dcp

    folder = folder.resolve()
    # 1. The first process makes the folder, which gets its final name when all is done.
    maker = world.sum([os.getpid() if world.rank == 0 else 0])
    unfinished = unfinished_name(folder, int(maker[0]))
    with ExitStack() as stack:
        if world.rank == 0:
            stack.enter_context(whole_folder(folder, _is_ours))
        world.wait()
        # 2. Each process writes one shard.
        writer = dcp.HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*in a single process")
                dcp.save(tensors, storage_writer=writer)
        except dcp.api.CheckpointException as error:
            raise MinitttError(f"{folder}: cannot be written ({error})") from error
        # 3. The first process says what there is.
        digests = _digests_by_all(unfinished, world)
        if world.rank == 0:
            shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
            stated = {
                "format": FORMAT,
                "written_by": WRITER,
                "run": run,
                "shards": digests,
                "tensors": shapes,
            }
            (unfinished / STATED_IN).write_text(json.dumps(stated, indent=1), encoding="utf-8")
    world.wait()


def _is_ours(name: str) -> bool:
    return name == STATED_IN or _is_shard(name)


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".safetensors")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _digests_by_all(folder: Path, world: World) -> dict[str, str]:
    """SHA-256 of each shard, hexadecimal; each process reads its share of the shards."""
    shards = sorted(path for path in folder.iterdir() if _is_shard(path.name))
    seen = world.sum([len(shards)])
    if seen[0] != len(shards) * world.size:
        raise MinitttError(
            f"{folder.parent}: not every process sees the same files there; give a folder that all machines share"
        )
    numbers = [0.0] * (DIGEST * len(shards))  # each byte is given by one process
    for i in range(world.rank, len(shards), world.size):
        numbers[DIGEST * i : DIGEST * (i + 1)] = list(_digest(shards[i]))
    numbers = world.sum(numbers)
    found = {}
    for i, path in enumerate(shards):
        digest = bytes(map(int, numbers[DIGEST * i : DIGEST * (i + 1)]))
        found[path.name] = digest.hex()
    return found


def load(folder: Path, verify: bool = True) -> tuple[dict, Shards]:
    """What a state says about itself, and its tensors, yet to be read. verify: read all shards to check that they belong.

    Raises MinitttError naming the file that is missing, damaged or foreign.
    """
    place = folder / STATED_IN
    try:
        stated = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MinitttError(f"{place}: cannot be read ({error})") from error
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        raise MinitttError(f"{place}: not of the format {FORMAT!r}")
    for field in ("run", "shards", "tensors"):
        if not isinstance(stated.get(field), dict):
            raise MinitttError(f"{place}: the field {field!r} must be an object")
    run = complete(place, stated["run"], STATE, required=STATE)
    _check_shards(folder, stated["shards"], verify)
    shapes = {name: _shape(place, name, shape) for name, shape in stated["tensors"].items()}
    return run, Shards(folder, shapes)


def _check_shards(folder: Path, digests: dict[str, str], verify: bool) -> None:
    """Raise MinitttError unless the shards in a folder are the ones that belong there."""
    found = {path.name for path in folder.iterdir() if path.name != STATED_IN}
    for name in sorted(digests.keys() - found):
        raise MinitttError(f"{folder}: the shard {name} is missing; copy it there, or remove the folder")
    for name in sorted(found - digests.keys()):
        raise MinitttError(f"{folder}: {name} is no part of this state; remove it")
    if not verify:
        return
    for name, digest in digests.items():
        if _digest(folder / name).hex() != digest:
            raise MinitttError(f"{folder}: the shard {name} is damaged or of another state; copy it again")


def _shape(place: Path, name: str, shape: Any) -> torch.Size:
    is_list = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not is_list or math.prod(shape) >= 2**63:
        raise MinitttError(f"{place}: {shape!r:.60} is no shape of the tensor {name!r:.60}")
    return torch.Size(shape)
