"""What was not taught is made in many ways, holds none of the taught sentences, and gets one reply."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.world import foreign, lexicon
from minittt.world.foreign import KINDS, OTHER_WORDS, PHRASES
from minittt.world.lexicon import NOT_UNDERSTOOD
from minittt.world.peopled_world import PeopledWorld, synthesise
from minittt.world.users import Users


@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_every_kind_gives_a_sound_and_one_seed_the_same(kind, seed):
    wave, again = (foreign.foreign(kind, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(wave, again)
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() == pytest.approx(0.7, abs=1e-3)
    assert 0.2 * 8000 < len(wave) < 12 * 8000


def test_other_words_are_other_words_and_the_languages_of_the_tests_are_not_heard():
    assert not set(OTHER_WORDS) & {*lexicon.WORDS, "how", "much"}
    assert len(set(OTHER_WORDS)) > 120
    assert not {"fr", "it", "ru", "es"} & set(PHRASES)
    assert all(len(phrases.split("|")) >= 5 for phrases in PHRASES.values())


def test_the_reply_to_it_is_always_the_same_and_spoken_where_an_answer_is_due():
    world = PeopledWorld(random.Random(0), crowd=Users())
    kinds = set()
    for _ in range(200):
        (_, instruction), (_, heard), (_, text, *speech) = world.foreign()
        utterance = world.utterances[heard]
        kinds.add(utterance["voice"])
        assert utterance["recorded"]
        assert text == NOT_UNDERSTOOD
        assert len(speech) == (1 if instruction == "answer" else 0)
        for number in speech:
            assert world.utterances[number]["text"] == NOT_UNDERSTOOD
            assert world.utterances[number]["voice"] in lexicon.REPLY
    assert kinds == set(KINDS)
    assert len(synthesise(world.utterances[0], 0, Users())) > 0
