"""The premise of Text-to-Talk, measured: does text depend on what was said before it, and audio on what it is made from?

    for seed in 0 1 2; do python benchmarks/premise.py --seed $seed; done     # about eight minutes of one core each

Writes data_samples/scores/premise/SEED.json.

The shipped talker (`exact`) is trained further, to get used to missing context: each of four parts of it is replaced by MASK
in one record in ten. Then nats per token of true replies are compared with and without these parts; a measurement halfway
shows whether the figures still move. Hiding context from a talker that never missed any would measure its surprise at MASKs,
not what it knows.

              its source                                        its own past
    text      what the user said                                the reply so far, words and sound
    audio     what the user said, and the words of the reply    the sound of the reply so far, in earlier blocks

Inside a block, the past is what has already been revealed: its worth is the bound at one step (nothing revealed) minus the
bound at one token per step. Lengths, turns and instructions stay visible. The corpus decides all this, not the method: here
text repeats or computes, and four voices speak two dozen words.
"""

import argparse
import json
import random
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from timed_training import ROOT, provenance, rounded, thinned, train_for
from torch import Tensor

from minittt.app.cli import SAMPLES
from minittt.attention import SOURCE, TARGET
from minittt.codec import whole_file
from minittt.data.batches import Batch
from minittt.data.corpus import Corpus, load_corpus
from minittt.data.vocabulary import Vocabulary
from minittt.evaluation.evaluate import in_turn
from minittt.evaluation.likelihood import Nats, estimator, reply_nats
from minittt.evaluation.scores import Score, ratio
from minittt.objective import Noise, draw_noise
from minittt.talker import Talker
from minittt.training.held_out import level_noise
from minittt.training.loader import seed_of
from minittt.training.parallel import Accumulator, MicroBatch
from minittt.training.trainer import Trainer, TrainingSettings

HIDDEN = {  # what is replaced by MASK, in which of three parts of a record
    "nothing": (),
    "source of text": ("asked",),
    "past of text": ("written", "spoken"),
    "source of audio": ("asked", "written"),
    "past of audio": ("spoken",),
}
SHARE = 0.1  # of the records, for each of the last four


def parts(batch: Batch, v: Vocabulary) -> dict[str, Tensor]:
    """Where the three parts stand in the clean stream, each (B, L) bool; control tokens belong to none of them."""
    place = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
    begins = (batch.ids == v.bos) | (batch.ids == v.user) | (batch.ids == v.assistant)
    turn = batch.ids.gather(
        1, torch.where(begins, place, 0).cummax(1).values
    )  # (B, L): the token that began the turn
    clean, piece = (batch.kinds >= 0) & ~batch.noisy, batch.ids < v.text_size
    written = clean & piece & batch.text_targets
    asked = clean & (turn == v.user) & (piece | (batch.kinds == SOURCE)) & ~written
    return {"asked": asked, "written": written, "spoken": clean & (batch.kinds == TARGET)}


def hide(batch: Batch, v: Vocabulary, condition: Tensor) -> Tensor:
    """Tokens to be replaced, (B, L) bool: condition (B, L) long is a number in `HIDDEN` for every token's record."""
    found, hidden = parts(batch, v), torch.zeros_like(batch.noisy)
    for number, names in enumerate(HIDDEN.values()):
        for name in names:
            hidden |= found[name] & (condition == number)
    return hidden


class Forgetful(Accumulator):
    """Draws for every record of a training step what it has to do without."""

    def draw(self, step: int, part: int) -> MicroBatch:
        """See `Accumulator.draw`."""
        made = super().draw(step, part)
        documents = made.batch.documents
        generator = torch.Generator().manual_seed(
            random.Random(seed_of(self.loader.seed, "hidden", step, part)).getrandbits(63)
        )
        u = torch.rand(len(documents), int(documents.max()) + 1, generator=generator).to(documents.device)
        number = torch.where(u < SHARE * (len(HIDDEN) - 1), (u / SHARE).long() + 1, 0)  # (B, documents)
        condition = number.gather(1, documents.clamp(min=0))  # (B, L)
        masked = made.noise.masked | hide(made.batch, self.worker.vocabulary, condition)
        return made._replace(noise=made.noise._replace(masked=masked))


def measure(trainer: Trainer, records: list[dict], block: int, draws: int) -> dict[str, Nats]:
    """Nats of each record's reply under each condition; and, for audio, at one step a block."""
    v, p, found = trainer.corpus.vocabulary, estimator(trainer.p, block), {}
    for condition, one_step in (
        *((name, False) for name in HIDDEN),
        ("nothing", True),
        ("past of audio", True),
    ):
        number = list(HIDDEN).index(condition)

        def noise(batch: Batch, p, generator, number=number, one_step=one_step) -> Noise:
            drawn = level_noise(batch, p, 1.0, generator) if one_step else draw_noise(batch, p, generator)
            return drawn._replace(masked=drawn.masked | hide(batch, v, torch.full_like(batch.ids, number)))

        n = 1 if one_step else draws  # all masked: nothing is random
        name = f"{condition}, one step" if one_step else condition
        found[name] = reply_nats(trainer.model, trainer.corpus, records, p, n, noise=noise)
    return found


def lost(found: dict[str, Nats], what: str, without: str, name: str, against: str = "nothing") -> Score:
    """Nats per token that `what` loses where `without` is hidden: paired differences, record by record."""
    a, b = (np.array(getattr(found[condition], what)) for condition in (without, against))
    return ratio(name, list(a - b), getattr(found["nothing"], f"n_{what}"))


def table(found: dict[str, Nats]) -> list[Score]:
    """Nats per token with everything seen, and what is lost by hiding."""
    whole = found["nothing"]
    scores = [whole.score("text", "text, all seen"), whole.score("audio", "audio, all seen")]
    for what in ("text", "audio"):
        for part in ("source", "past"):
            scores.append(lost(found, what, f"{part} of {what}", f"{what}, its {part} hidden: lost"))
        more = lost(found, what, f"past of {what}", f"{what}: past less source", f"source of {what}")
        scores.append(more)
    scores.append(lost(found, "audio", "nothing, one step", "audio, inside the block: one step, lost"))
    name = "audio, earlier blocks and all in the block hidden: lost"
    scores.append(lost(found, "audio", "past of audio, one step", name))
    name = "audio: all its past less source"
    scores.append(lost(found, "audio", "past of audio, one step", name, "source of audio"))
    return scores


def some_of(found: dict[str, Nats], chosen: list[int]) -> dict[str, Nats]:
    """The same of some records."""
    return {
        n: Nats(*([getattr(x, f.name)[i] for i in chosen] for f in fields(Nats))) for n, x in found.items()
    }


def forgetful_trainer(corpus: Corpus, out: Path, settings: TrainingSettings) -> Trainer:
    """A trainer whose records miss things."""
    trainer = Trainer(corpus, out, settings)
    plain = trainer.accumulator
    trainer.accumulator = Forgetful(**{f.name: getattr(plain, f.name) for f in fields(plain)})
    return trainer


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=360)
    add("--seed", type=int, default=0)
    add("--block", type=int, default=16)
    add("--items", type=int, default=150, help="records of new renditions")
    add("--draws", type=int, default=4)
    add("--talker", type=Path, default=SAMPLES / "talker.safetensors", help="trained on from this one")
    add("--data", type=Path, default=SAMPLES / "corpus")
    add("--out", type=Path, default=SAMPLES / "scores" / "premise", help="folder of the JSONs, one a seed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = TrainingSettings(preset="exact", seed=args.seed, samples=0)
    corpus, log, measured = load_corpus(args.data), [], []
    records = in_turn(corpus.split("renditions"), args.items)
    families = {"all": list(range(len(records)))}
    for i, record in enumerate(records):
        families.setdefault(record["family"], []).append(i)
    trainer = forgetful_trainer(corpus, ROOT / "runs" / "premise" / str(args.seed), settings)
    base = Talker.load(args.talker)
    base.check_corpus(corpus)
    trainer.model.load_state_dict(base.model.state_dict())
    for point in train_for(trainer, args.seconds, 2, None, log):
        found = measure(trainer, records, args.block, args.draws)
        tables = {name: [asdict(s) for s in table(some_of(found, mine))] for name, mine in families.items()}
        measured.append({"seconds": point.seconds, "steps": point.steps, "scores": tables})
    about = {"block": args.block, "seconds": args.seconds, "seed": args.seed, "items": len(records)}
    about |= {"settings": asdict(settings), "codec": corpus.info["codec"], **provenance(trainer.world.device)}
    halfway, end = measured[0], measured[-1]
    made = {**about, "steps": end["steps"], "scores": end["scores"], "halfway": halfway["scores"]["all"]}
    with whole_file(args.out / f"{args.seed}.json") as unfinished:
        unfinished.write_text(
            json.dumps(rounded({**made, "log": thinned(log)}), indent=1) + "\n", encoding="utf-8"
        )
    for score in end["scores"]["all"]:
        print(Score(**score))


if __name__ == "__main__":
    main()
