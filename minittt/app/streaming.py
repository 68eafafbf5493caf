"""Sound while the reply is still being made: codes go in block by block, final samples come out.

With every block the span is decoded again from its beginning, and only samples that no later code can change are sent.
Sending NaN through the decoder shows which those are: it reaches every sample that depends on a frame, and no other. A
sample is final once every frame that it depends on is there. So the pieces add up to what decoding all codes at once gives,
up to rounding. They lag by the decoder's lookahead: 3.7 frames (0.15 s of speech) with the shipped codec, nothing with a
causal one such as EnCodec's own at 24 kHz.
"""

import io
import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from minittt.codec import Codec, unflatten, whole_file
from minittt.decoding import BlockClosed, Event, Settings, SpanClosed
from minittt.errors import MinitttError
from minittt.talker import Reply, Talker, whole_frames

PROBED = 16  # frames from the beginning of a span; later ones behave like the last of these


class StreamingDecoder:
    """Decodes one span as it grows: `push` codes, `finish` at the end; both return the samples that became final."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.codes = torch.zeros(codec.config.n_codebooks, 0, dtype=torch.long)  # (n_q, frames) so far
        self.sent = 0  # samples

    def push(self, codes: Tensor) -> Tensor:
        """codes (n_q, frames) that follow the earlier ones -> wave (samples,), perhaps empty."""
        self.codes = torch.cat([self.codes, codes], dim=1)
        return self._send(final_samples(self.codec, self.codes.shape[1]))

    def finish(self) -> Tensor:
        """The rest of the wave, (samples,): after it, hop samples have been returned for every frame."""
        return self._send(self.codes.shape[1] * self.codec.hop)

    def _send(self, final: int) -> Tensor:
        """The samples after the last one sent, up to number `final`."""
        if final <= self.sent:
            return torch.zeros(0)
        wave = self.codec.decode(self.codes[None])[0]  # (samples,)
        new = wave[self.sent : final]
        self.sent = final
        return new


def final_samples(codec: Codec, frames: int) -> int:
    """How many samples of a span no longer change once this many of its frames are there."""
    heard = _first_heard(codec)
    if frames < PROBED:
        return min(heard[frames:])
    lookahead = (PROBED - 1) * codec.hop - heard[-1]  # samples
    return frames * codec.hop - lookahead


@lru_cache(maxsize=1)
def _first_heard(codec: Codec) -> list[int]:
    return first_heard(codec.decoder, codec.config.dimension)


@torch.no_grad()
def first_heard(decoder: nn.Module, dimension: int) -> list[int]:
    """For each of the first PROBED frames that go into a decoder: the index of the first sample that depends on it."""
    device = next(decoder.parameters()).device
    # 1. Row j has NaN in frame j, and zeros before and after.
    latents = torch.zeros(PROBED, dimension, 2 * PROBED, device=device)  # (PROBED, dimension, frames)
    for j in range(PROBED):
        latents[j, :, j] = torch.nan
    # 2. Where NaN comes out, that frame is heard.
    is_heard = decoder(latents).isnan().any(1).cpu()  # (PROBED, samples)
    return [int(row.nonzero()[0]) for row in is_heard]


def sound_along(talker: Talker, codec: Codec, events: Iterable[Event]) -> Iterator[tuple[Event, np.ndarray]]:
    """Each event as it happens, with the samples of its row that it made final: (samples,), mostly none.

    Joined, the pieces of a row are what `Talker.sound` makes of its spans, one after the other.
    """
    n_codebooks = codec.config.n_codebooks
    size = codec.config.codebook_size
    vocabulary = talker.vocabulary
    decoders: dict[int, StreamingDecoder] = {}  # of the open span of each row
    waiting: dict[int, list[int]] = {}  # codes of each row's last frame, while that is unfinished
    for event in events:
        new = torch.zeros(0)
        if isinstance(event, BlockClosed):
            if event.row not in decoders:
                decoders[event.row] = StreamingDecoder(codec)
                waiting[event.row] = []
            # 1. Whole frames are passed on; the rest waits for the next block.
            codes = waiting[event.row]
            codes += [token - vocabulary.first_code for token in event.ids if token != vocabulary.eoa]
            whole = len(codes) // n_codebooks * n_codebooks
            kept = whole_frames(codes[:whole], n_codebooks, size)
            waiting[event.row] = codes[whole:]
            # 2. They may make samples final.
            frames = unflatten(torch.tensor(kept, dtype=torch.long), n_codebooks, size)  # (n_q, T)
            new = decoders[event.row].push(frames)
        elif isinstance(event, SpanClosed):
            decoder = decoders.pop(event.row)
            if decoder.codes.shape[1]:
                new = decoder.finish()
            else:
                new = torch.zeros(codec.hop)  # a span without a frame is a moment of silence
        yield event, new.numpy()


@dataclass
class Pace:
    """How fast a reply was heard: seconds of speech, and seconds on the clock since it was asked for."""

    speech: float = 0.0
    first: float | None = None  # seconds until the first sample; None: nothing was said
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
    _first_heard(codec)  # found once, before the clock runs
    pace = Pace()
    reply = Reply()
    begin = time.perf_counter()
    with growing_sound(path, codec.config.sample_rate) as hear:
        events = talker.stream([messages], settings, seed, [reply])
        for event, samples in sound_along(talker, codec, events):
            reply.events.append(event)
            if len(samples):
                hear(samples)
                pace.speech += len(samples) / codec.config.sample_rate
                pace.first = pace.first or time.perf_counter() - begin
    pace.last = time.perf_counter() - begin
    return reply, pace


def _pcm(wave: np.ndarray) -> bytes:
    """(samples,) as 16-bit integers, clipped."""
    return (np.clip(wave, -1, 1) * 32767).round().astype("<i2").tobytes()


def write_wav_to(stream: BinaryIO, samples: np.ndarray, sample_rate: int) -> None:
    """Write a whole 16-bit mono WAV (samples,) to a stream that cannot go back, such as standard output."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setparams((1, 2, sample_rate, 0, "NONE", ""))
        sound.writeframes(_pcm(samples))
    stream.write(buffer.getvalue())
    stream.flush()


@contextmanager
def growing_sound(path: Path | None, sample_rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """`with growing_sound(path, rate) as hear:` a 16-bit mono WAV that is whole and playable after every `hear(wave)`.

    The path "-" means raw samples on standard output, for a player behind a pipe; None means nowhere. The file is created
    with the first sound. Raises MinitttError where it cannot be written.
    """
    file = None
    sound = None

    def hear(samples: np.ndarray) -> None:
        """Write a piece (samples,) to the place that was named."""
        nonlocal file, sound
        pcm = _pcm(samples)
        if path == Path("-"):
            sys.stdout.buffer.write(pcm)
            sys.stdout.buffer.flush()
        elif path is not None:
            if file is None:
                with whole_file(path) as unfinished:  # an older file is replaced, never cut
                    file = unfinished.open("wb")
                    sound = wave.open(file, "wb")  # noqa: SIM115
                    sound.setparams((1, 2, sample_rate, 0, "NONE", ""))
                    sound.writeframes(pcm)
                    file.flush()
                return
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
