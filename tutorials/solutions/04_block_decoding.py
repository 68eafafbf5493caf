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
# # Solutions to 04, block decoding
#
# **1.** The lead is the difference of the two highest probabilities; masked slots are sorted by it.


# %% tags=["exercise-1"]
def margin_order(draft):
    best, second = draft.p.topk(2).values.unbind(-1)  # (D,), (D,)
    lead = (best - second).masked_fill(~draft.masked, -1.0)
    order = lead.argsort(descending=True, stable=True)
    share = math.ceil(int(draft.masked.sum()) / draft.steps_left)
    return torch.zeros_like(draft.masked).index_fill(0, order[:share], True)


# %% [markdown]
# Wrong: sorted the wrong way round; revealed slots take part; the drawn token's probability; one slot too few.


# %% tags=["wrong-1"]
def margin_order(draft):
    best, second = draft.p.topk(2).values.unbind(-1)
    lead = (best - second).masked_fill(~draft.masked, 2.0)
    share = math.ceil(int(draft.masked.sum()) / draft.steps_left)
    return torch.zeros_like(draft.masked).index_fill(0, lead.argsort()[:share], True)


# %% tags=["wrong-1"]
def margin_order(draft):
    best, second = draft.p.topk(2).values.unbind(-1)
    share = math.ceil(int(draft.masked.sum()) / draft.steps_left)
    return torch.zeros_like(draft.masked).index_fill(0, (second - best).argsort()[:share], True)


# %% tags=["wrong-1"]
def margin_order(draft):
    return unmasking.confidence_released(draft)


# %% tags=["wrong-1"]
def margin_order(draft):
    best, second = draft.p.topk(2).values.unbind(-1)
    lead = (best - second).masked_fill(~draft.masked, -1.0)
    share = max(1, int(draft.masked.sum()) // draft.steps_left)
    return torch.zeros_like(draft.masked).index_fill(0, lead.argsort(descending=True)[:share], True)


# %% [markdown]
# **2.** At least one candidate is 1 with probability $1 - 0.2^2 = 0.96$; then 0.8 for the other bit: 0.768.

# %% tags=["exercise-2"]
p_11 = (1 - 0.2**2) * 0.8

# %% tags=["wrong-2"]
p_11 = 0.64

# %% tags=["wrong-2"]
p_11 = 0.8 * 0.8 * 0.96

# %% tags=["wrong-2"]
p_11 = 0.891

# %% [markdown]
# **3.** Draw one slot blind, then the three others together: they are independent given the voice, and one code tells
# the voice in 85 cases of 100. `random_order` draws two slots blind, and they disagree in most replies.


# %% tags=["exercise-3"]
def better_in_two(draft):
    if draft.masked.all():
        return torch.arange(len(draft.masked)) == draft.noise.argmin()
    return draft.masked


# %% [markdown]
# Wrong: three blind and one after; the same two and two in a fixed order; one at a time, which is exact but takes four.


# %% tags=["wrong-3"]
def better_in_two(draft):
    return torch.arange(4) < 3 if draft.masked.all() else draft.masked


# %% tags=["wrong-3"]
def better_in_two(draft):
    return unmasking.entropy_order(draft)


# %% tags=["wrong-3"]
def better_in_two(draft):
    return unmasking.left_to_right(draft._replace(steps_left=int(draft.masked.sum())))


# %% tags=["wrong-3"]
def better_in_two(draft):
    return unmasking.confidence_released(draft)


# %% tags=["wrong-1"]
def margin_order(draft):  # ties go right
    two = draft.p.topk(2).values
    lead = (two[:, 0] - two[:, 1]).masked_fill(~draft.masked, -1)
    n, reveal = math.ceil(int(draft.masked.sum()) / draft.steps_left), torch.zeros(len(lead)).bool()
    reveal[sorted(range(len(lead)), key=lambda i: (lead[i], i))[-n:]] = True
    return reveal


# %% tags=["wrong-3"]
def better_in_two(draft):  # reveals the first slot again
    return torch.arange(4) == 0 if draft.steps_left == 2 else torch.ones(4).bool()


# %% tags=["wrong-3"]
def better_in_two(draft):  # a number, not a choice for every slot
    return torch.tensor([3])


# %% tags=["wrong-3"]
def better_in_two(draft):  # says nothing in the second step
    if draft.steps_left == 2:
        return torch.arange(4) == 0


# %% [markdown]
# Also right: in plain Python, a list of True and False; in numpy, with zeros and ones.


# %% tags=["right-1"]
def margin_order(draft):
    lead = [max(row) - sorted(row)[-2] for row in draft.p.tolist()]
    waiting = sorted((i for i in range(len(lead)) if draft.masked[i]), key=lambda i: -lead[i])
    return [i in waiting[: share(draft)] for i in range(len(lead))]


# %% tags=["right-1"]
def margin_order(draft):
    p, masked = np.sort(draft.p.numpy()), draft.masked.numpy()
    lead = np.where(masked, p[:, -1] - p[:, -2], -1)
    reveal = np.zeros(len(lead), dtype=np.int8)
    reveal[np.argsort(-lead, kind="stable")[: share(draft)]] = 1
    return reveal


# %% tags=["right-2"]
p_11 = torch.tensor([0.96], dtype=torch.float32) * 0.8


# %% tags=["right-3"]
def better_in_two(draft):
    if draft.steps_left == 1:
        return tuple(draft.masked.tolist())
    return np.array([1, 0, 0, 0])


# %% [markdown]
# Wrong: the numbers of the slots; a step too few is left; the figure of the text; the first step alone; in per cent.


# %% tags=["wrong-1"]
def margin_order(draft):
    two = draft.p.topk(2).values
    lead = (two[:, 0] - two[:, 1]).masked_fill(~draft.masked, -1.0)
    return lead.argsort(descending=True, stable=True)[: share(draft)]


# %% tags=["wrong-1"]
def margin_order(draft):
    best, second = draft.p.topk(2).values.unbind(-1)
    lead = (best - second).masked_fill(~draft.masked, -1.0)
    order = lead.argsort(descending=True, stable=True)
    return torch.zeros_like(draft.masked).index_fill(0, order[: math.ceil(int(draft.masked.sum()) / 3)], True)


# %% tags=["wrong-2"]
p_11 = 0.96

# %% tags=["wrong-2"]
p_11 = 76.8


# %% tags=["wrong-3"]
def better_in_two(draft):  # looks at what was drawn
    if draft.steps_left == 2:
        return torch.arange(4) == draft.candidates[0]
    return draft.masked


# %% tags=["wrong-3"]
def better_in_two(draft):  # the released rule for the first slot
    if draft.steps_left == 1:
        return draft.masked
    return unmasking.confidence_released(draft._replace(steps_left=4))


# %% tags=["right-3"]
def better_in_two(draft):  # a random first slot, by the noise of the draft
    if draft.steps_left == 1:
        return draft.masked
    return unmasking.random_order(draft._replace(steps_left=4))


# %% tags=["right-1"]
def margin_order(draft):  # ticks slots off as it goes
    best, second = draft.p.topk(2).values.unbind(-1)
    reveal = torch.zeros_like(draft.masked)
    for _ in range(share(draft)):
        slot = (best - second).masked_fill(~draft.masked, -1.0).argmax()
        draft.masked[slot], reveal[slot] = False, True
    return reveal
