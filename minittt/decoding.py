"""The AR/NAR block decoder: text is written left to right, audio spans are filled in by iterative unmasking.

The network hides behind one method, `Context.step`. Each row of a batch is an explicit state (`Row`), and
`generate` is one loop over three things: every row says what it needs from the next forward, one forward
serves them all, and every row takes one step with its logits:

    a row that is             commits                 drafts                      and reads
    writing text              its last token          nothing                     the next token
    opening a span            the opening token       a block of masked slots     some of its slots
    denoising                 nothing                 the block as it is now      some more of its slots
    closing a block           the finished block      the next block, or nothing  as above

Opening and closing are moments, not states: they share the forward of what comes next. So a reply costs one
forward per text token and one per denoising step. How many slots a step reveals, and which, is decided by a
policy: `random_order` here (an even share of those still masked), more in `unmasking.py`.

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

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Context(Protocol):
    """A network that remembers, batched by rows. It is given CPU tensors; its logits may live anywhere."""

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """Append `commit` (B, C) with its groups (B, C) for good. Then look at `draft` (B, D), without keeping it:
        it forms one new group after everything committed. A row's real slots come first; absent ones have group
        -1 in commit, the pad id in draft. Returns logits (B, 1 + D, V): [:, 0] after the row's last committed
        token, [:, 1:] at the draft's own positions.

        What implementers ask: the first call commits the whole prompt of every row; positions are the
        context's business; a row that has ended keeps arriving, with nothing to commit and nothing drafted;
        [:, 0] is read only where nothing is drafted; pad must be an id the network can embed, or be replaced.
        """


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """What a decoder must know about the vocabulary. Raises ValueError if the classes contradict each other."""

    text: Tensor  # (V,) bool: what a text step may emit (text pieces, open_audio, end)
    audio: Tensor  # (V,) bool: what an audio slot may hold (codes, end_audio)
    open_audio: int
    end_audio: int
    end: int
    mask: int
    pad: int
    codebook: Tensor | None = None  # (V,) long: of each code, from 0 on; None: there is one codebook

    def __post_init__(self) -> None:
        if self.codebook is not None and self.codebook.shape != self.audio.shape:
            raise ValueError("codebook must name one for each id; only those of codes are looked at")
        if self.text.shape != self.audio.shape or (self.text & self.audio).any():
            raise ValueError("text and audio must be disjoint boolean vectors over the same ids")
        if not (self.text[self.open_audio] and self.text[self.end] and self.audio[self.end_audio]):
            raise ValueError("open_audio and end must be text, end_audio must be audio")
        if (self.text | self.audio)[[self.mask, self.pad]].any():
            raise ValueError("mask and pad must be neither text nor audio: they may never be emitted")

    @cached_property
    def text_ids(self) -> Tensor:
        """What a text step may emit, rising, (T,); found once, as `audio_ids` is: an LLM has 150,000 of them."""
        return self.text.nonzero()[:, 0]

    @cached_property
    def audio_ids(self) -> Tensor:
        """What an audio slot may hold, rising, (A,)."""
        return self.audio.nonzero()[:, 0]


class Draft(NamedTuple):
    """What a policy may look at when it chooses the slots to reveal: D slots, A audio ids."""

    masked: Tensor  # (D,) bool: the slots still masked
    p: Tensor  # (D, A): the network's probabilities, before temperature and truncation
    candidates: Tensor  # (D,): the token drawn for each slot, as an index into A
    noise: Tensor  # (D,): fresh uniform numbers, so that a random policy is a pure function too
    steps_left: int  # this step included


def random_order(draft: Draft) -> Tensor:
    """An even share of the masked slots, all equally likely -> (D,) bool. One slot per step is any-order AR.

    `unmasking.py` has the same policy; this copy lets the file stand alone.
    """
    n_masked = int(draft.masked.sum())
    share = -(-n_masked // draft.steps_left)  # rounded up
    order = draft.noise.masked_fill(~draft.masked, torch.inf).argsort()  # (D,)
    return torch.zeros_like(draft.masked).index_fill(0, order[:share], True)


@dataclass(frozen=True)
class Settings:
    """How to decode. Raises ValueError naming the setting that makes no sense."""

    block_size: int | None = 8  # slots denoised together; None: the whole span, on a canvas of max_span
    first_block: int | None = None  # a smaller first block of a span (sound starts sooner)
    # the paper's mode: with blocks too, a span is one group, drafted anew until closed
    full_span: bool = False
    steps: int = 8  # per block, one slot or more each; policies with a threshold take as many as they need
    policy: Callable[[Draft], Tensor] = random_order  # -> (D,) bool: the slots to reveal
    text_sampling: Callable[[Tensor], Tensor] = lambda logits: logits  # (N, A) -> what to draw from, (N, A)
    audio_sampling: Callable[[Tensor], Tensor] = lambda logits: logits
    max_text: int = 256  # text tokens in all, the last of which is forced to be the end
    # audio slots of a span; where no further block fits, the last block's last slot is end_audio
    max_span: int = 512
    max_spans: int = 16  # after these, text can open no more

    def __post_init__(self) -> None:
        for name in ("steps", "max_text", "max_span"):
            self._check_whole_number(name, least=1)
        self._check_whole_number("max_spans", least=0)
        for name in ("block_size", "first_block"):
            if getattr(self, name) is not None:
                self._check_whole_number(name, least=1)
        if self.first_block is not None and self.block_size is None:
            raise ValueError("first_block needs a block_size: without one the span is a single block")
        if self.first_block is not None and self.first_block > self.block_size:
            raise ValueError(
                f"first_block must be at most block_size, {self.block_size} slots, not {self.first_block}: "
                f"no training shows a larger first block"
            )
        if self.block_size is not None and self.block_size > self.max_span:
            raise ValueError(f"block_size must fit into max_span, {self.max_span} slots")

    def _check_whole_number(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


class TextToken(NamedTuple):
    """A text token was written."""

    row: int
    id: int
    p: float = float("nan")  # the network's probability of it, among the ids that were allowed


class DenoisingStep(NamedTuple):
    """Some slots of a block were revealed."""

    row: int
    span: int  # counted from 0 in the row, as block is in the span, and step in the block
    block: int
    step: int
    ids: tuple[int, ...]  # the block now, the mask id where still masked
    revealed: tuple[int, ...]  # slots of the block revealed in this step
    entropies: tuple[float, ...]  # nats, the network's, one per slot, before revealing


class BlockClosed(NamedTuple):
    """No slot of a block is masked any more."""

    row: int
    ids: tuple[int, ...]  # everything after the first end_audio is end_audio
    changed: int  # slots that this rule, or force, overwrote
    forced: bool  # max_span was reached without an end_audio, so the last slot was made one


class SpanClosed(NamedTuple):
    """A block held end_audio: its span is complete."""

    row: int
    ids: tuple[int, ...]  # audio codes only


class End(NamedTuple):
    """A reply is complete."""

    row: int
    reason: str  # 'end' chosen by the network, or 'limit': max_text was reached
    ids: tuple[int, ...]  # all that follows the prompt, end_audio filler and end included
    groups: tuple[int, ...]
    text: tuple[int, ...]  # the text tokens among ids, open_audio and end included
    spans: tuple[tuple[int, ...], ...]  # the audio codes of each span
    changed: int  # slots overwritten, in all
    forced: int  # spans closed by force
    nfe: int  # number of function evaluations: forwards this row took part in


Event = TextToken | DenoisingStep | BlockClosed | SpanClosed | End


def sample_tokens(logits: Tensor, u: Tensor) -> Tensor:
    """Invert the distribution function of each row of logits (N, A) at u (N,) in [0, 1) -> index (N,).

    Raises ValueError for NaN, +inf, or a row with nothing above -inf.
    """
    if not logits.amax(-1).isfinite().all():
        raise ValueError("the logits of the allowed tokens hold nan, +inf, or nothing above -inf")
    cdf = logits.softmax(-1).cumsum(-1)  # (N, A)
    return torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)[:, 0]


class Row:
    """One reply while it is being written: everything the decoder knows of it between two forwards.

    A row is always in one of three states: writing text (`block` is None), denoising a block, or `done`.
    """

    def __init__(
        self,
        number: int,
        prompt: list[int],
        groups: list[int],
        generator: torch.Generator,
        classes: TokenClasses,
        settings: Settings,
    ) -> None:
        self.number = number
        self.generator = generator
        self.classes = classes
        self.settings = settings
        self.audio_ids = classes.audio_ids  # (A,)
        self.n_codebooks = 1
        if classes.codebook is not None:
            codes = self.audio_ids[self.audio_ids != classes.end_audio]
            self.n_codebooks = int(classes.codebook[codes].max()) + 1
        # the sequence: the prompt and everything finished since
        self.ids = list(prompt)
        self.groups = list(groups)
        self.prompt_length = len(prompt)
        self.n_committed = 0  # how many of `ids` the context has been given
        # the reply
        self.text: list[int] = []
        self.spans: list[tuple[int, ...]] = []
        # the open span, if there is one
        self.span: list[int] = []  # the slots of its closed blocks
        self.block: Tensor | None = None  # (D,): the block being denoised, the mask id where still masked
        self.block_number = 0
        self.step = 0
        # counters
        self.changed = 0
        self.forced = 0
        self.nfe = 0
        self.done = False
        if self.ids[-1] == classes.open_audio:
            self._open_block()

    # --- what the row needs from the next forward

    def to_commit(self) -> tuple[list[int], list[int]]:
        """Ids and groups that are finished and that the context has not been given yet; none once done."""
        if self.done:
            return [], []
        return self.ids[self.n_committed :], self.groups[self.n_committed :]

    def to_draft(self) -> list[int]:
        """The slots to look at without keeping them: none while text is written."""
        if self.block is None:
            return []
        return self._uncommitted() + self.block.tolist()

    # --- one step, with the logits of that forward

    def advance(self, logits: Tensor) -> Iterator[Event]:
        """Take one step with this row's logits (1 + D, V): a text token, or some slots of a block."""
        self.n_committed = len(self.ids)
        self.nfe += 1
        if self.block is None:
            yield from self._write_text(logits[0])
        else:
            first_slot = 1 + len(self._uncommitted())
            yield from self._denoise(logits[first_slot:])

    def _write_text(self, logits: Tensor) -> Iterator[Event]:
        """logits (V,): draw the next text token; it may open a span or end the reply."""
        # 1. Only text ids may be drawn; open_audio is one of them while there is room for another span.
        allowed_ids = self.classes.text_ids  # (A,), rising
        if len(self.spans) >= self.settings.max_spans:
            allowed_ids = allowed_ids[allowed_ids != self.classes.open_audio]
        allowed_logits = logits.index_select(0, allowed_ids)[None]  # (1, A)
        log_z = allowed_logits.logsumexp(-1)[0]
        # 2. Draw one.
        drawn = int(allowed_ids[self._draw_text(allowed_logits)])
        # 3. The last token that max_text allows is the end, whatever was drawn.
        is_last = len(self.text) == self.settings.max_text - 1
        token = self.classes.end if is_last else drawn
        # 4. A text token is a group of its own.
        self._append_group([token])
        self.text.append(token)
        at = torch.searchsorted(allowed_ids, token)
        log_p = (allowed_logits[0, at] - log_z).double()
        yield TextToken(self.number, token, float(log_p.exp()))
        # 5. What comes next?
        if token == self.classes.open_audio:
            self._open_block()
        elif token == self.classes.end:
            self.done = True
            yield self._end("end" if drawn == self.classes.end else "limit")

    def _draw_text(self, logits: Tensor) -> int:
        """Draw a token from logits (1, A), as `text_sampling` leaves them -> its index in A."""
        sampling = self.settings.text_sampling
        candidates = getattr(sampling, "candidates", None)  # `unmasking.Sampling` has them
        if candidates is None:
            return int(sample_tokens(sampling(logits.double()), self._uniform(1)))
        # Of an LLM's 150,000 tokens only a few are left: the rest need not be looked at again.
        kept, to_draw = candidates(logits.double())  # (1, k) or None for all, (1, k)
        index = int(sample_tokens(to_draw, self._uniform(1)))
        return index if kept is None else int(kept[0, index])

    def _denoise(self, logits: Tensor) -> Iterator[Event]:
        """logits (D, V) at the block's own slots: draw candidates for all, keep what the policy reveals."""
        settings = self.settings
        D = len(self.block)
        masked = self.block == self.classes.mask  # (D,)
        # 1. Only audio ids may be drawn, and of several codebooks the one whose turn it is.
        logits = logits[:, self.audio_ids].double()  # (D, A)
        logits = logits.masked_fill(~self._whose_turn(D), -torch.inf)
        p = logits.softmax(-1)  # (D, A)
        # 2. Draw a candidate for every slot, masked or not.
        candidates = sample_tokens(settings.audio_sampling(logits), self._uniform(D))  # (D,)
        # 3. The policy chooses the slots to reveal.
        steps_left = max(1, settings.steps - self.step)  # policies with a threshold may run past `steps`
        reveal = settings.policy(Draft(masked, p, candidates, self._uniform(D), steps_left))  # (D,)
        if not reveal.any() or (reveal & ~masked).any():
            raise ValueError("an unmasking policy must reveal at least one slot, and only masked ones")
        # 4. Revealed slots keep their candidate; all others stay as they were.
        self.block = torch.where(reveal, self.audio_ids[candidates], self.block)
        yield DenoisingStep(
            row=self.number,
            span=len(self.spans),
            block=self.block_number,
            step=self.step,
            ids=tuple(self.block.tolist()),
            revealed=tuple(reveal.nonzero()[:, 0].tolist()),
            entropies=tuple(torch.special.entr(p).sum(-1).tolist()),
        )
        self.step += 1
        # 5. A block without masks is closed.
        if torch.equal(reveal, masked):
            yield from self._close_block()

    # --- opening and closing

    def _open_block(self) -> None:
        """Begin the next block of the open span, all masked."""
        size = self._block_size()
        if not self.span and self.settings.first_block is not None:
            size = self.settings.first_block
        self.block = torch.full((size,), self.classes.mask)  # (D,)
        self.step = 0

    def _close_block(self) -> Iterator[Event]:
        """Tidy up after the first end_audio; then go on with the next block, or close the span."""
        end_audio = self.classes.end_audio
        drawn = self.block.tolist()
        has_end = end_audio in drawn
        # 1. Where no further block fits, the last slot becomes end_audio.
        full = len(self.span) + len(drawn) + self._block_size() > self.settings.max_span
        forced = full and not has_end
        # 2. Everything after the first end_audio becomes end_audio.
        if has_end:
            n_codes = drawn.index(end_audio)
        elif forced:
            n_codes = len(drawn) - 1
        else:
            n_codes = len(drawn)
        block = drawn[:n_codes] + [end_audio] * (len(drawn) - n_codes)
        changed = sum(before != after for before, after in zip(drawn, block, strict=True))
        self.changed += changed
        self.forced += int(forced)
        yield BlockClosed(self.number, tuple(block), changed, forced)
        # 3. A closed block is a group; in the full-span mode only the whole span is one.
        self.span += block
        self.block_number += 1
        if not self._span_is_one_group():
            self._append_group(block)
        # 4. The span ends with the block that holds end_audio.
        if end_audio in block:
            yield self._close_span()
        else:
            self._open_block()

    def _close_span(self) -> SpanClosed:
        """Note the codes of the open span; text follows."""
        codes = self.span[: self.span.index(self.classes.end_audio)]
        codes = codes[: len(codes) // self.n_codebooks * self.n_codebooks]  # whole frames
        if self._span_is_one_group():
            # no filler: there are no whole blocks to fill
            self._append_group([*codes, self.classes.end_audio])
        self.spans.append(tuple(codes))
        self.span = []
        self.block = None
        self.block_number = 0
        return SpanClosed(self.number, tuple(codes))

    def _end(self, reason: str) -> End:
        return End(
            row=self.number,
            reason=reason,
            ids=tuple(self.ids[self.prompt_length :]),
            groups=tuple(self.groups[self.prompt_length :]),
            text=tuple(self.text),
            spans=tuple(self.spans),
            changed=self.changed,
            forced=self.forced,
            nfe=self.nfe,
        )

    # --- small matters

    def _whose_turn(self, D: int) -> Tensor:
        """What each slot may hold, bool (D, A) or (1, 1): slots go round the codebooks; a span may end anywhere."""
        if self.n_codebooks == 1:
            return torch.ones(1, 1, dtype=torch.bool)
        turn = (len(self.span) + torch.arange(D)) % self.n_codebooks  # (D,)
        is_end = self.audio_ids == self.classes.end_audio  # (A,)
        return is_end | (self.classes.codebook[self.audio_ids] == turn[:, None])

    def _append_group(self, ids: list[int]) -> None:
        """Append one new group; the next forward commits it."""
        group = self.groups[-1] + 1
        self.ids += ids
        self.groups += [group] * len(ids)

    def _block_size(self) -> int:
        """Slots of a block; without a block size the block is the whole canvas."""
        return self.settings.block_size or self.settings.max_span

    def _span_is_one_group(self) -> bool:
        return self.settings.full_span or self.settings.block_size is None

    def _uncommitted(self) -> list[int]:
        """Closed blocks of the open span that are not committed yet, and so are drafted again."""
        return self.span if self._span_is_one_group() else []

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, dtype=torch.float64, generator=self.generator)


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
    its reply does not depend on its company. Raises ValueError for prompts that cannot be continued, for lists of
    different lengths, and for a generator that two rows share.
    """
    if not len(prompts) == len(prompt_groups) == len(generators):
        given = f"{len(prompts)} prompts, {len(prompt_groups)} lists of groups, {len(generators)} generators"
        raise ValueError(f"{given}: each row needs one of each")
    if len({id(generator) for generator in generators}) < len(generators):
        raise ValueError("two rows share a generator; give each row a generator of its own")
    rows = []
    for number, (ids, groups, generator) in enumerate(zip(prompts, prompt_groups, generators, strict=True)):
        if not ids or len(ids) != len(groups) or groups[0] < 0 or list(groups) != sorted(groups):
            raise ValueError(f"prompt {number} needs ids, and a group for each, from 0 up, never falling")
        if classes.mask in ids or classes.pad in ids:
            raise ValueError(f"prompt {number} holds the mask or the pad id")
        rows.append(Row(number, ids, groups, generator, classes, settings))
    return _decode(context, rows)


def _decode(context: Context, rows: list[Row]) -> Iterator[Event]:
    """The loop: one forward for all rows, then one step of each, until every row is done."""
    while not all(row.done for row in rows):
        # 1. What each row needs; a row that is done needs nothing.
        commit, commit_groups, draft = _lay_out(rows)  # (B, C), (B, C), (B, D)
        # 2. One forward.
        with torch.no_grad():
            logits = context.step(commit, commit_groups, draft)  # (B, 1 + D, V)
        wanted = (len(rows), 1 + draft.shape[1], len(rows[0].classes.text))
        if tuple(logits.shape) != wanted:
            raise ValueError(
                f"the network gave logits of shape {tuple(logits.shape)}; step returns (B, 1 + D, V), here {wanted}: "
                "[:, 0] after the last committed token, [:, 1:] at the draft's own positions"
            )
        logits = logits.cpu()  # a single transfer from the device for all rows
        # 3. One step of each row.
        for row in rows:
            if not row.done:
                n_read = 1 + len(row.to_draft())
                yield from row.advance(logits[row.number, :n_read])


def _lay_out(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """What all rows ask of the next forward, padded: commit (B, C), its groups (B, C), draft (B, D)."""
    commit, commit_groups, draft = [], [], []
    for row in rows:
        ids, groups = row.to_commit()
        commit.append(torch.tensor(ids, dtype=torch.long))
        commit_groups.append(torch.tensor(groups, dtype=torch.long))
        draft.append(torch.tensor(row.to_draft(), dtype=torch.long))
    pad = rows[0].classes.pad
    return (
        pad_sequence(commit, batch_first=True, padding_value=pad),
        pad_sequence(commit_groups, batch_first=True, padding_value=-1),
        pad_sequence(draft, batch_first=True, padding_value=pad),
    )


def collect(events: Iterable[Event]) -> list[End]:
    """Run a stream of events to its end -> what became of each row, in the order of rows."""
    ends = [event for event in events if isinstance(event, End)]
    return sorted(ends, key=lambda end: end.row)
