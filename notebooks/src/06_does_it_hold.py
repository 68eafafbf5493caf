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
# # 06 · Does it hold?
#
# A new way of training is better, says a paper. One run of each will always show *some* difference; to tell whether it
# is more than luck, you need several seeds, an interval, and a rule fixed in advance. Here you turn nine claims about
# Text-to-Talk into verdicts, from forty runs of four minutes each. At this scale the paper's recipe answers far more
# spoken questions correctly than one that denoises everything (49 points, interval 45 to 53), but what it says is
# harder to understand than speech generated from left to right (20 points fewer words, interval 12 to 29).
#
# After this notebook you can
#
# - turn a claim into a difference that a measurement can refute, and read off a verdict from a few seeds: *holds*, *does
#   not hold*, *cannot be told*;
# - distinguish what is better at equal time from what is better at equal data, and find the ways of decoding that no
#   other beats;
# - redo a run of the grid and see that it matches its JSON.
#
# Level: intermediate. Prerequisites: notebooks [04](04_block_decoding.ipynb) and [05](05_train_a_tiny_talker.ipynb), a
# mean and a standard deviation. Reading time 60 minutes, run time about two minutes on one CPU core; GPU: not measured.
# The module is `benchmarks/claims.py`, with `ablations.py`, `sweep.py` and `premise.py`, which produced the JSONs; the
# chapter is [tutorials/06_does_it_hold.md](../tutorials/06_does_it_hold.md), and all figures are in
# [results.md](../tutorials/results.md).

# %% tags=["needed"]
import sys
from pathlib import Path

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())
sys.path[:0] = [str(root), str(root / "benchmarks")]

import json
import math
import os
import statistics
import tempfile
import textwrap

import claims
import matplotlib.pyplot as plt
import numpy as np
import torch

from minittt.app import plotting

FAST = os.environ.get("MINITTT_FAST") == "1"
torch.set_num_threads(1)  # as the grid's runs
plt.rcParams.update(plotting.STYLE)
plt.rcParams.update({"figure.dpi": 150, "legend.fontsize": 9})
scores = root / "data_samples" / "scores"

# %% [markdown]
# ## 1. The grid
#
# A claim such as "text left to right with audio by diffusion beats everything left to right" is about two ways of
# training. So both are trained with the same records in the same order, the same number of parameters and the same
# time, and then again with other seeds, because one run is an anecdote. All rows of a seed start from one network, its
# *base*, which has learned to hear and to write but has never spoken, much as the paper's rows start from a language
# model. Eight ways of continuing are compared. Each run left a JSON with its settings, its curve, its scores, and the
# machine and commit that produced it.
#
# Before you read them, note the following. A third to a half of the four minutes is warm-up. Text is decoded greedily,
# audio in blocks of 8 (of 1 for `ar`), one slot per step, at temperature .5. All seeds are asked the same sixty
# questions. A spoken answer counts only where its text is right. A reply with unrelated words still scores .04 of the
# words, not 0. [How to read this](../tutorials/results.md) has the details.

# %% tags=["needed"]
runs = {
    (run["row"], run["seed"]): run
    for path in sorted((scores / "ablations").glob("*.json"))
    for run in [json.loads(path.read_text(encoding="utf-8"))]
}

# %%
WHAT = {
    "exact": "two streams: every block is predicted after a clean prefix",
    "paper": "one stream, a span is one group; BANOM, PPM, SST",
    "ar": "everything left to right, audio in blocks of one",
    "nar": "everything by denoising, text too",
    "mended": "paper with its three mistakes mended",
    "paper-banom": "paper without BANOM (whole batches left clean)",
    "paper-ppm": "paper without PPM (earlier spans left clean)",
    "paper-sst": "paper without SST (the last span cut)",
}
ROWS = list(WHAT)
SEEDS = sorted({seed for _, seed in runs})
for row, what in WHAT.items():
    last = [runs[row, seed]["curve"][-1] for seed in SEEDS]
    seen = sum(point["records"] for point in last) / len(last)
    print(f"{row:12} seeds {SEEDS}, {seen:>7,.0f} records seen   {what}")
one = runs["exact", 0]
print()
print(
    f"{one['budget']['base_seconds']:g} seconds for each base, then {one['budget']['seconds']:g} for each run,",
    end=" ",
)
print(f"{one['machine']}, commits {', '.join(sorted({run['commit'] for run in runs.values()}))}")
print(f"{one['parameters']:,} parameters; {one['training_records']:,} training records")

# %% [markdown]
# Time is processor time, and a step costs more in one row than in another, so in equal time the rows see different
# numbers of records. Hence there are two comparisons: at **equal time**, and at **equal data**, that is, after the same
# number of records. The curves show nats per token of held-out text (answers, and sentences heard): the mean of five
# seeds, and a band from the lowest seed to the highest.

# %%
from results import LINES, PANELS


def at(runs_of_row, by, where):
    """Nats of text of each seed, interpolated: (seeds, len(where))."""
    curves = [sorted((point[by], point["text"]) for point in run["curve"]) for run in runs_of_row]
    return np.array([np.interp(where, *zip(*curve, strict=True)) for curve in curves])


# %%
DASHES = {"exact": "-", "paper": "-.", "ar": "--", "nar": ":"}  # apart without colour
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained", sharey=True)
for ax, by in zip(axes, ("seconds", "records"), strict=True):
    for row in PANELS[0]:
        colour, style = LINES[row][0], DASHES[row]
        mine = [runs[row, seed] for seed in SEEDS]
        end = min(run["curve"][-1][by] for run in mine)
        start = max(run["curve"][0][by] for run in mine)
        where = np.linspace(start, end, 50)
        nats = at(mine, by, where)
        ax.plot(where, nats.mean(0), color=colour, linestyle=style, label=row)
        ax.fill_between(where, nats.min(0), nats.max(0), color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel=f"{by} of training", yscale="log")
axes[0].set(ylabel="nats per token of text")
axes[0].set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"], minor=False)
axes[0].minorticks_off()
axes[1].legend(handlelength=4)
plt.show()

# %% [markdown]
# ## 2. From runs to a verdict, by hand
#
# Take one claim and one measure. For every seed there is one run of each row, so there are as many *differences* as
# seeds. Whatever a seed does to both rows equally (an easy order of records, lucky initial weights) cancels in the
# difference. (This need not help: in 11 of the 18 comparisons below the paired interval is the wider one.) About the
# differences $d_1 \dots d_n$ we ask: could their true mean be zero?
#
# $$\bar d \pm t_{n-1} \frac{s}{\sqrt n}, \qquad s^2 = \frac{1}{n-1} \sum_i (d_i - \bar d)^2$$
#
# With three seeds $t_2 = 4.303$, with five $t_4 = 2.776$, not 1.96: so few values give only a rough idea of the spread
# itself, and Student's quantile allows for that. If the interval is entirely on one side of zero there is a verdict;
# otherwise it *cannot be told*.

# %% tags=["needed"]
claim = claims.CLAIMS[1]  # AR text with NAR audio beats NAR alone
measure = next(m for m in claims.MEASURES if m.headline)

# %%
print(f"claim: {claim.text}\nrows: {claim.ours} less {claim.theirs}\nmeasure: {measure.name}\n")
values = {row: [measure.of(runs[row, seed]) for seed in SEEDS] for row in (claim.ours, claim.theirs)}
for row, found in values.items():
    print(f"{row:6}", *(f"{value:.3f}" for value in found))
d = [a - b for a, b in zip(*values.values(), strict=True)]
n, centre = len(d), statistics.mean(d)
half = claims.STUDENT[n - 2] * statistics.stdev(d) / math.sqrt(n)
print("less  ", *(f"{x:+.3f}" for x in d))
print(f"mean {centre:+.3f}, 95 % interval [{centre - half:+.3f}, {centre + half:+.3f}]")

shipped = claims.difference(runs, claim, measure)
assert np.allclose((shipped.mean, shipped.low, shipped.high), (centre, centre - half, centre + half))
print(f"benchmarks/claims.py: {shipped}, {shipped.verdict}")

# %% [markdown]
# You can test that 95 % means what it says: draw three differences from a world whose mean is known, and see how often
# the interval contains it. With 1.96 in place of 4.303 it would do so far less often.

# %%
rng = np.random.default_rng(0)
worlds = rng.normal(0.3, 0.1, (20_000, 3))
s, m = worlds.std(1, ddof=1), worlds.mean(1)
for name, t in (("Student, 4.303", claims.STUDENT[1]), ("normal, 1.96", 1.96)):
    held = (np.abs(m - 0.3) <= t * s / math.sqrt(3)).mean()
    print(f"{name:15} the interval of three seeds holds the truth {held:.1%} of the time")

# %% [markdown]
# ## 3. Every claim
#
# A thick bar is the 95 % interval of the mean difference, black if it is entirely on one side of zero and grey if not;
# the short strokes above it are the individual seeds. To the right of zero, the claim's first row is better. Two
# measures decide: are the answers to spoken questions right, and can the speech be understood? Both are shares, so +0.1
# is ten points.

# %%
heads = [m for m in claims.MEASURES if m.headline]
SIGN = {claims.HOLDS: "holds", claims.FAILS: "does not hold", claims.UNTOLD: "cannot be told"}
fig, axes = plt.subplots(1, 2, figsize=(8.2, 4.6), layout="constrained", sharey=True)
PANELS_OF_CLAIMS = (("spoken question, text right", 0.7), ("TTS, words recognised", 0.35))
for ax, head, (title, reach) in zip(axes, heads, PANELS_OF_CLAIMS, strict=True):
    for y, claim_ in enumerate(claims.CLAIMS):
        found = claims.difference(runs, claim_, head)
        dots = [head.of(runs[claim_.ours, i]) - head.of(runs[claim_.theirs, i]) for i in SEEDS]
        shade = "#A0A0A0" if found.verdict == claims.UNTOLD else "black"
        ax.plot([found.low, found.high], [y, y], color=shade, linewidth=5, solid_capstyle="butt")
        ax.plot(found.mean, y, "D", color="white", markeredgecolor="black", markersize=5)
        ax.plot(dots, [y - 0.28] * len(dots), "|", color="black", markersize=6)
        ax.text(1.02, y, SIGN[found.verdict], transform=ax.get_yaxis_transform(), va="center")
    ax.axvline(0, color="#404040", linewidth=0.8)
    ax.set(title=title, xlabel="difference", ylim=(len(claims.CLAIMS) - 0.5, -0.6), xlim=(-reach, reach))
axes[0].set_yticks(range(len(claims.CLAIMS)), [f"{c.ours} less {c.theirs}" for c in claims.CLAIMS])
for mark, look in (("a verdict", {"color": "black"}), ("cannot be told", {"color": "#A0A0A0"})):
    axes[0].plot([], [], linewidth=5, label=f"95 % interval, {mark}", **look)
axes[0].plot([], [], "D", color="white", markeredgecolor="black", markersize=5, label="mean")
axes[0].plot([], [], "|", color="black", label=f"one of {len(SEEDS)} seeds")
fig.legend(loc="outside lower center", ncol=4)
plt.show()

# %%
for claim_ in claims.CLAIMS:
    said = claims.sentence(claim_, [claims.difference(runs, claim_, m) for m in claims.MEASURES])
    print(textwrap.fill(("" if claim_.of_the_paper else "(ours) ") + said.replace("**", ""), 110))

# %% [markdown]
# These are many intervals, and nothing corrects for their number; exercise 2 asks what that costs. (With Holm's
# correction, four of the eight differences remain: see chapter 6.) And the "does not hold" for BANOM reflects its cost:
# it is meant for text after clean audio, and all rows start from a network that already writes such text. We took one
# more liberty: three seeds were planned, and two were added after the results of those three had been read. What did
# the two decide?

# %%
first = {key: run for key, run in runs.items() if key[1] < 3}
print(f"{'':28} {'seeds 0, 1, 2':32} all seeds")
for claim_ in claims.CLAIMS:
    words = (
        claims.verdict([claims.difference(these, claim_, m) for m in claims.MEASURES])
        for these in (first, runs)
    )
    print(f"{f'{claim_.ours} less {claim_.theirs}':28}", *(f"{word:32}" for word in words))

# %% [markdown]
# No verdict was reversed; some that could not be told now can.
#
# ## 4. Does the order last?
#
# In speech, the largest differences are those against `ar`, which is ahead. One question can be put to `exact` and `ar`
# alike: how likely is true audio *left to right*, in blocks of one? For `ar` this is all there is; for `exact` it is
# one of four block sizes. Nothing is drawn at random, so it is $-\log p$ itself, not a bound. And since four minutes
# are short, some seeds of both were trained from the same bases for three times as long.


# %%
def value(run, name, split="renditions", way="drawn", when="equal_time"):
    """One score of a run."""
    return next(s["value"] for s in run["scores"][when][split][way] if s["name"] == name)


longer = {
    (run["row"], run["seed"]): run
    for path in sorted((scores / "ablations_long").glob("*.json"))
    for run in [json.loads(path.read_text(encoding="utf-8"))]
}
LONGER_SEEDS = sorted({seed for _, seed in longer})

# %%
fig, ax = plt.subplots(figsize=(5.4, 2.8), layout="constrained")
for row in ("exact", "ar"):
    for seed in LONGER_SEEDS:
        points = sorted((p["records"], p["audio_left_to_right"]) for p in longer[row, seed]["curve"])
        label = None if seed else f"{row}, {len(LONGER_SEEDS)} seeds"
        ax.plot(*zip(*points, strict=True), DASHES[row], color=LINES[row][0], label=label)
ax.set(xlabel="records of training", ylabel="audio, nats per token", yscale="log")
ax.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
ax.minorticks_off()
ax.legend()
plt.show()

# %%
print("TTS, words recognised, each seed")
for which, when in (
    (runs, "equal_data"),
    (runs, "equal_time"),
    (longer, "equal_data"),
    (longer, "equal_time"),
):
    budget = which["exact", 0]["budget"]
    after = (
        f"{budget['equal_records']:,} records" if when == "equal_data" else f"{budget['seconds']:g} seconds"
    )
    for row in ("exact", "ar"):
        of_row = [which[row, i] for i in SEEDS if (row, i) in which]
        words = " ".join(f"{value(run, 'TTS: words recognised', when=when):.2f}" for run in of_row)
        print(f"{after:16} {row:6} {words}")

# %% [markdown]
# The order lasts. In nats the gap shrinks: 0.7 per code after four minutes, less than 0.4 after twelve. Read across
# instead of down: `ar` was after 14,000 records where `exact` is after 25,000. Filling in needed nearly twice as much
# training as left to right. In words the gap does not shrink: .13 after four minutes, .17 after twelve. The written
# answers are right equally often. Three seeds are enough for the sign, not for a law.
#
# ## 5. What a mean hides: where spans end
#
# In `paper` the end token is always the last slot that training shows, so on a canvas of whole blocks a span seems to
# end where a block ends ([04](04_block_decoding.ipynb), section 7). If the lengths were right, one span in eight would
# do so by chance.

# %%
print("TTS, each seed     spans that end on a block end    length against the true one")
for row in ("paper", "mended", "exact"):
    ends, lengths = (
        " ".join(f"{value(runs[row, i], f'TTS: {name}'):.2f}" for i in SEEDS)
        for name in ("spans that end on a block end", "length against true")
    )
    print(f"{row:18} {ends:32} {lengths}")

# %% [markdown]
# ## 6. Quality against forwards
#
# Training is over. The shipped talker is decoded in 165 ways, which differ in block size, steps, policy and
# temperature. A way is worth having if no other gives as much for fewer forward passes, or more for the same number.
# Those ways form the *Pareto front*.

# %% tags=["needed"]
sweep = json.loads((scores / "sweep.json").read_text(encoding="utf-8"))["rows"]
QUALITIES = ("text right", "words recognised", "voice coherence")


def cost_and_quality(row, quality):
    return row["forwards per token"]["value"], row[quality]["value"]


# %%
import sweep as shipped_sweep  # noqa: E402


def pareto(rows, quality):
    """Places of the rows that nothing beats: from the cheapest on, each that is better than all before."""
    points = [cost_and_quality(row, quality) for row in rows]
    kept, best = [], -math.inf
    for i in sorted(range(len(rows)), key=lambda i: (points[i][0], -points[i][1])):
        tie = kept and points[i] == points[kept[-1]]
        if points[i][1] > best or tie:
            kept, best = [*kept, i], points[i][1]
    return kept


for quality in QUALITIES:
    assert sorted(pareto(sweep, quality)) == shipped_sweep.front(sweep, quality)

# %%
LOOKS = {0.0: ("v", "black", "black"), 0.5: ("s", "#909090", "#909090"), 1.0: ("o", "white", "black")}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.8), layout="constrained", sharey=True)
for ax, quality in zip(axes, QUALITIES, strict=True):
    for temperature, (mark, face, edge) in LOOKS.items():
        points = [cost_and_quality(r, quality) for r in sweep if r["temperature"] == temperature]
        look = {"markersize": 4.5, "markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": 0.7}
        ax.plot(*zip(*points, strict=True), mark, label=f"temperature {temperature:g}", **look)
    front = [sweep[i] for i in pareto(sweep, quality)]
    x, y = zip(*(cost_and_quality(row, quality) for row in front), strict=True)
    bounds = np.array([[row[quality]["low"], row[quality]["high"]] for row in front]).T  # (2, N)
    reach = np.abs(bounds - np.array(y))
    ax.errorbar(x, y, reach, color="black", linewidth=1.4, elinewidth=0.7, capsize=2, label="front, 95 %")
    ax.set(title=quality, xlabel="forwards per audio token", xscale="log", ylim=(0.66, 1.01))
    ax.set_xticks([0.1, 0.25, 0.5, 1], ["0.1", "0.25", "0.5", "1"])
    ax.minorticks_off()
axes[0].set_ylabel("share")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=4)
plt.show()

# %% [markdown]
# Look at the three fronts. **Text** is flat: the question determines the answer, and the audio's steps have nothing to
# decide. **Words** need a few steps: half of one sound drawn together with half of another is neither. **Voice** is
# what steps are for: which of four voices speaks is open, and slots drawn together each choose for themselves. Here is
# one line of the sweep, random order at temperature 1:

# %%
plain = [r for r in sweep if r["policy"] == "random_order" and r["temperature"] == 1.0 and r["block"] == 16]
print("block 16      forwards/token   " + "   ".join(f"{q:>24}" for q in QUALITIES))
for r in plain:
    cells = [f"{r[q]['value']:.3f} [{r[q]['low']:.3f}, {r[q]['high']:.3f}]" for q in QUALITIES]
    print(
        f"{r['steps']:2} step(s)  {r['forwards per token']['value']:17.2f}   "
        + "   ".join(f"{c:>24}" for c in cells)
    )

# %% [markdown]
# A coherent voice is easy to get: always be the same speaker. So next to coherence we show how evenly the four voices
# occur, measured as the entropy of who is heard, which is 1 when all four are heard equally often. Does this talker
# cheat when it is greedy, and always speak in the most likely voice?

# %%
print("block 8, random order               voice coherence   voices even")
for r in sweep:
    if r["block"] == 8 and r["steps"] in (1, 8) and r["policy"] == "random_order":
        how = f"{r['steps']} step(s) a block, temperature {r['temperature']:g}"
        print(f"{how:36} {r['voice coherence']['value']:.3f} {r['voices even']:15.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# It does not. At temperature 0 the four voices occur nearly as evenly as at temperature 1: which voice the most likely
# codes belong to depends on what is said.
#
# </details>
#
# ## 7. The premise
#
# Text-to-Talk rests on this: text depends on the text before it, audio on what it is made from. A talker was trained to
# cope with parts of its context hidden (each in one record out of ten), so that hiding a part measures what it is
# worth, not how unfamiliar its absence is. These are the nats per token lost when a part is hidden:

# %%
trainings = [
    json.loads(path.read_text(encoding="utf-8")) for path in sorted((scores / "premise").glob("*.json"))
]
BARS = (
    ("text", "text\nits source", "text, its source hidden: lost"),
    ("text", "text\nits past", "text, its past hidden: lost"),
    ("target", "audio\nits source", "audio, its source hidden: lost"),
    ("target", "audio\nearlier blocks", "audio, its past hidden: lost"),
    ("target", "audio\nall its past", "audio, earlier blocks and all in the block hidden: lost"),
)
fig, ax = plt.subplots(figsize=(6.2, 3.0), layout="constrained")
for x, (kind, _, name) in enumerate(BARS):
    lost = [next(s["value"] for s in t["scores"]["all"] if s["name"] == name) for t in trainings]
    hatch = "///" if "source" in name else ""
    ax.bar(x, statistics.mean(lost), 0.7, color=plotting.COLOURS[kind], hatch=hatch, edgecolor="white")
    ax.plot([x + 0.42] * len(lost), lost, "_", color="black", markersize=7)
for kind, label in (("text", "text loses, mean"), ("target", "audio loses, mean")):
    ax.bar(0, 0, color=plotting.COLOURS[kind], label=label)
ax.bar(0, 0, color="#909090", hatch="///", edgecolor="white", label="the source is hidden")
ax.plot([], [], "_", color="black", label=f"one of {len(trainings)} trainings")
ax.set(ylabel="nats per token lost")
ax.set_xticks(range(len(BARS)), [label for _, label, _ in BARS])
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# Which of the two text depends on more cannot be told: the mean difference, +.04 [-.03, .11], mixes transcripts, which
# depend on their source (-1.19), with documents, which have none (+1.27). Audio loses more without its source than
# without the blocks before it, as the premise says. But it loses far more without *all* of its own past, including what
# is revealed inside the block. That is why one step per block is not enough, and why left to right is a strong rival
# for audio, too.
#
# These results come from the corpus, not the method: here an answer is computed from the question, and four voices
# speak two dozen words. In everyday speech, a text's own past would say more about it.
#
# ## 8. The sampler alone
#
# There is one more suspect: how slots are chosen. With an oracle in place of the network, every error is the sampler's
# doing. Here is the divergence from the truth, for six slots that share one of three voices:

# %%
study = json.loads((scores / "sampler_study.json").read_text(encoding="utf-8"))["rows"]
STYLES = {"random_order": ("o-", "#404040"), "left_to_right": ("s--", "#56B4E9"), "entropy_order": ("^:", "#CC79A7"),
          "confidence_released": ("v-.", "#D55E00")}  # fmt: skip
fig, ax = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
for policy, (style, colour) in STYLES.items():
    found = [r for r in study if r["world"] == "one voice" and r["policy"] == policy]
    x, y = [r["steps"] for r in found], [r["kl"] for r in found]
    ax.plot(x, y, style, color=colour, label=policy, markersize=6, fillstyle="none")
ax.set(xlabel="steps for six slots", ylabel="KL(truth, sampler), nats", xticks=range(1, 7), ylim=(-0.1, None))
ax.legend(loc="upper center", handlelength=4)
plt.show()

# %% [markdown]
# More steps improve every order that does not look at what was drawn, and one slot per step is exact. (Two of the
# curves, left to right and by entropy, coincide: the slots are all alike here, and ties go left.) The released rule
# commits the *most likely draws* first. It gains from a second step; from then on, more steps only give it more
# opportunities to prefer them, and at six steps it is further from the truth than at one.
#
# ## 9. Redo a run
#
# A JSON is credible only if it can be reproduced. Batches and noise are functions of the seed, so you can train the
# first seconds of a run here and plot them over its log. We redo the base of seed 0, which starts from scratch: it
# hears spoken questions and sentences, and writes.

# %%
import ablations  # noqa: E402
from timed_training import train_for  # noqa: E402

from minittt.data.corpus import load_corpus  # noqa: E402
from minittt.training.trainer import Trainer, TrainingSettings  # noqa: E402

bases = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((scores / "ablations" / "bases").glob("*.json"))
]
theirs, mine = bases[0], []
theirs["settings"].pop("schedule", None)  # every run against the clock has the one of `train_for`
how = TrainingSettings(**theirs["settings"])
corpus = ablations.fitting(ablations.hearing(load_corpus(root / "data_samples" / "corpus")), how.row_length)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(corpus, folder, how)
    for _ in train_for(trainer, 3 if FAST else 75, 1, None, mine):
        pass
print(f"{len(mine)} steps redone, {len(mine) * how.records:,} of {theirs['curve'][-1]['records']:,} records")

# %%
redone = {x["step"]: x["text"] for x in mine}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
left.plot(redone.keys(), redone.values(), color=plotting.COLOURS["text"], label="redone here, seed 0")
log = [x for x in bases[0]["log"] if x["step"] in redone]
left.plot([x["step"] for x in log], [x["text"] for x in log], "kD", markersize=4, label="the JSON, seed 0")
left.set(xlabel="step", ylabel="text, nats per token", ylim=(0, None))
left.legend()
for base, style in zip(bases, ("kD-", "ks--", "k^:"), strict=False):
    log = [x for x in base["log"] if x["step"] in redone]
    apart = [x["text"] - redone[x["step"]] for x in log]
    face = "black" if base["seed"] == 0 else "white"
    label = f"seed {base['seed']}"
    right.plot([x["step"] for x in log], apart, style, markersize=4, markerfacecolor=face, label=label)
right.set(xlabel="step", ylabel="the JSON less redone, nats")
right.legend(handlelength=4, ncol=3, columnspacing=1, loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()

# %%
same = {x["step"]: x["text"] for x in theirs["log"]}
both = [(x["text"], same[x["step"]]) for x in mine if x["step"] in same]
for x in [x for x in mine if x["step"] in same][:4]:
    print(f"step {x['step']:3}: {x['text']:.4f} here, {same[x['step']]:.4f} in the JSON")
assert math.isclose(*both[0], rel_tol=0.01)  # later steps part slowly where a processor rounds otherwise

# %% [markdown]
# Left: the diamonds are on the line, which means the same records and the same numbers. Right: how far each seed's JSON
# is from the run redone here. The other seeds differ almost from the start, because they have other initial weights and
# other records. This is what a seed changes; the intervals above say how much of it is left in a difference of two
# rows. Seed 0, the one redone, stays at zero for many steps, as long as two processors round almost identically. In the
# end a difference in the last digit has grown until it shows, and these two runs diverge as well.
#
# `python benchmarks/ablations.py --jobs 2` trains the whole grid in two and a half hours on two cores;
# `python benchmarks/results.py` then writes [results.md](../tutorials/results.md).
#
# ## Exercises
#
# The checks accept a number in any form: Python, numpy or a tensor.


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
# **1. Fill in.** The interval of a difference: `ours` and `theirs` are lists with one figure per seed, in the same
# order of seeds; `t` is Student's quantile for that number of seeds. Return `(mean, low, high)` of ours minus theirs.


# %% tags=["exercise-1"]
def paired_interval(ours, theirs, t): ...  # -> (mean, low, high)


# %% tags=["check-1"]
def check_paired_interval():
    for seed in range(20):
        g = np.random.default_rng(seed)
        n = int(g.integers(2, 7))
        t, luck = claims.STUDENT[n - 2], g.normal(0, 5, n)  # what a seed does to both rows
        a, b = (list(map(float, luck + g.normal(size=n))) for _ in range(2))
        answer = paired_interval(a, b, t)
        if answer is None or answer is ...:
            return "not answered yet"
        three = "return three numbers: (mean, low, high)"
        assert hasattr(answer, "__len__") and len(answer) == 3, three
        assert not isinstance(answer, (dict, set, str)), f"{three}, in this order"
        mean, low, high = (one_number(x, three) for x in answer)
        d = np.subtract(a, b)
        assert not math.isclose(mean, -d.mean(), abs_tol=1e-4), (
            "the sign: ours less theirs, not theirs less ours"
        )
        assert not math.isclose(low, d.mean(), abs_tol=1e-4), f"{three}: the mean comes first"
        assert math.isclose(mean, d.mean(), abs_tol=1e-4), "the mean of ours less theirs, seed by seed"
        assert low <= high, "low and high have changed places"
        assert math.isclose(mean - low, high - mean, abs_tol=1e-4), (
            "the interval reaches equally far to both sides"
        )
        half, s = high - mean, d.std(ddof=1)
        wider = math.sqrt(np.var(a, ddof=1) + np.var(b, ddof=1))
        assert not math.isclose(half, t * wider / math.sqrt(n), rel_tol=1e-4), (
            "that is the spread of each row by itself; the seed's luck, common to both, drops out of the differences"
        )
        assert not math.isclose(half, t * d.std() / math.sqrt(n), rel_tol=1e-4), (
            "of n differences only n - 1 are free once their mean is known: divide by n - 1"
        )
        assert not math.isclose(half, t * s, rel_tol=1e-4), (
            "that is how far one seed strays; a mean of n strays less, by the root of n"
        )
        assert not math.isclose(half, 1.96 * s / math.sqrt(n), rel_tol=1e-4), (
            "1.96 is for many seeds; from few the spread is known only roughly, and `t` pays for that"
        )
        assert math.isclose(half, t * s / math.sqrt(n), rel_tol=1e-4), (
            f"half the width is t s / sqrt(n) = {t * s / math.sqrt(n):.3f}, s the spread of the differences; got {half:.3f}"
        )
    return "right"


print("exercise 1:", check_paired_interval())

# %% [markdown]
# **2. Predict.** Nine claims are tested, each with two measures at 95 %. Suppose that in truth there is *no* difference
# anywhere, and that the eighteen intervals are independent. How likely is at least one verdict, *holds* or *does not
# hold*?

# %% tags=["exercise-2"]
at_least_one = None  # a probability

# %% tags=["check-2"]
if at_least_one is None:
    print("exercise 2: not answered yet")
else:
    null = np.random.default_rng(1).normal(size=(20_000, 18, 3))
    reach = claims.STUDENT[1] * null.std(2, ddof=1) / math.sqrt(3)
    told = np.abs(null.mean(2)) > reach  # (20000, 18): a verdict where there is nothing
    found = told.any(1).mean()
    mine = one_number(at_least_one)
    assert 0 <= mine <= 1, (
        "a probability lies between 0 and 1: expected numbers of verdicts can be added, chances not"
    )
    assert not math.isclose(mine, 0.95**18, abs_tol=0.005), (
        "that is the chance that all eighteen stay silent; what is asked for is the opposite"
    )
    assert mine > found - 0.02, (
        "too low: each of the eighteen has its own five in a hundred; what is the chance that none of them errs?"
    )
    assert mine < found + 0.02, (
        "too high: all eighteen stay silent with probability .95 to the power of what?"
    )
    print("exercise 2: right")

# %% [markdown]
# **3. Extend.** The curves offer two more ways to be fair: each point of `run["curve"]` also has `steps`, and `tokens`,
# which counts everything in the rows, including filler and noisy copies. Write a comparison at equal anything:
# `text_at(run, by, amount)` returns the nats of text when `point[by]` is `amount`, on the straight line between the two
# points around it, and `nan` where the run has no such points. Points may come in any order.


# %% tags=["exercise-3"]
def text_at(run, by, amount): ...  # -> nats per token of text


# %% tags=["check-3"]
def check_text_at():
    made = {"curve": [{"tokens": x, "text": y} for x, y in ((40, 0.5), (10, 2.0), (20, 1.0))]}
    answer = text_at(made, "tokens", 10)
    if answer is None or answer is ...:
        return "not answered yet"
    points = {amount: text_at(made, "tokens", amount) for amount in (10, 20, 25, 40)}
    nats = {x: one_number(told, f"one number is asked for, at {x} tokens") for x, told in points.items()}
    for amount, there in ((10, 2.0), (20, 1.0), (40, 0.5)):
        assert not math.isnan(nats[amount]), (
            f"{amount} tokens are a point of the curve, the first and the last included: that point's text (they "
            "are in any order: sort them)"
        )
        assert math.isclose(nats[amount], there, rel_tol=1e-5), (
            f"at {amount} tokens the text is {there}, not {nats[amount]:.3f} (the points are in any order: sort them)"
        )
    middle = nats[25]
    assert not math.isclose(middle, 1.0, rel_tol=1e-5), (
        "25 lies between 20 and 40: a quarter of the way, not at the nearer point"
    )
    assert math.isclose(middle, 0.875, rel_tol=1e-5), (
        f"a quarter of the way from 1.0 to 0.5 is 0.875, not {middle:.3f}: on the straight line between its two neighbours"
    )
    for amount in (5, 41):
        told = text_at(made, "tokens", amount)
        assert told is not None and math.isnan(one_number(told)), (
            f"the run has nothing to say of {amount} tokens: nan, so that nobody compares with a guess"
        )
    for run in runs.values():
        points = sorted((point["records"], point["text"]) for point in run["curve"])
        amount = (points[0][0] + points[-1][0]) / 2
        right = np.interp(amount, *zip(*points, strict=True))
        assert math.isclose(one_number(text_at(run, "records", amount)), right, rel_tol=1e-5), (
            "`by` names what is made equal: tokens, records, seconds"
        )
    return "right"


print("exercise 3:", check_text_at())

# %% [markdown]
# Then try it: which row has the lowest text loss at the number of `tokens` that every row has reached (the smallest of
# their last points)? Is it the one that wins at equal time? The solutions have the figures.
#
# ## What you now know
#
# - A claim is a difference between two ways of training, and a verdict needs an interval for it that excludes zero.
# - Runs are paired by seed: what a seed does to both ways cancels in the difference, and with few seeds you need
#   Student's t.
# - Equal time and equal data are two questions. Say which one you answer.
# - A mean can hide what matters, such as where spans end; and among many intervals on a page, there will be a false
#   one.
# - A figure that can be reproduced from its seed is worth more than one that can only be believed.
#
# **Next**: a question of your own, with one of the [small projects](../tutorials/projects.md); or
# [the map](../tutorials/map.md), and the module that you would change first. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/06_does_it_hold.py).
