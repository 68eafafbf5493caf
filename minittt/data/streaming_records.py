"""Records of the released format, read from files as they are needed: memory does not grow with the data.

A file of records is a JSON array, JSONL or Parquet. One pass finds where each record begins and ends (an index, kept beside
the file); after that, any record can be read alone. A shuffle is a permutation that is computed, not stored: a Feistel
network on the position, keyed by (seed, epoch). So the record at a position of an epoch is a function of (seed, epoch,
position) alone: all processes agree on it without a word, and a run resumed in mid-epoch continues with the next record.
"""

import hashlib
import json
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minittt.codec import CodecError, whole_file
from minittt.data.corpus import Corpus
from minittt.data.released_format import CODEBOOK_SIZE, RecordError, from_released
from minittt.data.tokenisers import Tokeniser
from minittt.data.vocabulary import TextTokeniser, train_tokeniser
from minittt.errors import MinitttError

ROUNDS = 6  # of the Feistel network
READ_AT_ONCE = 1 << 20  # bytes
FLUSHED_AT = 1 << 16  # numbers of an index that are held in memory while it is made
_STRUCTURE = re.compile(rb'["\\{}\[\],]')


# ---- a shuffle without a list


class Permutation:
    """The numbers 0 .. n - 1 in pseudo-random order, in constant memory: `order[i]` is the number at position i."""

    def __init__(self, n: int, seed: int, epoch: int = 0, name: str = "") -> None:
        if n < 1:
            raise MinitttError(f"there is nothing to shuffle among {n} records")
        self.n = n
        self.half = max(1, ((n - 1).bit_length() + 1) // 2)  # bits of half a number
        self.keys = [
            hashlib.blake2b(f"{seed} {epoch} {name} {i}".encode(), digest_size=8).digest()
            for i in range(ROUNDS)
        ]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        if not 0 <= i < self.n:
            raise IndexError(f"position {i} of {self.n}")
        # The network permutes 0 .. 4^half - 1, at most 4 n numbers. Repeating it until below n permutes 0 .. n - 1.
        while (i := self._feistel(i)) >= self.n:
            pass
        return i

    def _feistel(self, number: int) -> int:
        below = (1 << self.half) - 1
        left, right = number >> self.half, number & below
        for key in self.keys:
            digest = hashlib.blake2b(right.to_bytes(8, "little"), digest_size=8, key=key).digest()
            left, right = right, left ^ (int.from_bytes(digest, "little") & below)
        return left << self.half | right


# ---- files of records


class RecordFile:
    """Any record of one file, read when asked for: `len(file)`, `file[i]` (JSON decoded, not yet checked)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MinitttError(f"{self.path}: there is no such file of records; give JSON, JSONL or Parquet")
        self.places: np.ndarray | None = None  # (records, 2) int64: where each begins and ends, in bytes
        self.parquet = None
        if self.path.suffix == ".parquet":
            self.parquet = _Parquet(self.path)
        elif self.path.suffix in (".json", ".jsonl"):
            self.places = _index_of(self.path)
        else:
            raise MinitttError(
                f"{self.path}: the name of a file of records ends in .json, .jsonl or .parquet"
            )

    def __len__(self) -> int:
        return len(self.parquet) if self.parquet is not None else len(self.places)

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        if self.parquet is not None:
            return self.parquet[i]
        begin, end = map(int, self.places[i])
        with self.path.open("rb") as file:
            file.seek(begin)
            content = file.read(end - begin)
        try:
            return json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not JSON ({error})") from error

    def place(self, i: int) -> str:
        """Where record i is, for an error message."""
        if self.places is None:
            return f"{self.path}, record {i}"
        return f"{self.path}, record {i} (at byte {int(self.places[i][0])})"


class _Parquet:
    """The rows of a Parquet file; the row group that was read last stays in memory."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MinitttError(f"{path}: Parquet needs pyarrow: pip install 'minittt[parquet]'") from error
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise MinitttError(f"{path}: not a Parquet file ({error})") from error
        groups = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        self.begins = np.cumsum([0, *groups])  # (groups + 1,)
        self.group: int | None = None

    def __len__(self) -> int:
        return int(self.begins[-1])

    def __getitem__(self, i: int) -> dict:
        number = int(np.searchsorted(self.begins, i, side="right")) - 1
        if self.group != number:
            self.table = self.file.read_row_group(number)
            self.group = number
        row = self.table.slice(i - int(self.begins[number]), 1).to_pylist()[0]
        # a column for each kind of record: the fields that a row does not have are null
        return {name: value for name, value in row.items() if value is not None}


def _index_of(path: Path) -> np.ndarray:
    """(records, 2) int64 on disk: read from beside the file if it is there and belongs to it, else made."""
    about = path.stat()
    stamp = (about.st_size, about.st_mtime_ns)
    beside = path.with_name(path.name + ".index")
    if beside.is_file() and beside.stat().st_size >= 16 and beside.stat().st_size % 16 == 0:
        rows = np.memmap(beside, np.int64, mode="r").reshape(-1, 2)
        if tuple(rows[0]) == stamp:
            return rows[1:]
    try:
        with whole_file(beside) as unfinished, unfinished.open("wb") as file:
            _write_index(path, stamp, file)
        return np.memmap(beside, np.int64, mode="r").reshape(-1, 2)[1:]
    except CodecError:  # no place to write beside the file
        with tempfile.TemporaryFile() as file:
            _write_index(path, stamp, file)
            return np.memmap(file, np.int64, mode="r").reshape(-1, 2)[1:]


def _write_index(path: Path, stamp: tuple[int, int], file: BinaryIO) -> None:
    numbers = array("q", stamp)
    find = _array_elements if path.suffix == ".json" else _lines
    with path.open("rb") as records:
        for begin, end in find(records, path):
            numbers.extend((begin, end))
            if len(numbers) >= FLUSHED_AT:
                numbers.tofile(file)
                numbers = array("q")
    numbers.tofile(file)
    file.flush()


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """Begin and end of every line that is not blank."""
    begin = 0
    for line in file:
        end = begin + len(line)
        if line.strip():
            yield begin, end
        begin = end


def _array_elements(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """Begin and end of every element of a JSON array, found by brackets and quotes alone."""
    depth = 0
    in_string = False
    escaped_at = -1  # the byte after a backslash
    begin = None  # of the element being read
    at = 0
    closed = False
    empty = True  # nothing but space since the last comma or bracket
    while chunk := file.read(READ_AT_ONCE):
        seen = 0  # of this chunk
        for found in _STRUCTURE.finditer(chunk):
            place = at + found.start()
            empty = empty and not chunk[seen : found.start()].strip()
            seen = found.end()
            byte = found.group()
            if in_string:
                if place == escaped_at:
                    continue
                if byte == b"\\":
                    escaped_at = place + 1
                elif byte == b'"':
                    in_string = False
                continue
            if closed or (depth == 0 and byte != b"["):
                raise MinitttError(f"{path}, byte {place}: a .json file is one JSON array of records")
            ends = depth == 1 and byte in b",]"
            if ends and not (empty and byte == b"]"):
                yield begin, place
            if byte == b'"':
                in_string = True
            elif byte in b"[{":
                depth += 1
            elif byte in b"]}":
                depth -= 1
                closed = depth == 0
            opens = depth == 1 and byte == b"[" and begin is None
            if ends or opens:
                begin = place + 1
                empty = True
            else:
                empty = False
        empty = empty and not chunk[seen:].strip()
        at += len(chunk)
    if not closed:
        raise MinitttError(f"{path}: the JSON array is not closed, or there is none: the file is cut off")


# ---- many files, mixed


class RecordStream:
    """Records of several files in the order of training: `stream.drawn(epoch, position)`, `len(stream)` per epoch.

    weights: how often each file's records come: 1 is once per epoch, 2 twice, 0.5 once in two epochs. All of a file's
    records come before any comes again. held_out: that many records at the end of each file are never drawn; `held_out()`
    gives them. on_error: a malformed record ends the run ("raise") or is counted in `malformed` and skipped ("skip");
    `drawn` then gives None. It holds no other state: (epoch, position) is all it takes to resume.
    """

    def __init__(
        self,
        paths: list[str | Path],
        seed: int = 0,
        weights: list[float] | None = None,
        on_error: str = "raise",
        codebook_size: int = CODEBOOK_SIZE,
        held_out: int = 0,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise MinitttError(f"on_error must be raise or skip, not {on_error!r}")
        weights = weights or [1.0] * len(paths)
        if len(weights) != len(paths) or min(weights, default=0) <= 0:
            raise MinitttError(f"there are {len(paths)} files: give each a weight above 0, not {weights}")
        self.files = [RecordFile(path) for path in paths]
        self.seed = seed
        self.on_error = on_error
        self.codebook_size = codebook_size
        self.malformed: Counter[str] = Counter()  # by file
        self.sizes = []  # records of each file that are drawn
        for file in self.files:
            size = len(file) - held_out
            if size < 1:
                raise MinitttError(
                    f"{file.path}: {len(file)} records leave none after {held_out} are held out"
                )
            self.sizes.append(size)
        self.shares = [max(1, round(n * w)) for n, w in zip(self.sizes, weights, strict=True)]  # of an epoch
        self.ends = np.cumsum(self.shares)
        self._orders: dict[tuple, Permutation] = {}

    def __len__(self) -> int:
        return int(self.ends[-1])

    def contents(self) -> list[dict]:
        """For each file its size in bytes, how many records are drawn, and how many make an epoch: what fixes the order."""
        found = []
        for file, size, share in zip(self.files, self.sizes, self.shares, strict=True):
            found.append({"bytes": file.path.stat().st_size, "records": size, "an epoch": share})
        return found

    def place_of(self, epoch: int, position: int) -> tuple[int, int]:
        """Which file, and which of its records, is at a position of an epoch."""
        # 1. Shuffled over all files: which file, and how far into its share.
        slot = self._order(len(self), epoch, "all")[position]
        number = int(np.searchsorted(self.ends, slot, side="right"))
        within = slot - int(self.ends[number] - self.shares[number])
        # 2. Counted over all epochs, so that a file of weight 0.5 gives its other half in the next one.
        rounds, at = divmod(epoch * self.shares[number] + within, self.sizes[number])
        return number, self._order(self.sizes[number], rounds, f"file {number}")[at]

    def _order(self, n: int, epoch: int, name: str) -> Permutation:
        key = (name, epoch)
        if key not in self._orders:
            if len(self._orders) > 4 * len(self.files) + 4:
                self._orders.clear()
            self._orders[key] = Permutation(n, self.seed, epoch, name)
        return self._orders[key]

    def drawn(self, epoch: int, position: int) -> dict | None:
        """The record at a position of an epoch; None for a malformed one that is skipped."""
        return self.read(*self.place_of(epoch, position))

    def read(self, number: int, index: int) -> dict | None:
        """Record `index` of file `number`; None for a malformed one that is skipped. Raises RecordError naming its place."""
        file = self.files[number]
        try:
            return from_released(file[index], self.codebook_size)
        except RecordError as error:
            if self.on_error == "raise":
                raise RecordError(f"{file.place(index)}: {error}") from error
            self.malformed[str(file.path)] += 1
            return None

    def held_out(self) -> list[dict]:
        """The records that are never drawn, in order."""
        found = []
        for number, (file, size) in enumerate(zip(self.files, self.sizes, strict=True)):
            found += [self.read(number, index) for index in range(size, len(file))]
        return [record for record in found if record is not None]

    def complaints(self) -> Iterator[str]:
        """What is wrong with each malformed record of all files, with its place: one pass over everything."""
        for file in self.files:
            for index in range(len(file)):
                try:
                    from_released(file[index], self.codebook_size)
                except RecordError as error:
                    yield f"{file.place(index)}: {error}"


def texts_in(stream: RecordStream, most: int) -> Iterator[str]:
    """Texts of the first `most` records of an epoch, to train a tokeniser on."""
    for position in range(min(most, len(stream))):
        record = stream.drawn(0, position) or {"messages": []}
        for _, *parts in record["messages"]:
            yield from (part for part in parts if isinstance(part, str))


# ---- a corpus of them

TOKENISER_SIZE = 4000  # pieces of a tokeniser that is trained on the records themselves
TOKENISER_RECORDS = 2000  # records that it is trained on
HELD_OUT = 16  # records at the end of each file that are watched in training, not trained on


class StreamedCorpus(Corpus):
    """A corpus whose training records are a RecordStream: their codes are in the records, not in one array."""

    def read_by(self, tokeniser: Tokeniser) -> "StreamedCorpus":
        """As for any corpus; a character that the tokeniser does not know is named when its record is drawn."""
        return replace(self, tokeniser=tokeniser, info={**self.info, "tokeniser": tokeniser.fingerprint()})

    @property
    def words(self) -> None:
        """Not known: it would take a pass over all data."""
        return None


def stream_corpus(stream: RecordStream, tokeniser: Tokeniser, codec: str) -> StreamedCorpus:
    """What a talker trains on: the stream, and what it holds out as `renditions`. codec: a name for who made the codes."""
    info = {"codec": codec, "codebook_size": stream.codebook_size, "n_codebooks": 1}
    no_codes, no_offsets = np.zeros(0, np.uint16), np.zeros(1, np.int64)
    splits: dict[str, Any] = {"train": stream, "renditions": stream.held_out()}
    return StreamedCorpus(info, tokeniser, no_codes, no_offsets, [], splits)


def tokeniser_of(stream: RecordStream, path: Path) -> TextTokeniser:
    """The tokeniser in `path`; if there is none, one trained on the first records of the first epoch, and written there.

    Processes that do so at the same time write the same file. A letter that it never saw is spelled in bytes.
    """
    if not path.is_file():
        texts = list(texts_in(stream, TOKENISER_RECORDS))
        with whole_file(path) as unfinished:
            train_tokeniser(texts, unfinished, TOKENISER_SIZE, bytes_for_unknown=True)
    return TextTokeniser(path)
