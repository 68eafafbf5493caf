"""Training on files in the released format: from the command line, with a malformed record among them."""

import json

from minittt.app.cli import main
from minittt.data.tokenisers import load_tokeniser
from minittt.talker import Talker
from tests.small_llm import small_model, write_llm


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
    chat.write_text(json.dumps([record(i) for i in range(24)] + [{}] + [record(i) for i in range(16)]))
    books = tmp_path / "books.jsonl"
    books.write_text("\n".join(json.dumps({"text": f"words {i} 水"}) for i in range(20)))
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
    chat.write_text("\n".join(json.dumps(record(i)) for i in range(40)))
    run = tmp_path / "run"
    arguments = ["train", "--init", str(llm), "--data", str(chat), "--codebook-size", "8", "-o", str(run)]
    assert main([*arguments, "--steps", "2", "--records", "2", "--samples", "0"]) == 0
    talker = Talker.load(run / "talker.safetensors")
    assert talker.tokeniser.fingerprint() == load_tokeniser(llm / "tokenizer.json").fingerprint()
    assert main(["export", str(run / "talker.safetensors"), "-o", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
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
