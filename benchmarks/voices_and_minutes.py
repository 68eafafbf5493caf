"""What is missing when people are not understood: voices per make, people, or minutes of training? Word errors against each.

    python benchmarks/voices_and_minutes.py --corpus my_corpus --people DIR --left-out speaker_c --json voices.json

Each arm trains from the reference talker, which has met only espeak-ng, for a given number of steps on the part of a corpus
in which users have one of a given number of voices per make, or are one of a given number of people. No arm hears the person
left out. All arms take the same steps of the same size: fewer voices are heard more often, not less. Every number of steps
is a separate training run. What the JSON already has is not run again.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from codec_talkers import first_voice, measure
from timed_training import provenance

from minittt.app.shipped import codec_for
from minittt.codec import whole_file
from minittt.data.corpus import Corpus, load_corpus
from minittt.settings import TrainingSettings, samples_folder
from minittt.talker import Talker
from minittt.training.trainer import Trainer
from minittt.world import makes
from minittt.world.users import Users

MAKES = set(makes.MAKES)
MANY = 1000
ARMS = {  # name: (voices of each make, people)
    "1 voice a make, 2 people": (1, 2),
    "4 voices a make, 2 people": (4, 2),
    "all voices, 2 people": (MANY, 2),
    "all voices, nobody": (MANY, 0),
}


def make_of(voice: str) -> str:
    """The first word of a voice's name: "flite awb" is of the make flite. "" where nobody is heard."""
    return voice.split(" ")[0]


def kept_voices(corpus: Corpus, voices_each: int, n_people: int, left_out: str) -> set[str]:
    """The users' voices that an arm keeps: the first of each make, in the order of the corpus, and the first people.

    Formant voices and everything that is not a voice of another make or a person are kept.
    """
    heard = {first_voice(corpus, record) for record in corpus.split("train")}
    by_make: dict[str, list[str]] = {}
    people = []
    kept = set()
    for voice in sorted(heard):
        if make_of(voice) in MAKES:
            by_make.setdefault(make_of(voice), []).append(voice)
        elif voice.startswith("speaker_"):
            people.append(voice)
        else:
            kept.add(voice)
    for voices in by_make.values():
        kept.update(voices[:voices_each])
    kept.update([person for person in people if person != left_out][:n_people])
    return kept


def part_of(corpus: Corpus, kept: set[str]) -> Corpus:
    """The corpus with the training records of these voices alone."""
    records = [record for record in corpus.split("train") if first_voice(corpus, record) in kept]
    return replace(corpus, splits={**corpus.splits, "train": records})


def trained(corpus: Corpus, init: Talker, steps: int) -> Talker:
    """The talker after so many steps, over which the learning rate falls."""
    settings = TrainingSettings(
        steps=steps, learning_rate=1e-3, muon_learning_rate=2.5e-3, source_noise=0.15, samples=0
    )
    with TemporaryDirectory() as folder:
        return Trainer(corpus, folder, settings, start=init).train()


def main(arguments: list[str] | None = None) -> None:
    """Run the arms that are missing, print and write their scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument(
        "--codec", type=Path, help="default: the one that the corpus was made with, of those shipped"
    )
    parser.add_argument("--people", type=Path, required=True, help="a folder of single words")
    parser.add_argument("--left-out", default="speaker_c")
    parser.add_argument("--never", nargs="*", default=["speaker_d"], help="who is not heard at all")
    parser.add_argument("--init", type=Path, default=samples_folder() / "talker.safetensors")
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 900])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    corpus = load_corpus(args.corpus)
    init = Talker.load(args.init)
    people = Users(None, args.people, left_out=tuple(args.never))
    found = json.loads(args.json.read_text(encoding="utf-8"))["arms"] if args.json.is_file() else {}
    for steps in args.steps:
        for arm in args.arms:
            name = f"{arm}, {steps} steps"
            if name in found:
                continue
            voices_each, n_people = ARMS[arm]
            kept = kept_voices(corpus, voices_each, n_people, args.left_out)
            part = part_of(corpus, kept)
            talker = trained(part, init, steps)
            scores = measure(talker, codec_for(talker, args.codec), part, people, args.left_out)
            print(name, *scores, sep="\n", flush=True)
            found[name] = {
                "voices": sorted(voice for voice in kept if make_of(voice) in MAKES),
                "people": sorted(voice for voice in kept if voice.startswith("speaker_")),
                "records": len(part.split("train")),
                "scores": [asdict(score) for score in scores],
            }
            made = {"arguments": vars(args), "arms": found, **provenance(torch.device("cpu"))}
            with whole_file(args.json) as unfinished:
                unfinished.write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
