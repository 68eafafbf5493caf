"""How surprised a talker is by true replies: nats per token of text and of audio, as its decoder would meet them.

Text is exact: each token given everything before it, finished. Audio is an unbiased estimate of the any-order bound on
-log p of each block given finished text and blocks (`objective.py`, two streams), whatever the talker was trained with:
a talker trained on whole spans is asked for whole spans. Their length is then given by the layout and costs nothing,
while a talker that writes blocks pays for deciding where to end. Per-token figures divide by codes plus one EOA per span.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from minittt.attention import TARGET
from minittt.data.batches import Batch, pack
from minittt.data.conversation import render
from minittt.data.corpus import Corpus
from minittt.evaluation.scores import Score, ratio
from minittt.model import Transformer
from minittt.objective import Noise, Preset, draw_noise, example, predict


@dataclass
class Nats:
    """Nats of each record's reply, and how many tokens they are spread over."""

    text: list[float] = field(default_factory=list)
    audio: list[float] = field(default_factory=list)
    n_text: list[int] = field(default_factory=list)  # pieces, OPEN and END
    n_audio: list[int] = field(default_factory=list)  # codes, and one EOA per span

    def score(self, what: str, name: str, note: str = "") -> Score | None:
        """Nats per token of `what`, 'text' or 'audio'."""
        return ratio(name, getattr(self, what), getattr(self, f"n_{what}"), note)


def estimator(p: Preset, block: int) -> Preset:
    """The preset that measures a talker trained with `p` and decoded in blocks of `block` slots."""
    sizes = (block,) if p.two_streams else (None,)
    quiet: dict[str, Any] = {"short_first_block": 0.0, "banom": 0.0, "ppm": 0.0, "sst": 0.0}
    return replace(p, two_streams=True, block_sizes=sizes, restrict_classes=True, text_at_mask=True, **quiet)


@torch.no_grad()
def reply_nats(
    model: Transformer,
    corpus: Corpus,
    records: list[dict],
    p: Preset,
    draws: int = 8,
    seed: int = 0,
    noise: Callable[[Batch, Preset, torch.Generator], Noise] = draw_noise,
) -> Nats:
    """Measure every record by `p` (see `estimator`), audio as a mean over `draws` draws of noise.

    The noise of a record is drawn from the record's own seed (`Corpus.seed_of`): other records in the list change nothing.
    """
    found = Nats()
    vocabulary = corpus.vocabulary
    [block] = p.block_sizes
    for record in records:
        record_seed = corpus.seed_of(record, seed)
        generator = torch.Generator().manual_seed(record_seed)
        rng = random.Random(record_seed)
        # 1. The record as training would see it, filler and all, once for each draw of noise.
        document = example(render(record, corpus, block), p, block, None, rng)  # (6, n)
        batch = pack([document] * draws, document.shape[1], vocabulary.pad)  # (draws, n)
        drawn = noise(batch, p, generator)
        # 2. Nats of all draws, and their mean.
        text, audio = predict(model, batch, vocabulary, p, drawn)
        found.text.append(text.nats().item() / draws)
        found.audio.append(audio.nats().item() / draws)
        # 3. What they are divided by: the tokens without filler.
        bare = render(record, corpus)
        found.n_text.append(sum(bare.targets))
        found.n_audio.append(bare.kinds.count(TARGET))
    return found
