"""How good is a talker: text, speech, captions, length and voice, each with a bootstrap interval.

Spoken replies are judged by the referee, a recogniser trained apart from the talker; what it makes of the true tokens
through the same codec stands beside every figure it gives.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass, field

import jiwer
import numpy as np
from tqdm import tqdm

from minittt.codec import Codec
from minittt.conversation import reply_text
from minittt.corpus import Corpus
from minittt.decoding import Settings
from minittt.referee import Referee
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling


@dataclass
class Score:
    """One figure over items: a ratio of sums, with a 95 % interval from 1000 bootstrap draws of the items."""

    name: str
    value: float
    low: float
    high: float
    items: int
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name:<44} {self.value:7.3f}  [{self.low:.3f}, {self.high:.3f}]  n={self.items}  {self.note}"


def ratio(
    name: str, numerators: list[float], denominators: list[float] | None = None, note: str = ""
) -> Score:
    """sum(numerators) / sum(denominators), the latter 1 each by default: a rate over items, or WER over words."""
    a = np.asarray(numerators, float)
    b = np.ones_like(a) if denominators is None else np.asarray(denominators, float)
    if not len(a) or not b.sum():
        return Score(name, float("nan"), float("nan"), float("nan"), len(a), note)
    drawn = np.random.default_rng(0).integers(0, len(a), (1000, len(a)))
    draws = a[drawn].sum(1) / np.maximum(b[drawn].sum(1), 1e-9)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(name, float(a.sum() / b.sum()), float(low), float(high), len(a), note)


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions between two texts, and the number of true words."""
    if not said.split():
        return len(heard.split()), 0
    out = jiwer.process_words(said, heard if heard.strip() else "")
    return out.substitutions + out.deletions + out.insertions, len(said.split())


def normal(text: str) -> str:
    """Lower case, one blank between words."""
    return re.sub(r"\s+", " ", text.lower()).strip()


@dataclass
class Answers:
    """Records of one kind and the replies to them."""

    records: list[dict]
    replies: list[Reply] = field(default_factory=list)


def ask(
    talker: Talker, corpus: Corpus, records: list[dict], settings: Settings, seed: int = 0, rows: int = 32
) -> Answers:
    """Reply to the last turn of every record, `rows` at a time, alike in length. Replies come in the records' order."""
    prompts = [[_loaded(corpus, m) for m in record["messages"][:-1]] for record in records]
    order = sorted(range(len(records)), key=lambda i: sum(len(p) for m in prompts[i] for p in m))
    replies: list[Reply | None] = [None] * len(records)
    for start in tqdm(range(0, len(order), rows), desc=records[0]["family"] if records else "", leave=False):
        chosen = order[start : start + rows]
        made = talker.converse([prompts[i] for i in chosen], settings, seed=seed + start)
        for i, reply in zip(chosen, made, strict=True):
            replies[i] = reply
    return Answers(records, replies)


def _loaded(corpus: Corpus, message: list) -> list:
    return [corpus.audio(part).tolist() if isinstance(part, int) else part for part in message]


def family(corpus: Corpus, split: str, name: str, limit: int | None = None) -> list[dict]:
    """Records of one family whose last message is a reply."""
    return [r for r in corpus.split(split) if r["family"] == name][:limit]


def true_spans(record: dict) -> list[int]:
    """Utterance numbers of the last reply's audio."""
    return [part for part in record["messages"][-1][1:] if isinstance(part, int)]


def decoding_settings(
    block: int = 16, steps: int = 16, temperature: float = 1.0, full_span: bool = False, policy=None
) -> Settings:
    """Greedy text; audio drawn at `temperature` with `steps` per block of `block` slots."""
    extra = {} if policy is None else {"policy": policy}
    sampling = {"text_sampling": Sampling(0.0), "audio_sampling": Sampling(temperature)}
    return Settings(block, full_span=full_span, steps=steps, max_text=64, max_span=160, **sampling, **extra)


class Evaluation:
    """Measures one talker on one split. `scores` grows as the measures are taken."""

    def __init__(
        self, talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, split: str, settings: Settings
    ) -> None:
        self.talker, self.corpus, self.codec, self.referee = talker, corpus, codec, referee
        self.split, self.settings, self.scores = split, settings, []
        talker.check_codec(codec)

    def add(self, *score_arguments) -> None:
        """Note one score."""
        self.scores.append(ratio(*score_arguments))

    def _ask(self, name: str, limit: int | None) -> Answers:
        records = family(self.corpus, self.split, name, limit)
        return ask(self.talker, self.corpus, records, self.settings)

    def text(self, limit: int | None = None) -> None:
        """Transcripts, captions and chat: text out. Families that the split does not have are passed over."""
        asr = self._ask("asr", limit)
        if asr.records:
            pairs = zip(asr.records, asr.replies, strict=True)
            errors, words = zip(*(word_errors(reply_text(r), a.text) for r, a in pairs), strict=True)
            self.add("ASR word error rate", errors, words)
        for name in ("caption", "chat"):
            answers = self._ask(name, limit)
            if answers.records:
                self.add(f"{name} right", self._exact(answers))

    def _exact(self, answers: Answers) -> list[bool]:
        return [
            normal(reply_text(r)) == normal(a.text)
            for r, a in zip(answers.records, answers.replies, strict=True)
        ]

    def questions(self, limit: int | None = None) -> None:
        """Spoken questions: the text of the answer, and its speech where the text is right."""
        answers = self._ask("qa", limit)
        if answers.records:
            right = self._exact(answers)
            self.add("spoken question, text answer right", right)
            kept = [
                pair
                for pair, yes in zip(zip(answers.records, answers.replies, strict=True), right, strict=True)
                if yes
            ]
            self._speech("spoken answer", Answers([r for r, _ in kept], [a for _, a in kept]))

    def speech(self, limit: int | None = None) -> None:
        """Text to speech."""
        self._speech("TTS", self._ask("tts", limit))

    def waves(self, spans: list[list[int]]) -> list[np.ndarray]:
        """Flattened codes of each span -> its waveform."""
        return [self.talker.sound(self.codec, span) for span in spans]

    def _speech(self, name: str, answers: Answers) -> None:
        """Words, length and voice of spoken replies against the true tokens through the same codec and referee."""
        pairs = [(r, a) for r, a in zip(answers.records, answers.replies, strict=True) if true_spans(r)]
        if not pairs:
            return
        said, theirs, truth = [], [], []
        for record, reply in pairs:
            numbers = true_spans(record)
            said.append(" ".join(self.corpus.utterances[n]["text"] for n in numbers))
            truth.append([self.corpus.audio(n).tolist() for n in numbers])
            theirs.append(reply.spans)
        spoken, real = self._heard(theirs), self._heard(truth)
        true_rate = ratio("", *_word_rate(said, real)).value
        self.add(f"{name}: words recognised", *_word_rate(said, spoken), f"true tokens {true_rate:.3f}")
        lengths = [(sum(map(len, t)), sum(map(len, r))) for t, r in zip(theirs, truth, strict=True)]
        self.add(f"{name}: length against true", *zip(*lengths, strict=True))
        self.add(
            f"{name}: spans that end on a block end",
            [self._at_block_end(s) for spans in theirs for s in spans],
        )
        waves = [np.concatenate(self.waves(spans)) for spans in theirs if spans]
        self.add(
            f"{name}: voice coherence",
            [self.referee.voice_coherence(w) for w in waves],
            None,
            self._voices(waves),
        )
        self.add(
            f"{name}: forwards per audio token",
            [r.nfe for r in answers.replies],
            [max(1, n) for n, _ in lengths],
        )

    def _heard(self, replies: list[list[list[int]]]) -> list[str]:
        flat = self.referee.transcribe([wave for spans in replies for wave in self.waves(spans)])
        words = iter(flat)
        return [" ".join(next(words) for _ in spans).strip() for spans in replies]

    def _at_block_end(self, span: list[int]) -> bool:
        return (len(span) + 1) % (self.settings.block_size or 1) == 0

    def _voices(self, waves: list[np.ndarray]) -> str:
        heard = Counter(self.referee.voice_of(wave) for wave in waves)
        return "voices " + " ".join(f"{heard[v] / max(1, len(waves)):.2f}" for v in range(4))


def _word_rate(said: list[str], heard: list[str]) -> tuple[list[float], list[float]]:
    """Words got right, 1 - WER as a ratio: true words less errors, over true words."""
    errors, words = zip(*(word_errors(a, b) for a, b in zip(said, heard, strict=True)), strict=True)
    return [max(0, w - e) for e, w in zip(errors, words, strict=True)], list(words)


def coherence(
    evaluation: Evaluation, records: list[dict], steps: int, block: int = 16, seed: int = 0
) -> Score:
    """Voice coherence of spoken replies at some steps per block: random order, temperature 1."""
    talker, corpus = evaluation.talker, evaluation.corpus
    settings = decoding_settings(block, steps, full_span=evaluation.settings.full_span)
    answers = ask(talker, corpus, records, settings, seed)
    waves = [np.concatenate(evaluation.waves(r.spans)) for r in answers.replies if r.spans]
    name = f"voice coherence, block {block}, {steps} steps"
    return ratio(
        name, [evaluation.referee.voice_coherence(w) for w in waves], None, evaluation._voices(waves)
    )


def shuffled(records: list[dict], n: int, seed: int = 0) -> list[dict]:
    """n records in random order."""
    return random.Random(seed).sample(records, min(n, len(records)))
