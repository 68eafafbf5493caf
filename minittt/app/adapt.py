"""From a folder of recordings to a talker that knows them: import, train a talker further, measure before and after.

What the talker already knew is practised as well, on the corpus that it came from, and measured too: learning new voices
makes it forget old ones. Nothing that is measured was trained on.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minittt.codec import Codec, whole_file
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus, load_corpus, mixed
from minittt.errors import MinitttError
from minittt.evaluation.confidence import calibrate_on
from minittt.evaluation.evaluate import ask, family
from minittt.evaluation.scores import Score, error_rate, ratio, same_text
from minittt.files import json_text
from minittt.settings import TrainingSettings
from minittt.talker import Talker, decoding_settings
from minittt.training.checkpoints import states
from minittt.training.trainer import Trainer, steps_in
from minittt.world.recordings import import_recordings

COPIES = 6  # of each training recording, in other voices and rooms
SHARE = 0.5  # share of records that come from the recordings; the rest is what the talker knew
KNOWN = 100  # records of each kind on which to measure what the talker knew


@dataclass(frozen=True)
class Measure:
    """One figure before and after."""

    before: Score
    after: Score

    def __str__(self) -> str:
        a, b = self.before, self.after
        return (
            f"{a.name:<44} {a.value:6.3f} [{a.low:.3f}, {a.high:.3f}]  ->  "
            f"{b.value:6.3f} [{b.low:.3f}, {b.high:.3f}]  n={a.items}"
        )


def adapt(
    folder: Path,
    out: Path,
    talker: Talker,
    codec: Codec,
    known: Corpus,
    settings: TrainingSettings,
    minutes: float,
    hold_out: tuple[str, ...] = (),
    licence: str = "unknown",
    say: Callable[[str], None] = print,
    device: str = "auto",
) -> list[Measure]:
    """Write out/talker.safetensors and out/report.json, and return what was measured.

    known: the corpus whose tasks are practised as well. settings: for training; it takes as many steps as fit into the
    minutes. Raises MinitttError for a folder that already holds a run.
    """
    if states(out):  # before any work is done, and before anything there is touched
        raise MinitttError(f"{out} holds a run already: give another folder")
    # 1. The recordings, for this talker.
    import_recordings(
        folder, out / "corpus", codec, settings.seed, licence, like=talker, hold_out=hold_out, copies=COPIES
    )
    own = load_corpus(out / "corpus")
    # 2. How it does before.
    before = measure(talker, own, known)
    # 3. Training, starting from its weights.
    both = mixed(own, known, SHARE)
    settings = replace(settings, steps=steps_in(minutes, both, settings, talker, device))
    say(f"{settings.steps} steps fit into {minutes:g} minutes here")
    adapted = Trainer(both, out, settings, start=talker, device=device).train()
    # 4. How sure it may be, on separate records.
    if "calibration" in known.splits:
        found, _ = calibrate_on(adapted, known, known.split("calibration"))
        # When to decline is not taken from here: these records do not know the voice that was just learned.
        adapted.info["confidence"] = found.as_field()
    adapted.save(out / "talker.safetensors")
    # 5. How it does after.
    after = measure(adapted, own, known)
    found = [Measure(a, b) for a, b in zip(before, after, strict=True)]
    with whole_file(out / "report.json") as unfinished:
        rows = [{"before": asdict(one.before), "after": asdict(one.after)} for one in found]
        unfinished.write_text(json_text(rows, indent=1) + "\n", encoding="utf-8")
    return found


def measure(talker: Talker, own: Corpus, known: Corpus) -> list[Score]:
    """Word error rates on the held-out recordings, and on voices that the talker could already hear."""
    scores = []
    for split, name in (("renditions", "your held-out takes"), ("voices", "speakers held out")):
        if split in own.splits:
            scores.append(word_errors_of(f"{name}: words wrong", talker, own, split, None))
    scores.append(word_errors_of("voices it knew how to hear: words wrong", talker, known, "voices", KNOWN))
    answers = ask(talker, known, family(known, "voices", "qa", KNOWN), decoding_settings(16, 1))
    right = [same_text(reply_text(record), reply.text) for record, reply in answers.pairs()]
    scores.append(ratio("questions of voices it knew: text right", right))
    return [score for score in scores if score is not None]


def word_errors_of(name: str, talker: Talker, corpus: Corpus, split: str, limit: int | None) -> Score | None:
    """The word error rate of the transcripts of a split."""
    settings = replace(decoding_settings(), max_spans=0)  # a transcript is not spoken
    answers = ask(talker, corpus, family(corpus, split, "asr", limit), settings)
    said = [reply_text(record) for record in answers.records]
    return error_rate(name, said, [reply.text for reply in answers.replies])
