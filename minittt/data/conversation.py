"""Records to token sequences: turns, spans, and which parts of them are targets.

    BOS instruction  USER question  ASSISTANT reply END          question, reply: text, and audio spans  OPEN codes EOA
    BOS text OPEN codes EOA text ... END                         a document has no roles and is all target

What the model is to say (assistant turns and documents) is target: its text is learned by predicting the next token, its
audio by denoising. What it is told is not. A target span is filled up to whole blocks with EOA, so that the layout does
not give its length away: a block that ends early says so by its tokens (the filler is this project's choice, not the
paper's).
"""

from dataclasses import dataclass, field
from typing import Protocol

from minittt.attention import SOURCE, TARGET, TEXT
from minittt.data.corpus import Corpus
from minittt.data.tokenisers import Tokeniser
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError


@dataclass
class TokenSequence:
    """One record as tokens, all lists of equal length L."""

    ids: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)  # TEXT, SOURCE or TARGET
    targets: list[bool] = field(default_factory=list)  # True where a text token is to be predicted

    def add(self, ids: list[int], kind: int, target: bool) -> None:
        """Append tokens of one kind."""
        self.ids += ids
        self.kinds += [kind] * len(ids)
        self.targets += [target and kind == TEXT] * len(ids)


def filler(length: int, block_size: int | None, first_block: int | None = None) -> int:
    """How many EOAs fill a span of `length` slots up to whole blocks; the first block has `first_block` slots, if given."""
    if block_size is None:
        return 0
    first = first_block or block_size
    if length <= first:
        return first - length
    in_last_block = (length - first) % block_size
    if in_last_block == 0:
        return 0
    return block_size - in_last_block


class WithTokens(Protocol):
    """What a record can be rendered with other than a corpus: a talker. It has no utterances to refer to by number."""

    vocabulary: Vocabulary
    tokeniser: Tokeniser


def render(
    record: dict,
    corpus: Corpus | WithTokens,
    block_size: int | None = None,
    first_block: int | None = None,
    reply: bool = True,
) -> TokenSequence:
    """A record as a TokenSequence. With `reply=False` it stops after the last ASSISTANT: the prompt of that reply.

    block_size None: target spans are not filled (the paper's full span).
    """
    vocabulary = corpus.vocabulary
    sequence = TokenSequence()
    sequence.add([vocabulary.bos], TEXT, False)
    messages = record["messages"]
    for number, (role, *parts) in enumerate(messages):
        target = role in ("assistant", "document")
        if role in ("user", "assistant"):
            sequence.add([getattr(vocabulary, role)], TEXT, False)
        if target and not reply and number == len(messages) - 1:
            return sequence
        for part in parts:
            if isinstance(part, str):
                sequence.add(corpus.tokeniser.encode(part), TEXT, target)
                continue
            if isinstance(part, list):
                codes = part  # the codes themselves, counted from 0
            else:
                # the number of an utterance: only records of a corpus have those
                codes = corpus.audio(part)  # type: ignore[union-attr]
            add_span(sequence, vocabulary, codes, target, block_size, first_block)
        if target:
            sequence.add([vocabulary.end], TEXT, True)
    return sequence


def add_span(
    sequence: TokenSequence, vocabulary, codes, target: bool, block_size=None, first_block=None
) -> None:
    """Append OPEN codes EOA; a target span also gets its filler. codes (n,) count from 0."""
    ids = [vocabulary.first_code + int(code) for code in codes] + [vocabulary.eoa]
    sequence.add([vocabulary.open], TEXT, target)
    kind = SOURCE
    if target:
        kind = TARGET
        ids += [vocabulary.eoa] * filler(len(ids), block_size, first_block)
    sequence.add(ids, kind, target)


def reply_text(record: dict) -> str:
    """The text of the last assistant turn, its chunks joined by spaces."""
    role, *parts = record["messages"][-1]
    if role not in ("assistant", "document"):
        raise MinitttError("the record does not end with a reply")
    return " ".join(part for part in parts if isinstance(part, str))
