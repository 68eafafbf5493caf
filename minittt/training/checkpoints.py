"""Checkpoints that a killed process cannot spoil: whole files or none, the last few of them, and a log that matches.

A state is one safetensors file, `state-00000250.safetensors`: weights, optimiser moments and, in its header, the step,
the settings and the number of the next record. With FSDP2 it is a folder of shards (`sharded_states`). Any number of
processes can read either kind. No random state is kept, because none is needed: every draw depends on (seed, step, part)
alone.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minittt.codec import whole_file, write_tensors
from minittt.data.headers import STATE, complete, read_file, read_object
from minittt.errors import MinitttError
from minittt.training import sharded_states
from minittt.training.optimiser import CombinedOptimiser
from minittt.training.parallel import World, full_tensor, shard_like
from minittt.training.sharded_states import Shards

FORMAT = "minittt training state 1"
# What may change when a run is resumed. `accumulate` may change only if its product with the number of processes does not.
FREE = (
    "evaluate_every",
    "save_every",
    "keep",
    "samples",
    "accumulate",
    "shard",
    "attention",
    "gradient_checkpointing",
)


def states(folder: Path) -> list[Path]:
    """The states in a folder, files and folders of shards, oldest first."""
    found = [
        path for path in folder.glob("state-*") if re.fullmatch(r"state-\d{8,}(\.safetensors)?", path.name)
    ]
    return sorted(found, key=lambda path: (_step_in(path), path.name))


def _step_in(state: Path) -> int:
    return int(state.stem.removeprefix("state-"))


def changing(model: nn.Module, optimiser: CombinedOptimiser) -> dict[str, Tensor]:
    """All that training changes, as it is on the devices: whole, or this process's shards."""
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for i, moments in optimiser.state_dict()["state"].items():
        for name, tensor in moments.items():
            tensors[f"optimiser.{i}.{name}"] = tensor.detach()
    return tensors


def tensors_of(model: nn.Module, optimiser: CombinedOptimiser) -> dict[str, Tensor]:
    """All that training changes, whole and on the CPU. All processes must call it if weights are sharded."""
    tensors = changing(model, optimiser)
    return {name: full_tensor(tensor).cpu().contiguous() for name, tensor in tensors.items()}


def save(folder: Path, step: int, tensors: dict[str, Tensor], header: dict, keep: int) -> None:
    """Write one state as a file, then remove all but the newest `keep`."""
    header = {"format": FORMAT, "run": json.dumps({"step": step, **header})}
    write_tensors(folder / f"state-{step:08d}.safetensors", tensors, header)
    _remove_old(folder, step, keep)


def save_shards(
    folder: Path, step: int, tensors: dict[str, Tensor], header: dict, keep: int, world: World
) -> None:
    """Write one state as a folder of shards, then remove all but the newest `keep`. All processes must call it."""
    sharded_states.save(folder / f"state-{step:08d}", tensors, {"step": step, **header}, world)
    if world.rank == 0:
        _remove_old(folder, step, keep)


def _remove_old(folder: Path, step: int, keep: int) -> None:
    """Remove all but the newest `keep` states up to this step. A later state was unreadable, and does not count."""
    known = [path for path in states(folder) if _step_in(path) <= step]
    for old in known[:-keep]:
        _remove(old)


def _remove(state: Path) -> None:
    """Remove a state, a file or a folder."""
    if state.is_dir():
        shutil.rmtree(state)
    else:
        state.unlink()


def load(folder: Path, world: World | None = None) -> tuple[int, dict[str, Tensor] | Shards, dict]:
    """Step, tensors and header of the newest state that every process can read. Raises MinitttError if there is none.

    world: the processes that read together, all of which must call it; None: this process reads alone.
    """
    world = world or World()
    wrong = ""
    for path in reversed(states(folder)):
        try:
            tensors, run = _read(path, verify=world.rank == 0)
            failed = 0
        except MinitttError as error:
            tqdm.write(f"a state cannot be read: {error}; going back to the state before it")
            wrong = f": {error}"
            failed = 1
        if world.sum([failed])[0] == 0:
            return run.pop("step"), tensors, run
    raise MinitttError(f"{folder} holds no state to resume from{wrong}")


def _read(path: Path, verify: bool) -> tuple[dict[str, Tensor] | Shards, dict]:
    """Tensors and header of one state. verify: whether to check shards against their checksums; a file always is checked."""
    if path.is_dir():
        run, shards = sharded_states.load(path, verify)
        return shards, run
    header, tensors = read_file(path, FORMAT)
    return tensors, complete(path, read_object(path, header, "run"), STATE, required=STATE)


def steps_of(folder: Path) -> int:
    """How many steps the run in a folder was meant to take. Raises MinitttError if it holds no state."""
    _, _, header = load(folder)
    steps = header["settings"].get("steps")
    if type(steps) is not int or steps < 0:
        raise MinitttError(
            f"the state in {folder} was trained for {steps!r} steps; it must be a whole number"
        )
    return steps


def check(folder: Path, found: dict, given: dict) -> None:
    """Raise MinitttError if a run is to be resumed with settings other than those it was started with.

    found, given: the header of the existing state, and the header that would be written now.
    """
    if found.get("start") and not given.get("start"):
        raise MinitttError(f"the run in {folder} began with a model: resume it with the same --init")
    given = json.loads(json.dumps(given))  # tuples to lists, as in the header
    was = _what_must_stay(found)
    now = _what_must_stay(given)
    wrong = []
    for name in was:
        if name in now and was[name] != now[name]:
            wrong.append(f"{name} {was[name]!r}, not {now[name]!r}")
    if wrong:
        raise MinitttError(
            f"the run in {folder} was started with {'; '.join(wrong)}: resume it in the same way"
        )


def _what_must_stay(header: dict) -> dict:
    """The header of a state, settings included, without what may change when a run is resumed."""
    everything = {**header.get("settings", {}), **header}
    return {name: value for name, value in everything.items() if name not in (*FREE, "settings")}


@torch.no_grad()
def restore(model: nn.Module, optimiser: CombinedOptimiser, tensors: dict[str, Tensor] | Shards) -> None:
    """Put back what `tensors_of` took, or shards, sharded as the model is. All processes must call it.

    Raises MinitttError for another model's state.
    """
    # 1. The weights.
    parameters = dict(model.named_parameters())
    order = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if isinstance(tensors, Shards):
        tensors = _read_share(tensors, parameters, order)
    weights = {}
    moments = {}
    for name, tensor in tensors.items():
        if name.startswith("model."):
            weights[name.removeprefix("model.")] = tensor
        else:
            moments[name] = tensor
    shapes = {name: weight.shape for name, weight in weights.items()}
    if shapes != {name: parameter.shape for name, parameter in parameters.items()}:
        raise _other_model()
    state = _moments_by_parameter(moments, order)
    for name, parameter in parameters.items():
        parameter.copy_(shard_like(weights[name], parameter))
    # 2. The optimiser's moments, in the same order in all processes, or their transfers would cross.
    for i, mine in state.items():
        for key, moment in mine.items():
            if moment.dim() > 0:
                mine[key] = shard_like(moment, order[i])
    try:
        optimiser.load_state_dict({"state": state})
    except (KeyError, ValueError, RuntimeError) as error:
        raise MinitttError(
            f"the state lacks a moment of the optimiser ({error}): resume from another"
        ) from error


def _other_model() -> MinitttError:
    return MinitttError("the state is that of a model of another shape: resume with the sizes it began with")


def _read_share(shards: Shards, parameters: Mapping[str, Tensor], order: list[Tensor]) -> dict[str, Tensor]:
    """This process's share of each tensor in shards, cut as its parameter is. Raises MinitttError where they do not fit."""
    tensors = {}
    for name, shape in shards.shapes.items():
        owner = _owner(name, parameters, order)
        if name.startswith("optimiser.") and not shape:
            tensors[name] = torch.zeros(())  # a step count: whole in every process
        elif owner.shape == shape:
            tensors[name] = torch.zeros_like(owner)
        else:
            raise _other_model()
    shards.read_into(tensors)
    return tensors


def _owner(name: str, parameters: Mapping[str, Tensor], order: list[Tensor]) -> Tensor:
    """The parameter that a tensor of a state belongs to. Raises MinitttError for one that no parameter can have."""
    weight = parameters.get(name.removeprefix("model."))
    if name.startswith("model.") and weight is not None:
        return weight
    parts = re.fullmatch(r"optimiser\.(\d{1,9})\.(\w+)", name)
    if parts is None or int(parts[1]) >= len(order):
        raise MinitttError(f"the state holds {name!r:.60}, which is nothing of a model or its optimiser")
    return order[int(parts[1])]


def _moments_by_parameter(moments: dict[str, Tensor], order: list[Tensor]) -> dict[int, dict]:
    """`optimiser.NUMBER.KEY` to {NUMBER: {KEY: moment}}, sorted. Raises MinitttError for one that no parameter can have."""
    state: dict[int, dict] = {}
    for name, moment in sorted(moments.items()):
        parts = re.fullmatch(r"optimiser\.(\d{1,9})\.(\w+)", name)
        if parts is None or int(parts[1]) >= len(order):
            raise MinitttError(f"the state holds {name!r:.60}, which is nothing of a model or its optimiser")
        shape = order[int(parts[1])].shape
        if moment.dim() > 0 and moment.shape != shape:
            raise MinitttError(
                f"the state holds {name} of shape {tuple(moment.shape)} for a parameter of {tuple(shape)}"
            )
        state.setdefault(int(parts[1]), {})[parts[2]] = moment
    return state


def _step_of(log: Path, line: str) -> int:
    """The step of one line of a log. Raises MinitttError for a line without one."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise MinitttError(
            f"{log}: {line[:40]!r} is no line of a log: remove it to resume the run"
        ) from error


def tidy(folder: Path, step: int) -> None:
    """Remove half-written states of a killed process and all log lines after `step`: they will be logged again."""
    for unfinished in [*folder.glob(".*-state-*"), *folder.glob(".*-log.jsonl")]:
        _remove(unfinished)
    log = folder / "log.jsonl"
    if not log.is_file():
        return
    kept = []
    try:
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    except ValueError as error:
        raise MinitttError(f"{log}: is no text ({error}): remove it to resume the run") from error
    for line in lines:
        is_whole = line.endswith("\n")
        if is_whole and _step_of(log, line) <= step:
            kept.append(line)
    with whole_file(log) as unfinished:
        unfinished.write_text("".join(kept), encoding="utf-8")
