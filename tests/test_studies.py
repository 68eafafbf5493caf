"""The studies: items are drawn as is said, a stopped run goes on to the same end, and the page says what the JSONs say."""

import copy
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import studies
import study_tables
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from minittt.app.cli import SAMPLES
from minittt.data.corpus import load_corpus
from minittt.talker import decoding_settings

SMALL = "--seconds 6 --items 2 --records 2 --width 16 --layers 1 --base-seconds 0".split()


@pytest.fixture
def corpus(monkeypatch):
    """The shipped corpus with few records, in place of the whole; each run takes a copy, and what it likes of it."""
    found = load_corpus(SAMPLES / "corpus")
    found.splits = {name: records[:400] for name, records in found.splits.items()}

    def fresh(_):
        one = copy.copy(found)
        one.splits = dict(found.splits)
        return one

    monkeypatch.setattr(studies, "load_corpus", fresh)
    return found


def arguments(out, *more):
    args = studies._parser().parse_args([*SMALL, "--out", str(out), *more])
    args.limit = args.items
    return args


def test_each_seed_is_asked_other_questions_and_all_arms_of_it_the_same(corpus):
    first, again, other = (studies.items(corpus, seed, 5) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert {name: len(records) for name, records in first.items()} == {"asr": 5, "qa": 5, "tts": 5}
    assert all(record["family"] == name for name, records in first.items() for record in records)


def test_few_records_are_the_first_of_more_and_differ_between_seeds(corpus, tmp_path):
    args = arguments(tmp_path)
    few = {}
    for n, seed in ((5, 0), (20, 0), (5, 1)):
        few[n, seed] = list(studies.corpus_of(studies.Arm("ar", records=n), seed, args).split("train"))
    assert [len(records) for records in few.values()] == [5, 20, 5]
    assert few[5, 0] == few[20, 0][:5]
    assert few[5, 0] != few[5, 1]


@given(st.floats(1e-4, 1))
def test_the_rate_warms_up_for_a_share_of_the_training_whatever_a_step_costs(share):
    rate = studies.rate_share(share)
    assert 0 < rate <= 1
    if share <= studies.WARM_UP:
        assert rate == pytest.approx(share / studies.WARM_UP)
    elif share <= studies.HELD_FOR * studies.WARM_UP:
        assert rate == 1
    else:
        assert rate == pytest.approx(math.sqrt(studies.HELD_FOR * studies.WARM_UP / share))


def test_a_run_takes_the_steps_that_fit_into_its_seconds_and_goes_on_to_the_same_end(
    corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "SAVED_EVERY", 2)
    monkeypatch.setattr(studies, "ways", lambda arm: {"16/1": decoding_settings(16, 1)})
    cost = {"seconds_a_step": {"exact-8": 1.0}}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for out in (whole, stopped):
        out.mkdir()
        (out / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
    arm = studies.Arm(studies.ONE_SIZE, points=3)
    made = studies.Run("whole", arm, 0, arguments(whole)).train()
    assert (made["steps"], [point["steps"] for point in made["curve"]]) == (6, [2, 4, 6])
    # 1. A second one is stopped in its fifth step, and begun anew.
    run = studies.Run("stopped", arm, 0, arguments(stopped))
    step = run.trainer._one_step

    def stop():
        if run.trainer.step == 4:
            raise KeyboardInterrupt
        return step()

    run.trainer._one_step = stop
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.trainer.lock.close()
    resumed = studies.Run("stopped", arm, 0, arguments(stopped))
    assert resumed.trainer.step == 4
    again = resumed.train()
    # 2. All is equal but the clock.
    for name in ("curve", "asr", "log", "ways"):
        assert again[name] == made[name]


def test_a_base_whose_weights_are_gone_is_trained_again_to_the_same_weights(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(studies.ablations, "ROOT", tmp_path)
    monkeypatch.setattr(studies.ablations, "load_corpus", studies.load_corpus)
    args = arguments(tmp_path, "--base-seconds", "0.3")
    args.points = 2
    args.equal_records = None
    studies.here("base", 1, args)
    weights, told = studies.ablations.weights_of_base(1, args), studies.base_file(1, args)
    first, said = load_file(weights), json.loads(told.read_text(encoding="utf-8"))
    assert studies.missing_bases(args) == [0, 2]
    weights.unlink()
    assert studies.missing_bases(args) == [0, 1, 2]
    studies.here("base", 1, args)
    again = load_file(weights)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    now = json.loads(told.read_text(encoding="utf-8"))
    last = said["curve"][-1]
    [note] = now["again"]
    assert (note["steps"], note["text"]) == (last["steps"], last["text"])
    assert {name: now[name] for name in said} == said


def test_all_ways_of_all_finished_arms_take_turns_and_the_least_counts(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "ways", lambda arm: {"8/2": arm.preset, "8/8": arm.preset})
    monkeypatch.setattr(studies.Talker, "load", lambda path: path.parent.name)
    told = []

    def pace(talker, corpus, codec, settings, seed):
        told.append((talker, settings))
        return None if talker == "paper-0" else 10.0 - len(told)  # ever faster

    monkeypatch.setattr(studies, "pace", pace)
    for name in ("exact-0", "paper-0", "ar-1", "exact-300-records-0"):
        (tmp_path / f"{name}.json").write_text("{}", encoding="utf-8")
    found = studies.measure_pace(arguments(tmp_path))["core_seconds_a_second"]
    a_round = [("exact-0", "exact")] * 2 + [("paper-0", "paper")] * 2
    assert told == a_round * studies.PACE_ROUNDS  # neither what is not finished, nor what has few records
    assert found == {"exact": {"8/2": 1.0, "8/8": 0.0}, "paper": {"8/2": None, "8/8": None}}


def test_a_talker_that_denoises_its_text_is_timed_as_one(monkeypatch):
    parts = SimpleNamespace(model="m", vocabulary="v", tokeniser="t", info="i")
    monkeypatch.setattr(studies.Talker, "load", lambda path: parts)
    monkeypatch.setattr(studies, "DenoisingTalker", lambda *given: given)
    assert studies.talker_of("nar", 0) == ("m", "v", "t", "i")
    for name in ("exact", "paper", "ar", studies.ONE_SIZE):
        assert studies.talker_of(name, 0) is parts


def test_what_a_second_of_speech_costs_is_counted_in_its_tokens(corpus, tmp_path):
    codec = SimpleNamespace(frame_rate=25.0)
    clock = iter(range(100))
    replies = iter(
        [SimpleNamespace(spans=[[1] * 20, [2] * 5]), SimpleNamespace(spans=[])]
        + [SimpleNamespace(spans=[])] * 8
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "PACED", 2)
        patch.setattr(studies.time, "process_time", lambda: next(clock))
        patch.setattr(studies, "ask", lambda *about: SimpleNamespace(replies=[next(replies)]))
        few = studies.corpus_of(studies.Arm("ar"), 0, arguments(tmp_path))
        assert (
            studies.pace(None, few, codec, None, 0) == 2.0
        )  # two replies of a second each, for 25 tokens: a second of speech
        assert studies.pace(None, few, codec, None, 0) is None


def test_what_is_missing_is_done_a_seed_of_all_arms_first(tmp_path):
    args = arguments(tmp_path, "--study", "claims", "--seeds", "2")
    assert studies.missing(args)[:4] == [(name, 0) for name in ("exact", "paper", "ar", "nar")]
    (tmp_path / "paper-0.json").write_text("{}", encoding="utf-8")
    assert ("paper", 0) not in studies.missing(args)
    assert len(studies.missing(args)) == 7
    assert studies.main([*SMALL, "--out", str(tmp_path)]) == 2  # what a step costs is not known


# ---- the tables


def run_of(right: list[int], words: int = 4) -> dict:
    spoken = {"right": right, "words": [words] * len(right), "floor": 0.0}
    return {"ways": {"8/8": {"text_right": [int(r > 0) for r in right], "answers": spoken, "tts": spoken}}}


CLAIM = study_tables.Claim("a beats b", study_tables.Side("exact", "8/8"), study_tables.Side("paper", "8/8"))
WORDS = study_tables.MEASURES[2]


def runs_of(ours: list[list[int]], theirs: list[list[int]]) -> study_tables.Runs:
    found = {("exact", seed): run_of(right) for seed, right in enumerate(ours)}
    return found | {("paper", seed): run_of(right) for seed, right in enumerate(theirs)}


def test_a_difference_is_taken_seed_by_seed_and_item_by_item():
    runs = runs_of([[4, 4], [4, 2], [2, 4]], [[2, 2], [2, 0], [0, 1]])
    found = study_tables.difference(runs, CLAIM, WORDS)
    assert (found.seeds, found.mean) == (3, pytest.approx(np.mean([0.5, 0.5, 0.625])))
    low, high = found.paired
    assert low < found.mean < high
    deviation = np.std([0.5, 0.5, 0.625], ddof=1)
    assert high - found.mean == pytest.approx(4.303 * deviation / math.sqrt(3))
    assert (
        found.unpaired[1] - found.unpaired[0] > high - low
    )  # seeds that are good for one are good for the other
    assert 0.5 <= found.items[0] <= found.mean <= found.items[1] <= 0.75
    assert study_tables.verdict(found, 0.01, 1) == "**holds**"
    assert "about 4 seeds" in study_tables.verdict(found, 0.2, 1)
    assert study_tables.difference({}, CLAIM, WORDS) is None


@given(st.lists(st.floats(-0.2, 0.4), min_size=3, max_size=3, unique=True), st.integers(1, 18))
def test_seeds_that_are_needed_are_the_fewest_that_can_tell_among_all_comparisons(values, comparisons):
    mean, *paired = study_tables.over_seeds(values)
    found = study_tables.Difference(CLAIM, WORDS, 3, mean, tuple(paired), (0, 0), (0, 0))
    needed = found.seeds_needed(comparisons)
    deviation = float(np.std(values, ddof=1))

    def p(n):
        """As often is a mean of n so large by chance."""
        return study_tables.two_sided(mean / (deviation / math.sqrt(n)), n - 1)

    if needed is None:
        assert comparisons * p(99) > 0.05 * (1 - 1e-6) or mean == 0
    else:
        assert needed == 2 or comparisons * p(needed - 1) > 0.05 * (1 - 1e-6)
        assert comparisons * p(needed) < 0.05 * (1 + 1e-6)


def test_fewer_seeds_than_planned_are_no_verdict(tmp_path):
    runs = runs_of([[4, 4]], [[0, 0]])
    found = study_tables.difference(runs, CLAIM, WORDS)
    assert study_tables.verdict(found, 0.0, 1) == "not measured yet (1 of 3 seeds)"
    assert "Not measured yet." in study_tables.page(tmp_path)


def test_the_page_tells_of_bases_that_were_trained_again(tmp_path):
    said = study_tables.page(tmp_path)
    (tmp_path / "bases").mkdir()
    note = {"steps": 9, "text": 0.25, "machine": "an abacus"}
    for seed, again in ((0, []), (2, [note])):
        base = {"curve": [{"text": 1.0}, {"text": 0.125}], "again": again}
        (tmp_path / "bases" / f"{seed}.json").write_text(json.dumps(base), encoding="utf-8")
    [added] = set(study_tables.page(tmp_path).splitlines()) - set(said.splitlines())
    assert "(seed 2 on an abacus: 0.250 nats of text, 0.125 the first time)" in added


def test_the_page_says_what_the_jsons_say():
    written = study_tables.PAGE.read_text(encoding="utf-8")
    assert written == study_tables.page(), "run: python benchmarks/study_tables.py"


def test_a_step_of_every_preset_is_timed(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "TIMED", (1, 1))
    torch.manual_seed(0)
    found = studies.measure_cost(arguments(tmp_path))
    assert set(found["seconds_a_step"]) == {"exact", "paper", "ar", "nar", studies.ONE_SIZE}
    assert all(seconds > 0 for seconds in found["seconds_a_step"].values())
    args = SimpleNamespace(seconds=None, out=tmp_path)
    (tmp_path / "cost.json").write_text(json.dumps({"seconds_a_step": {"ar": 0.5}}), encoding="utf-8")
    assert studies.steps_of(studies.Arm("ar", 1200), args) == 2400
