"""Make the notebooks from their sources: `python notebooks/build.py [NAME ...] [--pictures FOLDER]`.

notebooks/src/NAME.py (jupytext's percent format) is read, executed from top to bottom in this folder, tidied, and written
to notebooks/NAME.ipynb. A notebook in which a cell fails is not written. Without names, all are made.
"""

import argparse
import base64
import io
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HERE = Path(__file__).resolve().parent
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
TIMEOUT = 1800  # seconds for one cell


def read_source(path: Path) -> nbformat.NotebookNode:
    """The notebook of a source: cells with their tags, numbered, no outputs, the kernel `python3`."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({**KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
    return notebook


def smaller(png: str) -> str:
    """A base64 PNG with 256 colours, if that is smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return min(png, base64.b64encode(written.getvalue()).decode(), key=len)


def merged(outputs: list) -> list:
    """Printed text in one piece, however the kernel happened to cut it."""
    kept = []
    for output in outputs:
        last = kept[-1] if kept else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            kept.append(output)
    return kept


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out what differs from run to run without a meaning, and shrink the pictures."""
    notebook.metadata = nbformat.from_dict({**KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = merged(cell.outputs)
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
                data.pop("text/plain", None)
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})


def build(name: str) -> nbformat.NotebookNode:
    """Execute notebooks/src/name.py and write notebooks/name.ipynb. Raises CellExecutionError."""
    notebook, start = read_source(HERE / "src" / f"{name}.py"), time.time()
    NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": HERE}}
    ).execute()
    tidy(notebook)
    nbformat.validate(notebook)
    path = HERE / f"{name}.ipynb"
    path.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
    print(f"{path.name}: {time.time() - start:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
    return notebook


def extract_pictures(name: str, notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Every picture as folder/NAME-CELL-OUTPUT.png, to be looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(notebook.cells):
        for i, output in enumerate(cell.get("outputs", [])):
            for kind in ("png", "gif"):
                if picture := output.get("data", {}).get(f"image/{kind}"):
                    (folder / f"{name}-{number:02}-{i}.{kind}").write_bytes(base64.b64decode(picture))


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the notebooks from their sources.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 01_codec_tokenization; all if none")
    parser.add_argument("--pictures", type=Path, help="write every picture into this folder too")
    arguments = parser.parse_args()
    known = sorted(path.stem for path in (HERE / "src").glob("*.py"))
    names = [Path(name).stem for name in arguments.names] or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no source of {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names:
        try:
            notebook = build(name)
        except CellExecutionError as error:
            print(f"{name}: not written, for a cell failed\n{error}", file=sys.stderr)
            return 1
        if arguments.pictures:
            extract_pictures(name, notebook, arguments.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
