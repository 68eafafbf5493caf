"""Training on files in the released format: from the command line, with a malformed record among them, and resumed."""

import json

import pytest
import torch

from minittt.app.cli import main
from minittt.data.tokenisers import load_tokeniser
from minittt.talker import Talker
from minittt.training.trainer import Trainer
from tests.processes import together
from tests.small_llm import small_model, write_llm
from tests.until import run_until


def record(i):
    """A spoken question of five codes, and a reply in text and five codes."""
    codes = "".join(f"<|audio_{(i + j) % 8}|>" for j in range(5))
    asked = {
        "role": "user",
        "content": f"<|begin_of_audio|>{codes}<|end_of_audio|>",
        "text_content": None,
    }
    reply = f"number {i % 5}<|begin_of_quad|>{codes}<|end_of_audio_span_last|>"
    return {"messages": [asked, {"role": "assistant", "content": reply, "text_content": None}]}


def test_files_of_released_records_train_a_talker(tmp_path, capsys):
    chat = tmp_path / "chat.json"
    chat.write_text(
        json.dumps([record(i) for i in range(24)] + [{}] + [record(i) for i in range(16)]), encoding="utf-8"
    )
    books = tmp_path / "books.jsonl"
    books.write_text("\n".join(json.dumps({"text": f"words {i} 水"}) for i in range(20)), encoding="utf-8")
    arguments = [
        "train",
        "--data",
        str(chat),
        str(books),
        "--codebook-size",
        "8",
        "-o",
        str(tmp_path / "run"),
    ]
    sizes = ["--width", "16", "--layers", "1", "--steps", "8", "--records", "4", "--optimiser", "adamw"]
    # an epoch has 25 and 4 records: 8 steps of 4 meet them all, the malformed one too
    assert main([*arguments, *sizes, "--on-error", "raise"]) == 2
    assert "chat.json, record 24 (at byte" in capsys.readouterr().err
    assert main([*arguments, *sizes, "--on-error", "skip", "--weights", "1", "2"]) == 0
    assert "chat.json: a malformed record was skipped" in capsys.readouterr().out
    talker = Talker.load(tmp_path / "run" / "talker.safetensors")
    assert (talker.vocabulary.codebook_size, talker.info["codec"]) == (8, "released")
    assert talker.tokeniser.decode(talker.tokeniser.encode("number 火")) == "number 火"
    elsewhere = [*arguments[:-1], str(tmp_path / "other")]
    assert main([*elsewhere, *sizes, "--mix", str(tmp_path)]) == 2
    assert "--mix takes corpora" in capsys.readouterr().err


def test_a_pretrained_model_learns_from_released_records_and_goes_out_again(tmp_path):
    llm = write_llm(tmp_path / "llm", small_model())
    chat = tmp_path / "chat.jsonl"
    chat.write_text("\n".join(json.dumps(record(i)) for i in range(40)), encoding="utf-8")
    run = tmp_path / "run"
    arguments = ["train", "--init", str(llm), "--data", str(chat), "--codebook-size", "8", "-o", str(run)]
    assert main([*arguments, "--steps", "2", "--records", "2", "--samples", "0"]) == 0
    talker = Talker.load(run / "talker.safetensors")
    assert talker.tokeniser.fingerprint() == load_tokeniser(llm / "tokenizer.json").fingerprint()
    assert main(["export", str(run / "talker.safetensors"), "-o", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == talker.vocabulary.size > len(talker.tokeniser)
    # another training goes on from the talker, with its tokeniser
    arguments = [
        "train",
        "--init",
        str(run / "talker.safetensors"),
        "--data",
        str(chat),
        "--codebook-size",
        "8",
    ]
    assert (
        main([*arguments, "-o", str(tmp_path / "on"), "--steps", "1", "--records", "2", "--samples", "0"])
        == 0
    )
    again = Talker.load(tmp_path / "on" / "talker.safetensors")
    assert again.tokeniser.fingerprint() == talker.tokeniser.fingerprint()


# ---- resumed


def command(folder, out, *more):
    """Train for five steps of six records, in two epochs: 11 chats, each once, 4 texts, each twice, one of them damaged."""
    chat = folder / "chat.json"
    texts = folder / "texts.jsonl"
    if not chat.exists():
        chat.write_text(json.dumps([record(i) for i in range(11 + 16)]), encoding="utf-8")
        lines = [json.dumps({"text": f"words {i}"}) for i in range(4 + 16)]
        lines[2] = "{}"
        texts.write_text("\n".join(lines), encoding="utf-8")
    options = (
        "--weights 1 2 --on-error skip --codebook-size 8 --steps 5 --records 6 --save-every 2 --samples 0"
    )
    sizes = "--width 16 --layers 1 --precision float64"
    data = ["--data", str(chat), str(texts)]
    return ["train", *data, "-o", str(out), *options.split(), *sizes.split(), *more]


def losses(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["text"], line["audio"], line["gradient_norm"]) for line in lines]


def same_weights(one, other, atol):
    expected = Talker.load(one / "talker.safetensors").model.state_dict()
    for name, weight in Talker.load(other / "talker.safetensors").model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed")
    assert main(command(folder, folder / "whole", "--accumulate", "6")) == 0
    return folder


def test_a_run_on_streamed_records_goes_on_with_the_next_record(uninterrupted, monkeypatch, capsys):
    """Stopped after step 3, whose last state is of step 2: bit for bit the run that never stopped."""
    out = uninterrupted / "stopped"
    arguments = command(uninterrupted, out, "--accumulate", "6")
    one_step = Trainer._one_step

    def stop_at_three(trainer):
        if trainer.step == 3:
            raise OSError("the power went")
        return one_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", stop_at_three)
        assert main(arguments) == 2
    assert len(losses(out)) == 3
    assert main([*arguments, "--resume"]) == 0
    assert losses(out) == losses(uninterrupted / "whole")
    same_weights(out, uninterrupted / "whole", 0)
    # and not with other weights, nor on a file that is longer by a byte
    capsys.readouterr()
    changed = ["3" if part == "2" and before == "1" else part for before, part in pairs(arguments)]
    assert main([*changed, "--resume"]) == 2
    assert "was started with data '19 records" in capsys.readouterr().err
    chat = uninterrupted / "chat.json"
    content = chat.read_text(encoding="utf-8")
    chat.write_text(content.replace("number 1", "numbers 1", 1), encoding="utf-8")
    assert main([*arguments, "--resume"]) == 2
    assert "was started with files [{'bytes': " in capsys.readouterr().err
    chat.write_text(content, encoding="utf-8")


def pairs(parts):
    return zip(["", *parts], parts, strict=False)


def test_two_one_and_three_processes_take_turns_on_streamed_records(uninterrupted, tmp_path):
    out = tmp_path / "run"
    sharded = command(uninterrupted, out, "--accumulate", "3", "--shard")
    together(2, tmp_path / "two", run_until, 2, sharded)
    run_until(0, 3, command(uninterrupted, out, "--resume"))
    together(3, tmp_path / "three", run_until, 5, command(uninterrupted, out, "--resume"))
    for found, expected in zip(losses(out), losses(uninterrupted / "whole"), strict=True):
        assert found == pytest.approx(expected, abs=2e-5)
    same_weights(out, uninterrupted / "whole", 1e-3)  # a talker has half precision
