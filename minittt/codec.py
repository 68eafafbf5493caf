"""The codec: waveform to audio tokens and back, on the network classes of the `encodec` package.

An encoder shortens the waveform to a few latents per second (frames), a residual vector quantiser names each
of them by n_q codebook entries, a decoder turns the named entries into a waveform again (EnCodec, arXiv
2210.13438; the audio tokens of Text-to-Talk, arXiv 2509.20072, come from such a codec). One class serves the
tiny codecs trained here and Meta's pretrained 24 kHz model.

```python
import torch
from codec import Codec, CodecConfig, flatten, unflatten

torch.manual_seed(0)
codec = Codec(CodecConfig(ratios=(8, 8, 5), n_filters=4, dimension=16, n_codebooks=2)).eval()  # untrained
wave = torch.sin(torch.arange(4000) * 0.3)[None]  # half a second of a tone, (B, samples)
codes = codec.encode(wave)  # (B, n_q, T): 13 frames of 320 samples cover 4000 samples
assert codes.shape == (1, 2, 13) and codec.decode(codes).shape == (1, 13 * 320)
tokens = flatten(codes[0], codec.config.codebook_size)  # one row of tokens, frame by frame
assert torch.equal(unflatten(tokens, 2, codec.config.codebook_size), codes[0])
print(f"{codec.frame_rate:g} frames a second, tokens {tokens[:4].tolist()}... of codec {codec.fingerprint()}")
```
"""

import hashlib
import io
import json
import math
import os
import re
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

FORMAT = "minittt-codec-1"  # written into the header of a codec file
WRITER = "minittt 0.2.0"  # the version this file belongs to, written into the header of every file
LOWEST_RATE, HIGHEST_RATE = 1000, 192_000  # Hz: of a recording, and of a codec
LONGEST = 300.0  # seconds of a recording that is read whole
LONGEST_IN_PIECES = 4 * 3600.0  # seconds of one that is worked through in pieces
SILENCE = 1e-3  # a recording whose peak stays below this (-60 dB of full scale) is taken for silent
_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS"}  # what recordings are written as


_PIPE = 0x7FFF_0000  # bytes: sizes from here on stand for "not known" in the header of a WAV
_NOT_KNOWN = 1 << 62  # samples: libsndfile's word for a FLAC that was written into a pipe
_AT_ONCE = 1 << 20  # values of all channels decoded at once


class CodecError(ValueError):
    """A recording, codec file or row of codes that cannot be used; the message says what would be right."""


_COUNTS = ("n_layers", "lstm_layers", "n_codebooks")  # entries of a header that count layers
_NO_SIZES = ("sample_rate", "max_length")  # whole numbers that no tensor shows


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CodecError(message)


def import_encodec() -> types.ModuleType:
    """The `encodec` package, also where torchaudio cannot load. Raises CodecError if it is not installed.

    encodec imports torchaudio only for resampling and file access, which soxr and soundfile do here. A torchaudio
    built for another torch fails with OSError and leaves half of itself in `sys.modules`: an empty stand-in replaces
    it while encodec is imported and is removed afterwards, so that nothing mistakes it for the real package.
    `sys.modules["torchaudio"] = None`, by which a program keeps torchaudio from being imported at all, stays.
    """
    is_barred = "torchaudio" in sys.modules and sys.modules["torchaudio"] is None
    stand_in = None
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stand_in = sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        import encodec
    except ImportError as error:
        raise CodecError(f"the codec needs the encodec package ({error}): pip install encodec") from error
    finally:
        if stand_in is not None:
            del sys.modules["torchaudio"]
        if is_barred:
            sys.modules["torchaudio"] = None  # transformers, too, looks for it when a model is first used
    return encodec


_SMALLEST = {  # the least value of each size in a `CodecConfig`
    "sample_rate": 1,
    "n_filters": 2,  # residual blocks halve it
    "dimension": 1,
    "lstm_layers": 0,
    "n_codebooks": 1,
    "codebook_size": 1,
}


@dataclass(frozen=True)
class CodecConfig:
    """Shape of a codec. The hop, in samples per frame, is the product of `ratios`.

    Raises CodecError naming a field whose value no codec can have.
    """

    sample_rate: int = 8000  # Hz
    ratios: tuple[int, ...] = (8, 8, 5)  # of the decoder's upsampling stages; the encoder has them in reverse
    n_filters: int = 20  # channels of the first convolution, doubled at each stage
    dimension: int = 64  # of a latent
    lstm_layers: int = 1
    n_codebooks: int = 1  # residual stages, n_q
    codebook_size: int = 512  # entries of each
    causal: bool = False  # convolutions look back only: for streaming
    true_skip: bool = True  # residual blocks add their input unchanged, else through a 1x1 convolution
    pad_mode: str = "constant"  # how convolutions extend the wave at its ends

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple(self.ratios))
        for name, least in _SMALLEST.items():
            value = getattr(self, name)
            is_valid = type(value) is int and value >= least
            _require(is_valid, f"a codec's {name} must be a whole number of at least {least}, not {value!r}")
        _require(
            self.sample_rate <= HIGHEST_RATE,
            f"a codec's sample_rate must be at most {HIGHEST_RATE} Hz, not {self.sample_rate}",
        )
        _require(len(self.ratios) > 0, "a codec must have at least one ratio")
        for ratio in self.ratios:
            is_valid = type(ratio) is int and ratio >= 1
            _require(
                is_valid, f"each of a codec's ratios must be a whole number of at least 1, not {ratio!r}"
            )
        for name in ("causal", "true_skip"):
            value = getattr(self, name)
            _require(type(value) is bool, f"a codec's {name} must be true or false, not {value!r}")
        _require(
            self.pad_mode in ("constant", "reflect"),
            f"a codec's pad_mode must be 'constant' or 'reflect', not {self.pad_mode!r}",
        )


class Codec(nn.Module):
    """EnCodec's encoder, residual vector quantiser and decoder. `hop` is in samples, `frame_rate` in Hz."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.licence = "unknown"  # of the weights, as an SPDX identifier; it travels in the file's header
        self.hop = math.prod(config.ratios)
        self.frame_rate = config.sample_rate / self.hop
        encodec = import_encodec()
        shape = dict(dimension=config.dimension, n_filters=config.n_filters, ratios=list(config.ratios))
        shape |= dict(lstm=config.lstm_layers, causal=config.causal, true_skip=config.true_skip)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # encodec uses torch's older weight_norm: deprecated, but there
            self.encoder = encodec.modules.SEANetEncoder(**shape, pad_mode=config.pad_mode)
            self.decoder = encodec.modules.SEANetDecoder(**shape, pad_mode=config.pad_mode)
        # threshold 0: encodec's expiry writes a codebook entry which its next moving average takes back
        sizes = dict(dimension=config.dimension, n_q=config.n_codebooks, bins=config.codebook_size)
        quantizer = encodec.quantization.ResidualVectorQuantizer
        self.quantizer = quantizer(**sizes, kmeans_init=False, threshold_ema_dead_code=0)

    @property
    def device(self) -> torch.device:
        """The device of the weights. Inputs are moved to it; results are returned on the input's device."""
        return next(self.parameters()).device

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: wave (B, samples) -> reconstruction (B, samples), codes (B, n_q, T), commitment ()."""
        latents = self.latents(wave)  # (B, dimension, T)
        quantised, codes, penalty = self.quantizer.vq(latents)  # (B, dimension, T), (n_q, B, T)
        decoded = self.decoder(quantised)[:, 0, : wave.shape[-1]]  # (B, samples)
        return decoded, codes.transpose(0, 1), penalty.mean()

    def latents(self, wave: Tensor) -> Tensor:
        """wave (B, samples) -> latents (B, dimension, T), T = ceil(samples / hop): zeros fill the end.

        Raises CodecError for another shape.
        """
        return self.encoder(self._whole_frames(wave))

    def _whole_frames(self, wave: Tensor) -> Tensor:
        """wave (B, samples) -> (B, 1, T * hop) on the codec's device, zeros at the end. CodecError for another shape."""
        is_valid = wave.dim() == 2 and wave.numel() > 0
        _require(is_valid, f"a wave has the shape (batch, samples), both 1 or more, not {tuple(wave.shape)}")
        wave = wave.to(self.device)
        return F.pad(wave[:, None], (0, -wave.shape[-1] % self.hop))

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """wave (B, samples) float, at config.sample_rate -> codes (B, n_q, T) long, T = ceil(samples / hop).

        Raises CodecError for another shape.
        """
        codes = self.quantizer.vq.encode(self.latents(wave)).transpose(0, 1)  # (B, n_q, T)
        return codes.to(wave.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, n_q, T) long -> wave (B, T * hop) float. Raises CodecError for a wrong shape or code."""
        wave = self.decoder(self._quantised(codes))[:, 0]  # (B, T * hop)
        return wave.to(codes.device)

    def _quantised(self, codes: Tensor) -> Tensor:
        """codes (B, n_q, T) -> the entries they name, added up over codebooks, (B, dimension, T)."""
        n_codebooks, size = self.config.n_codebooks, self.config.codebook_size
        is_valid = codes.dim() == 3 and codes.shape[1] == n_codebooks and codes.numel() > 0
        _require(is_valid, f"codes have the shape (batch, {n_codebooks}, frames), not {tuple(codes.shape)}")
        low, high = int(codes.min()), int(codes.max())
        _require(low >= 0 and high < size, f"codes lie in 0..{size - 1}, but these go from {low} to {high}")
        codes = codes.to(self.device)
        return self.quantizer.vq.decode(codes.transpose(0, 1))

    def encode_many(self, waves: list[np.ndarray], batch_size: int = 16) -> list[Tensor]:
        """Encode waves (samples_i,) of any lengths fast. Returns codes (n_q, T_i) for each, in their order.

        Only waves of equal frame count share a batch, each padded as it would be alone: the codes are those
        of `encode` one by one, up to ties within rounding.
        """
        buckets = defaultdict(list)
        for i, wave in enumerate(waves):
            buckets[math.ceil(len(wave) / self.hop)].append(i)
        codes = {}
        for frames, members in sorted(buckets.items()):
            for start in range(0, len(members), batch_size):
                chosen = members[start : start + batch_size]
                batch = np.zeros((len(chosen), frames * self.hop), np.float32)
                for row, i in zip(batch, chosen, strict=True):
                    row[: len(waves[i])] = waves[i]
                encoded = self.encode(torch.from_numpy(batch))  # (B, n_q, T)
                codes |= dict(zip(chosen, encoded, strict=True))
        return [codes[i] for i in range(len(waves))]

    @torch.no_grad()
    def encode_long(self, wave: Tensor, seconds: float = 30.0) -> Tensor:
        """As `encode`, the convolutions in pieces of `seconds`: memory beyond the wave's own stays bounded.

        Convolutions see only a few frames on each side, so pieces that overlap by that many give what the whole wave
        gives. The LSTM remembers everything: it runs over all frames at once, which take no more memory than the wave
        does. Codes are those of `encode`, up to ties within rounding.
        """
        layers = self.encoder.model
        after = -3 if self.config.lstm_layers else -2  # LSTM if there is one, ELU, convolution
        padded = self._whole_frames(wave)  # (B, 1, T * hop)
        frames = []
        for start, stop, skipped, kept in self._pieces(padded.shape[-1] // self.hop, seconds):
            samples = padded[..., start * self.hop : stop * self.hop]  # (B, 1, (stop - start) * hop)
            piece = layers[:after](samples)  # (B, channels, stop - start)
            frames.append(piece[..., skipped : skipped + kept].clone())
        latents = layers[after:](torch.cat(frames, dim=-1))  # (B, dimension, T)
        return self.quantizer.vq.encode(latents).transpose(0, 1).to(wave.device)

    @torch.no_grad()
    def decode_long(self, codes: Tensor, seconds: float = 30.0) -> Tensor:
        """As `decode`, the convolutions in pieces of `seconds`: memory beyond the wave's own stays bounded."""
        quantised = self._quantised(codes)  # (B, dimension, T)
        layers = self.decoder.model
        before = 2 if self.config.lstm_layers else 1  # convolution, LSTM if there is one
        frames = layers[:before](quantised)  # (B, channels, T)
        waves = []
        for start, stop, skipped, kept in self._pieces(frames.shape[-1], seconds):
            piece = layers[before:](frames[..., start:stop])[:, 0]  # (B, (stop - start) * hop)
            waves.append(piece[:, skipped * self.hop : (skipped + kept) * self.hop].clone())
        return torch.cat(waves, dim=-1).to(codes.device)

    def _pieces(self, n_frames: int, seconds: float) -> Iterator[tuple[int, int, int, int]]:
        """Pieces of a row of frames: where each begins and ends, and how many of its frames to skip and to keep."""
        _require(seconds > 0, f"pieces are longer than 0 seconds, not {seconds}")
        length = max(1, round(seconds * self.frame_rate))
        reach = self._reach()
        for first in range(0, n_frames, length):
            kept = min(length, n_frames - first)
            start = max(0, first - reach)
            stop = min(n_frames, first + kept + reach)
            yield start, stop, first - start, kept

    def _reach(self) -> int:
        """Frames on each side that a frame's convolutions look at, at most."""
        encoder = _reach_of(self.encoder, spacing=1)
        decoder = _reach_of(self.decoder, spacing=self.hop)
        return math.ceil(max(encoder, decoder) / self.hop) + 1

    def codebooks(self) -> Tensor:
        """What the codes stand for: the entries of all codebooks, (n_q * codebook_size, dimension); on the CPU."""
        return torch.cat([layer._codebook.embed for layer in self.quantizer.vq.layers]).cpu()

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this codec's tokens: a hash of configuration, encoder and codebooks.

        The decoder does not count: one trained further gives the same tokens a better sound. Weights count in half
        precision: a codec written in half precision keeps its name.
        """
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in self.state_dict().items():
            if not name.startswith("decoder."):
                digest.update(name.encode() + value.cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]

    def header(self) -> dict[str, str]:
        """The header of a codec's file, without the two fields that `write_tensors` adds."""
        return {
            "format": FORMAT,
            "config": json.dumps(asdict(self.config)),
            "fingerprint": self.fingerprint(),
            "licence": self.licence,
        }

    def save(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a safetensors file with the configuration in its header: the whole file, or none."""
        tensors = {}
        for name, value in self.state_dict().items():
            tensors[name] = value.cpu().to(dtype).contiguous()
        write_tensors(path, tensors, self.header())

    @classmethod
    def load(cls, path: str | Path) -> "Codec":
        """Read what `save` wrote, in evaluation mode. Raises CodecError for a missing, damaged or foreign file."""
        _require(
            Path(path).is_file(),
            f"{path}: there is no such codec; check the name, or leave --codec out to use the talker's own",
        )
        header, tensors = read_tensors(path, FORMAT)
        config = header_value(path, header, "config")
        try:
            check_sizes(config, tensors)
            shape = CodecConfig(**config)
            with torch.device("meta"):  # sizes without memory
                wanted = cls(shape).state_dict()
            weights = fitting_weights(wanted, tensors)
            codec = cls(shape)
            codec.load_state_dict(weights)
        except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
            raise CodecError(
                f"{path}: its weights do not fit its header's field 'config' ({error})"
            ) from error
        codec.licence = header.get("licence", "unknown")
        return codec.eval()


def _reach_of(network: nn.Module, spacing: int) -> int:
    """Samples on each side that a network's convolutions look at, at most.

    spacing: samples of the wave between two values of the network's input.
    """
    reach = 0
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            reach += layer.kernel_size[0] // layer.stride[0] * spacing
            spacing //= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            reach += (layer.kernel_size[0] - 1) * layer.dilation[0] * spacing
            spacing *= layer.stride[0]
    return reach


def pretrained_encodec_24khz(bandwidth: float = 1.5, weights: dict[str, Tensor] | None = None) -> Codec:
    """Meta's EnCodec for 24 kHz: 75 frames per second, bandwidth / 0.75 codebooks of 1024 entries.

    bandwidth: 1.5, 3, 6, 12 or 24 kbit/s. weights: the state of an `encodec.EncodecModel`; None downloads the
    published one (licence CC-BY-NC). Raises CodecError for another bandwidth, and where the download fails.
    """
    known = (1.5, 3, 6, 12, 24)
    _require(bandwidth in known, f"EnCodec at 24 kHz has bandwidths of {known} kbit/s, not {bandwidth}")
    config = CodecConfig(
        sample_rate=24000,
        ratios=(8, 5, 4, 2),
        n_filters=32,
        dimension=128,
        lstm_layers=2,
        n_codebooks=int(bandwidth / 0.75),
        codebook_size=1024,
        causal=True,
        true_skip=False,
        pad_mode="reflect",
    )
    codec = Codec(config)
    if weights is None:
        codec.licence = "CC-BY-NC-4.0"
        try:
            weights = import_encodec().EncodecModel.encodec_model_24khz().state_dict()
        except (OSError, RuntimeError) as error:
            raise CodecError(f"EnCodec's weights did not download ({error}); is there a network?") from error
    wanted = codec.state_dict().keys()  # a lower bandwidth leaves out the last residual codebooks
    codec.load_state_dict({name: value for name, value in weights.items() if name in wanted})
    return codec.eval()


def flatten(codes: Tensor, codebook_size: int) -> Tensor:
    """codes (n_q, T) -> tokens (n_q * T,), frame by frame; code c of codebook k becomes k * codebook_size + c.

    Every codebook has an id range of its own: a token alone tells which codebook it belongs to. Raises CodecError for
    another shape or code.
    """
    is_valid = codes.dim() == 2 and bool(((codes >= 0) & (codes < codebook_size)).all())
    _require(is_valid, f"codes have the shape (codebooks, frames) and lie in 0..{codebook_size - 1}")
    offsets = torch.arange(len(codes), device=codes.device) * codebook_size  # (n_q,)
    return (codes + offsets[:, None]).T.flatten()  # (n_q * T,)


def unflatten(tokens: Tensor, n_codebooks: int, codebook_size: int) -> Tensor:
    """tokens (n_q * T,) -> codes (n_q, T): undoes `flatten`. Raises CodecError for another shape or a token out of place."""
    is_valid = tokens.dim() == 1 and len(tokens) % n_codebooks == 0
    _require(is_valid, f"tokens are one row of frames of {n_codebooks}, not {tuple(tokens.shape)}")
    k = torch.arange(len(tokens), device=tokens.device) % n_codebooks  # (n_q * T,) whose turn it is
    codes = tokens - k * codebook_size  # (n_q * T,)
    out_of_place = torch.nonzero((codes < 0) | (codes >= codebook_size))[:, 0]  # (n,)
    if len(out_of_place) > 0:
        i = int(out_of_place[0])
        low = int(k[i]) * codebook_size
        place = f"codebook {int(k[i])} ({low}..{low + codebook_size - 1})"
        raise CodecError(f"token {int(tokens[i])} at position {i} does not belong to {place}")
    return codes.view(-1, n_codebooks).T


def read_audio(path: str | Path, sample_rate: int, longest: float = LONGEST) -> np.ndarray:
    """Read a recording of any channel count and format that libsndfile knows (WAV, FLAC, OGG, MP3).

    Returns (samples,) float32 at sample_rate Hz: channels averaged, scaled down where the peak exceeds 1.
    Raises CodecError for a file missing, empty, unreadable, cut off, silent (peak under `SILENCE`) or not finite, and,
    before anything is decoded, for one of more than `longest` seconds or of a rate no recording has.
    """
    _require(
        Path(path).is_file(),
        f"{path}: there is no such file; check the name (a recording is a WAV or FLAC file)",
    )
    _require(Path(path).stat().st_size > 0, f"{path}: is empty; give a recording with sound in it")
    try:
        with soundfile.SoundFile(path) as recording:
            _check_recording(path, recording, longest)
            rate = recording.samplerate
            mono = _averaged(path, recording, longest)  # (samples,)
            stated = recording.frames if recording.format in ("WAV", "WAVEX", "FLAC") else len(mono)
    except CodecError:
        raise
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise CodecError(f"{path}: not a readable recording ({error}); give a WAV or FLAC file") from error
    cut = f"{path}: is cut off (it states {stated} samples and holds {len(mono)}); record or copy it again"
    _require(len(mono) == stated or stated >= _NOT_KNOWN, cut)
    _require(len(mono) > 0, f"{path}: is empty; give a recording with sound in it")
    wave = soxr.resample(mono, rate, sample_rate)  # (samples,)
    _require(len(wave) > 0, f"{path}: is empty; give a recording with sound in it")
    peak = np.abs(wave).max()
    _require(np.isfinite(wave).all(), f"{path}: holds values that are no numbers (NaN); convert it again")
    _require(peak >= SILENCE, f"{path}: is silent (its peak is {peak:.1g}); give one above {SILENCE:g}")
    return (wave / max(1.0, peak)).astype(np.float32)


def _check_recording(path: str | Path, recording: soundfile.SoundFile, longest: float) -> None:
    """Raise CodecError if the header promises what no recording is, or more than the file holds."""
    rate = recording.samplerate
    _require(
        LOWEST_RATE <= rate <= HIGHEST_RATE,
        f"{path}: its header states {rate} samples a second; give one of {LOWEST_RATE} to {HIGHEST_RATE}",
    )
    seconds = recording.frames / rate
    _require(
        seconds <= longest or recording.frames >= _NOT_KNOWN,
        f"{path}: lasts {seconds:.0f} seconds, {longest:.0f} at most are read: cut it into parts",
    )
    # A WAV written into a pipe states the largest size there is, as nobody knew the right one: that is no promise.
    sizes = re.search(r"^ *data : (\d+) \(should be (\d+)\)", recording.extra_info, re.MULTILINE)
    if sizes is not None:
        stated, held = int(sizes[1]), int(sizes[2])
        cut = held < stated < _PIPE
        _require(
            not cut, f"{path}: is cut off (it states {stated} bytes of sound and holds {held}); copy it again"
        )


def _averaged(path: str | Path, recording: soundfile.SoundFile, longest: float) -> np.ndarray:
    """The mean of the channels, (samples,) float32, block by block: memory does not grow with the channels.

    Raises CodecError after `longest` seconds, whatever the header states.
    """
    blocks = [np.zeros(0, np.float32)]
    size = max(1, _AT_ONCE // recording.channels)  # samples
    room = longest * recording.samplerate  # samples
    while len(block := recording.read(size, dtype="float32", always_2d=True)):  # (size, channels)
        room -= len(block)
        _require(
            room >= 0, f"{path}: lasts more than the {longest:.0f} seconds that are read: cut it into parts"
        )
        with np.errstate(over="ignore"):  # beyond single precision is infinity, which is refused
            blocks.append(block.mean(axis=1))
    return np.concatenate(blocks)


def write_audio(path: str | Path, wave: Tensor | np.ndarray, sample_rate: int) -> None:
    """Write wave (samples,) as mono, the whole file or none; the name tells the format (.wav, .flac, .ogg).

    What exceeds [-1, 1] is clipped. Raises CodecError for an empty or non-finite wave or an unknown format.
    """
    wave = np.asarray(wave.detach().cpu() if isinstance(wave, Tensor) else wave, dtype=np.float32)
    is_valid = wave.ndim == 1 and wave.size > 0 and np.isfinite(wave).all()
    _require(is_valid, f"{path}: only one row of finite samples can be written, not {wave.shape} or NaN")
    known = Path(path).suffix.lower() in _SUBTYPES
    _require(known, f"{path}: the name of a recording to write ends in .wav, .flac or .ogg")
    kind = Path(path).suffix.lower()
    buffer = io.BytesIO()  # not straight to the file: libsndfile says nothing when the disk is full
    soundfile.write(buffer, np.clip(wave, -1, 1), sample_rate, _SUBTYPES[kind], format=kind[1:])
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getvalue())


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """`with whole_file(path) as unfinished:` write to `unfinished`; it becomes `path` if all goes well.

    Only an ordinary file is replaced. The file has the mode that the umask gives to new files, whoever wrote it.
    Raises CodecError where it cannot be written.
    """
    path = Path(path)
    # the longer name must not be too long for the file system
    end = os.fsdecode(os.fsencode(path.name)[-200:])
    unfinished = path.with_name(f".{os.getpid()}-{end}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OSError("it is a folder, a link or a device")
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)  # safetensors gives its files another
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
        os.replace(unfinished, path)
    except (OSError, SafetensorError, soundfile.LibsndfileError) as error:
        raise CodecError(f"{path}: cannot be written ({error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


# ---- files of tensors: codecs, and all else that this project writes as safetensors


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors and a header of strings as one safetensors file: the whole file, or none.

    header: `format` ends in the version of the format, as in "minittt-codec-1". Two fields are added: `written_by`,
    and `checksum` over all else. Equal content gives equal bytes. Raises CodecError where nothing can be written.
    """
    header = {**header, "written_by": WRITER, "checksum": "0" * 64}
    with whole_file(path) as unfinished:
        save_file(tensors, unfinished, metadata=header)
        with unfinished.open("rb+") as file:
            _seal(file)


def read_tensors(path: str | Path, wanted: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file whose header gives `wanted` as its format.

    Raises CodecError for a file that is damaged, is not safetensors, or has another or a newer format. A file without
    a checksum, as version 0.1.0 wrote them at first, is taken as it is.
    """
    what = _name_and_version(wanted)[0]
    try:
        with Path(path).open("rb") as file:
            head = _read_head(file)
            header = head.get("__metadata__", {})
            _check_format(path, header.get("format"), wanted)
            checksum = header.get("checksum")
            if checksum is not None:
                intact = checksum == _checksum(head, file)
                _require(intact, f"{path}: is damaged (its checksum does not fit its content); copy it again")
        with safe_open(str(path), framework="pt") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118
                tensors[name] = file.get_tensor(name)
                _check_numbers(path, name, tensors[name])
    except CodecError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CodecError(f"{path}: not a {what}, nor any safetensors file ({error})") from error
    return header, tensors


def _check_numbers(path: str | Path, name: str, tensor: Tensor) -> None:
    """Raise CodecError naming a tensor of a kind that no file of ours has, or that holds NaN or infinity."""
    is_valid = not tensor.is_complex() and (tensor.itemsize > 1 or not tensor.is_floating_point())
    _require(
        is_valid,
        f"{path}: its tensor {name!r} is of the kind {tensor.dtype}; floats have 16 bits or more here",
    )
    if tensor.is_floating_point():
        finite = bool(tensor.isfinite().all())
        _require(finite, f"{path}: its tensor {name!r} holds values that are no numbers (NaN or infinity)")


def check_sizes(config: dict, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError if the header states sizes that these weights cannot have; called before any network is built.

    No width is larger than the largest dimension of a tensor, and every layer has at least one tensor.
    """
    widest = max((max(tensor.shape, default=1) for tensor in tensors.values()), default=0)
    for name, value in config.items():
        entries = value if isinstance(value, list) else [value]
        numbers = [entry for entry in entries if type(entry) is int]
        most = len(tensors) if name in _COUNTS else widest
        if name not in _NO_SIZES and (max(numbers, default=0) > most or len(numbers) > len(tensors) + 1):
            raise ValueError(f"{name} is {value!r:.60}, too many for the tensors in the file")


def fitting_weights(wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in single precision. Raises ValueError naming one that is missing, unknown, or of another shape or kind.

    wanted: the state of the network, which may be on torch's `meta` device.
    """
    unmatched = sorted(wanted.keys() ^ tensors.keys())
    if unmatched:
        name = unmatched[0]
        if name in wanted:
            raise ValueError(f"the tensor {name!r} is missing")
        raise ValueError(f"no weight is named {name!r}")
    weights = {}
    for name, tensor in tensors.items():
        shape = tuple(wanted[name].shape)
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not floats of shape {shape}")
        weights[name] = tensor.float()
        if not weights[name].isfinite().all():  # more than 32 bits hold
            raise ValueError(f"{name} holds values beyond single precision")
    return weights


def read_header(path: str | Path) -> dict[str, str]:
    """The header of any safetensors file, without its tensors. Raises CodecError for any other file."""
    try:
        with Path(path).open("rb") as file:
            return _read_head(file).get("__metadata__", {})
    except (OSError, ValueError, RecursionError) as error:
        raise CodecError(f"{path}: no safetensors file ({error})") from error


def header_value(path: str | Path, header: dict[str, str], field: str) -> dict:
    """The JSON object in one field of a header. Raises CodecError naming a field that is missing or is not one."""
    _require(field in header, f"{path}: its header has no field {field!r}")
    try:
        value = json.loads(header[field])
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{path}: its header's field {field!r} is not JSON ({error})") from error
    found = type(value).__name__
    _require(isinstance(value, dict), f"{path}: its header's field {field!r} is a {found}, not a JSON object")
    return value


def _read_head(file: BinaryIO) -> dict:
    """The JSON with which a safetensors file begins: its tensors' places, and our header under `__metadata__`."""
    length = os.fstat(file.fileno()).st_size
    size = int.from_bytes(file.read(8), "little")
    if size > length - 8:
        raise ValueError(f"its header is said to have {size} bytes, but the whole file has {length}")
    head = json.loads(file.read(size).decode("utf-8"))
    if not isinstance(head, dict) or not isinstance(head.get("__metadata__", {}), dict):
        raise ValueError("its header is no JSON object")
    for field, value in head.get("__metadata__", {}).items():
        if not isinstance(value, str):
            raise ValueError(f"its header's field {field!r} is no string")
    return head


def _canonical(head: dict) -> bytes:
    """The one way to write this head. It is as long as the way in which safetensors writes it."""
    return json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _checksum(head: dict, file: BinaryIO) -> str:
    """SHA-256 of a head without its checksum, then of the bytes of all tensors, which `file` is about to give."""
    fields = {field: value for field, value in head["__metadata__"].items() if field != "checksum"}
    digest = hashlib.sha256(_canonical({**head, "__metadata__": fields}))
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _seal(file: BinaryIO) -> None:
    """Sort the head of a new file, which safetensors writes in random order, and fill in the checksum."""
    head = _read_head(file)
    size = file.tell() - 8
    head["__metadata__"]["checksum"] = _checksum(head, file)
    file.seek(8)
    file.write(_canonical(head).ljust(size))


def _name_and_version(stated: str) -> tuple[str, int]:
    """What a format stands for, and its version: ("codec", 1) for "minittt-codec-1"; version 0 if it is not ours."""
    parts = re.fullmatch(r"minittt[- ](.+)[- ](\d{1,9})", stated)
    if parts is None:
        return stated, 0
    return parts[1], int(parts[2])


def _check_format(path: str | Path, found: str | None, wanted: str) -> None:
    """Raise CodecError unless the format found is the one wanted."""
    if found == wanted:
        return
    name, version = _name_and_version(wanted)
    found_name, found_version = _name_and_version(found or "")
    if found_name == name and found_version > version:
        raise CodecError(
            f"{path}: a {name} of the newer format {found!r}; this version reads {wanted!r}: update minittt"
        )
    raise CodecError(f"{path}: not a {name} of format {wanted!r}; its header says {found!r}")
