"""From recordings to a talker of one's own: measured before and after on what it was not trained on."""

import json
from dataclasses import replace

import pytest

from minittt.app import adapt as module
from minittt.app.cli import main
from minittt.codec import Codec
from minittt.data.corpus import load_corpus
from minittt.errors import MinitttError
from minittt.settings import TrainingSettings, samples_folder
from minittt.talker import Talker
from minittt.training import trainer as training
from minittt.training.parallel import World
from minittt.training.trainer import steps_in
from tests.toy import toy_corpus

SAMPLES = samples_folder()
TINY = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}


@pytest.fixture
def known():
    """The corpus that the shipped talker belongs to, a few records of each family."""
    corpus = load_corpus(SAMPLES / "corpus")
    few = {}
    for name, records in corpus.splits.items():
        chosen = []
        for family in ("asr", "qa"):
            chosen += [record for record in records if record["family"] == family][:8]
        few[name] = chosen
    corpus.splits = few
    return corpus


def test_recordings_become_a_talker_that_was_measured_before_and_after(tmp_path, known, monkeypatch):
    monkeypatch.setattr(module, "KNOWN", 3)
    monkeypatch.setattr(module, "steps_in", lambda *args: 2)
    talker = Talker.load(SAMPLES / "talker.safetensors")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    settings = TrainingSettings(steps=1, records=4, samples=0, learning_rate=1e-5, muon_learning_rate=1e-5)
    told = []
    # nine shipped recordings in two voices or more each
    found = module.adapt(SAMPLES / "wav", tmp_path, talker, codec, known, settings, 1.0, say=told.append)
    assert told == ["2 steps fit into 1 minutes here"]
    names = [measure.before.name for measure in found]
    assert names == [measure.after.name for measure in found]
    assert names[0] == "your held-out takes: words wrong"
    assert names[-1] == "questions of voices it knew: text right"
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [row["before"]["name"] for row in report] == names
    adapted = Talker.load(tmp_path / "talker.safetensors")
    assert adapted.info["started_from"]["talker"] == talker.fingerprint()
    assert adapted.fingerprint() != talker.fingerprint()
    own = load_corpus(tmp_path / "corpus")
    trained = [record for record in own.split("train") if record["family"] == "asr"]
    held_out = [record for record in own.split("renditions") if record["family"] == "asr"]
    assert len(trained) % (1 + module.COPIES) == 0
    assert held_out
    heard = {record["messages"][1][1] for record in trained}
    assert not heard & {record["messages"][1][1] for record in held_out}
    assert str(found[0]).count("->") == 1


def test_as_many_steps_as_fit(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(
        training.time, "perf_counter", lambda: 2.0 * next(seconds)
    )  # 2 s for all that is tried
    settings = TrainingSettings(
        steps=1, records=4, row_length=160, precision="float32", model=TINY, samples=0
    )
    corpus = toy_corpus(1)
    per_step = 2.0 / training.TRIED
    assert steps_in(3, corpus, settings) == int(180 * training.TRAINED / per_step)
    assert steps_in(1e-6, corpus, replace(settings, seed=1)) == 1


def test_several_processes_do_not_train_by_the_clock(monkeypatch):
    monkeypatch.setattr(training, "join_processes", lambda device: World(rank=1, size=2))
    with pytest.raises(MinitttError, match="give the number of steps"):
        steps_in(3, toy_corpus(1), TrainingSettings())


def test_a_run_that_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "state-00000001.safetensors").write_bytes(b"")
    assert main(["adapt", str(SAMPLES / "wav"), "-o", str(tmp_path)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert list((tmp_path / "corpus").iterdir()) == []


def test_a_folder_that_is_none_is_one_line(tmp_path, capsys):
    assert main(["adapt", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "there is no folder" in err
    assert not (tmp_path / "out").exists()
