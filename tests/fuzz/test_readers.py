"""Whatever bytes it is given, a reader reads them or refuses them by name, in memory that the file's size bounds.

`python -m tests.fuzz.run READER --cases 100000` goes on where these stop; `pytest -m slow tests/fuzz` tries 2,000 each.
"""

import gzip
import json
import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from minittt.codec import CodecError, read_audio, read_header
from minittt.data.corpus import load_corpus
from minittt.errors import MinitttError
from minittt.evaluation.referee import Referee
from minittt.talker import Talker
from minittt.world.recordings import read_metadata
from tests.fuzz.readers import KINDS, OLD, READERS, _small_corpus
from tests.fuzz.run import fuzz

OURS = (MinitttError, CodecError)
MOST_GROWTH = 300  # MiB: constants of the readers, among them 100 MB for one array of zeros


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp("fuzz")) for name, make in READERS.items()}


@pytest.mark.parametrize("name", READERS)
def test_a_valid_file_is_read(readers, name):
    readers[name].read()


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15)
@given(number=st.integers(0, 10**9))
def test_a_mutated_file_is_read_or_refused_by_name(readers, name, number):
    with suppress(*OURS):
        readers[name].case(number)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_mutated_files_in_bounded_memory(name):
    found = fuzz(name, first=10**6, cases=2000)
    assert found["cases"] == 2000
    assert not found["foreign"] and not found["deaths"]
    assert found["grown"] < MOST_GROWTH


# ---- what mutations seldom hit


def test_sizes_beyond_the_weights_are_refused_before_anything_is_built(tmp_path):
    for name, fields in (
        ("codec", ("config",)),
        ("talker", ("model",)),
        ("referee", ("config",)),
    ):
        source = OLD / f"{name}.safetensors"
        header = read_header(source)
        for field in fields:
            config = json.loads(header[field])
            sizes = [
                k for k, v in config.items() if type(v) is int and k not in ("max_length", "sample_rate")
            ]
            for size in sizes:
                changed = {**header, field: json.dumps({**config, size: 10**9})}
                changed.pop("checksum", None)
                path = tmp_path / "file"
                path.write_bytes(save(load(source.read_bytes()), changed))
                with pytest.raises(OURS, match="too many for the tensors"):
                    KINDS[name].load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", KINDS)
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, name, value):
    source = OLD / f"{name}.safetensors"
    header = read_header(source)
    header.pop("checksum", None)
    tensors = load(source.read_bytes())
    chosen = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    tensors[chosen].view(-1)[0] = value
    path = tmp_path / "file"
    path.write_bytes(save(tensors, header))
    with pytest.raises(OURS, match=f"tensor '{chosen}' holds values that are no numbers"):
        KINDS[name].load(path)


def test_a_corpus_that_unpacks_to_gigabytes_is_refused(tmp_path):
    _small_corpus(tmp_path)
    about = tmp_path / "corpus.json"
    about.write_text(
        json.dumps({**json.loads(about.read_text(encoding="utf-8")), "checksums": None}), encoding="utf-8"
    )
    with gzip.open(tmp_path / "train.jsonl.gz", "wb", compresslevel=9) as file:
        for _ in range(40):
            file.write(b" " * 1_000_000)
    with pytest.raises(MinitttError, match="unpacks to far more"):
        load_corpus(tmp_path)


def test_arrays_that_unpack_to_gigabytes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    _small_corpus(tmp_path)
    about = tmp_path / "corpus.json"
    about.write_text(
        json.dumps({**json.loads(about.read_text(encoding="utf-8")), "checksums": None}), encoding="utf-8"
    )
    np.savez_compressed(
        tmp_path / "audio.npz", codes=np.zeros(20_000_000, np.uint16), offsets=np.zeros(3, int)
    )
    monkeypatch.setattr(np, "load", None)  # nothing may be read
    with pytest.raises(MinitttError, match="audio.npz unpacks to far more"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    "line, what",
    [
        ("3", "no JSON object"),
        ('{"family": "tts"}', "a family and messages"),
        ('{"family": "tts", "messages": [["robot", "one"]]}', "begins with one of system"),
        ('{"family": "tts", "messages": [["user", 2]]}', "one of 2 utterances, not 2"),
        ('{"family": "tts", "messages": [["user", -1]]}', "one of 2 utterances, not -1"),
        ('{"family": "tts", "messages": [["user", true]]}', "one of 2 utterances, not True"),
        ('{"family": "tts", "messages": [["user", "ÿ"]]}', "its own tokeniser"),
    ],
)
def test_a_record_that_cannot_be_trained_on_is_named(tmp_path, line, what):
    _small_corpus(tmp_path)
    about = tmp_path / "corpus.json"
    info = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps({**info, "checksums": None, "splits": {"train": 1}}), encoding="utf-8")
    with gzip.open(tmp_path / "train.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(MinitttError, match=what):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    "change, what",
    [
        ({"codes": [1, 2, 3, 4]}, "code 4 at 3 is none of 0 to 3"),
        ({"offsets": [0, 5, 4]}, "offsets must rise"),
        ({"offsets": [0, 4]}, "2 utterances are described, 1 have codes"),
        ({"codebooks": np.full((4, 2), np.nan)}, "codebooks must be finite"),
        ({"codebooks": np.ones((3, 2))}, "codebooks must be finite, 4 rows"),
        ({"codes": [1.0, 2.0, 3.0, 0.0]}, "codes are float64"),
        ({"more": [1]}, "more.npy"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, what):
    _small_corpus(tmp_path)
    about = tmp_path / "corpus.json"
    about.write_text(
        json.dumps({**json.loads(about.read_text(encoding="utf-8")), "checksums": None}), encoding="utf-8"
    )
    with np.load(tmp_path / "audio.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "audio.npz", **{**arrays, **{k: np.asarray(v) for k, v in change.items()}})
    with pytest.raises(MinitttError, match=what):
        load_corpus(tmp_path)


# ---- recordings


def test_a_recording_that_is_too_long_or_of_no_rate_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(8000, 0.5), 8000)
    content = bytearray(path.read_bytes())
    monkeypatch.setattr(soundfile.SoundFile, "read", None)  # nothing may be decoded
    for rate in (1, 999, 192_001, 2**31 - 1):
        content[24:28] = struct.pack("<I", rate)
        path.write_bytes(content)
        with pytest.raises(CodecError, match="samples a second; give one of 1000 to 192000|not a readable"):
            read_audio(path, 8000)
    content[24:28] = struct.pack("<I", 8000)
    path.write_bytes(content)
    with pytest.raises(CodecError, match="lasts 1 seconds, 0 at most"):
        read_audio(path, 8000, longest=0.4)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_recording_cut_off_is_refused_and_one_from_a_pipe_is_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.5 * np.sin(np.arange(8000) / 7), 8000)
    content = path.read_bytes()
    assert len(read_audio(path, 8000)) == 8000
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(CodecError, match="is cut off|not a readable recording"):
        read_audio(path, 8000)
    if suffix == "wav":
        piped = content[:4] + b"\xff" * 4 + content[8:40] + b"\xff" * 4 + content[44:]
        path.write_bytes(piped)
        assert len(read_audio(path, 8000)) == 8000


# ---- metadata.csv

HEAD = "file_name,transcript,speaker\n"


@pytest.mark.parametrize(
    "content, what",
    [
        ((HEAD + "a.wav,café,x\nb.wav,two,x\n").encode("latin-1"), "is not UTF-8 .byte 0xe9 at 38."),
        ((HEAD + "a.wav,one,x\nb.wav,two,x\n").encode("utf-16"), "is not UTF-8"),
        ((HEAD + "a.wav," + "x" * 200_000 + ",x\nb.wav,two,x\n").encode(), "line 2: field larger"),
        (
            (HEAD + '\n\na.wav,"one\ntwo",x\n\nb.wav,,x\n').encode(),
            "line 7: file_name or transcript is empty",
        ),
        ((HEAD + "a.wav,one,x\nb.wav,two,x\n./a.wav,one,x\n").encode(), "line 4: ./a.wav is on line 2 too"),
        ((HEAD + "a.wav,one, two,x\nb.wav,two,x\n").encode(), "line 2: 4 fields for 3 columns"),
        ((HEAD + 'a.wav,"one,x\nb.wav,two,x\n').encode(), "line 2: .*quotation mark"),
        (b"file_name,transcript,transcript\na.wav,one,two\n", "no two may have one name"),
    ],
)
def test_what_is_wrong_with_metadata_is_named_with_its_line(tmp_path, content, what):
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(MinitttError, match=what):
        read_metadata(tmp_path)


def test_a_row_knows_its_line_and_a_byte_order_mark_is_no_letter(tmp_path):
    text = HEAD + '\na.wav,"one\ntwo"\n\nb.wav,two,x\n'
    (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows = read_metadata(tmp_path)
    assert [(row["line"], row["text"], row["voice"]) for row in rows] == [
        (3, "one\ntwo", ""),
        (6, "two", "x"),
    ]


def test_networks_of_absurd_but_finite_weights_end_in_our_error(tmp_path):
    """Their logits are no numbers: that is said when the talker is used."""
    talker = Talker.load(OLD / "talker.safetensors")
    with torch.no_grad():
        for parameter in talker.model.parameters():
            parameter.fill_(1e30)
    from minittt.talker import decoding_settings

    with pytest.raises(MinitttError, match="its weights are damaged"):
        talker.converse([[["user", talker.tokeniser.piece(5)]]], decoding_settings(), max_length=2000)


def test_a_referee_hears_many_waves_in_bounded_batches(monkeypatch):
    referee = Referee.load(OLD / "referee.safetensors")
    sizes = []
    logits = referee._logits
    monkeypatch.setattr(referee, "_logits", lambda waves: sizes.append(len(waves)) or logits(waves))
    referee.transcribe([np.sin(np.arange(800) / 3)] * 100)
    assert sum(sizes) == 100 and max(sizes) <= 32
