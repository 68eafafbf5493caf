# %% [markdown]
# Solutions to the exercises of notebook 00, and wrong answers that its checks refuse.


# %% tags=["exercise-1"]
def sees(query, key):
    (q, from_noisy), (k, to_noisy) = query, key
    if not from_noisy:
        return not to_noisy and k <= q
    return k == q if to_noisy else k < q


# %% tags=["wrong-1"]
def sees(query, key):  # one stream: noisy rows could copy their answers
    return key[0] <= query[0]


# %% tags=["wrong-1"]
def sees(query, key):  # the leak: a noisy block sees its own clean copy
    (q, from_noisy), (k, to_noisy) = query, key
    return k == q if from_noisy and to_noisy else k <= q and not to_noisy


# %% tags=["wrong-1"]
def sees(query, key):  # a noisy block sees the noise of earlier blocks
    (q, from_noisy), (k, to_noisy) = query, key
    return (k <= q if to_noisy else k < q) if from_noisy else not to_noisy and k <= q


# %% [markdown]
# Two slots are drawn in the first step, and know nothing of each other. They agree with probability 1/4. If they agree,
# the six that follow know the voice.

# %% tags=["exercise-2"]
one_voice = 1 / 4

# %% tags=["wrong-2"]
one_voice = 4 * (1 / 4) ** 8  # that is K = 1

# %% tags=["wrong-2"]
one_voice = 1.0  # that is K = 8

# %% tags=["wrong-2"]
one_voice = (1 / 4) ** 2  # that both are in a voice named beforehand

# %% tags=["wrong-2"]
one_voice = 0.3

# %% [markdown]
# It heals nothing: before the first look all slots are equally open as to their voice, so the surest are no better
# informed of each other than any others. (And slots that can hold nothing but EOA come first: sure, and no help.)


# %% tags=["exercise-3"]
def surest(masked, p, n):
    entropy = torch.special.entr(p).sum(-1)  # 0 where p is 0
    return entropy.masked_fill(~masked, torch.inf).argsort()[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # forgets which slots are masked
    return torch.special.entr(p).sum(-1).argsort()[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # the least sure
    return torch.special.entr(p).sum(-1).masked_fill(~masked, -torch.inf).argsort(descending=True)[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # 0 * log 0 is nan
    return (-(p * p.log()).sum(-1)).masked_fill(~masked, torch.inf).argsort()[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # blind
    return torch.nonzero(masked)[:n, 0]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # the most likely token is not the whole of it
    return p.amax(-1).masked_fill(~masked, -1).argsort(descending=True)[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # values and indices
    return torch.special.entr(p).sum(-1).masked_fill(~masked, torch.inf).topk(n, largest=False)
