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
# # 05 · Train a tiny talker
#
# Text is learned by predicting the next token, speech by filling in blanks. How can one network learn both at once, in
# one row of tokens, without either task training the other on nonsense? Here you compute that loss by hand, and then
# train a talker with it. After a quarter of an hour on two CPU cores, it answers about nine in ten of sixty new spoken
# questions correctly in writing; of the words that it reads out, a recogniser understands about six in ten. Hearing
# comes before speaking.
#
# After this notebook you can
#
# - turn a record into a row of tokens, corrupt it, and compute Text-to-Talk's unified loss by hand;
# - train a talker that hears a question and answers it in text and speech;
# - read its two loss curves: how low each of them can get, and why the audio loss must not reach zero.
#
# Level: intermediate. Prerequisites: notebooks [02](02_modality_attention.ipynb) and
# [03](03_absorbing_diffusion.ipynb), and training loops in PyTorch. Reading time 60 minutes, run time about 12 minutes
# on two CPU cores, under two with `MINITTT_FAST=1` (which trains too briefly to answer); GPU: used if there is one, but
# not measured. The module is `minittt/objective.py`, with `trainer.py` around it; the chapter is
# [tutorials/05_train_a_tiny_talker.md](../tutorials/05_train_a_tiny_talker.md). If you are short of time, run all cells
# first and read while it trains.

# %% tags=["needed"]
import sys
from pathlib import Path

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())
sys.path.insert(0, str(root))

import io
import itertools
import json
import math
import os
import random
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio, Image, display
from matplotlib.colors import to_rgb

from minittt.app import plotting
from minittt.attention import group_mask, two_stream_mask
from minittt.context import CachedContext
from minittt.data.batches import pack
from minittt.data.conversation import render
from minittt.data.corpus import load_corpus
from minittt.diffusion import corrupt
from minittt.model import ModelConfig, Transformer
from minittt.objective import Noise, draw_noise, example, preset, unified_loss
from minittt.theory import bounds

FAST = os.environ.get("MINITTT_FAST") == "1"
torch.manual_seed(0)
plt.rcParams.update(plotting.STYLE)
plt.rcParams.update({"figure.dpi": 150, "legend.fontsize": 9})

# %% [markdown]
# ## 1. What it learns from
#
# A corpus is a folder of tokens: you need no sound and no synthesiser. A *record* is a short conversation whose parts
# are text or the number of an utterance. Whatever the assistant says is to be learned; the rest is only given.

# %% tags=["needed"]
corpus = load_corpus(root / "data_samples" / "corpus")
v = corpus.vocabulary

# %%
from minittt.codec import Codec
from minittt.evaluation.referee import Referee
from minittt.talker import Talker

codec = Codec.load(root / "data_samples" / "codec.safetensors")
shipped = Talker.load(root / "data_samples" / "talker.safetensors")

print({name: len(records) for name, records in corpus.splits.items()})
record = next(r for r in corpus.split("train") if r["family"] == "qa" and len(r["messages"][-1]) == 3)
for role, *parts in record["messages"]:
    print(f"{role:10}", *[p if isinstance(p, str) else f"<{len(corpus.audio(p))} codes>" for p in parts])

# %% [markdown]
# Here is the same record as tokens: boxes of words have the word in them, boxes of codes are empty, and the number
# below is the group. The audio that is heard is one group, before ASSISTANT; the audio to be spoken comes in blocks of
# 8, and the last block is filled up with EOA (hollow).


# %%
def piece(token):
    return (
        corpus.tokeniser.pieces.id_to_piece(token).replace("▁", " ") if token < v.text_size else v.name(token)
    )


sequence = render(record, corpus, block_size=8)
columns = example(sequence, preset("exact"), 8, None, random.Random(0))  # (6, n): both streams
one_stream = columns[4] == 0
fig, ax = plt.subplots(figsize=(7, 2.9), layout="constrained")
plotting.draw_sequence(ax, *columns[:3, one_stream], names=piece, width=58)
where = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncol": 4, "fontsize": 9}
plotting.legend(ax, ["control", "text", "source", "target"], **where)
plt.show()
answer = record["messages"][-1][2]
display(Audio(shipped.sound(codec, corpus.audio(answer).tolist()), rate=8000))

# %% [markdown]
# ## 2. From a record to a row
#
# In the preset `exact`, a row holds the spoken audio twice. The *clean* stream C holds every token; text is learned
# from it. The *noisy* stream N is a second copy of the spoken audio, with MASKs; audio is learned from it. A noisy
# block sees the clean tokens of earlier groups, and itself. Here is a toy record of two words and six codes, in blocks
# of four, and the attention mask of its row.

# %% tags=["needed"]
toy = {"messages": [["system", "speak"], ["user", "two"], ["assistant", [7, 7, 300, 41, 41, 5]]]}


def row_of(record, p=preset("exact"), block=4):  # noqa: B008
    """One record as a batch of one row, without any coin of the preset's."""
    p = replace(p, sst=0.0)
    return pack([example(render(record, corpus, block), p, block, None, random.Random(0))], 384, v.pad)


batch = row_of(toy)

# %%
mask = two_stream_mask(batch.groups, batch.noisy, batch.documents)
labels = [
    ("N " if n else "") + piece(int(i)).strip() for i, n in zip(batch.ids[0], batch.noisy[0], strict=True)
]
fig, ax = plt.subplots(figsize=(5.8, 5.8), layout="constrained")
plotting.draw_mask(ax, mask[0], batch.kinds[0], batch.groups[0], labels)
plotting.legend(ax, ["text", "target"], title="key (pale: of an earlier group)", fontsize=9)
plt.show()

# %% [markdown]
# ## 3. Noise
#
# For every block of the noisy stream, we draw how many of its `n` slots are masked, `k` uniformly from 1..n, and then
# which ones. The masked slots have weight `n / k`. Here are eight draws for our toy row (slots of N only); the number
# is the weight, and a slot without a number is not masked.

# %%
g = torch.Generator().manual_seed(0)
fig, ax = plt.subplots(figsize=(5.2, 2.5), layout="constrained")
for y in range(8):
    noise = draw_noise(batch, preset("exact"), g)
    for x, at in enumerate(batch.noisy[0].nonzero()[:, 0].tolist()):
        hidden = bool(noise.masked[0, at])
        colour = plotting.COLOURS["mask" if hidden else "target"]
        ax.add_patch(plt.Rectangle((x + 0.3 * (x > 3), y), 0.92, 0.88, facecolor=colour))
        told = f"{noise.weight[0, at]:.2g}" if hidden else ""
        ax.text(x + 0.46 + 0.3 * (x > 3), y + 0.46, told, ha="center", va="center")
plotting.legend(ax, ["target", "mask"], loc="upper center", bbox_to_anchor=(0.5, 0), ncol=2, fontsize=9)
ax.set(xlim=(0, 8.4), ylim=(8, 0), xticks=[], yticks=[], ylabel="draws", title="two blocks of four slots")
ax.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# ## 4. The unified loss, by hand
#
# One forward pass, two kinds of prediction:
#
# - **text**: token $i$ is read one place earlier, at $i - 1$, from the clean stream: $-\log p(x_i \mid x_{<i})$, over
#   the ids allowed for text;
# - **audio**: a masked slot is read *at its own place*, in the noisy stream, over the ids allowed for audio, times
#   $n/k$.
#
# Text is averaged over its targets, audio over all slots of the noisy stream, masked or not, and the two means are
# added. Here it is for three records and a small untrained network, in float64 and with plain loops:

# %%
records = [
    toy,
    record,
    next(r for r in corpus.split("train") if r["family"] == "qa" and len(r["messages"][-1]) > 4),
]
p = preset("exact")
documents = [example(render(r, corpus, 4), p, 4, None, random.Random(0)) for r in records]
batch3 = pack(documents, 384, v.pad)
torch.manual_seed(0)
small = Transformer(ModelConfig(v.size, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=64)).double()
noise = draw_noise(batch3, p, torch.Generator().manual_seed(1), torch.float64)

mask = two_stream_mask(batch3.groups, batch3.noisy, batch3.documents)
logits = small(corrupt(batch3.ids, noise.masked, v.mask), mask, batch3.positions)  # (B, L, V)


# %%
def surprise(logits, token, choices):
    """-log p(token) of a softmax over the choices alone."""
    return -logits[choices].log_softmax(-1)[choices.tolist().index(int(token))]


text, audio, slots = [], [], 0
for b, i in itertools.product(*map(range, batch3.ids.shape)):
    if batch3.text_targets[b, i]:
        text.append(surprise(logits[b, i - 1], batch3.ids[b, i], v.text_choices()))
    if batch3.noisy[b, i]:
        slots += 1
        same = (batch3.documents[b] == batch3.documents[b, i]) & (batch3.groups[b] == batch3.groups[b, i])
        block = batch3.noisy[b] & same  # (L,)
        n, k = int(block.sum()), int((block & noise.masked[b]).sum())
        if noise.masked[b, i]:
            audio.append(n / k * surprise(logits[b, i], batch3.ids[b, i], v.audio_choices()))
total = sum(text) / len(text) + sum(audio) / slots

theirs = unified_loss(small, batch3, v, p, None, noise)
assert torch.allclose(total, theirs.total, rtol=1e-12)
print(f"text {sum(text) / len(text):.4f}, audio {sum(audio) / slots:.4f} nats; unified_loss says", end=" ")
print(f"{theirs.text:.4f}, {theirs.audio:.4f}")

# %% [markdown]
# The gradients agree too, so no gradient path is missing.

# %%
mine = torch.autograd.grad(total, list(small.parameters()))
shipped_gradient = torch.autograd.grad(theirs.total, list(small.parameters()))
assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(mine, shipped_gradient, strict=True))

# %% [markdown]
# ### The released loss is the same code with other switches
#
# In the preset `paper` there is one stream, and a span is one group. Each token is masked independently with
# probability `p` and weighted by `1 / p`, the softmax runs over all ids, and the mean is taken within each record and
# then over records. By hand again:

# %%
paper = replace(preset("paper"), banom=0.0, ppm=0.0, sst=0.0)  # its strategies come in section 6
single = pack([example(render(r, corpus), paper, None, None, random.Random(0)) for r in records], 384, v.pad)
noise = draw_noise(single, paper, torch.Generator().manual_seed(2), torch.float64)
mask = group_mask(single.groups, single.documents)
logits = small(corrupt(single.ids, noise.masked, v.mask), mask, single.positions).log_softmax(-1)

means = []
where = {(row, int(d)) for row in range(len(single.ids)) for d in single.documents[row] if d >= 0}
for b, d in where:
    mine = (single.documents[b] == d).nonzero()[:, 0].tolist()
    said = [-logits[b, i - 1, single.ids[b, i]] for i in mine if single.text_targets[b, i]]
    spoken = [i for i in mine if noise.segments[b, i] >= 0]
    nats = [-logits[b, i, single.ids[b, i]] * noise.weight[b, i] for i in spoken if noise.masked[b, i]]
    means.append(sum(said) / len(said) + sum(nats) / len(spoken))
theirs = unified_loss(small, single, v, paper, None, noise)
assert torch.allclose(sum(means) / len(means), theirs.total, rtol=1e-12)
print(f"{len(means)} records, mean of means {theirs.total:.4f}")

# %% [markdown]
# That these switches reproduce the released code number for number is law 13
# (`test_law_13_paper_gives_the_released_losses_and_gradient_norms`).
#
# ## 5. What the loss estimates, and why training equals decoding
#
# Two claims, checked together on the first block of the toy row, where all $2^4$ masks can be enumerated:
#
# 1. *train = decode*: the noisy stream predicts exactly what a decoder's draft predicts after the same clean prefix;
# 2. *unbiased*: averaged over all noise, the audio loss is the bound on $-\log p$ of exactly what the decoder samples.

# %% tags=["needed"]
torch.manual_seed(0)
tiny = Transformer(ModelConfig(v.size, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=64))
tiny = tiny.double().eval()
first = batch.noisy & (batch.groups == batch.groups[batch.noisy].min())  # (1, L): the first noisy block
clean = ~batch.noisy[0] & (batch.groups[0] < batch.groups[first][0])  # (L,): all that comes before it


def draft_logits(block):
    """What a decoder's forward says of a block (n,) of the toy row -> (n, audio ids)."""
    prefix = batch.ids[:, clean], batch.groups[:, clean]
    return CachedContext(tiny, 1, v.pad).step(*prefix, block[None])[0, 1:, v.audio_choices()]


# %%
x0 = batch.ids[first]
masks = list(itertools.product([False, True], repeat=4))[1:]
mean, segments = 0.0, torch.where(first, 0, -1)
for hidden in masks:
    masked, k = torch.zeros_like(first), sum(hidden)
    masked[first] = torch.tensor(hidden)
    noise = Noise(masked, masked.double() * 4 / k, segments)
    with torch.no_grad():
        loss = unified_loss(tiny, batch, v, preset("exact"), None, noise).audio_sum
        log_p = draft_logits(corrupt(x0, masked[first], v.mask)).log_softmax(-1)
    decoded = -sum(log_p[i, x0[i] - v.first_code] for i in range(4) if hidden[i])
    assert torch.allclose(loss, decoded * 4 / k, rtol=1e-12)  # 1. train = decode
    mean += loss / 4 / math.comb(4, k)  # k is uniform on 1..4, then the subset


def predict(x_t):  # (N, 4) -> log p (N, 4, 514); the last is MASK
    rows = [draft_logits(torch.where(x == 513, v.mask, x + v.first_code)).log_softmax(-1) for x in x_t]
    return torch.nn.functional.pad(torch.stack(rows), (0, 1), value=-math.inf)


assert v.eoa - v.first_code == 512
bound = bounds.closed_form(bounds.surprisals(predict, x0 - v.first_code, 513))
assert torch.allclose(mean, bound, rtol=1e-12)  # 2. unbiased
print(f"mean over all masks {mean:.6f}, the bound {bound:.6f} nats for four slots")

# %% [markdown]
# So the *sums* of a record's text and audio losses (not section 4's means) together estimate $U(x) \ge -\log p(x)$, an
# upper bound on the surprise of the whole interleaved reply. (`test_law_12_u_is_never_below_minus_log_p`,
# `test_law_15_training_logits_equal_decoding_logits`. Section 5 of [04](04_block_decoding.ipynb) shows that the bound
# is tight for a perfect network.)
#
# ## 6. What the strategies of the paper do
#
# In one stream, text follows half-masked audio, which never happens in decoding. BANOM, PPM and SST soften that
# mismatch. Left: ten draws of one record with two spans under `paper`. Right: the same record under `exact`; the lower
# half of a two-stream row is N.

# %%
two_spans = {
    "messages": [["user", "one"], ["assistant", "one two", list(range(14)), "three", list(range(22)), "four"]]
}


def strip(batch, noise):
    """A row of tokens as an image, one pixel each."""
    look = np.where(batch.kinds[0] == 2, "target", "text")
    look = np.where(noise.masked[0], "mask", look)
    return np.array([to_rgb(plotting.COLOURS[name]) for name in look])


# %%
g, rng = torch.Generator().manual_seed(22), random.Random(22)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained", width_ratios=(5, 4))
for ax, name, block in zip(axes, ("paper", "exact"), (None, 8), strict=True):
    for y in range(10):
        p = preset(name)
        drawn = pack([example(render(two_spans, corpus, block), p, block, None, rng)], 384, v.pad)
        noise, n = draw_noise(drawn, p, g), int((~drawn.noisy).sum())
        colours = strip(drawn, noise)
        ax.imshow(colours[None, :n], extent=(0, n, y + (0.45 if block else 0.8), y))
        if not block:
            kept = noise.segments[0][drawn.kinds[0] == 2] < 0
            told = "BANOM " * bool(kept.all()) + "PPM " * bool(kept[0] and not kept.all()) + "SST" * (n < 49)
            ax.text(n + 1, y + 0.45, told, va="center")
        if block:
            at = drawn.positions[0, n:].numpy()
            for x, colour in zip(at, colours[n:], strict=True):
                ax.add_patch(plt.Rectangle((x, y + 0.45), 1, 0.35, facecolor=colour))
    end = 52 if block else 68
    ax.set(xlim=(0, end), ylim=(10, 0), aspect="auto", yticks=[], xlabel="token", ylabel="draws", title=name)
patches = [
    plt.Rectangle((0, 0), 1, 1, facecolor=plotting.COLOURS[look]) for look in ("text", "target", "mask")
]
fig.legend(patches, ["text", "audio spoken", "MASK"], loc="outside lower center", ncol=3)
plt.show()

# %% [markdown]
# In `paper` some rows have no MASK at all (BANOM), some keep the first span whole while the second is noised (PPM), and
# some stop inside the second span (SST). In `exact` the clean stream is always whole, so nothing has to be softened.
# [What is masked, and why](../tutorials/strategies.md) explains it in full; law 14 checks the rates.
#
# ## 7. Train
#
# `Trainer` does the rest: it packs rows, draws noise from (seed, step), takes optimiser steps (Muon for matrices, AdamW
# for the rest) with a warm-up and a cosine schedule, and writes a log and checkpoints into a folder of its own. Ours is
# temporary. To learn something in a quarter of an hour, we leave out chat, captions and documents: what remains is
# hearing (ASR), speaking (TTS) and answering.

# %%
from minittt.training.trainer import Trainer, TrainingSettings

GPU = torch.cuda.is_available()
STEPS = 24 if FAST else 6000 if GPU else 1600
LOOKS = 2 if FAST else 15  # how often we look at held-out losses
some = {name: [r for r in rs if r["family"] in ("asr", "tts", "qa")] for name, rs in corpus.splits.items()}
settings = TrainingSettings(
    steps=STEPS,
    records=12 if FAST else 40,
    warmup=min(100, STEPS // 10),
    samples=2,
    evaluate_every=10**9,  # only where a call of `train` ends
    save_every=10**9,
    keep=1,
)
folder = tempfile.TemporaryDirectory()
trainer = Trainer(replace(corpus, splits=some), folder.name, settings)
print(
    f"{sum(x.numel() for x in trainer.model.parameters()):,} parameters on {trainer.world.device.type}, {STEPS} steps"
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
live, started, said = display(fig, display_id=True), time.time(), io.StringIO()


def read_log():
    return [
        json.loads(line)
        for line in (Path(folder.name) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


for look in range(1, LOOKS + 1):
    with redirect_stdout(said), redirect_stderr(said):  # its progress bar would fill this page
        mine = trainer.train(until=STEPS * look // LOOKS)
    lines = read_log()
    for ax, name, colour in zip(axes, ("text", "audio"), ("text", "target"), strict=True):
        ax.clear()
        look = {"color": plotting.COLOURS[colour], "linewidth": 0.6, "label": "training, each step"}
        ax.plot([x["step"] for x in lines], [x[name] for x in lines], **look)
        held = [(x["step"], x[f"held_out_{name}"]) for x in lines if f"held_out_{name}" in x]
        ax.plot(*zip(*held, strict=True), "o--", color="black", markersize=3, label="held out")
        ax.set(xlabel="step", title=f"{name}, nats per token", ylim=(0, None))
        ax.legend()
    live.update(fig)
plt.close(fig)
print(f"{STEPS} steps in {(time.time() - started) / 60:.1f} minutes")

# %% [markdown]
# Here is what it answered to two held-out prompts along the way (question, reply, lengths of its spans):

# %%
samples = [(x["step"], x["sample"].splitlines()) for x in lines if "sample" in x]
for i in sorted({0, len(samples) // 2, len(samples) - 1}):
    step, answers = samples[i]
    print(f"step {step}", *answers, sep="\n    ")

# %% [markdown]
# ## 8. The curves
#
# Everything in the log, drawn by `plotting.draw_curves` (which takes the lines of any run's `log.jsonl`).

# %%
fig = plotting.draw_curves(lines)
fig.set_size_inches(7, 4.6)
fig.savefig(picture := io.BytesIO(), dpi=150)
display(Image(data=picture.getvalue()))

# %% [markdown]
# Read them together with these reference figures.

# %%
begin, last = lines[0], [x for x in lines if "held_out_text" in x][-1]
print(
    f"audio at the start  {begin['audio']:.2f} nats a slot (one step's draw; exercise 2 asks what knowing nothing costs)"
)
print(f"text at the start   {begin['text']:.2f} nats a token; knowing nothing costs", end=" ")
print(f"log({len(v.text_choices())}) = {math.log(len(v.text_choices())):.2f}")
print(f"held out at the end: text {last['held_out_text']:.3f}, audio {last['held_out_audio']:.3f}")
print(f"audio by share of the block that is masked: {last['held_out_audio_25']:.2f} (a quarter),", end=" ")
print(f"{last['held_out_audio_50']:.2f} (half), {last['held_out_audio_100']:.2f} (all)")

# %% [markdown]
# - **Text falls fast, then slowly.** In the first hundred steps it learns what texts look like, both words and
#   equations: the early sample above has good grammar and a wrong sum. From then on the words have to be *heard*, and
#   the held-out loss sinks slowly towards zero, because the answers are determined. There is no plateau between the two
#   phases, and no step stands out as the one where hearing began; the samples show that better than the loss.
# - **Audio never reaches zero**, and must not. Which of four voices speaks is not given (at most 2 bits per reply), and
#   neither are its speed and its noise. Part of the loss left at the end is due to that and can never go away. Your run
#   cannot say how much: the shipped talker, trained ten times as long, gets below 1 (next picture). Compare the three
#   shares: the more of a block is visible, the less surprising the rest is. Denoising in several steps exploits that
#   difference.
# - **The training curve is noisy, the held-out one is not**: each step draws different records and different masks,
#   while the held-out batches and their noise never change.
# - **The gradient's norm** is above its bound of 1 most of the time: clipping is active at nearly every step.
#
# The shipped talker was trained on the same task families and others, for ten times as many steps. Its log is in
# `data_samples`. Both axes are logarithmic here, so that the small differences at the end can be seen:

# %%
TICKS = {"text": (0.03, 0.1, 0.3, 1, 3), "audio": (1, 2, 4)}  # nats
phases = [
    json.loads(x)
    for x in (root / "data_samples" / "logs" / "talker.jsonl").read_text(encoding="utf-8").splitlines()
]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for ax, name, colour in zip(axes, ("text", "audio"), ("text", "target"), strict=True):
    base, points = 0, []
    for before, x in zip([phases[0], *phases], phases, strict=False):
        base += before["step"] if x.get("phase", 1) != before.get("phase", 1) else 0
        points += [(base + x["step"], x[f"held_out_{name}"])] if f"held_out_{name}" in x else []
    ax.plot(*zip(*points, strict=True), "s--", color="#404040", markersize=3, label="the shipped talker")
    held = [(x["step"], x[f"held_out_{name}"]) for x in lines if f"held_out_{name}" in x]
    ax.plot(*zip(*held, strict=True), "o-", color=plotting.COLOURS[colour], markersize=3, label="yours")
    ax.set(xlabel="step", title=f"{name}, held out, nats per token", xscale="log", yscale="log")
    ax.set_yticks(TICKS[name], [f"{nats:g}" for nats in TICKS[name]])
    ax.yaxis.set_minor_formatter("")
    ax.legend()
plt.show()

# %% [markdown]
# The two are not quite comparable: the shipped one is tested on all six families, yours on three. So do not conclude
# from the left picture that yours writes better; section 10 asks both the same questions.
#
# ## 9. Listen
#
# Questions from the held-out split, heard as audio tokens and answered in text and speech: your talker next to the
# shipped one.

# %%
from minittt.decoding import Settings
from minittt.evaluation.evaluate import Evaluation, family
from minittt.unmasking import Sampling

how = Settings(
    block_size=8,
    steps=8,
    text_sampling=Sampling(0.0),
    audio_sampling=Sampling(0.5),
    max_text=24,
    max_span=80,
    max_spans=4,
)
asked = family(corpus, "renditions", "qa", 6)
prompts = [
    [[p if isinstance(p, str) else corpus.audio(p).tolist() for p in m] for m in r["messages"][:-1]]
    for r in asked
]
speak = [["system", "speak"], ["user", "two plus three equals five"]]
replies = {
    name: talker.converse([speak, *prompts], how) for name, talker in (("yours", mine), ("shipped", shipped))
}
for i, r in enumerate(asked, 1):
    question = corpus.utterances[r["messages"][-2][1]]["text"]
    print(f"{question:28} yours: {replies['yours'][i].text:34} shipped: {replies['shipped'][i].text}")


# %%
def play(waves, seconds=3):
    wave = np.concatenate([*waves, np.zeros(800)])[: 8000 * seconds]
    display(Audio(np.clip(wave, -1, 1), rate=8000, normalize=False))  # silence cannot be normalised


for name, talker in (("yours", mine), ("shipped", shipped)):
    reply = replies[name][0]
    print(f"{name}: 'two plus three equals five' to speak, {[len(s) for s in reply.spans]} audio tokens")
    play([talker.sound(codec, span) for span in reply.spans if span])

# %% [markdown]
# And one whole answer of your talker to a spoken question, with the question first.

# %%
question = shipped.sound(codec, prompts[0][-1][1])
spoken = [mine.sound(codec, span) for span in replies["yours"][1].spans if span]
print(f"answer: {replies['yours'][1].text!r}")
play([question, np.zeros(1600), *spoken])

# %% [markdown]
# ## 10. A small measurement
#
# The referee, a recogniser trained separately from any talker, transcribes what is said. There are only a few dozen
# items; the brackets are 95 % bootstrap intervals. The referee's figure for the *true* tokens is the ceiling.

# %%
referee, few = Referee.load(root / "data_samples" / "referee.safetensors"), 6 if FAST else 60
with redirect_stderr(io.StringIO()):
    for name, talker in (("yours", mine), ("shipped", shipped)):
        judged = Evaluation(talker, corpus, codec, referee, "renditions", how)
        judged.questions(few)
        judged.speech(few)
        print(name, *[s for s in judged.scores if "right" in s.name or "recognised" in s.name], sep="\n  ")

# %%
folder.cleanup()

# %% [markdown]
# To train longer: `make train`, or `minittt train -o runs/mine --preset exact --steps 12000`; kill it whenever you
# like, and `--resume` continues bit for bit. On several GPUs: `torchrun --nproc-per-node 2 -m minittt train ...`.
#
# ## Exercises
#
# The checks accept a right answer in any form: Python, numpy or torch numbers, tensors, arrays or lists.


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
# **1. Fill in.** The text half of the loss. You get the `logits` (L, V) of one sequence, its `ids` (L,), and `targets`
# (L,) bool, which marks the tokens to be predicted. Return the mean of $-\log p$ over the targets, where $p$ is a
# softmax over all V ids (the check's ids are not those of text, so do not restrict the softmax). Position 0 is never a
# target.


# %% tags=["exercise-1"]
def text_loss(logits, ids, targets): ...  # -> ()


# %% tags=["check-1"]
def check_text_loss():
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits, ids = torch.randn(9, 5, generator=g).double(), torch.randint(5, (9,), generator=g)
        targets = torch.rand(9, generator=g) < 0.5
        targets[0], targets[3] = False, True
        got = text_loss(logits, ids, targets)
        if got is None or got is ...:
            return "not answered yet"
        nats = {
            s: [-logits[i + s].log_softmax(-1)[ids[i]] for i in range(1, 9) if targets[i]] for s in (-1, 0)
        }
        aligned, right = (float(sum(nats[s]) / len(nats[s])) for s in (0, -1))
        got = one_number(got, "one number is asked for: the mean over the targets")
        close = partial(math.isclose, rel_tol=1e-4)
        assert not close(got, -right), "wrong sign: a surprise, -log p, is never below zero"
        assert not close(got, aligned), (
            "that reads token i at i; a causal position i has already seen token i"
        )
        assert len(nats[0]) == 1 or not close(got, right * len(nats[0])), (
            "that is the sum; the loss is a mean over the targets"
        )
        assert not close(got, right * len(nats[0]) / 9), (
            "divided by the length of the sequence; the mean is over the targets alone"
        )
        assert not close(got, right / math.log(2)), "right but for the unit: nats, not bits"
        assert close(got, right), (
            f"{got:.3f} is not {right:.3f}: which tokens are predicted, where are they read, and what is divided by what?"
        )
    return "right"


print("exercise 1:", check_text_loss())

# %% [markdown]
# **2. Predict**, before you look at the curves again. The logits of a fresh network are nearly all equal. What is its
# audio loss under `exact`, in nats per slot, averaged over the noise? Think of the weights `n / k`, and of what the
# softmax runs over.

# %% tags=["exercise-2"]
audio_at_start = None

# %% tags=["check-2"]
if audio_at_start is None:
    print("exercise 2: not answered yet")
else:
    guess = one_number(audio_at_start)
    with torch.no_grad():
        draws = [
            unified_loss(tiny, batch, v, preset("exact"), torch.Generator().manual_seed(s))
            for s in range(200)
        ]
    found = float(sum(loss.audio for loss in draws) / len(draws))
    assert abs(guess - math.log2(len(v.audio_choices()))) > 0.01, "right but for the unit: nats, not bits"
    assert abs(guess - math.log(v.size)) > 0.02, (
        "the softmax is not over all ids: which may an audio slot hold?"
    )
    assert guess > found - 0.1, (
        "too low: n/k is there so that few masks count for all slots; what is left of it?"
    )
    assert guess < found + 0.1, (
        "too high: the mean is over all slots, masked or not; what does n/k do on average? (and in nats, not bits)"
    )
    assert abs(guess - math.log(len(v.audio_choices()))) < 0.001, (
        "near: how many codes are there, and what else may an audio slot hold? (three digits)"
    )
    print("exercise 2: right")

# %% [markdown]
# **3. Extend.** `unified_loss` takes any `Noise`. The k-subset noise trains all orders. Write the noise that trains and
# measures only the order **left to right** inside a block. You get `segments` (1, L) with one block of `n` slots (the
# slots where it is 0 or more), and `k` in 1..n. Return `masked` (1, L) bool and `weight` (1, L) such that the audio
# loss *summed* over the slots (`audio_sum`), averaged over k = 1..n, is $-\log p$ of revealing the slots one by one
# from the left.


# %% tags=["exercise-3"]
def left_to_right_noise(segments, k): ...  # -> masked (1, L) bool, weight (1, L) float


# %% tags=["check-3"]
def check_left_to_right_noise():
    segments, block, total = torch.where(first, 0, -1), batch.ids[first], 0.0
    for k in range(1, 5):
        answer = left_to_right_noise(segments, k)
        if answer is None or answer is ...:
            return "not answered yet"
        pair = isinstance(answer, (tuple, list)) and len(answer) == 2
        assert pair, "return two things: masked and weight"
        try:
            masked, weight = map(torch.as_tensor, answer)
        except (TypeError, ValueError, RuntimeError):
            raise AssertionError("masked and weight are tensors, arrays or lists of numbers") from None
        assert masked.shape == weight.shape == segments.shape, (
            "masked and weight have the shape of segments, (1, L): a value for every token, not the numbers of slots"
        )
        assert ((masked == 0) | (masked == 1)).all(), (
            "masked is True or False for every token (have masked and weight changed places?)"
        )
        masked = masked.bool()
        assert not masked[~first].any(), (
            "only slots of the block may be masked: those where segments is 0 or more"
        )
        hidden = masked[first].tolist()
        assert sum(hidden) == k, f"for k = {k} mask k slots, not {sum(hidden)}: what is not revealed yet"
        assert hidden == sorted(hidden), (
            "revealing goes from the left, so what is still masked lies on the right"
        )
        noise = Noise(masked, weight.double(), segments)
        with torch.no_grad():
            total += unified_loss(tiny, batch, v, preset("exact"), None, noise).audio_sum / 4
    truth, state = 0.0, torch.full_like(block, v.mask)
    for i in range(4):
        truth -= draft_logits(state)[i].log_softmax(-1)[block[i] - v.first_code]
        state[i] = block[i]
    assert torch.isclose(total, truth, rtol=1e-5), (
        f"the average is {total:.3f}, -log p is {truth:.3f}: only the slot revealed next counts, and it is one k of n"
    )
    return "right"


print("exercise 3:", check_left_to_right_noise())

# %% [markdown]
# ## What you now know
#
# - One row holds both tasks: text is read one place earlier, masked audio at its own place, and two means are added.
# - In two streams, text follows finished audio, as in decoding; in one stream, BANOM, PPM and SST soften the
#   difference.
# - Averaged over its noise, the loss is a bound on $-\log p$ of exactly what the decoder samples.
# - The text loss can go to zero where answers are determined; the audio loss cannot, because the voice is free.
# - A loss does not say whether speech can be understood. Ask a recogniser, give an interval, and listen.
#
# **Next**: [notebook 06](06_does_it_hold.ipynb), where claims about all this are put to the test. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/05_train_a_tiny_talker.py).
