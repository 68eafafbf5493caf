"""Text to ids and back, whoever made the tokeniser: SentencePiece (`vocabulary.py`), or an LLM's `tokenizer.json`.

Everything else in the package knows only the few methods of `Tokeniser`. A talker's file holds the bytes of either kind as
one tensor of bytes: a few megabytes next to hundreds, and a talker stays one file. Their first byte says which kind it is.
"""

import hashlib
import json
from pathlib import Path
from typing import Protocol

from minittt.data.vocabulary import TextTokeniser
from minittt.errors import MinitttError


class Tokeniser(Protocol):
    """What a talker and a corpus ask of a tokeniser."""

    @property
    def content(self) -> bytes:
        """What its file holds."""

    @property
    def never_written(self) -> tuple[int, ...]:
        """Ids that are not text."""

    def __len__(self) -> int:
        """How many ids there are."""

    def encode(self, text: str) -> list[int]:
        """Text to ids. Raises MinitttError on characters that it does not know."""

    def decode(self, ids: list[int]) -> str:
        """Ids to text."""

    def piece(self, token: int) -> str:
        """The text of one id, its spaces as spaces."""

    def all_pieces(self) -> list[str]:
        """A name for every id, by id: no two are equal."""

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this tokeniser."""


def read_tokeniser(content: bytes, name: str) -> Tokeniser:
    """The tokeniser that these bytes hold. `name` says in an error where they come from."""
    if content.lstrip()[:1] == b"{":  # a SentencePiece model never begins like this
        return JsonTokeniser(content, name)
    return TextTokeniser.from_proto(content, name)


def load_tokeniser(path: str | Path) -> Tokeniser:
    """The tokeniser in a file, of either kind."""
    path = Path(path)
    if not path.is_file():
        return TextTokeniser(path)  # says what would make one
    return read_tokeniser(path.read_bytes(), str(path))


class JsonTokeniser:
    """A Hugging Face `tokenizer.json`, by way of their `tokenizers` package (extra `[llm]`).

    Every text begins with a space, as in SentencePiece: the chunks of a reply are tokenised one by one, and their words must
    not run together. Control tokens that the file names (`<|im_end|>`) are ids, but never text: if somebody types them, they
    are read as the letters they are spelled with.
    """

    def __init__(self, content: bytes, name: str) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MinitttError(
                f"{name} needs the tokenizers package ({error}): pip install minittt[llm]"
            ) from error
        self.content = content
        try:
            self._use(json.loads(content), tokenizers.Tokenizer.from_buffer(content))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise MinitttError(f"{name}: not a tokenizer.json ({error})") from error

    def _use(self, stated: dict, tokeniser) -> None:
        """Take over what the file states and the tokeniser made of it. Raises whatever is wrong with them."""
        self._tokeniser = tokeniser
        self._tokeniser.encode_special_tokens = True  # as letters
        self._tokeniser.no_truncation()
        self._tokeniser.no_padding()
        self._ids: dict[str, int] = self._tokeniser.get_vocab(with_added_tokens=True)
        self._pieces = {token: piece for piece, token in self._ids.items()}
        self._size = max(self._pieces) + 1
        if self._size > len(self.content):  # a piece takes more than a byte: ids beyond that are endless gaps
            raise ValueError(f"it has the id {self._size - 1}, far beyond its {len(self._pieces)} pieces")
        self._unknown = self.id_of(str(stated["model"].get("unk_token")))
        controls = [entry["id"] for entry in stated.get("added_tokens", []) if entry["special"]]
        gaps = [token for token in range(len(self)) if token not in self._pieces]
        unknown = [] if self._unknown is None else [self._unknown]
        self.never_written = tuple(sorted({*controls, *gaps, *unknown}))
        begins_with_space = self.all_pieces()[self._encode("a")[0]].startswith("▁")
        self._space = "" if begins_with_space else " "
        self._known: dict[str, list[int]] = {}  # training asks for the same few sentences again and again

    def __len__(self) -> int:
        return self._size

    def id_of(self, piece: str) -> int | None:
        """The id of a piece or a control token by its name in the file; None if there is none."""
        return self._ids.get(piece)

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this tokeniser: a hash of its file."""
        return hashlib.sha256(self.content).hexdigest()[:8]

    def piece(self, token: int) -> str:
        """The text of one id, its spaces as spaces; part of a multi-byte letter shows as �."""
        name = self._pieces.get(token, "")
        if name.startswith("▁"):  # decoders of this kind strip the first space
            return name.replace("▁", " ")
        return self._tokeniser.decode([token], skip_special_tokens=False)

    def all_pieces(self) -> list[str]:
        """The name of every id in the file, by id."""
        return [self._pieces.get(token, f"no piece {token}") for token in range(len(self))]

    def _encode(self, text: str) -> list[int]:
        return self._tokeniser.encode(text, add_special_tokens=False).ids

    def encode(self, text: str) -> list[int]:
        """Text to ids. Raises MinitttError on characters that the tokeniser has never seen."""
        if text in self._known:
            return list(self._known[text])
        ids = self._encode(self._space + text)
        if self._unknown in ids:
            unknown = sorted({c for c in text if self._unknown in self._encode(c)})
            raise MinitttError(
                f"the tokeniser has never seen {' '.join(unknown)!r}: write with the letters it was trained on"
            )
        self._known[text] = ids
        return list(ids)

    def decode(self, ids: list[int]) -> str:
        """Ids to text, without the space that every text begins with."""
        return self._tokeniser.decode(ids, skip_special_tokens=True).removeprefix(self._space)
