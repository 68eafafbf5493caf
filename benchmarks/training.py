"""Training speed of the objectives side by side, on the same records in the same run.

    python benchmarks/training.py --threads 2 --json out/training.json
    python benchmarks/training.py --width 512 --layers 8 --heads 8 --row-length 1024 --records 32

causal        plain next-token loss over every token, packed rows, with a dense (L, L) mask
causal kernel the same through the is_causal kernel (documents in a row see each other: no mask, the fastest there is)
paper, exact  the two presets as they are trained, packed rows
padded        `paper` in the layout of the released code: one record per row, padded to the longest record

Steps of all layouts take turns and the median counts, so that a busy machine slows all alike. Tokens are those of the
records themselves: padding, filler and the noisy stream do not count, so tokens/s compares useful work. Model FLOPs are
what the mathematics asks for, whatever else a kernel computes: forward and backward of
3 x (2 x weights x slots + 4 x width x layers x visible pairs + 2 x width x choices x places read), padding left out.
Utilisation is their rate over that of a large matrix product measured here, in the same number format.
"""

import argparse
import json
import random
import statistics
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from minittt.attention import group_mask, two_stream_mask
from minittt.data.batches import Batch, lay_out, pack
from minittt.data.conversation import render
from minittt.data.corpus import Corpus, load_corpus
from minittt.device import best_device
from minittt.model import ModelConfig, Transformer
from minittt.objective import PRESETS, Preset, draw_noise, example, targets, unified_loss
from minittt.training.loader import Loader


@dataclass
class Layout:
    """One way to train: its batches, its loss, and what was measured."""

    name: str
    batches: list[Batch]
    p: Preset | None = None  # None: plain causal
    kernel: bool = False
    seconds: list[float] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)


def layouts(corpus: Corpus, args) -> tuple[list[Layout], list[int], int]:
    """All layouts of the same records, the tokens of each step, and how many records were left out."""
    records = corpus.split("train")
    records = random.Random(args.seed).sample(records, min(args.sample, len(records)))
    exact = Loader(records, corpus, PRESETS["exact"], args.seed, args.records, args.row_length)
    paper = Loader(exact.records, corpus, PRESETS["paper"], args.seed, args.records, args.row_length)
    longest = max(len(render(record, corpus).ids) for record in exact.records)
    device, pad = best_device(), corpus.vocabulary.pad
    made: dict[str, list[Batch]] = {"causal": [], "paper": [], "exact": [], "padded": []}
    tokens = []
    for step in range(args.steps):
        chosen = [
            exact.records[paper._order(i // len(exact.records))[i % len(exact.records)]]
            for i in range(step * args.records, (step + 1) * args.records)
        ]
        rendered = [render(record, corpus) for record in chosen]
        tokens.append(sum(len(sequence.ids) for sequence in rendered))
        plain = [lay_out(sequence, None, None, False) for sequence in rendered]
        alone = [example(s, PRESETS["paper"], None, None, random.Random(step)) for s in rendered]
        made["causal"].append(pack(plain, args.row_length, pad))
        made["paper"].append(paper.batch(step))
        made["exact"].append(exact.batch(step))
        made["padded"].append(one_a_row(alone, longest, pad))
    causal = [batch.to(device) for batch in made["causal"]]  # all others are moved by the loss
    found = [Layout("causal", causal), Layout("causal kernel", causal, kernel=True)]
    found += [Layout(n, made[n], PRESETS["exact" if n == "exact" else "paper"]) for n in list(made)[1:]]
    return found, tokens, exact.left_out


def one_a_row(documents: list[Tensor], length: int, pad: int) -> Batch:
    """Every document in a row of its own, all rows of one length."""
    rows = [pack([document], length, pad) for document in documents]
    outside = {"ids": pad, "kinds": -1, "groups": -1, "documents": -1}
    columns = {}
    for name in vars(rows[0]):
        tensors = [getattr(row, name) for row in rows]
        value = outside.get(name, 0)
        columns[name] = torch.cat([F.pad(t, (0, length - t.shape[1]), value=value) for t in tensors])
    return Batch(**columns)


@contextmanager
def causal_kernel():
    """Inside, attention takes no mask but is causal by the kernel's own means."""
    attend = F.scaled_dot_product_attention
    with mock.patch.object(
        F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: attend(q, k, v, is_causal=True)
    ):
        yield


def causal_loss(model: Transformer, batch: Batch, kernel: bool) -> Tensor:
    """A mean over all tokens of the cross-entropy of the next one in the same document."""
    L = batch.ids.shape[1]
    causal = torch.ones(L, L, dtype=torch.bool, device=batch.ids.device).tril()
    same = batch.documents[:, :, None] == batch.documents[:, None]
    mask = causal[None] if kernel else causal & same  # (B, L, L)
    hidden = model.hidden(batch.ids, mask, batch.positions)
    row, at = ((batch.kinds >= 0) & (batch.positions > 0)).nonzero(as_tuple=True)
    return F.cross_entropy(model.logits(hidden[row, at - 1]).float(), batch.ids[row, at])


def train_step(model, optimiser, layout: Layout, batch: Batch, vocabulary, step: int, half: bool) -> None:
    """Forward, backward, clip, update."""
    generator = torch.Generator().manual_seed(step)
    with torch.autocast(model.embed_tokens.weight.device.type, torch.bfloat16, enabled=half):
        if layout.p is None:
            with causal_kernel() if layout.kernel else nullcontext():
                loss = causal_loss(model, batch, layout.kernel)
        else:
            loss = unified_loss(model, batch, vocabulary, layout.p, generator).total
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()


def model_flops(config: ModelConfig, weights: int, layout: Layout, batch: Batch, vocabulary, step: int):
    """What one step asks for (see the module's docstring)."""
    real = batch.kinds >= 0
    if layout.p is None:
        same = batch.documents[:, :, None] == batch.documents[:, None]
        pairs = int((same & real[:, :, None]).tril().sum())
        read = int((real & (batch.positions > 0)).sum()) * vocabulary.size
    else:
        streams = (batch.groups, batch.noisy, batch.documents)
        mask = two_stream_mask(*streams) if layout.p.two_streams else group_mask(*streams[::2])
        pairs = int((mask & real[:, :, None]).sum())
        noise = draw_noise(batch, layout.p, torch.Generator().manual_seed(step))
        text, audio = targets(batch, noise, vocabulary, layout.p)
        whole = not layout.p.restrict_classes
        read = int(text.sum()) * (vocabulary.size if whole else len(vocabulary.text_choices()))
        audio_choices = vocabulary.size if whole else len(vocabulary.audio_choices())
        read += int((audio & noise.masked).sum()) * audio_choices
    forward = 2 * weights * int(real.sum()) + 4 * config.d_model * config.n_layers * pairs
    return 3 * (forward + 2 * config.d_model * read)


def peak(half: bool, n: int = 1024) -> float:
    """FLOP/s of an n x n matrix product here."""
    dtype, device = torch.bfloat16 if half else torch.float32, best_device()
    n = 8 * n if device.type == "cuda" else n
    a = torch.randn(n, n, dtype=dtype, device=device)
    times = []
    for _ in range(8):
        wait()
        begin = time.perf_counter()
        a @ a
        wait()
        times.append(time.perf_counter() - begin)
    return 2 * n**3 / min(times)


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(corpus: Corpus, args) -> dict:
    """Train all layouts by turns. Returns what `show` prints."""
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    half = torch.cuda.is_available()
    sizes = {
        "d_model": args.width,
        "n_layers": args.layers,
        "n_heads": args.heads,
        "n_kv_heads": args.kv_heads,
    }
    config = ModelConfig(corpus.vocabulary.size, **sizes, d_ff=args.ff or round(2.7 * args.width / 16) * 16)
    model = Transformer(config).to(best_device()).train()
    weights = sum(p.numel() for n, p in model.named_parameters() if p.dim() > 1 and "embed_tokens" not in n)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    made, tokens, left_out = layouts(corpus, args)
    for turn in range(-1, args.steps):  # the first turn warms up
        for layout in made:
            batch = layout.batches[max(turn, 0)]
            wait()
            begin = time.perf_counter()
            train_step(model, optimiser, layout, batch, corpus.vocabulary, turn + 1, half)
            wait()
            if turn >= 0:
                layout.seconds.append(time.perf_counter() - begin)
                flops = model_flops(config, weights, layout, batch, corpus.vocabulary, turn + 1)
                layout.flops.append(flops)
    clean = sum(int((b.kinds >= 0).sum() - b.noisy.sum()) for b in made[3].batches)
    noisy = sum(int(b.noisy.sum()) for b in made[3].batches)
    head = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak": peak(half),
        "left_out": left_out,
    }
    head |= {"device": str(best_device()), "threads": torch.get_num_threads(), "noisy_share": noisy / clean}
    head |= {"arguments": {n: v.name if isinstance(v, Path) else v for n, v in vars(args).items()}}
    return {**head, "layouts": [summary(layout, tokens, head["peak"]) for layout in made]}


def summary(layout: Layout, tokens: list[int], best: float) -> dict:
    """Medians over the steps of one layout."""
    speed = statistics.median(n / s for n, s in zip(tokens, layout.seconds, strict=True))
    rate = statistics.median(f / s for f, s in zip(layout.flops, layout.seconds, strict=True))
    slots = sum(b.ids.numel() for b in layout.batches)
    useful = sum(int((b.kinds >= 0).sum()) for b in layout.batches) / slots
    found = {"layout": layout.name, "seconds": statistics.median(layout.seconds), "tokens_per_s": speed}
    found |= {"filled": useful, "model_flops": statistics.mean(layout.flops)}
    return found | {"model_flops_per_s": rate, "utilisation": rate / best}


def show(found: dict) -> None:
    """Print the table."""
    print(
        f"{found['parameters']:,} parameters, {found['device']}, {found['threads']} threads, "
        f"matrix product {found['peak'] / 1e9:.1f} GFLOP/s; {found['left_out']} records were too long"
    )
    print(
        f"{'':14} {'s/step':>8} {'x causal':>9} {'tokens/s':>9} {'filled':>7} {'GFLOP/step':>11} {'util.':>6}"
    )
    first = found["layouts"][0]["seconds"]
    for row in found["layouts"]:
        print(
            f"{row['layout']:14} {row['seconds']:8.3f} {row['seconds'] / first:9.2f} {row['tokens_per_s']:9.0f} "
            f"{row['filled']:7.1%} {row['model_flops'] / 1e9:11.2f} {row['utilisation']:6.1%}"
        )
    f = found["noisy_share"]
    print(f"the noisy stream is f = {f:.2f} of the clean one: (1 + f) x 1.25 = {1.25 * (1 + f):.2f}")


def main() -> None:
    """Read the sizes, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    samples = Path(__file__).parent.parent / "data_samples"
    parser.add_argument("--data", type=Path, default=samples / "corpus", help="corpus folder")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    for name, default, what in (
        ("width", 160, "d_model"),
        ("layers", 4, "of the Transformer"),
        ("heads", 4, "of attention"),
        ("kv-heads", 2, "of keys and values"),
        ("ff", 0, "inner width of SwiGLU (default: 2.7 x width)"),
        ("row-length", 256, "slots of a packed row"),
        ("records", 64, "per step"),
        ("steps", 10, "to measure, each of other records"),
        ("sample", 4000, "records to draw from"),
        ("seed", 0, "of weights and records"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = measure(load_corpus(args.data), args)
    show(found)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
