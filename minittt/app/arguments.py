"""What can be written on the command line: every command with its options, their help and their ranges.

Options come from `settings.py` where they have a value there; `checks.py` checks what goes together, and `cli.py` runs it.
Nothing heavy is imported here: help has to appear at once.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, NoReturn

from minittt import __version__
from minittt.settings import (
    SHIPPED,
    TO_STUDY,
    TO_TALK,
    AdaptOptions,
    BuildOptions,
    CodecTrainingSettings,
    ComputingSettings,
    DecodingOptions,
    DeviceOption,
    EncodeOptions,
    EvaluationOptions,
    ImportOptions,
    MixOptions,
    ModelSizes,
    RecordOptions,
    RefereeSettings,
    SeedOption,
    ServingOptions,
    StreamingOptions,
    TimeOption,
    TrainingSettings,
    fits,
    kind_of,
    options_of,
    range_of,
    samples_folder,
    talker_file,
)

SAMPLES = samples_folder()
MEASURED_ON = "corpus folder (default: the shipped one, for talkers that were trained on it)"


class Parser(argparse.ArgumentParser):
    """For bad arguments, too, prints a single line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and end with exit code 2."""
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


# ---- options from settings


def add_options(parser: argparse.ArgumentParser, settings: type, only: tuple[str, ...] = ()) -> None:
    """Add an option for each field of a settings class (or for those in `only`), with default and range in the help."""
    for entry in options_of(settings):
        if only and entry.name not in only:
            continue
        option = "--" + entry.name.replace("_", "-")
        text = entry.metadata["help"]
        if kind_of(entry) is bool:
            # None where the option is not given, so that only what was asked for changes the settings
            parser.add_argument(option, action="store_true", default=None, help=_escaped(text))
            continue
        if entry.default is not None:
            text += f" (default: {entry.default})"
        text += f"; {range_of(entry)}"
        parser.add_argument(option, type=_reader(entry), metavar=_metavar(entry), help=_escaped(text))


def _escaped(text: str) -> str:
    """argparse treats help texts as format strings: a bare percent sign ends it with a TypeError."""
    return text.replace("%", "%%")


def _metavar(entry: dataclasses.Field) -> str:
    return {int: "N", float: "X", str: "NAME"}[kind_of(entry)]


def _reader(entry: dataclasses.Field):
    """What argparse calls on an option's text; it returns the value, or raises one line that says what would be right."""

    def read(text: str) -> Any:
        """Return the value, or raise what argparse prints."""
        try:
            value = kind_of(entry)(text)
        except ValueError:
            value = None
        if value is None or not fits(entry, value):
            raise argparse.ArgumentTypeError(f"must be {range_of(entry)}, not {text!r}")
        return value

    return read


# ---- the commands


def command_line() -> Parser:
    """The parser of the whole command line; `_talk` and those after it each add a command."""
    parser = Parser(
        "minittt", description="Text-to-Talk in miniature: speech and text in, text and speech out."
    )
    parser.add_argument("--version", action="version", version=f"minittt {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, what: str, example: str, talks: bool = True) -> argparse.ArgumentParser:
        """A command with one line of help and an example; with `talks` it takes a talker and its codec."""
        sub = commands.add_parser(
            name,
            help=_escaped(what),
            description=what,
            epilog=f"example:  minittt {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if talks:
            if name == "evaluate":
                _talker_option(sub, None, f"{TO_STUDY}; {TO_TALK} with --people or --foreign")
            else:
                _talker_option(sub, TO_TALK, TO_TALK)
            sub.add_argument(
                "--codec",
                type=Path,
                help="codec to use (default: the shipped one that belongs to the talker)",
            )
        return sub

    for add in (
        _talk,
        _chat,
        _serve,
        _listen_and_speak,
        _train,
        _export,
        _adapt,
        _evaluate,
        _calibrate,
        _data,
        _codec,
        _referee,
    ):
        add(command)
    command("doctor", "Check the environment and say what to do about each gap.", "doctor", talks=False)
    return parser


def _talker_option(sub: argparse.ArgumentParser, default: str | None, in_words: str) -> None:
    sub.add_argument(
        "--talker",
        type=talker_file,
        default=default,
        metavar="TALKER",
        help=f"a talker's file, or one of the shipped: {' or '.join(SHIPPED)} (default: {in_words})",
    )


def _codec_option(sub: argparse.ArgumentParser) -> None:
    codec = SAMPLES / "codec.safetensors"
    sub.add_argument("--codec", type=Path, default=codec, help="codec to use (default: the shipped one)")


def _json_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--json", type=Path, help="also write questions, replies and confidence to this JSON file"
    )


def _guess_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--guess",
        action="store_true",
        help="answer however unsure it is, where it would say that it did not understand",
    )


def _talk(command) -> None:
    talk = command(
        "talk",
        "Ask by voice or in writing, hear the answer.",
        "talk question.wav -o answer.wav --page reply.html",
    )
    talk.add_argument("questions", nargs="*", metavar="QUESTION", help="an audio file, or text in quotes")
    talk.add_argument("--examples", action="store_true", help="say what this talker may be asked, and end")

    def check(args: argparse.Namespace) -> None:
        """A question is required unless examples are asked for: argparse cannot express this."""
        if not args.questions and not args.examples:
            talk.error("the following arguments are required: QUESTION")

    talk.set_defaults(check=check)
    talk.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a sound file (.wav, .flac, .ogg; - is standard output), or a folder, also for several questions",
    )
    talk.add_argument(
        "--page", type=Path, help="write one self-contained HTML page: players, masks, unmasking"
    )
    _json_option(talk)
    _guess_option(talk)
    talk.add_argument(
        "--compare", type=_numbers, help="with --page: several steps per block side by side, as 1,4,16"
    )
    talk.add_argument(
        "--stream",
        action="store_true",
        help="write the sound while it is being made, to a WAV file or, with -o -, as raw samples to a player",
    )
    add_options(talk, StreamingOptions)
    add_options(talk, DeviceOption)
    add_options(talk, DecodingOptions)


def _chat(command) -> None:
    chat = command(
        "chat",
        "Talk in several turns: typed, from files, or by microphone (with sounddevice installed).",
        "chat -o answers",
    )
    chat.add_argument("-o", "--output", type=Path, help="a folder for the sound of the answers")
    chat.add_argument(
        "--remember",
        action="store_true",
        help='show every question the turn before (the shipped talkers were taught that for "say again" alone)',
    )
    _guess_option(chat)
    add_options(chat, DeviceOption)
    add_options(chat, DecodingOptions)


def _serve(command) -> None:
    serve = command(
        "serve",
        "A page in the browser on which one talks, and sees answers being written (extra [serve]).",
        "serve --port 0",
        talks=False,
    )
    serve.add_argument(
        "--talker",
        nargs="+",
        type=talker_file,
        default=[talker_file(TO_TALK)],
        help=f"one talker, or several to compare by ear: files, or {' or '.join(SHIPPED)} (default: {TO_TALK})",
    )
    serve.add_argument(
        "--codec",
        nargs="+",
        type=Path,
        help="codec of all talkers, or one for each (default: the shipped ones that belong to them)",
    )
    add_options(serve, ServingOptions)
    add_options(serve, ComputingSettings)
    add_options(serve, DeviceOption)


def _listen_and_speak(command) -> None:
    transcribe = command("transcribe", "Write down what is said.", "transcribe question.wav")
    transcribe.add_argument("files", nargs="+", type=Path)
    _json_option(transcribe)
    add_options(transcribe, DeviceOption)
    speak = command(
        "speak", "Say a text in one of four voices.", 'speak "two plus three" -o speech.wav --seed 3'
    )
    speak.add_argument("text")
    speak.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("speech.wav"),
        help="a sound file (.wav, .flac, .ogg), or - for standard output",
    )
    add_options(speak, DeviceOption)
    add_options(speak, DecodingOptions)
    caption = command("caption", "Say what sound or voice is heard.", "caption beeps.wav")
    caption.add_argument("files", nargs="+", type=Path)
    _json_option(caption)
    add_options(caption, DeviceOption)


def _train(command) -> None:
    train = command(
        "train",
        "Train a talker from token files; several processes: torchrun --nproc-per-node N -m minittt train ...",
        "train -o runs/mine --preset exact --steps 2500",
        talks=False,
    )
    train.add_argument("-o", "--output", type=Path, default=Path("runs/talker"), help="folder of the run")
    train.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[SAMPLES / "corpus"],
        help="corpus folder (default: the shipped one), or files of records in the released format",
    )
    train.add_argument(
        "--weights", type=float, nargs="+", metavar="X", help="with files of records: how often each comes"
    )
    train.add_argument(
        "--tokeniser",
        type=Path,
        metavar="FILE",
        help="with files of records: a SentencePiece model (default: one trained on them, kept in the output folder)",
    )
    add_options(train, RecordOptions)
    train.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    train.add_argument(
        "--init",
        type=Path,
        metavar="TALKER",
        help="start from this talker's weights, or from a Hugging Face folder of Qwen2 or Llama shape",
    )
    train.add_argument(
        "--mix",
        type=Path,
        metavar="CORPUS",
        help="train on this corpus, too, so that what it teaches is kept",
    )
    add_options(train, MixOptions)
    add_options(train, TimeOption)
    add_options(train, ComputingSettings)
    add_options(train, DeviceOption)
    add_options(train, ModelSizes)
    add_options(train, TrainingSettings)


def _export(command) -> None:
    export = command(
        "export",
        "Write a talker as a Hugging Face folder, which transformers loads as Qwen2.",
        "export runs/mine/talker.safetensors -o exported",
        talks=False,
    )
    export.add_argument("talker", type=Path, help="the talker's file")
    export.add_argument("-o", "--output", type=Path, required=True, help="folder to write")


def _adapt(command) -> None:
    adapt = command(
        "adapt",
        "From a folder of your recordings to a talker that knows them, measured before and after.",
        "adapt recordings -o runs/mine",
    )
    adapt.add_argument("recordings", type=Path, help="folder with audio files and a metadata.csv")
    adapt.add_argument(
        "-o", "--output", type=Path, default=Path("runs/adapted"), help="folder for corpus, talker and report"
    )
    adapt.add_argument("--mix", type=Path, metavar="CORPUS", help=MEASURED_ON)
    _hold_out_option(adapt)
    _licence_option(adapt)
    add_options(adapt, AdaptOptions)
    add_options(adapt, ComputingSettings)
    add_options(adapt, DeviceOption)
    add_options(adapt, SeedOption)


def _hold_out_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--hold-out",
        nargs="+",
        default=[],
        metavar="SPEAKER",
        help="speakers of the split voices (default: of three or more, the one with the fewest recordings)",
    )


def _evaluate(command) -> None:
    evaluate = command(
        "evaluate", "Measure a talker, with 95 % intervals.", "evaluate --split voices --json scores.json"
    )
    _measured_on_option(evaluate)
    referee = SAMPLES / "referee.safetensors"
    evaluate.add_argument(
        "--referee", type=Path, default=referee, help="judge of spoken words (default: the shipped one)"
    )
    evaluate.add_argument(
        "--judge-model",
        type=Path,
        metavar="DIR",
        help="also an outside judge of speech: a folder with a Whisper model for CTranslate2 (extra [judge])",
    )
    evaluate.add_argument(
        "--people", type=Path, help="how people are understood, instead: a folder of single words, by speaker"
    )
    evaluate.add_argument("--speaker", nargs="+", help="with --people: who (default: everybody)")
    evaluate.add_argument(
        "--conditions", type=Path, help="with --people: also under these conditions of recording (JSON)"
    )
    evaluate.add_argument(
        "--foreign",
        type=Path,
        help="what is refused, instead: a folder with a folder of sounds for each kind",
    )
    _guess_option(evaluate)
    evaluate.add_argument("--json", type=Path, help="write the scores here, too")
    evaluate.add_argument(
        "--pace",
        action="store_true",
        help="also print seconds of computing per second of speech; never in the JSON, whose figures repeat",
    )
    add_options(evaluate, EvaluationOptions)
    add_options(evaluate, ComputingSettings)
    add_options(evaluate, DeviceOption)
    add_options(evaluate, DecodingOptions)


def _measured_on_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", type=Path, help=MEASURED_ON)


def _calibrate(command) -> None:
    calibrate = command(
        "calibrate",
        "Learn from replies how often a talker is right when it is so sure; the talker's header keeps it.",
        "calibrate --talker runs/mine/talker.safetensors --data my_corpus -o runs/mine/calibrated.safetensors",
    )
    _measured_on_option(calibrate)
    calibrate.add_argument(
        "--split",
        default="calibration",
        help="records that were neither trained on nor are scored (default: calibration)",
    )
    calibrate.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="file to write; it may be the talker itself, which then learns how sure it may be",
    )
    add_options(calibrate, DeviceOption)


def _data(command) -> None:
    data = command(
        "data",
        "Make token files.",
        "data build -o my_corpus   |   minittt data import recordings -o my_corpus"
        "   |   minittt data encode recordings -o shards",
        talks=False,
    )
    data.add_argument("action", choices=["build", "import", "encode"])
    data.add_argument(
        "recordings",
        nargs="?",
        type=Path,
        help="import: folder of recordings with a metadata.csv; encode: of recordings",
    )
    data.add_argument("-o", "--output", type=Path, required=True, help="corpus folder to write")
    _crowd_options(data)
    data.add_argument(
        "--held-out", type=Path, help="build: voices of other makes for a split of their own, `makes`"
    )
    data.add_argument(
        "--foreign",
        type=Path,
        help="build: also recordings of what is not to be understood (a folder with a folder for each kind)",
    )
    data.add_argument(
        "--like",
        type=Path,
        metavar="TALKER",
        help="import: for this talker: its front end, and its tokeniser where that knows every letter",
    )
    _hold_out_option(data)
    data.add_argument(
        "--test-only", action="store_true", help="import: nothing for training; all is one split, test"
    )
    _licence_option(data)
    data.add_argument(
        "--codec",
        type=Path,
        help="codec to use (default: that of the talker of --like, or else the shipped one)",
    )
    add_options(data, DeviceOption)
    add_options(data, SeedOption)
    add_options(data, BuildOptions)
    add_options(data, ImportOptions)
    add_options(data, EncodeOptions)


def _crowd_options(sub: argparse.ArgumentParser) -> None:
    """Options for who is heard besides espeak-ng when the spoken world is drawn."""
    sub.add_argument(
        "--recorded", type=Path, help="also voices of other makes (a folder of minittt.world.makes)"
    )
    sub.add_argument("--people", type=Path, help="also people (a folder of single words with a metadata.csv)")
    sub.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="SPEAKER",
        help="speakers of these who are not to be heard",
    )


def _licence_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--licence",
        metavar="SPDX",
        help="of the recordings; it is kept in what is made of them (default: unknown)",
    )


def _codec(command) -> None:
    codec = command(
        "codec",
        "Train a codec, or pass a recording through one.",
        "codec train -o codec.safetensors --minutes 40   |   minittt codec roundtrip in.wav -o out.wav",
        talks=False,
    )
    codec.add_argument("action", choices=["train", "roundtrip"])
    codec.add_argument(
        "input",
        nargs="?",
        type=Path,
        help="roundtrip: an audio file; train: a folder of recordings (default: the spoken world)",
    )
    codec.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    _crowd_options(codec)
    _licence_option(codec)
    codec.add_argument("--start", type=Path, help="train: a codec of the same shape to start from")
    codec.add_argument("--resume", action="store_true", help="train: go on where this output file was left")
    _codec_option(codec)
    add_options(codec, DeviceOption)
    add_options(codec, CodecTrainingSettings, only=("minutes", "seed"))


def _referee(command) -> None:
    referee = command(
        "referee", "Train the recogniser that judges.", "referee -o referee.safetensors", talks=False
    )
    referee.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    _codec_option(referee)
    _crowd_options(referee)
    referee.add_argument("--held-out", type=Path, help="voices of other makes that test it")
    _licence_option(referee)
    add_options(referee, DeviceOption)
    add_options(referee, RefereeSettings, only=("steps", "seed"))


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of steps per block; write, say, 1,4,16")
    return numbers
