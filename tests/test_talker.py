"""A talker in one file: what is saved comes back, what is asked together is answered as if alone."""

import pytest
import torch

from minittt.app.cli import SAMPLES
from minittt.attention import TARGET
from minittt.codec import Codec
from minittt.data.corpus import load_corpus
from minittt.decoding import DenoisingStep, Settings, TextToken
from minittt.errors import MinitttError
from minittt.evaluation.referee import Referee
from minittt.talker import Declining, Reply, Talker
from minittt.unmasking import Sampling
from tests.fuzz.run import resident

SETTINGS = Settings(8, steps=4, text_sampling=Sampling(0.0), max_text=24, max_span=96)
ASKED = [
    [["system", "speak"], ["user", "two plus three equals five"]],
    [["system", "chat"], ["user", "what is two plus two"]],
    [["system", "speak"], ["user", "nine"]],
]


@pytest.fixture(scope="module")
def talker():
    return Talker.load(SAMPLES / "talker.safetensors")


@pytest.fixture(scope="module")
def codec():
    return Codec.load(SAMPLES / "codec.safetensors")


def test_replies_tell_how_they_were_made(talker):
    [reply] = talker.converse([ASKED[0]], SETTINGS)
    assert reply.reason == "end"
    assert len(reply.groups) == len(reply.kinds) == len(reply.prompt) + len(reply.ids)
    assert reply.groups == sorted(reply.groups)
    steps = sum(isinstance(e, DenoisingStep) for e in reply.events)
    tokens = sum(isinstance(e, TextToken) for e in reply.events)
    assert reply.nfe == steps + tokens
    first = talker.vocabulary.first_code
    codes = [
        i - first
        for i, kind in zip(reply.ids, reply.kinds[len(reply.prompt) :], strict=True)
        if kind == TARGET
    ]
    assert [c for c in codes if c < talker.vocabulary.codebook_size] == [
        c for span in reply.spans for c in span
    ]


def test_the_prompt_alone_decides_a_row(talker):
    """Greedy text; audio drawn by each row's own generator, so a row of a batch is compared with the same row alone."""
    together = talker.converse(ASKED, SETTINGS, seed=1)
    alone = talker.converse(ASKED[:1], SETTINGS, seed=1)
    assert together[0].text == alone[0].text
    assert len(together[0].spans) == len(alone[0].spans) == 1
    assert together[1].spans == [] or together[1].text


def test_a_saved_talker_comes_back(talker, tmp_path):
    talker.save(tmp_path / "t.safetensors", torch.float32)
    again = Talker.load(tmp_path / "t.safetensors")
    assert again.vocabulary == talker.vocabulary
    assert again.info == talker.info
    for name, tensor in talker.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    assert again.tokeniser.encode("two plus") == talker.tokeniser.encode("two plus")


def test_sound_skips_frames_that_are_none(talker, codec):
    assert len(talker.sound(codec, [1, 2, 3])) == 3 * codec.hop
    assert len(talker.sound(codec, [])) == codec.hop


def test_a_question_too_long_for_the_model_is_refused(talker):
    with pytest.raises(MinitttError, match="make it shorter"):
        talker.converse([[["system", "answer"], ["user", [0] * 600]]], SETTINGS)


def test_the_shipped_files_belong_together(talker, codec):
    corpus = load_corpus(SAMPLES / "corpus")
    talker.check_codec(codec)
    corpus.check_codec(codec)
    talker.check_corpus(corpus)
    Referee.load(SAMPLES / "referee.safetensors").check_codec(codec)
    assert talker.vocabulary.codebook_size == codec.config.codebook_size


def test_a_stream_alone_fills_in_the_whole_text(talker):
    [told] = talker.converse(ASKED[1:2], SETTINGS)
    reply = Reply()
    for _ in talker.stream(ASKED[1:2], SETTINGS, 0, [reply]):
        pass
    assert reply.text == told.text
    assert " " in reply.text  # of several pieces


def test_many_conversations_are_answered_in_bounded_batches_as_in_one(talker, monkeypatch):
    asked = ASKED * 2
    together = talker.converse(asked, SETTINGS, seed=3)
    monkeypatch.setattr("minittt.talker.ROWS", 2)
    sizes = []
    stream = talker.stream

    def watched(conversations, *others):
        sizes.append(len(conversations))
        return stream(conversations, *others)

    monkeypatch.setattr(talker, "stream", watched)
    apart = talker.converse(asked, SETTINGS, seed=3)
    assert sizes == [2, 2, 2]
    for number, (one, other) in enumerate(zip(together, apart, strict=True)):
        assert one.text == other.text
        assert {event.row for event in other.events} == {number}


@pytest.mark.slow
def test_two_thousand_talks_in_one_process_leave_nothing_behind(talker, codec):
    """Memory stays flat, and the last reply to a question is the first."""
    settings = Settings(16, steps=2, text_sampling=Sampling(0.0), max_text=24, max_span=96)
    first = {}
    held = []
    for number in range(2000):
        asked = number % len(ASKED)
        [reply] = talker.converse([ASKED[asked]], settings, seed=asked)
        waves = [talker.sound(codec, span).tobytes() for span in reply.spans]
        assert first.setdefault(asked, (reply.text, reply.ids, waves)) == (reply.text, reply.ids, waves)
        if number in (200, 1999):
            held.append(resident())
    assert held[1] - held[0] < 20  # MiB


# ---- declining


HEARD = [["system", "answer"], ["user", [5, 17, 300, 2]]]
# words that the shipped talker knows; no reply is so sure
DECLINES = {"below": 1.0, "text": "two plus two", "instruction": "answer"}


@pytest.fixture
def unsure(talker):
    """The talker, declining whatever it hears."""
    return Talker(talker.model, talker.vocabulary, talker.tokeniser, {**talker.info, "declines": DECLINES})


def test_who_is_too_unsure_says_so_and_tells_the_guess_apart(talker, unsure):
    [guessed] = talker.converse([HEARD], SETTINGS, seed=3)
    [declined] = unsure.converse([HEARD], SETTINGS, seed=3)
    assert declined.text.startswith(DECLINES["text"])  # this talker was not taught to end there
    assert (
        declined.guess == guessed.text[: len(declined.guess)]
    )  # what follows the first sound is not waited for
    assert declined.opening_certainty == guessed.opening_certainty == declined.certainty
    # What was held back is in no event, and what was said is laid out as any reply is.
    said = [event.id for event in declined.events if isinstance(event, TextToken)]
    begun = talker.tokeniser.encode(DECLINES["text"])
    assert said[: len(begun)] == declined.ids[: len(begun)] == begun
    assert len(declined.groups) == len(declined.kinds) == len(declined.prompt) + len(declined.ids)
    assert declined.groups == sorted(declined.groups)
    n = len(declined.prompt)
    assert declined.groups[n : n + len(begun)] == [declined.groups[n - 1] + 1 + i for i in range(len(begun))]


def test_only_a_listener_declines_and_only_where_it_is_unsure(talker, unsure):
    typed = [
        ["system", "answer"],
        ["user", "what is two plus two"],
    ]  # the instruction, but nothing to mishear
    dictated = [["system", "transcribe"], HEARD[1]]
    together = unsure.converse([typed, HEARD, dictated], SETTINGS, seed=[1, 2, 3])
    assert [reply.guess is None for reply in together] == [True, False, True]
    assert together[0].text == talker.converse([typed], SETTINGS, seed=[1])[0].text
    [alone] = unsure.converse([HEARD], SETTINGS, seed=[2])
    assert (alone.ids, alone.spans, alone.nfe) == (together[1].ids, together[1].spans, together[1].nfe)
    never = {**unsure.info, "declines": {**DECLINES, "below": 0.0}}
    sure = Talker(talker.model, talker.vocabulary, talker.tokeniser, never)
    [guessed] = talker.converse([HEARD], SETTINGS)
    [replied] = sure.converse([HEARD], SETTINGS)
    assert (replied.guess, replied.ids, replied.events) == (None, guessed.ids, guessed.events)
    assert unsure.always_guess().converse([HEARD], SETTINGS)[0].ids == guessed.ids
    assert unsure.declining is None


def test_a_talker_declines_after_it_was_saved_and_a_damaged_header_is_named(unsure, tmp_path):
    unsure.save(tmp_path / "t.safetensors")
    assert Talker.load(tmp_path / "t.safetensors").declining == Declining(**DECLINES)
    for wrong in ({"below": 1.0}, {**DECLINES, "below": 2.0}, {**DECLINES, "text": 3}, [1]):
        unsure.info["declines"] = wrong
        unsure.save(tmp_path / "t.safetensors")
        with pytest.raises(MinitttError, match="declines"):
            Talker.load(tmp_path / "t.safetensors")
