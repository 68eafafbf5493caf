"""A folder of recordings to shards of codes: for collections too large for one process, one sitting, or memory.

The recordings are sorted by name and cut into shards with the same number of recordings each; process s modulo the number
of processes makes shard s. A shard depends only on its recordings and the codec, is written whole or not at all, and is
left alone if it already exists: whoever computes it, and however often the work is interrupted, the files are the same,
byte for byte.

    OUT/shard-00000-of-00012.safetensors    codes (n,) int32, flattened frame by frame; offsets (recordings + 1,) int64
                                            header: format, codec, front_end, files, left_out
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minittt.codec import (
    LONGEST_IN_PIECES,
    Codec,
    CodecError,
    flatten,
    read_audio,
    read_header,
    write_tensors,
)
from minittt.data import front_end, headers
from minittt.errors import MinitttError

FORMAT = "minittt-shard-1"
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
LONG = 60.0  # seconds: a longer recording is encoded alone and in pieces


@dataclass
class Encoded:
    """What one process did: how many shards it wrote, how many it found there, and which recordings it left out, and why."""

    written: int = 0
    found: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def recordings_in(folder: str | Path) -> list[str]:
    """Names of all recordings in a folder and its subfolders, sorted. Raises MinitttError if there are none."""
    folder = Path(folder)
    names = [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    ]
    if not names:
        raise MinitttError(f"{folder} holds no recordings: put files there that end in {', '.join(SUFFIXES)}")
    return sorted(names)


def encode_folder(
    folder: str | Path,
    out: str | Path,
    codec: Codec,
    rank: int = 0,
    size: int = 1,
    per_shard: int = 256,
    front_end_name: str = front_end.NAME,
) -> Encoded:
    """Write this process's shards, those whose number is `rank` modulo `size`, unless they already exist.

    A damaged recording is left out, and named in its shard's header. Raises MinitttError if the folder `out` holds shards
    of other recordings or of another codec.
    """
    names = recordings_in(folder)
    n_shards = -(-len(names) // per_shard)  # rounded up
    others = [path.name for path in Path(out).glob("shard-*") if not path.name.endswith(_ending(n_shards))]
    if others:
        raise MinitttError(f"{out} holds {others[0]}, of another list of recordings: give another folder")
    done = Encoded()
    mine = range(rank, n_shards, size)
    for number in tqdm(mine, desc="encode", unit="shard", disable=rank > 0):
        path = Path(out) / f"shard-{number:05d}{_ending(n_shards)}"
        chosen = names[number * per_shard : (number + 1) * per_shard]
        about = {"format": FORMAT, "codec": codec.fingerprint(), "front_end": front_end_name}
        about["files"] = json.dumps(chosen)
        if path.is_file():
            _check_shard(path, about)
            done.found += 1
            done.left_out |= headers.read_object(path, read_header(path), "left_out")
            continue
        codes, left_out = _encode(Path(folder), chosen, codec, front_end_name)
        offsets = np.cumsum([0, *map(len, codes)])
        tensors = {"codes": torch.cat(codes).int(), "offsets": torch.from_numpy(offsets.astype(np.int64))}
        write_tensors(path, tensors, {**about, "left_out": json.dumps(left_out)})
        done.written += 1
        done.left_out |= left_out
    return done


def _ending(n_shards: int) -> str:
    return f"-of-{n_shards:05d}.safetensors"


def _check_shard(path: Path, about: dict[str, str]) -> None:
    try:
        header = read_header(path)
    except CodecError as error:
        raise MinitttError(f"{error}: remove it, and it will be made anew") from error
    for name, value in about.items():
        if header.get(name) != value:
            raise MinitttError(f"{path}: its {name} is another than now; give another folder, or remove it")


def _encode(folder: Path, names: list[str], codec: Codec, front_end_name: str) -> tuple[list, dict[str, str]]:
    """Flattened codes (n_i,) of each recording, none for those left out, and why they were."""
    listen = front_end.front_end_named(front_end_name)
    rate = codec.config.sample_rate
    codes = [torch.zeros(0, dtype=torch.long) for _ in names]
    left_out = {}
    short = {}
    for number, name in enumerate(names):
        try:
            wave = listen(read_audio(folder / name, rate, LONGEST_IN_PIECES), rate)
        except CodecError as error:
            left_out[name] = str(error).removeprefix(f"{folder / name}: ")
            continue
        if len(wave) > LONG * rate:
            wave = torch.from_numpy(wave)[None]  # (1, samples)
            codes[number] = flatten(codec.encode_long(wave)[0], codec.config.codebook_size)
        else:
            short[number] = wave
    encoded = codec.encode_many(list(short.values()))
    for number, frames in zip(short, encoded, strict=True):
        codes[number] = flatten(frames, codec.config.codebook_size)
    return codes, left_out


def _shard_content(path: Path, header: dict, tensors: dict) -> tuple[list[str], torch.Tensor]:
    """Names of the recordings in a shard and where the codes of each begin. Raises MinitttError if they do not fit."""
    try:
        names = json.loads(header.get("files", ""))
    except (ValueError, RecursionError) as error:
        raise MinitttError(f"{path}: its header's field 'files' is not JSON ({error})") from error
    codes = tensors.get("codes")
    offsets = tensors.get("offsets")
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    rows = codes is not None and offsets is not None and codes.dim() == offsets.dim() == 1
    if not listed or not rows or codes.is_floating_point() or offsets.is_floating_point():
        raise MinitttError(f"{path}: a shard has a list of files, and rows of codes and offsets")
    stops = [0, *offsets.tolist(), len(codes)]
    if len(offsets) != len(names) + 1 or offsets[0] != 0 or stops[-2] != stops[-1] or stops != sorted(stops):
        raise MinitttError(f"{path}: its offsets do not rise from 0 to its {len(codes)} codes, file by file")
    return names, offsets


def read_shards(folder: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and codes (n,) of every recording in a folder of shards, in order, except those left out."""
    paths = sorted(Path(folder).glob("shard-*.safetensors"))
    if not paths:
        raise MinitttError(f"{folder} holds no shards; `minittt data encode` writes them")
    number = paths[0].stem.rsplit("-", 1)[1]
    stated = int(number) if number.isdecimal() else 0
    if len(paths) != stated:
        raise MinitttError(
            f"{folder} holds {len(paths)} shards of {stated}: let `minittt data encode` finish"
        )
    for path in paths:
        header, tensors = headers.read_file(path, FORMAT)
        names, offsets = _shard_content(path, header, tensors)
        for number, name in enumerate(names):
            codes = tensors["codes"][int(offsets[number]) : int(offsets[number + 1])]
            if len(codes):
                yield name, codes.numpy()
