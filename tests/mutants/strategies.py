"""Ways to break `minittt/strategies.py`, each to be noticed by the law it is listed under."""

from tests.mutants.run import Mutant

MUTANTS = [
    # BANOM
    Mutant(
        law=14,
        old="clean = torch.rand((), generator=generator) <",
        new="clean = torch.rand((), generator=generator) >",
    ),
    Mutant(law=14, old="torch.full_like(segments, -1)", new="segments"),
    # PPM
    Mutant(law=14, old="begins.cumsum(1) - 1", new="target.cumsum(1) - 1"),
    Mutant(law=14, old="begins.cumsum(1) - 1", new="begins.cumsum(1)"),
    Mutant(law=14, old="spans[row] < span_numbers_here", new="spans[row] <= span_numbers_here"),
    Mutant(law=14, old="of_record & (spans[row]", new="(spans[row]"),
    Mutant(law=14, old="torch.randint(len(span_numbers_here), (), generator=generator)", new="-1"),
    # SST
    Mutant(law=14, old="stop - start <= longer_than", new="stop - start < longer_than - 1"),
    Mutant(law=14, old="rng.uniform(0.3, 0.9)", new="rng.uniform(0.3, 1.1)"),
    Mutant(law=14, old="rng.uniform(0.3, 0.9)", new="0.5"),
    Mutant(
        law=14,
        old="TokenSequence(sequence.ids[:cut], sequence.kinds[:cut], sequence.targets[:cut])",
        new="TokenSequence(sequence.ids[:cut] + sequence.ids[stop:], sequence.kinds[:cut] + sequence.kinds[stop:])",
    ),
    # text denoised too
    Mutant(law=15, old="reply += [end] * filler(len(reply), block, first)", new="pass"),
    Mutant(law=15, old="filler(len(reply), block, first)", new="filler(len(reply), block, None)"),
    Mutant(law=15, old="        n -= 1", new="        break"),
    Mutant(law=15, old="out.add([token], kind, False)", new="out.add([token], TARGET, False)"),
]
