"""Ways to break `minittt/referee.py`, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # CTC: equal neighbours that stay two words, blanks that are words, blanks dropped before merging
    Mutant(2, "if c != before and c != BLANK]", "if c != BLANK]"),
    Mutant(1, "if c != before and c != BLANK]", "if c != before]"),
    Mutant(
        2,
        "zip([BLANK, *classes], classes, strict=False)",
        "zip([BLANK, *filter(None, classes)], filter(None, classes), strict=False)",
    ),
    Mutant(3, "collapse(classes[:count])", "collapse(classes)"),
    Mutant(3, "self.config.words[c - 1]", "self.config.words[c]"),
    # a batch: rows turned one too far or not turned back, padding that is heard, frames cut off, texts of other waves
    Mutant(4, "lengths[:, None] - 1 - step, step)", "lengths[:, None] - step, step)"),
    Mutant(4, "turn(back, lengths)), -1)", "back), -1)"),
    Mutant(5, "features.shape[1]) < frames[:, None]", "features.shape[1]) <= frames[:, None]"),
    Mutant(5, 'rounding_mode="floor") + 1', 'rounding_mode="floor")'),
    Mutant(5, "(self.n_fft // 2, self.n_fft // 2))", '(self.n_fft // 2, self.n_fft // 2), mode="reflect")'),
    Mutant(6, "zip(rows, logits.argmax(-1)", "zip(range(start, start + len(rows)), logits.argmax(-1)"),
    # the ear
    Mutant(
        7, "waves.square().mean(-1, keepdim=True).sqrt().clamp", "waves.square().mean(-1, keepdim=True).clamp"
    ),
    Mutant(8, "triangles / triangles.sum(0)", "triangles / triangles.sum()"),
    Mutant(8, "np.clip(np.minimum(rise, fall), 0, None)", "np.minimum(rise, fall)"),
    Mutant(9, "/ self.hann.square().sum()", "/ self.hann.sum()"),
    Mutant(10, "level >= _LOUD * level.max()", "level >= _LOUD"),
    Mutant(10, "(0, max(0, window - len(wave)))", "(0, window)"),
    # judgements
    Mutant(11, "np.bincount(voices).max() / len(voices)", "np.bincount(voices).max() / voices.max()"),
    Mutant(12, "if len(wave) and np.abs(wave).max() > 1e-4]", "if len(wave)]"),
    Mutant(12, "or not np.isfinite(wave).all()", ""),
    Mutant(13, "t.half().contiguous()", "t.bfloat16().contiguous()"),
]
