"""Ways to break the loader, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(1, "self.per_step * j // parts for j", "(self.per_step // parts) * j for j"),
    Mutant(1, "for j in (part, part + 1)", "for j in (0, part + 1)"),
    Mutant(2, "if kind == TEXT] + [len", "] + [len"),
    Mutant(2, "[False, *targets[1:]]", "targets"),
    Mutant(
        2,
        "unit = after - here + two_streams * sequence.kinds[here:after].count(TARGET)",
        "unit = after - here",
    ),
    Mutant(2, "start, taken = here, 0", "start, taken = here, unit"),
]
