"""The likelihood bounds of masked diffusion, exact, by enumeration, in every form in which they are known.

All of them are sums over one table: `surprisals` asks a network once for every masked set S of a short
sequence and keeps -log p(x_i | the tokens outside S) for each i in S. CE(S) is the sum of a row. Rows count
in binary: position i is masked in row r when bit i of r is set. The bound, in nats (all forms agree for any
network, consistent or not; density lambda: each token is in S with probability lambda):

    integral over lambda in (0, 1) of 1/lambda E CE(S), S of density lambda                `lambda_integral`
    = the same over t with weight -alpha'(t) / (1 - alpha(t))                              `time_integral`
    = sum over S of (|S|-1)! (L-|S|)! / L! CE(S)                                           `closed_form`
    = E over k of (L/k) E over k-subsets of CE                                             `k_subset_form`
    = mean over all L! orders of -log p, revealing one token at a time                     `any_order_form`

Sources: MDLM (arXiv 2406.07524) and TtT (2509.20072) for the integral, RADD (2406.03736) for the equality
with any-order autoregression, LLaDA (2502.09992) for k-subsets. This file needs nothing but torch; it also
works when copied on its own:

```python
import torch
from bounds import any_order_form, closed_form, k_step_bound, surprisals

MASK, x0 = 2, torch.tensor([1, 1, 1])  # three bits (L,)
def predict(x_t):  # (N, L) -> log p(x_0 | x_t) (N, L, V): bits are more likely 1 the more 1s are revealed
    logit = 1.0 * (x_t == 1).sum(1, keepdim=True).double().expand(x_t.shape)  # (N, L)
    zeros = torch.zeros_like(logit)
    return torch.stack([zeros, logit, zeros - torch.inf], -1).log_softmax(-1)
table = surprisals(predict, x0, MASK)  # (8, 3)
assert torch.isclose(closed_form(table), any_order_form(table))
print([round(k_step_bound(table, steps).item(), 3) for steps in (1, 2, 3)])  # nats, by number of steps
```
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Predict = Callable[[Tensor], Tensor]  # x_t (N, L) long -> log p(x_0 | x_t) (N, L, V), MASK excluded


def group_surprisals(predict: Predict, x0: Tensor, mask_id: int, groups: Tensor) -> list[Tensor]:
    """One table (2^n, n) per group of n tokens: earlier groups clean, this one partly masked, later ones fully.

    The sum of the groups' bounds bounds -log p(x0) for a model that generates group after group. (A network
    whose attention hides later groups sees no difference.) x0, groups (L,) long. Raises ValueError when
    `predict` does not return normalised log-probabilities, x0 holds MASK, or a group has more than 16 tokens.
    """
    if x0.dim() != 1 or groups.shape != x0.shape or (x0 == mask_id).any():
        raise ValueError(f"x0 is {x0}, groups {groups}; both must be (L,), x0 without MASK ({mask_id})")
    tables = []
    for group in groups.unique():
        place = (groups == group).nonzero().squeeze(1)  # (n,)
        masked = masked_sets(len(place))  # (2^n, n)
        x_t = x0.masked_fill(groups > group, mask_id).repeat(len(masked), 1)  # (2^n, L)
        x_t[:, place] = x0[place].masked_fill(masked, mask_id)
        log_p = predict(x_t)[:, place]  # (2^n, n, V)
        _check_normalised(log_p[masked])
        surprisal = -log_p.gather(2, x0[place].expand(len(masked), -1).unsqueeze(2)).squeeze(2)
        tables.append(torch.where(masked, surprisal, 0.0))
    return tables


def surprisals(predict: Predict, x0: Tensor, mask_id: int) -> Tensor:
    """The table (2^L, L) of a sequence that is one group: -log p(x_i | tokens outside S), i in S, else 0."""
    return group_surprisals(predict, x0, mask_id, torch.zeros_like(x0))[0]


def masked_sets(n: int) -> Tensor:
    """All 2^n masked sets of n positions, in binary order: (2^n, n) bool. ValueError beyond n = 16."""
    if not 1 <= n <= 16:
        raise ValueError(f"{n} tokens to enumerate; it must be 1 to 16 (2^n sets)")
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n)) % 2 == 1


def mean_by_count(table: Tensor) -> Tensor:
    """m_k, the mean of CE(S) over the k-subsets S, for k = 0..n. table (2^n, n) -> (n + 1,); m_0 = 0."""
    k = masked_sets(table.shape[1]).sum(1)  # (2^n,)
    total = table.new_zeros(table.shape[1] + 1).index_add_(0, k, table.sum(1))
    return total / torch.bincount(k)


def closed_form(table: Tensor) -> Tensor:
    """Sum over masked sets S of (|S|-1)! (n-|S|)! / n! CE(S). table (2^n, n) -> nats ()."""
    n = table.shape[1]
    k = masked_sets(n).sum(1)  # (2^n,)
    coefficient = torch.tensor(
        [0.0] + [1 / (j * math.comb(n, j)) for j in range(1, n + 1)], dtype=table.dtype
    )
    return (coefficient[k] * table.sum(1)).sum()


def k_subset_form(table: Tensor) -> Tensor:
    """E over k uniform on 1..n of (n/k) E over k-subsets of CE. table (2^n, n) -> nats ()."""
    n = table.shape[1]
    k = torch.arange(1, n + 1, dtype=table.dtype)
    return (n / k * mean_by_count(table)[1:]).mean()


def lambda_integral(table: Tensor, lower: float = 0.0, upper: float = 1.0) -> Tensor:
    """Integral over lambda from lower to upper of 1/lambda E CE(S). table (2^n, n) -> nats ().

    The integrand is a polynomial of degree n - 1 in lambda, so Gauss-Legendre with n/2 nodes or more is
    exact. Limits inside (0, 1) give a schedule that stops short, which bounds nothing by itself: the missing
    ends are further terms.
    """
    node, weight = _gauss_legendre(table.shape[1], lower, upper)  # (J,)
    return (weight * _ce_over_p(table, node)).sum()


def time_integral(table: Tensor, schedule, nodes: int = 64) -> Tensor:
    """Integral over t in (0, 1) of -alpha'(t) / (1 - alpha(t)) E CE(S) at density 1 - alpha(t).

    `schedule` has alpha(t) and alpha_prime(t) on tensors. Gauss-Legendre in t: as exact as alpha is smooth.
    table (2^n, n) -> nats ().
    """
    t, weight = _gauss_legendre(nodes, 0.0, 1.0)  # (J,)
    return (weight * -schedule.alpha_prime(t) * _ce_over_p(table, 1 - schedule.alpha(t))).sum()


def discrete_time_bound(table: Tensor, masked_share: Sequence[float]) -> Tensor:
    """The bound of a chain with masked shares 0 = lambda_0 < .. < lambda_T = 1: its posteriors' divergences.

    Step j costs (lambda_j - lambda_{j-1}) / lambda_j E CE(S) at lambda_j; it tends to the continuous-time
    bound. table (2^n, n) -> nats ().
    """
    share = torch.as_tensor(masked_share, dtype=table.dtype)  # (T + 1,)
    if share[0] != 0 or share[-1] != 1 or (share.diff() <= 0).any():
        raise ValueError(f"masked_share is {masked_share}; it must rise from 0 to 1")
    return (share.diff() * _ce_over_p(table, share[1:])).sum()


def path_nll(table: Tensor, rounds: Sequence[Sequence[int]]) -> Tensor:
    """-log p when revealing round by round, each round's tokens in parallel. table (2^n, n) -> nats ()."""
    n = table.shape[1]
    if sorted(itertools.chain(*rounds)) != list(range(n)):
        raise ValueError(f"rounds is {rounds}; it must hold each of the positions 0..{n - 1} once")
    row = 2**n - 1  # all masked
    nll = table.new_zeros(())
    for positions in rounds:
        nll = nll + table[row, list(positions)].sum()
        row -= sum(2**i for i in positions)
    return nll


def order_nlls(table: Tensor) -> Tensor:
    """-log p along each of the n! orders, one token at a time. table (2^n, n), n <= 8 -> (n!,) nats."""
    n = table.shape[1]
    if n > 8:
        raise ValueError(f"{n} tokens have {math.factorial(n)} orders; it must be 8 tokens or fewer")
    order = torch.tensor(list(itertools.permutations(range(n))))  # (n!, n)
    revealed = (2**order).cumsum(1) - 2**order  # (n!, n): the bits revealed before each step
    return table[2**n - 1 - revealed, order].sum(1)


def any_order_form(table: Tensor) -> Tensor:
    """The any-order autoregressive bound: mean over orders of -log p. table (2^n, n) -> nats ()."""
    return order_nlls(table).mean()


def any_order_nll(table: Tensor) -> Tensor:
    """-log of the mean over orders of p, which a random-order sampler assigns. table (2^n, n) -> nats ().

    Never above `any_order_form` (Jensen); equal when the network is consistent, so that all orders agree on p.
    """
    nll = order_nlls(table)
    return math.log(len(nll)) - torch.logsumexp(-nll, 0)


def round_sizes(n: int, steps: int) -> list[int]:
    """How many of n tokens each round reveals: n // steps, and one more in the first n % steps rounds."""
    if not 1 <= steps <= n:
        raise ValueError(f"steps is {steps}; it must lie in 1..{n}, the number of tokens")
    sizes = [n // steps] * steps
    for j in range(n % steps):
        sizes[j] += 1
    return sizes


def k_step_bound(table: Tensor, steps: int) -> Tensor:
    """NELBO(K): mean over random partitions into K rounds of -log p, each round revealed in parallel.

    A uniformly random order is cut into `round_sizes`. Before round j, r_j tokens are masked, forming a uniform
    r_j-subset S; the round reveals a uniform n_j-subset of S, which costs n_j/r_j CE(S) on average. So
    NELBO(K) = sum over rounds of (n_j / r_j) m_{r_j}; NELBO(n) is the any-order bound. table (2^n, n) -> nats
    ().
    """
    m = mean_by_count(table)  # (n + 1,)
    left = table.shape[1]
    bound = table.new_zeros(())
    for size in round_sizes(left, steps):
        bound = bound + size / left * m[left]
        left -= size
    return bound


def forced_path_nll(
    predict: Predict, x0: Tensor, mask_id: int, choose: Callable[[Tensor, Tensor], Sequence[int]]
) -> Tensor:
    """-log p(x0) under a sampler with a deterministic order, exact: only the tokens it draws are random.

    `choose(x_t (L,), log_p (L, V))` names the positions revealed next; it may look at revealed tokens and
    predictions but not at sampled candidates. x0 (L,) long -> nats (). ValueError when it names a revealed
    position, or none.
    """
    x_t = torch.full_like(x0, mask_id)  # (L,)
    nll = torch.zeros(())
    while (x_t == mask_id).any():
        log_p = predict(x_t.unsqueeze(0))[0]  # (L, V)
        positions = torch.as_tensor(choose(x_t, log_p), dtype=torch.long).reshape(-1)
        names_some_once = len(positions) > 0 and len(positions.unique()) == len(positions)
        if not names_some_once or (x_t[positions] != mask_id).any():
            raise ValueError(
                f"choose named {positions.tolist()} in {x_t.tolist()}; it must name masked positions"
            )
        nll = nll - log_p[positions, x0[positions]].sum()
        x_t[positions] = x0[positions]
    return nll


def k_subset_moments(table: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (n/k) CE(S), k uniform on 1..n, S a uniform k-subset. table (2^n, n) -> two ()."""
    n = table.shape[1]
    ce = table.sum(1)  # (2^n,)
    k = torch.arange(1, n + 1, dtype=table.dtype)  # (n,)
    mean = k_subset_form(table)
    mean_square = (n / k**2 * _mean_square_by_count(ce)[1:]).sum()
    return mean, mean_square - mean**2


def inverse_p_moments(table: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of CE(S)/p, p uniform on (eps, 1), each token in S with probability p.

    Sets of one token add a term in log(1/eps) to the variance: it is infinite at eps = 0 (unless they cost
    nothing). table (2^n, n) -> two tensors ().
    """
    n = table.shape[1]
    square = _mean_square_by_count(table.sum(1))  # (n + 1,)
    p, weight = _gauss_legendre(n, eps, 1.0)  # (J,), (J,)
    # 1. Sets of two tokens or more: E CE(S)^2 / p^2 has no pole, so the quadrature is exact.
    k = torch.arange(2, n + 1).unsqueeze(1)  # (n - 1, 1)
    chance_over_p2 = _choose(n, k) * p ** (k - 2) * (1 - p) ** (n - k)  # (n - 1, J)
    many = (chance_over_p2 * square[2:].unsqueeze(1)).sum(0)  # (J,)
    integral = (weight * many).sum()
    # 2. Sets of one token: n square_1 times the integral of (1-p)^(n-1)/p, which is 1/p minus the polynomial
    #    sum over j < n-1 of (1-p)^j.
    if square[1] > 0:
        j = torch.arange(n - 1).unsqueeze(1)  # (n - 1, 1)
        polynomial = ((1 - p) ** j).sum(0)  # (J,)
        integral_of_inverse = math.inf
        if eps > 0:
            integral_of_inverse = -math.log(eps)
        single = integral_of_inverse - (weight * polynomial).sum()
        integral = integral + n * square[1] * single
    mean = lambda_integral(table, eps, 1.0) / (1 - eps)
    mean_square = integral / (1 - eps)
    return mean, mean_square - mean**2


def inverse_p_bias(table: Tensor, eps: float) -> Tensor:
    """What 1/p weights with p uniform on (eps, 1) add to the bound on average. table (2^n, n) -> nats ().

    The integral from eps to 1, divided by (1 - eps), minus the bound: sets of one token count too little, full
    ones too much.
    """
    return lambda_integral(table, eps, 1.0) / (1 - eps) - closed_form(table)


def _ce_over_p(table: Tensor, p: Tensor) -> Tensor:
    """E CE(S)/p, with each token in S with probability p: sum of p^(|S|-1) (1-p)^(n-|S|) CE(S). (J,) -> (J,)."""
    n = table.shape[1]
    k = torch.arange(1, n + 1).unsqueeze(1)  # (n, 1)
    chance_over_p = _choose(n, k) * p ** (k - 1) * (1 - p) ** (n - k)  # (n, J): of k masked tokens
    ce = mean_by_count(table)[1:].unsqueeze(1)  # (n, 1)
    return (chance_over_p * ce).sum(0)


def _mean_square_by_count(ce: Tensor) -> Tensor:
    """Mean of CE(S)^2 over k-subsets, k = 0..n. (2^n,) -> (n + 1,)."""
    n = int(math.log2(len(ce)))
    square = ce.unsqueeze(1) ** 2  # (2^n, 1)
    nothing = ce.new_zeros(len(ce), n - 1)  # `mean_by_count` adds up n columns
    return mean_by_count(torch.cat([square, nothing], 1))


def _choose(n: int, k: Tensor) -> Tensor:
    """Binomial coefficients n choose k, in the shape of k."""
    coefficients = [math.comb(n, int(i)) for i in k.flatten()]
    return torch.tensor(coefficients, dtype=torch.float64).view_as(k)


def _gauss_legendre(nodes: int, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights (J,) on (lower, upper): eigenvalues of the Jacobi matrix (Golub and Welsch, 1969)."""
    # 1. On (-1, 1).
    j = torch.arange(1, nodes, dtype=torch.float64)
    off_diagonal = j / (4 * j**2 - 1).sqrt()  # (J - 1,)
    jacobi = torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)  # (J, J)
    x, vectors = torch.linalg.eigh(jacobi)
    # 2. Moved to (lower, upper).
    middle = (lower + upper) / 2
    length = upper - lower
    return middle + length / 2 * x, length * vectors[0] ** 2


def _check_normalised(log_p: Tensor) -> None:
    """Raise ValueError unless log_p (..., V) are the logarithms of probabilities."""
    total = log_p.exp().sum(-1)
    if not torch.allclose(total, torch.ones_like(total), atol=1e-4):
        raise ValueError("predict returned no log-probabilities (they must sum to 1); wrap logits in `subs`")
