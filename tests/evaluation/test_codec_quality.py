"""Distances between waves: zero for the same, known where it can be worked out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec
from minittt.errors import MinitttError
from minittt.evaluation.codec_quality import codec_scores, mel_distance, originals, si_sdr
from minittt.evaluation.referee import Referee
from minittt.world import synthesis
from tests.app.test_cli import SAMPLES, WAVS

SEEDS = st.integers(0, 1000)


def wave(seed, n=4000):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SEEDS, st.floats(0.1, 10), st.floats(-20, 40))
def test_si_sdr_of_a_known_distortion_at_any_gain(seed, gain, decibels):
    s, n = wave(seed), wave(seed + 5000)
    s, n = s - s.mean(), n - n.mean()
    n = n - (n @ s) / (s @ s) * s  # at right angles to the signal
    n = n * (s.norm() / n.norm()) * 10 ** (-decibels / 20)
    assert si_sdr(gain * (s + n), s) == pytest.approx(decibels, abs=1e-6)


@given(SEEDS, st.floats(0.1, 10))
def test_mel_distance_is_nothing_for_equal_waves_at_any_gain_and_grows_with_noise(seed, gain):
    clean, noise = torch.sin(torch.arange(4000) * 0.3), wave(seed).float()
    assert mel_distance(gain * clean, clean, 8000) < 1e-3
    little, much = (mel_distance(clean + share * noise, clean, 8000) for share in (0.05, 0.5))
    assert 0 < little < much


def test_mel_distance_is_in_decibels():
    """A band-filling noise at twice the power in one half of the wave: level one shifts both, by what can be worked out."""
    noise = wave(0, 16000).float()
    louder = noise * torch.where(torch.arange(16000) < 8000, 1.0, math.sqrt(2.0))
    up, down = 10 * math.log10(2 / 1.5), 10 * math.log10(1.5)  # against the mean power of both halves
    assert mel_distance(louder, noise, 8000) == pytest.approx((up + down) / 2, rel=0.05)


def test_a_trained_codec_keeps_words_and_an_upset_one_does_not():
    codec, referee = Codec.load(SAMPLES / "codec.safetensors"), Referee.load(SAMPLES / "referee.safetensors")
    pairs = originals(4, WAVS)
    good = {score.name: score for score in codec_scores(codec, referee, pairs)}
    with torch.no_grad():
        codec.quantizer.vq.layers[0]._codebook.embed.copy_(codec.codebooks().flip(0).roll(7, 1))
    bad = {score.name: score for score in codec_scores(codec, referee, pairs)}
    assert good["originals: words recognised"].value == bad["originals: words recognised"].value > 0.8
    assert good["codec: words recognised"].value > bad["codec: words recognised"].value + 0.3
    assert good["codec: mel distance, dB"].value < bad["codec: mel distance, dB"].value
    assert all(score.low <= score.value <= score.high for score in good.values())


def test_without_a_synthesiser_the_shipped_recordings_serve(monkeypatch):
    def absent(*_):
        raise MinitttError("not installed")

    monkeypatch.setattr(synthesis, "say", absent)
    pairs = originals(100, WAVS)
    assert len(pairs) == 9
    assert ("twenty three zero" in [text for _, text in pairs]) and all(
        np.abs(w).max() > 0.1 for w, _ in pairs
    )
