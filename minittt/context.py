"""Two contexts for the block decoder (the protocol in `decoding.py`): one that keeps keys and values, one that recomputes.

What may be kept follows from the group numbers. A closed group never changes and never looks ahead, so the keys and
values of its tokens are final: they are computed once, when the group is committed, and kept. A draft (the block being
denoised) changes with every step: its keys and values are written after the committed ones, and the next step overwrites
them. Nothing of a draft is reused: a finished block is computed once more, clean, when it is committed.

Since groups never fall along a row, what a token sees is a prefix of its row, up to the end of its own group. So one
number per token, how many slots it sees, says everything that a mask would.

Rows are busy with different things: one commits a prompt of 60 tokens, one drafts a block of 8, one commits a single
text token. The cached context lays the new tokens of all rows end to end, unpadded, and lets rows with equally many new
tokens attend together (a `Bucket`). Padding every row to the longest is shorter to write, but takes 1.1 times as long row by
row, 1.8 times with 32 rows and blocks of 8, 2.5 times with full spans (`benchmarks/padded_cache.py`; CPU, one thread).

Both contexts give the same logits; the recomputing one is the plain reference.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minittt.attention import visible
from minittt.decoding import TokenClasses
from minittt.device import move
from minittt.errors import MinitttError
from minittt.model import Transformer, attend

FEWEST_SLOTS = 256  # of a cache that holds anything
LARGEST_MASK = 2**24  # entries; rows that would need more (long prompts, many rows) attend a few at a time


class Bucket(NamedTuple):
    """b rows with n new tokens each, which attend together to the first `keys` slots of their rows."""

    # in the cache: a slice if they are adjacent, else their indices (b,)
    rows: slice | Tensor
    tokens: slice  # which of the step's new tokens, b * n of them
    n: int
    keys: int
    sees_all: bool  # every token sees all slots: no mask is needed


class NewTokens(NamedTuple):
    """The new tokens of all rows, end to end, N in all."""

    ids: Tensor  # (N,)
    rows: Tensor  # (N,)
    slots: Tensor  # (N,): its place in the row, which is also its position
    seen: Tensor  # (N,): how many slots it sees, from the first
    buckets: list[Bucket]


class LayerCache:
    """Keys and values of one layer, each (B, kv_heads, slots, head_dim); no slots to begin with."""

    def __init__(self, model: Transformer, batch_size: int) -> None:
        config = model.config
        none = model.embed_tokens.weight.new_empty(batch_size, config.n_kv_heads, 0, config.head_dim)
        self.keys = none
        self.values = none
        self.new: NewTokens | None = None  # of the current forward pass, set by the context

    def grow(self, slots: int) -> None:
        """Enlarge every row to this many slots; what it already holds stays."""
        more = (0, 0, 0, slots - self.keys.shape[2])  # padding before and after: of head_dim, of slots
        self.keys = F.pad(self.keys.detach(), more)
        self.values = F.pad(self.values.detach(), more)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k, v (1, kv_heads, N, head_dim) of the new tokens; attend: q (1, heads, N, head_dim) -> the same shape."""
        rows = self.new.rows  # (N,)
        slots = self.new.slots  # (N,)
        self.keys[rows, :, slots] = k[0].transpose(0, 1)  # (N, kv_heads, head_dim)
        self.values[rows, :, slots] = v[0].transpose(0, 1)
        attended = [self._attend_in_bucket(q[0], bucket) for bucket in self.new.buckets]
        return torch.cat(attended, dim=1)[None]

    def _attend_in_bucket(self, q: Tensor, bucket: Bucket) -> Tensor:
        """q (heads, N, head_dim) of all new tokens -> attention output for those of the bucket, (heads, b * n, head_dim)."""
        heads, _, head_dim = q.shape
        kv_heads = self.keys.shape[1]
        n = bucket.n
        keys = self.keys[bucket.rows, :, : bucket.keys]  # (b, kv_heads, K, head_dim)
        values = self.values[bucket.rows, :, : bucket.keys]
        queries = q[:, bucket.tokens].unflatten(1, (-1, n)).transpose(0, 1)  # (b, heads, n, head_dim)
        # Heads that share keys can be treated as extra queries: then keys need no copies.
        # For a long prompt the mask would outweigh those copies.
        shared = 1
        if n <= 2 * head_dim:
            shared = heads // kv_heads
        queries = queries.reshape(-1, heads // shared, shared * n, head_dim)
        mask = None
        if not bucket.sees_all:
            slot = torch.arange(bucket.keys, device=q.device)  # (K,)
            mask = slot < self.new.seen[bucket.tokens].view(-1, n, 1)  # (b, n, K)
            mask = mask.repeat(1, shared, 1)  # (b, shared * n, K)
        y = attend(queries, keys, values, mask)
        y = y.view(-1, heads, n, head_dim)  # (b, heads, n, head_dim)
        return y.transpose(0, 1).flatten(1, 2)


class CachedContext:
    """Commits tokens for good, looks at drafts without keeping them; every closed group is computed once.

    One forward pass serves all rows, whatever each is doing. With `classes` only the logits a decoder reads are
    computed (text after the last token of a row without a draft, audio in a draft); all others are -inf.
    Memory: 2 * n_layers * batch_size * n_kv_heads * slots * head_dim numbers. Slots at least double when the longest row
    needs more, up to max_length: a model with 32768 positions does not reserve memory for all of them for a short reply.
    """

    def __init__(
        self,
        model: Transformer,
        batch_size: int,
        pad: int,
        max_length: int | None = None,
        classes: TokenClasses | None = None,
    ) -> None:
        self.model = model
        self.pad = pad
        self.capacity = max_length or model.config.max_length
        self.slots = 0  # of each row, so far
        self.caches = [LayerCache(model, batch_size) for _ in model.layers]
        self.lengths = [0] * batch_size  # committed tokens of each row
        self.closed = [-1] * batch_size  # the last group committed
        weight = model.embed_tokens.weight
        self.device = weight.device
        # (B, d): hidden states after each row's last committed token
        self.last = weight.new_zeros(batch_size, model.config.d_model)
        self.text_ids: Tensor | None = None
        if classes is not None:
            # Kept on the host, which reads off them which part of the head it needs.
            self.text_choices = classes.text_ids
            self.audio_choices = classes.audio_ids
            self.text_ids = self.text_choices.to(self.device)
            self.audio_ids = self.audio_choices.to(self.device)

    @torch.no_grad()
    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. commit, commit_groups (B, C), draft (B, D) -> logits (B, 1 + D, V).

        Raises MinitttError if the context is full, or if a committed group does not come after all those committed before.
        """
        n_commit = (commit_groups >= 0).sum(1).tolist()
        n_draft = (draft != self.pad).sum(1).tolist()
        # 1. The new tokens of each row, and how many slots each of them sees.
        ids = []
        seen = []
        for row, (c, d) in enumerate(zip(n_commit, n_draft, strict=True)):
            ids.append(commit[row, :c].tolist() + draft[row, :d].tolist())
            seen.append(self._seen(row, commit_groups[row, :c].tolist(), d))
        # 2. Lay them end to end, and compute their hidden states in one forward pass.
        self._make_room(max(length + len(row) for length, row in zip(self.lengths, ids, strict=True)))
        new, first = self._lay_out(ids, seen)
        hidden = self.last[:0]  # (N, d)
        if len(new.ids):
            hidden = self._forward(new)
        # 3. What was committed stays.
        committing = [row for row, c in enumerate(n_commit) if c]
        last_committed = [first[row] + n_commit[row] - 1 for row in committing]
        for row in committing:
            self.lengths[row] += n_commit[row]
            self.closed[row] = int(commit_groups[row, n_commit[row] - 1])
        # 4. Where each drafted slot is, and which rows have none: those read text.
        drafted_at = [(row, slot) for row, d in enumerate(n_draft) for slot in range(d)]
        in_line = [first[row] + n_commit[row] + slot for row, slot in drafted_at]
        rows = [row for row, _ in drafted_at]
        slots = [slot for _, slot in drafted_at]
        writing = [r for r, d in enumerate(n_draft) if d == 0]
        committing_, last_committed_, in_line_, rows_, slots_, writing_ = self._send(
            committing, last_committed, in_line, rows, slots, writing
        )
        if committing:
            self.last[committing_] = hidden[last_committed_]
        # 5. The logits after the last committed token, and at each drafted slot.
        return self._logits(hidden[in_line_], rows_, slots_, writing_, draft.shape[1])

    def _send(self, *lists: list[int]) -> tuple[Tensor, ...]:
        """Lists of whole numbers as tensors (n,) long on the device, in a single copy."""
        numbers = torch.tensor([number for one in lists for number in one], dtype=torch.long)
        return move(numbers, self.device).split([len(one) for one in lists])

    def _seen(self, row: int, groups: list[int], n_draft: int) -> list[int]:
        """How many slots each new token of a row sees: up to the end of its group; a draft sees everything."""
        length = self.lengths[row]
        current = self.closed[row]  # a group closes when the next one begins, and when a step ends
        for i, group in enumerate(groups):
            is_closed = group < current or (i == 0 and group == current)
            if is_closed:
                raise MinitttError(
                    f"group {group} cannot be committed after group {current}, which is closed: groups never fall"
                )
            current = group
        total = length + len(groups) + n_draft
        if total > self.capacity:
            raise MinitttError(
                f"the context holds {self.capacity} tokens and is full: use a shorter prompt or reply"
            )
        end_of_group = {}
        for i, group in enumerate(groups):
            end_of_group[group] = length + i + 1  # the last token of a group has the last word
        return [end_of_group[group] for group in groups] + [total] * n_draft

    def _make_room(self, needed: int) -> None:
        """Make room for at least `needed` slots in every row; each time more are needed, twice as many as before."""
        if needed > self.slots:
            self.slots = max(needed, min(max(FEWEST_SLOTS, 2 * self.slots), self.capacity))
            for cache in self.caches:
                cache.grow(self.slots)

    def _lay_out(self, ids: list[list[int]], seen: list[list[int]]) -> tuple[NewTokens, dict[int, int]]:
        """The new tokens of all rows end to end, rows with equally many side by side; and where each row begins."""
        # 1. Rows in order of how many new tokens they have; rows without any are left out.
        order = [row for row in range(len(ids)) if ids[row]]
        order.sort(key=lambda row: len(ids[row]))
        # 2. Neighbours with equally many form a bucket, as long as its mask is not too large.
        buckets = []
        members = []  # the rows of each bucket
        first = {}
        at = 0
        for rows in self._rows_of_buckets(order, ids, seen):
            n = len(ids[rows[0]])
            keys = max(seen[row][-1] for row in rows)
            buckets.append(
                Bucket(
                    rows=slice(rows[0], rows[-1] + 1),
                    tokens=slice(at, at + n * len(rows)),
                    n=n,
                    keys=keys,
                    sees_all=all(seen[row][0] == keys for row in rows),
                )
            )
            members.append(rows)
            for row in rows:
                first[row] = at
                at += n
        # 3. One number per token in each column.
        flat_ids, flat_rows, flat_slots, flat_seen = [], [], [], []
        for row in order:
            n = len(ids[row])
            flat_ids += ids[row]
            flat_rows += [row] * n
            flat_slots += range(self.lengths[row], self.lengths[row] + n)
            flat_seen += seen[row]
        # 4. Send it all.
        flat_members = [row for rows in members for row in rows]
        ids_, rows_, slots_, seen_, sent = self._send(
            flat_ids, flat_rows, flat_slots, flat_seen, flat_members
        )
        buckets = self._indexed(buckets, members, sent)
        return NewTokens(ids_, rows_, slots_, seen_, buckets), first

    def _rows_of_buckets(self, order: list[int], ids: list[list[int]], seen: list[list[int]]):
        """Cut `order` (rows sorted by how many new tokens they have) into buckets: lists of rows."""
        start = 0
        while start < len(order):
            n = len(ids[order[start]])
            stop = start
            while stop < len(order) and len(ids[order[stop]]) == n:
                stop += 1
            same = order[start:stop]
            keys = max(seen[row][-1] for row in same)
            most = max(1, LARGEST_MASK // (n * keys))  # rows in a bucket
            for i in range(0, len(same), most):
                yield same[i : i + most]
            start = stop

    def _indexed(self, buckets: list[Bucket], members: list[list[int]], sent: Tensor) -> list[Bucket]:
        """The buckets, with row indices where rows are not adjacent; sent: the members on the device, end to end.

        Adjacent rows keep their slice: it gives a view of the cache, not a copy.
        """
        indexed = []
        numbers = sent.split([len(rows) for rows in members])
        for bucket, rows, index in zip(buckets, members, numbers, strict=True):
            are_neighbours = rows[-1] - rows[0] + 1 == len(rows)
            indexed.append(bucket if are_neighbours else bucket._replace(rows=index))
        return indexed

    def _forward(self, new: NewTokens) -> Tensor:
        """Last hidden states of the new tokens, (N, d)."""
        for cache in self.caches:
            cache.new = new
        return self.model.hidden(new.ids[None], None, new.slots[None], self.caches)[0]

    def _logits(self, drafted: Tensor, row: Tensor, slot: Tensor, writing: Tensor, D: int) -> Tensor:
        """Hidden states (n, d) of the drafted slots, which are at row (n,) and slot (n,) -> (B, 1 + D, V).

        writing: the rows without a draft, (w,).
        """
        B = len(self.last)
        if self.text_ids is None:
            hidden = drafted.new_zeros(B, 1 + D, drafted.shape[-1])
            hidden[:, 0] = self.last
            hidden[row, 1 + slot] = drafted
            return self.model.logits(hidden)
        logits = drafted.new_full((B, 1 + D, self.model.config.vocab_size), -torch.inf)
        logits[writing[:, None], 0, self.text_ids] = self.model.logits(self.last[writing], self.text_choices)
        at_slots = self.model.logits(drafted, self.audio_choices)  # (n, audio ids)
        logits[row[:, None], 1 + slot[:, None], self.audio_ids] = at_slots
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
