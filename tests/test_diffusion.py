"""Laws 1 to 4, 6 and 7 of absorbing diffusion: noise, parameterisation, draws (law 5: test_bounds.py)."""

import inspect
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.diffusion import (
    Cosine,
    Geometric,
    Linear,
    corrupt,
    count_weight,
    forward_kernel,
    independent_masks,
    mask_probability,
    posterior,
    random_k_subset,
    subs,
)
from minittt.theory.bounds import inverse_p_bias, k_subset_moments, masked_sets, mean_by_count

GOLDEN = Path(__file__).parent / "golden"
SCHEDULES = [Linear(), Linear(0.1), Cosine(), Geometric(), Geometric(0.05, 4.0), Geometric(0.05, 4.0, True)]
FULL = [Linear(), Cosine(), Geometric(stretched=True), Geometric(0.05, 4.0, True)]
seeds = st.integers(0, 2**31)
shares = st.floats(0.0, 1.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def q_step(x_s: int, x_t: int, stays: float, mask_id: int) -> float:
    """q(x_t | x_s), said in words: MASK stays; another token stays with `stays`, or becomes MASK."""
    if x_s == mask_id:
        return 1.0 if x_t == mask_id else 0.0
    return {x_s: stays, mask_id: 1 - stays}.get(x_t, 0.0)


@st.composite
def times(draw) -> tuple[float, float]:
    """alpha_s >= alpha_t, with alpha_s > 0, alpha_t < 1."""
    alpha_s, alpha_t = sorted([draw(shares), draw(shares)], reverse=True)
    return max(alpha_s, 1e-3), min(alpha_t, 0.999, max(alpha_s, 1e-3))


# Law 1: the forward process


@given(st.integers(2, 6), st.data(), times())
def test_law_01_kernel_rows_are_the_rule_and_sum_to_one(V, data, alphas):
    mask_id = data.draw(st.integers(0, V - 1))
    kernel = forward_kernel(*alphas, V, mask_id)
    stays = alphas[1] / alphas[0]
    rule = [[q_step(a, b, stays, mask_id) for b in range(V)] for a in range(V)]
    torch.testing.assert_close(kernel, torch.tensor(rule, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    assert torch.allclose(kernel.sum(1), torch.ones(V, dtype=torch.float64), rtol=1e-12)
    assert kernel[mask_id, mask_id] == 1
    assert (kernel >= 0).all()


@given(st.integers(2, 6), st.data(), st.sampled_from(SCHEDULES), shares, shares)
def test_law_01_kernels_compose_to_the_marginal(V, data, schedule, s, t):
    """q(x_t | x_0) = sum over x_s of q(x_t | x_s) q(x_s | x_0): x_0 with alpha(t), MASK with 1 - alpha(t)."""
    mask_id = data.draw(st.integers(0, V - 1))
    s, t = sorted((s, t))
    alpha_s, alpha_t = schedule.alpha(torch.tensor([s, t], dtype=torch.float64)).tolist()
    composed = forward_kernel(1.0, alpha_s, V, mask_id) @ forward_kernel(alpha_s, alpha_t, V, mask_id)
    marginal = [[q_step(a, b, alpha_t, mask_id) for b in range(V)] for a in range(V)]
    torch.testing.assert_close(composed, torch.tensor(marginal, dtype=torch.float64), rtol=1e-12, atol=1e-15)


@given(st.integers(1, 3), st.integers(1, 6), seeds)
def test_law_01_corrupt_puts_mask_where_masked_and_nowhere_else(B, L, seed):
    x0 = torch.randint(0, 5, (B, L), generator=rng(seed))
    masked = torch.rand(B, L, generator=rng(seed + 1)) < 0.5
    kept = x0.tolist()
    x_t = corrupt(x0, masked, 9).tolist()
    assert x_t == [[9 if masked[b, i] else kept[b][i] for i in range(L)] for b in range(B)]
    assert x0.tolist() == kept


# Law 2: the posterior is Bayes' rule


@given(st.integers(2, 5), st.data(), times())
def test_law_02_posterior_is_bayes(V, data, alphas):
    mask_id = data.draw(st.integers(0, V - 1))
    alpha_s, alpha_t = alphas
    for x0, x_t in itertools.product(range(V), range(V)):
        evidence = q_step(x0, x_t, alpha_t, mask_id)
        if x0 == mask_id or evidence == 0:
            continue
        joint = [
            q_step(x0, x_s, alpha_s, mask_id) * q_step(x_s, x_t, alpha_t / alpha_s, mask_id)
            for x_s in range(V)
        ]
        bayes = torch.tensor(joint, dtype=torch.float64) / evidence
        one_hot = torch.eye(V, dtype=torch.float64)[x0]
        found = posterior(torch.tensor(x_t), one_hot, alpha_s, alpha_t, mask_id)
        torch.testing.assert_close(found, bayes, rtol=1e-12, atol=1e-12)


@given(st.integers(3, 5), seeds, times())
def test_law_02_a_network_averages_the_posterior(V, seed, alphas):
    """With a distribution over x_0 the result is the mean of the posteriors under it."""
    mask_id = V - 1
    x_t = torch.randint(0, V, (7,), generator=rng(seed))
    p = torch.rand(7, V, generator=rng(seed + 1), dtype=torch.float64)
    p[:, mask_id] = 0
    p = p / p.sum(1, keepdim=True)
    p = torch.where((x_t == mask_id).unsqueeze(1), p, torch.eye(V, dtype=torch.float64)[x_t])
    eye = torch.eye(V, dtype=torch.float64)
    mean = sum(p[:, v : v + 1] * posterior(x_t, eye[v].expand(7, V), *alphas, mask_id) for v in range(V - 1))
    torch.testing.assert_close(posterior(x_t, p, *alphas, mask_id), mean, rtol=1e-12, atol=1e-15)


# Law 3: carry-over


@given(st.integers(2, 6), st.data(), seeds, st.floats(0.1, 1e4))
def test_law_03_revealed_tokens_are_copied_and_mask_is_never_predicted(V, data, seed, scale):
    mask_id = data.draw(st.integers(0, V - 1))
    x_t = torch.randint(0, V, (3, 5), generator=rng(seed))
    logits = scale * torch.randn(3, 5, V, generator=rng(seed + 1), dtype=torch.float64)
    logits[..., mask_id] += scale
    log_p = subs(logits, x_t, mask_id)
    others = [v for v in range(V) if v != mask_id]
    for b, i in itertools.product(range(3), range(5)):
        if x_t[b, i] != mask_id:
            copied = [0.0 if v == x_t[b, i] else -math.inf for v in range(V)]
            assert log_p[b, i].tolist() == copied
        else:
            assert log_p[b, i, mask_id] == -math.inf
            rest = logits[b, i, others]
            torch.testing.assert_close(
                log_p[b, i, others], rest - torch.logsumexp(rest, 0), rtol=1e-12, atol=1e-12
            )


@given(st.integers(3, 6), seeds, times(), times())
def test_law_03_the_output_ignores_time(V, seed, alphas, others):
    """No time goes in, and what a step reveals is drawn from the same distribution at all times."""
    assert set(inspect.signature(subs).parameters) == {"logits", "x_t", "mask_id"}
    x_t = torch.full((4,), V - 1)
    p = subs(torch.randn(4, V, generator=rng(seed), dtype=torch.float64), x_t, V - 1).exp()
    for alpha_s, alpha_t in (alphas, others):
        if alpha_s - alpha_t > 1e-6:
            revealed = posterior(x_t, p, alpha_s, alpha_t, V - 1)[:, :-1]
            torch.testing.assert_close(revealed / revealed.sum(1, keepdim=True), p[:, :-1], rtol=1e-9, atol=0)


@given(seeds)
def test_law_03_revealed_positions_give_no_gradient(seed):
    x_t = torch.tensor([0, 3, 1, 3])
    logits = torch.randn(4, 4, generator=rng(seed), dtype=torch.float64, requires_grad=True)
    log_p = subs(logits, x_t, 3)
    log_p.gather(1, torch.tensor([[0], [2], [1], [0]])).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[[0, 2]] == 0).all()
    assert (logits.grad[[1, 3], :3] != 0).all()


# Law 4, the schedules' part (the integrals themselves: test_bounds.py)


@given(st.sampled_from(SCHEDULES), shares)
def test_law_04_alpha_prime_is_the_derivative_and_alpha_falls(schedule, t):
    t = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.alpha(t), t)
    torch.testing.assert_close(schedule.alpha_prime(t.detach()), slope, rtol=1e-12, atol=1e-15)
    assert slope <= 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_law_04_schedules_start_clean_and_end_masked_or_say_where_they_stop(schedule):
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    if schedule in FULL:
        assert ends == [1.0, 0.0]
    elif isinstance(schedule, Linear):
        assert ends == [1 - schedule.eps, 0.0]
    else:
        assert ends == pytest.approx([math.exp(-schedule.low), math.exp(-schedule.high)], rel=1e-14)


# Law 6: the draws


@st.composite
def segment_rows(draw) -> torch.Tensor:
    """Up to 4 rows of up to 9 tokens, groups of any size, in any order, with gaps and big numbers."""
    B, L = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    number = st.sampled_from([-1, 0, 1, 2, 7, 10**6])
    return torch.tensor(draw(st.lists(st.lists(number, min_size=L, max_size=L), min_size=B, max_size=B)))


def groups_in(segments: torch.Tensor) -> list[tuple[int, list[int]]]:
    """(row, columns) of each group, from the definition."""
    rows = segments.tolist()
    return [
        (b, [i for i, number in enumerate(row) if number == wanted])
        for b, row in enumerate(rows)
        for wanted in sorted(set(row) - {-1})
    ]


@given(segment_rows(), seeds, st.booleans())
def test_law_06_each_group_masks_k_of_n_and_weighs_n_over_k(segments, seed, stratified):
    masked, weight = random_k_subset(segments, rng(seed), stratified, dtype=torch.float64)
    assert masked.shape == weight.shape == segments.shape
    assert masked.dtype == torch.bool
    assert not masked[segments < 0].any()
    assert (weight[~masked] == 0).all()
    for b, columns in groups_in(segments):
        chosen = [i for i in columns if masked[b, i]]
        assert 1 <= len(chosen) <= len(columns)
        assert weight[b, chosen].tolist() == [len(columns) / len(chosen)] * len(chosen)
    again = random_k_subset(segments, rng(seed), stratified, dtype=torch.float64)
    assert torch.equal(again[0], masked)
    assert torch.equal(again[1], weight)


@given(segment_rows(), seeds, st.booleans(), st.sampled_from(["inverse_p", "by_count"]))
def test_law_06_independent_masks_stay_inside_groups_with_one_weight_each(segments, seed, stratified, name):
    masked, weight = independent_masks(segments, rng(seed), 0.3, stratified, name, torch.float64)
    assert not masked[segments < 0].any()
    assert (weight[~masked] == 0).all()
    for b, columns in groups_in(segments):
        values = {weight[b, i].item() for i in columns if masked[b, i]}
        assert len(values) <= 1
        if name == "inverse_p":
            assert all(1 <= w <= 1 / 0.3 for w in values)


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    return ((counts - expected) ** 2 / expected).sum().item()


N, DRAWS = 4, 60000
CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 3: 16.27, 11: 31.26, 14: 36.12, 15: 37.70}  # 99.9 % points


def sets_drawn(masked: torch.Tensor) -> torch.Tensor:
    """How often each of the 2^n sets was drawn: (G, n) bool -> (2^n,) float64."""
    return torch.bincount((masked * 2 ** torch.arange(N)).sum(1), minlength=2**N).double()


def probability_of_set_k_subset() -> torch.Tensor:
    """1/n for k, then 1/C(n, k); never the empty set: (2^n,)."""
    sizes = masked_sets(N).sum(1).tolist()
    return torch.tensor([1 / (N * math.comb(N, k)) if k else 0.0 for k in sizes], dtype=torch.float64)


def probability_of_set_independent(eps: float) -> torch.Tensor:
    """Integral over p from eps to 1 of p^k (1-p)^(n-k) / (1 - eps), by numpy's quadrature: (2^n,)."""
    x, w = np.polynomial.legendre.leggauss(20)
    p = (1 + eps) / 2 + (1 - eps) / 2 * x
    return torch.tensor([(w / 2 * p**k * (1 - p) ** (N - k)).sum() for k in masked_sets(N).sum(1).tolist()])


@pytest.mark.parametrize("stratified", [False, True])
def test_law_06_k_subset_draws_every_set_with_its_probability(stratified):
    """99.9 % confidence. Stratified: the counts of k are exact, so only the subsets within each k vary."""
    segments = torch.zeros(DRAWS, N, dtype=torch.long)
    masked, _ = random_k_subset(segments, rng(5), stratified)
    expected = DRAWS * probability_of_set_k_subset()
    degrees = 11 if stratified else 14
    assert chi_square(sets_drawn(masked)[1:], expected[1:]) < CHI_SQUARE_999[degrees]


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_law_06_independent_masks_draw_every_set_with_its_probability(stratified, eps):
    masked, _ = independent_masks(torch.zeros(DRAWS, N, dtype=torch.long), rng(6), eps, stratified)
    expected = DRAWS * probability_of_set_independent(eps)
    assert chi_square(sets_drawn(masked), expected) < CHI_SQUARE_999[15]


@given(st.integers(1, 5), st.integers(1, 40), seeds)
def test_law_06_stratified_k_are_spread_evenly(n, G, seed):
    """Of G groups of n tokens each k falls to G/n, rounded down or up."""
    masked, _ = random_k_subset(torch.arange(G).unsqueeze(1).expand(G, n).contiguous(), rng(seed))
    counts = torch.bincount(masked.sum(1), minlength=n + 1).tolist()
    assert counts[0] == 0
    assert set(counts[1:]) <= {G // n, -(-G // n)}


def test_law_06_stratified_k_of_every_single_group_is_uniform():
    """Groups of 2, 3 and 4 tokens in one batch, 5000 draws, 99.9 % confidence each."""
    segments, generator = torch.tensor([[0, 1, 0, 1, 1], [5, 5, 5, 5, -1]]), rng(7)
    counts = {2: torch.zeros(2), 3: torch.zeros(3), 4: torch.zeros(4)}
    for _ in range(5000):
        masked, _ = random_k_subset(segments, generator)
        for n, part in ((2, masked[0, [0, 2]]), (3, masked[0, [1, 3, 4]]), (4, masked[1, :4])):
            counts[n][int(part.sum()) - 1] += 1
    for n, count in counts.items():
        assert chi_square(count, torch.full((n,), 5000 / n)) < CHI_SQUARE_999[n - 1]


def random_table(seed: int) -> torch.Tensor:
    """-log p for every masked set of an arbitrary network: (2^n, n)."""
    return torch.randn(2**N, N, generator=rng(seed), dtype=torch.float64).exp() * masked_sets(N)


def any_order(table: torch.Tensor) -> float:
    """The bound from its definition: mean over all orders of the sum of -log p."""
    losses = []
    for order in itertools.permutations(range(N)):
        left = [set(order[j:]) for j in range(N)]
        losses.append(sum(table[sum(2**i for i in S), j].item() for S, j in zip(left, order, strict=True)))
    return sum(losses) / len(losses)


def weight_of_set(masked: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The weight the draws gave each set, which must be one per set: (2^n,)."""
    row = (masked * 2 ** torch.arange(N)).sum(1)
    found = torch.zeros(2**N, dtype=torch.float64)
    found[row] = weight.amax(1)
    assert torch.allclose(found[row], weight.amax(1), rtol=1e-14)
    assert len(row.unique()) >= 2**N - 1
    return found


@given(seeds, st.sampled_from([0.0, 1e-3, 0.3, 0.9]), st.booleans())
def test_law_06_weights_times_probabilities_give_the_bound_exactly(seed, eps, stratified):
    """Expectation by enumeration, sum of probability x weight x CE: n/k, and the exact weights at any eps."""
    segments, table = torch.zeros(4000, N, dtype=torch.long), random_table(seed)
    ce, bound = table.sum(1), any_order(table)
    masked, weight = random_k_subset(segments, rng(seed), stratified, torch.float64)
    mean = (probability_of_set_k_subset() * weight_of_set(masked, weight) * ce).sum().item()
    assert mean == pytest.approx(bound, rel=1e-12)
    n, k = torch.full((2**N,), N), masked_sets(N).sum(1)
    mean = (probability_of_set_independent(eps) * count_weight(k, n, eps) * ce).sum().item()
    assert mean == pytest.approx(bound, rel=1e-11)
    masked, weight = independent_masks(segments, rng(seed), eps, stratified, "by_count", torch.float64)
    drawn = (masked * 2 ** torch.arange(N)).sum(1)
    torch.testing.assert_close(weight.amax(1), count_weight(k, n, eps)[drawn], rtol=1e-14, atol=0)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_law_06_inverse_p_is_off_by_the_stated_bias(stratified, eps):
    """200,000 draws: the mean is the bound plus `inverse_p_bias` within 4 standard errors."""
    table = masked_sets(N) * torch.tensor([4.0, 0.1, 0.2, 0.1], dtype=torch.float64)
    table[-1] *= 5
    masked, weight = independent_masks(
        torch.zeros(200000, N, dtype=torch.long), rng(8), eps, stratified, dtype=torch.float64
    )
    estimate = (weight * table[(masked * 2 ** torch.arange(N)).sum(1)]).sum(1)
    error = estimate.std().item() / math.sqrt(200000)
    bias = inverse_p_bias(table, eps).item()
    assert abs(bias) > 8 * error, "a table that shows no bias would test nothing"
    assert abs(estimate.mean().item() - any_order(table) - bias) < 4 * error


def variance_of_batch_sums(table: torch.Tensor, draw, batches: int = 1500, G: int = 8) -> float:
    """Variance over many batches of G groups of the batch's summed estimate."""
    segments = torch.arange(G).unsqueeze(1).expand(G, N).contiguous()
    sums = []
    for _ in range(batches):
        masked, weight = draw(segments)
        sums.append((weight * table[(masked * 2 ** torch.arange(N)).sum(1)]).sum().item())
    return float(np.var(sums))


CASES = {"random": random_table(1), "flat": masked_sets(N).double()}
CASES["rising"] = CASES["flat"] * masked_sets(N).sum(1, keepdim=True)  # harder, the more is masked


@pytest.mark.parametrize("name", CASES)
def test_law_06_variance_k_subset_below_inverse_p_stratified_below_both(name):
    """1500 batches of 8 groups each; the k-subset variances are also held against their exact values."""
    table, generator = CASES[name], rng(9)
    k_plain = variance_of_batch_sums(table, lambda s: random_k_subset(s, generator, False, torch.float64))
    k_even = variance_of_batch_sums(table, lambda s: random_k_subset(s, generator, True, torch.float64))
    t_plain = variance_of_batch_sums(table, lambda s: independent_masks(s, generator, 1e-3))
    t_even = variance_of_batch_sums(table, lambda s: independent_masks(s, generator, 1e-3, True))
    assert k_plain <= t_plain
    assert k_even <= t_even
    assert k_plain == pytest.approx(8 * k_subset_moments(table)[1].item(), rel=0.15, abs=1e-9)  # 4 sigma
    k, m = torch.arange(1, N + 1), mean_by_count(table)[1:]
    square = torch.stack([table.sum(1)[masked_sets(N).sum(1) == j].square().mean() for j in k.tolist()])
    within = (
        (8 / N * (N / k) ** 2 * (square - m**2)).sum().item()
    )  # 8 groups, 4 values of k: each exactly twice
    assert k_even == pytest.approx(within, rel=0.15, abs=1e-9)
    assert within <= 8 * k_subset_moments(table)[1] + 1e-9


# Law 7: the released probability, and its exact weights


def test_law_07_released_p_is_reproduced():
    """Recorded float32 draws of the released code, bit for bit; and p is the Linear(eps) schedule's share."""
    golden = np.load(GOLDEN / "p_mask.npz", allow_pickle=False)
    p = mask_probability(torch.from_numpy(golden["u_t"]), 1e-3)
    assert torch.equal(p, torch.from_numpy(golden["p_mask"]))
    assert len(p) > 30
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(mask_probability(t, 0.2), 1 - Linear(0.2).alpha(t), rtol=1e-14, atol=0)


@given(st.integers(1, 9), st.data())
def test_law_07_exact_weights_equal_rational_arithmetic(n, data):
    """Coefficient of a k-set in the bound over its probability, p uniform on (eps, 1), in exact fractions."""
    k, eps = data.draw(st.integers(1, n)), Fraction(data.draw(st.floats(0, 0.98)))
    coefficient = Fraction(1, k * math.comb(n, k))
    # p^k (1-p)^(n-k) = sum over j of C(n-k, j) (-1)^j p^(k+j), integrated term by term
    terms = [Fraction((-1) ** j * math.comb(n - k, j), k + j + 1) for j in range(n - k + 1)]
    integral = sum(c * (1 - eps ** (k + j + 1)) for j, c in enumerate(terms))
    exact = coefficient / (integral / (1 - eps))
    found = count_weight(torch.tensor([k]), torch.tensor([n]), float(eps)).item()
    assert found == pytest.approx(float(exact), rel=1e-11)
    assert count_weight(torch.tensor([0]), torch.tensor([n]), float(eps)).item() == 0


# Bad input and empty input


def test_empty_batches_draw_nothing():
    for segments in (torch.full((2, 3), -1), torch.zeros(0, 3, dtype=torch.long)):
        for draw in (random_k_subset, independent_masks):
            masked, weight = draw(segments, rng(0))
            assert not masked.any()
            assert (weight == 0).all()
            assert weight.shape == segments.shape
    assert independent_masks(torch.full((1, 2), -1), rng(0), weighting="by_count")[1].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: corrupt(torch.zeros(2, 3).long(), torch.zeros(2, 2).bool(), 9), r"\(2, 3\)"),
        (lambda: corrupt(torch.zeros(2, 3).long(), torch.zeros(2, 3), 9), "bool"),
        (lambda: corrupt(torch.tensor([[9, 1]]), torch.zeros(1, 2).bool(), 9), "MASK id 9"),
        (lambda: random_k_subset(torch.zeros(3).long(), rng(0)), "segments"),
        (lambda: random_k_subset(torch.zeros(2, 3), rng(0)), "segments"),
        (lambda: independent_masks(torch.zeros(1, 3).long(), rng(0), weighting="1/p"), "weighting"),
        (lambda: independent_masks(torch.zeros(1, 3).long(), rng(0), eps=1.0), "eps"),
        (lambda: count_weight(torch.ones(1), torch.ones(1), -0.1), "eps"),
        (lambda: forward_kernel(0.2, 0.5, 3, 2), "alpha_s"),
        (lambda: forward_kernel(0.5, 0.2, 3, 3), "mask_id is 3; it must be one of the 3 ids, 0..2"),
        (lambda: forward_kernel(0.5, 0.2, 3, -1), "mask_id is -1; it must be one of the 3 ids, 0..2"),
        (lambda: mask_probability(torch.ones(1), 1.0), "eps"),
        (lambda: posterior(torch.tensor(2), torch.tensor([0.5, 0.0, 0.5]), 0.5, 0.2, 2), "MASK a prob"),
        (lambda: posterior(torch.tensor(2), torch.tensor([0.5, 0.5, 0.0]), 1.0, 1.0, 2), "alpha_t = 1"),
        (lambda: subs(torch.zeros(2, 3), torch.zeros(3).long(), 1), "logits"),
        (lambda: subs(torch.zeros(2, 3), torch.zeros(2).long(), 3), "mask_id 3"),
    ],
)
def test_bad_input_is_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_alphas_at_the_ends_are_handled():
    """At alpha_s = 0 all is MASK already; at alpha_t = 1 nothing is, and every token stays."""
    assert forward_kernel(0.0, 0.0, 3, 2).tolist() == [[0, 0, 1]] * 3
    p = torch.eye(3, dtype=torch.float64)[torch.tensor([1, 0])]
    assert torch.equal(posterior(torch.tensor([1, 0]), p, 1.0, 1.0, 2), p)


def test_law_02_one_wrong_row_among_right_ones_is_refused():
    """A batch of which one token alone is impossible is as wrong as one of which all are: no row may pass in silence."""
    x_t, clean = torch.tensor([2, 0]), torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    gives_mask = torch.tensor([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    for order in ([0, 1], [1, 0]):
        with pytest.raises(ValueError, match="alpha_t = 1"):
            posterior(x_t[order], clean[order], 1.0, 1.0, 2)
        with pytest.raises(ValueError, match="MASK a prob"):
            posterior(x_t[order], gives_mask[order], 0.5, 0.2, 2)
    with pytest.raises(ValueError, match="MASK id 9"):
        corrupt(torch.tensor([[9, 1], [1, 1]]), torch.zeros(2, 2).bool(), 9)
    mixed = posterior(x_t, clean, 0.5, 0.2, 2)  # a mixture of masked and revealed tokens is no mistake
    torch.testing.assert_close(mixed, torch.tensor([[0.1875, 0.1875, 0.625], [1.0, 0.0, 0.0]]))
