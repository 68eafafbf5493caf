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
# # Solutions of notebook 02
#
# Exercise 1. Two audio places with the same number of text tokens before them have no text between them.


# %% tags=["exercise-1"]
def released_mask(kinds):
    place = torch.arange(len(kinds))
    not_later = place[None, :] <= place[:, None]  # [q, k]
    words_so_far = (kinds == TEXT).cumsum(0)  # how many text tokens up to each place
    audio = kinds != TEXT
    same_span = audio[:, None] & audio[None, :] & (words_so_far[:, None] == words_so_far[None, :])
    return not_later | same_span


# %% [markdown]
# Wrong: causal alone.


# %% tags=["wrong-1"]
def released_mask(kinds):
    place = torch.arange(len(kinds))
    return place[None, :] <= place[:, None]


# %% [markdown]
# Wrong: the leak of section 4.


# %% tags=["wrong-1"]
def released_mask(kinds):
    place = torch.arange(len(kinds))
    audio = kinds != TEXT
    return (place[None, :] <= place[:, None]) | (audio[:, None] & audio[None, :])


# %% [markdown]
# Wrong: a text token has the same count as the audio after it, and would look ahead.


# %% tags=["wrong-1"]
def released_mask(kinds):
    place = torch.arange(len(kinds))
    words_so_far = (kinds == TEXT).cumsum(0)
    return (place[None, :] <= place[:, None]) | (words_so_far[:, None] == words_so_far[None, :])


# %% [markdown]
# Exercise 2. Place 4 shares its group with 2 and 3; the second block (5 to 7) and the last word (8) come later. The text
# before was written before the block was begun.

# %% tags=["exercise-2"]
places_that_move = {2, 3, 4, 5, 6, 7, 8}

# %% [markdown]
# Wrong: thinking causally.

# %% tags=["wrong-2"]
places_that_move = {4, 5, 6, 7, 8}

# %% [markdown]
# Wrong: thinking that audio sees all of the past and the future.

# %% tags=["wrong-2"]
places_that_move = set(range(9))

# %% [markdown]
# Exercise 3. The two-stream rule, with one more word in its last line: the *same* copy.


# %% tags=["exercise-3"]
def many_copies_mask(groups, copy):
    """groups, copy (L,) -> bool (L, L), [q, k] True where q sees k."""
    q_group, k_group = groups[:, None], groups[None, :]
    q_copy, k_copy = copy[:, None], copy[None, :]
    clean_sees_clean = (q_copy == 0) & (k_copy == 0) & (k_group <= q_group)
    noisy_sees_clean = (q_copy > 0) & (k_copy == 0) & (k_group < q_group)
    noisy_sees_itself = (q_copy > 0) & (k_copy == q_copy) & (k_group == q_group)
    return clean_sees_clean | noisy_sees_clean | noisy_sees_itself


# %% [markdown]
# Wrong: copies see each other.


# %% tags=["wrong-3"]
def many_copies_mask(groups, copy):
    return attention.two_stream_mask(groups[None], copy[None] > 0)[0]


# %% [markdown]
# Wrong: the group rule alone; the clean stream sees noise.


# %% tags=["wrong-3"]
def many_copies_mask(groups, copy):
    return groups[None, :] <= groups[:, None]


# %% tags=["wrong-1"]
def released_mask(kinds):  # and, where or is meant
    place, texts, audio = torch.arange(len(kinds)), (kinds == TEXT).cumsum(0), kinds != TEXT
    same_span = audio[:, None] & audio[None, :] & (texts[:, None] == texts[None, :])
    return (place[None, :] <= place[:, None]) & same_span


# %% tags=["wrong-3"]
def many_copies_mask(groups, copy):  # numbers
    return torch.zeros(len(groups), len(groups))


# %% tags=["wrong-1"]
def released_mask(kinds):  # minus infinity for what is hidden
    place = torch.arange(len(kinds))
    return torch.where(place[None, :] <= place[:, None], 0.0, -torch.inf)


# %% tags=["right-1"]
def released_mask(kinds):  # lists of 0 and 1, by hand
    def sees(q, k):
        between = kinds[min(q, k) : max(q, k) + 1]
        return k <= q or bool((between != TEXT).all())

    return [[int(sees(q, k)) for k in range(len(kinds))] for q in range(len(kinds))]


# %% tags=["right-1"]
def released_mask(kinds):  # a NumPy array
    return group_mask(assign_groups(kinds, None)[None])[0].numpy()


# %% tags=["right-2"]
places_that_move = torch.arange(9) >= 2  # a mask

# %% tags=["right-2"]
places_that_move = (torch.arange(9) >= 2).float()  # a mask in ones and zeros

# %% tags=["right-2"]
places_that_move = [2, 3, 4, 5, 6, 7, 8]

# %% tags=["right-2"]
places_that_move = range(2, 9)

# %% tags=["right-2"]
places_that_move = torch.arange(2.0, 9.0).numpy()  # an array of floats

# %% tags=["wrong-2"]
places_that_move = 4

# %% tags=["wrong-2"]
places_that_move = {2, 3, 4}  # the block alone

# %% tags=["wrong-2"]
places_that_move = {3, 4, 5, 6, 7, 8, 9}  # counted from 1


# %% tags=["right-3"]
def many_copies_mask(groups, copy):  # numbers 0 and 1
    earlier = (copy[None, :] == 0) & (groups[None, :] < groups[:, None])
    itself = (copy[None, :] == copy[:, None]) & (groups[None, :] == groups[:, None])
    return (earlier | itself).float()


# %% tags=["right-3"]
def many_copies_mask(groups, copy):  # a list of lists
    pairs = list(zip(groups.tolist(), copy.tolist(), strict=True))
    return [[(c == 0 and g < group) or (c == own and g == group) for g, c in pairs] for group, own in pairs]


# %% tags=["wrong-3"]
def many_copies_mask(groups, copy):  # a noisy block sees its own clean twin
    q_copy, k_copy = copy[:, None], copy[None, :]
    earlier = (k_copy == 0) & (groups[None, :] <= groups[:, None])
    return earlier | ((k_copy == q_copy) & (groups[None, :] == groups[:, None]))


# %% tags=["wrong-3"]
def many_copies_mask(groups, copy):  # knows of copies 1 and 2 alone
    q_copy, k_copy = copy[:, None], copy[None, :]
    mask = (k_copy == 0) & torch.where(
        q_copy == 0, groups[None] <= groups[:, None], groups[None] < groups[:, None]
    )
    for number in (1, 2):
        mask |= (q_copy == number) & (k_copy == number) & (groups[None] == groups[:, None])
    return mask | torch.eye(len(groups), dtype=torch.bool)


# %% tags=["right-3"]
def many_copies_mask(groups, copy):  # a list of rows, each a tensor
    rows = []
    for group, own in zip(groups, copy, strict=True):
        rows.append(((copy == 0) & (groups < group)) | ((copy == own) & (groups == group)))
        if own == 0:
            rows[-1] |= (copy == 0) & (groups <= group)
    return rows


# %% tags=["right-2"]
places_that_move = torch.where(torch.arange(9) >= 2)  # a tuple of one tensor

# %% tags=["wrong-2"]
places_that_move = [[2, 3, 4], [5, 6, 7], [8]]  # lists of unlike length
