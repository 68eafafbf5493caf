"""A language model goes in, is trained by several processes that come and go, and goes out: transformers agrees throughout.

The processes of the quick test are forked; in the slow ones torchrun starts them, on one machine or on two.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("tokenizers")

from minittt.app.cli import main
from minittt.errors import MinitttError
from minittt.talker import Talker
from minittt.training import checkpoints
from minittt.training.pretrained import load_pretrained
from tests.processes import together
from tests.small_llm import tokenizer_json
from tests.training.test_pretrained import logits_of, theirs
from tests.training.test_streamed_training import losses, record
from tests.until import run_until

ROOT = Path(__file__).parents[2]
IDS = torch.arange(3, 14).unsqueeze(0)  # (1, L): any text


def tiny_qwen2(transformers, folder):
    """A random Qwen2 of two layers, as transformers itself saves it."""
    config = transformers.Qwen2Config(
        vocab_size=288, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder


def command(folder, llm, name, *more):
    """Train four steps of six records from a language model, on records of the released format."""
    chat = folder / "chat.jsonl"
    chat.write_text("\n".join(json.dumps(record(i)) for i in range(40)), encoding="utf-8")
    options = "--codebook-size 8 --steps 4 --records 6 --samples 0 --optimiser adamw --learning-rate 1e-4"
    options += " --precision float32 --save-every 100 --threads 1"
    start = ["--init", str(llm), "--data", str(chat), "-o", str(folder / name)]
    return ["train", *start, *options.split(), *more]


def agree(transformers, folder, model, atol=2e-4):
    """Our logits of some text, and those of transformers, which reads the folder."""
    expected = theirs(transformers, folder, torch.float32, IDS)
    found = logits_of(model, IDS)[..., : expected.shape[-1]]
    torch.testing.assert_close(found, expected[..., : found.shape[-1]], rtol=0, atol=atol)


def exported(transformers, run, out):
    """Export a run's talker by the command, and compare."""
    assert main(["export", str(run / "talker.safetensors"), "-o", str(out)]) == 0
    talker = Talker.load(run / "talker.safetensors")
    assert talker.info["step"] == 4
    agree(transformers, out, talker.model)


def assert_same_losses(run, other):
    for found, expected in zip(losses(run), losses(other), strict=True):
        assert found == pytest.approx(expected, rel=2e-4, abs=2e-5)  # float32, added up in another order


def test_a_language_model_is_trained_by_two_processes_and_then_by_one(tmp_path, transformers, capsys):
    llm = tiny_qwen2(transformers, tmp_path / "llm")
    agree(transformers, llm, load_pretrained(llm)[0])
    sharded = command(tmp_path, llm, "run", "--accumulate", "3", "--shard")
    together(2, tmp_path / "meeting", run_until, 2, sharded)
    resumed = command(tmp_path, llm, "run", "--resume")
    without = resumed[:1] + resumed[3:]
    assert without[1] == "--data"
    assert main([*without, "--tokeniser", str(llm / "tokenizer.json")]) == 2
    assert "began with a model: resume it with the same --init" in capsys.readouterr().err
    assert main(resumed) == 0
    exported(transformers, tmp_path / "run", tmp_path / "out")


# ---- with torchrun


def environment():
    """Of one process: one thread, and this project to import."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}


def start(step, arguments, *options):
    """torchrun, started: each of its processes runs the command until a step."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *map(str, options)]
    return subprocess.Popen(
        [*launcher, "-m", "tests.until", str(step), *arguments], env=environment(), cwd=ROOT
    )


def torchrun(processes, step, arguments):
    assert start(step, arguments, "--standalone", "--nproc-per-node", processes).wait(timeout=1500) == 0


@pytest.mark.slow
def test_a_language_model_is_trained_by_two_then_three_then_one(tmp_path, transformers):
    llm = tiny_qwen2(transformers, tmp_path / "llm")
    agree(transformers, llm, load_pretrained(llm)[0])
    assert main(command(tmp_path, llm, "alone", "--accumulate", "6")) == 0
    for name, first, second in (("ddp", [], ["--shard"]), ("fsdp", ["--shard"], [])):
        torchrun(2, 2, command(tmp_path, llm, name, "--accumulate", "3", *first))
        torchrun(3, 3, command(tmp_path, llm, name, "--resume", *second))
        torchrun(1, 4, command(tmp_path, llm, name, "--resume"))
        assert_same_losses(tmp_path / name, tmp_path / "alone")
        exported(transformers, tmp_path / name, tmp_path / f"{name}-out")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.slow
def test_two_machines_train_as_one(tmp_path, transformers):
    """Two launches as the chapter has them, here with one address: two processes each."""
    llm = tiny_qwen2(transformers, tmp_path / "llm")
    assert main(command(tmp_path, llm, "alone", "--accumulate", "4")) == 0
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "7"]
    arguments = command(tmp_path, llm, "both", "--accumulate", "1", "--shard")
    launches = []
    for _ in range(2):
        launches.append(start(4, arguments, "--nnodes", 2, "--nproc-per-node", 2, *meeting))
    assert [launch.wait(timeout=1500) for launch in launches] == [0, 0]
    assert_same_losses(tmp_path / "both", tmp_path / "alone")
    [state] = checkpoints.states(tmp_path / "both")
    assert len(list(state.glob("shard-*"))) == 4


@pytest.mark.slow
def test_smollm2_is_trained_by_two_processes_and_then_by_one(tmp_path, transformers):
    """135 million parameters, as `benchmarks/smollm2.py` has them; needs some 8 GB and ten minutes."""
    from smollm2 import convert, gguf_in_package

    pytest.importorskip("gguf")
    try:
        source = gguf_in_package()
    except MinitttError as error:
        pytest.skip(str(error))
    convert(source, tmp_path / "llm")
    agree(transformers, tmp_path / "llm", load_pretrained(tmp_path / "llm")[0], atol=1e-3)
    sharded = command(tmp_path, tmp_path / "llm", "run", "--accumulate", "3", "--shard")
    torchrun(2, 2, sharded)
    torchrun(1, 4, command(tmp_path, tmp_path / "llm", "run", "--resume"))
    exported(transformers, tmp_path / "run", tmp_path / "out")
