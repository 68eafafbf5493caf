"""Replies of known quality score as they should."""

import copy
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec
from minittt.data.conversation import reply_text
from minittt.data.corpus import load_corpus
from minittt.decoding import DenoisingStep
from minittt.evaluation.evaluate import (
    SUBJECT,
    Answers,
    Evaluation,
    ask,
    codes_of_reply,
    family,
    in_turn,
    redrawn,
    trained_with,
    true_spans,
    words_of_reply,
)
from minittt.evaluation.likelihood import estimator, reply_nats
from minittt.evaluation.referee import Referee
from minittt.talker import Reply, Talker, decoding_settings
from tests.app.test_cli import SAMPLES


@pytest.fixture(scope="module")
def evaluation():
    corpus, codec = load_corpus(SAMPLES / "corpus"), Codec.load(SAMPLES / "codec.safetensors")
    talker, referee = (
        Talker.load(SAMPLES / "talker.safetensors"),
        Referee.load(SAMPLES / "referee.safetensors"),
    )
    return Evaluation(talker, corpus, codec, referee, "voices", decoding_settings())


def test_voices_that_the_referee_never_heard_are_named(evaluation):
    assert evaluation.strange_voices() == []
    one = copy.copy(evaluation)
    one.corpus = copy.deepcopy(evaluation.corpus)
    [number, *_] = true_spans(next(r for r in one.corpus.split("voices") if r["family"] == "tts"))
    one.corpus.utterances[number]["voice"] = "ann"
    assert one.strange_voices() == ["ann"]


def test_true_replies_score_as_true_and_swapped_ones_do_not(evaluation):
    """The measures against answers whose quality is known: the true tokens, and another record's tokens."""
    corpus = evaluation.corpus
    records = family(corpus, "voices", "tts", 30)
    spans = [[corpus.audio(n).tolist() for n in true_spans(r)] for r in records]
    step = DenoisingStep(0, 0, 0, 0, (), (), ())
    truth = [
        Reply(text=reply_text(r), spans=s, events=[step] * (sum(map(len, s)) + len(s)))
        for r, s in zip(records, spans, strict=True)
    ]
    evaluation.scores = []
    evaluation._speech("true", list(zip(records, truth, strict=True)))
    evaluation._speech("swapped", list(zip(records, truth[1:] + truth[:1], strict=True)))
    scores = {score.name: score for score in evaluation.scores}
    assert scores["true: length against true"].value == 1
    assert scores["true: words recognised"].value > 0.85
    assert scores["swapped: words recognised"].value < 0.6
    assert scores["true: voice coherence"].value > 0.9
    assert "true tokens" in scores["true: words recognised"].note
    assert scores["true: denoising steps per audio token"].value == 1


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


@given(st.integers(0, 1000), st.integers(1, 9))
def test_redrawn_spans_keep_every_length_and_place(seed, every):
    rng = random.Random(seed)
    replies = [[[100 * n + i for i in range(rng.randint(1, 20))] for n in range(3)] for _ in range(3)]
    donors = [span for reply in replies for span in reply]
    seeds = [seed, seed + 1, seed + 2]
    mixed = redrawn(replies, every, donors, seeds)
    assert [[len(s) for s in r] for r in mixed] == [[len(s) for s in r] for r in replies]
    for span in (span for reply in mixed for span in reply):
        assert [code % 100 for code in span] == list(range(len(span)))
        assert all(
            len({code // 100 for code in span[at : at + every]}) == 1 for at in range(0, len(span), every)
        )
    assert redrawn(replies[:1], every, donors, seeds[:1]) == mixed[:1]  # a limit changes nothing
    every_one = redrawn(replies, 1, donors, seeds)
    assert any(len({code // 100 for code in span}) > 1 for reply in every_one for span in reply)


def test_records_in_turn_are_of_all_families_and_always_the_same():
    records = [{"family": f, "n": n} for f in "aab" for n in range(10)]
    some = in_turn(records, 6)
    assert some == in_turn(records, 6)
    assert some == in_turn(records, 20)[:6]
    assert Counter(record["family"] for record in some) == {"a": 3, "b": 3}
    assert len(in_turn(records, None)) == 30


def test_a_reply_depends_on_its_record_alone(evaluation):
    """Not on a limit, the order of the records, or how many share a batch; and `seed` is used."""
    talker, corpus = evaluation.talker, evaluation.corpus
    records = family(corpus, "voices", "qa", 9)
    settings = decoding_settings(8, 4)
    together = [reply.ids for reply in ask(talker, corpus, records, settings).replies]
    fewer = [reply.ids for reply in ask(talker, corpus, records[:4], settings).replies]
    backwards = [reply.ids for reply in ask(talker, corpus, records[::-1], settings, rows=2).replies]
    assert fewer == together[:4]
    assert backwards[::-1] == together
    other = [reply.ids for reply in ask(talker, corpus, records, settings, seed=1).replies]
    assert other != together


def test_the_nats_of_a_record_depend_on_it_alone(evaluation):
    corpus = evaluation.corpus
    records = in_turn(corpus.split("voices"), 6)
    p = estimator(trained_with(evaluation.talker), 8)
    model = evaluation.talker.model
    together = reply_nats(model, corpus, records, p, draws=2)
    backwards = reply_nats(model, corpus, records[::-1], p, draws=2)
    assert backwards.audio[::-1] == together.audio
    assert backwards.text[::-1] == together.text
    assert reply_nats(model, corpus, records, p, draws=2, seed=1).audio != together.audio


def test_two_evaluations_in_two_processes_write_the_same_bytes(tmp_path):
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file in files:
        command = [sys.executable, "-m", "minittt", "evaluate", "--split", "facts", "--limit", "2"]
        subprocess.run([*command, "--steps", "2", "--json", file], check=True, capture_output=True)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert all(np.isfinite(score["value"]) for score in json.loads(files[0].read_text(encoding="utf-8")))


# ---- other makes, refusals, and a judge from outside


def test_voices_of_other_makes_are_scored_one_by_one(evaluation, monkeypatch):
    records = family(evaluation.corpus, "voices", "asr", 4)
    utterances = list(evaluation.corpus.utterances)
    for record, voice in zip(records, ("flite rms", "pico en-GB", "flite rms", "en-us+m7"), strict=True):
        heard = record["messages"][1][1]
        utterances[heard] = {**utterances[heard], "voice": voice}
    monkeypatch.setattr(evaluation, "corpus", replace(evaluation.corpus, utterances=utterances))
    monkeypatch.setattr(evaluation, "scores", [])
    evaluation._by_make("errors", records, [1, 2, 3, 4], [10, 10, 30, 10])
    found = {score.name: (score.value, score.items) for score in evaluation.scores}
    assert found == {"errors, flite rms": (4 / 40, 2), "errors, pico en-GB": (2 / 10, 1)}


class Judge:
    """Hears every true token, and of replies nothing, the first of which drives it mad."""

    name = "nobody"

    def __init__(self, said):
        self.said = said
        self.told = []

    def transcribe(self, waves, rate, context):
        assert rate == 8000
        assert all(len(wave) > 0 for wave in waves)
        self.told.append(context)
        return ["no " * 50] + ["no"] * (len(waves) - 1) if len(self.told) % 2 == 1 else self.said.pop(0)


def test_a_judge_from_outside_compares_replies_with_true_tokens_in_pairs(evaluation, monkeypatch):
    monkeypatch.setattr(evaluation, "scores", [])
    records = family(evaluation.corpus, "voices", "tts", 3)
    said = [reply_text_of(evaluation, record) for record in records]
    questions = family(evaluation.corpus, "voices", "qa", 3)
    answered = [questions[0], questions[2]]  # the second answer is wrong, and nobody listens to it
    right = [True, False, True]
    monkeypatch.setattr(evaluation, "_right", lambda answers: right[: len(answers.records)])
    answers_said = [reply_text_of(evaluation, record) for record in answered]
    judge = Judge([answers_said, said])
    evaluation.outside(judge, 3)
    expected = []
    for name, texts in (("spoken answer", answers_said), ("TTS", said)):
        words = [len(text.split()) for text in texts]
        mad = (words[0] - 50) / sum(words)
        expected += [
            (f"{name}: words recognised by nobody", mad, len(texts), "1 with more errors than words"),
            (
                f"{name}, true tokens: words recognised by nobody",
                1,
                len(texts),
                "0 with more errors than words",
            ),
            (f"{name} minus true tokens, by nobody", mad - 1, len(texts), "in pairs"),
        ]
    assert [(score.name, score.value, score.items, score.note) for score in evaluation.scores] == expected
    # the judge is told the subject, alike for both, by sentences that it does not judge
    assert judge.told[0] == judge.told[1]
    told, told_again = judge.told[2:]
    assert told == told_again and len(told) == SUBJECT
    taught = {reply_text_of(evaluation, record) for record in family(evaluation.corpus, "train", "tts")}
    assert set(told) <= taught - set(said)
    assert not set(evaluation._sentences_on_the_subject(told)) & set(told)
    # a corpus that holds nothing but tests has no sentences to tell
    splits = {name: records for name, records in evaluation.corpus.splits.items() if name != "train"}
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "corpus", replace(evaluation.corpus, splits=splits))
        assert evaluation._sentences_on_the_subject(said) == []
    asked = evaluation._ask("tts", 3)
    assert evaluation._ask("tts", 3) is asked  # once, however often it is measured
    assert evaluation._ask("tts", 2) is not asked


def reply_text_of(evaluation, record):
    """What the audio of a record's reply says."""
    return " ".join(evaluation.corpus.utterances[n]["text"] for n in true_spans(record))


def test_the_true_reply_is_what_the_files_say(evaluation):
    corpus = evaluation.corpus
    for record in family(corpus, "voices", "tts", 20):
        numbers = [part for part in record["messages"][-1] if isinstance(part, int)]
        codes = [corpus.codes[corpus.offsets[n] : corpus.offsets[n + 1]].tolist() for n in numbers]
        assert codes_of_reply(corpus, record) == codes
        assert words_of_reply(corpus, record) == reply_text_of(evaluation, record)


def test_refusals_are_counted_where_they_were_taught(evaluation, monkeypatch):
    monkeypatch.setattr(evaluation, "scores", [])
    replies = [Reply(text=text) for text in ("i did not understand", "two", "I did not understand.", "")]
    monkeypatch.setattr(evaluation, "_ask", lambda name, limit: Answers([{}] * 4, replies))
    evaluation.foreign()
    assert evaluation.scores == []  # the shipped talker was taught no refusal
    monkeypatch.setattr(
        evaluation.talker, "info", {**evaluation.talker.info, "words": "did i not understand".split()}
    )
    evaluation.foreign()
    [score] = evaluation.scores
    assert (score.name, score.value) == ("never taught: refused", 0.5)
