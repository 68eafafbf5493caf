"""The command line as its users meet it: it answers recorded questions, and bad input ends with one clear line."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import minittt
from minittt.app import making
from minittt.app.arguments import command_line
from minittt.app.cli import SAMPLES, main
from minittt.codec import Codec, CodecConfig
from minittt.data.corpus import Corpus, load_corpus
from minittt.errors import MinitttError
from minittt.nar import DenoisingTalker
from minittt.settings import TrainingSettings, options_of, settings_from, talker_file
from minittt.talker import Talker

WAVS = SAMPLES / "wav"


def run(capsys, *arguments):
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as ended:  # a bad option
        code = ended.code
    out, err = capsys.readouterr()
    return code, out, err


def test_a_recorded_question_is_answered_aloud_and_on_a_page(tmp_path, capsys):
    answer, page = tmp_path / "answer.wav", tmp_path / "reply.html"
    code, out, _ = run(capsys, "talk", WAVS / "question_1.wav", "-o", answer, "--page", page, "--seed", 3)
    assert code == 0
    assert "two plus three equals five" in out
    wave, rate = soundfile.read(answer)
    assert rate == 8000
    assert 0.5 < len(wave) / rate < 4
    assert np.abs(wave).max() > 0.05
    assert "<audio" in page.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_reply_and_another_seed_another_voice(tmp_path, capsys):
    files = [tmp_path / f"{i}.wav" for i in range(6)]
    for file, seed in zip(files, (0, 0, 1, 2, 3, 4), strict=True):
        assert run(capsys, "speak", "two plus three equals five", "-o", file, "--seed", seed)[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len({file.read_bytes() for file in files}) >= 4


def test_several_questions_fill_a_folder_and_text_may_be_asked_too(tmp_path, capsys):
    questions = [WAVS / "question_2.wav", WAVS / "question_3.wav", "what is two plus two"]
    code, out, _ = run(capsys, "talk", *questions, "-o", tmp_path)
    assert code == 0
    assert len(list(tmp_path.glob("*_answer.wav"))) == 3
    assert "two plus two equals four" in out


def test_transcribe_and_caption(capsys):
    assert "what is two plus three" in run(capsys, "transcribe", WAVS / "question_1.wav")[1]
    assert "rising beeps" in run(capsys, "caption", WAVS / "sound_rising_beeps.wav")[1]


def test_compare_puts_several_steps_on_one_page(tmp_path, capsys):
    page = tmp_path / "compare.html"
    assert (
        run(capsys, "talk", WAVS / "question_1.wav", "--page", page, "--compare", "1,8", "--block", 16)[0]
        == 0
    )
    written = page.read_text(encoding="utf-8")
    assert written.count("<audio") == 3  # the question once, and two answers
    assert "<title>A reply, denoised in fewer and in more steps</title>" in written
    assert "8 steps per block" in written


def silent(path):
    soundfile.write(path, np.zeros(8000), 8000)


def long(path):
    soundfile.write(path, 0.3 * np.random.default_rng(0).normal(size=8000 * 60), 8000)


BAD_AUDIO = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("this is no sound", encoding="utf-8"), "audio"),
    "silent": (silent, "silent"),
    "long": (long, "long"),
}


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio_ends_with_one_line_and_code_2(tmp_path, capsys, kind):
    make, what = BAD_AUDIO[kind]
    make(tmp_path / "q.wav")
    code, _, err = run(
        capsys, "talk", tmp_path / "q.wav", "-o", tmp_path / "a.wav", "--page", tmp_path / "p.html"
    )
    assert code == 2
    assert what in err
    assert err.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} <= {"q.wav"}


def test_a_long_question_is_no_file_name(capsys):
    """300 bytes are more than a file name may have: the question was refused as one."""
    question = "what is two plus three " * 13
    code, out, err = run(capsys, "talk", question.strip())
    assert (code, err.strip()) == (0, "")
    assert out.startswith(question.strip())


def test_letters_never_seen_are_named(tmp_path, capsys):
    code, _, err = run(capsys, "speak", "zwei plus drei Ж", "-o", tmp_path / "a.wav")
    assert (code, err.count("\n")) == (2, 1)
    assert "ж" in err
    assert not list(tmp_path.iterdir())


def test_a_foreign_codec_or_talker_is_refused(tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8)).save(other)
    for options, what in (
        (("--codec", other), "speaks through codec"),
        (("--talker", other), "not a talker"),
        (("--codec", SAMPLES / "talker.safetensors"), "not a codec"),
        (("--talker", tmp_path / "none"), "no such talker"),
        (("--block", "0"), "--block: must be"),
        (("--policy", "luck"), "policy must be one of"),
        (("--temperature", "-1"), "--temperature: must be"),
        (("--compare", "1,4"), "--page"),
    ):
        code, _, err = run(capsys, "talk", WAVS / "question_1.wav", *options)
        assert (code, err.count("\n")) == (2, 1), options
        assert what in err


def test_several_answers_do_not_overwrite_one_file(tmp_path, capsys):
    code, _, err = run(
        capsys, "talk", WAVS / "question_1.wav", WAVS / "question_2.wav", "-o", tmp_path / "a.wav"
    )
    assert code == 2
    assert "give a folder" in err


@pytest.mark.parametrize(
    "command", ["talk", "transcribe", "speak", "caption", "train", "evaluate", "data", "codec", "doctor"]
)
def test_every_command_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "example:" in capsys.readouterr().out


@pytest.fixture
def calibrated(tmp_path):
    """The shipped talker with a calibration of its own."""
    talker = Talker.load(SAMPLES / "talker.safetensors")
    talker.info["confidence"] = {"offset": -2.0, "slope": 1.0, "items": 10, "right": 0.9}
    talker.save(tmp_path / "calibrated.safetensors")
    return tmp_path / "calibrated.safetensors"


def test_confidence_is_printed_and_in_the_json(tmp_path, capsys, calibrated):
    table = tmp_path / "replies.json"
    for command in ("talk", "transcribe"):
        question = WAVS / "question_2.wav"
        asked = [command, question, "--talker", calibrated, "--json", table]
        code, out, err = run(capsys, *asked)
        assert code == 0
        assert str(table) in err
        [row] = json.loads(table.read_text(encoding="utf-8"))
        assert row["question"] == str(question)
        assert 0 < row["confidence"] < 1
        assert f"(confidence {row['confidence']:.2f})" in out
        assert row["text"] in out
    code, out, _ = run(capsys, "transcribe", WAVS / "question_2.wav", "--json", table)
    assert (json.loads(table.read_text(encoding="utf-8"))[0]["confidence"] is None) == (
        "confidence" not in out
    )


def test_what_it_is_too_unsure_to_say_is_told_apart_unless_it_shall_guess(tmp_path, capsys):
    talker = Talker.load(SAMPLES / "talker.safetensors")
    talker.info["declines"] = {"below": 1.0, "text": "zero", "instruction": "answer"}
    unsure = tmp_path / "unsure.safetensors"
    talker.save(unsure)
    table = tmp_path / "replies.json"
    asked = ["talk", WAVS / "question_2.wav", "--talker", unsure, "--json", table]
    code, guessed, _ = run(capsys, *asked, "--guess")
    assert code == 0
    [row] = json.loads(table.read_text(encoding="utf-8"))
    guess = row["text"]
    assert (row["guess"], "too unsure" in guessed) == (None, False)
    code, out, _ = run(capsys, *asked)
    assert code == 0
    [row] = json.loads(table.read_text(encoding="utf-8"))
    assert row["text"].startswith("zero")
    assert guess.startswith(row["guess"])
    assert f"too unsure to say: {row['guess']!r}; --guess says it" in out


def test_calibrate_writes_into_the_header(tmp_path, capsys, monkeypatch):
    out = tmp_path / "t.safetensors"
    whole = Corpus.split
    monkeypatch.setattr(Corpus, "split", lambda self, name: whole(self, name)[:60])
    talker = Talker.load(SAMPLES / "talker.safetensors")
    code, said, _ = run(capsys, "calibrate", "--talker", "reference", "--split", "facts", "-o", out)
    assert code == 0
    found = Talker.load(out)
    assert found.info["confidence"]["items"] == 60
    assert 0 < found.info["confidence"]["right"] < 1
    assert f"{found.info['confidence']['right']:.3f} of 60 replies are right" in said
    assert found.fingerprint() == talker.fingerprint()
    assert found.declining is None  # it was not taught the words in which one says so
    code, _, err = run(capsys, "calibrate", "--split", "nowhere", "-o", out)
    assert "it has train" in err
    assert (code, err.count("\n")) == (2, 1)


def test_doctor_names_every_part(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    for part in ("Python", "torch", "encodec", "data_samples/talker.safetensors"):
        assert part in out


def test_own_recordings_train_a_talker_of_their_own(tmp_path, capsys):
    """import -> train -> transcribe, with the folder of shipped WAVs as somebody's recordings."""
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    assert run(capsys, "data", "import", WAVS, "-o", corpus)[0] == 0
    small = ["--steps", 2, "--records", 4, "--layers", 1, "--width", 16, "--preset", "paper"]
    assert run(capsys, "train", "--data", corpus, "-o", out, *small)[0] == 0
    assert (out / "curves.png").stat().st_size > 1000
    assert len((out / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert run(capsys, "transcribe", WAVS / "speech_1.wav", "--talker", out / "talker.safetensors")[0] == 0
    assert Talker.load(out / "talker.safetensors").info["step"] == 2
    judged = ["--data", corpus, "--split", "renditions", "--talker", out / "talker.safetensors"]
    code, _, err = run(capsys, "evaluate", *judged)
    assert code == 0
    assert "warning: the referee never heard" in err
    code, _, err = run(capsys, "evaluate", "--split", "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "it has train" in err


@pytest.mark.parametrize(
    "options, name",
    [
        ("", "reference"),
        ("--split facts", "reference"),
        ("--people words", "people"),
        ("--foreign sounds", "people"),
        ("--people words --talker reference", "reference"),
    ],
)
def test_people_and_foreign_sounds_are_heard_by_the_talker_that_was_made_for_them(
    options, name, tmp_path, monkeypatch, capsys
):
    asked = []

    def load(args):
        asked.append(args.talker)
        raise MinitttError("far enough")

    for folder in ("words", "sounds"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(making, "load", load)
    code, _, err = run(capsys, "evaluate", *options.split())
    assert (code, asked) == (2, [talker_file(name)]), err


def test_evaluate_prints_scores_with_intervals(tmp_path, capsys):
    scores = tmp_path / "scores.json"
    assert run(capsys, "evaluate", "--limit", 4, "--json", scores)[0] == 0
    table = json.loads(scores.read_text(encoding="utf-8"))
    assert {"ASR word error rate", "spoken question, text answer right"} <= {s["name"] for s in table}
    assert all(s["low"] <= s["value"] <= s["high"] or s["items"] == 0 for s in table)


def test_module_and_script_are_the_same(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minittt", "doctor"])
    import runpy

    with pytest.raises(SystemExit) as stop:
        runpy.run_module("minittt", run_name="__main__")
    assert stop.value.code == 0


def test_a_damaged_talker_is_named(tmp_path, capsys):
    shutil.copy(SAMPLES / "talker.safetensors", tmp_path / "t.safetensors")
    data = (tmp_path / "t.safetensors").read_bytes()
    (tmp_path / "t.safetensors").write_bytes(data[: len(data) // 2])
    code, _, err = run(capsys, "talk", "hello", "--talker", tmp_path / "t.safetensors")
    assert (code, err.count("\n")) == (2, 1)


def test_a_roundtrip_is_heard(tmp_path, capsys):
    out = tmp_path / "out.wav"
    assert main(["codec", "roundtrip", str(SAMPLES / "wav" / "question_1.wav"), "-o", str(out)]) == 0
    assert "tokens for" in capsys.readouterr().out
    assert out.stat().st_size > 5000


@pytest.mark.parametrize(
    ("preset", "full"), [("exact", False), ("ar", False), ("paper", True), ("nar", False)]
)
def test_a_talker_is_decoded_as_its_preset_trained_it(tmp_path, capsys, monkeypatch, preset, full):
    """The shipped weights under another preset's name: what counts is how they are asked to reply."""
    talker = Talker.load(SAMPLES / "talker.safetensors")
    talker.info["training"]["preset"] = preset
    talker.save(tmp_path / "talker.safetensors")
    seen = []
    for kind in (Talker, DenoisingTalker):
        real = kind.converse
        monkeypatch.setattr(
            kind,
            "converse",
            lambda self, c, s, *a, real=real, **k: seen.append((self, s)) or real(self, c, s, *a, **k),
        )
    arguments = (
        "talk",
        "what is two plus three",
        "--talker",
        tmp_path / "talker.safetensors",
        "-o",
        tmp_path / "a.wav",
    )
    code, out, _ = run(capsys, *arguments)
    [(who, settings)] = seen
    assert code == 0 or preset == "nar"  # whose text those weights never learnt to denoise
    assert settings.full_span == full
    assert isinstance(who, DenoisingTalker) == (preset == "nar")
    if preset == "nar":
        code, _, err = run(capsys, *arguments, "--stream")
        assert code == 2 and "nothing to say before the reply is whole" in err


def test_an_import_for_a_talker_is_encoded_by_its_codec(tmp_path, capsys):
    """It was encoded by the reference talker's, and refused, unless --codec named the right one."""
    (tmp_path / "in").mkdir()
    for number in (1, 2, 3):
        shutil.copy(SAMPLES / "wav" / f"question_{number}.wav", tmp_path / "in")
    rows = "".join(
        f"question_{number}.wav,two plus {word}\n" for number, word in ((1, "one"), (2, "two"), (3, "six"))
    )
    (tmp_path / "in" / "metadata.csv").write_text("file_name,transcript\n" + rows, encoding="utf-8")
    people = SAMPLES / "people" / "talker.safetensors"
    code, _, err = run(
        capsys, "data", "import", tmp_path / "in", "-o", tmp_path / "out", "--like", people, "--test-only"
    )
    assert code == 0, err
    assert load_corpus(tmp_path / "out").info["codec"] == Talker.load(people).info["codec"]


# ---------------------------------------------------------------- the boundary


def commands_and_options():
    """Every command of the parser, with its options: nothing here has to be kept up to date."""
    parser = command_line()
    [sub] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return sub.choices


@pytest.mark.parametrize("command", [None, *commands_and_options()])
def test_every_help_page_can_be_shown(command, capsys):
    """A bare percent sign in a help text ended `minittt --help` in a TypeError."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: minittt" in shown
    assert "%%" not in shown  # argparse takes help texts for formats, and descriptions not
    if command:
        for action in commands_and_options()[command]._actions:
            assert all(option in shown for option in action.option_strings)


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"minittt {minittt.__version__}"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train --learning-rate nan", "--learning-rate: must be a finite number above 0, not 'nan'"),
        ("train --width 0", "--width: must be a whole number of at least 2"),
        ("train --layers -1", "--layers: must be a whole number of at least 1"),
        ("train --threads -1", "--threads: must be a whole number of at least 1"),
        ("train --warmup -5", "--warmup: must be a whole number of at least 0"),
        ("train --source-noise nan", "--source-noise: must be"),
        ("train --preset good", "--preset: must be one of exact, paper"),
        ("train --seed 99999999999999", "--seed: must be a whole number"),
        ("codec train -o x --minutes 0", "--minutes: must be a finite number above 0"),
        ("codec train -o x --minutes -1", "--minutes: must be a finite number above 0"),
        ("evaluate --limit 0", "--limit: must be a whole number of at least 1"),
        ("evaluate --limit -1", "--limit: must be a whole number of at least 1"),
        ("talk", "required: QUESTION"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("", "required: COMMAND"),
    ],
)
def test_bad_options_end_with_one_line_and_code_2_before_any_work(line, what, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert what in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("error", [OSError, ValueError, UnicodeError, MemoryError, RuntimeError, KeyError])
def test_whatever_happens_inside_ends_in_one_line(error, monkeypatch, capsys):
    def fails(args):
        raise error("first line\nsecond line")

    monkeypatch.setattr("minittt.app.commands.transcribe", fails)
    assert main(["transcribe", "x.wav"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("minittt transcribe: ")
    assert shown.count("\n") == 1
    with pytest.raises(error):
        main(["--debug", "transcribe", "x.wav"])


def test_control_c_is_quiet(monkeypatch, capsys):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("minittt.app.commands.transcribe", stopped)
    assert main(["transcribe", "x.wav"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.skipif(os.name == "nt", reason="PIPESTATUS is bash's, and the path would have backslashes")
def test_a_closed_pipe_is_quiet():
    command = (
        f"{sys.executable} -m minittt transcribe {WAVS / 'question_1.wav'} | true; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom minittt.app.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'encodec', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_options_of_training_are_its_settings(capsys):
    """They were written in three places once."""
    options = {o for action in commands_and_options()["train"]._actions for o in action.option_strings}
    for entry in options_of(TrainingSettings):
        assert "--" + entry.name.replace("_", "-") in options
    args = command_line().parse_args(["train", "--steps", "7", "--split", "--learning-rate", "0.01"])
    settings = settings_from(args, TrainingSettings)
    assert settings == replace(TrainingSettings(), steps=7, split=True, learning_rate=0.01)
