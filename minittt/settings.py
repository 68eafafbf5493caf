"""Every setting of every command, in one place: its default, its range, and what it does.

The command line's options, their help, and the checks of both come from these fields; the library takes the same
classes. This module imports nothing heavy, so that `minittt --help` and `minittt doctor` work where torch does not.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from minittt.errors import MinitttError

# Names only: presets are defined in objective.py, policies in unmasking.py. Those modules import torch, and
# `minittt --help` must not; a test checks that these lists match the definitions.
PRESETS = ("exact", "paper", "paper-banom", "paper-ppm", "paper-sst", "mended", "ar", "nar", "exact-8")
POLICIES = (
    "random_order",
    "left_to_right",
    "entropy_order",
    "confidence_released",
    "confidence_threshold",
    "entropy_bound",
)
DEVICES = ("auto", "cpu", "cuda", "mps")
LARGEST_SEED = 2**32 - 1

# The limits of a reply: no talker trained on the shipped corpus comes near them unless it has lost its way.
MAX_TEXT = 64  # text tokens
MAX_SPAN = 160  # audio slots of a span: 6.4 s at 25 a second; the longest span of the corpus has 94 codes
MAX_SPANS = 8
MAX_REPLY = 256  # slots of a reply that is denoised whole (preset `nar`)


def samples_folder() -> Path:
    """Codec, talker, referee, corpus and recordings: inside an installed package, or beside it in a clone."""
    package = Path(str(files("minittt")))
    inside = package / "data_samples"
    if inside.is_dir():
        return inside
    return package.parent / "data_samples"


SHIPPED = {
    "people": "people",
    "reference": ".",
}  # talkers by name, and their folders inside the shipped files
TO_TALK = "people"  # the one that users talk to
TO_STUDY = "reference"  # the one that `evaluate`, studies, chapters and notebooks are about


def shipped_folder(name: str) -> Path:
    """The folder that holds the talker of that name, its codec and its corpus."""
    return samples_folder() / SHIPPED[name]


def talker_file(named: str) -> Path:
    """The file of a talker, given its path or, if it is shipped, its name."""
    if named in SHIPPED:
        return shipped_folder(named) / "talker.safetensors"
    return Path(named)


# ---- one field


def setting(
    default: Any,
    help: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field that knows its help text and its range. `above` excludes its bound; the others include theirs."""
    metadata = {"help": help, "at_least": at_least, "above": above, "at_most": at_most, "choices": choices}
    return field(default=default, metadata=metadata)


def kind_of(entry: dataclasses.Field) -> type:
    """int, float, str or bool: the kind of a field, whether or not None is allowed as well."""
    kinds = [kind for kind in (get_args(entry.type) or (entry.type,)) if kind is not type(None)]
    return kinds[0]


def range_of(entry: dataclasses.Field) -> str:
    """The range of a field in words: "a whole number of at least 1"."""
    rules = entry.metadata
    if rules["choices"]:
        return "one of " + ", ".join(rules["choices"])
    words = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}[
        kind_of(entry)
    ]
    bounds = []
    if rules["at_least"] is not None:
        bounds.append(f"of at least {rules['at_least']:g}")
    if rules["above"] is not None:
        bounds.append(f"above {rules['above']:g}")
    if rules["at_most"] is not None:
        bounds.append(f"at most {_plain(rules['at_most'])}")
    return " ".join([words, " and ".join(bounds)]).strip()


def _plain(number: float) -> str:
    """A number without an exponent."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def fits(entry: dataclasses.Field, value: Any) -> bool:
    """Whether a value is of the field's kind and in its range."""
    rules = entry.metadata
    kind = kind_of(entry)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        return False
    if rules["choices"] and value not in rules["choices"]:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if rules["at_least"] is not None and value < rules["at_least"]:
        return False
    if rules["above"] is not None and value <= rules["above"]:
        return False
    return rules["at_most"] is None or value <= rules["at_most"]


class Checked:
    """A dataclass whose fields were made by `setting`: raises MinitttError naming the field that does not fit."""

    def __post_init__(self) -> None:
        for entry in options_of(type(self)):
            value = getattr(self, entry.name)
            optional = type(None) in get_args(entry.type)
            if value is None and optional:
                continue
            if not fits(entry, value):
                raise MinitttError(f"{entry.name} must be {range_of(entry)}, not {value!r}")


def options_of(settings: type) -> list[dataclasses.Field]:
    """The fields of a class that `setting` made; others have no option on the command line."""
    return [entry for entry in dataclasses.fields(settings) if "help" in entry.metadata]


def settings_from(args: Any, settings: type, **more: Any) -> Any:
    """An instance of a settings class: its defaults, overridden by the options given (attributes of `args`, not None)."""
    given = {}
    for entry in options_of(settings):
        value = getattr(args, entry.name, None)
        if value is not None:
            given[entry.name] = value
    return settings(**given, **more)


# ---- the settings


@dataclass(frozen=True)
class ComputingSettings(Checked):
    """What every training run may be told about the machine."""

    threads: int | None = setting(
        None, "CPU threads of each process (default: all)", at_least=1, at_most=1024
    )


@dataclass(frozen=True)
class DeviceOption(Checked):
    """Where everything is computed: talker and codec share one device."""

    device: str = setting("auto", "where to compute; auto is cuda, else mps, else cpu", choices=DEVICES)


@dataclass(frozen=True)
class TimeOption(Checked):
    """How long a training run may take, in place of its number of steps."""

    minutes: float | None = setting(
        None, "as many steps as fit into this time here, in place of --steps", above=0, at_most=100_000
    )


@dataclass(frozen=True)
class AdaptOptions(Checked):
    """How a talker is adapted."""

    minutes: float = setting(
        7.0, "of training; importing and measuring come on top", above=0, at_most=100_000
    )


@dataclass(frozen=True)
class ModelSizes(Checked):
    """Sizes of the Transformer that an option may change; None leaves them as `ModelConfig` has them."""

    layers: int | None = setting(None, "layers of the Transformer", at_least=1, at_most=1000)
    width: int | None = setting(None, "width of the Transformer (d_model)", at_least=2, at_most=100_000)


@dataclass(frozen=True)
class TrainingSettings(Checked):
    """Everything that decides a training run of a talker."""

    preset: str = setting("exact", "how records are corrupted and weighed", choices=PRESETS)
    steps: int = setting(5000, "optimiser steps", at_least=1)
    records: int = setting(40, "records per step, over all processes", at_least=1)
    accumulate: int = setting(1, "passes per step and process; the loss stays the same", at_least=1)
    row_length: int = setting(384, "tokens per row, both streams counted", at_least=1)
    source_noise: float = setting(
        0.1, "largest share of the codes listened to that is replaced by random ones", at_least=0, at_most=1
    )
    split: bool = setting(
        False, "cut records that do not fit a row at a group border, instead of leaving them out"
    )
    optimiser: str = setting(
        "muon", "muon (AdamW for what is not a matrix of the Transformer) or adamw", choices=("muon", "adamw")
    )
    learning_rate: float = setting(2e-3, "AdamW's peak", above=0)
    muon_learning_rate: float = setting(5e-3, "Muon's peak, scaled to compare with AdamW's", above=0)
    warmup: int = setting(100, "steps until the peak", at_least=0)
    weight_decay: float = setting(0.05, "decoupled weight decay", at_least=0)
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = setting(1.0, "bound on the gradient's norm; the norm before clipping is logged", above=0)
    precision: str = setting(
        "auto",
        "auto is bfloat16 where it is fast; bfloat16 is by autocast, weights stay float32",
        choices=("auto", "float32", "bfloat16", "float64"),
    )
    attention: str = setting(
        "auto",
        "dense makes a mask of all pairs, flex (FlexAttention, on cuda) skips what nobody sees; auto is flex for long rows",
        choices=("auto", "dense", "flex"),
    )
    gradient_checkpointing: bool = setting(
        False,
        "keep the input of each layer alone and compute it again on the way back: less memory, more time",
    )
    lora: int | None = setting(
        None, "with --init: train adapters of this rank and the rows of new ids, nothing else", at_least=1
    )
    compile: bool = setting(False, "torch.compile the Transformer")
    shard: bool = setting(False, "FSDP2: every process keeps a shard of the weights (under torchrun)")
    seed: int = setting(0, "decides everything random", at_least=0, at_most=LARGEST_SEED)
    evaluate_every: int = setting(250, "steps between held-out losses and sample replies", at_least=1)
    samples: int = setting(3, "sample replies at each evaluation, of different families", at_least=0)
    save_every: int = setting(250, "steps between checkpoints", at_least=1)
    keep: int = setting(2, "checkpoints kept, the newest", at_least=1)
    model: dict = field(default_factory=dict)  # overrides of ModelConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.shard:
            raise MinitttError("compile and shard do not go together: choose one")
        if self.lora is not None and self.shard:
            raise MinitttError("lora and shard do not go together: adapters leave little to shard")


@dataclass(frozen=True)
class CodecTrainingSettings(Checked):
    """How a codec is trained. The learning rate falls along a cosine to zero as time or steps run out."""

    config: Any = None  # a CodecConfig; None: the shipped codec's shape
    minutes: float = setting(40.0, "minutes of training", above=0)
    max_steps: int | None = setting(None, "ends the training if it comes before the clock does", at_least=1)
    batch_size: int = setting(4, "crops per step; small batches are far faster on a CPU", at_least=1)
    crop: float = setting(1.0, "seconds of each crop", above=0)
    learning_rate: float = setting(1.5e-3, "AdamW's peak", above=0)
    unquantised_steps: int = setting(500, "steps before a codebook is placed among the latents", at_least=0)
    commitment: float = setting(0.25, "weight of the commitment loss", at_least=0)
    revive_until: float = setting(
        0.7, "share of the training in which unused codebook entries are moved", at_least=0, at_most=1
    )
    gradient_norm: float = setting(1.0, "bound on the gradient's norm", above=0)
    seed: int = setting(0, "decides everything random", at_least=0, at_most=LARGEST_SEED)

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is done: 1 or more when the clock or the steps have run out."""
        by_clock = seconds / (60 * self.minutes)
        by_steps = step / self.max_steps if self.max_steps else 0.0
        return max(by_clock, by_steps)


@dataclass(frozen=True)
class RefereeSettings(Checked):
    """How long the referee is trained, and on how much. The defaults take about a quarter of an hour on one CPU core."""

    utterances: int = setting(
        12000, "utterances of the referee's own voices, disturbed anew each time", at_least=1
    )
    steps: int = setting(4500, "steps of the recogniser", at_least=1)
    batch: int = setting(32, "utterances per step", at_least=1)
    learning_rate: float = setting(2e-3, "AdamW's peak", above=0)
    voice_sentences: int = setting(
        200, "sentences said by all four reply voices, for the voice judge", at_least=1
    )
    voice_steps: int = setting(1500, "steps of the voice judge", at_least=1)
    voice_batch: int = setting(256, "windows per step of the voice judge", at_least=1)
    test_utterances: int = setting(400, "utterances of the test at the end", at_least=1)
    seed: int = setting(0, "decides everything random", at_least=0, at_most=LARGEST_SEED)


@dataclass(frozen=True)
class DecodingOptions(Checked):
    """How the commands decode a reply. Text is always greedy."""

    seed: int = setting(
        0, "decides the voice and everything else that is drawn", at_least=0, at_most=LARGEST_SEED
    )
    block: int = setting(
        8,
        "audio slots denoised together (the shipped talker knows 1, 4, 8 and 16)",
        at_least=1,
        at_most=MAX_SPAN,
    )
    steps: int = setting(8, "denoising steps per block", at_least=1)
    policy: str = setting(
        "random_order",
        "which slots a step reveals: "
        + ", ".join(POLICIES)
        + "; the last two take a number, as entropy_bound:0.3",
    )
    temperature: float = setting(
        0.5, "of audio: 1 draws from the model as it is, 0 always takes the likeliest code", at_least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        name, _, number = self.policy.partition(":")
        if name not in POLICIES:
            raise MinitttError(f"policy must be one of {', '.join(POLICIES)}, not {self.policy!r}")
        if number and not _is_policy_number(name, number):
            raise MinitttError(
                f"policy {self.policy!r}: only confidence_threshold and entropy_bound take a number, 0 or more"
            )


def _is_policy_number(name: str, number: str) -> bool:
    if name not in ("confidence_threshold", "entropy_bound"):
        return False
    try:
        return 0 <= float(number) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class StreamingOptions(Checked):
    """What `talk --stream` takes in addition."""

    first_block: int | None = setting(
        None,
        "with --stream: slots of a span's first block, fewer than --block, so that sound starts sooner",
        at_least=1,
        at_most=MAX_SPAN,
    )


@dataclass(frozen=True)
class ServingOptions(Checked):
    """Where the page of `serve` is found."""

    host: str = setting("127.0.0.1", "address to listen at; the default is reached from this machine alone")
    port: int = setting(8765, "port to listen at; 0 picks a free one", at_least=0, at_most=65535)


@dataclass(frozen=True)
class EvaluationOptions(Checked):
    """What is measured."""

    split: str = setting("voices", "renditions, voices or facts")
    limit: int | None = setting(None, "at most so many items of each family (default: all)", at_least=1)


@dataclass(frozen=True)
class BuildOptions(Checked):
    """How a corpus is drawn."""

    workers: int | None = setting(
        None,
        "build, with --recorded or --people: processes that speak and encode (default: 1); the corpus is the same",
        at_least=1,
        at_most=1024,
    )


@dataclass(frozen=True)
class RecordOptions(Checked):
    """How records of the released format are read, when --data names files."""

    codebook_size: int = setting(
        16384, "with files of records: codes that their tokenizer has", at_least=1, at_most=65536
    )
    on_error: str = setting(
        "raise", "with files of records: what a malformed one does", choices=("raise", "skip")
    )
    codec_name: str = setting("released", "with files of records: a name for where their codes come from")


@dataclass(frozen=True)
class EncodeOptions(Checked):
    """How a folder of recordings is encoded."""

    per_shard: int = setting(256, "encode: recordings in a shard", at_least=1)


@dataclass(frozen=True)
class MixOptions(Checked):
    """How two corpora are mixed."""

    mix_share: float = setting(
        0.5, "with --mix: share of the records that is of --data", above=0, at_most=0.99
    )


@dataclass(frozen=True)
class ImportOptions(Checked):
    """How recordings are imported."""

    copies: int = setting(
        0, "import: of each recording in training, in other voices and rooms", at_least=0, at_most=100
    )


@dataclass(frozen=True)
class SeedOption(Checked):
    """For commands whose randomness a single number decides."""

    seed: int = setting(0, "decides everything random", at_least=0, at_most=LARGEST_SEED)
