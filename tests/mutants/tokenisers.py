"""Ways to break `minittt/data/tokenisers.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

CHUNKS = "chunks_that_follow_each_other"
NEVER = "what_is_no_text_is_never_written"

MUTANTS = [
    Mutant("ids_are_below_the_size", 'content.lstrip()[:1] == b"{"', "False"),
    Mutant("a_control_token_that_somebody_types", "encode_special_tokens = True", "encode_special_tokens = False"),
    Mutant(CHUNKS, 'self._space = "" if begins_with_space else " "', 'self._space = ""'),
    Mutant(CHUNKS, 'self._space = "" if begins_with_space else " "', 'self._space = " "'),
    Mutant(CHUNKS, 'return name.replace("▁", " ")', "return name"),
    Mutant("bytes_write_back", ".removeprefix(self._space)", ""),
    Mutant("bytes_write_back", "self._known[text] = ids", "self._known[text[:1]] = ids"),
    Mutant(NEVER, 'if entry["special"]]', "if False]"),
    Mutant(NEVER, "[] if self._unknown is None else [self._unknown]", "[]"),
    Mutant("a_letter_without_an_id", "if self._unknown in ids:", "if False:"),
]  # fmt: skip
