"""The trainer: a run is a function of its settings, stopped and resumed at will."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from minittt.errors import MinitttError
from minittt.training import Loader, Trainer, TrainingSettings, learning_rate, preset
from tests.toy import toy_corpus

TINY = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
SETTINGS = TrainingSettings(steps=6, records=4, row_length=160, evaluate_every=100, save_every=2, model=TINY)


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    """The toy tokeniser is no SentencePiece model, so nothing is decoded or saved as a talker here."""
    monkeypatch.setattr(Trainer, "sample", lambda self: "")
    monkeypatch.setattr("minittt.talker.Talker.save", lambda self, path: None)


def losses(folder):
    return [
        (line["step"], line["text"], line["audio"])
        for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    ]


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    corpus = toy_corpus(1)
    Trainer(corpus, tmp_path / "whole", SETTINGS).train()
    Trainer(corpus, tmp_path / "parts", SETTINGS).train(until=3)  # step 3 is saved, as every stop is
    Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True).train()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6


KILLED = """
import sys
from pathlib import Path
from tests.toy import toy_corpus
from tests.test_training import SETTINGS
from minittt.training import Trainer
Trainer.sample = lambda self: ""
import minittt.talker
minittt.talker.Talker.save = lambda self, path: None
out = Path(sys.argv[1])
Trainer(toy_corpus(1), out, SETTINGS, resume=any(out.glob("state-*"))).train()
"""


def test_a_run_killed_at_any_moment_goes_on_as_if_nothing_had_happened(tmp_path):
    Trainer(toy_corpus(1), tmp_path / "whole", SETTINGS).train()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "killed" / "log.jsonl"
    for wanted in (1, 3, 5):  # kill -9 soon after so many lines were logged
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None and (not log.is_file() or log.read_text().count("\n") < wanted):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("*.part*"))


def test_every_step_draws_other_records_and_each_epoch_all_of_them():
    corpus = toy_corpus(2)
    corpus.splits["train"] = [
        {**r, "messages": r["messages"], "n": i} for i, r in enumerate(corpus.split("train") * 4)
    ]
    loader = Loader(corpus.split("train"), corpus, preset("exact"), SETTINGS)
    drawn = [[loader._order(e)[i] for i in range(20)] for e in (0, 1)]
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(20))
    assert drawn[0] != drawn[1]
    assert torch.equal(loader.batch(3).ids, loader.batch(3).ids)
    assert not torch.equal(loader.batch(3).ids, loader.batch(4).ids)


def test_records_too_long_are_counted_not_cut():
    corpus = toy_corpus(3)
    short = Loader(corpus.split("train"), corpus, preset("paper"), TrainingSettings(row_length=14))
    assert 0 < short.left_out == len(corpus.split("train")) - len(short.records)
    with pytest.raises(MinitttError, match="no record fits a row of 3"):
        Loader(corpus.split("train"), corpus, preset("paper"), TrainingSettings(row_length=3))


def test_learning_rate_warms_up_and_falls():
    s = TrainingSettings(steps=1000, warmup=100)
    assert learning_rate(0, s) < 0.02 * s.learning_rate
    assert learning_rate(99, s) == pytest.approx(s.learning_rate, rel=0.03)
    assert learning_rate(999, s) < 0.03 * s.learning_rate


def test_an_unfinished_run_is_not_overwritten_and_a_bad_setting_is_named(tmp_path):
    Trainer(toy_corpus(1), tmp_path, SETTINGS).train(until=2)
    with pytest.raises(MinitttError, match="unfinished run"):
        Trainer(toy_corpus(1), tmp_path, SETTINGS)
    with pytest.raises(MinitttError, match="no state to resume"):
        Trainer(toy_corpus(1), tmp_path / "nothing", SETTINGS, resume=True)
    with pytest.raises(MinitttError, match="steps must be 1 or more"):
        TrainingSettings(steps=0)
    with pytest.raises(MinitttError, match="choose one of paper"):
        preset("papr")


def test_a_gradient_that_is_not_finite_stops_the_run_with_its_step(tmp_path):
    trainer = Trainer(toy_corpus(1), tmp_path, SETTINGS)
    with torch.no_grad():
        trainer.model.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(MinitttError, match="not finite at step 0"):
        trainer.train()
