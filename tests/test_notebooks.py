"""The notebooks are what their sources say, ran without a fault, and their exercises teach.

For each exercise: untouched it is "not answered yet", the solution and every other right form of it (`right-k`) pass,
and every plausible wrong answer in `tutorials/solutions/` is refused with a hint. Only the cells tagged `needed` run here; `make notebooks` runs all.
"""

import json
import re
import sys
import types
from pathlib import Path

import jupytext
import pytest
import torch

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "notebooks" / "src").glob("*.py"))
EXERCISES = (1, 2, 3)
LARGEST, LARGEST_TOGETHER, SHORTEST_HINT = 700_000, 6_000_000, 20
PLACES = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|usr|opt|mnt|private|var)/|[A-Z]:\\\\?[A-Za-z]")
OPENING = ("After this notebook you can", "GPU", "tutorials/")


def read_source(folder: str, name: str):
    return jupytext.read(ROOT / folder / f"{name}.py", fmt="py:percent").cells


def read_notebook(name: str) -> list[dict]:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def tagged(cells, tag: str) -> list[str]:
    return [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]


def texts(cells: list[dict]):
    """Everything readable that a notebook put out."""
    for cell in cells:
        for output in cell.get("outputs", []):
            yield "".join(output.get("text", ""))
            for kind, data in output.get("data", {}).items():
                if kind == "text/html":  # sound and pictures inside are base64, where anything may occur
                    yield re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", "".join(data))
                elif kind.startswith("text/"):
                    yield "".join(data)


def test_every_notebook_has_a_source_and_every_source_its_companions():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NAMES)
    for name in NAMES:
        for path in (f"tutorials/{name}.md", f"tutorials/solutions/{name}.py"):
            assert (ROOT / path).is_file(), f"{path} is missing"


@pytest.mark.parametrize("name", NAMES)
def test_notebook_and_source_are_in_step(name):
    def cells(them):
        return [(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in them]

    assert cells(read_notebook(name)) == cells(read_source("notebooks/src", name)), (
        f"run: python notebooks/build.py {name}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_notebook_ran_from_top_to_bottom_without_a_fault(name):
    cells = [cell for cell in read_notebook(name) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o["text"] for o in outputs if o.get("name") == "stderr"]
    said = "".join(texts(cells))
    assert not PLACES.findall(said), "a path of the machine it ran on"
    assert all(f"exercise {k}: not answered yet" in said for k in EXERCISES)


def test_notebooks_are_small():
    sizes = {name: (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size for name in NAMES}
    assert not {name: size for name, size in sizes.items() if size > LARGEST}
    assert sum(sizes.values()) < LARGEST_TOGETHER


@pytest.mark.parametrize("name", NAMES)
def test_notebook_opens_with_what_it_teaches(name):
    opening = read_source("notebooks/src", name)[0]
    assert opening.cell_type == "markdown"
    assert opening.source.startswith("# ")
    assert all(words in opening.source for words in OPENING)


PAGES = sorted([*(ROOT / "tutorials").glob("*.md"), *(ROOT / "notebooks").glob("*.md")])


@pytest.mark.parametrize("page", [*PAGES, *NAMES], ids=lambda page: "-".join(Path(page).parts[-2:]))
def test_what_a_page_points_to_exists(page):
    if page in NAMES:
        folder = ROOT / "notebooks"
        cells = read_source("notebooks/src", page)
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        folder, text = page.parent, page.read_text(encoding="utf-8")
    text = re.sub(r"\$[^$\n]*\$", "", text)  # a formula may hold [..](..) too
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (folder / link).exists(), link
    laws = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for law in re.findall(r"\btest_\w+\b(?!\.py)", text):
        assert f"def {law}(" in laws or (ROOT / "tests" / f"{law}.py").is_file(), law


class Classroom:
    """One notebook's `needed` cells, run once; each answer starts from what they left."""

    def __init__(self, name: str) -> None:
        self.cells = read_source("notebooks/src", name)
        self.solutions = read_source("tutorials/solutions", name)
        self.space = {"__name__": "__notebook__"}
        for number, source in enumerate(tagged(self.cells, "needed")):
            exec(compile(source, f"<{name}, needed cell {number}>", "exec"), self.space)
        self.before, self.chance = dict(self.space), torch.get_rng_state()

    def answer(self, k: int, source: str) -> None:
        """Run an answer to exercise k and its check. Raises what the check raises."""
        self.space.clear()
        self.space.update(self.before)
        torch.set_rng_state(self.chance)
        [check] = tagged(self.cells, f"check-{k}")
        exec(compile(source, f"<answer {k}>", "exec"), self.space)
        exec(compile(check, f"<check {k}>", "exec"), self.space)


@pytest.fixture(scope="module")
def classrooms():
    """Classrooms by name, opened when first asked for; no display, no kernel, short trainings."""
    import matplotlib

    patch, opened = pytest.MonkeyPatch(), {}
    matplotlib.use("Agg")
    display = types.ModuleType("IPython.display")
    display.__getattr__ = lambda name: lambda *_, **__: None  # Audio, Image, HTML, display: nothing to see
    patch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display, get_ipython=lambda: None))
    patch.setitem(sys.modules, "IPython.display", display)
    patch.setenv("MINITTT_FAST", "1")
    patch.chdir(ROOT / "notebooks")
    patch.setattr(sys, "path", list(sys.path))
    patch.setattr("matplotlib.pyplot.show", lambda *_, **__: None)
    settings = dict(matplotlib.rcParams)
    yield lambda name: opened[name] if name in opened else opened.setdefault(name, Classroom(name))
    matplotlib.rcParams.update(settings)
    matplotlib.pyplot.close("all")
    patch.undo()


@pytest.mark.parametrize("k", EXERCISES)
@pytest.mark.parametrize("name", NAMES)
def test_exercise_knows_right_from_wrong(name, k, classrooms, capsys):
    room = classrooms(name)
    [untouched] = tagged(room.cells, f"exercise-{k}")
    room.answer(k, untouched)
    assert f"exercise {k}: not answered yet" in capsys.readouterr().out
    [solution] = tagged(room.solutions, f"exercise-{k}")
    for answer in (solution, *tagged(room.solutions, f"right-{k}")):
        room.answer(k, answer)
        assert f"exercise {k}: right" in capsys.readouterr().out, f"refused without a word:\n{answer}"
    mistakes = tagged(room.solutions, f"wrong-{k}")
    assert mistakes, "no wrong answer to try the check with"
    for mistake in mistakes:
        with pytest.raises(AssertionError) as refused:
            room.answer(k, mistake)
        assert len(str(refused.value)) >= SHORTEST_HINT, f"no hint for:\n{mistake}"
        assert f"exercise {k}: right" not in capsys.readouterr().out
