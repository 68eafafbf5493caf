"""A conversation goes on whatever is said; what a turn sees of the one before is decided in one place."""

import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.app.chat import Conversation, chat, examples, microphone, parts_of
from minittt.app.cli import main
from minittt.codec import Codec
from minittt.data.conversation import render
from minittt.data.vocabulary import Vocabulary
from minittt.settings import TO_TALK, samples_folder, talker_file
from minittt.talker import Reply, Talker, decoding_settings
from tests.toy import ToyTokeniser

SAMPLES = samples_folder()
V = Vocabulary(7, 5)


class Toy:
    """What `parts_of` and `render` need of a talker or a corpus."""

    vocabulary = V
    tokeniser = ToyTokeniser()


PARTS = st.lists(
    st.one_of(
        st.lists(st.sampled_from("one two three four".split()), min_size=1, max_size=3).map(" ".join),
        st.lists(st.integers(0, 4), max_size=6),
    ),
    max_size=5,
)


@given(PARTS, st.integers(1, 8))
def test_a_reply_becomes_the_message_that_it_was(parts, block_size):
    """Text that follows text is one text; filler is no part."""
    joined = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(joined[-1], str):
            joined[-1] += " " + part
        else:
            joined.append(part)
    record = {"family": "qa", "messages": [["user", "one"], ["assistant", *joined]]}
    sequence = render(record, Toy(), block_size)
    start = sequence.ids.index(V.assistant) + 1
    assert parts_of(Reply(ids=sequence.ids[start:-1]), Toy()) == joined


class Listening:
    """A talker that notes what it is asked, and answers "two"."""

    vocabulary = V
    tokeniser = ToyTokeniser()
    words = None
    info = {"training": {"preset": "exact"}}

    def __init__(self):
        self.asked = []

    def converse(self, conversations, settings, seed):
        self.asked.append((conversations[0], seed))
        return [Reply(text="two", ids=[2, V.open, V.first_code + 3, V.eoa, V.eoa], spans=[[3]])]

    def listen(self, codec, wave):
        return [len(wave) % 5]


@pytest.fixture
def conversation():
    codec = Codec.load(SAMPLES / "codec.safetensors")
    return Conversation(Listening(), codec, decoding_settings(), seed=5)


def test_a_turn_stands_alone_unless_it_asks_for_the_one_before(conversation):
    for question in ("one", "two", "say again"):
        conversation.ask(question)
    first, second, third = (asked for asked, _ in conversation.talker.asked)
    assert first == [["system", "answer"], ["user", "one"]]
    assert second == [["system", "answer"], ["user", "two"]]
    assert third == [
        ["system", "answer"],
        ["user", "two"],
        ["assistant", "two", [3]],
        ["user", "say again"],
    ]


def test_where_it_remembers_each_turn_sees_the_one_before_and_draws_with_the_next_seed(conversation):
    conversation.remember = True
    for question in ("one", "two", "three"):
        conversation.ask(question)
    first, second, third = conversation.talker.asked
    answered = ["assistant", "two", [3]]
    assert first == ([["system", "answer"], ["user", "one"]], 5)
    assert second == ([["system", "answer"], ["user", "one"], answered, ["user", "two"]], 6)
    assert third == ([["system", "answer"], ["user", "two"], answered, ["user", "three"]], 7)


def test_what_cannot_be_understood_ends_nothing(conversation, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    lines = ["", "nowhere.wav", str(SAMPLES / "wav" / "question_1.wav"), "one\n", "quit", "never read"]
    chat(conversation, lines, tmp_path, lambda reply: reply.text, lambda reply: np.ones(800, np.float32) / 2)
    out = capsys.readouterr().out
    assert "minittt[microphone]" in out
    assert "nowhere.wav" in out
    assert len(conversation.turns) == 2
    assert isinstance(conversation.turns[0][0][1], list)  # heard
    assert conversation.turns[1][0] == ["user", "one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer_1.wav", "answer_2.wav"]


def test_a_microphone_is_used_where_there_is_one(monkeypatch):
    class Device:
        @staticmethod
        def rec(samples, rate, channels, dtype):
            return np.full((samples, channels), 0.25, dtype)

        @staticmethod
        def stop():
            pass

    monkeypatch.setitem(sys.modules, "sounddevice", Device)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    wave = microphone()(100)
    assert wave.shape == (800,)
    assert wave.max() == 0.25
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert microphone() is None


def test_examples_are_of_words_that_were_taught(capsys):
    taught = Talker.load(talker_file(TO_TALK)).words
    told = examples(taught)
    assert "what is two plus three" in told and "count from three to nine" in told
    assert "count" not in examples([word for word in taught if word != "count"])
    assert "does not say" in examples(None)
    assert main(["talk", "--examples"]) == 0
    assert capsys.readouterr().out.strip() == told


def test_the_command_answers_what_is_piped_into_it(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("what is two plus three\nsay again\n"))
    assert main(["chat", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "two plus three equals five" in out
    assert len(out.strip().splitlines()) == 2
