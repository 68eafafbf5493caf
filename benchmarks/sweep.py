"""Every way to fill a block, on a trained talker: quality against forwards per audio token, and which ways are unbeaten.

    python benchmarks/sweep.py                                   # the shipped talker; writes data_samples/scores/sweep.json

Block size x steps x policy x temperature. Three qualities: the text of spoken answers (greedy, and determined by the
question), their words as the referee hears them, and the voice: the share of windows that agree with their reply's voice,
beside how evenly the four voices occur (always choosing the same one would be coherent too).
"""

import argparse
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pictures import save
from timed_training import ROOT, provenance, rounded
from tqdm import tqdm

from minittt.app.cli import SAMPLES
from minittt.app.plotting import COLOURS, house_style
from minittt.codec import Codec, whole_file
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus, load_corpus
from minittt.decoding import DenoisingStep, Settings
from minittt.evaluation.evaluate import ask, family, trained_with, true_spans, words_of_reply
from minittt.evaluation.referee import Referee
from minittt.evaluation.scores import Score, normal, ratio, words_right
from minittt.talker import Talker, decoding_settings
from minittt.unmasking import policy_named

BLOCKS = (1, 4, 8, 16)
POLICIES = ("random_order", "left_to_right", "entropy_order", "confidence_released")
OPEN = ("confidence_threshold:0.9", "entropy_bound:0.5")  # as many steps as they need
TEMPERATURES = (0.0, 0.5, 1.0)
PICTURE = ROOT / "tutorials" / "pictures" / "sweep.png"


@dataclass(frozen=True)
class Way:
    """One way to decode audio."""

    block: int
    steps: int
    policy: str
    temperature: float

    def settings(self, full_span: bool) -> Settings:
        """Greedy text."""
        return decoding_settings(
            self.block, self.steps, self.temperature, full_span, policy_named(self.policy)
        )


def ways(full_span: bool) -> list[Way]:
    """Steps halve from one a slot to one a block; a block of one slot needs no policy."""
    found = []
    for temperature in TEMPERATURES:
        for block in BLOCKS[1:] if full_span else BLOCKS:
            steps = [2**k for k in range(int(math.log2(block)) + 1)]
            policies = POLICIES if block > 1 else POLICIES[:1]
            found += [Way(block, k, policy, temperature) for policy in policies for k in steps]
            found += [Way(block, block, policy, temperature) for policy in OPEN if block > 1]
    return found


def evenness(counts: Counter, voices: int) -> float:
    """Entropy of which voice is heard, as a share of its greatest value."""
    shares = np.array([n for n in counts.values() if n > 0], float) / max(1, sum(counts.values()))
    return float(-(shares * np.log(shares)).sum() / math.log(voices))


def measure(
    talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, records: list[dict], way: Way
) -> dict:
    """Scores of one way over these records, spoken questions."""
    settings = way.settings(not trained_with(talker).two_streams)
    pairs = ask(talker, corpus, records, settings).pairs()
    right = [normal(reply_text(record)) == normal(reply.text) for record, reply in pairs]
    said = [words_of_reply(corpus, record) for record, _ in pairs]
    waves = [
        np.concatenate([talker.sound(codec, span) for span in reply.spans or [[]]]) for _, reply in pairs
    ]
    steps = [sum(isinstance(e, DenoisingStep) for e in reply.events) for _, reply in pairs]
    slots = [sum(len(span) + 1 for span in reply.spans) for _, reply in pairs]
    heard = Counter(referee.voice_of(wave) for wave in waves)
    heard.pop(-1, None)  # silence
    scores: dict[str, Score] = {
        "text right": ratio("", right),
        "words recognised": ratio("", *words_right(said, referee.transcribe(waves))),
        "voice coherence": ratio("", [referee.voice_coherence(wave) for wave in waves]),
        "forwards per token": ratio("", steps, slots),
    }
    kept = {name: {k: getattr(s, k) for k in ("value", "low", "high")} for name, s in scores.items()}
    return {**asdict(way), "voices even": evenness(heard, len(referee.config.voices)), **kept}


def front(rows: list[dict], quality: str) -> list[int]:
    """Rows that nothing beats: no other has as much of `quality` for fewer forwards, or more for as many."""
    points = [(row["forwards per token"]["value"], row[quality]["value"]) for row in rows]
    return [
        i
        for i, (cost, good) in enumerate(points)
        if not any(c <= cost and g >= good and (c, g) != (cost, good) for c, g in points)
    ]


def draw(rows: list[dict], path: Path) -> None:
    """Three qualities against forwards per audio token; a mark a policy, filled at temperature 1; fronts as lines."""
    marks = dict(zip(dict.fromkeys(row["policy"] for row in rows), "os^vDP", strict=False))
    colours = dict(
        zip(marks, ("#404040", "#56B4E9", "#CC79A7", "#D55E00", "#0072B2", "#009E73"), strict=False)
    )
    with house_style():
        figure = Figure(figsize=(12, 3.4), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for ax, quality in zip(axes, ("text right", "words recognised", "voice coherence"), strict=True):
            for row in rows:
                how = {"color": colours[row["policy"]], "markersize": 3 + row["block"] / 5}
                fill = {1.0: "full", 0.5: "left"}.get(row["temperature"], "none")
                plain = (row["block"], row["steps"], row["temperature"]) == (16, 16, 1.0)
                label, cost = row["policy"] if plain else None, row["forwards per token"]["value"]
                ax.plot(cost, row[quality]["value"], marks[row["policy"]], fillstyle=fill, label=label, **how)
            best = sorted(
                (rows[i] for i in front(rows, quality)), key=lambda r: r["forwards per token"]["value"]
            )
            line = [(r["forwards per token"]["value"], r[quality]["value"]) for r in best]
            ax.plot(*zip(*line, strict=True), "-", color=COLOURS["control"], linewidth=0.8, zorder=0)
            ax.set(title=quality, xlabel="forwards per audio token", xscale="log")
            ax.set_xticks([0.1, 0.25, 0.5, 1], ["0.1", "0.25", "0.5", "1"])
            ax.minorticks_off()
        axes[0].set_ylabel("share")
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
        save(figure, path)


def main() -> None:
    """Measure all ways, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--items", type=int, default=60, help="spoken questions asked in each way")
    add("--split", default="renditions")
    add("--talker", type=Path, default=SAMPLES / "talker.safetensors")
    add("--codec", type=Path, default=SAMPLES / "codec.safetensors")
    add("--data", type=Path, default=SAMPLES / "corpus")
    add("--referee", type=Path, default=SAMPLES / "referee.safetensors")
    add("--json", type=Path, default=SAMPLES / "scores" / "sweep.json")
    add("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    talker, codec, referee = Talker.load(args.talker), Codec.load(args.codec), Referee.load(args.referee)
    corpus, trained = load_corpus(args.data), trained_with(talker)
    talker.check_codec(codec)
    talker.check_corpus(corpus)
    referee.check_codec(codec)
    records = [r for r in family(corpus, args.split, "qa") if true_spans(r)][: args.items]
    every = tqdm(ways(not trained.two_streams), unit="way")
    rows = [rounded(measure(talker, corpus, codec, referee, records, way)) for way in every]
    for quality in ("text right", "words recognised", "voice coherence"):
        for i in front(rows, quality):
            rows[i].setdefault("on the front of", []).append(quality)
    about = {"items": len(records), "split": args.split, "preset": talker.info["training"]["preset"]}
    about |= {"codec": talker.info["codec"], "step": talker.info["step"]}
    about |= provenance(talker.model.embed_tokens.weight.device)
    with whole_file(args.json) as unfinished:
        unfinished.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    draw(rows, args.picture)
    print(f"{len(rows)} ways, {sum('on the front of' in row for row in rows)} of them on a front")


if __name__ == "__main__":
    main()
