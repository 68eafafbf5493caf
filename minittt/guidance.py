"""Classifier-free guidance as a Context: every row is decoded twice, with and without the condition.

    guided = un + (1 + s) (cond - un)      s = 0: the conditional logits alone

In probabilities, p is proportional to cond^(1 + s) / un^s: pushed away from the half without the condition. That is often
sharper than cond, but not always: where `un` is surer of cond's favourite than cond is, the guided distribution turns
against it.

The two halves are rows of one context, so a guided forward is one forward. The half without the condition has
a prompt of its own, with groups of its own: text stays causal there, and nothing of it has to be masked.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad as widen
from torch.nn.utils.rnn import pad_sequence


class GuidedContext:
    """Guides B rows through `context`, which has 2B: rows 0..B-1 know the condition, rows B..2B-1 do not.

    prompts, prompt_groups: what each of the B rows starts from in the half without the condition (for example
    the same conversation without its question), in the form `decoding.generate` takes for the other half.
    """

    def __init__(
        self, context, prompts: list[list[int]], prompt_groups: list[list[int]], scale: float, pad: int
    ):
        for ids, groups in zip(prompts, prompt_groups, strict=True):
            if not ids or len(ids) != len(groups):
                raise ValueError("every unconditional prompt needs at least one id, and one group per id")
        self.context = context
        self.scale = scale
        self.pad = pad
        self.prompt = _padded(prompts, pad)  # (B, U)
        self.groups = _padded(prompt_groups, -1)  # (B, U)
        # (B, 1): how far group numbers differ between the halves once the prompts are committed
        self.shift: Tensor | None = None

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`. The first call commits the prompts: each half gets its own."""
        if self.shift is None:
            if len(commit) != len(self.prompt):
                raise ValueError(f"{len(self.prompt)} unconditional prompts cannot guide {len(commit)} rows")
            self.shift = self.groups.amax(1, keepdim=True) - commit_groups.amax(1, keepdim=True)
            other, other_groups = self.prompt, self.groups  # (B, U), (B, U)
        else:
            other = commit  # (B, C)
            other_groups = torch.where(commit_groups >= 0, commit_groups + self.shift, -1)  # (B, C)
        ids = _stacked(commit, other, self.pad)  # (2B, W)
        groups = _stacked(commit_groups, other_groups, -1)  # (2B, W)
        logits = self.context.step(ids, groups, draft.repeat(2, 1))  # (2B, 1 + D, V)
        conditional, unconditional = logits.chunk(2)  # (B, 1 + D, V) each
        guided = unconditional + (1 + self.scale) * (conditional - unconditional)
        not_allowed = conditional == -torch.inf  # or not computed
        return guided.masked_fill(not_allowed, -torch.inf)


def _padded(rows: list[list[int]], value: int) -> Tensor:
    """Lists of numbers -> (B, longest), padded with `value`."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def _stacked(upper: Tensor, lower: Tensor, value: int) -> Tensor:
    """(B, C) over (B, U) -> (2B, W), the narrower one padded with `value`."""
    width = max(upper.shape[1], lower.shape[1])
    upper = widen(upper, (0, width - upper.shape[1]), value=value)
    lower = widen(lower, (0, width - lower.shape[1]), value=value)
    return torch.cat([upper, lower])
