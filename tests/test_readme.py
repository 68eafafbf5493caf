"""The README says what was measured, and its commands exist."""

import re
import sys
from pathlib import Path

import pytest

from minittt.app.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_scores_is_the_one_in_the_json():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from readme_scores import rewritten

    assert rewritten(README) == README


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
