"""A talker in one file: weights, sizes, tokeniser, and the name of the codec it speaks through.

`Talker.converse` takes messages as `conversation.render` does and returns replies: text, codes, and every event along
the way. Waveforms are the caller's business (`Talker.listen`, `Talker.sound`).
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minittt.attention import TARGET, TEXT, assign_groups
from minittt.codec import Codec, fitting_weights, flatten, unflatten, write_tensors
from minittt.context import CachedContext
from minittt.data import headers
from minittt.data.conversation import render
from minittt.data.corpus import Corpus
from minittt.data.front_end import front_end_named
from minittt.data.tokenisers import Tokeniser, read_tokeniser
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import (
    BlockClosed,
    Draft,
    End,
    Event,
    Settings,
    SpanClosed,
    TextToken,
    generate,
    random_order,
)
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer
from minittt.objective import PRESETS
from minittt.settings import MAX_SPAN, MAX_SPANS, MAX_TEXT
from minittt.unmasking import Sampling

FORMAT = "minittt talker 1"
ROWS = 64  # conversations per batch, so that memory does not grow with their number


def decoding_settings(
    block: int = 16,
    steps: int = 16,
    temperature: float = 1.0,
    full_span: bool = False,
    policy: Callable[[Draft], Tensor] = random_order,
    first_block: int | None = None,
) -> Settings:
    """How a talker replies wherever it is used: greedy text, audio drawn at `temperature`, the limits of `settings.py`.

    `steps` are per block of `block` slots. full_span: the paper's mode, for talkers trained in one stream.
    """
    return Settings(
        block_size=block,
        first_block=first_block,
        full_span=full_span,
        steps=steps,
        policy=policy,
        text_sampling=Sampling(0.0),
        audio_sampling=Sampling(temperature),
        max_text=MAX_TEXT,
        max_span=MAX_SPAN,
        max_spans=MAX_SPANS,
    )


@dataclass
class Reply:
    """One reply and how it came about."""

    text: str = ""
    # the flattened codes of each audio span, counted from 0
    spans: list[list[int]] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)  # all that was generated
    groups: list[int] = field(default_factory=list)  # of prompt and reply
    kinds: list[int] = field(default_factory=list)  # of prompt and reply
    events: list[Event] = field(default_factory=list)
    nfe: int = 0  # forward passes this reply took part in
    reason: str = ""  # 'end', or 'limit' where max_text was reached
    log_p: list[float] = field(
        default_factory=list
    )  # one for each of its text tokens, including control tokens
    pieces: list[int] = field(default_factory=list)  # the ids that `text` is made of
    overwritten: int = 0  # slots after the first EOA that held anything but EOA
    # text tokens up to and including the first OPEN; None: no sound
    before_sound: int | None = None
    # what the talker would have written, where it was too unsure to say it; `log_p` then belongs to this guess
    guess: str | None = None

    @property
    def certainty(self) -> float:
        """Geometric mean of the network's probabilities of the text tokens, in (0, 1]; nan if there are none.

        Near 1 for what resembles its training data; not a probability of being right until it is calibrated.
        """
        return _geometric_mean(self.log_p)

    @property
    def opening_certainty(self) -> float:
        """The same for the tokens before the first sound: all there is to go by when deciding whether to speak."""
        return _geometric_mean(self.log_p[: self.before_sound])

    def decline(self, guessed: "Reply") -> None:
        """Start over: what `guessed` had written when it was judged is kept as a guess; its forward passes still count."""
        n = len(guessed.log_p)
        fresh = Reply(guess=guessed.text, log_p=guessed.log_p, before_sound=guessed.before_sound, nfe=n)
        self.__dict__.update(fresh.__dict__)

    def __str__(self) -> str:
        return f"{self.text}  ({sum(map(len, self.spans))} audio tokens, {self.nfe} forwards)"


def _geometric_mean(log_p: list[float]) -> float:
    """Geometric mean of probabilities, from their logarithms; nan if there are none."""
    return math.exp(sum(log_p) / len(log_p)) if log_p else math.nan


@dataclass(frozen=True)
class Declining:
    """When a talker that heard a question says that it did not understand instead of guessing (`info["declines"]`)."""

    below: float  # an opening certainty (`Reply.opening_certainty`); a guess that is less sure is not said
    text: str  # what it says instead
    instruction: str  # the only one it applies to: a transcript with a wrong word is still useful

    def declines(self, reply: Reply) -> bool:
        """Whether a guess is too unsure to be said. One that already says that nothing was understood needs no help."""
        is_sure = reply.opening_certainty >= self.below  # nan, if nothing was written: not sure
        return reply.text != self.text and not is_sure


def row_seeds(seed: int | list[int], rows: int) -> list[int]:
    """A seed for each row, derived from a single seed or given as a list."""
    if isinstance(seed, int):
        seeds = [1_000_003 * seed + row for row in range(rows)]
    else:
        seeds = seed
    if len(seeds) != rows:
        raise MinitttError(f"{len(seeds)} seeds for {rows} conversations: give one seed, or one for each")
    return seeds


def row_generators(seed: int | list[int], rows: int) -> list[torch.Generator]:
    """A generator for each row, seeded by `row_seeds`."""
    return [torch.Generator().manual_seed(number) for number in row_seeds(seed, rows)]


class Talker:
    """Model, vocabulary and tokeniser. `info` says what they were trained on and how (`headers.TALKER`)."""

    def __init__(self, model: Transformer, vocabulary: Vocabulary, tokeniser: Tokeniser, info: dict) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.tokeniser = tokeniser
        self.info = info

    def to(self, device: torch.device | str) -> "Talker":
        """Move the model to a device; prompts and logits follow it by themselves. Returns this talker."""
        self.model.to(device)
        return self

    def converse(
        self,
        conversations: list[list],
        settings: Settings,
        seed: int | list[int] = 0,
        max_length: int | None = None,
    ) -> list[Reply]:
        """Reply to each conversation (a list of messages that ends where a reply is due), ROWS of them per forward pass.

        seed: one number, from which each row's seed is derived, or a list with one seed per row: then a reply depends
        only on its own seed, not on its place.
        """
        replies = [Reply() for _ in conversations]
        seeds = row_seeds(seed, len(replies))
        for first in range(0, len(replies), ROWS):
            chosen = slice(first, first + ROWS)
            for event in self.stream(
                conversations[chosen], settings, seeds[chosen], replies[chosen], max_length
            ):
                replies[first + event.row].events.append(event._replace(row=first + event.row))
        return replies

    def stream(
        self,
        conversations: list[list],
        settings: Settings,
        seed: int | list[int],
        replies: list[Reply],
        max_length: int | None = None,
    ) -> Iterator[Event]:
        """Yield events as they happen, filling in `replies` (one empty Reply per conversation).

        If the talker's file says when to decline, the words of a reply to a spoken question are held back until its
        first span is about to open: if they are too unsure, they are dropped, and it says that it did not understand.
        """
        seeds = row_seeds(seed, len(replies))
        if self.declining is None:
            yield from self._replies(conversations, settings, seeds, replies, max_length)
            return
        # 1. Reply; hold back the words of each row that listens until it can be judged.
        held: dict[int, list[Event]] = {
            row: []
            for row, messages in enumerate(conversations)
            if _hears(messages, self.declining.instruction)
        }
        # Rows that are too unsure, as they were when judged: decoding continues them until all rows have ended.
        unsure: dict[int, Reply] = {}
        for event in self._replies(conversations, settings, seeds, replies, max_length):
            row = event.row
            if row in unsure:
                continue
            if row not in held:
                yield event
                continue
            held[row].append(event)
            if isinstance(event, TextToken) and event.id != self.vocabulary.open:
                continue
            events = held.pop(row)
            if not self.declining.declines(replies[row]):
                yield from events
                continue
            unsure[row] = copy.deepcopy(replies[row])
            if len(unsure) == len(replies):
                break  # nobody would hear the rest
        # 2. Those that are too unsure say so.
        if not unsure:
            return
        for row, guessed in unsure.items():
            replies[row].decline(guessed)
        rows = list(unsure)
        chosen = [conversations[row] for row in rows]
        again = [replies[row] for row in rows]
        seeds = [seeds[row] for row in rows]
        for event in self._replies(chosen, settings, seeds, again, max_length, self.declining.text):
            yield event._replace(row=rows[event.row])

    @property
    def declining(self) -> Declining | None:
        """When it says that it did not understand; None: it always guesses."""
        fields = self.info.get("declines")
        return None if fields is None else Declining(**fields)

    def always_guess(self) -> "Talker":
        """From now on, reply however unsure it is. Returns this talker."""
        self.info["declines"] = None
        return self

    def _replies(
        self,
        conversations: list[list],
        settings: Settings,
        seeds: list[int],
        replies: list[Reply],
        max_length: int | None = None,
        words: str = "",
    ) -> Iterator[Event]:
        """Yield events, filling in `replies`. words: what every reply begins with, in place of the talker's own words."""
        begun = self.tokeniser.encode(words) if words else []
        for reply, messages in zip(replies, conversations, strict=True):
            self._prompt(reply, messages, settings, begun)
        limit = max_length or self.model.config.max_length
        longest = max(len(reply.prompt) for reply in replies)
        if longest + MAX_TEXT > limit:
            raise MinitttError(
                f"the question is {longest} tokens long; with a reply it must fit {limit}: make it shorter"
            )
        classes = self.vocabulary.classes()
        room = min(limit, longest + MAX_TEXT + MAX_SPANS * (MAX_SPAN + MAX_SPAN))
        context = CachedContext(self.model, len(replies), self.vocabulary.pad, room, classes)
        generators = row_generators(seeds, len(replies))
        for row, reply in enumerate(replies):
            for token in begun:
                event = TextToken(row, token, 1.0)
                self._note(reply, event)
                yield event
        prompts = [reply.prompt + begun for reply in replies]
        groups = [reply.groups for reply in replies]
        events = generate(context, prompts, groups, classes, settings, generators)
        while True:
            try:
                event = next(events)
            except StopIteration:
                return
            except ValueError as error:  # finite weights may still compute NaN or infinity
                raise MinitttError(
                    f"the talker's network fails ({error}): its weights are damaged, or it was hardly trained"
                ) from error
            if isinstance(event, End) and begun:
                n = len(replies[event.row].prompt)
                written = replies[event.row].groups[n:]
                event = event._replace(ids=(*begun, *event.ids), groups=(*written, *event.groups))
            self._note(replies[event.row], event)
            yield event

    def _prompt(self, reply: Reply, messages: list, settings: Settings, begun: list[int]) -> None:
        """Lay out the messages and the opener of a reply: ids, kinds and groups. The groups include those of `begun`."""
        record = {"messages": [*messages, ["assistant"]]}
        block_size = settings.block_size
        first_block = settings.first_block
        if settings.full_span:
            block_size = None
        if block_size is None:
            first_block = None
        sequence = render(record, self, block_size, first_block, reply=False)
        reply.prompt = sequence.ids
        reply.kinds = list(sequence.kinds)
        kinds = torch.tensor([*sequence.kinds, *[TEXT for _ in begun]])
        reply.groups = assign_groups(kinds, block_size, first_block).tolist()

    def _note(self, reply: Reply, event: Event) -> None:
        """Update the reply with what an event tells."""
        v = self.vocabulary
        if isinstance(event, TextToken) and reply.guess is None:
            reply.log_p.append(math.log(max(event.p, 1e-12)))
            if event.id == v.open and reply.before_sound is None:
                reply.before_sound = len(reply.log_p)
        if isinstance(event, TextToken) and event.id < v.text_size:
            reply.pieces.append(event.id)
            reply.text = self.tokeniser.decode(reply.pieces)
        elif isinstance(event, BlockClosed):
            reply.overwritten += event.changed
        elif isinstance(event, SpanClosed):
            reply.spans.append([code - v.first_code for code in event.ids])
        elif isinstance(event, End):
            reply.ids = list(event.ids)
            reply.nfe += event.nfe
            reply.reason = event.reason
            reply.groups = reply.groups[: len(reply.prompt)] + list(event.groups)
            reply.kinds += [TARGET if v.first_code <= token <= v.eoa else TEXT for token in event.ids]

    def listen(self, codec: Codec, wave: np.ndarray) -> list[int]:
        """A waveform (samples,) at the codec's rate -> flattened codes, as a message part.

        It passes through the front end that this talker was trained with (`front_end.py`; `info` names it).
        """
        self.check_codec(codec)
        front_end = front_end_named(self.info.get("front_end"))
        wave = front_end(wave, codec.config.sample_rate)  # (samples',)
        codes = codec.encode(torch.from_numpy(wave)[None])[0]  # (n_q, T)
        return flatten(codes, codec.config.codebook_size).tolist()

    def sound(self, codec: Codec, span: list[int]) -> np.ndarray:
        """Flattened codes -> waveform (samples,). Codes of an unfinished or disordered last frame are left out."""
        n_codebooks = codec.config.n_codebooks
        size = codec.config.codebook_size
        kept = whole_frames(span, n_codebooks, size)
        if not kept:
            return np.zeros(codec.hop, np.float32)
        codes = unflatten(torch.tensor(kept), n_codebooks, size)  # (n_q, T)
        return codec.decode(codes[None])[0].numpy()

    def check_codec(self, codec: Codec) -> None:
        """Raise MinitttError if this talker was trained on another codec's codes."""
        if codec.fingerprint() != self.info["codec"]:
            raise MinitttError(
                f"this talker speaks through codec {self.info['codec']}, but the codec given is {codec.fingerprint()}: "
                "use the codec it was trained with, or train a talker on this one"
            )

    @property
    def words(self) -> list[str] | None:
        """All words in the text that this talker was trained on, sorted; None if its file is too old to say."""
        return self.info.get("words")

    def check_corpus(self, corpus: Corpus) -> None:
        """Raise MinitttError if the corpus has another tokeniser, codec, vocabulary or front end than this talker's."""
        mine = _belongs_to(self)
        theirs = _belongs_to(corpus)
        wrong = []
        for name, value in mine.items():
            if value is not None and theirs[name] is not None and value != theirs[name]:
                wrong.append(f"{name} {value} and the corpus {theirs[name]}")
        if wrong:
            raise MinitttError(
                f"this talker has {'; '.join(wrong)}: use the corpus it was trained on, or train a talker on this one"
            )

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors = {}
        for name, weight in self.model.state_dict().items():
            tensors[name] = weight.detach().cpu().to(dtype).contiguous()
        if self.model.config.tie_embeddings:
            del tensors["lm_head.weight"]
        tensors["tokeniser"] = torch.frombuffer(bytearray(self.tokeniser.content), dtype=torch.uint8)
        write_tensors(path, tensors, self.header())

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name these weights: a hash of them in half precision, as files hold them."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode() + value.cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]

    def header(self) -> dict[str, str]:
        """What a talker's file says about it, besides what `write_tensors` adds."""
        fields = {
            "model": asdict(self.model.config),
            "vocabulary": asdict(self.vocabulary),
            "info": {**self.info, "tokeniser": self.tokeniser.fingerprint()},
        }
        header = {"format": FORMAT}
        for name, value in fields.items():
            header[name] = json.dumps(value)
        return header

    @classmethod
    def load(cls, path: str | Path) -> "Talker":
        """Read what `save` wrote, in evaluation mode. Raises MinitttError for a missing or foreign file."""
        if not Path(path).is_file():
            raise MinitttError(
                f"{path}: there is no such talker; check the name, or leave --talker out to use the one that comes "
                "with minittt"
            )
        header, tensors = headers.read_file(path, FORMAT)
        config = headers.read_config(path, header, "model", ModelConfig, tensors)
        vocabulary = headers.read_config(path, header, "vocabulary", Vocabulary)
        info = headers.read_object(path, header, "info")
        info = headers.complete(path, info, headers.TALKER, required=("codec",))
        tokeniser = _tokeniser(path, tensors)
        try:
            with torch.device("meta"):  # sizes without memory
                wanted = Transformer(config).state_dict()
            if config.tie_embeddings:
                tensors["lm_head.weight"] = tensors["embed_tokens.weight"]
            weights = fitting_weights(wanted, tensors)
            model = Transformer(config)
            model.load_state_dict(weights)
        except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise MinitttError(
                f"{path}: its weights do not fit its header's field 'model' ({error})"
            ) from error
        if (vocabulary.size, vocabulary.text_size) != (config.vocab_size, len(tokeniser)):
            raise MinitttError(
                f"{path}: its header's field 'vocabulary' has {vocabulary.text_size} pieces and {vocabulary.size} ids, "
                f"but there are {len(tokeniser)} in its tokeniser and {config.vocab_size} in its model"
            )
        return cls(model.eval(), vocabulary, tokeniser, _with_what_follows(info, tokeniser))


def _hears(messages: list, instruction: str) -> bool:
    """Whether the instruction is this one and the message to reply to is a sound: only a listener can mishear."""
    role, *parts = messages[-1]
    is_sound = role == "user" and any(not isinstance(part, str) for part in parts)
    return is_sound and messages[0] == ["system", instruction]


def _tokeniser(path: str | Path, tensors: dict[str, torch.Tensor]) -> Tokeniser:
    """Take the tokeniser out of the tensors of a talker's file."""
    content = tensors.pop("tokeniser", None)
    if content is None or content.dtype != torch.uint8 or content.dim() != 1:
        raise MinitttError(f"{path}: it has no tokeniser: a row of bytes among its tensors")
    return read_tokeniser(content.numpy().tobytes(), f"the tokeniser in {path}")


def _with_what_follows(info: dict, tokeniser: Tokeniser) -> dict:
    """The fields of `info` that an older file lacks and that follow from what it has."""
    name = (info["training"] or {}).get("preset")
    if info["block_sizes"] is None and isinstance(name, str) and name in PRESETS:
        info["block_sizes"] = list(PRESETS[name].block_sizes)
    info["tokeniser"] = tokeniser.fingerprint()
    return info


def _belongs_to(part: Talker | Corpus) -> dict:
    """What a talker and a corpus must agree on, by name; None where a file does not say."""
    facts: dict[str, Any] = {}
    facts["tokeniser"] = part.tokeniser.fingerprint()
    facts["codec"] = part.info["codec"]
    facts["text pieces"] = part.vocabulary.text_size
    facts["codebooks"] = part.vocabulary.n_codebooks
    facts["codes in a codebook"] = part.vocabulary.codebook_size
    facts["front end"] = part.info.get("front_end")
    return facts


def whole_frames(codes: list[int], n_codebooks: int, size: int) -> list[int]:
    """Flattened codes, without frames that are unfinished or do not hold one code of each codebook, in order."""
    kept = []
    for start in range(0, len(codes), n_codebooks):
        frame = codes[start : start + n_codebooks]
        if _is_frame(frame, n_codebooks, size):
            kept += frame
    return kept


def _is_frame(codes: list[int], n_codebooks: int, size: int) -> bool:
    """Whether there is one code of each codebook, in order."""
    books = [code // size for code in codes]
    return books == list(range(n_codebooks))
