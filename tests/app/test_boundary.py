"""The command line is a boundary: bad input ends in one line, before the work, and changes nothing."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from minittt.app import checks, cli, talking, typed
from minittt.app.arguments import command_line
from minittt.app.cli import SAMPLES, main
from minittt.codec import Codec, CodecConfig
from minittt.decoding import End
from minittt.errors import MinitttError
from minittt.talker import Reply, Talker
from minittt.training.codec_training import check_state
from tests.app.boundary_cases import ERRORS, GROUPS, REQUESTS, WARNINGS, page
from tests.browser import heed_ctrl_c

HOLD = """
import sys
from minittt.files import locked_file
with locked_file(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""
CASES = [case for cases in GROUPS.values() for case in cases]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the table speaks of, to be in."""
    shutil.copy(SAMPLES / "wav" / "question_1.wav", tmp_path / "question.wav")
    shutil.copy(SAMPLES / "wav" / "speech_1.wav", tmp_path / "answer.wav")
    (tmp_path / "notes.txt").write_text("no sound", encoding="utf-8")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.txt").write_text("la", encoding="utf-8")
    (tmp_path / "link.wav").symlink_to("answer.wav")
    (tmp_path / "a.json").mkdir()
    recordings(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "state-00000001.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recordings(folder):
    """Folders for `adapt`: one speaker alone, and four in which something is wrong."""
    rows = {
        "ann": "file_name,transcript,speaker\n1.wav,one two,ann\n2.wav,three,ann\n3.wav,four,ann\n",
        "labels": "file_name,label\n1.wav,one two\n2.wav,three\n",
        "blank": "file_name,transcript\n1.wav,one two\n2.wav,\n",
        "missing": "file_name,transcript\n1.wav,one two\n9.wav,three\n",
        "silent": "file_name,transcript\n1.wav,one two\n0.wav,three\n",
        "empty": "file_name,transcript\n",
    }
    for name, text in rows.items():
        (folder / name).mkdir()
        (folder / name / "metadata.csv").write_text(text, encoding="utf-8")
        for number in (1, 2, 3):
            shutil.copy(SAMPLES / "wav" / f"question_{number}.wav", folder / name / f"{number}.wav")
    soundfile.write(folder / "silent" / "0.wav", np.zeros(8000), 8000)


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def ended_with(arguments):
    """The exit code of a command; what argparse refuses ends the process."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("case", CASES, ids=[ascii(case.given) for case in CASES])
def test_a_bad_line_ends_in_one_line_and_changes_nothing(case, folder, capsys):
    before = contents(folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = shlex.split(case.given.replace("8765", port))
        assert ended_with(arguments) == 2
    out, err = capsys.readouterr()
    seen = err.replace(str(folder) + os.sep, "")  # where a whole path is named, the page has the last part
    seen = re.sub(r"\r.*reading:.*\n", "", seen)  # a bar of progress
    assert seen == f"minittt {arguments[0]}: {case.sees}\n".replace("8765", port)
    assert out == case.first
    assert contents(folder) == before


PLACES = [case for case in CASES if case.sees.startswith("cannot write")]
IGNORED = list(GROUPS["Options that would be ignored"])
MANY = [case for case in CASES if "do not go into one file" in case.sees]
BEFORE = PLACES + IGNORED + MANY


@pytest.mark.parametrize("case", BEFORE, ids=[ascii(case.given) for case in BEFORE])
def test_places_and_options_are_refused_by_the_check_alone(case, folder):
    """Nothing is loaded for it, let alone computed."""
    args = command_line().parse_args(shlex.split(case.given))
    with pytest.raises(MinitttError) as refused:
        checks.check(args)
    assert str(refused.value).replace(str(folder) + os.sep, "") == case.sees


@pytest.fixture(scope="module")
def client():
    """A page that is served, to be asked."""
    from minittt.app import serve

    testclient = pytest.importorskip("starlette.testclient")
    talker = Talker.load(SAMPLES / "talker.safetensors")
    speaker = serve.Speaker("shipped", talker, Codec.load(SAMPLES / "codec.safetensors"))
    here = "http://127.0.0.1:8765"
    return testclient.TestClient(serve.application([speaker], "127.0.0.1", 8765), base_url=here)


@pytest.mark.parametrize("asked", REQUESTS, ids=[asked.what for asked in REQUESTS])
def test_a_bad_request_is_answered_in_one_sentence(asked, client):
    answer = client.post("/ask", **asked.sent)
    assert answer.status_code == asked.status
    last = json.loads(answer.text.splitlines()[-1])
    assert last.get("message", last.get("error")) == asked.sees
    assert client.get("/about").status_code == 200


@pytest.mark.parametrize("given", WARNINGS)
def test_a_warning_is_one_line_and_the_work_goes_on(given, folder, capsys):
    assert main(shlex.split(given)) == 0
    out, err = capsys.readouterr()
    assert err == f"warning: {WARNINGS[given]}\n"
    assert "two plus three equals five" in out


def test_the_page_of_errors_is_the_table():
    assert ERRORS.read_text(encoding="utf-8") == page(), "run: python -m tests.app.boundary_cases"


# ---- what belongs to the package, or to another process


def test_nothing_is_written_into_the_installed_package(folder, capsys, monkeypatch):
    inside = folder / "installed" / "minittt"
    (inside / "data_samples").mkdir(parents=True)
    monkeypatch.setattr(checks, "PACKAGE", inside)
    before = contents(folder)
    for given in (
        "calibrate -o installed/minittt/data_samples/talker.safetensors",
        "speak two -o installed/minittt/speech.wav",
        "train -o installed/minittt/../minittt/run",
    ):
        assert main(given.split()) == 2
        assert "it is inside the installed package; name a place of your own" in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize("given", ["codec train -o new.safetensors", "referee -o new.safetensors"])
def test_a_file_that_another_process_trains_is_left_to_it(given, folder, capsys):
    command = [sys.executable, "-c", HOLD, "new.safetensors"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert main(given.split()) == 2
    told = capsys.readouterr().err
    assert f"process {holder.pid} on" in told
    assert told.count("\n") == 1
    holder.communicate(b"")
    assert not list(folder.glob(".*"))
    assert not list(folder.glob("new.*"))


def test_a_codec_left_unfinished_is_not_overwritten(folder, capsys):
    (folder / "new.state").write_bytes(b"state")
    with pytest.raises(MinitttError, match="is of an unfinished training: resume it"):
        check_state("new.safetensors", resume=False)  # by itself, before a command would draw anything
    assert main(["codec", "train", "-o", "new.safetensors"]) == 2
    assert "new.state is of an unfinished training: resume it" in capsys.readouterr().err


def test_a_roundtrip_takes_more_than_is_read_at_once(folder, monkeypatch):
    """Six minutes, in pieces; `talk` refuses them."""
    tiny = Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8))
    tiny.save("tiny.safetensors")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 370 * 8000)
    soundfile.write("long.wav", noise, 8000)
    frames = []
    encode = Codec.latents
    monkeypatch.setattr(Codec, "latents", lambda self, wave: frames.append(wave.shape) or encode(self, wave))
    assert main("codec roundtrip long.wav -o back.wav --codec tiny.safetensors".split()) == 0
    assert soundfile.info("back.wav").frames == len(noise)
    assert not frames  # the whole wave never went through the encoder at once
    assert main("talk long.wav".split()) == 2


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
    monkeypatch.setattr(talking, "confidence", lambda info, certainty: float("nan"))
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


STARTING = """
import signal, sys, time
import minittt.__main__ as entry

class Deaf:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            try:
                signal.raise_signal(signal.SIGINT)
                for _ in range(1000): pass
            except BaseException:  # as libraries in C do, or worse: some end Python
                print("swallowed")

sys.meta_path.insert(0, Deaf())
sys.argv = ["minittt", "transcribe", "nothing.wav"]
sys.exit(entry.main())
"""

WORKING = """
import signal, sys
import minittt.__main__ as entry
from minittt.app import checks, commands

def transcribe(args):
    try:
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000): pass
    finally:
        print("tidied")

checks.check = lambda args: None
commands.transcribe = transcribe
sys.argv = ["minittt", "transcribe", "nothing.wav"]
sys.exit(entry.main())
"""


@pytest.mark.parametrize(("moment", "told"), [(STARTING, ""), (WORKING, "tidied\n")])
def test_a_ctrl_c_ends_imports_at_once_and_work_tidily(moment, told):
    """A KeyboardInterrupt in the middle of importing torch ends in an abort of its own, or is lost."""
    line = [sys.executable, "-c", moment]
    done = subprocess.run(line, capture_output=True, text=True, check=False, preexec_fn=heed_ctrl_c)
    assert (done.returncode, done.stdout, done.stderr) == (130, told, "stopped\n")


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
