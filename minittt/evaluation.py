"""How good a talker's replies are: text, speech, captions, length, voice and cost, each with a bootstrap interval.

Spoken replies are judged by the referee, a recogniser trained apart from the talker; what it makes of the true tokens
through the same codec stands beside every figure it gives.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from minittt.codec import Codec
from minittt.codec_quality import codec_scores
from minittt.conversation import reply_text
from minittt.corpus import Corpus
from minittt.decoding import DenoisingStep, Settings, random_order
from minittt.likelihood import estimator, reply_nats
from minittt.nar import DenoisingTalker
from minittt.objective import Preset, preset
from minittt.referee import Referee
from minittt.scores import Score, character_errors, normal, ratio, word_errors, words_right
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling


@dataclass
class Answers:
    """Records of one kind and the replies to them."""

    records: list[dict]
    replies: list[Reply] = field(default_factory=list)

    def pairs(self) -> list[tuple[dict, Reply]]:
        """Each record and its reply."""
        return list(zip(self.records, self.replies, strict=True))


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
    block: int = 16, steps: int = 16, temperature: float = 1.0, full_span: bool = False, policy=random_order
) -> Settings:
    """Greedy text; audio drawn at `temperature` with `steps` per block of `block` slots."""
    sampling = {"text_sampling": Sampling(0.0), "audio_sampling": Sampling(temperature)}
    how = {"full_span": full_span, "policy": policy}
    return Settings(block, steps=steps, max_text=64, max_span=160, max_spans=8, **sampling, **how)


def trained_with(talker: Talker) -> Preset:
    """The preset a talker was trained with: it says which blocks it knows."""
    return preset(talker.info["training"]["preset"])


def in_turn(records: list[dict], n: int | None, seed: int = 0) -> list[dict]:
    """n of these records, of all families in turn: the same ones whenever asked."""
    mixed = random.Random(seed).sample(records, len(records))
    place, seen = [], Counter()
    for record in mixed:
        seen[record["family"]] += 1
        place.append(seen[record["family"]])
    return [mixed[i] for i in sorted(range(len(mixed)), key=place.__getitem__)][:n]


class Evaluation:
    """Measures one talker on one split. `scores` grows as the measures are taken."""

    def __init__(
        self, talker: Talker, corpus: Corpus, codec: Codec, referee: Referee, split: str, settings: Settings
    ) -> None:
        talker.check_codec(codec)
        talker.check_corpus(corpus)
        referee.check_codec(codec)
        self.denoises_text = trained_with(talker).denoise_text
        if self.denoises_text:
            talker = DenoisingTalker(talker.model, talker.vocabulary, talker.tokeniser, talker.info)
        self.talker, self.corpus, self.codec, self.referee = talker, corpus, codec, referee
        self.split, self.settings, self.scores = split, settings, []

    def add(self, *score_arguments) -> None:
        """Note one score."""
        self.scores.append(ratio(*score_arguments))

    def _ask(self, name: str, limit: int | None) -> Answers:
        records = family(self.corpus, self.split, name, limit)
        return ask(self.talker, self.corpus, records, self.settings)

    def text(self, limit: int | None = None) -> None:
        """Transcripts, captions and chat: text out. Families that the split does not have are passed over."""
        asr = self._ask("asr", limit).pairs()
        if asr:
            texts = [(reply_text(record), reply.text) for record, reply in asr]
            for name, errors in (("word", word_errors), ("character", character_errors)):
                self.add(f"ASR {name} error rate", *zip(*(errors(*pair) for pair in texts), strict=True))
        for name in ("caption", "chat"):
            answers = self._ask(name, limit)
            if answers.records:
                self.add(f"{name} right", self._exact(answers))

    def _exact(self, answers: Answers) -> list[bool]:
        return [normal(reply_text(record)) == normal(reply.text) for record, reply in answers.pairs()]

    def questions(self, limit: int | None = None) -> None:
        """Spoken questions: the text of the answer, and its speech where the text is right."""
        answers = self._ask("qa", limit)
        if answers.records:
            right = self._exact(answers)
            self.add("spoken question, text answer right", right)
            self._speech("spoken answer", [p for p, yes in zip(answers.pairs(), right, strict=True) if yes])

    def speech(self, limit: int | None = None) -> None:
        """Text to speech."""
        self._speech("TTS", self._ask("tts", limit).pairs())

    def waves(self, spans: list[list[int]]) -> list[np.ndarray]:
        """Flattened codes of each span -> its waveform."""
        return [self.talker.sound(self.codec, span) for span in spans]

    def _speech(self, name: str, pairs: list[tuple[dict, Reply]]) -> None:
        """Words, length, voice and cost of spoken replies; the true tokens' words through the same codec beside them."""
        pairs = [pair for pair in pairs if true_spans(pair[0])]
        if not pairs:
            return
        said, theirs, truth = [], [reply.spans for _, reply in pairs], []
        for record, _ in pairs:
            numbers = true_spans(record)
            said.append(" ".join(self.corpus.utterances[n]["text"] for n in numbers))
            truth.append([self.corpus.audio(n).tolist() for n in numbers])
        true_rate = ratio("", *words_right(said, self._heard(truth))).value
        self.add(
            f"{name}: words recognised",
            *words_right(said, self._heard(theirs)),
            f"true tokens {true_rate:.3f}",
        )
        lengths = [(sum(map(len, t)), sum(map(len, r))) for t, r in zip(theirs, truth, strict=True)]
        self.add(f"{name}: length against true", *zip(*lengths, strict=True))
        ends = [self._at_block_end(span) for spans in theirs for span in spans]
        self.add(f"{name}: spans that end on a block end", ends)
        self.scores.append(self.coherence(f"{name}: voice coherence", theirs))
        steps = [sum(isinstance(e, DenoisingStep) for e in reply.events) for _, reply in pairs]
        slots = [sum(len(span) + 1 for span in spans) for spans in theirs]  # codes, and one EOA a span
        self.add(f"{name}: denoising steps per audio token", steps, slots)

    def _heard(self, replies: list[list[list[int]]]) -> list[str]:
        flat = self.referee.transcribe([wave for spans in replies for wave in self.waves(spans)])
        words = iter(flat)
        return [" ".join(next(words) for _ in spans).strip() for spans in replies]

    def _at_block_end(self, span: list[int]) -> bool:
        return (len(span) + 1) % (self.settings.block_size or 1) == 0

    def coherence(self, name: str, replies: list[list[list[int]]]) -> Score:
        """Share of windows in the voice of their reply, over replies (spans of codes) that say something."""
        waves = [np.concatenate(self.waves(spans)) for spans in replies if spans]
        heard = Counter(self.referee.voice_of(wave) for wave in waves)
        voices = "voices " + " ".join(f"{heard[v] / max(1, len(waves)):.2f}" for v in range(4))
        return ratio(name, [self.referee.voice_coherence(wave) for wave in waves], None, voices)

    def voices(self, limit: int | None = None, steps: tuple[int, ...] = (1, 4, 16), block: int = 16) -> None:
        """Voice coherence: of true tokens, of true tokens with the voice redrawn, of replies at some steps a block."""
        records = [r for r in family(self.corpus, self.split, "qa") if true_spans(r)][:limit]
        truth = [[self.corpus.audio(n).tolist() for n in true_spans(r)] for r in records]
        self.scores.append(self.coherence("voice coherence of true tokens", truth))
        for every in (8, 1):
            name = f"voice coherence of true tokens, voice redrawn every {every}"
            self.scores.append(self.coherence(name, redrawn(truth, every)))
        for k in steps if self.settings.block_size != 1 else ():  # AR audio knows no other blocks
            settings = decoding_settings(block, k, full_span=self.settings.full_span)
            spans = [reply.spans for reply in ask(self.talker, self.corpus, records, settings).replies]
            self.scores.append(self.coherence(f"voice coherence, block {block}, {k} steps", spans))

    def likelihood(self, limit: int | None = 300) -> None:
        """Nats per token of true replies, by modality (`likelihood.py` says of what)."""
        p = estimator(trained_with(self.talker), self.settings.block_size or 8)
        records = in_turn(self.corpus.split(self.split), limit)
        found = reply_nats(self.talker.model, self.corpus, records, p)
        self.scores.append(
            found.score("text", "text: nats per token", "denoised" if p.denoise_text else "exact")
        )
        blocks = "whole spans, length given" if p.block_sizes == (None,) else f"block {p.block_sizes[0]}"
        self.scores.append(found.score("audio", "audio: nats per token, bound", blocks))

    def pace(self, replies: int = 8) -> None:
        """Seconds of computing per second of speech, one reply at a time, sound not decoded."""
        records = [r for r in family(self.corpus, self.split, "qa") if true_spans(r)][:replies]
        spent, spoken = [], []
        for record in records:
            begun = time.perf_counter()
            [reply] = ask(self.talker, self.corpus, [record], self.settings).replies
            spent.append(time.perf_counter() - begun)
            spoken.append(sum(map(len, reply.spans)) / self.codec.config.n_codebooks / self.codec.frame_rate)
        self.add("seconds of computing per second of speech", spent, spoken, "on this machine")

    def everything(self, limit: int | None, originals: list[tuple[np.ndarray, str]]) -> list[Score]:
        """The whole table. originals: recordings (samples,) at the codec's rate, and their words."""
        for measure in (self.text, self.questions, self.speech, self.voices):
            measure(limit)
        self.likelihood(min(300, limit or 300))
        self.pace()
        self.scores += codec_scores(self.codec, self.referee, originals)
        return self.scores


def redrawn(replies: list[list[list[int]]], every: int, seed: int = 0) -> list[list[list[int]]]:
    """Spans of codes (counted from 0) pieced together: each run of `every` tokens is that of some span at the same place."""
    rng, spans = random.Random(seed), [span for reply in replies for span in reply]

    def mixed(span: list[int]) -> list[int]:
        runs = [(at, min(at + every, len(span))) for at in range(0, len(span), every)]
        return [code for at, end in runs for code in rng.choice(_reaching(spans, end))[at:end]]

    return [[mixed(span) for span in reply] for reply in replies]


def _reaching(spans: list[list[int]], end: int) -> list[list[int]]:
    return [span for span in spans if len(span) >= end]
