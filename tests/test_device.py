"""Everything computes on a device, a pretend one here: the same results, and no copy that was forgotten."""

import io
import sys

import numpy as np
import pytest
import torch
from device_counts import SIZES

from minittt import device
from minittt.app.cli import main
from minittt.codec import Codec, CodecConfig
from minittt.device import device_named, move, with_float64
from minittt.errors import MinitttError
from minittt.evaluation import referee_training
from minittt.evaluation.referee import Referee
from minittt.settings import (
    PRESETS,
    CodecTrainingSettings,
    TrainingSettings,
    samples_folder,
    shipped_folder,
    talker_file,
)
from minittt.talker import Talker, decoding_settings
from minittt.training import codec_training
from minittt.training.held_out import held_out_losses
from minittt.training.trainer import Trainer
from tests.pretend_device import DEVICE, pretend_device
from tests.toy import toy_corpus

SAMPLES = samples_folder()
QUESTION = str(SAMPLES / "wav" / "question_1.wav")
COMMANDS = (
    "talk chat serve transcribe speak caption train adapt evaluate calibrate data codec referee".split()
)


@pytest.fixture
def on_device(monkeypatch):
    """`--device auto` is the pretend device, which has no float64."""
    monkeypatch.setattr(device, "best_device", lambda: DEVICE)
    with pretend_device(refuse_float64=True) as counts:
        yield counts


# ---- which device


def test_a_device_is_chosen_by_name():
    assert device_named("cpu") == torch.device("cpu")
    assert device_named("auto") == device.best_device()
    with pytest.raises(MinitttError, match="no device 'tpu': choose auto, cpu, cuda or mps"):
        device_named("tpu")


def test_the_best_device_is_cuda_then_mps_then_the_cpu(monkeypatch):
    for cuda, mps, best in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert device.best_device().type == best


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_computes_takes_a_device(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--device" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["talk hello", "train -o run", "codec train -o codec.safetensors", "serve"])
def test_a_device_that_is_not_there_is_refused_at_once(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*line.split(), "--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "there is no device cuda here: use --device auto" in said
    assert not list(tmp_path.iterdir())


def test_where_float64_is_missing_the_cpu_takes_over():
    assert with_float64(torch.device("cpu")) == torch.device("cpu")
    with pretend_device():
        assert with_float64(DEVICE) == DEVICE
    with pretend_device(refuse_float64=True):
        assert with_float64(DEVICE) == torch.device("cpu")


def test_what_is_moved_is_not_waited_for():
    x = torch.arange(3)
    assert move(x, torch.device("cpu")) is x
    with pretend_device() as counts:
        there = move(x, DEVICE)
        assert move(there, DEVICE) is there
    assert (counts.to_device, counts.waits) == (1, 0)


# ---- training


def first_losses(preset, folder):
    settings = TrainingSettings(preset=preset, records=4, row_length=160, precision="float32", model=SIZES)
    trainer = Trainer(toy_corpus(1), folder, settings)
    lines = [trainer._one_step()[0] for _ in range(2)]
    return [*lines, held_out_losses(trainer.worker, [trainer.loader.batch(9)])]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_there_as_here(preset, tmp_path, monkeypatch):
    here = first_losses(preset, tmp_path / "here")
    monkeypatch.setattr(device, "best_device", lambda: DEVICE)
    with pretend_device(refuse_float64=True):
        there = first_losses(preset, tmp_path / "there")
    for a, b in zip(here, there, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-5)


def test_a_run_on_a_device_is_saved_and_resumed(tmp_path, on_device, monkeypatch):
    monkeypatch.setattr(Talker, "save", lambda self, path: None)  # the toy tokeniser has no file
    settings = TrainingSettings(records=4, row_length=160, steps=2, samples=0, model=SIZES)
    first = Trainer(toy_corpus(1), tmp_path, settings).train(until=1)
    assert first.model.embed_tokens.weight.device == DEVICE
    last = Trainer(toy_corpus(1), tmp_path, settings, resume=True)
    assert last.step == 1
    assert last.train().info["step"] == 2


def test_a_codec_trains_on_a_device(tmp_path, on_device, monkeypatch):
    monkeypatch.setattr(codec_training, "_REVIVE_EVERY", 2)
    config = CodecConfig(ratios=(4, 2), n_filters=4, dimension=8, codebook_size=8, lstm_layers=1)
    settings = CodecTrainingSettings(
        config=config, minutes=9.0, crop=0.05, max_steps=4, unquantised_steps=1, batch_size=2
    )
    wave = np.sin(np.arange(2000) / 5).astype(np.float32)
    codec = codec_training.train_codec([(wave, wave)], settings, tmp_path / "codec.safetensors")
    assert codec.device == torch.device("cpu")  # as it was read back
    moved = codec.to(DEVICE)
    codes = moved.encode(torch.from_numpy(wave)[None])
    sound = moved.decode(codes)
    assert codes.device == sound.device == torch.device("cpu")  # results lie where the input lay


def test_a_referee_learns_on_a_device(on_device):
    referee = Referee().to(DEVICE)
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (4000, 3000)]
    loss = referee_training.ctc_loss(referee.recogniser, waves, ["two", "plus three"])
    loss.backward()
    windows = torch.randn(3, 1600).half().to(DEVICE)
    referee_training.judge_loss(referee.judge, windows, torch.tensor([0, 1, 2]).to(DEVICE)).backward()
    assert referee.judge.head.weight.grad.device == DEVICE
    assert len(referee.transcribe(waves)) == 2
    assert referee.voice_of(waves[0]) in range(4)


# ---- talking


def test_a_reply_is_the_same_on_a_device():
    talker = Talker.load(talker_file("reference"))
    settings = decoding_settings(16, 1)
    asked = [[["system", "answer"], ["user", text]] for text in ("say three", "say four")]
    here = talker.converse(asked, settings)
    with pretend_device(refuse_float64=True):
        there = talker.to(DEVICE).converse(asked, settings)
    for a, b in zip(here, there, strict=True):
        assert (a.text, a.spans) == (b.text, b.spans)


def test_listening_and_sound_on_a_device():
    folder = shipped_folder("reference")
    talker = Talker.load(folder / "talker.safetensors")
    codec = Codec.load(folder / "codec.safetensors")
    wave = np.sin(np.arange(4000) / 7).astype(np.float32)
    heard = talker.listen(codec, wave)
    sound = talker.sound(codec, heard)
    with pretend_device(refuse_float64=True):
        codec.to(DEVICE)
        assert talker.listen(codec, wave) == heard
        assert np.allclose(talker.sound(codec, heard), sound, atol=1e-5)


@pytest.mark.parametrize(
    "line",
    [
        f"talk {QUESTION} --stream --steps 1 -o answer.wav",
        f"transcribe {SAMPLES / 'wav' / 'speech_1.wav'}",
        f"caption {SAMPLES / 'wav' / 'sound_low_hum.wav'}",
        "speak two --steps 1 -o speech.wav",
        f"codec roundtrip {QUESTION} -o again.wav",
    ],
)
def test_commands_run_on_a_device(line, on_device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 0
    assert on_device.to_host > 0  # it did compute there


def test_a_chat_on_a_device(on_device, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("what is two plus three\nquit\n"))
    assert main(["chat", "--steps", "1"]) == 0
    assert "two plus three equals five" in capsys.readouterr().out
    assert on_device.to_host > 0


@pytest.mark.slow
def test_an_evaluation_on_a_device(on_device, tmp_path):
    assert main(["evaluate", "--limit", "1", "--json", str(tmp_path / "scores.json")]) == 0
    assert on_device.to_host > 0
