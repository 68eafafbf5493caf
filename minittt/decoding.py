"""The AR/NAR block decoder: text is written left to right, audio spans are filled in by iterative unmasking.

The network hides behind one method, `Context.step`. Each row of a batch is a little program of its own,
`_Row.run`, that asks for forwards and is sent logits; one forward serves whatever each row needs just then:

    writing text        commit the last token,      draft nothing          -> the next token
    opening a span      commit the opening token,   draft a masked block   -> some of its slots
    denoising           commit nothing,             draft the block        -> some more of its slots
    closing a block     commit the finished block,  draft the next one, or nothing: text follows

So a reply costs one forward per text token and one per denoising step, none for opening or closing. Which
slots a step reveals is a policy: `random_order` here, more in `unmasking.py`, beside temperature and top-k.

```python
import torch
from decoding import Settings, TokenClasses, collect, generate
class Babbler:  # ids: 0..2 letters, 3 open_audio, 4 end, 5..7 audio codes, 8 end_audio, 9 mask, 10 pad
    def step(self, commit, commit_groups, draft):
        return torch.zeros(len(commit), 1 + draft.shape[1], 11)  # (B, 1 + D, V): everything equally likely

ids = torch.arange(11)
classes = TokenClasses(ids < 5, (ids >= 5) & (ids < 9), open_audio=3, end_audio=8, end=4, mask=9, pad=10)
settings, generator = Settings(block_size=4, steps=2, max_text=20, max_span=12), torch.Generator()
[reply] = collect(generate(Babbler(), [[0, 3]], [[0, 1]], classes, settings, [generator.manual_seed(0)]))
print(reply.text, reply.spans, reply.reason, reply.nfe)
# (2, 1, 3, 4) ((7, 6, 6), ()) end 8
```
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Context(Protocol):
    """A network that remembers, batched by rows. It is given CPU tensors; its logits may live anywhere."""

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """Append `commit` (B, C) with its groups (B, C) for good; look at `draft` (B, D), one new group after
        all committed, without keeping it. A row's real slots come first; absent ones have group -1 in commit,
        the pad id in draft. Returns logits (B, 1 + D, V): [:, 0] after the row's last committed token,
        [:, 1:] at the draft's own positions."""


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """What a decoder must know of the id line. Raises ValueError if the classes contradict each other."""

    text: Tensor  # (V,) bool: what a text step may emit (text pieces, open_audio, end)
    audio: Tensor  # (V,) bool: what an audio slot may hold (codes, end_audio)
    open_audio: int
    end_audio: int
    end: int
    mask: int
    pad: int

    def __post_init__(self) -> None:
        if self.text.shape != self.audio.shape or (self.text & self.audio).any():
            raise ValueError("text and audio must be disjoint boolean vectors over the same ids")
        if not (self.text[self.open_audio] and self.text[self.end] and self.audio[self.end_audio]):
            raise ValueError("open_audio and end must be text, end_audio must be audio")
        if (self.text | self.audio)[[self.mask, self.pad]].any():
            raise ValueError("mask and pad must be neither text nor audio: they may never be emitted")


class Draft(NamedTuple):
    """What a policy may look at when it chooses the slots to reveal: D slots, A audio ids."""

    masked: Tensor  # (D,) bool: the slots still masked
    p: Tensor  # (D, A): the network's probabilities, before temperature and truncation
    candidates: Tensor  # (D,): the token drawn for each slot, as an index into A
    noise: Tensor  # (D,): fresh uniform numbers, so that a random policy is a pure function too
    steps_left: int  # this step included


def random_order(draft: Draft) -> Tensor:
    """An even share of the masked slots, all equally likely -> (D,) bool. One a step is any-order AR."""
    share = -(-int(draft.masked.sum()) // draft.steps_left)
    order = draft.noise.masked_fill(~draft.masked, torch.inf).argsort()  # (D,)
    return torch.zeros_like(draft.masked).index_fill(0, order[:share], True)


@dataclass(frozen=True)
class Settings:
    """How to decode. Raises ValueError naming the setting that makes no sense."""

    block_size: int | None = 8  # slots denoised together; None: the whole span, on a canvas of max_span
    first_block: int | None = None  # another size for the first block of a span (sound starts sooner)
    full_span: bool = False  # the paper's mode: a span is one group, redrafted whole, committed when closed
    steps: int = 8  # per block, one slot or more each; policies with a threshold take as many as they need
    policy: Callable[[Draft], Tensor] = random_order  # -> (D,) bool: the slots to reveal
    text_sampling: Callable[[Tensor], Tensor] = lambda logits: logits  # (N, A) -> what to draw from, (N, A)
    audio_sampling: Callable[[Tensor], Tensor] = lambda logits: logits
    max_text: int = 256  # text tokens in all, the last of which is forced to be the end
    max_span: int = 512  # audio slots of a span: where no further block fits, its last slot becomes end_audio
    max_spans: int = 16  # after these, text can open no more

    def __post_init__(self) -> None:
        for name in ("block_size", "first_block", "steps", "max_text", "max_span", "max_spans"):
            value, least, optional = getattr(self, name), int(name != "max_spans"), "block" in name
            if not (value is None and optional) and (type(value) is not int or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.first_block and not self.block_size:
            raise ValueError("first_block needs a block_size: without one the span is a single block")
        if max(self.block_size or 0, self.first_block or 0) > self.max_span:
            raise ValueError(f"block_size and first_block must fit into max_span, {self.max_span} slots")


class TextToken(NamedTuple):
    row: int
    id: int


class DenoisingStep(NamedTuple):
    row: int
    span: int  # counted from 0 in the row, as block is in the span, and step in the block
    block: int
    step: int
    ids: tuple[int, ...]  # the block now, the mask id where still masked
    revealed: tuple[int, ...]  # slots of the block revealed in this step
    entropies: tuple[float, ...]  # nats, the network's, one per slot, before revealing


class BlockClosed(NamedTuple):
    row: int
    ids: tuple[int, ...]  # all after the first end_audio is end_audio
    changed: int  # slots that this rule, or force, overwrote
    forced: bool  # max_span was reached without an end_audio, so the last slot was made one


class SpanClosed(NamedTuple):
    row: int
    ids: tuple[int, ...]  # audio codes alone


class End(NamedTuple):
    row: int
    reason: str  # 'end' chosen by the network, or 'limit': max_text was reached
    ids: tuple[int, ...]  # all that follows the prompt, end_audio filler and end included
    groups: tuple[int, ...]
    text: tuple[int, ...]  # the text tokens among ids, open_audio and end included
    spans: tuple[tuple[int, ...], ...]  # the audio codes of each span
    changed: int  # slots overwritten, and spans closed by force, in all
    forced: int
    nfe: int  # forwards this row took part in


Event = TextToken | DenoisingStep | BlockClosed | SpanClosed | End


def draw(logits: Tensor, u: Tensor) -> Tensor:
    """Invert the distribution function of each row of logits (N, A) at u (N,) in [0, 1) -> index (N,)."""
    if not logits.amax(-1).isfinite().all():
        raise ValueError("the logits of the allowed tokens hold nan, +inf, or nothing above -inf")
    cdf = logits.softmax(-1).cumsum(-1)  # (N, A)
    return torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)[:, 0]


class _Row:
    """One reply being written: a coroutine that yields events and `ask`s, and is sent logits (1 + D, V)."""

    def __init__(self, row: int, prompt, groups, generator, classes: TokenClasses, settings: Settings):
        self.row, self.generator, self.classes, self.settings = row, generator, classes, settings
        self.ids, self.groups, self.start, self.committed = list(prompt), list(groups), len(prompt), 0
        self.text, self.spans, self.changed, self.forced, self.nfe = [], [], 0, 0, 0

    def append(self, ids: list[int]) -> None:  # one new group, to be committed by the next forward
        self.groups += [self.groups[-1] + 1] * len(ids)
        self.ids += ids

    def ask(self, draft: list[int]) -> list[list[int]]:  # [commit, commit_groups, draft] of the next forward
        start, self.committed, self.nfe = self.committed, len(self.ids), self.nfe + 1
        return [self.ids[start:], self.groups[start:], draft]

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, dtype=torch.float64, generator=self.generator)

    def run(self) -> Generator[Event | list, Tensor, None]:
        c, s, last = self.classes, self.settings, self.ids[-1]
        while last != c.end or not self.text:
            if last == c.open_audio:
                yield from self.speak()
            allowed = c.text.clone()  # (V,)
            allowed[c.open_audio] = len(self.spans) < s.max_spans
            logits = _restrict((yield self.ask([])), allowed)  # (1, A)
            drawn = int(allowed.nonzero()[draw(s.text_sampling(logits), self.uniform(1))])
            last = c.end if len(self.text) == s.max_text - 1 else drawn
            self.append([last])
            self.text.append(last)
            yield TextToken(self.row, last)
        reason, new = "end" if drawn == c.end else "limit", slice(self.start, None)
        told = (tuple(x) for x in (self.ids[new], self.groups[new], self.text, self.spans))
        yield End(self.row, reason, *told, self.changed, self.forced, self.nfe)

    def speak(self) -> Generator[Event | list, Tensor, None]:
        """One audio span, block by block, until a block holds end_audio."""
        c, s, slots, number = self.classes, self.settings, [], 0
        size, one_group = s.block_size or s.max_span, s.full_span or s.block_size is None
        while c.end_audio not in slots:
            n = size if slots else s.first_block or size
            shown = slots if one_group else []  # closed blocks of the span that are not committed yet
            drawn = yield from self.denoise(shown, n, number)
            forced = c.end_audio not in drawn and len(slots) + n + size > s.max_span
            kept = drawn.index(c.end_audio) if c.end_audio in drawn else n - forced
            block = drawn[:kept] + [c.end_audio] * (n - kept)
            changed = sum(a != b for a, b in zip(drawn, block, strict=True))
            self.changed, self.forced = self.changed + changed, self.forced + forced
            yield BlockClosed(self.row, tuple(block), changed, forced)
            slots, number = slots + block, number + 1
            if not one_group:
                self.append(block)
        codes = slots[: slots.index(c.end_audio)]
        if one_group:
            self.append([*codes, c.end_audio])  # no filler: there are no whole blocks to fill
        self.spans.append(tuple(codes))
        yield SpanClosed(self.row, tuple(codes))

    def denoise(self, shown: list[int], n: int, number: int) -> Generator[Event | list, Tensor, list[int]]:
        """A block of n slots: draw candidates for all, keep what the policy reveals, until none is masked."""
        c, s, span = self.classes, self.settings, len(self.spans)
        audio = c.audio.nonzero()[:, 0]  # (A,)
        block, masked = torch.full((n,), c.mask), torch.ones(n, dtype=torch.bool)  # (D,), (D,)
        for step in range(n):
            logits = yield self.ask(shown + block.tolist())
            logits = _restrict(logits[1 + len(shown) :], c.audio)  # (D, A)
            p, candidates = logits.softmax(-1), draw(s.audio_sampling(logits), self.uniform(n))
            reveal = s.policy(Draft(masked, p, candidates, self.uniform(n), max(1, s.steps - step)))
            if not reveal.any() or (reveal & ~masked).any():
                raise ValueError("an unmasking policy must reveal at least one slot, and only masked ones")
            block, masked = torch.where(reveal, audio[candidates], block), masked & ~reveal
            now = (tuple(x.tolist()) for x in (block, reveal.nonzero()[:, 0], torch.special.entr(p).sum(-1)))
            yield DenoisingStep(self.row, span, number, step, *now)
            if not masked.any():
                break
        return block.tolist()


def _restrict(logits: Tensor, allowed: Tensor) -> Tensor:
    """Class restriction: logits (N, V) -> the allowed columns alone, (N, A), in float64 on the CPU."""
    return logits[:, allowed.nonzero()[:, 0].to(logits.device)].cpu().double()


def generate(
    context: Context,
    prompts: list[list[int]],
    prompt_groups: list[list[int]],
    classes: TokenClasses,
    settings: Settings,
    generators: list[torch.Generator],
) -> Iterator[Event]:
    """Continue every prompt (ids with their groups) to its end, as a stream of events; it always ends.

    A prompt that ends with open_audio goes on with audio. A row draws from its own (CPU) generator alone, so
    its reply does not depend on its company. Raises ValueError for prompts that cannot be continued.
    """
    if not len(prompts) == len(prompt_groups) == len(generators) == len({id(g) for g in generators}):
        raise ValueError("give each row a prompt, its groups, and a generator of its own")
    rows = list(enumerate(zip(prompts, prompt_groups, generators, strict=True)))
    for row, (ids, groups, _) in rows:
        if not ids or len(ids) != len(groups) or groups[0] < 0 or list(groups) != sorted(groups):
            raise ValueError(f"prompt {row} needs ids, and a group for each, from 0 up, never falling")
        if classes.mask in ids or classes.pad in ids:
            raise ValueError(f"prompt {row} holds the mask or the pad id")
    return _drive(context, [_Row(row, *given, classes, settings).run() for row, given in rows], classes)


def _drive(context: Context, programs: list[Generator], classes: TokenClasses) -> Iterator[Event]:
    """Run each row up to its next `ask`, answer them all with one forward, and so on."""
    answers: dict[int, Tensor | None] = dict.fromkeys(range(len(programs)))
    while True:
        asks = [[[], [], []] for _ in programs]
        for row, answer in list(answers.items()):
            said = programs[row].send(answer)
            while said and not isinstance(said, list):  # an event
                yield said
                said = next(programs[row], None)
            if said:
                asks[row] = said
            else:
                del answers[row]
        if not answers:
            return
        given = []  # commit, commit_groups (B, C), draft (B, D)
        for i, absent in enumerate((classes.pad, -1, classes.pad)):
            columns = [torch.tensor(ask[i], dtype=torch.long) for ask in asks]
            given.append(pad_sequence(columns, batch_first=True, padding_value=absent))
        with torch.no_grad():
            logits = context.step(*given)  # (B, 1 + D, V)
        answers = {row: logits[row, : 1 + len(asks[row][2])] for row in answers}


def collect(events: Iterable[Event]) -> list[End]:
    """Run a stream of events to its end -> what became of each row, in the order of rows."""
    return sorted((event for event in events if isinstance(event, End)), key=lambda end: end.row)
