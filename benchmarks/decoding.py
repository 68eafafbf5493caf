"""Decoding speed side by side: what a key cache, blocks and batches each save, with the same weights in one run.

    python benchmarks/decoding.py --threads 1 --json out/decoding.json --plot out/decoding.png
    python benchmarks/decoding.py --prompts 200,800 --recompute 200 --batches 1,4 --items 0       # a short look

Every reply has the same shape, one text chunk and one span, so that all ways do the same work: the weights are random, and
logits that would end a part early or late are ruled out. Ways to decode it:

cached        this project's context, every closed group kept; `exact` block by block, `paper` redrafts the whole span
recomputing   the same decoder, same replies, nothing kept: every step computes every position
released      the released code's own loop (`minittt/theory/released.py`): whole rows, all logits; replies as `paper`'s

Replies are asserted equal: cached = recomputing, released = cached (paper), batch = one by one. The time of a forward pass
includes choosing tokens from it. `--clock cpu` counts this process's own seconds: on one thread of a busy machine, that is
what the clock would show on a free core. With `--items` the shipped talker follows: see `policies.py` beside this file.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from decoding_report import Run, plot, row_of, show
from graphs import GraphedContext
from policies import measure_policies, show_policies
from reply_shape import Shape, Shaped, ShapedModel

from minittt.context import CachedContext, RecomputingContext
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import BlockClosed, End, generate
from minittt.device import best_device
from minittt.model import ModelConfig, Transformer
from minittt.theory.released import ReleasedIds, ReleasedSettings, generate_released


def note(run: Run, shaped, begin: float, end: float) -> Run:
    """Split a run's seconds into its forwards: one lasts until the next begins."""
    for start, stop, drafting in zip(shaped.begun, [*shaped.begun[1:], end], shaped.drafting, strict=True):
        (run.denoising if drafting else run.text).append(stop - start)
    run.text.pop(0)  # the prompt
    run.total = end - begin
    return run


def decode(way: str, context, shape: Shape, preset: str, prompts, groups, seeds, args) -> Run:
    """Decode a batch through `context`."""
    run, now = Run(way, preset, len(prompts[0]), len(prompts)), args.now
    shaped, begin = Shaped(context, shape, prompts, now), now()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    settings = shape.settings(preset, args.block, args.steps)
    ends = {}
    for event in generate(shaped, prompts, groups, shape.vocabulary.classes(), settings, generators):
        if isinstance(event, BlockClosed) and not run.first_sound:
            run.first_sound = now() - begin
        elif isinstance(event, End):
            ends[event.row] = list(event.ids)
    run.ids = [ends[row] for row in sorted(ends)]
    return note(run, shaped, begin, now())


def decode_released(model: Transformer, shape: Shape, prompt: list[int], args) -> Run:
    """Decode one prompt as the released code does."""
    v, n = shape.vocabulary, shape.text + shape.span + 2
    layout = ReleasedIds(v.first_code, v.mask, v.end, (v.open,), (v.eoa,))
    shaped, begin = ShapedModel(model, shape, len(prompt), args.now), args.now()
    settings = ReleasedSettings(args.block, args.steps, max_new=n, gen_length=100 * args.block)
    reply = generate_released(shaped, prompt, layout, settings)
    run = note(Run("released", "paper", len(prompt), 1), shaped, begin, args.now())
    run.ids = [reply.ids[len(prompt) :]]
    drafts = [start for start, drafting in zip(shaped.begun, shaped.drafting, strict=True) if drafting]
    run.first_sound = drafts[args.steps] - begin
    return run


def make_prompts(v: Vocabulary, length: int, rows: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of one length, most of which is a spoken question; and their groups."""
    made, heard = [], length * 3 // 4
    for row in range(rows):
        g = torch.Generator().manual_seed(row)
        words = torch.randint(1, v.text_size, (length - heard - 4,), generator=g).tolist()
        codes = torch.randint(v.first_code, v.eoa, (heard,), generator=g).tolist()
        made.append([v.bos, *words, v.open, *codes, v.eoa, v.assistant])
    n = length - heard - 2
    return made, [[*range(n), *[n] * (heard + 1), n + 1]] * rows


def operations(model: Transformer, shape: Shape, prompt: int, args) -> float:
    """Of a denoising forward of the cached `exact` run, on average over the span's blocks: FLOP."""
    weights = sum(p.numel() for n, p in model.named_parameters() if p.dim() > 1 and "embed_tokens" not in n)
    heads = len(shape.vocabulary.audio_choices()) * model.config.d_model
    tokens = args.block * (1 + 1 / args.steps)  # a finished block is committed with the next one's first step
    keys = prompt + shape.text + 1 + shape.span / 2
    pairs = 4 * model.config.d_model * model.config.n_layers * tokens * keys
    return 2 * weights * tokens + 2 * heads * args.block + pairs


def compare(model: Transformer, shape: Shape, args, lengths: list[int]) -> list[Run]:
    """One row at each prompt length, in every way; replies asserted equal where they must be."""
    runs, v, length = [], shape.vocabulary, shape.text + shape.span + 2
    for prompt in lengths:
        prompts, groups = make_prompts(v, prompt, 1)
        for preset in ("exact", "paper"):
            ways = {"cached": cached(CachedContext, model, 1, prompt + length, v)}
            if model.embed_tokens.weight.is_cuda:
                ways["graphs"] = cached(GraphedContext, model, 1, prompt + length, v)
            if prompt <= args.recompute:
                ways["recomputing"] = lambda: RecomputingContext(model, 1, v.pad)
            made = [decode(w, c(), shape, preset, prompts, groups, [0], args) for w, c in ways.items()]
            if preset == "paper" and prompt <= args.recompute:
                made.append(decode_released(model, shape, prompts[0], args))
            for run in made[1:]:
                assert run.ids == made[0].ids, f"{run.way} and cached differ at prompt {prompt}, {preset}"
            runs += made
    return runs


def cached(kind, model: Transformer, rows: int, length: int, v: Vocabulary) -> Callable:
    """A maker of contexts."""
    return lambda: kind(model, rows, v.pad, length, v.classes())


def sweep(model: Transformer, shape: Shape, args) -> list[Run]:
    """Batches of several sizes against the same prompts one by one: `exact`, at the first prompt length."""
    v, length = shape.vocabulary, args.prompts[0] + shape.text + shape.span + 2
    most = max(args.batches)
    prompts, groups = make_prompts(v, args.prompts[0], most)
    kind = GraphedContext if model.embed_tokens.weight.is_cuda else CachedContext
    one = Run("one by one", "exact", args.prompts[0], min(most, args.alone))
    for row in range(one.rows):
        given = prompts[row : row + 1], groups[row : row + 1], [row], args
        run = decode("alone", cached(kind, model, 1, length, v)(), shape, "exact", *given)
        for name in ("text", "denoising", "ids"):
            getattr(one, name).extend(getattr(run, name))
        one.total += run.total
        one.first_sound += run.first_sound / one.rows
    runs = [one]
    for rows in args.batches:
        context = cached(kind, model, rows, length, v)()
        run = decode("batch", context, shape, "exact", prompts[:rows], groups[:rows], range(rows), args)
        same = min(rows, one.rows)
        assert run.ids[:same] == one.ids[:same], f"a batch of {rows} and one by one differ"
        runs.append(run)
    return runs


def clock(name: str) -> Callable[[], float]:
    """Seconds by the wall or by this process's own count, all work on the device done."""
    read = time.perf_counter if name == "wall" else time.process_time

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return read()

    return now


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    samples = Path(__file__).parent.parent / "data_samples"
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    for name, default, what in (
        ("prompts", "200,800,3200", "prompt lengths, the batches' first"),
        ("batches", "1,4,16,64", "rows"),
    ):
        parser.add_argument(f"--{name}", type=numbers, default=numbers(default), help=what)
    for name, default, what in (
        ("recompute", 800, "longest prompt at which to recompute, too"),
        ("alone", 16, "rows decoded one by one"),
        ("text", 13, "text tokens"),
        ("span", 104, "audio slots"),
        ("block", 26, "slots denoised together"),
        ("steps", 8, "per block"),
        ("width", 256, "d_model"),
        ("layers", 6, "of the Transformer"),
        ("heads", 4, "of attention"),
        ("kv-heads", 2, "of keys and values"),
        ("ff", 688, "inner width of SwiGLU"),
        ("threads", 1, "CPU threads"),
        ("seed", 0, "of weights"),
        ("items", 1200, "records for the shipped talker's accuracy; 0: none"),
        ("timed", 20, "of them, for time"),
        ("scored", 200, "of them, for nats"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--temperature", type=float, default=0.5, help="of the shipped talker's audio")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    for name in ("talker", "codec", "referee"):
        parser.add_argument(f"--{name}", type=Path, default=samples / f"{name}.safetensors")
    parser.add_argument("--data", type=Path, default=samples / "corpus", help="corpus folder")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path, help="draw them there")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write, draw."""
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    given = {name: v.name if isinstance(v, Path) else v for name, v in vars(args).items()}
    args.now, device, vocabulary = clock(args.clock), best_device(), Vocabulary(400, 512)
    sizes = {"d_model": args.width, "n_layers": args.layers, "n_heads": args.heads, "d_ff": args.ff}
    config = ModelConfig(vocabulary.size, **sizes, n_kv_heads=args.kv_heads, max_length=2**14)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model, shape = Transformer(config).to(device, dtype).eval(), Shape(vocabulary, args.text, args.span)
    found = {"arguments": given, "device": str(device), "threads": args.threads}
    found["parameters"] = sum(p.numel() for p in model.parameters())
    compare(model, shape, args, args.prompts[:1])  # warms up
    found["compare"] = [row_of(run) for run in compare(model, shape, args, args.prompts)]
    found["operations"] = [operations(model, shape, prompt, args) for prompt in args.prompts]
    found["sweep"] = [row_of(run) for run in sweep(model, shape, args)]
    show(found, args)
    if args.items:
        found["policies"] = measure_policies(args)
        show_policies(found["policies"])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(found, args.plot)


if __name__ == "__main__":
    main()
