# %% [markdown]
# # 01 Codec tokenisation: from a waveform to tokens and back
#
# A language model writes tokens from a list. Sound is thousands of numbers per second, and there is no such list for
# them. A codec bridges the gap: it represents every short stretch of sound by a number, and turns the numbers back into
# sound. Here you take one apart: 1.5 seconds of speech, 12,140 samples, become 38 tokens. You can still hear the words,
# and you can also hear what is lost.
#
# After this notebook you can
# - say what an audio token is: which stretch of sound it stands for, how it is found, and how many bits it takes;
# - build a residual quantiser by hand, and say why two small codebooks do the work of a huge one;
# - write the codes of several codebooks as one row of tokens, and hear what the tokens keep and what they lose.
#
# Level: first contact. Prerequisites: Python, a little PyTorch; no signal processing. Reading time 40 minutes, run time
# about ten seconds on one CPU core; GPU: not measured.
#
# It walks through `minittt/codec.py`; the maths and the frequently asked questions are in the chapter
# [tutorials/01_codec_tokenization.md](../tutorials/01_codec_tokenization.md).

# %% tags=["needed"]
import math
import sys
from pathlib import Path

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "minittt").is_dir())
sys.path.insert(0, str(root))

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio

from minittt.app.plotting import COLOURS, STYLE, draw_spectrogram, spectrogram
from minittt.codec import Codec, CodecConfig, CodecError, flatten, read_audio, unflatten

torch.manual_seed(0)
plt.rcParams.update({**STYLE, "figure.dpi": 150})


def draw_sound(ax, wave):
    """A spectrogram in 12 shades, from 48 dB below the loudest point: clear, and small enough to ship."""
    draw_spectrogram(ax, wave, rate)
    ax.images[0].set(clim=(-48, 0), cmap=plt.get_cmap("magma", 12))


# %% [markdown]
# ## 1. A waveform
#
# Sound is pressure over time, measured many times per second. `read_audio` reads any recording and converts it to the
# sample rate that the codec expects.

# %%
codec = Codec.load(root / "data_samples" / "codec.safetensors")
rate, hop = codec.config.sample_rate, codec.hop
speech = read_audio(root / "data_samples" / "wav" / "speech_1.wav", rate)
print(
    f"{len(speech)} samples, {rate} a second: {len(speech) / rate:.2f} s; at 16 bits each, {16 * rate / 1000:g} kbit/s"
)
Audio(speech, rate=rate)

# %%
fig, axes = plt.subplots(2, 1, figsize=(5.2, 3), sharex=True, layout="constrained")
axes[0].plot(np.arange(len(speech)) / rate, speech, color=COLOURS["source"], lw=0.5)
axes[0].set(ylabel="pressure", title="the same sound twice: as samples; as energy by frequency")
draw_sound(axes[1], speech)
bar = fig.colorbar(axes[1].images[0], ax=axes[1])
bar.set_label("dB")
plt.show()

# %% [markdown]
# A language model could not write this sample by sample: there are thousands of them per second, each nearly the same
# as the last. A **codec** (coder and decoder) shortens it in three steps: an *encoder* makes a few vectors per second,
# a *quantiser* replaces each vector with a number, and a *decoder* turns the vectors with these numbers back into
# sound.
#
# ## 2. Frames
#
# The encoder is a stack of convolutions, with one recurrent layer; each strided convolution shortens the signal by a
# factor. The product of the factors is the **hop**: the number of samples per vector. A waveform that does not fill its
# last frame is padded with zeros, so the number of frames is samples / hop, rounded up.

# %%
assert hop == math.prod(codec.config.ratios)
frames = math.ceil(len(speech) / hop)
wave = torch.from_numpy(speech)[None]  # (1, samples)
with torch.no_grad():
    latents = codec.latents(wave)  # (1, dimension, T)
assert latents.shape == (1, codec.config.dimension, frames)
print(
    f"ratios {codec.config.ratios}: hop {hop} samples = {1000 * hop / rate:g} ms, {codec.frame_rate:g} frames a second"
)
print(f"{len(speech)} samples -> {frames} latents of {codec.config.dimension} numbers")

# %%
first, n = 8, 6  # zoom in on a few frames
fig, ax = plt.subplots(figsize=(7, 1.8), layout="constrained")
piece = slice(first * hop, (first + n) * hop)
ax.plot(np.arange(piece.start, piece.stop) / hop, speech[piece], color=COLOURS["source"], lw=0.8)
for t in range(first, first + n + 1):
    ax.axvline(t, color=COLOURS["control"], lw=0.8, ls=":")
ax.set(xlabel="frame", ylabel="pressure", xticks=[t + 0.5 for t in range(first, first + n)])
ax.set_xticklabels(range(first, first + n))
ax.set_title(f"frames of {hop} samples")
plt.show()

# %% [markdown]
# ## 3. From a vector to a number
#
# The **codebook** is a table of vectors, learned in training. A latent is replaced by its *nearest* entry, and the
# number of that entry is the **code**. That is all a vector quantiser does when it encodes. Here it is by hand and as
# shipped:


# %% tags=["needed"]
def nearest(latents, codebook):
    """latents (d, T), codebook (size, d) -> the number of the nearest entry for each, (T,)."""
    return torch.cdist(latents.T, codebook).argmin(-1)


# %%
codebook = codec.quantizer.vq.layers[0]._codebook.embed  # (size, d)
codes = codec.encode(wave)  # (1, K, T)
by_hand = nearest(latents[0], codebook)
assert torch.equal(by_hand, codes[0, 0])
print(f"codebook {tuple(codebook.shape)}; codes {by_hand[:12].tolist()} ...")

# %%
fig, ax = plt.subplots(figsize=(6.2, 2.3), layout="constrained")
draw_sound(ax, speech)
shown = slice(8, 24)
for t in range(shown.start, shown.stop):
    ax.axvline(t * hop / rate, color="white", lw=0.5)
    ax.text((t + 0.5) * hop / rate, rate / 2000 * 1.03, int(codes[0, 0, t]), ha="center", fontsize=9)
ax.set_xlim(shown.start * hop / rate, shown.stop * hop / rate)
ax.set_title("a code for every frame", pad=14)
plt.show()

# %% [markdown]
# Is a code a function of its frame alone? Zero out one frame of the waveform, encode again, and see which codes change.
# The convolutions look to both sides, and the recurrent layer remembers what came before, so all the latents nearby
# change. A code changes only where a latent crosses the border of its cell: here at no later frame, but with `t = 12`
# also at 13 and 15.

# %%
wiped = wave.clone()
t = frames // 2
wiped[:, t * hop : (t + 1) * hop] = 0
changed = (codec.encode(wiped) != codes)[0].any(0)  # (T,)
fig, ax = plt.subplots(figsize=(7, 1.5), layout="constrained")
for is_changed, colour, hatch, label in (
    (True, COLOURS["target"], "///", "code changed"),
    (False, COLOURS["mask"], None, "code as before"),
):
    where = torch.nonzero(changed == is_changed)[:, 0].tolist()
    ax.bar(where, [1] * len(where), width=0.9, color=colour, hatch=hatch, label=label)
ax.plot([t], [1.2], "v", color=COLOURS["control"], clip_on=False, label="frame wiped out")
ax.set(yticks=[], xlabel="frame", ylim=(0, 1.35))
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
plt.show()
print(f"frame {t} wiped out; the codes of frames {torch.nonzero(changed)[:, 0].tolist()} changed")

# %% [markdown]
# ## 4. How many bits a code takes
#
# A code that is one of `size` numbers can be written with log2(size) bits. With n_q codebooks there are n_q codes per
# frame:
#
# bitrate = frames per second * n_q * log2(size)


# %% tags=["needed"]
def bitrate(config):
    """Bits per second of a codec's codes."""
    frames_per_second = config.sample_rate / math.prod(config.ratios)
    return frames_per_second * config.n_codebooks * math.log2(config.codebook_size)


# %%
meta = {"sample_rate": 24000, "ratios": (8, 5, 4, 2), "codebook_size": 1024}  # EnCodec's 24 kHz model
print("16-bit samples at 8 kHz        128000 bit/s")
for k in (2, 8, 32):
    print(f"EnCodec 24 kHz, {k:2} codebooks    {bitrate(CodecConfig(**meta, n_codebooks=k)):6.0f} bit/s")
print(f"the codec shipped here         {bitrate(codec.config):6.0f} bit/s")

# %% [markdown]
# Papers give EnCodec's settings in kbit/s ("1.5 kbps"), programs as a number of codebooks ("2"). This formula converts
# one into the other.
#
# Not all codes are equally frequent, so a code carries less than log2(size) bits. The **entropy** of their frequencies
# says how much it carries on average; 2 to that power, the **perplexity**, is the number of equally frequent codes that
# would carry as much. If the perplexity were far below the size, most of the codebook would hardly be used.

# %%
corpus = np.load(root / "data_samples" / "corpus" / "audio.npz", allow_pickle=False)["codes"]
share = np.bincount(corpus, minlength=codec.config.codebook_size) / len(corpus)
entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.bar(range(len(share)), 100 * np.sort(share)[::-1], width=1, color=COLOURS["target"])
ax.axhline(100 / len(share), color="k", ls="--", lw=0.9, label="if all were equally frequent")
ax.set(xlabel="codes, the most frequent first", ylabel="% of all")
ax.legend()
plt.show()
print(
    f"{len(corpus):,} codes of the corpus: {(share > 0).sum()} of {len(share)} occur, entropy {entropy:.2f} bits"
)
print(f"of {math.log2(len(share)):g}, perplexity {2**entropy:.0f}")

# %% [markdown]
# ## 5. What tokens keep, what they lose

# %%
decoded = codec.decode(codes)[0, : len(speech)]
Audio(decoded.numpy(), rate=rate)


# %% tags=["needed"]
def signal_to_noise(original, copy):
    """In dB: how much stronger the wave is than the difference of the two waves."""
    return 10 * math.log10((original**2).sum() / ((original - copy) ** 2).sum())


def spectral_distance(original, copy, rate):
    """Mean difference of the spectrograms, in dB."""
    return np.abs(spectrogram(original, rate) - spectrogram(copy, rate)).mean()


def wilson(hits, n, z=1.96):
    """The 95 % interval of a share, hits of n -> low, high."""
    middle = (hits + z * z / 2) / (n + z * z)
    half = z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return middle - half, middle + half


# %%
with torch.no_grad():
    unquantised = codec.decoder(latents)[0, 0, : len(speech)].numpy()
noise = np.random.default_rng(0).permutation(speech)  # the same samples in random order
for name, copy in (
    ("codes", decoded.numpy()),
    ("latents, not quantised", unquantised),
    ("samples shuffled", noise),
):
    print(
        f"{name:23} signal to noise {signal_to_noise(speech, copy):5.1f} dB,"
        f" spectral distance {spectral_distance(speech, copy, rate):4.1f} dB"
    )

# %%
fig, axes = plt.subplots(2, 1, figsize=(4.6, 3), sharex=True, layout="constrained")
for ax, sound, title in ((axes[0], speech, "original"), (axes[1], decoded.numpy(), "through the codec")):
    draw_sound(ax, sound)
    ax.set_title(title)
axes[0].set_xlabel("")
plt.show()

# %% [markdown]
# The waveform itself is lost: its difference from the original is at least as loud as the original (a signal-to-noise
# ratio around 0 dB or below). A codec that spends so few bits keeps *where the energy is*, not the exact course of the
# pressure; our ears need no more than that. Compare the pictures: the strong bands (formants), the pauses and the
# hisses are kept, and with them the words. The fine horizontal lines (harmonics, which carry the pitch) are smeared, so
# the voice sounds rough.
#
# Shuffled samples, which are mere noise, come closer to the waveform than the codec does: their difference from the
# original is smaller. By spectral distance they are about three times as far away. So the signal-to-noise ratio says
# nothing here; look at spectra.
#
# The line "not quantised" shows where the loss comes from: it skips the codebook altogether. If it is hardly better,
# the encoder and decoder are the bottleneck, not the number of codes.
#
# A codec knows what it was trained on. This one heard speech and a few beeps. Give it a chord of three notes. The
# picture shows the lowest 800 Hz, where the notes are: there are three horizontal lines before the codec. And after it?

# %%
seconds = np.arange(rate) / rate
tones = [np.sin(2 * np.pi * f * seconds) for f in (261.6, 329.6, 392.0)]  # C, E, G
chord = (0.25 * sum(tones) * np.hanning(rate)).astype(np.float32)
strange = codec.decode(codec.encode(torch.from_numpy(chord)[None]))[0, :rate].numpy()
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
for ax, sound in zip(axes, (chord, strange), strict=True):
    # windows of 128 ms, four times those of `spectrogram`: they tell notes 8 Hz apart, and time only roughly
    ax.specgram(sound + 1e-9, NFFT=1024, noverlap=896, Fs=rate, cmap="magma", vmin=-110, vmax=-30)
    ax.set(ylim=(0, 800), xlabel="seconds", ylabel="Hz")
axes[0].secondary_yaxis("right").set_yticks([261.6, 329.6, 392.0], ["C", "E", "G"])
axes[0].set_title("a chord")
axes[1].set(title="the chord through a codec for speech", ylabel="")
plt.show()
Audio(np.concatenate([chord, strange]), rate=rate)

# %% [markdown]
# The three notes are lost among many evenly spaced lines.
#
# And are tokens stable? Decode, encode the result again, and compare.

# %%
again = codec.encode(decoded[None])
same, n = int((again == codes).sum()), codes.numel()
low, high = wilson(same, n)
print(
    f"codes that come back after decoding and encoding again: {same} of {n}, {same / n:.0%} [{low:.0%}, {high:.0%}]"
)

# %% [markdown]
# (The brackets give Wilson's 95 % interval. It treats the codes of one short recording as if they were independent, so
# take it as a rough guide.) So two rows of codes can sound alike and yet differ in nearly half of their codes. Never
# judge generated speech by comparing codes with those of a recording; listen, or let a recogniser listen.
#
# ## 6. Residual codebooks
#
# How can a codec be more precise? One codebook with twice as many entries adds one bit, at the cost of a table twice as
# large. A **residual** quantiser (SoundStream, EnCodec) adds a second, small codebook for what the first got wrong, a
# third for what is still wrong, and so on. We build one by hand, in two dimensions, where you can see it.
#
# First the codebook itself, by **k-means**: assign every point to its nearest entry, move every entry to the mean of
# its points, repeat.


# %% tags=["needed"]
def k_means(points, size, rounds=30):
    """points (d, n) -> a codebook (size, d) of means."""
    entries = points.T[torch.randperm(points.shape[1])[:size]]  # (size, d)
    for _ in range(rounds):
        belongs = nearest(points, entries)  # (n,)
        for j in range(size):
            if (belongs == j).any():
                entries[j] = points[:, belongs == j].mean(1)
    return entries


# %%
torch.manual_seed(0)
angle = torch.rand(2000) * 2 * math.pi
points = torch.stack([angle.cos() * (1 + 0.3 * angle), angle.sin() * 1.5])  # (d, n)
points += 0.15 * torch.randn(2, 2000)
first = k_means(points, 8)
code_1 = nearest(points, first)  # (n,)
residual = points - first[code_1].T  # (d, n) what the first codebook got wrong
second = k_means(residual, 8)
code_2 = nearest(residual, second)
sum_of_both = first[code_1].T + second[code_2].T  # (d, n)

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 3), layout="constrained")
shades = plt.cm.cividis(torch.arange(8) / 7)
axes[0].scatter(*points, s=2, c=shades[code_1])
axes[0].plot(*first.T, "k+", ms=9, mew=2, label="entry")
axes[0].set_title("8 entries, and who is\nnearest to which")
axes[1].scatter(*residual, s=2, c=shades[code_2])
axes[1].plot(*second.T, "k+", ms=9, mew=2, label="entry")
axes[1].set_title("what is left over,\nand 8 entries for that")
axes[2].scatter(*points, s=2, color=COLOURS["mask"], label="point")
axes[2].plot(*sum_of_both.unique(dim=1), "k.", ms=4, label="place named")
axes[2].set_title("8 + 8 entries name\nup to 64 places")
for ax in axes:
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, handletextpad=0.2, columnspacing=0.8)
plt.show()

# %% [markdown]
# Eight entries plus eight entries: sixteen vectors to store, sixty-four points that can be named, 3 + 3 bits. A flat
# codebook of sixty-four entries spends the same 6 bits and is better placed, because its entries need not form eight
# copies of one pattern. But ten codebooks of 1024 entries can name 2 to the 100 points, and no flat table does that.


# %%
def error(approximation):
    return float((points - approximation).square().sum(0).mean())


flat = k_means(points, 64)
print(f"one codebook of 8    3 bits  error {error(first[code_1].T):.4f}")
print(
    f"8, then 8            6 bits  error {error(sum_of_both):.4f}   {first.numel() + second.numel()} numbers stored"
)
print(
    f"one codebook of 64   6 bits  error {error(flat[nearest(points, flat)].T):.4f}   {flat.numel()} numbers stored"
)

# %% [markdown]
# Now compare with the shipped one: put our two codebooks into the quantiser of a `Codec` (EnCodec's own class). It must
# give the same codes and the same sums.

# %%
small = Codec(CodecConfig(ratios=(2,), n_filters=2, dimension=2, n_codebooks=2, codebook_size=8)).eval()
for layer, entries in zip(small.quantizer.vq.layers, (first, second), strict=True):
    layer._codebook.embed.copy_(entries)
shipped = small.quantizer.vq.encode(points[None])[:, 0]  # (K, n)
assert torch.equal(shipped, torch.stack([code_1, code_2]))
assert torch.allclose(small.quantizer.vq.decode(shipped[:, None])[0], sum_of_both, atol=1e-6)
print("the same codes, the same sums")

# %% [markdown]
# The first codebook carries the most information, and each later one less. That is why models that generate such codes
# treat the codebooks unequally. The codec shipped here has a single codebook: for a small talker we want a short row of
# tokens, one per frame.
#
# ## 7. Several codebooks, one row of tokens
#
# A Transformer reads one row. With n_q codebooks a frame has n_q codes, so we write one frame after another and give
# every codebook its own range of numbers: code c of codebook k becomes k * size + c. The token alone then says which
# codebook it belongs to.

# %% tags=["needed"]
demo = torch.tensor([[3, 0, 7, 5], [1, 1, 6, 2]])  # (K, T): two codebooks of 8, four frames


# %%
def flatten_by_hand(codes, size):
    row = []
    for t in range(codes.shape[1]):
        for k in range(codes.shape[0]):
            row.append(k * size + int(codes[k, t]))
    return torch.tensor(row)


tokens = flatten_by_hand(demo, 8)
assert torch.equal(tokens, flatten(demo, 8))
assert torch.equal(unflatten(tokens, 2, 8), demo)
print("codes", demo.tolist(), "-> tokens", tokens.tolist())

# %%
fig, ax = plt.subplots(figsize=(7, 2), layout="constrained")
faces = [COLOURS["target"], "#FFDF9E"]  # two shades of "audio spoken"
for k, codes_of_k in enumerate(demo.tolist()):
    for i, code in enumerate(codes_of_k):
        ax.bar(2 * i + 0.5, 0.8, 0.9, bottom=2.4 - k, color=faces[k])
        ax.text(2 * i + 0.5, 2.8 - k, code, ha="center", va="center")
        ax.bar(2 * i + k, 0.8, 0.9, bottom=-0.2, color=faces[k])
        ax.text(2 * i + k, 0.2, int(tokens[2 * i + k]), ha="center", va="center")
for y, name in ((2.8, "codebook 0"), (1.8, "codebook 1"), (0.2, "tokens")):
    ax.text(-0.8, y, name, ha="right", va="center")
ax.set(xlim=(-2.6, 7.6), ylim=(-0.3, 3.6), title="four frames of two codebooks, on one row")
ax.axis("off")
plt.show()

# %% [markdown]
# A model can write a token where it makes no sense. `unflatten` then reports where:

# %%
wrong = tokens.clone()
wrong[5] = 3  # position 5 is codebook 1's turn
try:
    unflatten(wrong, 2, 8)
except CodecError as refusal:
    print(refusal)

# %% [markdown]
# In a talker's vocabulary these tokens come after those of the text: `text | control | audio codes | EOA | MASK`
# (`minittt/data/vocabulary.py`). MASK lies outside the range of the codes, so no code can be mistaken for it.
#
# ## Exercises
#
# **1, fill in.** Write a residual quantiser with any number of codebooks. You may use `nearest` from section 3.


# %% tags=["exercise-1"]
def residual_quantise(latents, codebooks):
    """latents (d, T), codebooks (K, size, d) -> codes (K, T), and what is left over (d, T)."""
    ...


# %% tags=["check-1"]
def as_tensor(given):
    """One tensor of a tensor, an array, numbers, or a list of rows."""
    if isinstance(given, (list, tuple)) and any(
        torch.is_tensor(row) or hasattr(row, "dtype") for row in given
    ):
        rows = [torch.as_tensor(row) for row in given]
        assert len({row.shape for row in rows}) == 1, "the rows have different lengths"
        return torch.stack(rows)
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(
            f"a tensor or a list of rows is asked for, not a {type(given).__name__}"
        ) from None


def check_1():
    draw = torch.Generator().manual_seed(1)
    books = torch.randn(3, 5, 4, generator=draw) * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    latents = torch.randn(4, 50, generator=draw)
    before = latents.clone()
    answer = residual_quantise(latents, books)
    if answer is None:
        return print("exercise 1: not answered yet")
    assert isinstance(answer, (tuple, list)) and len(answer) == 2, (
        "return two things: the codes, and what is left over"
    )
    assert torch.equal(latents, before), "the latents that came in were overwritten: work on a copy"
    codes, left = as_tensor(answer[0]), as_tensor(answer[1])
    assert codes.dim() != 2 or codes.shape != latents.shape, "the codes come first, then what is left over"
    assert codes.shape == (3, 50), (
        f"codes have the shape (codebooks, frames), (3, 50) here, not {tuple(codes.shape)}"
    )
    rest = latents
    for k, book in enumerate(books):
        best = (rest.T[:, None] - book).square().sum(-1).argmin(-1)  # (T,)
        hint = f"codebook {k} names other entries than the nearest ones"
        hint += "; what does it look at: the latents, or what the codebooks before it left over?" if k else ""
        assert (codes[k] == best).all(), hint
        rest = rest - book[best].T
    assert left.shape == rest.shape, (
        f"what is left over has the shape of the latents, not {tuple(left.shape)}"
    )
    assert torch.allclose(left.to(rest), rest, atol=1e-5), (
        "the codes are right; what is left over: latents minus ALL chosen entries"
    )
    print("exercise 1: right")


check_1()

# %% [markdown]
# **2, predict.** You record 3.01 seconds of speech and encode them with EnCodec's 24 kHz model at 6 kbit/s (hop 320,
# codebooks of 1024 entries). How many tokens does `flatten` give? Work it out on paper.

# %% tags=["exercise-2"]
n_tokens = None


# %% tags=["check-2"]
def as_number(given):
    """The one number in an int, a float, an array, a tensor or a list of one -> float."""
    assert not isinstance(given, str), "a number, not text"
    try:
        if isinstance(given, (list, tuple)) and len(given) == 1:
            return float(given[0])
        if hasattr(given, "item"):  # an array or a tensor
            return float(given.item())
        return float(given)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"one number is asked for, not {given!r}") from None


def check_2():
    if n_tokens is None:
        return print("exercise 2: not answered yet")
    said = as_number(n_tokens)
    config = CodecConfig(sample_rate=24000, ratios=(8, 5, 4, 2), codebook_size=1024, n_codebooks=1)
    K = round(6000 / bitrate(config))
    samples = torch.zeros(round(3.01 * 24000))
    T = len(samples.split(math.prod(config.ratios)))  # the last piece may be short
    truth = len(flatten(torch.zeros(K, T, dtype=torch.long), 1024))
    assert said != T, "these are the frames; at 6 kbit/s each frame has several codes"
    assert said != truth * 10, "these are the bits: a token has log2(1024) = 10 of them"
    assert said != round(3.01 * 24000), "these are the samples: a frame stands for 320 of them"
    assert said % K == 0, (
        "a row holds whole frames: its length is a multiple of the number of codebooks; how many make 6 kbit/s?"
    )
    assert said != truth - K, "one frame short: what happens to samples that do not fill the last frame?"
    assert said == truth, "frames a second = rate / hop; codebooks = bitrate / (frames a second * log2(size))"
    print("exercise 2: right")


check_2()

# %% [markdown]
# **3, extend.** Frame by frame is not the only order. Another one is *coarse first*. Cut the frames into chunks of
# `chunk` frames; in each chunk write all codes of codebook 0, then all of codebook 1, and so on (the last chunk may be
# shorter). Token numbers are the same as in `flatten`. With `chunk=1` this is `flatten` itself.


# %% tags=["exercise-3"]
def coarse_first(codes, size, chunk):
    """codes (K, T) -> tokens (K * T,), chunk by chunk, codebook by codebook within a chunk."""
    ...


# %% tags=["check-3"]
def as_row(given):
    """One row of a tensor, an array, or a list or tuple of numbers."""
    assert given is not None, "this time nothing came back: does every path end in a return?"
    pieces = isinstance(given, (list, tuple)) and any(getattr(piece, "ndim", 0) for piece in given)
    assert not pieces, "join the pieces into one row: torch.cat"
    return torch.as_tensor(given)


def check_3():
    if coarse_first(demo.clone(), 8, 2) is None:
        return print("exercise 3: not answered yet")
    for K, T, chunk in ((2, 4, 2), (3, 6, 3), (1, 5, 2), (2, 5, 2), (2, 3, 8)):
        codes = torch.randint(8, (K, T), generator=torch.Generator().manual_seed(T))
        before = codes.clone()
        row = as_row(coarse_first(codes, 8, chunk))
        assert torch.equal(codes, before), "the codes that came in were overwritten: work on a copy"
        case = f"with {K} codebook{'s' if K > 1 else ''}, {T} frames, chunks of {chunk}"
        assert row.shape == (K * T,), (
            f"{case}: every code must be laid once, {K * T} in all, not {tuple(row.shape)}"
        )
        once = bool((row.sort().values == flatten(codes, 8).sort().values).all())
        assert once, (
            f"{case}: the tokens are not those of flatten in another order: code c of codebook k is k * size + c"
        )
        assert bool((as_row(coarse_first(codes, 8, 1)) == flatten(codes, 8)).all()), (
            "with chunk=1 the order must be that of flatten"
        )
        expected = sorted(range(K * T), key=lambda i: (i % T // chunk, i // T, i % T))  # i = k * T + t
        expected = codes.flatten()[expected] + torch.tensor(expected) // T * 8
        assert bool((row == expected).all()), (
            f"{case}: within a chunk all of codebook 0 comes first, chunk after chunk"
        )
    print("exercise 3: right")


check_3()

# %% [markdown]
# ## What you now know
#
# - A codec turns a stretch of sound (a frame) into a vector, and represents the vector by the number of its nearest
#   entry in a codebook.
# - Bits per second are frames per second times codebooks times log2(size); how evenly the codes are used says the rest.
# - What survives is where the energy is: formants, hisses and pauses, and so the words. The exact wave does not.
# - A residual quantiser names many points with small tables, because each codebook corrects what those before it left
#   over.
# - Different codes can sound alike: judge speech by listening or with a recogniser, never by comparing codes.
#
# **Next**: [notebook 02](02_modality_attention.ipynb), who sees whom once such tokens are mixed with text. Solutions:
# [`tutorials/solutions`](../tutorials/solutions/01_codec_tokenization.py).
