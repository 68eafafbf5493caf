"""Everything computes on a device, a pretend one here: the same results, and no copy that was forgotten."""

import asyncio
import io
import itertools
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from device_counts import SIZES

from minittt import device
from minittt.app import adapt as adapting
from minittt.app import making
from minittt.app.cli import main
from minittt.codec import Codec, CodecConfig
from minittt.data.corpus import load_corpus
from minittt.device import device_named, move, with_float64
from minittt.errors import MinitttError
from minittt.evaluation import confidence, referee_training
from minittt.evaluation.referee import Referee
from minittt.settings import (
    PRESETS,
    CodecTrainingSettings,
    RefereeSettings,
    TrainingSettings,
    samples_folder,
    shipped_folder,
    talker_file,
)
from minittt.talker import Talker, decoding_settings
from minittt.training import codec_training
from minittt.training.held_out import held_out_losses
from minittt.training.trainer import Trainer
from minittt.world import spoken_world
from minittt.world.recordings import import_recordings
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
    config = CodecConfig(ratios=(8, 4), n_filters=2, dimension=4, codebook_size=4, lstm_layers=1)
    settings = CodecTrainingSettings(
        config=config, minutes=9.0, crop=0.05, max_steps=4, unquantised_steps=1, batch_size=2
    )
    wave = np.sin(np.arange(2000) / 5).astype(np.float32)
    codec = codec_training.train_codec([(wave, wave)], settings, tmp_path / "codec.safetensors")
    assert on_device.to_host > 0  # it did compute there
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


# ---- whole commands, on networks that have learned nothing


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with what commands take: corpus/ of the shipped recordings, codec.safetensors and talker.safetensors."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    codec = Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8)).eval()
    codec.save(folder / "codec.safetensors")
    import_recordings(SAMPLES / "wav", folder / "corpus", codec)
    corpus = load_corpus(folder / "corpus")
    settings = TrainingSettings(records=2, steps=1, samples=0, model=SIZES, warmup=1)
    Trainer(corpus, folder / "run", settings, device="cpu").train()
    shutil.copy(folder / "run" / "talker.safetensors", folder)
    return folder


@pytest.fixture
def short_replies(monkeypatch):
    """A talker that has learned nothing finds no end."""
    whole = Talker.stream

    def stream(self, conversations, settings, *others):
        return whole(self, conversations, replace(settings, max_text=4, max_spans=1, max_span=16), *others)

    monkeypatch.setattr(Talker, "stream", stream)


def shortened(monkeypatch):
    """Trainings and corpora of commands that have no option for it become as small as can be."""
    tiny = CodecConfig(ratios=(8, 4), n_filters=2, dimension=4, codebook_size=4, lstm_layers=1)
    of_codec = {"config": tiny, "max_steps": 2, "unquantised_steps": 1, "batch_size": 2, "crop": 0.05}
    of_referee = {"utterances": 2, "batch": 2, "voice_sentences": 1, "voice_steps": 1, "test_utterances": 4}
    named = making.settings_from

    def settings_from(args, kind, **given):
        less = {CodecTrainingSettings: of_codec, RefereeSettings: of_referee}.get(kind, {})
        return replace(named(args, kind, **given), **less)

    monkeypatch.setattr(making, "settings_from", settings_from)
    monkeypatch.setattr(adapting, "steps_in", lambda *args: 1)
    monkeypatch.setattr(adapting, "KNOWN", 1)
    verdicts = itertools.cycle([True, False])  # a talker that has learned nothing is never right
    monkeypatch.setattr(confidence, "same_text", lambda true, said: next(verdicts))
    few = {"asr": 1, "qa": 1}
    monkeypatch.setattr(spoken_world.build, "__defaults__", (0, few, few))


@pytest.mark.parametrize(
    "line",
    [
        "evaluate {of_talker} --data {small}/corpus --split renditions --limit 1",
        "calibrate {of_talker} --data {small}/corpus --split renditions -o calibrated.safetensors",
        "data import {wavs} -o corpus --codec {small}/codec.safetensors",
        "data encode {wavs} -o shards --codec {small}/codec.safetensors",
        "data build -o corpus --codec {small}/codec.safetensors",
        "codec train {wavs} -o codec.safetensors",
        pytest.param(
            "train --data {small}/corpus -o run --steps 1 --records 2 --layers 1 --width 16",
            marks=pytest.mark.slow,
        ),
        pytest.param("adapt {wavs} {of_talker} --mix {small}/corpus -o adapted", marks=pytest.mark.slow),
        pytest.param(
            "referee -o referee.safetensors --steps 1 --codec {small}/codec.safetensors",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda line: " ".join(line.split(" ")[:2]),
)
def test_whole_commands_compute_on_a_device(line, small, short_replies, on_device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shortened(monkeypatch)
    of_talker = f"--talker {small}/talker.safetensors --codec {small}/codec.safetensors"
    assert main(line.format(small=small, wavs=SAMPLES / "wav", of_talker=of_talker).split()) == 0
    assert on_device.to_host > 0  # it did compute there


def test_a_page_is_answered_by_a_device(small, short_replies, on_device, monkeypatch):
    serving = pytest.importorskip("minittt.app.serve")
    gate = pytest.importorskip("minittt.app.gate")
    httpx = pytest.importorskip("httpx")
    talkers = [small / "talker.safetensors"]
    speakers = serving.load_speakers(talkers, [small / "codec.safetensors"], device_named("auto"))
    app = serving.application(speakers, "127.0.0.1", 8765)

    async def in_this_thread(events):
        """The pretend device is that of one thread."""
        for event in events:
            yield event

    async def ask():
        asked = {"text": "two", "settings": {"steps": 1}}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
            return await client.post("/ask", json=asked)

    monkeypatch.setattr(gate, "iterate_in_threadpool", in_this_thread)
    events = [json.loads(line) for line in asyncio.run(ask()).text.splitlines()]
    assert events[-1]["event"] == "end", events[-1]
    assert on_device.to_host > 0
