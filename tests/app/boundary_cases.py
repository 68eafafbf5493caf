"""What users may do wrong, and the one line that they see: a table, from which `tutorials/errors.md` is made.

    python -m tests.app.boundary_cases      writes tutorials/errors.md anew

Each line is carried out by `test_boundary.py` in a folder that holds question.wav, answer.wav, notes.txt, a folder
music with song.txt in it, link.wav (a link), a.json (a folder), and folders of recordings, and nothing there may change.
Port 8765 is taken. What the page of `serve` may be sent is a second table.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

ERRORS = Path(__file__).parents[2] / "tutorials" / "errors.md"


@dataclass(frozen=True)
class Case:
    """A command line, and what stands on standard error after the name of the command."""

    given: str
    sees: str
    first: str = ""  # what is printed before it


@dataclass(frozen=True)
class Asked:
    """What is sent to the page of `serve`, in words and as it is sent, and what comes back."""

    what: str
    sent: dict  # keywords of the client's `post`
    status: int
    sees: str


SERVED = "A page that cannot be served, or is asked what it cannot answer"
GROUPS = {
    "Questions that cannot be answered": (
        Case("talk question.m4a", "question.m4a: there is no such file; check the name (a recording is a WAV or FLAC file)"),
        Case("talk ./nothing", "./nothing: there is no such file; check the name (a recording is a WAV or FLAC file)"),
        Case(
            "talk music/questoin", "music/questoin: there is no such file; check the name (a recording is a WAV or FLAC file)"
        ),
        Case("talk music", "music is a folder: list the recordings in it instead, such as music/*.wav"),
        Case("transcribe music", "music is a folder: list the recordings in it instead, such as music/*.wav"),
        Case("talk ''", "there are no words in the text: write, for instance, 'what is two plus three'"),
        Case(
            "speak '?!' -o new.wav",
            "there are no words in the text: write, for instance, 'what is two plus three'",
        ),
        Case(
            "talk '2 times 3'",
            "this talker does not know 'times': use numbers from 0 to 20, plus, minus, equals, "
            "what is, count from ... to ..., say",
        ),
        Case("talk '20 + 30'", "30 is too large: use numbers from 0 to 20"),
        Case("talk 'what is \udcff'", "the text holds characters that are not UTF-8: type it again, in a terminal that is set to UTF-8"),
    ),
    "Places that cannot be written to": (
        Case(
            "talk question.wav -o question.wav",
            "cannot write question.wav: this command also reads it; choose another file",
        ),
        Case(
            "talk question.wav -o answer.mp3",
            "cannot write answer.mp3: its name must end in .wav, .flac or .ogg",
        ),
        Case(
            "talk question.wav -o none/answer.wav",
            "cannot write none/answer.wav: the folder none does not exist; create it first",
        ),
        Case(
            "talk question.wav -o link.wav", "cannot write link.wav: it is a link; choose the name of a new file"
        ),
        Case(
            "talk question.wav -o /dev/null", "cannot write /dev/null: it is a device; choose a folder"
        ),
        Case(
            "talk question.wav --page page.txt",
            "cannot write page.txt: its name must end in .html or .htm",
        ),
        Case(
            "transcribe question.wav --json a.json", "cannot write a.json: it is a folder; choose the name of a new file"
        ),
        Case("speak two -o music", "cannot write music: it is a folder; choose the name of a new file"),
        Case(
            "speak two -o /dev/null", "cannot write /dev/null: it is a device; choose the name of a new file"
        ),
        Case(
            "evaluate --json none/scores.json",
            "cannot write none/scores.json: the folder none does not exist; create it first",
        ),
        Case(
            "codec train -o codec.wav", "cannot write codec.wav: its name must end in .safetensors"
        ),
        Case(
            "calibrate --split facts",
            "the following arguments are required: -o/--output; see minittt calibrate --help",
        ),
        Case("train -o notes.txt", "cannot write notes.txt: it is a file; choose a folder"),
        Case("chat -o notes.txt/answers", "cannot write notes.txt/answers: notes.txt is a file; choose a folder that does not lie in a file"),
        Case(
            "data import . -o music",
            "cannot write music: it holds song.txt, which would be lost; choose another folder",
        ),
        Case(
            "data import music -o music",
            "cannot write music: this command also reads it; choose another folder",
        ),
        Case(
            "talk question.wav -o answer.wav --page p.html --compare 1,4",
            "2 answers do not go into one file: give a folder, such as -o answers",
        ),
        Case(
            "talk question.wav 2+3 -o -",
            "-o - (standard output) can hold one sound only: give a file or a folder",
        ),
        Case(
            "talk question.wav --stream -o new.flac", "cannot write new.flac: its name must end in .wav"
        ),
    ),
    "Options that would be ignored": (
        Case(
            "talk question.wav --first-block 2",
            "--first-block only works while streaming: add --stream",
        ),
        Case(
            "talk question.wav --compare 1,4", "--compare needs a page to show its replies on: add --page reply.html"
        ),
        Case("train --mix-share 0.4", "--mix-share only works with --mix: add --mix CORPUS"),
        Case(
            "data build -o corpus --copies 2", "--copies only works with `minittt data import`: leave it out of `data build`"
        ),
        Case(
            "codec roundtrip question.wav -o new.wav --minutes 3",
            "--minutes only works with `minittt codec train`: leave it out of `codec roundtrip`",
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
            "--licence only works with `minittt codec train`: leave it out of `codec roundtrip`",
        ),
        Case("referee -o new.safetensors --leave-out ann", "--leave-out chooses among people: add --people FOLDER"),
        Case(
            "codec train music -o new.safetensors --people music",
            "a folder of recordings is all that is heard: leave it out, or --people",
        ),
        Case(
            "train --on-error skip", "--on-error is for files of records: name some with --data, or leave it out"
        ),
        Case("evaluate --speaker ann", "--speaker only works with --people: add --people FOLDER"),
        Case(
            "evaluate --people music --split voices", "--split only works with a corpus: leave it out with --people"
        ),
    ),
    "Files that are not what they should be": (
        Case(
            "transcribe notes.txt",
            "notes.txt: not a readable recording (Error opening 'notes.txt': Format not recognised.); "
            "give a WAV or FLAC file",
        ),
        Case("talk 2+3 --talker none", "none: there is no such talker; check the name, or leave --talker out to use the one that comes with minittt"),
        Case("talk 2+3 --codec none", "none: there is no such codec; check the name, or leave --codec out to use the talker's own"),
        Case(
            "evaluate --data music",
            "music is not a corpus (it has no corpus.json): `minittt data build` makes one, `minittt data import` one of your recordings",
        ),
        Case("data import none -o corpus", "there is no folder none: check its name"),
        Case(
            "codec train --resume -o new.safetensors",
            "new.safetensors: there is no unfinished training here to resume: check -o, or leave --resume out",
        ),
        Case("train --width 7", "--width must be a multiple of 8, an even number of channels for each of 4 heads, not 7"),
        Case(
            "train --resume -o none", "none holds no unfinished run to resume: check -o, or leave --resume out to begin one"
        ),
    ),
    SERVED: (
        Case(
            "serve --port 8765",
            "cannot listen at 127.0.0.1, port 8765: it is taken; choose another --port, or 0 for a free one",
        ),
        Case(
            "serve --port 70000",
            "argument --port: must be a whole number of at least 0 and at most 65535, not '70000'; "
            "see minittt serve --help",
        ),
        Case(
            "serve --port eighty",
            "argument --port: must be a whole number of at least 0 and at most 65535, not 'eighty'; "
            "see minittt serve --help",
        ),
        Case(
            "serve --host a..b --port 0",
            "cannot listen at a..b, port 0: there is no such host; leave --host out for this machine",
        ),
        Case(
            "serve --host 192.0.2.1 --port 0",
            "cannot listen at 192.0.2.1, port 0: this machine has no such address; leave --host out, "
            "or give 0.0.0.0 for all that it has",
        ),
        Case("serve --port 0 --talker none", "none: there is no such talker; check the name, or leave --talker out to use the one that comes with minittt"),
        Case(
            "serve --port 0 --talker people people reference --codec question.wav question.wav",
            "3 talkers and 2 codecs: give one codec, or one for each",
        ),
    ),
    "Recordings that a talker cannot be adapted to": (
        Case("adapt none -o new", "there is no folder none: check its name"),
        Case("adapt question.wav -o new", "there is no folder question.wav: check its name"),
        Case(
            "adapt music -o new",
            "music has no metadata.csv; it needs one with the columns file_name, transcript",
        ),
        Case(
            "adapt empty -o new",
            "empty/metadata.csv lists 0 recordings; it needs two or more, one of them to be held out",
        ),
        Case(
            "adapt labels -o new",
            "labels/metadata.csv has the columns file_name, label; it needs file_name and transcript",
        ),
        Case("adapt blank -o new", "blank/metadata.csv, line 3: file_name or transcript is empty"),
        Case("adapt missing -o new", "missing/metadata.csv, line 3: missing/9.wav cannot be read"),
        Case(
            "adapt silent -o new",
            "silent/metadata.csv, line 3: silent/0.wav: is silent (its peak is 0); give one above 0.001",
            first="held out: 1 recordings of the others (the split renditions)\n",
        ),
        Case(
            "adapt ann -o new --hold-out ann",
            "one recording or none is left to train on: hold out fewer speakers, or record more",
        ),
        Case("adapt ann -o new --hold-out bob", "no recording is by bob; speakers are ann"),
        Case("adapt ann -o begun", "begun holds a run already: give another folder"),
        Case(
            "adapt ann -o ann",
            "cannot write ann: this command also reads it; choose another folder",
        ),
        Case(
            "adapt ann -o new --mix music",
            "music is not a corpus (it has no corpus.json): `minittt data build` makes one, `minittt data import` one of your recordings",
        ),
        Case(
            "adapt ann -o new --minutes 0",
            "argument --minutes: must be a finite number above 0 and at most 100000, not '0'; "
            "see minittt adapt --help",
        ),
    ),
}  # fmt: skip

NOTHING = {"rate": 8000, "pcm": ""}
SILENCE = {"rate": 8000, "pcm": base64.b64encode(bytes(16_000)).decode()}  # a second
LONG = {"rate": 8000, "pcm": base64.b64encode(bytes(9 * 16_000)).decode()}  # nine seconds
REQUESTS = (
    Asked("no question", {"json": {}}, 400, 'a question is either "text" or "sound": give one of them'),
    Asked(
        "an empty text",
        {"json": {"text": ""}},
        400,
        "there are no words in the text: write, for instance, 'what is two plus three'",
    ),
    Asked(
        "a text of 600 characters",
        {"json": {"text": "two plus one" * 50}},
        400,
        "text must be one line of at most 500 characters",
    ),
    Asked(
        "a recording without a sample",
        {"json": {"sound": NOTHING}},
        200,
        "nothing was heard: hold the button while you speak, and see that the microphone is on",
    ),
    Asked(
        "a second of silence",
        {"json": {"sound": SILENCE}},
        200,
        "nothing was heard: hold the button while you speak, and see that the microphone is on",
    ),
    Asked(
        "nine seconds of sound",
        {"json": {"sound": LONG}},
        400,
        "a question may be 8 seconds long, not 9.0",
    ),
    Asked(
        "sound at 100 Hz",
        {"json": {"sound": {"rate": 100, "pcm": ""}}},
        400,
        "rate must be from 8000 to 192000 Hz, not 100",
    ),
    Asked(
        "an upload of five million bytes",
        {"content": b" " * 5_000_000, "headers": {"content-type": "application/json"}},
        413,
        "a request may have 4,161,536 bytes: record less",
    ),
    Asked(
        "a WAV file as it is",
        {"content": b"RIFF", "headers": {"content-type": "audio/wav"}},
        415,
        "a request is JSON: say so in its content-type, application/json",
    ),
    Asked(
        "an answer to go on from that is forgotten",
        {"json": {"text": "2+3", "before": "old"}},
        400,
        "that answer is no longer kept (the last 64 are): begin anew",
    ),
    Asked(
        "a question of another page",
        {"json": {"text": "2+3"}, "headers": {"origin": "http://elsewhere.example"}},
        403,
        "only the page itself may ask: open the address that was printed",
    ),
)

WARNINGS = {
    "talk 2+3 --block 3": "this talker was trained for blocks of 1, 4, 8, 16, not 3: its speech may be worse than with one of these",
    "talk 2+3 --stream -o answer.wav --first-block 3": "this talker was not trained for a first block of 3 (but for 1, 4): its speech may begin worse",
    "talk 2+3 --steps 99": "--steps 99 is more than a block of 8 slots can use: 8 steps are taken",
}

BEGIN = """# What can go wrong, and what you see

This page is made from the table that the tests carry out (`python -m tests.app.boundary_cases` writes it;
`tests/app/test_boundary.py` compares it), so each line is shown exactly as printed, without the name of the command in front.
The command line is a boundary: whatever happens inside ends in **one line on standard error** that says what was wrong
and what would be right, and in exit code 2. Ctrl-C ends in `stopped` and exit code 130; a reader that closes a pipe
ends in silence. `minittt --debug COMMAND ...` shows where an error comes from, and `minittt doctor` what is missing.

**What is kept.** Everything in the tables below is checked before any work starts, and leaves every file as it was. Later a disk
may be full or a process killed: a result is written under another name in the same folder, and takes its own name when
it is whole, so the older one stays until then; a corpus, which is a folder, likewise. A kill may leave such an
unfinished file or folder (`.PID-NAME`) behind, which can be deleted. A run of `train` or `adapt` locks its folder, and
`codec train` and `referee` the file that they write (`.NAME.lock` beside it): a second one says who holds it.
Checkpoints are whole files, and `--resume` goes on from the newest.

**Several processes.** Where torchrun has started several and one is killed, the others end at once; where one is stopped,
or its machine is gone, the others end after 30 seconds without a sign of life, and say which it was.

**Ctrl-C** ends the first seconds, in which libraries are loaded, at once; from then on the running command
hears it, and tidies up. Python's own start, some hundredths of a second before this program's first line, cannot be reached from here:
a Ctrl-C in that time shows Python's traceback, or nothing.
"""
ASKED = """
The page itself is told in the same way. `serve` writes no file: it keeps the last 64 answers in memory, and they
are gone when it ends. A refused request takes nobody's place in the queue, and no answer is lost by it.

| sent to the page | status | what comes back |
|---|---|---|
"""
MIDDLE = """
**What `adapt` keeps.** The imported corpus is in the folder `corpus` of its output as soon as it is whole; the talker
that it began from is never changed. A run that was killed while it trained is not resumed: name another folder.

## Warnings: the command carries on

One line that begins with `warning:` stands on standard error where a result may be other than what was asked for.

| given | what you see |
|---|---|
"""
END = """
A reply that was cut at the limit of its text, an audio span that had to be closed, or one without any code is reported
in the same way. A reply without any sound writes no file, and an older answer at `-o` is removed, so that nobody takes it
for the new one.
"""


def page() -> str:
    """The text of tutorials/errors.md."""
    parts = [BEGIN]
    for name, cases in GROUPS.items():
        parts.append(f"\n## {name}\n\n| given | what you see |\n|---|---|\n")
        parts += [_row(case.given, case.sees) for case in cases]
        if name == SERVED:
            parts.append(ASKED)
            parts += [f"| {asked.what} | {asked.status} | {asked.sees} |\n" for asked in REQUESTS]
    parts.append(MIDDLE)
    parts += [_row(given, f"warning: {sees}") for given, sees in WARNINGS.items()]
    parts.append(END)
    return "".join(parts)


def _row(given: str, sees: str) -> str:
    shown = given.replace("\udcff", "\\xff")
    return f"| `minittt {shown}` | {sees.replace('|', '&#124;')} |\n"


if __name__ == "__main__":
    ERRORS.write_text(page(), encoding="utf-8")
