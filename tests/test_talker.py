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
from minittt.talker import Talker
from minittt.unmasking import Sampling

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
