"""Laws 4 to 7 and 17, exact: the bound of absorbing diffusion in all its forms, for any network."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.diffusion import Cosine, Geometric, Linear, posterior
from minittt.theory import bounds

FULL = [Linear(), Cosine(), Geometric(stretched=True), Geometric(0.05, 4.0, True)]
SHORT = [Linear(0.1), Linear(1e-3), Geometric(), Geometric(0.05, 4.0)]
EXACT = {"rel": 1e-12, "abs": 1e-15}
seeds = st.integers(0, 2**31)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TableNetwork:
    """A distribution over 0..V-1 at every position for every sequence over 0..V (MASK = V), all unrelated."""

    def __init__(self, V: int, L: int, seed: int):
        self.V, self.L, self.mask_id = V, L, V
        logits = 2 * torch.randn((V + 1) ** L, L, V + 1, generator=rng(seed), dtype=torch.float64)
        logits[..., V] = -torch.inf
        self.log_p = logits.log_softmax(-1)
        self.x0 = torch.randint(0, V, (L,), generator=rng(seed + 1))

    def __call__(self, x_t: torch.Tensor) -> torch.Tensor:
        return self.log_p[(x_t * (self.V + 1) ** torch.arange(self.L)).sum(1)]  # (N, L, V + 1)

    def surprisal(self, hidden: set[int], i: int, x0=None) -> float:
        """-log p(x_i | the tokens outside `hidden`), asked one at a time."""
        x0 = self.x0.tolist() if x0 is None else list(x0)
        x_t = torch.tensor([self.mask_id if j in hidden else x for j, x in enumerate(x0)])
        return -self(x_t.unsqueeze(0))[0, i, x0[i]].item()

    def cross_entropy(self, hidden: set[int]) -> float:
        return sum(self.surprisal(hidden, i) for i in hidden)


class Oracle(TableNetwork):
    """The true conditionals p(x_i | revealed) of a random joint distribution q over V^L."""

    def __init__(self, V: int, L: int, seed: int):
        super().__init__(V, L, seed)
        q = torch.rand((V,) * L, generator=rng(seed), dtype=torch.float64) ** 3 + 1e-4
        self.q = q / q.sum()
        for x_t in itertools.product(range(V + 1), repeat=L):
            seen = self.q[tuple(slice(None) if x == V else slice(x, x + 1) for x in x_t)]  # agrees with x_t
            row = sum(x * (V + 1) ** i for i, x in enumerate(x_t))
            for i in range(L):
                p = seen.movedim(i, 0).flatten(1).sum(1) / seen.sum() if L > 1 else seen / seen.sum()
                if x_t[i] == V:
                    self.log_p[row, i, :V] = p.log()


networks = st.builds(TableNetwork, st.integers(2, 3), st.integers(1, 4), seeds)
oracles = st.builds(Oracle, st.integers(2, 3), st.integers(1, 4), seeds)


def chunks(order, sizes):
    """An order cut into rounds."""
    ends = list(itertools.accumulate(sizes))
    return [order[e - size : e] for e, size in zip(ends, sizes, strict=True)]


def path(network, rounds, x0=None) -> float:
    """-log p of revealing round after round, from the rule."""
    hidden, nll = set(range(network.L)), 0.0
    for positions in rounds:
        nll += sum(network.surprisal(hidden, i, x0) for i in positions)
        hidden -= set(positions)
    return nll


def all_paths(network, sizes=None, x0=None) -> list[float]:
    sizes = sizes or [1] * network.L
    return [path(network, chunks(o, sizes), x0) for o in itertools.permutations(range(network.L))]


def subsets(L: int) -> list[set[int]]:
    return [set(c) for k in range(1, L + 1) for c in itertools.combinations(range(L), k)]


def table_of(network) -> torch.Tensor:
    return bounds.surprisals(network, network.x0, network.mask_id)


def simple_quadrature(f, lower: float, upper: float) -> float:
    x, w = np.polynomial.legendre.leggauss(60)
    return float((upper - lower) / 2 * (w * f((lower + upper) / 2 + (upper - lower) / 2 * x)).sum())


# Law 4: one bound, many forms


@given(networks)
def test_law_04_the_table_holds_every_masked_set(network):
    table = table_of(network)
    assert table.shape == (2**network.L, network.L)
    for row, i in itertools.product(range(2**network.L), range(network.L)):
        hidden = {j for j in range(network.L) if row >> j & 1}
        assert table[row, i].item() == (network.surprisal(hidden, i) if i in hidden else 0.0)


@given(networks)
def test_law_04_all_forms_equal_the_mean_over_orders(network):
    table, orders = table_of(network), all_paths(network)
    bound = sum(orders) / len(orders)
    assert sorted(bounds.order_nlls(table).tolist()) == pytest.approx(sorted(orders), **EXACT)
    for form in ("closed_form", "k_subset_form", "lambda_integral", "any_order_form"):
        assert getattr(bounds, form)(table).item() == pytest.approx(bound, **EXACT), form
    for schedule in FULL:
        assert bounds.time_integral(table, schedule).item() == pytest.approx(bound, **EXACT), schedule
    table32 = table.float()
    assert bounds.closed_form(table32).item() == pytest.approx(bound, rel=1e-5)


@given(networks, st.sampled_from(SHORT))
def test_law_04_a_schedule_that_stops_short_gives_the_truncated_integral(network, schedule):
    """Against the integral over lambda of the sum over sets, term by term, with numpy's quadrature."""
    lower, upper = (1 - schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))).tolist()

    def integrand(p):
        sets = [(len(S), network.cross_entropy(S)) for S in subsets(network.L)]
        return sum(ce * p**k * (1 - p) ** (network.L - k) for k, ce in sets) / p

    truncated = simple_quadrature(integrand, lower, upper)
    table = table_of(network)
    assert bounds.lambda_integral(table, lower, upper).item() == pytest.approx(truncated, **EXACT)
    assert bounds.time_integral(table, schedule).item() == pytest.approx(truncated, **EXACT)


@given(networks, st.lists(st.floats(0.05, 0.95), max_size=3))
def test_law_04_the_discrete_time_bound_sums_posterior_divergences(network, inner):
    """Sum over steps s < t of E KL(q(x_s | x_t, x_0) || p(x_s | x_t)); its limit is the bound."""
    shares = sorted({0.0, 1.0, *inner})
    V, L, mask = network.V, network.L, network.mask_id
    total = 0.0
    for lam_s, lam_t in itertools.pairwise(shares):
        for hidden in subsets(L):
            x_t = network.x0.clone()
            x_t[list(hidden)] = mask
            truth = posterior(x_t, torch.eye(V + 1).double()[network.x0], 1 - lam_s, 1 - lam_t, mask)
            p_x0 = network(x_t.unsqueeze(0))[0].exp()
            p_x0 = torch.where((x_t == mask).unsqueeze(1), p_x0, torch.eye(V + 1).double()[x_t])
            model = posterior(x_t, p_x0, 1 - lam_s, 1 - lam_t, mask)
            kl = torch.where(truth > 0, truth * (truth / model).log(), 0.0).sum().item()
            total += lam_t ** len(hidden) * (1 - lam_t) ** (L - len(hidden)) * kl
    table = table_of(network)
    assert bounds.discrete_time_bound(table, shares).item() == pytest.approx(total, rel=1e-11)
    fine = [bounds.discrete_time_bound(table, [j / T for j in range(T + 1)]).item() for T in (400, 800)]
    limit = bounds.closed_form(table).item()
    assert 2 * fine[1] - fine[0] == pytest.approx(limit, rel=1e-4)  # the error halves with the step


@given(networks, st.data())
def test_law_04_k_steps_are_the_mean_over_partitions_into_rounds(network, data):
    K = data.draw(st.integers(1, network.L))
    sizes = [len(part) for part in np.array_split(np.arange(network.L), K)]
    table, losses = table_of(network), all_paths(network, sizes)
    assert bounds.round_sizes(network.L, K) == sizes
    assert bounds.k_step_bound(table, K).item() == pytest.approx(sum(losses) / len(losses), **EXACT)
    rounds = chunks(data.draw(st.permutations(range(network.L))), sizes)
    assert bounds.path_nll(table, rounds).item() == pytest.approx(path(network, rounds), **EXACT)


@given(networks)
def test_law_04_the_ends_of_the_k_step_bound(network):
    table = table_of(network)
    at_once = network.cross_entropy(set(range(network.L)))
    assert bounds.k_step_bound(table, 1).item() == pytest.approx(at_once, **EXACT)
    assert bounds.k_step_bound(table, network.L).item() == pytest.approx(
        bounds.any_order_form(table).item(), **EXACT
    )


@given(networks, st.data())
def test_law_04_groups_sum_over_orders_that_respect_them(network, data):
    """Earlier groups clean, later ones hidden: the mean over all orders that go group by group."""
    labels = data.draw(st.lists(st.integers(0, 2), min_size=network.L, max_size=network.L).map(sorted))
    groups = torch.tensor(labels)
    tables = bounds.group_surprisals(network, network.x0, network.mask_id, groups)
    members = [[i for i in range(network.L) if labels[i] == g] for g in sorted(set(labels))]
    orders = [sum(parts, ()) for parts in itertools.product(*map(itertools.permutations, members))]
    mean = sum(path(network, [[i] for i in order]) for order in orders) / len(orders)
    assert [t.shape[1] for t in tables] == [len(m) for m in members]
    assert sum(map(bounds.closed_form, tables)).item() == pytest.approx(mean, **EXACT)


@given(networks)
def test_law_04_groups_of_one_are_plain_autoregression(network):
    tables = bounds.group_surprisals(network, network.x0, network.mask_id, torch.arange(network.L))
    left_to_right = path(network, [[i] for i in range(network.L)])
    assert sum(map(bounds.closed_form, tables)).item() == pytest.approx(left_to_right, **EXACT)


# Law 5: Jensen


@given(networks)
def test_law_05_minus_log_of_the_mean_is_below_the_mean(network):
    table, orders = table_of(network), all_paths(network)
    exact = -math.log(sum(math.exp(-nll) for nll in orders) / len(orders))
    assert bounds.any_order_nll(table).item() == pytest.approx(exact, **EXACT)
    assert exact <= bounds.any_order_form(table).item() + 1e-12
    if max(orders) - min(orders) > 0.1:
        assert exact < bounds.any_order_form(table).item() - 1e-6


@given(oracles)
def test_law_05_equality_for_a_consistent_network(network):
    table, nll = table_of(network), -network.q[tuple(network.x0)].log().item()
    assert bounds.any_order_nll(table).item() == pytest.approx(nll, **EXACT)
    assert bounds.any_order_form(table).item() == pytest.approx(nll, **EXACT)
    assert bounds.closed_form(table).item() == pytest.approx(nll, **EXACT)


# Law 6: moments of the estimators (the draws themselves: test_diffusion.py)


@given(networks)
def test_law_06_k_subset_moments_are_those_of_the_draw(network):
    """k uniform on 1..L, then a uniform k-subset, enumerated."""
    L = network.L
    draws = [(1 / (L * math.comb(L, len(S))), L / len(S) * network.cross_entropy(S)) for S in subsets(L)]
    mean = sum(p * value for p, value in draws)
    variance = sum(p * (value - mean) ** 2 for p, value in draws)
    found_mean, found_variance = bounds.k_subset_moments(table_of(network))
    assert found_mean.item() == pytest.approx(mean, **EXACT)
    assert found_variance.item() == pytest.approx(variance, rel=1e-11, abs=1e-12)


@given(networks, st.sampled_from([0.5, 0.1, 1e-3, 1e-6]))
def test_law_06_inverse_p_moments_are_those_of_the_draw(network, eps):
    """p uniform on (eps, 1), integrated over log p, then each token masked with probability p."""
    sets = [(len(S), network.cross_entropy(S)) for S in subsets(network.L)]

    def moment(power: int) -> float:
        def density(u):
            p = np.exp(u)
            return sum(p ** (k + 1) * (1 - p) ** (network.L - k) * (ce / p) ** power for k, ce in sets)

        return simple_quadrature(density, math.log(eps), 0.0) / (1 - eps)

    mean, variance = (value.item() for value in bounds.inverse_p_moments(table_of(network), eps))
    assert mean == pytest.approx(moment(1), rel=1e-9)
    assert variance + mean**2 == pytest.approx(moment(2), rel=1e-9)


@given(networks)
def test_law_06_variance_grows_without_end_as_eps_falls_and_k_subsets_stay_below(network):
    table = table_of(network)
    variances = [bounds.inverse_p_moments(table, eps)[1].item() for eps in (1e-2, 1e-3, 1e-6, 1e-9, 0.0)]
    assert variances == sorted(variances)
    assert variances[-1] == math.inf
    singles = sum(network.cross_entropy({i}) ** 2 for i in range(network.L))
    growth = (variances[3] - variances[2]) / math.log(1e3)
    assert growth == pytest.approx(singles, rel=1e-2)  # the log(1/eps) term: sets of one token
    assert bounds.k_subset_moments(table)[1].item() <= variances[3] + 1e-12


@given(networks)
def test_law_06_k_subset_below_the_exact_weights_below_inverse_p(network):
    """At eps = 0: n/k on k = 1..n, then (n+1)/k on k = 0..n (the mean of 1/p given the set), then 1/p."""
    L = network.L
    by_count = sum(
        1 / ((L + 1) * math.comb(L, len(S))) * ((L + 1) / len(S) * network.cross_entropy(S)) ** 2
        for S in subsets(L)
    )
    mean, variance = (value.item() for value in bounds.k_subset_moments(table_of(network)))
    inverse_p = bounds.inverse_p_moments(table_of(network), 1e-9)
    assert variance + mean**2 <= by_count * (1 + 1e-12)
    assert by_count <= (inverse_p[1] + inverse_p[0] ** 2).item() * (1 + 1e-6)


def test_law_06_a_table_without_cost_at_single_tokens_keeps_a_finite_variance():
    table = bounds.masked_sets(3).double()
    table[[1, 2, 4]] = 0
    at_zero, near_zero = (bounds.inverse_p_moments(table, eps)[1].item() for eps in (0.0, 1e-9))
    assert math.isfinite(at_zero)
    assert at_zero == pytest.approx(near_zero, rel=1e-6)


# Law 7: what eps > 0 does to 1/p weights


@given(networks, st.floats(0.0, 0.95))
def test_law_07_the_bias_of_inverse_p_in_closed_form(network, eps):
    """Sum over k of m_k / k (P(Binomial(L, eps) < k) / (1 - eps) - 1), m_k the mean CE of k-subsets."""
    L, bias, scale = network.L, 0.0, 0.0
    for k in range(1, L + 1):
        sets = [S for S in subsets(L) if len(S) == k]
        m = sum(map(network.cross_entropy, sets)) / len(sets)
        below = sum(math.comb(L, j) * eps**j * (1 - eps) ** (L - j) for j in range(k))
        bias += m / k * (below / (1 - eps) - 1)
        scale += m / k
    found = bounds.inverse_p_bias(table_of(network), eps).item()
    assert found == pytest.approx(bias, abs=1e-12 * scale / (1 - eps))
    assert bounds.inverse_p_bias(table_of(network), 0.0).item() == pytest.approx(0, abs=1e-12 * scale)


# Law 17: K steps, and a forced order


@given(oracles | networks, st.integers(1, 4), seeds)
def test_law_17_k_step_divergence_is_within_the_bound(network, K, seed):
    """KL(q || p_K) <= E_q[NELBO(K)] - H(q) for any q and any network; p_K by enumerating the partitions."""
    V, L, K = network.V, network.L, min(K, network.L)
    sizes = bounds.round_sizes(L, K)
    q = torch.rand(V**L, generator=rng(seed), dtype=torch.float64) ** 2
    q, total, divergence, expected_bound = q / q.sum(), 0.0, 0.0, 0.0
    for weight, x0 in zip(q.tolist(), itertools.product(range(V), repeat=L), strict=True):
        p = np.mean(np.exp([-nll for nll in all_paths(network, sizes, x0)]))
        total += p
        divergence += weight * math.log(weight / p) if weight > 0 else 0.0
        table = bounds.surprisals(network, torch.tensor(x0), network.mask_id)
        expected_bound += weight * bounds.k_step_bound(table, K).item()
    entropy = -torch.special.xlogy(q, q).sum().item()
    assert total == pytest.approx(1, rel=1e-12)
    assert divergence <= expected_bound - entropy + 1e-12


def most_certain_first(network):
    """Entropy order: looks at what is revealed and predicted, never at a sampled candidate."""

    def choose(x_t, log_p):
        entropy = torch.special.entr(log_p.exp()).sum(-1)
        return entropy.masked_fill(x_t != network.mask_id, torch.inf).argmin()

    return choose


@given(networks)
def test_law_17_a_deterministic_order_has_an_exact_likelihood(network):
    """The forced-path p sums to 1 over all sequences, and is the p of the very order that was taken."""
    total = 0.0
    for x0 in itertools.product(range(network.V), repeat=network.L):
        taken, choose = [], most_certain_first(network)

        def recording(x_t, log_p, taken=taken, choose=choose):
            taken.append([int(choose(x_t, log_p))])
            return taken[-1]

        nll = bounds.forced_path_nll(network, torch.tensor(x0), network.mask_id, recording).item()
        assert nll == pytest.approx(path(network, taken, x0), **EXACT)
        total += math.exp(-nll)
    assert total == pytest.approx(1, rel=1e-12)


@given(networks, st.data())
def test_law_17_forced_rounds_reveal_in_parallel(network, data):
    table = table_of(network)
    first = data.draw(st.sets(st.integers(0, network.L - 1), min_size=1))
    rounds = [sorted(first)] + [[i] for i in range(network.L) if i not in first]
    steps = iter(rounds)
    nll = bounds.forced_path_nll(network, network.x0, network.mask_id, lambda x_t, log_p: next(steps))
    assert nll.item() == pytest.approx(bounds.path_nll(table, rounds).item(), **EXACT)


# Bad input


NETWORK = TableNetwork(2, 3, 0)
TABLE = table_of(NETWORK)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: bounds.surprisals(NETWORK, torch.tensor([0, 2, 1]), 2), "without MASK"),
        (lambda: bounds.group_surprisals(NETWORK, torch.tensor([0, 1, 1]), 2, torch.zeros(2)), "groups"),
        (lambda: bounds.surprisals(lambda x: torch.randn(8, 3, 3), NETWORK.x0, 2), "log-probabilities"),
        (lambda: bounds.surprisals(NETWORK, torch.zeros(17).long(), 2), "17 tokens"),
        (lambda: bounds.order_nlls(torch.zeros(2**9, 9)), "8 tokens"),
        (lambda: bounds.k_step_bound(TABLE, 4), "steps is 4"),
        (lambda: bounds.round_sizes(3, 0), "steps is 0"),
        (lambda: bounds.path_nll(TABLE, [[0], [0, 1]]), "rounds"),
        (lambda: bounds.discrete_time_bound(TABLE, [0.0, 0.5]), "from 0 to 1"),
        (lambda: bounds.discrete_time_bound(TABLE, [0.0, 0.5, 0.4, 1.0]), "from 0 to 1"),
        (lambda: bounds.forced_path_nll(NETWORK, NETWORK.x0, 2, lambda x, p: []), "choose"),
        (lambda: bounds.forced_path_nll(NETWORK, NETWORK.x0, 2, lambda x, p: [1, 1]), "choose"),
        (lambda: bounds.forced_path_nll(NETWORK, NETWORK.x0, 2, lambda x, p: [0]), "choose"),
    ],
)
def test_bad_input_is_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()
