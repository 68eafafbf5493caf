"""Ways to break the loader, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(1, "first_record + self.per_step * part // parts", "first_record + self.per_step // parts * part"),
    Mutant(1, "begin = first_record + self.per_step * part // parts", "begin = first_record"),
    Mutant(
        2,
        "for i, kind in enumerate(sequence.kinds) if kind == TEXT]",
        "for i, kind in enumerate(sequence.kinds)]",
    ),
    Mutant(2, "[False, *targets[1:]]", "targets"),
    Mutant(2, "unit = _slots(sequence.kinds[here:after], two_streams)", "unit = after - here"),
    Mutant(2, "            taken = 0\n", "            taken = unit\n"),
]
