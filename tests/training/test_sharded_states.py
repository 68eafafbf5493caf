"""A state in shards: read by any number of processes, whole or refused, and the run goes on as if it had not stopped."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from minittt.errors import MinitttError
from minittt.training import checkpoints, sharded_states
from minittt.training.parallel import World
from minittt.training.sharded_states import Shards
from minittt.training.trainer import Trainer, TrainingSettings
from tests.processes import together
from tests.toy import toy_corpus

# of the four rows of a matrix with d_ff rows, three processes have two, two and none
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 4}
SETTINGS = TrainingSettings(
    steps=5, records=7, accumulate=6, row_length=160, precision="float64", samples=0, model=SIZES,
    evaluate_every=100, save_every=1, keep=1,
)  # fmt: skip


class Unsaved:
    """Stands for a talker: the toy tokeniser cannot be written."""

    def save(self, path):
        """Nothing."""


def train(rank, out, s, until, resume):
    trainer = Trainer(toy_corpus(1), out, s, resume=resume)
    trainer.sample = lambda: ""
    trainer.talker = Unsaved
    trainer.train(until=until)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["text"], line["audio"], line["gradient_norm"]) for line in lines]


def test_law_01_a_run_goes_on_with_any_number_of_processes(tmp_path):
    """FSDP2 on 2, DDP on 3, one process alone, FSDP2 on 3: the same records, and losses equal up to rounding."""
    train(0, tmp_path / "alone", SETTINGS, None, False)
    out = tmp_path / "moved"
    sharded = replace(SETTINGS, accumulate=3, shard=True)
    together(2, tmp_path / "a", train, out, sharded, 2, False)
    [state] = checkpoints.states(out)
    assert sorted(path.suffix for path in state.iterdir()) == [".json", ".safetensors", ".safetensors"]
    # nothing is said of how many passes each process makes: the step keeps its six parts
    together(3, tmp_path / "b", train, out, replace(SETTINGS, accumulate=1), 3, True)
    train(0, out, replace(SETTINGS, accumulate=1), 4, True)
    together(3, tmp_path / "c", train, out, replace(sharded, accumulate=1), 5, True)
    for found, expected in zip(losses(out), losses(tmp_path / "alone"), strict=True):
        assert found == pytest.approx(expected, abs=2e-5)  # the log has five decimals
    # another one reads shards, too, and has the weights of the run that never stopped
    weights = Trainer(toy_corpus(1), tmp_path / "alone", SETTINGS, resume=True).model.state_dict()
    moved = Trainer(toy_corpus(1), out, SETTINGS, resume=True)
    assert moved.step == 5 and moved.parts == 6
    for name, weight in moved.model.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A run that two processes left after its first step."""
    folder = tmp_path_factory.mktemp("state")
    s = replace(SETTINGS, accumulate=1, shard=True)
    together(2, folder / "meeting", train, folder / "run", s, 1, False)
    return folder / "run"


@pytest.fixture
def copied(state, tmp_path):
    """A copy of the run, and the folder of its one state."""
    shutil.copytree(state, tmp_path / "run")
    [folder] = checkpoints.states(tmp_path / "run")
    return tmp_path / "run", folder


def shards_of(folder):
    return sorted(folder.glob("shard-*"))


def lose(folder):
    shards_of(folder)[1].unlink()


def add_foreign(folder):
    shutil.copy(shards_of(folder)[1], folder / "shard-00003-model-00001-of-00001.safetensors")


def swap(folder):
    shutil.copy(shards_of(folder)[0], shards_of(folder)[1])


def spoil(folder):
    content = bytearray(shards_of(folder)[1].read_bytes())
    content[-1] ^= 1
    shards_of(folder)[1].write_bytes(content)


def change(**fields):
    def changed(folder):
        place = folder / "state.json"
        place.write_text(json.dumps(json.loads(place.read_text(encoding="utf-8")) | fields), encoding="utf-8")

    return changed


FAULTS = {
    "the shard shard-00002-model-00001-of-00001.safetensors is missing": lose,
    "shard-00003-model-00001-of-00001.safetensors is no part of this state": add_foreign,
    "the shard shard-00002-model-00001-of-00001.safetensors is damaged or of another state": swap,
    "shard-00002-model-00001-of-00001.safetensors is damaged": spoil,
    "state.json: cannot be read": lambda folder: (folder / "state.json").unlink(),
    "state.json: cannot be read (Expect": lambda folder: (folder / "state.json").write_text(
        "{", encoding="utf-8"
    ),
    "state.json: not of the format": change(format="minittt training state 1"),
    "the field 'shards' must be an object": change(shards=[]),
    "the field 'step' must be a whole number": change(run={"step": "1", "settings": {}}),
    "'x' is no shape of the tensor 'model.a'": change(tensors={"model.a": "x"}),
    "[4294967296, 4294967296] is no shape": change(tensors={"model.a": [2**32, 2**32]}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_lost_or_foreign_shard_is_refused_by_name(copied, message):
    run, folder = copied
    FAULTS[message](folder)
    with pytest.raises(MinitttError) as caught:
        checkpoints.load(run)
    assert message in str(caught.value)


def test_a_damaged_state_is_passed_over_for_the_one_before(copied):
    run, folder = copied
    shutil.copytree(folder, run / "state-00000009")
    spoil(run / "state-00000009")
    assert checkpoints.load(run)[0] == 1
    # what is written then, in shards or not, is kept in its place
    tensors = {"model.a": torch.ones(3)}
    checkpoints.save_shards(run, 2, tensors, {"settings": {}}, keep=1, world=World())
    assert [path.name for path in checkpoints.states(run)] == ["state-00000002", "state-00000009"]
    checkpoints.save(run, 3, tensors, {"settings": {}}, keep=1)
    assert [path.name for path in checkpoints.states(run)] == ["state-00000003.safetensors", "state-00000009"]
    assert checkpoints.load(run)[0] == 3


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.embed_tokens.weight", [3, 16], "a model of another shape"),
        ("optimiser.0.exp_avg", [3, 16], "a model of another shape"),
        ("model.layers.7.norm", [16], "nothing of a model or its optimiser"),
        ("optimiser.99.exp_avg", [16], "nothing of a model or its optimiser"),
        ("optimiser.0.other", [], "shards cannot be read"),
    ],
)
def test_shards_of_another_model_are_refused_before_they_are_read(copied, name, shape, message):
    run, folder = copied
    shapes = json.loads((folder / "state.json").read_text(encoding="utf-8"))["tensors"]
    change(tensors=shapes | {name: shape})(folder)
    with pytest.raises(MinitttError, match=message):
        Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=1), resume=True)


def test_a_state_lacks_a_weight(copied):
    run, folder = copied
    shapes = json.loads((folder / "state.json").read_text(encoding="utf-8"))["tensors"]
    del shapes["model.embed_tokens.weight"]
    change(tensors=shapes)(folder)
    with pytest.raises(MinitttError, match="a model of another shape"):
        Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=1), resume=True)


def test_the_parts_of_a_step_stay_whoever_computes_them(copied):
    """Six parts for one process; as many passes as asked for only where they come to the same."""
    run, _ = copied
    header = checkpoints.load(run)[2]
    assert (header["parts"], header["next_record"]) == (2, 7)
    assert Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=1), resume=True).s.accumulate == 2
    with pytest.raises(MinitttError, match="parts 2, not 3"):
        Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=3), resume=True)
    trainer = Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=1), resume=True)
    trainer.world = replace(trainer.world, size=3)
    trainer.s = replace(trainer.s, accumulate=1)
    with pytest.raises(MinitttError, match="2 parts, which 3 processes cannot share equally.*with 1 or 2"):
        trainer._keep_parts(header)


def test_a_killed_writer_leaves_no_half_state(copied):
    run, folder = copied
    shutil.copytree(folder, run / ".123-state-00000002")
    shutil.copytree(folder, run / ".123-old-state-00000001")
    assert [path.name for path in checkpoints.states(run)] == ["state-00000001"]
    Trainer(toy_corpus(1), run, replace(SETTINGS, accumulate=1), resume=True)
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["state-00000001"]


def test_an_error_while_shards_are_written_leaves_the_state_before(copied, monkeypatch):
    _, folder = copied
    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
    tensors = {"model.a": torch.ones(3)}
    sharded_states.save(folder.with_name("state-00000002"), tensors, {"step": 2}, World())
    found = torch.zeros(3)
    Shards(folder.with_name("state-00000002"), {}).read_into({"model.a": found})
    assert torch.equal(found, torch.ones(3))

    def full(path):
        raise OSError("no space left")

    monkeypatch.setattr(sharded_states, "_digest", full)
    with pytest.raises(MinitttError, match="no space left"):
        sharded_states.save(folder, tensors, {"step": 1}, World())
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == before


class OtherMachine(World):
    """The first of two processes, of which the other sees two files more."""

    def sum(self, values):
        return [2 * value + 2 for value in values]


def test_a_folder_that_is_not_shared_is_noticed(tmp_path):
    with pytest.raises(MinitttError, match="not every process sees the same files"):
        sharded_states._digests_by_all(tmp_path, OtherMachine(0, 2))
