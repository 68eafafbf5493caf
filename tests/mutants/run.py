"""Show that each law can fail: break the code in a listed way and ask the law to notice.

    python -m tests.mutants.run [module ...]        # all listed modules when none is named

`tests/mutants/<module>.py` lists `MUTANTS = [Mutant(law=8, old="k.group <= q.group", new="..."), ...]`. In a
copy of the project in a temporary folder, each mutant in turn replaces `old` (found exactly once in the
module, in whichever room it lives) by `new`, and the tests of its law alone are run. Where laws have no numbers, `law` is
the part of a test's name that says what must hold: `Mutant(law="packs_the_longest_first", ...)`. A list that goes over
several modules (`boundary.py`) names each mutant's module and test file. The exit code is 1 unless all are caught.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 300.0  # seconds for one law; a law that no longer ends has noticed the mutant too
LISTS_OF_MUTANTS = sorted(
    p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "run")
)


@dataclass(frozen=True)
class Mutant:
    """One way to break a module: `old` (found exactly once) becomes `new`, and what `law` names must fail."""

    law: int | str  # N of the tests named law_NN, or a part of a test's name
    old: str
    new: str
    module: str = ""  # the one it breaks; by default the one that the list is named after
    file: str = ""  # of the tests, below `tests`; by default the module's own

    @property
    def tests(self) -> str:
        """What the names of the tests that must notice contain."""
        return self.law if isinstance(self.law, str) else f"law_{self.law:02d}"


def module_path(module: str, root: Path = ROOT) -> Path:
    """Where a module lies; its name is found in one room only."""
    [path] = (root / "minittt").rglob(f"{module}.py")
    return path


def law_file(module: str, root: Path = ROOT) -> Path:
    """The file of tests that belongs to a module."""
    [path] = (root / "tests").rglob(f"test_{module}.py")
    return path


def target(mutant: Mutant, listed: str) -> Path:
    """The module that a mutant of the list `listed` breaks, as a path within the project."""
    return module_path(mutant.module or listed).relative_to(ROOT)


def file_of_laws(mutant: Mutant, listed: str) -> Path:
    """The file with the tests that must notice, as a path within the project."""
    if mutant.file:
        return Path("tests") / mutant.file
    return law_file(mutant.module or listed).relative_to(ROOT)


def copy_of_the_project(folder: Path) -> None:
    for part in ("minittt", "tests", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data_samples").symlink_to(ROOT / "data_samples")
    shutil.copy(ROOT / "pyproject.toml", folder)  # pytest's settings


def run_laws(folder: Path, tests: Path, laws: str) -> str:
    """Run those of the file `tests` whose names match `laws`: "failed", "passed", or why they did not run."""
    command = [sys.executable, "-m", "pytest", str(tests), "-k", laws, "-x", "-q"]
    command += ["-p", "no:cacheprovider", "--no-header"]
    # Bytecode is keyed by whole seconds and file size: a mutant could be served the code of the last one.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "failed"
    outcome = {0: "passed", 1: "failed", 5: f"no test is named {laws}"}
    return outcome.get(done.returncode, f"did not run: {(done.stdout + done.stderr).strip()[-400:]}")


def try_mutant(folder: Path, mutant: Mutant, listed: str) -> str:
    """What became of one mutant: "caught", "SURVIVED", or the reason why it could not be tried."""
    path = target(mutant, listed)
    source = (ROOT / path).read_text(encoding="utf-8")
    if (times := source.count(mutant.old)) != 1:
        return f"NOT TRIED: its `old` occurs {times} times in {path.name}, not once"
    (folder / path).write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    outcome = run_laws(folder, file_of_laws(mutant, listed), mutant.tests)
    (folder / path).write_text(source, encoding="utf-8")
    return {"failed": "caught", "passed": "SURVIVED"}.get(outcome, f"NOT TRIED: {outcome}")


def try_list(listed: str) -> bool:
    """Try every mutant of one list and print a line for each. True if all were caught."""
    mutants = import_module(f"tests.mutants.{listed}").MUTANTS
    laws_in = defaultdict(set)  # file of tests -> the laws there
    for mutant in mutants:
        laws_in[file_of_laws(mutant, listed)].add(mutant.tests)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_of_the_project(folder)
        # A law that fails on the sound code would "catch" anything.
        for tests, laws in laws_in.items():
            if (outcome := run_laws(folder, tests, " or ".join(sorted(laws)))) != "passed":
                print(f"{listed}: the laws do not hold before any mutant: {outcome}", flush=True)
                return False
        sound = True
        for mutant in mutants:
            begin = time.perf_counter()
            fate = try_mutant(folder, mutant, listed)
            sound &= fate == "caught"
            change = f"{mutant.old!r} -> {mutant.new!r}"
            seconds = time.perf_counter() - begin
            name = mutant.module or listed
            print(f"{name} {mutant.tests} {fate:8s} {seconds:5.1f} s  {change}", flush=True)
    return sound


def main(names: list[str]) -> int:
    if unknown := set(names) - set(LISTS_OF_MUTANTS):
        known = ", ".join(LISTS_OF_MUTANTS)
        print(f"no list of mutants for {', '.join(sorted(unknown))}; there are lists for: {known}")
        return 2
    results = {name: try_list(name) for name in names or LISTS_OF_MUTANTS}
    failed = [name for name, sound in results.items() if not sound]
    print(f"not every mutant was caught in: {', '.join(failed)}" if failed else "every mutant was caught")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
