"""Absorbing diffusion: how tokens are masked, what a network may predict, how a loss is weighted.

A token either keeps its value or becomes MASK, and MASK never changes again. At time t in [0, 1] a token is
still itself with probability alpha(t); the masked share is lambda = 1 - alpha. The training bound is the
integral over lambda in (0, 1) of 1/lambda times the expected cross-entropy at the masked tokens (MDLM, arXiv
2406.07524; TtT, arXiv 2509.20072, trains audio spans with it). The functions that draw masks estimate it;
`bounds.py` enumerates it exactly.

This file needs nothing but torch. Copied alone into another project, this works:

```python
import torch
from diffusion import corrupt, random_k_subset

MASK, generator = 9, torch.Generator().manual_seed(0)
x0 = torch.tensor([[1, 2, 3, 4, 5, 6], [4, 3, 2, 1, 0, 0]])  # (B, L)
segments = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, -1, -1]])  # three groups; -1 is never masked
masked, weight = random_k_subset(segments, generator)
x_t = corrupt(x0, masked, MASK)
logits = torch.zeros(2, 6, 10)  # a network would map x_t to this: (B, L, V)
cross_entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x0.flatten(), reduction="none")
bound = (weight * cross_entropy.view(2, 6)).sum()  # unbiased for the sum of the three groups' bounds, in nats
assert torch.isclose(bound, 10 * torch.tensor(10.0).log())
```
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class Linear:
    """alpha(t) = (1 - eps)(1 - t): the masked share is lambda = (1 - eps) t + eps.

    eps = 0 (MDLM's "log-linear" noise): alpha(0) = 1, alpha(1) = 0. eps > 0 (the released TtT code, 1e-3)
    stops short at t = 0: a share eps is always masked; `bounds.inverse_p_bias` says what that does to 1/p.
    """

    eps: float = 0.0

    def alpha(self, t: Tensor) -> Tensor:
        """Probability (...) that a token is still itself at time t (...)."""
        return (1 - self.eps) * (1 - t)

    def alpha_prime(self, t: Tensor) -> Tensor:
        """d alpha / dt (...) at t (...)."""
        return torch.full_like(t, self.eps - 1)


@dataclass(frozen=True)
class Cosine:
    """alpha(t) = 1 - sin(pi t / 2): fast masking first, slow at the end (MaskGIT's cosine, read backwards).

    alpha(0) = 1 and alpha(1) = 0 exactly.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Probability (...) that a token is still itself at time t (...)."""
        return 1 - torch.sin(math.pi / 2 * t)

    def alpha_prime(self, t: Tensor) -> Tensor:
        """d alpha / dt (...) at t (...)."""
        return -math.pi / 2 * torch.cos(math.pi / 2 * t)


@dataclass(frozen=True)
class Geometric:
    """alpha(t) = exp(-sigma(t)), sigma(t) = low^(1-t) high^t (the geometric noise of SEDD and MDLM).

    It stops short at both ends: alpha(0) = exp(-low) < 1 and alpha(1) = exp(-high) > 0, so an integral over t
    covers lambda from 1 - exp(-low) to 1 - exp(-high) only. `stretched` maps it onto alpha(0) = 1 and
    alpha(1) = 0 exactly: (alpha(t) - alpha(1)) / (alpha(0) - alpha(1)).
    """

    low: float = 1e-3
    high: float = 10.0
    stretched: bool = False

    def alpha(self, t: Tensor) -> Tensor:
        """Probability (...) that a token is still itself at time t (...)."""
        alpha = self._survival(t)
        if not self.stretched:
            return alpha
        alpha_0, alpha_1 = self._ends(t)
        return (alpha - alpha_1) / (alpha_0 - alpha_1)

    def alpha_prime(self, t: Tensor) -> Tensor:
        """d alpha / dt (...) at t (...): -sigma'(t) exp(-sigma(t)), sigma' = sigma log(high / low)."""
        sigma_prime = self._sigma(t) * math.log(self.high / self.low)
        slope = -sigma_prime * self._survival(t)
        if not self.stretched:
            return slope
        alpha_0, alpha_1 = self._ends(t)
        return slope / (alpha_0 - alpha_1)

    def _ends(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The unstretched alpha(0) and alpha(1), in the shape of t."""
        return self._survival(torch.zeros_like(t)), self._survival(torch.ones_like(t))

    def _sigma(self, t: Tensor) -> Tensor:
        return self.low ** (1 - t) * self.high**t

    def _survival(self, t: Tensor) -> Tensor:
        return torch.exp(-self._sigma(t))


def forward_kernel(alpha_s: float, alpha_t: float, vocab_size: int, mask_id: int) -> Tensor:
    """q(x_t | x_s) as a matrix (V, V) float64, row x_s, column x_t, for times s <= t.

    A token stays with probability alpha_t / alpha_s and becomes MASK otherwise; MASK stays MASK. alpha_s = 1
    gives the marginal q(x_t | x_0). Where alpha_s = 0 all is MASK already: nothing else stays. Raises ValueError
    unless 1 >= alpha_s >= alpha_t >= 0, and for a mask_id outside 0..V-1.
    """
    _check_alphas(alpha_s, alpha_t)
    if not 0 <= mask_id < vocab_size:
        raise ValueError(f"mask_id is {mask_id}; it must be one of the {vocab_size} ids, 0..{vocab_size - 1}")
    stays = alpha_t / alpha_s if alpha_s > 0 else 0.0
    kernel = stays * torch.eye(vocab_size, dtype=torch.float64)
    kernel[:, mask_id] = 1 - stays
    kernel[mask_id, mask_id] = 1.0
    return kernel


def subs(logits: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """log p(x_0 | x_t) from a network's logits: MDLM's substitution (SUBS), or carry-over, parameterisation.

    A revealed token is itself for certain; MASK is never predicted; time is not an argument, since the best
    prediction given the revealed tokens does not depend on it. logits (..., V), x_t (...) long ->
    log-probabilities (..., V). Raises ValueError for shapes that do not fit, and for a mask_id outside 0..V-1.
    """
    if logits.shape[:-1] != x_t.shape or not 0 <= mask_id < logits.shape[-1]:
        found = f"logits {tuple(logits.shape)}, x_t {tuple(x_t.shape)}, mask_id {mask_id}"
        raise ValueError(f"{found}; logits must be the shape of x_t and V more, with mask_id below V")
    V = logits.shape[-1]
    is_mask_id = torch.arange(V, device=logits.device) == mask_id  # (V,)
    log_p = logits.masked_fill(is_mask_id, -math.inf).log_softmax(-1)  # (..., V)
    itself = F.one_hot(x_t, V).to(log_p.dtype).log()  # (..., V): 0 at x_t, -inf elsewhere
    masked = (x_t == mask_id).unsqueeze(-1)  # (..., 1)
    return torch.where(masked, log_p, itself)


def posterior(x_t: Tensor, p_x0: Tensor, alpha_s: float, alpha_t: float, mask_id: int) -> Tensor:
    """q(x_s | x_t, x_0) for s <= t, averaged over p_x0.

    Pass a one-hot p_x0 for the exact posterior, or the network's prediction for the sampler. A revealed token stays.
    MASK stays MASK with probability (1 - alpha_s) / (1 - alpha_t), else becomes x_0. x_t (...) long, p_x0 (..., V) ->
    (..., V). Raises ValueError unless 1 >= alpha_s >= alpha_t >= 0, where p_x0 gives MASK a probability, and where x_t
    holds MASK at alpha_t = 1.
    """
    _check_alphas(alpha_s, alpha_t)
    if p_x0[..., mask_id].any():
        raise ValueError("p_x0 gives MASK a probability; it must be 0, as `subs` makes it")
    masked = x_t == mask_id
    if alpha_t == 1 and masked.any():
        raise ValueError("x_t holds MASK at alpha_t = 1, where nothing is masked; alpha_t must be below 1")
    itself = F.one_hot(x_t, p_x0.shape[-1]).to(p_x0.dtype)  # (..., V); for a masked token: one-hot MASK
    if alpha_t == 1:  # nothing is masked
        return itself
    revealed_by_s = (alpha_s - alpha_t) / (1 - alpha_t)
    stays_masked = (1 - alpha_s) / (1 - alpha_t)
    of_masked = revealed_by_s * p_x0 + stays_masked * itself  # (..., V)
    return torch.where(masked.unsqueeze(-1), of_masked, itself)


def _check_alphas(alpha_s: float, alpha_t: float) -> None:
    if not 1 >= alpha_s >= alpha_t >= 0:
        raise ValueError(f"alpha_s is {alpha_s}, alpha_t is {alpha_t}; must be 1 >= alpha_s >= alpha_t >= 0")


def corrupt(x0: Tensor, masked: Tensor, mask_id: int) -> Tensor:
    """x_t: `mask_id` where `masked`, the clean token elsewhere.

    x0 (..., L) long and masked (..., L) bool -> (..., L) long. Raises ValueError when the shapes differ,
    `masked` is not bool, or a clean token already is MASK (an id collision: it would be copied, and never
    learnt).
    """
    if masked.dtype != torch.bool or masked.shape != x0.shape:
        found = f"{masked.dtype} {tuple(masked.shape)}"
        raise ValueError(f"masked is {found}; it must be torch.bool {tuple(x0.shape)}, the shape of x0")
    if (x0 == mask_id).any():
        raise ValueError(f"x0 holds the MASK id {mask_id}; clean tokens must not, give MASK an id of its own")
    return x0.masked_fill(masked, mask_id)


def random_k_subset(
    segments: Tensor, generator: Generator, stratified: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """In each group of n tokens mask a uniform k-subset, k uniform on 1..n, and weigh its tokens with n/k.

    segments (B, L) long: -1 = never masked; equal numbers in one row = one group (they need not be
    neighbours). Returns masked (B, L) bool and weight (B, L): n/k where masked, 0 elsewhere. sum(weight *
    cross-entropy) has the groups' continuous-time bounds, summed, as its expectation: bound = E_k (n/k)
    E_{k-subset} CE. `stratified` spreads the fractions (k - 1/2)/n evenly over all groups of the batch; each
    k stays exactly uniform. Raises ValueError unless segments is torch.long (B, L).
    """
    index, group, size = _groups_of(segments)  # (N,), (N,), (G,)
    N = len(index)
    # 1. How many tokens of each group are masked: uniform on 1..n.
    u = _uniforms(len(size), generator, stratified).to(segments.device)  # (G,)
    k = (u * size).long().clamp(max=size - 1) + 1  # (G,); the clamp: u may round up to 1
    # 2. A random rank for each token inside its group: a uniform shuffle, then a stable sort by group.
    shuffled = torch.randperm(N, generator=generator, device=generator.device).to(segments.device)  # (N,)
    by_group = shuffled[group[shuffled].argsort(stable=True)]  # (N,)
    place = torch.empty_like(by_group)  # (N,)
    place[by_group] = torch.arange(N, device=index.device)
    group_start = size.cumsum(0) - size  # (G,)
    rank = place - group_start[group]  # (N,)
    # 3. The k lowest ranks are a uniform k-subset, and weigh n/k.
    chosen = rank < k[group]  # (N,)
    weight = size / k.double()  # (G,)
    return _scatter(segments, index, chosen, weight[group], dtype)


def independent_masks(
    segments: Tensor,
    generator: Generator,
    eps: float = 1e-3,
    stratified: bool = False,
    weighting: str = "inverse_p",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """In each group draw t uniform, p = (1 - eps) t + eps, and mask each token independently with probability p.

    segments (B, L) as in `random_k_subset` (one number per row = one t per row, as the released TtT code
    draws it). Returns masked (B, L) bool and weight (B, L), 0 where not masked. `weighting`:
    - "inverse_p": 1/p. Unbiased at eps = 0 only, and there of infinite variance (`bounds.inverse_p_moments`);
    - "by_count": the exact weights `count_weight(k, n, eps)`, unbiased for every eps < 1.
    `stratified` spreads the t evenly over all groups of the batch, each t still uniform. Raises ValueError unless
    segments is torch.long (B, L), for another weighting, and unless 0 <= eps < 1.
    """
    if weighting not in ("inverse_p", "by_count"):
        raise ValueError(f"weighting is {weighting!r}; it must be 'inverse_p' or 'by_count'")
    index, group, size = _groups_of(segments)  # (N,), (N,), (G,)
    # 1. A time for each group, and from it the probability that one of its tokens is masked.
    t = _uniforms(len(size), generator, stratified).to(segments.device)  # (G,)
    p = mask_probability(t, eps)  # (G,)
    # 2. A coin for each token.
    u = torch.rand(len(index), generator=generator, device=generator.device, dtype=torch.float64)  # (N,)
    chosen = u.to(segments.device) < p[group]  # (N,)
    # 3. The weight of a group's masked tokens.
    if weighting == "inverse_p":
        weight = 1 / p  # (G,)
    else:
        k = torch.zeros_like(size).index_add_(0, group, chosen.long())  # (G,)
        weight = count_weight(k, size, eps)  # (G,)
    return _scatter(segments, index, chosen, weight[group], dtype)


def mask_probability(t: Tensor, eps: float) -> Tensor:
    """p = (1 - eps) t + eps, the released TtT code's masking probability. t (...) in [0, 1] -> p (...).

    Raises ValueError unless 0 <= eps < 1.
    """
    _check_eps(eps)
    return (1 - eps) * t + eps


def count_weight(k: Tensor, n: Tensor, eps: float = 0.0) -> Tensor:
    """The exact weight of a draw that masked k of n tokens independently, with p uniform on (eps, 1).

    weight = (1 - eps) (n + 1)/k / P(Binomial(n + 1, eps) <= k): the coefficient (k-1)!(n-k)!/n! of a masked
    set in the bound, over the set's probability under the draw. It depends on the set alone, no longer on p,
    so at eps = 0 it is the mean of 1/p given the set: (n + 1)/k. k, n (G,) long -> (G,) float64, 0 for k = 0.
    Raises ValueError unless 0 <= eps < 1.
    """
    _check_eps(eps)
    weight = (1 - eps) * (n.double() + 1) / k.clamp(min=1)  # (G,)
    weight = torch.where(k > 0, weight, 0.0)
    if eps > 0:
        weight = weight / _binomial_cdf(k, n + 1, eps)
    return weight


def _check_eps(eps: float) -> None:
    if not 0 <= eps < 1:
        raise ValueError(f"eps is {eps}; it must lie in [0, 1)")


def _binomial_cdf(k: Tensor, n: Tensor, p: float) -> Tensor:
    """P(Binomial(n, p) <= k) for 0 < p < 1. k, n (G,) long -> (G,) float64."""
    if len(k) == 0:
        return torch.zeros(0, dtype=torch.float64, device=k.device)
    j = torch.arange(int(k.max()) + 1, device=k.device, dtype=torch.float64)  # (J,)
    n = n.double().unsqueeze(1)  # (G, 1)
    rest = (n - j).clamp(min=0)  # (G, J)
    log_choose = torch.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(rest + 1)  # (G, J)
    log_pmf = log_choose + j * math.log(p) + (n - j) * math.log1p(-p)  # (G, J)
    counted = j <= k.unsqueeze(1)  # (G, J)
    return (log_pmf.exp() * counted).sum(1)


def _groups_of(segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flat places of the maskable tokens (N,), the group 0..G-1 of each (N,), the groups' sizes (G,)."""
    if segments.dim() != 2 or segments.dtype != torch.long:
        found = f"{segments.dtype} {tuple(segments.shape)}"
        raise ValueError(f"segments is {found}; it must be torch.long (B, L), -1 where nothing may be masked")
    index = (segments >= 0).flatten().nonzero().squeeze(1)  # (N,)
    row = index // max(segments.shape[1], 1)  # (N,)
    number = segments.flatten()[index]  # (N,)
    stride = 1  # larger than any number, so that equal numbers in two rows stay apart
    if len(index):
        stride = number.max() + 1
    _, group, size = torch.unique(row * stride + number, return_inverse=True, return_counts=True)
    return index, group, size


def _uniforms(count: int, generator: Generator, stratified: bool) -> Tensor:
    """(count,) float64, each uniform in [0, 1]; stratified: one in each [i, i+1)/count, in random order."""
    device = generator.device
    if not stratified:
        return torch.rand(count, dtype=torch.float64, generator=generator, device=device)
    offset = torch.rand(1, dtype=torch.float64, generator=generator, device=device)
    return (torch.randperm(count, generator=generator, device=device) + offset) / count


def _scatter(
    segments: Tensor, index: Tensor, chosen: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Back to (B, L): the chosen tokens and their weights (N,), nothing and 0 elsewhere."""
    masked = torch.zeros(segments.numel(), dtype=torch.bool, device=segments.device)
    weights = torch.zeros(segments.numel(), dtype=dtype, device=segments.device)
    masked[index] = chosen
    weights[index] = torch.where(chosen, weight, 0.0).to(dtype)
    return masked.view_as(segments), weights.view_as(segments)
