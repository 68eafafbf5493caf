"""The command line: minittt talk | transcribe | speak | caption | train | evaluate | data | codec | referee | doctor.

Bad input ends with one line on standard error and exit code 2; output files are written whole or not at all.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from minittt.errors import MinitttError

SAMPLES = Path(__file__).parent.parent / "data_samples"
TRAINING_NUMBERS = {  # options of `train`, as TrainingSettings has them
    "preset": (str, "exact (default), paper, paper-banom, paper-ppm, paper-sst, mended, ar or nar"),
    "steps": (int, "optimiser steps"),
    "records": (int, "records a step"),
    "row_length": (int, "tokens a row, both streams counted"),
    "optimiser": (str, "muon (default; AdamW for what is not a matrix of the Transformer) or adamw"),
    "learning_rate": (float, "AdamW's peak"),
    "muon_learning_rate": (float, "Muon's peak"),
    "warmup": (int, "steps until the peak"),
    "source_noise": (float, "at most this share of the codes listened to is replaced by random ones"),
    "accumulate": (int, "passes a step; the loss stays the same"),
    "precision": (str, "auto (bfloat16 where it is fast), float32, bfloat16 or float64"),
    "evaluate_every": (int, "steps between held-out losses and sample replies"),
    "samples": (int, "sample replies at each evaluation"),
    "save_every": (int, "steps between checkpoints"),
    "keep": (int, "checkpoints kept"),
    "seed": (int, "decides everything random"),
}
TRAINING_FLAGS = {
    "split": "cut records that do not fit a row at a group border, instead of leaving them out",
    "compile": "torch.compile the Transformer",
    "shard": "FSDP2, with torchrun --nproc-per-node N -m minittt.training",
}
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".aiff", ".mp3"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "minittt", description="Text-to-Talk in small: speech and text in, text and speech out."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, what: str, example: str, talks: bool = True) -> argparse.ArgumentParser:
        """A command of one line's help and an example; with `talks` it takes a talker and its codec."""
        sub = commands.add_parser(
            name,
            help=what,
            description=what,
            epilog=f"example:  minittt {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if talks:
            file = SAMPLES / "talker.safetensors"
            sub.add_argument("--talker", type=Path, default=file, help="talker to use")
            file = SAMPLES / "codec.safetensors"
            sub.add_argument("--codec", type=Path, default=file, help="codec the talker was trained with")
        return sub

    for add in (_talk, _listen_and_speak, _train, _evaluate, _data, _codec, _referee):
        add(command)
    command("doctor", "Check the environment and say what to do about each gap.", "doctor", talks=False)
    return parser


def _talk(command) -> None:
    example = "talk question.wav -o answer.wav --page reply.html"
    talk = command("talk", "Ask by voice or in writing, hear the answer.", example)
    talk.add_argument("questions", nargs="+", metavar="QUESTION", help="an audio file, or text in quotes")
    what = "a WAV file, or a folder if there are several questions"
    talk.add_argument("-o", "--output", type=Path, help=what)
    what = "write one self-contained HTML page: players, masks, unmasking"
    talk.add_argument("--page", type=Path, help=what)
    what = "with --page: several steps per block side by side, as 1,4,16"
    talk.add_argument("--compare", type=_numbers, help=what)
    what = "write the sound while it is being made, to a WAV file or, with -o -, as raw samples to a player"
    talk.add_argument("--stream", action="store_true", help=what)
    what = "with --stream: slots of a span's first block, fewer than --block: sound starts sooner"
    talk.add_argument("--first-block", type=int, help=what)
    _decoding_options(talk)


def _listen_and_speak(command) -> None:
    transcribe = command("transcribe", "Write down what is said.", "transcribe question.wav")
    transcribe.add_argument("files", nargs="+", type=Path)
    example = 'speak "two plus three" -o speech.wav --seed 3'
    speak = command("speak", "Say a text in one of four voices.", example)
    speak.add_argument("text")
    speak.add_argument("-o", "--output", type=Path, default=Path("speech.wav"), help="WAV file to write")
    _decoding_options(speak)
    caption = command("caption", "Say what sound or voice is heard.", "caption beeps.wav")
    caption.add_argument("files", nargs="+", type=Path)


def _decoding_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--block", type=int, default=8, help="audio slots denoised together (sizes trained: 1, 4, 8, 16)"
    )
    sub.add_argument("--steps", type=int, default=8, help="denoising steps per block")
    sub.add_argument(
        "--policy",
        default="random_order",
        help="which slots a step reveals: random_order, entropy_order, ...",
    )
    sub.add_argument(
        "--temperature",
        type=float,
        default=0.5,
        help="of audio: 1 draws from the model as it is, 0 is greedy (one voice). Text is always greedy",
    )


def _train(command) -> None:
    example = "train -o runs/mine --preset exact --steps 2500"
    train = command("train", "Train a talker from token files.", example, talks=False)
    train.add_argument("-o", "--output", type=Path, default=Path("runs/talker"))
    train.add_argument("--data", type=Path, default=SAMPLES / "corpus", help="corpus folder")
    train.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    train.add_argument("--threads", type=int, help="CPU threads (default: all)")
    for name, (kind, what) in TRAINING_NUMBERS.items():
        train.add_argument("--" + name.replace("_", "-"), type=kind, help=what)
    for name, what in TRAINING_FLAGS.items():
        train.add_argument("--" + name, action="store_true", default=None, help=what)
    train.add_argument("--layers", type=int, help="of the Transformer")
    train.add_argument("--width", type=int, help="of the Transformer: d_model")


def _evaluate(command) -> None:
    example = "evaluate --split voices --json scores.json"
    evaluate = command("evaluate", "Measure a talker, with 95 % intervals.", example)
    evaluate.add_argument("--data", type=Path, default=SAMPLES / "corpus")
    evaluate.add_argument("--referee", type=Path, default=SAMPLES / "referee.safetensors")
    evaluate.add_argument("--split", default="voices", help="renditions, voices or facts")
    evaluate.add_argument("--limit", type=int, help="at most so many items of each family")
    evaluate.add_argument("--json", type=Path, help="write the scores here, too")
    what = "also print seconds of computing per second of speech; never in the JSON, whose figures repeat"
    evaluate.add_argument("--pace", action="store_true", help=what)
    _decoding_options(evaluate)


def _data(command) -> None:
    example = "data build -o my_corpus   |   minittt data import recordings -o my_corpus"
    data = command("data", "Make token files.", example, talks=False)
    data.add_argument("action", choices=["build", "import"])
    what = "import: folder of recordings with a metadata.csv"
    data.add_argument("recordings", nargs="?", type=Path, help=what)
    data.add_argument("-o", "--output", type=Path, required=True)
    data.add_argument("--codec", type=Path, default=SAMPLES / "codec.safetensors")
    data.add_argument("--seed", type=int, default=0)


def _codec(command) -> None:
    example = "codec train -o codec.safetensors --minutes 40   |   minittt codec roundtrip in.wav -o out.wav"
    codec = command("codec", "Train a codec, or pass a recording through one.", example, talks=False)
    codec.add_argument("action", choices=["train", "roundtrip"])
    what = "roundtrip: an audio file; train: a folder of recordings (default: the spoken world)"
    codec.add_argument("input", nargs="?", type=Path, help=what)
    codec.add_argument("-o", "--output", type=Path, required=True)
    codec.add_argument("--codec", type=Path, default=SAMPLES / "codec.safetensors")
    codec.add_argument("--minutes", type=float, default=40.0)
    codec.add_argument("--seed", type=int, default=0)


def _referee(command) -> None:
    example = "referee -o referee.safetensors"
    referee = command("referee", "Train the recogniser that judges.", example, talks=False)
    referee.add_argument("-o", "--output", type=Path, required=True)
    referee.add_argument("--codec", type=Path, default=SAMPLES / "codec.safetensors")


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of steps per block; write, say, 1,4,16")
    return numbers


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    from minittt import commands
    from minittt.codec import CodecError

    args = _parser().parse_args(arguments)
    args.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return getattr(commands, args.command)(args) or 0
    except (MinitttError, CodecError) as error:
        print(f"minittt {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def overrides(settings, args, **names):
    """A copy of a settings dataclass with those options that were given."""
    given = {field: value for field, option in names.items() if (value := getattr(args, option)) is not None}
    return dataclasses.replace(settings, **given)


if __name__ == "__main__":
    sys.exit(main())
