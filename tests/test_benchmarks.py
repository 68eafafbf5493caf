"""What the evidence rests on: averages, oracles, intervals, verdicts, and a page that says what the JSONs say."""

import json
import math
import random
import re
import statistics
from dataclasses import asdict, replace

import ablations
import about_people
import claims
import codec_talkers
import floors
import numpy as np
import oracle
import premise
import pytest
import results
import studies
import study_tables
import sweep
import tables
import thin_corpus
import timed_training
import torch
import voices_and_minutes
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.data.corpus import load_corpus
from minittt.decoding import Draft
from minittt.errors import MinitttError
from minittt.evaluation.likelihood import estimator
from minittt.evaluation.scores import Score
from minittt.objective import draw_noise, predict, preset
from minittt.training.loader import Loader
from minittt.training.trainer import Trainer, TrainingSettings
from minittt.unmasking import confidence_released, entropy_bound, entropy_order, left_to_right, random_order
from tests.app.test_cli import SAMPLES
from tests.small_networks import Oracle, propagate
from tests.toy import toy_corpus, toy_model
from tests.training.test_trainer import SETTINGS, TINY

SEEDS = st.integers(0, 1000)


# ---- training against the clock


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_average_weighs_late_steps_more_by_a_known_law(values):
    model = torch.nn.Linear(1, 1, bias=False).double()
    average, T = timed_training.Average(model), len(values)
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    power = timed_training.POWER + 1
    expected = sum((t**power - (t - 1) ** power) / T**power * v for t, v in enumerate(values, 1))
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected, abs=1e-12)
    assert model.weight.item() == values[-1]


def test_an_anytime_schedule_does_not_know_the_end():
    short, long = (TrainingSettings(steps=n) for n in (10, 10_000))
    rates = [timed_training.anytime_rate(step, short) for step in range(4000)]
    assert rates == [timed_training.anytime_rate(step, long) for step in range(4000)]
    assert [rates[step] for step in (0, 49, 99, 399)] == pytest.approx([0.01, 0.5, 1.0, 1.0], rel=1e-12)
    assert [rates[step] for step in (1599, 3599)] == pytest.approx([0.5, 1 / 3], rel=1e-12)
    assert rates == rates[:400] + sorted(rates[400:], reverse=True)


class SteppedClock:
    """In place of `timed_training.Clock`: a step takes what it is said to take, however fast the machine is."""

    def __init__(self, *durations: float) -> None:
        """The last duration is that of all further steps, too."""
        self.durations, self.seconds, self.steps = durations, 0.0, 0

    def __enter__(self) -> None:
        self.steps += 1

    def __exit__(self, *_) -> None:
        self.seconds += self.durations[min(self.steps, len(self.durations)) - 1]


def moments(folder, clock, seconds, points, records):
    """(seconds, steps, equal_data, last) of every moment at which training stopped, and the log's seconds."""
    trainer, log = Trainer(toy_corpus(0), folder, replace(SETTINGS, samples=0)), []
    found = list(timed_training.train_for(trainer, seconds, points, records, log, clock))
    assert len(log) == found[-1].steps == trainer.step
    assert all(p.records == p.steps * SETTINGS.records for p in found)
    assert [p.last for p in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].seconds >= seconds > max((line["seconds"] for line in log[:-1]), default=0.0)
    return [(p.seconds, p.steps, p.equal_data, p.last) for p in found]


def test_training_for_a_time_stops_at_every_point(tmp_path):
    """Steps of a quarter of a second: after each second of three, and after the second step, when 8 records were seen."""
    assert moments(tmp_path, SteppedClock(0.25), 3.0, 3, 8) == [
        (0.5, 2, True, False),
        (1.0, 4, False, False),
        (2.0, 8, False, False),
        (3.0, 12, False, True),
    ]


def test_training_for_a_time_counts_a_point_once_that_is_passed_in_a_long_step(tmp_path):
    """A step may be longer than the way to the next point, or than all of the time: there is one moment after it."""
    assert moments(tmp_path / "a", SteppedClock(2.5, 0.25), 3.0, 3, 8) == [
        (2.5, 1, False, False),
        (2.75, 2, True, False),
        (3.0, 3, False, True),
    ]
    assert moments(tmp_path / "b", SteppedClock(1.0), 2.0, 2, 8) == [
        (1.0, 1, False, False),
        (2.0, 2, True, True),  # both at once
    ]
    assert moments(tmp_path / "c", SteppedClock(9.0), 3.0, 3, 8) == [(9.0, 1, False, True)]
    assert moments(tmp_path / "d", SteppedClock(1.0), 3.0, 1, None) == [(3.0, 3, False, True)]


# ---- the grid


def test_one_run_of_the_grid_notes_losses_scores_and_where_it_was_made(tmp_path, monkeypatch):
    corpus = load_corpus(SAMPLES / "corpus")
    corpus.splits = {name: records[:60] for name, records in corpus.splits.items()}
    monkeypatch.setattr(ablations, "load_corpus", lambda _: corpus)
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    monkeypatch.setattr(ablations, "SPLITS", ("renditions",))
    monkeypatch.setattr(ablations, "ways", lambda p: {"drawn": ablations.decoding_settings(16, 1)})
    monkeypatch.setattr(timed_training, "Clock", lambda device: SteppedClock(0.25))
    small = "--seconds 1 --points 1 --records 2 --equal-records 2 --limit 2 --width 16 --layers 1".split()
    small += ["--base-seconds", "1", "--out", str(tmp_path / "o")]
    args = ablations._parser().parse_args([*small, "--rows", "nar", "ar", "--seeds", "2"])
    assert ablations.missing_bases(args) == [("base", 0), ("base", 1)]
    assert ablations.main([*small, "--run", "base", "7"]) == 0
    base = json.loads((tmp_path / "o" / "bases" / "7.json").read_text(encoding="utf-8"))
    assert base["row"] == "base" and all(line["audio"] == 0 for line in base["log"])
    assert ablations.main([*small, "--run", "nar", "7"]) == 0
    made = json.loads((tmp_path / "o" / "nar-7.json").read_text(encoding="utf-8"))
    assert (made["row"], made["seed"], made["settings"]["seed"]) == ("nar", 7, 7)
    assert [point["last"] for point in made["curve"]] == [False, True]
    assert set(made["scores"]) == {"equal_data", "equal_time"}
    assert {"ASR word error rate", "spoken question, text answer right"} <= {
        score["name"] for score in made["scores"]["equal_time"]["renditions"]["drawn"]
    }
    assert made["machine"] and made["log"] and "commit" in made
    assert str(tmp_path) not in json.dumps(made)
    args = ablations._parser().parse_args(
        ["--seeds", "8", "--rows", "nar", "ar", "--out", str(tmp_path / "o")]
    )
    assert ablations.missing(args)[:2] == [("nar", 0), ("ar", 0)]
    assert ("nar", 7) not in ablations.missing(args) and len(ablations.missing(args)) == 15


def test_the_base_hears_and_says_nothing_and_a_run_starts_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    corpus = ablations.hearing(load_corpus(SAMPLES / "corpus"))
    said = [
        m for records in corpus.splits.values() for r in records for m in r["messages"] if m[0] == "assistant"
    ]
    assert len(said) > 30_000
    assert all(len(m) == 2 and isinstance(m[1], str) and m[1] for m in said)
    corpus.splits = {name: records[:40] for name, records in corpus.splits.items()}
    monkeypatch.setattr(ablations, "load_corpus", lambda _: corpus)
    monkeypatch.setattr(ablations, "scores", lambda *_: {})
    monkeypatch.setattr(
        ablations, "losses", lambda trainer, _: {"text": 0.0, "audio": float(weight(trainer))}
    )
    weight = lambda trainer: trainer.model.layers[0].mlp.up_proj.weight.detach().double().norm()  # noqa: E731
    first = []
    train_for = timed_training.train_for
    monkeypatch.setattr(
        ablations, "train_for", lambda t, *rest: (first.append(weight(t)), train_for(t, *rest))[1]
    )
    monkeypatch.setattr(ablations, "hearing", lambda corpus: corpus)
    args = ablations._parser().parse_args(
        "--seconds 0.1 --base-seconds 1 --records 2 --width 16 --layers 1 --points 1 --seeds 4".split()
        + ["--out", str(tmp_path / "o")]
    )
    ablations.run_base(3, args)
    kept = ablations.Talker.load(ablations.weights_of_base(3, args)).model.layers[0].mlp.up_proj.weight
    ablations.run("paper", 3, args)
    assert first[1] == kept.double().norm() and first[1] != first[0]
    assert ablations.missing_bases(args) == [("base", 0), ("base", 1), ("base", 2)]  # 3 is there


@pytest.mark.parametrize("row", ablations.ROWS)
def test_all_rows_train_on_the_same_records(row):
    corpus = toy_corpus(0, longest=30)
    kept = ablations.fitting(corpus, 160).split("train")
    assert 0 < len(kept) < 5
    assert Loader(kept, corpus, preset(row), 0, 4, 160).left_out == 0


@pytest.mark.parametrize(
    "row, audio_left_to_right", [("ar", "the same"), ("exact", "another"), ("paper", None)]
)
def test_nats_are_measured_in_blocks_that_a_talker_knows(tmp_path, row, audio_left_to_right):
    trainer = Trainer(toy_corpus(0), tmp_path, replace(SETTINGS, preset=row))
    trainer.corpus.splits["renditions"] = trainer.corpus.splits["train"]
    found = ablations.losses(trainer, 2)
    if audio_left_to_right is None:
        assert set(found) == {"text", "audio"}
    else:
        same = found["audio"] == pytest.approx(found["audio_left_to_right"], rel=1e-5)
        assert same == (audio_left_to_right == "the same")


# ---- the oracle


def markov(seed, length, A=2, H=2):
    g = torch.Generator().manual_seed(seed)
    rows = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).mul(2).softmax(-1)  # noqa: E731
    return oracle.HiddenMarkov(rows(H), rows(H, H), rows(H, A), length)


@given(SEEDS, st.integers(1, 4), st.data())
def test_forward_backward_gives_the_conditionals_of_the_joint(seed, length, data):
    world = markov(seed, length, A=3)
    joint = world.joint()
    assert sum(joint.values()) == pytest.approx(1)
    state = tuple(data.draw(st.lists(st.integers(-1, 2), min_size=length, max_size=length)))
    fitting = {x: w for x, w in joint.items() if all(s in (-1, t) for s, t in zip(state, x, strict=True))}
    assert world.probability(state) == pytest.approx(sum(fitting.values()))
    p = world.conditionals(state)
    for i in range(length):
        for token in range(3):
            share = sum(w for x, w in fitting.items() if x[i] == token) / sum(fitting.values())
            assert p[i, token].item() == pytest.approx(share, abs=1e-12)


@settings(max_examples=6)
@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_samplers_are_those_of_the_decoder(seed, steps):
    """Against an enumeration by every ranking of noise and every draw, of the joint itself."""
    world = markov(seed, 3)
    table = Oracle(torch.tensor(list(world.joint().values())).reshape(2, 2, 2))
    for policy in (random_order, left_to_right, entropy_order, confidence_released):
        wanted, n = propagate(table, policy, Draft, steps)
        found = oracle.enumerate_sampler(world, policy, steps)
        assert found.steps == pytest.approx(n)
        assert all(found.p.get(x, 0.0) == pytest.approx(w) for x, w in wanted.items())


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([1, 2, 4]))
def test_the_entropy_bound_is_kept_and_one_slot_a_step_is_exact(seed, steps):
    world = markov(seed, 4)
    q = world.joint()
    for policy in (random_order, left_to_right, entropy_order, entropy_bound):
        found = oracle.enumerate_sampler(world, policy, steps)
        assert -1e-12 <= oracle.kl(q, found.p) <= found.bound + 1e-12
        assert oracle.total_variation(q, found.p) <= math.sqrt(oracle.kl(q, found.p) / 2 + 1e-12)  # Pinsker
        if steps == 4 and policy is not entropy_bound:
            assert oracle.kl(q, found.p) < 1e-12


def test_the_released_rule_draws_likely_tokens_too_often():
    found = oracle.enumerate_sampler(oracle.biased_bits(0.9, 2), confidence_released, 2)
    assert found.p[1, 1] == pytest.approx(0.9 * 0.9 + 0.9 * 0.1 * 0.9)  # .891, where .81 is true


# ---- the premise


def test_hidden_context_is_hidden_and_the_rest_is_not():
    """Changing a token that is hidden changes nothing that is read; changing it unhidden does."""
    corpus = toy_corpus(5)
    v, p = corpus.vocabulary, estimator(preset("exact"), 4)
    model, batch = toy_model(v, 0), Loader(corpus.split("train"), corpus, p, 0, 5, 160).batch(0)
    noise = draw_noise(batch, p, torch.Generator().manual_seed(0), torch.float64)
    found = premise.parts(batch, v)
    assert all(part.any() for part in found.values())
    assert not (found["asked"] & found["written"]).any() and not (found["written"] & found["spoken"]).any()
    control = (batch.ids >= v.text_size) & (batch.ids < v.first_code)
    assert not (control & (found["asked"] | found["written"])).any()
    for number, (name, hidden) in enumerate(premise.HIDDEN.items()):
        extra = premise.hide(batch, v, torch.full_like(batch.ids, number))
        assert extra.equal(sum(found[part] for part in hidden).bool()) if hidden else not extra.any(), name
        changed = replace(batch, ids=torch.where(found["asked"] & ~batch.noisy, v.first_code, batch.ids))
        now, then = (
            predict(model, b, v, p, noise._replace(masked=noise.masked | extra))[1].logits
            for b in (batch, changed)
        )
        assert now.allclose(then, rtol=0, atol=1e-12) == ("asked" in hidden)


def test_a_tenth_of_the_records_misses_each_part(tmp_path):
    corpus = toy_corpus(5)
    trainer = premise.forgetful_trainer(corpus, tmp_path, replace(SETTINGS, records=40, model=TINY))
    counts, n = dict.fromkeys(("asked", "written", "spoken"), 0), 0
    for step in range(25):
        made = trainer.accumulator.draw(step, 0)
        found = premise.parts(made.batch, corpus.vocabulary)
        documents = made.batch.documents
        for row in range(len(documents)):
            for d in range(int(documents[row].max()) + 1):
                mine = documents[row] == d
                whole = {name: part[row] & mine for name, part in found.items()}
                if all(part.any() for part in whole.values()):
                    n += 1
                    for name, part in whole.items():
                        counts[name] += bool(made.noise.masked[row][part].all())
    assert n > 300
    for name, count in counts.items():  # each part is hidden under two conditions of four
        assert abs(count / n - 2 * premise.SHARE) < 4 * math.sqrt(0.16 / n), name
    trainer._one_step()


def test_what_is_lost_is_a_difference_record_by_record():
    whole, less = (
        premise.Nats([1.0, 2], [4.0, 4], [1, 3], [2, 2]),
        premise.Nats([2.0, 5], [6.0, 8], [1, 3], [2, 2]),
    )
    found = {"nothing": whole, "past of text": less}
    assert premise.lost(found, "text", "past of text", "x").value == pytest.approx(4 / 4)
    assert premise.lost(found, "audio", "past of text", "x").value == pytest.approx(6 / 4)
    assert premise.some_of(found, [1])["nothing"].audio == [4.0]


# ---- sweeps, claims, the page


def test_a_front_holds_what_nothing_beats():
    points = [(1, 0.5), (2, 0.9), (2, 0.8), (3, 0.9), (4, 1.0)]
    rows = [{"forwards per token": {"value": c}, "q": {"value": g}} for c, g in points]
    assert sweep.front(rows, "q") == [0, 1, 4]


def test_every_way_of_the_sweep_can_be_decoded():
    for full_span in (False, True):
        ways = sweep.ways(full_span)
        assert len(set(ways)) == len(ways) > 100
        assert all(way.settings(full_span).steps <= way.block for way in ways)
    assert sweep.evenness({0: 5, 1: 5}, 2) == pytest.approx(1) and sweep.evenness({0: 5}, 4) == 0


def fake_run(row, seed, value):
    """A run whose every figure is `value`."""
    names = {"drawn": ["spoken question, text answer right", "TTS: words recognised", "TTS: length against true"],
             "greedy": ["TTS: words recognised"]}  # fmt: skip
    scored = {way: [asdict(Score(n, value, value, value, 5)) for n in found] for way, found in names.items()}
    point = {"seconds": 600.0, "records": 90, "text": value, "audio": value}
    return {"row": row, "seed": seed, "budget": {"seconds": 600.0, "base_seconds": 9, "equal_records": 9}, "machine": "CPU",
            "commit": "abc", "parameters": 1, "scores": {"equal_time": {"renditions": scored}},
            "curve": [{**point, "equal_data": x, "last": not x} for x in (True, False)]}  # fmt: skip


def test_an_interval_over_seeds_is_students():
    claim, measure = claims.CLAIMS[0], claims.MEASURES[0]
    runs = {(claim.ours, s): fake_run(claim.ours, s, v) for s, v in enumerate((1.0, 2.0, 3.0))}
    runs |= {(claim.theirs, s): fake_run(claim.theirs, s, 0.0) for s in range(4)}
    found = claims.difference(runs, claim, measure)
    assert (found.mean, found.seeds) == (2, 3)
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3))
    assert found.verdict == claims.UNTOLD
    del runs[claim.ours, 0]
    assert claims.difference(runs, claim, replace(measure, better=-1)).seeds == 2


@pytest.mark.parametrize(
    "better, shift, verdict", [(1, 1, claims.HOLDS), (-1, 1, claims.FAILS), (-1, -1, claims.HOLDS)]
)
def test_a_verdict_needs_the_whole_interval_on_one_side(better, shift, verdict):
    claim, measure = claims.CLAIMS[0], replace(claims.MEASURES[0], better=better)
    runs = {(claim.ours, s): fake_run(claim.ours, s, shift + 0.01 * s) for s in range(3)}
    runs |= {(claim.theirs, s): fake_run(claim.theirs, s, 0.0) for s in range(3)}
    found = claims.difference(runs, claim, measure)
    assert found.verdict == verdict
    one = {key: run for key, run in runs.items() if key[1] == 0}
    assert claims.difference(one, claim, measure).verdict == claims.UNTOLD
    said = claims.sentence(claim, [found])
    assert (
        verdict in said and f"{measure.name} {found}" in said and claims.MISSING in claims.sentence(claim, [])
    )


def test_a_partly_filled_grid_makes_a_page_that_names_what_is_missing(tmp_path):
    (tmp_path / "ablations").mkdir()
    for row, seed, value in (("paper", 0, 0.5), ("paper", 1, 0.6), ("ar", 0, 0.1), ("ar", 1, 0.2)):
        made = json.dumps(fake_run(row, seed, value))
        (tmp_path / "ablations" / f"{row}-{seed}.json").write_text(made, encoding="utf-8")
    said = results.page(tmp_path)
    assert "4 of 40 runs are here" in said
    assert "`exact` 0 1 2 3 4; `paper` 2 3 4; `ar` 2 3 4; `nar` 0 1 2 3 4" in said
    assert "0.550 ± 0.071" in said and "Trained longer" not in said
    assert "AR text with NAR audio beats AR alone: **holds**" in said
    assert f"BANOM helps: **{claims.MISSING}**" in said
    assert "Not measured yet: `python benchmarks/premise.py`" in said
    results.draw(results.load(tmp_path), tmp_path / "curves.png")
    (tmp_path / "ablations").rename(tmp_path / "ablations_long")
    later = results.page(tmp_path)
    assert "0 of 40" in later and "4 of 4 runs" in later.split("## Trained longer")[1]
    assert "AR text with NAR audio beats AR alone: **holds**" in later.split("## Trained longer")[1]


@pytest.mark.parametrize("hertz", [80, 120, 200, 320])
def test_the_pitch_of_a_voice_is_that_of_its_pulses(hertz):
    """A train of harmonics at 8 kHz: every frame is voiced, and no multiple of the period is taken for it."""
    seconds = np.arange(8000) / 8000
    wave = sum(np.sin(2 * np.pi * hertz * k * seconds) / k for k in range(1, 9)) * 5000
    found = about_people.pitches(wave.astype(np.int16), 8000)
    assert len(found) > 50
    assert np.allclose(found, hertz, rtol=0.04)  # periods are whole samples
    noise = np.random.default_rng(0).integers(-5000, 5000, 8000).astype(np.int16)
    assert about_people.pitches(noise, 8000) == []


def test_a_speaker_is_found_again_by_samples_and_not_by_names_or_order():
    takes = [np.arange(n, dtype=np.int16) for n in (3, 5, 4)]
    known = about_people.checksum(takes)
    assert about_people.checksum(takes[::-1]) == known
    takes[1][2] += 1
    assert about_people.checksum(takes) != known
    assert about_people.checksum(takes[:2]) != known


def test_runs_that_measured_words_in_two_ways_are_not_compared(tmp_path):
    (tmp_path / "ablations").mkdir()
    shipped, own = fake_run("exact", 0, 0.5), fake_run("paper", 0, 0.5) | {"words": ablations.WORDS}
    for run in (shipped, own):
        path = tmp_path / "ablations" / f"{run['row']}-0.json"
        path.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(MinitttError, match="two ways .*exact-0; 1 minus .*paper-0"):
        results.load(tmp_path)
    shipped["words"] = ablations.WORDS
    (tmp_path / "ablations" / "exact-0.json").write_text(json.dumps(shipped), encoding="utf-8")
    results.main(["--scores", str(tmp_path), "-o", str(tmp_path / "results.md")])
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == results.page(tmp_path)


def test_the_floors_are_those_of_the_script():
    """Measured anew on a few sentences; the chapter prints what the JSON says."""
    kept = json.loads(floors.OUT.read_text(encoding="utf-8"))
    assert kept["something_else"]["clipped"] < kept["first_fifth"]["clipped"] < kept["all_of_it"]["clipped"]
    assert kept["something_else"]["unclipped"] < 0
    chapter = (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    for name in ("something_else", "first_fifth"):
        assert chapter.count(short(kept[name]["clipped"], 3)) >= 2
    said = ["one two", "three four", "five"]
    heard = ["one two", "four three", "six seven eight"]
    pairs = floors.every_other(said, heard)
    assert list(zip(*pairs, strict=True))[:3] == [
        ("one two", "four three"), ("one two", "six seven eight"), ("three four", "one two")
    ]  # fmt: skip
    assert floors.shares(said, heard) == {
        "clipped": round((1 + 0 + 0) / 3, 3),
        "unclipped": round((2 + 0 - 2) / 5, 3),
    }


def test_the_chapter_gives_the_verdicts_of_the_jsons():
    runs, chapter = results.load(), (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    for claim in claims.CLAIMS:
        word = claims.verdict([claims.difference(runs, claim, measure) for measure in claim.measures])
        assert f"| {claim.text} | {word} |" in chapter


def heads(runs):
    """The headline differences of each claim: written answers, then words recognised."""
    return {
        claim: [claims.difference(runs, claim, measure) for measure in claims.MEASURES if measure.headline]
        for claim in claims.CLAIMS
    }


def test_the_chapter_says_which_measure_decides_and_what_stands_when_corrected():
    runs, chapter = results.load(), (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    decides = {"both": [], "answers": [], "words": [], "neither": []}
    found = heads(runs)
    for claim, (answers, words) in found.items():
        told = answers.verdict != claims.UNTOLD, words.verdict != claims.UNTOLD
        name = {(1, 1): "both", (1, 0): "answers", (0, 1): "words", (0, 0): "neither"}[told]
        decides[name].append((claim.ours, claim.theirs))
        assert "nar" in (claim.ours, claim.theirs) or answers.verdict == claims.UNTOLD
    assert decides["neither"] == [("paper", "paper-ppm"), ("mended", "paper")]
    assert decides["both"] == [("exact", "nar")]
    assert decides["answers"] == [("paper", "nar")]
    assert len(decides["words"]) == 5
    assert "neither measure decides" in chapter and "never both" not in chapter

    flat = [d for pair in found.values() for d in pair]
    corrected = claims.holm([d.p for d in flat])
    told = [p for p, d in zip(corrected, flat, strict=True) if d.verdict != claims.UNTOLD]
    assert (len(told), sum(p < 0.05 for p in told)) == (8, 4)
    assert sorted(round(p, 2) for p in told if p >= 0.05) == [0.08, 0.08, 0.5, 0.5]
    assert "four of the eight differences stand" in chapter


def short(x, digits=2):
    """A figure as the chapter prints it: .11 for 0.114."""
    return f"{x:.{digits}f}".replace("0.", ".", 1)


def short_signed(mean, low, high):
    """'+.009 [-.024, +.042]'."""
    return claims.signed(mean, low, high).replace("0.", ".")


def test_the_chapter_says_when_to_use_it_by_the_figures():
    chapter = (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    [advice] = [
        part for part in chapter.split("\n\n") if part.startswith("**When to use it, and when not.**")
    ]
    advice = " ".join(advice.split())  # a line may break anywhere
    assert len(re.split(r"\.\s(?=[A-Z])", advice)) == 4  # sentences
    # 1. What few steps save and cost, of the shipped talker.
    figures = json.loads(
        (results.ROOT / "benchmarks" / "figures" / "decoding.json").read_text(encoding="utf-8")
    )
    ways = {way["name"]: way for way in figures["policies"]}
    few, all_steps, alone = (ways[f"B={b} K={k} random_order"] for b, k in ((8, 2), (8, 8), (1, 1)))
    time = few["ms_per_token"] / alone["ms_per_token"]
    assert f"{short(few['forwards'])} forwards and {short(time)} of the processor time" in advice
    lost, low, high = (-100 * few[name] for name in ("difference", "high", "low"))
    assert f"pays {lost:.1f} [{low:.1f}, {high:.1f}] points" in advice
    assert (
        f"one step per slot it pays {-100 * all_steps['difference']:.1f} points and saves nothing" in advice
    )
    assert all_steps["ms_per_token"] > alone["ms_per_token"]
    # 2. What training left to right gains, and what it does to text.
    [(answers, words)] = [
        d for claim, d in heads(results.load()).items() if (claim.ours, claim.theirs) == ("exact", "ar")
    ]
    behind = f"{short(-words.mean)} [{short(-words.high)}, {short(-words.low)}]"
    assert f"`exact` is behind `ar` by {behind} of" in advice
    assert f"differ by {short(answers.mean)} [{short(answers.low)}, {short(answers.high)}]" in advice
    assert answers.verdict == claims.UNTOLD
    # 3. What twenty minutes of training give.
    runs = study_tables.load_runs()
    texts, answered, spoken = study_tables.MEASURES

    def after_twenty(ours: tuple[str, str], theirs: tuple[str, str], measure: study_tables.Measure):
        claim = study_tables.Claim("", study_tables.Side(*ours), study_tables.Side(*theirs))
        return study_tables.difference(runs, claim, measure)

    of_each = [runs["exact", seed]["ways"]["4/2"]["tts"]["forwards_per_token"] for seed in range(3)]
    forwards = short(sum(of_each) / 3)
    assert f"blocks of 4 and 2 steps needs {forwards} forwards per code" in advice
    in_pairs = [after_twenty(("exact", "4/2"), ("ar", "1/1"), measure) for measure in (answered, spoken)]
    told = [short_signed(found.mean, *found.paired) for found in in_pairs]
    assert f"({told[0]} of spoken answers, {told[1]} of text to speech)" in advice
    lags = [after_twenty((name, "8/8"), ("ar", "1/1"), spoken) for name in ("exact", "paper")]
    assert [found.paired[0] < 0 < found.paired[1] for found in (*in_pairs, *lags)] == [
        True,
        True,
        True,
        False,
    ]
    behind = [f"{short(-d.mean, 3)} [{short(-d.paired[1], 3)}, {short(-d.paired[0], 3)}]" for d in lags]
    assert f"by {behind[0]}, which three seeds cannot tell from nothing" in advice
    assert f"`paper` by {behind[1]}, which they can" in advice
    assert f"has {behind[0]} left in text to speech" in chapter
    written = after_twenty(("exact", "8/8"), ("ar", "1/1"), texts)
    assert f"and by {short_signed(written.mean, *written.paired)} after twenty" in advice
    # 4. What little data give: `exact` is ahead in every seed with 1,000 records, and it is no verdict.
    [_, few, _, *_] = study_tables.differences(runs, "little")
    assert all(lead.startswith("+") for lead in leads(runs, "1000", answered))
    assert f"in every seed, by {short_signed(few.mean, *few.paired)} of the words of spoken answers" in advice
    # 5. As long as runs are missing, the chapter says so.
    done = len(list(study_tables.SCORES.glob("*-[0-9].json")))
    arms = len({name for names in studies.STUDIES.values() for name in names})
    assert ("runs are still missing" in advice) == (done < 3 * arms)


def test_the_chapter_says_what_twenty_minutes_tell():
    chapter = (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    [part] = [part for part in chapter.split("\n\n") if part.startswith("**After twenty minutes each**")]
    runs = study_tables.load_runs()
    found = study_tables.differences(runs, "claims")
    corrected = claims.holm([one.p for one in found])
    told = [one for one, p in zip(found, corrected, strict=True) if p < study_tables.LEVEL]
    assert (len(told), len(found)) == (6, 15)  # six are told, the other nine are open
    figures = re.findall(r"[+-]\.\d{3}", part)
    assert sorted(figures) == sorted(f"{one.mean:+.3f}".replace("0.", ".") for one in told)
    pairs = {(one.claim.ours.arm, one.claim.theirs.arm) for one in told}
    assert ("exact", "ar") not in pairs
    # One block size or many.
    sizes = study_tables.differences(runs, "sizes")
    assert len(sizes) == 18
    assert min(claims.holm([one.p for one in sizes])) > study_tables.LEVEL
    arms = (studies.ONE_SIZE, "exact")
    against_all = [one for one in sizes if (one.claim.ours.arm, one.claim.theirs.arm) == arms]
    assert len(against_all) == 9
    means = [abs(one.mean) for one in against_all]
    bounds = [abs(bound) for one in against_all for bound in one.paired]
    assert f"no mean by more than {short(max(means), 3)}, and no interval" in part
    assert f"reaches beyond {short(max(bounds), 3)}." in part


def little_data(runs):
    """What chapter 6 has to say of the third study, in this order; nothing before all of its runs are there."""
    found = study_tables.differences(runs, "little")
    if [one.seeds for one in found] != 6 * [study_tables.SEEDS]:
        return []
    seeds = range(study_tables.SEEDS)
    spoken = study_tables.MEASURES[2]
    # 1. How many differences are told, and what they are: three with 1,000 records, three with 300.
    corrected = claims.holm([one.p for one in found])
    told = sum(p < study_tables.LEVEL for p in corrected)
    figures = [f"{told or 'none'} of the six differences can be told"]
    for size, of_size, p_values in (("1000", found[:3], corrected[:3]), ("300", found[3:], corrected[3:])):
        figures.append(f"{runs[f'exact-{size}-records', 0]['epochs']:.0f} epochs")
        figures += [short_signed(one.mean, *one.paired) for one in of_size]
        # What each seed says of speech, and how far from a verdict the nearest of the three is.
        figures += [", ".join(leads(runs, size, measure)) for measure in study_tables.MEASURES[1:]]
        figures.append(f"p = {short(min(p_values))}")

    # 2. Whether the order of decoding has a part in it: `exact`, left to right.
    def spoken_by(name, way):
        return short(statistics.mean(spoken.of(runs[name, seed], way) for seed in seeds))

    figures.append(f"decoded left to right it has {spoken_by('exact-1000-records', '1/1')}")
    figures.append(f"in blocks of 8 it has {spoken_by('exact-1000-records', '8/8')}")
    figures.append(f"`ar` has {spoken_by('ar-1000-records', '1/1')}")
    # 3. Stopping early: of each run of `ar` the best look, though the looks are at the very questions.
    for name, size in (("ar-1000-records", "1,000"), ("ar-300-records", "300")):
        best = [max(point["tts"] for point in runs[name, seed]["curve"]) for seed in seeds]
        figures.append(f"{short(statistics.mean(best))} with {size}")
    return figures


def leads(runs, size, measure):
    """How far `exact` is ahead of `ar` in each seed: '+.07', or '-.06' where it is behind."""
    ours, theirs = f"exact-{size}-records", f"ar-{size}-records"
    gaps = [
        measure.of(runs[ours, seed], "8/8") - measure.of(runs[theirs, seed], "1/1")
        for seed in range(study_tables.SEEDS)
    ]
    return [f"{gap:+.2f}".replace("0.", ".", 1) for gap in gaps]


def tells(text, figures):
    """Whether all of them stand in the text, one after the other; a line may break anywhere."""
    return re.search(".*".join(map(re.escape, figures)), " ".join(text.split())) is not None


def test_the_chapter_says_what_little_data_tells():
    chapter = (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    parts = re.findall(r"^\*\*When records are few\*\*.*?(?=^\*\*)", chapter, re.DOTALL | re.MULTILINE)
    runs = study_tables.load_runs()
    figures = little_data(runs)
    assert len(parts) == bool(figures)
    assert tells(" ".join(parts), figures)
    # The front page says which way it points, and that it is no verdict.
    front = " ".join((results.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "With only 1,000 records to learn from, denoising speaks better in each of three seeds" in front
    spoken = study_tables.MEASURES[1:]
    assert all(lead.startswith("+") for measure in spoken for lead in leads(runs, "1000", measure))
    assert not all(lead.startswith("+") for measure in spoken for lead in leads(runs, "300", measure))
    assert "which is not yet a verdict; with 300 it does not" in front and figures[0].startswith("none")


def test_the_chapter_says_how_many_seeds_would_tell_and_what_the_second_look_found():
    chapter = (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    runs = study_tables.load_runs()
    found = study_tables.differences(runs, "little")
    _, answers, words = (one.seeds_needed(len(found)) for one in found[:3])
    assert tells(chapter, [f"it would take about {answers} seeds", f"and about {words} for text to speech"])
    spoken = {}
    for name in ("exact", "ar"):
        looks = [runs[f"{name}-300-records", seed]["curve"][1] for seed in range(study_tables.SEEDS)]
        spoken[name] = short(statistics.mean(look["tts"] for look in looks))
    assert tells(
        chapter,
        [f"After ten minutes (150 epochs) `exact` was ahead there, too, {spoken['exact']} to {spoken['ar']}"],
    )


def test_of_little_data_nothing_is_said_before_every_run_is_there():
    runs = study_tables.load_runs()
    last = study_tables.SEEDS - 1
    for name in studies.STUDIES["little"]:
        runs[name, last] = runs[name, 0]
    figures = little_data(runs)
    assert len(figures) == 20
    assert tells("; ".join(figures).replace(" ", "\n"), figures)
    assert not any(tells("; ".join(figures[:i] + figures[i + 1 :]), figures) for i in range(20))
    for name in studies.STUDIES["little"]:
        assert not little_data({key: run for key, run in runs.items() if key != (name, last)})


def test_the_chapter_says_what_pairing_and_warm_up_do():
    runs, chapter = results.load(), (results.PAGE.parent / "06_does_it_hold.md").read_text(encoding="utf-8")
    wider = 0
    for claim in claims.CLAIMS:
        for measure in claims.MEASURES:
            if measure.headline:
                ours, theirs = (
                    [measure.of(runs[row, seed]) for seed in range(5)] for row in (claim.ours, claim.theirs)
                )
                paired = statistics.stdev([a - b for a, b in zip(ours, theirs, strict=True)])
                apart = math.sqrt(statistics.variance(ours) + statistics.variance(theirs))
                wider += claims.quantile(4) * paired > claims.quantile(8) * apart
    assert f"In {wider} of the 18 comparisons that decide the verdicts below" in chapter
    for row in ("nar", "exact", "ar", "paper"):
        share = tables.warm_up(tables.of_row(runs, row)).removeprefix("0")
        assert re.search(rf"`{row}`(\'s)? \({share}\)", chapter)
    for row in ("exact", "nar"):
        assert f"{tables.counted(tables.of_row(runs, row))}" in chapter


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_keeps_their_order_and_multiplies_the_smallest_by_all(ps):
    corrected = claims.holm(ps)
    assert all(after >= before for before, after in zip(ps, corrected, strict=True))
    assert min(corrected) == min(1, len(ps) * min(ps))
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_student_s_tail_at_its_quantiles_is_one_in_twenty():
    for degrees, quantile in enumerate(claims.STUDENT, 1):
        assert claims.two_sided(quantile, degrees) == pytest.approx(0.05, abs=5e-5)
        assert claims.two_sided(-quantile, degrees) == claims.two_sided(quantile, degrees)
        assert claims.two_sided(0.0, degrees) == 1.0


def test_the_page_says_what_the_jsons_say():
    assert results.PAGE.read_text(encoding="utf-8") == results.page()


def test_studies_are_told_from_their_jsons():
    score = lambda name, low, high: asdict(Score(name, (low + high) / 2, low, high, 9))  # noqa: E731
    names = ("text: past less source", "audio: past less source", "audio: all its past less source")
    both = [[score(name, x, x) for name in names] for x in (0.1, 0.12)]
    made = [{"seconds": 600.0, "scores": {"all": these}, "halfway": both[0]} for these in both]
    said = tables.premise([made[0], *made])
    assert (
        "more than on its source: **holds**" in said
        and "more than on all of its own past: **does not hold**" in said
    )
    mean, low, high = claims.over_seeds([0.1, 0.1, 0.12])
    assert 0 < low < mean < high and claims.signed(mean, low, high) in said
    assert f"more than on its source: **{claims.UNTOLD}**" in tables.premise(made[:1])
    rows, rng = [], random.Random(0)
    for block, steps in ((1, 1), (16, 1), (16, 16)):
        q = {"value": steps / 16, "low": steps / 16 - 0.01, "high": steps / 16 + 0.01}
        same = {"value": 0.9, "low": 0.8, "high": 1.0}
        row = {
            "block": block,
            "steps": steps,
            "policy": "random_order",
            "temperature": 1.0,
            "voices even": 1.0,
        }
        row |= {"forwards per token": {"value": rng.random()}, "text right": same, "words recognised": same}
        rows.append(row | {"voice coherence": q, "on the front of": ["text right"]})
    told = tables.sweep({"rows": rows})
    assert "voice coherence: the number of steps **matters**" in told
    assert "text right: the number of steps **makes no difference that can be told**" in told


def test_measures_that_disagree_decide_nothing():
    claim, measure = claims.CLAIMS[0], claims.MEASURES[0]
    one, other = (claims.Difference(measure, x, x - 0.1, x + 0.1, 3) for x in (0.5, -0.5))
    assert one.verdict == claims.HOLDS and other.verdict == claims.FAILS
    assert f"**{claims.UNTOLD}**, as measures disagree" in claims.sentence(claim, [one, other])
    same = claims.sentence(claim, [one, claims.Difference(measure, 0.0, -0.1, 0.1, 3)])
    assert f"**{claims.HOLDS}** (" in same and "+0.000 [-0.100, +0.100]" in same


def test_what_was_not_measured_is_not_called_undecided():
    claim = claims.CLAIMS[0]
    found = [claims.difference({}, claim, measure) for measure in claims.MEASURES]
    assert claims.sentence(claim, found).endswith("**not measured yet**.")


# ---- codecs, by talkers that learn from their tokens


def test_who_is_left_out_is_heard_in_no_record():
    corpus = toy_corpus(1)
    corpus.utterances[0] = {"text": "one", "voice": "speaker_c"}
    left = codec_talkers.without(corpus, "speaker_c")
    for name, records in left.splits.items():
        assert all(codec_talkers.first_voice(left, record) != "speaker_c" for record in records)
        dropped = len(corpus.splits[name]) - len(records)
        assert dropped == sum(
            codec_talkers.first_voice(corpus, r) == "speaker_c" for r in corpus.splits[name]
        )
    assert codec_talkers.without(corpus, "nobody").splits == corpus.splits


@given(voices_each=st.integers(0, 3), n_people=st.integers(0, 3))
def test_an_arm_keeps_so_many_voices_of_each_make_and_so_many_people(voices_each, n_people):
    voices = [
        "flite awb",
        "flite rms",
        "kokoro a",
        "kokoro b",
        "kokoro c",
        "speaker_a",
        "speaker_b",
        "speaker_c",
        "en+m1",
        "",
    ]
    utterances = [{"text": "one", "voice": voice} for voice in voices]
    records = [
        {"family": "asr", "messages": [["system", "transcribe"], ["user", i], ["assistant", "one"]]}
        for i in range(len(voices))
    ]
    corpus = replace(toy_corpus(1), utterances=utterances, splits={"train": records, "renditions": records})
    kept = voices_and_minutes.kept_voices(corpus, voices_each, n_people, "speaker_b")
    assert "en+m1" in kept
    assert "speaker_b" not in kept
    for make, n in (("flite", 2), ("kokoro", 3)):
        assert sum(voice.startswith(make) for voice in kept) == min(voices_each, n)
    assert sum(voice.startswith("speaker_") for voice in kept) == min(n_people, 2)
    part = voices_and_minutes.part_of(corpus, kept)
    assert {codec_talkers.first_voice(part, record) for record in part.splits["train"]} == kept
    assert part.splits["renditions"] == records


@pytest.fixture(scope="module")
def few_records():
    """The shipped corpus with the first forty records of each split."""
    whole = load_corpus(SAMPLES / "corpus")
    return replace(whole, splits={name: records[:40] for name, records in whole.splits.items()})


@given(n_train=st.integers(1, 30), seed=SEEDS)
@settings(max_examples=5)
def test_a_thin_corpus_says_the_same_and_passes_on_no_voice_that_is_excluded(
    few_records, tmp_path_factory, n_train, seed
):
    out = tmp_path_factory.mktemp("thin") / "corpus"
    heard = (codec_talkers.first_voice(few_records, record) for record in few_records.split("train"))
    excluded = next(voice for voice in heard if voice)  # of a record that would be kept
    tokeniser = SAMPLES / "corpus" / "tokeniser.model"
    with pytest.raises(SystemExit, match="do not hold all words"):  # of the whole corpus
        thin_corpus.thin(few_records, out, tokeniser, n_train, seed, (excluded.split()[0],))
    thinned = load_corpus(out)
    assert excluded not in {utterance["voice"] for utterance in thinned.utterances}
    for name in few_records.splits:
        said = [spoken_in(thinned, record) for record in thinned.split(name)]
        before = [spoken_in(few_records, record) for record in allowed(few_records, name, excluded)]
        if name == "train":
            assert len(said) == min(n_train, len(before))
            assert all(one in before for one in said)
        else:
            assert said == before


def allowed(corpus, split: str, voice: str) -> list[dict]:
    """The records of a split in which a voice is not heard."""
    kept = []
    for record in corpus.split(split):
        numbers = [part for _, *parts in record["messages"] for part in parts if isinstance(part, int)]
        if all(corpus.utterances[number]["voice"] != voice for number in numbers):
            kept.append(record)
    return kept


def spoken_in(corpus, record: dict) -> list:
    """A record's messages, the codes themselves in place of numbers of utterances."""
    said = []
    for _, *parts in record["messages"]:
        said += [corpus.audio(part).tolist() if isinstance(part, int) else part for part in parts]
    return said
