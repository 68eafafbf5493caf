"""Shards of codes: the same bytes by one process or two, in one sitting or several; damaged recordings are named."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from minittt.codec import Codec, CodecConfig, flatten, write_audio
from minittt.data import encode
from minittt.data.encode import encode_folder, read_shards
from minittt.errors import MinitttError
from minittt.training.parallel import join_processes, leave_processes

N = 5  # recordings, one of them damaged


def small_codec():
    torch.manual_seed(0)
    return Codec(CodecConfig(ratios=(8, 8), n_filters=2, dimension=4, codebook_size=8)).eval()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(N - 1):
        write_audio(tmp_path / "in" / f"{i % 2}" / f"{i}.wav", rng.uniform(-0.5, 0.5, 900 + 300 * i), 8000)
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF, but no sound")
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def work(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    world = join_processes()
    encode_folder(f"{folder}/in", f"{folder}/two", small_codec(), world.rank, world.size, per_shard=2)
    leave_processes()


def test_law_01_one_process_two_and_an_interrupted_one_write_the_same_bytes(folder, monkeypatch):
    done = encode_folder(folder / "in", folder / "one", small_codec(), per_shard=2)
    assert (done.written, done.found, list(done.left_out)) == (3, 0, ["bad.wav"])
    whole = content(folder / "one")
    mp.spawn(work, (str(folder),), nprocs=2)
    assert content(folder / "two") == whole
    # interrupted while its second shard is being written
    write = encode.write_tensors
    monkeypatch.setattr(
        encode, "write_tensors", lambda path, *a: write(path, *a) if "-00000-" in path.name else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        encode_folder(folder / "in", folder / "later", small_codec(), per_shard=2)
    monkeypatch.undo()
    assert len(content(folder / "later")) == 1
    with pytest.raises(MinitttError, match="1 shards of 3"):
        list(read_shards(folder / "later"))
    done = encode_folder(folder / "in", folder / "later", small_codec(), per_shard=2)
    assert (done.written, done.found, list(done.left_out)) == (2, 1, ["bad.wav"])
    assert content(folder / "later") == whole


def test_law_02_shards_hold_what_the_codec_says_of_each_recording(folder, monkeypatch):
    codec = small_codec()
    monkeypatch.setattr(encode, "LONG", 0.15)  # seconds: the longer half goes in pieces
    encode_folder(folder / "in", folder / "out", codec, per_shard=2, front_end_name="none")
    read = dict(read_shards(folder / "out"))
    assert sorted(read) == ["0/0.wav", "0/2.wav", "1/1.wav", "1/3.wav"]
    for name, codes in read.items():
        wave = torch.from_numpy(encode.read_audio(folder / "in" / name, 8000))[None]
        assert codes.tolist() == flatten(codec.encode(wave)[0], 8).tolist()


def test_shards_of_something_else_are_not_taken_for_these(folder):
    encode_folder(folder / "in", folder / "out", small_codec(), per_shard=2)
    with pytest.raises(MinitttError, match="front_end is another"):
        encode_folder(folder / "in", folder / "out", small_codec(), per_shard=2, front_end_name="none")
    with pytest.raises(MinitttError, match="another list"):
        encode_folder(folder / "in", folder / "out", small_codec(), per_shard=4)
    (folder / "empty").mkdir()
    with pytest.raises(MinitttError, match="holds no recordings"):
        encode_folder(folder / "empty", folder / "out", small_codec())
    with pytest.raises(MinitttError, match="holds no shards"):
        list(read_shards(folder / "empty"))
