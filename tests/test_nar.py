"""Replies denoised whole: the decoder meets what training laid out, and what it reveals is read as text and spans."""

import random
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt import nar
from minittt.attention import assign_groups
from minittt.data.conversation import render
from minittt.decoding import BlockClosed, Settings
from minittt.nar import DenoisingTalker, greedy_text, reply_classes, split_reply
from minittt.strategies import denoise_replies
from minittt.unmasking import Sampling
from tests.toy import WORDS, toy_corpus, toy_model

SEEDS = st.integers(0, 1000)


@given(st.lists(st.one_of(st.integers(1, 6), st.lists(st.integers(0, 4), max_size=5)), max_size=6))
def test_what_a_reply_is_made_of_is_read_again(parts):
    v = toy_corpus(0).vocabulary
    slots = []
    for part in parts:
        slots += [part] if isinstance(part, int) else [v.open, *(v.first_code + c for c in part), v.eoa]
    words, spans = [p for p in parts if isinstance(p, int)], [p for p in parts if not isinstance(p, int)]
    assert split_reply(slots, v) == (words, spans, 0)


def test_what_is_out_of_place_is_counted():
    v = toy_corpus(0).vocabulary
    code = v.first_code
    assert split_reply([code, 1, v.eoa], v) == ([1], [], 2)  # sound and its end where no span is open
    assert split_reply([v.open, code, 2, code, v.open, v.eoa], v) == (
        [2],
        [[0, 0], []],
        2,
    )  # text, OPEN inside


@pytest.mark.parametrize(("block", "first"), [(4, None), (8, None), (4, 1), (8, 4)])
@given(seed=SEEDS)
def test_a_prompt_is_laid_out_as_in_training(block, first, seed):
    corpus = toy_corpus(seed)
    talker = DenoisingTalker(None, corpus.vocabulary, corpus.tokeniser, {})
    for record in corpus.split("train"):
        *told, last = record["messages"]
        if last[0] != "assistant":
            continue
        trained = denoise_replies(render(record, corpus, block, first), block, first)
        said = [[corpus.audio(x).tolist() if isinstance(x, int) else x for x in m] for m in told]
        reply = _prompted(talker, said, Settings(block, first_block=first))
        n = len(reply.prompt)
        assert trained.ids[:n] == reply.prompt
        assert trained.kinds[:n] == reply.kinds[:n]
        assert assign_groups(torch.tensor(trained.kinds), block, first)[:n].tolist() == reply.groups[:n]
        assert all(kind == trained.kinds[-1] for kind in trained.kinds[n:])  # what follows is the reply alone


def _prompted(talker, said, settings):
    """The reply of a network that ends at once."""
    [reply] = _spoken(talker, [said], settings, [[]])
    return reply


def _spoken(talker, conversations, settings, replies):
    """What becomes of replies that a network is sure of."""
    v = talker.vocabulary
    patch = pytest.MonkeyPatch()
    patch.setattr(nar, "CachedContext", lambda *_: Certain(v, [[*r, v.end] for r in replies]))
    try:
        return talker.converse(conversations, settings)
    finally:
        patch.undo()


class Certain:
    """A context that knows each row's reply; what it is asked for beyond that is END."""

    def __init__(self, v, replies):
        self.v, self.replies, self.written = v, replies, [-1] * len(replies)  # the prompt comes first

    def step(self, commit, commit_groups, draft):
        logits = torch.zeros(len(draft), 1 + draft.shape[1], self.v.size)
        for row, reply in enumerate(self.replies):
            n = int((commit_groups[row] >= 0).sum())
            self.written[row] = 0 if self.written[row] < 0 else self.written[row] + n
            for slot in range(draft.shape[1]):
                at = self.written[row] + slot
                logits[row, 1 + slot, reply[at] if at < len(reply) else self.v.end] = 50.0
        return logits


@given(SEEDS, st.integers(1, 8), st.sampled_from([None, 1, 4]))
def test_a_sure_network_says_what_it_knows(seed, steps, first):
    corpus, rng = toy_corpus(seed), random.Random(seed)
    v, talker = corpus.vocabulary, DenoisingTalker(None, corpus.vocabulary, corpus.tokeniser, {})
    wanted, replies = [], []
    for _ in range(3):
        words = [rng.randint(1, len(WORDS)) for _ in range(rng.randint(1, 4))]
        codes = [rng.randrange(v.codebook_size) for _ in range(rng.randint(1, 14))]
        wanted.append((" ".join(WORDS[i - 1] for i in words), [codes]))
        replies.append([*words, v.open, *(v.first_code + c for c in codes), v.eoa])
    settings = Settings(8, first_block=first, steps=steps, audio_sampling=Sampling(0.5))
    made = _spoken(talker, [[["user", "four"]]] * 3, settings, replies)
    assert [(reply.text, reply.spans) for reply in made] == wanted
    assert {(reply.reason, reply.overwritten) for reply in made} == {("end", 0)}
    for reply, slots in zip(made, replies, strict=True):
        assert [i for i in reply.ids if i != v.end] == slots
        assert len(reply.kinds) == len(reply.groups) == len(reply.prompt) + len(reply.ids)
        closed = [len(event.ids) for event in reply.events if isinstance(event, BlockClosed)]
        assert closed == [
            first or 8,
            *[8] * (len(closed) - 1),
        ]  # as in training, the first block may be shorter
        sizes = [len(list(block)) for _, block in groupby(reply.groups[len(reply.prompt) :])]
        assert sizes == closed


def test_an_untrained_network_ends_and_never_writes_a_mask():
    corpus = toy_corpus(0)
    v = corpus.vocabulary
    talker = DenoisingTalker(toy_model(v, 0, torch.float32), v, corpus.tokeniser, {})
    replies = talker.converse([[["user", "four"]], [["user", [1, 2]]]], Settings(16, steps=2), seed=1)
    assert all(v.mask not in reply.ids for reply in replies)
    assert all(reply.reason in ("end", "limit") and reply.nfe for reply in replies)


def test_slots_of_text_are_greedy_and_slots_of_sound_are_drawn():
    logits = torch.tensor([[3.0, 2, 0, 0], [0, 0, 3, 2.9]])
    drawn = greedy_text(Sampling(1.0), 2)(logits)
    assert drawn[0].isfinite().tolist() == [True, False, False, False]
    assert drawn[1].isfinite().all()


def test_every_slot_may_hold_all_that_replies_are_made_of():
    v = toy_corpus(0).vocabulary
    classes = reply_classes(v)
    allowed = {*v.text_choices().tolist(), *v.audio_choices().tolist()}
    assert set(classes.audio.nonzero()[:, 0].tolist()) == allowed
    assert not {v.mask, v.pad, v.user, v.assistant, v.bos} & allowed
