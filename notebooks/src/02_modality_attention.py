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
# # 02 Modality-aware attention
#
# A single Transformer has to write text from left to right and to look at a block of speech in both directions. Its
# attention mask decides what each token may see, and a mask that shows too much raises no alarm: the training loss even
# gets better. Here one number per token gives the whole mask, and every claim is checked in float64. You will see a
# word that learns about later audio although its own row of the mask hides it, and one pass over two streams that
# agrees with five separate passes to 14 digits.
#
# After this notebook you can
#
# - give every token of an interleaved text and audio sequence a **group number**, and read off it who may see whom;
# - **find a leak** in an attention mask, even one that does not show in the row of the token it reaches;
# - say which keys and values a cache may keep, and **prove it with numbers**.
#
# Level: intermediate. Prerequisites: [notebook 00](00_ttt_in_one_notebook.ipynb), what attention is. Reading time 45
# minutes, run time half a minute on one CPU core; GPU: not measured.
#
# **Module**: `minittt/attention.py`, rebuilt here piece by piece. **Chapter**, with the proofs:
# [`tutorials/02_modality_attention.md`](../tutorials/02_modality_attention.md).

# %% tags=["needed"]
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())))

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from minittt import attention
from minittt.app import plotting
from minittt.attention import PAD_KIND, SOURCE, TARGET, TEXT, assign_groups, explain, group_mask
from minittt.context import CachedContext, RecomputingContext
from minittt.model import ModelConfig, Transformer

torch.manual_seed(0)
plt.rcParams.update({**plotting.STYLE, "figure.dpi": 150})

# %% [markdown]
# ## 1. One number per token
#
# Here is a short conversation. Somebody speaks (three audio tokens, which are only listened to), then an answer is
# written and spoken in alternation: two words, six audio tokens, a word, four audio tokens, the end. A real one is
# longer but otherwise the same.

# %% tags=["needed"]
NAMES = ["hear", "", "", "", "two", "is", *[""] * 6, "or", *[""] * 4, "END"]
KINDS = torch.tensor([TEXT] + [SOURCE] * 3 + [TEXT] * 2 + [TARGET] * 6 + [TEXT] + [TARGET] * 4 + [TEXT])
L = len(KINDS)  # 18

# %% [markdown]
# [Notebook 00](00_ttt_in_one_notebook.ipynb) numbered text token by token and speech block by block. What is new here
# is audio that is only *listened to*: it is not generated, so all of it is there from the start. The full rule for
# **groups** is therefore:
#
# - a text token is a group of its own;
# - a run of source audio is one group;
# - a run of target audio is cut into blocks of `block_size` tokens, each a group (`None`: the run is one block).


# %%
def groups_by_hand(kinds, block_size):
    groups, group, room = [], -1, 0  # room: slots left in the open block
    for i, kind in enumerate(kinds.tolist()):
        begins = i == 0 or kinds[i - 1] != kind  # a run begins
        new_block = kind == TARGET and room == 0
        if kind == TEXT or begins or new_block:
            group, room = group + 1, block_size or len(kinds)
        room -= 1
        groups.append(group)
    return torch.tensor(groups)


for block_size in (1, 2, 3, 5, None):
    assert torch.equal(groups_by_hand(KINDS, block_size), assign_groups(KINDS, block_size))
print(assign_groups(KINDS, 3).tolist())

# %% [markdown]
# The numbers below the boxes are the groups. It is the same row three times; only the block size differs.

# %%
fig, axes = plt.subplots(3, 1, figsize=(7, 3.6), layout="constrained")
for ax, block_size in zip(axes, (1, 3, None), strict=True):
    groups = assign_groups(KINDS, block_size)
    plotting.draw_sequence(ax, range(L), KINDS, groups, lambda i: NAMES[i], width=38)
    ax.set_title(f"block size {block_size}", loc="left", fontsize=9)
plotting.legend(
    axes[0], ["text", "source", "target", "control"], loc="lower right", bbox_to_anchor=(1, 1.0), ncol=4
)
plt.show()

# %% [markdown]
# ## 2. The rule
#
# > query `q` may see key `k` if `group[k] <= group[q]`
#
# That is the whole attention mask, as in notebook 00. It makes text causal, lets a block see itself in both directions,
# and lets no token see anything that is generated later.


# %%
def mask_by_hand(groups):  # (L,) -> (L, L), [q, k]
    return groups[None, :] <= groups[:, None]


GROUPS = assign_groups(KINDS, 3)
assert torch.equal(mask_by_hand(GROUPS), group_mask(GROUPS[None])[0])

# %% [markdown]
# How to read a mask: a row is a query, and its coloured cells are the keys it sees, coloured by kind. Strong colour: a
# key of the query's own group. Pale: a key of another group (an earlier one, if the mask follows the rule). White:
# hidden.


# %% tags=["needed"]
def mask_legend(fig, names=("text", "source", "target"), verb="sees "):
    """What the colours and the hatching mean, below the picture."""
    patches = []
    for name in names:
        hatched = {"hatch": "//////", "edgecolor": "white", "linewidth": 0} if name == "source" else {}
        patches.append(plt.Rectangle((0, 0), 1, 1, facecolor=plotting.COLOURS[name], **hatched))
    labels = [f"{verb}{plotting.LABELS[name]}" for name in names]
    fig.legend(patches, labels, loc="outside lower center", ncols=len(names), frameon=False)


# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 4), layout="constrained")
for ax, block_size in zip(axes, (1, 3, None), strict=True):
    groups = assign_groups(KINDS, block_size)
    plotting.draw_mask(ax, group_mask(groups[None])[0], KINDS, groups)
    ax.tick_params(axis="x", labelrotation=90)
    ax.set_title(f"block size {block_size}")
mask_legend(fig)
plt.show()

# %% [markdown]
# Two special cases, and what lies between:
#
# - **block size 1**: every spoken token is a group, and the mask (apart from the source) is causal attention;
# - **block size None**: a span sees itself as a whole; this is the attention of the paper and of its released code;
# - **merging** blocks (sizes 1 to 2, 2 to 4, any size to None) only ever **adds** visible keys, and only inside a span.
#   Going from 2 to 3 does not merge blocks: it cuts the span in other places.

# %%
spoken = KINDS[KINDS != SOURCE]  # without what is listened to
causal = torch.ones(len(spoken), len(spoken)).tril().bool()
assert torch.equal(group_mask(assign_groups(spoken, 1)[None])[0], causal)

counts = {}
smaller = torch.zeros(L, L, dtype=torch.bool)
for block_size in (1, 2, 4, None):
    mask = group_mask(assign_groups(KINDS, block_size)[None])[0]
    assert (smaller <= mask).all()  # here each size divides the next, so blocks only merge
    smaller, counts[block_size] = mask, int(mask.sum())
print("visible pairs by block size:", counts)

# %% [markdown]
# A mask can also be described in words. When you debug your own, this is faster than counting cells.

# %%
for query in (6, 9, 12):
    print(explain(GROUPS, KINDS, query), end="\n\n")

# %% [markdown]
# ## 3. Padding and packing
#
# The rows of a batch are padded to one length, and short conversations may share a row. This adds two more conditions,
# one line each: padding (group -1) is never a key, and tokens of different **documents** cannot see each other. There
# is one exception, so that no row of the softmax is empty: every query sees itself. (The picture leaves that out for
# padding, whose output is never read.)


# %%
def mask_of_a_packed_row(groups, documents):
    rule = groups[None, :] <= groups[:, None]
    real = groups[None, :] >= 0
    same = documents[None, :] == documents[:, None]
    return (rule & real & same) | torch.eye(len(groups), dtype=torch.bool)


one = torch.tensor([TEXT] * 2 + [TARGET] * 4 + [TEXT])
two = torch.tensor([SOURCE] * 3 + [TEXT] * 2)
kinds = torch.cat([one, two, torch.full((2,), PAD_KIND)])
groups = torch.cat([assign_groups(one, 2), assign_groups(two, 2), torch.full((2,), -1)])
documents = torch.tensor([0] * len(one) + [1] * len(two) + [2] * 2)
packed = group_mask(groups[None], documents[None])[0]
assert torch.equal(mask_of_a_packed_row(groups, documents), packed)

fig, ax = plt.subplots(figsize=(4.2, 4.6), layout="constrained")
plotting.draw_mask(ax, packed, kinds, groups, labels=[str(int(g)) for g in groups])
ax.set_title("two documents and padding (-1)")
mask_legend(fig)
plt.show()

# %% [markdown]
# ## 4. Finding a leak by gradient
#
# A mask that shows too much does no visible harm in training: the loss gets *better*. It goes wrong in decoding, when
# what leaked is not there yet. So test it. A query depends on a token exactly when the derivative of the query's logits
# with respect to that token's embedding is not zero. We need a network for this; a small one with random weights in
# float64 will do.


# %% tags=["needed"]
VOCABULARY, MASK, PAD = 12, 10, 11  # ids 0..9 are tokens


def tiny_network(n_layers: int, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "n_heads": 2, "n_kv_heads": 2, "d_ff": 32, "max_length": 64}
    network = Transformer(ModelConfig(VOCABULARY, n_layers=n_layers, **sizes)).double()
    with torch.no_grad():
        for name, p in network.named_parameters():  # as made, weights are so small that little would show
            p.normal_(std=p.shape[-1] ** -0.5) if p.dim() > 1 and "embed" not in name else None
        network.embed_tokens.weight.normal_()
    return network


def random_ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(10, (1, length), generator=torch.Generator().manual_seed(seed))  # (1, L)


# %%
def influence(network, ids, mask):
    """(L, L) [q, k]: the size of the derivative of q's logits by k's embedding."""
    kept = []
    hook = network.embed_tokens.register_forward_hook(lambda module, args, output: kept.append(output))
    logits = network(ids, mask)[0]  # (L, V)
    hook.remove()
    mixed = logits @ torch.arange(1.0, VOCABULARY + 1).double()  # (L,) one number per query
    rows = [torch.autograd.grad(m, kept[0], retain_graph=True)[0][0].norm(dim=-1) for m in mixed]
    return torch.stack(rows)


ids, mask = random_ids(L), group_mask(GROUPS[None])
reach = influence(tiny_network(n_layers=3), ids, mask)
assert torch.equal(reach > 0, mask[0])
print("derivative not zero exactly where the mask allows:", torch.equal(reach > 0, mask[0]))

# %% [markdown]
# Now a mask with a mistake. "Text is causal, audio sees audio" is a plausible reading of *modality-aware*, and easy to
# write. What is wrong with it?
#
# <details><summary>Answer</summary>
#
# All audio sees all audio, so the first span sees the second, which is generated later. Moreover, it does so across the
# word between them: that word sees the first span, and so in the second layer it learns what the second span says.
#
# </details>

# %%
audio = KINDS == TARGET
leaky = group_mask(assign_groups(KINDS, None)[None])[0] | (audio[:, None] & audio[None, :])
middle = 12  # the word "or" between the two spans
print("the word between the spans sees the second span:", bool(leaky[middle, 13:17].any()))

# %% [markdown]
# The word looks safe: the first span sees the second, but the *word* between them does not. Now look at the
# derivatives, first in a network with one layer, then in one with two.

# %%
reaches = [influence(tiny_network(n), ids, leaky[None]) for n in (1, 2)]
fig, axes = plt.subplots(1, 3, figsize=(9, 3.9), layout="constrained")
plotting.draw_mask(axes[0], leaky, KINDS, assign_groups(KINDS, None))
axes[0].tick_params(axis="x", labelrotation=90)
axes[0].set_title("the leaky mask")
for ax, reach, n in zip(axes[1:], reaches, (1, 2), strict=True):
    image = ax.imshow(reach.masked_fill(reach == 0, torch.nan), cmap="cividis_r", norm=LogNorm(0.3, 300))
    ax.add_patch(plt.Rectangle((12.5, 11.5), 4, 1, fill=False, edgecolor="black", linewidth=1.5))
    ax.set(title=f"derivatives, {n} layer{'s' * (n > 1)}", xlabel="key", ylabel="query", xticks=[], yticks=[])
fig.colorbar(image, ax=axes[1:], shrink=0.6, label="size of the derivative")
mask_legend(fig)
plt.show()
print("word 'or', derivative by the second span:", [f"{r[middle, 13:17].max():.2g}" for r in reaches])
assert reaches[0][middle, 13:17].max() == 0 and reaches[1][middle, 13:17].max() > 0

# %% [markdown]
# The frame marks the word "or" (query) against the second span (keys). With one layer there is nothing. With two
# layers, the word sees the first span, which has seen the second. **Information takes two steps where the mask allows
# only one.** Looking at the row of "or" in the mask would not have told you. (The first span has also learnt of the
# word "or", through the second: that is the new pale column.)
#
# The group rule cannot leak like this, at any depth, because `<=` is transitive: what you see has seen nothing that you
# may not see. You can test any mask for this property: two hops must reach nothing that one hop does not.


# %%
def is_transitive(mask):
    two_steps = (mask.float() @ mask.float()) > 0
    return bool((two_steps <= mask).all())


print("group rule:", is_transitive(mask[0]), "  leaky mask:", is_transitive(leaky))
assert is_transitive(mask[0]) and is_transitive(packed) and not is_transitive(leaky)

# %% [markdown]
# Here is the same test with values instead of derivatives: change a token and see which logits change. It needs no
# autograd.


# %%
def moved_by(network, ids, mask, position):
    other = ids.clone()
    other[0, position] = (ids[0, position] + 1) % 10
    change = (network(other, mask) - network(ids, mask)).abs().amax(-1)[0]  # (L,)
    return (change > 1e-12).nonzero().squeeze(1).tolist()


moved = moved_by(tiny_network(3), ids, mask, position=9)  # the first token of the span's second block
print("a change of token 9 moves the logits at", moved)
assert moved == mask[0, :, 9].nonzero().squeeze(1).tolist()

# %% [markdown]
# ## 5. Two streams
#
# [Notebook 00](00_ttt_in_one_notebook.ipynb) puts the speech into the row twice: as a **clean stream** C for everything
# that comes later, and as a **noisy stream** N, with MASKs, for the block itself. That way text never learns from
# noise. Here we take the rule apart.
#
#     C sees C:  group[k] <= group[q]          C never sees N
#     N sees C:  group[k] <  group[q]          N sees N:  group[k] == group[q]
#
# A noisy block sees the past as it was when the block was begun, and itself: exactly what a decoder sees. Audio that is
# only listened to is never masked, so it appears in C alone.


# %%
def two_stream_mask_by_hand(groups, noisy):
    q_group, k_group = groups[:, None], groups[None, :]
    q_noisy, k_noisy = noisy[:, None], noisy[None, :]
    clean_sees_clean = ~q_noisy & ~k_noisy & (k_group <= q_group)
    noisy_sees_clean = q_noisy & ~k_noisy & (k_group < q_group)
    noisy_sees_noisy = q_noisy & k_noisy & (k_group == q_group)
    return clean_sees_clean | noisy_sees_clean | noisy_sees_noisy


is_target = KINDS == TARGET
kinds2 = torch.cat([KINDS, KINDS[is_target]])
groups2 = torch.cat([GROUPS, GROUPS[is_target]])
places2 = torch.cat([torch.arange(L), torch.arange(L)[is_target]])
noisy2 = torch.arange(len(kinds2)) >= L
both = attention.two_stream_mask(groups2[None], noisy2[None])
assert torch.equal(two_stream_mask_by_hand(groups2, noisy2), both[0])

# %%
fig, ax = plt.subplots(figsize=(6.4, 6.6), layout="constrained")
plotting.draw_mask(ax, both[0], kinds2, groups2)
ax.axhline(L - 0.5, color="black", linewidth=0.8)
ax.axvline(L - 0.5, color="black", linewidth=0.8)
ax.text(L + 4.5, 5, "C never\nsees N", ha="center", va="center", fontsize=9)
ax.text(L - 1, L + 1.5, "N sees C\n(earlier)", ha="right", va="center", fontsize=9)
ax.text(L + 5.2, L + 1.2, "N sees N\n(own block)", ha="left", va="center", fontsize=9)
ax.tick_params(axis="x", labelrotation=90)
ax.set_title("two streams: clean, then noisy")
mask_legend(fig)
plt.show()
print(explain(groups2, kinds2, L + 3, noisy=noisy2))

# %% [markdown]
# One pass through this mask does the work of many. The clean half gives the same as a pass over the clean tokens alone,
# and each noisy block gives the same as a separate pass over the clean tokens before it and the block itself. Both
# agree to the last digits of float64.

# %%
network = tiny_network(3)
noise = torch.rand(int(is_target.sum()), generator=torch.Generator().manual_seed(1)) < 0.5
ids2 = torch.cat([ids[0], ids[0, is_target].masked_fill(noise, MASK)])[None]  # (1, L + N)
logits2 = network(ids2, both, places2[None])[0]

clean_pass = network(ids, group_mask(GROUPS[None]))[0]
errors = {"C": (logits2[:L] - clean_pass).abs().max().item()}
for group in GROUPS[is_target].unique().tolist():
    kept = (~noisy2 & (groups2 < group)) | (noisy2 & (groups2 == group))  # clean past, noisy block
    alone = network(ids2[:, kept], group_mask(groups2[kept][None]), places2[None, kept])[0]
    queries = noisy2 & (groups2 == group)
    errors[f"N, group {group}"] = (logits2[queries] - alone[queries[kept]]).abs().max().item()
print({name: f"{error:.0e}" for name, error in errors.items()})
assert max(errors.values()) < 1e-12
print(f"cost: {len(kinds2) / L:.2f} times the tokens = 1 + the share of target audio")

# %% [markdown]
# ## 6. What may be cached
#
# A decoder cannot afford to recompute everything for every token, so it keeps keys and values. Which of them are final?
# To find out, we record the keys of every layer in one pass over the finished row, and compare them with keys from
# earlier passes.


# %%
def keys_of(network, ids, groups):
    """The keys of every layer (layers, L, width), before they are turned by their position."""
    kept = []
    hooks = [
        layer.self_attn.k_proj.register_forward_hook(lambda module, args, output: kept.append(output[0]))
        for layer in network.layers
    ]
    network(ids, group_mask(groups[None]))
    for hook in hooks:
        hook.remove()
    return torch.stack(kept).detach()


def keys_differ(network, early_ids, early_groups, groups):
    """How far keys of an early pass are from the final ones: (layers, positions)."""
    final = keys_of(network, ids, groups)[:, : early_ids.shape[1]]
    return (keys_of(network, early_ids, early_groups) - final).abs().amax(-1)


full = assign_groups(KINDS, None)
draft = ids[:, :12].clone()
draft[0, 10] = MASK  # block 2 (places 9 to 11) as it went into its last denoising step
cases = {
    "block 2 closed,\ncommitted clean": keys_differ(network, ids[:, :12], GROUPS[:12], GROUPS),
    "block 2 in its last\ndenoising step": keys_differ(network, draft, GROUPS[:12], GROUPS),
    "full span, cut\nafter its first half": keys_differ(network, ids[:, :9], full[:9], full),
}

# %%
fig, axes = plt.subplots(3, 1, figsize=(7, 4.4), layout="constrained", sharex=True)
for ax, (name, difference) in zip(axes, cases.items(), strict=True):
    shown = difference.masked_fill(difference < 1e-12, torch.nan)
    image = ax.imshow(shown, cmap="cividis_r", norm=LogNorm(1e-3, 10), aspect="auto")
    for place in range(difference.shape[1]):
        kind = plotting.KIND_NAMES[int(KINDS[place])]
        hatched = {"hatch": "//////", "edgecolor": "white", "linewidth": 0} if kind == "source" else {}
        colour = plotting.COLOURS[kind]
        ax.add_patch(plt.Rectangle((place - 0.46, 2.6), 0.92, 0.5, facecolor=colour, **hatched))
    ax.set(ylim=(3.2, -0.5), xlim=(-0.5, 11.5), yticks=range(3), ylabel="layer")
    ax.set_title(name.replace("\n", " "), loc="left")
axes[-1].set(xticks=range(12), xlabel="place (white: equal to the final key)")
fig.colorbar(image, ax=axes, shrink=0.7, label="difference of keys")
mask_legend(fig, verb="")
plt.show()

# %%
exact, last_step, half_span = cases.values()
assert exact.max() < 1e-12  # keys kept of closed groups are exact
assert last_step[:, :9].max() < 1e-12  # what came before the block is untouched ...
assert last_step[:, 9:].max() > 0.01  # ... the block's own keys are of no use
assert half_span[:, :6].max() < 1e-12 and half_span[1:, 6:9].min() > 0.01
off = ", ".join(f"{x:.2f}" for x in last_step[:, 9:].amax(1).tolist())
print(f"layer by layer, the draft's keys are off by {off}")

# %% [markdown]
# Read the picture from the top.
#
# 1. Keys of **closed groups** are exact in every layer, because everything they ever saw is closed too. They can be
#    kept for good.
# 2. Keys of a **denoising step** are not. In layer 0 only the place that was MASK is off; above it the whole block is,
#    because the block has looked at that MASK. So a finished block is run through the network **once more, clean**, and
#    only those keys are kept.
# 3. In a **full span** nothing can be kept before the whole span is there: the first half has not seen the second (in
#    layer 0 its keys have seen nothing yet, and still agree). It is blocks that make caching inside a span possible.
#
# Does it matter? Here are the logits at the word after the span (what it expects next), computed from right and from
# wrong keys with the shipped decoder's cache.


# %%
def next_word_logits(context, block_2):
    """Commit the prefix, then block 2 as given, then the word behind the span -> its logits."""
    nothing = torch.zeros(1, 0, dtype=torch.long)
    context.step(ids[:, :9], GROUPS[None, :9], nothing)
    context.step(block_2, GROUPS[None, 9:12], nothing)
    return context.step(ids[:, 12:13], GROUPS[None, 12:13], nothing)[0, 0]  # (V,)


right = next_word_logits(CachedContext(network, 1, PAD), ids[:, 9:12])
wrong = next_word_logits(CachedContext(network, 1, PAD), draft[:, 9:12])
plain = next_word_logits(RecomputingContext(network, 1, PAD), ids[:, 9:12])
print(f"closed block kept: off by {(right - plain).abs().max():.0e}")
print(f"last step's keys kept: off by {(wrong - plain).abs().max():.2f}")
assert (right - plain).abs().max() < 1e-12 < 0.01 < (wrong - plain).abs().max()

# %% [markdown]
# "Once more, clean" costs no extra pass: the finished block can be committed **in the same pass** as the first step of
# the next block, because the group rule keeps the two apart.

# %%
masks = torch.full((1, 3), MASK)
nothing = torch.zeros(1, 0, dtype=torch.long)
together = CachedContext(network, 1, PAD)
together.step(ids[:, :6], GROUPS[None, :6], nothing)
logits_together = together.step(ids[:, 6:9], GROUPS[None, 6:9], masks)  # close block 1, begin block 2

apart = CachedContext(network, 1, PAD)
apart.step(ids[:, :6], GROUPS[None, :6], nothing)
apart.step(ids[:, 6:9], GROUPS[None, 6:9], nothing)  # close block 1
logits_apart = apart.step(nothing, nothing, masks)  # begin block 2
print(f"difference: {(logits_together - logits_apart).abs().max():.0e}")
assert (logits_together - logits_apart).abs().max() < 1e-12

# %% [markdown]
# ## 7. The same rule for FlexAttention (optional)
#
# A dense mask is `L * L` booleans. For long rows on a GPU, FlexAttention takes the rule itself instead: a `mask_mod`,
# which is a function of two places. It divides the square into **tiles**. Tiles that are all hidden (white below) are
# skipped, in tiles that are all visible (dark) the rule is not evaluated again, and only in the others (pale) does it
# decide place by place.


# %%
def mask_mod_by_hand(groups):  # (B, L)
    def mask_mod(b, h, q, k):
        return ((groups[b, k] >= 0) & (groups[b, k] <= groups[b, q])) | (q == k)

    return mask_mod


long_kinds = torch.cat(
    [torch.tensor([TEXT] * 16 + [SOURCE] * 48 + [TEXT] * 16 + [TARGET] * 96 + [TEXT] * 16)] * 2
)
long_groups = assign_groups(long_kinds, 32)[None]  # (1, 384)
n = len(long_kinds)
dense = group_mask(long_groups)
for mask_mod in (mask_mod_by_hand(long_groups), attention.group_mask_mod(long_groups)):
    assert torch.equal(create_mask(mask_mod, 1, 1, n, n, device="cpu")[:, 0], dense)

# %%
documents = torch.arange(n)[None] // (n // 2)  # the row packs two documents
mask_mod = attention.group_mask_mod(long_groups, documents)
tiles = create_block_mask(mask_mod, 1, None, n, n, device="cpu", BLOCK_SIZE=32)

fig, axes = plt.subplots(1, 2, figsize=(8, 4.4), layout="constrained")
plotting.draw_mask(axes[0], group_mask(long_groups, documents)[0], long_kinds, long_groups[0])
axes[0].set_title("the rule, place by place")
axes[0].set(xticks=[], yticks=[], xlabel="key", ylabel="query")
share = (
    group_mask(long_groups, documents).double().view(n // 32, 32, n // 32, 32).mean((1, 3))
)  # seen, per tile
assert torch.equal(share > 0, tiles.to_dense()[0, 0] > 0)
axes[1].imshow((share > 0).double() + (share == 1), cmap="Greys", vmin=0, vmax=3)
axes[1].set(title=f"tiles: {tiles.sparsity():.0f} % skipped", xlabel="key tile", ylabel="query tile")
shades = [
    plt.Rectangle((0, 0), 1, 1, facecolor=plt.cm.Greys(level / 3), edgecolor="black") for level in range(3)
]
labels = ["skipped", "partly seen", "all seen"]
axes[1].legend(shades, labels, loc="upper right", frameon=False)
mask_legend(fig)
plt.show()

# %%
x = torch.randn(1, 1, n, 16, dtype=torch.float64)  # (B, heads, L, head_dim)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it is slow without torch.compile: it is, here
    flexible = flex_attention(x, x, x, block_mask=tiles)
plain = scaled_dot_product_attention(x, x, x, attn_mask=group_mask(long_groups, documents)[:, None])
print(f"FlexAttention against a dense mask: {(flexible - plain).abs().max():.0e}")
assert torch.allclose(flexible, plain, atol=1e-12)

# %% [markdown]
# Do not confuse the names: FlexAttention's `BLOCK_SIZE` is the size of a tile and only affects speed. The **block
# size** in this project is how many audio tokens are denoised together, and is part of what the model *is*. The two
# have nothing to do with each other.
#
# FlexAttention has no backward pass on the CPU, so `minittt` trains with dense masks there.
#
# ## Exercises
#
# ### 1. Fill in: the mask without group numbers
#
# The released code never numbers groups. Its rule for full spans: `q` sees `k` if `k` is not later than `q`, **or** if
# both are audio and there is no text between them. Complete the function. It gets the kinds of one row of text and
# spoken audio, (L,), and must return the same mask as `group_mask` with block size None. (Section 4 shows what happens
# if you forget the last condition.) Hint: `(kinds == TEXT).cumsum(0)` counts the text tokens up to each place.


# %% tags=["exercise-1"]
def released_mask(kinds):
    place = torch.arange(len(kinds))
    not_later = place[None, :] <= place[:, None]  # (L, L), [q, k]
    same_span = None  # yours: (L, L), both are audio and no text stands between them
    return None if same_span is None else not_later | same_span


# %% tags=["needed"]
def as_mask(given, shape):
    """A mask in any form that says yes or no at every place: bool, 0 and 1, an array, lists -> bool tensor."""
    try:
        rows = isinstance(given, (list, tuple)) and any(torch.is_tensor(row) for row in given)
        mask = torch.stack([torch.as_tensor(row) for row in given]) if rows else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError("the mask is a tensor of True and False, with a row per query") from None
    assert tuple(mask.shape) == shape, f"the mask must be (L, L), here {shape}, not {tuple(mask.shape)}"
    only = bool(((mask == 0) | (mask == 1)).all())
    assert only, "the mask holds True and False: compare, do not add up, and no -inf for what is hidden"
    return mask.bool()


# %% tags=["check-1"]
def check_released_mask():
    for seed in range(20):
        runs = torch.randint(0, 2, (6,), generator=torch.Generator().manual_seed(seed)) * TARGET
        kinds = runs.repeat_interleave(torch.arange(6) % 3 + 1)  # runs of text and of spoken audio
        found, wanted = released_mask(kinds), group_mask(assign_groups(kinds, None)[None])[0]
        if found is None:
            return print("exercise 1: not answered yet")
        found = as_mask(found, tuple(wanted.shape))
        assert not (wanted.tril() & ~found).any(), "the past must stay visible: not later OR in the same span"
        assert (found | ~wanted).all(), "too little is seen: inside a span, a query sees later places too"
        for q, k in (found & ~wanted).nonzero().tolist():
            why = "text stands between them" if kinds[q] == kinds[k] == TARGET else "one of the two is text"
            raise AssertionError(f"in {kinds.tolist()} query {q} must not see the later key {k}: {why}")
    print("exercise 1: right")


check_released_mask()

# %% [markdown]
# ### 2. Predict: who is moved?
#
# A row has two text tokens, six spoken ones in blocks of three, and a last text token, at places 0 to 8. The token at
# place 4 (the last of the first block) is changed. At which places do the logits change? Answer with a set of places,
# before you run anything.

# %% tags=["exercise-2"]
places_that_move = None  # for example {1, 2}


# %% tags=["check-2"]
def as_places(given, length):
    """The places in a set, list, tuple, range, array or tensor, or in a mask (length,) -> set of ints."""
    single = isinstance(given, (int, float)) or getattr(given, "ndim", 1) == 0
    assert not isinstance(given, (str, dict)) and not single, "a set of places, such as {4}"
    if isinstance(given, tuple) and len(given) == 1 and torch.is_tensor(given[0]):  # as `torch.where` has it
        [given] = given
    try:
        places = torch.as_tensor(given if hasattr(given, "dtype") else list(given))
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError("a set of places, such as {4}") from None
    if (
        places.is_floating_point()
        and places.shape == (length,)
        and bool(((places == 0) | (places == 1)).all())
    ):
        places = places.bool()  # a mask in ones and zeros
    if places.dtype == torch.bool:
        assert places.shape == (length,), f"a mask of places is ({length},), not {tuple(places.shape)}"
        places = places.nonzero()
    places = {int(place) for place in places.flatten()}
    assert places <= set(range(length)), f"places are numbered 0 to {length - 1}"
    return places


def check_places_that_move():
    if places_that_move is None:
        return print("exercise 2: not answered yet")
    kinds = torch.tensor([TEXT] * 2 + [TARGET] * 6 + [TEXT])
    mask, ids = group_mask(assign_groups(kinds, 3)[None]), random_ids(9)
    other = ids.clone()
    other[0, 4] = (ids[0, 4] + 1) % 10
    network = tiny_network(2)
    change = (network(other, mask) - network(ids, mask)).abs().amax(-1)[0]
    truth = set((change > 1e-12).nonzero().flatten().tolist())
    said = as_places(places_that_move, length=9)
    assert said != set(range(4, 9)), "you think of causal attention: a block sees itself in both directions"
    assert said >= truth, (
        f"{len(truth - said)} more move: who shares a group with place 4, and who comes later?"
    )
    assert said <= truth, f"{len(said - truth)} of yours do not move: they belong to groups closed before"
    print("exercise 2: right")


check_places_that_move()

# %% [markdown]
# ### 3. Extend: several noisy copies
#
# The noisy stream is the cheap one: the clean tokens, including the long prompt, are computed only once. So let one
# pass carry **several** noisy copies of the audio, each with its own MASKs. `copy` (L,) says which stream a token
# belongs to: 0 clean, 1, 2, ... noisy. Write the mask. Each copy must give the logits it would give if it were the only
# one.


# %% tags=["exercise-3"]
def many_copies_mask(groups, copy):
    """groups, copy (L,) -> bool (L, L), [q, k] True where q sees k."""
    ...


# %% tags=["check-3"]
def check_many_copies():
    kinds = torch.tensor([TEXT] * 2 + [TARGET] * 4 + [TEXT] + [TARGET] * 2)
    target, n = kinds == TARGET, len(kinds)
    copy = torch.tensor([0] * n + [1] * 6 + [2] * 6 + [3] * 6)
    groups, places = (torch.cat([x, *[x[target]] * 3]) for x in (assign_groups(kinds, 2), torch.arange(n)))
    mask = many_copies_mask(groups, copy)
    if mask is None:
        return print("exercise 3: not answered yet")
    mask = as_mask(mask, (n + 18, n + 18))
    assert mask.diagonal().all(), "a token must see itself: an empty row of the softmax is nan"
    network, ids = tiny_network(2), random_ids(n + 18)
    logits = network(ids, mask[None], places[None])[0]
    for number in (1, 2, 3):
        kept = (copy == 0) | (copy == number)
        alone = attention.two_stream_mask(groups[None, kept], copy[None, kept] > 0)
        wanted = network(ids[:, kept], alone, places[None, kept])[0]
        off = ~((logits[kept] - wanted).abs().amax(-1) < 1e-9)  # so that nan is off too
        assert not off[:n].any(), (
            "C is not what it is alone: it sees clean tokens only, all of its own and of earlier groups"
        )
        assert not off[n:].any(), (
            f"copy {number} is not what it is alone: what does it see of C, of itself, of others?"
        )
    print("exercise 3: right")


check_many_copies()

# %% [markdown]
# ## What you now know
#
# - The mask is one comparison of group numbers; padding and packing add one condition each.
# - A mask is safe at any depth if it is transitive; a leak may need two layers to show, so test with derivatives or
#   values.
# - Two streams do in one pass what one pass per block would do, exactly; audio that is heard is in the clean one alone.
# - Keys and values of closed groups can be kept for good; those of a denoising step are worthless for later tokens.
# - FlexAttention takes the same rule as a function; its tiles affect only speed, our blocks what the model is.
#
# **Next**: [notebook 03](03_absorbing_diffusion.ipynb), on what the MASKs in the noisy stream are good for. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/02_modality_attention.py).
