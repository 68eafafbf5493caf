# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Absorbing diffusion
#
# To train a model that fills in blanks, you hide some tokens and ask for them. But how many should you hide, and how
# much should each answer count, if the loss is to be an honest bound on $-\log p$? Here you derive that loss on a model
# so small that every sum can be done in full. Four quite different forms give the same value, 6.609219952476 nats each
# time. One way of drawing the noise estimates it with a standard deviation of 4.3 nats; with the obvious way it is 8.9.
#
# After this notebook you can
#
# - write the training bound of masked diffusion in **four forms** and show, to the last digit, that they are one number;
# - say **why 1/t weights are noisy**, what to draw instead, and why the network is not told the time;
# - tell a bound from a likelihood, and read the cost of **K denoising steps** off a curve.
#
# Level: the hardest of the seven. Prerequisites: notebook [02](02_modality_attention.ipynb), expectations, Bayes' rule.
# Reading time 90 minutes (an hour without the optional parts), run time half a minute on one CPU core; GPU: not
# measured.
#
# **The core path** is sections 1 to 4, 6, 7 and 9. Sections marked *(optional)* in the heading can be skipped on a
# first reading: nothing later depends on them. Everything is rebuilt piece by piece from `minittt/diffusion.py` and
# `minittt/theory/bounds.py`; the chapter [tutorials/03_absorbing_diffusion.md](../tutorials/03_absorbing_diffusion.md)
# derives every step.

# %% tags=["needed"]
import math
import sys
from itertools import permutations
from pathlib import Path

sys.path.insert(0, str(next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())))

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from torch.nn.functional import one_hot

from minittt import diffusion
from minittt.app import plotting
from minittt.diffusion import Cosine, Geometric, Linear
from minittt.theory import bounds

torch.manual_seed(0)
plt.rcParams.update({**plotting.STYLE, "figure.dpi": 150, "legend.fontsize": 9})
C = plotting.COLOURS
CLEAN_OR_MASK = ListedColormap([C["target"], C["mask"]])

# %%
torch.set_default_dtype(torch.float64)  # a claim that two numbers are equal deserves 16 digits

# %% [markdown]
# ## 1. Corruption: a token stays, or becomes MASK
#
# At time `t` between 0 and 1 a token is still itself with probability `alpha(t)`; otherwise it is MASK, and stays MASK.
# At `t = 0` all are clean, at `t = 1` all are MASK. The share that is masked is `lambda = 1 - alpha`. Each token is
# corrupted independently.
#
# One way to picture it: every token has its own threshold `u`, uniform in (0, 1), and becomes MASK when `lambda(t)`
# passes it.

# %%
MASK = 99
x0 = torch.arange(32)
u = torch.rand(32)
times = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
states = torch.stack([diffusion.corrupt(x0, u < 1 - Linear().alpha(t), MASK) for t in times])  # (6, 32)

fig, ax = plt.subplots(figsize=(7, 1.7), layout="constrained")
ax.pcolormesh(states == MASK, cmap=CLEAN_OR_MASK, edgecolors="white", linewidth=1)
ax.set(ylabel="t", xlabel="place", xticks=[])
ax.set_yticks(torch.arange(6) + 0.5, [f"{t:.1f}" for t in times])
ax.invert_yaxis()
plotting.legend(ax, ["target", "mask"], bbox_to_anchor=(1, 1.3), ncol=2, fontsize=9)
plt.show()

# %% [markdown]
# `alpha` is a choice, a **noise schedule**. Here are three that begin clean and end masked. Guess before you read on:
# does the training bound depend on which one we take?
#
# <details><summary>Answer</summary>
#
# No. The schedule only says at which `t` a given share is masked, and the bound is an integral over that share. Section
# 4 shows three curves with the same area. What the schedule does affect is how noisy a random draw is.
#
# </details>

# %%
t = torch.linspace(0, 1, 101)
SCHEDULES = {"Linear": Linear(), "Cosine": Cosine(), "Geometric": Geometric(0.05, 4.0, stretched=True)}
fig, ax = plt.subplots(figsize=(3.6, 2.2), layout="constrained")
for (name, schedule), style in zip(SCHEDULES.items(), ("-", "--", ":"), strict=True):
    ax.plot(t, 1 - schedule.alpha(t), style, label=name)
ax.set(xlabel="t", ylabel="masked share lambda(t)")
ax.legend(handlelength=3)
plt.show()

# %% [markdown]
# From a time `s` to a later `t` a token stays with probability `alpha_t / alpha_s`. Written as a matrix, rows are the
# token before and columns the token after. Two consecutive steps are the same as one long one. That is all there is to
# the forward process.


# %%
def kernel_by_hand(alpha_s, alpha_t, vocab_size, mask_id):
    stays = alpha_t / alpha_s
    kernel = torch.diag(torch.full((vocab_size,), stays))
    kernel[:, mask_id] += 1 - stays  # for MASK itself the two add up to 1
    return kernel


one_step = kernel_by_hand(0.8, 0.2, 4, 3)  # values 0, 1, 2 and MASK = 3
assert torch.allclose(one_step, diffusion.forward_kernel(0.8, 0.2, 4, 3))
two_steps = kernel_by_hand(0.8, 0.5, 4, 3) @ kernel_by_hand(0.5, 0.2, 4, 3)
assert torch.allclose(two_steps, one_step)
print(one_step)

# %% [markdown]
# ## 2. Backwards: Bayes' rule
#
# Suppose you know the clean token `x_0` and its state at `t`. What was its state at an earlier `s`? Bayes' rule:
#
#     q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0)
#
# A token that is not masked at `t` was not masked at `s`. A MASK was already MASK with probability
# `lambda_s / lambda_t`; otherwise it was still `x_0`.


# %%
def posterior_by_bayes(x_t, x_0, alpha_s, alpha_t, V, mask_id):
    to_s, s_to_t, to_t = (
        kernel_by_hand(a, b, V, mask_id) for a, b in ((1, alpha_s), (alpha_s, alpha_t), (1, alpha_t))
    )
    return s_to_t[:, x_t] * to_s[x_0] / to_t[x_0, x_t]  # (V,) over x_s


for x_0 in range(3):
    for x_t in (x_0, 3):  # it stayed, or it is MASK
        found = diffusion.posterior(torch.tensor(x_t), torch.eye(4)[x_0], 0.8, 0.2, mask_id=3)
        assert torch.allclose(found, posterior_by_bayes(x_t, x_0, 0.8, 0.2, 4, 3))
print("MASK at alpha_t = 0.2, at alpha_s = 0.8 (x_0 = 2; last: MASK):", [f"{p:.2f}" for p in found.tolist()])

# %% [markdown]
# Walk this backwards in small steps and the sequence comes back, token by token. On the left: what a token that is MASK
# at `t = 0.8` was at an earlier `s`. On the right: one such walk. Of course this needs `x_0`. **Instead, a network is
# asked for its guess of `x_0`**, and that is the whole model.

# %%
x, walk = torch.full((32,), 32), []
steps = torch.linspace(1, 0, 6).tolist()
for t_now, s in zip(steps, steps[1:], strict=False):
    walk.append(x)
    p = diffusion.posterior(x, torch.eye(33)[:32], 1 - s, 1 - t_now, mask_id=32)  # alpha = 1 - t; x0 known
    x = torch.multinomial(p, 1).squeeze(1)
assert torch.equal(x, torch.arange(32))

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.2), width_ratios=(2, 3), layout="constrained")
s = torch.linspace(0, 0.8, 50)
left.fill_between(s, s / 0.8, 1, color=C["target"])
left.fill_between(s, 0, s / 0.8, color=C["mask"])
left.set(xlabel="s", ylabel="probability", xlim=(0, 0.8), ylim=(0, 1))
left.text(0.25, 0.75, "still x_0", ha="center")
left.text(0.58, 0.25, "already MASK", ha="center")
right.pcolormesh(torch.stack([*walk, x]) == 32, cmap=CLEAN_OR_MASK, edgecolors="white", linewidth=1)
right.set(ylabel="t", xticks=[], xlabel="place")
right.set_yticks(torch.arange(6) + 0.5, [f"{v:.1f}" for v in steps])
plotting.legend(right, ["target", "mask"], bbox_to_anchor=(1, 1.22), ncol=2, fontsize=9)
plt.show()

# %% [markdown]
# ## 3. A network small enough to ask everything
#
# Sequences of `L = 4` tokens with `V = 3` values have 256 noised versions. So a "network" can be a table with arbitrary
# logits at each place of each noised sequence. It is a bad network: its answers have nothing to do with each other. So
# what is true of it is true of any network.
#
# Two rules apply before logits become probabilities: a revealed token **is** what it is, and MASK is never a guess.
# (The literature calls this SUBS or *carry-over*; if you forget it, MASKs remain in what you generate.)


# %% tags=["needed"]
def table_network(V, L, seed):
    """x_t (N, L) -> log p(x_0 | x_t) (N, L, V + 1), MASK = V; unrelated answers to every x_t."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((V + 1) ** L, L, V + 1, generator=generator, dtype=torch.float64)
    return lambda x_t: diffusion.subs(logits[(x_t * (V + 1) ** torch.arange(L)).sum(1)], x_t, V)


def oracle(q):
    """The true conditionals of a distribution q (V, V, ..., V) over sequences; MASK = V."""
    V, L = q.shape[0], q.dim()
    sequences = torch.cartesian_prod(*[torch.arange(V)] * L).view(-1, L)  # (V^L, L)

    def predict(x_t):
        agrees = ((x_t[:, None] == sequences) | (x_t[:, None] == V)).all(-1)  # (N, V^L)
        weight = agrees * q.flatten()
        p = torch.einsum("ns,siv->niv", weight, one_hot(sequences, V + 1).double())
        return (p / weight.sum(1)[:, None, None]).log()

    return predict


# %%
def subs_by_hand(logits, x_t, mask_id):
    log_p = logits.clone()
    log_p[..., mask_id] = -torch.inf  # MASK is never predicted
    log_p = log_p.log_softmax(-1)
    revealed = x_t != mask_id
    log_p[revealed] = one_hot(x_t[revealed], logits.shape[-1]).double().log()  # 0 at x_t, -inf elsewhere
    return log_p


logits, x_t = torch.randn(1, 4, 4), torch.tensor([[2, 3, 3, 0]])
assert torch.equal(subs_by_hand(logits, x_t, 3), diffusion.subs(logits, x_t, 3))

# %% [markdown]
# Everything that follows is a sum over one small table. It holds, for each set `S` of masked places and each place in
# it, the surprisal `-log p(x_i | the tokens outside S)`. Each row sums to the cross-entropy `CE(S)`. Row 5 is binary
# 0101: places 0 and 2 are masked.


# %%
def surprisals_by_hand(predict, x0, mask_id):
    L = len(x0)
    table = torch.zeros(2**L, L)
    for row in range(1, 2**L):
        hidden = [i for i in range(L) if row >> i & 1]
        x_t = x0.clone()
        x_t[hidden] = mask_id
        table[row, hidden] = -predict(x_t[None])[0, hidden, x0[hidden]]
    return table


V, L = 3, 4
network, x0 = table_network(V, L, seed=1), torch.tensor([0, 2, 1, 1])
table = surprisals_by_hand(network, x0, V)
assert torch.equal(table, bounds.surprisals(network, x0, V))

# %% [markdown]
# Later we will also need a distribution for an oracle to know: a random one, `q`, over the 81 sequences of four tokens.

# %%
sequences = torch.cartesian_prod(*[torch.arange(V)] * L)  # (81, 4)
q = torch.rand((V,) * L, generator=torch.Generator().manual_seed(3)) ** 3
q = q / q.sum()

# %% [markdown]
# Here is the whole table.

# %%
masked = bounds.masked_sets(L)  # (16, 4)
order = sorted(range(1, 2**L), key=lambda row: (int(masked[row].sum()), row))  # by number of MASKs
fig, ax = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
image = ax.imshow(table.masked_fill(~masked, torch.nan)[order].T, cmap="cividis_r", aspect="auto")
ax.set_xticks(range(15), ["".join("?" if m else "." for m in masked[row]) for row in order], rotation=90)
ax.set(ylabel="place", xlabel="masked set S (? = masked)", yticks=range(L))
for edge in (3.5, 9.5, 13.5):
    ax.axvline(edge, color="black", linewidth=0.8)
fig.colorbar(image, label="surprisal, nats")
plt.show()

# %% [markdown]
# ## 4. One bound, four forms
#
# **Where it comes from.** The backward walk with the network's guesses is a model of sequences. Its `-log p(x_0)` is at
# most the sum, over the steps, of how far the network's step is from the true one (a Kullback-Leibler divergence).
# Compute that literally, for a walk of `T` steps, by calling `posterior` twice: with the truth and with the network's
# guess.


# %%
def sum_of_divergences(predict, x0, lambdas):
    """lambdas: masked shares 0 = lambda_0 < ... < lambda_T = 1."""
    total = 0.0
    for lam_s, lam_t in zip(lambdas, lambdas[1:], strict=False):
        for hidden in bounds.masked_sets(L)[1:]:  # the empty set costs nothing
            k = int(hidden.sum())
            x_t = x0.masked_fill(hidden, V)
            guess = predict(x_t[None])[0].exp()
            truth = diffusion.posterior(x_t, torch.eye(V + 1)[x0], 1 - lam_s, 1 - lam_t, V)
            model = diffusion.posterior(x_t, guess, 1 - lam_s, 1 - lam_t, V)
            divergence = torch.where(truth > 0, truth * (truth / model).log(), 0.0).sum()
            total += lam_t**k * (1 - lam_t) ** (L - k) * divergence
    return total


shares = [0.0, 0.3, 0.5, 1.0]
literal = sum_of_divergences(network, x0, shares)
assert torch.isclose(literal, bounds.discrete_time_bound(table, shares), rtol=1e-12)
print(f"a walk of three steps: {literal:.6f} nats")

# %% [markdown]
# For a masked token, that divergence is just `(lambda_t - lambda_s) / lambda_t` times its surprisal (the chapter shows
# why), so a step costs `(lambda_t - lambda_s) / lambda_t` times the mean of `CE(S)`. This is a Riemann sum. As the
# number of steps grows, it becomes an integral:
#
#     form 1:   integral over lambda in (0, 1) of  E CE(S) / lambda,     each token in S with probability lambda
#
# Here is the **1/t** that makes the loss look odd: a draw at small `lambda` seldom masks anything, but when it does,
# the result counts a lot.

# %%
CE = table.sum(1)  # (16,) cross-entropy of every set
size = bounds.masked_sets(L).sum(1)  # (16,) |S|


def mean_ce_over_lambda(lam):  # (J,) -> (J,): a polynomial, for |S| = 0 costs nothing
    sets = lam[:, None] ** (size[1:] - 1) * (1 - lam[:, None]) ** (L - size[1:])  # (J, 15)
    return sets @ CE[1:]


lam = (torch.arange(100_000) + 0.5) / 100_000
form_1_roughly = mean_ce_over_lambda(lam).mean()  # the midpoint rule, 100,000 points
# Gauss: two points are exact for polynomials of degree 3 = L - 1
two_points = 0.5 + torch.tensor([-0.5, 0.5]) / math.sqrt(3)
form_1_by_hand = mean_ce_over_lambda(two_points).mean()
form_1 = bounds.lambda_integral(table)
print(f"{form_1_roughly:.12f} by midpoints, {form_1_by_hand:.12f} by two points, {form_1:.12f} shipped")
assert torch.isclose(form_1_roughly, form_1, rtol=1e-8) and torch.isclose(form_1_by_hand, form_1, rtol=1e-12)

# %%
T = [1, 2, 4, 8, 16, 32, 64, 128]
walks = [bounds.discrete_time_bound(table, torch.linspace(0, 1, n + 1)) for n in T]
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
left.semilogx(T, walks, "o-", base=2, label="walk of T steps")
left.axhline(form_1, color="black", linestyle="--", label="integral")
left.set(xlabel="steps T", ylabel="nats")
left.legend()
t = torch.linspace(0.001, 0.999, 300)
for (name, schedule), style in zip(SCHEDULES.items(), ("-", "--", ":"), strict=True):
    lam = 1 - schedule.alpha(t)
    right.plot(t, -schedule.alpha_prime(t) * mean_ce_over_lambda(lam), style, label=name)
right.set(xlabel="t", ylabel="integrand", ylim=(0, 17))
right.legend(handlelength=3)
plt.show()
print({name: f"{bounds.time_integral(table, schedule):.12f}" for name, schedule in SCHEDULES.items()})
for schedule in SCHEDULES.values():
    assert torch.isclose(bounds.time_integral(table, schedule), form_1, rtol=1e-12)

# %% [markdown]
# On the right is the same integral over `t`, for the three schedules of section 1: three curves, **one area**. Choosing
# a schedule is a change of variable. It changes which masked shares a random draw is likely to look at, not what is
# measured.
#
# **Form 2, closed.** The integral can be solved on paper, set by set: `lambda^(k-1) (1-lambda)^(L-k)` integrates to
# `(k-1)! (L-k)! / L!`.
#
# **Form 3, by count.** There are `L! / (k! (L-k)!)` sets of size `k`. Multiply: all sets of size `k` together have
# weight `1/k`. So draw `k` uniformly from 1 to `L`, then a `k`-subset, and weight it by `L/k`.
#
# **Form 4, any order.** Reveal the tokens one at a time in a random order; average `-log p` over all `L!` orders.


# %%
def closed_form_by_hand(table):
    return sum(
        math.factorial(k - 1) * math.factorial(L - k) / math.factorial(L) * table[row].sum()
        for row in range(1, 2**L)
        for k in [int(size[row])]
    )


def k_subset_form_by_hand(table):
    m = [CE[size == k].mean() for k in range(1, L + 1)]  # mean cross-entropy of k-subsets
    return sum(L / k * m_k for k, m_k in enumerate(m, start=1)) / L


def any_order_form_by_hand(table):
    total = 0.0
    for places in permutations(range(L)):
        row = 2**L - 1  # all masked
        for i in places:
            total += table[row, i]
            row -= 2**i  # place i is revealed
    return total / math.factorial(L)


# %%
NAMES = ("lambda_integral", "closed_form", "k_subset_form", "any_order_form")
shipped = [getattr(bounds, name)(table) for name in NAMES]
forms = (closed_form_by_hand, k_subset_form_by_hand, any_order_form_by_hand)
by_hand = [form_1_by_hand, *(form(table) for form in forms)]
for name, ours, theirs in zip(NAMES, by_hand, shipped, strict=True):
    print(f"{name:15} {ours:.13f} {theirs:.13f}")
assert all(torch.isclose(value, form_1, rtol=1e-12) for value in (*shipped, *by_hand))

# %% [markdown]
# Four ways to write one number, for any network at all. The next picture shows why forms 3 and 4 agree. As you go
# through a random order, first `L` tokens are masked, then `L - 1`, and so on. When `k` are masked, the masked set is a
# random `k`-subset, and the next token is a random member of it. It costs `m_k / k` on average, where `m_k` is the mean
# of `CE` over `k`-subsets. Each `k` occurs once.

# %%
m = bounds.mean_by_count(table)[1:]  # (L,) m_1 .. m_L
k = torch.arange(1, L + 1)
assert torch.isclose((m / k).sum(), form_1)
fig, ax = plt.subplots(figsize=(3.6, 2.2), layout="constrained")
ax.bar(k, m / k, color=[str(0.85 - 0.15 * int(i)) for i in k], edgecolor="black")
ax.set(xlabel="tokens still masked, k", ylabel="cost of the next token, nats", xticks=k.tolist())
ax.set_title(f"together {form_1:.3f} nats", fontsize=9)
plt.show()

# %% [markdown]
# ## 5. Why the network needs no time (optional)
#
# In image diffusion the network is given the noise level. Here it is not. Every clean sequence that agrees with the
# revealed tokens is noised into this `x_t` with the **same** probability, `lambda^k (1 - lambda)^(L - k)`. So in Bayes'
# rule it cancels.
#
# That is special to MASK. If noise replaced tokens by *random tokens*, how far to trust a token would depend on the
# time. Here are both cases, computed exactly, for the random distribution `q` of section 3.


# %%
def belief(x_t, kernel, place=1):
    """p(x_0 at `place` | x_t), by Bayes over all sequences; kernel[x_0, x_t]."""
    likelihood = kernel[sequences, x_t].prod(1)  # (81,)
    weight = likelihood * q.flatten()
    return torch.stack([weight[sequences[:, place] == v].sum() for v in range(V)]) / weight.sum()


# %%
grid = torch.linspace(0.02, 0.98, 49)
absorbing = [
    belief(torch.tensor([2, V, 0, V]), diffusion.forward_kernel(1.0, 1 - t, V + 1, V)) for t in grid.tolist()
]
uniform = [belief(torch.tensor([2, 1, 0, 1]), (1 - t) * torch.eye(V) + t / V) for t in grid.tolist()]
fig, axes = plt.subplots(1, 2, figsize=(6.5, 2.3), layout="constrained", sharey=True)
for ax, beliefs, title in zip(axes, (absorbing, uniform), ("MASK", "random tokens"), strict=True):
    for v, style in enumerate(("-", "--", ":")):
        ax.plot(grid, torch.stack(beliefs)[:, v], style, label=f"x_0 = {v}")
    ax.set(title=f"noise by {title}", xlabel="t", ylim=(0, 1))
axes[0].set_ylabel("belief about place 1")
axes[1].legend(handlelength=3, ncol=2, columnspacing=1)
plt.show()
assert torch.allclose(torch.stack(absorbing), absorbing[0].expand(49, V), rtol=1e-12)
assert torch.allclose(absorbing[0], oracle(q)(torch.tensor([[2, V, 0, V]]))[0, 1, :V].exp())

# %% [markdown]
# The lines are flat: the best answer is a conditional probability given the revealed tokens, and nothing more. So the
# same network serves every schedule, every number of steps and every order of revealing. (It can count the MASKs
# itself, should that ever help.)
#
# ## 6. Why 1/t is noisy and the k-subset is not
#
# Training cannot sum over all sets, so it draws one. Forms 1 and 3 say how, and both are right on average (1/p only if
# eps is 0):
#
# - **1/p**: draw `p` uniformly from (eps, 1), mask each token with probability `p`, weight by `1/p` (the released code
#   uses eps = 0.001);
# - **k-subset**: draw `k` uniformly from 1..n, mask a random `k`-subset, weight by `n/k`.


# %%
def k_subset_by_hand(n, generator):
    k = int(torch.randint(1, n + 1, (), generator=generator))
    masked = torch.zeros(n, dtype=torch.bool)
    masked[torch.randperm(n, generator=generator)[:k]] = True
    return masked, n / k * masked  # weight 0 where not masked


def estimates(masked, weight):
    """Draws (N, L) -> (N,): weight times the cross-entropy of the set that was drawn."""
    row = (masked * 2 ** torch.arange(L)).sum(1)
    return weight.amax(1) * CE[row]


# %%
generator, N = torch.Generator().manual_seed(0), 20_000
one_group = torch.zeros(N, L, dtype=torch.long)  # every row is one group of L tokens
options = {"generator": generator, "stratified": False, "dtype": torch.float64}
draws = {
    "by hand": estimates(
        *map(torch.stack, zip(*[k_subset_by_hand(L, generator) for _ in range(N)], strict=True))
    ),
    "k-subset": estimates(*diffusion.random_k_subset(one_group, **options)),
    "1/p": estimates(*diffusion.independent_masks(one_group, eps=1e-3, **options)),
}
for name, values in draws.items():
    error = 1.96 * values.std() / N**0.5  # of the mean: 95 %
    print(f"{name:9} mean {values.mean():6.3f} +- {error:.3f} (bound {form_1:.3f})", end="  ")
    print(f"std {values.std():6.3f}  largest {values.max():8.1f}")
assert (draws["by hand"].mean() - form_1).abs() < 5 * draws["by hand"].std() / N**0.5

# %%
fig, ax = plt.subplots(figsize=(5.5, 2.4), layout="constrained")
bins = torch.logspace(-0.3, 3.3, 60)
ax.hist(draws["1/p"].clamp(min=0.51), bins=bins, color=C["target"], label="1/p")
ax.hist(draws["k-subset"], bins=bins, histtype="step", color=C["text"], linewidth=1.5, label="k-subset")
ax.axvline(form_1, color="black", linestyle="--", label="the bound")
ax.set(xscale="log", yscale="log", xlabel="one estimate, nats (0 is put at the left end)", ylabel="draws")
ax.legend()
plt.show()

# %% [markdown]
# The long tail of 1/p comes from one event: `p` was tiny and a token was masked *all the same*. The k-subset has no
# such tail: its weight is never above `n`. It is what the code trains with. If you are in a hurry, continue with
# section 7.
#
# ### How noisy, exactly (optional)
#
# The probability of that event is about `n p`, the square of its weight is `1/p^2`, and the integral of
# `n p / p^2 = n / p` from eps to 1 is `n log(1/eps)`: the variance grows without limit as eps falls. With a larger eps
# it is milder, but then 1/p is **biased**. The k-subset has neither problem. `bounds.py` computes all of this exactly.


# %%
def by_count_variance(eps):
    """Independent masks with exact weights: coefficient over probability of the set (see the chapter)."""
    n = torch.full_like(size[1:], L)
    weight = diffusion.count_weight(size[1:], n, eps)  # (15,)
    coefficient = torch.tensor([1 / (k * math.comb(L, k)) for k in size[1:].tolist()])
    return (coefficient * weight * CE[1:] ** 2).sum() - form_1**2


eps = torch.logspace(-9, -0.5, 60).tolist()
inverse_p = torch.stack([bounds.inverse_p_moments(table, e)[1] for e in eps])
bias = torch.stack([bounds.inverse_p_bias(table, e) for e in eps])
mean, k_subset = bounds.k_subset_moments(table)
assert torch.isclose(mean, form_1)
assert (draws["k-subset"].var() / k_subset - 1).abs() < 0.1

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
left.semilogx(eps, inverse_p, color=C["target"], label="1/p")
exact_weights = [by_count_variance(e) for e in eps]
left.semilogx(eps, exact_weights, color=C["source"], linestyle=":", label="exact weights")
left.axhline(k_subset, color=C["text"], linestyle="--", label="k-subset")
left.plot(1e-3, draws["1/p"].var(), "o", color=C["control"], label="20,000 draws")
left.set(xlabel="eps", ylabel="variance of one estimate", ylim=(0, 1.9 * inverse_p.max()))
left.legend(loc="upper right", ncol=2, columnspacing=1, handlelength=1.5)
right.semilogx(eps, bias, color=C["target"], label="1/p")
right.axhline(0, color=C["text"], linestyle="--", label="k-subset")
right.set(xlabel="eps", ylabel="bias, nats")
right.legend()
plt.show()
singles = (CE[size == 1] ** 2).sum()  # the slope of the curve: sets of one token
assert torch.isclose((inverse_p[0] - inverse_p[10]) / math.log(eps[10] / eps[0]), singles, rtol=1e-3)

# %% [markdown]
# "Exact weights" (dotted) are what is left when 1/p is replaced by its mean given the set that was drawn, `(n+1)/k` at
# eps = 0: once the set is known, the value of `p` is only noise. The k-subset goes one step further and never draws the
# empty set. (The dot may miss its curve: with so long a tail, 20,000 draws do not even measure the variance of 1/p
# well.)
#
# A batch holds many groups. **Stratified** draws spread `k/n` (or `p`) evenly over the groups, while each stays uniform
# by itself. This costs nothing.

# %%
spread, batch = {}, torch.zeros(32, L, dtype=torch.long)  # 32 groups
for stratified in (False, True):
    note, settings = ", stratified" * stratified, {**options, "stratified": stratified}
    for name, draw in (
        ("1/p", lambda s: diffusion.independent_masks(batch, eps=1e-3, **s)),
        ("exact weights", lambda s: diffusion.independent_masks(batch, eps=1e-3, weighting="by_count", **s)),
        ("k-subset", lambda s: diffusion.random_k_subset(batch, **s)),
    ):
        spread[name + note] = torch.stack([estimates(*draw(settings)).mean() for _ in range(400)]).std()

fig, ax = plt.subplots(figsize=(6, 2.1), layout="constrained")
error = [1.96 * std / math.sqrt(2 * 400) for std in spread.values()]  # of a deviation from 400 means
shades = [C["target"], C["source"], C["mask"]] * 2
ax.barh(list(spread), list(spread.values()), xerr=error, capsize=3, color=shades)
ax.invert_yaxis()
ax.set_xlabel("standard deviation of the mean of 32 groups, nats (bar: 95 %, 400 batches)")
plt.show()
assert spread["k-subset, stratified"] < spread["k-subset"] < spread["1/p"]

# %% [markdown]
# ## 7. A bound, and when it is tight
#
# A sampler that reveals tokens in a random order gives `x_0` the probability `mean over orders of p`. The `-log` of
# this mean is *not* the mean of `-log p`: by Jensen's inequality it is smaller. The gap is the price of averaging
# outside the logarithm. It vanishes when all orders agree on `p`, as they do for a **consistent** network: one whose
# answers are the conditionals of a single distribution.

# %%
truth = bounds.surprisals(oracle(q), x0, V)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for ax, this, title in zip(
    axes, (table, truth), ("any network", "consistent (true conditionals)"), strict=True
):
    nlls = bounds.order_nlls(this)  # (24,)
    ax.plot(nlls.sort().values, "o", markersize=3, color=C["target"], label="one order")
    ax.axhline(nlls.mean(), color="black", label="mean: the bound")
    ax.axhline(bounds.any_order_nll(this), color=C["text"], linestyle="--", label="-log of the mean p")
    ax.set(title=title, xlabel="24 orders, sorted", ylabel="-log p, nats")
axes[0].legend()
axes[1].set_ylim(nlls.mean() - 1, nlls.mean() + 1)
axes[1].text(12, nlls.mean() + 0.1, "all three coincide", ha="center")
plt.show()
exact = -(-bounds.order_nlls(table)).exp().mean().log()
assert torch.isclose(exact, bounds.any_order_nll(table)) and exact < bounds.any_order_form(table)
assert torch.allclose(bounds.order_nlls(truth), -q[tuple(x0)].log())

# %% [markdown]
# So do not compare a diffusion model's bound with an autoregressive model's likelihood as if they were the same thing:
# one is an upper bound on `-log p`, the other is `-log p` itself. A network is never quite consistent, but training
# pulls it in that direction and so closes the gap.
#
# ## 8. Group by group (optional)
#
# Text-to-Talk generates group after group (notebook 02), so its bound is a sum: each group's bound, given the finished
# groups before it. Groups of one token have only one order and give exactly plain autoregression. One group of all
# tokens gives section 4.


# %%
def bound_by_groups(predict, x0, groups):
    return sum(bounds.closed_form(t) for t in bounds.group_surprisals(predict, x0, V, groups))


PARTITIONS = {"1+1+1+1": [0, 1, 2, 3], "2+2": [0, 0, 1, 1], "1+3": [0, 1, 1, 1], "4": [0, 0, 0, 0]}
left_to_right = bounds.path_nll(table, [[0], [1], [2], [3]])
assert torch.isclose(bound_by_groups(network, x0, torch.arange(4)), left_to_right)
assert torch.isclose(bound_by_groups(network, x0, torch.zeros(4).long()), form_1)


def mean_bound(predict, groups):  # over sequences drawn from q
    each = [bound_by_groups(predict, s, torch.tensor(groups)) for s in sequences]
    return (q.flatten() * torch.stack(each)).sum()


entropy = -(q * q.log()).sum()
means = {name: [mean_bound(p, g) for p in (network, oracle(q))] for name, g in PARTITIONS.items()}
assert all(torch.isclose(of_oracle, entropy, rtol=1e-12) for _, of_oracle in means.values())

# %%
fig, ax = plt.subplots(figsize=(5, 2.3), layout="constrained")
at = torch.arange(4)
ax.bar(at - 0.2, [v[0] for v in means.values()], 0.36, color=C["mask"], label="any network")
ax.bar(at + 0.2, [v[1] for v in means.values()], 0.36, color=C["target"], label="true conditionals")
ax.axhline(entropy, color="black", linestyle="--", label="entropy H")
ax.set_xticks(at, list(means))
ax.set(
    xlabel="tokens per group", ylabel="mean bound, nats", ylim=(0, 1.9 * max(v[0] for v in means.values()))
)
ax.legend()
plt.show()

# %% [markdown]
# With the true conditionals the mean bound is the entropy, **whatever the groups**: in principle the choice of blocks
# costs nothing. In practice it costs whatever a real network finds hard.
#
# ## 9. What K steps cost
#
# Decoding a block of `n` tokens in `n` steps is slow. In `K` steps, several tokens are revealed at once, each drawn
# **on its own**: each may be right by itself, and yet they may not fit together. The expected price has a bound like
# the others: cut a random order into `K` rounds, and predict the tokens of each round in parallel. If `r` tokens are
# masked before a round and the round reveals `n_j` of them, it costs `n_j / r * m_r` on average. The sum is called
# NELBO(K), for negative evidence lower bound.


# %%
def k_step_bound_by_hand(table, sizes):
    m = bounds.mean_by_count(table)
    left, total = table.shape[1], 0.0
    for reveal in sizes:
        total = total + reveal / left * m[left]
        left -= reveal
    return total


for K in range(1, 5):
    assert torch.isclose(k_step_bound_by_hand(table, bounds.round_sizes(4, K)), bounds.k_step_bound(table, K))
assert torch.isclose(bounds.k_step_bound(table, 1), CE[-1])  # all at once
assert torch.isclose(bounds.k_step_bound(table, 4), form_1)  # one at a time

# %% [markdown]
# Now for something like speech: six tokens in one of **two voices**. The voice is an unknown coin flip; given the
# voice, each token is 1 with probability .9 (or .1). If all tokens are drawn at once, even the true conditionals cannot
# agree on a voice. The more steps, the sooner the first tokens inform the rest.

# %%
n, bits = 6, torch.cartesian_prod(*[torch.arange(2)] * 6)  # (64, 6)
ones = bits.sum(1)
q_voices = 0.5 * (0.9**ones * 0.1 ** (n - ones)) + 0.5 * (0.1**ones * 0.9 ** (n - ones))  # (64,)
voices = oracle(q_voices.view((2,) * n))
tables = torch.stack([bounds.surprisals(voices, x, 2) for x in bits])  # (64, 2^6, 6)
H = -(q_voices * q_voices.log()).sum()


def p_of_k_steps(K):
    """The exact distribution of the K-step sampler: the mean over all orders, cut into rounds. (64,)"""
    p = torch.zeros(64)
    for places in torch.tensor(list(permutations(range(n)))):  # 720 orders
        row, nll = 2**n - 1, torch.zeros(64)
        for group in places.split(bounds.round_sizes(n, K)):
            nll += tables[:, row, group].sum(1)
            row -= int((2**group).sum())
        p += (-nll).exp() / math.factorial(n)
    return p


# %%
nelbo = torch.stack(
    [(q_voices * torch.stack([bounds.k_step_bound(t, K) for t in tables])).sum() for K in range(1, n + 1)]
)
p_K = torch.stack([p_of_k_steps(K) for K in range(1, n + 1)])  # (6, 64)
divergence = (q_voices * (q_voices / p_K).log()).sum(1)  # (6,)
assert torch.allclose(p_K.sum(1), torch.ones(n)) and (divergence <= nelbo - H + 1e-12).all()
mixed = (ones >= 2) & (ones <= 4)
shares = {K: f"{p_K[K - 1, mixed].sum():.2f}" for K in (1, 2, 3, 6)}
print(f"mixed samples: truth {q_voices[mixed].sum():.2f}; in K steps {shares}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
left.plot(range(1, n + 1), nelbo - H, "o-", color=C["text"], label="NELBO(K) - H")
left.plot(range(1, n + 1), divergence, "s--", color=C["target"], label="KL(q, p_K)")
left.set(xlabel="steps K", ylabel="nats")
left.legend()
count = torch.arange(n + 1)
for p, style, name in ((q_voices, "k-", "truth"), (p_K[0], "s--", "K = 1"), (p_K[2], "o:", "K = 3")):
    right.plot(count, [p[ones == c].sum() for c in count], style, markersize=4, label=name)
right.set(xlabel="how many tokens are 1", ylabel="probability", ylim=(0, 0.42))
right.legend(ncol=3, loc="upper center", columnspacing=1)
plt.show()

# %% [markdown]
# Left: the bound falls to zero at `K = n`, and the true divergence stays below it. Right: what this means. The truth
# has two humps, one for each voice. One step gives a single hump in the middle: most samples are *mixed*, in neither
# voice. With three steps the two humps are coming back, but a third of the samples are still mixed.
#
# Why 0.78 in one step? The network is perfect, so you can work out what share of its one-step samples are mixed: with
# all six masked, each token is 1 with probability 1/2.
#
# <details><summary>Answer</summary>
#
# One step flips six fair coins. Two, three or four ones come up in 50 of 64 cases: 0.78, as printed above for one step.
# So 14 of 64, 0.22, are in a hump, where the truth has 0.89. Nothing is wrong with the network; what is lost is the
# agreement between the tokens.
#
# </details>
#
# Two things to notice. The second step brings most of the gain: once some tokens are fixed, the voice is nearly known.
# And from 3 to 5 steps little happens, because the *first* round still reveals two tokens at once, before anything is
# known: tokens drawn without any information cost the most. Notebook 04 decodes in this way, and asks which tokens to
# reveal first.
#
# ## Exercises
#
# The checks accept a number in any form: Python, numpy or a tensor.


# %% tags=["needed"]
def one_number(answer, hint="one number is asked for, not several"):
    """A float of whatever form one number has: of Python, of numpy, a tensor or a list of one element."""
    assert not isinstance(answer, str), "a number, not text"
    try:
        if isinstance(answer, (list, tuple)):
            [answer] = answer
        return float(answer.item() if hasattr(answer, "item") else answer)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(hint) from None


# %% [markdown]
# ### 1. Fill in: the any-order bound without orders
#
# `any_order_form` goes through all `L!` orders: 24 for four tokens, but 3,628,800 for ten. A recursion over *sets*
# needs only `2^L` steps. Here `bound[row]` is the mean cost of revealing the tokens masked in `row`, one at a time, in
# a random order. The first token to be revealed is a random one of them; what is left is the `bound` of a smaller set.
# Fill in the line. (`table[row, i]` is the surprisal of place `i` when the places of `row` are masked, and `row - 2**i`
# is `row` with place `i` revealed.)


# %% tags=["exercise-1"]
def any_order_by_sets(table):
    n = table.shape[1]
    bound = {0: 0.0}  # nothing is masked: nothing to pay
    for row in range(1, 2**n):
        places = [i for i in range(n) if row >> i & 1]  # noqa: F841 (masked in this row)
        bound[row] = None  # yours
    return bound[2**n - 1]


# %% tags=["check-1"]
def check_any_order_by_sets():
    for n in range(1, 6):
        g = torch.Generator().manual_seed(n)
        table = torch.rand(2**n, n, generator=g).double() * bounds.masked_sets(n)
        found, wanted = any_order_by_sets(table), float(bounds.any_order_form(table))
        if found is None or found is ...:
            return print("exercise 1: not answered yet")
        found = one_number(found, "bound[row] is one number: the mean over `places`")
        where = f"with {n} token{'s' * (n > 1)} you have {found:.4f} nats, the orders give {wanted:.4f}: "
        assert found < wanted + 1e-4, (
            where + "too much; only ONE of the masked tokens is revealed next, a random one"
        )
        assert found > wanted - 1e-4, (
            where
            + "too little; after the first token the others still must be paid for, and it is the mean over `places`"
        )
    print("exercise 1: right")


check_any_order_by_sets()

# %% [markdown]
# ### 2. Predict: one coin, written twice
#
# A fair coin is tossed **once** and the result is written down **twice**: the sequences are 00 and 11, each with
# probability 1/2. The network knows the true conditionals. What is `NELBO(1)` (both tokens in one step), and what is
# `NELBO(2)` (one after the other), **in bits**?

# %% tags=["exercise-2"]
nelbo_1, nelbo_2 = None, None  # bits


# %% tags=["check-2"]
def check_nelbo():
    if nelbo_1 is None or nelbo_2 is None:
        return print("exercise 2: not answered yet")
    mine = one_number(nelbo_1), one_number(nelbo_2)
    coin = torch.tensor([[0.5, 0.0], [0.0, 0.5]]).double()
    table = bounds.surprisals(oracle(coin), torch.tensor([0, 0]), 2)  # 11 is the same by symmetry
    one, two = (bounds.k_step_bound(table, K).item() / math.log(2) for K in (1, 2))
    for unit in (math.log(2), 1 / 2):
        same = abs(mine[0] - one * unit) < 0.01 and abs(mine[1] - two * unit) < 0.01
        assert not same, "right but for the unit: in bits, not nats, and of both tokens together"
    assert min(mine) >= 0, "the sign: a surprisal is -log p, and p is at most 1"
    swapped = abs(mine[0] - two) < 1e-4 and abs(mine[1] - one) < 1e-4
    assert not swapped, "the right two numbers the wrong way round: which of the samplers is the worse one?"
    assert abs(mine[0] - one) < 1e-4, (
        "NELBO(1): at once, with both masked, what is each token's probability of being right?"
    )
    assert abs(mine[1] - two) < 1e-4, (
        "NELBO(2): when the first token is revealed, what is left to say of the second?"
    )
    print("exercise 2: right")


check_nelbo()

# %% [markdown]
# ### 3. Extend: draw k as you please
#
# Suppose you would rather train on many MASKs than on few, and draw `k` with probabilities of your own choice. Which
# weight keeps the estimate of the bound unbiased? Write it for `k` masked tokens out of `n`, where `chance` is the
# probability of drawing this `k`. (Form 3 is the case `chance = 1/n`.)


# %% tags=["exercise-3"]
def weight_of_draw(k, n, chance):
    """The weight of CE(S), S a uniform k-subset of n tokens, where k was drawn with probability `chance`."""
    ...


# %% tags=["check-3"]
def check_weight_of_draw():
    for n in (2, 3, 4):
        g = torch.Generator().manual_seed(n)
        table = torch.rand(2**n, n, generator=g).double() * bounds.masked_sets(n)
        m, k = bounds.mean_by_count(table)[1:], torch.arange(1, n + 1).double()
        for name, share in (("uniform", 0 * k + 1), ("rising with k", k), ("falling with k", 1 / k)):
            chances = (share / share.sum()).tolist()
            weights = [weight_of_draw(i, n, chance) for i, chance in enumerate(chances, start=1)]
            if all(weight is None or weight is ... for weight in weights):
                return print("exercise 3: not answered yet")
            assert not any(w is None for w in weights), (
                "for some k nothing comes back: is a branch without return?"
            )
            weights = [one_number(w, "one weight is asked for, that of this k") for w in weights]
            mean = sum(c * w * m_k for c, w, m_k in zip(chances, weights, m, strict=True))
            wanted = bounds.closed_form(table)
            hint = "what is drawn twice as often must weigh half as much"
            if name == "uniform":
                hint = "for chance = 1/n it is form 3, where CE(S) weighs n/k"
            off = f"k drawn {name}, n = {n}: the mean is {mean:.4f}, the bound {wanted:.4f}"
            assert abs(mean - wanted) < 1e-4, f"{off}; {hint}"
    print("exercise 3: right")


check_weight_of_draw()

# %% [markdown]
# ## What you now know
#
# - Noise turns tokens into MASK, never back; to go backwards, you only need a guess of the clean token at each MASK.
# - The training bound is one number in four forms: an integral, a sum over sets, a draw of k, a mean over orders.
# - Draw k, mask a random k-subset, weight it by n/k: the same mean as 1/p weights, without their long tail.
# - The bound is above $-\log p$, and equals it when the network's answers are the conditionals of one distribution.
# - Fewer steps cost nats, because tokens revealed together are drawn independently. The second step brings most of the
#   gain.
#
# **Next**: [notebook 04](04_block_decoding.ipynb) puts all this to work in decoding. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/03_absorbing_diffusion.py).
