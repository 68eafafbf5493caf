"""Two contexts for the block decoder (the protocol in `decoding.py`): one that keeps keys and values, one that recomputes.

What may be kept is a theorem of the group numbers: a closed group never changes and never looks ahead, so its keys and
values are final. And since groups never fall along a row, what a token sees is a prefix of it: one number per token says
all that a mask would. A draft (the block being denoised) is written behind the committed tokens and overwritten by the
next step. Both contexts give the same logits; the recomputing one is the plain reference.
"""

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from minittt.attention import visible
from minittt.decoding import TokenClasses
from minittt.errors import MinitttError
from minittt.model import Transformer, attend

LARGEST_MASK = 2**24  # entries; rows that would need more (long prompts, many rows) attend a few at a time


class Part(NamedTuple):
    """Rows with equally many new tokens: they attend together, b rows of n tokens over `keys` slots."""

    rows: slice | Tensor  # which rows of the cache, (b,)
    tokens: slice  # which of the step's new tokens, b * n of them
    n: int
    keys: int
    whole: bool  # every token sees all slots: no mask is needed


class NewTokens(NamedTuple):
    """The new tokens of all rows, laid one behind the other: nothing is padded, whatever each row is busy with."""

    ids: Tensor  # (N,)
    rows: Tensor  # (N,)
    slots: Tensor  # (N,): where in its row, which is its position too
    seen: Tensor  # (N,): how many slots it sees, from the first
    parts: list[Part]


class _Cache:
    """Keys and values of one layer, (B, kv_heads, capacity + 1, head_dim); the spare slot takes what is padding."""

    def __init__(self, model: Transformer, batch_size: int, capacity: int) -> None:
        weight, config = model.embed_tokens.weight, model.config
        shape = (batch_size, config.n_kv_heads, capacity + 1, config.d_model // config.n_heads)
        self.keys = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.values = torch.zeros_like(self.keys)
        self.new: NewTokens | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep k, v (1, kv_heads, N, head_dim) of the new tokens, then q (1, heads, N, head_dim) -> the same shape."""
        new, (heads, _, head_dim), kv_heads = self.new, q.shape[1:], k.shape[1]
        self.keys[new.rows, :, new.slots] = k[0].transpose(0, 1)  # (N, kv_heads, head_dim)
        self.values[new.rows, :, new.slots] = v[0].transpose(0, 1)
        attended = []
        for part in new.parts:
            n = part.n
            # heads that share keys ask as if they were more queries: then keys need no copies (of a long prompt the mask
            # would outweigh them)
            shared = heads // kv_heads if n <= 2 * head_dim else 1
            queries = q[0, :, part.tokens].unflatten(1, (-1, n)).transpose(0, 1)  # (b, heads, n, head_dim)
            queries = queries.reshape(-1, heads // shared, shared * n, head_dim)
            mask = None
            if not part.whole:
                slot = torch.arange(part.keys, device=q.device)
                mask = slot < new.seen[part.tokens].view(-1, n, 1)  # (b, n, keys)
                mask = mask.repeat(1, shared, 1)  # (b, shared * n, keys)
            kept = (x[part.rows, :, : part.keys] for x in (self.keys, self.values))
            y = attend(queries, *kept, mask).view(-1, heads, n, head_dim)
            attended.append(y.transpose(0, 1).flatten(1, 2))  # (heads, b * n, head_dim)
        return torch.cat(attended, dim=1)[None]


class CachedContext:
    """Commits tokens for good, looks at drafts without keeping them; every closed group is computed once.

    One forward serves all rows: text tokens, prompts and blocks of any lengths side by side. With `classes` only the
    logits a decoder reads are computed (text after the last token of a row without a draft, audio in a draft); all
    others are -inf. Memory: 2 * n_layers * batch_size * n_kv_heads * max_length * head_dim numbers.
    """

    def __init__(
        self,
        model: Transformer,
        batch_size: int,
        pad: int,
        max_length: int | None = None,
        classes: TokenClasses | None = None,
    ) -> None:
        self.model, self.pad, self.capacity = model, pad, max_length or model.config.max_length
        weight = model.embed_tokens.weight
        self.caches = [_Cache(model, batch_size, self.capacity) for _ in model.layers]
        self.lengths = [0] * batch_size  # committed tokens
        self.closed = [-1] * batch_size  # the last group committed
        self.last = torch.zeros(batch_size, model.config.d_model, dtype=weight.dtype, device=weight.device)
        self.heads = None  # (ids, their rows of the output matrix), of text and of audio
        if classes is not None:
            ids = [x.nonzero()[:, 0].to(weight.device) for x in (classes.text, classes.audio)]
            self.heads = [(x, model.lm_head.weight.detach()[x]) for x in ids]

    @torch.no_grad()
    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. commit, commit_groups (B, C), draft (B, D) -> logits (B, 1 + D, V).

        Raises MinitttError if the context is full, or a committed group is not after all that were committed.
        """
        n_commit, n_draft = (commit_groups >= 0).sum(1).tolist(), (draft != self.pad).sum(1).tolist()
        ids, seen = [], []
        for row, (c, d) in enumerate(zip(n_commit, n_draft, strict=True)):
            ids.append(commit[row, :c].tolist() + draft[row, :d].tolist())
            seen.append(self._seen(row, commit_groups[row, :c].tolist(), d))
        new, first = self._line_up(ids, seen)
        hidden = self._forward(new) if len(new.ids) else self.last[:0]  # (N, d)
        committing = [row for row, c in enumerate(n_commit) if c]
        if committing:
            self.last[committing] = hidden[[first[row] + n_commit[row] - 1 for row in committing]]
        for row in committing:
            self.lengths[row] += n_commit[row]
            self.closed[row] = int(commit_groups[row, n_commit[row] - 1])
        at = [(row, j) for row, d in enumerate(n_draft) for j in range(d)]
        drafted = hidden[[first[row] + n_commit[row] + j for row, j in at]]  # (all drafted slots, d)
        return self._logits(drafted, at, n_draft, draft.shape[1])

    def _seen(self, row: int, groups: list[int], drafted: int) -> list[int]:
        """How many slots each new token of a row sees: to the end of its group; a draft sees everything."""
        end, seen, before = self.lengths[row], [], self.closed[row]
        for group, members in groupby(groups):
            if group <= before:
                raise MinitttError(f"group {group} cannot be committed after group {before}, which is closed")
            n = len(list(members))
            end, before = end + n, group
            seen += [end] * n
        if end + drafted > self.capacity:
            raise MinitttError(
                f"the context holds {self.capacity} tokens and is full: use a shorter prompt or reply"
            )
        return seen + [end + drafted] * drafted

    def _line_up(self, ids: list[list[int]], seen: list[list[int]]) -> tuple[NewTokens, dict[int, int]]:
        """The new tokens of all rows in a line, rows with equally many side by side; and where each row begins."""
        order = sorted((row for row in range(len(ids)) if ids[row]), key=lambda row: len(ids[row]))
        parts, first, at = [], {}, 0
        for n, same in groupby(order, key=lambda row: len(ids[row])):
            same = list(same)
            keys = max(seen[row][-1] for row in same)
            several = max(1, LARGEST_MASK // (n * keys))
            for some in (same[i : i + several] for i in range(0, len(same), several)):
                whole = all(seen[row][0] == keys for row in some)
                rows = slice(
                    some[0], some[-1] + 1
                )  # a view of the cache instead of a copy, where it can be one
                rows = (
                    rows if len(some) == some[-1] + 1 - some[0] else torch.tensor(some).to(self.last.device)
                )
                parts.append(Part(rows, slice(at, at + n * len(some)), n, keys, whole))
                for row in some:
                    first[row], at = at, at + n
        columns = (
            [token for row in order for token in ids[row]],
            [row for row in order for _ in ids[row]],
            [self.lengths[row] + i for row in order for i in range(len(ids[row]))],
            [n for row in order for n in seen[row]],
        )
        made = (torch.tensor(column, dtype=torch.long).to(self.last.device) for column in columns)
        return NewTokens(*made, parts), first

    def _forward(self, new: NewTokens) -> Tensor:
        """Last hidden states of the new tokens, (N, d)."""
        for cache in self.caches:
            cache.new = new
        return self.model.hidden(new.ids[None], None, new.slots[None], self.caches)[0]

    def _logits(self, drafted: Tensor, at: list[tuple[int, int]], n_draft: list[int], D: int) -> Tensor:
        """Hidden states of the drafted slots, which are at `at`, -> (B, 1 + D, V)."""
        shape = (len(n_draft), 1 + D)
        row, slot = (
            torch.tensor(at, dtype=torch.long).view(-1, 2).T.to(drafted.device)
        )  # (drafted slots,) each
        if self.heads is None:
            hidden = drafted.new_zeros(*shape, drafted.shape[-1])
            hidden[:, 0], hidden[row, 1 + slot] = self.last, drafted
            return self.model.logits(hidden)
        logits = drafted.new_full((*shape, self.model.config.vocab_size), -torch.inf)
        (text, text_head), (audio, audio_head) = self.heads
        writing = torch.tensor(
            [r for r, d in enumerate(n_draft) if not d], dtype=torch.long, device=row.device
        )
        logits[writing[:, None], 0, text] = self.last[writing] @ text_head.T
        logits[row[:, None], 1 + slot[:, None], audio] = drafted @ audio_head.T
        return logits


class RecomputingContext:
    """The same protocol with no memory but the tokens: every step computes every position anew."""

    def __init__(self, model: Transformer, batch_size: int, pad: int) -> None:
        self.model, self.pad = model, pad
        self.ids: list[list[int]] = [[] for _ in range(batch_size)]
        self.groups: list[list[int]] = [[] for _ in range(batch_size)]

    @torch.no_grad()
    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. commit, commit_groups (B, C), draft (B, D) -> logits (B, 1 + D, V)."""
        out = torch.zeros(len(draft), 1 + draft.shape[1], self.model.config.vocab_size)
        out = out.to(self.model.embed_tokens.weight)
        for row in range(len(draft)):
            kept = commit_groups[row] >= 0
            self.ids[row] += commit[row][kept].tolist()
            self.groups[row] += commit_groups[row][kept].tolist()
            drafted = draft[row][draft[row] != self.pad].tolist()
            n, d = len(self.ids[row]), len(drafted)
            if n + d == 0:
                continue
            ids = torch.tensor([self.ids[row] + drafted], device=out.device)
            groups = torch.tensor(
                [self.groups[row] + [max(self.groups[row], default=-1) + 1] * d], device=out.device
            )
            logits = self.model(ids, visible(groups, groups))[0]  # (n + d, V)
            if n:
                out[row, 0] = logits[n - 1]
            out[row, 1 : 1 + d] = logits[n:]
        return out
