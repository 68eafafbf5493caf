"""What users may do wrong, and the one line that they see: a table, from which `tutorials/errors.md` is made.

    python -m tests.app.boundary_cases      writes tutorials/errors.md anew

Each line is carried out by `test_boundary.py` in a folder that holds question.wav, answer.wav, notes.txt, a folder
music with song.txt in it, link.wav (a link) and a.json (a folder), and nothing there may change.
"""

from dataclasses import dataclass
from pathlib import Path

ERRORS = Path(__file__).parents[2] / "tutorials" / "errors.md"


@dataclass(frozen=True)
class Case:
    """A command line, and what stands on standard error after the name of the command."""

    given: str
    sees: str


GROUPS = {
    "A question that is none": (
        Case("talk question.m4a", "question.m4a: there is no such file; give a recording, as WAV or FLAC"),
        Case("talk ./nothing", "./nothing: there is no such file; give a recording, as WAV or FLAC"),
        Case(
            "talk music/questoin", "music/questoin: there is no such file; give a recording, as WAV or FLAC"
        ),
        Case("talk music", "music is a folder: name the recordings in it"),
        Case("transcribe music", "music is a folder: name the recordings in it"),
        Case("talk ''", "there are no words in the text: write, for instance, what is two plus three"),
        Case(
            "speak '?!' -o new.wav",
            "there are no words in the text: write, for instance, what is two plus three",
        ),
        Case(
            "talk '2 times 3'",
            "this talker was never taught 'times': it reads numbers up to twenty, plus, minus, equals, what is, "
            "count from ... to, say",
        ),
        Case("talk '20 + 30'", "30 is more than this world counts to: numbers go from 0 to 20"),
        Case("talk 'what is \udcff'", "the text is not UTF-8: type it in a terminal that is set to UTF-8"),
    ),
    "A place where nothing can be written, or must not": (
        Case(
            "talk question.wav -o question.wav",
            "question.wav: cannot be written: it is read by the same command; name another file",
        ),
        Case(
            "talk question.wav -o answer.mp3",
            "answer.mp3: cannot be written: its name must end in .wav, .flac or .ogg",
        ),
        Case(
            "talk question.wav -o none/answer.wav",
            "none/answer.wav: cannot be written: there is no folder none; make it first",
        ),
        Case(
            "talk question.wav -o link.wav", "link.wav: cannot be written: it is a link; name a new file"
        ),
        Case(
            "talk question.wav -o /dev/null", "/dev/null: cannot be written: it is a device; name a folder"
        ),
        Case(
            "talk question.wav --page page.txt",
            "page.txt: cannot be written: its name must end in .html or .htm",
        ),
        Case(
            "transcribe question.wav --json a.json", "a.json: cannot be written: it is a folder; name a new file"
        ),
        Case("speak two -o music", "music: cannot be written: it is a folder; name a new file"),
        Case(
            "speak two -o /dev/null", "/dev/null: cannot be written: it is a device; name a new file"
        ),
        Case(
            "evaluate --json none/scores.json",
            "none/scores.json: cannot be written: there is no folder none; make it first",
        ),
        Case(
            "codec train -o codec.wav", "codec.wav: cannot be written: its name must end in .safetensors"
        ),
        Case(
            "calibrate --split facts",
            "the following arguments are required: -o/--output; see minittt calibrate --help",
        ),
        Case("train -o notes.txt", "notes.txt: cannot be written: it is a file; name a folder"),
        Case("chat -o notes.txt/answers", "notes.txt/answers: cannot be written: notes.txt is a file, not a folder"),
        Case(
            "data import . -o music",
            "music: cannot be written: it holds song.txt, which would be lost; name another folder",
        ),
        Case(
            "data import music -o music",
            "music: cannot be written: it is read by the same command; name another folder",
        ),
        Case(
            "talk question.wav -o answer.wav --page p.html --compare 1,4",
            "2 answers do not fit one file: give -o a folder",
        ),
        Case(
            "talk question.wav 2+3 -o -",
            "-o - is standard output, which takes one sound alone: name a file or a folder",
        ),
        Case(
            "talk question.wav --stream -o new.flac", "new.flac: cannot be written: its name must end in .wav"
        ),
    ),
    "Options that would be ignored": (
        Case(
            "talk question.wav --first-block 2",
            "--first-block is for sound that is heard while it is made: add --stream",
        ),
        Case(
            "talk question.wav --compare 1,4", "--compare shows its replies on a page: add --page reply.html"
        ),
        Case("train --mix-share 0.4", "--mix-share says how much of the corpus that --mix names: add --mix CORPUS"),
        Case(
            "data build -o corpus --copies 2", "--copies is for `minittt data import`: leave it out with build"
        ),
        Case(
            "codec roundtrip question.wav -o new.wav --minutes 3",
            "--minutes is for `minittt codec train`: leave it out with roundtrip",
        ),
        Case(
            "data build -o corpus --licence MIT",
            "--licence is for recorded voices, and none are named: add --recorded or --people",
        ),
        Case(
            "codec train -o new.safetensors --licence MIT",
            "--licence is for recorded voices, and none are named: add --recorded or --people",
        ),
        Case(
            "codec roundtrip question.wav -o new.wav --licence MIT",
            "--licence is for `minittt codec train`: leave it out with roundtrip",
        ),
        Case("referee -o new.safetensors --leave-out ann", "--leave-out chooses among people: add --people FOLDER"),
        Case(
            "codec train music -o new.safetensors --people music",
            "a folder of recordings is all that is heard: leave it out, or --people",
        ),
        Case(
            "train --on-error skip", "--on-error is for files of records: name some with --data, or leave it out"
        ),
        Case("evaluate --speaker ann", "--speaker chooses among people: add --people FOLDER"),
        Case(
            "evaluate --people music --split voices", "--split is of a corpus: leave it out with --people"
        ),
    ),
    "Files that are not what they should be": (
        Case(
            "transcribe notes.txt",
            "notes.txt: not a readable recording (Error opening 'notes.txt': Format not recognised.); "
            "give a WAV or FLAC file",
        ),
        Case("talk 2+3 --talker none", "none: there is no such talker; `minittt train` writes one"),
        Case("talk 2+3 --codec none", "none: there is no such codec; `minittt codec train` writes one"),
        Case(
            "evaluate --data music",
            "music is not a corpus: it has no corpus.json; make one with `minittt data build` or `data import`",
        ),
        Case("data import none -o corpus", "there is no folder none"),
        Case(
            "codec train --resume -o new.safetensors",
            "new.state: there is no state to resume from",
        ),
        Case("train --width 7", "--width must be a multiple of 8, an even number of channels for each of 4 heads, not 7"),
        Case(
            "train --resume -o none", "none holds no state to resume from: leave --resume out to begin a run"
        ),
    ),
}  # fmt: skip

WARNINGS = {
    "talk 2+3 --block 3": "this talker was trained for blocks of 1, 4, 8, 16, not 3: its speech may be worse",
    "talk 2+3 --steps 99": "a block of 8 slots takes 8 steps at most: --steps 99 is no more than that",
}

BEGIN = """# What can go wrong, and what you see

This page is made from the table that the tests carry out (`python -m tests.app.boundary_cases` writes it;
`tests/app/test_boundary.py` compares it), so every line stands here as it is printed, after the name of the command.
The command line is a boundary: whatever happens inside ends in **one line on standard error** that says what was wrong
and what would be right, and in exit code 2. Ctrl-C ends in `stopped` and exit code 130; a reader that closes a pipe
ends in silence. `minittt --debug COMMAND ...` shows where an error comes from, and `minittt doctor` what is missing.

**What is kept.** Everything in the tables below is asked before the work, and leaves every file as it was. Later a disk
may be full or a process killed: a result is written under another name in the same folder, and takes its own name when
it is whole, so the older one stays until then; a corpus, which is a folder, likewise. A kill may leave such an
unfinished file or folder (`.PID-NAME`) behind, which can be deleted. A run of `train` or `adapt` locks its folder, and
`codec train` and `referee` the file that they write (`.NAME.lock` beside it): a second one says who holds it.
Checkpoints are whole files, and `--resume` goes on from the newest.

**Ctrl-C** ends the first seconds, in which libraries are loaded, at once; from then on it is heard by the work, which
tidies up. Python's own start, some hundredths of a second before this program's first line, cannot be reached from here:
a Ctrl-C that falls into it shows Python's traceback, or nothing.
"""
MIDDLE = """
## What is said, and goes on

One line that begins with `warning:` stands on standard error where a result may be other than what was asked for.

| given | what you see |
|---|---|
"""
END = """
A reply that was cut at the limit of its text, an audio span that had to be closed, or one without any code is told in
the same way. A reply without any sound writes no file, and an older answer at `-o` is removed, so that nobody takes it
for the new one.
"""


def page() -> str:
    """The text of tutorials/errors.md."""
    parts = [BEGIN]
    for name, cases in GROUPS.items():
        parts.append(f"\n## {name}\n\n| given | what you see |\n|---|---|\n")
        parts += [_row(case.given, case.sees) for case in cases]
    parts.append(MIDDLE)
    parts += [_row(given, f"warning: {sees}") for given, sees in WARNINGS.items()]
    parts.append(END)
    return "".join(parts)


def _row(given: str, sees: str) -> str:
    shown = given.replace("\udcff", "\\xff")
    return f"| `minittt {shown}` | {sees.replace('|', '&#124;')} |\n"


if __name__ == "__main__":
    ERRORS.write_text(page(), encoding="utf-8")
