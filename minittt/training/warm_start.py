"""Starting a training run from a talker instead of at random: what it learned is put where the new vocabulary has it.

The new corpus may have a different tokeniser: a piece that both have keeps its embedding, a new one keeps its random
initial one. Control tokens, codes, EOA and MASK keep theirs by name and place; everything else is copied.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from minittt.data.corpus import Corpus
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.talker import Talker


def warm_start(model: Transformer, corpus: Corpus, talker: Talker) -> None:
    """Copy the talker's weights into a new model for this corpus.

    Raises MinitttError if the two differ in size or in the number of codes. A corpus of another codec brings a warning,
    not an error: codes keep their places, which is right where that codec was trained further from the talker's.
    """
    _check(model, corpus, talker)
    old_rows, new_rows = rows_in_common(talker, corpus)
    learned = talker.model.state_dict()
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            source = learned[name].to(weight)
            if name in ("embed_tokens.weight", "lm_head.weight"):
                weight[new_rows] = source[old_rows]
            else:
                weight.copy_(source)


def rows_in_common(talker: Talker, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Ids that mean the same: (n,) of the talker's vocabulary, and beside them (n,) of the corpus's."""
    theirs = {piece: i for i, piece in enumerate(corpus.tokeniser.all_pieces())}
    pairs = []
    for i, piece in enumerate(talker.tokeniser.all_pieces()):
        if piece in theirs:
            pairs.append((i, theirs[piece]))
    # what follows the pieces, from control tokens to MASK, is the same number of ids in the same order
    n_others = talker.vocabulary.size - talker.vocabulary.text_size
    for offset in range(n_others):
        pairs.append((talker.vocabulary.text_size + offset, corpus.vocabulary.text_size + offset))
    old, new = torch.tensor(pairs).unbind(1)
    return old, new


def _check(model: Transformer, corpus: Corpus, talker: Talker) -> None:
    wrong = []
    mine = (talker.vocabulary.n_codebooks, talker.vocabulary.codebook_size)
    theirs = (corpus.vocabulary.n_codebooks, corpus.vocabulary.codebook_size)
    if mine != theirs:
        wrong.append(f"codebooks and codes in each are {mine} in the talker, {theirs} in the corpus")
    shapes = {name: weight.shape for name, weight in talker.model.state_dict().items()}
    for name, weight in model.state_dict().items():
        expected = shapes.get(name)
        is_table = name in ("embed_tokens.weight", "lm_head.weight")
        compared = slice(1, None) if is_table else slice(None)
        if expected is None or expected[compared] != weight.shape[compared]:
            wrong.append(f"{name} is {_sizes(expected)} in the talker, {_sizes(weight.shape)} in the model")
            break
    if wrong:
        raise MinitttError(f"a training cannot start from this talker: {'; '.join(wrong)}")
    if talker.info["codec"] != corpus.info["codec"]:
        tqdm.write(
            f"the talker's codec is {talker.info['codec']}, the corpus's {corpus.info['codec']}: codes keep their places, "
            "which helps only if the one was trained on from the other"
        )


def _sizes(shape: torch.Size | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
