# %% [markdown]
# # Text-to-Talk in one notebook
#
# A language model writes one token after another. Speech takes many tokens, so that is slow; filling in several at once
# is fast, but tokens drawn at the same moment know nothing of each other. Here you build, in one file, a small model
# that does both: it writes text token by token, and fills in speech a few slots at a time. At the end you see the price
# of that speed on all hundred questions of a toy world. With one step per block, 0 of 100 answers begin with a block in
# a single voice; with four steps 35 do, and with eight all 100 do.
#
# After this notebook you can
# - give every token of an interleaved sequence its generation group, and derive the attention mask from these numbers;
# - train one small Transformer to write text left to right and to fill in audio in parallel, with an exact loss;
# - say, and show, why a block filled in with a single step mixes voices, and what additional steps repair.
#
# Level: first contact. Prerequisites: Python, a little PyTorch, what a Transformer is. Reading time 45 minutes, run
# time a minute and a half on two CPU cores; GPU: not measured.
#
# It needs torch and matplotlib, and nothing from this package, so you can upload this one file anywhere. The maths is
# in the chapter [tutorials/00_ttt_in_one_notebook.md](../tutorials/00_ttt_in_one_notebook.md); the full versions of
# what you build here in miniature are `attention.py`, `diffusion.py`, `objective.py` and `decoding.py`.

# %% tags=["needed"]
import functools
import itertools
import math
import os
import random
import time

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Patch, Rectangle
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
random.seed(0)
plt.rcParams.update({"figure.dpi": 150, "font.size": 9, "legend.fontsize": 9})
FAST = os.environ.get("MINITTT_FAST") == "1"

# %% [markdown]
# ## 1. A toy world of speech
#
# The question is two digits. The answer gives them in writing and aloud, and then does the same in reverse order:
#
#     3 7 | 3 7 <speech> 7 3 <speech> END
#
# Speech here is a row of **codes**, as a neural codec would produce. Each digit consists of a few sounds (three, four
# or five, depending on the digit), and a code is a sound in one of **four voices**: code = 16 * voice + sound. The
# voice that answers is *drawn at random and not given*. So the text decides *what* is said and how long it takes.
# Nothing decides *who* says it except the speech itself: once a single code is known, all the others must be in the
# same voice.
#
# A spoken span is cut into **blocks** of eight slots. The last block is filled up with the end token EOA. These filler
# tokens are ordinary tokens: they are seen, masked and learned like any other.

# %% tags=["needed"]
N_VOICES, N_SOUNDS, BLOCK = 4, 16, 8
OPEN, END = 10, 11  # text: the digits 0-9, "speech begins", "the answer ends"
CODE = 12  # the first audio code
EOA = CODE + N_VOICES * N_SOUNDS  # audio: the codes, and "speech ends"
MASK, PAD = EOA + 1, EOA + 2
V = PAD + 1
TEXT_IDS, AUDIO_IDS = torch.arange(CODE), torch.arange(CODE, EOA + 1)
SOUNDS = [torch.randperm(N_SOUNDS)[: 3 + d % 3].tolist() for d in range(10)]  # how each digit sounds
TEXT, AUDIO = 0, 1  # the kinds of token


def speak(digits, voice):
    codes = [CODE + N_SOUNDS * voice + sound for d in digits for sound in SOUNDS[d]]
    return codes + [EOA] * (-len(codes) % BLOCK or BLOCK)  # at least one EOA, up to whole blocks


def record(a, b, voice):
    """The answer to the question `a b` -> ids, kinds."""
    parts = [([a, b, a, b, OPEN], TEXT), (speak([a, b], voice), AUDIO)]
    parts += [([b, a, OPEN], TEXT), (speak([b, a], voice), AUDIO), ([END], TEXT)]
    return [i for ids, _ in parts for i in ids], [kind for ids, kind in parts for _ in ids]


# %% [markdown]
# (`-len % BLOCK or BLOCK`: a span that fills its last block exactly gets one more block of EOA, because without any EOA
# nothing would mark its end.)
#
# Two helpers draw tokens as boxes. There is nothing to learn from them; run the cell and read on.

# %% tags=["needed"]
BLUE, GREY = "#0072B2", "#D4D4D4"
VOICE_COLOURS = ["#FFDF9E", "#E69F00", "#A66F00", "#553800"]  # audio is orange, each voice a shade of it
NAMES = {OPEN: "<", END: ".", EOA: "", MASK: "?"}


def look(token):
    """Face, edge and words of a token's box."""
    if CODE <= token < EOA:
        return VOICE_COLOURS[(token - CODE) // N_SOUNDS], "white", str((token - CODE) % N_SOUNDS)
    face = {EOA: "white", MASK: GREY}.get(token, BLUE)
    edge = {EOA: "#A66F00", MASK: "white"}.get(
        token, "black"
    )  # text has a black frame: seen in greyscale too
    return face, edge, NAMES.get(token, str(token))


def boxes(ax, ids, y=0.0, x=0.0, size=9):
    for i, token in enumerate(ids):
        face, edge, said = look(token)
        ax.add_patch(Rectangle((x + i + 0.05, y + 0.05), 0.9, 0.9, facecolor=face, edgecolor=edge))
        ink = "w" if face in (BLUE, *VOICE_COLOURS[2:]) else "k"
        ax.text(x + i + 0.5, y + 0.5, said, ha="center", va="center", fontsize=size, color=ink)


# %% tags=["needed"]
def voice_legend(ax, text=True, **where):
    patches = [Patch(facecolor=BLUE, edgecolor="black", label="text")] if text else []
    patches += [Patch(facecolor=GREY, label="MASK"), Patch(facecolor="w", edgecolor="#A66F00", label="EOA")]
    patches += [Patch(facecolor=c, label=f"voice {v}") for v, c in enumerate(VOICE_COLOURS)]
    ax.legend(handles=patches, **{"ncols": 7, "frameon": False, "columnspacing": 1, **where})


# %% [markdown]
# ## 2. Absorbing diffusion: corrupt, then restore
#
# Forget the text for a moment and take a single block of speech. **Corrupt** it: one slot after another, in random
# order, is replaced by MASK. A slot that has become MASK stays MASK: the state is *absorbing*, which gives the method
# its name. After eight steps nothing is left but the number of slots.
#
# Now run it backwards. To **restore** a block, something must guess what is under each MASK, given the slots that are
# still visible. Later a network will learn to do this. In this toy world we can also write down the *perfect* guess:
# the text determines the sound of every slot, and the voice is open (a quarter for each) until the first code is
# visible, and certain from then on.


# %% tags=["needed"]
def corrupt(block, order):
    """Mask the slots in this order, one at a time -> every state on the way, from clean to all MASK."""
    states = [list(block)]
    for slot in order:
        states.append([MASK if i == slot else token for i, token in enumerate(states[-1])])
    return states


def perfect_guess(block, written):
    """All that can be known of each slot -> (slots, audio ids). written: the same block, said by voice 0."""
    shown = [token for token in block if CODE <= token < EOA]
    voices = [(shown[0] - CODE) // N_SOUNDS] if shown else range(N_VOICES)
    p = torch.zeros(len(block), len(AUDIO_IDS))
    for slot, token in enumerate(written):
        for voice in voices:
            meant = token if token == EOA else token + N_SOUNDS * voice
            p[slot, meant - CODE] += 1 / len(voices)
    return p


# %% [markdown]
# `restore` goes the other way: each guess is a random draw, and the next guess sees it.


# %% tags=["needed"]
def restore(block, written, order):
    """Fill in the slots in this order, one at a time -> every state on the way."""
    states = [list(block)]
    for slot in order:
        p = perfect_guess(states[-1], written)[slot]  # (audio ids,)
        drawn = int(AUDIO_IDS[torch.multinomial(p, 1)])
        states.append([drawn if i == slot else token for i, token in enumerate(states[-1])])
    return states


# %%
torch.manual_seed(1)
spoken = speak([5, 8], voice=2)[:BLOCK]
written = speak([5, 8], voice=0)[:BLOCK]
destroyed = corrupt(spoken, torch.randperm(BLOCK).tolist())
restored = restore(destroyed[-1], written, torch.randperm(BLOCK).tolist())
fig, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
titles = ("corrupt: a MASK stays a MASK", "restore: one guess at a time")
for ax, states, title in zip(axes, (destroyed, restored), titles, strict=True):
    for y, state in enumerate(states):
        boxes(ax, state, y=y)
    ax.set(xlim=(0, BLOCK), ylim=(BLOCK + 1, 0), title=title, xticks=[])
    ax.set_yticks([y + 0.5 for y in range(BLOCK + 1)], range(BLOCK + 1))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
axes[0].set_ylabel("slots masked")
axes[1].set_ylabel("slots filled in")
handles = [Patch(facecolor=GREY, label="MASK")]
handles += [Patch(facecolor=c, label=f"voice {v}") for v, c in enumerate(VOICE_COLOURS)]
fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
plt.show()

# %% [markdown]
# The sounds come back, because the text gives them away. The voice need not: it was wiped out with the last code, so
# the first guess on the right draws a new one, and all later guesses follow it. That is what a *generator* should do:
# not repeat the block it was shown, but draw each block as often as it occurs in this world.
#
# **How is a guess trained, and what does its loss mean?** A block can be restored in any order, so its probability is
# the *mean over all orders*. With eight slots there are 40,320 orders, too many to follow in training. So we look at
# one state at a time: mask k of the n slots at random, and take the cross-entropy of the guesses at the masked slots,
# times n / k. On average this gives the mean over orders of $-\log p$. But the $-\log$ of a mean is at most the mean of
# the $-\log$, so the loss is an **upper bound** on what we want to know, $-\log p$ of the block. The two are equal when
# all orders agree, as they do for a perfect guess. For one block, both can be computed in full. For comparison, a
# *short-sighted* guess sees only the slots directly next to its own.


# %%
def short_sighted(block, written):
    rows = []
    for i in range(len(block)):
        near = [token if abs(i - j) <= 1 else MASK for j, token in enumerate(block)]
        rows.append(perfect_guess(near, written)[i])
    return torch.stack(rows)


def guesses_at(guess, hidden):
    """The probability of the true token at each hidden slot, when these are masked -> {slot: p}."""
    state = [MASK if i in hidden else token for i, token in enumerate(spoken)]
    p = guess(state, written)
    return {i: float(p[i, spoken[i] - CODE]) for i in hidden}


# %% [markdown]
# `bound` averages the loss over all 255 ways to mask the block. `minus_log_p` averages the probability over all orders.


# %%
def bound(guess):
    """The loss, averaged over every k and every choice of k slots, in nats."""
    total = 0.0
    for k in range(1, BLOCK + 1):
        for hidden in itertools.combinations(range(BLOCK), k):
            cross_entropy = -sum(math.log(p) for p in guesses_at(guess, hidden).values())
            total += BLOCK / k * cross_entropy / math.comb(BLOCK, k) / BLOCK
    return total


def minus_log_p(guess):
    """-log of the mean over all orders, in nats."""

    @functools.cache
    def chance(hidden):  # of the true block, from here, the next slot chosen at random
        if not hidden:
            return 1.0
        return sum(p * chance(hidden - {i}) for i, p in guesses_at(guess, hidden).items()) / len(hidden)

    return -math.log(chance(frozenset(range(BLOCK))))


# %%
for name, guess in (("perfect", perfect_guess), ("short-sighted", short_sighted)):
    print(f"{name:13} guess: -log p = {minus_log_p(guess):.3f} nats, bound = {bound(guess):.3f} nats")
assert abs(bound(perfect_guess) - math.log(N_VOICES)) < 1e-6
assert minus_log_p(short_sighted) < bound(short_sighted)

# %% [markdown]
# The perfect guess pays $\ln 4 = 1.386$ nats, once, for the voice. The short-sighted one pays more, and its bound is
# above its true cost. [Notebook 03](03_absorbing_diffusion.ipynb) takes this bound apart. Here we move on and put such
# blocks into a sequence with text.
#
# ## 3. One number per token: its generation group
#
# Text is generated token by token, so each text token is its own group. A block of speech is generated together, so it
# is one group. Groups are numbered in order. That is the whole structure: everything else follows from these numbers.


# %% tags=["needed"]
def groups_of(kinds, block=BLOCK):
    """A number per token: text tokens count one by one, audio block by block."""
    groups, group, run = [], -1, 0
    for kind in kinds:
        run = run + 1 if kind == AUDIO else 0  # how far into a spoken span we are
        group += kind == TEXT or (run - 1) % block == 0
        groups.append(group)
    return groups


ids, kinds = record(3, 7, voice=2)
groups = groups_of(kinds)
print(list(zip(ids, groups, strict=True))[:15])

# %%
fig, ax = plt.subplots(figsize=(8.4, 2.2), layout="constrained")
for y, voice in enumerate((0, 2)):
    boxes(ax, record(3, 7, voice)[0], y=1.3 * y)
for g in range(max(groups) + 1):  # the numbers of the groups, below their middle
    where = [i for i, group in enumerate(groups) if group == g]
    ax.text(sum(where) / len(where) + 0.5, 2.65, str(g), ha="center", fontsize=9)
ax.set(xlim=(-0.2, len(ids) + 0.2), ylim=(3.0, -0.9))
ax.axis("off")
voice_legend(ax, loc="upper center")
ax.set_title("one question, two possible answers (< speech begins, . END); below, the groups")
plt.show()

# %% [markdown]
# ## 4. Who sees whom
#
# A query token may see a key token when `group[key] <= group[query]`. Text sees what came before. The slots of a block
# see what came before and *each other*, in both directions.
#
# Training needs a little more. Text should be learned after *finished* speech (that is how it will be decoded), and
# speech from *masked* blocks. So the sequence holds its speech twice: a **clean** stream with all tokens, and a
# **noisy** one, a second copy of the speech with some slots masked, at the same positions.
#
# | query | sees clean keys | sees noisy keys |
# |---|---|---|
# | clean | `group <=` its own | never |
# | noisy | `group <` its own | `group ==` its own |
#
# If a noisy block saw its own clean copy, it could copy the answers.


# %% tags=["needed"]
def two_stream_mask(groups, noisy):
    """groups (B, L), noisy (B, L) bool -> (B, L, L), True where the query (row) sees the key (column)."""
    q, k = groups[:, :, None], groups[:, None, :]  # (B, L, 1), (B, 1, L)
    from_noisy, to_noisy = noisy[:, :, None], noisy[:, None, :]
    clean_rows = ~from_noisy & ~to_noisy & (k <= q)
    noisy_rows = from_noisy & torch.where(to_noisy, k == q, k < q)
    real = k >= 0  # batch padding has group -1
    return (clean_rows | noisy_rows) & real | torch.eye(groups.shape[1], dtype=torch.bool)


def two_streams(ids, kinds):
    """One record laid out twice -> ids, groups, positions, noisy; nothing is masked yet."""
    groups, audio = groups_of(kinds), [i for i, kind in enumerate(kinds) if kind == AUDIO]
    ids, groups = ids + [ids[i] for i in audio], groups + [groups[i] for i in audio]
    positions = [*range(len(kinds)), *audio]
    return ids, groups, positions, [False] * len(kinds) + [True] * len(audio)


# %%
_, g, _, noisy = two_streams(ids, kinds)
mask = two_stream_mask(torch.tensor([g]), torch.tensor([noisy]))[0]
L = len(ids)
fig, axes = plt.subplots(1, 2, figsize=(7.4, 4.1), layout="constrained")
for ax, part, title in ((axes[0], mask[:L, :L], "one stream (clean)"), (axes[1], mask, "two streams")):
    is_audio = torch.tensor([kind == AUDIO for kind in kinds] + [True] * (len(part) - L))
    picture = torch.ones(*part.shape, 3)
    picture[part & ~is_audio[None]] = torch.tensor([0, 0.45, 0.70])  # blue: sees text
    picture[part & is_audio[None]] = torch.tensor([0.90, 0.62, 0])  # orange: sees audio
    ax.imshow(picture)
    ax.set(title=title, xlabel="key", ylabel="query", xticks=[], yticks=[])
    ax.axhline(L - 0.5, color="k", lw=0.8)
    ax.axvline(L - 0.5, color="k", lw=0.8)
axes[1].set(xlabel="key: clean | noisy", ylabel="query: noisy | clean")
patches = [
    Patch(facecolor=(0, 0.45, 0.70), label="sees text"),
    Patch(facecolor="#E69F00", label="sees audio"),
]
patches.append(Patch(facecolor="w", edgecolor="k", label="sees nothing"))
fig.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## 5. A tiny Transformer
#
# There is nothing special about it. It is given the tokens, their positions and the mask. It is not told how noisy the
# input is (it can count the MASKs itself) or which stream is which.


# %% tags=["needed"]
class Layer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, mask):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])  # (B, heads, L, d / heads)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


# %% tags=["needed"]
class Net(nn.Module):
    def __init__(self, d=64, layers=3, heads=4, longest=64):
        super().__init__()
        self.token, self.position = nn.Embedding(V, d), nn.Embedding(longest, d)
        self.layers = nn.ModuleList(Layer(d, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, V)

    def forward(self, ids, positions, mask):
        x = self.token(ids) + self.position(positions)  # (B, L, d)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))  # (B, L, V)


# %% [markdown]
# ### Two streams are exact (optional)
#
# One forward pass over both streams gives what many separate passes would give. The logits of the clean stream are
# those of a plain clean pass, and each noisy block has the logits that a decoder would see when it has finished
# everything before this block and is in the middle of it. You need not take this on trust:

# %%
net = Net().double()
ids2, g2, at2, noisy2 = (torch.tensor([x]) for x in two_streams(ids, kinds))
masked = noisy2 & (torch.rand(ids2.shape) < 0.5)
ids2[masked] = MASK
with torch.no_grad():
    both = net(ids2, at2, two_stream_mask(g2, noisy2))[0]  # (L + audio, V)
    clean = net(ids2[:, :L], at2[:, :L], two_stream_mask(g2[:, :L], noisy2[:, :L]))[0]
    assert torch.allclose(both[:L], clean)
    for block in sorted(set(g2[noisy2].tolist())):
        draft = (noisy2 & (g2 == block))[0]  # (L + audio,) the slots of this block
        keep = draft | (~noisy2 & (g2 < block))[0]  # ... and what a decoder has finished before it
        alone = net(ids2[:, keep], at2[:, keep], two_stream_mask(g2[:, keep], torch.zeros(1, keep.sum()) > 0))
        assert torch.allclose(both[draft], alone[0, draft[keep]])
print("clean stream = a clean pass; each noisy block = a decoder's view of it")

# %% [markdown]
# ## 6. The loss
#
# **Text.** Cross-entropy of the next token, read from the clean stream (also at the last slot of a span, where the next
# token is the text that follows).
#
# **Audio.** In each block of n slots, draw a number k of masks, uniform from 1 to n; mask k slots at random; take the
# cross-entropy at the masked slots, *at their own position*, times n / k. This is the loss of section 2, whose mean is
# an upper bound on -log p(block | what came before). The chapter derives it in half a page. Any mask pattern that a
# decoder can meet in a block, from all masked to one slot left, can be drawn here. One difference remains: the unmasked
# tokens here are always the true ones, never a decoder's own mistakes.
#
# A text position may only produce text, and a slot may only hold a code or EOA: each softmax runs over the tokens of
# its own kind.


# %% tags=["needed"]
def mask_k_of_n(n):
    """Which of n slots to mask, and the weight of each -> (n,) bool, number."""
    k = random.randint(1, n)
    return torch.randperm(n) < k, n / k


# %% tags=["needed"]
def batch_of(records):
    """Records laid out twice, their noisy blocks masked -> tensors (B, L), padded."""
    rows = []
    for ids, kinds in records:
        ids, groups, positions, noisy = (torch.tensor(x) for x in two_streams(ids, kinds))
        target, weight = ids.clone(), torch.zeros(len(ids))
        for block in torch.unique(groups[noisy]):
            slots = torch.nonzero(noisy & (groups == block))[:, 0]
            masked, w = mask_k_of_n(len(slots))
            weight[slots[masked]], ids[slots[masked]] = w, MASK
        rows.append((ids, groups, positions, noisy, target, weight))
    fill = (PAD, -1, 0, False, PAD, 0.0)
    pad = nn.utils.rnn.pad_sequence
    return [
        pad(column, batch_first=True, padding_value=f)
        for column, f in zip(zip(*rows, strict=True), fill, strict=True)
    ]


# %% [markdown]
# Both losses come from one forward pass over both streams.


# %% tags=["needed"]
def losses(net, batch):
    """The mean over text tokens, and the mean over audio slots, in nats."""
    ids, groups, positions, noisy, target, weight = batch
    logits = net(ids, positions, two_stream_mask(groups, noisy))  # (B, L, V)
    here = logits[:, 1:-1]  # (B, L - 2, V) the question's second digit cannot be guessed: start after it
    following = target[:, 2:]  # (B, L - 2) what comes next
    said = ~noisy[:, 2:] & (following < CODE) & (groups[:, 2:] >= 0)
    text = F.cross_entropy(here[said][:, TEXT_IDS], following[said])
    masked = weight > 0
    audio = F.cross_entropy(logits[masked][:, AUDIO_IDS], target[masked] - CODE, reduction="none")
    return text, (weight[masked] * audio).sum() / noisy.sum()


# %%
random.seed(3)
ids_b, _, _, _, _, weight_b = batch_of([record(3, 7, 2)])
fig, ax = plt.subplots(figsize=(8.4, 2.3), layout="constrained")
boxes(ax, ids_b[0, :L].tolist())
for i in range(L, ids_b.shape[1]):
    at = two_streams(ids, kinds)[2][i]
    boxes(ax, [int(ids_b[0, i])], y=1.3, x=at)
    if weight_b[0, i] > 0:
        ax.text(at + 0.5, 2.75, f"{float(weight_b[0, i]):.2g}", ha="center", va="center", fontsize=9)
for y, name in ((0.5, "clean"), (1.8, "noisy"), (2.75, "n / k")):
    ax.text(-0.5, y, name, ha="right", va="center")
ax.set(xlim=(-4, L + 0.2), ylim=(3.1, -1.4))
ax.axis("off")
voice_legend(ax, loc="upper center")
ax.set_title("the two streams, and the weights of the masked slots")
plt.show()

# %% [markdown]
# ## 7. Training

# %%
torch.manual_seed(0)
random.seed(0)
net, history = Net(), []
n_steps = 100 if FAST else 1000
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=n_steps, pct_start=0.1)
start = time.process_time()
for _ in range(n_steps):
    draw = [(random.randrange(10), random.randrange(10), random.randrange(N_VOICES)) for _ in range(32)]
    text, audio = losses(net, batch_of([record(*x) for x in draw]))
    optimizer.zero_grad()
    (text + audio).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    history.append((text.item(), audio.item()))
n_parameters = sum(p.numel() for p in net.parameters())
print(f"{n_steps} steps in {time.process_time() - start:.0f} CPU seconds; {n_parameters:,} parameters")

# %% [markdown]
# How low can the audio loss go? The text determines what is said. Only the voice is open: one of four, once per answer,
# which costs $\ln 4$ nats, spread over the slots of the answer. A well-trained network ends up on that line, and none
# can end up below it (single batches scatter around it, because their masks are drawn at random).

# %%
slots = [sum(kind == AUDIO for kind in record(a, b, 0)[1]) for a in range(10) for b in range(10)]
floor = torch.tensor(N_VOICES).log().item() * len(slots) / sum(slots)
smooth = torch.tensor(history).unfold(0, min(20, n_steps), 1).mean(-1)  # (steps, 2) running means
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
ax.plot(smooth[:, 0], color=BLUE, label="text, per token")
ax.plot(smooth[:, 1], "-.", color=VOICE_COLOURS[2], label="audio, per slot")
ax.axhline(floor, color="k", ls="--", lw=0.8, label="the lowest possible: ln 4 an answer, per slot")
ax.set(yscale="log", ylim=(1e-3, 10), xlabel="step", ylabel="nats")
ax.legend(frameon=False)
plt.show()
print(f"floor {floor:.4f}; audio loss, mean of the last steps {smooth[-1, 1]:.4f}")

# %% [markdown]
# ## 8. Decoding
#
# For text: run the network, draw the next token, append it. After "speech begins", add a block of MASKs and fill it in
# **K steps**. In each step, draw a candidate for *every* masked slot, keep an even share of them, chosen at random, and
# leave the others masked for the next step. When no MASK is left the block is closed: its group never changes again (so
# its keys and values could be cached; here we simply recompute everything). The first EOA ends the span.


# %% tags=["needed"]
@torch.no_grad()
def see(net, ids, groups):
    """Logits (L, V) of one clean sequence; a draft block is just its last group."""
    g = torch.tensor([groups])
    return net(torch.tensor([ids]), torch.arange(len(ids))[None], two_stream_mask(g, g < -1))[0]


def random_order(masked, p, n):
    """n of the masked slots, all alike. masked (BLOCK,) bool, p (BLOCK, audio ids) -> n slots."""
    slots = torch.nonzero(masked)[:, 0]
    return slots[torch.randperm(len(slots))[:n]]


# %% [markdown]
# Filling in a block takes one forward pass per step:


# %% tags=["needed"]
def fill_block(net, ids, groups, steps, choose, trace):
    """A block of MASKs, unmasked in `steps` looks -> BLOCK audio ids. Each state is appended to trace."""
    block, groups = torch.full((BLOCK,), MASK), groups + [groups[-1] + 1] * BLOCK
    for step in range(steps):
        masked = block == MASK
        p = see(net, ids + block.tolist(), groups)[-BLOCK:, AUDIO_IDS].softmax(-1)  # (BLOCK, audio ids)
        drawn = torch.multinomial(p, 1)[:, 0]  # (BLOCK,) each slot by itself, blind to the other draws
        candidates = AUDIO_IDS[drawn]
        n = -(-int(masked.sum()) // (steps - step))  # a fair share of what is left
        slots = choose(masked, p, n)
        block[slots] = candidates[slots]
        trace.append(block.tolist())
    return block.tolist()


# %% [markdown]
# And a whole answer, alternating text and blocks:


# %% tags=["needed"]
def answer(net, a, b, steps, choose=random_order):
    """Continue the question `a b` to its end -> ids, the states of every block, forwards."""
    ids, groups, traces, forwards, longest = [a, b], [0, 1], [], 0, 64
    while ids[-1] != END and len(ids) < longest:
        ids = ids + [int(see(net, ids, groups)[-1, TEXT_IDS].argmax())]
        groups, forwards = groups + [groups[-1] + 1], forwards + 1
        block = [] if ids[-1] == OPEN else [EOA]
        while EOA not in block and len(ids) + BLOCK <= longest:
            traces.append([])
            block = fill_block(net, ids, groups, steps, choose, traces[-1])
            kept = block.index(EOA) if EOA in block else BLOCK
            block = block[:kept] + [EOA] * (BLOCK - kept)  # after the first EOA, only EOA
            ids, groups, forwards = ids + block, groups + [groups[-1] + 1] * BLOCK, forwards + steps
    return ids, traces, forwards


# %%
torch.manual_seed(3)
STEPS = (1, 2, 4, 8)
fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
for y, steps in enumerate(STEPS):
    said, _, forwards = answer(net, 2, 4, steps)
    boxes(ax, said, y=1.3 * y)
    ax.text(-0.5, 1.3 * y + 0.5, f"K = {steps}\n{forwards} forwards", ha="right", va="center")
ax.set(xlim=(-7, 47), ylim=(5.3, -1.1))
ax.axis("off")
voice_legend(ax, loc="upper center")
plt.show()

# %% [markdown]
# Look at the shades. The numbers in the boxes, *what* is said, hardly depend on K (now and then a small network slips).
# *Who* says it does: with one step per block, every slot of the first block drew a voice for itself. The network was
# right about each slot (four voices, a quarter each) and wrong about all of them together, because slots drawn in the
# same step know nothing of each other.
#
# ## 9. Voice coherence against K
#
# We ask each of the hundred questions once and measure three things.
#
# - **Sounds right**: the share of answers whose sounds and lengths match the text, whoever says them. A speech
#   recogniser sees no more than that.
# - **Voice coherence**, as defined in the [glossary](../tutorials/glossary.md): the share of places that agree on the
#   voice. Here a place is a code, and it agrees if it is in the most common voice of its answer. We take the mean over
#   answers.
# - **First block in one voice**: the share of answers whose first block has *all* its codes in the same voice. This is
#   the strictest of the three measures, and it looks at the one block that has no earlier speech to follow.
#
# The bars are 95 % intervals: Wilson's for the two shares, a bootstrap over answers for the mean.


# %% tags=["needed"]
def voices_and_sounds(ids):
    """Of all codes in an answer, the voice and the sound."""
    codes = torch.tensor([i - CODE for i in ids if CODE <= i < EOA], dtype=torch.long)
    return codes // N_SOUNDS, codes % N_SOUNDS


def coherence(voices):
    """The share of codes that are in the commonest voice. voices (n,), n >= 1."""
    return torch.bincount(voices).max().item() / len(voices)


def sounds_right(ids, a, b):
    def bare(ids):
        return [(i - CODE) % N_SOUNDS + CODE if CODE <= i < EOA else i for i in ids]

    return bare(ids) == bare(record(a, b, 0)[0])


# %% tags=["needed"]
def wilson(share, n, z=1.96):
    """The 95 % interval of a share of n answers -> low, high."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return min(share, middle - half), max(share, middle + half)


def bootstrap(values, rounds=1000):
    """The 95 % interval of a mean over answers -> low, high."""
    values = torch.tensor(values)
    means = values[torch.randint(len(values), (rounds, len(values)))].mean(1)  # (rounds,)
    return means.quantile(0.025).item(), means.quantile(0.975).item()


# %%
def ask_all(steps, questions, choose=random_order):
    """Answer every question -> for each (sounds right, coherence, first block in one voice, forwards)."""
    rows = []
    for a, b in questions:
        said, traces, forwards = answer(net, a, b, steps, choose)
        first = voices_and_sounds(traces[0][-1])[0] if traces else torch.tensor([])
        one_voice = len(first.unique()) == 1
        voices = voices_and_sounds(said)[0]
        rows.append(
            (sounds_right(said, a, b), coherence(voices) if len(voices) else 0.0, one_voice, forwards)
        )
    return rows


# %%
torch.manual_seed(2)
questions = list(itertools.product(range(10), repeat=2))[: 2 if FAST else 100]
results = {}
for steps in STEPS:
    right, coherent, one, forwards = zip(*ask_all(steps, questions), strict=True)
    n = len(questions)
    shares = [sum(right) / n, sum(coherent) / n, sum(one) / n]
    ranges = [wilson(shares[0], n), bootstrap(coherent), wilson(shares[2], n)]
    results[steps] = shares, ranges, sum(forwards) / n
    names = ("sounds right", "voice coherence", "first block in one voice")
    told = [f"{k} {x:.2f} [{lo:.2f}, {hi:.2f}]" for k, x, (lo, hi) in zip(names, shares, ranges, strict=True)]
    told.append(f"{sum(forwards) / n:.0f} forwards an answer")
    print(f"K = {steps}, n = {n}:", "; ".join(told))

# %%
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
styles = ("s--", BLUE), ("o-", VOICE_COLOURS[1]), ("^:", VOICE_COLOURS[3])
for i, (name, (style, colour)) in enumerate(zip(names, styles, strict=True)):
    means = [results[k][0][i] for k in STEPS]
    low = [m - results[k][1][i][0] for m, k in zip(means, STEPS, strict=True)]
    high = [results[k][1][i][1] - m for m, k in zip(means, STEPS, strict=True)]
    x = [k * (0.97 + 0.03 * i) for k in STEPS]  # a little apart, so that no bar hides another
    ax.errorbar(x, means, [low, high], fmt=style, color=colour, capsize=3, label=name)
ax.set(
    xscale="log", xlabel="K, steps per block of 8 (forwards an answer)", ylabel="share", ylim=(-0.03, 1.06)
)
ax.set_xticks(STEPS, [f"{k}\n({results[k][2]:.0f})" for k in STEPS])
ax.minorticks_off()
ax.set_title(f"{len(questions)} answers for each K; bars: 95 % intervals")
ax.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# A recogniser would hardly notice: the sounds are nearly always right at any K. Only a measure that looks at slots
# *together* shows what the steps are good for. (The same is true of real speech: the word error rate hides
# incoherence.)
#
# ## 10. A strip of unmasking (optional)
#
# The first block of an answer, one row per step. Once a code has been revealed, the next step knows the voice.

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 3.2), layout="constrained")
for ax, steps, seed in zip(axes, (1, 4, 8), (3, 4, 5), strict=True):
    torch.manual_seed(seed)
    trace = answer(net, 8, 5, steps)[1][0]
    for y, state in enumerate([[MASK] * BLOCK, *trace]):
        boxes(ax, state, y=y)
    ax.set(xlim=(0, BLOCK), ylim=(9.1, 0), title=f"K = {steps}", xticks=[])
    ax.set_yticks([y + 0.5 for y in range(steps + 1)], range(steps + 1))
    ax.tick_params(length=0)
    ax.set_ylabel("looks taken" if steps == 1 else "")
    ax.spines[:].set_visible(False)
fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
plt.show()

# %% [markdown]
# That is Text-to-Talk: one Transformer, one number per token, two losses, two ways of decoding. The other notebooks
# treat each part in depth.
#
# ## Exercises
#
# **1, fill in.** Write the rule of section 4 for a single query and a single key. Each is a pair `(group, noisy)`.
# Return True or False.


# %% tags=["exercise-1"]
def sees(query, key):
    """May the query see the key? query, key: (group, noisy)."""
    ...


# %% tags=["check-1"]
def check_1():
    tokens = [(group, noisy) for group in range(3) for noisy in (False, True)]
    said = {(q, k): sees(q, k) for q, k in itertools.product(tokens, repeat=2)}
    if all(answer is None for answer in said.values()):
        return print("exercise 1: not answered yet")
    g, noisy = (torch.tensor([column]) for column in zip(*tokens, strict=True))
    truth = two_stream_mask(g, noisy)[0]
    for (i, q), (j, k) in itertools.product(enumerate(tokens), repeat=2):
        name = ["clean", "noisy"]
        case = f"a {name[q[1]]} query of group {q[0]} and a {name[k[1]]} key of group {k[0]}"
        assert said[q, k] is not None, f"nothing came back for {case}: does every path end in a return?"
        assert not isinstance(said[q, k], (str, tuple, list)), f"for {case}, return True or False"
        hint = f"{case}: look at the table in section 4"
        if q[1] and not k[1] and q[0] == k[0]:
            hint += "; if a noisy slot saw this key, it could copy its own answer"
        assert bool(said[q, k]) == bool(truth[i, j]), hint
    print("exercise 1: right")


check_1()

# %% [markdown]
# **2, predict.** A perfect network fills a block of eight codes in K = 4 steps, in random order. What is the
# probability that the whole block is in one voice? (Four voices, equally likely; nothing before the block says which.)
# Work it out before you run anything. (In section 9 this is the third measure, "first block in one voice". The figure
# there need not be the same: some of the first blocks there hold fewer than eight codes, and the network is not
# perfect.)

# %% tags=["exercise-2"]
one_voice = None


# %% tags=["check-2"]
def as_number(given):
    """The one number in an int, a fraction, an array, a tensor or a list of one -> float."""
    assert not isinstance(given, str), "a number, not text"
    try:
        if isinstance(given, (list, tuple)) and len(given) == 1:
            return float(given[0])
        if hasattr(given, "item"):  # an array or a tensor
            return float(given.item())
        return float(given)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"one number is asked for, not {given!r}") from None


def check_2(steps=4):
    if one_voice is None:
        return print("exercise 2: not answered yet")
    said = as_number(one_voice)
    together = BLOCK // steps  # slots drawn in the first step, when no voice is known
    draws = list(itertools.product(range(N_VOICES), repeat=together))
    truth = sum(len(set(draw)) == 1 for draw in draws) / len(draws)
    assert 0 <= said <= 1, "a probability lies between 0 and 1"
    assert abs(said - truth / N_VOICES) > 1e-4, (
        "that is the chance that all of the first step are in ONE voice, named beforehand; any of the four will do"
    )
    assert said > truth / 2, (
        "too low: after the first step the voice is known, and the network perfect; which slots are at risk?"
    )
    assert said < truth * 2, (
        "too high: how many slots are drawn in the first step, and what do they know of each other?"
    )
    assert abs(said - truth) < 1e-4, (
        "close: count in how many of the ways the first step can go all its voices agree"
    )
    print("exercise 2: right")


check_2()

# %% [markdown]
# **3, extend.** `random_order` chooses slots blindly. Write another rule: choose the n masked slots where the network
# is *surest*, that is, where the entropy $-\sum p \ln p$ of its prediction is lowest. Never choose a slot that is not
# masked.
#
# Then count again: at K = 4, does it keep first blocks in one voice more often than random order? Ask three kinds of
# question separately: `[(0, 3)] * 100` (six codes and two EOA in the first block), `[(0, 1)] * 100` (seven codes, one
# EOA) and `[(5, 8)] * 100` (eight codes). Count the third column, once with `surest` and once with `random_order`:
# `sum(row[2] for row in ask_all(4, [(0, 3)] * 100, surest))`. Guess first. The solution tells you how it turns out and
# why.


# %% tags=["exercise-3"]
def surest(masked, p, n):
    """masked (BLOCK,) bool, p (BLOCK, audio ids) probabilities -> the n slots to reveal, (n,)."""
    ...


# %% tags=["check-3"]
def as_slots(given):
    """The slots in a list, tuple, set, array, tensor or mask -> a list of ints."""
    if isinstance(given, tuple) and len(given) == 1:  # as `torch.where` has it
        [given] = given
    pair = isinstance(given, tuple) and any(torch.is_tensor(x) and x.dim() for x in given)
    assert not pair, "two things came back: of sort and topk, take the indices"
    given = torch.as_tensor(sorted(given) if isinstance(given, set) else given)
    if given.dtype == torch.bool:
        assert given.shape == (BLOCK,), f"a mask of slots is ({BLOCK},), not {tuple(given.shape)}"
        return torch.nonzero(given)[:, 0].tolist()
    assert not given.is_floating_point(), "return the numbers of slots, not their entropies"
    return given.flatten().tolist()


def check_slots(masked, p, n, expected, hint):
    given = surest(masked.clone(), p.clone(), n)
    assert given is not None, "this time nothing came back: does every path end in a return?"
    assert set(as_slots(given)) == set(expected), hint


def check_3():
    vocabulary = len(AUDIO_IDS)
    sharpness = torch.tensor([3.0, 0.1, 8.0, 1.0, 5.0, 0.5, 2.0, 9.0])  # the higher, the surer
    p = (sharpness[:, None] * torch.linspace(0, 1, vocabulary)).softmax(-1)
    masked = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1]) > 0
    chosen = surest(masked.clone(), p.clone(), 3)
    if chosen is None:
        return print("exercise 3: not answered yet")
    chosen = as_slots(chosen)
    assert len(set(chosen)) == 3 == len(chosen), f"three different slots were asked for; {chosen} came back"
    assert all(0 <= i < BLOCK for i in chosen), f"slots are numbered 0 to {BLOCK - 1}; {chosen} came back"
    among = torch.nonzero(masked)[:, 0].tolist()
    best = sorted(range(len(among)), key=lambda i: -sharpness[among[i]])[:3]
    assert set(chosen) != set(best), (
        "you counted among the masked slots only: slot i of H[masked] is not slot i of the block"
    )
    assert masked[chosen].all(), f"{chosen} has a slot that is revealed already: choose masked ones only"
    order = sorted(among, key=lambda i: -sharpness[i])
    assert set(chosen) != set(order[-3:]), "these are the least sure: low entropy means sure"
    assert set(chosen) == set(order[:3]), (
        f"{sorted(chosen)} are not the slots of lowest entropy, sum of -p ln p over the last axis"
    )
    certain = torch.eye(vocabulary)[:BLOCK]
    certain[1:] = 1 / vocabulary
    hint = "a slot with a probability of exactly 1 has entropy 0: does your sum make 0 * log 0 = nan of it?"
    check_slots(masked, certain, 1, [0], hint)

    # A favourite and a long tail, against two or four equal candidates and nothing else.
    tail = torch.full((vocabulary,), 0.4 / (vocabulary - 1))
    tail[0] = 0.6
    first_two = torch.arange(BLOCK) < 2
    for candidates, hint in (
        (2, "the other slot has the most likely token; entropy also asks how the rest is spread"),
        (
            4,
            "the other slot has the larger sum of p squared; entropy is the sum of -p ln p, and ranks them differently",
        ),
    ):
        few = torch.where(torch.arange(vocabulary) < candidates, 1 / candidates, 0.0)
        check_slots(first_two, torch.stack([tail, few, *tail.expand(BLOCK - 2, -1)]), 1, [1], hint)
    print("exercise 3: right")


check_3()

# %% [markdown]
# ## What you now know
#
# - A sequence is cut into groups: each text token is one, each block of speech is one; the mask follows from the group
#   numbers.
# - Absorbing diffusion hides slots and learns to guess them; its loss is an upper bound on $-\log p$ of the block.
# - With two streams, text is learned after finished speech and speech from masked blocks, in one exact pass.
# - Slots drawn in the same step know nothing of each other: each is right by itself, but together they mix voices.
# - The number of steps K trades speed against coherence. It is chosen when decoding; training stays the same.
#
# **Next**: [notebook 01](01_codec_tokenization.ipynb), where codes come from. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/00_ttt_in_one_notebook.py).
