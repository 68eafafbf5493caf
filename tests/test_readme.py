"""The README says what was measured, and its commands exist."""

import re
from pathlib import Path

import pytest
from readme_scores import PAGE, load, rewritten

from minittt.app.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_scores_is_the_one_in_the_json():
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page


def test_the_scores_in_the_first_lines_are_those_of_the_table():
    """The sentence under "How well the reference talker does" is typed by hand: each figure must be in the JSONs."""
    scores = {split: {s["name"]: s for s in found} for split, found in load().items()}
    voices = scores["voices"]
    wanted = [
        voices["spoken question, text answer right"]["value"],
        voices["ASR word error rate"]["value"],
        voices["spoken answer: words recognised"]["value"],
        float(voices["spoken answer: words recognised"]["note"].split()[-1]),
        scores["facts"]["spoken question, text answer right"]["value"],
    ]
    [section] = re.findall(r"## How well the reference talker does\n(.*?)\n## ", README, re.S)
    for value in wanted:
        assert f"{value:.3f}".removeprefix("0") in section, value


def test_the_code_shown_is_that_of_the_file():
    shown = re.search(r"```python\n(.*?)```", README, re.S)[1]
    source = (ROOT / "tutorials" / "tiny_ttt.py").read_text(encoding="utf-8")
    for line in shown.splitlines()[1:]:
        assert line in source, line


def test_every_command_and_option_in_the_readme_exists(capsys):
    lines = re.findall(r"^minittt (\w+)(.*?)(?:\s{2,}#.*)?$", README, re.M)
    assert len(lines) >= 8
    for command, rest in lines:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helped = capsys.readouterr().out
        assert all(option in helped for option in re.findall(r"--[a-z-]+", rest)), (command, rest)


def test_every_file_the_readme_names_exists():
    for name in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"`(\w+\.py)`", README):
        assert list((ROOT / "minittt").rglob(module)), module


def test_the_example_of_own_codes_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    """The page's code, as it stands: codes of no codec become a corpus, a talker, and come out of it again."""
    page = (ROOT / "tutorials" / "own_codes.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "own_codes.md", "exec"), {})
    [expected] = re.findall(r"# (three .*)", code)
    assert expected in capsys.readouterr().out.splitlines()
