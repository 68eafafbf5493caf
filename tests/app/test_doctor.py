"""doctor works where the things it looks for do not."""

import importlib
import subprocess
import sys

import pytest

from minittt.app import doctor
from minittt.app.doctor import MODULES, _numbers, check, needed_packages
from minittt.settings import samples_folder

# An import hook that breaks one module, then the command as a user would give it.
PROGRAM = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {module!r}:
            raise {error}("broken on purpose")

sys.meta_path.insert(0, Broken())
from minittt.app.cli import main
sys.exit(main(["doctor"]))
"""


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
@pytest.mark.parametrize("package", needed_packages())
def test_a_missing_or_broken_library_is_diagnosed(package, error):
    program = PROGRAM.format(module=MODULES.get(package, package), error=error)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    [line] = [line for line in done.stdout.splitlines() if line.split()[1] == package]
    assert line.startswith("NO")
    assert "broken on purpose" in line
    assert f"pip install {package}" in line.replace("'", "")
    assert "data_samples/talker.safetensors" in done.stdout  # it went on to the end


def test_here_everything_that_is_needed_works():
    assert not [line for line in check(samples_folder()) if line.needed and not line.works]


def test_missing_and_damaged_files_are_named(tmp_path):
    (tmp_path / "codec.safetensors").write_bytes(b"x")
    lines = {line.part: line for line in check(tmp_path)}
    assert "too small" in lines["data_samples/codec.safetensors"].what
    assert "missing" in lines["data_samples/talker.safetensors"].what


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """A function that says which libraries there are beside Python's own: module -> its source."""

    def put(**sources: str) -> None:
        for name in ("jupyterlab", "notebook", "jupyter_core", "ipykernel"):
            for module in [module for module in sys.modules if module.split(".")[0] == name]:
                monkeypatch.delitem(sys.modules, module)
        for name, source in sources.items():
            package, _, module = name.partition("__")
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "__init__.py").touch()
            (tmp_path / package / f"{module or '__init__'}.py").write_text(source, encoding="utf-8")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        importlib.invalidate_caches()

    yield put
    for module in [m for m in sys.modules if m.split(".")[0] in ("jupyterlab", "notebook", "ipykernel")]:
        del sys.modules[module]


LAB = {"jupyterlab": "__version__ = '4.0.1'", "jupyterlab__labapp": ""}
NO_SERVER = "raise ModuleNotFoundError('no jupyter_server')"


def test_a_server_and_a_kernel_are_a_jupyter(libraries):
    libraries(**LAB, ipykernel="", jupyter_core="")
    line = doctor._jupyter()
    assert line.works
    assert line.what.startswith("jupyterlab ")
    assert "make lab" in line.what


def test_the_classic_notebook_will_do(libraries):
    libraries(notebook="", notebook__app="", ipykernel="")
    assert doctor._jupyter().works


@pytest.mark.parametrize(
    "there, said",
    [
        ({}, "only for the notebooks"),
        ({"jupyter_core": ""}, "jupyter_core alone"),
        ({"jupyterlab": "", "jupyterlab__labapp": NO_SERVER, "ipykernel": ""}, "no jupyter_server"),
        ({"jupyterlab": "raise OSError('broken')", "ipykernel": ""}, "cannot be started (OSError: broken)"),
        (LAB, "no kernel"),
        ({**LAB, "ipykernel": "raise OSError('no zmq')"}, "no zmq"),
    ],
)
def test_what_opens_or_runs_no_notebook_is_no_jupyter(libraries, there, said):
    """jupyter_core alone comes with many packages; a server may lack its parts, or a kernel."""
    libraries(**there)
    line = doctor._jupyter()
    assert not line.works
    assert not line.needed
    assert said in line.what
    assert "pip install 'minittt[notebooks]'" in line.what


def test_a_broken_server_is_passed_over_for_one_that_starts(libraries):
    libraries(jupyterlab=NO_SERVER, notebook="", notebook__app="", ipykernel="")
    assert doctor._jupyter().what.startswith("notebook ")


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
def test_a_broken_notebook_server_is_not_found(error):
    """It was looked for and never imported; a hook that raises ended doctor before its table."""
    program = PROGRAM.format(module="jupyterlab", error=error).replace(
        "== 'jupyterlab'", "in ('jupyterlab', 'notebook')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "only for the notebooks" in done.stdout


def test_versions_are_compared_as_numbers():
    assert _numbers("2.13.0+cpu") > _numbers("2.9")
    assert _numbers("1.26.0rc1") == (1, 26, 0)


def test_what_cannot_even_be_looked_at_is_a_line(monkeypatch, tmp_path):
    """Looking may fail itself: drivers that raise, folders that may not be read, an installation without its metadata."""

    def broken(*about):
        raise RuntimeError("driver\ntoo old")

    for name in ("_device", "_data_file", "_optional", "_package", "_encodec", "_jupyter", "needed_packages"):
        monkeypatch.setattr(doctor, name, broken)
    lines = check(tmp_path)
    assert sum("driver too old" in line.what for line in lines) == 4 + len(doctor.OPTIONAL) + len(
        doctor.DATA_FILES
    )
    assert all("\n" not in str(line) for line in lines)


def test_a_module_that_ends_the_program_is_only_a_broken_module(tmp_path, monkeypatch):
    (tmp_path / "quits.py").write_text("raise SystemExit('no licence')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._import("quits") == (None, "SystemExit: no licence")
