"""Each core module works alone: copied into an empty folder, with this package out of reach."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "minittt"
CORE = ["codec", "attention", "diffusion", "decoding", "unmasking"]

# Run before the example: whoever imports the package now, by any path, fails.
PRELUDE = """
import sys

class NoPackage:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "minittt":
            raise ImportError(f"{name} must not be needed here")

sys.meta_path.insert(0, NoPackage())
try:
    import minittt
except ImportError:
    pass
else:
    raise SystemExit("the package can still be imported")
"""


def example_in_the_docstring(source: str) -> str:
    docstring = ast.get_docstring(ast.parse(source)) or ""
    found = re.findall(r"^```python\n(.*?)^```", docstring, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1, "a core module's docstring holds one ```python block that shows its use"
    return found[0]


def run_alone(folder: Path, example: str) -> subprocess.CompletedProcess:
    """Run `example` in `folder` with a fresh Python that cannot import the package."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", PRELUDE + example]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("module", CORE)
def test_a_core_module_lifts_as_one_file(module, tmp_path):
    """If the example's last line is a comment, it is what the example prints."""
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
    example = example_in_the_docstring(source)
    assert re.search(rf"^(from|import) {module}\b", example, flags=re.MULTILINE), (
        "the example uses the lifted file"
    )
    done = run_alone(tmp_path, example)
    assert done.returncode == 0, done.stderr
    last = example.strip().splitlines()[-1]
    if last.startswith("# "):
        assert done.stdout.strip() == last[2:]


@pytest.mark.parametrize("line", ["import minittt", "from minittt.errors import MinitttError"])
def test_lifting_can_fail(line, tmp_path):
    (tmp_path / "attention.py").write_text(line + "\n", encoding="utf-8")
    done = run_alone(tmp_path, "import attention")
    assert done.returncode != 0
    assert "must not be needed here" in done.stderr


@pytest.mark.parametrize("module", CORE)
def test_a_core_module_names_nothing_of_the_package(module):
    """Nor inside a function, where only a call would show it."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module.split(".")[0] != "minittt"
        elif isinstance(node, ast.Import):
            assert all(name.name.split(".")[0] != "minittt" for name in node.names)
