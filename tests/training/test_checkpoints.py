"""States of a run as files: in their order, refused by name where they do not fit, and tidied without losing a line."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.training import checkpoints
from minittt.training.optimiser import make_optimiser
from tests.toy import toy_model

HEADER = {"settings": {"steps": 10}}
FEW_STEPS = st.lists(
    st.integers(1, 9) | st.integers(10**8 - 5, 10**8 + 5), min_size=1, max_size=6, unique=True
)  # of eight digits and of nine


def state(folder, step: int, keep: int = 9, **header) -> None:
    """A state of one number, which is its step."""
    checkpoints.save(folder, step, {"model.x": torch.tensor([step])}, {**HEADER, **header}, keep)


def trained(seed: int = 0):
    """A model and its optimiser after one step."""
    model = toy_model(Vocabulary(6, 5), seed, torch.float32)
    optimiser = make_optimiser(model, "muon", 1e-3, 1e-2, 0.0, (0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step()
    return model, optimiser


@settings(max_examples=20)
@given(FEW_STEPS, st.integers(1, 7))
def test_states_are_ordered_by_their_steps_and_the_newest_are_kept(tmp_path_factory, steps, keep):
    """As numbers: 100000000 comes after 99999999, though not by name."""
    folder = tmp_path_factory.mktemp("states")
    for step in sorted(steps):
        state(folder, step, keep)
    assert [int(path.stem[6:]) for path in checkpoints.states(folder)] == sorted(steps)[-keep:]
    step, tensors, run = checkpoints.load(folder)
    assert (step, tensors["model.x"].item(), run) == (max(steps), max(steps), HEADER)


def test_other_files_are_no_states(tmp_path):
    for name in (
        "state-1.safetensors",
        "state-00000001.safetensors.old",
        "state-0000000x",
        "estate-00000001",
    ):
        (tmp_path / name).write_bytes(b"")
    assert checkpoints.states(tmp_path) == []
    with pytest.raises(MinitttError, match="holds no state to resume from$"):
        checkpoints.load(tmp_path)


def test_an_unreadable_later_state_does_not_count_among_those_to_keep(tmp_path):
    """It was passed over; were it counted, a good state would make room for it."""
    state(tmp_path, 2)
    state(tmp_path, 8)
    later = checkpoints.states(tmp_path)[-1]
    later.write_bytes(later.read_bytes()[:-1])
    assert checkpoints.load(tmp_path)[0] == 2
    state(tmp_path, 3, keep=2)
    assert [int(path.stem[6:]) for path in checkpoints.states(tmp_path)] == [2, 3, 8]


def test_the_last_reason_is_told_where_no_state_can_be_read(tmp_path):
    state(tmp_path, 2)
    [only] = checkpoints.states(tmp_path)
    only.write_bytes(b"")
    with pytest.raises(MinitttError, match=r"no state to resume from: .*state-00000002"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("steps", [None, "10", -1, True, 2.5])
def test_a_run_knows_how_many_steps_it_was_meant_to_take(tmp_path, steps):
    state(tmp_path, 2)
    assert checkpoints.steps_of(tmp_path) == 10
    state(tmp_path, 3, settings={"steps": steps})
    with pytest.raises(MinitttError, match=re.escape(f"{steps!r} steps; it must be a whole number")):
        checkpoints.steps_of(tmp_path)


@given(st.sampled_from(checkpoints.FREE))
def test_what_is_free_may_change_and_nothing_else_may(name):
    found = {"parts": 1, "settings": {"seed": 0, name: 1}}
    checkpoints.check("run", found, {"parts": 1, "settings": {"seed": 0, name: 2}})
    checkpoints.check("run", found, {"parts": 1, "settings": {"seed": 0, name: 1, "younger": 3}})
    older = {**found["settings"], "older": 3}  # which the present version does not have
    checkpoints.check("run", {**found, "settings": older}, found)
    with pytest.raises(MinitttError, match=r"the run in run was started with seed 0, not 4; parts 1, not 2:"):
        checkpoints.check("run", found, {"parts": 2, "settings": {"seed": 4, name: 2}})


def test_a_tuple_is_what_it_was_written_as():
    checkpoints.check("run", {"settings": {"betas": [0.9, 0.99]}}, {"settings": {"betas": (0.9, 0.99)}})


def test_a_run_that_began_with_a_model_is_resumed_with_it():
    with pytest.raises(MinitttError, match="began with a model: resume it with the same --init"):
        checkpoints.check("run", {"start": "a", "settings": {}}, {"start": "", "settings": {}})
    with pytest.raises(MinitttError, match="start 'a', not 'b'"):
        checkpoints.check("run", {"start": "a", "settings": {}}, {"start": "b", "settings": {}})


def test_what_is_saved_is_put_back(tmp_path):
    model, optimiser = trained(0)
    saved = checkpoints.tensors_of(model, optimiser)
    checkpoints.save(tmp_path, 1, saved, HEADER, 1)
    another, its_optimiser = trained(1)
    _, tensors, _ = checkpoints.load(tmp_path)
    checkpoints.restore(another, its_optimiser, tensors)
    restored = checkpoints.tensors_of(another, its_optimiser)
    assert saved.keys() == restored.keys()
    assert len(saved) > 2 * len(list(model.parameters()))  # weights, and a moment or two of each
    assert all(torch.equal(saved[name], restored[name]) for name in saved)


def lost_weight(tensors: dict) -> None:
    del tensors[next(name for name in tensors if name.startswith("model."))]


def wide_weight(tensors: dict) -> None:
    name = next(name for name in tensors if name.startswith("model."))
    tensors[name] = torch.zeros(3, 3, 3)


def wide_moment(tensors: dict) -> None:
    tensors["optimiser.0.exp_avg"] = torch.zeros(3, 3, 3)


def foreign_moment(tensors: dict) -> None:
    tensors["optimiser.9999.exp_avg"] = torch.zeros(1)


def nameless(tensors: dict) -> None:
    tensors["weights"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lost_weight, "model of another shape"),
        (wide_weight, "model of another shape"),
        (wide_moment, r"optimiser.0.exp_avg of shape \(3, 3, 3\) for a parameter of \("),
        (foreign_moment, "'optimiser.9999.exp_avg', which is nothing of a model or its optimiser"),
        (nameless, "'weights', which is nothing of a model or its optimiser"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_put_back(change, message):
    model, optimiser = trained(0)
    another, its_optimiser = trained(1)
    tensors = checkpoints.tensors_of(model, optimiser)
    change(tensors)
    before = {name: p.clone() for name, p in checkpoints.tensors_of(another, its_optimiser).items()}
    with pytest.raises(MinitttError, match=message):
        checkpoints.restore(another, its_optimiser, tensors)
    after = checkpoints.tensors_of(another, its_optimiser)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kept", ["step", "exp_avg", "exp_avg_sq", "momentum_buffer"])
def test_a_moment_that_is_missing_is_named(kept):
    """Otherwise the first step after it would fail, or be another than that of the uninterrupted run."""
    model, optimiser = trained(0)
    tensors = checkpoints.tensors_of(model, optimiser)
    name = next(name for name in tensors if name.endswith(f".{kept}"))
    moments = [other for other in tensors if other.startswith(name.removesuffix(kept))]
    del tensors[name]
    if len(moments) > 1:
        with pytest.raises(MinitttError, match=f"the state lacks a moment of the optimiser \\('{kept}'\\)"):
            checkpoints.restore(*trained(1), tensors)
    else:
        checkpoints.restore(*trained(1), tensors)  # as of a parameter that has not moved yet


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(0, 9), st.booleans())
def test_lines_up_to_the_step_are_kept_and_no_half_line(tmp_path_factory, steps, step, cut):
    folder = tmp_path_factory.mktemp("log")
    lines = [json.dumps({"step": n}) + "\n" for n in steps]
    log = folder / "log.jsonl"
    log.write_text("".join(lines) + '{"step": 1' * cut, encoding="utf-8")
    checkpoints.tidy(folder, step)
    kept = [line for n, line in zip(steps, lines, strict=True) if n <= step]
    assert log.read_text(encoding="utf-8") == "".join(kept)


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", "{}", '{"step": "x"}', '{"step": null}', '{"step": 1e999}']
)
def test_a_line_without_a_step_is_named_and_the_log_left_alone(tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(MinitttError, match="is no line of a log: remove it to resume the run"):
        checkpoints.tidy(tmp_path, 1)
    assert log.read_text(encoding="utf-8") == f"{line}\n"


def test_a_log_that_is_no_text_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(MinitttError, match="is no text"):
        checkpoints.tidy(tmp_path, 1)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    state(tmp_path, 4)
    (tmp_path / ".7-state-00000006").mkdir()
    (tmp_path / ".7-state-00000006.safetensors").write_bytes(b"")
    (tmp_path / ".7-log.jsonl").write_bytes(b"")
    (tmp_path / ".keep").write_bytes(b"")
    checkpoints.tidy(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keep", "state-00000004.safetensors"]
