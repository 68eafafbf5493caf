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


# %% tags=["wrong-1"]
def sees(query, key):  # one path ends without a return
    (q, from_noisy), (k, to_noisy) = query, key
    if not from_noisy:
        return not to_noisy and k <= q
    if to_noisy:
        return k == q


# %% tags=["right-1"]
def sees(query, key):  # a tensor of one element, as a mask would give it
    groups, noisy = (torch.tensor([column]) for column in zip(query, key, strict=True))
    return two_stream_mask(groups, noisy)[0, 0, 1] if query != key else torch.tensor(True)


# %% tags=["right-1"]
def sees(query, key):  # 1 and 0 for True and False
    clean = (not query[1]) * (not key[1]) * (key[0] <= query[0])
    return int(clean or (query[1] and (key[0] == query[0] if key[1] else key[0] < query[0])))


# %% [markdown]
# Two slots are drawn in the first step, and know nothing of each other. They agree with probability 1/4. If they agree,
# the six that follow know the voice.

# %% tags=["exercise-2"]
one_voice = 1 / 4

# %% tags=["right-2"]
one_voice = torch.tensor([0.25])

# %% tags=["right-2"]
one_voice = torch.tensor(0.25)  # a tensor without dimensions

# %% tags=["right-2"]
one_voice = [4 * (1 / 4) ** 2]  # a list of one

# %% tags=["wrong-2"]
one_voice = 25  # per cent

# %% tags=["wrong-2"]
one_voice = [1 / 4, 3 / 4]  # two numbers

# %% tags=["wrong-2"]
one_voice = 4 * (1 / 4) ** 8  # that is K = 1

# %% tags=["wrong-2"]
one_voice = 1.0  # that is K = 8

# %% tags=["wrong-2"]
one_voice = (1 / 4) ** 2  # that both are in a voice named beforehand

# %% tags=["wrong-2"]
one_voice = 0.3

# %% [markdown]
# Does it keep first blocks in one voice more often? It depends on how many slots of the block can only be EOA, and not in
# the way one would hope. Those slots are the surest of all. So *surest first* reveals them before anything else, and they
# say nothing about the voice. At K = 4 a step reveals two slots:
#
# | first block | surest first, drawn | exact | `ask_all` | random order, drawn | exact | `ask_all` |
# |---|---|---|---|---|---|---|
# | 8 codes, no EOA: `[(5, 8)]` | 25 % [23, 27] | 1/4 | 28 [20, 37] | 24 % [22, 25] | 1/4 | 31 [23, 41] |
# | 7 codes, one EOA: `[(0, 1)]` | 100 % [99.8, 100] | 1 | 99 [95, 100] | 42 % [40, 45] | 7/16 | 44 [35, 54] |
# | 6 codes, two EOA: `[(0, 3)]` | 25 % [23, 27] | 1/4 | 33 [25, 43] | 57 % [55, 59] | 4/7 | 58 [48, 67] |
#
# (Drawn: 2000 blocks each, filled in with `perfect_guess`, with Wilson's 95 % interval. Exact: by counting. `ask_all`: of
# 100 answers by a network trained as in section 7; yours may differ by as much as the intervals say.)
#
# - **No EOA.** Before the first step all slots are equally unsure of the voice. Two codes are drawn together, and agree one
#   time in four, in either order.
# - **One EOA.** It takes one of the two places in the first step. So only *one* code is drawn without knowing the voice, and
#   the block is always in one voice. Random order has this luck when the EOA is in the first pair, 1/4 of the time:
#   1/4 + 3/4 * 1/4 = 7/16.
# - **Two EOA.** They use up the whole first step. Nothing has been learnt about the voice, and the second step draws two
#   codes together: 1/4 again. Random order is better here. With one EOA and one code in the first pair (12 of 28) all goes
#   well; with two codes (15 of 28), or with both EOA (1 of 28), two codes are drawn together:
#   12/28 + 16/28 * 1/4 = 4/7.
#
# So the slots that can only be EOA do matter: they take up places in a step. And a sure slot is not the same thing as
# a slot that tells the others something.


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


# %% tags=["wrong-3"]
def surest(masked, p, n):  # collision entropy: -ln of a sum is not the sum of -p ln p
    return (-p.square().sum(-1).log()).masked_fill(~masked, torch.inf).argsort()[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # the lead of the first over the second
    best = p.topk(2, dim=-1).values
    return (best[:, 0] - best[:, 1]).masked_fill(~masked, -1).argsort(descending=True)[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # the entropies, not the slots
    return torch.special.entr(p).sum(-1)[masked].sort().values[:n]


# %% tags=["wrong-3"]
def surest(masked, p, n):  # counts among the masked slots only
    return torch.special.entr(p).sum(-1)[masked].argsort()[:n]


# %% tags=["right-3"]
def surest(masked, p, n):  # a list, in bits
    entropy = torch.special.entr(p).sum(-1) / math.log(2)
    return sorted(torch.nonzero(masked)[:, 0].tolist(), key=lambda slot: float(entropy[slot]))[:n]


# %% tags=["right-3"]
def surest(masked, p, n):  # a mask of the slots
    order = torch.special.entr(p).sum(-1).masked_fill(~masked, torch.inf).argsort()
    return torch.zeros(BLOCK, dtype=torch.bool).scatter(0, order[:n], True)


# %% tags=["right-3"]
def surest(masked, p, n):  # a NumPy array
    entropy = torch.special.entr(p).sum(-1).masked_fill(~masked, torch.inf).numpy()
    return entropy.argsort()[:n]


# %% tags=["right-3"]
def surest(masked, p, n):  # a tuple
    order = torch.special.entr(p).sum(-1).masked_fill(~masked, torch.inf).argsort()
    return tuple(order[:n].tolist())


# %% tags=["right-3"]
def surest(masked, p, n):  # as `torch.where` has it: a tuple of one tensor
    order = torch.special.entr(p).sum(-1).masked_fill(~masked, torch.inf).argsort()
    return torch.where(torch.zeros(BLOCK, dtype=torch.bool).scatter(0, order[:n], True))
