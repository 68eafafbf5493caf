"""Where results go: checked before the work, written whole or not at all, and by one process at a time.

A file is written by `codec.whole_file` (it lives there because codec.py runs when copied alone), a folder by
`whole_folder` here: built beside its place, then moved there in one step. So a full disk, an error or a kill leaves what was
there before intact. `check_file` and `check_folder` report at the start what would fail at the end.
"""

import ctypes
import json
import math
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minittt.errors import MinitttError

try:
    import fcntl
except ImportError:  # Windows: a run folder is not locked there
    fcntl = None

STANDARD_OUTPUT = Path("-")
SOUNDS = (".wav", ".flac", ".ogg")  # what recordings are written as
_AT_FDCWD = -100  # Linux: paths are relative to the current folder
_RENAME_EXCHANGE = 2  # Linux: two names change places in one step


# ---- checks before the work


def check_file(path: Path, suffixes: Iterable[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Raise MinitttError unless `path` can become a new file, or replace an ordinary one.

    suffixes: how its name may end, in lower case; none: in any way. inputs: files that are read and must not be replaced.
    """
    suffixes = tuple(suffixes)
    kind = _kind_of(path)
    if kind not in ("nothing", "a file"):
        raise _refusal(path, f"it is {kind}; choose the name of a new file")
    check_suffix(path, suffixes)
    if not path.parent.is_dir():
        raise _refusal(path, f"the folder {path.parent} does not exist; create it first")
    _check_may_write(path, path.parent)
    for other in inputs:
        if _is_same(path, other):
            raise _refusal(path, "this command also reads it; choose another file")


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise MinitttError unless the name of `path` ends in one of these, in lower case; none: in any way."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise _refusal(path, f"its name must end in {_or(suffixes)}")


def check_folder(
    path: Path, is_ours: Callable[[str], bool] | None = None, inputs: Iterable[Path] = ()
) -> None:
    """Raise MinitttError unless files can be written into the folder `path`, which need not exist.

    is_ours: whether a file of this name may be there, where the folder is to be replaced as a whole. inputs: folders that
    are read, and must stay as they are.
    """
    for other in inputs:
        if _is_same(path, other):
            raise _refusal(path, "this command also reads it; choose another folder")
    kind = _kind_of(path)
    if kind == "a link" and path.is_dir():
        kind = "a folder"
    if kind not in ("nothing", "a folder"):
        raise _refusal(path, f"it is {kind}; choose a folder")
    nearest = Path(os.path.abspath(path))
    while not nearest.exists() and not nearest.is_symlink():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise _refusal(path, f"{nearest} is {_kind_of(nearest)}; choose a folder that does not lie in a file")
    _check_may_write(path, nearest)
    if is_ours is None or kind == "nothing":
        return
    foreign = sorted(entry.name for entry in path.iterdir() if not is_ours(entry.name))
    if foreign:
        raise _refusal(path, f"it holds {foreign[0]}, which would be lost; choose another folder")


def _kind_of(path: Path) -> str:
    """What is at a path; if it is a link, the link is not followed."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except OSError as error:  # the name is too long, for instance
        raise _refusal(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise MinitttError(f"{str(path)!r} cannot be a file's name ({error})") from error
    if stat.S_ISREG(mode):
        return "a file"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISLNK(mode):
        return "a link"
    return "a device"


def _check_may_write(path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refusal(path, f"the folder {folder} is read-only for you")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them does not exist, or cannot
        return os.path.abspath(path) == os.path.abspath(other)


def _or(words: tuple[str, ...]) -> str:
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " or " + words[-1]


def _refusal(path: Path, why: str) -> MinitttError:
    return MinitttError(f"cannot write {path}: {why}")


# ---- a folder, whole or not at all


@contextmanager
def whole_folder(path: str | Path, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """`with whole_folder(path, is_ours) as unfinished:` fill `unfinished`; it becomes `path` if all goes well.

    What is at `path` is replaced as a whole, and only if `is_ours` accepts every name in it. Raises MinitttError if it does
    not, or if nothing can be written there.
    """
    path = Path(path).resolve()
    check_folder(path, is_ours)
    _check_may_move(path)
    unfinished = unfinished_name(path, os.getpid())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        check_folder(path, is_ours)  # things may have changed during the work
        for file in unfinished.iterdir():
            with file.open("r+b") as written:  # Windows flushes only what is open for writing
                os.fsync(written.fileno())  # else a power cut could leave the new name on empty files
        _put_in_place(unfinished, path)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def unfinished_name(path: Path, process: int) -> Path:
    """Where the process with this id builds the folder `path`, which is absolute: for other processes that help it."""
    return path.with_name(f".{process}-{path.name}")


def _check_may_move(path: Path) -> None:
    """Raise MinitttError for a folder that cannot be replaced by another."""
    if os.path.ismount(path):
        raise _refusal(path, "a disk is mounted there; name a folder inside it")
    if Path.cwd().is_relative_to(path):
        raise _refusal(path, "you are inside it; go elsewhere, or name another folder")


def _put_in_place(new: Path, path: Path) -> None:
    """`new` takes the name `path`; what had that name is left under the name `new`, or is gone."""
    if not path.exists():
        os.rename(new, path)
        return
    if _exchange(new, path):
        return
    # Where two folders cannot change places in one step, a kill between two renames leaves the old one at `.PID-old-NAME`.
    old = path.with_name(f".{os.getpid()}-old-{path.name}")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step. False if the system cannot do that."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


# ---- one process at a time

_HELD: set[Path] = set()  # folders and files that this process has locked


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """`with locked(folder):` no other process may write a run there. Raises MinitttError naming the process that does.

    The folder itself is locked, and `.lock` in it says by whom while it is. The system releases the lock when the process
    ends, however it ends. Within one process it may be taken again. A new folder that stays empty is removed again.
    """
    folder = Path(folder).resolve()
    if fcntl is None or folder in _HELD:
        yield
        return
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _refusal(folder, error.strerror or str(error)) from error
    holder = folder / ".lock"
    try:
        _take(place, holder, f"is writing a run into {folder}: wait for its end, or name another folder")
        _HELD.add(folder)
        yield
    finally:
        if folder in _HELD:
            _HELD.discard(folder)
            with suppress(OSError):
                holder.unlink(missing_ok=True)
        os.close(place)
        if is_new:
            with suppress(OSError):  # not empty, as it should be: it stays
                folder.rmdir()


@contextmanager
def locked_file(path: str | Path) -> Iterator[None]:
    """`with locked_file(path):` no other process may train what goes there. Raises MinitttError naming the one that does.

    Like `locked`, for a single file that is written again and again: `.NAME.lock` beside it is locked, and says by whom.
    """
    path = Path(path).resolve()
    if fcntl is None or path in _HELD:
        yield
        return
    end = os.fsdecode(os.fsencode(path.name)[-200:])  # a longer name might be too long for the file system
    holder = path.with_name(f".{end}.lock")
    place = _open_and_take(holder, path)
    try:
        _HELD.add(path)
        yield
    finally:
        _HELD.discard(path)
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        os.close(place)


def _open_and_take(holder: Path, path: Path) -> int:
    """The file `holder`, open and locked."""
    while True:
        try:
            holder.parent.mkdir(parents=True, exist_ok=True)
            place = os.open(holder, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _refusal(path, error.strerror or str(error)) from error
        try:
            _take(place, holder, f"is writing {path}: wait for its end, or name another file")
            if os.path.samestat(os.fstat(place), os.stat(holder)):
                return place
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(place)
            raise
        os.close(place)  # whoever held it removed it in between: this one is nobody's, and locks nothing


def _take(place: int, holder: Path, does: str) -> None:
    """Lock an open folder or file, and record in `holder` who has it. does: what another process that has it is doing."""
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = "another process"
        with suppress(OSError):
            who = holder.read_text(encoding="utf-8").strip() or who
        raise MinitttError(f"{who} {does}") from error
    except OSError:  # a file system without locks
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # whoever comes second then hears of "another process"
        holder.write_text(
            f"process {os.getpid()} on {socket.gethostname()} (since {since})\n", encoding="utf-8"
        )


# ---- JSON that every reader accepts


def json_text(value: Any, **options: Any) -> str:
    """`json.dumps`, with null for numbers that are not finite: NaN is not JSON."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def writable_text(text: str) -> str:
    """The text in a form UTF-8 can hold: bytes of a file's name that are not UTF-8 are shown as \\xNN."""
    return os.fsencode(text).decode("utf-8", "backslashreplace") if _has_raw_bytes(text) else text


def _has_raw_bytes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def remove(path: Path) -> bool:
    """Remove a file if it is there, and say whether it was."""
    with suppress(FileNotFoundError):
        path.unlink()
        return True
    return False
