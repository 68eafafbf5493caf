"""The command line is a boundary: bad input ends in one line, before the work, and changes nothing."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from minittt.app import cli, commands, typed
from minittt.app.cli import SAMPLES, main
from minittt.decoding import End
from minittt.talker import Reply, Talker
from tests.app.boundary_cases import ERRORS, GROUPS, WARNINGS, page
from tests.browser import heed_ctrl_c

CASES = [case for cases in GROUPS.values() for case in cases]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the table speaks of, to be in."""
    shutil.copy(SAMPLES / "wav" / "question_1.wav", tmp_path / "question.wav")
    shutil.copy(SAMPLES / "wav" / "speech_1.wav", tmp_path / "answer.wav")
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.txt").write_text("la")
    (tmp_path / "link.wav").symlink_to("answer.wav")
    (tmp_path / "a.json").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("case", CASES, ids=[ascii(case.given) for case in CASES])
def test_a_bad_line_ends_in_one_line_and_changes_nothing(case, folder, capsys):
    before = contents(folder)
    arguments = shlex.split(case.given)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    seen = err.replace(str(folder) + os.sep, "")  # where a whole path is named, the page has the last part
    assert seen == f"minittt {arguments[0]}: {case.sees}\n"
    assert out == ""
    assert contents(folder) == before


@pytest.mark.parametrize("given", WARNINGS)
def test_a_warning_is_one_line_and_the_work_goes_on(given, folder, capsys):
    assert main(shlex.split(given)) == 0
    out, err = capsys.readouterr()
    assert err == f"warning: {WARNINGS[given]}\n"
    assert "two plus three equals five" in out


def test_the_page_of_errors_is_the_table():
    assert ERRORS.read_text(encoding="utf-8") == page(), "run: python -m tests.app.boundary_cases"


# ---- sound


def test_sound_is_written_as_its_name_says_or_to_standard_output(folder, capfdbinary):
    for name, kind in (("a.wav", "WAV"), ("a.flac", "FLAC"), ("a.ogg", "OGG")):
        assert main(["codec", "roundtrip", "question.wav", "-o", name]) == 0
        assert soundfile.info(name).format == kind
    capfdbinary.readouterr()
    assert main(["codec", "roundtrip", "question.wav", "-o", "-"]) == 0
    sound, said = capfdbinary.readouterr()
    assert b"tokens for" in said
    (folder / "piped.wav").write_bytes(sound)
    piped, rate = soundfile.read("piped.wav")
    assert rate == 8000
    np.testing.assert_allclose(piped, soundfile.read("a.wav")[0], atol=1e-4)


def silent(monkeypatch, spans, reason="end", forced=0):
    """Every reply is written, and its spans are these."""

    def converse(self, conversations, settings, seed=0, max_length=None):
        end = End(0, reason, (), (), (), (), 0, forced, 1)
        return [Reply(text="five", spans=spans, reason=reason, events=[end]) for _ in conversations]

    monkeypatch.setattr(Talker, "converse", converse)


@pytest.mark.parametrize("spans", [[], [[]], [[], []]])
def test_an_older_answer_does_not_stay_where_nothing_was_said(spans, folder, capsys, monkeypatch):
    silent(monkeypatch, spans)
    assert main(["talk", "2+3", "-o", "answer.wav"]) == 0
    out, err = capsys.readouterr()
    assert err == "warning: 2+3: nothing was said; the older answer.wav is removed\n"
    assert "wrote" not in out
    assert not (folder / "answer.wav").exists()


def test_what_was_cut_is_told(folder, capsys, monkeypatch):
    silent(monkeypatch, [[1, 2], []], "limit", forced=1)
    assert main(["talk", "2+3"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: 2+3: the text was cut after 64 tokens",
        "warning: 2+3: 1 of 2 audio spans had no end, and were cut",
        "warning: 2+3: 1 of 2 audio spans are empty",
    ]


def test_json_has_no_nan(folder, monkeypatch):
    monkeypatch.setattr(commands, "confidence", lambda info, certainty: float("nan"))
    assert main(["talk", "2+3", "--json", "replies.json"]) == 0
    text = (folder / "replies.json").read_text(encoding="utf-8")
    [row] = json.loads(text, parse_constant=pytest.fail)
    assert row["confidence"] is None


def test_a_talker_that_knows_one_block_is_decoded_with_it(folder, capsys, monkeypatch):
    """The default, 8, is no block of the preset `ar`: its talkers were decoded with it without a word."""
    talker = Talker.load(SAMPLES / "talker.safetensors")
    talker.info["block_sizes"] = [1]
    talker.save("ar.safetensors")
    seen = []
    real = Talker.converse
    monkeypatch.setattr(
        Talker, "converse", lambda self, c, s, *a, **k: seen.append(s.block_size) or real(self, c, s, *a, **k)
    )
    assert main(["talk", "2+3", "--talker", "ar.safetensors"]) == 0
    assert main(["talk", "2+3", "--talker", "ar.safetensors", "--block", "8"]) == 0
    assert seen == [1, 8]
    assert capsys.readouterr().err.count("trained for blocks of 1, not 8") == 1


# ---- typed or recorded


@pytest.mark.parametrize(
    ("question", "is_file"),
    [
        ("question.m4a", True),
        ("my question.m4a", True),
        ("./nothing", True),
        ("/nothing", True),
        ("~/nothing", True),
        ("question.txt", True),
        ("music/", True),
        ("", False),
        ("2+3", False),
        ("3/4", False),
        ("2.5", False),
        ("what is two plus three.", False),
        ("what is this, e.g. five", False),
        ("x" * 300, False),
        ("a\0b", False),
    ],
)
def test_what_is_written_like_a_path_is_never_answered_as_text(question, is_file, folder):
    assert typed.is_audio(question) == is_file


# ---- Ctrl-C, and errors of others


def test_an_import_that_was_stopped_is_no_missing_module(monkeypatch, capsys):
    def stopped(args):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    monkeypatch.setattr(cli, "_run", stopped)
    assert main(["transcribe", "x.wav"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(13, "Permission denied", "x.wav"),
            "x.wav: Permission denied; name a file or a folder",
        ),
        (OSError(28, "No space left on device"), "the disk is full"),
        (ModuleNotFoundError("No module named 'jiwer'"), "No module named 'jiwer'; `minittt doctor` says"),
        (RuntimeError("CUDA\nerror"), "CUDA error (RuntimeError; --debug"),
    ],
)
def test_errors_of_libraries_and_of_the_system_are_one_line(error, line, monkeypatch, capsys):
    def fails(args):
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    assert main(["transcribe", "x.wav"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"minittt transcribe: {line}")
    assert shown.count("\n") == 1


def test_a_page_may_lie_in_the_folder_that_is_made_for_the_answers(folder):
    """As in `make demo`, in a fresh clone."""
    assert (
        main(["talk", "2+3", "3+4", "-o", "made", "--page", "made/reply.html", "--json", "made/r.json"]) == 0
    )
    assert sorted(os.listdir("made")) == ["r.json", "reply.html", "typed_1_answer.wav", "typed_2_answer.wav"]
    assert main(["talk", "2+3", "3+4", "-o", "other", "--page", "elsewhere/reply.html"]) == 2
    assert main(["talk", "2+3", "3+4", "-o", "other", "--page", "other/reply.txt"]) == 2
    assert not os.path.exists("other")


CALLBACK = """
import ctypes, signal, sys, time
from minittt.app import cli

def command(args):
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    def compare(a, b):
        if not done:
            done.append(True)
            signal.raise_signal(signal.SIGINT)
            for _ in range(1000): pass
        return 0
    done = []
    ctypes.CDLL(None).qsort(ctypes.create_string_buffer(8), 8, 1, prototype(compare))
    time.sleep(20)
    print("went on")

cli._run = command
sys.argv = ["minittt", "doctor"]
sys.exit(cli.main())
"""


def test_a_ctrl_c_inside_a_callback_of_c_is_heard():
    """Python drops exceptions there, and espeak-ng calls back many times a second."""
    line = [sys.executable, "-c", CALLBACK]
    done = subprocess.run(line, capture_output=True, text=True, check=False, preexec_fn=heed_ctrl_c)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_a_poor_terminal_and_a_strange_setting_of_matplotlib_do_no_harm(folder):
    poor = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "MPLBACKEND": "no"}
    line = [sys.executable, "-m", "minittt", "talk", "2+3", "--page", "p.html"]
    done = subprocess.run(line, env=poor, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    line = [sys.executable, "-m", "minittt", "transcribe", b"q\xff.wav"]
    done = subprocess.run(line, env=poor, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"minittt transcribe: q\\xff.wav: the name is not UTF-8")
    assert done.stderr.count(b"\n") == 1
