"""Training a tiny codec: a spectral loss, codebooks initialised by k-means, unused entries moved to where latents are.

There is no discriminator: with a spectral loss alone, a codec trains in minutes and becomes intelligible, not pretty.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from minittt.codec import LONGEST_IN_PIECES, Codec, CodecConfig, read_audio, whole_file, write_tensors
from minittt.data import headers
from minittt.data.mel import mel_filters
from minittt.device import device_named, move
from minittt.errors import MinitttError
from minittt.files import json_text, locked_file
from minittt.settings import CodecTrainingSettings
from minittt.world import lexicon, synthesis
from minittt.world.users import Users, listened, perturbed

Pairs = list[tuple[np.ndarray, np.ndarray]]  # input and target, two waves (samples,) of one length
STATE_FORMAT = "minittt codec state 1"
_WARM_UP = 50  # steps
_LOG_EVERY = 200  # steps
_REVIVE_EVERY = 100  # steps
_SAVE_EVERY = 60.0  # seconds


def draw_listening_corpus(n: int, users: Users, seed: int = 0) -> Pairs:
    """n pairs (input, target) of waves (samples,) for a codec that has to hear people.

    A quarter are unaltered reply voices, a twentieth other sounds. The rest are users of all kinds, half of them with a
    perturbed voice, recorded in some room and passed through the front end: the input is what the microphone delivers,
    the target is clean.
    """
    pairs = []
    for i in tqdm(range(n), "corpus", unit=" waves", leave=False):
        rng = np.random.default_rng([seed, i])
        kind = rng.random()
        if kind < 0.25:
            text = lexicon.draw_sentence(rng)
            voice = str(rng.choice(lexicon.REPLY))
            wave = synthesis.say(text, voice, int(rng.integers(160, 191)), int(rng.integers(45, 56)))
            pairs.append((wave, wave))
            continue
        if kind < 0.3:
            wave = synthesis.sound(str(rng.choice(list(synthesis.SOUNDS))), rng)
        else:
            wave = users.draw(rng).wave
            if rng.random() < 0.5:
                wave = perturbed(wave, rng)
        pairs.append(listened(wave, rng))
    return pairs


def draw_corpus(n: int, seed: int = 0, speakers: tuple[str, ...] | None = None) -> Pairs:
    """n pairs (input, target) of waves (samples,) to train a codec on: nine in ten are speech, the rest other sounds.

    Half of the users' utterances have a perturbed voice, and half have noise in the input but not in the target, so the
    codec learns to leave noise out of its tokens. speakers: voices to draw from evenly; None draws from the training
    voices: 35 % from the reply voices, never perturbed, and the rest from the users' voices.
    """
    pairs = []
    for i in tqdm(range(n), "corpus", unit=" waves", leave=False):
        # One generator per wave: the lengths of the synthesiser's waves vary, and must not shift later draws.
        rng = np.random.default_rng([seed, i])
        if rng.random() < 0.1:
            wave = synthesis.sound(str(rng.choice(list(synthesis.SOUNDS))), rng)
            pairs.append((wave, wave))
            continue
        is_reply = speakers is None and rng.random() < 0.35
        if is_reply:
            among = lexicon.REPLY
        else:
            among = speakers or lexicon.USER
        rate = int(rng.integers(120, 231))  # words per minute
        pitch = int(rng.integers(30, 76))
        text = lexicon.draw_sentence(rng)
        wave = synthesis.say(text, str(rng.choice(among)), rate, pitch)
        heard = wave
        if not is_reply:
            if rng.random() < 0.5:
                wave = synthesis.disguise(wave, rng)
                heard = wave
            if rng.random() < 0.5:
                heard = synthesis.vary(wave, rng)
        pairs.append((heard, wave))
    return pairs


def read_corpus(folder: str | Path, sample_rate: int) -> Pairs:
    """Every WAV and FLAC file under `folder`, at sample_rate Hz: input and target are the same wave (samples,).

    Raises MinitttError if there is none.
    """
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".wav", ".flac"))
    if not paths:
        raise MinitttError(f"{folder}: no recordings there; give a folder with WAV or FLAC files")
    waves = []
    for path in tqdm(paths, "recordings", leave=False):
        waves.append(read_audio(path, sample_rate, LONGEST_IN_PIECES))
    return [(wave, wave) for wave in waves]


class SpectralDistance(nn.Module):
    """Distance between two waves (B, samples): a scalar, from mel and plain spectrograms at three resolutions.

    The logarithms compare what is heard, the floors under them keep silence from counting, and the linear term keeps
    the loud parts in place.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        longest = 512 if sample_rate <= 8000 else 1024
        self.resolutions = [longest, longest // 2, longest // 4]
        for n_fft, bands in zip(self.resolutions, (48, 32, 16), strict=True):
            filters = mel_filters(bands, n_fft, sample_rate, lowest=30.0)  # (bands, F)
            self.register_buffer(f"mel_{n_fft}", filters)
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft))

    def spectrum(self, wave: Tensor, n_fft: int) -> Tensor:
        """Magnitudes (B, F, frames) of wave (B, samples)."""
        window = getattr(self, f"window_{n_fft}")
        spectrum = torch.stft(wave, n_fft, n_fft // 4, window=window, return_complex=True)
        return torch.view_as_real(spectrum).pow(2).sum(-1).add(1e-7).sqrt()  # (B, F, frames)

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        """wave, target (B, samples) -> scalar, 0 for equal waves."""
        total = wave.new_zeros(())
        for n_fft in self.resolutions:
            plain = self.spectrum(wave, n_fft)  # (B, F, frames)
            plain_target = self.spectrum(target, n_fft)
            filters = getattr(self, f"mel_{n_fft}")
            mel = filters @ plain  # (B, bands, frames)
            mel_target = filters @ plain_target
            total = total + F.l1_loss((mel + 0.05).log(), (mel_target + 0.05).log())
            total = total + 0.5 * F.l1_loss(mel, mel_target)
            total = total + 0.3 * F.l1_loss((plain + 0.03).log(), (plain_target + 0.03).log())
        return total / len(self.resolutions)


def k_means(points: Tensor, k: int, rounds: int = 20) -> tuple[Tensor, Tensor]:
    """Centres (k, d) and sizes (k,) of k clusters of points (n, d), using n * k floats (encodec: n * k * d)."""
    if len(points) < k:
        first = torch.randint(len(points), (k,))
    else:
        first = torch.randperm(len(points))[:k]
    centres = points[first]
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)  # (n,)
        sizes = torch.bincount(nearest, minlength=k).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres, sizes


def _place(codebook: Any, chosen: Tensor, entries: Tensor, sizes: Tensor) -> None:
    """Move entries of an encodec codebook to new places, with the moving averages that would otherwise pull them back."""
    codebook.embed[chosen] = entries
    codebook.embed_avg[chosen] = entries * sizes[:, None]
    codebook.cluster_size[chosen] = sizes


def _residuals(codec: Codec, wave: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Each codebook in turn, with the vectors (B * T, dimension) that it has to quantise."""
    residual = torch.cat([codec.latents(part) for part in wave.split(16)])  # (B, dimension, T)
    for layer in codec.quantizer.vq.layers:
        yield layer._codebook, residual.transpose(1, 2).flatten(0, 1)
        residual = residual - layer.decode(layer.encode(residual))


@torch.no_grad()
def start_codebooks(codec: Codec, wave: Tensor) -> None:
    """Start each codebook at k-means centres of the latents of wave (B, samples), minus what earlier codebooks encode."""
    for codebook, vectors in _residuals(codec, wave):
        centres, sizes = k_means(vectors, codec.config.codebook_size)
        sizes = sizes.clamp(min=1)
        _place(codebook, torch.arange(len(centres)), centres, sizes / sizes.mean())


@torch.no_grad()
def revive(codec: Codec, wave: Tensor, usage: Tensor) -> int:
    """Move entries used fewer than twice onto random latents of wave; returns how many. usage: (n_q, codebook_size).

    encodec's own expiry replaces the entry but not its moving average, which restores the old entry at the next step.
    """
    moved = 0
    for (codebook, vectors), used in zip(_residuals(codec, wave), usage, strict=True):
        dead = torch.nonzero(used < 2)[:, 0]
        entries = vectors[torch.randint(len(vectors), (len(dead),))]
        _place(codebook, dead, entries, codebook.cluster_size.mean().expand(len(dead)))
        moved += len(dead)
    return moved


def perplexity(usage: Tensor) -> float:
    """Effective number of entries in use: exp of the entropy of usage (n_q, codebook_size), averaged over codebooks."""
    total = usage.sum(-1, keepdim=True).clamp(min=1)  # (n_q, 1)
    share = usage.double() / total  # (n_q, codebook_size)
    entropy = torch.special.entr(share).sum(-1)  # (n_q,)
    return entropy.exp().mean().item()


def crops(pairs: Pairs, n: int, samples: int, rng: np.random.Generator) -> Tensor:
    """n random crops (2, n, samples): input and target of a crop share offset and gain; a short wave is padded."""
    batch = np.zeros((2, n, samples), np.float32)
    for i in range(n):
        pair = pairs[rng.integers(len(pairs))]
        length = len(pair[0])
        start = rng.integers(abs(length - samples) + 1)  # in the wave if that is longer, else in the crop
        for row, wave in zip(batch[:, i], pair, strict=True):
            if length > samples:
                row[:] = wave[start : start + samples]
            else:
                row[start : start + length] = wave
    gain = rng.uniform(0.7, 1.3, (n, 1)).astype(np.float32)
    return torch.from_numpy(batch * gain)


def state_path(out: str | Path) -> Path:
    """The path of the state of the training run that writes `out`; the file is removed when training is over."""
    return Path(out).with_suffix(".state")


def check_state(out: str | Path, resume: bool) -> None:
    """Raise MinitttError unless a state exists exactly when the training run is to be resumed."""
    state = state_path(out)
    if resume and not state.is_file():
        raise MinitttError(
            f"{out}: there is no unfinished training here to resume: check -o, or leave --resume out"
        )
    if state.is_file() and not resume:
        raise MinitttError(
            f"{state} is of an unfinished training: resume it, or name another file, or remove it"
        )


def _comparable(settings: CodecTrainingSettings) -> dict:
    """The settings after a round trip through JSON, for comparison."""
    return json.loads(json.dumps(asdict(settings)))


class _Trainer:
    """A codec in training: its optimiser, its corpus, and how often each of its codes is used."""

    def __init__(
        self,
        pairs: Pairs,
        settings: CodecTrainingSettings,
        start: Codec | None = None,
        device: torch.device | None = None,
    ) -> None:
        if not pairs:
            raise MinitttError("a codec cannot learn from nothing: give at least one recording")
        torch.manual_seed(settings.seed)
        self.pairs = pairs
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.device = device or device_named("auto")
        self.config = settings.config or CodecConfig()
        self.codec = Codec(self.config).train().to(self.device)
        self.unquantised_steps = settings.unquantised_steps
        if start is not None:
            self.codec.load_state_dict(start.state_dict())
            self.unquantised_steps = -1  # its codebooks stay where they are
        self.distance = SpectralDistance(self.config.sample_rate).to(self.device)
        self.optimiser = torch.optim.AdamW(self.codec.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
        self.frames = max(1, round(settings.crop * self.codec.frame_rate))  # of a crop
        self.usage = torch.zeros(self.config.n_codebooks, self.config.codebook_size)
        self.step = 0
        self.revived = 0
        self.perplexity = 0.0
        self.distances = []

    def crops(self, n: int) -> Tensor:
        """n pairs of input and target: (2, n, samples)."""
        return move(crops(self.pairs, n, self.frames * self.codec.hop, self.rng), self.device)

    def learning_rate(self, progress: float) -> float:
        """A short linear warm-up, then half a cosine down to 0."""
        warm_up = min(1.0, (self.step + 1) / _WARM_UP)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.settings.learning_rate * warm_up * cosine

    def learn(self, progress: float) -> None:
        """One step, at `progress` in [0, 1) through training."""
        settings = self.settings
        wave, target = self.crops(settings.batch_size)  # (B, samples) each
        self.optimiser.param_groups[0]["lr"] = self.learning_rate(progress)
        # 1. Once the latents have taken shape, place the codebooks among them.
        if self.step == self.unquantised_steps:
            enough = math.ceil(8 * self.config.codebook_size / self.frames)
            inputs, _ = self.crops(enough)
            start_codebooks(self.codec, inputs)
        # 2. Reconstruct: at first without quantisation, later through the codes.
        if self.step < self.unquantised_steps:
            latents = self.codec.latents(wave)  # (B, dimension, T)
            reconstruction = self.codec.decoder(latents)[:, 0]  # (B, samples)
            commitment = 0.0
        else:
            reconstruction, codes, commitment = self.codec(wave)
            self.count(codes)
        # 3. Compare with the target and take one step downhill.
        distance = self.distance(reconstruction, target)
        loss = distance + settings.commitment * commitment
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.codec.parameters(), settings.gradient_norm)
        self.optimiser.step()
        self.distances.append(distance.item())
        self.step += 1

    def count(self, codes: Tensor) -> None:
        """Add codes (B, n_q, T) to the usage of their entries."""
        by_codebook = codes.cpu().transpose(0, 1)  # (n_q, B, T)
        for counts, code in zip(self.usage, by_codebook, strict=True):
            counts += torch.bincount(code.flatten(), minlength=len(counts))

    def tend(self, progress: float) -> None:
        """Every hundred steps, move unused entries and restart the count."""
        if self.step % _REVIVE_EVERY != 0:
            return
        if self.step <= self.unquantised_steps:
            return
        if progress < self.settings.revive_until:
            inputs, _ = self.crops(self.settings.batch_size)
            self.revived += revive(self.codec, inputs, self.usage)
        self.perplexity = perplexity(self.usage)
        self.usage.zero_()

    def save(self, path: Path, seconds: float) -> None:
        """Write everything that the rest of training depends on: the whole file, or nothing."""
        tensors = {f"codec.{name}": value for name, value in self.codec.state_dict().items()}
        for i, moments in self.optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimiser.{i}.{name}"] = value
        tensors["torch_generator"] = torch.get_rng_state()
        tensors["usage"] = self.usage
        run = {
            "step": self.step,
            "seconds": seconds,
            "revived": self.revived,
            "settings": _comparable(self.settings),
            "generator": self.rng.bit_generator.state,
        }
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        write_tensors(path, whole, {"format": STATE_FORMAT, "run": json.dumps(run)})

    def load(self, path: Path) -> float:
        """Restore what `save` wrote; returns the seconds of training up to that point.

        Raises MinitttError if the file cannot be read, or if the run was started with different settings.
        """
        header, tensors = headers.read_file(path, STATE_FORMAT)
        run = headers.read_object(path, header, "run")
        for name, was in run["settings"].items():
            now = _comparable(self.settings)[name]
            if was != now:
                raise MinitttError(
                    f"{path}: was started with {name} {was!r}, not {now!r}: resume it in the same way"
                )
        weights = {}
        state: dict[int, dict] = {}
        for name, value in tensors.items():
            if name.startswith("codec."):
                weights[name.removeprefix("codec.")] = value
            elif name.startswith("optimiser."):
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = value
        self.codec.load_state_dict(weights)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(tensors["torch_generator"])
        self.usage = tensors["usage"]
        self.rng.bit_generator.state = run["generator"]
        self.step = run["step"]
        self.revived = run["revived"]
        return run["seconds"]

    def report(self, seconds: float) -> dict[str, float]:
        """A line of the log; its loss is the mean since the previous line."""
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
    resume: bool = False,
    start: Codec | None = None,
    device: torch.device | None = None,
) -> Codec:
    """Train a codec on pairs (input, target) of waves (samples_i,); return it as written to `out`.

    Both waves are at the codec's sample rate (8 kHz for the shipped codec).

    out: written in half precision every minute and at the end; the training state is kept beside it (`state_path`), and
    `resume` continues from there. log: JSON lines, one per 200 steps: step, seconds, loss (spectral distance), perplexity
    of the codes, entries revived so far. licence: the codec's licence, as an SPDX identifier, for the file's header.
    start: a codec of the same shape whose weights to start from. device: where to train (default: the best available).
    Raises MinitttError where another process is training a codec into `out`, or where an unfinished run is there that is
    not to be resumed.
    """
    with locked_file(out):
        return _train(pairs, settings, out, log, licence, resume, start, device)


def _train(
    pairs: Pairs,
    settings: CodecTrainingSettings,
    out: str | Path,
    log: str | Path | None,
    licence: str,
    resume: bool,
    start: Codec | None,
    device: torch.device | None,
) -> Codec:
    """Like `train_codec`, which has locked `out`."""
    torch.set_flush_denormal(True)  # gradients that fade into denormal numbers make a CPU very slow
    trainer = _Trainer(pairs, settings, start, device)
    trainer.codec.licence = licence
    state = state_path(out)
    before = 0.0  # seconds of training before the run was resumed
    check_state(out, resume)
    if resume:
        before = trainer.load(state)
    if log and not resume:
        with whole_file(log) as unfinished:
            unfinished.write_text("", encoding="utf-8")
    begin = time.monotonic() - before
    saved = time.monotonic()
    with tqdm(total=1.0, desc="codec", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        while (progress := settings.progress(trainer.step, time.monotonic() - begin)) < 1:
            bar.update(progress - bar.n)
            trainer.learn(progress)
            trainer.tend(progress)
            if trainer.step % _LOG_EVERY == 0:
                line = trainer.report(time.monotonic() - begin)
                bar.set_postfix({name: line[name] for name in ("loss", "perplexity")})
                if log:
                    with open(log, "a", encoding="utf-8") as lines:
                        lines.write(json_text(line) + "\n")
            if time.monotonic() - saved > _SAVE_EVERY:
                saved = time.monotonic()
                trainer.codec.save(out, torch.float16)
                trainer.save(state, saved - begin)
        bar.update(1 - bar.n)
    trainer.codec.save(out, torch.float16)
    state.unlink(missing_ok=True)
    return Codec.load(out)
