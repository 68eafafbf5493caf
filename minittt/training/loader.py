"""From records to the batch of any step, which depends on nothing but (seed, step, part).

A step's records may be divided: part j of n is what one process, or one pass of an accumulated step, computes. It does
not matter who computes a part, so two processes with one part each train just as one process with two parts does.
"""

import random

from torch import Tensor

from minittt.attention import SOURCE, TARGET, TEXT
from minittt.data.batches import Batch, pack
from minittt.data.conversation import TokenSequence, render
from minittt.data.corpus import Corpus
from minittt.data.streaming_records import RecordStream
from minittt.errors import MinitttError
from minittt.objective import Preset, draw_blocks, example
from minittt.strategies import denoise_replies

SOUGHT = 100  # how many more records are tried where all records of a part are left out


class Loader:
    """Draws the batch of any step. Records come epoch by epoch, in a different order in each epoch.

    A record longer than a row is left out and counted in `left_out`; with `split` it becomes several documents instead,
    unless one of its spans alone is longer than a row. Raises MinitttError if no record is left, or for `split` with a
    preset that denoises text: there a reply is one run of slots, without a group boundary to cut at.
    """

    def __init__(
        self,
        records: list[dict] | RecordStream,
        corpus: Corpus,
        p: Preset,
        seed: int,
        per_step: int,
        row_length: int,
        split: bool = False,
        source_noise: float = 0.0,
    ) -> None:
        self.corpus = corpus
        self.p = p
        self.seed = seed
        self.per_step = per_step
        self.row_length = row_length
        self.split = split
        self.source_noise = source_noise
        if split and p.denoise_text:
            raise MinitttError(
                "replies whose text is denoised cannot be split: use longer rows, without split"
            )
        self.records: RecordStream | list[dict]
        if isinstance(records, RecordStream):
            self.records = records  # too many to look at: what does not fit is left out as it is drawn
            self.left_out = 0
            return
        self.records = [record for record in records if self._fits(record)]
        self.left_out = len(records) - len(self.records)
        if not self.records:
            raise MinitttError(f"no record fits a row of {row_length} tokens: use longer rows")

    def _fits(self, record: dict) -> bool:
        """Whether the record fits into a row, whatever block sizes are drawn."""
        for block in self.p.block_sizes:
            smaller = [size for size in self.p.block_sizes if block and size and size < block]
            for first in (None, *smaller):
                sequence = render(record, self.corpus, block, first)
                if self.p.denoise_text:  # text takes a slot in each stream, then
                    sequence = denoise_replies(sequence, block, first)
                pieces = self._pieces(sequence)
                if max(length(piece, self.p.two_streams) for piece in pieces) > self.row_length:
                    return False
        return True

    def _pieces(self, sequence: TokenSequence) -> list[TokenSequence]:
        if not self.split:
            return [sequence]
        return split(sequence, self.row_length, self.p.two_streams)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Part `part` of `parts` of a step's batch: its share of the step's records, with its own draw of block sizes."""
        rng = random.Random(seed_of(self.seed, "batch", step, part))
        first_record = step * self.per_step
        begin = first_record + self.per_step * part // parts
        end = first_record + self.per_step * (part + 1) // parts
        documents = []
        for i in range(begin, end):
            documents += self._documents(i, rng)
        # A part whose records are all left out takes the first that follow it, or one bad record would end the run.
        following = end
        while not documents and following < end + SOUGHT:
            documents = self._documents(following, rng)
            following += 1
        if not documents:
            raise MinitttError(
                f"no record of step {step}, nor one of the {SOUGHT} after it, is sound and fits a row of "
                f"{self.row_length} tokens: use longer rows"
            )
        return pack(documents, self.row_length, self.corpus.vocabulary.pad)

    def _documents(self, i: int, rng: random.Random) -> list[Tensor]:
        """The documents that record i, counted over all epochs, adds to a batch: none if left out, several if split."""
        epoch, at = divmod(i, len(self.records))
        record = self._record(epoch, at)
        if record is None:
            return []
        block, first = draw_blocks(self.p, rng)
        sequence = render(record, self.corpus, block, first)
        if self.source_noise:
            sequence = mishear(sequence, self.corpus, self.source_noise, rng)
        return [example(piece, self.p, block, first, rng) for piece in self._pieces(sequence)]

    def _record(self, epoch: int, at: int) -> dict | None:
        """The record at a position in an epoch; None if it comes from a stream and is malformed or too long."""
        if not isinstance(self.records, RecordStream):
            return self.records[self._order(epoch)[at]]
        record = self.records.drawn(epoch, at)
        if record is None or self._fits(record):
            return record
        self.left_out += 1
        return None

    def _order(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            self._shuffled = list(range(len(self.records)))
            random.Random(f"{self.seed} epoch {epoch}").shuffle(self._shuffled)
            self._epoch = epoch
        return self._shuffled


def mishear(sequence: TokenSequence, corpus: Corpus, most: float, rng: random.Random) -> TokenSequence:
    """Replace some codes of the audio heard by random ones: a share drawn uniformly between 0 and `most`.

    A voice never heard before yields codes never seen before: a talker that leans on no single code is less lost there.
    A random code comes from the same codebook, so that frames stay whole.
    """
    vocabulary = corpus.vocabulary
    size = vocabulary.codebook_size
    share = rng.uniform(0, most)
    ids = []
    for token, kind in zip(sequence.ids, sequence.kinds, strict=True):
        is_code_heard = kind == SOURCE and token != vocabulary.eoa
        if is_code_heard and rng.random() < share:
            codebook = (token - vocabulary.first_code) // size
            token = vocabulary.first_code + codebook * size + rng.randrange(size)
        ids.append(token)
    return TokenSequence(ids, sequence.kinds, sequence.targets)


def seed_of(seed: int, what: str, step: int, part: int = 0) -> str:
    """The name of one stream of random numbers. A step with a single part draws what the first of several parts would."""
    name = f"{seed} {what} {step}"
    if part:
        name += f" part {part}"
    return name


def length(sequence: TokenSequence, two_streams: bool) -> int:
    """How many slots a sequence takes in a row: with two streams, target audio is laid out twice."""
    return _slots(sequence.kinds, two_streams)


def _slots(kinds: list[int], two_streams: bool) -> int:
    if not two_streams:
        return len(kinds)
    return len(kinds) + kinds.count(TARGET)


def split(sequence: TokenSequence, row_length: int, two_streams: bool) -> list[TokenSequence]:
    """Cut a sequence, before text tokens only, into as few pieces of at most `row_length` slots as that allows.

    A text token opens a group, so no group is cut, and a span stays with the OPEN before it. A piece that is still longer
    than a row is one such span. The first token of a later piece is not learned: nothing is left before it.
    """
    if length(sequence, two_streams) <= row_length:
        return [sequence]
    cuts = [i for i, kind in enumerate(sequence.kinds) if kind == TEXT]
    cuts.append(len(sequence.kinds))
    pieces = []
    start = 0
    taken = 0  # slots in the piece that begins at `start`
    for here, after in zip(cuts, cuts[1:], strict=False):
        unit = _slots(sequence.kinds[here:after], two_streams)
        if taken and taken + unit > row_length:
            pieces.append(_piece(sequence, start, here))
            start = here
            taken = 0
        taken += unit
    pieces.append(_piece(sequence, start, len(sequence.kinds)))
    return pieces


def _piece(sequence: TokenSequence, start: int, stop: int) -> TokenSequence:
    targets = sequence.targets[start:stop]
    return TokenSequence(sequence.ids[start:stop], sequence.kinds[start:stop], [False, *targets[1:]])
