"""Refusals: pieces of recordings, by kind, and what counts as refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from minittt.errors import MinitttError
from minittt.evaluation.refusals import (
    LONGEST,
    QUIETEST,
    SHORTEST,
    draw_pieces,
    hear_foreign,
    pieces_of,
    refused,
)
from minittt.talker import Reply

RATE = 1000  # Hz; nothing here listens


@given(st.integers(0, 1000), st.floats(0, 20), st.integers(0, 8))
def test_pieces_follow_one_another_and_are_as_long_as_questions(seed, seconds, most):
    wave = np.linspace(0.5, 1, round(seconds * RATE), dtype=np.float32)  # every sample is another
    pieces = pieces_of(wave, RATE, np.random.default_rng(seed), most)
    assert len(pieces) <= most
    assert all(SHORTEST * RATE <= len(piece) <= LONGEST * RATE + 1 for piece in pieces)
    if pieces:
        joined = np.concatenate(pieces)
        np.testing.assert_array_equal(joined, wave[: len(joined)])
    if seconds >= LONGEST and most:
        assert pieces


def test_silence_is_no_piece():
    wave = np.full(20 * RATE, QUIETEST / 2, np.float32)
    assert pieces_of(wave, RATE, np.random.default_rng(0), 5) == []


def test_a_reply_is_a_refusal_word_for_word():
    assert refused("i did not understand") and refused("I did not understand.")
    assert not refused("i did not") and not refused("two") and not refused("")


@pytest.fixture
def kinds(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("music", "noise"):
        (tmp_path / kind / "deep").mkdir(parents=True)
        for i in range(3):
            wave = rng.uniform(-0.5, 0.5, 9 * RATE)
            soundfile.write(tmp_path / kind / "deep" / f"{i}.wav", wave, RATE)
    return tmp_path


def test_as_many_files_as_possible_are_heard(kinds):
    pieces = draw_pieces(kinds / "music", RATE, 5, 0)
    assert len(pieces) == 5
    again = draw_pieces(kinds / "music", RATE, 5, 0)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    with pytest.raises(MinitttError, match="holds no recordings"):
        draw_pieces(kinds / "music" / "deep" / "nothing", RATE, 5, 0)


def test_the_share_refused_is_counted_for_each_kind(kinds):
    class Talker:
        """Refuses what it is to answer, and hears two in all else."""

        def listen(self, codec, wave):
            return [0]

        def converse(self, prompts, settings):
            return [
                Reply(text="i did not understand" if instruction == "answer" else "two")
                for [[_, instruction], _] in prompts
            ]

    codec = SimpleNamespace(config=SimpleNamespace(sample_rate=RATE))
    scores = hear_foreign(Talker(), codec, kinds, 4)
    assert [(s.name, s.value, s.items) for s in scores] == [
        ("music: refused", 1, 4),
        ("music: refused as a dictation", 0, 4),
        ("noise: refused", 1, 4),
        ("noise: refused as a dictation", 0, 4),
    ]
    with pytest.raises(MinitttError, match="a folder of recordings for each kind"):
        hear_foreign(Talker(), codec, kinds / "music" / "deep")
