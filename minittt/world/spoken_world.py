"""The spoken world: who says what to whom, in the paper's six record families, in miniature.

    asr       user speech -> its words                     tts       words -> speech
    qa        a spoken question -> text and speech, chunk by chunk; some conversations have two turns
    caption   a sound or a voice -> what it is             chat      text -> text, or speech
    document  text and speech in turn, no roles

The voice of a reply is drawn at random from the four in `lexicon.REPLY` and is not given: reply audio carries two bits that
nothing in the prompt determines, so a block sampled in one step mixes voices, and iterative decoding has work to do.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minittt.codec import flatten, whole_file, write_audio
from minittt.data.corpus import codec_info, is_of_a_corpus, save_corpus
from minittt.data.vocabulary import train_tokeniser
from minittt.files import whole_folder
from minittt.world import lexicon, synthesis

TRAIN_SIZES = {"qa": 11_000, "asr": 9_000, "tts": 6_000, "caption": 3_000, "chat": 3_000, "document": 2_000}
TEST_SIZES = {"qa": 450, "asr": 300, "tts": 300, "caption": 250, "chat": 60, "document": 60}
SPLITS = ("train", "renditions", "voices", "facts")


@dataclass
class World:
    """Draws records and remembers the utterances they need; synthesis and encoding come later, all at once.

    `rng` decides everything. `users` are the voices that ask; `sums` and `counts` are the facts that may be asked about.
    disguised: the share of questions whose voice is perturbed (`synthesis.disguise`), for training.
    """

    rng: random.Random
    users: tuple[str, ...] = lexicon.USER
    disguised: float = 0.0
    sums: tuple = lexicon.SUMS
    counts: tuple = lexicon.COUNTS
    utterances: list[dict] = field(default_factory=list)

    def utter(self, text: str, voice: str, **how) -> int:
        """Note an utterance to be synthesised. Returns its number."""
        self.utterances.append({"text": text, "voice": voice, **how})
        return len(self.utterances) - 1

    def ask(self, text: str) -> int:
        """A user says `text`, with any user voice, rate, pitch and microphone."""
        rate = self.rng.randint(150, 200)
        pitch = self.rng.randint(35, 65)
        is_varied = self.rng.random() < 0.7
        is_disguised = self.rng.random() < self.disguised
        voice = self.rng.choice(self.users)
        return self.utter(text, voice, rate=rate, pitch=pitch, vary=is_varied, disguise=is_disguised)

    def answer(self, text: str, voice: str) -> int:
        """The assistant says `text`."""
        return self.utter(text, voice, rate=self.rng.randint(165, 185), pitch=self.rng.randint(47, 53))

    def words(self, least: int, most: int) -> str:
        """Random number words."""
        return " ".join(self.rng.choice(lexicon.NUMBERS) for _ in range(self.rng.randint(least, most)))

    def exchange(self) -> tuple[str, list[str]]:
        """A question, and its reply in chunks: mostly sums, then counting, then echo."""
        kind = self.rng.random()
        if kind < 0.65:
            fact = self.rng.choice(self.sums)
            return lexicon.question(*fact), [lexicon.equation(*fact)]
        if kind < 0.85:
            fact = self.rng.choice(self.counts)
            return lexicon.count_request(*fact), lexicon.count_reply(*fact)
        words = self.words(1, 4)
        return f"say {words}", [words]

    def spoken(self, chunks: list[str], voice: str) -> list:
        """Text chunk, its speech, next chunk, ..."""
        parts: list[str | int] = []
        for chunk in chunks:
            parts.append(chunk)
            parts.append(self.answer(chunk, voice))
        return parts

    def qa(self) -> list:
        """Speech in, text and speech out; one in ten has a second turn that asks to hear the answer again."""
        question, chunks = self.exchange()
        voice = self.rng.choice(lexicon.REPLY)
        messages = [
            ["system", "answer"],
            ["user", self.ask(question)],
            ["assistant", *self.spoken(chunks, voice)],
        ]
        if len(chunks) == 1 and self.rng.random() < 0.1:
            messages += [["user", self.ask("say again")], ["assistant", *self.spoken(chunks, voice)]]
        return messages

    def asr(self) -> list:
        """Speech in, its words out."""
        question, chunks = self.exchange()
        reply = " ".join(chunks[:2])
        text = self.rng.choice([question, question, reply, self.words(2, 6)])
        return [["system", "transcribe"], ["user", self.ask(text)], ["assistant", text]]

    def tts(self) -> list:
        """Words in; out comes speech in one of the four reply voices."""
        if self.rng.random() < 0.7:
            text = self.words(2, 5)
        else:
            _, chunks = self.exchange()
            text = chunks[0]
        voice = self.rng.choice(lexicon.REPLY)
        return [["system", "speak"], ["user", text], ["assistant", self.answer(text, voice)]]

    def caption(self) -> list:
        """A sound in, its name out; or a voice in, and out whether it is high or low, fast or slow."""
        if self.rng.random() < 0.5:
            name = self.rng.choice(list(synthesis.SOUNDS))
            heard = self.utter("", name, sound=self.rng.getrandbits(31), vary=True)
            return [["system", "describe"], ["user", heard], ["assistant", name]]
        low = self.rng.random() < 0.5
        fast = self.rng.random() < 0.5
        if self.users == lexicon.USER:
            voices = lexicon.USER_LOW if low else lexicon.USER_HIGH
        else:
            voices = lexicon.UNSEEN_LOW if low else lexicon.UNSEEN_HIGH
        slowest, fastest = (225, 250) if fast else (110, 130)  # words per minute
        rate = self.rng.randint(slowest, fastest)
        pitch = self.rng.randint(45, 55)
        text, _ = self.exchange()
        heard = self.utter(text, self.rng.choice(voices), vary=True, rate=rate, pitch=pitch)
        height = "low" if low else "high"
        speed = "fast" if fast else "slow"
        return [["system", "describe"], ["user", heard], ["assistant", f"a {height} {speed} voice"]]

    def chat(self) -> list:
        """A typed question: answered in text alone, or (instruction "answer") in text and speech."""
        if self.rng.random() < 0.1:
            return [["system", "chat"], ["user", "hello"], ["assistant", "hello and what is the question"]]
        question, chunks = self.exchange()
        if self.rng.random() < 0.5:
            reply = self.spoken(chunks, self.rng.choice(lexicon.REPLY))
            return [["system", "answer"], ["user", question], ["assistant", *reply]]
        return [["system", "chat"], ["user", question], ["assistant", " ".join(chunks)]]

    def document(self) -> list:
        """Counting on, one word written, the next spoken, in one voice."""
        start = self.rng.randint(0, 12)
        voice = self.rng.choice(lexicon.REPLY)
        words = lexicon.NUMBERS[start : start + self.rng.randint(4, 8)]
        parts = []
        for i, word in enumerate(words):
            is_written = i % 2 == 0
            parts.append(word if is_written else self.answer(word, voice))
        return [["document", *parts]]

    def records(self, sizes: dict[str, int]) -> list[dict]:
        """`sizes[family]` records of each family, in random order."""
        made = []
        for family, n in sizes.items():
            draw = getattr(self, family)  # a family is a method of this class
            made += [{"family": family, "messages": draw()} for _ in range(n)]
        self.rng.shuffle(made)
        return made


def hold_out(seed: int = 0, n_sums: int = 14, n_counts: int = 6) -> tuple[set, set]:
    """Facts that training never sees: sums and countings."""
    rng = random.Random(seed)
    sums = rng.sample(lexicon.SUMS, n_sums)
    counts = rng.sample(lexicon.COUNTS, n_counts)
    return set(sums), set(counts)


def transcripts(records: list[dict], utterances: list[dict]) -> list[dict]:
    """An ASR record for each first question and each described voice: the same audio, to be transcribed.

    Hearing is what a small talker learns last; this triples its practice without a single extra second of sound.
    """
    made = []
    for record in records:
        if record["family"] not in ("qa", "caption"):
            continue
        _, (_, heard, *_), *_ = record["messages"]  # the first thing that the user says
        text = utterances[heard]["text"]
        if text:
            messages = [["system", "transcribe"], ["user", heard], ["assistant", text]]
            made.append({"family": "asr", "messages": messages})
    return made


def draw_records(
    seed: int, train_sizes: dict = TRAIN_SIZES, test_sizes: dict = TEST_SIZES
) -> tuple[list[dict], dict]:
    """All records of all splits. Returns (utterances, {split: records})."""
    # 1. The facts of training, and those held out.
    held_sums, held_counts = hold_out(seed)
    seen_sums = tuple(fact for fact in lexicon.SUMS if fact not in held_sums)
    seen_counts = tuple(fact for fact in lexicon.COUNTS if fact not in held_counts)
    seen = {"sums": seen_sums, "counts": seen_counts}
    held = {"sums": tuple(sorted(held_sums)), "counts": tuple(sorted(held_counts))}
    # 2. Who asks about what in each split, and how often.
    questions_alone = {"qa": test_sizes["qa"]}
    settings = {
        "train": (lexicon.USER, seen, train_sizes),
        "renditions": (lexicon.USER, seen, test_sizes),
        "voices": (lexicon.UNSEEN, seen, test_sizes),
        "facts": (lexicon.USER, held, questions_alone),
    }
    # 3. Draw: all splits share one list of utterances.
    utterances = []
    splits = {}
    for number, name in enumerate(SPLITS):
        users, facts, sizes = settings[name]
        rng = random.Random(1000 * seed + number)
        disguised = 0.5 if name == "train" else 0.0
        world = World(rng, users, disguised, **facts, utterances=utterances)
        splits[name] = world.records(sizes)
    return utterances, splits


def synthesise(utterance: dict, seed: int) -> np.ndarray:
    """The waveform of one drawn utterance, (samples,) float32 at 8 kHz."""
    rng = np.random.default_rng(seed)
    if "sound" in utterance:
        wave = synthesis.sound(utterance["voice"], np.random.default_rng(utterance["sound"]))
    else:
        wave = synthesis.say(utterance["text"], utterance["voice"], utterance["rate"], utterance["pitch"])
    if utterance.get("disguise"):
        wave = synthesis.disguise(wave, rng)
    return synthesis.vary(wave, rng) if utterance.get("vary") else wave


def texts_of(utterances: list[dict], records: list[dict]) -> list[str]:
    """All that is said or written, for the tokeniser: the utterances, then the records, including roles."""
    texts = [utterance["text"] for utterance in utterances]
    for record in records:
        for message in record["messages"]:
            texts += [part for part in message if isinstance(part, str)]
    return [text for text in texts if text]


def build(
    out: str | Path, codec, seed: int = 0, train_sizes: dict = TRAIN_SIZES, test_sizes: dict = TEST_SIZES
) -> None:
    """Draw, synthesise, encode and write a corpus folder. `codec` is a `codec.Codec` at 8 kHz."""
    with whole_folder(out, is_of_a_corpus) as unfinished:
        utterances, splits = draw_records(seed, train_sizes, test_sizes)
        waves = [synthesise(u, 7919 * seed + i) for i, u in enumerate(tqdm(utterances, desc="speaking"))]
        codes = codec.encode_many(waves)
        train_tokeniser(texts_of(utterances, splits["train"]), unfinished / "tokeniser.model")
        splits["train"] += transcripts(splits["train"], utterances)
        kept = [{"text": u["text"], "voice": u["voice"]} for u in utterances]
        flat = [flatten(c, codec.config.codebook_size).numpy() for c in codes]
        codebooks = codec.codebooks().numpy()
        save_corpus(unfinished, codec_info(codec), flat, kept, splits, codebooks, licence="MIT")


SAMPLES = (  # file, what is said (facts of training), a voice never heard in training, and the reply
    ("question_1", "what is two plus three", "en-us+m7", "two plus three equals five"),
    ("question_2", "count from three to eight", "en-us+f3", "three four five six seven eight"),
    ("question_3", "what is eight minus three", "en-us+aunty", "eight minus three equals five"),
    ("question_4", "say seven two nine", "en-us+Alex", "seven two nine"),
    ("question_5", "what is eight plus six", "en-us+linda", "eight plus six equals fourteen"),
    ("question_6", "count from five to ten", "en-us+adam", "five six seven eight nine ten"),
    ("speech_1", "four eleven nineteen six", "en-us+adam", ""),
    ("speech_2", "six plus two equals eight", "en-us+f3", ""),
    ("speech_3", "twenty three zero", "en-us+m7", ""),
)


def write_samples(folder: str | Path) -> None:
    """Write a dozen WAVs: speech with a metadata.csv (so that `minittt data import` takes the folder), and other sounds."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file_name,transcript,speaker,reply"]
    for i, (name, text, voice, reply) in enumerate(SAMPLES):
        wave = synthesis.vary(synthesis.say(text, voice, 170, 50), np.random.default_rng(i))
        write_audio(folder / f"{name}.wav", wave, synthesis.SAMPLE_RATE)
        rows.append(f"{name}.wav,{text},{voice},{reply}")
    with whole_file(folder / "metadata.csv") as unfinished:
        unfinished.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for i, name in enumerate(synthesis.SOUNDS):
        file = folder / f"sound_{name.removeprefix('a ').replace(' ', '_')}.wav"
        write_audio(file, synthesis.sound(name, np.random.default_rng(100 + i)), synthesis.SAMPLE_RATE)
