"""Files and folders are written whole or not at all, where they may be, and by one process at a time."""

import ast
import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minittt import files
from minittt.codec import Codec, CodecConfig, CodecError, whole_file, write_audio
from minittt.data.corpus import is_of_a_corpus, load_corpus
from minittt.errors import MinitttError
from minittt.evaluation.scores import Score, write_scores
from minittt.files import check_file, check_folder, json_text, locked, locked_file, whole_folder
from minittt.settings import samples_folder
from minittt.world.recordings import import_recordings

PACKAGE = Path(files.__file__).parent
ROOT = PACKAGE.parent
WAVS = samples_folder() / "wav"


@pytest.fixture(scope="module")
def codec():
    return Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8)).eval()


@contextmanager
def full_disk(size):
    """No file may grow over `size` bytes: a write that would ends in an OSError, wherever in which library it is."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def noise(seed):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, 8000)


WRITERS = {
    "a.wav": lambda path, seed, codec: write_audio(path, noise(seed), 8000),
    "a.flac": lambda path, seed, codec: write_audio(path, noise(seed), 8000),
    "a.ogg": lambda path, seed, codec: write_audio(path, noise(seed), 8000),
    "a.safetensors": lambda path, seed, codec: codec.save(path),
    "a.json": lambda path, seed, codec: write_scores(path, [Score(f"score {seed}", 0, 0, 1, 1)] * 50),
    "corpus": lambda path, seed, codec: import_recordings(WAVS, path, codec, seed),
}


@pytest.mark.parametrize("size", [0, 100, 2500])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name, size, tmp_path, codec):
    write = WRITERS[name]
    write(tmp_path / name, 0, codec)
    before = contents(tmp_path)
    assert max(map(len, before.values())) > size, "else nothing is tested"
    with full_disk(size), pytest.raises((CodecError, MinitttError)):
        write(tmp_path / name, 1, codec)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("exchange", [True, False])
def test_a_new_corpus_takes_the_place_of_an_old_one(exchange, tmp_path, codec, monkeypatch):
    if not exchange:  # as on systems where folders cannot change places in one step
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    out = tmp_path / "corpus"
    import_recordings(WAVS, out, codec, 0)
    old = load_corpus(out)
    import_recordings(WAVS, out, codec, 1)
    assert load_corpus(out).splits != old.splits
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_import_that_fails_leaves_the_old_corpus(tmp_path, codec):
    out = tmp_path / "corpus"
    import_recordings(WAVS, out, codec)
    before = contents(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metadata.csv").write_text(
        "file_name,transcript\na.wav,one\nb.wav,two\nc.wav,three\n", encoding="utf-8"
    )
    for name in "abc":
        (tmp_path / "bad" / f"{name}.wav").write_text(f"no sound {name}", encoding="utf-8")
    with pytest.raises(MinitttError, match="line 2"):
        import_recordings(tmp_path / "bad", out, codec)
    assert {k: v for k, v in contents(tmp_path).items() if not k.startswith("bad")} == before


KILLED = """
import sys
from pathlib import Path
from minittt.files import whole_folder
from minittt.codec import whole_file
print("ready", flush=True)
for i in range(10**9):
    with whole_folder(sys.argv[1] + "/folder", str.isalnum) as unfinished:
        for name in "abc":
            (unfinished / name).write_text(f"{i}\\n" * 1000)
    with whole_file(sys.argv[1] + "/file") as unfinished:
        unfinished.write_text(f"{i}\\n" * 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_kill_leaves_the_old_or_the_new_and_nothing_between(seed, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(0.2 + random.Random(seed).uniform(0, 0.3))
    process.kill()
    process.wait()
    for paths in ([tmp_path / "folder" / name for name in "abc"], [tmp_path / "file"]):
        lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 1000 * len(paths)
        assert len(set(lines)) == 1


# ---- where


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes among its files")
def test_only_an_ordinary_file_is_replaced(tmp_path):
    (tmp_path / "old").write_text("old", encoding="utf-8")
    (tmp_path / "link").symlink_to("old")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(CodecError, match="cannot be written"), whole_file(tmp_path / name) as unfinished:
            unfinished.write_text("new", encoding="utf-8")
        with pytest.raises(MinitttError, match="it is a"):
            check_file(tmp_path / name)
    assert (tmp_path / "old").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old", "pipe"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_the_umask(mask, tmp_path, codec):
    """safetensors makes its files readable for the owner alone."""
    before = os.umask(mask)
    try:
        codec.save(tmp_path / "c.safetensors")
        write_audio(tmp_path / "a.wav", noise(0), 8000)
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_longest_names_can_be_written(tmp_path):
    for name in ("x" * 251 + ".wav", "ж" * 125 + ".wav"):
        write_audio(tmp_path / name, noise(0), 8000)
        assert (tmp_path / name).is_file()


def test_a_read_only_folder_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)  # root may write everywhere
    for check, path in ((check_file, tmp_path / "a.wav"), (check_folder, tmp_path / "new" / "run")):
        with pytest.raises(MinitttError, match="is read-only for you"):
            check(path)


def test_a_folder_that_is_not_ours_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("all of it", encoding="utf-8")
    lost = r"it holds thesis\.txt, which would be lost"
    with pytest.raises(MinitttError, match=lost), whole_folder(tmp_path, is_of_a_corpus):
        pass
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(MinitttError, match="you are inside it"), whole_folder(".", is_of_a_corpus):
        pass
    assert check_folder(tmp_path / "new" / "deep", is_of_a_corpus) is None


def test_a_file_that_is_read_is_not_replaced_by_whatever_name(tmp_path):
    (tmp_path / "q.wav").write_text("sound", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    with pytest.raises(MinitttError, match="this command also reads it"):
        check_file(tmp_path / "sub" / ".." / "q.wav", inputs=[tmp_path / "q.wav"])
    os.link(tmp_path / "q.wav", tmp_path / "hard.wav")
    with pytest.raises(MinitttError, match="this command also reads it"):
        check_file(tmp_path / "hard.wav", inputs=[tmp_path / "q.wav"])


# ---- one at a time


HOLD = """
import sys
from minittt import files
with getattr(files, sys.argv[1])(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("lock", "name"), [(locked, "run"), (locked_file, "a.safetensors")])
def test_a_second_process_is_told_who_holds_a_run(lock, name, tmp_path):
    path = tmp_path / name
    command = [sys.executable, "-c", HOLD, lock.__name__, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(MinitttError, match=f"process {holder.pid} on .* is writing"), lock(path):
        pass
    holder.kill()  # whose lock goes with it
    holder.communicate()
    with lock(path), lock(path):
        pass
    with lock(path):
        pass
    assert not list(tmp_path.rglob("*.lock"))


CONTEND = """
import os, sys
from minittt.errors import MinitttError
from minittt.files import locked_file
path = sys.argv[1]
taken = 0
while taken < 100:
    try:
        with locked_file(path):
            os.mkdir(path + ".inside")  # FileExistsError if another is inside, too
            os.rmdir(path + ".inside")
            taken += 1
    except MinitttError:
        pass
"""


def test_never_two_processes_hold_one_file(tmp_path):
    """Who comes while the lock's file is being removed must not lock a file that has no name any more."""
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "a.safetensors")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in both] == [b"", b"", b""]


# ---- JSON


NUMBERS = st.floats() | st.integers() | st.none() | st.text()


@settings(deadline=None)
@example([float("nan"), {"a": float("inf")}, [float("-inf")]])
@given(st.recursive(NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9))
def test_json_is_what_every_reader_accepts(value):
    def null(entry):
        if isinstance(entry, dict):
            return {name: null(part) for name, part in entry.items()}
        if isinstance(entry, list):
            return [null(part) for part in entry]
        return None if isinstance(entry, float) and not np.isfinite(entry) else entry

    assert json.loads(json_text(value), parse_constant=pytest.fail) == null(value)


# ---- no other way


WRITING = (
    "write_text",
    "write_bytes",
    "savez",
    "savez_compressed",
    "save_file",
    "savefig",
    "save_pretrained",
)
# what grows line by line, or goes to memory or to a temporary folder
ELSEWHERE = {
    ("training/trainer.py", "open"),
    ("training/codec_training.py", "open"),
    ("app/streaming.py", "open"),
    ("app/page.py", "write"),
    ("codec.py", "write"),
    ("world/microphone.py", "write"),
    ("world/neural_worker.py", "write"),
}


def writes(path):
    """(name of the call, source line) of every call in a file that may write a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        text = ast.unparse(node)
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opens = name == "open" and any(set(mode) <= set("wxab+") and set(mode) & set("wxa") for mode in modes)
        if name in WRITING or opens or (name == "write" and text.startswith("soundfile.")):
            yield name, text


def test_every_writer_of_the_package_writes_whole_files():
    found = []
    for path in PACKAGE.rglob("*.py"):
        where = str(path.relative_to(PACKAGE))
        for name, text in writes(path):
            if "unfinished" not in text and (where, name) not in ELSEWHERE and where != "files.py":
                found.append(f"{where}: {text}")
    assert not found


# ---- text is UTF-8, whatever the locale


def forgets_encoding(node: ast.AST) -> bool:
    """Whether a node reads or writes text in the encoding of the locale, which on Windows is seldom UTF-8.

    Of a call of `open` the mode decides; one that is not written out, or that is no string, belongs to another `open`.
    """
    if not isinstance(node, ast.Call) or "encoding" in [keyword.arg for keyword in node.keywords]:
        return False
    method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if method else getattr(node.func, "id", "")
    if name in ("read_text", "write_text"):
        return method
    if name != "open":
        return False
    place = 0 if method else 1  # path.open(mode), open(path, mode)
    mode = node.args[place] if len(node.args) > place else ast.Constant("r")
    for keyword in node.keywords:
        if keyword.arg == "mode":
            mode = keyword.value
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


@pytest.mark.parametrize(
    ("line", "forgets"),
    [
        ("path.read_text()", True),
        ("path.write_text('a')", True),
        ("open(path)", True),
        ("open(path, 'a')", True),
        ("path.open(newline='')", True),
        ("path.open(mode='w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("open(path, 'w', encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("path.open('wb')", False),
        ("path.open(mode='rb')", False),
        ("Image.open(path)", False),
        ("archive.open(member)", False),
        ("path.read_bytes()", False),
        ("write_text(row, network)", False),
    ],
)
def test_a_forgotten_encoding_is_seen(line, forgets):
    assert forgets_encoding(ast.parse(line, mode="eval").body) == forgets


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    found = []
    for room in ("minittt", "tests", "benchmarks", "notebooks", "tutorials", "data_samples"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if forgets_encoding(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not found
