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
# # 04 · Block decoding
#
# A trained network gives probabilities; speech has to be drawn from them. One slot at a time is exact but slow; a whole
# block at once is fast but wrong. Here you write the decoder that works between the two, and measure what each choice
# costs. With one step per block, the shipped talker keeps to one voice in two thirds of its speech; with four steps, in
# more than nine tenths, for a quarter of the forward passes that sixteen steps need.
#
# After this notebook you can
#
# - write the decoder of Text-to-Talk yourself: text token by token, audio block by block, one forward pass at a time;
# - say which orders of unmasking sample the true distribution, which do not, and compute how far off they are;
# - choose block size, steps and policy by what they cost and what they damage.
#
# Level: intermediate; sections 4 and 5 are harder. Prerequisites: notebooks [02](02_modality_attention.ipynb) and
# [03](03_absorbing_diffusion.ipynb) (section 9). Reading time 75 minutes, run time about one minute on one CPU core;
# GPU: not measured. The module is `minittt/decoding.py`, with its companions `unmasking.py` and `guidance.py`; the
# chapter [tutorials/04_block_decoding.md](../tutorials/04_block_decoding.md) has the maths.

# %% tags=["needed"]
import sys
from pathlib import Path

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())
sys.path.insert(0, str(root))

import itertools
import math
from collections import Counter
from functools import cache, partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio, Image, display

from minittt import decoding, unmasking
from minittt.app import plotting
from minittt.decoding import DenoisingStep, Draft, Settings, TokenClasses, collect, generate
from minittt.evaluation.scores import ratio
from minittt.theory import bounds

torch.manual_seed(0)
torch.set_num_threads(1)  # many small forwards: more threads only get into each other's way
plt.rcParams.update(plotting.STYLE)
plt.rcParams.update({"figure.dpi": 150, "legend.fontsize": 9})

# %% [markdown]
# ## 1. One method: `step`
#
# The decoder does not know what a Transformer is. It talks to anything that has one method:
#
#     step(commit, commit_groups, draft) -> logits (B, 1 + D, V)
#
# *commit* is kept for good. *draft* is one new group that is looked at but not kept. `logits[:, 0]` predicts what comes
# after the last committed token, `logits[:, 1:]` what belongs at the draft's own places. That is all an interleaved
# reply needs.
#
# ### A world with a perfect network
#
# We start with a world so small that a perfect network can be written down. It says "ho" and "hum", and sings. A song
# is 5 to 19 codes long. Its voice is one of four, A to D; it is drawn at random, not given, and kept to the end. A code
# is the voice's own letter with probability 0.85, otherwise one of the other three. A prompt may contain a hint, `a` to
# `d`, which is right more often than not.

# %% tags=["needed"]
NAMES = ["ho", "hum", "a", "b", "c", "d", "OPEN", "END", "A", "B", "C", "D", "EOA", "MASK", "PAD"]
HO, HUM, HINT, OPEN, END, CODE, EOA, MASK, PAD = 0, 1, 2, 6, 7, 8, 12, 13, 14
V, LENGTHS = len(NAMES), range(5, 20)
ids = torch.arange(V)
CLASSES = TokenClasses(
    text=(ids < HINT) | (ids == OPEN) | (ids == END),
    audio=(ids >= CODE) & (ids <= EOA),
    open_audio=OPEN, end_audio=EOA, end=END, mask=MASK, pad=PAD,
)  # fmt: skip
SINGS = torch.full((4, 4), 0.05, dtype=torch.float64).fill_diagonal_(0.85)  # (voice, code): p(code | voice)


def hear(song, lengths=LENGTHS, prior=(0.25, 0.25, 0.25, 0.25)):
    """The exact p(slot | what is revealed) of a song with MASKs -> (slots, 5): codes A to D, EOA.

    A slot that is revealed has a row as well; nobody reads it.
    """
    codes = [x - CODE for x in song if CODE <= x < EOA]
    voice = (torch.tensor(prior).double().log() + SINGS.log()[:, codes].sum(1)).softmax(0)  # Bayes' rule
    first_end = min((i for i, x in enumerate(song) if x == EOA), default=math.inf)
    last_code = max((i for i, x in enumerate(song) if CODE <= x < EOA), default=-1)
    possible = [n for n in lengths if last_code < n <= first_end] or list(LENGTHS)
    over = torch.tensor([sum(n <= i for n in possible) / len(possible) for i in range(len(song))]).double()
    return torch.cat([(1 - over[:, None]) * (voice @ SINGS), over[:, None]], dim=1)


hear([CODE, MASK, MASK])  # an A is heard: the next slots are probably A too

# %% [markdown]
# `hear` is nothing but Bayes' rule: from the codes revealed so far it infers the voice, and from the voice the masked
# codes. Such a perfect network is called an *oracle*. Now we give it the method `step`.


# %% tags=["needed"]
class FourVoices:
    """The oracle as a context: it remembers what each row has committed."""

    def __init__(self, rows):
        self.said = [[] for _ in range(rows)]

    def prior(self, said):
        hints = [x - HINT for x in said if HINT <= x < OPEN]
        return tuple(0.55 if v in hints else 0.15 if hints else 0.25 for v in range(4))

    def lengths(self, sung, canvas):  # what it believes of a song's length; see section 7
        return LENGTHS

    def step(self, commit, commit_groups, draft):
        p = torch.zeros(len(draft), 1 + draft.shape[1], V, dtype=torch.float64)
        for row, said in enumerate(self.said):
            said += commit[row][commit_groups[row] >= 0].tolist()
            new = draft[row][draft[row] != PAD].tolist()
            last = said[-1]
            p[row, 0, HUM] = {HO: 0.5, HUM: 0.0}.get(last, 0.3)
            p[row, 0, OPEN if last in (HO, HUM) else END] = 1 - p[row, 0, HUM]
            if new:
                sung = said[len(said) - said[::-1].index(OPEN) :]  # blocks of this song closed before
                lengths, prior = self.lengths(len(sung), len(new)), self.prior(said)
                p[row, 1 : 1 + len(new), CODE : EOA + 1] = hear(sung + new, lengths, prior)[len(sung) :]
        return p.clamp(min=1e-30).log()


context = FourVoices(rows=1)
logits = context.step(torch.tensor([[HO, OPEN]]), torch.tensor([[0, 1]]), torch.tensor([[MASK] * 4]))
print(
    logits.shape,
    "-> one text position and four slots:",
    logits[0, 1:, CODE : EOA + 1].exp().round(decimals=2),
)

# %% [markdown]
# Let the shipped decoder talk to it, and watch every forward pass. Look for three things: text needs one forward pass
# per token; a block is drafted again and again while its MASKs are replaced; and the block is *committed* in the same
# forward pass that drafts the next block or predicts the next word. So closing a block costs nothing.


# %%
class ListenIn:
    """Passes everything on, and prints it."""

    def __init__(self, context):
        self.context, self.forwards = context, 0

    def step(self, commit, commit_groups, draft):
        self.forwards += 1
        kept = " ".join(f"{NAMES[i]}({g})" for i, g in zip(commit[0], commit_groups[0], strict=True))
        looked_at = " ".join(NAMES[i].replace("MASK", "?") for i in draft[0])
        print(f"{self.forwards:2}  commit {kept:42} draft {looked_at}")
        return self.context.step(commit, commit_groups, draft)


def seeded(n, start=0):
    return [torch.Generator().manual_seed(start + i) for i in range(n)]


how = Settings(block_size=8, steps=4, max_text=8, max_span=32)
[reply] = collect(generate(ListenIn(FourVoices(1)), [[HO]], [[0]], CLASSES, how, seeded(1, 2)))
print("\nreply:", " ".join(NAMES[i] for i in reply.ids), "\ngroups:", *reply.groups)

# %% [markdown]
# The number in brackets is the token's group. Each text token is a group of its own; a block of eight slots is one
# group.
#
# ## 2. The decoder, by hand
#
# Now let us write it ourselves, for one row, in four small pieces. First: **draw** one of the allowed ids from a row of
# logits, by inverting the distribution function at a uniform random number.


# %%
def draw_one(logits, allowed, u):
    p = logits[allowed].double().softmax(-1)
    return int(allowed[min(int((p.cumsum(0) <= u).sum()), len(p) - 1)])


g = torch.Generator().manual_seed(0)
for _ in range(200):
    row, u = torch.randn(1, 9, generator=g, dtype=torch.float64), torch.rand(1, generator=g).double()
    assert draw_one(row[0], torch.arange(9), u) == int(decoding.sample_tokens(row, u))

# %% [markdown]
# Second: a row remembers what it has written and how much of that has been committed. A **forward** pass commits the
# rest.


# %%
class Row:
    def __init__(self, context, prompt, classes, generator):
        self.context, self.classes, self.generator = context, classes, generator
        self.ids, self.groups = list(prompt), list(range(len(prompt)))
        self.committed, self.nfe = 0, 0

    def forward(self, draft=()):
        new = slice(self.committed, None)
        self.committed, self.nfe = len(self.ids), self.nfe + 1
        given = (self.ids[new], self.groups[new], list(draft))
        return self.context.step(*(torch.tensor([x], dtype=torch.long) for x in given))[0]  # (1 + D, V)

    def append(self, ids):  # one new group
        self.groups += [self.groups[-1] + 1] * len(ids)
        self.ids += ids

    def uniform(self, n):
        return torch.rand(n, dtype=torch.float64, generator=self.generator)


# %% [markdown]
# Third: **denoise** one block. Each forward pass sees what has been revealed so far. Candidates are drawn for all
# slots, but only a share of the masked ones, in random order, is kept. With `n` slots and `steps` steps, the shares are
# as even as possible.


# %%
def denoise(row, n, steps):
    MASK_ID, allowed = row.classes.mask, row.classes.audio.nonzero()[:, 0]
    block = [MASK_ID] * n
    for step in range(steps):
        logits = row.forward(block)[1:]
        candidates = [draw_one(x, allowed, u) for x, u in zip(logits, row.uniform(n), strict=True)]
        noise = row.uniform(n)
        hidden = sorted((i for i in range(n) if block[i] == MASK_ID), key=lambda i: noise[i])
        for i in hidden[: math.ceil(len(hidden) / (steps - step))]:
            block[i] = candidates[i]
    return block


# %% [markdown]
# Fourth: **close** the block. When a step reveals several slots, it can draw an EOA and also a code after it. The rule
# is: the first EOA ends the span, and everything after it becomes EOA. A span goes on until a block contains an EOA.


# %%
def close(block, eoa):
    end = block.index(eoa) if eoa in block else len(block)
    return block[:end] + [eoa] * (len(block) - end)


def by_hand(context, prompt, classes, how, generator):
    """One reply: `decoding.generate` for one row, without limits and without policies."""
    row, last = Row(context, prompt, classes, generator), prompt[-1]
    text_ids = classes.text.nonzero()[:, 0]
    while last != classes.end:
        if last == classes.open_audio:
            block = []
            while classes.end_audio not in block:
                block = close(denoise(row, how.block_size, how.steps), classes.end_audio)
                row.append(block)
        last = draw_one(row.forward()[0], text_ids, row.uniform(1))
        row.append([last])
    return row


for seed, (block, steps) in itertools.product(range(10), [(8, 4), (8, 8), (3, 2), (16, 5), (1, 1)]):
    how = Settings(block_size=block, steps=steps, max_text=99, max_span=64, max_spans=99)
    mine = by_hand(FourVoices(1), [HO], CLASSES, how, *seeded(1, seed))
    [shipped] = collect(generate(FourVoices(1), [[HO]], [[0]], CLASSES, how, seeded(1, seed)))
    assert mine.ids[1:] == list(shipped.ids) and mine.groups[1:] == list(shipped.groups)
    assert mine.nfe == shipped.nfe
print("50 replies: same ids, same groups, same number of forwards")

# %% [markdown]
# The same few lines drive a real talker, because it has the same method.

# %%
from minittt.codec import Codec
from minittt.context import CachedContext, RecomputingContext
from minittt.data.conversation import render
from minittt.evaluation.referee import Referee
from minittt.talker import Talker

samples = root / "data_samples"
talker, codec = Talker.load(samples / "talker.safetensors"), Codec.load(samples / "codec.safetensors")
referee, v = Referee.load(samples / "referee.safetensors"), talker.vocabulary

record = {"messages": [["system", "answer"], ["user", "what is two plus three"], ["assistant"]]}
prompt = render(record, talker, 8, reply=False).ids
how = Settings(block_size=8, steps=4)
mine = by_hand(CachedContext(talker.model, 1, v.pad), prompt, v.classes(), how, *seeded(1))
[shipped] = collect(
    generate(
        CachedContext(talker.model, 1, v.pad),
        [prompt],
        [mine.groups[: len(prompt)]],
        v.classes(),
        how,
        seeded(1),
    )
)
assert mine.ids[len(prompt) :] == list(shipped.ids)
words = talker.tokeniser.decode([i for i in shipped.text if i < v.text_size])
print(f"{words!r}, {[len(s) for s in shipped.spans]} audio tokens, {shipped.nfe} forwards")

# %% [markdown]
# ## 3. Watch it
#
# Every decoder event says what happened. Here is a song from the toy world, plotted from its `DenoisingStep` events: a
# colour and a letter per voice, grey for MASK, hollow for EOA. Two blocks of eight, one slot per step.

# %%
VOICE = plt.cm.viridis(np.linspace(0.15, 0.95, 4))


def draw_song(ax, song, y=0.0, frames=()):
    for x, token in enumerate(song):
        look = {"facecolor": plotting.COLOURS["mask"], "edgecolor": "white"}
        if token == EOA:
            look = {"facecolor": "white", "edgecolor": "#888888"}
        elif token != MASK:
            look = {"facecolor": VOICE[token - CODE], "edgecolor": "white"}
        ax.add_patch(plt.Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, **look))
        if x in frames:
            ax.add_patch(
                plt.Rectangle((x + 0.06, y + 0.08), 0.88, 0.84, fill=False, edgecolor="black", linewidth=2)
            )
        ink = "white" if CODE <= token < CODE + 2 else "black"
        said = "?" if token == MASK else "" if token == EOA else NAMES[token]
        ax.text(x + 0.5, y + 0.5, said, ha="center", va="center", fontsize=9, color=ink)
    ax.set_axis_off()


def sing(rows, seed=0, context=None, **settings):
    """Songs of many rows at once -> their codes, the events, the ends."""
    how = Settings(max_text=2, max_span=48, max_spans=1, **settings)
    prompts = [[OPEN]] * rows
    events = list(
        generate(context or FourVoices(rows), prompts, [[0]] * rows, CLASSES, how, seeded(rows, seed))
    )
    ends = collect(events)
    return [end.spans[0] for end in ends], events, ends


# %%
from matplotlib.animation import FuncAnimation, PillowWriter

_, events, _ = sing(1, seed=4, block_size=8, steps=8)
steps = [e for e in events if isinstance(e, DenoisingStep)]
fig, ax = plt.subplots(figsize=(6.4, 0.9), dpi=100)


def paint(number):
    ax.clear()
    step = steps[number]
    before = [i for e in steps[: number + 1] if e.block < step.block and e.step == 7 for i in e.ids]
    draw_song(ax, before + list(step.ids), frames=[len(before) + i for i in step.revealed])
    ax.set(xlim=(0, 17), ylim=(1.1, -0.6))
    ax.text(0, -0.25, f"block {step.block + 1}, step {step.step + 1}", fontsize=9)


film = Path("film.gif")
FuncAnimation(fig, paint, frames=len(steps)).save(film, PillowWriter(fps=2))
plt.close(fig)
display(Image(data=film.read_bytes(), format="gif"))
film.unlink()

# %% [markdown]
# The same as a still picture, for the real talker, with one row per step. A masked slot is grey, and the darker it is,
# the less certain the network is of it. What a step reveals has a frame, and its code stays.
#
# Before you look: does every slot that is still masked become more certain with each slot that is revealed?

# %%
answer = [["system", "answer"], ["user", "what is two plus three"]]
real = talker.converse(
    [answer], Settings(block_size=8, steps=8, text_sampling=unmasking.Sampling(0.0)), seed=1
)[0]
real_steps = [e for e in real.events if isinstance(e, DenoisingStep) and e.span == 0 and e.block < 2]
fig, ax = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
plotting.draw_unmasking(ax, real_steps, v.mask, v.eoa, v.first_code)
grey = {
    "revealed": plotting.COLOURS["target"],
    "masked, nearly certain": "0.9",
    "masked, least certain": "0.35",
}
for name, colour in grey.items():
    ax.plot([], [], "s", color=colour, markersize=9, label=name)
fig.legend(loc="outside lower center", ncol=3)
ax.set_title(f"{real.text!r}: two blocks of its speech")
plt.show()

# %%
changes = []  # of the entropy of a slot that is masked before a step and after it, in nats
for before, after in itertools.pairwise(real_steps):
    if before.block == after.block:
        waiting = [i for i in range(8) if before.ids[i] == v.mask]
        changes += [after.entropies[i] - before.entropies[i] for i in waiting]
rose = ratio("entropy rose", [change > 0 for change in changes])
print(f"{len(changes)} changes of masked slots, {np.mean(changes):+.2f} nats on average;", end=" ")
print(f"the entropy rose in {rose.value:.0%} [{rose.low:.0%}, {rose.high:.0%}]")

# %% [markdown]
# <details><summary>Answer</summary>
#
# No. In this run a waiting slot became more certain in little more than half of the cases, and *less* certain in the
# others. Follow the sixth slot of the first block, which is light in step 2 and darkens again until it is filled last,
# or the second slot of the second block, whose grey deepens all the way. Averaged over everything that might be
# revealed, more knowledge never makes a perfect network less certain, but one particular code may well do so when it
# comes as a surprise. (The interval treats the cases as independent. They all come from one reply, so take it only as a
# rough guide.)
#
# </details>

# %% [markdown]
# ## 4. Order matters
#
# Which slots should a step reveal? The rule is called a *policy*: a function of a `Draft` (what is masked, the network's
# probabilities `p`, the tokens drawn as candidates, some noise, the steps left) that returns the slots to reveal.
#
# With an oracle and one slot per step, the product of conditionals is the joint distribution in **any order**, as long
# as the order is chosen without looking at the candidates. A tempting rule is to keep the candidate with the highest
# probability, as the released code does. But that rule looks at the draw. Take two independent bits, 1 with probability
# 0.9:
#
# - the first step keeps a 1 unless both candidates are 0: probability $1 - 0.1^2 = 0.99$;
# - then the other bit is drawn anew: 0.9. So $P(11) = 0.99 \cdot 0.9 = 0.891$, where the truth is $0.9^2 = 0.81$.
#
# A lucky draw is kept; an unlucky one gets a second chance. Let us enumerate, for any policy, every draw and every
# order of the noise, which decides wherever a policy asks it to.


# %% tags=["needed"]
def exact_law(p, L, A, policy, steps, by_noise=True):
    """Distribution of what a policy samples from p(state) (L, A), and its mean number of steps, by enumeration.

    by_noise: enumerate the orders of the noise, too; False saves time where the policy never looks at it.
    """
    live, done, forwards = {(None,) * L: 1.0}, Counter(), 0.0
    for step in range(L):
        following, forwards = Counter(), forwards + sum(live.values())
        for state, weight in live.items():
            hidden = [i for i in range(L) if state[i] is None]
            masked, chances = torch.tensor([x is None for x in state]), p(state)
            orders = list(itertools.permutations(range(len(hidden)))) if by_noise else [range(L)]
            for drawn in itertools.product(range(A), repeat=len(hidden)):
                candidates = torch.zeros(L, dtype=torch.long)
                candidates[hidden] = torch.tensor(drawn)
                chance = math.prod(float(chances[i, x]) for i, x in zip(hidden, drawn, strict=True))
                for ranks in orders:
                    noise = torch.zeros(L, dtype=torch.float64)
                    noise[hidden] = torch.tensor(list(ranks)[: len(hidden)]).double() / L
                    reveal = policy(Draft(masked, chances, candidates, noise, max(1, steps - step)))
                    after = tuple(int(candidates[i]) if reveal[i] else state[i] for i in range(L))
                    (following if None in after else done)[after] += weight * chance / len(orders)
        live = following
    return done, forwards


def two_bits(state, one=0.9):
    return torch.tensor([[1 - one, one]] * 2, dtype=torch.float64)


# %%
policies = [
    decoding.random_order,
    unmasking.left_to_right,
    unmasking.entropy_order,
    unmasking.confidence_released,
]
laws = {policy.__name__: exact_law(two_bits, 2, 2, policy, steps=2)[0] for policy in policies}
truth = {(a, b): (0.9 if a else 0.1) * (0.9 if b else 0.1) for a in (0, 1) for b in (0, 1)}
for name, law in laws.items():
    print(f"{name:20}", "  ".join(f"P({a}{b}) = {law[a, b]:.3f}" for a, b in truth))
assert all(math.isclose(laws["random_order"][x], truth[x]) for x in truth)
assert math.isclose(laws["confidence_released"][1, 1], 0.891)

fig, ax = plt.subplots(figsize=(6.6, 3.0), layout="constrained")
bars = {"the truth": truth, **laws}
for i, (name, law) in enumerate(bars.items()):
    look = {"color": f"{0.2 + 0.2 * i}"}
    if name == "confidence_released":
        look = {"color": plotting.COLOURS["target"], "hatch": "///", "edgecolor": "black"}
    ax.bar(np.arange(4) + 0.16 * (i - 2), [law[x] for x in truth], 0.15, label=name, **look)
ax.set(yscale="log", ylabel="probability", title="two independent bits, p = 0.9, one slot a step")
ax.set_xticks(range(4), [f"{a}{b}" for a, b in truth])
fig.legend(loc="outside lower center", ncol=3)
plt.show()

# %% [markdown]
# The scale is logarithmic because the rare outcome suffers most: `00` comes up ten times too seldom. In speech this
# means that likely tokens come too often and rare ones hardly at all. The laws that hold the code to this are
# `test_law_16_generate_samples_the_joint` and `test_law_16_ranking_by_the_drawn_token_is_not_exact`.
#
# Policies are easy to write. Here are three of the shipped ones, rewritten by hand, and a check that they agree.


# %% tags=["needed"]
def share(draft):
    return math.ceil(int(draft.masked.sum()) / draft.steps_left)


def my_entropy_order(draft):
    H = -(draft.p * draft.p.clamp(min=1e-300).log()).sum(-1)
    order = sorted((i for i in range(len(H)) if draft.masked[i]), key=lambda i: H[i])
    return torch.tensor([i in order[: share(draft)] for i in range(len(H))])


# %%
def my_confidence_threshold(draft, threshold):
    top = draft.p.amax(-1) * draft.masked
    return draft.masked & ((top > threshold) | (torch.arange(len(top)) == top.argmax()))


def my_entropy_bound(draft, gamma):
    H = -(draft.p * draft.p.clamp(min=1e-300).log()).sum(-1)
    order = sorted((i for i in range(len(H)) if draft.masked[i]), key=lambda i: H[i])
    most = max(n for n in range(1, len(order) + 1) if sum(H[i] for i in order[: n - 1]) <= gamma)
    return torch.tensor([i in order[:most] for i in range(len(H))])


# %%
g = torch.Generator().manual_seed(1)
for _ in range(300):
    masked = torch.rand(6, generator=g) < 0.7
    masked[int(torch.randint(6, (), generator=g))] = True
    p = (2 * torch.randn(6, 5, generator=g).double()).softmax(-1)
    draft = Draft(
        masked, p, p.argmax(-1), torch.rand(6, generator=g), int(torch.randint(1, 6, (), generator=g))
    )
    assert my_entropy_order(draft).equal(unmasking.entropy_order(draft))
    assert my_confidence_threshold(draft, 0.6).equal(unmasking.confidence_threshold(draft, 0.6))
    assert my_entropy_bound(draft, 0.8).equal(unmasking.entropy_bound(draft, 0.8))
print("300 drafts: same slots")

# %% [markdown]
# ## 5. K steps: what is lost, exactly
#
# Slots revealed in the same step are drawn independently, given what was there before. If they depend on one another,
# something is lost. How much? Take the first four slots of a song (an EOA never occurs there), so that all $4^4$
# outcomes can be enumerated. $q$ is the truth, and $p_K$ is the distribution that `K` steps in random order sample. The
# chapter shows
#
# $$\mathrm{KL}(q \,\|\, p_K) \;\le\; \mathbb{E}_q[\mathrm{NELBO}(K)] - H(q).$$


# %% tags=["needed"]
@cache
def four_slots(state):
    """p(slot | revealed) of a song's first four codes, (4, 4)."""
    return hear([MASK if x is None else CODE + x for x in state])[:, :4]


def kl(q, p):
    return sum(w * math.log(w / p[x]) for x, w in q.items())


Q = {
    x: float(sum(SINGS[voice, list(x)].prod() for voice in range(4)) / 4)
    for x in itertools.product(range(4), repeat=4)
}


# %%
def predict(x_t):  # (N, 4) -> log p (N, 4, 5), the form that `bounds` wants; 4 is MASK
    rows = [four_slots(tuple(None if i == 4 else i for i in row)) for row in x_t.tolist()]
    return torch.cat([torch.stack(rows), torch.zeros(len(rows), 4, 1)], dim=-1).log()


tables = {x: bounds.surprisals(predict, torch.tensor(x), mask_id=4) for x in Q}
H = -sum(w * math.log(w) for w in Q.values())
Ks = range(1, 5)
bound = [sum(w * float(bounds.k_step_bound(tables[x], K)) for x, w in Q.items()) - H for K in Ks]
lost = [kl(Q, exact_law(four_slots, 4, 4, decoding.random_order, K)[0]) for K in Ks]
assert all(a <= b + 1e-9 for a, b in zip(lost, bound, strict=True)) and abs(bound[-1]) < 1e-9

fig, ax = plt.subplots(figsize=(5.4, 2.5), layout="constrained")
ax.plot(Ks, bound, "o--", color="#404040", label="bound: E NELBO(K) - H")
ax.plot(Ks, lost, "s-", color=plotting.COLOURS["target"], label="KL(q, p_K)")
ax.set(xlabel="steps K for four slots", ylabel="nats", xticks=list(Ks), title="random order, exact")
ax.legend()
plt.show()

# %% [markdown]
# With four steps for four slots nothing is lost: the mean of the bound over $q$ *is* the entropy $H$, which is what the
# training objective claims for a perfect network. With one step, the loss is what the slots say about one another.
#
# Between the two, KL is *below* the bound: a random order is a mixture of many orders, and a mixture covers more than
# its parts do on average. A fixed order does not get that discount (see section 10).
#
# ## 6. K against quality
#
# Now the same for whole songs, which are too many to enumerate. Quality is *voice coherence*: the share of places that
# are in the most common voice ([glossary](../tutorials/glossary.md)). Here a place is a code; in speech it is a window
# of sound that the referee judges. First a few songs, one per row; the letter is the code.

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.3), layout="constrained")
for ax, K in zip(axes, (1, 16), strict=True):
    for y, song in enumerate(sing(8, seed=10, block_size=16, steps=K)[0]):
        draw_song(ax, song, y)
    ax.set(xlim=(0, 20), ylim=(8, 0), title=f"block 16, {K} step{'s' * (K > 1)} a block")
plt.show()


# %%
def coherence(song):
    return max(Counter(song).values()) / len(song) if song else 0.0


def true_song(rng):
    voice, n = rng.integers(4), rng.choice(LENGTHS)
    return [int(rng.choice(4, p=SINGS[voice].numpy())) for _ in range(n)]


rng = np.random.default_rng(0)
real_coherence = np.mean([coherence(true_song(rng)) for _ in range(2000)])
Ks, measured, overwritten = (1, 2, 4, 8, 16), [], []
for K in Ks:
    songs, _, ends = sing(150, seed=100, block_size=16, steps=K)
    measured.append(ratio("coherence", [coherence(song) for song in songs]))
    overwritten.append(ratio("overwritten", [end.changed for end in ends]))


# %%
def draw_scores(ax, x, scores, **look):
    """Figures with their 95 % bootstrap intervals."""
    middle = np.array([score.value for score in scores])
    reach = [middle - [score.low for score in scores], [score.high for score in scores] - middle]
    ax.errorbar(x, middle, reach, capsize=3, color=plotting.COLOURS["target"], **look)


fig, (ax, other) = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
ax.axhline(real_coherence, color="#404040", linestyle="--", label="2,000 true songs")
draw_scores(ax, Ks, measured, fmt="o-", label="150 decoded, 95 %")
ax.set(xscale="log", xlabel="steps per block of 16", title="voice coherence", ylim=(0.4, 1))
draw_scores(other, Ks, overwritten, fmt="o-", label="150 decoded, 95 %")
other.set(xscale="log", xlabel="steps per block of 16", title="slots overwritten per song")
for a in (ax, other):
    a.set_xticks(Ks, Ks)
    a.minorticks_off()
    a.legend()
plt.show()

# %% [markdown]
# With one step per block, every slot picks a voice for itself, and codes are drawn after an EOA (they are overwritten
# when the block is closed). With one slot per step, songs are as coherent as the truth. This is what iterative decoding
# buys, **and only because the voice is open**. If the voice were known, one step would do.
#
# Now the shipped talker, which has learned all this from sound. It speaks twelve sentences with 1, 4 and 16 steps, and
# the referee judges their voice coherence. In brackets: a 95 % interval from resampling the twelve sentences.

# %%
from minittt.evaluation.evaluate import decoding_settings

sentences = """one two three four|nine eight seven|six plus two equals eight|five four nine|three seven one two
two plus three equals five|eight minus six equals two|four nine one|seven seven two|six one five
nine minus four equals five|one eight three""".replace("\n", "|").split("|")


def speak(**settings):
    talk = [[["system", "speak"], ["user", sentence]] for sentence in sentences]
    replies = talker.converse(talk, decoding_settings(**settings), seed=1)
    return replies, [np.concatenate([talker.sound(codec, span) for span in r.spans or [[]]]) for r in replies]


spoken = {K: speak(block=16, steps=K) for K in (1, 4, 16)}


def heard(waves):
    """Voice coherence of some replies, with its interval, as text."""
    score = ratio("voice coherence", [referee.voice_coherence(wave) for wave in waves])
    return f"voice coherence {score.value:.2f} [{score.low:.2f}, {score.high:.2f}], n = {score.items}"


for K, (replies, waves) in spoken.items():
    print(f"{K:2} steps a block: {heard(waves)}, {np.mean([r.nfe for r in replies]):.0f} forwards a reply")

# %% [markdown]
# Listen: the same sentence with one step per block, then with sixteen.

# %%
for K in (1, 16):
    display(Audio(spoken[K][1][5][:24000], rate=8000))

# %% [markdown]
# ## 7. How long is a span? The length leak
#
# The decoder is not told how long a song will be. It opens a block, and the song ends where an EOA is drawn. This works
# only if training never gave the length away, and that happens easily. (`full_span=True` below decodes as the paper
# does: the span grows one block at a time, and each time all of it is drafted anew.)
#
# Suppose training lays out each song as its codes plus one EOA, and all of it can see all of itself. Then the last slot
# is *always* EOA, and a network that learns this has understood its data perfectly. Here is that network: the same
# oracle, but it has only ever seen canvases of length + 1. We decode it with blocks of 8.


# %%
class Leaky(FourVoices):
    """What perfect training on unfilled canvases gives: a canvas of D slots holds D - 1 codes."""

    def lengths(self, sung, canvas):
        return [n for n in LENGTHS if n + 1 == canvas] or LENGTHS


kinds = {
    "the truth": [len(true_song(rng)) for _ in range(3000)],
    "unfilled canvas": [
        len(s) for s in sing(200, context=Leaky(200), block_size=8, steps=8, full_span=True)[0]
    ],
    "blocks filled with EOA": [len(s) for s in sing(600, seed=7, block_size=8, steps=8)[0]],
}
fig, axes = plt.subplots(1, 3, figsize=(7.5, 2.4), sharex=True, layout="constrained")
look = {"bins": np.arange(3.5, 22), "density": True, "edgecolor": "white"}
for ax, (name, lengths) in zip(axes, kinds.items(), strict=True):
    ax.hist(lengths, color=plotting.COLOURS["target"], **look)
    ax.set(title=f"{name}\n{len(lengths)} songs", xlabel="codes in a song", ylim=(0, None))
    at_end = ratio("on a block end", [(n + 1) % 8 == 0 for n in lengths])
    print(f"{name:24} ends on a block end: {at_end.value:.2f} [{at_end.low:.2f}, {at_end.high:.2f}]")
axes[0].set_ylabel("share of songs")
plt.show()

# %% [markdown]
# On a canvas of eight slots the leaky network puts its EOA into slot eight, every time: all songs have seven codes.
# With *filler*, the last block is filled up with EOA, in training as in decoding. A block then looks the same whether
# the song ends in it or not, and the end has to be predicted from what is heard. (`conversation.filler` does this;
# filler is visible, can be masked, and counts in the loss. It requires attention that is causal between blocks: with
# full view, the number of blocks would still give the length away.)
#
# Does the shipped talker end its spans where its sentences end?

# %%
ends = [(len(span) + 1) % 16 == 0 for K in (4, 16) for reply in spoken[K][0] for span in reply.spans]
print(f"{sum(ends)} of {len(ends)} spans end on the end of a block of 16; by chance: 1 in 16")
n, share_of_ends, z2 = len(ends), sum(ends) / len(ends), 1.96**2
centre = (share_of_ends + z2 / (2 * n)) / (1 + z2 / n)  # Wilson's interval, good for shares near 0 too
half = math.sqrt(z2 * share_of_ends * (1 - share_of_ends) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
print(f"as a share {share_of_ends:.2f}, 95 % interval [{max(0, centre - half):.2f}, {centre + half:.2f}]")

# %% [markdown]
# (So few spans are enough to say that the lengths do not leak, but not to say that the share is less than one in
# sixteen.)
#
# One more safeguard makes sure that a reply ends: `max_text`, `max_span` and `max_spans` bound it. A span that reaches
# its bound is closed by force, and the event says so (`test_law_19_a_network_that_never_stops_is_stopped`).

# %%
song, events, [end] = sing(1, seed=3, block_size=4, steps=4, context=FourVoices(1))
how = Settings(block_size=4, steps=4, max_text=2, max_span=4, max_spans=1)
[short] = collect(generate(FourVoices(1), [[OPEN]], [[0]], CLASSES, how, seeded(1, 3)))
print(
    f"free: {len(end.spans[0])} codes, forced {end.forced}; max_span=4: {len(short.spans[0])} codes, forced {short.forced}"
)

# %% [markdown]
# ## 8. Guidance
#
# Classifier-free guidance runs every row twice, once with the condition and once without, and exaggerates the
# difference: $\;\ell = \ell_{un} + (1 + s)\,(\ell_{cond} - \ell_{un})$. To the decoder this is just another context:
# `GuidedContext` holds twice as many rows inside. The half without the condition has its own prompt. Here the condition
# is the hint `b`. First we check the formula against two contexts that know nothing of each other.

# %%
from minittt.guidance import GuidedContext

draft = torch.tensor([[CODE, MASK, MASK]])
guided = GuidedContext(FourVoices(2), [[OPEN]], [[0]], scale=1.5, pad=PAD)
got = guided.step(torch.tensor([[HINT + 1, OPEN]]), torch.tensor([[0, 1]]), draft)
cond = FourVoices(1).step(torch.tensor([[HINT + 1, OPEN]]), torch.tensor([[0, 1]]), draft)
un = FourVoices(1).step(torch.tensor([[OPEN]]), torch.tensor([[0]]), draft)
assert torch.allclose(got, un + 2.5 * (cond - un))

# %%
scales, obeyed, rows = (0.0, 0.5, 1.0, 3.0), [], 80
for scale in scales:
    context = GuidedContext(FourVoices(2 * rows), [[OPEN]] * rows, [[0]] * rows, scale, PAD)
    how = Settings(block_size=8, steps=8, max_text=2, max_span=24, max_spans=1)
    prompts = [[HINT + 1, OPEN]] * rows
    songs = [
        e.spans[0] for e in collect(generate(context, prompts, [[0, 1]] * rows, CLASSES, how, seeded(rows)))
    ]
    obeyed.append(ratio("obeyed", [Counter(song).most_common(1)[0][0] == CODE + 1 for song in songs]))

fig, ax = plt.subplots(figsize=(4.8, 2.6), layout="constrained")
ax.axhline(0.55, color="#404040", linestyle="--", label="the truth: the hint is right in 55 %")
draw_scores(ax, scales, obeyed, fmt="o-", label=f"songs in voice B, n = {rows}, 95 %")
ax.set(xlabel="guidance scale s", ylabel="share of songs", ylim=(0.2, 1.02), title="hint b")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# Scale 0 gives exactly the conditional distribution (how near these songs come to 55 % is luck: look at the interval).
# Above 0, replies obey the hint more than the truth would. Whether that helps depends on what you want; it is no longer
# sampling from the model, and it doubles the work. The unconditional half must be something the network was trained on;
# otherwise guidance only pushes away from nonsense.
#
# ## 9. What may be cached
#
# A closed group never changes and never looks ahead. So its keys and values are final, and `CachedContext` keeps them.
# `RecomputingContext` keeps nothing but ids. In float64 the replies are the same, down to the last id; the amount of
# work is very different.

# %%
import copy
import time


class Weigh:
    """Counts the positions that each forward computes."""

    def __init__(self, context, again):
        self.context, self.again, self.committed, self.work = context, again, 0, []

    def step(self, commit, commit_groups, draft):
        self.committed += commit.shape[1]
        self.work.append(draft.shape[1] + (self.committed if self.again else commit.shape[1]))
        return self.context.step(commit, commit_groups, draft)


# %%
double = copy.deepcopy(talker.model).double()
how, replies, weighed = Settings(block_size=8, steps=8), {}, {}
for name, make, again in (("cached", CachedContext, False), ("recomputed", RecomputingContext, True)):
    weighed[name], start = Weigh(make(double, 1, v.pad), again), time.time()
    groups = [list(range(len(prompt)))]
    [replies[name]] = collect(generate(weighed[name], [prompt], groups, v.classes(), how, seeded(1)))
    print(f"{name:11} {sum(weighed[name].work):6} positions computed, {time.time() - start:.2f} s")
assert replies["cached"] == replies["recomputed"]

fig, ax = plt.subplots(figsize=(5.4, 2.3), layout="constrained")
for (name, w), style in zip(weighed.items(), ("-", "--"), strict=True):
    ax.plot(np.cumsum(w.work), style, label=name, color=plotting.COLOURS["text"])
ax.set(xlabel="forward", ylabel="positions computed", yscale="log", title="one reply")
ax.legend()
plt.show()

# %% [markdown]
# One shortcut is *not* exact: keeping the keys of the last denoising step instead of committing the finished block.
# They were computed while some slots were still MASK. The decoder therefore commits each finished block, clean, in the
# next forward pass, so it costs no extra one. (`test_law_18_cached_equals_recomputed_ids` and its neighbours.)
#
# ## 10. What each policy costs
#
# Cost is counted in forward passes (often called NFE, the number of function evaluations). Here are the shipped
# policies on the four slots, where both cost and damage are exact: mean steps against KL. (`left_to_right` is missing:
# on these slots, which are all alike, it is the same as `entropy_order`.)

# %%
families = {
    "random_order": [(decoding.random_order, K) for K in (1, 2, 3, 4)],
    "entropy_order": [(unmasking.entropy_order, K) for K in (1, 2, 3, 4)],
    "confidence_released": [(unmasking.confidence_released, K) for K in (1, 2, 3, 4)],
    "confidence_threshold": [
        (partial(unmasking.confidence_threshold, threshold=t), 1) for t in (0.5, 0.8, 0.95)
    ],
    "entropy_bound": [(partial(unmasking.entropy_bound, gamma=x), 1) for x in (0.5, 1.0, 1.5, 4.5)],
}
marks = {}
for name, members in families.items():
    by_noise = name == "random_order"
    found = [exact_law(four_slots, 4, 4, policy, steps, by_noise) for policy, steps in members]
    marks[name] = [(steps, kl(Q, law)) for law, steps in found]

# %%
fig, ax = plt.subplots(figsize=(6.2, 3.0), layout="constrained")
C = plotting.COLOURS
shades = [C["target"], C["text"], C["control"], C["source"], "#CC79A7"]
lines = ["-", "--", "-", ":", "-."]
for (name, points), mark, line, colour in zip(marks.items(), "os^Dv", lines, shades, strict=True):
    ax.plot(*zip(*sorted(points), strict=True), line, marker=mark, color=colour, label=name, linewidth=1.2)
    print(f"{name:21}", "  ".join(f"{steps:.2f} steps {lost:.3f}" for steps, lost in points))
ax.set(xlabel="mean steps for four slots", ylabel="KL to the truth, nats", xticks=[1, 2, 3, 4])
ax.legend(handlelength=4)
plt.show()

# %% [markdown]
# How to read it: with one slot per step all policies reach zero except one, `confidence_released`, which stays wrong
# however many steps it takes. `confidence_threshold` and `entropy_bound` decide for themselves how many slots to take.
# `confidence_threshold` (at 0.5) takes one slot while the voice is open and the rest together once it is known, which
# is why it does best in two steps. `entropy_bound` does this only in part: with gamma below ln 4 it takes one slot
# blindly, then one or two at a time; with gamma 1.5 it takes two blindly, and loses more than `random_order` does.
#
# The policies also differ in what they *guarantee*. A random order has a bound on $-\log p$. A policy that looks only
# at `p` has an exact $-\log p$ along its one path (at temperature 1, of the raw draws). In addition, `entropy_bound`
# loses at most $\gamma$ nats per step with an oracle. A policy that looks at the candidates has none of these
# guarantees.
#
# On the talker, where the network is not perfect:

# %%
for name in ("random_order", "left_to_right", "entropy_order", "confidence_released", "confidence_threshold:0.5",
             "entropy_bound:2"):  # fmt: skip
    replies, waves = speak(block=16, steps=8, policy=unmasking.policy_named(name))
    tokens = sum(len(span) for r in replies for span in r.spans)
    print(f"{name:25} {sum(r.nfe for r in replies) / tokens:.2f} forwards a token, {heard(waves)}")

# %% [markdown]
# Twelve sentences are few: these figures do not show which policy keeps the voice best. (An interval from 1.00 to 1.00
# means only that all twelve came out in a single voice. A bootstrap cannot draw what was never seen.) What the figures
# do show is the cost. The two policies that decide for themselves how much to take need about two thirds of the forward
# passes.
#
# ## Exercises
#
# The checks accept a right answer in any form: a policy may return a tensor, a list or an array of True and False.


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


def choice_of_slots(answer, slots):
    """What a policy returned as (slots,) bool: of True and False, or 0 and 1, in any kind of sequence."""
    hint = f"a policy returns one True or False for every slot, {slots} in all, not the numbers of slots"
    try:
        answer = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(hint) from None
    assert answer.shape == (slots,), hint
    assert ((answer == 0) | (answer == 1)).all(), hint
    return answer.bool()


# %% [markdown]
# **1. Fill in.** Complete `margin_order`: reveal an even share of the masked slots (as in `share` above: masked slots
# divided by steps left, rounded up), namely those where p(most likely token) minus p(second most likely token) is
# largest. Ties go left. Look at `draft.p`, not at the candidates.


# %% tags=["exercise-1"]
def margin_order(draft): ...  # -> (D,) bool


# %% tags=["check-1"]
def check_margin_order():
    g = torch.Generator().manual_seed(5)
    for trial in range(200):
        masked, steps_left = torch.rand(6, generator=g) < 0.6, 1 + trial % 4
        masked[int(torch.randint(6, (), generator=g))] = True
        p = (2 * torch.randn(6, 4, generator=g).double()).softmax(-1)
        draft = Draft(masked, p, torch.randint(4, (6,), generator=g), torch.rand(6, generator=g), steps_left)
        reveal = margin_order(draft._replace(masked=masked.clone()))
        if reveal is None or reveal is ...:
            return "not answered yet"
        reveal = choice_of_slots(reveal, 6)
        assert not (reveal & ~masked).any(), (
            "a slot was revealed that is no longer masked: look at draft.masked"
        )
        wanted = math.ceil(int(masked.sum()) / steps_left)
        assert int(reveal.sum()) == wanted, (
            f"{int(reveal.sum())} slots revealed where an even share is {wanted}"
        )
        again = margin_order(draft._replace(masked=masked.clone(), candidates=(draft.candidates + 1) % 4))
        assert reveal.equal(choice_of_slots(again, 6)), (
            "it looks at the candidates: such an order is not exact"
        )
        lead = [max(row) - sorted(row)[-2] for row in p.tolist()]
        least = min(lead[i] for i in range(6) if reveal[i])
        left_out = [lead[i] for i in range(6) if masked[i] and not reveal[i]]
        assert all(x <= least + 1e-6 for x in left_out), (
            "a slot with a larger lead was left masked: sort by the lead"
        )
    flat = Draft(torch.arange(4) > 0, torch.full((4, 4), 0.25), torch.zeros(4), torch.rand(4, generator=g), 3)
    leftmost = choice_of_slots(margin_order(flat), 4).tolist() == [False, True, False, False]
    assert leftmost, "where all masked slots lead by the same, the leftmost masked one comes first"
    return "right"


print("exercise 1:", check_margin_order())

# %% [markdown]
# **2. Predict**, before you run anything. Two independent bits again, this time 1 with probability 0.8. What is $P(11)$
# under `confidence_released` with one slot per step?

# %% tags=["exercise-2"]
p_11 = None

# %% tags=["check-2"]
if p_11 is None:
    print("exercise 2: not answered yet")
else:
    mine = one_number(p_11)
    law, _ = exact_law(partial(two_bits, one=0.8), 2, 2, unmasking.confidence_released, steps=2)
    assert 0 <= mine <= 1, "a probability lies between 0 and 1"
    assert not math.isclose(mine, 0.8**2, abs_tol=5e-4), (
        "that is the truth; but a 0 drawn beside a 1 gets a second chance"
    )
    assert not math.isclose(mine, 0.891, abs_tol=5e-4), "that is the example above, with 0.9; here p is 0.8"
    assert not math.isclose(mine, 1 - 0.2**2, abs_tol=5e-4), (
        "that is the first step alone; the other bit still has to be drawn"
    )
    assert mine > 0.8**2, (
        "likely tokens become too frequent, not too rare: which draws make the first step keep a 0?"
    )
    assert math.isclose(mine, law[1, 1], abs_tol=5e-4), (
        "not quite: first step, the chance that of two candidates at least one is 1; then one fresh draw (three digits)"
    )
    print("exercise 2: right")

# %% [markdown]
# **3. Extend.** In section 5, two steps of two slots each lose about half a nat: two slots pick a voice before it is
# known. Write a policy that needs no more than **two** forward passes for the four slots and loses **less** than
# `random_order` does in two steps. It may look at anything in the draft except the candidates, and must not draw at
# random itself: the randomness is in `draft.noise`. (One of the shipped policies can do it; write your own.)


# %% tags=["exercise-3"]
def better_in_two(draft): ...  # -> (D,) bool


# %% tags=["check-3"]
def check_better_in_two():
    first = Draft(torch.ones(4).bool(), four_slots((None,) * 4), torch.zeros(4).long(), torch.rand(4), 2)
    reveal = better_in_two(first)
    if reveal is None or reveal is ...:
        return "not answered yet"
    reveal = choice_of_slots(reveal, 4)
    second = better_in_two(first._replace(masked=torch.arange(4) > 0, steps_left=1))
    assert second is not None, "in the second step nothing comes back: is a branch without return?"
    assert not choice_of_slots(second, 4)[0], (
        "in the second step it reveals a slot that is no longer masked: look at draft.masked"
    )
    assert reveal.any(), "a policy must reveal at least one slot in every step, or decoding never ends"
    skewed = first._replace(p=(1 + 6 * torch.eye(4, dtype=torch.float64)) / 10)  # slot i expects code i
    looks = "it looks at the candidates, or draws at random itself: choose before you see what was drawn, by draft.noise"
    for draft in (first, skewed):
        drawn = [torch.full((4,), code) for code in (0, 3)] + [torch.tensor([3, 2, 1, 0])]
        chosen = [choice_of_slots(better_in_two(draft._replace(candidates=x)), 4) for x in drawn]
        assert chosen[0].equal(chosen[1]) and chosen[0].equal(chosen[2]), looks
    law, forwards = exact_law(four_slots, 4, 4, better_in_two, steps=2)
    assert math.isclose(sum(law.values()), 1, rel_tol=1e-9), (
        "some replies were never finished: reveal masked slots only"
    )
    assert forwards <= 2 + 1e-9, f"it takes {forwards:.2f} forwards on average; two are allowed"
    theirs = kl(Q, exact_law(four_slots, 4, 4, decoding.random_order, 2)[0])
    mine = kl(Q, law)
    assert mine < theirs - 1e-6, (
        f"it loses {mine:.3f} nats, random_order {theirs:.3f}: how many slots should be drawn blind?"
    )
    return "right"


print("exercise 3:", check_better_in_two())

# %% [markdown]
# ## What you now know
#
# - A decoder needs one method, `step`: commit what is finished, look at a draft, get logits back.
# - With one slot per step, any order that does not look at the draws is exact; the released rule looks at them, and is
#   not.
# - Several slots per step cost nats only where the slots depend on one another, as they do while the voice is open.
# - Filler in training makes the end of a span something to predict; without it the size of the canvas gives it away.
# - The keys and values of finished groups can be cached without error, those of half-masked blocks cannot.
#
# **Next**: [notebook 05](05_train_a_tiny_talker.ipynb), where the network is trained. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/04_block_decoding.py).
