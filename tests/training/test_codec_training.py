"""The codec learns, its codebooks stay alive, and a broken-off training leaves a whole file."""

import json
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec, CodecConfig, CodecError
from minittt.data import front_end
from minittt.errors import MinitttError
from minittt.training import codec_training
from minittt.training.codec_training import (
    CodecTrainingSettings,
    SpectralDistance,
    crops,
    draw_corpus,
    draw_listening_corpus,
    k_means,
    perplexity,
    read_corpus,
    revive,
    start_codebooks,
    train_codec,
)
from minittt.world import lexicon, synthesis
from minittt.world.users import Users

SEEDS = st.integers(0, 2**31 - 1)
TINY = CodecConfig(ratios=(8, 5), n_filters=4, dimension=8, lstm_layers=0, n_codebooks=2, codebook_size=16)


def tones(n: int = 12) -> list[np.ndarray]:
    """Half a second each, one pitch after another."""
    time = np.arange(4000) / 8000
    return [0.5 * np.sin(2 * np.pi * 150 * (1 + i) * time).astype(np.float32) for i in range(n)]


def twice(waves: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs in which what is heard is what is meant."""
    return [(wave, wave) for wave in waves]


def settings(**changes) -> CodecTrainingSettings:
    usual = {"config": TINY, "minutes": 9.0, "crop": 0.2, "unquantised_steps": 40, "max_steps": 240}
    return CodecTrainingSettings(**(usual | changes))


def test_some_steps_lower_the_loss_and_leave_a_log(tmp_path):
    out, log = tmp_path / "codec.safetensors", tmp_path / "log.jsonl"
    with patch.object(codec_training, "_LOG_EVERY", 40):
        codec = train_codec(twice(tones()), settings(), out, log)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [40, 80, 120, 160, 200, 240]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[-1]["perplexity"] > 2
    assert lines[-1]["seconds"] >= lines[0]["seconds"]
    assert codec.config == TINY
    assert not codec.training
    assert Codec.load(out).fingerprint() == codec.fingerprint()
    # and it beats a codec that has learnt nothing, on what it says through its codes
    distance, wave = SpectralDistance(8000), torch.from_numpy(np.stack(tones()))
    torch.manual_seed(0)
    untrained = Codec(TINY).eval()
    heard, unheard = (distance(c.decode(c.encode(wave)), wave) for c in (codec, untrained))
    assert heard < 0.8 * unheard


def test_one_seed_gives_one_codec(tmp_path):
    names = [
        train_codec(
            twice(tones()), settings(max_steps=30, unquantised_steps=10, seed=seed), tmp_path / "c"
        ).fingerprint()
        for seed in (1, 1, 2)
    ]
    assert names[0] == names[1] != names[2]


def test_training_ends_by_the_clock_and_rests_at_a_learning_rate_of_zero():
    plan = settings(minutes=2.0, max_steps=None)
    assert plan.progress(10**6, 60.0) == 0.5
    assert plan.progress(0, 120.0) == 1
    plan = settings(minutes=2.0, max_steps=100)
    assert plan.progress(75, 60.0) == 0.75
    assert plan.progress(25, 60.0) == 0.5
    trainer = codec_training._Trainer(twice(tones()), settings())
    for progress, share in ((0.0, 1 / 50), (0.5, 2 / 50 / 2), (1.0, 0.0)):
        trainer.learn(progress)
        assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(1.5e-3 * share, abs=1e-12)


def test_nothing_to_learn_from_is_refused(tmp_path):
    with pytest.raises(MinitttError, match="at least one recording"):
        train_codec([], settings(), tmp_path / "codec.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_breaks_off_leaves_the_last_whole_file(tmp_path):
    out = tmp_path / "codec.safetensors"
    saves = []

    def save(codec, path, dtype):
        if saves:
            raise CodecError("the disk is full")
        saves.append(codec.fingerprint())
        real(codec, path, dtype)

    real = Codec.save
    with (
        patch.object(codec_training, "_SAVE_EVERY", -1.0),
        patch.object(Codec, "save", save),
        pytest.raises(CodecError, match="disk is full"),
    ):
        train_codec(twice(tones()), settings(max_steps=3), out)
    assert Codec.load(out).fingerprint() == saves[0]


@given(SEEDS, st.integers(1, 6), st.integers(1, 30))
def test_k_means_centres_are_means_of_what_is_nearest(seed, k, n):
    torch.manual_seed(seed)
    points = torch.randn(n, 3, dtype=torch.float64)
    centres, sizes = k_means(points, k, rounds=50)  # enough rounds to stand still
    nearest = [min(range(k), key=lambda j: float((p - centres[j]).square().sum())) for p in points]
    assert sizes.sum() == n
    for j in range(k):
        members = [p for p, of in zip(points, nearest, strict=True) if of == j]
        if members and len(members) == sizes[j]:
            assert torch.allclose(torch.stack(members).mean(0), centres[j], rtol=1e-9)


def test_k_means_finds_clusters_that_are_there():
    torch.manual_seed(0)
    truth = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = truth.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2)
    centres, sizes = k_means(points, 12)
    assert torch.cdist(points, centres).min(1).values.max() < 1  # every point has a centre close by
    assert sizes.sum() == 60


def test_codebooks_start_on_the_latents():
    torch.manual_seed(0)
    codec = Codec(TINY)
    wave = crops(twice(tones()), 32, 1600, np.random.default_rng(0))[0]
    before = codec.encode(wave)
    latents = codec.latents(wave)

    def error() -> float:
        with torch.no_grad():
            return (
                (codec.quantizer.vq.decode(codec.encode(wave).transpose(0, 1)) - latents)
                .square()
                .mean()
                .item()
            )

    far = error()
    start_codebooks(codec, wave)
    assert error() < 0.2 * far
    assert (
        len(codec.encode(wave)[:, 0].unique()) > 2 * len(before[:, 0].unique())
        or len(before[:, 0].unique()) > 8
    )


def test_a_dead_entry_comes_back_and_stays():
    """encodec's own expiry fails this: the next moving average puts the entry back where it was."""
    torch.manual_seed(0)
    codec, wave = Codec(TINY).train(), crops(twice(tones()), 32, 1600, np.random.default_rng(0))[0]
    start_codebooks(codec, wave)
    books = [layer._codebook for layer in codec.quantizer.vq.layers]
    far = torch.full((TINY.dimension,), 99.0)
    for book in books:  # an entry no latent will ever be near, as one that has been left behind
        book.embed[3], book.embed_avg[3], book.cluster_size[3] = far, far * 1e-3, 1e-3
    usage = torch.full((2, TINY.codebook_size), 50.0)
    usage[:, 3] = 0
    before = [book.embed.clone() for book in books]
    assert revive(codec, wave, usage) == 2
    alive = torch.arange(TINY.codebook_size) != 3
    for book, old in zip(books, before, strict=True):
        assert torch.equal(book.embed[alive], old[alive])  # the others stay where they are
        assert book.embed[3].abs().max() < 50
    _, codes, _ = codec(wave)  # a training pass, with its moving averages
    for book in books:
        assert book.embed[3].abs().max() < 50, "the moving average took the entry back"
    assert (codes[:, 0] == 3).any(), "an entry that lies on a latent is used again"


def test_perplexity_counts_the_entries_in_use():
    usage = torch.zeros(2, 8)
    usage[0, :4], usage[1] = 5, 7
    assert perplexity(usage) == pytest.approx((4 + 8) / 2)
    assert perplexity(torch.tensor([[9.0, 0.0, 0.0]])) == pytest.approx(1)


@given(SEEDS, st.sampled_from([8000, 24000]))
def test_the_distance_is_zero_for_equal_waves_alone_and_grows_with_the_error(seed, rate):
    generator = torch.Generator().manual_seed(seed)
    wave, error = (0.3 * torch.randn(2, 2048, generator=generator) for _ in range(2))
    distance = SpectralDistance(rate)
    assert distance(wave, wave) == 0
    steps = [distance(wave + gain * error, wave).item() for gain in (0.01, 0.1, 1.0)]
    assert 0 < steps[0] < steps[1] < steps[2]
    assert distance(-wave, wave) < 1e-5  # phase is not heard


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 40), SEEDS)
def test_crops_are_pieces_of_the_waves_in_silence(lengths, samples, seed):
    waves = [np.arange(1, n + 1, dtype=np.float32) + 100 * i for i, n in enumerate(lengths)]
    pairs = [(wave, 3 * wave) for wave in waves]
    pieces = crops(pairs, 6, samples, np.random.default_rng(seed)).numpy()  # (2, 6, samples)
    assert np.allclose(pieces[1], 3 * pieces[0])  # heard and meant: one place, one gain
    for row in pieces[0]:
        heard = row[row != 0]
        assert len(heard) in {min(n, samples) for n in lengths}
        gain = next(  # the gain that makes it a run of one of the waves
            (g for w in waves for v in w if 0.69 < (g := heard[0] / v) < 1.31 and is_run(heard / g, waves)),
            None,
        )
        assert gain is not None
        places = np.flatnonzero(row)
        assert places[-1] - places[0] + 1 == len(heard)


def is_run(piece: np.ndarray, waves: list[np.ndarray]) -> bool:
    first = round(float(piece[0]))
    wave = waves[first // 100] if first // 100 < len(waves) else np.zeros(0)
    run = np.arange(first, first + len(piece))
    return bool(np.allclose(piece, run, rtol=1e-4)) and set(run) <= set(wave.astype(int))


def test_the_corpus_holds_training_voices_and_sounds_but_no_others():
    spoken, real_say = [], synthesis.say

    def say(text, voice, rate, pitch):
        spoken.append((voice, rate, pitch))
        assert text
        assert text == text.lower()
        return real_say(text, voice, rate, pitch)

    with patch.object(synthesis, "say", say):
        pairs = draw_corpus(300, seed=3)
    heard = {voice for voice, _, _ in spoken}
    assert heard <= set(lexicon.USER) | set(lexicon.REPLY)
    assert set(lexicon.REPLY) <= heard
    assert not heard & (set(lexicon.UNSEEN) | set(lexicon.REFEREE))
    replies = sum(voice in lexicon.REPLY for voice, _, _ in spoken) / len(spoken)
    assert 0.25 < replies < 0.45
    assert 10 < 300 - len(spoken) < 55
    assert all(120 <= rate <= 230 and 30 <= pitch <= 75 for _, rate, pitch in spoken)
    for pair in pairs:
        assert all(w.dtype == np.float32 and np.abs(w).max() <= 1 and w.ndim == 1 for w in pair)
        assert len(pair[0]) == len(pair[1])
    noisy = [pair for pair in pairs if not np.array_equal(*pair)]
    assert 60 < len(noisy) < 120  # half of the users' voices
    assert all(np.abs(np.fft.rfft(heard)).min() > 0 for heard, _ in noisy)
    first = list(spoken)
    with patch.object(synthesis, "say", say):
        draw_corpus(300, seed=3)
    assert spoken[len(first) :] == first  # the draws repeat; the synthesiser's own noise need not


def test_a_folder_of_recordings_is_a_corpus(tmp_path):
    with pytest.raises(MinitttError, match="no recordings"):
        read_corpus(tmp_path, 8000)
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "a.flac", tones()[0], 16000)
    soundfile.write(tmp_path / "b.WAV", tones()[1], 8000)
    (tmp_path / "notes.txt").write_text("not a recording", encoding="utf-8")
    pairs = read_corpus(tmp_path, 8000)
    assert sorted(len(heard) for heard, _ in pairs) == [2000, 4000]
    assert all(np.array_equal(heard, meant) for heard, meant in pairs)


def test_noise_that_is_not_meant_is_left_out(tmp_path):
    """Trained on noisy renditions of clean tones, a codec says them cleaner than it heard them."""
    rng = np.random.default_rng(0)
    pairs = [(synthesis.vary(wave, rng), wave) for wave in tones()]
    heard = [(wave + 0.05 * rng.normal(size=len(wave))).astype(np.float32) for wave, _ in pairs]
    pairs = [(noisy, wave) for noisy, (_, wave) in zip(heard, pairs, strict=True)]
    codec = train_codec(pairs, settings(max_steps=400), tmp_path / "codec.safetensors")
    said = codec.decode(codec.encode(torch.from_numpy(np.stack(heard))))
    distance = SpectralDistance(8000)
    meant = torch.from_numpy(np.stack([wave for _, wave in pairs]))
    untaught = train_codec(twice(heard), settings(max_steps=400), tmp_path / "other.safetensors")
    copied = untaught.decode(untaught.encode(torch.from_numpy(np.stack(heard))))
    assert distance(said, meant) < distance(copied, meant)


def weights(codec: Codec) -> list[torch.Tensor]:
    return [value for _, value in sorted(codec.state_dict().items())]


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    """Killed after 25 of 50 steps, at a state: the rest draws the same crops, moves the same entries, ends the same."""
    plan = settings(max_steps=50, unquantised_steps=10, minutes=1e5)  # so long that the clock decides nothing
    whole = train_codec(twice(tones()), plan, tmp_path / "whole.safetensors")

    class Killed(Exception):
        pass

    class Interrupted(codec_training._Trainer):
        def learn(self, progress):
            if self.step == 25:
                self.save(codec_training.state_path(out), 1.0)
                raise Killed
            super().learn(progress)

    out = tmp_path / "parts.safetensors"
    with patch.object(codec_training, "_Trainer", Interrupted), pytest.raises(Killed):
        train_codec(twice(tones()), plan, out)
    torch.manual_seed(123)  # whatever happens in between
    resumed = train_codec(twice(tones()), plan, out, resume=True)
    for ours, theirs in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(ours, theirs)
    assert not codec_training.state_path(out).exists()


def test_a_state_of_other_settings_or_none_is_not_resumed(tmp_path):
    out = tmp_path / "codec.safetensors"
    with pytest.raises(MinitttError, match="no unfinished training here to resume"):
        train_codec(twice(tones()), settings(), out, resume=True)
    codec_training._Trainer(twice(tones()), settings(seed=1)).save(codec_training.state_path(out), 0.0)
    with pytest.raises(MinitttError, match="started with seed 1, not 2"):
        train_codec(twice(tones()), settings(seed=2), out, resume=True)


def test_a_training_can_start_from_another_codec(tmp_path):
    """Its codebooks stay where they are: no k-means, no unquantised steps."""
    first = train_codec(twice(tones()), settings(max_steps=120), tmp_path / "first.safetensors")
    trainer = codec_training._Trainer(twice(tones()), settings(), start=first)
    for ours, theirs in zip(weights(trainer.codec), weights(first), strict=True):
        assert torch.equal(ours, theirs)
    with patch.object(codec_training, "start_codebooks") as placed:
        second = train_codec(
            twice(tones()), settings(max_steps=60), tmp_path / "second.safetensors", start=first
        )
    assert not placed.called
    assert second.fingerprint() != first.fingerprint()


def test_a_codec_that_listens_hears_rooms_and_aims_at_clean_voices():
    """A quarter are reply voices as they are; all others come through a room, at the front end's level."""
    pairs = draw_listening_corpus(40, Users(), seed=5)
    assert len(pairs) == 40
    same = [np.array_equal(heard, target) for heard, target in pairs]
    assert 4 <= sum(same) <= 18
    for (heard, target), is_reply in zip(pairs, same, strict=True):
        assert len(heard) == len(target)
        if not is_reply:
            level = front_end.loudest(front_end.decibels(heard, 8000))
            assert level == pytest.approx(20 * np.log10(front_end.LEVEL), abs=0.5)
    again = draw_listening_corpus(40, Users(), seed=5)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(pairs, again, strict=True))
