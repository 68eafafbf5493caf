"""What the decoder, the cache and the text head cost at the size of an LLM, beside the plain ways they replaced.

    python benchmarks/llm_overhead.py            # prints a table; --json FILE keeps it

The vocabulary has 156,000 ids, like Qwen2.5's with 4,096 codes. The plain way is given below: it sorts all tokens to keep a
few, finds the text ids anew for each token, and copies the requested rows of the head. Both ways take turns in one run, on
one thread. Processor time is compared, since other work on the machine disturbs the clock more; medians are printed.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minittt import decoding
from minittt.context import CachedContext
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import Row, Settings, TextToken, generate, sample_tokens
from minittt.model import ModelConfig, Transformer
from minittt.unmasking import Sampling

NEVER_WRITTEN = tuple(range(151_643, 151_665))  # an LLM's own controls
VOCABULARY = Vocabulary(151_936, 4096, never_written=NEVER_WRITTEN)
SAMPLINGS = {
    "greedy": {"temperature": 0.0},
    "top_k 10, top_p .95": {"top_k": 10, "top_p": 0.95},
    "top_p .95": {"top_p": 0.95},
}
QWEN = ModelConfig(
    VOCABULARY.size, d_model=896, n_layers=24, n_heads=14, n_kv_heads=2, d_ff=4864, max_length=32_768
)
WIDTH = 128  # of the head in training: time grows with it on both sides
TARGETS = 200  # text tokens of a training batch, and as many masked slots


# ---- the plain ways


@dataclass(frozen=True)
class SortingSampling(Sampling):
    """`Sampling` by a sort of all tokens."""

    def __call__(self, logits: Tensor) -> Tensor:
        """(N, A) -> (N, A)."""
        if self.temperature == 0:
            is_best = torch.arange(logits.shape[-1]) == logits.argmax(-1, keepdim=True)
            return logits.masked_fill(~is_best, -math.inf)
        scaled = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        ranked, order = scaled.sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ranked[:, self.top_k :] = -math.inf
        if self.top_p is not None:
            p = ranked.softmax(-1)
            ranked = ranked.masked_fill(p.cumsum(-1) - p >= self.top_p, -math.inf)
        return torch.empty_like(ranked).scatter(-1, order, ranked)


class SearchingRow(Row):
    """A `Row` that finds the ids it may write at each token anew. It knows no spans and no end: text alone."""

    def _write_text(self, logits: Tensor):
        allowed = self.classes.text.clone()
        allowed[self.classes.open_audio] = len(self.spans) < self.settings.max_spans
        allowed_ids = allowed.nonzero()[:, 0]
        allowed_logits = logits[None, allowed_ids].double()
        p = allowed_logits.softmax(-1)[0]
        index = sample_tokens(self.settings.text_sampling(allowed_logits), self._uniform(1))
        token = int(allowed_ids[index])
        self._append_group([token])
        self.text.append(token)
        yield TextToken(self.number, token, float(p[allowed_ids == token]))


def copied_logits(model: Transformer, hidden: Tensor, choices: Tensor) -> Tensor:
    """`Transformer.logits` with a copy of the head's rows. hidden (n, d), choices (m,) -> (n, m)."""
    return hidden @ model.lm_head.weight[choices].T


def found_text_choices() -> Tensor:
    """`Vocabulary.text_choices`, found anew."""
    return Vocabulary(151_936, 4096, never_written=NEVER_WRITTEN).text_choices()


# ---- what is measured


class FixedLogits:
    """A context without a network, so that all time is the decoder's. It never ends a reply, and opens no span."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rank = 1 + torch.randperm(VOCABULARY.size, generator=generator)  # (V,)
        self.logits = (
            -1.5 * rank.log()[None, None]
        )  # (1, 1, V): p as rank to the power of -1.5, much as words have it
        self.logits[..., [VOCABULARY.open, VOCABULARY.end]] = -math.inf

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`: a reply without spans drafts nothing."""
        return self.logits


CLASSES = VOCABULARY.classes()
CONTEXT = FixedLogits()


def write_text(row: type[Row], sampling: Sampling, tokens: int) -> list[int]:
    """The ids of a reply of so many text tokens."""
    settings = Settings(max_text=tokens + 1, text_sampling=sampling)
    generator = torch.Generator().manual_seed(0)
    decoding.Row = row
    try:
        events = generate(CONTEXT, [[VOCABULARY.bos]], [[0]], CLASSES, settings, [generator])
        return [next(events).id for _ in range(tokens)]
    finally:
        decoding.Row = Row


def train_head(model: Transformer, logits: Callable) -> None:
    """Forward and backward of the two heads of a training step."""
    hidden = torch.ones(TARGETS, WIDTH, requires_grad=True)
    for choices in (VOCABULARY.text_choices(), VOCABULARY.audio_choices()):
        logits(model, hidden, choices).sum().backward()
    model.zero_grad()


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    begin = time.process_time()
    work()
    return 1000 * (time.process_time() - begin)


def in_turn(plain: Callable, ours: Callable, times: int, parts: int = 1) -> dict:
    """Median milliseconds of both, of one part of `parts`, and the ratio."""
    plain()
    ours()
    spent = [(milliseconds(plain), milliseconds(ours)) for _ in range(times)]
    before = statistics.median(a for a, _ in spent) / parts
    after = statistics.median(b for _, b in spent) / parts
    return {"before_ms": round(before, 3), "after_ms": round(after, 3), "ratio": round(before / after, 1)}


def measure(tokens: int, times: int) -> list[dict]:
    """One line for each part."""
    lines = []
    # 1. A text token. Both ways write the same.
    for name, how in SAMPLINGS.items():
        plain = SortingSampling(**how)
        ours = Sampling(**how)
        if write_text(SearchingRow, plain, tokens) != write_text(Row, ours, tokens):
            raise SystemExit(f"{name}: the two ways write different replies")
        line = in_turn(
            lambda plain=plain: write_text(SearchingRow, plain, tokens),
            lambda ours=ours: write_text(Row, ours, tokens),
            times,
            tokens,
        )
        lines.append({"part": f"decoder, a text token, {name}", **line})
    # 2. The ids of text; both heads of a training step.
    lines.append(
        {"part": "text_choices, a call", **in_turn(found_text_choices, VOCABULARY.text_choices, times)}
    )
    head = Transformer(ModelConfig(VOCABULARY.size, WIDTH, n_layers=0, n_heads=1, n_kv_heads=1))
    line = in_turn(
        lambda: train_head(head, copied_logits), lambda: train_head(head, Transformer.logits), times
    )
    lines.append({"part": f"heads in training, width {WIDTH}", **line})
    return lines


def cache_megabytes(length: int) -> float:
    """What `CachedContext` takes for a row of so many tokens at the sizes of Qwen2.5-0.5B, in float32."""
    with torch.device("meta"):  # sizes without memory
        context = CachedContext(Transformer(QWEN), 1, VOCABULARY.pad)
    context._make_room(length)
    numbers = sum(cache.keys.numel() + cache.values.numel() for cache in context.caches)
    return 4 * numbers / 1e6


def main(arguments: list[str] | None = None) -> dict:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20, help="text tokens of a reply (default 20)")
    parser.add_argument("--times", type=int, default=7, help="turns of each way (default 7)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = measure(args.tokens, args.times)
    for line in lines:
        before, after = f"{line['before_ms']:.2f} ms", f"{line['after_ms']:.2f} ms"
        print(f"{line['part']:<44} before {before:>12}   after {after:>10}   ratio {line['ratio']}")
    cache = {"before_mb": round(cache_megabytes(QWEN.max_length)), "after_mb": round(cache_megabytes(300))}
    cache["ratio"] = round(cache["before_mb"] / cache["after_mb"], 1)
    lines.append({"part": "cache of a row of 300 tokens, Qwen2.5-0.5B", **cache})
    print(f"{lines[-1]['part']:<44} before {cache['before_mb']:>9} MB   after {cache['after_mb']:>7} MB")
    found = {"vocabulary": VOCABULARY.size, "torch": torch.__version__, "threads": 1, "parts": lines}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
