"""Ways to break `minittt/data/vocabulary.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

IDS = "every_id_is_one_thing_and_follows_the_last"
CHOICES = "what_may_be_written_and_what_may_be_said"
BACK = "a_tokeniser_writes_back_what_it_reads"

MUTANTS = [
    # the id line
    Mutant(IDS, 'CONTROL.index("END")', 'CONTROL.index("END") + 1'),
    Mutant(
        IDS, "self.first_code + self.n_codebooks * self.codebook_size", "self.first_code + self.codebook_size"
    ),
    Mutant(IDS, "return self.mask + 1", "return self.mask"),
    Mutant(IDS, 'f"#{token - self.first_code}"', 'f"#{token - self.text_size}"'),
    Mutant(IDS, "if token < self.text_size:", "if token <= self.text_size:"),
    # what a step may choose
    Mutant(CHOICES, "written[list(self.never_written)] = False", "pass"),  # <unk> may be written
    Mutant(CHOICES, "self.open, self.end]", "self.end]"),
    Mutant(CHOICES, "self.eoa + 1)", "self.eoa)"),  # no span could end
    Mutant(CHOICES, "self.open, self.eoa, self.end, self.mask", "self.open, self.end, self.eoa, self.mask"),
    # the tokeniser
    Mutant("a_tokeniser_has_the_size_that_was_asked_for", "vocab_size=size", "vocab_size=400"),
    Mutant("a_tokeniser_has_the_size_that_was_asked_for", "hard_vocab_limit=False", "hard_vocab_limit=True"),
    Mutant("what_a_tokeniser_does_not_know", "if self.pieces.unk_id() in ids:", "if False:"),
    Mutant("every_piece_but_the_first_is_text", "bos_id=-1", "bos_id=1"),
    Mutant(BACK, '"nmt_nfkc_cf"', '"nmt_nfkc"'),
    Mutant(BACK, "self._known[text] = ids", "self._known[text[:1]] = ids"),
]
