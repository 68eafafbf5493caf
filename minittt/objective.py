"""TtT's unified loss: next-token cross-entropy for text, masked denoising cross-entropy for audio, one Transformer.

Two presets (paper section 3.2 and 3.3; `exact` is this project's):

`paper`  one stream, one group a span; noise is drawn once a record; text after a noised span is trained on noise, which
         three strategies soften: BANOM keeps whole batches clean, PPM keeps earlier spans clean, SST cuts the last span.
`exact`  two streams over group numbers: text is read from a clean stream, audio from a noisy copy of each block that sees
         only clean earlier groups. One forward is an unbiased estimate of an upper bound on -log p, and every state that
         decoding can reach is one that training has seen, for the block sizes trained. No strategy is needed.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minittt.attention import TARGET, group_mask, two_stream_mask
from minittt.conversation import Sequence
from minittt.diffusion import corrupt, independent_masks, random_k_subset
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.packing import Batch, lay_out
from minittt.vocabulary import Vocabulary


@dataclass(frozen=True)
class Preset:
    """How a record becomes a training example, and how its loss is weighed."""

    two_streams: bool
    block_sizes: tuple[int | None, ...]  # one is drawn for each record; None = the whole span is one group
    short_first_block: float = (
        0.0  # probability that the first block of a record's spans is a smaller one of the list
    )
    eps: float = 1e-3  # lower end of p = (1 - eps) t + eps; single stream only
    banom: float = 0.0  # probability that a batch carries no noise and no audio loss
    ppm: float = 0.0  # probability that a record's spans before a random one stay clean
    sst: float = 0.0  # probability that a record's last span is cut and all after it dropped
    restrict_classes: bool = True  # softmax over text ids for text, over audio ids for audio; False: over all
    text_at_mask: bool = True  # keep the next-text loss of positions whose input is MASK
    text_weight: float = 1.0
    audio_weight: float = 1.0


PRESETS = {
    "paper": Preset(False, (None,), banom=0.3, ppm=0.3, sst=0.5, restrict_classes=False),
    "mended": Preset(False, (None,), banom=0.3, ppm=0.3, sst=0.5, text_at_mask=False),
    "exact": Preset(True, (1, 4, 8, 16), short_first_block=0.5),
}


def preset(name: str) -> Preset:
    """Look a preset up. Raises MinitttError naming the ones there are."""
    if name not in PRESETS:
        raise MinitttError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def draw_blocks(p: Preset, rng: random.Random) -> tuple[int | None, int | None]:
    """Block size of a record's spans, and the size of their first block or None if it is no different."""
    block = rng.choice(p.block_sizes)
    smaller = [size for size in p.block_sizes if block is not None and size is not None and size < block]
    return block, rng.choice(smaller) if smaller and rng.random() < p.short_first_block else None


def truncate_span(sequence: Sequence, rng: random.Random, longer_than: int = 10) -> Sequence:
    """SST, stochastic span truncation: cut the last target span and drop its end and all after it (section 3.3).

    Keeps a share uniform on 30 to 90 %; a span of `longer_than` slots or fewer stays whole, as does one without target.
    """
    if TARGET not in sequence.kinds:
        return sequence
    stop = len(sequence.kinds) - sequence.kinds[::-1].index(TARGET)
    start = stop
    while start > 0 and sequence.kinds[start - 1] == TARGET:
        start -= 1
    if stop - start <= longer_than:
        return sequence
    cut = start + max(1, int((stop - start) * rng.uniform(0.3, 0.9)))
    return Sequence(sequence.ids[:cut], sequence.kinds[:cut], sequence.targets[:cut])


def example(
    sequence: Sequence, p: Preset, block: int | None, first: int | None, rng: random.Random
) -> Tensor:
    """A rendered record as the columns that `packing.pack` takes."""
    if rng.random() < p.sst:
        sequence = truncate_span(sequence, rng)
    return lay_out(sequence, block, first, p.two_streams)


def span_numbers(batch: Batch) -> Tensor:
    """Number every target span of a row, 0, 1, 2, ... (B, L); -1 elsewhere."""
    target = (batch.kinds == TARGET) & ~batch.noisy
    before = F.pad(target[:, :-1], (1, 0))
    return torch.where(target, (target & ~before).cumsum(1) - 1, -1)


def preserve_prefix(
    segments: Tensor, spans: Tensor, probability: float, generator: torch.Generator
) -> Tensor:
    """PPM, prefix preservation masking: with `probability`, spans before a random one of their record stay clean.

    segments (B, L): record of each maskable slot, -1 elsewhere; spans (B, L): its span. Returns segments with the slots
    that stay clean at -1 (section 3.3).
    """
    kept = segments.clone()
    for row in range(len(segments)):
        for record in segments[row][segments[row] >= 0].unique().tolist():
            mine = segments[row] == record
            starts = spans[row][mine].unique()
            if torch.rand((), generator=generator) < probability:
                first = starts[torch.randint(len(starts), (), generator=generator)]
                kept[row][mine & (spans[row] < first)] = -1
    return kept


def maskable_segments(batch: Batch, p: Preset, generator: torch.Generator) -> Tensor:
    """Which slots share one draw of noise, (B, L): in `exact` a block of the noisy stream, else a record's audio."""
    if p.two_streams:
        stride = int(batch.groups.max()) + 2
        return torch.where(batch.noisy, batch.documents * stride + batch.groups, -1)
    if p.banom and torch.rand((), generator=generator) < p.banom:
        return torch.full_like(
            batch.ids, -1
        )  # BANOM, batchwise AR and NAR objective mixing: this batch stays clean
    segments = torch.where(batch.kinds == TARGET, batch.documents, -1)
    return preserve_prefix(segments, span_numbers(batch), p.ppm, generator) if p.ppm else segments


@dataclass
class Loss:
    """One batch's losses: `total` to be minimised, sums and counts to be averaged."""

    total: Tensor
    text_sum: Tensor  # nats over text targets
    audio_sum: Tensor  # nats over target slots: an estimate of the bound on -log p
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


def unified_loss(
    model: Transformer, batch: Batch, vocabulary: Vocabulary, p: Preset, generator: torch.Generator
) -> Loss:
    """Corrupt, run one forward, read both losses. `generator` lives on the CPU and decides all noise.

    text: cross-entropy of target i read at i - 1, a mean over targets. audio: weighted cross-entropy read at the masked
    slots themselves, over the number of maskable slots. Each modality is normalised by itself: one joint mean would
    starve text, which has few tokens (equation 4 of the paper sums both).
    """
    segments = maskable_segments(batch, p, generator)
    if p.two_streams:
        masked, weight = random_k_subset(segments, generator)
        mask = two_stream_mask(batch.groups, batch.noisy, batch.documents)
    else:
        masked, weight = independent_masks(segments, generator, p.eps)
        mask = group_mask(batch.groups, batch.documents)
    ids = corrupt(batch.ids, masked, vocabulary.mask)
    hidden = model.hidden(ids, mask, batch.positions)  # (B, L, d)
    text_sum, n_text = _text_loss(model, hidden, ids, batch, vocabulary, p)
    audio_sum = _audio_loss(model, hidden, batch.ids, masked, weight, vocabulary, p)
    n_audio = int((segments >= 0).sum())
    total = p.text_weight * text_sum / max(1, n_text) + p.audio_weight * audio_sum / max(1, n_audio)
    return Loss(total, text_sum.detach(), audio_sum.detach(), n_text, n_audio)


def _text_loss(
    model, hidden: Tensor, ids: Tensor, batch: Batch, vocabulary: Vocabulary, p: Preset
) -> tuple[Tensor, int]:
    row, at = batch.text_targets.nonzero(as_tuple=True)
    if not p.text_at_mask:
        keep = ids[row, at - 1] != vocabulary.mask
        row, at = row[keep], at[keep]
    choices = vocabulary.text_choices().to(ids.device) if p.restrict_classes else None
    logits = model.logits(hidden[row, at - 1], choices)  # (n, choices)
    return F.cross_entropy(logits.float(), _index(batch.ids[row, at], choices), reduction="sum"), len(row)


def _audio_loss(
    model, hidden: Tensor, clean: Tensor, masked: Tensor, weight: Tensor, vocabulary: Vocabulary, p: Preset
) -> Tensor:
    choices = vocabulary.audio_choices().to(clean.device) if p.restrict_classes else None
    logits = model.logits(hidden[masked], choices)  # (n, choices)
    losses = F.cross_entropy(logits.float(), _index(clean[masked], choices), reduction="none")  # (n,)
    return (losses * weight[masked]).sum()


def _index(ids: Tensor, choices: Tensor | None) -> Tensor:
    """Where each id stands among the sorted choices."""
    return ids if choices is None else torch.searchsorted(choices, ids)
