"""What a GPU does with this project, in one command: on a machine with a GPU, without network access, in 25 minutes.

    python benchmarks/gpu.py                 # all parts
    python benchmarks/gpu.py --part 2        # one of them, in less than ten minutes
    python benchmarks/gpu.py --table         # the table for the reader, from what was measured
    python benchmarks/gpu.py --small --json FILE   # all parts in seconds, on any machine: nothing in it is a measurement

part 1  tests that need a GPU (marker `gpu`), the training of notebook 05 and that of `make train`, both cut short
part 2  training: tokens per second and utilisation, a dense mask against FlexAttention, rows of 1k, 4k and 16k tokens
part 3  decoding: audio in blocks (NAR) against one slot at a time (AR), with and without CUDA graphs, 1 to 64 rows; and the
        time from a spoken question to the first sound

Every figure is written to the JSON as soon as it is there, so that a run that is cut off loses only what was in progress; a
part that is run again replaces its own figures. Where a figure could not be measured, the reason is in its place.

Model FLOPs are what the mathematics asks for, forward and backward: 3 x (2 x weights x tokens + 4 x width x layers x visible
pairs). Utilisation (MFU) is their rate over that of a large bfloat16 matrix product, measured on the same device in the same
run: no data sheet is trusted. Tokens are those that the network sees, in both streams.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from graphs import GraphedContext  # noqa: E402
from reply_shape import Shape, Shaped  # noqa: E402

from minittt.app.streaming import answer_aloud  # noqa: E402
from minittt.attention import SOURCE, TARGET, TEXT, Tokens, two_streams  # noqa: E402
from minittt.codec import Codec, read_audio  # noqa: E402
from minittt.context import CachedContext  # noqa: E402
from minittt.data.batches import Batch, lay_out, pack  # noqa: E402
from minittt.data.conversation import TokenSequence  # noqa: E402
from minittt.data.corpus import load_corpus  # noqa: E402
from minittt.data.vocabulary import Vocabulary  # noqa: E402
from minittt.decoding import Settings, generate  # noqa: E402
from minittt.device import best_device, bfloat16_is_fast  # noqa: E402
from minittt.model import ModelConfig, Transformer  # noqa: E402
from minittt.objective import PRESETS, draw_noise, unified_loss  # noqa: E402
from minittt.settings import TrainingSettings, samples_folder, shipped_folder  # noqa: E402
from minittt.talker import Talker, decoding_settings  # noqa: E402
from minittt.training.trainer import Trainer  # noqa: E402

FIGURES = ROOT / "benchmarks" / "figures" / "gpu.json"
NOT_MEASURED = "not measured"
LARGE = {"d_model": 1024, "n_layers": 12, "n_heads": 16, "n_kv_heads": 4, "d_ff": 2816}
TINY = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
TEXT_TOKENS, SPAN = 13, 104  # of a reply: about four seconds of speech
PROMPT = 200  # tokens of a spoken question


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(act: Callable[[], object], times: int, warm_up: int) -> float:
    """The median time of an act, in seconds."""
    found = []
    for i in range(warm_up + times):
        wait()
        begin = time.perf_counter()
        act()
        wait()
        if i >= warm_up:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


class Figures:
    """The JSON of one machine, written whenever something is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = {"machine": machine(), "parts": {}}
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known.get("machine") == self.found["machine"]:  # another machine's figures are not mixed in
                self.found = known

    def begin(self, part: str) -> None:
        """Forget what was measured of a part before."""
        self.found["parts"][part] = {}
        self.write()

    def add(self, part: str, name: str, figure: object) -> None:
        """Note one figure, and print it."""
        self.found["parts"][part][name] = figure
        print(f"{part}: {name}: {json.dumps(figure)}", flush=True)
        self.write()

    def write(self) -> None:
        """The whole file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")


def machine() -> dict:
    """What the figures depend on."""
    there = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if there else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if there else None,
        "python": platform.python_version(),
    }


def or_why_not(act: Callable[[], dict]) -> dict:
    """A figure, or in its place why there is none: one that fails must not take the others with it."""
    try:
        return act()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"failed": "out of memory"}
    except Exception as error:  # whatever a compiler or a driver comes up with
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


# ---- part 1: does it work there


def run_tests() -> dict:
    """The tests that need a GPU: what pytest says of them in its last line."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    return {"code": done.returncode, "said": lines[-1]}


def train_briefly(families: tuple[str, ...], minutes: float, small: bool) -> dict:
    """Train on the shipped corpus (of it `families`, or everything) for so long: steps, tokens a second, held-out losses."""
    corpus = load_corpus(samples_folder() / "corpus")
    splits = {}
    for name, records in corpus.splits.items():
        chosen = [record for record in records if not families or record["family"] in families]
        splits[name] = chosen[:20] if small else chosen
    corpus = replace(corpus, splits=splits)
    sizes = TINY if small else {}
    records = 8 if small else 40
    settings = TrainingSettings(records=records, samples=0, model=sizes)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(corpus, folder, settings)
        trainer._one_step()  # warms up
        tokens = 0
        wait()
        begin = time.perf_counter()
        while time.perf_counter() - begin < 60 * minutes:
            line, n = trainer._one_step()
            tokens += n
        seconds = time.perf_counter() - begin
        losses = {name: value for name, value in trainer.evaluate().items() if name != "sample"}
    return {
        "steps": trainer.step,
        "steps a second": (trainer.step - 1) / seconds,
        "tokens a second": tokens / seconds,
        "text": line["text"],
        **losses,
    }


def part_1(figures: Figures, small: bool) -> None:
    """Tests, and the trainings that a reader would run."""
    figures.begin("works")
    if not small:
        figures.add("works", "tests that need a GPU", or_why_not(run_tests))
    minutes = 0.002 if small else 1.5
    notebook = ("asr", "tts", "qa")
    figures.add("works", "notebook 05", or_why_not(lambda: train_briefly(notebook, minutes, small)))
    figures.add("works", "make train", or_why_not(lambda: train_briefly((), minutes, small)))


# ---- part 2: training


def matrix_product(device: torch.device, dtype: torch.dtype, small: bool) -> float:
    """FLOP a second of a large matrix product: the most that this device gives."""
    n = 128 if small else 8192
    a = torch.randn(n, n, dtype=dtype, device=device)
    return 2 * n**3 / seconds_of(lambda: a @ a, times=8, warm_up=3)


def conversation(vocabulary: Vocabulary, length: int, generator: torch.Generator) -> TokenSequence:
    """A conversation of `length` tokens of both streams: a question that is heard, text, and speech, over and over."""
    sequence = TokenSequence()
    used = 0
    while used < length:
        for kind, n in ((SOURCE, 64), (TEXT, 16), (TARGET, 96)):
            first, last = (
                (1, vocabulary.text_size) if kind == TEXT else (vocabulary.first_code, vocabulary.eoa)
            )
            streams = 2 if kind == TARGET else 1
            n = min(n, (length - used) // streams)
            ids = torch.randint(first, last, (n,), generator=generator).tolist()
            sequence.add(ids, kind, target=kind == TEXT and used > 0)
            used += streams * n
        if length - used < 2:
            break
    return sequence


def batch_of(vocabulary: Vocabulary, length: int, document: int, rows: int) -> Batch:
    """Rows of `length` tokens, in each of which documents of `document` tokens are packed."""
    generator = torch.Generator().manual_seed(0)
    documents = []
    for _ in range(rows * (length // document)):
        documents.append(lay_out(conversation(vocabulary, document, generator), 16))
    return pack(documents, length, vocabulary.pad)


def visible_pairs(batch: Batch, chunk: int = 512) -> int:
    """How many pairs of query and key the mask of two streams lets through."""
    tokens = Tokens(batch.groups, batch.documents, batch.noisy)
    pairs = 0
    for start in range(0, batch.ids.shape[1], chunk):
        queries = tokens.at(slice(None), slice(start, start + chunk)).as_queries()
        pairs += int(two_streams(queries, tokens.as_keys()).sum())
    return pairs


def training_speed(
    batch: Batch, sizes: dict, attention: str, checkpointing: bool, peak: float, small: bool
) -> dict:
    """Optimiser steps on one batch: tokens a second, utilisation, memory."""
    device = best_device()
    if attention == "flex" and device.type != "cuda":
        return {"failed": f"FlexAttention has no backward pass on {device.type}"}
    vocabulary = Vocabulary(400, 512)
    config = ModelConfig(vocabulary.size, **sizes, max_length=batch.ids.shape[1])
    model = Transformer(config).to(device).train()
    model.gradient_checkpointing = checkpointing
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    noise = draw_noise(batch, PRESETS["exact"], torch.Generator().manual_seed(0))
    half = bfloat16_is_fast(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = unified_loss(model, batch, vocabulary, PRESETS["exact"], None, noise, attention=attention)
        loss.total.backward()
        optimiser.step()
        optimiser.zero_grad()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(step, times=2 if small else 10, warm_up=1 if small else 4)
    weights = sum(p.numel() for n, p in model.named_parameters() if p.dim() > 1 and "embed_tokens" not in n)
    tokens = int((batch.kinds >= 0).sum())
    pairs = visible_pairs(batch)
    flops = 3 * (2 * weights * tokens + 4 * config.d_model * config.n_layers * pairs)
    figure = {"tokens a second": tokens / seconds, "utilisation": flops / seconds / peak}
    if device.type == "cuda":
        figure["GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return figure


def part_2(figures: Figures, small: bool) -> None:
    """Training speed, dense against FlexAttention."""
    figures.begin("training")
    device = best_device()
    dtype = torch.bfloat16 if bfloat16_is_fast(device) else torch.float32
    peak = matrix_product(device, dtype, small)
    figures.add("training", "matrix product, TFLOP/s", peak / 1e12)
    sizes = TINY if small else LARGE
    lengths = (128, 256) if small else (1024, 4096, 16384)
    document = 128 if small else 1024
    for length in lengths:
        rows = lengths[-1] // length  # equally many tokens a step
        layouts = {"documents packed": document, "one document a row": length}
        for layout, of_document in layouts.items():
            batch = batch_of(Vocabulary(400, 512), length, of_document, rows)
            for attention, checkpointing in (("dense", False), ("flex", False), ("flex", True)):
                name = f"{length} tokens, {layout}, {attention}"
                if checkpointing:
                    name += ", gradient checkpointing"
                measure = lambda b=batch, a=attention, c=checkpointing: training_speed(  # noqa: E731
                    b, sizes, a, c, peak, small
                )
                figures.add("training", name, or_why_not(measure))


# ---- part 3: decoding


def spoken_prompts(vocabulary: Vocabulary, rows: int) -> tuple[list[list[int]], list[list[int]]]:
    """Questions that are heard, PROMPT tokens each, and their groups."""
    prompts = []
    for row in range(rows):
        generator = torch.Generator().manual_seed(row)
        codes = torch.randint(vocabulary.first_code, vocabulary.eoa, (PROMPT - 3,), generator=generator)
        prompts.append([vocabulary.bos, *codes.tolist(), vocabulary.eoa, vocabulary.assistant])
    groups = [0, *[1] * (PROMPT - 2), 2]
    return prompts, [groups] * rows


def reply_speed(context: Callable, rows: int, settings: Settings, shape: Shape, times: int) -> dict:
    """Replies of one shape for `rows` rows: seconds, tokens a second, seconds a forward."""
    vocabulary = shape.vocabulary
    prompts, groups = spoken_prompts(vocabulary, rows)
    forwards = 0

    def reply() -> None:
        nonlocal forwards
        shaped = Shaped(context(), shape, prompts, time.perf_counter)
        generators = [torch.Generator().manual_seed(row) for row in range(rows)]
        for _ in generate(shaped, prompts, groups, vocabulary.classes(), settings, generators):
            pass
        forwards = len(shaped.begun)

    seconds = seconds_of(reply, times, warm_up=1)
    tokens = rows * (shape.text + shape.span + 2)
    return {
        "tokens a second": tokens / seconds,
        "seconds": seconds,
        "milliseconds a forward": 1000 * seconds / forwards,
    }


def contexts(model: Transformer, rows: int, vocabulary: Vocabulary) -> Iterator[tuple[str, Callable]]:
    """The ways to remember, by name. A context with graphs is kept: recording them is no part of a reply."""
    room = PROMPT + TEXT_TOKENS + 2 * SPAN
    given = (model, rows, vocabulary.pad, room, vocabulary.classes())
    yield "cached", lambda: CachedContext(*given)
    kept = GraphedContext(*given)

    def emptied() -> GraphedContext:
        kept.lengths = [0] * rows
        kept.closed = [-1] * rows
        return kept

    yield "CUDA graphs", emptied


@torch.no_grad()
def first_sound(device: torch.device, times: int) -> dict:
    """The shipped talker answers a recording: seconds until its first sound, and how fast it speaks."""
    folder = shipped_folder("people")
    talker = Talker.load(folder / "talker.safetensors").to(device)
    codec = Codec.load(folder / "codec.safetensors").to(device)
    wave = read_audio(samples_folder() / "wav" / "question_1.wav", codec.config.sample_rate)
    settings = decoding_settings(8, 4, 0.5, first_block=4)
    first, whole, listening = [], [], []
    for _ in range(times + 1):  # the first one warms up
        begin = time.perf_counter()
        heard = talker.listen(codec, wave)
        listening.append(time.perf_counter() - begin)
        _, pace = answer_aloud(talker, codec, [["system", "answer"], ["user", heard]], settings, 0, None)
        first.append(listening[-1] + pace.first)
        whole.append(pace.last / pace.speech)
    return {
        "seconds to the first sound": statistics.median(first[1:]),
        "of them listening": statistics.median(listening[1:]),
        "computing a second of speech": statistics.median(whole[1:]),
    }


def part_3(figures: Figures, small: bool) -> None:
    """Decoding speed, and the time to the first sound."""
    figures.begin("decoding")
    device = best_device()
    figures.add("decoding", "shipped talker", or_why_not(lambda: first_sound(device, 1 if small else 5)))
    vocabulary = Vocabulary(400, 512)
    sizes = TINY if small else LARGE
    dtype = torch.bfloat16 if bfloat16_is_fast(device) else torch.float32
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocabulary.size, **sizes)).to(device, dtype).eval()
    shape = Shape(vocabulary, TEXT_TOKENS, 8 if small else SPAN)
    ways = {"NAR, blocks of 8 in 2 steps": (8, 2), "NAR, blocks of 8 in 4 steps": (8, 4), "AR": (1, 1)}
    for rows in (1, 2) if small else (1, 4, 16, 64):
        for way, (block, steps) in ways.items():
            settings = shape.settings("exact", block, steps)
            for name, context in contexts(model, rows, vocabulary):
                measure = lambda c=context, r=rows, s=settings: reply_speed(  # noqa: E731
                    c, r, s, shape, 1 if small else 3
                )
                figures.add("decoding", f"{rows} rows, {way}, {name}", or_why_not(measure))


PARTS = {1: part_1, 2: part_2, 3: part_3}

# ---- the table


def table(path: Path = FIGURES) -> str:
    """What was measured, in Markdown; where nothing was, the same table says so."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parts": {}}
    parts = found["parts"]
    where = NOT_MEASURED
    if "machine" in found:
        about = found["machine"]
        where = f"{about['gpu'] or 'no GPU'}, torch {about['torch']}, CUDA {about['cuda']}"
    training = parts.get("training", {})
    decoding = parts.get("decoding", {})
    rows = [("where", where)]
    rows.append(
        ("the training of notebook 05", _said(parts.get("works", {}).get("notebook 05"), "tokens a second"))
    )
    for length in (1024, 4096, 16384):
        for attention in ("dense", "flex"):
            figure = training.get(f"{length} tokens, documents packed, {attention}")
            name = "FlexAttention" if attention == "flex" else "a dense mask"
            rows.append(
                (
                    f"training, rows of {length:,} tokens, {name}",
                    _said(figure, "tokens a second", "utilisation"),
                )
            )
    for n in (1, 64):
        for way in ("NAR, blocks of 8 in 2 steps", "AR"):
            figure = decoding.get(f"{n} rows, {way}, CUDA graphs")
            rows.append((f"decoding, {n} row{'s' * (n > 1)}, {way}", _said(figure, "tokens a second")))
    sound = decoding.get("shipped talker")
    rows.append(("from a spoken question to the first sound", _said(sound, "seconds to the first sound")))
    lines = ["| on a GPU | |", "|---|---|"]
    lines += [f"| {what} | {figure} |" for what, figure in rows]
    return "\n".join(lines)


def _said(figure: dict | None, *names: str) -> str:
    """Figures in words: rates in whole numbers, shares in percent, times in seconds."""
    if figure is None:
        return NOT_MEASURED
    if "failed" in figure:
        return figure["failed"]
    words = []
    for name in names:
        value = figure[name]
        if name == "tokens a second":
            words.append(f"{value:,.0f} tokens/s")
        elif name == "utilisation":
            words.append(f"{100 * value:.0f} % of a matrix product's rate")
        else:
            words.append(f"{value:.2f} s")
    return ", ".join(words)


def main(arguments: list[str] | None = None) -> None:
    """Run the parts that are asked for, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", type=int, choices=list(PARTS), help="one part (default: all)")
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures are kept")
    parser.add_argument("--small", action="store_true", help="tiny sizes, on any machine; needs --json")
    parser.add_argument("--table", action="store_true", help="print the table of what was measured")
    args = parser.parse_args(arguments)
    if args.table:
        print(table(args.json))
        return
    if args.small and args.json == FIGURES:
        parser.error("--small measures nothing: give it a file of its own with --json")
    if not args.small and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --small --json FILE runs everything in tiny sizes")
    figures = Figures(args.json)
    for number in [args.part] if args.part else PARTS:
        begin = time.perf_counter()
        PARTS[number](figures, args.small)
        print(f"part {number}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
