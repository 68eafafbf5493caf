"""Ways to break accumulation, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # means of means; counts of this process or of the last part; no weighing by records; every part the same
    Mutant(1, "counts = (step.text, step.audio)", "counts = None"),
    Mutant(1, "counts = (step.text, step.audio)", "counts = (step.text, part.counts.audio)"),
    Mutant(1, "share = part.counts.records / step.records", "share = 1.0"),
    Mutant(1, "torch.stack(sums).sum(0)", "sums[-1]"),
    Mutant(2, "world.rank * self.passes + i", "i"),
    Mutant(2, "(share * world.size)", "share"),
    Mutant(2, "Counts(*world.sum(here))", "Counts(*here)"),
    Mutant(2, "last=i == len(parts) - 1", "last=i < len(parts) - 1"),
]
