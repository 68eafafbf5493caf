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

With an oracle and one slot a step all but the last sample exactly.

All of this is said of the network's own distribution (temperature 1, no truncation, no guidance) and of the tokens as
drawn. Closing a block overwrites what follows its first EOA, so several draws become one block, and the forced path is
an upper bound on its -log p.

The distribution at a slot is Sampling(temperature, top_k, top_p); policies look at p before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


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
    """The order of speech; one slot a step is autoregressive decoding inside the block."""
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
    """A policy by name, its number after a colon if it takes one: "entropy_order", "entropy_bound:0.3"."""
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
        # 1. Temperature; at 0 the most likely token alone is left.
        if self.temperature == 0:
            is_best = torch.arange(logits.shape[-1]) == logits.argmax(-1, keepdim=True)  # (N, A)
            return logits.masked_fill(~is_best, -math.inf)
        scaled = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is None and self.top_p is None:
            return scaled
        # 2. The k most likely.
        ranked, order = scaled.sort(dim=-1, descending=True, stable=True)  # (N, A)
        if self.top_k is not None:
            ranked[:, self.top_k :] = -math.inf
        # 3. Of those, the fewest that hold top_p of the probability.
        if self.top_p is not None:
            p = ranked.softmax(-1)
            ranked_before = p.cumsum(-1) - p  # (N, A): probability of all tokens ranked before
            ranked = ranked.masked_fill(ranked_before >= self.top_p, -math.inf)
        # 4. Back in the order of the ids.
        return torch.empty_like(ranked).scatter(-1, order, ranked)
