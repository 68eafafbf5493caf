"""Train a codec's decoder alone: the tokens stay what they are, and sound better.

Encoder and codebooks are frozen, so every corpus and every talker made with the codec stays valid; only the way back from
tokens to sound changes. It learns from codes of whole utterances, as decoding meets them, and from clean targets even
where the codes come from a noisy rendition.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from minittt import sentences, synthesis, voices
from minittt.codec import Codec
from minittt.codec_training import SpectralDistance


def draw_pairs(n: int, seed: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """n pairs (heard, clean) of waves: half are replies as the spoken world speaks them, half what users say."""
    heard, clean = [], []
    for i in tqdm(range(n), "corpus", unit=" waves", leave=False):
        rng = np.random.default_rng([seed, i])
        reply = rng.random() < 0.5
        words = [
            str(w)
            for w in rng.choice([*sentences.NUMBERS, *sentences.OPERATORS, "equals"], rng.integers(2, 7))
        ]
        rate, pitch = (
            (rng.integers(165, 186), rng.integers(47, 54))
            if reply
            else (rng.integers(140, 211), rng.integers(35, 66))
        )
        voice = str(rng.choice(voices.REPLY if reply else voices.USER))
        wave = synthesis.say(" ".join(words), voice, int(rate), int(pitch))
        clean.append(wave)
        heard.append(wave if reply or rng.random() < 0.5 else synthesis.vary(wave, rng))
    return heard, clean


def _crop(
    codes: list[Tensor], clean: list[np.ndarray], hop: int, frames: int, n: int, rng
) -> tuple[Tensor, Tensor]:
    """Codes (n, K, frames) and the samples they stand for (n, frames * hop), from n utterances that are long enough."""
    long_enough = [i for i, c in enumerate(codes) if c.shape[1] >= frames]
    chosen = [(i, int(rng.integers(codes[i].shape[1] - frames + 1))) for i in rng.choice(long_enough, n)]
    waves = np.zeros((n, frames * hop), np.float32)
    for row, (i, start) in zip(waves, chosen, strict=True):
        piece = clean[i][start * hop : (start + frames) * hop]
        row[: len(piece)] = piece
    return torch.stack([codes[i][:, s : s + frames] for i, s in chosen]), torch.from_numpy(waves)


def polish(
    codec: Codec,
    heard: list[np.ndarray],
    clean: list[np.ndarray],
    out: str | Path,
    minutes: float = 20.0,
    log: str | Path | None = None,
    learning_rate: float = 1e-3,
    crop: float = 1.0,
    seed: int = 0,
) -> Codec:
    """Train `codec.decoder` on pairs of waves (samples,); write the codec to `out` and return it.

    crop in seconds; log: JSON lines, one per 200 steps, with the mean spectral distance since the last one.
    """
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    codes, rng = codec.encode_many(heard), np.random.default_rng(seed)
    codec.requires_grad_(False).eval()
    codec.decoder.requires_grad_(True).train()
    distance = SpectralDistance(codec.config.sample_rate)
    optimiser = torch.optim.AdamW(codec.decoder.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    frames, begin, step, losses = max(1, round(crop * codec.frame_rate)), time.monotonic(), 0, []
    with tqdm(total=1.0, desc="decoder", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        while (progress := (time.monotonic() - begin) / (60 * minutes)) < 1:
            bar.update(progress - bar.n)
            warm = min(1.0, (step + 1) / 50)
            optimiser.param_groups[0]["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
            chosen, target = _crop(codes, clean, codec.hop, frames, 4, rng)
            latents = codec.quantizer.vq.decode(chosen.transpose(0, 1))
            loss = distance(codec.decoder(latents)[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(codec.decoder.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
            step += 1
            if step % 200 == 0:
                _note(log, step, time.monotonic() - begin, losses)
                codec.save(out, torch.float16)
                bar.set_postfix_str(f"loss {np.mean(losses[-200:]):.3f}")
    _note(log, step, time.monotonic() - begin, losses)
    codec.save(out, torch.float16)
    return Codec.load(out)


def _note(log, step: int, seconds: float, losses: list[float]) -> None:
    if log:
        with Path(log).open("a") as lines:
            line = {
                "step": step,
                "seconds": round(seconds, 1),
                "loss": round(float(np.mean(losses[-200:])), 4),
            }
            lines.write(json.dumps(line) + "\n")
