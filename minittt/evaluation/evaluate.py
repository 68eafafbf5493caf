"""How good a talker's replies are: text, speech, captions, length, voice and cost, each with a bootstrap interval.

Spoken replies are judged by the referee, a recogniser trained separately from the talker; next to every figure it gives
is what it makes of the true tokens through the same codec.

Figures are reproducible. Everything random about a record comes from its own seed (`Corpus.seed_of`), so a limit on the
number of items, their order and the batch size change nothing for the items in common. Batching does change sums by
rounding, though, and in float32 that flips one draw in a few thousand: so talker and referee compute in float64 here,
which takes 1.6 times as long.
"""

import copy
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from minittt.codec import Codec
from minittt.data.conversation import reply_text
from minittt.data.corpus import Corpus
from minittt.decoding import DenoisingStep, Settings
from minittt.device import with_float64
from minittt.evaluation.codec_quality import codec_scores
from minittt.evaluation.likelihood import estimator, reply_nats
from minittt.evaluation.outside_judge import OutsideJudge
from minittt.evaluation.referee import Referee
from minittt.evaluation.refusals import knows_how_to_decline, refused
from minittt.evaluation.scores import Score, character_errors, ratio, same_text, word_errors, words_right
from minittt.nar import DenoisingTalker
from minittt.objective import Preset, preset
from minittt.talker import Reply, Talker, decoding_settings

SUBJECT = 12  # sentences that tell an outside judge what the subject is


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
    """Reply to the last turn of every record, `rows` at a time. Replies come in the records' order.

    Records of similar length share a batch. Each draws from its own seed, derived from the record and from `seed`.
    """
    prompts = [prompt_of(corpus, record) for record in records]
    seeds = [corpus.seed_of(record, seed) for record in records]
    order = sorted(range(len(records)), key=lambda i: _length(prompts[i]))
    name = records[0]["family"] if records else ""
    replies: list[Reply | None] = [None] * len(records)
    for start in tqdm(range(0, len(order), rows), desc=name, leave=False):
        chosen = order[start : start + rows]
        made = talker.converse([prompts[i] for i in chosen], settings, seed=[seeds[i] for i in chosen])
        for i, reply in zip(chosen, made, strict=True):
            replies[i] = reply
    return Answers(records, replies)


def prompt_of(corpus: Corpus, record: dict) -> list[list]:
    """The messages before the reply, with codes in place of utterance numbers."""
    return [[corpus.in_codes(part) for part in message] for message in record["messages"][:-1]]


def _length(prompt: list[list]) -> int:
    """Characters and codes of a prompt: close enough to its number of tokens for grouping similar ones."""
    return sum(len(part) for message in prompt for part in message)


def family(corpus: Corpus, split: str, name: str, limit: int | None = None) -> list[dict]:
    """Records of one family whose last message is a reply."""
    return [r for r in corpus.split(split) if r["family"] == name][:limit]


def true_spans(record: dict) -> list[int]:
    """Utterance numbers of the last reply's audio."""
    return [part for part in record["messages"][-1][1:] if isinstance(part, int)]


def words_of_reply(corpus: Corpus, record: dict) -> str:
    """What the audio of the last reply says."""
    return " ".join(corpus.utterances[number]["text"] for number in true_spans(record))


def codes_of_reply(corpus: Corpus, record: dict) -> list[list[int]]:
    """Codes of each span of the last reply's audio."""
    return [corpus.audio(number).tolist() for number in true_spans(record)]


def trained_with(talker: Talker) -> Preset:
    """The preset a talker was trained with: it says which blocks it knows."""
    return preset(talker.info["training"]["preset"])


def in_turn(records: list[dict], n: int | None, seed: int = 0) -> list[dict]:
    """n of these records, taking families in turn: always the same ones, and a smaller n gives the first of a larger n's."""
    mixed = random.Random(seed).sample(records, len(records))
    seen = Counter()
    numbered = []  # (how many of its family came before, place in the mix)
    for place, record in enumerate(mixed):
        numbered.append((seen[record["family"]], place))
        seen[record["family"]] += 1
    return [mixed[place] for _, place in sorted(numbered)][:n]


class Evaluation:
    """Measures one talker on one split. `scores` grows as the measures are taken."""

    def __init__(
        self,
        talker: Talker,
        corpus: Corpus,
        codec: Codec,
        referee: Referee,
        split: str,
        settings: Settings,
        seed: int = 0,
    ) -> None:
        talker.check_codec(codec)
        talker.check_corpus(corpus)
        referee.check_codec(codec)
        device = with_float64(talker.model.embed_tokens.weight.device)
        model = copy.deepcopy(talker.model).to(device).double()
        self.denoises_text = trained_with(talker).denoise_text
        kind = DenoisingTalker if self.denoises_text else Talker
        self.talker = kind(model, talker.vocabulary, talker.tokeniser, talker.info)
        self.referee = copy.deepcopy(referee).to(device)
        self.referee.recogniser.double()
        self.corpus = corpus
        self.codec = codec
        self.split = split
        self.settings = settings
        self.seed = seed
        self.scores: list[Score] = []
        self.answers: dict[tuple[str, int | None], Answers] = {}

    def strange_voices(self) -> list[str]:
        """Voices of the split's spoken replies that the referee was not trained to judge; "" where one has no name."""
        voices = set()
        for record in self.corpus.split(self.split):
            if record["family"] in ("qa", "tts"):
                voices |= {self.corpus.utterances[number]["voice"] for number in true_spans(record)}
        return sorted(voices - set(self.referee.config.voices))

    def add(
        self,
        name: str,
        numerators: Sequence[float],
        denominators: Sequence[float] | None = None,
        note: str = "",
    ) -> None:
        """Record the score of some items; a score without items does not apply and is left out."""
        self._note(ratio(name, numerators, denominators, note))

    def _note(self, score: Score | None) -> None:
        if score is not None:
            self.scores.append(score)

    def _ask(self, name: str, limit: int | None) -> Answers:
        """The replies to the records of a family; asked once, however many measures are taken of them."""
        if (name, limit) not in self.answers:
            records = family(self.corpus, self.split, name, limit)
            self.answers[name, limit] = ask(self.talker, self.corpus, records, self.settings, self.seed)
        return self.answers[name, limit]

    def text(self, limit: int | None = None) -> None:
        """Transcripts, captions and chat: text out."""
        asr = self._ask("asr", limit)
        for name, count in (("word", word_errors), ("character", character_errors)):
            errors = []
            totals = []
            for record, reply in asr.pairs():
                wrong, total = count(reply_text(record), reply.text)
                errors.append(wrong)
                totals.append(total)
            self.add(f"ASR {name} error rate", errors, totals)
            if name == "word":
                self._by_make("ASR word error rate", asr.records, errors, totals)
        for name in ("caption", "chat"):
            answers = self._ask(name, limit)
            self.add(f"{name} right", self._right(answers))

    def _by_make(
        self, name: str, records: list[dict], numerators: list, denominators: list | None = None
    ) -> None:
        """The same score for each voice that is not of espeak-ng's make ("flite rms"), where such voices ask."""
        places: dict[str, list[int]] = {}
        for i, record in enumerate(records):
            voice = self.corpus.utterances[record["messages"][1][1]]["voice"]
            if " " in voice:
                places.setdefault(voice, []).append(i)
        for voice, chosen in sorted(places.items()):
            totals = None if denominators is None else [denominators[i] for i in chosen]
            self.add(f"{name}, {voice}", [numerators[i] for i in chosen], totals)

    def _right(self, answers: Answers) -> list[bool]:
        """Whether each text matches the record's, word for word."""
        return [same_text(reply_text(record), reply.text) for record, reply in answers.pairs()]

    def questions(self, limit: int | None = None) -> None:
        """Spoken questions: the text of the answer, and its speech where the text is right."""
        answers = self._ask("qa", limit)
        right = self._right(answers)
        self.add("spoken question, text answer right", right)
        self._by_make("spoken question, text answer right", answers.records, right)
        if self._refuses():
            self.add("spoken question, refused", [refused(reply.text) for reply in answers.replies])
        answered = [pair for pair, is_right in zip(answers.pairs(), right, strict=True) if is_right]
        self._speech("spoken answer", answered)

    def foreign(self, limit: int | None = None) -> None:
        """Whether sounds that were never taught, of kinds that training met, are refused."""
        if self._refuses():
            answers = self._ask("foreign", limit)
            self.add("never taught: refused", [refused(reply.text) for reply in answers.replies])

    def _refuses(self) -> bool:
        """Whether this talker has learned to say that it did not understand."""
        return knows_how_to_decline(self.talker)

    def speech(self, limit: int | None = None) -> None:
        """Text to speech."""
        self._speech("TTS", self._ask("tts", limit).pairs())

    def waves(self, spans: list[list[int]]) -> list[np.ndarray]:
        """Flattened codes of each span -> its waveform."""
        return [self.talker.sound(self.codec, span) for span in spans]

    def _speech(self, name: str, pairs: list[tuple[dict, Reply]]) -> None:
        """Words, length, voice and cost of spoken replies, next to the words in the true tokens through the same codec."""
        pairs = [(record, reply) for record, reply in pairs if true_spans(record)]
        said = [words_of_reply(self.corpus, record) for record, _ in pairs]  # what should be said
        truth = [codes_of_reply(self.corpus, record) for record, _ in pairs]  # the true spans of each reply
        replies = [reply.spans for _, reply in pairs]  # the talker's
        # 1. Words, beside those that the referee hears in the true tokens.
        ceiling = ratio("", *words_right(said, self._heard(truth)))
        note = f"true tokens {ceiling.value:.3f}" if ceiling else ""
        self.add(f"{name}: words recognised", *words_right(said, self._heard(replies)), note)
        # 2. Length, and whether the layout of blocks shows in it.
        lengths = [sum(map(len, spans)) for spans in replies]
        true_lengths = [sum(map(len, spans)) for spans in truth]
        self.add(f"{name}: length against true", lengths, true_lengths)
        at_block_end = [self._at_block_end(span) for spans in replies for span in spans]
        self.add(f"{name}: spans that end on a block end", at_block_end)
        # 3. Voice.
        self._note(self.coherence(f"{name}: voice coherence", replies))
        # 4. Cost. A slot is a code, or the one EOA of a span.
        steps = [sum(isinstance(e, DenoisingStep) for e in reply.events) for _, reply in pairs]
        slots = [sum(len(span) + 1 for span in spans) for spans in replies]
        self.add(f"{name}: denoising steps per audio token", steps, slots)

    def _heard(self, replies: list[list[list[int]]]) -> list[str]:
        """What the referee hears in each reply, a list of spans."""
        waves = [wave for spans in replies for wave in self.waves(spans)]
        words = iter(self.referee.transcribe(waves))
        return [" ".join(next(words) for _ in spans).strip() for spans in replies]

    def outside(self, judge: OutsideJudge, limit: int | None = None) -> None:
        """What an outside recogniser makes of the speech and of the true tokens, and how far apart they are, in pairs.

        As with the referee, an answer is only heard if its text is right.
        """
        answers = self._ask("qa", limit)
        answered = [pair for pair, right in zip(answers.pairs(), self._right(answers), strict=True) if right]
        for name, pairs in (("spoken answer", answered), ("TTS", self._ask("tts", limit).pairs())):
            self._outside(judge, name, [pair for pair in pairs if true_spans(pair[0])])

    def _outside(self, judge: OutsideJudge, name: str, pairs: list[tuple[dict, Reply]]) -> None:
        said = [words_of_reply(self.corpus, record) for record, _ in pairs]
        truth = [self._one_wave(codes_of_reply(self.corpus, record)) for record, _ in pairs]
        spoken = [self._one_wave(reply.spans) for _, reply in pairs]
        rate = self.codec.config.sample_rate
        context = self._sentences_on_the_subject(said)
        right, words = words_right(said, judge.transcribe(spoken, rate, context))
        right_in_truth, _ = words_right(said, judge.transcribe(truth, rate, context))
        for of, rights in ((name, right), (f"{name}, true tokens", right_in_truth)):
            hopeless = sum(n < 0 for n in rights)
            note = f"{hopeless} with more errors than words"
            self.add(f"{of}: words recognised by {judge.name}", rights, words, note)
        apart = [a - b for a, b in zip(right, right_in_truth, strict=True)]
        self.add(f"{name} minus true tokens, by {judge.name}", apart, words, "in pairs")

    def _one_wave(self, spans: list[list[int]]) -> np.ndarray:
        """The spans of a reply one after the other, (samples,)."""
        return np.concatenate([np.zeros(0, np.float32), *self.waves(spans)])

    def _sentences_on_the_subject(self, said: list[str]) -> list[str]:
        """Some sentences of the training split, none of them among those judged; none if the corpus has no such split."""
        records = family(self.corpus, "train", "tts") if "train" in self.corpus.splits else []
        texts = {self.corpus.utterances[n]["text"] for record in records for n in true_spans(record)}
        others = sorted(texts - set(said))
        return random.Random(0).sample(others, min(SUBJECT, len(others)))

    def _at_block_end(self, span: list[int]) -> bool:
        block = self.settings.block_size or 1
        return (len(span) + 1) % block == 0

    def coherence(self, name: str, replies: list[list[list[int]]]) -> Score | None:
        """Share of windows in the voice of their reply, over replies (spans of codes) that say something."""
        waves = [np.concatenate(self.waves(spans)) for spans in replies if spans]
        heard = Counter(self.referee.voice_of(wave) for wave in waves)
        shares = [f"{heard[voice] / max(1, len(waves)):.2f}" for voice in range(4)]
        note = "voices " + " ".join(shares)
        return ratio(name, [self.referee.voice_coherence(wave) for wave in waves], None, note)

    def voices(self, limit: int | None = None, steps: tuple[int, ...] = (1, 4, 16), block: int = 16) -> None:
        """Voice coherence: of true tokens, of true tokens with the voice redrawn, of replies at several steps per block."""
        all_records = [r for r in family(self.corpus, self.split, "qa") if true_spans(r)]
        all_truth = [codes_of_reply(self.corpus, record) for record in all_records]
        donors = [span for spans in all_truth for span in spans]  # whatever the limit is
        records = all_records[:limit]
        truth = all_truth[:limit]
        seeds = [self.corpus.seed_of(record, self.seed) for record in records]
        self._note(self.coherence("voice coherence of true tokens", truth))
        for every in (8, 1):
            name = f"voice coherence of true tokens, voice redrawn every {every}"
            self._note(self.coherence(name, redrawn(truth, every, donors, seeds)))
        if self.settings.block_size == 1:
            return  # AR audio knows no other blocks
        for k in steps:
            settings = decoding_settings(block, k, full_span=self.settings.full_span)
            answers = ask(self.talker, self.corpus, records, settings, self.seed)
            spans = [reply.spans for reply in answers.replies]
            self._note(self.coherence(f"voice coherence, block {block}, {k} steps", spans))

    def likelihood(self, limit: int | None = 300) -> None:
        """Nats per token of true replies, by modality (see `likelihood.py`)."""
        p = estimator(trained_with(self.talker), self.settings.block_size or 8)
        records = in_turn(self.corpus.split(self.split), limit)
        found = reply_nats(self.talker.model, self.corpus, records, p, seed=self.seed)
        how = "denoised" if p.denoise_text else "exact"
        self._note(found.score("text", "text: nats per token", how))
        blocks = "whole spans, length given" if p.block_sizes == (None,) else f"block {p.block_sizes[0]}"
        self._note(found.score("audio", "audio: nats per token, bound", blocks))

    def pace(self, replies: int = 8) -> Score | None:
        """Seconds of computing per second of speech, one reply at a time, sound not decoded, in float64.

        It is returned, not added to `scores`: it describes this machine at this moment, and never repeats.
        """
        records = [r for r in family(self.corpus, self.split, "qa") if true_spans(r)][:replies]
        spent = []
        spoken = []
        for record in records:
            begin = time.perf_counter()
            [reply] = ask(self.talker, self.corpus, [record], self.settings, self.seed).replies
            spent.append(time.perf_counter() - begin)
            frames = sum(map(len, reply.spans)) / self.codec.config.n_codebooks
            spoken.append(frames / self.codec.frame_rate)
        return ratio("seconds of computing per second of speech", spent, spoken, "on this machine")

    def everything(self, limit: int | None, originals: list[tuple[np.ndarray, str]]) -> list[Score]:
        """The whole table. originals: recordings (samples,) at the codec's rate, and their words."""
        self.text(limit)
        self.questions(limit)
        self.foreign(limit)
        self.speech(limit)
        self.voices(limit)
        self.likelihood(min(300, limit or 300))
        self.scores += codec_scores(self.codec, self.referee, originals)
        return self.scores


def redrawn(
    replies: list[list[list[int]]], every: int, donors: list[list[int]], seeds: list[int]
) -> list[list[list[int]]]:
    """Replies of the same lengths in which the voice changes every `every` tokens.

    Each run of `every` tokens is taken from some span among `donors` (codes counted from 0), at the same place; every
    span of the replies is one of them. One seed for each reply.
    """
    mixed = []
    for spans, seed in zip(replies, seeds, strict=True):
        rng = random.Random(seed)
        mixed.append([_spliced(len(span), every, donors, rng) for span in spans])
    return mixed


def _spliced(length: int, every: int, donors: list[list[int]], rng: random.Random) -> list[int]:
    """A span of `length` codes, each run of `every` from a donor that is long enough."""
    span = []
    for start in range(0, length, every):
        stop = min(start + every, length)
        long_enough = [donor for donor in donors if len(donor) >= stop]
        span += rng.choice(long_enough)[start:stop]
    return span
