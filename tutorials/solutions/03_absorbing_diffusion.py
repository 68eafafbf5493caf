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
# # Solutions of notebook 03
#
# Exercise 1. The mean over the token that is revealed next, of its surprisal and of what is left.


# %% tags=["exercise-1"]
def any_order_by_sets(table):
    n = table.shape[1]
    bound = {0: 0.0}
    for row in range(1, 2**n):
        places = [i for i in range(n) if row >> i & 1]
        bound[row] = sum(table[row, i] + bound[row - 2**i] for i in places) / len(places)
    return bound[2**n - 1]


# %% [markdown]
# Wrong: all masked tokens paid at once, and the rest on top.


# %% tags=["wrong-1"]
def any_order_by_sets(table):
    n = table.shape[1]
    bound = {0: 0.0}
    for row in range(1, 2**n):
        places = [i for i in range(n) if row >> i & 1]
        bound[row] = sum(table[row, i] + bound[row - 2**i] for i in places)
    return bound[2**n - 1]


# %% [markdown]
# Wrong: only the first token is paid for.


# %% tags=["wrong-1"]
def any_order_by_sets(table):
    n = table.shape[1]
    bound = {0: 0.0}
    for row in range(1, 2**n):
        places = [i for i in range(n) if row >> i & 1]
        bound[row] = sum(table[row, i] for i in places) / len(places)
    return bound[2**n - 1]


# %% [markdown]
# Exercise 2. At once, each token is 0 or 1 with probability 1/2, and two such guesses cost one bit each. One after the
# other, the second is known as soon as the first is: one bit, the entropy.

# %% tags=["exercise-2"]
nelbo_1, nelbo_2 = 2, 1

# %% [markdown]
# Wrong: one coin, one bit, however it is sampled.

# %% tags=["wrong-2"]
nelbo_1, nelbo_2 = 1, 1

# %% [markdown]
# Wrong: two tokens, two bits, however they are sampled.

# %% tags=["wrong-2"]
nelbo_1, nelbo_2 = 2, 2

# %% [markdown]
# Exercise 3. The bound is the sum over k of m_k / k. A draw of k contributes chance * weight * m_k, so weight = 1 / (k
# * chance). With chances proportional to 1/k all weights are equal: a plain mean of cross-entropies, no weights at all.


# %% tags=["exercise-3"]
def weight_of_draw(k, n, chance):
    """The weight of CE(S), S a uniform k-subset of n tokens, where k was drawn with probability `chance`."""
    return 1 / (k * chance)


# %% [markdown]
# Wrong: the weight of uniform k, whatever was drawn.


# %% tags=["wrong-3"]
def weight_of_draw(k, n, chance):
    return n / k


# %% [markdown]
# Wrong: divided by the chance, without taking back the 1/n.


# %% tags=["wrong-3"]
def weight_of_draw(k, n, chance):
    return n / (k * chance)


# %% tags=["wrong-2"]
nelbo_1, nelbo_2 = 2 * math.log(2), math.log(2)  # nats


# %% tags=["wrong-3"]
def weight_of_draw(k, n, chance):
    if k > 1:
        return 1 / (k * chance)


# %% [markdown]
# Also right: in numpy, from the smallest set to the largest, and the answer as an array of one element.


# %% tags=["right-1"]
def any_order_by_sets(table):
    import numpy as np

    costs = np.asarray(table, dtype=np.float32)
    n = costs.shape[1]
    bound = np.zeros(2**n, dtype=np.float32)
    for row in range(1, 2**n):
        places = [i for i in range(n) if row >> i & 1]
        bound[row] = np.mean([costs[row, i] + bound[row - 2**i] for i in places])
    return bound[-1:]


# %% [markdown]
# Also right: computed instead of reasoned, and left as tensors of one element.

# %% tags=["right-2"]
nelbo_1 = -2 * torch.tensor(0.5).log2()
nelbo_2 = [torch.tensor(1.0)]


# %% [markdown]
# Also right: one over the share of the sets of this size that are drawn, in single precision.


# %% tags=["right-3"]
def weight_of_draw(k, n, chance):
    return torch.tensor([1 / k], dtype=torch.float32) / chance


# %% [markdown]
# Wrong: a cost for every place; the two bounds exchanged; the sign; a weight without k; the weights of all k.


# %% tags=["wrong-1"]
def any_order_by_sets(table):
    return table.mean(0)


# %% tags=["wrong-2"]
nelbo_1, nelbo_2 = 1, 2

# %% tags=["wrong-2"]
nelbo_1, nelbo_2 = -2, -1


# %% tags=["wrong-3"]
def weight_of_draw(k, n, chance):
    return 1 / chance


# %% tags=["wrong-3"]
def weight_of_draw(k, n, chance):
    return [1 / (i * chance) for i in range(1, n + 1)]
