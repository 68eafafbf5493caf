"""TtT's unified loss: next-token cross-entropy for text, masked denoising cross-entropy for audio, one Transformer.

Two presets (`paper` is arXiv 2509.20072 as its code was released; `exact` is this project's):

`paper`  one stream, one group per span; one noise level per record; text after a noised span is trained on noise, which
         BANOM, PPM and SST soften (`strategies.py`). A mean per record, then over records; softmax over all ids.
`exact`  two streams over group numbers: text is read from a clean stream, audio from a noisy copy of each block that sees
         only clean earlier groups. One forward is an unbiased estimate of an upper bound on -log p, and every pattern of
         masks that decoding can reach is one that training draws, for the block sizes trained (with true tokens around it:
         a decoder's own mistakes are never shown). No strategy is needed.

Four more show what each part is worth: `mended` is `paper` with its three mistakes corrected, `exact-8` is `exact` with
blocks of 8 only, `ar` is `exact` with one audio token per block, `nar` is `exact` with the text of a reply denoised too.
And three leave one strategy out, read as "paper minus": `paper-banom` is `paper` without BANOM, `paper-ppm` without PPM,
`paper-sst` without SST.

The loss has three steps, each usable alone: `draw_noise`, `predict` (one forward) and `combine_losses`.

Batch and noise stay on the CPU wherever the network is: choosing, locating and weighting masked slots is irregular work,
and asking a GPU how many slots there are makes the host wait for it. Only what the forward reads is moved.

To add a preset, add a line to `PRESETS` below and its name to `settings.PRESETS` (a test holds the two equal): then
`minittt train --preset NAME` and the tests that run over all presets find it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minittt.attention import (
    TARGET,
    group_block_mask,
    group_mask,
    two_stream_block_mask,
    two_stream_mask,
)
from minittt.data.batches import Batch, lay_out
from minittt.data.conversation import TokenSequence
from minittt.data.vocabulary import Vocabulary
from minittt.device import move
from minittt.diffusion import corrupt, independent_masks, random_k_subset
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.strategies import (
    denoise_replies,
    mix_objectives,
    preserve_prefix,
    span_numbers,
    truncate_span,
)


@dataclass(frozen=True)
class Preset:
    """How a record becomes a training example, and how its loss is weighted. Raises MinitttError for contradictions."""

    two_streams: bool
    # one is drawn for each record; None = the whole span is one group (full span)
    block_sizes: tuple[int | None, ...]
    short_first_block: float = 0.0  # probability that a record's spans begin with a smaller block of the list
    eps: float = 1e-3  # lower end of p = (1 - eps) t + eps; single stream only
    banom: float = 0.0  # probability that a batch carries no noise and no audio loss
    ppm: float = 0.0  # probability that a record's spans before a random one stay clean
    sst: float = 0.0  # probability that a record's last span is cut and all after it dropped
    restrict_classes: bool = True  # softmax over text ids for text, over audio ids for audio; False: over all
    text_at_mask: bool = True  # keep the next-text loss of positions whose input is MASK
    normalise: str = "token"  # a mean over the batch's tokens; "sample": over each record's, then records
    denoise_text: bool = False  # the text of a reply is denoised in blocks, as audio is
    text_weight: float = 1.0
    audio_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.normalise not in ("token", "sample"):
            raise MinitttError(f"normalise is {self.normalise!r}; it must be 'token' or 'sample'")
        if self.denoise_text and (not self.two_streams or self.sst or None in self.block_sizes):
            raise MinitttError("denoise_text needs two_streams, blocks of a size, and replies not cut by sst")


PRESETS = {
    "paper": Preset(
        two_streams=False,
        block_sizes=(None,),
        banom=0.3,
        ppm=0.3,
        sst=0.5,
        restrict_classes=False,
        normalise="sample",
    ),
    "mended": Preset(two_streams=False, block_sizes=(None,), banom=0.3, ppm=0.3, sst=0.5, text_at_mask=False),
    "exact": Preset(two_streams=True, block_sizes=(1, 4, 8, 16), short_first_block=0.5),
    "ar": Preset(two_streams=True, block_sizes=(1,)),
    "nar": Preset(two_streams=True, block_sizes=(4, 8, 16), short_first_block=0.5, denoise_text=True),
}
# "paper minus": without this one
PRESETS["paper-banom"] = replace(PRESETS["paper"], banom=0.0)
PRESETS["paper-ppm"] = replace(PRESETS["paper"], ppm=0.0)
PRESETS["paper-sst"] = replace(PRESETS["paper"], sst=0.0)
# one block size alone
PRESETS["exact-8"] = replace(PRESETS["exact"], block_sizes=(8,))


def preset(name: str) -> Preset:
    """Look a preset up. Raises MinitttError naming the ones there are."""
    if name not in PRESETS:
        raise MinitttError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


# ---- a record becomes an example


def draw_blocks(p: Preset, rng: random.Random) -> tuple[int | None, int | None]:
    """Block size of a record's spans, and the size of their first block or None if it is no different."""
    block = rng.choice(p.block_sizes)
    if block is None:
        return None, None
    smaller = [size for size in p.block_sizes if size is not None and size < block]
    if smaller and rng.random() < p.short_first_block:
        return block, rng.choice(smaller)
    return block, None


def example(
    sequence: TokenSequence, p: Preset, block: int | None, first: int | None, rng: random.Random
) -> Tensor:
    """A rendered record as the columns that `batches.pack` takes."""
    if rng.random() < p.sst:
        sequence = truncate_span(sequence, rng)
    if p.denoise_text:
        sequence = denoise_replies(sequence, block, first)
    return lay_out(sequence, block, first, p.two_streams)


# ---- noise


class Noise(NamedTuple):
    """One draw of noise for a batch, all (B, L)."""

    masked: Tensor  # bool: MASK stands here
    weight: Tensor  # float, of the cross-entropy at masked slots; 0 elsewhere
    segments: Tensor  # long: equal numbers in a row share a draw; -1 = could not have been masked


def maskable_segments(batch: Batch, p: Preset, generator: torch.Generator) -> Tensor:
    """Which slots share one draw of noise, (B, L): a block of the noisy stream, or a record's audio in one stream."""
    if p.two_streams:
        stride = int(batch.groups.max()) + 2  # groups run from -1, so no two documents share a number
        return torch.where(batch.noisy, batch.documents * stride + batch.groups, -1)
    target = batch.kinds == TARGET
    segments = torch.where(target, batch.documents, -1)
    if p.banom:
        segments = mix_objectives(segments, p.banom, generator)
    if p.ppm:
        segments = preserve_prefix(segments, span_numbers(target), p.ppm, generator)
    return segments


def draw_noise(
    batch: Batch, p: Preset, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Noise:
    """All that is random in a batch's loss. `generator` lives on the CPU; `dtype` is that of the weights."""
    segments = maskable_segments(batch, p, generator)  # (B, L)
    if p.two_streams:
        masked, weight = random_k_subset(segments, generator, dtype=dtype)  # (B, L), (B, L)
    else:
        masked, weight = independent_masks(segments, generator, p.eps, dtype=dtype)
    return Noise(masked, weight, segments)


# ---- the loss


@dataclass
class Loss:
    """One batch's losses: `total` to be minimised, sums and counts for reporting."""

    total: Tensor
    text_sum: Tensor  # nats over text targets
    # Nats over target slots. In two streams an unbiased estimate of the bound on -log p. In one stream it bounds nothing, at
    # any eps: later audio is predicted after noised audio, with MASK where a likelihood would see the true codes.
    audio_sum: Tensor
    n_text: int
    n_audio: int

    @property
    def text(self) -> float:
        """Nats per text target."""
        return self.text_sum.item() / max(1, self.n_text)

    @property
    def audio(self) -> float:
        """Nats per target slot."""
        return self.audio_sum.item() / max(1, self.n_audio)


def targets(batch: Batch, noise: Noise, vocabulary: Vocabulary, p: Preset) -> tuple[Tensor, Tensor]:
    """The tokens over which text and audio are averaged, two of (B, L) bool; their sums are n_text and n_audio."""
    slots = noise.segments >= 0
    if p.denoise_text:
        is_text = batch.ids < vocabulary.first_code
        return slots & is_text, slots & ~is_text
    if p.text_at_mask:
        return batch.text_targets, slots
    follows_mask = F.pad(noise.masked[:, :-1], (1, 0))  # (B, L): the token before is MASK
    return batch.text_targets & ~follows_mask, slots


class Predictions(NamedTuple):
    """What one forward predicts for n tokens of one modality, and the tokens that the loss is averaged over."""

    logits: Tensor  # (n, choices), float32 or better
    target: Tensor  # (n,): the true token, as an index into the choices
    row: Tensor  # (n,): its row in the batch; on the batch's device, like `at` and `counted`
    at: Tensor  # (n,)
    weight: Tensor  # (n,): of the cross-entropy; 1 for text
    counted: Tensor  # (B, L) bool: all targets, or all slots that could have been masked

    def nats(self, share: Tensor | None = None) -> Tensor:
        """The weighted sum of cross-entropies, (); with `share` (B, L) each is also multiplied by its token's share."""
        losses = F.cross_entropy(self.logits, self.target, reduction="none")  # (n,)
        losses = losses * self.weight
        if share is not None:
            share_of_each = share[self.row, self.at].to(losses.dtype)  # (n,)
            losses = losses * move(share_of_each, losses.device)
        return losses.sum()


def unified_loss(
    model: Transformer,
    batch: Batch,
    vocabulary: Vocabulary,
    p: Preset,
    generator: torch.Generator | None,
    noise: Noise | None = None,
    counts: tuple[float, float] | None = None,
    attention: str = "dense",
) -> Loss:
    """Corrupt, run one forward, read both losses. `generator` lives on the CPU and decides all noise.

    noise: taken instead of a fresh draw. counts: n_text and n_audio of a whole step of which this batch is a part, so
    that the totals of its parts add up to the step's. attention: see `who_sees_whom`. Raises MinitttError for counts with
    "sample" normalisation.
    """
    # 1. Draw what is masked, and the weight of each masked slot.
    if noise is None:
        dtype = torch.promote_types(model.embed_tokens.weight.dtype, torch.float32)
        noise = draw_noise(batch, p, generator, dtype)
    # 2. One forward; text is predicted from the token before, audio at the masked slot itself.
    text, audio = predict(model, batch, vocabulary, p, noise, attention)
    # 3. Normalise each modality, and add them.
    return combine_losses(text, audio, batch.documents, p, counts)


class Network(Protocol):
    """What a forward needs: a `Transformer`, or what is wrapped around one to train it in several processes."""

    def logits(self, hidden: Tensor, choices: Tensor | None = None) -> Tensor:
        """See `Transformer.logits`."""

    @property
    def hidden(self) -> Callable[..., Tensor]:
        """See `Transformer.hidden`."""

    @property
    def embed_tokens(self) -> nn.Embedding:
        """See `Transformer.embed_tokens`: the forward runs on the device of its weights."""


def predict(
    model: Network,
    batch: Batch,
    vocabulary: Vocabulary,
    p: Preset,
    noise: Noise,
    attention: str = "dense",
) -> tuple[Predictions, Predictions]:
    """One forward, of text and of audio: the text token at i is predicted at i - 1, a masked slot at the slot itself."""
    # 1. Who sees whom.
    device = model.embed_tokens.weight.device
    mask = who_sees_whom(batch, p, device, attention)  # (B, L, L)
    # 2. The network sees MASK where noise put it.
    x_t = corrupt(batch.ids, noise.masked, vocabulary.mask)  # (B, L)
    hidden = model.hidden(move(x_t, device), mask, move(batch.positions, device))  # (B, L, d)
    # 3. What is predicted: text targets, and the audio slots that are masked.
    in_text, in_audio = targets(batch, noise, vocabulary, p)  # (B, L), (B, L)
    text_choices, audio_choices = _choices(vocabulary, p)
    if p.denoise_text:
        text = _at_the_slot(model, hidden, batch, in_text, text_choices, noise)
    else:
        text = _from_the_token_before(model, hidden, batch, in_text, text_choices)
    audio = _at_the_slot(model, hidden, batch, in_audio, audio_choices, noise)
    return text, audio


FLEX_FROM = 2048  # tokens of a row; shorter ones fit a dense mask, whose kernel has nothing to compile


def who_sees_whom(batch: Batch, p: Preset, device: torch.device, attention: str = "dense"):
    """The mask of a batch, made on the device: (B, L, L) bool, True = may see, or a BlockMask.

    attention: "dense", "flex" (FlexAttention, whose backward pass needs CUDA), or "auto": flex on CUDA for rows of
    FLEX_FROM tokens or more.
    """
    groups = move(batch.groups, device)  # (B, L)
    documents = move(batch.documents, device)  # (B, L)
    long_on_cuda = device.type == "cuda" and groups.shape[1] >= FLEX_FROM
    flex = attention == "flex" or (attention == "auto" and long_on_cuda)
    if flex and p.two_streams:
        return two_stream_block_mask(groups, move(batch.noisy, device), documents)
    if flex:
        return group_block_mask(groups, documents)
    if p.two_streams:
        return two_stream_mask(groups, move(batch.noisy, device), documents)
    return group_mask(groups, documents)


def _choices(vocabulary: Vocabulary, p: Preset) -> tuple[Tensor | None, Tensor | None]:
    """The ids that the softmax of text and of audio runs over, (n,) each and rising; None for all ids."""
    if not p.restrict_classes:
        return None, None
    text_choices = vocabulary.text_choices()
    audio_choices = vocabulary.audio_choices()
    if p.denoise_text:  # a slot of a reply may hold anything
        both = torch.cat([text_choices, audio_choices])
        return both, both
    return text_choices, audio_choices


def _from_the_token_before(
    model: Network, hidden: Tensor, batch: Batch, targets: Tensor, choices: Tensor | None
) -> Predictions:
    """Next-token prediction of `targets` (B, L) from hidden (B, L, d): autoregressive targets shift by one.

    The first token of a row is never a target, so there is always a token before.
    """
    row, at = targets.nonzero(as_tuple=True)  # (n,), (n,)
    logits = _logits(model, _states(hidden, row, at - 1), choices)  # (n, choices)
    target = move(_index(batch.ids[row, at], choices), hidden.device)  # (n,)
    weight = torch.ones(len(row), dtype=logits.dtype, device=hidden.device)  # (n,)
    return Predictions(logits, target, row, at, weight, targets)


def _at_the_slot(
    model: Network, hidden: Tensor, batch: Batch, slots: Tensor, choices: Tensor | None, noise: Noise
) -> Predictions:
    """Denoising of what is masked among `slots` (B, L) from hidden (B, L, d): diffusion targets do not shift."""
    masked = slots & noise.masked  # (B, L)
    row, at = masked.nonzero(as_tuple=True)  # (n,), (n,)
    logits = _logits(model, _states(hidden, row, at), choices)  # (n, choices)
    target = move(_index(batch.ids[row, at], choices), hidden.device)  # (n,)
    weight = move(noise.weight[row, at], hidden.device)  # (n,)
    return Predictions(logits, target, row, at, weight, slots)


def _states(hidden: Tensor, row: Tensor, at: Tensor) -> Tensor:
    """hidden (B, L, d) at n places -> (n, d). row, at (n,): on the batch's device."""
    place = row * hidden.shape[1] + at  # (n,)
    return hidden.flatten(0, 1).index_select(0, move(place, hidden.device))


def _logits(model: Network, hidden: Tensor, choices: Tensor | None) -> Tensor:
    """hidden (n, d) -> logits (n, choices), in float32 at least: autocast computes them in bfloat16."""
    logits = model.logits(hidden, choices)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _index(ids: Tensor, choices: Tensor | None) -> Tensor:
    """Where each id (n,) stands among the choices, which rise; without choices an id is its own index."""
    if choices is None:
        return ids
    return torch.searchsorted(choices.to(ids.device), ids)


def combine_losses(
    text: Predictions,
    audio: Predictions,
    documents: Tensor,
    p: Preset,
    counts: tuple[float, float] | None = None,
) -> Loss:
    """Normalise each modality by itself: one joint mean would starve text, which has few tokens.

    "token": a mean over the batch. "sample", as released: a mean over each record (a document (B, L) of a row), then
    over all records, so that a token of a short reply weighs more than one of a long reply.
    """
    if counts and p.normalise != "token":
        raise MinitttError("counts of a whole step go with normalise 'token' only")
    text_sum = text.nats()
    audio_sum = audio.nats()
    n_text = int(text.counted.sum())
    n_audio = int(audio.counted.sum())
    if p.normalise == "token":
        over_text, over_audio = counts or (n_text, n_audio)
        text_mean = text_sum / max(1, over_text)
        audio_mean = audio_sum / max(1, over_audio)
    else:
        text_mean = text.nats(sample_shares(text.counted, documents))
        audio_mean = audio.nats(sample_shares(audio.counted, documents))
    total = p.text_weight * text_mean + p.audio_weight * audio_mean
    return Loss(total, text_sum.detach(), audio_sum.detach(), n_text, n_audio)


def sample_shares(counted: Tensor, documents: Tensor) -> Tensor:
    """What each token has to be multiplied by so that a sum is a mean over all documents of their means, (B, L).

    counted (B, L) bool: the tokens of the means; a document without any has the mean 0. documents (B, L), -1 = padding.
    """
    real = documents >= 0
    row = torch.arange(len(documents), device=documents.device)[:, None]
    keys = (row * (int(documents.max()) + 1) + documents)[real]  # (N,): one number per document
    found, number = keys.unique(return_inverse=True)  # (S,), (N,)
    size = torch.zeros_like(found).index_add(0, number, counted[real].long())  # (S,)
    shares = torch.zeros(documents.shape, dtype=torch.float64, device=documents.device)
    shares[real] = 1 / (size.clamp(min=1).double() * len(found))[number]
    return shares
