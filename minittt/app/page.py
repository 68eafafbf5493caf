"""The reply page: one HTML file in which a reply can be heard, read, and watched while it is written.

Everything is inside the file (sound as WAV, pictures as PNG, both in base64), and its security policy forbids the browser
to fetch anything. The HTML holds the whole sequence in its final state; the script only hides and uncovers tokens as the
slider moves, one forward pass of the network per position. The HTML is in `page.html`.
"""

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import jinja2
import numpy as np
import soundfile
import torch
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image

from minittt.app.plotting import COLOURS, FLOOR, SPECTRUM, mask_palette, shade_mask, spectrogram, token_look
from minittt.app.replay import Item, count, replay
from minittt.attention import SOURCE, TEXT, group_mask
from minittt.codec import whole_file
from minittt.errors import MinitttError
from minittt.files import json_text, writable_text
from minittt.talker import Reply, Talker

TINTS = 48  # shades of a spectrogram on the page: fewer make a smaller file, more would not be seen
MASK_PIXELS = 832  # least height of the picture of a mask: twice the height it is shown at
STRIPE_EVERY = 14  # pixels in it from the beginning of one stripe to the next
STRIPE_WIDTH = 4


@dataclass
class Entry:
    """One question and one reply to it. Waves are (samples,) at sample_rate Hz, with no samples if silent."""

    title: str
    question_wave: np.ndarray | None
    question_text: str | None
    reply: Reply
    reply_wave: np.ndarray
    sample_rate: int
    coherence: float | None  # share of windows that sound like the reply's one voice, 0..1
    steps: int  # denoising steps per block that were asked for
    confidence: float | None = None  # chance that the text is right, where the talker is calibrated


@dataclass
class PageSettings:
    """What the page says about how it was made; what is empty is left out."""

    heading: str = "A reply, and how it was written"
    talker: str = ""  # file name
    seed: int | None = None
    command: str = ""


def write_page(
    path: str | Path, entries: list[Entry], talker: Talker, settings: PageSettings | None = None
) -> None:
    """Write the page of these entries, whole or not at all.

    Consecutive entries that answer the same question are compared: the question once, then a player for each, with its
    steps per block, forwards and coherence. Raises MinitttError if there is no entry, CodecError if the file cannot be
    written.
    """
    if not entries:
        raise MinitttError("a page needs at least one reply to show")
    settings = settings or PageSettings()
    show = _Show(talker)
    # 1. Consecutive entries that answer the same question belong together.
    by_question = groupby(enumerate(entries), key=lambda numbered: _asked(numbered[1]))
    questions = _join(show.question(list(run)) for _, run in by_question)
    # 2. What the script and the style sheet need, as text that is safe inside them.
    palette = "".join(f"--{name}: {colour}; " for name, colour in COLOURS.items())
    data = json_text(show.data, separators=(",", ":")).replace("<", "\\u003c")
    # 3. The whole page.
    page = _fill(
        "page",
        heading=settings.heading,
        palette=Markup(palette),
        made=_made(settings, talker),
        questions=questions,
        data=Markup(data),
    )
    with whole_file(path) as unfinished:
        unfinished.write_text(writable_text(page), encoding="utf-8")


def _asked(entry: Entry) -> tuple:
    return entry.question_text, entry.reply.prompt


def _made(settings: PageSettings, talker: Talker) -> Markup:
    """Talker, training, codec, seed and command, as far as known."""
    facts = {"talker": settings.talker}
    training = talker.info.get("training", {}).get("preset")
    if training:
        facts["trained"] = f"{training}, {talker.info.get('step', '?')} steps"
    facts["codec"] = talker.info.get("codec", "")
    if settings.seed is not None:
        facts["seed"] = str(settings.seed)
    facts["command"] = settings.command
    return _join(_fill("made", name=name, value=value) for name, value in facts.items() if value)


# ---- the parts of page.html


@cache
def _templates() -> jinja2.Environment:
    """The parts of page.html by name. Values filled in are escaped, unless they are markup already (`Markup`)."""
    text = files("minittt.app").joinpath("page.html").read_text(encoding="utf-8")
    _, *pieces = re.split(r"<!-- part: (\w+) -->\n", text)
    names = pieces[::2]
    parts = [part.rstrip("\n") for part in pieces[1::2]]
    loader = jinja2.DictLoader(dict(zip(names, parts, strict=True)))
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def _fill(part: str, **values) -> Markup:
    """A part of page.html with its values filled in."""
    return Markup(_templates().get_template(part).render(values))


def _join(parts) -> Markup:
    return Markup("").join(parts)


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
    tints = np.round((1 - decibels / FLOOR) * (TINTS - 1))
    palette = colormaps[SPECTRUM](np.linspace(0, 1, TINTS))  # (TINTS, 4)
    return _png(tints, palette)


def _mask(reply: Reply) -> str:
    mask = group_mask(torch.tensor([reply.groups]))[0]  # (L, L)
    return _png(_hatched(shade_mask(mask, reply.kinds, reply.groups)), mask_palette())


def _hatched(shades: np.ndarray) -> np.ndarray:
    """shades (L, L) of `shade_mask` as pixels (height, height), with empty stripes over the keys that are audio heard.

    Without colour, audio heard looks much like text; the stripes tell them apart, as they do in `plotting.draw_mask`.
    """
    scale = -(-MASK_PIXELS // len(shades))  # pixels along a token's side, rounded up
    pixels = np.kron(shades, np.ones((scale, scale), int))
    along = np.arange(len(pixels))
    on_a_stripe = (along[:, None] + along[None, :]) % STRIPE_EVERY < STRIPE_WIDTH
    heard = (pixels == 1 + 2 * SOURCE) | (pixels == 2 + 2 * SOURCE)
    return np.where(heard & on_a_stripe, 0, pixels)


def _sound(wave: np.ndarray | None, rate: int, what: str) -> Markup:
    """A player over a spectrogram; nothing where there is no sound."""
    if wave is None or not len(wave):
        return Markup()
    return _fill(
        "sound",
        what=what,
        khz=f"{rate / 2000:g}",
        seconds=f"{len(wave) / rate:.2f}",
        wav=_wav(wave, rate),
        spectrogram=_spectrogram(wave, rate),
    )


# ---- questions, replies, tokens


class _Show:
    """Makes the sections of a page and collects the `data` of each reply for the page's script."""

    def __init__(self, talker: Talker) -> None:
        self.vocabulary = talker.vocabulary
        self.tokeniser = talker.tokeniser
        self.data: list[dict] = []

    def question(self, numbered: list[tuple[int, Entry]]) -> Markup:
        """One question with all its answers, and how each was made."""
        several = len(numbered) > 1
        _, first = numbered[0]
        title = first.title
        if several:
            title = title.removesuffix(f", {first.steps} steps per block")
        text = Markup()
        if first.question_text is not None:
            text = _fill("said", text=first.question_text)
        sound = _sound(first.question_wave, first.sample_rate, "question")
        return _fill(
            "question",
            title=title,
            many="many" if several else "",
            asked=_join([text, sound]),
            answers=_join(_answer(number, entry, several) for number, entry in numbered),
            makings=_join(self.making(number, entry, several) for number, entry in numbered),
        )

    def making(self, number: int, entry: Entry, several: bool) -> Markup:
        """How a reply was written: controls, sequence, mask; folded up except for the first on the page."""
        reply = entry.reply
        items, frames = replay(reply, self.vocabulary.mask, lambda token: f"“{self.name(token).strip()}”")
        self.data.append(
            {
                "frames": frames,
                "groups": reply.groups,
                "kinds": reply.kinds,
                "first_code": self.vocabulary.first_code,
                "eoa": self.vocabulary.eoa,
            }
        )
        prompt = []
        for i, token in enumerate(reply.prompt):
            prompt.append(Item(token, reply.kinds[i], reply.groups[i], i))
        is_first = not several and number == 0
        controls = Markup()
        if frames:
            controls = _fill("controls", number=number, frames=len(frames))
        return _fill(
            "making",
            number=number,
            open="open" if is_first else "",
            steps=f", {count(entry.steps, 'step')} per block" if several else "",
            controls=controls,
            prompt=self.tokens(prompt, "prompt"),
            reply=self.tokens(items, "reply"),
            length=len(reply.groups),
            mask=_mask(reply),
        )

    def tokens(self, items: list[Item], place: str) -> Markup:
        """A row of tokens, a frame around each group."""
        boxes = []
        for group, run in groupby(items, key=lambda item: item.group):
            tokens = _join(self.token(item) for item in run)
            boxes.append(_fill("group", place=place, tokens=tokens, number=group))
        return _join(boxes)

    def token(self, item: Item) -> Markup:
        """A token as a coloured box."""
        name = self.name(item.id)
        is_text = item.kind == TEXT
        is_dropped = item.position is None
        look = [token_look(name, item.kind)]
        if name == "EOA":
            look.append("eoa")
        if is_dropped:
            look.append("dropped")
        words = name.strip() if is_text else name.replace("#", "code ")
        return _fill(
            "token",
            look=" ".join(look),
            position="" if is_dropped else item.position,
            told=f"{words}, group {item.group}",
            word=(name.strip() or "␣") if is_text else "",
        )

    def name(self, token: int) -> str:
        """A text piece as it is written, or the name of any other id."""
        if token < self.vocabulary.text_size:
            return self.tokeniser.piece(token)
        return self.vocabulary.name(token)


def _bar(name: str, share: float) -> Markup:
    """A share of 1 as a bar and a figure."""
    percent = round(100 * min(1.0, max(0.0, share)))
    return _fill("bar", name=name, percent=percent, value=f"{share:.2f}")


def _answer(number: int, entry: Entry, several: bool) -> Markup:
    """What was answered: text, sound, and whether one voice said it."""
    reply = entry.reply
    n_codes = sum(map(len, reply.spans))
    tokens = f"{count(n_codes, 'audio token')} in {count(len(reply.spans), 'span')}"
    if reply.reason == "limit":
        tokens += ", cut off at the limit of text tokens"
    if reply.guess:
        tokens += f", too unsure to say: {reply.guess}"
    parts = []
    if reply.text:
        parts.append(_fill("said", text=reply.text))
    parts.append(_sound(entry.reply_wave, entry.sample_rate, "answer") or _fill("silent"))
    if entry.confidence is not None:
        parts.append(_bar("confidence", entry.confidence))
    if entry.coherence is not None:
        parts.append(_bar("voice coherence", entry.coherence))
    return _fill(
        "answer",
        number=number,
        steps=f", {count(entry.steps, 'step')} per block" if several else "",
        content=_join(parts),
        forwards=count(reply.nfe, "forward"),
        tokens=tokens,
    )
