"""Three strategies that narrow the gap between training and decoding when noise and text share one stream.

In a single stream, text that follows a masked span is trained on MASKs, while a decoder has finished the span before it
goes on writing. Each strategy shows the network some of what a decoder meets (TtT, arXiv 2509.20072):

BANOM  batchwise AR and NAR objective mixing: some batches carry no noise, so that text is also learned after clean spans
PPM    prefix preservation masking: some records keep their earlier spans clean, as they are when a later one is decoded
SST    stochastic span truncation: some records stop inside their last span, so that its layout does not give away its end

Two streams need none of them: there, no text sees a MASK, and no block sees a noised one before it.

`denoise_replies` is not a strategy but a baseline: what if text were denoised as well?
"""

import random
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from minittt.attention import TARGET
from minittt.data.conversation import TokenSequence, filler


def mix_objectives(segments: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """BANOM: with `probability`, nothing in the whole batch may be masked. One coin flip per batch.

    segments (B, L) long: which slots share one draw of noise, -1 = not maskable. Returns the same, or -1 everywhere.
    """
    clean = torch.rand((), generator=generator) < probability
    if clean:
        return torch.full_like(segments, -1)
    return segments


def span_numbers(target: Tensor) -> Tensor:
    """Number the runs of True in each row, 0, 1, 2, ...: target (B, L) bool -> (B, L) long, -1 elsewhere."""
    before = F.pad(target[:, :-1], (1, 0))  # (B, L): whether the token before is target
    begins = target & ~before
    return torch.where(target, begins.cumsum(1) - 1, -1)


def preserve_prefix(
    segments: Tensor, spans: Tensor, probability: float, generator: torch.Generator
) -> Tensor:
    """PPM: with `probability`, spans before a random one of their record stay clean. One coin flip per record.

    segments (B, L) long: record of each maskable slot, -1 elsewhere; spans (B, L) long: its span. Returns segments with
    the slots that stay clean at -1.
    """
    kept = segments.clone()
    for row in range(len(segments)):
        maskable = segments[row] >= 0  # (L,)
        for record in segments[row][maskable].unique().tolist():
            of_record = segments[row] == record  # (L,)
            span_numbers_here = spans[row][of_record].unique()
            if torch.rand((), generator=generator) < probability:
                chosen = torch.randint(len(span_numbers_here), (), generator=generator)
                earlier = of_record & (spans[row] < span_numbers_here[chosen])
                kept[row][earlier] = -1
    return kept


def truncate_span(sequence: TokenSequence, rng: random.Random, longer_than: int = 10) -> TokenSequence:
    """SST: cut the last target span short, and drop its end marker and everything after it.

    The share that is kept is uniform between 30 and 90 %; a span of `longer_than` slots or fewer stays whole, as does a
    sequence without target audio.
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
    return TokenSequence(sequence.ids[:cut], sequence.kinds[:cut], sequence.targets[:cut])


def denoise_replies(sequence: TokenSequence, block: int, first: int | None = None) -> TokenSequence:
    """Turn each reply (text, markers and audio) into one run of slots to denoise, filled up to whole blocks with END.

    So a reply ends as a span does elsewhere: at the first END among its slots, which need not be the last one. The
    filler of its audio spans is dropped: inside a reply, nothing has to end where a block does.
    """
    out = TokenSequence()
    tokens = []  # (is part of a reply, kind, id)
    for is_target, kind, token in zip(sequence.targets, sequence.kinds, sequence.ids, strict=True):
        tokens.append((is_target or kind == TARGET, kind, token))
    for in_reply, turn in groupby(tokens, key=lambda token: token[0]):
        if not in_reply:
            for _, kind, token in turn:
                out.add([token], kind, False)
            continue
        reply = []
        for kind, run in groupby(turn, key=lambda token: token[1]):
            ids = [token for _, _, token in run]
            if kind == TARGET:
                ids = _without_filler(ids)
            reply += ids
        end = reply[-1]
        reply += [end] * filler(len(reply), block, first)
        out.add(reply, TARGET, False)
    return out


def _without_filler(ids: list[int]) -> list[int]:
    """The span with a single EOA at its end. No code equals the EOA after it, so equal neighbours at the end are filler."""
    n = len(ids)
    while n > 1 and ids[n - 2] == ids[n - 1]:
        n -= 1
    return ids[:n]
