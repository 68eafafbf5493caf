"""A reply told while it is being made: every event in the order in which it arises, as a dictionary fit for JSON.

    heard     what was asked, in words
    prompt    the tokens of the question as the network sees them, with kinds and group numbers
    text      a text token was written
    step      some slots of a block were unmasked
    block     a block is complete
    span      a span is complete
    sound     samples that no later code can change
    slot      a single slot was masked and drawn again (`Speaker.again`)
    end       the whole reply, in figures

This module knows nothing of networks and browsers; `serve.py` sends what it yields.
"""

import base64
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import soxr
import torch

from minittt.app import typed
from minittt.app.chat import EXAMPLES, parts_of
from minittt.app.plotting import token_look
from minittt.app.replay import denoising_frame, in_closing
from minittt.app.streaming import sound_along
from minittt.attention import TEXT
from minittt.codec import SILENCE, Codec
from minittt.context import CachedContext
from minittt.data.front_end import edges
from minittt.data.headers import NO_FRONT_END
from minittt.decoding import (
    BlockClosed,
    DenoisingStep,
    Event,
    Settings,
    SpanClosed,
    TextToken,
    sample_tokens,
)
from minittt.errors import MinitttError
from minittt.evaluation.confidence import confidence
from minittt.evaluation.referee import Referee
from minittt.objective import preset
from minittt.settings import DecodingOptions
from minittt.talker import Reply, Talker, decoding_settings
from minittt.unmasking import Sampling, policy_named

EOA = -1  # stands for the end of audio in a slot; a code is given by its number, a masked slot by None
LIKELY = 5  # how many likely codes are named when one slot is drawn again


@dataclass
class Answer:
    """An answer to continue from: the next turn sees it, and each of its slots can be drawn again."""

    id: str
    options: DecodingOptions
    turn: list = field(default_factory=list)  # what was asked and what was answered, as two messages
    reply: Reply = field(default_factory=Reply)


class Speaker:
    """A talker with all it takes to converse with it: its codec and, where one fits, a judge of voices."""

    def __init__(self, name: str, talker: Talker, codec: Codec, judge: Referee | None = None) -> None:
        talker.check_codec(codec)
        style = preset(talker.info["training"]["preset"])
        if style.denoise_text:
            raise MinitttError(
                f"{name} denoises its text too, and has nothing to say before a reply is whole: serve another talker"
            )
        self.name = name
        self.talker = talker
        self.codec = codec
        self.full_span = not style.two_streams
        self.judge = judge
        if judge is not None and judge.config.sample_rate != codec.config.sample_rate:
            self.judge = None

    def about(self) -> dict:
        """What a page says about this talker before it is asked anything."""
        known = set(self.talker.words or [])
        examples = [list(pair) for pair in EXAMPLES if set(pair[0].split()) <= known]
        voices = [] if self.judge is None else list(self.judge.config.voices)
        training = self.talker.info["training"]
        return {
            "name": self.name,
            "trained": f"{training.get('preset')}, {self.talker.info.get('step', '?')} steps",
            "codec": self.talker.info["codec"],
            "rate": self.codec.config.sample_rate,
            "codebooks": self.codec.config.n_codebooks,
            "blocks": self.talker.info.get("block_sizes"),
            "full_span": self.full_span,
            "examples": examples,
            "voices": voices,
        }

    # ---- asking

    def hear(self, wave: np.ndarray, rate: int) -> list[int]:
        """A take (samples,) at any rate in Hz -> its codes, as a message part.

        A talker without a front end was trained on recordings that begin with speech, but people who press a button are
        silent at first. So its takes are trimmed to what stands out; any other talker's front end does that itself.
        Raises MinitttError if there is nothing to hear.
        """
        own_rate = self.codec.config.sample_rate
        wave = soxr.resample(wave, rate, own_rate).astype(np.float32)
        if len(wave) < self.codec.hop or np.abs(wave).max() < SILENCE:
            raise MinitttError(
                "nothing was heard: hold the button while you speak, and see that the microphone is on"
            )
        if self.talker.info.get("front_end", NO_FRONT_END) == NO_FRONT_END:
            start, stop = edges(wave, own_rate)
            wave = wave[start:stop]
        return self.talker.listen(self.codec, wave)

    def read(self, text: str) -> str:
        """A typed question as a message part, in the words that the talker was taught."""
        return typed.question(text, self.talker.words)

    def in_words(self, part: str | list[int]) -> str:
        """What was asked, in words: as typed, or as the talker transcribes what it heard."""
        if isinstance(part, str):
            return part
        settings = replace(decoding_settings(), max_spans=0)  # text only
        [reply] = self.talker.converse([[["system", "transcribe"], ["user", part]]], settings)
        return reply.text

    # ---- answering

    def tell(self, part: str | list[int], before: list, answer: Answer) -> Generator[dict, None, None]:
        """Answer a question, filling in `answer`; before: an earlier turn for the talker to see as well, or nothing."""
        begin = time.perf_counter()
        yield {"event": "heard", "text": self.in_words(part)}
        messages = [["system", "answer"], *before, ["user", part]]
        reply = answer.reply
        telling = Telling(self.talker, reply, self.full_span)
        first_sound = None
        seed = answer.options.seed
        events = self.talker.stream([messages], self._settings(answer.options), seed, [reply])
        for event, samples in sound_along(self.talker, self.codec, events):
            if not reply.events:
                yield telling.prompt()
            reply.events.append(event)
            yield from telling.tell(event)
            if len(samples):
                first_sound = first_sound or time.perf_counter() - begin
                yield {"event": "sound", "pcm": pcm(samples)}
        answer.turn = [["user", part], ["assistant", *parts_of(reply, self.talker)]]
        yield self._end(answer, time.perf_counter() - begin, first_sound)

    def _settings(self, options: DecodingOptions) -> Settings:
        return decoding_settings(
            options.block,
            options.steps,
            options.temperature,
            full_span=self.full_span,
            policy=policy_named(options.policy),
        )

    def _end(self, answer: Answer, seconds: float, first_sound: float | None) -> dict:
        """The figures of a whole reply. `answer.id` is what the next turn, or `again`, continues from."""
        reply = answer.reply
        waves = [self.talker.sound(self.codec, span) for span in reply.spans]
        voice, share, along = self._voices(waves)
        chance = confidence(self.talker.info, reply.certainty)
        return {
            "event": "end",
            "answer": answer.id,
            "text": reply.text,
            "guess": reply.guess,
            "reason": reply.reason,
            "forwards": reply.nfe,
            "codes": sum(map(len, reply.spans)),
            "groups": reply.groups,
            "confidence": None if chance is None else round(chance, 3),
            "certainty": round(reply.certainty, 3) if reply.log_p else None,
            "voice": voice,
            "coherence": share,
            "voices": along,
            "seconds": round(seconds, 3),
            "first_sound": None if first_sound is None else round(first_sound, 3),
        }

    def _voices(self, waves: list[np.ndarray]) -> tuple[int, float | None, list[list[int]]]:
        """The voice of an answer (-1: none), its share in that voice, and the voice around each frame of each span."""
        if self.judge is None or not waves:
            return -1, None, []
        wave = np.concatenate(waves)
        along = [self.judge.voices_along(wave, self.codec.hop).tolist() for wave in waves]
        return self.judge.voice_of(wave), round(self.judge.voice_coherence(wave), 3), along

    # ---- one slot again

    def again(self, old: Answer, position: int, seed: int, new: Answer) -> Generator[dict, None, None]:
        """Mask one slot of an answer and draw it again, filling in `new`; all other tokens stay as they are.

        position: in prompt and reply. The network sees what it saw when it denoised: all earlier groups, and the rest of the
        slot's own group. Raises MinitttError for a position that holds no code.
        """
        begin = time.perf_counter()
        v = self.talker.vocabulary
        reply = old.reply
        ids = [*reply.prompt, *reply.ids]
        if not len(reply.prompt) <= position < len(ids) or not v.first_code <= ids[position] < v.eoa:
            raise MinitttError(f"position {position} holds no code of this answer: choose one of its slots")
        # 1. One forward, with that slot masked.
        p, drawn = self._draw(ids, reply.groups, position, new.options.temperature, seed)
        code = v.first_code + drawn
        ranked = p.argsort(descending=True)[:LIKELY].tolist()
        yield {
            "event": "slot",
            "position": position,
            "was": ids[position] - v.first_code,
            "now": drawn,
            "p": round(float(p[drawn]), 4),
            "entropy": _share_of_highest(float(torch.special.entr(p).sum()), len(p)),
            "likely": [[code, round(float(p[code]), 4)] for code in ranked],
        }
        # 2. The answer with the new code.
        ids[position] = code
        new.reply = replace(reply, ids=ids[len(reply.prompt) :], events=[])
        parts = parts_of(new.reply, self.talker)
        new.reply.spans = [part for part in parts if isinstance(part, list)]
        new.turn = [old.turn[0], ["assistant", *parts]]
        # 3. All of its sound: in a codec that looks ahead, neighbouring samples change, too.
        waves = [self.talker.sound(self.codec, span) for span in new.reply.spans]
        yield {"event": "sound", "pcm": pcm(np.concatenate(waves))}
        yield self._end(new, time.perf_counter() - begin, None)

    @torch.no_grad()
    def _draw(
        self, ids: list[int], groups: list[int], position: int, temperature: float, seed: int
    ) -> tuple[torch.Tensor, int]:
        """The network's probabilities (codes,) for a masked slot, and the code drawn; the end of audio is not among them.

        An end in the middle of a span would discard everything after it, and this is about a single slot.
        """
        v = self.talker.vocabulary
        start = groups.index(groups[position])
        stop = start + groups.count(groups[position])
        draft = list(ids[start:stop])
        draft[position - start] = v.mask
        context = CachedContext(self.talker.model, 1, v.pad, self.talker.model.config.max_length, v.classes())
        logits = context.step(  # (1, 1 + D, V)
            torch.tensor([ids[:start]]), torch.tensor([groups[:start]]), torch.tensor([draft])
        )
        at_slot = logits[0, 1 + position - start, v.first_code : v.eoa].cpu().double()  # (codes,)
        u = torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        drawn = sample_tokens(Sampling(temperature)(at_slot[None]), u)
        return at_slot.softmax(-1), int(drawn)


class Telling:
    """The events of one reply as dictionaries. It counts groups itself, as the decoder reports them only at the end."""

    def __init__(self, talker: Talker, reply: Reply, full_span: bool) -> None:
        self.talker = talker
        self.vocabulary = talker.vocabulary
        self.reply = reply
        self.full_span = full_span
        self.group = -1

    def prompt(self) -> dict:
        """The question as the network sees it: a name, a look and a group for each token."""
        reply = self.reply
        self.group = reply.groups[len(reply.prompt) - 1]
        tokens = []
        for token, kind, group in zip(reply.prompt, reply.kinds, reply.groups, strict=False):
            name = self.name(token)
            tokens.append({"name": name.strip(), "look": token_look(name, kind), "group": group})
        return {"event": "prompt", "tokens": tokens}

    def tell(self, event: Event) -> Iterator[dict]:
        """What a page is told of one event of the decoder."""
        if isinstance(event, TextToken):
            yield self._text(event)
        elif isinstance(event, DenoisingStep):
            yield self._step(event)
        elif isinstance(event, BlockClosed):
            yield {"event": "block", "slots": self._slots(event.ids), "say": in_closing(event).strip("; ")}
        elif isinstance(event, SpanClosed):
            yield {"event": "span", "codes": len(event.ids)}

    def _text(self, event: TextToken) -> dict:
        self.group += 1
        name = self.name(event.id)
        return {
            "event": "text",
            "name": name.strip(),
            "look": token_look(name, TEXT),
            "group": self.group,
            "p": round(event.p, 4),
            "text": self.reply.text,
        }

    def _step(self, event: DenoisingStep) -> dict:
        # each block is a group; where the whole span is one group, only its first block begins it
        if event.step == 0 and not (self.full_span and event.block):
            self.group += 1
        choices = len(self.vocabulary.audio_choices())
        return {
            "event": "step",
            "span": event.span,
            "block": event.block,
            "step": event.step,
            "group": self.group,
            "slots": self._slots(event.ids),
            "revealed": list(event.revealed),
            "entropy": [_share_of_highest(entropy, choices) for entropy in event.entropies],
            "say": denoising_frame(event, self.vocabulary.mask)["say"],
        }

    def _slots(self, ids: tuple[int, ...]) -> list[int | None]:
        v = self.vocabulary
        special = {v.mask: None, v.eoa: EOA}
        return [special.get(token, token - v.first_code) for token in ids]

    def name(self, token: int) -> str:
        """A text piece as it is written, or the name of any other id."""
        if token < self.vocabulary.text_size:
            return self.talker.tokeniser.piece(token)
        return self.vocabulary.name(token)


def _share_of_highest(entropy: float, choices: int) -> float:
    """Entropy in nats as a share of the highest possible for this many choices: 0 is certain, 1 knows nothing."""
    return round(max(0.0, entropy) / math.log(choices), 3)


def pcm(wave: np.ndarray) -> str:
    """A wave (samples,) as 16-bit little-endian numbers in base64."""
    samples = (np.clip(wave, -1, 1) * 32767).round().astype("<i2")
    return base64.b64encode(samples.tobytes()).decode()


def wave_of(text: str) -> np.ndarray:
    """What `pcm` made, as a wave (samples,) float32. Raises MinitttError for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise MinitttError("sound must be 16-bit samples in base64") from error
    if len(data) % 2:
        raise MinitttError(f"sound must be 16-bit samples, and {len(data)} bytes are no whole number of them")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32767
