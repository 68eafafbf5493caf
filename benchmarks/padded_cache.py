"""A cache that pads every row to the longest, measured against the ragged one in `minittt/context.py`.

    python benchmarks/padded_cache.py            # prints a table; --json FILE keeps it

This is the shorter way to write `CachedContext`: new tokens are a rectangle (B, N), a mask says who sees what, and padding
is written to a spare slot. While some rows draft a block of eight and others write one text token, most of the rectangle is
padding. Both decode the same replies of the shipped talker in one run, taking turns; the ratio is what padding costs.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from minittt import talker as talker_module
from minittt.context import CachedContext
from minittt.data.corpus import load_corpus
from minittt.decoding import TokenClasses
from minittt.errors import MinitttError
from minittt.evaluation.evaluate import ask, family
from minittt.model import Transformer, attend
from minittt.talker import Talker, decoding_settings

SAMPLES = Path(__file__).parent.parent / "data_samples"

LARGEST_MASK = 2**24  # entries of a mask; rows that would need more (long prompts) attend a few at a time


class PaddedLayerCache:
    """Keys and values of one layer, each (B, kv_heads, capacity + 1, head_dim). The last slot takes padding, unseen."""

    def __init__(self, model: Transformer, batch_size: int, capacity: int) -> None:
        config = model.config
        weight = model.embed_tokens.weight
        shape = (batch_size, config.n_kv_heads, capacity + 1, config.d_model // config.n_heads)
        self.keys = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.values = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        # of the forward under way, set by the context
        self.slots: Tensor | None = None  # (B, N): where the new tokens are kept
        self.mask: Tensor | None = None  # (B, N, K): which of the first K slots each of them sees

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep k, v (B, kv_heads, N, head_dim) of the new tokens, then q (B, heads, N, head_dim) -> the same shape."""
        row = torch.arange(len(q), device=q.device)[:, None]  # (B, 1)
        self.keys[row, :, self.slots] = k.transpose(1, 2)  # (B, N, kv_heads, head_dim)
        self.values[row, :, self.slots] = v.transpose(1, 2)
        B, N, K = self.mask.shape
        some = max(1, LARGEST_MASK // (N * K))
        attended = []
        for start in range(0, B, some):
            rows = slice(start, start + some)
            attended.append(
                attend(q[rows], self.keys[rows, :, :K], self.values[rows, :, :K], self.mask[rows])
            )
        return torch.cat(attended)


class PaddedContext:
    """Commits tokens for good, looks at drafts without keeping them; every closed group is computed once.

    One forward serves all rows: text tokens, prompts and blocks of any lengths side by side, padded to the longest.
    With `classes` only the logits a decoder may read are computed (text after the last committed token, audio in a
    draft); all others are -inf. Memory: 2 * n_layers * batch_size * n_kv_heads * max_length * head_dim numbers.
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
        self.caches = [PaddedLayerCache(model, batch_size, self.capacity) for _ in model.layers]
        self.lengths = torch.zeros(batch_size, dtype=torch.long)  # (B,): committed tokens of each row
        self.closed = torch.full((batch_size,), -1)  # (B,): the last group committed
        weight = model.embed_tokens.weight
        self.device = weight.device
        self.last = weight.new_zeros(
            batch_size, model.config.d_model
        )  # (B, d): after the last committed token
        self.text_ids = None
        if classes is not None:
            self.text_ids = classes.text.nonzero()[:, 0].to(self.device)
            self.audio_ids = classes.audio.nonzero()[:, 0].to(self.device)
            self.text_head = model.lm_head.weight.detach()[self.text_ids]  # (text ids, d)
            self.audio_head = model.lm_head.weight.detach()[self.audio_ids]  # (audio ids, d)

    @torch.no_grad()
    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. commit, commit_groups (B, C), draft (B, D) -> logits (B, 1 + D, V).

        Raises MinitttError if the context is full, or a committed group is not after all that were committed.
        """
        # 1. The new tokens of each row: what it commits, then what it drafts, then padding.
        n_commit = (commit_groups >= 0).sum(1)  # (B,)
        n_draft = (draft != self.pad).sum(1)  # (B,)
        self._check(commit_groups, n_commit, n_draft)
        N = int((n_commit + n_draft).max())
        column = torch.arange(N)
        is_commit = column < n_commit[:, None]  # (B, N)
        is_draft = (column >= n_commit[:, None]) & (column < (n_commit + n_draft)[:, None])  # (B, N)
        ids = torch.full((len(commit), N), self.pad)  # (B, N)
        ids[is_commit] = commit[commit_groups >= 0]
        ids[is_draft] = draft[draft != self.pad]
        # 2. Their slots: after the committed tokens of their row; padding goes to the spare slot.
        positions = self.lengths[:, None] + column  # (B, N)
        slots = torch.where(is_commit | is_draft, positions, self.capacity)  # (B, N)
        # 3. What they see: committed tokens up to the end of their group, a draft everything before and itself.
        no_group = torch.iinfo(torch.long).max
        groups = torch.where(commit_groups >= 0, commit_groups, no_group)  # (B, C), never falling
        end_of_group = torch.searchsorted(groups, groups, right=True)  # (B, C)
        seen = (self.lengths + n_commit + n_draft)[:, None].expand(-1, N).clone()  # (B, N)
        seen[is_commit] = (self.lengths[:, None] + end_of_group)[commit_groups >= 0]
        seen[~(is_commit | is_draft)] = 1  # padding sees one slot, so that no softmax is empty
        # 4. One forward; drafts are written to the cache too, and overwritten by the next step.
        hidden = self._forward(ids, positions, slots, seen)  # (B, N, d)
        # 5. Committed tokens stay.
        rows = n_commit.nonzero()[:, 0]
        if len(rows):
            self.last[rows] = hidden[rows, n_commit[rows] - 1]
            self.lengths += n_commit
            self.closed[rows] = commit_groups[rows, n_commit[rows] - 1]
        # 6. The logits after the last committed token, and at each drafted slot.
        at = n_commit[:, None] + torch.arange(draft.shape[1])  # (B, D)
        at = at.clamp(max=max(0, N - 1)).to(self.device)
        drafted = hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[-1]))  # (B, D, d)
        return self._logits(drafted)

    def _check(self, commit_groups: Tensor, n_commit: Tensor, n_draft: Tensor) -> None:
        if int((self.lengths + n_commit + n_draft).max()) > self.capacity:
            raise MinitttError(
                f"the context holds {self.capacity} tokens and is full: use a shorter prompt or reply"
            )
        if not commit_groups.shape[1]:
            return
        first = commit_groups[:, 0]  # (B,): groups never fall, so the first decides
        falling = (n_commit > 0) & (first <= self.closed)
        if falling.any():
            row = int(falling.nonzero()[0])
            raise MinitttError(
                f"group {int(first[row])} cannot be committed after group {int(self.closed[row])}, which is closed"
            )

    def _forward(self, ids: Tensor, positions: Tensor, slots: Tensor, seen: Tensor) -> Tensor:
        """Last hidden states of the new tokens: all arguments (B, N) -> (B, N, d)."""
        if not ids.shape[1]:
            return self.last[:, None, :][:, :0]
        n_keys = int(seen.max())
        ids, positions, slots, seen = torch.stack([ids, positions, slots, seen]).to(self.device)
        mask = torch.arange(n_keys, device=self.device) < seen[:, :, None]  # (B, N, K)
        for cache in self.caches:
            cache.slots = slots
            cache.mask = mask
        return self.model.hidden(ids, None, positions, self.caches)

    def _logits(self, drafted: Tensor) -> Tensor:
        """Hidden states of the drafted slots (B, D, d) -> (B, 1 + D, V); slot 0 is after the last committed token."""
        if self.text_ids is None:
            return self.model.logits(torch.cat([self.last[:, None], drafted], dim=1))
        B, D, _ = drafted.shape
        logits = drafted.new_full((B, 1 + D, self.model.config.vocab_size), -torch.inf)
        logits[:, 0, self.text_ids] = self.last @ self.text_head.T
        logits[:, 1:, self.audio_ids] = drafted @ self.audio_head.T
        return logits


def compare(talker: Talker, corpus, pairs: int, items: int) -> list[dict]:
    """One line for each way of decoding: the median ratio of padded to ragged time over `pairs` runs of both."""
    records = family(corpus, "voices", "qa", items)
    blocks = decoding_settings(8, 8)
    spans = decoding_settings(16, 4, full_span=True)
    cases = [
        ("blocks of 8, one by one", blocks, 1),
        ("blocks of 8, 32 rows", blocks, 32),
        ("full span, 32 rows", spans, 32),
    ]
    lines = []
    for name, settings, rows in cases:
        chosen = records[: max(6, rows)]
        ratios = []
        for _ in range(pairs):
            seconds = {}
            for context in (PaddedContext, CachedContext):
                talker_module.CachedContext = context
                begin = time.perf_counter()
                ask(talker, corpus, chosen, settings, rows=rows)
                seconds[context] = time.perf_counter() - begin
            talker_module.CachedContext = CachedContext
            ratios.append(seconds[PaddedContext] / seconds[CachedContext])
        lines.append(
            {
                "case": name,
                "padded over ragged": round(statistics.median(ratios), 3),
                "all": [round(r, 3) for r in ratios],
            }
        )
    return lines


def main(arguments: list[str] | None = None) -> list[dict]:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    talker = Talker.load(SAMPLES / "talker.safetensors")
    lines = compare(talker, load_corpus(SAMPLES / "corpus"), args.pairs, args.items)
    for line in lines:
        print(f"{line['case']:<28} padded over ragged {line['padded over ragged']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return lines


if __name__ == "__main__":
    main()
