"""What a codec keeps of a recording: spectrum, wave, words. Originals are recorded afresh: no codec was trained on them."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minittt.codec import Codec, read_audio
from minittt.errors import MinitttError
from minittt.evaluation.referee import MelPower, Referee, level_one
from minittt.evaluation.scores import Score, ratio, words_right
from minittt.world import lexicon, synthesis
from minittt.world.lexicon import NUMBERS
from minittt.world.recordings import read_metadata

WINDOWS = ((128, 10), (256, 20), (512, 40), (1024, 80))  # samples of a window, and its mel bands
FLOOR = 1e-4  # added to powers of sound at level one: what is 40 dB below that level is not compared


def originals(n: int, folder: str | Path, seed: int = 0) -> list[tuple[np.ndarray, str]]:
    """n recordings at 8 kHz (samples,) with their words: five numbers, spoken by voices that no codec was trained on and by
    those of the replies. Without the synthesiser, the recordings of `folder` (with its metadata.csv) instead."""
    rng = random.Random(seed)
    pairs = []
    try:
        for _ in range(n):
            text = " ".join(rng.choice(NUMBERS) for _ in range(5))
            voice = rng.choice(lexicon.UNSEEN + lexicon.REPLY)
            rate = rng.randint(150, 200)
            pitch = rng.randint(35, 65)
            pairs.append((synthesis.say(text, voice, rate, pitch), text))
    except MinitttError:
        rows = read_metadata(Path(folder))[:n]
        return [(read_audio(row["file"], synthesis.SAMPLE_RATE), row["text"]) for row in rows]
    return pairs


def mel_distance(wave: Tensor, other: Tensor, sample_rate: int) -> float:
    """Mean difference of two waves (samples,) in dB over mel bands, frames and the four `WINDOWS`; gain does not matter."""
    pair = level_one(torch.stack([wave, other]))  # (2, samples)
    differences = []
    for window, bands in WINDOWS:
        power = MelPower(bands, window, window // 4, sample_rate)(pair)  # (2, T, bands)
        decibels = 10 * (power + FLOOR).log10()
        differences.append((decibels[0] - decibels[1]).abs().mean())
    return float(torch.stack(differences).mean())


def si_sdr(wave: Tensor, target: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB: 10 log10 |a s|^2 / |w - a s|^2, a s the projection of w on s."""
    wave = wave - wave.mean()
    target = target - target.mean()
    projected = (wave @ target) / (target @ target) * target
    distortion = (wave - projected).square().sum().clamp(min=1e-12)
    ratio_of_powers = projected.square().sum() / distortion
    return float(10 * ratio_of_powers.log10())


def codec_scores(codec: Codec, referee: Referee, pairs: list[tuple[np.ndarray, str]]) -> list[Score]:
    """Spectral and wave distance of a codec's output from each original, and the words the referee hears in both."""
    rate = codec.config.sample_rate
    said = [text for _, text in pairs]
    originals = [wave for wave, _ in pairs]
    decoded = []
    mel_distances = []
    ratios = []
    for original in originals:
        # one at a time, so that no other recording in a batch can change a code by rounding
        codes = codec.encode(torch.from_numpy(original)[None])  # (1, n_q, T)
        wave = codec.decode(codes)[0, : len(original)]  # (samples,)
        decoded.append(wave.numpy())
        mel_distances.append(mel_distance(wave, torch.from_numpy(original), rate))
        ratios.append(si_sdr(wave, torch.from_numpy(original)))
    after = words_right(said, referee.transcribe(decoded))
    before = words_right(said, referee.transcribe(originals))
    scores = [
        ratio("codec: mel distance, dB", mel_distances),
        ratio("codec: SI-SDR, dB", ratios, None, "it keeps the spectrum, not the phase"),
        ratio("codec: words recognised", *after),
        ratio("originals: words recognised", *before, "the referee's own error"),
    ]
    return [score for score in scores if score is not None]
