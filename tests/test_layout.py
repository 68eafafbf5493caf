"""The rooms of the package: each says what lives there, and imports run one way."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minittt

PACKAGE = Path(minittt.__file__).parent
METHOD = {"attention", "diffusion", "decoding", "unmasking", "codec"}
GROUND = {"errors", "settings", "files"}
# from the ground up: a module may import from its own level or from one below
LEVELS = ["ground", "method", "data", "model", "theory", "world", "training", "evaluation", "app"]
ROOMS = [name for name in LEVELS if name not in ("ground", "method", "model")]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `minittt`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "data_samples":
            found[".".join(parts)] = path
    return found


def level_of(module: str) -> str:
    """The room a module lives in; the top level holds the ground, the method, and the method put to work."""
    first = module.split(".")[0]
    if first in ROOMS:
        return first
    if first in GROUND:
        return "ground"
    if first in METHOD:
        return "method"
    return "model"


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, inside functions too, by their dotted names below `minittt`."""
    known = modules()
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            below = name.removeprefix("minittt.")
            if name.startswith("minittt.") and below in known:
                found.add(below)
    return found


GRAPH = {name: imports_of(path) for name, path in modules().items() if name not in ("__init__", "__main__")}


def test_imports_run_from_higher_rooms_to_lower_ones():
    upwards = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if LEVELS.index(level_of(other)) > LEVELS.index(level_of(module))
    ]
    assert not upwards


def test_no_cycle():
    """Depth first; the path is what a reader would need to untangle it."""
    done = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        for other in sorted(GRAPH.get(module, ())):
            visit(other, (*path, module))
        done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_nothing_in_the_package_imports_the_theory():
    users = [m for m, others in GRAPH.items() for o in others if level_of(o) == "theory" != level_of(m)]
    assert not users


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_lives_there_and_what_does_not(room):
    docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    first_sentence = docstring.split(". ")[0] if docstring else ""
    assert len(first_sentence) > 20
    assert re.search(r"\b(not|no|nothing)\b", docstring.lower())


def test_every_name_that_the_package_offers_exists():
    for name in minittt.__all__:
        assert getattr(minittt, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        minittt.nonsense  # noqa: B018
    assert set(minittt.__all__) <= set(dir(minittt))


def test_importing_the_package_imports_nothing_heavy():
    program = "import sys, minittt; print([m for m in ('torch', 'numpy', 'encodec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_wheel_holds_every_room():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    there = {"minittt", "minittt.data_samples"}
    there |= {f"minittt.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    assert listed == there


def test_every_library_that_is_imported_is_declared():
    """PIL was imported for long, and came only by way of matplotlib."""
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in PROJECT["project"]["dependencies"]}
    for extra in PROJECT["project"]["optional-dependencies"].values():
        declared |= {re.match(r"[\w-]+", line)[0].lower() for line in extra}
    names = {"PIL": "pillow", "espeakng_loader": "espeakng-loader", "faster_whisper": "faster-whisper"}
    not_needed = {"torchaudio"}  # tried, because encodec imports it, and done without
    imported = set()
    elsewhere = {"neural_worker.py"}  # run by another Python, which has its libraries
    for path in modules().values():
        if path.name in elsewhere:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"minittt"} - not_needed
    assert {names.get(name, name) for name in foreign} <= declared


def test_the_description_that_travels_with_the_package_stands_alone():
    """Where the wheel is shown there is no repository around it: no link or picture may be relative."""
    text = (ROOT / PROJECT["project"]["readme"]).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    assert all(target.startswith("https://") for target in targets)


def test_the_oldest_python_is_said_once_and_alike():
    from minittt.app.doctor import OLDEST_PYTHON

    assert PROJECT["project"]["requires-python"] == ">=" + ".".join(map(str, OLDEST_PYTHON))
