"""What argparse cannot see in a command line: which options go together, and whether results can be written as asked.

All of this is checked before the work, so that an hour's evaluation does not end in a folder that does not exist.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import minittt
from minittt.app import typed
from minittt.data.corpus import is_of_a_corpus
from minittt.device import device_named
from minittt.errors import MinitttError
from minittt.files import SOUNDS, STANDARD_OUTPUT, check_file, check_folder, check_suffix, writable_text
from minittt.settings import DecodingOptions, DeviceOption, settings_from

PACKAGE = Path(minittt.__file__).resolve().parent
TENSORS = (".safetensors",)
JSON = (".json",)
PAGE = (".html", ".htm")

# ---- options that would be ignored

# command -> (option, what it needs, in words): a switch or option that must be given, or the action that takes it
NEEDS = {
    "talk": (
        ("compare", "page", "--compare needs a page to show its replies on: add --page reply.html"),
        ("first_block", "stream", "--first-block only works while streaming: add --stream"),
    ),
    "train": (("mix_share", "mix", "--mix-share only works with --mix: add --mix CORPUS"),),
    "evaluate": (
        ("speaker", "people", "--speaker only works with --people: add --people FOLDER"),
        ("conditions", "people", "--conditions only work with --people: add --people FOLDER"),
    ),
}
EXCLUDES = {
    "talk": (
        ("stream", "page", "--stream answers one question, and makes no page: leave --page out"),
        ("stream", "compare", "--stream answers once: leave --compare out"),
    ),
    "codec": (
        ("input", "recorded", "a folder of recordings is all that is heard: leave it out, or --recorded"),
        ("input", "people", "a folder of recordings is all that is heard: leave it out, or --people"),
    ),
    "evaluate": (
        ("people", "foreign", "--people and --foreign are two measures: ask for one of them"),
        ("people", "split", "--split only works with a corpus: leave it out with --people"),
        ("foreign", "split", "--split only works with a corpus: leave it out with --foreign"),
        ("people", "data", "--data is not heard with --people: leave it out"),
        ("foreign", "data", "--data is not heard with --foreign: leave it out"),
        ("people", "judge_model", "--judge-model only works with a corpus: leave it out with --people"),
        ("foreign", "judge_model", "--judge-model only works with a corpus: leave it out with --foreign"),
        ("people", "pace", "--pace only works with a corpus: leave it out with --people"),
        ("foreign", "pace", "--pace only works with a corpus: leave it out with --foreign"),
    ),
}
# what else each action of `data` and `codec` takes
ONLY = {
    ("data", "build"): ("recorded", "people", "leave_out", "held_out", "foreign", "workers", "licence"),
    ("data", "import"): ("recordings", "like", "hold_out", "test_only", "copies", "licence"),
    ("data", "encode"): ("recordings", "per_shard"),
    ("codec", "train"): ("recorded", "people", "leave_out", "start", "resume", "minutes", "seed", "licence"),
    ("codec", "roundtrip"): (),
}
# (command, action) -> options about recordings, which need some: without any, all voices are espeak-ng's
OF_RECORDINGS = {
    ("data", "build"): ("licence", "held_out", "workers"),
    ("codec", "train"): ("licence",),
    ("referee", None): ("licence",),
}


def check(args: argparse.Namespace) -> None:
    """Raise MinitttError for a command line that cannot be carried out, or in which something would be ignored."""
    for option, needed, message in NEEDS.get(args.command, ()):
        if _is_given(args, option) and not _is_given(args, needed):
            raise MinitttError(message)
    for option, other, message in EXCLUDES.get(args.command, ()):
        if _is_given(args, option) and _is_given(args, other):
            raise MinitttError(message)
    _check_action(args)
    _check_crowd(args)
    _check_records(args)
    if "device" in args:
        device_named(settings_from(args, DeviceOption).device)
    if "policy" in args:
        settings_from(args, DecodingOptions)  # a range cannot check a policy's number
    if args.command == "talk" and args.stream and len(args.questions) > 1:
        raise MinitttError("--stream answers one question, and makes no page")
    for path in (*inputs_of(args), *targets_of(args)):
        _check_name(path)
    for path in targets_of(args):
        _check_own(path)
    for path in recordings_of(args):
        if path.is_dir():
            raise MinitttError(f"{path} is a folder: list the recordings in it instead, such as {path}/*.wav")
    check_targets(args)


def _is_given(args: argparse.Namespace, option: str) -> bool:
    return getattr(args, option, None) not in (None, False, [], ())


def _check_action(args: argparse.Namespace) -> None:
    """Refuse options of `data build` given to `data import`, and the other way round; likewise for `codec`."""
    action = getattr(args, "action", None)
    for (command, other), options in ONLY.items():
        if command != args.command or other == action:
            continue
        for option in options:
            if option not in ONLY[command, action] and _is_given(args, option):
                name = option if option == "recordings" else "--" + option.replace("_", "-")
                raise MinitttError(
                    f"{name} only works with `minittt {command} {other}`: leave it out of `{command} {action}`"
                )


def _check_crowd(args: argparse.Namespace) -> None:
    """Refuse options about recorded voices where no such voices are named."""
    action = getattr(args, "action", None)
    are_there = any(_is_given(args, name) for name in ("recorded", "people", "input"))
    for option in OF_RECORDINGS.get((args.command, action), ()):
        if _is_given(args, option) and not are_there:
            name = "--" + option.replace("_", "-")
            raise MinitttError(
                f"{name} is for recorded voices, and none are named: add --recorded or --people"
            )
    if _is_given(args, "leave_out") and not _is_given(args, "people"):
        raise MinitttError("--leave-out chooses among people: add --people FOLDER")


def _check_records(args: argparse.Namespace) -> None:
    """Refuse options of `train` about reading files of records where --data names a corpus."""
    if args.command != "train" or len(args.data) > 1 or args.data[0].is_file():
        return
    for option in ("weights", "tokeniser", "codebook_size", "on_error", "codec_name"):
        if _is_given(args, option):
            name = "--" + option.replace("_", "-")
            raise MinitttError(f"{name} is for files of records: name some with --data, or leave it out")


def _check_name(path: Path) -> None:
    if "\0" in str(path):
        raise MinitttError(f"{str(path)!r} cannot be a file's name: it has a zero byte in it")
    if writable_text(str(path)) != str(path):  # the libraries that read and write take only UTF-8
        raise MinitttError(
            f"{writable_text(str(path))}: the name is not UTF-8: rename the file, or set the terminal to UTF-8"
        )


# ---- where results go


def _check_own(path: Path) -> None:
    """Raise MinitttError for a place inside the installed package."""
    if path.resolve().is_relative_to(PACKAGE):
        raise MinitttError(
            f"cannot write {path}: it is inside the installed package; name a place of your own"
        )


def inputs_of(args: argparse.Namespace) -> list[Path]:
    """All files and folders that a command reads."""
    found = []
    for name in ("talker", "codec", "referee", "init", "mix", "start", "like", "data", "recordings"):
        is_read = name != "codec" or getattr(args, "action", None) != "train"
        named = getattr(args, name, None)
        paths = named if isinstance(named, list) else [named]
        if is_read:
            found += [path for path in paths if isinstance(path, Path)]
    if isinstance(getattr(args, "input", None), Path):
        found.append(args.input)
    return found + recordings_of(args)


def recordings_of(args: argparse.Namespace) -> list[Path]:
    """The audio files that a command listens to."""
    asked = [Path(question) for question in getattr(args, "questions", []) if typed.is_audio(question)]
    return [*getattr(args, "files", []), *asked]


def targets_of(args: argparse.Namespace) -> list[Path]:
    """All places that options name as targets for results."""
    named = (getattr(args, name, None) for name in ("output", "json", "page"))
    return [path for path in named if isinstance(path, Path)]


def check_targets(args: argparse.Namespace) -> None:
    """Raise MinitttError for a target where the results of this command cannot or must not be written."""
    inputs = inputs_of(args)
    output = getattr(args, "output", None)
    for name, suffixes in (("json", JSON), ("page", PAGE)):
        path = getattr(args, name, None)
        if not isinstance(path, Path):
            continue
        if _will_be_made(path.parent, args):
            check_suffix(path, suffixes)
        else:
            check_file(path, suffixes, inputs)
    if output is None or output == STANDARD_OUTPUT and _is_one_sound(args):
        return
    if output == STANDARD_OUTPUT:
        raise MinitttError("-o - (standard output) can hold one sound only: give a file or a folder")
    if args.command == "talk":
        for path in answer_paths(args):
            check_file_in(path, args, inputs)
    elif args.command in ("train", "adapt", "chat", "export") or getattr(args, "action", None) == "encode":
        check_folder(output, inputs=inputs)
    elif args.command == "data":
        check_folder(output, is_of_a_corpus, inputs)
    elif args.command == "calibrate":
        check_file(output, TENSORS, [args.data] if args.data else [])
    elif args.command == "speak" or getattr(args, "action", None) == "roundtrip":
        check_file(output, SOUNDS, inputs)
    else:
        check_file(output, TENSORS, inputs)
        check_file(output.with_suffix(".jsonl"))


def _will_be_made(folder: Path, args: argparse.Namespace) -> bool:
    """Whether the folder does not exist yet but is the one that `talk` makes for its answers."""
    if args.command != "talk" or folder.exists():
        return False
    return any(path != args.output and path.parent == folder for path in answer_paths(args))


def check_file_in(path: Path, args: argparse.Namespace, inputs: list[Path]) -> None:
    """Check where one answer goes: into the folder that -o names, which need not exist, or to the file that it names."""
    if path == args.output:
        check_file(path, (".wav",) if args.stream else SOUNDS, inputs)
        return
    check_folder(path.parent)
    if path.parent.is_dir():
        check_file(path, SOUNDS, inputs)


def _is_one_sound(args: argparse.Namespace) -> bool:
    """Whether the command makes a single sound, which standard output can take."""
    if args.command == "talk":
        return len(args.questions) == 1 and not args.compare
    return args.command == "speak" or getattr(args, "action", None) == "roundtrip"


def answer_paths(args: argparse.Namespace) -> list[Path]:
    """Where `talk` writes the sound of each answer: to the file that -o names, or into the folder that it names.

    With --compare there is one answer per number of steps, question by question. Empty if nothing is written.
    """
    if args.output is None or args.output == STANDARD_OUTPUT:
        return []
    answers = list(_answers(args))
    suffix = args.output.suffix.lower()
    if args.stream or suffix in SOUNDS:
        if len(answers) > 1:
            raise MinitttError(
                f"{len(answers)} answers do not go into one file: give a folder, such as -o answers"
            )
        return [args.output]
    if suffix and not args.output.is_dir():
        check_file(args.output, SOUNDS)  # its message lists the possible suffixes
    paths = []
    for i, name in enumerate(answers):
        path = args.output / f"{name}.wav"
        if path in paths:
            path = path.with_name(f"{name}_{i + 1}.wav")
        paths.append(path)
    return paths


def _answers(args: argparse.Namespace) -> Iterator[str]:
    """The name for each answer."""
    place = 0
    for question in args.questions:
        for steps in args.compare or [None]:
            place += 1
            name = Path(question).stem if typed.is_audio(question) else f"typed_{place}"
            yield f"{name}_answer" if steps is None else f"{name}_answer_{steps}_steps"
