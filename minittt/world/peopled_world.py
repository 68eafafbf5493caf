"""The spoken world when not only one synthesiser asks: voices of other makes and people, recorded anywhere.

What is said and answered stays as in `spoken_world.py`, and so do the four reply voices. What is asked comes from all kinds
of users (`users.py`), in three ways for a sum, from any room and at any level, and everything that is listened to passes the
front end.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minittt.codec import flatten
from minittt.data import front_end
from minittt.data.corpus import codec_info, save_corpus
from minittt.data.vocabulary import train_tokeniser
from minittt.world import lexicon, microphone, spoken_world, synthesis
from minittt.world.foreign import KINDS as FOREIGN_KINDS
from minittt.world.foreign import NOT_UNDERSTOOD
from minittt.world.foreign import foreign as make_foreign
from minittt.world.spoken_world import World
from minittt.world.users import Users, listened, perturbed, take_of

TRAIN_SIZES = {**spoken_world.TRAIN_SIZES, "foreign": 4000}
TEST_SIZES = {**spoken_world.TEST_SIZES, "foreign": 200}
ASKED_BY_RECORDED = 0.45  # share of questions that a recorded utterance asks, where there are some
HEARD_FROM = {"formant": 0.35, "recorded": 0.35, "people": 0.3}  # who is transcribed


@dataclass
class PeopledWorld(World):
    """Draws records as `World` does, asked by all kinds of users. anywhere: recorded in any room, else well recorded."""

    crowd: Users | None = None
    anywhere: bool = True

    def __post_init__(self) -> None:
        facts = {*self.sums, *self.counts}
        self.questions = []  # recorded utterances that ask about these facts, or for an echo
        for row in self.crowd.recorded:
            fact = lexicon.fact_of(row["text"])
            answerable = lexicon.reply_to(row["text"]) is not None
            if answerable and (fact is None or fact in facts):
                self.questions.append(row)

    def utter(self, text: str, voice: str, **how) -> int:
        """Note an utterance; what users say, and sounds, is recorded somewhere."""
        is_reply = voice in lexicon.REPLY
        if not is_reply:
            how["recorded"] = True
            how["anywhere"] = self.anywhere
            is_voice = "sound" not in how and "foreign" not in how
            how["perturb"] = self.anywhere and is_voice and self.rng.random() < 0.5
        return super().utter(text, voice, **how)

    def ask(self, text: str) -> int:
        """A formant voice says `text` at any rate and pitch."""
        rate = self.rng.randint(130, 220)
        pitch = self.rng.randint(30, 70)
        return self.utter(text, self.rng.choice(self.users), rate=rate, pitch=pitch)

    def play(self, row: dict) -> int:
        """A recorded utterance."""
        return self.utter(row["text"], row["voice"], file=row["file"])

    def exchange(self) -> tuple[str, list[str]]:
        """As in `World`; a sum is asked for in one of three ways."""
        question, chunks = super().exchange()
        fact = lexicon.fact_of(question)
        if fact in lexicon.SUMS:
            common, bare, other = lexicon.ways_to_ask(*fact)
            question = self.rng.choices([common, bare, other], [0.6, 0.25, 0.15])[0]
        return question, chunks

    def qa(self) -> list:
        """A spoken question and its answer; some are asked by a recorded utterance."""
        if not self.questions or self.rng.random() >= ASKED_BY_RECORDED:
            return super().qa()
        row = self.rng.choice(self.questions)
        voice = self.rng.choice(lexicon.REPLY)
        reply = self.spoken(lexicon.reply_to(row["text"]), voice)
        return [["system", "answer"], ["user", self.play(row)], ["assistant", *reply]]

    def foreign(self) -> list:
        """Something that was never taught: the reply says so, aloud where it is asked for an answer."""
        kind = self.rng.choice(FOREIGN_KINDS)
        heard = self.utter("", kind, foreign=self.rng.getrandbits(31))
        if self.rng.random() < 0.5:
            return [["system", "transcribe"], ["user", heard], ["assistant", NOT_UNDERSTOOD]]
        reply = self.spoken([NOT_UNDERSTOOD], self.rng.choice(lexicon.REPLY))
        return [["system", "answer"], ["user", heard], ["assistant", *reply]]

    def asr(self) -> list:
        """Speech of anybody, and its words."""
        kinds = ["formant"]
        if self.crowd.recorded:
            kinds.append("recorded")
        if self.crowd.speakers:
            kinds.append("people")
        [kind] = self.rng.choices(kinds, [HEARD_FROM[kind] for kind in kinds])
        if kind == "formant":
            return super().asr()
        if kind == "recorded":
            row = self.rng.choice(self.crowd.recorded)
            text = row["text"]
            heard = self.play(row)
        else:
            speaker = self.rng.choice(self.crowd.speakers)
            words = self.rng.choices(sorted(self.crowd.takes[speaker]), k=self.rng.randint(1, 6))
            text = " ".join(words)
            heard = self.utter(text, speaker, takes=self.rng.getrandbits(31))
        return [["system", "transcribe"], ["user", heard], ["assistant", text]]


def draw_records(
    seed: int,
    crowds: dict[str, Users],
    train_sizes: dict = TRAIN_SIZES,
    test_sizes: dict = TEST_SIZES,
) -> tuple[list[dict], dict]:
    """All records of all splits: (utterances, {split: records}). crowds: who is there in each split besides formant voices.

    train, renditions, voices and facts are the splits of `spoken_world.py`; a crowd under another name becomes a split of
    questions and transcripts of its own, asked by that crowd alone.
    """
    held_sums, held_counts = spoken_world.hold_out(seed)
    seen = {
        "sums": tuple(fact for fact in lexicon.SUMS if fact not in held_sums),
        "counts": tuple(fact for fact in lexicon.COUNTS if fact not in held_counts),
    }
    held = {"sums": tuple(sorted(held_sums)), "counts": tuple(sorted(held_counts))}
    nobody = Users()
    utterances: list[dict] = []
    splits = {}
    for number, name in enumerate([*spoken_world.SPLITS, *crowds]):
        if name in splits:
            continue
        users = lexicon.UNSEEN if name == "voices" else lexicon.USER
        facts = held if name == "facts" else seen
        sizes = {"train": train_sizes, "facts": {"qa": test_sizes["qa"]}}.get(name, test_sizes)
        crowd = crowds.get(name, nobody)
        rng = random.Random(1000 * seed + number)
        anywhere = name == "train"
        world = PeopledWorld(rng, users, 0.0, **facts, utterances=utterances, crowd=crowd, anywhere=anywhere)
        if name in spoken_world.SPLITS:
            splits[name] = world.records(sizes)
        else:
            splits[name] = questions_of_the_crowd(world)
    return utterances, splits


def questions_of_the_crowd(world: PeopledWorld, most: int = 400) -> list[dict]:
    """Every recorded utterance of a crowd (`most`, drawn at random): as a question if it is one, and to be transcribed."""
    made = []
    rows = world.rng.sample(world.crowd.recorded, min(most, len(world.crowd.recorded)))
    for row in rows:
        heard = world.play(row)
        transcript = [["system", "transcribe"], ["user", heard], ["assistant", row["text"]]]
        made.append({"family": "asr", "messages": transcript})
        if row in world.questions:
            reply = world.spoken(lexicon.reply_to(row["text"]), world.rng.choice(lexicon.REPLY))
            answer = [["system", "answer"], ["user", heard], ["assistant", *reply]]
            made.append({"family": "qa", "messages": answer})
    return made


def synthesise(utterance: dict, seed: int, crowd: Users) -> np.ndarray:
    """The waveform of one drawn utterance as the codec is to hear it, (samples,) float32 at 8 kHz."""
    rng = np.random.default_rng(seed)
    if "sound" in utterance:
        wave = synthesis.sound(utterance["voice"], np.random.default_rng(utterance["sound"]))
    elif "foreign" in utterance:
        wave = make_foreign(utterance["voice"], np.random.default_rng(utterance["foreign"]))
    elif "file" in utterance:
        wave = take_of(utterance["file"])
    elif "takes" in utterance:
        words = utterance["text"].split()
        wave = crowd.join(utterance["voice"], words, np.random.default_rng(utterance["takes"])).wave
    else:
        wave = synthesis.say(utterance["text"], utterance["voice"], utterance["rate"], utterance["pitch"])
    if utterance.get("perturb"):
        wave = perturbed(wave, rng)
    if not utterance.get("recorded"):
        return wave  # a reply voice
    how = None if utterance["anywhere"] else microphone.Recording()
    heard, _ = listened(wave, rng, how)
    return heard


def build(
    out: str | Path,
    codec,
    crowds: dict[str, Users],
    seed: int = 0,
    train_sizes: dict = TRAIN_SIZES,
    test_sizes: dict = TEST_SIZES,
    licence: str = "unknown",
) -> None:
    """Draw, synthesise, record, encode and write a corpus folder. `codec` is a `codec.Codec` at 8 kHz."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    utterances, splits = draw_records(seed, crowds, train_sizes, test_sizes)
    crowd = crowds.get("train", Users())
    waves = []
    for i, utterance in enumerate(tqdm(utterances, desc="speaking", mininterval=5)):
        waves.append(synthesise(utterance, 7919 * seed + i, crowd))
    codes = codec.encode_many(waves)
    train_tokeniser(spoken_world.texts_of(utterances, splits["train"]), out / "tokeniser.model")
    splits["train"] += spoken_world.transcripts(splits["train"], utterances)
    kept = [{"text": u["text"], "voice": u["voice"]} for u in utterances]
    flat = [flatten(c, codec.config.codebook_size).numpy() for c in codes]
    codebooks = codec.codebooks().numpy()
    save_corpus(out, codec_info(codec), flat, kept, splits, codebooks, licence, front_end.NAME)
