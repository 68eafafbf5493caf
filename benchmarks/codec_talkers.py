"""From which codec's tokens does a talker learn to hear people? A short training run on each, without one person.

    python benchmarks/codec_talkers.py --people DIR --left-out speaker_c --corpus A B --codec A.safetensors B.safetensors

The corpora were drawn alike and encoded with the codecs. Each run starts from the same talker (codes keep their places, so
the codecs must descend from its own), takes the same number of steps, and hears nothing from the person left out. Three
kinds of voices are measured: that person, the corpus's held-out makes, and formant voices never heard.
"""

import argparse
import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from timed_training import provenance

from minittt.codec import Codec
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus, load_corpus
from minittt.evaluation.evaluate import ask
from minittt.evaluation.people import single_words, strings, word_error_rate
from minittt.evaluation.scores import Score, error_rate, ratio, same_text
from minittt.settings import TrainingSettings, samples_folder
from minittt.talker import Talker, decoding_settings
from minittt.training.trainer import Trainer
from minittt.world.users import Users

MEASURED = (  # split, family, records
    ("makes", "asr", 300),
    ("voices", "asr", 200),
    ("makes", "qa", 200),
    ("voices", "qa", 200),
    ("voices", "foreign", 100),
)


def without(corpus: Corpus, speaker: str) -> Corpus:
    """The corpus without the records in which a speaker is heard first."""
    splits = {}
    for name, records in corpus.splits.items():
        splits[name] = [record for record in records if first_voice(corpus, record) != speaker]
    return replace(corpus, splits=splits)


def first_voice(corpus: Corpus, record: dict) -> str:
    """Who is heard at the beginning of a record; "" if it begins in writing."""
    for role, *parts in record["messages"]:
        if role == "user" and isinstance(parts[0], int):
            return corpus.utterances[parts[0]]["voice"]
    return ""


def measure(talker: Talker, codec: Codec, corpus: Corpus, people: Users, speaker: str) -> list[Score]:
    """How the person who was left out is heard, and the voices that the corpus holds out."""
    scores = [
        word_error_rate(f"{speaker}, single: words wrong", talker, codec, single_words(people, speaker, 300)),
        word_error_rate(f"{speaker}, strings: words wrong", talker, codec, strings(people, speaker, 200)),
    ]
    settings = decoding_settings(16, 1)  # how well it speaks does not count
    for split, family, most in MEASURED:
        mixed = random.Random(0).sample(corpus.split(split), len(corpus.split(split)))
        records = [record for record in mixed if record["family"] == family][:most]
        answers = ask(talker, corpus, records, settings)
        if family == "asr":
            said = [reply_text(record) for record in records]
            heard = [reply.text for reply in answers.replies]
            scores.append(error_rate(f"{split}: words wrong", said, heard))
        else:
            right = [same_text(reply_text(record), reply.text) for record, reply in answers.pairs()]
            scores.append(ratio(f"{split}, {family}: text right", right))
    return scores


def main(arguments: list[str] | None = None) -> None:
    """Print, and write, the scores of a talker on each codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--codec", type=Path, nargs="+", required=True, help="of each corpus, in their order")
    parser.add_argument("--people", type=Path, required=True, help="a folder of single words")
    parser.add_argument("--left-out", default="speaker_c")
    parser.add_argument("--never", nargs="*", default=["speaker_d"], help="who is not heard at all")
    parser.add_argument("--init", type=Path, default=samples_folder() / "talker.safetensors")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    people = Users(None, args.people, left_out=tuple(args.never))
    settings = TrainingSettings(
        steps=args.steps, learning_rate=1e-3, muon_learning_rate=2.5e-3, source_noise=0.15, samples=0
    )
    found = {}
    for folder, path in zip(args.corpus, args.codec, strict=True):
        corpus = without(load_corpus(folder), args.left_out)
        codec = Codec.load(path)
        with TemporaryDirectory() as run:
            talker = Trainer(corpus, run, settings, start=Talker.load(args.init)).train()
        scores = measure(talker, codec, corpus, people, args.left_out)
        print(folder, *scores, sep="\n", flush=True)
        found[codec.fingerprint()] = [asdict(score) for score in scores]
    if args.json:
        made = {"arguments": vars(args), "codecs": found, **provenance(torch.device("cpu"))}
        args.json.write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
