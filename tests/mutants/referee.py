"""Ways to break `minittt/evaluation/referee.py`, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # CTC: equal neighbours that stay two words, blanks that are words, blanks dropped before merging
    Mutant(2, "if current != before and current != BLANK:", "if current != BLANK:"),
    Mutant(1, "if current != before and current != BLANK:", "if current != before:"),
    Mutant(2, "        before = current\n", "        before = current or before\n"),
    Mutant(3, "collapse(row[:count])", "collapse(row)"),
    Mutant(3, "self.config.words[c - 1]", "self.config.words[c]"),
    # a batch: rows turned one too far or not turned back, padding that is heard, frames cut off, texts of other waves
    Mutant(4, "lengths[:, None] - 1 - step  #", "lengths[:, None] - step  #"),
    Mutant(4, "        back = reverse(back, lengths)\n", ""),
    Mutant(5, "place < frames[:, None]", "place <= frames[:, None]"),
    Mutant(5, 'rounding_mode="floor") + 1', 'rounding_mode="floor")'),
    Mutant(5, "pad(waves, (margin, margin))", 'pad(waves, (margin, margin), mode="reflect")'),
    Mutant(6, "zip(rows, classes, frames", "zip(range(start, start + len(rows)), classes, frames"),
    # the ear
    Mutant(7, "waves.square().mean(-1, keepdim=True).sqrt()", "waves.square().mean(-1, keepdim=True)"),
    Mutant(9, "triangles / triangles.sum(1, keepdim=True)", "triangles / triangles.sum()"),
    Mutant(9, "/ self.hann.square().sum()", "/ self.hann.sum()"),
    Mutant(10, "level >= _LOUD * level.max()", "level >= _LOUD"),
    Mutant(10, "max(0, window - len(wave))", "window"),
    # judgements
    Mutant(11, "np.bincount(voices).max() / len(voices)", "np.bincount(voices).max() / voices.max()"),
    Mutant(12, "if len(wave) and np.abs(wave).max() > 1e-4:", "if len(wave):"),
    Mutant(12, "or not np.isfinite(wave).all()", ""),
    Mutant(13, "tensor.cpu().half().contiguous()", "tensor.cpu().bfloat16().contiguous()"),
]
