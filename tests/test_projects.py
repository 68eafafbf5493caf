"""The projects of tutorials/projects.md: their commands exist, and the scripts that they use do what they say."""

import json
import re
import shlex
from pathlib import Path

import backwards
import hear
import pytest
import spread

from minittt.app.cli import main
from minittt.data.corpus import load_corpus
from minittt.evaluation.scores import Score, write_scores
from minittt.settings import samples_folder
from tests.test_docs import Page

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "tutorials" / "projects.md").read_text(encoding="utf-8")
SAMPLES = samples_folder()
LINES = re.findall(r"^ *(minittt \w+ .*|python benchmarks/\w+\.py .*)$", PAGE, re.M)
INPUTS = [word for line in LINES for word in shlex.split(line) if word.startswith("data_samples/")]


@pytest.mark.parametrize("command", sorted({shlex.split(line)[1] for line in LINES}))
def test_every_command_and_option_exists(command, capsys):
    if command.endswith(".py"):
        helped = (ROOT / command).read_text(encoding="utf-8")
    else:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helped = capsys.readouterr().out
    lines = [line for line in LINES if shlex.split(line)[1] == command]
    options = [option for line in lines for option in re.findall(r"(--[a-z-]+)", line)]
    assert not [option for option in options if option not in helped]


@pytest.mark.parametrize("name", sorted(set(INPUTS)))
def test_every_file_that_is_read_is_shipped(name):
    assert list(ROOT.glob(name))


def test_every_project_says_what_to_ask_do_see_and_write_down():
    projects = re.split(r"^## \d\. ", PAGE, flags=re.M)[1:]
    assert len(projects) == 5
    for project in projects:
        for part in ("Question", "Do", "Look for", "Write down", "How long"):
            assert f"**{part}.**" in project
        assert "for seed in 0 1 2" in project


def test_talkers_are_heard_side_by_side(tmp_path, capsys):
    questions = ["say seven", str(SAMPLES / "wav" / "question_1.wav")]
    out = tmp_path / "hear.html"
    hear.main([*questions, "--talkers", "reference", "people", "-o", str(out)])
    page = Page(out.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("tr"), tags.count("td"), tags.count("audio")) == (3, 4, 4)
    assert page.text.count("seven") == 3  # the question, and both answers
    assert "question_1.wav" in page.text and "people/talker.safetensors" in page.text
    assert all(link.startswith("data:audio/wav;base64,UklGR") for link in page.links())


def test_what_is_asked_is_no_markup(tmp_path, monkeypatch):
    monkeypatch.setattr(hear, "answer", lambda *about: ("<script>x</script>", ""))
    hear.main(["<b>two", "--talkers", "reference", "-o", str(tmp_path / "h.html")])
    text = (tmp_path / "h.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "<b>" not in text
    assert "<audio" not in text  # a silent answer has no player


def test_a_family_is_made_of_recordings_that_are_there(tmp_path, capsys):
    backwards.main(["build", str(tmp_path / "corpus")])
    corpus = load_corpus(tmp_path / "corpus")
    for split, lengths in (("train", {2, 3, 4}), ("voices", {2, 3, 4}), ("longer", {5, 6})):
        records = corpus.split(split)
        assert {len(record["messages"][-1][1].split()) for record in records} == lengths
        for record in records:
            _, [_, heard], [_, text] = record["messages"]
            assert text.split()[::-1] == corpus.utterances[heard]["text"].split()
    assert len(corpus.split("train")) > 1000


def test_seeds_are_averaged_by_name(tmp_path):
    for seed, value in ((0, 0.25), (1, 0.75)):
        write_scores(tmp_path / f"ar-{seed}.json", [Score("text right", value, 0, 1, 4)])
    write_scores(
        tmp_path / "exact-0.json", [Score("text right", 1.0, 0, 1, 4), Score("only here", 0, 0, 1, 4)]
    )
    files = sorted(tmp_path.glob("*.json"))
    assert spread.table(files).splitlines() == [
        "| | ar | exact |",
        "| --- | --- | --- |",
        "| text right | 0.500 ± 0.354 (n=2) | 1.000 (one seed) |",
        "| only here | - | 0.000 (one seed) |",
    ]
    assert json.loads(files[0].read_text(encoding="utf-8"))[0]["value"] == 0.25


def test_logs_are_averaged_over_their_last_steps(tmp_path):
    for seed in (0, 1):
        (tmp_path / f"exact-{seed}").mkdir()
        steps = [{"step": n + 1, "text": n + seed, "audio": 0.0 if n % 2 else 2.0} for n in range(100)]
        log = "".join(json.dumps(step) + "\n" for step in steps)
        (tmp_path / f"exact-{seed}" / "log.jsonl").write_text(log, encoding="utf-8")
    assert spread.table(sorted(tmp_path.rglob("log.jsonl"))).splitlines()[2:] == [
        "| steps | 100.000 ± 0.000 (n=2) |",
        "| text, nats a token, last 50 steps | 75.000 ± 0.707 (n=2) |",
        "| audio, nats a token, last 50 steps | 2.000 ± 0.000 (n=2) |",
    ]
