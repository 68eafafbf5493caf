"""The referee's laws: what CTC means, that a batch changes nothing, that the shipped one hears and tells."""

import json
from itertools import groupby
from pathlib import Path
from zlib import crc32

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from minittt.errors import MinitttError
from minittt.evaluation import referee as module
from minittt.evaluation import referee_sounds, referee_training
from minittt.evaluation.referee import Referee, RefereeConfig, TwoWayGRU, collapse, loud_windows
from minittt.settings import RefereeSettings
from minittt.world import lexicon
from minittt.world.lexicon import ALL_WORDS, REFEREE, REPLY, UNSEEN, USER, WORDS
from minittt.world.users import Utterance

SHIPPED = Path(__file__).parents[2] / "data_samples"
SMALL = RefereeConfig(width=16, voice_width=16)
seeds = st.integers(0, 2**31 - 1)


def small_referee(seed: int) -> Referee:
    torch.manual_seed(seed)
    return Referee(SMALL)


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n) * 0.1


@pytest.fixture(scope="module")
def shipped() -> Referee:
    if not (SHIPPED / "referee.safetensors").is_file():
        pytest.skip("data_samples/referee.safetensors is not there")
    return Referee.load(SHIPPED / "referee.safetensors")


@pytest.fixture(scope="module")
def sounds():
    pytest.importorskip("espeakng_loader")
    return referee_sounds


# --- CTC


@given(st.lists(st.integers(1, 3), max_size=6), st.data())
def test_law_01_every_path_of_a_word_string_collapses_to_it(words, data):
    """A path spells each word in one or more frames, among any blanks, one at least between equal words."""
    path = [0] * data.draw(st.integers(0, 2))
    for before, word in zip([None, *words], words, strict=False):
        path += [0] * data.draw(st.integers(1 if word == before else 0, 2))
        path += [word] * data.draw(st.integers(1, 3))
    path += [0] * data.draw(st.integers(0, 2))
    assert collapse(path) == words


@given(st.lists(st.integers(0, 3), max_size=12))
def test_law_02_collapse_merges_first_and_drops_blanks_after(path):
    assert collapse(path) == [c for c, _ in groupby(path) if c != 0]


def test_law_03_greedy_decoding_reads_the_likeliest_path():
    """With a network that puts all weight on a given path, `transcribe` returns the words of that path."""
    referee = small_referee(0)
    path = torch.tensor([[0, 3, 3, 0, 3, 1, 2]])
    logits = nn.functional.one_hot(path, 1 + len(WORDS)).float()
    referee._logits = lambda waves: (logits, torch.tensor([6]))  # the last frame is padding: no word
    assert referee.transcribe([noise(800, 0)]) == [f"{WORDS[2]} {WORDS[2]} {WORDS[0]}"]


# --- a batch changes nothing, nor does gain


@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_law_04_two_way_gru_equals_torchs_own_on_packed_rows(seed, lengths):
    torch.manual_seed(seed)
    ours = TwoWayGRU(3, 5).double()
    theirs = nn.GRU(3, 5, batch_first=True, bidirectional=True).double()
    weights = {**ours.ahead.state_dict(), **{f"{k}_reverse": v for k, v in ours.back.state_dict().items()}}
    theirs.load_state_dict(weights)
    lengths = torch.tensor(lengths)
    rows = torch.randn(len(lengths), int(lengths.max()), 3, dtype=torch.float64)
    packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    heard = ours(rows, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(heard[row, :length], expected[row, :length], rtol=1e-12, atol=1e-12)


@given(seeds, st.lists(st.integers(1, 4000), min_size=2, max_size=4))
def test_law_05_batched_logits_equal_those_one_by_one(seed, lengths):
    referee = small_referee(seed)
    referee.recogniser.double()
    waves = [noise(n, seed + i) for i, n in enumerate(lengths)]
    with torch.no_grad():
        logits, frames = referee._logits(waves)
        for i, wave in enumerate(waves):
            alone, count = referee._logits([wave])
            assert count[0] == frames[i] == alone.shape[1]
            torch.testing.assert_close(logits[i, : frames[i]], alone[0], rtol=1e-10, atol=1e-10)


@given(seeds, st.permutations(range(5)))
def test_law_06_texts_keep_the_order_of_the_waves(seed, order):
    referee = small_referee(seed)
    waves = [noise(400 + 700 * i, seed + i) for i in order]
    assert referee.transcribe(waves, batch=2) == [referee.transcribe([wave])[0] for wave in waves]


@given(seeds, st.floats(-40, 10))
def test_law_07_gain_does_not_matter(seed, decibels):
    referee = small_referee(seed)
    referee.recogniser.double()
    referee.judge.double()
    wave, gain = noise(3000, seed), 10 ** (decibels / 20)
    with torch.no_grad():
        torch.testing.assert_close(
            referee._logits([wave])[0], referee._logits([wave * gain])[0], rtol=1e-9, atol=1e-9
        )
    assert len(loud_windows(wave, 1600, 320)) == len(loud_windows(wave * gain, 1600, 320))


# --- the ear


def test_law_08_bands_are_means_over_ever_higher_bins():
    referee = small_referee(0)
    for ear in (referee.recogniser.mel, referee.judge.mel):
        filters = ear.filters  # (F, bands)
        assert (filters >= 0).all()
        torch.testing.assert_close(filters.sum(0), torch.ones(filters.shape[1]))
        centres = (filters * torch.arange(len(filters))[:, None]).sum(0)
        assert (centres.diff() > 0).all()


def test_law_09_white_noise_at_level_one_has_power_one_in_every_band():
    referee = small_referee(0)
    wave = torch.tensor(np.random.default_rng(0).normal(size=(1, 400_000)), dtype=torch.float32)
    for ear in (referee.recogniser.mel, referee.judge.mel):
        power = ear(wave)[0, 4:-4].mean(0)
        assert ear(wave).shape[1] == 1 + wave.shape[1] // ear.hop
        torch.testing.assert_close(power, torch.ones_like(power), rtol=0.08, atol=0)


@given(seeds, st.integers(0, 5000), st.sampled_from([(1600, 320), (500, 100), (7, 3)]))
def test_law_10_judged_windows_are_the_loud_ones(seed, n, shape):
    window, hop = shape
    rng = np.random.default_rng(seed)
    wave = (
        rng.normal(size=n) * np.repeat(rng.choice([0.001, 0.02, 0.1, 0.3], n // 500 + 1), 500)[:n]
    ).astype("f4")
    padded = np.pad(wave, (0, max(0, window - n)))
    cut = [padded[s : s + window] for s in range(0, len(padded) - window + 1, hop)]
    levels = [np.sqrt(np.mean(piece.astype("f8") ** 2)) for piece in cut]
    clear = [abs(level - 0.25 * max(levels)) > 1e-6 for level in levels]
    loud = [
        piece
        for piece, level in zip(cut, levels, strict=True)
        if level >= 0.25 * max(levels) and level > 1e-4
    ]
    if all(clear):  # a level on the very edge may fall either way
        found = loud_windows(wave, window, hop).numpy()
        assert len(found) == len(loud) and all((a == b).all() for a, b in zip(found, loud, strict=True))


@given(st.lists(st.integers(0, 3), max_size=12))
def test_law_11_coherence_is_the_share_of_the_commonest_voice(windows):
    referee = small_referee(0)
    referee.window_voices = lambda wave: np.array(windows, dtype=np.int64)
    counts = [windows.count(voice) for voice in range(4)]
    assert referee.voice_coherence(None) == (max(counts) / len(windows) if windows else 0.0)
    assert referee.voice_of(None) == (counts.index(max(counts)) if windows else -1)


def test_law_12_silence_says_nothing_and_nonsense_is_refused():
    referee = small_referee(0)
    for wave in (np.zeros(0), np.zeros(4000)):
        assert referee.transcribe([wave]) == [""]
        assert (referee.voice_of(wave), referee.voice_coherence(wave)) == (-1, 0.0)
    assert referee.transcribe([]) == []
    for wave in (np.zeros((2, 800)), np.full(800, np.nan)):
        with pytest.raises(MinitttError, match="wave 1"):
            referee.transcribe([np.zeros(10), wave])


# --- files


def test_law_13_a_saved_referee_comes_back(tmp_path):
    referee, wave = small_referee(1), noise(4000, 1)
    referee.save(tmp_path / "r.safetensors")
    again = Referee.load(tmp_path / "r.safetensors")
    assert again.config == SMALL and not again.recogniser.training and not again.judge.training
    for name, value in referee.recogniser.state_dict().items():
        assert torch.equal(again.recogniser.state_dict()[name], value.half().float())
    with torch.no_grad():
        torch.testing.assert_close(again._logits([wave])[0], referee._logits([wave])[0], rtol=0.02, atol=0.02)
    assert [p.name for p in tmp_path.iterdir()] == ["r.safetensors"]


def test_law_14_a_foreign_file_is_named(tmp_path):
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "other", {"format": "minittt talker"})
    header = {"format": module.FORMAT, "config": json.dumps({"width": 3})}
    save_file({"a": torch.zeros(1)}, tmp_path / "unfit", header)
    for name in ("missing", "text", "other", "unfit"):
        with pytest.raises(MinitttError, match=name):
            Referee.load(tmp_path / name)


# --- what it learns from


def test_law_15_the_referees_voices_are_its_own():
    assert not set(REFEREE) & {*USER, *UNSEEN, *REPLY} and RefereeConfig().voices == REPLY


@given(seeds, st.integers(1, 5), st.integers(1, 4), st.integers(1, 30))
def test_law_16_a_spliced_row_keeps_one_voice_within_a_block(seed, voices, block, n):
    rows = np.arange(voices)[:, None] * 100 + np.arange(n)
    mixed = referee_sounds.splice(rows, block, np.random.default_rng(seed))
    assert (mixed % 100 == np.arange(n)).all()
    assert all(len(set(mixed[s : s + block] // 100)) == 1 for s in range(0, n, block))


def test_law_17_training_is_repeatable_and_logged(tmp_path, monkeypatch):
    def say(text, voice, *how):  # espeak-ng itself never says a thing the same way twice
        return noise(400 * len(text), crc32(f"{text} {voice} {how}".encode())).astype(np.float32)

    monkeypatch.setattr(referee_sounds, "say", say)
    monkeypatch.setattr(referee_training, "say", say)
    sizes = {
        "utterances": 8,
        "steps": 2,
        "batch": 4,
        "voice_sentences": 2,
        "voice_steps": 2,
        "voice_batch": 8,
    }
    settings = referee_training.RefereeSettings(**sizes, test_utterances=4)
    for name in ("a", "b"):
        referee_training.train_referee(settings, tmp_path / name, tmp_path / f"{name}.jsonl")
    # the judge does not depend on who trained the recogniser
    referee_training.train_referee(settings, tmp_path / "c", tmp_path / "c.jsonl", keep=tmp_path / "a")
    first, *others = (load_file(tmp_path / name) for name in "abc")
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["settings"]["utterances"] == 8
    assert [line["part"] for line in lines[1:]] == [
        "Recogniser",
        "VoiceJudge",
        *["words"] * 2,
        *["voices"] * 4,
    ]


# --- the shipped referee


@pytest.mark.parametrize("voices", [UNSEEN, REPLY], ids=["unseen", "reply"])
def test_law_18_shipped_referee_hears_voices_it_never_heard(shipped, sounds, voices):
    rng = np.random.default_rng(7)
    texts = [lexicon.draw_sentence(rng) for _ in range(70)]
    waves = [sounds.say(t, voices[i % len(voices)], int(rng.integers(150, 201))) for i, t in enumerate(texts)]
    assert jiwer.wer(texts, shipped.transcribe(waves)) < 0.03


def test_law_19_shipped_referee_tells_one_voice_from_a_mixture(shipped, sounds):
    rng = np.random.default_rng(8)
    groups = [sounds.replies(rng) for _ in range(12)]
    real = np.mean([shipped.voice_coherence(wave) for rows in groups for wave in rows])
    named = np.mean([shipped.voice_of(wave) == voice for rows in groups for voice, wave in enumerate(rows)])
    mixed = [
        np.mean([shipped.voice_coherence(sounds.splice(rows, 320 * k, rng)) for rows in groups for _ in rows])
        for k in (1, 8, 16)
    ]
    assert real > 0.93 and named > 0.97
    assert mixed[0] < 0.65 and mixed[1] < 0.72 and mixed[2] < 0.8


def test_law_20_shipped_file_is_small_and_tells_how_it_was_made(shipped):
    assert (SHIPPED / "referee.safetensors").stat().st_size < 3_000_000
    first = json.loads((SHIPPED / "logs" / "referee.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert "settings" in first and shipped.config.words == WORDS and shipped.config.voices == REPLY


# ---- other makes and people


class FewUsers:
    """Users of one utterance, who are easily told."""

    def __init__(self) -> None:
        self.asked = 0

    def draw(self, rng):
        self.asked += 1
        tone = np.sin(np.arange(4000) * 0.3).astype(np.float32)
        return Utterance(tone, "how much is two plus two", "ann")


def test_half_of_what_a_recogniser_hears_is_by_other_users(sounds):
    users = FewUsers()
    settings = RefereeSettings(utterances=60, batch=20)
    batches = referee_training.recogniser_batches(settings, np.random.default_rng(0), users)
    texts = [text for _ in range(3) for text in next(batches)[1]]
    by_users = texts.count("how much is two plus two")
    assert 18 <= users.asked <= 42
    assert by_users == users.asked
    assert {word for text in texts for word in text.split()} <= set(ALL_WORDS)


def test_every_word_that_is_said_can_be_heard():
    assert set(lexicon.NOT_UNDERSTOOD.split()) <= set(ALL_WORDS)
    assert len(set(ALL_WORDS)) == len(ALL_WORDS)
    assert ALL_WORDS[: len(WORDS)] == WORDS  # older referees keep their classes
    for fact in lexicon.SUMS:
        for text in (*lexicon.ways_to_ask(*fact), lexicon.equation(*fact)):
            assert set(text.split()) <= set(ALL_WORDS)
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert set(referee_sounds.draw_text(rng).split()) <= set(ALL_WORDS)
