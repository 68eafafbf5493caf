"""Does a talker know what it does not know? Sounds that nobody taught it, by kind, and the share that it refuses.

A folder holds a subfolder for each kind (another language, music, noise), with recordings of any length. They are cut into
pieces as long as questions are. What counts is the reply "i did not understand", word for word.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from minittt.codec import LONGEST_IN_PIECES, Codec, read_audio
from minittt.errors import MinitttError
from minittt.evaluation.scores import Score, ratio, same_text
from minittt.talker import Talker, decoding_settings
from minittt.world.foreign import SUFFIXES
from minittt.world.lexicon import NOT_UNDERSTOOD

SHORTEST, LONGEST = 1.0, 3.5  # seconds of a piece
QUIETEST = 1e-3  # root mean square; what is quieter is a pause
ROWS = 32


def refused(text: str) -> bool:
    """Whether a reply says that nothing was understood."""
    return same_text(text, NOT_UNDERSTOOD)


def knows_how_to_decline(talker: Talker) -> bool:
    """Whether a talker was taught the words in which it says that nothing was understood."""
    return set(NOT_UNDERSTOOD.split()) <= set(talker.words or [])


def pieces_of(wave: np.ndarray, sample_rate: int, rng: np.random.Generator, most: int) -> list[np.ndarray]:
    """At most `most` pieces (samples_i,) of a recording, one after the other, without the silent ones."""
    pieces = []
    start = 0
    while start < len(wave) and len(pieces) < most:
        stop = start + round(rng.uniform(SHORTEST, LONGEST) * sample_rate)
        piece = wave[start:stop]
        is_long_enough = len(piece) >= SHORTEST * sample_rate
        if is_long_enough and np.sqrt(np.mean(piece**2)) >= QUIETEST:
            pieces.append(piece)
        start = stop
    return pieces


def draw_pieces(folder: Path, sample_rate: int, n: int, seed: int) -> list[np.ndarray]:
    """n pieces (or all there are) of the recordings in a folder, from as many files as possible, at `sample_rate` Hz."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise MinitttError(f"{folder} holds no recordings ({', '.join(sorted(SUFFIXES))})")
    rng = np.random.default_rng(seed)
    most = max(1, -(-2 * n // len(files)))  # from one file: twice what is needed, as some are silent or short
    pieces: list[np.ndarray] = []
    for i in rng.permutation(len(files)):
        pieces += pieces_of(read_audio(files[i], sample_rate, LONGEST_IN_PIECES), sample_rate, rng, most)
        if len(pieces) >= n:
            break
    return pieces[:n]


def replies_to(talker: Talker, codec: Codec, pieces: list[np.ndarray], instruction: str) -> list[str]:
    """The text of the reply to each piece."""
    settings = decoding_settings(16, 1)  # how well it speaks does not count
    prompts = [[["system", instruction], ["user", talker.listen(codec, piece)]] for piece in pieces]
    texts = []
    for start in tqdm(range(0, len(prompts), ROWS), instruction, leave=False):
        replies = talker.converse(prompts[start : start + ROWS], settings)
        texts += [reply.text for reply in replies]
    return texts


def hear_foreign(
    talker: Talker, codec: Codec, folder: str | Path, n: int | None = None, seed: int = 0
) -> list[Score]:
    """The share refused of n pieces (default: 200) of each kind, when told to answer and when told to transcribe."""
    folder = Path(folder)
    kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not kinds:
        raise MinitttError(f"{folder}: make it a folder with a folder of recordings for each kind")
    scores = []
    for kind in kinds:
        pieces = draw_pieces(kind, codec.config.sample_rate, n or 200, seed)
        for instruction, name in (("answer", "refused"), ("transcribe", "refused as a dictation")):
            texts = replies_to(talker, codec, pieces, instruction)
            scores.append(ratio(f"{kind.name}: {name}", [refused(text) for text in texts]))
    return scores
