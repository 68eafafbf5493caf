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
    # one bad record would end the run, or never be noticed
    Mutant("a_part_without_a_sound_record", "while not documents and following", "while False and following"),
    Mutant("a_part_without_a_sound_record", "            following += 1\n", "            following += 2\n"),
]
