"""Sound while the reply is still being made: codes in, block by block, and samples out that will not change any more.

EnCodec's decoder is a convolution, an LSTM, and convolutions that turn one frame into `hop` samples. How far one frame is
heard is found by sending NaN through: it reaches all that depends on it, and no more. A sample is final once every frame
that it hears is there; the LSTM goes forwards only and carries its state. So the pieces add up to what decoding all codes
at once gives, up to rounding (measured: 7e-7 of the peak), and lag by the reach alone:
3.7 frames (0.15 s of speech) there, nothing with a causal codec such as EnCodec's own at 24 kHz.
"""

import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from minittt.codec import Codec, unflatten
from minittt.decoding import BlockClosed, Event, Settings, SpanClosed
from minittt.errors import MinitttError
from minittt.talker import Reply, Talker, whole_frames


class StreamingDecoder:
    """Decodes one span as it grows: `push` codes, `finish` at the end; both return the samples that became final."""

    def __init__(self, codec: Codec) -> None:
        layers, lstms = codec.decoder.model, int(codec.config.lstm_layers > 0)
        self.codec, self.first, self.rest = codec, layers[0], layers[1 + lstms :]
        self.lstm = layers[1] if lstms else None
        self.memory = None  # of the LSTM
        device = next(codec.parameters()).device
        self.first_reach, self.rest_reach, channels = _reaches(codec)  # frames, samples
        self.latents = torch.zeros(1, codec.config.dimension, 0, device=device)  # (1, dimension, frames)
        self.states = torch.zeros(1, channels, 0, device=device)  # (1, channels, frames)
        self.sent = 0  # samples

    def push(self, codes: Tensor) -> Tensor:
        """codes (K, frames) that follow those before -> wave (samples,), perhaps empty."""
        if codes.shape[1]:
            quantised = self.codec.quantizer.vq.decode(codes[:, None].to(self.latents.device))
            self.latents = torch.cat([self.latents, quantised], dim=2)
        return self._advance(final=False)

    def finish(self) -> Tensor:
        """The rest of the wave, (samples,): hop times all frames have been returned then."""
        return self._advance(final=True)

    @torch.no_grad()
    def _advance(self, final: bool) -> Tensor:
        frames, done, (before, after) = self.latents.shape[2], self.states.shape[2], self.first_reach
        ready = frames if final else frames - before
        if done == 0 and not final and frames <= before + after:
            ready = 0  # where the beginning is padded by reflection, it hears a little more
        if ready > done:
            start = max(0, done - before - after - 1)
            new = self.first(self.latents[:, :, start:])[
                :, :, done - start : ready - start
            ]  # (1, channels, new)
            self.states = torch.cat([self.states, self._remember(new)], dim=2)
        before, after = self.rest_reach
        hop, frames = self.codec.hop, self.states.shape[2]
        ready = frames * hop - (0 if final else before)
        if ready <= self.sent:
            return self.latents.new_zeros(0)
        start = max(
            0, (self.sent - before - after) // hop - 1
        )  # frames heard by what comes next, and one to spare
        wave = self.rest(self.states[:, :, start:])[0, 0, self.sent - start * hop : ready - start * hop]
        self.sent = ready
        return wave

    def _remember(self, x: Tensor) -> Tensor:
        """The LSTM, from where it stopped: (1, channels, new frames) -> the same shape."""
        if self.lstm is None:
            return x
        y, self.memory = self.lstm.lstm(x.permute(2, 0, 1), self.memory)
        y = y.permute(1, 2, 0)
        return y + x if self.lstm.skip else y


@lru_cache(maxsize=1)
def _reaches(codec: Codec) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Of the first convolution, in frames; of all after the LSTM, in samples; and the channels between."""
    first, rest = codec.decoder.model[0], codec.decoder.model[1 + (codec.config.lstm_layers > 0) :]
    channels = first.conv.conv.out_channels
    return reach(first, codec.config.dimension, 1), reach(rest, channels, codec.hop), channels


@torch.no_grad()
def reach(layers: nn.Module, channels: int, hop: int) -> tuple[int, int]:
    """How many samples before and after its own `hop` samples one frame (1, channels, 1) is heard through `layers`."""
    device, middle = next(layers.parameters()).device, 16
    x = torch.zeros(1, channels, 2 * middle + 1, device=device)
    x[:, :, middle] = torch.nan
    heard = layers(x)[0].isnan().any(0).nonzero()[:, 0]
    return max(0, middle * hop - int(heard[0])), max(0, int(heard[-1]) + 1 - (middle + 1) * hop)


def sound_along(talker: Talker, codec: Codec, events: Iterable[Event]) -> Iterator[tuple[Event, np.ndarray]]:
    """Each event as it happens, with the samples of its row that became final by it: (samples,), mostly none.

    Joined, the pieces of a row are what `Talker.sound` makes of its spans, one after the other.
    """
    n_codebooks, size, eoa = codec.config.n_codebooks, codec.config.codebook_size, talker.vocabulary.eoa
    spans: dict[
        int, tuple[StreamingDecoder, list[int]]
    ] = {}  # by row; codes are those of an unfinished frame
    for event in events:
        new = torch.zeros(0)
        if isinstance(event, BlockClosed):
            if event.row not in spans:
                spans[event.row] = StreamingDecoder(codec), []
            decoder, codes = spans[event.row]
            codes += [token - talker.vocabulary.first_code for token in event.ids if token != eoa]
            whole = len(codes) // n_codebooks * n_codebooks
            kept = whole_frames(codes[:whole], n_codebooks, size)
            del codes[:whole]
            new = decoder.push(unflatten(torch.tensor(kept, dtype=torch.long), n_codebooks, size))
        elif isinstance(event, SpanClosed):
            decoder, _ = spans.pop(event.row)
            new = decoder.finish() if decoder.latents.shape[2] else torch.zeros(codec.hop)
        yield event, new.cpu().numpy()


@dataclass
class Pace:
    """How fast a reply was heard: seconds of speech, and seconds on the clock since it was asked for."""

    speech: float = 0.0
    first: float | None = None  # until the first sample; None: nothing was said
    last: float = 0.0

    def __str__(self) -> str:
        if self.first is None:
            return f"nothing said, after {self.last:.3f} s"
        heard = f"{self.speech:.2f} s of speech after {self.last:.3f} s"
        return f"first sound after {self.first:.3f} s; {heard}, {self.last / self.speech:.2f} of real time"


def answer_aloud(
    talker: Talker, codec: Codec, messages: list, settings: Settings, seed: int, path: Path | None
) -> tuple[Reply, Pace]:
    """Reply to one conversation, writing every piece of sound to `path` (see `growing_sound`) as soon as it is final."""
    _reaches(codec)  # found once, before the clock runs
    begin, pace, reply = time.perf_counter(), Pace(), Reply()
    with growing_sound(path, codec.config.sample_rate) as hear:
        for event, samples in sound_along(talker, codec, talker.stream([messages], settings, seed, [reply])):
            reply.events.append(event)
            if len(samples):
                hear(samples)
                pace.speech += len(samples) / codec.config.sample_rate
                pace.first = pace.first or time.perf_counter() - begin
    pace.last = time.perf_counter() - begin
    return reply, pace


@contextmanager
def growing_sound(path: Path | None, sample_rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """`with growing_sound(path, rate) as hear:` a 16-bit mono WAV that is whole and playable after every `hear(wave)`.

    The path "-" means raw samples on standard output, for a player behind a pipe; None, nowhere. The file begins with the
    first sound. Raises MinitttError where it cannot be written.
    """
    file, sound = None, None

    def hear(samples: np.ndarray) -> None:
        nonlocal file, sound
        pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()
        if path == Path("-"):
            sys.stdout.buffer.write(pcm)
            sys.stdout.buffer.flush()
        elif path is not None:
            if file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("wb")
                sound = wave.open(file, "wb")  # noqa: SIM115
                sound.setparams((1, 2, sample_rate, 0, "NONE", ""))
            sound.writeframes(pcm)  # brings the length in the header up to date
            file.flush()

    try:
        yield hear
    except OSError as error:
        raise MinitttError(f"{path}: cannot be written ({error})") from error
    finally:
        if file is not None:
            sound.close()
            file.close()
