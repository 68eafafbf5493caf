"""What the referee is trained and tested on: sentences, voices, and perturbed sound.

No codec distorts what the recogniser trains on, so it is prepared for one: it trains on sound that is noisy,
stretched, filtered, smeared in time and full of gaps.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from minittt.codec import Codec
from minittt.world import lexicon
from minittt.world.lexicon import REPLY
from minittt.world.synthesis import SAMPLE_RATE, SOUNDS, say, sound


def draw_text(rng: np.random.Generator) -> str:
    """A sentence of the spoken world; now and then one said only by other makes of voices or in refusals."""
    kind = rng.random()
    if kind < 0.05:
        return lexicon.NOT_UNDERSTOOD
    if kind < 0.1:
        chosen = lexicon.SUMS[rng.integers(len(lexicon.SUMS))]
        return lexicon.ways_to_ask(*chosen)[-1]
    if kind < 0.13:
        return " ".join(rng.choice(lexicon.ALL_WORDS, rng.integers(1, 8)))
    return lexicon.draw_sentence(rng)


def utterance(rng: np.random.Generator, voices: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """A wave and its words: up to three sentences of one voice, any rate and pitch; or a mere sound, ''."""
    if rng.random() < 0.02:
        return sound(str(rng.choice(list(SOUNDS))), rng), ""
    # 1. Who speaks, and how.
    voice = str(rng.choice(voices))
    rate = int(rng.integers(120, 231))  # words per minute
    pitch = int(rng.integers(25, 81))
    # 2. What is said: one in five, like a reply, in several short chunks.
    texts = [draw_text(rng)]
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 3)):
            texts.append(draw_text(rng))
        texts = [" ".join(text.split()[:4]) for text in texts]
    # 3. Chunks with pauses between them.
    pieces = []
    for text in texts:
        seconds = rng.uniform(0, 0.3)
        pieces.append(say(text, voice, rate, pitch))
        pieces.append(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
    return np.concatenate(pieces[:-1]), " ".join(texts)


def disturb_wave(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretch (pitch and vocal tract change with it) and add white noise."""
    if rng.random() < 0.7:
        speed = rng.uniform(0.85, 1.2)
        places = np.arange(0, len(wave) - 1, speed)
        wave = np.interp(places, np.arange(len(wave)), wave)
    if rng.random() < 0.8:
        noise = rng.normal(size=len(wave))
        decibels = rng.uniform(15, 50)  # below the peak
        wave = wave + noise * np.abs(wave).max() * 10 ** (-decibels / 20)
    return wave.astype(np.float32)


def smear(power: Tensor) -> Tensor:
    """Blur powers (B, T, bands) over neighbouring frames and bands, by a different amount in each row."""
    padded = nn.functional.pad(power[:, None], (1, 1, 1, 1), "replicate")  # (B, 1, T + 2, bands + 2)
    blurred = nn.functional.avg_pool2d(padded, kernel_size=3, stride=1)[:, 0]  # (B, T, bands)
    drawn = torch.rand(len(power), 1, 1).to(power)
    amount = (drawn * 1.6 - 0.6).clamp(min=0)  # a third or more of the rows stay sharp
    return power + amount * (blurred - power)


def requantise(features: Tensor, frames: int = 4) -> Tensor:
    """What any codec does to sound: replace pieces of four frames (40 ms) by the nearest of a few others.

    The codebook, 16 to 256 pieces, is drawn from the batch of log powers (B, T, bands) itself, a new one
    each time: the recogniser learns to hear through codecs in general and knows none. Level is kept. A third
    of the rows stay as they are; the others mix piece and substitute, each in its own proportion.
    """
    rows, length, bands = features.shape
    # 1. Cut into pieces, and take the level of each away.
    start = int(torch.randint(frames, ()))
    count = (length - frames) // frames
    end = start + count * frames
    pieces = features[:, start:end].reshape(rows, count, frames * bands)
    level = pieces.mean(-1, keepdim=True)  # (B, count, 1)
    shapes = (pieces - level).flatten(0, 1)  # (B * count, frames * bands)
    # 2. Some of them are the codebook.
    size = 2 ** int(torch.randint(4, 9, ()))
    chosen = torch.randperm(len(shapes))[:size]
    codebook = shapes[chosen]  # (codes, frames * bands)
    # 3. The nearest entry for each piece; no piece is replaced by itself.
    distance = torch.cdist(shapes, codebook)  # (B * count, codes)
    distance[chosen, torch.arange(len(chosen))] = torch.inf
    nearest = codebook[distance.argmin(-1)]  # (B * count, frames * bands)
    substitute = nearest.reshape(pieces.shape) + level
    # 4. Mix piece and substitute.
    strength = torch.rand(rows, 1, 1).sqrt()
    is_mixed = torch.rand(rows, 1, 1) < 0.67
    amount = (strength * is_mixed).to(features)  # (B, 1, 1)
    middle = pieces + amount * (substitute - pieces)
    middle = middle.reshape(rows, count * frames, bands)
    return torch.cat((features[:, :start], middle, features[:, end:]), 1)


def disturb_features(features: Tensor) -> Tensor:
    """Tilt log powers (B, T, bands), add noise, hide two stretches of bands and two of frames in each row."""
    rows, frames, bands = features.shape
    # 1. A tilt and a bend of the spectrum, one for each row.
    ramp = torch.linspace(-1, 1, bands).to(features)  # (bands,)
    tilt = torch.randn(rows, 1, 1).to(features) * 0.25 * ramp
    bend = torch.randn(rows, 1, 1).to(features) * 0.15 * torch.cos(torch.pi * ramp)
    # 2. Noise.
    noise = torch.randn_like(features) * 0.3 * torch.rand(rows, 1, 1).to(features)
    features = features + (tilt + bend) + noise
    # 3. Two hidden stretches of up to five frames, then two of up to five bands (SpecAugment, arXiv 1904.08779).
    for _ in range(2):
        hidden = _stretch(rows, frames).to(features.device)  # (B, T)
        features = features.masked_fill(hidden[:, :, None], -1.0)
    for _ in range(2):
        hidden = _stretch(rows, bands).to(features.device)  # (B, bands)
        features = features.masked_fill(hidden[:, None, :], -1.0)
    return features


def _stretch(rows: int, size: int) -> Tensor:
    """One stretch of up to five places in each row: (rows, size) bool."""
    width = torch.randint(0, 6, (rows, 1))
    start = torch.randint(0, size, (rows, 1))
    place = torch.arange(size)
    return (place >= start) & (place < start + width)


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
    blocks = math.ceil(n / block)
    voice = rng.integers(len(rows), size=blocks)  # of each block
    voice = voice.repeat(block)[:n]  # of each column
    return rows[voice, np.arange(n)]


def resynthesise(codec: Codec, waves: np.ndarray) -> np.ndarray:
    """Waves (B, n) through the codec and back: (B, n) with the end filled up to a whole token."""
    return codec.decode(codec.encode(torch.from_numpy(waves))).numpy()


def decode_rows(codec: Codec, codes: np.ndarray) -> np.ndarray:
    """Codes (B, T) of a codec with one codebook to waves (B, n)."""
    return codec.decode(torch.from_numpy(codes)[:, None]).numpy()
