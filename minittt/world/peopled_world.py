"""The spoken world when more than one synthesiser asks: voices of other makes and people, recorded anywhere.

What is said and answered stays as in `spoken_world.py`, and so do the four reply voices. Questions come from all kinds of
users (`users.py`), in three phrasings for a sum, from any room and at any level, and everything that the talker hears passes
through the front end.
"""

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from minittt.codec import Codec, CodecConfig, flatten
from minittt.data import front_end
from minittt.data.corpus import codec_info, is_of_a_corpus, save_corpus
from minittt.data.vocabulary import train_tokeniser
from minittt.files import whole_folder
from minittt.world import lexicon, microphone, spoken_world, synthesis
from minittt.world.foreign import KINDS as FOREIGN_KINDS
from minittt.world.foreign import foreign as make_foreign
from minittt.world.lexicon import NOT_UNDERSTOOD
from minittt.world.spoken_world import World
from minittt.world.users import Users, listened, perturbed, take_of

TRAIN_SIZES = {**spoken_world.TRAIN_SIZES, "asr": 16_000, "foreign": 5_000}
TEST_SIZES = {**spoken_world.TEST_SIZES, "foreign": 200}
CALIBRATION = "calibration"  # the split that says how sure a talker may be; neither trained on nor scored
CALIBRATION_SIZES = {"qa": 500, "asr": 500, "caption": 100, "foreign": 400}
ASKED_BY_RECORDED = 0.45  # share of questions asked by a recorded utterance, where there are any
HEARD_FROM = {"formant": 0.25, "recorded": 0.3, "people": 0.45}  # who is transcribed
FOREIGN_RECORDED = (
    0.6  # share of what is not to be understood that is cut from recordings, where there are any
)
ECHOED = 0.25  # share of the number-only transcripts that are questions, too
PEOPLE_SAY = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6)  # number of words in a string: one of these
PERTURBED = {"people": 0.75, "others": 0.5}  # shares of voices; there are few people, so they are varied more
CHUNK = 64  # utterances that are spoken and encoded as one unit of work


@dataclass
class PeopledWorld(World):
    """Draws records as `World` does, asked by all kinds of users. anywhere: recorded in any room, otherwise well."""

    crowd: Users | None = None
    anywhere: bool = True

    def __post_init__(self) -> None:
        facts = {*self.sums, *self.counts}
        self.questions = []  # recorded utterances that ask about these facts or for an echo
        for row in self.crowd.recorded:
            fact = lexicon.fact_of(row["text"])
            answerable = lexicon.reply_to(row["text"]) is not None
            if answerable and (fact is None or fact in facts):
                self.questions.append(row)

    def utter(self, text: str, voice: str, **how) -> int:
        """Note an utterance; what users say, and any other sound, is recorded somewhere."""
        is_reply = voice in lexicon.REPLY
        if not is_reply:
            how["recorded"] = True
            how["anywhere"] = self.anywhere
            is_voice = "sound" not in how and "foreign" not in how
            share = PERTURBED["people" if "takes" in how else "others"]
            how["perturb"] = self.anywhere and is_voice and self.rng.random() < share
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
        """As in `World`, but a sum is asked for in one of three ways."""
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
        """Something that was never taught: the reply says so, and says it aloud where an answer is asked for."""
        recordings = self.crowd.foreign
        if recordings is not None and self.rng.random() < FOREIGN_RECORDED:
            kind = self.rng.choice(recordings.kinds)
            heard = self.utter("", f"recorded {kind}", foreign=self.rng.getrandbits(31), kind=kind)
        else:
            kind = self.rng.choice(FOREIGN_KINDS)
            heard = self.utter("", kind, foreign=self.rng.getrandbits(31))
        if self.rng.random() < 0.5:
            return [["system", "transcribe"], ["user", heard], ["assistant", NOT_UNDERSTOOD]]
        reply = self.spoken([NOT_UNDERSTOOD], self.rng.choice(lexicon.REPLY))
        return [["system", "answer"], ["user", heard], ["assistant", *reply]]

    def asr(self) -> list:
        """Speech from anybody, and its words."""
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
            words = self.rng.choices(sorted(self.crowd.takes[speaker]), k=self.rng.choice(PEOPLE_SAY))
            text = " ".join(words)
            heard = self.utter(text, speaker, takes=self.rng.getrandbits(31))
        return [["system", "transcribe"], ["user", heard], ["assistant", text]]


def draw_records(
    seed: int,
    crowds: dict[str, Users],
    train_sizes: dict = TRAIN_SIZES,
    test_sizes: dict = TEST_SIZES,
    calibration_sizes: dict = CALIBRATION_SIZES,
) -> tuple[list[dict], dict]:
    """All records of all splits: (utterances, {split: records}). crowds: who is in each split besides the formant voices.

    train, renditions, voices and facts are the splits of `spoken_world.py`; a crowd under any other name becomes a separate
    split of questions and transcripts, spoken by that crowd alone. calibration is drawn as train is, and comes last.
    """
    held_sums, held_counts = spoken_world.hold_out(seed)
    seen: dict[str, Any] = {
        "sums": tuple(fact for fact in lexicon.SUMS if fact not in held_sums),
        "counts": tuple(fact for fact in lexicon.COUNTS if fact not in held_counts),
    }
    held: dict[str, Any] = {"sums": tuple(sorted(held_sums)), "counts": tuple(sorted(held_counts))}
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
    rng = random.Random(f"{seed} {CALIBRATION}")
    everybody = crowds.get("train", nobody)
    world = PeopledWorld(rng, lexicon.USER, 0.0, **seen, utterances=utterances, crowd=everybody)
    splits[CALIBRATION] = world.records(calibration_sizes)
    world = PeopledWorld(random.Random(f"{seed} echo"), utterances=utterances, crowd=everybody)
    splits["train"] += echoes(world, splits["train"])
    return utterances, splits


def echoes(world: PeopledWorld, records: list[dict]) -> list[dict]:
    """Some of the number-only transcripts, once more as questions: whoever says only numbers hears them again.

    The people here have recorded nothing but numbers; without this they would have nothing to ask.
    """
    numbers_alone = []
    for record in records:
        is_transcript = record["family"] == "asr"
        if is_transcript and all(word in lexicon.NUMBERS for word in record["messages"][-1][1].split()):
            numbers_alone.append(record)
    made = []
    for record in world.rng.sample(numbers_alone, round(ECHOED * len(numbers_alone))):
        _, (_, heard), (_, text) = record["messages"]
        reply = world.spoken([text], world.rng.choice(lexicon.REPLY))
        messages = [["system", "answer"], ["user", heard], ["assistant", *reply]]
        made.append({"family": "qa", "messages": messages})
    return made


def questions_of_the_crowd(world: PeopledWorld, most: int = 600) -> list[dict]:
    """At most `most` recorded utterances of a crowd, drawn at random: to transcribe, and as a question if they are one."""
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
    """The waveform of one drawn utterance as the codec will hear it, (samples,) float32 at 8 kHz."""
    rng = np.random.default_rng(seed)
    if "sound" in utterance:
        wave = synthesis.sound(utterance["voice"], np.random.default_rng(utterance["sound"]))
    elif "kind" in utterance:
        wave = crowd.foreign.draw(utterance["kind"], np.random.default_rng(utterance["foreign"]))
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


class Studio:
    """Speaks and encodes utterances, a chunk at a time."""

    def __init__(self, crowd: Users, codec, seed: int) -> None:
        self.crowd = crowd
        self.codec = codec
        self.seed = seed

    def chunk(self, first: int, utterances: list[dict]) -> list[Tensor]:
        """The codes (n_q, T_i) of utterances number `first`, `first` + 1, ..."""
        waves = []
        for i, utterance in enumerate(utterances, first):
            waves.append(synthesise(utterance, 7919 * self.seed + i, self.crowd))
        return self.codec.encode_many(waves)


_studio: Studio | None = None  # of this process, if it is a worker


def _open_studio(crowd: Users, config: CodecConfig, weights: dict[str, np.ndarray], seed: int) -> None:
    """Called before a worker's first chunk. A codec cannot be sent to another process, but its weights can."""
    global _studio
    torch.set_num_threads(1)
    codec = Codec(config)
    codec.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    _studio = Studio(crowd, codec.eval(), seed)


def _chunk(first: int, utterances: list[dict]) -> list[np.ndarray]:
    return [codes.numpy() for codes in _studio.chunk(first, utterances)]


def speak_and_encode(
    utterances: list[dict], seed: int, crowd: Users, codec, workers: int = 1
) -> list[Tensor]:
    """The codes (n_q, T_i) of each utterance. Each chunk is encoded separately, whichever process does it."""
    starts = range(0, len(utterances), CHUNK)
    chunks = [utterances[start : start + CHUNK] for start in starts]
    progress = tqdm(total=len(chunks), desc="speaking", mininterval=5)
    codes = []
    if workers == 1:
        studio = Studio(crowd, codec, seed)
        for start, chunk in zip(starts, chunks, strict=True):
            codes += studio.chunk(start, chunk)
            progress.update()
        return codes
    weights = {name: value.cpu().numpy() for name, value in codec.state_dict().items()}
    start_with = (crowd, codec.config, weights, seed)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open_studio, start_with) as pool:
        for part in pool.map(_chunk, starts, chunks):
            codes += [torch.from_numpy(row) for row in part]
            progress.update()
    return codes


def build(
    out: str | Path,
    codec,
    crowds: dict[str, Users],
    seed: int = 0,
    train_sizes: dict = TRAIN_SIZES,
    test_sizes: dict = TEST_SIZES,
    calibration_sizes: dict = CALIBRATION_SIZES,
    licence: str = "unknown",
    workers: int = 1,
) -> None:
    """Draw, synthesise, record, encode and write a corpus folder. `codec` is a `codec.Codec` at 8 kHz.

    workers: processes that speak and encode; the corpus is the same for any number of them.
    """
    with whole_folder(out, is_of_a_corpus) as unfinished:
        utterances, splits = draw_records(seed, crowds, train_sizes, test_sizes, calibration_sizes)
        codes = speak_and_encode(utterances, seed, crowds.get("train", Users()), codec, workers)
        train_tokeniser(spoken_world.texts_of(utterances, splits["train"]), unfinished / "tokeniser.model")
        splits["train"] += spoken_world.transcripts(splits["train"], utterances)
        kept = [{"text": u["text"], "voice": u["voice"]} for u in utterances]
        flat = [flatten(c, codec.config.codebook_size).numpy() for c in codes]
        codebooks = codec.codebooks().numpy()
        save_corpus(unfinished, codec_info(codec), flat, kept, splits, codebooks, licence, front_end.NAME)
