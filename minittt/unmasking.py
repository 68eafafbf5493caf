"""Which masked slots a denoising step reveals, and what distribution a token is drawn from.

A policy is a pure function of a draft (anything with the fields of `decoding.Draft`) and returns the slots to
reveal, (D,) bool. What can be promised of the sampler depends on what the policy looks at:

    policy                 looks at             promise
    random_order           noise                -log p is bounded by NELBO(K), K steps
    left_to_right          nothing              the forced path gives -log p exactly
    entropy_order          the network's p      the forced path gives -log p exactly
    confidence_threshold   the network's p      the forced path gives -log p exactly
    entropy_bound          the network's p      the same; an oracle loses at most gamma nats per step
    confidence_released    drawn candidates     none: inexact even for an oracle, no tractable bound

With an oracle (a network that gives the true conditionals) and one slot per step, every policy but the last samples
exactly.

All of this is said of the network's own distribution (temperature 1, no truncation, no guidance) and of the tokens as
drawn. Closing a block overwrites what follows its first EOA, so several draws become one block, and the forced path is
an upper bound on its -log p.

The distribution at a slot is Sampling(temperature, top_k, top_p); policies look at p before it.

```python
from types import SimpleNamespace
import torch
from unmasking import Sampling, policy_named
p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2]])  # (D, A): three slots, two tokens
draft = SimpleNamespace(masked=torch.tensor([True, True, True]), p=p, steps_left=3)
surest = policy_named("entropy_order")(draft)  # (D,): one of three slots, since three steps are left
kept = Sampling(temperature=1.0, top_p=0.7)(p.log())  # (D, A), -inf where a token may not be drawn
print(surest.tolist(), kept.isfinite().sum(-1).tolist())
# [False, True, False] [2, 1, 1]
```
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

FEW = 256  # top_p is first looked for among this many of the most likely tokens


def lowest(draft, key: Tensor) -> Tensor:
    """An even share of the masked slots, those of lowest key (D,) -> (D,) bool; ties go left.

    This share decides how many slots a step reveals: the masked ones over the steps left, rounded up.
    """
    share = math.ceil(int(draft.masked.sum()) / draft.steps_left)
    order = key.masked_fill(~draft.masked, math.inf).argsort(stable=True)  # (D,)
    return torch.zeros_like(draft.masked).index_fill(0, order[:share], True)


def entropy(p: Tensor) -> Tensor:
    """H = - sum p log p in nats: (..., A) -> (...)."""
    return torch.special.entr(p).sum(-1)


def random_order(draft) -> Tensor:
    """Any-order AR, taken in K steps; `decoding.py` has a copy, so that it stands alone."""
    return lowest(draft, draft.noise)


def left_to_right(draft) -> Tensor:
    """The order of speech; one slot per step is autoregressive decoding inside the block."""
    return lowest(draft, torch.arange(len(draft.masked), dtype=torch.float64))


def entropy_order(draft) -> Tensor:
    """The slots the network is surest of, whatever was drawn there."""
    return lowest(draft, entropy(draft.p))


def confidence_released(draft) -> Tensor:
    """The slots whose *drawn* token is most likely, as in the released code. A lucky draw is kept and an unlucky
    one drawn again, so likely tokens are too frequent (two independent bits, p = .9: P(11) = .891, not .81)."""
    p_of_drawn = draft.p.gather(-1, draft.candidates[:, None])[:, 0]  # (D,)
    return lowest(draft, -p_of_drawn)


def confidence_threshold(draft, threshold: float = 0.9) -> Tensor:
    """All slots whose most likely token has more than `threshold`, at least one; steps do not count."""
    top = draft.p.amax(-1).masked_fill(~draft.masked, -1.0)  # (D,)
    best = torch.zeros_like(draft.masked).index_fill(0, top.argmax(), True)
    return draft.masked & (top > threshold) | best


def entropy_bound(draft, gamma: float = 0.5) -> Tensor:
    """The most slots for which sum H - max H <= gamma nats, at least one; steps do not count.

    Drawing slots independently costs KL(joint || product) = sum H_i - H(joint) <= sum H_i - max H_i."""
    H = entropy(draft.p).masked_fill(~draft.masked, math.inf)  # (D,)
    H, order = H.sort(stable=True)  # any set is beaten by the same number of lowest entropies
    allowed = H.cumsum(0) - H <= gamma  # sum - max of the n lowest; the first is always 0
    chosen = order[allowed & H.isfinite()]
    return torch.zeros_like(draft.masked).index_fill(0, chosen, True)


POLICIES: dict[str, Callable] = {
    policy.__name__: policy
    for policy in (
        random_order,
        left_to_right,
        entropy_order,
        confidence_released,
        confidence_threshold,
        entropy_bound,
    )
}


def policy_named(text: str) -> Callable:
    """A policy by name, its number after a colon if it takes one: "entropy_order", "entropy_bound:0.3".

    Raises ValueError for an unknown name, and for a number that the policy does not take or that is not 0 or more.
    """
    name, _, number = text.partition(":")
    parameters = {"confidence_threshold": "threshold", "entropy_bound": "gamma"}
    parameter = parameters.get(name)
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}: choose one of {', '.join(POLICIES)}")
    if not number:
        return POLICIES[name]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if parameter is None or not 0 <= value < math.inf:
        raise ValueError(
            f"policy {text!r}: only confidence_threshold and entropy_bound take a number, 0 or more"
        )
    return partial(POLICIES[name], **{parameter: value})


def most_likely(logits: Tensor, n: int) -> Tensor:
    """The n highest of each row of logits (N, A), highest first -> indices (N, min(n, A)); ties go to the lower index.

    What is below the nth value is not sorted: to sort 150,000 text tokens takes longer than all else in the decoder.
    """
    rows = []
    for row in logits:
        values, ids = row.topk(min(n + 1, len(row)))
        if len(row) > n and values[n - 1] == values[n]:
            # topk takes any of those that tie: here are all of them
            ids = (row >= values[n]).nonzero()[:, 0]
        else:
            ids = ids[:n].sort().values
        order = row[ids].argsort(descending=True, stable=True)
        rows.append(ids[order[:n]])
    return torch.stack(rows)


@dataclass(frozen=True)
class Sampling:
    """Logits -> the logits to draw from; temperature 0 is greedy. Raises ValueError for bad settings."""

    temperature: float = 1.0
    top_k: int | None = None  # only the k most likely tokens
    top_p: float | None = None  # of those, the fewest most likely that hold top_p of their probability

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, not {self.temperature!r}")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1 (or None), not {self.top_k!r}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (or None), not {self.top_p!r}")

    def __call__(self, logits: Tensor) -> Tensor:
        """(N, A) -> (N, A), -inf where a token may not be drawn; ties go to the lower index."""
        kept, to_draw = self.candidates(logits)
        if kept is None:
            return to_draw
        return torch.full_like(logits, -math.inf).scatter_(-1, kept, to_draw)

    def candidates(self, logits: Tensor) -> tuple[Tensor | None, Tensor]:
        """As `__call__`, but only for tokens that can still be drawn: (N, A) -> indices (N, k), rising, and logits (N, k).

        Instead of the indices of all tokens it returns None, with logits (N, A). A decoder need not look at 150,000 text
        tokens of which ten are left.
        """
        # 1. Temperature; at 0 the most likely token alone is left.
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)  # (N, 1)
            return best, logits.gather(-1, best)
        highest = logits.amax(-1, keepdim=True)  # (N, 1)
        if self.top_k is None and self.top_p is None:
            return None, (logits - highest) / self.temperature
        # 2. The k most likely, most likely first; without top_k, as many as hold top_p.
        if self.top_k is not None:
            order = most_likely(logits, self.top_k)  # (N, k)
            ranked = (logits.gather(-1, order) - highest) / self.temperature  # (N, k)
            p = ranked.softmax(-1)  # (N, k)
        else:
            p = ((logits - highest) / self.temperature).softmax(-1)  # (N, A)
            order = most_likely(logits, self._enough(p))  # (N, k)
            ranked = (logits.gather(-1, order) - highest) / self.temperature  # (N, k)
            p = p.gather(-1, order)  # (N, k)
        # 3. Of those, the fewest that hold top_p of the probability.
        if self.top_p is not None:
            ranked_before = p.cumsum(-1) - p  # (N, k): probability of all tokens ranked before
            ranked = ranked.masked_fill(ranked_before >= self.top_p, -math.inf)
        # 4. Back in the order of the ids.
        kept, rank = order.sort(-1)
        return kept, ranked.gather(-1, rank)

    def _enough(self, p: Tensor) -> int:
        """How many of the most likely tokens suffice to hold top_p in every row of p (N, A)."""
        n = FEW
        while n < p.shape[-1] and (p.topk(n).values.sum(-1) < self.top_p).any():
            n = 4 * n
        return n
