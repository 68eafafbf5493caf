"""Sound that comes piece by piece is the sound decoded at once, and it comes while the reply is still being made."""

import random
import wave
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.app import streaming
from minittt.app.cli import SAMPLES, main
from minittt.app.streaming import (
    PROBED,
    Pace,
    StreamingDecoder,
    answer_aloud,
    final_samples,
    first_heard,
    growing_sound,
    sound_along,
)
from minittt.codec import Codec, CodecConfig
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import BlockClosed, Settings, SpanClosed
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling

SMALL = dict(n_filters=4, dimension=8, codebook_size=16)
CODECS = {
    "two-sided": CodecConfig(ratios=(4, 2), lstm_layers=1, **SMALL),
    "reflecting": CodecConfig(ratios=(4, 2), lstm_layers=0, pad_mode="reflect", **SMALL),
    "causal": CodecConfig(
        ratios=(5, 2), lstm_layers=2, n_codebooks=2, causal=True, true_skip=False, pad_mode="reflect", **SMALL
    ),
}
TOLERANCE = 1e-5  # of the peak, in float32


@pytest.fixture(scope="module")
def talker():
    return Talker.load(SAMPLES / "talker.safetensors")


def codec_named(name: str) -> Codec:
    if name == "shipped":
        return Codec.load(SAMPLES / "codec.safetensors")
    torch.manual_seed(0)
    return Codec(CODECS[name]).eval()


def streamed(codec: Codec, codes: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    decoder, pieces, at = StreamingDecoder(codec), [], 0
    for size in sizes:
        pieces.append(decoder.push(codes[:, at : at + size]))
        at += size
    return [*pieces, decoder.push(codes[:, at:]), decoder.finish()]


@pytest.mark.parametrize("name", [*CODECS, "shipped"])
def test_pieces_add_up_to_decoding_at_once(name):
    codec = codec_named(name)

    @settings(max_examples=25)
    @given(st.integers(0, 10_000), st.integers(1, 50), st.lists(st.integers(0, 9), max_size=12))
    def law(seed, frames, sizes):
        g = torch.Generator().manual_seed(seed)
        shape = codec.config.n_codebooks, frames
        codes = torch.randint(0, codec.config.codebook_size, shape, generator=g)
        whole, pieces = codec.decode(codes[None])[0], streamed(codec, codes, sizes)
        torch.testing.assert_close(
            torch.cat(pieces), whole, rtol=0.0, atol=TOLERANCE * whole.abs().max().item()
        )

    law()


@pytest.mark.parametrize("name", [*CODECS, "shipped"])
def test_a_frame_more_leaves_what_was_sent_and_sends_all_that_is_final(name):
    """Each frame brings hop samples, behind the reach alone; where the decoder is causal, at once."""
    codec = codec_named(name)
    codes = torch.randint(0, 16, (codec.config.n_codebooks, 40), generator=torch.Generator().manual_seed(3))
    decoder, sent = StreamingDecoder(codec), 0
    lag = 100 * codec.hop - final_samples(codec, 100)
    assert (lag == 0) == codec.config.causal
    for frame in range(40):
        piece = decoder.push(codes[:, frame : frame + 1])
        sent += len(piece)
        if frame >= PROBED:
            assert sent == max(0, (frame + 1) * codec.hop - lag)
    assert sent + len(decoder.finish()) == 40 * codec.hop
    later = codes.clone()
    later[:, -1] = (later[:, -1] + 1) % 16  # what was sent before the last frame came must not depend on it
    final = 39 * codec.hop - lag
    change = (codec.decode(codes[None])[0] - codec.decode(later[None])[0]).abs()
    assert change[:final].max() < 1e-6
    assert change[final : final + codec.hop].max() > 1e-4


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (7, 1), (16, 8), (4, 2)])
def test_a_frame_is_first_heard_half_a_kernel_early(kernel, stride):
    layer = (
        torch.nn.Conv1d(2, 3, kernel, padding=kernel // 2)
        if stride == 1
        else torch.nn.ConvTranspose1d(2, 3, kernel, stride, padding=(kernel - stride) // 2)
    )
    early = kernel // 2 if stride == 1 else (kernel - stride) // 2
    assert first_heard(layer, 2) == [max(0, j * stride - early) for j in range(PROBED)]


def test_a_causal_decoder_that_reflects_hears_a_little_ahead_at_the_beginning_alone():
    """Its first samples are padded with what follows them, so they wait; later ones depend on the past alone."""
    codec = codec_named("causal")
    assert final_samples(codec, 1) == 0
    assert [final_samples(codec, n) for n in (PROBED, 40)] == [PROBED * codec.hop, 40 * codec.hop]


SETTINGS = Settings(
    8, first_block=4, steps=2, text_sampling=Sampling(0.0), max_text=24, max_span=64, max_spans=3
)
ASKED = [
    [["system", "speak"], ["user", "two plus three equals five"]],
    [["system", "speak"], ["user", "nine"]],
]


@pytest.mark.parametrize("full_span", [False, True])
def test_a_reply_is_heard_as_it_is_made(talker, full_span):
    """Two rows at once: each row's pieces are its spans' sound, and most come before the span is over."""
    codec, replies = codec_named("shipped"), [Reply() for _ in ASKED]
    how = Settings(**{**vars(SETTINGS), "full_span": full_span})
    heard, early = [[np.zeros(0, np.float32)] for _ in ASKED], 0
    for event, samples in sound_along(talker, codec, talker.stream(ASKED, how, 1, replies)):
        assert not len(samples) or isinstance(event, BlockClosed | SpanClosed)
        heard[event.row].append(samples)
        early += len(samples) * isinstance(event, BlockClosed)
    assert any(reply.spans for reply in replies)
    for reply, pieces in zip(replies, heard, strict=True):
        waves = [talker.sound(codec, span) for span in reply.spans]
        expected = np.concatenate([*waves, np.zeros(0, np.float32)])
        np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0, atol=TOLERANCE)
    assert early > 0.4 * sum(len(piece) for pieces in heard for piece in pieces)


def test_a_growing_file_is_playable_at_every_moment(tmp_path):
    path, so_far = tmp_path / "new" / "grow.wav", np.zeros(0)
    with growing_sound(path, 8000) as hear:
        assert not path.exists()
        for n in (100, 1, 500):
            piece = np.linspace(-2, 2, n)
            hear(piece)
            so_far = np.concatenate([so_far, np.clip(piece, -1, 1)])
            found, rate = soundfile.read(path)
            assert rate == 8000
            np.testing.assert_allclose(found, so_far, atol=1e-4)
    with wave.open(str(path)) as file:
        assert file.getnframes() == 601


def test_pace_says_what_was_waited_for():
    assert "nothing said" in str(Pace(last=1.0))
    assert "first sound after 0.250 s; 2.00 s of speech after 0.500 s, 0.25 of real time" in str(
        Pace(2.0, 0.25, 0.5)
    )


def test_talk_stream_writes_what_talk_writes(tmp_path, capfdbinary):
    question = str(SAMPLES / "wav" / "question_1.wav")
    for options in (["-o", str(tmp_path / "a.wav")], ["--stream", "-o", str(tmp_path / "b.wav")]):
        assert main(["talk", question, *options]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert "first sound after" in said
    a, b = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in "ab")
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert main(["talk", question, "--stream", "-o", "-"]) == 0
    raw, said = capfdbinary.readouterr()
    np.testing.assert_allclose(np.frombuffer(raw, "<i2") / 32768, b, atol=1e-4)
    assert b"first sound after" in said


def test_talk_stream_refuses_what_it_cannot_do(tmp_path, capsys):
    for options in (["a", "b"], ["a", "--page", str(tmp_path / "p.html")]):
        assert main(["talk", "--stream", *options]) == 2
    with pytest.raises(SystemExit):
        main(["talk", "--stream", "a", "--first-block", "0"])
    (tmp_path / "file").write_text("", encoding="utf-8")
    question = str(SAMPLES / "wav" / "question_1.wav")
    assert main(["talk", question, "--stream", "-o", str(tmp_path / "file" / "a.wav")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert [path.name for path in Path(tmp_path).iterdir()] == ["file"]


def test_the_first_sound_is_timed_at_the_first_piece_and_speech_is_counted_in_seconds(monkeypatch):
    """What a listener waits for is the first sample, not the last: on a clock that advances a second an event.

    Pieces that are empty are not heard; seconds of speech are samples over the sample rate, of all pieces together."""
    codec, now, heard = codec_named("two-sided"), [100.0], []
    sizes = [0, 0, 40, 0, 25, 15]

    def events(talker, codec, stream):
        for n in sizes:
            now[0] += 1.0
            yield n, np.full(n, 0.1, np.float32)

    class Silent:
        def stream(self, *_):
            return []

    @contextmanager
    def listener(path, sample_rate):
        yield heard.append

    monkeypatch.setattr(streaming, "sound_along", events)
    monkeypatch.setattr(streaming, "growing_sound", listener)
    monkeypatch.setattr(streaming.time, "perf_counter", lambda: now[0])
    reply, pace = answer_aloud(Silent(), codec, [], SETTINGS, 0, None)
    assert (pace.first, pace.last) == (3.0, 6.0)
    assert pace.speech == pytest.approx(80 / codec.config.sample_rate, rel=1e-12)
    assert reply.events == sizes
    assert [len(piece) for piece in heard] == [40, 25, 15]
    sizes[:] = [0, 0]
    _, pace = answer_aloud(Silent(), codec, [], SETTINGS, 0, None)
    assert (pace.first, pace.last, pace.speech) == (None, 2.0, 0.0)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 5), min_size=4, max_size=12))
def test_frames_that_are_split_between_blocks_are_heard_whole(seed, sizes):
    """Two codebooks, blocks of any size, two rows with two spans each: every span sounds as it does decoded at once.

    A block may end inside a frame; the codes of that frame wait for the rest, those of another span or row never join it.
    Frames that are unfinished at the end, or out of order, are passed over in both ways."""
    codec = codec_named("causal")
    n_q, size = codec.config.n_codebooks, codec.config.codebook_size
    talker = Talker(None, Vocabulary(4, size, n_q), None, {"codec": codec.fingerprint()})
    v, rng = talker.vocabulary, random.Random(seed)
    spans = {0: [], 1: []}
    events: list = []
    for row in (0, 1, 1, 0):
        codes = [k * size + rng.randrange(size) for _ in range(rng.randint(0, 6)) for k in range(n_q)]
        if codes and rng.random() < 0.3:
            codes.pop()  # a last frame that is not finished
        if len(codes) > 2 and rng.random() < 0.3:
            codes[:2] = codes[1::-1]  # a frame whose codes are in the wrong order
        spans[row].append(codes)
        ids = [v.first_code + code for code in codes] + [v.eoa]
        blocks = []
        while ids:
            n = rng.choice(sizes)
            blocks.append(BlockClosed(row, tuple(ids[:n] + [v.eoa] * (n - len(ids))), 0, False))
            ids = ids[n:]
        events.append([*blocks, SpanClosed(row, tuple(v.first_code + code for code in codes))])
    together = _interleaved(events[0], events[1], rng) + _interleaved(events[3], events[2], rng)
    heard: dict[int, list] = {0: [], 1: []}
    for event, samples in sound_along(talker, codec, together):
        heard[event.row].append(samples)
    for row, pieces in heard.items():
        expected = np.concatenate([talker.sound(codec, span) for span in spans[row]])
        np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0, atol=TOLERANCE)


def _interleaved(one: list, other: list, rng: random.Random) -> list:
    """Two lists as one, each in its own order."""
    one, other, out = list(one), list(other), []
    while one or other:
        source = one if one and (not other or rng.random() < 0.5) else other
        out.append(source.pop(0))
    return out
