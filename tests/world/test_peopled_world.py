"""The peopled world: asked by everybody, answered as ever; held-out facts stay held out, what is heard is recorded."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec
from minittt.data import front_end
from minittt.data.corpus import load_corpus
from minittt.settings import samples_folder
from minittt.world import lexicon, peopled_world, spoken_world
from minittt.world.peopled_world import PeopledWorld, build, draw_records, speak_and_encode, synthesise
from minittt.world.users import Users
from tests.world.test_users import folder_of

SIZES = {"qa": 60, "asr": 60, "tts": 4, "caption": 4, "chat": 4, "document": 2}
FEW = {"qa": 6, "asr": 6, "tts": 2, "caption": 2, "chat": 2, "document": 1}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowd")
    said = [
        "what is two plus three",
        "two plus three",
        "count from three to five",
        "say nine",
        "one two",
        "hello",
    ]
    recorded = folder_of(
        folder / "recorded", [(f"{i}.wav", text, "flite awb") for i, text in enumerate(said)]
    )
    words = [(f"{i}.wav", word, "ann") for i, word in enumerate(("one", "two", "three"))]
    return Users(recorded, folder_of(folder / "people", words))


def test_every_way_to_ask_has_its_reply():
    for fact in lexicon.SUMS:
        for text in lexicon.ways_to_ask(*fact):
            assert lexicon.fact_of(text) == fact
            assert lexicon.reply_to(text) == [lexicon.equation(*fact)]
    for fact in lexicon.COUNTS:
        text = lexicon.count_request(*fact)
        assert lexicon.fact_of(text) == fact
        assert lexicon.reply_to(text) == lexicon.count_reply(*fact)
    assert lexicon.reply_to("say nine two") == ["nine two"]
    for nothing in ("hello", "say again", "say", "one two", "two plus", "two plus three equals five"):
        assert lexicon.reply_to(nothing) is None


def said_in(record: dict, utterances: list[dict]) -> dict:
    """The utterance that the user says first."""
    return utterances[next(part for role, *parts in record["messages"] if role == "user" for part in parts)]


def test_questions_and_transcripts_come_from_everybody(crowd):
    utterances, splits = draw_records(0, {"train": crowd, "renditions": crowd}, SIZES, FEW)
    heard = [said_in(r, utterances) for r in splits["train"] if r["family"] in ("qa", "asr")]
    kinds = {"file" if "file" in u else "takes" if "takes" in u else "formant" for u in heard}
    assert kinds == {"file", "takes", "formant"}
    assert all(u["recorded"] and u["anywhere"] for u in heard)
    for record in splits["train"]:
        if record["family"] == "asr":
            assert record["messages"][-1] == ["assistant", said_in(record, utterances)["text"]]
        if record["family"] == "qa":
            _, *parts = record["messages"][2]
            text = [part for part in parts if isinstance(part, str)]
            said = said_in(record, utterances)["text"]
            assert text == (lexicon.reply_to(said) or [said])
            assert all(utterances[part]["voice"] in lexicon.REPLY for part in parts if isinstance(part, int))


@given(st.integers(0, 100))
def test_facts_that_are_held_out_are_asked_by_nobody_in_training(crowd, seed):
    held_sums, held_counts = spoken_world.hold_out(seed)
    utterances, splits = draw_records(seed, {"train": crowd}, {"qa": 40}, {"qa": 5})
    asked = {lexicon.fact_of(said_in(r, utterances)["text"]) for r in splits["train"]}
    assert not asked & (held_sums | held_counts)
    facts = {lexicon.fact_of(said_in(r, utterances)["text"]) for r in splits["facts"]}
    assert facts - {None} <= held_sums | held_counts


def test_a_crowd_of_its_own_is_a_split_of_its_own(crowd):
    _, splits = draw_records(0, {"train": Users(), "makes": crowd}, {"qa": 3}, {"qa": 2})
    families = [record["family"] for record in splits["makes"]]
    assert families.count("asr") == len(crowd.recorded)
    assert families.count("qa") >= 3  # the two sums may be held out


def test_what_users_say_passes_the_front_end_and_replies_do_not(crowd):
    world = PeopledWorld(random.Random(0), crowd=crowd)
    asked = world.utterances[world.ask("what is two plus three")]
    reply = world.utterances[world.answer("five", lexicon.REPLY[0])]
    heard = synthesise(asked, 0, crowd)
    level = front_end.loudest(front_end.decibels(heard, 8000))
    assert level == pytest.approx(20 * np.log10(front_end.LEVEL), abs=0.5)
    assert np.abs(synthesise(reply, 0, crowd)).max() == pytest.approx(0.7, abs=1e-3)
    np.testing.assert_array_equal(synthesise(asked, 0, crowd), heard)
    assert not np.array_equal(synthesise(asked, 1, crowd), heard)


def test_a_corpus_of_the_peopled_world_says_through_which_front_end(crowd, tmp_path):
    codec = Codec.load(samples_folder() / "codec.safetensors")
    crowds = {"train": crowd, "renditions": crowd, "makes": crowd}
    build(tmp_path / "corpus", codec, crowds, 0, FEW, FEW, FEW, "CC0-1.0")
    corpus = load_corpus(tmp_path / "corpus")
    assert corpus.info["front_end"] == front_end.NAME
    assert corpus.info["licence"] == "CC0-1.0"
    assert set(corpus.splits) == {*spoken_world.SPLITS, "makes", "calibration"}


def test_any_number_of_workers_makes_the_same_codes(crowd):
    codec = Codec.load(samples_folder() / "codec.safetensors")
    utterances, _ = draw_records(0, {"train": crowd}, FEW, FEW, FEW)
    utterances = (utterances * 2)[: peopled_world.CHUNK + 20]  # two chunks
    alone = speak_and_encode(utterances, 0, crowd, codec)
    together = speak_and_encode(utterances, 0, crowd, codec, workers=2)
    assert len(alone) == len(together) == len(utterances)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)


def test_a_calibration_split_changes_no_split_of_a_test(crowd):
    few, splits = draw_records(0, {"train": crowd}, FEW, FEW, {"qa": 1})
    many, more = draw_records(0, {"train": crowd}, FEW, FEW, {"qa": 9, "foreign": 3})
    before = min(part for record in splits["calibration"] for part in record["messages"][1][1:])
    assert few[:before] == many[:before]
    for name in ("renditions", "voices", "facts"):
        assert splits[name] == more[name]
    assert [record["family"] for record in more["calibration"]].count("foreign") == 3


def test_who_just_says_numbers_hears_them_again(crowd):
    utterances, splits = draw_records(0, {"train": crowd}, SIZES, FEW, FEW)
    echoed = 0
    for record in splits["train"]:
        if record["family"] != "qa":
            continue
        text = said_in(record, utterances)["text"]
        if all(word in lexicon.NUMBERS for word in text.split()):
            _, written, spoken = record["messages"][2]
            assert (written, utterances[spoken]["text"]) == (text, text)
            assert utterances[spoken]["voice"] in lexicon.REPLY
            echoed += 1
    assert echoed > 3
