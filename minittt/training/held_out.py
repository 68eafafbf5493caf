"""What is measured while training: losses on unseen renditions under noise that never changes, and a few replies.

The bound averages over random noise levels, and presets draw them in different ways. At a fixed level, with the same
share of every block masked and the softmax over audio ids alone, two curves differ only by what was learned.
"""

from dataclasses import replace

import torch
from torch import Tensor

from minittt.attention import TARGET
from minittt.data.batches import Batch
from minittt.data.conversation import render
from minittt.data.corpus import Corpus
from minittt.objective import Noise, Preset, draw_noise, targets
from minittt.settings import MAX_SPAN, MAX_SPANS, MAX_TEXT
from minittt.talker import Talker, decoding_settings
from minittt.training.parallel import Task, Worker

LEVELS = (0.25, 0.5, 1.0)  # shares of each block that are masked


def level_noise(batch: Batch, p: Preset, level: float, generator: torch.Generator) -> Noise:
    """Mask k = ceil(level * n) slots, a uniform subset, of each group of n, with the weight n/k: a mean over slots."""
    slots = batch.noisy if p.two_streams else batch.kinds == TARGET  # (B, L)
    # 1. A number for each group: unique within its row, then within the whole batch.
    stride = int(batch.groups.max()) + 2
    segments = torch.where(slots, batch.documents * stride + batch.groups, -1)  # (B, L)
    row = torch.arange(len(slots), device=slots.device)[:, None]  # (B, 1)
    keys = (row * (int(segments.max()) + 1) + segments)[slots]  # (N,)
    _, group, size = keys.unique(return_inverse=True, return_counts=True)  # (N,), (G,)
    k = (level * size).ceil().long()  # (G,)
    # 2. A random rank for each slot inside its group.
    N = len(keys)
    shuffled = torch.randperm(N, generator=generator).to(keys.device)  # (N,)
    by_group = shuffled[group[shuffled].argsort(stable=True)]  # (N,)
    place = torch.empty_like(by_group)  # (N,)
    place[by_group] = torch.arange(N, device=keys.device)
    group_start = size.cumsum(0) - size  # (G,)
    rank = place - group_start[group]  # (N,)
    # 3. The k lowest ranks are masked.
    chosen = rank < k[group]  # (N,)
    masked = torch.zeros_like(slots)
    masked[slots] = chosen
    weight = torch.zeros(slots.shape, device=slots.device)
    weight[slots] = torch.where(chosen, (size / k)[group], 0.0)
    return Noise(masked, weight, segments)


def without_strategies(p: Preset) -> Preset:
    """The preset without its coin tosses: every batch is noised, with nothing kept clean or cut off."""
    return replace(p, banom=0.0, ppm=0.0, sst=0.0)


@torch.no_grad()
def held_out_losses(worker: Worker, batches: list[Batch]) -> dict[str, float]:
    """Nats per token: `held_out_text`, `held_out_audio` (with two streams: the bound), and `held_out_audio_25`, `_50`,
    `_100`, with that percentage of slots masked."""
    p = without_strategies(worker.p)
    comparable = replace(p, restrict_classes=True)  # over the same ids, whatever the preset
    dtype = torch.promote_types(worker.model.embed_tokens.weight.dtype, torch.float32)
    text = _Mean()
    bound = _Mean()
    levels = {level: _Mean() for level in LEVELS}
    for i, batch in enumerate(batches):
        # 1. Text, and the bound, under the preset's own noise.
        noise = draw_noise(batch, p, torch.Generator().manual_seed(i), dtype)
        _, text_sum, audio_sum = worker(Task(batch, noise, p=p))
        in_text, in_audio = targets(batch, noise, worker.vocabulary, p)
        text.add(text_sum, in_text)
        bound.add(audio_sum, in_audio)
        # 2. Audio at fixed shares of masked slots.
        for level, mean in levels.items():
            noise = level_noise(batch, p, level, torch.Generator().manual_seed(i))
            _, _, audio_sum = worker(Task(batch, noise, p=comparable))
            _, in_audio = targets(batch, noise, worker.vocabulary, p)
            mean.add(audio_sum, in_audio)
    means = {"held_out_text": text, "held_out_audio": bound}
    for level, mean in levels.items():
        means[f"held_out_audio_{100 * level:.0f}"] = mean
    return {name: mean.total / mean.count for name, mean in means.items() if mean.count}


class _Mean:
    """A sum and its divisor."""

    total, count = 0.0, 0

    def add(self, total: Tensor, counted: Tensor) -> None:
        """Add a sum and the number of terms in it."""
        self.total += total.item()
        self.count += int(counted.sum())


def questions(records: list[dict], most: int) -> list[dict]:
    """The first record of each family that ends with a reply, at most `most` in all; questions to answer come first."""
    first: dict[str, dict] = {}
    for record in sorted(records, key=lambda r: r["family"] != "qa"):
        if record["messages"][-1][0] == "assistant":
            first.setdefault(record["family"], record)
    return list(first.values())[:most]


def sample_replies(talker: Talker, corpus: Corpus, records: list[dict], p: Preset) -> str:
    """What was asked, and the greedy reply with the lengths of its spans: one line per record."""
    sizes = [size for size in p.block_sizes if size is not None]
    if 8 in sizes or not sizes:
        block = 8
    else:
        block = max(sizes)
    settings = decoding_settings(block, steps=4, full_span=not p.two_streams)
    # The most a reply can take, so that no early model runs out of context.
    room = MAX_TEXT + MAX_SPANS * MAX_SPAN
    lines = []
    for record in records:
        *told, _ = record["messages"]
        longest = len(render(record, corpus, reply=False).ids) + room
        said = [[corpus.in_codes(part) for part in message] for message in told]
        [reply] = talker.converse([said], settings, max_length=longest)
        asked = " ".join(_in_words(part, corpus) for part in told[-1][1:])
        spans = [len(span) for span in reply.spans]
        lines.append(f"{asked[:60]!r} -> {reply.text!r} and {spans} audio tokens")
    return "\n".join(lines)


def _in_words(part: str | int | list[int], corpus: Corpus) -> str:
    """What a part of a question says: its text, the text of its utterance, or its number of codes."""
    if isinstance(part, list):
        return f"({len(part)} codes)"
    if isinstance(part, int):
        return corpus.utterances[part]["text"]
    return part
