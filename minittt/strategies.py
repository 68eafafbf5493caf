"""Three strategies that soften the gap between training and decoding when noise and text share one stream.

In a single stream, text that follows a masked span is trained on MASKs, while a decoder has finished the span before it
goes on writing. Each strategy shows the network some of what a decoder meets (TtT, arXiv 2509.20072):

BANOM  batchwise AR and NAR objective mixing: some batches carry no noise, so that text also learns behind whole spans
PPM    prefix preservation masking: some records keep their earlier spans clean, as they are while a later one is filled
SST    stochastic span truncation: some records stop inside their last span, so that its end cannot be read off the layout

Two streams need none of them: there, no text sees a MASK, and no block a noised one before it.

`denoise_replies` is no strategy but a baseline: what if text were denoised as well?
"""

import random
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from minittt.attention import TARGET
from minittt.conversation import Sequence, filler


def mix_objectives(segments: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """BANOM: with `probability`, nothing of the whole batch may be masked. One coin a batch.

    segments (B, L) long: which slots share one draw of noise, -1 = not maskable. Returns the same, or -1 everywhere.
    """
    clean = torch.rand((), generator=generator) < probability
    return torch.full_like(segments, -1) if clean else segments


def span_numbers(target: Tensor) -> Tensor:
    """Number the runs of True in each row, 0, 1, 2, ...: target (B, L) bool -> (B, L) long, -1 elsewhere."""
    before = F.pad(target[:, :-1], (1, 0))
    return torch.where(target, (target & ~before).cumsum(1) - 1, -1)


def preserve_prefix(
    segments: Tensor, spans: Tensor, probability: float, generator: torch.Generator
) -> Tensor:
    """PPM: with `probability`, spans before a random one of their record stay clean. A coin for each record.

    segments (B, L) long: record of each maskable slot, -1 elsewhere; spans (B, L) long: its span. Returns segments with
    the slots that stay clean at -1.
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


def truncate_span(sequence: Sequence, rng: random.Random, longer_than: int = 10) -> Sequence:
    """SST: cut the last target span, and drop its end marker and all after it.

    Keeps a share uniform on 30 to 90 %; a span of `longer_than` slots or fewer stays whole, as does a sequence without
    target audio.
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


def denoise_replies(sequence: Sequence, block: int, first: int | None = None) -> Sequence:
    """Make each reply, its text, markers and audio, one run of slots to be denoised, filled to whole blocks with END.

    So a reply ends as a span does elsewhere: by the first END among its slots, which need not be the last one. The
    filler of its audio spans goes: inside a reply nothing has to meet a block's end.
    """
    out, said = Sequence(), [t or k == TARGET for t, k in zip(sequence.targets, sequence.kinds, strict=True)]
    tokens = zip(said, sequence.kinds, sequence.ids, strict=True)
    for spoken, turn in groupby(tokens, key=lambda token: token[0]):
        if not spoken:
            for _, kind, token in turn:
                out.add([token], kind, False)
            continue
        reply = []
        for kind, part in groupby(turn, key=lambda token: token[1]):
            ids = [token for *_, token in part]
            while kind == TARGET and len(ids) > 1 and ids[-2] == ids[-1]:  # no code equals the EOA after it
                ids.pop()
            reply += ids
        reply += reply[-1:] * filler(len(reply), block, first)
        out.add(reply, TARGET, False)
    return out
