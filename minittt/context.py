"""Two contexts for the block decoder (the protocol in `decoding.py`): one that keeps keys and values, one that recomputes.

What may be kept is a theorem of the group numbers: a closed group never changes and never looks ahead, so its keys and
values are final. A draft (the block being denoised) is written behind the committed tokens and overwritten by the next
step. Both contexts give the same logits; the recomputing one is the plain reference.
"""

import torch
from torch import Tensor

from minittt.attention import visible
from minittt.errors import MinitttError
from minittt.model import Transformer


class _Cache:
    """Keys and values of one layer, (B, kv_heads, capacity + 1, head_dim). The last slot takes what is absent."""

    def __init__(self, model: Transformer, batch_size: int, capacity: int) -> None:
        weight, config = model.embed_tokens.weight, model.config
        shape = (batch_size, config.n_kv_heads, capacity + 1, config.d_model // config.n_heads)
        self.keys = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.values = torch.zeros_like(self.keys)
        self.slots, self.used = None, 0  # where the next keys go, (B, L); how many slots to look at

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        where = self.slots[:, None, :, None].expand_as(k)  # (B, kv_heads, L, head_dim)
        self.keys.scatter_(2, where, k)
        self.values.scatter_(2, where, v)
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]


class CachedContext:
    """Commits tokens for good, looks at drafts without keeping them; every closed group is computed once.

    Memory: 2 * n_layers * batch_size * n_kv_heads * max_length * head_dim numbers.
    """

    def __init__(self, model: Transformer, batch_size: int, pad: int, max_length: int | None = None) -> None:
        self.model, self.pad = model, pad
        self.capacity = max_length or model.config.max_length
        device = model.embed_tokens.weight.device
        self.caches = [_Cache(model, batch_size, self.capacity) for _ in model.layers]
        self.groups = torch.full((batch_size, self.capacity + 1), -1, device=device)  # of the kept keys
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.last = torch.zeros(
            batch_size, model.config.d_model, dtype=model.embed_tokens.weight.dtype, device=device
        )

    @torch.no_grad()
    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. commit, commit_groups (B, C), draft (B, D) -> logits (B, 1 + D, V)."""
        commit, commit_groups, draft = (t.to(self.groups.device) for t in (commit, commit_groups, draft))
        committed, drafted = commit_groups >= 0, draft != self.pad  # (B, C), (B, D)
        n_commit = committed.sum(1)  # (B,)
        top = torch.maximum(
            self.groups.amax(1), commit_groups.amax(1) if commit.shape[1] else self.groups.amax(1)
        )
        draft_groups = torch.where(drafted, top[:, None] + 1, -1)
        slots = self._slots(n_commit, committed, drafted)  # (B, C + D)
        q_groups = torch.cat([commit_groups, draft_groups], dim=1)
        self.groups.scatter_(1, slots, q_groups)
        self.groups[:, -1] = -1
        used = int((self.lengths + n_commit + drafted.sum(1)).max())
        for cache in self.caches:
            cache.slots, cache.used = slots, max(used, 1)
        # an absent query's row must not be empty (softmax of nothing is NaN): it sees everything, and nobody sees it
        mask = visible(q_groups, self.groups[:, : max(used, 1)]) | (q_groups < 0)[:, :, None]
        hidden = self.model.hidden(
            torch.cat([commit, draft], dim=1), mask, slots, self.caches
        )  # (B, C + D, d)
        self.groups.scatter_(1, slots[:, commit.shape[1] :], -1)  # drafts leave no trace
        self.lengths = self.lengths + n_commit
        if commit.shape[1]:
            newest = hidden[torch.arange(len(hidden)), (n_commit - 1).clamp(min=0)]  # (B, d)
            self.last = torch.where((n_commit > 0)[:, None], newest, self.last)
        return self.model.logits(torch.cat([self.last[:, None], hidden[:, commit.shape[1] :]], dim=1))

    def _slots(self, n_commit: Tensor, committed: Tensor, drafted: Tensor) -> Tensor:
        """Slot (= position) of each new token, (B, C + D); absent ones go to the spare slot behind all others."""
        end = self.lengths + n_commit  # (B,)
        if int((end + drafted.sum(1)).max()) > self.capacity:
            raise MinitttError(
                f"the context holds {self.capacity} tokens and is full: use a shorter prompt or reply"
            )
        c = self.lengths[:, None] + torch.arange(committed.shape[1], device=end.device)
        d = end[:, None] + torch.arange(drafted.shape[1], device=end.device)
        present = torch.cat([committed, drafted], dim=1)
        return torch.where(present, torch.cat([c, d], dim=1), self.capacity)


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
            ids = torch.tensor([self.ids[row] + drafted], device=draft.device)
            groups = torch.tensor(
                [self.groups[row] + [max(self.groups[row], default=-1) + 1] * d], device=draft.device
            )
            logits = self.model(ids, visible(groups, groups))[0]  # (n + d, V)
            if n:
                out[row, 0] = logits[n - 1]
            out[row, 1 : 1 + d] = logits[n:]
        return out
