"""How dense code is: tokens per logical line, by function, densest first.

    python benchmarks/density.py                         # this package
    python benchmarks/density.py minittt other/gpt.py    # files and folders, one row each, for comparison
    python benchmarks/density.py --worst 40 --json out/density.json

A logical line ends where Python's tokeniser says NEWLINE, however many lines it is wrapped over; the figure does not depend
on the formatter. Names, numbers, operators and strings count one each; comments and docstrings do not count. A function
counts with its signature, if it has three logical lines or more. --bare leaves type annotations out: they say what a name
holds and do nothing themselves, so code without them is compared fairly with code that has them.
"""

import argparse
import ast
import io
import json
import statistics
import tokenize
from dataclasses import asdict, dataclass
from pathlib import Path

COUNTED = {tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING}
if hasattr(
    tokenize, "FSTRING_START"
):  # from Python 3.12 on, an f-string is several tokens: its start counts for it
    COUNTED.add(tokenize.FSTRING_START)
FEWEST_LINES = 3


@dataclass
class Function:
    """One function: tokens per logical line, and how many of those it has."""

    density: float
    lines: int
    name: str
    path: str
    line: int


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines that docstrings take."""
    lines = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines.update(range(docstring.lineno, docstring.end_lineno + 1))
    return lines


def logical_lines(source: str) -> list[tuple[int, int]]:
    """(first line, tokens) of each logical line of code."""
    silent = docstring_lines(ast.parse(source))
    found = []
    first = None
    count = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if count:
                found.append((first, count))
            first = None
            count = 0
        elif token.type in COUNTED:
            if token.type == tokenize.STRING and token.start[0] in silent:
                continue
            if first is None:
                first = token.start[0]
            count += 1
    return found


class _WithoutAnnotations(ast.NodeTransformer):
    """Takes the types out of signatures and assignments."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()  # a field without a value: still a line
        return ast.Assign([node.target], node.value)


def without_annotations(source: str) -> str:
    """The same code without types, as Python writes it; its functions come in the same order."""
    tree = _WithoutAnnotations().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


def functions_in(source: str) -> list[ast.FunctionDef]:
    """All functions, methods among them, in one order."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]


def functions_of(path: Path, bare: bool = False) -> list[Function]:
    """Every function of a file that is long enough to be judged."""
    source = path.read_text(encoding="utf-8")
    counted = source
    if bare:
        counted = without_annotations(source)
    lines = logical_lines(counted)
    found = []
    for written, node in zip(functions_in(source), functions_in(counted), strict=True):
        inside = [count for first, count in lines if node.lineno <= first <= node.end_lineno]
        if len(inside) >= FEWEST_LINES:
            density = sum(inside) / len(inside)
            found.append(Function(density, len(inside), node.name, str(path), written.lineno))
    return found


def python_files(paths: list[Path]) -> list[Path]:
    """The files themselves, and every .py file below the folders."""
    found = []
    for path in paths:
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def summary(functions: list[Function]) -> dict[str, float]:
    """Number of functions, median and 90th percentile of their densities."""
    densities = sorted(function.density for function in functions)
    return {
        "functions": len(densities),
        "median": round(statistics.median(densities), 2),
        "p90": round(densities[int(0.9 * (len(densities) - 1))], 2),
    }


def main(arguments: list[str] | None = None) -> dict:
    """Print a row for each path, and the densest functions of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    package = Path(__file__).parent.parent / "minittt"
    parser.add_argument("paths", nargs="*", type=Path, default=[package])
    parser.add_argument("--worst", type=int, default=20, help="how many of the densest functions to list")
    parser.add_argument("--bare", action="store_true", help="without type annotations")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    everything = []
    rows = {}
    for path in args.paths:
        functions = []
        for file in python_files([path]):
            functions += functions_of(file, args.bare)
        if not functions:
            print(f"{path}: no function of {FEWEST_LINES} logical lines or more")
            continue
        everything += functions
        rows[str(path)] = summary(functions)
        print(
            "{}: {functions} functions, median {median}, 90th percentile {p90}".format(
                path, **rows[str(path)]
            )
        )
    everything.sort(key=lambda function: function.density, reverse=True)
    for function in everything[: args.worst]:
        print(
            f"{function.density:6.1f}  {function.lines:3d} lines  {function.path}:{function.line} {function.name}"
        )
    made = {"paths": rows, "worst": [asdict(function) for function in everything[: args.worst]]}
    if args.json:
        args.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    main()
