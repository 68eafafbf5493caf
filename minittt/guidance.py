"""Classifier-free guidance as a Context: every row is decoded twice, with and without the condition.

    guided = un + (1 + s) (cond - un)      s = 0: the conditional logits alone

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
        if [len(ids) for ids in prompts] != [len(groups) for groups in prompt_groups] or not all(prompts):
            raise ValueError("every unconditional prompt needs at least one id, and one group per id")
        self.context, self.scale, self.pad = context, scale, pad
        self.prompt = pad_sequence([torch.tensor(x) for x in prompts], batch_first=True, padding_value=pad)
        self.groups = pad_sequence(
            [torch.tensor(x) for x in prompt_groups], batch_first=True, padding_value=-1
        )
        self.shift: Tensor | None = (
            None  # (B, 1): how far group numbers differ between the halves, from the prompts on
        )

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
        width = max(commit.shape[1], other.shape[1])
        ids = torch.cat(
            [widen(x, (0, width - x.shape[1]), value=self.pad) for x in (commit, other)]
        )  # (2B, W)
        groups = torch.cat(
            [widen(x, (0, width - x.shape[1]), value=-1) for x in (commit_groups, other_groups)]
        )
        conditional, unconditional = self.context.step(ids, groups, draft.repeat(2, 1)).chunk(
            2
        )  # (B, 1 + D, V)
        guided = unconditional + (1 + self.scale) * (conditional - unconditional)
        ruled_out = conditional == -torch.inf  # or not computed
        return guided.masked_fill(ruled_out, -torch.inf)
