"""A polished codec has the same tokens and a better sound."""

import json

import numpy as np
import torch

from minittt.cli import main
from minittt.codec import Codec, CodecConfig
from minittt.codec_polishing import polish
from minittt.codec_training import SpectralDistance


def tones(n):
    time = np.arange(8000) / 8000
    return [(0.3 * np.sin(2 * np.pi * (200 + 40 * i) * time)).astype(np.float32) for i in range(n)]


def test_the_decoder_learns_and_the_tokens_stay(tmp_path):
    torch.manual_seed(0)
    config = CodecConfig(n_filters=4, dimension=8, lstm_layers=0, codebook_size=16)
    codec, waves = Codec(config).eval(), tones(6)
    codec.save(tmp_path / "first.safetensors")
    name, codes = codec.fingerprint(), codec.encode_many(waves)
    distance = SpectralDistance(8000)

    def sound(codec):
        made = torch.cat([codec.decode(c[None]) for c in codes])
        return distance(made, torch.from_numpy(np.stack(waves))).item()

    before = sound(codec)
    better = polish(codec, waves, waves, tmp_path / "better.safetensors", 0.1, tmp_path / "log.jsonl", 3e-3)
    assert better.fingerprint() == name
    assert all(torch.equal(a, b) for a, b in zip(better.encode_many(waves), codes, strict=True))
    assert sound(better) < 0.8 * before
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(line["loss"] > 0 for line in lines)


def test_a_roundtrip_is_heard_from_the_command_line(tmp_path, capsys):
    from minittt.cli import SAMPLES

    out = tmp_path / "out.wav"
    assert main(["codec", "roundtrip", str(SAMPLES / "wav" / "question_1.wav"), "-o", str(out)]) == 0
    assert "tokens for" in capsys.readouterr().out
    assert out.stat().st_size > 5000
