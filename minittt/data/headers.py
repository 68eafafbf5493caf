"""What talkers, referees and corpora say about themselves: the names of the fields, and what each must hold.

Talkers and referees hold these fields as one JSON object, `info`, in the header of their safetensors file, beside
`format`, `written_by` and `checksum`; a corpus holds all of them in corpus.json. A field that an older file does not
have is None ("not known"); one that this version does not know is kept and otherwise ignored.
`data_samples/README.md` has the table.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from minittt.codec import CodecError, check_sizes, header_value, read_header, read_tensors
from minittt.errors import MinitttError

UNKNOWN = "unknown"  # the licence of anything that was given none
NO_FRONT_END = "none"  # codes are made from the unchanged waveform


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # nor NaN


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_list_of_counts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(entry) for entry in value)


def _is_list_of_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(entry is None or _is_count(entry) for entry in value)


def _is_object_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


def _is_object_of_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(entry) for entry in value.values())


def _is_declining(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"below", "text", "instruction"}:
        return False
    texts = _is_text(value["text"]) and _is_text(value["instruction"])
    return texts and _is_number(value["below"]) and 0 <= value["below"] <= 1


@dataclass(frozen=True)
class Field:
    """What one field must hold, as a test and in words."""

    fits: Callable[[Any], bool]
    kind: str


FIELDS = {
    "format": Field(_is_text, "a string"),
    "written_by": Field(_is_text, "a string"),  # the version of minittt
    "codec": Field(_is_text, "a string"),  # its fingerprint
    "tokeniser": Field(_is_text, "a string"),  # its fingerprint
    "words": Field(_is_list_of_texts, "a list of strings"),  # all words in the text of the training split
    "front_end": Field(_is_text, "a string"),  # what was done to a waveform before the codec encoded it
    "licence": Field(_is_text, "a string"),  # an SPDX identifier, or "unknown"
    "heard": Field(
        _is_list_of_texts, "a list of strings"
    ),  # the kinds of voices that a referee was trained on
    "block_sizes": Field(_is_list_of_sizes, "a list of numbers or nulls"),  # that a talker was trained with
    "settings": Field(_is_object, "an object"),  # of a run of training
    "step": Field(_is_count, "a whole number"),
    "training": Field(_is_object, "an object"),  # the settings of the training, the preset among them
    "started_from": Field(_is_object, "an object"),  # the talker that a training began with, and its steps
    "confidence": Field(_is_object, "an object"),  # evaluation.confidence.Calibration
    "declines": Field(_is_declining, "an object of below, text and instruction"),  # talker.Declining
    "sample_rate": Field(_is_count, "a whole number"),  # Hz
    "frame_rate": Field(_is_number, "a number"),  # Hz
    "codebook_size": Field(_is_count, "a whole number"),
    "n_codebooks": Field(_is_count, "a whole number"),
    "splits": Field(_is_object_of_counts, "an object of whole numbers"),  # records in each
    "utterances": Field(_is_count, "a whole number"),
    "checksums": Field(
        _is_object_of_texts, "an object of strings"
    ),  # SHA-256 of each other file of the corpus
}
TALKER = (
    *("codec", "tokeniser", "words", "front_end", "licence", "block_sizes", "step", "training"),
    *("started_from", "confidence", "declines"),
)
STATE = ("step", "settings")
REFEREE = ("licence", "heard")
CORPUS = (
    *("format", "written_by", "codec", "sample_rate", "frame_rate", "codebook_size", "n_codebooks"),
    *("tokeniser", "words", "front_end", "licence", "splits", "utterances", "checksums"),
)


def complete(path: str | Path, info: dict, names: tuple[str, ...], required: tuple[str, ...] = ()) -> dict:
    """`info` with all fields in `names`, None where it lacks one, followed by whatever else it holds.

    Raises MinitttError naming the file and a field that holds another kind of value, or is required and missing.
    """
    found = {}
    for name in names:
        value = info.get(name)
        if value is None and name in required:
            raise MinitttError(f"{path}: the field {name!r} is missing; it must be {FIELDS[name].kind}")
        if value is not None and not FIELDS[name].fits(value):
            raise MinitttError(f"{path}: the field {name!r} must be {FIELDS[name].kind}, not {value!r:.60}")
        found[name] = value
    unknown = {name: value for name, value in info.items() if name not in found}
    return found | unknown


def read_file(path: str | Path, wanted: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """`codec.read_tensors`, but what is wrong with the file is raised as MinitttError."""
    try:
        return read_tensors(path, wanted)
    except CodecError as error:
        raise MinitttError(str(error)) from error


def read_object(path: str | Path, header: dict[str, str], field: str) -> dict:
    """The JSON object in one field of a header. Raises MinitttError naming a field that is missing or is not one."""
    try:
        return header_value(path, header, field)
    except CodecError as error:
        raise MinitttError(str(error)) from error


def read_config(
    path: str | Path,
    header: dict[str, str],
    field: str,
    config: type,
    tensors: dict[str, Tensor] | None = None,
) -> Any:
    """The dataclass `config` made from one field of a header. Raises MinitttError naming what does not fit it.

    It decides how the weights are used, so nothing in it may be ignored: an unknown entry is refused. So is a size that
    is larger than the file's `tensors` allow, if they are given: no memory is allocated for it.
    """
    values = read_object(path, header, field)
    fits: dict[Any, Callable] = {
        int: _is_count,
        float: _is_number,
        bool: _is_switch,
        tuple[int, ...]: _is_list_of_counts,
    }
    for entry in fields(config):
        test = fits.get(entry.type, _is_list_of_texts)
        if entry.name in values and not test(values[entry.name]):
            value = values[entry.name]
            raise MinitttError(f"{path}: its header's field {field!r} has {value!r:.60} for {entry.name}")
    try:
        if tensors is not None:
            check_sizes(values, tensors)
        return config(
            **{n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise MinitttError(f"{path}: its header's field {field!r} does not fit ({error})") from error


def describe(path: str | Path) -> dict:
    """Everything that the header of a safetensors file, or corpus.json, says, JSON decoded; for printing."""
    try:
        if Path(path).suffix == ".json":
            return json.loads(Path(path).read_text(encoding="utf-8"))
        found = {}
        for name, text in sorted(read_header(path).items()):
            is_json = text.startswith(("{", "["))
            found[name] = json.loads(text) if is_json else text
        return found
    except CodecError as error:
        raise MinitttError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise MinitttError(f"{path}: cannot be read ({error})") from error
