"""tutorials/results.md from the JSONs in data_samples/scores, by one command. Nothing in it is typed by hand.

python benchmarks/results.py
python benchmarks/results.py --scores out/scores -o out/results.md     # the same page of runs of your own
"""

import argparse
import json
from pathlib import Path

import numpy as np
import readme_scores
from matplotlib.figure import Figure
from pictures import save
from sweep import PICTURE as SWEEP
from sweep import draw as draw_sweep
from tables import Runs, claims, grid, longer, of_row, premise, sampler, sweep
from timed_training import ROOT

from minittt.app.plotting import house_style
from minittt.errors import MinitttError

CLIPPED = "clipped at 0 for each reply"  # how runs measured words that do not say it
SCORES = ROOT / "data_samples" / "scores"
PAGE = ROOT / "tutorials" / "results.md"
CURVES = ROOT / "tutorials" / "pictures" / "ablations.png"
HEAD = """# Does the claim hold at small scale?

*Written by `python benchmarks/results.py` from the JSONs in `data_samples/scores`; a test compares the two.
What we make of it: [chapter 6](06_does_it_hold.md).*

The paper claims that a model that writes text left to right and fills in audio by diffusion beats one that does everything
left to right, and one that does everything by diffusion; that each of its three training strategies helps; and that blocks
handle replies of any length. It rests on a premise: text depends on the text before it, audio on what it is made from.
Here all of that is tested again on a toy: a million parameters, minutes of training, synthetic voices, two dozen words.
Verdicts are about this toy. Where it cannot tell, the page says so."""
LIMITS = """## How to read this, and what it cannot say

- Differences are taken seed by seed: the same records in the same order, the same questions. Intervals are Student's over
  seeds; with so few seeds they are wide. Three seeds were planned; two more were run after we had seen the results of the
  first three. There are many comparisons, and intervals and verdicts are not corrected for that: where nothing differs, one
  in twenty will still seem to. One sentence above says which verdicts stand after correction. The measures in bold decide
  the verdict on a claim.
- All seeds are asked the same 60 questions and speak the same 60 sentences. So an interval over seeds says what another
  training run would give, not what other questions would: that chance is common to all seeds and shows in no spread.
- Equal time is processor time of one core, or a GPU's own time. Equal data is the same number of records.
- The learning rate rises for 100 steps, whatever a step costs: in the grid that is half of the time for `nar`, `exact` and
  `ar`, and a third for `paper` (the row *share of the seconds in warm-up*). Equal data, 6,000 records, is 150 steps, 50 of
  them after the rise.
- How replies are decoded: text greedily. Audio *drawn*: blocks of 8 (`ar`: of 1), one slot per step, in random order, at
  temperature .5; *greedy*: the same blocks and steps, temperature 0, the surest slots first, as in the released code. Rows
  with full spans redraft the whole span. `nar` takes the likeliest text at each slot, too, but reveals text in the same
  order as audio: at random where audio is drawn. With the surest slots first, it writes more right answers (the row *text
  right, greedy*).
- A spoken answer is judged only where its text is right; the row *spoken answers that count* says how many there are: a
  handful for `nar`.
- All rows of a seed start from one network that has learned, left to right, to hear and to write, and has never spoken (the
  paper's start from a language model). `nar`, which denoises its text, has to unlearn reading left to right.
- Two streams hold target audio twice. `ar` has two as well, which left-to-right audio could do without: that handicaps it
  at equal time, but not at equal data.
- `ar` predicts a code at its own slot, behind a MASK; `nar` denoises its text in blocks, as it does audio.
- Nats of audio are compared only where two rows measure the same thing: `paper` and its parts; `exact` and `ar` left to
  right. A talker trained on whole spans is given their lengths; one trained on blocks has to predict them, and pays for it.
- "Words recognised" in the grid, the longer runs and the sweep is clipped at 0 for each reply, as it was measured then, and
  so it is for the policies in `benchmarks/figures/decoding.json`: a reply of other words scores {something_else}, not 0, and
  the first fifth of the right reply {first_fifth} (true tokens; `python benchmarks/floors.py`). A row between the two
  (`paper-sst`) says next to nothing of what it should.
  In the table of the shipped talker it is 1 minus the word error rate, which can be negative.
- BANOM is for text that follows clean audio. All rows start from a network that already writes after clean audio, so the
  grid can test what BANOM costs, not what it is for.
- We measure weights averaged over about the last tenth of training; the learning rate never knew when training would end.
- Whatever relies on a large pretrained language model, as in the paper, cannot show in a million parameters."""
LONGER = (
    "The same starting networks, records and questions; more time, and equal data later: `python benchmarks/ablations.py "
    "--rows exact ar --seeds 3 --seconds 720 --equal-records 18000 --out data_samples/scores/ablations_long`."
)
TALKER = "`minittt evaluate` on `data_samples/talker.safetensors`: value, [95 % bootstrap interval over items], (items)."
PANELS = ("exact", "paper", "ar", "nar"), ("paper", "mended", "paper-banom", "paper-ppm", "paper-sst")
LINES = {  # a colour and a line for each row of the grid
    "exact": ("#404040", "-"),
    "paper": ("#D55E00", "-"),
    "ar": ("#56B4E9", "--"),
    "nar": ("#CC79A7", ":"),
    "mended": ("#404040", "--"),
    "paper-banom": ("#56B4E9", "-."),
    "paper-ppm": ("#009E73", ":"),
    "paper-sst": ("#CC79A7", "--"),
}
STUDIES = (
    ("sweep", "Quality against forwards", sweep),
    ("sampler_study", "The sampler alone, with an oracle in the network's place", sampler),
)


def load(scores: Path = SCORES, folder: str = "ablations") -> Runs:
    """The grid. Raises MinitttError if its runs measured words in two ways, which are not to be compared."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((scores / folder).glob("*.json"))]
    ways: dict[str, list[str]] = {}
    for run in runs:
        ways.setdefault(run.get("words", CLIPPED), []).append(f"{run['row']}-{run['seed']}")
    if len(ways) > 1:
        said = "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items())
        raise MinitttError(
            f"{scores / folder}: the runs measured words recognised in two ways ({said}): run all the rows that you compare "
            "into a folder of your own (--out)"
        )
    return {(run["row"], run["seed"]): run for run in runs}


def page(scores: Path = SCORES) -> str:
    """The whole of results.md."""
    runs = load(scores)
    parts = [HEAD, f"## The grid\n\n{grid(runs)}", f"## The claims\n\n{claims(runs)}"]
    if runs:
        parts.insert(2, "![Nats of text by time and by data](pictures/ablations.png)")
    if more := load(scores, "ablations_long"):
        parts.append(f"## Trained longer\n\n{LONGER}\n\n{longer(more)}")
    premises = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((scores / "premise").glob("*.json"))
    ]
    shipped = readme_scores.load(scores)
    if shipped:
        parts.append(f"## The shipped talker\n\n{TALKER}\n\n{readme_scores.table(shipped)}")
    parts.append(
        "## The premise\n\n"
        + (premise(premises) if premises else "Not measured yet: `python benchmarks/premise.py`.")
    )
    for name, title, write in STUDIES:
        path = scores / f"{name}.json"
        found = write(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
        parts.append(f"## {title}\n\n" + (found or f"Not measured yet: `python benchmarks/{name}.py`."))
        parts += [f"![{title}](pictures/{name}.png)"] if found else []
    floors = json.loads((SCORES / "floors.json").read_text(encoding="utf-8"))
    clipped = {
        name: f"{floors[name]['clipped']:.3f}".lstrip("0") for name in ("something_else", "first_fifth")
    }
    return "\n\n".join([*parts, LIMITS.format(**clipped)]) + "\n"


def draw(runs: Runs, path: Path) -> None:
    """Nats per token of text by seconds and records, mean and range of the seeds: methods above, parts of `paper` below."""
    with house_style():
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.subplots(2, 2, sharex="col", sharey="row")
        for line, rows in zip(axes, PANELS, strict=True):
            for ax, by in zip(line, ("seconds", "records"), strict=True):
                for row in rows:
                    if mine := of_row(runs, row):
                        _draw_row(ax, mine, row, by)
                ax.set(yscale="log")
                ax.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
                ax.minorticks_off()
            line[0].set(ylabel="text, nats per token")
            line[1].legend(fontsize=8)
        for ax, by in zip(axes[1], ("seconds", "records"), strict=True):
            ax.set_xlabel(f"{by} of training")
        save(figure, path)


def _draw_row(ax, runs: list[dict], row: str, by: str) -> None:
    curves = [sorted((point[by], point["text"]) for point in run["curve"]) for run in runs]
    where = np.linspace(max(c[0][0] for c in curves), min(c[-1][0] for c in curves), 50)
    nats = np.array([np.interp(where, *zip(*curve, strict=True)) for curve in curves])  # (seeds, 50)
    colour, style = LINES[row]
    ax.plot(where, nats.mean(0), style, color=colour, linewidth=1.2, label=row)
    ax.fill_between(where, nats.min(0), nats.max(0), color=colour, alpha=0.15, linewidth=0)


def main(arguments: list[str] | None = None) -> None:
    """Write the page; the shipped one with its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--scores", type=Path, default=SCORES, help="folder that holds the folder `ablations` of runs"
    )
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    args = parser.parse_args(arguments)
    args.output.write_text(page(args.scores), encoding="utf-8")
    if args.scores != SCORES:
        print(f"wrote {args.output}")
        return
    if runs := load():
        draw(runs, CURVES)
    if (made := SCORES / "sweep.json").is_file():
        draw_sweep(json.loads(made.read_text(encoding="utf-8"))["rows"], SWEEP)
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
