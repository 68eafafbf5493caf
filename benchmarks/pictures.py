"""Pictures small enough for a repository."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """A PNG with 64 colours: lines and letters need no more, and it is a third of the size."""
    written = io.BytesIO()
    figure.savefig(written, dpi=dpi)
    picture = Image.open(written).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    picture.save(path, "PNG", optimize=True)
