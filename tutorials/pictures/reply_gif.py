"""Draw `reply.gif`: the shipped talker writes and speaks a reply, one forward a frame.

python tutorials/pictures/reply_gif.py [file.gif]        # default: reply.gif beside this file
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from minittt.app.plotting import COLOURS, FLOOR, SPECTRUM, STYLE, spectrogram
from minittt.attention import TARGET, TEXT
from minittt.codec import Codec
from minittt.decoding import BlockClosed, DenoisingStep, TextToken
from minittt.talker import Reply, Talker, decoding_settings

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent.parent / "data_samples"
QUESTION = "count from two to six"
WIDE, TALL, DPI = 7.2, 2.35, 100  # inches, inches, pixels an inch
LINE, ROW = 41.0, 2.35  # a line of tokens in code widths; the height of one in the same unit
MILLISECONDS, LAST = {"text": 260, "step": 90, "closed": 260}, 3000


@dataclass
class Token:
    """A token as it stands now: an id, MASK too, its kind and group."""

    id: int
    kind: int
    group: int
    new: bool = True  # revealed in this frame


@dataclass
class Picture:
    """One frame: all tokens, how many slots are closed (so much is heard), and how long to show it."""

    tokens: list[Token] = field(default_factory=list)
    heard: int = 0
    said: str = ""
    milliseconds: int = 0


def pictures(reply: Reply, eoa: int) -> list[Picture]:
    """What stood there after each forward of the reply."""
    tokens, group, heard, shots = [], reply.groups[len(reply.prompt) - 1], 0, []

    def shoot(said: str, how: str) -> None:
        shots.append(Picture([Token(**vars(t)) for t in tokens], heard, said, MILLISECONDS[how]))
        for token in tokens:
            token.new = False

    for event in reply.events:
        if isinstance(event, TextToken):
            group += 1
            tokens.append(Token(event.id, TEXT, group))
            shoot("text: the next token", "text")
        elif isinstance(event, DenoisingStep):
            if event.step == 0:
                group += 1
                tokens += [Token(-1, TARGET, group, False) for _ in event.ids]
            for slot, token in enumerate(tokens[-len(event.ids) :]):
                token.id, token.new = event.ids[slot], slot in event.revealed
            shoot(f"audio: block {event.block + 1}, step {event.step + 1}", "step")
        elif isinstance(event, BlockClosed):
            shots[-1].milliseconds = MILLISECONDS["closed"]
            for token, final in zip(tokens[-len(event.ids) :], event.ids, strict=True):
                token.id = final
            heard += sum(code != eoa for code in event.ids)
            shots[-1].tokens, shots[-1].heard = [Token(**vars(t)) for t in tokens], heard
    shots[-1].said, shots[-1].milliseconds = "done", LAST
    return shots


class Painter:
    """Draws pictures of one reply, all of the same layout: every token has its place from the start."""

    def __init__(self, talker: Talker, codec: Codec, reply: Reply, last: Picture) -> None:
        self.talker, self.v, self.last = talker, talker.vocabulary, last
        waves = [talker.sound(codec, span) for span in reply.spans]
        self.decibels = spectrogram(np.concatenate(waves), codec.config.sample_rate)  # (F, T)
        self.codes = sum(map(len, reply.spans))
        self.places = self._lay_out()

    def name(self, token: Token) -> str:
        if token.kind == TARGET:
            return ""
        if token.id < self.v.text_size:
            return self.talker.tokeniser.pieces.id_to_piece(token.id).replace("▁", "")
        return self.v.name(token.id)

    def _lay_out(self) -> list[tuple[float, float, float]]:
        x, y, places, before = 0.0, 0.0, [], None
        for i, token in enumerate(self.last.tokens):
            wide = 1.0 if token.kind == TARGET else 1.1 + 0.6 * len(self.name(token))
            x += 0.4 if before not in (None, token.group) else 0.0
            starts = token.group != before
            whole = wide * sum(t.group == token.group for t in self.last.tokens[i:]) if starts else wide
            if x + whole > LINE:
                x, y = 0.0, y + ROW
            places.append((x, y, wide))
            x, before = x + wide, token.group
        return places

    def paint(self, picture: Picture) -> Image.Image:
        figure = Figure(figsize=(WIDE, TALL), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        figure.text(0.025, 0.93, f"“{QUESTION}?”", fontsize=11, va="center", color="#333333")
        figure.text(0.975, 0.93, picture.said, fontsize=9, va="center", ha="right", color="#777777")
        self._tokens(figure.add_axes((0.02, 0.42, 0.96, 0.44)), picture)
        self._sound(figure.add_axes((0.025, 0.05, 0.95, 0.34)), picture)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    def _tokens(self, ax, picture: Picture) -> None:
        for token, (x, y, wide) in zip(picture.tokens, self.places, strict=False):
            ax.add_patch(
                Rectangle((x + 0.08, y + 0.05), wide - 0.16, 0.95, linewidth=0.8, **self._look(token))
            )
            if token.new and token.kind == TARGET:
                ax.add_patch(Rectangle((x + 0.12, y + 0.09), wide - 0.24, 0.87, fill=False, linewidth=1.4))
            ink = {"ha": "center", "va": "center", "color": "white", "fontsize": 9}
            ax.text(x + wide / 2, y + 0.54, self.name(token), **ink)
        for group in sorted({token.group for token in picture.tokens}):
            mine = [p for t, p in zip(picture.tokens, self.places, strict=False) if t.group == group]
            middle = (mine[0][0] + mine[-1][0] + mine[-1][2]) / 2
            ax.text(
                middle, mine[0][1] + 1.5, f"{group}", ha="center", va="center", fontsize=7, color="#666666"
            )
        height = self.places[-1][1] + ROW
        ax.set(xlim=(0, LINE), ylim=(max(height, 0.44 * TALL / (0.96 * WIDE) * LINE), 0))
        ax.set_axis_off()

    def _look(self, token: Token) -> dict:
        if token.id == -1 or token.id == self.v.mask:
            return {"facecolor": COLOURS["mask"], "edgecolor": COLOURS["mask"]}
        if token.id == self.v.eoa:
            return {"facecolor": "white", "edgecolor": COLOURS["target"]}
        control = token.kind == TEXT and token.id >= self.v.text_size
        colour = COLOURS["control" if control else "text" if token.kind == TEXT else "target"]
        return {"facecolor": colour, "edgecolor": colour}

    def _sound(self, ax, picture: Picture) -> None:
        shown = round(self.decibels.shape[1] * picture.heard / self.codes)
        ax.set(xlim=(0, self.decibels.shape[1]), ylim=(0, len(self.decibels)), xticks=[], yticks=[])
        ax.set_facecolor("#F2F2F2")
        ax.spines[:].set_visible(False)
        if shown:
            extent = (0, shown, 0, len(self.decibels))
            ax.imshow(self.decibels[:, :shown], extent=extent, origin="lower", aspect="auto", cmap=SPECTRUM,
                      vmin=FLOOR, vmax=0)  # fmt: skip
        else:
            ax.text(0.5, 0.5, "its sound, as blocks are closed", transform=ax.transAxes, ha="center", va="center",
                    color="#999999", fontsize=9)  # fmt: skip


def common_palette(frame: Image.Image) -> Image.Image:
    """The colours of a frame, few for a small file, and those of the tokens exactly."""
    few = frame.quantize(96, dither=Image.Dither.NONE).getpalette()[: 3 * 96]
    exact = [
        round(255 * c) for name in ("white", "black", "#F2F2F2", *COLOURS.values()) for c in to_rgb(name)
    ]
    palette = Image.new("P", (1, 1))
    rest = [rgb for rgb in zip(few[::3], few[1::3], few[2::3], strict=True) if max(rgb) < 248]
    palette.putpalette(exact + [channel for rgb in rest for channel in rgb])
    return palette


def main(path: Path) -> None:
    """Let the talker reply, draw every forward, and write the GIF with one palette for all frames."""
    talker, codec = Talker.load(SAMPLES / "talker.safetensors"), Codec.load(SAMPLES / "codec.safetensors")
    settings = decoding_settings(8, 8, 0.5)
    [reply] = talker.converse([[["system", "answer"], ["user", QUESTION]]], settings)
    shots = pictures(reply, talker.vocabulary.eoa)
    with matplotlib.rc_context(STYLE):
        painter = Painter(talker, codec, reply, shots[-1])
        frames = [painter.paint(shot) for shot in shots]
    palette = common_palette(frames[-1])
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [shot.milliseconds for shot in shots]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    print(
        f"{path.name}: {reply.text!r}, {len(frames)} frames of {frames[0].size}, {path.stat().st_size / 1000:.0f} kB"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "reply.gif")
