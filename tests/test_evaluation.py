"""Scores mean what they say."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec
from minittt.conversation import reply_text
from minittt.corpus import load_corpus
from minittt.evaluation import (
    Answers,
    Evaluation,
    decoding_settings,
    family,
    normal,
    ratio,
    true_spans,
    word_errors,
)
from minittt.referee import Referee
from minittt.talker import Reply, Talker
from tests.test_cli import SAMPLES

WORDS = st.lists(st.sampled_from("one two three".split()), max_size=6)


@given(WORDS, WORDS)
def test_word_errors_are_the_edit_distance(said, heard):
    table = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        above, table[0] = table[:], i
        for j, b in enumerate(heard, 1):
            table[j] = min(above[j] + 1, table[j - 1] + 1, above[j - 1] + (a != b))
    assert word_errors(" ".join(said), " ".join(heard)) == (table[-1], len(said))


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_rate_lies_in_its_interval_and_certainty_has_none(right):
    score = ratio("x", right)
    assert math.isclose(score.value, sum(right) / len(right))
    assert score.low <= score.value <= score.high
    assert (score.low == score.high) == (len(set(right)) == 1)


def test_the_interval_narrows_with_items_and_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = widths = 0
    for _ in range(100):
        few, many = rng.random(50) < 0.8, rng.random(800) < 0.8
        small, large = ratio("", few), ratio("", many)
        covered += small.low <= 0.8 <= small.high
        widths += (large.high - large.low) < (small.high - small.low)
    assert covered > 85  # of 100, at a nominal 95 %
    assert widths == 100


def test_nothing_to_measure_gives_nan_not_a_crash():
    assert math.isnan(ratio("x", []).value)
    assert math.isnan(ratio("x", [1.0], [0.0]).value)


@pytest.fixture(scope="module")
def evaluation():
    corpus, codec = load_corpus(SAMPLES / "corpus"), Codec.load(SAMPLES / "codec.safetensors")
    talker, referee = (
        Talker.load(SAMPLES / "talker.safetensors"),
        Referee.load(SAMPLES / "referee.safetensors"),
    )
    return Evaluation(talker, corpus, codec, referee, "voices", decoding_settings())


def test_true_replies_score_as_true_and_swapped_ones_do_not(evaluation):
    """The measures against answers whose quality is known: the true tokens, and another record's tokens."""
    corpus = evaluation.corpus
    records = family(corpus, "voices", "tts", 30)
    spans = [[corpus.audio(n).tolist() for n in true_spans(r)] for r in records]
    truth = [Reply(text=reply_text(r), spans=s, nfe=10) for r, s in zip(records, spans, strict=True)]
    evaluation.scores = []
    evaluation._speech("true", Answers(records, truth))
    evaluation._speech("swapped", Answers(records, truth[1:] + truth[:1]))
    scores = {score.name: score for score in evaluation.scores}
    assert scores["true: length against true"].value == 1
    assert scores["true: words recognised"].value > 0.85
    assert scores["swapped: words recognised"].value < 0.6
    assert scores["true: voice coherence"].value > 0.9
    assert "true tokens" in scores["true: words recognised"].note


def test_a_spliced_reply_is_less_coherent(evaluation):
    corpus = evaluation.corpus
    by_voice = {}
    for record in family(corpus, "voices", "tts"):
        for n in true_spans(record):
            by_voice.setdefault(corpus.utterances[n]["voice"], []).append(corpus.audio(n).tolist())
    real = [spans[i] for spans in by_voice.values() for i in range(5)]
    mixed = [
        [
            code
            for at in range(0, 40, 8)
            for code in list(by_voice.values())[(at // 8 + i) % 4][i][at : at + 8]
        ]
        for i in range(10)
    ]
    judge = evaluation.referee.voice_coherence
    coherent, spliced = (np.mean([judge(w) for w in evaluation.waves(spans)]) for spans in (real, mixed))
    assert coherent > spliced + 0.2
    heard = Counter(evaluation.referee.voice_of(w) for w in evaluation.waves(real))
    assert len(heard) == 4


def test_text_is_compared_without_case_and_spacing():
    assert normal(" Two  PLUS two ") == "two plus two"
