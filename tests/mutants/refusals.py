"""Ways to break `minittt/evaluation/refusals.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

FOLLOW = "pieces_follow_one_another"
SILENCE = "silence_is_no_piece"
COUNTED = "the_share_refused_is_counted"
FILES = "as_many_files_as_possible"

MUTANTS = [
    Mutant(FOLLOW, "        start = stop\n", "        start = stop + 1\n"),
    Mutant(FOLLOW, "is_long_enough and", "True and"),
    Mutant(FOLLOW, "and len(pieces) < most", "and True"),
    Mutant(SILENCE, ">= QUIETEST:", ">= 0:"),
    Mutant(FILES, "return pieces[:n]", "return pieces"),
    Mutant(COUNTED, '("transcribe", "refused as a dictation")', '("answer", "refused as a dictation")'),
    Mutant(COUNTED, "return same_text(text, NOT_UNDERSTOOD)", "return bool(text)"),
]
