"""One vocabulary for both modalities:  text pieces | control | audio codes | EOA | MASK.

Text is SentencePiece's business; this file says which id means what, which ids a text step may write, and which an
audio slot may hold.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from minittt.codec import whole_file
from minittt.decoding import TokenClasses
from minittt.errors import MinitttError

CONTROL = ("PAD", "BOS", "USER", "ASSISTANT", "OPEN", "END")


@dataclass(frozen=True)
class Vocabulary:
    """Sizes fix every id. `text_size` pieces, then `CONTROL`, then codebooks one after the other, then EOA and MASK.

    EOA ends an audio span and fills its last block; MASK is what absorbing diffusion puts over a code.
    """

    text_size: int
    codebook_size: int
    n_codebooks: int = 1
    # pieces that are not text: SentencePiece's <unk>, an LLM's own control tokens
    never_written: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if min(self.text_size, self.codebook_size, self.n_codebooks) < 1:
            raise MinitttError(f"a vocabulary has a piece, a codebook and a code at least, not as in {self}")
        last = max(self.never_written, default=0)
        if last >= self.text_size:
            raise MinitttError(
                f"never_written names id {last}, but the last of {self.text_size} pieces is {self.text_size - 1}"
            )

    @property
    def pad(self) -> int:
        """Pads batches, nothing else."""
        return self.text_size + CONTROL.index("PAD")

    @property
    def bos(self) -> int:
        """Begins a document."""
        return self.text_size + CONTROL.index("BOS")

    @property
    def user(self) -> int:
        """Begins a turn of the user."""
        return self.text_size + CONTROL.index("USER")

    @property
    def assistant(self) -> int:
        """Begins a turn of the assistant."""
        return self.text_size + CONTROL.index("ASSISTANT")

    @property
    def open(self) -> int:
        """Opens an audio span."""
        return self.text_size + CONTROL.index("OPEN")

    @property
    def end(self) -> int:
        """Ends a reply or a document."""
        return self.text_size + CONTROL.index("END")

    @property
    def first_code(self) -> int:
        """Id of code 0 of the first codebook; all audio codes follow."""
        return self.text_size + len(CONTROL)

    @property
    def eoa(self) -> int:
        """End of audio: closes a span, and fills its last block."""
        return self.first_code + self.n_codebooks * self.codebook_size

    @property
    def mask(self) -> int:
        """MASK, the absorbing state; never in a finished sequence."""
        return self.eoa + 1

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.mask + 1

    def text_choices(self) -> Tensor:
        """Ids that a text step may write, (n,), rising: every text piece but those in `never_written`, OPEN and END.

        One tensor serves all callers (an LLM has 150,000 pieces): do not write into it.
        """
        return self._text_choices

    @cached_property
    def _text_choices(self) -> Tensor:
        written = torch.ones(self.text_size, dtype=torch.bool)
        written[list(self.never_written)] = False
        pieces = written.nonzero()[:, 0]
        return torch.cat([pieces, torch.tensor([self.open, self.end])])

    def audio_choices(self) -> Tensor:
        """Ids that an audio slot may hold, (n,), rising: every code, and EOA."""
        return torch.arange(self.first_code, self.eoa + 1)

    def classes(self) -> TokenClasses:
        """What the decoder must know about the vocabulary."""
        text = torch.zeros(self.size, dtype=torch.bool)
        text[self.text_choices()] = True
        audio = torch.zeros(self.size, dtype=torch.bool)
        audio[self.audio_choices()] = True
        codebook = None
        if self.n_codebooks > 1:
            codebook = (torch.arange(self.size) - self.first_code) // self.codebook_size  # (V,)
        return TokenClasses(text, audio, self.open, self.eoa, self.end, self.mask, self.pad, codebook)

    def name(self, token: int) -> str:
        """A short name for one id that is not a text piece: 'OPEN', '#17' (an audio code), 'EOA', 'MASK'."""
        if token < self.text_size:
            return f"text {token}"
        if token < self.first_code:
            return CONTROL[token - self.text_size]
        if token == self.eoa:
            return "EOA"
        if token == self.mask:
            return "MASK"
        return f"#{token - self.first_code}"


class TextTokeniser:
    """A SentencePiece model that refuses what it does not know instead of writing <unk>."""

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise MinitttError(
                f"no SentencePiece model at {path}; `minittt data build` or `data import` makes one"
            )
        self._use(Path(path).read_bytes(), str(path))

    @classmethod
    def from_proto(cls, proto: bytes, name: str) -> "TextTokeniser":
        """A tokeniser from the bytes of its SentencePiece model. `name` says in an error where they come from."""
        tokeniser = cls.__new__(cls)
        tokeniser._use(proto, name)
        return tokeniser

    def _use(self, proto: bytes, name: str) -> None:
        try:
            self.pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
            self._names = [self.pieces.id_to_piece(i) for i in range(len(self.pieces))]
        except (RuntimeError, OSError, UnicodeDecodeError) as error:  # a piece may be invalid UTF-8
            raise MinitttError(f"{name}: not a SentencePiece model ({error})") from error
        if not len(self.pieces):
            raise MinitttError(f"{name}: not a SentencePiece model (it has no pieces)")
        self._known: dict[str, list[int]] = {}  # training asks for the same few sentences again and again

    @property
    def content(self) -> bytes:
        """The SentencePiece model as bytes: what a file of it holds."""
        return self.pieces.serialized_model_proto()

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this tokeniser: a hash of its SentencePiece model."""
        return hashlib.sha256(self.content).hexdigest()[:8]

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def never_written(self) -> tuple[int, ...]:
        """Ids that are not text: <unk> alone."""
        return (self.pieces.unk_id(),)

    def piece(self, token: int) -> str:
        """The text of one piece, its spaces as spaces."""
        return self.pieces.id_to_piece(token).replace("▁", " ")

    def all_pieces(self) -> list[str]:
        """The text of every piece, by id."""
        return list(self._names)

    def encode(self, text: str) -> list[int]:
        """Text to piece ids. Raises MinitttError on characters that the tokeniser has never seen."""
        if text in self._known:
            return list(self._known[text])
        ids = self.pieces.encode(text)
        if self.pieces.unk_id() in ids:
            unknown = sorted(
                {c for c in text if not c.isspace() and self.pieces.unk_id() in self.pieces.encode(c)}
            )
            raise MinitttError(
                f"the tokeniser has never seen {' '.join(unknown)!r}: write with the letters it was trained on"
            )
        self._known[text] = ids
        return list(ids)

    def decode(self, ids: list[int]) -> str:
        """Piece ids to text."""
        return self.pieces.decode(ids)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation: ["don't", "say", "two"] for "Don't say two!"."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())


ALWAYS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"  # letters that every tokeniser knows


def train_tokeniser(
    sentences: list[str], path: str | Path, size: int = 400, bytes_for_unknown: bool = False
) -> TextTokeniser:
    """Train a byte-pair SentencePiece model of at most `size` pieces, every letter and digit always among them.

    Where `sentences` have more letters than that, as in Chinese, each of them still gets a piece.
    Byte-pair rather than unigram: it goes on merging until each of the few words of a small corpus is a piece.
    bytes_for_unknown: spell letters that are not in `sentences` in bytes, instead of refusing them.
    """
    letters = set(ALWAYS)
    for sentence in sentences:
        letters.update(unicodedata.normalize("NFKC", sentence).casefold())
    others = 2 + 256 * bytes_for_unknown  # <unk>, the space, and bytes
    size = max(size, len(letters) + others)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=file,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            byte_fallback=bytes_for_unknown,
            normalization_rule_name="nmt_nfkc_cf",  # lower case
            required_chars=ALWAYS,
            # a rare letter is spelled in bytes, or is a piece, too
            character_coverage=0.9995 if bytes_for_unknown else 1.0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    return TextTokeniser(path)
