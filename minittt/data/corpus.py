"""Token files: what training and evaluation read, whoever made them (`spoken_world.py`, or `data import`).

A corpus is a folder:
    corpus.json         what the corpus is: sizes, splits, codec, tokeniser, words, and the other files' checksums
    tokeniser.model     SentencePiece, or a Hugging Face tokenizer.json under this name
    audio.npz           codes (n,) uint16, flattened frame by frame, and offsets (utterances + 1,): where each begins
    utterances.jsonl.gz one line per utterance: {"text": ..., "voice": ...}
    SPLIT.jsonl.gz      one line per record

A record is {"family": ..., "messages": [[role, part, ...], ...]}: a part is text, or the number of an utterance. Roles are
system, user, assistant; a document has one message whose role is document.
"""

import gzip
import hashlib
import json
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minittt import __version__
from minittt.codec import Codec, whole_file
from minittt.data import headers
from minittt.data.tokenisers import Tokeniser, load_tokeniser
from minittt.data.vocabulary import Vocabulary, words_of
from minittt.errors import MinitttError

FORMAT = "minittt corpus 1"
ROLES = ("system", "user", "assistant", "document")
_MOST_UNPACKED = 100  # bytes per byte of a compressed file; records of text give about 12
_ALWAYS_UNPACKED = 1 << 24  # bytes that any file may unpack to
# What gzip, zipfile and numpy raise for bytes that they cannot read.
_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
    struct.error,
)
_MOST_CODES = 1 << 16  # of all codebooks: uint16
_KINDS = {
    "codes": ("ui", 1),
    "offsets": ("ui", 1),
    "codebooks": ("f", 2),
}  # kinds and dimensions of the arrays


@dataclass
class Corpus:
    """Codes, utterances and records in memory. `info` is what corpus.json says (`headers.CORPUS`)."""

    info: dict
    tokeniser: Tokeniser
    codes: np.ndarray  # (n,) uint16
    offsets: np.ndarray  # (utterances + 1,) int64
    utterances: list[dict]
    splits: dict[str, list[dict]]
    codebooks: np.ndarray | None = None  # (number of codes, dimension): the codec's latent for each code

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids of this corpus: its tokeniser's pieces, then its codec's codes."""
        return Vocabulary(
            text_size=len(self.tokeniser),
            codebook_size=self.info["codebook_size"],
            n_codebooks=self.info["n_codebooks"],
            never_written=self.tokeniser.never_written,
        )

    def read_by(self, tokeniser: Tokeniser) -> "Corpus":
        """The same records for a model with another tokeniser: records hold texts, not text tokens.

        Raises MinitttError if a training text has a character that this tokeniser does not know.
        """
        for text in sorted(texts_of(self.splits.get("train", []))):
            tokeniser.encode(text)
        info = {**self.info, "tokeniser": tokeniser.fingerprint()}
        return replace(self, tokeniser=tokeniser, info=info)

    def audio(self, utterance: int) -> np.ndarray:
        """Flattened codes of one utterance, (n,)."""
        return self.codes[self.offsets[utterance] : self.offsets[utterance + 1]]

    def in_codes(self, part: str | int) -> str | list[int]:
        """A part of a message with its codes in place of an utterance's number; text stays as it is."""
        if isinstance(part, int):
            return self.audio(part).tolist()
        return part

    @property
    def words(self) -> list[str]:
        """All words in the text of the training split, sorted."""
        return words_taught(self.splits.get("train", []))

    def check_codec(self, codec: Codec) -> None:
        """Raise MinitttError if these codes are another codec's."""
        if codec.fingerprint() != self.info["codec"]:
            raise MinitttError(
                f"this corpus has the codes of codec {self.info['codec']}, but the codec given is {codec.fingerprint()}: "
                "use the codec it was made with, or make a corpus with this one"
            )

    def seed_of(self, record: dict, seed: int = 0) -> int:
        """A seed for everything random about one record: derived from its content and from `seed`, not from its place."""
        content = [record["family"]]
        for role, *parts in record["messages"]:
            content.append(role)
            content += [self.in_codes(part) for part in parts]
        text = json.dumps([seed, content], separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:7], "big")  # 56 bits: torch takes 64, signed

    def split(self, name: str) -> list[dict]:
        """Records of one split. Raises MinitttError naming the splits there are."""
        if name not in self.splits:
            raise MinitttError(f"the corpus has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


def mixed(own: Corpus, other: Corpus, share: float) -> Corpus:
    """`own` for training together with `other`.

    One epoch holds all records of `other`, and those of `own` repeated until they make up about this share of it. Held-out
    records and tokeniser are those of `own`. Records hold texts, so the tokenisers may differ; waves that passed no front
    end were clean, and go with any. Raises MinitttError if the tokeniser of `own` does not know every letter of `other`, or
    if the codecs or the front ends differ.
    """
    if own.info["codec"] != other.info["codec"]:
        raise MinitttError(
            f"one corpus has the codes of codec {own.info['codec']}, the other of {other.info['codec']}: mix corpora of one"
        )
    ways = {corpus.info.get("front_end") or headers.NO_FRONT_END for corpus in (own, other)}
    if len(ways - {headers.NO_FRONT_END}) > 1:
        raise MinitttError(
            f"the corpora passed the front ends {' and '.join(sorted(ways))}: mix corpora of one"
        )
    for text in sorted(texts_of(other.split("train"))):
        own.tokeniser.encode(text)
    times = max(1, round(share / (1 - share) * len(other.split("train")) / len(own.split("train"))))
    first = len(own.utterances)
    moved = [_moved(record, first) for record in other.split("train")]
    return Corpus(
        info=own.info,
        tokeniser=own.tokeniser,
        codes=np.concatenate([own.codes, other.codes]),
        offsets=np.concatenate([own.offsets, other.offsets[1:] + own.offsets[-1]]),
        utterances=[*own.utterances, *other.utterances],
        splits={**own.splits, "train": [*own.split("train") * times, *moved]},
        codebooks=own.codebooks,
    )


def _moved(record: dict, first: int) -> dict:
    """The record with its utterances counted from `first`."""
    messages = []
    for role, *parts in record["messages"]:
        messages.append([role, *(part + first if isinstance(part, int) else part for part in parts)])
    return {**record, "messages": messages}


def texts_of(records: list[dict]) -> set[str]:
    """All text in these records, instructions included."""
    return {
        part
        for record in records
        for _, *parts in record["messages"]
        for part in parts
        if isinstance(part, str)
    }


def words_taught(records: list[dict]) -> list[str]:
    """All words written in these records by users and in replies, sorted. Instructions do not count, nor does speech."""
    words = set()
    for record in records:
        for role, *parts in record["messages"]:
            if role == "system":
                continue
            for part in parts:
                if isinstance(part, str):
                    words.update(words_of(part))
    return sorted(words)


def _write_lines(path: Path, lines: list[dict]) -> None:
    # mtime 0 and no name: the same corpus gives the same bytes
    with (
        whole_file(path) as unfinished,
        unfinished.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file,
    ):
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _room(path: Path) -> int:
    """Bytes that a compressed file may unpack to: memory is bounded by its size on disk."""
    return max(_ALWAYS_UNPACKED, _MOST_UNPACKED * path.stat().st_size)


def _read_lines(path: Path) -> list[dict]:
    """The JSON objects in a file, one per line. Raises ValueError naming a line that is not one."""
    room = _room(path)
    lines = []
    with gzip.open(path, "rb") as file:
        while content := file.readline(room + 1):
            room -= len(content)
            if room < 0:
                raise ValueError(f"{path.name} unpacks to far more than such files hold")
            try:
                line = json.loads(content.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path.name}, line {len(lines) + 1} is not JSON: {error}") from error
            if not isinstance(line, dict):
                raise ValueError(f"{path.name}, line {len(lines) + 1} is no JSON object")
            lines.append(line)
    return lines


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of audio.npz. Raises ValueError if one claims more than the file holds, before allocating memory for it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _room(path):
            raise ValueError(f"{path.name} unpacks to far more than such files hold")
        for member in members:
            with archive.open(member) as file:
                _check_array(path.name, member, file)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in _KINDS if name in arrays}


def _check_array(name: str, member: zipfile.ZipInfo, file) -> None:
    """Raise ValueError if one array's header, which `file` is about to give, does not fit its bytes."""
    array = member.filename.removesuffix(".npy")
    if array not in _KINDS:
        raise ValueError(f"{name} holds {member.filename!r}; it has the arrays {', '.join(_KINDS)}")
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    kinds, dimensions = _KINDS[array]
    if dtype.kind not in kinds or len(shape) != dimensions:
        raise ValueError(f"{array} are {dtype} of shape {shape}")
    if math.prod(shape) * dtype.itemsize + file.tell() != member.file_size:
        raise ValueError(f"{array} state the shape {shape}, which is not what {name} holds")


def _check_content(info: dict, codes: np.ndarray, offsets: np.ndarray, codebooks: np.ndarray | None) -> None:
    """Raise ValueError if codes (n,), offsets (utterances + 1,) or codebooks (m, d) are not as corpus.json says."""
    n_codebooks = info["n_codebooks"]
    size = info["codebook_size"]
    ordered = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(codes)
    if not ordered or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"offsets must rise from 0 to the {len(codes)} codes there are")
    if (offsets % n_codebooks).any():
        raise ValueError(f"an utterance does not end on a whole frame of {n_codebooks} codes")
    turn = (
        np.arange(len(codes)) % n_codebooks
    )  # whose code belongs here: frames begin at multiples of n_codebooks
    wrong = codes.astype(np.int64) // size != turn
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        low = int(turn[place]) * size
        raise ValueError(f"code {codes[place]} at {place} is none of {low} to {low + size - 1}")
    if codebooks is not None and (len(codebooks) != n_codebooks * size or not np.isfinite(codebooks).all()):
        raise ValueError(f"codebooks must be finite, {n_codebooks * size} rows, not {codebooks.shape}")


def _check_counts(info: dict, utterances: list[dict], splits: dict[str, list[dict]], stated: int) -> None:
    """Raise ValueError if there are not as many utterances and records as `info` and the offsets (`stated`) say."""
    if len(utterances) != stated or (info["utterances"] is not None and info["utterances"] != stated):
        raise ValueError(
            f"{len(utterances)} utterances are described, {stated} have codes, corpus.json says {info['utterances']}"
        )
    for utterance in utterances:
        if not isinstance(utterance.get("text"), str) or not isinstance(utterance.get("voice"), str):
            raise ValueError(f"an utterance has a text and a voice, both strings; this is {utterance!r:.60}")
    for name, records in splits.items():
        if len(records) != info["splits"][name]:
            raise ValueError(f"the split {name} has {len(records)} records, not {info['splits'][name]}")
        for number, record in enumerate(records, start=1):
            check_record(record, stated, f"{name}.jsonl.gz, line {number}")


def check_record(record: dict, n_utterances: int, place: str) -> None:
    """Raise ValueError naming the place unless the record has a family and messages as described at the top of the file."""
    messages = record.get("messages")
    if not isinstance(record.get("family"), str) or not isinstance(messages, list) or not messages:
        raise ValueError(f"{place}: a record has a family and messages, not {record!r:.60}")
    for message in messages:
        if not isinstance(message, list) or not message or message[0] not in ROLES:
            raise ValueError(f"{place}: a message is a list that begins with one of {', '.join(ROLES)}")
        for part in message[1:]:
            is_utterance = type(part) is int and 0 <= part < n_utterances
            if not isinstance(part, str) and not is_utterance:
                raise ValueError(
                    f"{place}: a part is a text or one of {n_utterances} utterances, not {part!r:.40}"
                )
    if any(message[0] == "document" for message in messages) and len(messages) > 1:
        raise ValueError(f"{place}: a document is one message")


def codec_info(codec: Codec) -> dict:
    """What a corpus must say about the codec that made its codes; without a `Codec`, fill in the five fields by hand."""
    config = codec.config
    return {
        "codec": codec.fingerprint(),
        "sample_rate": config.sample_rate,
        "frame_rate": codec.frame_rate,
        "codebook_size": config.codebook_size,
        "n_codebooks": config.n_codebooks,
    }


def save_corpus(
    folder: Path,
    info: dict,
    codes: list[np.ndarray],
    utterances: list[dict],
    splits: dict[str, list[dict]],
    codebooks: np.ndarray | None = None,
    licence: str = headers.UNKNOWN,
    front_end: str = headers.NO_FRONT_END,
) -> None:
    """Write everything but the tokeniser, which must already be there. corpus.json is written last.

    info: the fields of `codec_info`. codes: one (n,) array per utterance. licence: an SPDX identifier.
    front_end: the name of what was done to each waveform before the codec encoded it. tutorials/own_codes.md has an
    example that needs no codec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [len(utterance) for utterance in codes]
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    arrays: dict[str, Any] = {"codes": np.concatenate(codes).astype(np.uint16), "offsets": offsets}
    if codebooks is not None:
        arrays["codebooks"] = codebooks.astype(np.float16)
    with whole_file(folder / "audio.npz") as unfinished:
        np.savez_compressed(unfinished, **arrays)
    _write_lines(folder / "utterances.jsonl.gz", utterances)
    for name, records in splits.items():
        _write_lines(folder / f"{name}.jsonl.gz", records)
    info = {
        **info,
        "words": words_taught(splits.get("train", [])),
        "front_end": front_end,
        "licence": licence,
        "splits": {name: len(records) for name, records in splits.items()},
        "utterances": len(utterances),
    }
    write_info(folder, info)


def write_info(folder: Path, info: dict) -> None:
    """Write corpus.json, one line per field: `info`, the tokeniser's fingerprint and the other files' checksums."""
    info = {
        **info,
        "format": FORMAT,
        "written_by": f"minittt {__version__}",
        "tokeniser": load_tokeniser(folder / "tokeniser.model").fingerprint(),
        "checksums": {name: _checksum(folder / name) for name in _files(info)},
    }
    info = headers.complete(folder / "corpus.json", info, headers.CORPUS)
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in info.items()]
    with whole_file(folder / "corpus.json") as unfinished:
        unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def is_of_a_corpus(name: str) -> bool:
    """Whether a file of this name may be in a corpus folder: a folder that holds others is not replaced by a new corpus."""
    return name in ("corpus.json", "audio.npz", "tokeniser.model") or name.endswith(".jsonl.gz")


def _files(info: dict) -> list[str]:
    """The files of a corpus besides corpus.json."""
    splits = [f"{name}.jsonl.gz" for name in info["splits"]]
    return ["audio.npz", "tokeniser.model", "utterances.jsonl.gz", *splits]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_info(folder: Path) -> dict:
    """What corpus.json says, with all fields of `headers.CORPUS`. Raises MinitttError if its format is another or newer."""
    path = folder / "corpus.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MinitttError(f"the corpus in {folder} is damaged ({path}: {error}); make it anew") from error
    if not isinstance(info, dict):
        raise MinitttError(f"the corpus in {folder} is damaged ({path} is no JSON object); make it anew")
    stated = info.get("format", FORMAT)  # the first corpora did not state it
    if stated != FORMAT:
        raise MinitttError(
            f"{path}: is of the format {stated!r}; this version reads {FORMAT!r}: update minittt, or make the corpus anew"
        )
    required = ("codec", "codebook_size", "n_codebooks", "splits")
    info = headers.complete(path, info, headers.CORPUS, required)
    if not 1 <= info["codebook_size"] * info["n_codebooks"] <= _MOST_CODES:
        raise MinitttError(
            f"{path}: {info['n_codebooks']} codebooks of {info['codebook_size']} codes; there are 1 to {_MOST_CODES} codes"
        )
    for name in info["splits"]:
        if re.fullmatch(r"\w[\w-]*", name) is None or name == "utterances":
            raise MinitttError(f"{path}: a split is named by letters, digits and hyphens, not {name!r:.60}")
    return info


def _check_files(folder: Path, info: dict) -> None:
    """Raise MinitttError if a file is not the one that corpus.json was written for. Older corpora have no checksums."""
    for name, checksum in (info["checksums"] or {}).items():
        if name not in _files(info):
            raise MinitttError(
                f"{folder / 'corpus.json'}: the field 'checksums' names {name!r}, no file of a corpus"
            )
        if _checksum(folder / name) != checksum:
            raise MinitttError(
                f"the corpus in {folder} is damaged ({name} is not the file that corpus.json was written for); make it anew"
            )


def load_corpus(folder: str | Path) -> Corpus:
    """Read a corpus folder. Raises MinitttError if it is not one, or if a file is missing, damaged, or at odds with another.

    Every code, record and text is checked here, once, so that training meets no surprises.
    """
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        raise MinitttError(
            f"{folder} is not a corpus (it has no corpus.json): `minittt data build` makes one, "
            "`minittt data import` one of your recordings"
        )
    info = _read_info(folder)
    try:
        _check_files(folder, info)
        arrays = _read_arrays(folder / "audio.npz")
        codes = arrays["codes"]
        offsets = arrays["offsets"].astype(np.int64)
        codebooks = arrays["codebooks"].astype(np.float32) if "codebooks" in arrays else None
        _check_content(info, codes, offsets, codebooks)
        utterances = _read_lines(folder / "utterances.jsonl.gz")
        splits = {name: _read_lines(folder / f"{name}.jsonl.gz") for name in info["splits"]}
        _check_counts(info, utterances, splits, len(offsets) - 1)
    except MinitttError:
        raise
    except _DAMAGE as error:
        raise MinitttError(f"the corpus in {folder} is damaged ({error}); make it anew") from error
    tokeniser = load_tokeniser(folder / "tokeniser.model")
    stated = info["tokeniser"] or tokeniser.fingerprint()
    if stated != tokeniser.fingerprint():
        raise MinitttError(
            f"{folder}: tokeniser.model is tokeniser {tokeniser.fingerprint()}, but corpus.json names {stated}"
        )
    info["tokeniser"] = stated
    try:
        for text in sorted(texts_of([record for records in splits.values() for record in records])):
            tokeniser.encode(text)
    except MinitttError as error:
        raise MinitttError(f"the corpus in {folder} does not fit its own tokeniser: {error}") from error
    if info["words"] is None:  # older than this field
        info["words"] = words_taught(splits.get("train", []))
    return Corpus(info, tokeniser, codes, offsets, utterances, splits, codebooks)
