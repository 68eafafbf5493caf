"""The referee: it hears whether spoken answers say the right words, and whether one voice says them.

It shares nothing with the talker: it hears waveforms, not tokens. A small recogniser (connectionist temporal
classification, CTC, over whole words; Graves et al. 2006) is trained on original sound of voices that neither
ask nor answer; a voice judge sorts windows of a fifth of a second among the four voices of the replies. Both
err now and then: print their own error on true audio beside whatever they judge.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minittt.codec import HIGHEST_RATE, LOWEST_RATE, Codec, fitting_weights, write_tensors
from minittt.data import headers
from minittt.data.mel import mel_filters
from minittt.errors import MinitttError
from minittt.world.lexicon import ALL_WORDS, REPLY

FORMAT = "minittt referee 1"
WINDOW, HOP = 1600, 320  # samples per judged window, and between two windows: five codec tokens, and one
BLANK = 0  # CTC's class for "no word ends here"; word i is class i + 1
_STRIDES = (2, 2, 1)  # of the recogniser's convolutions: a quarter of the frames in all
_LOUD = 0.25  # a window is judged when its level is at least this share of the loudest window's
_FLOOR = 1e-4  # added to powers of sound at level one: what is 40 dB down is not heard


@dataclass(frozen=True)
class RefereeConfig:
    """All that shapes the two networks; it travels in the file's header."""

    words: tuple[str, ...] = ALL_WORDS
    voices: tuple[str, ...] = REPLY
    sample_rate: int = 8000  # Hz
    bands: int = 40
    width: int = 128
    voice_bands: int = 64
    voice_width: int = 96

    def __post_init__(self) -> None:
        if not LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE:
            raise MinitttError(
                f"a referee's sample_rate is {LOWEST_RATE} to {HIGHEST_RATE} Hz, not {self.sample_rate}"
            )


class MelPower(nn.Module):
    """Waveforms (B, n) to powers in mel bands (B, 1 + n // hop, bands)."""

    filters: Tensor  # (F, bands)
    hann: Tensor  # (n_fft,)

    def __init__(self, bands: int, n_fft: int, hop: int, sample_rate: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        triangles = mel_filters(bands, n_fft, sample_rate)  # (bands, F)
        filters = triangles / triangles.sum(1, keepdim=True)  # each band is a mean over its bins
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # (F, bands)
        self.register_buffer("hann", torch.hann_window(n_fft), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """waves (B, samples) -> powers (B, T, bands)."""
        # Zeros at both ends, as the batch's padding is, so that a wave alone and a wave in a batch agree.
        margin = self.n_fft // 2
        padded = nn.functional.pad(waves, (margin, margin))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop, window=self.hann, center=False, return_complex=True
        )  # (B, F, T)
        power = spectrum.abs().square().mT  # (B, T, F)
        power = power / self.hann.square().sum()  # white noise at level one has power one
        return power @ self.filters  # (B, T, bands)


def log_power(power: Tensor) -> Tensor:
    """Powers of sound at level one to logarithms of about unit size, elementwise."""
    return (power + _FLOOR).log() / 3 + 1


def collapse(classes: list[int]) -> list[int]:
    """CTC's rule: merge equal neighbours, then drop blanks. collapse([0, 3, 3, 0, 3]) is [3, 3]."""
    words = []
    before = BLANK
    for current in classes:
        if current != before and current != BLANK:
            words.append(current)
        before = current
    return words


def reverse(rows: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first `lengths` (B,) steps of each row (B, T, C); the padding after them stays in place."""
    step = torch.arange(rows.shape[1], device=rows.device)  # (T,)
    from_the_end = lengths[:, None] - 1 - step  # (B, T)
    is_padding = step >= lengths[:, None]  # (B, T)
    index = torch.where(is_padding, step, from_the_end)  # (B, T)
    return rows.gather(1, index[..., None].expand_as(rows))


class TwoWayGRU(nn.Module):
    """(B, T, inputs) to (B, T, 2 width). Not `pack_padded_sequence`: on CPU its backward costs T squared."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.ahead = nn.GRU(inputs, width, batch_first=True)
        self.back = nn.GRU(inputs, width, batch_first=True)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """rows (B, T, inputs) of the given lengths (B,) -> (B, T, 2 * width)."""
        ahead, _ = self.ahead(rows)  # (B, T, width)
        # Reversed, so that padding comes after the sound in this direction too.
        back, _ = self.back(reverse(rows, lengths))
        back = reverse(back, lengths)
        return torch.cat((ahead, back), -1)


class Recogniser(nn.Module):
    """Log mel powers (B, T, bands), frame counts (B,) to CTC logits (B, T / 4, 1 + words), their counts."""

    def __init__(self, config: RefereeConfig) -> None:
        super().__init__()
        width = config.width
        self.mel = MelPower(config.bands, n_fft=256, hop=80, sample_rate=config.sample_rate)
        self.convolutions = nn.ModuleList()
        channels = config.bands
        for stride in _STRIDES:
            self.convolutions.append(nn.Conv1d(channels, width, kernel_size=5, stride=stride, padding=2))
            channels = width
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in self.convolutions])
        self.recurrent = nn.ModuleList([TwoWayGRU(width, width), TwoWayGRU(2 * width, width)])
        self.head = nn.Linear(2 * width, 1 + len(config.words))

    def frames(self, samples: Tensor) -> Tensor:
        """Mel frames of waves with this many samples: (B,) to (B,)."""
        return 1 + samples // self.mel.hop

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, bands), frames (B,) -> logits (B, T / 4, 1 + words), class 0 = blank, and their frames (B,)."""
        frames = frames.to(features.device)
        # 1. Convolutions: a quarter of the frames. Padding is zeroed before each, as silence would be.
        for convolution, norm, stride in zip(self.convolutions, self.norms, _STRIDES, strict=True):
            place = torch.arange(features.shape[1], device=features.device)  # (T,)
            is_sound = place < frames[:, None]  # (B, T)
            features = features * is_sound[..., None]  # (B, T, C)
            features = convolution(features.mT).mT  # (B, T / stride, width)
            features = nn.functional.gelu(norm(features))
            frames = torch.div(frames - 1, stride, rounding_mode="floor") + 1
        # 2. What comes before and after, in both directions.
        for recurrent in self.recurrent:
            features = nn.functional.dropout(features, 0.1, self.training)
            features = recurrent(features, frames)  # (B, T / 4, 2 width)
        # 3. A class for each frame.
        return self.head(features), frames


class VoiceJudge(nn.Module):
    """Windows at level one (N, window) to logits over the voices (N, voices)."""

    def __init__(self, config: RefereeConfig) -> None:
        super().__init__()
        bands = config.voice_bands
        width = config.voice_width
        self.mel = MelPower(bands, n_fft=512, hop=160, sample_rate=config.sample_rate)
        self.layers = nn.Sequential(
            nn.Conv1d(bands, width, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Conv1d(width, width, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Dropout(0.1),
        )
        self.head = nn.Linear(2 * width, len(config.voices))

    def forward(self, power: Tensor) -> Tensor:
        """power (N, T, bands) of windows -> logits (N, voices)."""
        hidden = self.layers(log_power(power).mT)  # (N, width, T)
        pooled = torch.cat((hidden.mean(-1), hidden.amax(-1)), -1)  # (N, 2 width)
        return self.head(pooled)  # (N, voices)


def level_one(waves: Tensor) -> Tensor:
    """Scale each wave (..., n) to a root mean square of one: gain does not matter; silence stays silence."""
    level = waves.square().mean(-1, keepdim=True).sqrt()
    return waves / level.clamp(min=1e-5)


def windows_of(wave: np.ndarray, window: int, hop: int) -> tuple[Tensor, Tensor]:
    """The windows (N, window) of a wave (n,), and which can be judged, (N,) bool: loud enough beside the loudest."""
    samples = torch.as_tensor(wave, dtype=torch.float32)
    missing = max(0, window - len(wave))
    padded = nn.functional.pad(samples, (0, missing))
    windows = padded.unfold(0, window, hop)  # (N, window)
    level = windows.square().mean(-1).sqrt()  # (N,)
    is_loud = (level >= _LOUD * level.max()) & (level > 1e-4)
    return windows, is_loud


def loud_windows(wave: np.ndarray, window: int, hop: int) -> Tensor:
    """The windows of a wave (n,) that can be judged. Returns (N, window)."""
    windows, is_loud = windows_of(wave, window, hop)
    return windows[is_loud]


class Referee:
    """Judge of waveforms, numpy float arrays (n,) at `config.sample_rate` Hz. `info`: see `headers.REFEREE`."""

    def __init__(self, config: RefereeConfig | None = None, info: dict | None = None) -> None:
        self.config = config or RefereeConfig()
        self.info = info or {}
        self.recogniser = Recogniser(self.config).eval()
        self.judge = VoiceJudge(self.config).eval()

    @property
    def device(self) -> torch.device:
        """Where both networks are; waves are moved there."""
        return self.recogniser.head.weight.device

    def to(self, device: torch.device | str) -> "Referee":
        """Move both networks to a device. Returns this referee."""
        self._networks().to(device)
        return self

    @torch.no_grad()
    def transcribe(self, waves: list[np.ndarray], batch: int = 32) -> list[str]:
        """The words heard in each wave (n,), by the most likely class of each frame; '' in a silent one."""
        # 1. Leave out what is silent; group similar lengths, for little padding.
        audible = []
        for i, wave in enumerate(waves):
            if np.ndim(wave) != 1 or not np.isfinite(wave).all():
                raise MinitttError(
                    f"wave {i} is not one channel of finite samples: shape {np.shape(wave)}, wanted (n,)"
                )
            if len(wave) and np.abs(wave).max() > 1e-4:
                audible.append(i)
        audible.sort(key=lambda i: len(waves[i]))
        # 2. The most likely class of each frame, batch by batch, then CTC's rule.
        texts = [""] * len(waves)
        for start in range(0, len(audible), batch):
            rows = audible[start : start + batch]
            logits, frames = self._logits([waves[i] for i in rows])
            classes = logits.argmax(-1).tolist()  # (B, T / 4)
            for i, row, count in zip(rows, classes, frames.tolist(), strict=True):
                words = [self.config.words[c - 1] for c in collapse(row[:count])]
                texts[i] = " ".join(words)
        return texts

    def _logits(self, waves: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        samples = torch.tensor([len(wave) for wave in waves])
        dtype = self.recogniser.head.weight.dtype
        rows = [level_one(torch.as_tensor(wave, dtype=dtype)) for wave in waves]
        padded = pad_sequence(rows, batch_first=True).to(self.device)  # (B, samples)
        power = self.recogniser.mel(padded)  # (B, T, bands)
        features = log_power(power)
        return self.recogniser(features, self.recogniser.frames(samples))

    @torch.no_grad()
    def window_voices(self, wave: np.ndarray, window: int = WINDOW, hop: int = HOP) -> np.ndarray:
        """The most likely voice in each window that is loud enough: indices (N,) into `config.voices`.

        window, hop: in samples; the judge was trained on windows of five codec tokens, 1600 samples.
        """
        return self._voices(loud_windows(wave, window, hop))

    @torch.no_grad()
    def voices_along(self, wave: np.ndarray, hop: int, window: int = WINDOW) -> np.ndarray:
        """The voice heard around each stretch of `hop` samples of a wave (n,): indices (ceil(n / hop),) into
        `config.voices`, -1 where it is too quiet to tell."""
        stretches = -(-len(wave) // hop)  # rounded up
        before = (window - hop) // 2  # samples of a window before its stretch
        padded = np.zeros(window + max(0, stretches - 1) * hop, np.float32)
        padded[before : before + len(wave)] = wave[: len(padded) - before]
        windows, is_loud = windows_of(padded, window, hop)
        voices = np.full(len(windows), -1)
        voices[is_loud.numpy()] = self._voices(windows[is_loud])
        return voices[:stretches]

    def _voices(self, windows: Tensor) -> np.ndarray:
        """windows (N, window) -> the most likely voice in each, (N,)."""
        if not len(windows):
            return np.zeros(0, dtype=np.int64)
        power = self.judge.mel(level_one(windows.to(self.device)))  # (N, T, bands)
        return self.judge(power).argmax(-1).cpu().numpy()

    def voice_of(self, wave: np.ndarray) -> int:
        """The voice most windows are heard in, an index into `config.voices`; -1 for silence."""
        voices = self.window_voices(wave)
        if not len(voices):
            return -1
        return int(np.bincount(voices).argmax())

    def voice_coherence(self, wave: np.ndarray) -> float:
        """Share of the judged windows that agree with `voice_of`; 0 for silence, where nothing agrees."""
        voices = self.window_voices(wave)
        if not len(voices):
            return 0.0
        return float(np.bincount(voices).max() / len(voices))

    def check_codec(self, codec: Codec) -> None:
        """Raise MinitttError if the codec's waveforms have another sample rate than this referee hears."""
        if codec.config.sample_rate != self.config.sample_rate:
            raise MinitttError(
                f"this referee hears {self.config.sample_rate} Hz, but the codec given speaks at "
                f"{codec.config.sample_rate} Hz: train a referee for that rate"
            )

    def save(self, path: str | Path) -> None:
        """Write both networks, in half precision, with the configuration in the header."""
        tensors = {}
        for name, tensor in self._networks().state_dict().items():
            tensors[name] = tensor.cpu().half().contiguous()
        write_tensors(path, tensors, self.header())

    def _networks(self) -> nn.ModuleDict:
        """Both networks as one module, named as in the file."""
        return nn.ModuleDict({"recogniser": self.recogniser, "judge": self.judge})

    def header(self) -> dict[str, str]:
        """What a referee's file says about it, besides what `write_tensors` adds."""
        info = {"licence": headers.UNKNOWN, **self.info}
        return {"format": FORMAT, "config": json.dumps(asdict(self.config)), "info": json.dumps(info)}

    @classmethod
    def load(cls, path: str | Path) -> "Referee":
        """Read what `save` wrote. Raises MinitttError when the file is missing or is not a referee."""
        if not Path(path).is_file():
            raise MinitttError(f"there is no referee at {path}; train one with: minittt referee train")
        header, tensors = headers.read_file(path, FORMAT)
        config = headers.read_config(path, header, "config", RefereeConfig, tensors)
        info = {}
        if "info" in header:  # the first files had none
            info = headers.read_object(path, header, "info")
        info = headers.complete(path, info, headers.REFEREE)
        try:
            with torch.device("meta"):  # sizes without memory
                wanted = cls(config)._networks().state_dict()
            weights = fitting_weights(wanted, tensors)
            referee = cls(config, info)
            referee._networks().load_state_dict(weights)
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise MinitttError(
                f"{path}: its weights do not fit its header's field 'config' ({error})"
            ) from error
        return referee
