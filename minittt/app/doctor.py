"""Is this machine ready? One line for each part: what was found, and what to do where something is missing.

Of this package only the settings are imported, and each library separately: doctor must be able to say that torch is
missing where torch is missing.
"""

import importlib
import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

MODULES = {"pillow": "PIL", "espeakng-loader": "espeakng_loader"}  # where module and package differ in name
OPTIONAL = {
    "espeakng-loader": "only to build the spoken world anew: pip install 'minittt[data]'",
    "pytest": "only to run the tests: pip install 'minittt[dev]'",
}
DATA_FILES = {  # name -> the fewest bytes that it can have
    "codec.safetensors": 100_000,
    "talker.safetensors": 100_000,
    "referee.safetensors": 100_000,
    "corpus/corpus.json": 100,
    "corpus/audio.npz": 10_000,
    "corpus/tokeniser.model": 1_000,
    "people/codec.safetensors": 100_000,
    "people/talker.safetensors": 100_000,
    "people/corpus/corpus.json": 100,
    "people/corpus/audio.npz": 10_000,
    "people/corpus/tokeniser.model": 1_000,
}
NOTEBOOKS = "pip install 'minittt[notebooks]'"
NOTEBOOK_SERVERS = {
    "jupyterlab": "jupyterlab.labapp",
    "notebook": "notebook.app",
}  # package -> what its command starts
OLDEST_PYTHON = (3, 11)


@dataclass
class Line:
    """One part: whether it works, whether it is needed, its name, and what was found or what to do."""

    works: bool
    needed: bool
    part: str
    what: str

    def __str__(self) -> str:
        mark = " - "
        if self.works:
            mark = "ok "
        elif self.needed:
            mark = "NO "
        return f"{mark} {self.part:<34} {self.what}"


def doctor(samples: Path) -> int:
    """Print one line per part. Returns 0, or 2 if something needed is missing."""
    lines = check(samples)
    for line in lines:
        print(line)
    return 0 if all(line.works or not line.needed for line in lines) else 2


def check(samples: Path) -> list[Line]:
    """Check every part in turn. samples: the folder with the shipped files."""
    lines = [_python()]
    packages, problem = _needed()
    if problem:
        lines.append(Line(False, True, "minittt", problem))
    for name, floor in packages.items():
        if name != "encodec":
            lines.append(_safely(name, _package, name, floor))
    lines.append(_safely("encodec", _encodec, all(line.works for line in lines)))
    lines.append(_safely("device", _device))
    for name, advice in OPTIONAL.items():
        lines.append(_safely(name, _optional, name, advice))
    lines.append(_safely("jupyter", _jupyter))
    lines += [_safely(f"data_samples/{name}", _data_file, samples, name, n) for name, n in DATA_FILES.items()]
    lines.append(_browser())
    return lines


def _safely(part: str, look: Callable[..., Line], *about: object) -> Line:
    """The line that `look` gives; if looking itself fails, a line that says so."""
    try:
        return look(*about)
    except Exception as error:
        return Line(False, True, part, f"cannot be checked ({_reason(error)}): reinstall it")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"


def _browser() -> Line:
    browsers = ("chromium", "google-chrome", "firefox")
    browser = next((path for path in browsers if shutil.which(path)), None)
    advice = "only to look at reply pages: any browser will do"
    return Line(browser is not None, False, "browser", browser or advice)


def _needed() -> tuple[dict[str, str], str]:
    """What `needed_packages` gives, or nothing and what is wrong with this installation."""
    try:
        return needed_packages(), ""
    except Exception as error:
        return {}, f"does not say what it needs ({_reason(error)}): reinstall it"


def needed_packages() -> dict[str, str]:
    """Each package that minittt cannot do without and its oldest version, from the metadata or from a clone."""
    try:
        requirements = requires("minittt") or []
    except PackageNotFoundError:
        import tomllib

        project = Path(__file__).parents[2] / "pyproject.toml"
        requirements = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = {}
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\s*>=\s*([0-9.]+))?", requirement)
        found[match[1].lower()] = match[2] or "0"
    return found


def _python() -> Line:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Line(
        sys.version_info >= OLDEST_PYTHON,
        True,
        "Python",
        f"{platform.python_version()} ({oldest} or newer is needed)",
    )


def _import(module: str):
    """A module, or the reason why it cannot be imported. A broken library may raise anything."""
    try:
        return importlib.import_module(module), ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too
        return None, _reason(error)


def _is_installed(module: str) -> tuple[bool, str]:
    """Whether a module is there, without importing it, and if not, why. A broken import hook may raise anything."""
    try:
        found = importlib.util.find_spec(module) is not None
    except Exception as error:
        return False, _reason(error)
    return found, "" if found else "not installed"


def _package(name: str, floor: str) -> Line:
    module, why = _import(MODULES.get(name, name))
    wanted = f"pip install '{name}>={floor}'"
    if name == "torch":
        wanted += " (on a machine without a GPU: torch's CPU build)"
    if module is None:
        return Line(False, True, name, f"{why}: {wanted}")
    found = _version(name, module)
    if _numbers(found) < _numbers(floor):
        return Line(False, True, name, f"{found} is too old: {wanted}")
    return Line(True, True, name, found)


def _version(name: str, module) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(module, "__version__", "0"))


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: '2.13.0+cpu' -> (2, 13, 0)."""
    numbers = []
    for part in text.split("+")[0].split("."):
        match = re.match(r"\d+", part)
        if match is None:
            break
        numbers.append(int(match[0]))
    return tuple(numbers)


def _encodec(others_work: bool) -> Line:
    """encodec is imported through the codec's own way around torchaudio, which needs the other libraries."""
    installed, why = _is_installed("encodec")
    if not installed:
        return Line(False, True, "encodec", f"{why}: pip install encodec")
    if not others_work:
        return Line(False, True, "encodec", "installed, but not tried: first mend what is missing above")
    try:
        from minittt.codec import import_encodec

        import_encodec()
    except Exception as error:
        return Line(False, True, "encodec", f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Line(True, True, "encodec", "its networks load (torchaudio is not needed)")


def _device() -> Line:
    torch, why = _import("torch")
    if torch is None:
        return Line(False, False, "device", f"not known without torch ({why})")
    if torch.cuda.is_available():
        return Line(True, False, "device", torch.cuda.get_device_name())
    return Line(True, False, "device", f"CPU, {torch.get_num_threads()} threads")


def _optional(name: str, advice: str) -> Line:
    module, _ = _import(MODULES.get(name, name))
    if module is None:
        return Line(False, False, name, advice)
    return Line(True, False, name, _version(name, module))


def _jupyter() -> Line:
    """A notebook server that can be started, and a kernel to run cells with.

    Many packages bring jupyter_core along, which opens nothing. So the very module that `jupyter lab` starts is
    imported; this fails where the server beneath it is missing or broken.
    """
    reasons = []
    for name, program in NOTEBOOK_SERVERS.items():
        installed, _ = _is_installed(name)
        if not installed:
            continue
        module, why = _import(program)
        if module is not None:
            return _kernel(f"{name} {_version(name, module)}")
        reasons.append(f"{name} is installed, but cannot be started ({why})")
    advice = f"only for the notebooks: {NOTEBOOKS}"
    if reasons:
        advice = f"{'; '.join(reasons)}: {NOTEBOOKS}"
    elif _is_installed("jupyter_core")[0]:
        advice = f"jupyter_core alone, which opens no notebook; {advice}"
    return Line(False, False, "jupyter", advice)


def _kernel(server: str) -> Line:
    """The line for a server that can be started: without a kernel it opens notebooks but runs no cell."""
    module, why = _import("ipykernel")
    if module is None:
        return Line(False, False, "jupyter", f"{server}, but no kernel to run cells ({why}): {NOTEBOOKS}")
    return Line(True, False, "jupyter", f"{server}: make lab")


def _data_file(samples: Path, name: str, fewest_bytes: int) -> Line:
    path = samples / name
    part = f"data_samples/{name}"
    if not path.is_file():
        return Line(False, True, part, "missing: reinstall minittt, or use a complete clone")
    size = path.stat().st_size
    if size < fewest_bytes:
        return Line(False, True, part, f"{size} bytes, which is too small: reinstall minittt, or clone again")
    return Line(True, True, part, f"{size:,} bytes")
