"""Laws 16 and 17 for every policy, by full enumeration; what temperature, top-k and top-p leave to draw."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt import decoding
from minittt.decoding import Draft, sample_tokens
from minittt.unmasking import (
    POLICIES,
    Sampling,
    confidence_released,
    confidence_threshold,
    entropy,
    entropy_bound,
    entropy_order,
    left_to_right,
    policy_named,
    random_order,
)
from tests.small_networks import MASKED, Oracle, Table, as_dict, kl, propagate, random_joint

SEEDS = st.integers(0, 2**31 - 1)
ONE_BY_ONE = [
    random_order,
    left_to_right,
    entropy_order,
    partial(confidence_threshold, threshold=1.0),
    partial(entropy_bound, gamma=0.0),
]
DETERMINISTIC = [
    left_to_right,
    entropy_order,
    partial(confidence_threshold, threshold=0.6),
    partial(entropy_bound, gamma=0.7),
]


@st.composite
def drafts(draw):
    L, A, seed = draw(st.integers(1, 6)), draw(st.integers(2, 4)), draw(SEEDS)
    masked = torch.tensor(draw(st.lists(st.booleans(), min_size=L, max_size=L).filter(any)))
    g = torch.Generator().manual_seed(seed)
    p = (
        draw(st.sampled_from([0.3, 1.0, 3.0])) * torch.randn(L, A, generator=g, dtype=torch.float64)
    ).softmax(-1)
    noise = torch.rand(L, generator=g, dtype=torch.float64)
    return Draft(masked, p, torch.randint(A, (L,), generator=g), noise, draw(st.integers(1, 7)))


def slots(reveal: torch.Tensor) -> set[int]:
    return set(reveal.nonzero()[:, 0].tolist())


# ---------------------------------------------------------------- 16: exact with an oracle, one slot a step


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 3), st.integers(2, 3), st.sampled_from(ONE_BY_ONE))
def test_law_16_orders_blind_to_the_draws_are_exact_with_an_oracle(seed, L, A, policy):
    joint = random_joint(L, A, seed)
    sampled, steps = propagate(Oracle(joint), policy, Draft, steps=L)
    assert steps == pytest.approx(L, rel=1e-12)
    for x, q in as_dict(joint).items():
        assert sampled[x] == pytest.approx(q, rel=1e-12)


def test_law_16_ranking_by_the_drawn_token_is_not_exact():
    bit = torch.tensor([0.1, 0.9], dtype=torch.float64)
    sampled, _ = propagate(Oracle(torch.outer(bit, bit)), confidence_released, Draft, steps=2)
    assert sampled[1, 1] == pytest.approx(
        0.891, rel=1e-12
    )  # .99 to keep a first 1, then .9; the truth is .81
    assert sampled[0, 0] == pytest.approx(
        0.001, rel=1e-12
    )  # .1 * .1 for two zeros, then .1; the truth is .01


@given(drafts(), SEEDS)
def test_law_16_only_the_released_policy_looks_at_the_draws(draft, seed):
    g = torch.Generator().manual_seed(seed)
    other = draft._replace(candidates=torch.randint(draft.p.shape[1], draft.candidates.shape, generator=g))
    for name, policy in POLICIES.items():
        assert name == "confidence_released" or slots(policy(draft)) == slots(policy(other))
        if name != "random_order":
            assert slots(policy(draft)) == slots(policy(draft._replace(noise=draft.noise.flip(0))))


@given(drafts())
def test_law_16_policies_rank_as_they_say(draft):
    """Against sorting in plain Python: an even share of the masked slots, by the key in the policy's name."""
    hidden = sorted(slots(draft.masked))
    share = math.ceil(len(hidden) / draft.steps_left)
    p = draft.p.tolist()
    keys = {
        random_order: lambda i: draft.noise[i].item(),
        left_to_right: lambda i: i,
        entropy_order: lambda i: -sum(x * math.log(x) for x in p[i]),
        confidence_released: lambda i: -p[i][draft.candidates[i]],
    }
    for policy, key in keys.items():
        assert slots(policy(draft)) == set(sorted(hidden, key=key)[:share])
    assert slots(decoding.random_order(draft)) == slots(random_order(draft))
    for threshold in (0.0, 0.5, 0.9, 1.0):
        sure = {i for i in hidden if max(p[i]) > threshold}
        expected = sure or {max(hidden, key=lambda i: max(p[i]))}
        assert slots(confidence_threshold(draft, threshold)) == expected


# ---------------------------------------------------------------- 17: K steps


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(2, 3), st.integers(1, 3), st.sampled_from(DETERMINISTIC))
def test_law_17_a_deterministic_order_has_an_exact_forced_path(seed, L, A, K, policy):
    """-log p(x) is the sum over the path that x itself forces, whatever the network."""
    table, K = Table(L, A, seed), min(K, L)
    sampled, _ = propagate(table, policy, Draft, steps=K)
    none = torch.zeros(L, dtype=torch.long)
    for x in itertools.product(range(A), repeat=L):
        state, log_p, step = (MASKED,) * L, 0.0, 0
        while MASKED in state:
            masked = torch.tensor([y == MASKED for y in state])
            p = table.p(state)
            reveal = policy(Draft(masked, p, none, none.double(), max(1, K - step)))
            log_p += sum(math.log(p[i, x[i]]) for i in slots(reveal))
            state = tuple(x[i] if reveal[i] else y for i, y in enumerate(state))
            step += 1
        assert math.log(sampled[x]) == pytest.approx(log_p, rel=1e-12, abs=1e-12)
    assert sum(sampled.values()) == pytest.approx(1.0, rel=1e-12)


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(2, 3), st.integers(1, 3), st.sampled_from(DETERMINISTIC))
def test_law_17_the_forced_path_of_a_closed_block_is_a_bound(seed, L, A, K, policy):
    """Drawn tokens after the first EOA (token 0) are overwritten: a closed block is as likely as all its draws together."""
    drawn, _ = propagate(Table(L, A, seed), policy, Draft, steps=min(K, L))
    closed: dict[tuple[int, ...], float] = {}
    for x, p in drawn.items():
        n_codes = x.index(0) if 0 in x else L
        block = x[:n_codes] + (0,) * (L - n_codes)
        closed[block] = closed.get(block, 0.0) + p
    for block, p in closed.items():
        if 0 in block[:-1]:
            assert p > drawn[block]  # there is filler: strictly more than its own path
        else:
            assert p == drawn[block]


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(2, 3), st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]))
def test_law_17_the_entropy_bound_keeps_its_bound(seed, L, A, gamma):
    joint = random_joint(L, A, seed)
    q = as_dict(joint)
    sampled, steps = propagate(Oracle(joint), partial(entropy_bound, gamma=gamma), Draft, steps=1)
    assert steps <= L
    assert kl(q, sampled) <= gamma * steps + 1e-12


def test_law_17_the_entropy_bound_trades_steps_for_divergence():
    """Two equal bits and a free one: the pair costs log 2 when drawn at once, the free one nothing."""
    pair = torch.eye(2, dtype=torch.float64) / 2
    joint = torch.einsum("ab,c->abc", pair, torch.tensor([0.5, 0.5], dtype=torch.float64))
    for gamma, steps, divergence in (
        (0.0, 2, 0.0),
        (0.6, 2, 0.0),
        (0.7, 2, math.log(2)),
        (1.4, 1, math.log(2)),
    ):
        sampled, taken = propagate(Oracle(joint), partial(entropy_bound, gamma=gamma), Draft, steps=3)
        assert taken == pytest.approx(steps, abs=1e-12)
        assert kl(as_dict(joint), sampled) == pytest.approx(divergence, abs=1e-12)


@given(drafts(), st.sampled_from([0.0, 0.3, 1.0, 2.0, 9.0]))
def test_law_17_the_entropy_bound_reveals_the_most_it_may(draft, gamma):
    H, hidden = entropy(draft.p).tolist(), sorted(slots(draft.masked))
    by_hand = [-sum(x * math.log(x) for x in row) for row in draft.p.tolist()]
    assert by_hand == pytest.approx(H, rel=1e-12)
    chosen = slots(entropy_bound(draft, gamma))
    assert chosen
    assert chosen <= set(hidden)
    assert sum(H[i] for i in chosen) - max(H[i] for i in chosen) <= gamma + 1e-12
    for n in range(len(chosen) + 1, len(hidden) + 1):
        for more in itertools.combinations(hidden, n):
            assert sum(H[i] for i in more) - max(H[i] for i in more) > gamma - 1e-12


# ---------------------------------------------------------------- what to draw from


@given(
    SEEDS,
    st.integers(1, 6),
    st.sampled_from([1e-300, 0.5, 1.0, 3.0]),
    st.none() | st.integers(1, 8),
    st.none() | st.floats(0.05, 1.0),
)
def test_sampling_keeps_what_the_rules_keep(seed, A, temperature, top_k, top_p):
    logits = torch.randn(3, A, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).round(
        decimals=1
    )
    kept = Sampling(temperature, top_k, top_p)(logits)
    for row, out in zip(logits.tolist(), kept.softmax(-1).tolist(), strict=True):
        weights = [math.exp((x - max(row)) / temperature) for x in row]
        ranked = sorted(range(A), key=lambda i: -row[i])[: top_k or A]
        total, held, nucleus = sum(weights[i] for i in ranked), 0.0, []
        for i in ranked:
            if top_p is None or held < top_p * total * (1 - 1e-12):
                nucleus.append(i)
                held += weights[i]
        expected = [weights[i] / held if i in nucleus else 0.0 for i in range(A)]
        assert out == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_sampling_at_temperature_zero_is_greedy_with_top_k_too():
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 2.0]], dtype=torch.float64)
    for greedy in (Sampling(0.0), Sampling(0.0, top_k=2), Sampling(0.0, top_k=3, top_p=0.99)):
        assert greedy(logits).softmax(-1).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_bad_sampling_is_named(bad, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**bad)


def test_policies_by_name():
    assert policy_named("entropy_order") is entropy_order
    assert policy_named("entropy_bound:0.3").keywords == {"gamma": 0.3}
    assert policy_named("confidence_threshold:1").keywords == {"threshold": 1.0}
    for bad in ("magic", "entropy_order:2", "entropy_bound:much", "entropy_bound:-1", "entropy_bound:inf"):
        with pytest.raises(ValueError, match="policy"):
            policy_named(bad)


def kept_by(p: list[float], **how) -> list[int]:
    """The tokens that may still be drawn, of probabilities p."""
    logits = torch.tensor([p], dtype=torch.float64).log()
    return Sampling(**how)(logits)[0].isfinite().nonzero()[:, 0].tolist()


def test_sampling_takes_top_p_of_what_top_k_left():
    """Of .4 .3 .2 .1, the two likeliest hold .57 and .43 of what they share: .5 of that needs one, .5 of all needs two."""
    p = [0.4, 0.3, 0.2, 0.1]
    assert kept_by(p, top_k=2, top_p=0.5) == [0]
    assert kept_by(p, top_p=0.5) == [0, 1]
    assert kept_by(p, top_k=2) == [0, 1]
    assert kept_by(p, top_k=3, top_p=0.75) == [0, 1]  # .44 .33 .22
    assert kept_by(p, top_p=0.75) == [0, 1, 2]


@pytest.mark.parametrize(("top_p", "kept"), [(0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4), (0.51, 3), (0.49, 2)])
def test_sampling_stops_as_soon_as_top_p_is_reached(top_p, kept):
    """Four equal tokens, whose sums are exact: those that hold exactly top_p are enough, one more is too many."""
    assert kept_by([0.25] * 4, top_p=top_p) == list(range(kept))


def by_sorting(logits: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None):
    """What `Sampling` returns, by a stable sort of everything: top_k first, then top_p of what it left."""
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    ranked, order = scaled.sort(dim=-1, descending=True, stable=True)
    ranked[:, top_k or logits.shape[-1] :] = -math.inf
    if top_p is not None:
        p = ranked.softmax(-1)
        ranked[p.cumsum(-1) - p >= top_p] = -math.inf
    return torch.empty_like(ranked).scatter(-1, order, ranked)


@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    st.sampled_from([5, 300, 3000]),
    st.sampled_from([0, 1, 3]),
    st.none() | st.integers(1, 400),
    st.none() | st.sampled_from([0.1, 0.777, 0.95, 1.0]),
)
def test_sampling_is_that_of_a_full_sort(seed, A, decimals, top_k, top_p):
    """Ties at the edge of top_k, more tokens than are looked at first, rows that differ: the same tokens stay."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, A, generator=generator, dtype=torch.float64).round(decimals=decimals)
    found = Sampling(1.3, top_k, top_p)(logits)
    expected = by_sorting(logits, 1.3, top_k, top_p)
    if top_p is None:
        assert torch.equal(found, expected)
        return
    differ = found.isfinite() != expected.isfinite()
    assert (
        differ.sum(-1).max() <= 1
    )  # where a sum comes within rounding of top_p, one token more or less is right
    if not differ.any():
        torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("top_k", [None, 2, 400])
def test_sampling_hides_no_nan(top_k):
    """The decoder refuses it; had top_k dropped it, a broken network would go on talking."""
    logits = torch.zeros(2, 5, dtype=torch.float64)
    logits[1, 3] = math.nan
    for how in (Sampling(1.0, top_k), Sampling(1.0, top_k, 0.5)):
        with pytest.raises(ValueError, match="nan"):
            sample_tokens(how(logits), torch.rand(2, dtype=torch.float64))


@pytest.mark.parametrize("A", [20, 5000])
def test_ties_at_the_edge_of_top_k_go_to_the_lower_index(A):
    logits = torch.zeros(1, A, dtype=torch.float64)
    logits[0, A // 2] = 1.0
    kept = Sampling(1.0, top_k=7)(logits)[0].isfinite().nonzero()[:, 0]
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, A // 2]


@given(
    SEEDS,
    st.integers(2, 9),
    st.sampled_from([0.0, 0.7, 1.0]),
    st.none() | st.integers(1, 4),
    st.none() | st.floats(0.05, 1),
)
def test_what_is_left_of_the_candidates_is_all_that_may_be_drawn(seed, A, temperature, top_k, top_p):
    """The decoder draws text from the few that are left; the law is that of the whole vector, token by token."""
    sampling = Sampling(temperature, top_k, top_p)
    logits = torch.randn(3, A, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))  # (3, A)
    whole = sampling(logits)  # (3, A)
    kept, to_draw = sampling.candidates(logits)
    if kept is None:
        assert torch.equal(to_draw, whole)
        return
    assert torch.equal(
        kept, kept.sort(-1).values
    )  # in the order of the ids: the same chance draws the same token
    for row in range(3):
        told = dict(zip(kept[row].tolist(), to_draw[row].tolist(), strict=True))
        assert {i: x for i, x in told.items() if x > -math.inf} == {
            i: x for i, x in enumerate(whole[row].tolist()) if x > -math.inf
        }
    u = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))  # (3,)
    places = sample_tokens(to_draw, u)  # (3,)
    assert torch.equal(kept.gather(-1, places[:, None])[:, 0], sample_tokens(whole, u))
