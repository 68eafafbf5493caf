"""Training a tiny codec: spectral distances, codebooks laid by k-means, dead entries brought back to life.

No discriminator: a codec that knows spectral distances alone is intelligible, not pretty, and is learnt in
minutes.
"""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from minittt.codec import Codec, CodecConfig, read_audio
from minittt.errors import MinitttError
from minittt.settings import CodecTrainingSettings
from minittt.world import lexicon, synthesis

Pairs = list[tuple[np.ndarray, np.ndarray]]  # waves (samples,) of one length: what is heard, what is meant
_LOG_EVERY, _REVIVE_EVERY, _SAVE_EVERY = 200, 100, 60.0  # steps, steps, seconds


def draw_corpus(n: int, seed: int = 0, speakers: tuple[str, ...] | None = None) -> Pairs:
    """n pairs (heard, meant) of waves (samples,) to train a codec on: nine in ten spoken, the rest sounds.

    Half of the users' voices are disguised, and half of those are noisy in what is heard but not in what is meant: the
    codec learns to leave noise out of its tokens. speakers: voices to draw from evenly; None: those of training, the
    reply voices, never disguised, 35 % of the time.
    """
    pairs = []
    for i in tqdm(range(n), "corpus", unit=" waves", leave=False):
        # One generator per wave: the lengths of the synthesiser vary, and must not shift later draws.
        rng = np.random.default_rng([seed, i])
        if rng.random() < 0.1:
            wave = synthesis.sound(str(rng.choice(list(synthesis.SOUNDS))), rng)
            pairs.append((wave, wave))
            continue
        reply = speakers is None and rng.random() < 0.35
        among = speakers or (lexicon.REPLY if reply else lexicon.USER)
        rate, pitch = int(rng.integers(120, 231)), int(rng.integers(30, 76))
        wave = synthesis.say(lexicon.draw_sentence(rng), str(rng.choice(among)), rate, pitch)
        if not reply and rng.random() < 0.5:
            wave = synthesis.disguise(wave, rng)
        pairs.append((synthesis.vary(wave, rng) if not reply and rng.random() < 0.5 else wave, wave))
    return pairs


def read_corpus(folder: str | Path, sample_rate: int) -> Pairs:
    """Every WAV and FLAC file under `folder` as a pair of twice the same (samples,) at sample_rate Hz.

    Raises MinitttError if there is none.
    """
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".wav", ".flac"))
    if not paths:
        raise MinitttError(f"{folder}: no recordings there; give a folder with WAV or FLAC files")
    waves = [read_audio(path, sample_rate) for path in tqdm(paths, "recordings", leave=False)]
    return [(wave, wave) for wave in waves]


def mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangles evenly spaced in mel from 30 Hz to half the sample rate: (n_mels, n_fft // 2 + 1)."""
    low = 2595 * math.log10(1 + 30 / 700)  # mel
    high = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mel = torch.linspace(low, high, n_mels + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)  # (n_mels + 2,) Hz
    left = corners[:-2, None]  # (n_mels, 1)
    centre = corners[1:-1, None]
    right = corners[2:, None]
    f = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)  # (F,) Hz
    rising = (f - left) / (centre - left)  # (n_mels, F)
    falling = (right - f) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


class SpectralDistance(nn.Module):
    """Distance of two waves (B, samples): a scalar, from mel and plain spectrograms of three resolutions.

    Logarithms compare what is heard, floors under them keep silence from counting, and the linear term holds
    the loud parts in place.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        longest = 512 if sample_rate <= 8000 else 1024
        self.resolutions = [longest, longest // 2, longest // 4]
        for n_fft, n_mels in zip(self.resolutions, (48, 32, 16), strict=True):
            self.register_buffer(f"mel_{n_fft}", mel_filters(n_mels, n_fft, sample_rate))
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft))

    def spectrum(self, wave: Tensor, n_fft: int) -> Tensor:
        """Magnitudes (B, bins, frames) of wave (B, samples)."""
        window = getattr(self, f"window_{n_fft}")
        spectrum = torch.stft(wave, n_fft, n_fft // 4, window=window, return_complex=True)
        return torch.view_as_real(spectrum).pow(2).sum(-1).add(1e-7).sqrt()  # (B, bins, frames)

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        """wave, target (B, samples) -> scalar, 0 for equal waves."""
        total = wave.new_zeros(())
        for n_fft in self.resolutions:
            plain, plain_target = self.spectrum(wave, n_fft), self.spectrum(target, n_fft)
            filters = getattr(self, f"mel_{n_fft}")
            mel, mel_target = filters @ plain, filters @ plain_target  # (B, mels, frames)
            total = total + F.l1_loss((mel + 0.05).log(), (mel_target + 0.05).log())
            total = total + 0.5 * F.l1_loss(mel, mel_target)
            total = total + 0.3 * F.l1_loss((plain + 0.03).log(), (plain_target + 0.03).log())
        return total / len(self.resolutions)


def k_means(points: Tensor, k: int, rounds: int = 20) -> tuple[Tensor, Tensor]:
    """Centres (k, d) and sizes (k,) of k clusters of points (n, d), by n * k floats (encodec: n * k * d)."""
    first = torch.randint(len(points), (k,)) if len(points) < k else torch.randperm(len(points))[:k]
    centres = points[first]
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)  # (n,)
        sizes = torch.bincount(nearest, minlength=k).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres, sizes


def _place(codebook: nn.Module, chosen: Tensor, entries: Tensor, sizes: Tensor) -> None:
    """Put codebook entries at new places, with the moving averages that would otherwise take them back."""
    codebook.embed[chosen] = entries
    codebook.embed_avg[chosen] = entries * sizes[:, None]
    codebook.cluster_size[chosen] = sizes


def _residuals(codec: Codec, wave: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
    """For each codebook in turn: it, and the vectors (B * T, dimension) that it is asked to name."""
    residual = torch.cat([codec.latents(part) for part in wave.split(16)])  # (B, dimension, T)
    for layer in codec.quantizer.vq.layers:
        yield layer._codebook, residual.transpose(1, 2).flatten(0, 1)
        residual = residual - layer.decode(layer.encode(residual))


@torch.no_grad()
def start_codebooks(codec: Codec, wave: Tensor) -> None:
    """Lay each codebook over the latents of wave (B, samples), less what the codebooks before it name."""
    for codebook, vectors in _residuals(codec, wave):
        centres, sizes = k_means(vectors, codec.config.codebook_size)
        sizes = sizes.clamp(min=1)
        _place(codebook, torch.arange(len(centres)), centres, sizes / sizes.mean())


@torch.no_grad()
def revive(codec: Codec, wave: Tensor, usage: Tensor) -> int:
    """Move entries used fewer than twice, usage (K, codebook_size), onto random latents of wave; how many.

    encodec's own expiry writes the entry alone, and its next moving average restores the old one.
    """
    moved = 0
    for (codebook, vectors), used in zip(_residuals(codec, wave), usage, strict=True):
        dead = torch.nonzero(used < 2)[:, 0]
        entries = vectors[torch.randint(len(vectors), (len(dead),))]
        _place(codebook, dead, entries, codebook.cluster_size.mean().expand(len(dead)))
        moved += len(dead)
    return moved


def perplexity(usage: Tensor) -> float:
    """Effective number of entries in use: exp of the entropy of usage (K, codebook_size), mean over K."""
    total = usage.sum(-1, keepdim=True).clamp(min=1)  # (K, 1)
    share = usage.double() / total  # (K, codebook_size)
    entropy = torch.special.entr(share).sum(-1)  # (K,)
    return entropy.exp().mean().item()


def crops(pairs: Pairs, n: int, samples: int, rng: np.random.Generator) -> Tensor:
    """n random crops, heard and meant at the same place and gain, (2, n, samples); a shorter wave lies in silence."""
    batch = np.zeros((2, n, samples), np.float32)
    for i in range(n):
        pair = pairs[rng.integers(len(pairs))]
        length = len(pair[0])
        start = rng.integers(abs(length - samples) + 1)
        for row, wave in zip(batch[:, i], pair, strict=True):
            if length > samples:
                row[:] = wave[start : start + samples]
            else:
                row[start : start + length] = wave
    return torch.from_numpy(batch * rng.uniform(0.7, 1.3, (n, 1)).astype(np.float32))


class _Trainer:
    """A codec in training: its optimiser, its corpus, and how often each of its codes is used."""

    def __init__(self, pairs: Pairs, settings: CodecTrainingSettings) -> None:
        if not pairs:
            raise MinitttError("a codec cannot learn from nothing: give at least one recording")
        torch.manual_seed(settings.seed)
        self.pairs, self.settings, self.rng = pairs, settings, np.random.default_rng(settings.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.config = settings.config or CodecConfig()
        self.codec = Codec(self.config).train().to(self.device)
        self.distance = SpectralDistance(self.config.sample_rate).to(self.device)
        self.optimiser = torch.optim.AdamW(self.codec.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
        self.frames = max(1, round(settings.crop * self.codec.frame_rate))  # of a crop
        self.usage = torch.zeros(self.config.n_codebooks, self.config.codebook_size)
        self.step = self.revived = 0
        self.perplexity, self.distances = 0.0, []

    def crops(self, n: int) -> Tensor:
        """(2, n, samples): heard and meant."""
        return crops(self.pairs, n, self.frames * self.codec.hop, self.rng).to(self.device)

    def learn(self, progress: float) -> None:
        """One step at `progress` in [0, 1) of the training."""
        settings, (wave, meant) = self.settings, self.crops(self.settings.batch_size)  # (B, samples) each
        rate = (
            settings.learning_rate * min(1.0, (self.step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * progress))
        )
        self.optimiser.param_groups[0]["lr"] = rate
        if self.step == settings.unquantised_steps:
            enough = math.ceil(8 * self.config.codebook_size / self.frames)
            start_codebooks(self.codec, self.crops(enough)[0])
        if self.step < settings.unquantised_steps:
            reconstruction, commitment = self.codec.decoder(self.codec.latents(wave))[:, 0], 0.0
        else:
            reconstruction, codes, commitment = self.codec(wave)
            for counts, code in zip(self.usage, codes.cpu().transpose(0, 1), strict=True):
                counts += torch.bincount(code.flatten(), minlength=len(counts))
        distance = self.distance(reconstruction, meant)
        self.optimiser.zero_grad()
        (distance + settings.commitment * commitment).backward()
        nn.utils.clip_grad_norm_(self.codec.parameters(), settings.gradient_norm)
        self.optimiser.step()
        self.distances.append(distance.item())
        self.step += 1

    def tend(self, progress: float) -> None:
        """Every hundred steps, give unused entries new places, and count anew."""
        if self.step % _REVIVE_EVERY or self.step <= self.settings.unquantised_steps:
            return
        if progress < self.settings.revive_until:
            self.revived += revive(self.codec, self.crops(self.settings.batch_size)[0], self.usage)
        self.perplexity = perplexity(self.usage)
        self.usage.zero_()

    def report(self, seconds: float) -> dict[str, float]:
        """A line of the log; the loss is the mean since the last one."""
        loss = float(np.mean(self.distances))
        self.distances = []
        return {
            "step": self.step,
            "seconds": round(seconds, 1),
            "loss": round(loss, 4),
            "perplexity": round(self.perplexity, 1),
            "revived": self.revived,
        }


def train_codec(
    pairs: Pairs,
    settings: CodecTrainingSettings,
    out: str | Path,
    log: str | Path | None = None,
    licence: str = "unknown",
) -> Codec:
    """Train a codec on pairs (heard, meant) of waves (samples_i,); return it as written to `out`.

    It hears the first and learns to say the second, both at the codec's sample rate (8 kHz for the shipped shape).

    out: written in half precision every minute and at the end. log: JSON lines, one per 200 steps: step,
    seconds, loss (spectral distance), perplexity of the codes, entries revived so far. licence: of the codec, as an
    SPDX identifier, for the file's header.
    """
    torch.set_flush_denormal(True)  # gradients that fade into denormal numbers make a CPU crawl
    trainer = _Trainer(pairs, settings)
    trainer.codec.licence = licence
    begin = saved = time.monotonic()
    if log:
        Path(log).write_text("")
    with tqdm(total=1.0, desc="codec", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        while (progress := settings.progress(trainer.step, time.monotonic() - begin)) < 1:
            bar.update(progress - bar.n)
            trainer.learn(progress)
            trainer.tend(progress)
            if trainer.step % _LOG_EVERY == 0:
                line = trainer.report(time.monotonic() - begin)
                bar.set_postfix({name: line[name] for name in ("loss", "perplexity")})
                if log:
                    with open(log, "a") as lines:
                        lines.write(json.dumps(line) + "\n")
            if time.monotonic() - saved > _SAVE_EVERY:
                saved = time.monotonic()
                trainer.codec.save(out, torch.float16)
        bar.update(1 - bar.n)
    trainer.codec.save(out, torch.float16)
    return Codec.load(out)
