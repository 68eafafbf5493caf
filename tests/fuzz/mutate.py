"""Mutations of valid files: bytes flipped, cut or repeated, and values replaced inside JSON, headers and tables.

All are drawn from a `random.Random`, so that a case is its number alone.
"""

import copy
import gzip
import io
import json
import random
import struct
import zipfile

import numpy as np
from safetensors.torch import load, save

from minittt.codec import read_header

HOSTILE = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 65_536, 10**7, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "one", "../x", "\0", "é", "9" * 40, [], {}, [[]], [1, 2], {"a": 1}),
)


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, removed or repeated, or the end cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not changed:
            return bytes(changed)
        at = rng.randrange(len(changed))
        how = rng.choice(("flip", "flip", "set", "cut", "remove", "repeat", "number"))
        if how == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif how == "set":
            changed[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        elif how == "cut":
            del changed[at:]
        elif how == "remove":
            del changed[at : at + rng.randint(1, 16)]
        elif how == "repeat":
            changed[at:at] = changed[at : at + rng.randint(1, 64)] * rng.choice((1, 2, 50))
        else:
            form = rng.choice(("<I", ">I", "<H", "<Q"))
            number = rng.choice((0, 1, 10**7, 2**16 - 1, 2**31 - 1))
            number = min(number, 2 ** (8 * struct.calcsize(form)) - 1)
            changed[at : at + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(changed)


def of_json(value, rng: random.Random):
    """A copy of a JSON value in which one entry is replaced, removed, added or swapped with another."""
    value = copy.deepcopy(value)
    parents = []
    _collect(value, parents)
    if not parents or rng.random() < 0.03:
        return copy.deepcopy(rng.choice(HOSTILE))
    parent, key = rng.choice(parents)
    how = rng.choice(("replace", "replace", "replace", "near", "remove", "add", "swap"))
    if how == "replace":
        parent[key] = copy.deepcopy(rng.choice(HOSTILE))
    elif how == "near" and type(parent[key]) is int:
        parent[key] = rng.choice((parent[key] + 1, parent[key] - 1, -parent[key], parent[key] * 1000))
    elif how == "remove":
        del parent[key]
    elif how == "add" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(rng.choice(HOSTILE)))
    elif how == "add":
        parent[f"another {key}"] = copy.deepcopy(rng.choice(HOSTILE))
    else:
        other, other_key = rng.choice(parents)
        parent[key] = copy.deepcopy(other[other_key])
    return value


def _collect(value, parents: list) -> None:
    """All (container, key) pairs inside a JSON value."""
    if isinstance(value, list):
        entries = range(len(value))
    elif isinstance(value, dict):
        entries = value
    else:
        return
    for key in entries:
        parents.append((value, key))
        _collect(value[key], parents)


def as_text(value, rng: random.Random) -> str:
    """JSON, now and then such as only a hostile hand writes."""
    if rng.random() < 0.03:
        return "[" * 100_000
    if rng.random() < 0.03:
        return '{"a":' + "9" * 5000 + "}"
    return json.dumps(value)


def of_safetensors(path, rng: random.Random) -> bytes:
    """The file with another header or other tensors; there is no checksum, so that nothing is caught by it."""
    header = read_header(path)
    header.pop("checksum", None)
    tensors = load(path.read_bytes())
    if rng.random() < 0.6:
        field = rng.choice(sorted(header))
        try:
            header[field] = as_text(of_json(json.loads(header[field]), rng), rng)
        except ValueError:
            header[field] = str(rng.choice(HOSTILE))
    else:
        _change_tensor(tensors, rng)
    return save(tensors, header)


def _change_tensor(tensors: dict, rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    how = rng.choice(("nan", "shape", "kind", "remove", "add", "large", "bytes"))
    if how == "remove":
        del tensors[name]
    elif how == "add":
        tensors[f"{name}.more"] = tensor.clone()
    elif how == "shape":
        tensors[name] = tensor.flatten()[: rng.randint(0, tensor.numel())].clone()
    elif how == "kind":
        import torch

        kinds = (torch.uint8, torch.int64, torch.float64, torch.bool, torch.float8_e4m3fn, torch.complex64)
        tensors[name] = tensor.to(rng.choice(kinds))
    elif how == "bytes":
        raw = bytearray(tensor.contiguous().view(-1).view(dtype=_uint8()).numpy().tobytes())
        for _ in range(4):
            if raw:
                raw[rng.randrange(len(raw))] = rng.randrange(256)
        tensors[name] = _from_bytes(raw, tensor)
    elif tensor.numel() and tensor.is_floating_point():
        tensor.view(-1)[rng.randrange(tensor.numel())] = float("nan") if how == "nan" else 6e4


def _uint8():
    import torch

    return torch.uint8


def _from_bytes(raw: bytearray, like):
    import torch

    if not raw:
        return like
    return torch.frombuffer(raw, dtype=like.dtype).reshape(like.shape)


def of_lines(content: bytes, rng: random.Random) -> bytes:
    """A .jsonl.gz: one line changed, or lines without end."""
    lines = gzip.decompress(content).decode().splitlines()
    how = rng.random()
    if how < 0.05:
        return gzip.compress(b"\n" * 30_000_000)
    if not lines or how < 0.2:
        return of_bytes(content, rng)
    at = rng.randrange(len(lines))
    lines[at] = as_text(of_json(json.loads(lines[at]), rng), rng)
    if how < 0.3:
        lines.append(lines[at])
    return gzip.compress("\n".join(lines).encode() + b"\n")


def of_arrays(content: bytes, rng: random.Random) -> bytes:
    """An .npz: an array of another kind or shape, other values, a header that promises much, or changed bytes."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    how = rng.choice(("values", "kind", "shape", "remove", "promise", "zeros", "bytes"))
    if how == "bytes":
        return of_bytes(content, rng)
    if how == "promise":
        return _promising(arrays, name)
    if how == "values" and arrays[name].size:
        arrays[name].reshape(-1)[rng.randrange(arrays[name].size)] = rng.choice((0, 5, 60_000, 1))
    elif how == "kind":
        arrays[name] = arrays[name].astype(rng.choice(("i1", "f4", "U3", "c8", "M8[s]", "u8", "?")))
    elif how == "shape":
        arrays[name] = arrays[name].reshape(-1)[: rng.randint(0, arrays[name].size)]
    elif how == "remove":
        del arrays[name]
    elif how == "zeros":
        arrays[name] = np.zeros(30_000_000, arrays[name].dtype)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _promising(arrays: dict, name: str) -> bytes:
    """An array's header that states 10^10 entries."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, array in arrays.items():
            file = io.BytesIO()
            if other == name:
                stated = {"descr": array.dtype.str, "fortran_order": False, "shape": (10**10,)}
                np.lib.format.write_array_header_1_0(file, stated)
            else:
                np.save(file, array)
            archive.writestr(f"{other}.npy", file.getvalue())
    return stream.getvalue()


def of_table(content: bytes, rng: random.Random) -> bytes:
    """A CSV file: another encoding, a field without end, a quotation mark, blank lines, a row twice, or changed bytes."""
    text = content.decode()
    lines = text.splitlines()
    how = rng.choice(("latin", "utf-16", "long", "quote", "blank", "twice", "columns", "bytes", "bytes"))
    if how == "latin":
        return text.replace("one", "é").encode("latin-1")
    if how == "utf-16":
        return text.encode("utf-16")
    if how == "bytes":
        return of_bytes(content, rng)
    at = rng.randrange(len(lines))
    if how == "long":
        lines[at] += "x" * 200_000
    elif how == "quote":
        lines[at] = lines[at].replace(",", ',"', 1)
    elif how == "blank":
        lines[at:at] = ["", " ", ","]
    elif how == "twice":
        lines.append(lines[at])
    else:
        lines[at] += ",more" * rng.randint(1, 3)
    return "\n".join(lines).encode()
