"""Ways to break `minittt/data/mel.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

PARTITION = "triangles_overlap_into_a_partition"
NONE_EMPTY = "no_triangle_falls_between_two_bins"

MUTANTS = [
    Mutant(PARTITION, "torch.log10(1 + frequency / 700)", "torch.log10(1 + frequency / 1000)"),
    Mutant(PARTITION, "700 * (10 ** (mel / 2595) - 1)", "700 * (10 ** (mel / 2595))"),
    Mutant(PARTITION, "[lowest, sample_rate / 2]", "[0.0, sample_rate / 2]"),
    Mutant(PARTITION, ".clamp(min=0).float()", ".float()"),
    Mutant(PARTITION, "(right - frequency) / (right - centre)", "(right - frequency) / (right - left)"),
    Mutant(NONE_EMPTY, "torch.minimum(left, centre - bin_width)", "left"),
    Mutant(NONE_EMPTY, "torch.maximum(right, centre + bin_width)", "right"),
]
