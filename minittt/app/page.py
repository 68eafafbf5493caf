"""The reply page: one HTML file in which a reply can be heard, read, and watched while it is written.

Everything is inside the file (sound as WAV, pictures as PNG, both in base64), and its security policy
forbids the browser to fetch anything. The whole sequence stands in the HTML in its final state; the script
only hides and uncovers tokens as the slider moves, one forward of the network per position. The HTML is in
`page.html`.
"""

import base64
import html
import io
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib import colormaps
from PIL import Image

from minittt.app.plotting import COLOURS, FLOOR, SPECTRUM, mask_palette, shade_mask, spectrogram, token_look
from minittt.app.replay import Item, count, replay
from minittt.attention import TEXT, group_mask
from minittt.codec import whole_file
from minittt.errors import MinitttError
from minittt.talker import Reply, Talker

TINTS = 48  # shades of a spectrogram on the page: fewer make a smaller file, more are not seen


@dataclass
class Entry:
    """One question and one reply to it. Waves are (samples,) at sample_rate Hz, of no samples if silent."""

    title: str
    question_wave: np.ndarray | None
    question_text: str | None
    reply: Reply
    reply_wave: np.ndarray
    sample_rate: int
    coherence: float | None  # share of windows that sound like the reply's one voice, 0..1
    steps: int  # denoising steps per block that were asked for


@dataclass
class PageSettings:
    """What the page says of its own making; what is empty is left out."""

    heading: str = "A reply, and how it was written"
    talker: str = ""  # file name
    seed: int | None = None
    command: str = ""


def write_page(
    path: str | Path, entries: list[Entry], talker: Talker, settings: PageSettings | None = None
) -> None:
    """Write the page of these entries, whole or not at all.

    Entries in a row that answer the same question are compared: the question once, then a player for each,
    with its steps per block, forwards and coherence. Raises MinitttError if there is no entry, CodecError if
    the file cannot be written.
    """
    if not entries:
        raise MinitttError("a page needs at least one reply to show")
    settings, show = settings or PageSettings(), _Show(talker)
    alike = [list(run) for _, run in groupby(enumerate(entries), lambda numbered: _asked(numbered[1]))]
    page = _fill(
        "page",
        heading=settings.heading,
        palette=Html("".join(f"--{name}: {colour}; " for name, colour in COLOURS.items())),
        made=_made(settings, talker),
        questions=_join(show.question(run) for run in alike),
        data=Html(json.dumps(show.data, separators=(",", ":")).replace("<", "\\u003c")),
    )
    with whole_file(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _asked(entry: Entry) -> tuple:
    return entry.question_text, entry.reply.prompt


def _made(settings: PageSettings, talker: Talker) -> "Html":
    training = talker.info.get("training", {}).get("preset")
    told = {
        "talker": settings.talker,
        "trained": f"{training}, {talker.info.get('step', '?')} steps" if training else "",
        "codec": talker.info.get("codec", ""),
        "seed": "" if settings.seed is None else f"{settings.seed}",
        "command": settings.command,
    }
    return _join(_fill("made", name=name, value=value) for name, value in told.items() if value)


# ---- the parts of page.html


class Html(str):
    """Text that is markup already. All else is escaped where it is filled in."""


@cache
def _parts() -> dict[str, str]:
    text = files("minittt.app").joinpath("page.html").read_text(encoding="utf-8")
    _, *pieces = re.split(r"<!-- part: (\w+) -->\n", text)
    return {name: part.rstrip("\n") for name, part in zip(pieces[::2], pieces[1::2], strict=True)}


def _fill(part: str, **values) -> Html:
    """A part with each {{name}} replaced. It is done in one pass: what is filled in is not searched again."""

    def value(found: re.Match) -> str:
        given = values[found[1]]
        return given if isinstance(given, Html) else html.escape(str(given))

    return Html(re.sub(r"\{\{(\w+)\}\}", value, _parts()[part]))


def _join(parts) -> Html:
    return Html("".join(parts))


# ---- sound and pictures as data


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _wav(wave: np.ndarray, sample_rate: int) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return _data_uri("audio/wav", buffer.getvalue())


def _png(indices: np.ndarray, palette: np.ndarray) -> str:
    """indices (height, width) into a palette (n, 4) of red, green, blue and opacity, 0..1."""
    colours = np.round(255 * palette).astype(np.uint8)
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette(colours[:, :3].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return _data_uri("image/png", buffer.getvalue())


def _spectrogram(wave: np.ndarray, sample_rate: int) -> str:
    decibels = spectrogram(wave, sample_rate)[::-1]  # (F, T), high frequencies on top
    return _png(np.round((1 - decibels / FLOOR) * (TINTS - 1)), colormaps[SPECTRUM](np.linspace(0, 1, TINTS)))


def _mask(reply: Reply) -> str:
    mask = group_mask(torch.tensor([reply.groups]))[0]  # (L, L)
    return _png(shade_mask(mask, reply.kinds, reply.groups), mask_palette())


def _sound(wave: np.ndarray | None, rate: int, what: str) -> Html:
    """A player over a spectrogram; nothing where there is no sound."""
    if wave is None or not len(wave):
        return Html()
    pictures = {"wav": _wav(wave, rate), "spectrogram": _spectrogram(wave, rate)}
    return _fill("sound", what=what, khz=f"{rate / 2000:g}", seconds=f"{len(wave) / rate:.2f}", **pictures)


# ---- questions, replies, tokens


class _Show:
    """Makes the sections of a page, gathering for its script the `data` of each reply."""

    def __init__(self, talker: Talker) -> None:
        self.vocabulary, self.pieces = talker.vocabulary, talker.tokeniser.pieces
        self.data: list[dict] = []

    def question(self, numbered: list[tuple[int, Entry]]) -> Html:
        """One question with all its answers, and how each was made."""
        several, first = len(numbered) > 1, numbered[0][1]
        text = Html() if first.question_text is None else _fill("said", text=first.question_text)
        return _fill(
            "question",
            title=first.title.removesuffix(f", {first.steps} steps per block") if several else first.title,
            many="many" if several else "",
            asked=_join([text, _sound(first.question_wave, first.sample_rate, "question")]),
            answers=_join(_answer(number, entry, several) for number, entry in numbered),
            makings=_join(self.making(number, entry, several) for number, entry in numbered),
        )

    def making(self, number: int, entry: Entry, several: bool) -> Html:
        """How a reply was written: controls, sequence, mask; folded up but for the page's first."""
        reply = entry.reply
        items, frames = replay(reply, self.vocabulary.mask, lambda token: f"“{self.name(token).strip()}”")
        self.data.append({"frames": frames, "groups": reply.groups, "kinds": reply.kinds})
        self.data[-1] |= {"first_code": self.vocabulary.first_code, "eoa": self.vocabulary.eoa}
        heard = range(len(reply.prompt))
        prompt = [Item(reply.prompt[i], reply.kinds[i], reply.groups[i], i) for i in heard]
        return _fill(
            "making",
            number=number,
            open="" if several or number else "open",
            steps=f", {count(entry.steps, 'step')} per block" if several else "",
            controls=_fill("controls", number=number, frames=len(frames)) if frames else Html(),
            prompt=self.tokens(prompt, "prompt"),
            reply=self.tokens(items, "reply"),
            length=len(reply.groups),
            mask=_mask(reply),
        )

    def tokens(self, items: list[Item], place: str) -> Html:
        """A row of tokens, a frame around each group."""
        groups = groupby(items, key=lambda item: item.group)
        boxes = ((group, _join(map(self.token, run))) for group, run in groups)
        return _join(_fill("group", place=place, tokens=tokens, number=group) for group, tokens in boxes)

    def token(self, item: Item) -> Html:
        """A token as a coloured box."""
        name = self.name(item.id)
        look, dropped, end = token_look(name, item.kind), item.position is None, name == "EOA"
        return _fill(
            "token",
            look=f"{look}{' eoa' if end else ''}{' dropped' if dropped else ''}",
            position="" if dropped else item.position,
            told=f"{name.replace('#', 'code ') if item.kind != TEXT else name.strip()}, group {item.group}",
            word=(name.strip() or "␣") if item.kind == TEXT else "",
        )

    def name(self, token: int) -> str:
        """A text piece as it is written, or the name of any other id."""
        v = self.vocabulary
        return self.pieces.id_to_piece(token).replace("▁", " ") if token < v.text_size else v.name(token)


def _answer(number: int, entry: Entry, several: bool) -> Html:
    reply, spans = entry.reply, entry.reply.spans
    tokens = f"{count(sum(map(len, spans)), 'audio token')} in {count(len(spans), 'span')}"
    parts = [_fill("said", text=reply.text)] if reply.text else []
    parts += [_sound(entry.reply_wave, entry.sample_rate, "answer") or _fill("silent")]
    if entry.coherence is not None:
        percent = round(100 * min(1.0, max(0.0, entry.coherence)))
        parts += [_fill("coherence", percent=percent, value=f"{entry.coherence:.2f}")]
    return _fill(
        "answer",
        number=number,
        steps=f", {count(entry.steps, 'step')} per block" if several else "",
        content=_join(parts),
        forwards=count(reply.nfe, "forward"),
        tokens=tokens + (", cut off at the limit of text tokens" if reply.reason == "limit" else ""),
    )
