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
# # Solutions to 05, train a tiny talker
#
# **1.** Token i is predicted from position i - 1: drop the last logits and the first id.


# %% tags=["exercise-1"]
def text_loss(logits, ids, targets):
    at = targets.nonzero()[:, 0]
    return torch.nn.functional.cross_entropy(logits[at - 1], ids[at])


# %% [markdown]
# Wrong: no shift; a sum; the mask shifted with the logits; all tokens.


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    return torch.nn.functional.cross_entropy(logits[targets], ids[targets])


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    at = targets.nonzero()[:, 0]
    return torch.nn.functional.cross_entropy(logits[at - 1], ids[at], reduction="sum")


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    return torch.nn.functional.cross_entropy(logits[:-1][targets[:-1]], ids[1:][targets[:-1]])


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:])


# %% [markdown]
# **2.** Every masked slot costs log 513 (512 codes and EOA). `k` of `n` are masked and weigh `n / k`, so a block costs
# `k * n / k = n` times that, whatever `k`: log 513, or 6.24 nats a slot.

# %% tags=["exercise-2"]
audio_at_start = math.log(len(v.audio_choices()))

# %% tags=["wrong-2"]
audio_at_start = math.log(v.size)

# %% tags=["wrong-2"]
audio_at_start = math.log(513) / 2

# %% tags=["wrong-2"]
audio_at_start = math.log(513) * (1 + 1 / 2 + 1 / 3 + 1 / 4)

# %% [markdown]
# **3.** With the last `k` slots masked, all to the left are seen. Of the masked ones only the first is the next to be
# revealed; it is one of `n` terms and `k` is uniform, so it weighs `n`.


# %% tags=["exercise-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked, weight = torch.zeros_like(segments, dtype=torch.bool), torch.zeros(segments.shape)
    masked[0, places[-k:]] = True
    weight[0, places[-k]] = len(places)
    return masked, weight


# %% [markdown]
# Wrong: the weights of k-subsets; the first slots masked; one slot masked, its future seen; no weight.


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked = torch.zeros_like(segments, dtype=torch.bool)
    masked[0, places[-k:]] = True
    return masked, masked * len(places) / k


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked, weight = torch.zeros_like(segments, dtype=torch.bool), torch.zeros(segments.shape)
    masked[0, places[:k]] = True
    weight[0, places[k - 1]] = len(places)
    return masked, weight


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked = torch.zeros_like(segments, dtype=torch.bool)
    masked[0, places[-k]] = True
    return masked, masked * float(len(places))


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked, weight = torch.zeros_like(segments, dtype=torch.bool), torch.zeros(segments.shape)
    masked[0, places[-k:]] = True
    weight[0, places[-k]] = 1
    return masked, weight


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):  # one number a token
    at = targets.nonzero()[:, 0]
    return torch.nn.functional.cross_entropy(logits[at - 1], ids[at], reduction="none")


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):  # the sign
    at = targets.nonzero()[:, 0]
    return -torch.nn.functional.cross_entropy(logits[at - 1], ids[at])


# %% tags=["wrong-2"]
audio_at_start = math.log(512)  # EOA forgotten

# %% tags=["wrong-2"]
audio_at_start = math.log2(513)  # bits


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):  # masked alone
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked = torch.zeros_like(segments, dtype=torch.bool)
    masked[0, places[-k:]] = True
    return masked


# %% [markdown]
# Also right: in numpy and single precision; a list of one tensor; three digits; arrays, and zeros and ones.


# %% tags=["right-1"]
def text_loss(logits, ids, targets):
    x = logits.numpy().astype(np.float32)
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    at = np.flatnonzero(targets.numpy())
    return -log_p[at - 1, ids.numpy()[at]].mean(keepdims=True)


# %% tags=["right-1"]
def text_loss(logits, ids, targets):
    nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return [nats[targets[1:]].mean()]


# %% tags=["right-2"]
audio_at_start = torch.tensor(6.24)


# %% tags=["right-3"]
def left_to_right_noise(segments, k):
    slots = np.flatnonzero(segments[0].numpy() >= 0)
    masked = np.zeros(tuple(segments.shape), dtype=np.int64)
    weight = np.zeros(tuple(segments.shape), dtype=np.float32)
    masked[0, slots[len(slots) - k :]] = 1
    weight[0, slots[len(slots) - k]] = len(slots)
    return [masked, weight.tolist()]


# %% [markdown]
# Wrong: divided by the length; in bits; the numbers of the slots; masked and weight exchanged.


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return (nats * targets[1:]).sum() / len(ids)


# %% tags=["wrong-1"]
def text_loss(logits, ids, targets):
    at = targets.nonzero()[:, 0]
    return torch.nn.functional.cross_entropy(logits[at - 1], ids[at]) / math.log(2)


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    return places[-k:], torch.full((k,), float(len(places)))


# %% tags=["wrong-3"]
def left_to_right_noise(segments, k):
    places = (segments[0] >= 0).nonzero()[:, 0]
    masked, weight = torch.zeros_like(segments, dtype=torch.bool), torch.zeros(segments.shape)
    masked[0, places[-k:]] = True
    weight[0, places[-k]] = len(places)
    return weight, masked
