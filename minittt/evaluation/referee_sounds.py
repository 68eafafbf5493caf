"""What the referee is trained and tested on: sentences, voices, and sound roughly handled.

What the talker's codec does to sound is foreign to the recogniser, so it trains on sound that is noisy,
stretched, tilted, smeared and full of holes.
"""

import numpy as np
import torch
from torch import Tensor, nn

from minittt.codec import Codec
from minittt.world import lexicon
from minittt.world.lexicon import REPLY
from minittt.world.synthesis import SAMPLE_RATE, SOUNDS, say, sound


def utterance(rng: np.random.Generator, voices: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """A wave and its words: up to three sentences of one voice, any rate and pitch; or a mere sound, ''."""
    if rng.random() < 0.02:
        return sound(str(rng.choice(list(SOUNDS))), rng), ""
    voice, rate, pitch = str(rng.choice(voices)), int(rng.integers(120, 231)), int(rng.integers(25, 81))
    texts = [lexicon.draw_sentence(rng)]
    if rng.random() < 0.2:  # a reply is spoken in chunks
        texts += [lexicon.draw_sentence(rng) for _ in range(rng.integers(1, 3))]
        texts = [" ".join(text.split()[:4]) for text in texts]
    pieces = []
    for text in texts:
        pause = np.zeros(int(rng.uniform(0, 0.3) * SAMPLE_RATE), np.float32)
        pieces += [say(text, voice, rate, pitch), pause]
    return np.concatenate(pieces[:-1]), " ".join(texts)


def disturb_wave(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretch (pitch and vocal tract change with it) and add white noise."""
    if rng.random() < 0.7:
        wave = np.interp(np.arange(0, len(wave) - 1, rng.uniform(0.85, 1.2)), np.arange(len(wave)), wave)
    if rng.random() < 0.8:
        noise = rng.normal(size=len(wave)) * np.abs(wave).max() * 10 ** (-rng.uniform(15, 50) / 20)
        wave = wave + noise
    return wave.astype(np.float32)


def smear(power: Tensor) -> Tensor:
    """Blur powers (B, T, bands) over neighbouring frames and bands, by an amount of its own in each row."""
    padded = nn.functional.pad(power[:, None], (1, 1, 1, 1), "replicate")
    blurred = nn.functional.avg_pool2d(padded, 3, 1)[:, 0]  # (B, T, bands)
    amount = (torch.rand(len(power), 1, 1) * 1.6 - 0.6).clamp(min=0)  # a third or more of the rows stay sharp
    return power + amount * (blurred - power)


def requantise(features: Tensor, frames: int = 4) -> Tensor:
    """What any codec does to sound: replace pieces of four frames (40 ms) by the likest of a few others.

    The codebook, 16 to 256 pieces, is drawn from the batch of log powers (B, T, bands) itself, a new one
    each time: the recogniser learns to hear through codecs in general and knows none. Level is kept. A third
    of the rows stay as they are; the others mix piece and substitute in a proportion of their own.
    """
    rows, length, bands = features.shape
    start, count = int(torch.randint(frames, ())), (length - frames) // frames
    pieces = features[:, start : start + count * frames].reshape(rows, count, frames * bands)
    level = pieces.mean(-1, keepdim=True)
    shapes = (pieces - level).flatten(0, 1)  # (B count, frames bands)
    chosen = torch.randperm(len(shapes))[: 2 ** int(torch.randint(4, 9, ()))]
    distance = torch.cdist(shapes, shapes[chosen])  # (B count, codes)
    distance[chosen, torch.arange(len(chosen))] = torch.inf  # a piece does not stand for itself
    substitute = shapes[chosen][distance.argmin(-1)].reshape(pieces.shape) + level
    amount = torch.rand(rows, 1, 1).sqrt() * (torch.rand(rows, 1, 1) < 0.67)
    middle = (pieces + amount * (substitute - pieces)).reshape(rows, count * frames, bands)
    return torch.cat((features[:, :start], middle, features[:, start + count * frames :]), 1)


def disturb_features(features: Tensor) -> Tensor:
    """Tilt log powers (B, T, bands), add noise, hide two stretches of bands and two of frames in each row."""
    rows, frames, bands = features.shape
    ramp = torch.linspace(-1, 1, bands)
    tilt = torch.randn(rows, 1, 1) * 0.25 * ramp + torch.randn(rows, 1, 1) * 0.15 * torch.cos(torch.pi * ramp)
    jitter = torch.randn_like(features) * 0.3 * torch.rand(rows, 1, 1)
    features = features + tilt + jitter
    for axis, size in ((1, frames), (2, bands)):
        for _ in range(2):
            width, start = torch.randint(0, 6, (rows, 1)), torch.randint(0, size, (rows, 1))
            hidden = (torch.arange(size) >= start) & (torch.arange(size) < start + width)  # (B, size)
            features = features.masked_fill(hidden.unsqueeze(3 - axis), -1.0)
    return features


def replies(rng: np.random.Generator) -> np.ndarray:
    """One sentence as each of the reply voices says it, cut to the shortest: (voices, n)."""
    text = lexicon.draw_sentence(rng)
    rate = int(rng.integers(150, 191))  # words per minute
    pitch = int(rng.integers(45, 56))
    waves = [say(text, voice, rate, pitch) for voice in REPLY]
    shortest = min(len(wave) for wave in waves)
    return np.stack([wave[:shortest] for wave in waves])


def splice(rows: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one of the rows (voices, n) anew for every `block` columns: (n,), speech that keeps no voice."""
    n = rows.shape[1]
    chosen = rng.integers(len(rows), size=-(-n // block)).repeat(block)[:n]
    return rows[chosen, np.arange(n)]


def resynthesise(codec: Codec, waves: np.ndarray) -> np.ndarray:
    """Waves (B, n) through the codec and back: (B, n) with the end filled up to a whole token."""
    return codec.decode(codec.encode(torch.from_numpy(waves))).numpy()


def decode_rows(codec: Codec, codes: np.ndarray) -> np.ndarray:
    """Codes (B, T) of a codec with one codebook to waves (B, n)."""
    return codec.decode(torch.from_numpy(codes)[:, None]).numpy()
