"""Token files: what training and evaluation read, whoever made them (`spoken_world.py`, or `data import`).

A corpus is a folder:
    corpus.json         sizes, splits, and the fingerprint of the codec that made the codes
    tokeniser.model     SentencePiece
    audio.npz           codes (n,) uint16, flattened frame by frame, and offsets (utterances + 1,) of where each begins
    utterances.jsonl.gz one line an utterance: {"text": ..., "voice": ...}
    SPLIT.jsonl.gz      one line a record

A record is {"family": ..., "messages": [[role, part, ...], ...]}: a part is text, or the number of an utterance. Roles are
system, user, assistant; a document has one message whose role is document.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minittt.errors import MinitttError
from minittt.vocabulary import TextTokeniser, Vocabulary


@dataclass
class Corpus:
    """Codes, utterances and records in memory. `info` is what corpus.json says."""

    info: dict
    tokeniser: TextTokeniser
    codes: np.ndarray  # (n,) uint16
    offsets: np.ndarray  # (utterances + 1,) int64
    utterances: list[dict]
    splits: dict[str, list[dict]]
    codebooks: np.ndarray | None = None  # (codes there are, dimension): the codec's latent for each code

    @property
    def vocabulary(self) -> Vocabulary:
        """The ids of this corpus: its tokeniser's pieces, then its codec's codes."""
        return Vocabulary(len(self.tokeniser), self.info["codebook_size"], self.info["n_codebooks"])

    def audio(self, utterance: int) -> np.ndarray:
        """Flattened codes of one utterance, (n,)."""
        return self.codes[self.offsets[utterance] : self.offsets[utterance + 1]]

    def split(self, name: str) -> list[dict]:
        """Records of one split. Raises MinitttError naming the splits there are."""
        if name not in self.splits:
            raise MinitttError(f"the corpus has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


def _write_lines(path: Path, lines: list[dict]) -> None:
    # mtime 0 and no name: the same corpus gives the same bytes
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _read_lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def save_corpus(
    folder: Path,
    info: dict,
    codes: list[np.ndarray],
    utterances: list[dict],
    splits: dict[str, list[dict]],
    codebooks: np.ndarray | None = None,
) -> None:
    """Write everything but the tokeniser. codes: one (n,) array an utterance; corpus.json is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in codes])]).astype(np.int64)
    arrays = {"codes": np.concatenate(codes).astype(np.uint16), "offsets": offsets}
    if codebooks is not None:
        arrays["codebooks"] = codebooks.astype(np.float16)
    np.savez_compressed(folder / "audio.npz", **arrays)
    _write_lines(folder / "utterances.jsonl.gz", utterances)
    for name, records in splits.items():
        _write_lines(folder / f"{name}.jsonl.gz", records)
    info = {
        **info,
        "splits": {name: len(records) for name, records in splits.items()},
        "utterances": len(utterances),
    }
    (folder / "corpus.json").write_text(json.dumps(info, indent=1) + "\n")


def load_corpus(folder: str | Path) -> Corpus:
    """Read a corpus folder. Raises MinitttError if it is not one, or if a file is missing or damaged."""
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        raise MinitttError(
            f"{folder} is not a corpus: it has no corpus.json; make one with `minittt data build` or `data import`"
        )
    try:
        info = json.loads((folder / "corpus.json").read_text())
        with np.load(folder / "audio.npz", allow_pickle=False) as audio:
            codes, offsets = audio["codes"], audio["offsets"]
            codebooks = audio["codebooks"].astype(np.float32) if "codebooks" in audio else None
        utterances = _read_lines(folder / "utterances.jsonl.gz")
        splits = {name: _read_lines(folder / f"{name}.jsonl.gz") for name in info["splits"]}
    except (OSError, KeyError, ValueError) as error:
        raise MinitttError(f"the corpus in {folder} is damaged ({error}); make it anew") from error
    tokeniser = TextTokeniser(folder / "tokeniser.model")
    return Corpus(info, tokeniser, codes, offsets, utterances, splits, codebooks)
