"""The trainer: a run is a function of its settings, stopped and resumed at will."""

import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from minittt.app.cli import main
from minittt.errors import MinitttError
from minittt.objective import PRESETS, preset
from minittt.settings import TrainingSettings
from minittt.talker import Talker
from minittt.training import checkpoints
from minittt.training.held_out import level_noise, questions
from minittt.training.loader import Loader
from minittt.training.trainer import Trainer, rate_share
from tests.toy import toy_corpus, write_small_corpus

TINY = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
SETTINGS = TrainingSettings(
    steps=6, records=4, row_length=160, evaluate_every=100, save_every=2, precision="float32", model=TINY
)
LONG = replace(SETTINGS, steps=400, save_every=1)


@pytest.fixture(autouse=True)
def _silent(monkeypatch, request):
    """The toy tokeniser is no SentencePiece model, so nothing is decoded or saved as a talker here."""
    if "replies" not in request.node.name:
        monkeypatch.setattr(Trainer, "sample", lambda self: "")
    monkeypatch.setattr("minittt.talker.Talker.save", lambda self, path: None)


def losses(folder):
    return [
        (line["step"], line["text"], line["audio"])
        for line in map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    ]


def test_law_01_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    corpus = toy_corpus(1)
    Trainer(corpus, tmp_path / "whole", SETTINGS).train()
    Trainer(corpus, tmp_path / "parts", SETTINGS).train(until=3)  # step 3 is saved, as every stop is
    Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True).train()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6


def test_law_01_what_was_logged_after_the_last_state_is_logged_again(tmp_path):
    """A run killed between two states has logged steps that its newest state does not hold, the last line half."""
    corpus = toy_corpus(1)
    Trainer(corpus, tmp_path / "whole", SETTINGS).train()
    Trainer(corpus, tmp_path / "parts", SETTINGS).train(until=3)
    with (tmp_path / "parts" / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 4, "text": 9.0, "audio": 9.0}\n{"step": 5, "te')
    Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True).train()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


KILLED = """
import sys
from pathlib import Path
from tests.toy import toy_corpus, write_small_corpus
from tests.training.test_trainer import SETTINGS
from minittt.training.trainer import Trainer
Trainer.sample = lambda self: ""
import minittt.talker
minittt.talker.Talker.save = lambda self, path: None
out = Path(sys.argv[1])
Trainer(toy_corpus(1), out, SETTINGS, resume=any(out.glob("state-*"))).train()
"""


def test_law_02_a_run_killed_at_any_moment_goes_on_as_if_nothing_had_happened(tmp_path):
    Trainer(toy_corpus(1), tmp_path / "whole", SETTINGS).train()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "killed" / "log.jsonl"
    for wanted in (1, 3, 5):  # kill -9 soon after so many lines were logged
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None and (
            not log.is_file() or log.read_text(encoding="utf-8").count("\n") < wanted
        ):
            time.sleep(0.01)
        process.kill()
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert {p.name for p in (tmp_path / "killed").iterdir()} == {
        "log.jsonl",
        "state-00000004.safetensors",
        "state-00000006.safetensors",
    }


def _train_long(out):
    """In a process of its own: begin the long run, or go on with it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # no bars of progress
    torch.set_num_threads(1)
    Trainer.sample = lambda self: ""
    Talker.save = lambda self, path: None
    Trainer(toy_corpus(1), out, LONG, resume=bool(checkpoints.states(out))).train()


@pytest.mark.slow
def test_a_run_killed_at_fifty_random_moments_is_the_uninterrupted_one(tmp_path):
    """A state is written at every step, so that many kills fall into the writing of one; none may be lost.

    Every fifth kill comes while the process starts, reads its state or tidies up.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["tests.training.test_trainer"]
    )  # fifty imports of torch would take minutes
    moments = random.Random(0)
    out = tmp_path / "killed"
    log = out / "log.jsonl"
    reached = 0
    for number in range(50):
        process = processes.Process(target=_train_long, args=(out,))
        process.start()
        awaited = reached + moments.randint(
            1, 6
        )  # lines of the log; by the clock, a slow machine would not move on
        while number % 5 and process.is_alive() and _lines_of(log) < awaited:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.02 if number % 5 else 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        if states := checkpoints.states(out):
            step, *_ = checkpoints.load(out)
            assert step == int(states[-1].stem[-8:]) >= reached  # the newest is whole, and none was lost
            reached = step
    assert reached > 20
    for folder in (out, tmp_path / "whole"):
        process = processes.Process(target=_train_long, args=(folder,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert losses(out) == losses(tmp_path / "whole")
    a, b = (checkpoints.load(tmp_path / name)[1] for name in ("killed", "whole"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _lines_of(log):
    return log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0


@pytest.mark.slow
def test_a_second_training_in_one_folder_is_refused_and_the_first_unharmed(tmp_path):
    """Through the command line: the second ends with exit code 2 and says who is there; the first ends as if alone."""
    write_small_corpus(tmp_path / "corpus")
    training = f"train --data {tmp_path / 'corpus'} --width 8 --layers 1 --records 4 --steps 40 --samples 0"
    training += " --seed 3 --threads 1 -o"
    command = [sys.executable, "-m", "minittt", *training.split()]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, str(tmp_path / "alone")], check=True, **quiet)
    first = subprocess.Popen([*command, str(tmp_path / "run")], **quiet)
    while not (tmp_path / "run" / "log.jsonl").is_file():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it stays where it is until the second has come
    second = subprocess.run([*command, str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert f"process {first.pid} on" in second.stderr
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    files = [tmp_path / name / "talker.safetensors" for name in ("run", "alone")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len((tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 40


HOLD = """
import sys
from minittt.files import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_process_trains_in_is_left_to_it(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(MinitttError, match=f"process {holder.pid} on .* is writing a run"):
        Trainer(toy_corpus(1), tmp_path, SETTINGS)
    holder.communicate(b"")
    assert not list(tmp_path.iterdir())


def test_learning_rate_warms_up_and_falls():
    s = TrainingSettings(steps=1000, warmup=100)
    assert rate_share(0, s) < 0.02
    assert rate_share(99, s) == pytest.approx(1, rel=0.03)
    assert rate_share(999, s) < 0.03


def test_an_unfinished_run_is_not_overwritten_and_a_bad_setting_is_named(tmp_path):
    Trainer(toy_corpus(1), tmp_path, SETTINGS).train(until=2)
    with pytest.raises(MinitttError, match="unfinished run"):
        Trainer(toy_corpus(1), tmp_path, SETTINGS)
    with pytest.raises(MinitttError, match="no state to resume"):
        Trainer(toy_corpus(1), tmp_path / "nothing", SETTINGS, resume=True)
    with pytest.raises(MinitttError, match="steps must be a whole number of at least 1"):
        TrainingSettings(steps=0)
    with pytest.raises(MinitttError, match="choose one of paper"):
        preset("papr")


def test_a_gradient_that_is_not_finite_stops_the_run_with_its_step(tmp_path):
    trainer = Trainer(toy_corpus(1), tmp_path, SETTINGS)
    with torch.no_grad():
        trainer.model.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(MinitttError, match="not finite at step 1:"):
        trainer.train()


def test_law_03_levels_mask_exactly_their_share_of_every_group():
    corpus = toy_corpus(4)
    for name, level in (("exact", 0.25), ("exact", 1.0), ("mended", 0.5), ("nar", 0.5)):
        p = PRESETS[name]
        batch = Loader(corpus.split("train"), corpus, p, 0, 8, 160).batch(0)
        noise = level_noise(batch, p, level, torch.Generator().manual_seed(3))
        slots = (batch.noisy if p.two_streams else batch.kinds == 2).nonzero().tolist()
        groups: dict = {}
        for b, i in slots:
            groups.setdefault((b, int(batch.documents[b, i]), int(batch.groups[b, i])), []).append(i)
        assert int(noise.masked.sum()) == int((noise.weight > 0).sum())
        count = 0
        for (b, *_), at in groups.items():
            k = -(-len(at) * level // 1)
            assert int(noise.masked[b, at].sum()) == k
            assert noise.weight[b, at].sum().item() == pytest.approx(len(at))
            count += int(k)
        assert int(noise.masked.sum()) == count > 0
        other = level_noise(batch, p, level, torch.Generator().manual_seed(4))
        assert level == 1.0 or not torch.equal(noise.masked, other.masked)


def test_evaluation_is_the_same_whenever_it_is_asked_for(tmp_path):
    trainer = Trainer(toy_corpus(1), tmp_path, SETTINGS)
    first = trainer.evaluate()
    assert first == trainer.evaluate()
    assert {"held_out_text", "held_out_audio_25", "held_out_audio_50", "held_out_audio_100"} < first.keys()
    # an untrained network knows nothing: whatever is masked, the loss is near log(choices)
    assert first["held_out_audio_100"] == pytest.approx(torch.tensor(6.0).log().item(), abs=0.1)
    trainer.train()
    assert trainer.evaluate()["held_out_audio_50"] < first["held_out_audio_50"]


def test_replies_are_sampled_whatever_families_a_corpus_has(tmp_path):
    corpus = toy_corpus(1)
    assert [r["family"] for r in questions(corpus.split("train"), 3)] == ["qa", "tts", "asr"]
    corpus.splits["renditions"] = [r for r in corpus.split("train") if r["family"] in ("asr", "tts")]
    lines = Trainer(corpus, tmp_path / "two", SETTINGS).sample().splitlines()
    assert len(lines) == 2 and all(" -> " in line and "audio tokens" in line for line in lines)
    corpus.splits["renditions"] = [r for r in corpus.split("train") if r["family"] == "document"]
    assert Trainer(corpus, tmp_path / "none", SETTINGS).sample() == ""


def test_a_damaged_checkpoint_is_passed_over_and_another_run_is_refused(tmp_path):
    corpus = toy_corpus(1)
    Trainer(corpus, tmp_path, SETTINGS).train(until=4)
    newest = checkpoints.states(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert Trainer(corpus, tmp_path, SETTINGS, resume=True).step == 2
    with pytest.raises(MinitttError, match="records 4, not 5; seed 0, not 1"):
        Trainer(corpus, tmp_path, replace(SETTINGS, records=5, seed=1), resume=True)
    with pytest.raises(MinitttError, match="parts 1, not 2"):
        Trainer(corpus, tmp_path, replace(SETTINGS, accumulate=2), resume=True)
    assert Trainer(corpus, tmp_path, replace(SETTINGS, keep=5, evaluate_every=1), resume=True).step == 2
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    Trainer(toy_corpus(1), tmp_path, replace(SETTINGS, save_every=1, keep=3)).train()
    assert [int(path.stem[-8:]) for path in checkpoints.states(tmp_path)] == [4, 5, 6]


def test_bfloat16_computes_coarsely_and_keeps_weights_in_float32(tmp_path):
    whole = Trainer(toy_corpus(1), tmp_path / "whole", SETTINGS)
    half = Trainer(toy_corpus(1), tmp_path / "half", replace(SETTINGS, precision="bfloat16"))
    (a, _), (b, _) = whole._one_step(), half._one_step()
    assert a["text"] != b["text"] and a["text"] == pytest.approx(b["text"], rel=0.02)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in half.model.parameters())


@pytest.mark.slow
def test_a_compiled_run_has_the_same_losses(tmp_path):
    plain = Trainer(toy_corpus(1), tmp_path / "plain", SETTINGS)
    compiled = Trainer(toy_corpus(1), tmp_path / "compiled", replace(SETTINGS, compile=True))
    for _ in range(3):
        (a, _), (b, _) = plain._one_step(), compiled._one_step()
        assert b["text"] == pytest.approx(a["text"], rel=1e-4)
        assert b["audio"] == pytest.approx(a["audio"], rel=1e-4)


def test_training_is_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minittt.app.making.load_corpus", lambda folder: toy_corpus(1))
    options = "--steps 2 --records 4 --row-length 30 --accumulate 2 --width 16 --layers 1".split()
    assert main(["train", "--data", "toy", "-o", str(tmp_path / "run"), *options]) == 0
    assert len(losses(tmp_path / "run")) == 2
    assert "do not fit a row of 30 tokens" in capsys.readouterr().out
    assert main(["train", "--data", "toy", "-o", str(tmp_path / "run"), *options]) == 2
    assert "unfinished run" in capsys.readouterr().err
    with pytest.raises(MinitttError, match="one process only"):
        Trainer(toy_corpus(1), tmp_path / "b", replace(SETTINGS, shard=True))
    with pytest.raises(MinitttError, match="cannot be divided into 5"):
        Trainer(toy_corpus(1), tmp_path / "b", replace(SETTINGS, accumulate=5))
    with pytest.raises(MinitttError, match="precision must be one of auto"):
        TrainingSettings(precision="half")


def test_training_by_the_clock_is_resumed_with_the_steps_that_it_began_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minittt.app.making.load_corpus", lambda folder: toy_corpus(1))
    monkeypatch.setattr("minittt.training.trainer.steps_in", lambda *args: 3)
    options = (
        "--minutes 1 --records 4 --row-length 160 --save-every 1 --width 16 --layers 1 --mix other".split()
    )
    run = ["train", "--data", "toy", "-o", str(tmp_path / "run"), *options]
    assert main(run) == 0
    assert "3 steps fit into 1 minutes here" in capsys.readouterr().out
    monkeypatch.setattr("minittt.training.trainer.steps_in", lambda *args: 99)
    assert main([*run, "--resume"]) == 0
    assert len(losses(tmp_path / "run")) == 3


def test_a_run_killed_while_it_wrote_its_first_checkpoint_leaves_no_litter(tmp_path):
    for name in (".123-state-00000002.safetensors", ".123-log.jsonl", "log.jsonl"):
        (tmp_path / name).write_text('{"step": 1}\n', encoding="utf-8")
    Trainer(toy_corpus(1), tmp_path, SETTINGS)
    assert not list(tmp_path.iterdir())


def test_the_rate_rises_from_the_first_step_and_falls_to_two_per_cent():
    """Step 0 has a rate already, the peak comes at the last step of the warm-up, and a cosine ends at the last step."""
    s = TrainingSettings(steps=1000, warmup=100)
    cosine = lambda step: 0.02 + 0.98 * (1 + math.cos(math.pi * step / 1000)) / 2  # noqa: E731
    for step in (0, 1, 49, 99):
        assert rate_share(step, s) == pytest.approx((step + 1) / 100 * cosine(step), rel=1e-12)
    for step in (100, 500, 999):
        assert rate_share(step, s) == pytest.approx(cosine(step), rel=1e-12)
    assert rate_share(1000, s) == pytest.approx(0.02, rel=1e-12)
    assert rate_share(0, replace(s, warmup=0)) == 1.0


def test_a_step_uses_its_own_rate_and_its_own_clipped_gradient(tmp_path):
    """The rates are those of this step, the gradient holds nothing of the last one, and it is no longer than `clip`.

    Its length before clipping is logged: it shows whether a run is about to diverge."""
    s = replace(SETTINGS, precision="float64", clip=0.01)
    clipped = Trainer(toy_corpus(1), tmp_path / "clipped", s)
    for step in range(3):
        expected = Trainer(toy_corpus(1), tmp_path / f"fresh {step}", s)
        expected.model.load_state_dict(clipped.model.state_dict())
        expected.accumulator.add_gradient(step)
        gradients = [p.grad for p in expected.model.parameters()]
        length = torch.stack([g.norm() for g in gradients]).norm().item()
        line, _ = clipped._one_step()
        assert line["gradient_norm"] == pytest.approx(length, rel=1e-9)
        assert length > s.clip
        for p, gradient in zip(clipped.model.parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient * s.clip / length, rtol=1e-5, atol=1e-12)
        for group in clipped.optimiser.param_groups:
            assert group["lr"] == pytest.approx(group["peak"] * rate_share(step, s), rel=1e-12)
        assert (line["step"], clipped.step) == (step + 1, step + 1)


@pytest.mark.parametrize("name", ["paper", "mended"])
def test_a_step_that_banom_left_clean_is_logged_as_no_audio_loss(tmp_path, name):
    """No audio slot counts, so its mean is over nothing: 0, neither an error nor nan; text is learned as ever."""
    trainer = Trainer(toy_corpus(1), tmp_path, replace(SETTINGS, preset=name))
    trainer.worker.p = replace(trainer.p, banom=1.0)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    line, _ = trainer._one_step()
    assert line["audio"] == 0.0
    assert line["text"] > 0.0
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))


def test_losses_are_a_mean_over_the_tokens_of_the_whole_step(tmp_path):
    trainer = Trainer(toy_corpus(1), tmp_path, replace(SETTINGS, precision="float64", accumulate=2))
    text, audio, counts = trainer.accumulator.add_gradient(0)
    line, tokens = trainer._one_step()
    assert (line["text"], line["audio"]) == pytest.approx(
        (float(text) / counts.text, float(audio) / counts.audio), rel=1e-9
    )
    assert tokens == counts.tokens


def test_a_run_with_gradient_checkpointing_is_the_run_without(tmp_path):
    corpus = toy_corpus(1)
    Trainer(corpus, tmp_path / "plain", SETTINGS).train()
    trainer = Trainer(corpus, tmp_path / "again", replace(SETTINGS, gradient_checkpointing=True))
    assert trainer.model.gradient_checkpointing
    trainer.train()
    assert losses(tmp_path / "again") == losses(tmp_path / "plain")


def test_flex_attention_is_refused_where_it_cannot_be_trained(tmp_path):
    with pytest.raises(MinitttError, match="attention flex has no backward pass on cpu: use auto or dense"):
        Trainer(toy_corpus(1), tmp_path, replace(SETTINGS, attention="flex"), device="cpu")


def test_what_is_held_out_is_heard_without_the_noise_of_training(tmp_path):
    """Codes of the question are replaced by chance in training alone: a curve of held-out losses is of clean questions."""
    corpus = toy_corpus(1)
    noisy = Trainer(corpus, tmp_path / "noisy", replace(SETTINGS, source_noise=1.0))
    clean = Trainer(corpus, tmp_path / "clean", replace(SETTINGS, source_noise=0.0))
    assert len(clean.held_out) == 4
    for a, b in zip(noisy.held_out, clean.held_out, strict=True):
        assert torch.equal(a.ids, b.ids)
    assert not torch.equal(noisy.loader.batch(0).ids, clean.loader.batch(0).ids)
