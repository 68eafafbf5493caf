"""Ways to break `minittt/strategies.py`, each to be noticed by the law it is listed under."""

from tests.mutants.run import Mutant

MUTANTS = [
    # BANOM
    Mutant(
        law=14,
        old="generator=generator) < probability\n    return",
        new="generator=generator) > probability\n    return",
    ),
    Mutant(law=14, old="torch.full_like(segments, -1) if clean else segments", new="segments"),
    # PPM
    Mutant(law=14, old="(target & ~before).cumsum(1) - 1", new="target.cumsum(1) - 1"),
    Mutant(law=14, old="(target & ~before).cumsum(1) - 1", new="(target & ~before).cumsum(1)"),
    Mutant(law=14, old="spans[row] < first", new="spans[row] <= first"),
    Mutant(law=14, old="mine & (spans[row] < first)", new="spans[row] < first"),
    Mutant(law=14, old="starts[torch.randint(len(starts), (), generator=generator)]", new="starts[-1]"),
    # SST
    Mutant(law=14, old="stop - start <= longer_than", new="stop - start < longer_than - 1"),
    Mutant(law=14, old="rng.uniform(0.3, 0.9)", new="rng.uniform(0.3, 1.1)"),
    Mutant(law=14, old="rng.uniform(0.3, 0.9)", new="0.5"),
    Mutant(
        law=14,
        old="Sequence(sequence.ids[:cut], sequence.kinds[:cut], sequence.targets[:cut])",
        new="Sequence(sequence.ids[:cut] + sequence.ids[stop:], sequence.kinds[:cut] + sequence.kinds[stop:])",
    ),
    # text denoised too
    Mutant(law=15, old="reply += reply[-1:] * filler(len(reply), block, first)", new="pass"),
    Mutant(law=15, old="filler(len(reply), block, first)", new="filler(len(reply), block, None)"),
    Mutant(law=15, old="ids.pop()", new="break"),
    Mutant(law=15, old="out.add([token], kind, False)", new="out.add([token], TARGET, False)"),
]
