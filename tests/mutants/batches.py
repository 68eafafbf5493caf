"""Ways to break `minittt/data/batches.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

WHOLE = "packing_keeps_every_document_whole_and_apart"
LONGEST = "packing_takes_the_longest_documents_first"
WIDTH = "a_batch_is_as_wide_as_its_fullest_row"
TWIN = "the_noisy_stream_is_a_copy_of_the_target_audio"

MUTANTS = [
    # the order and the rows
    Mutant(LONGEST, "key=lambda d: -d.shape[1]", "key=lambda d: d.shape[1]"),
    Mutant(LONGEST, "sorted(documents, key=lambda d: -d.shape[1])", "documents"),
    Mutant(LONGEST, "if left >= n", "if left > n"),
    Mutant(WHOLE, "room[row] -= n", "room[row] = row_length - n"),
    Mutant(WIDTH, "row_length - min(room)", "row_length"),
    # what a row says of its documents
    Mutant(WHOLE, "packed[i, 6, start:stop] = number", "packed[i, 6, start:stop] = 0"),
    Mutant(WHOLE, "start = stop\n", "start = stop - 1\n"),
    Mutant(WIDTH, "[pad, PAD_KIND, -1, 0, 0, 0, -1]", "[pad, PAD_KIND, 0, 0, 0, 0, -1]"),  # padding as a key
    Mutant(WIDTH, "[pad, PAD_KIND, -1, 0, 0, 0, -1]", "[pad, PAD_KIND, -1, 0, 0, 1, -1]"),  # and as a target
    # the two streams
    Mutant(TWIN, "twin[NOISY] = 1", "pass"),
    Mutant(TWIN, "clean[:, kinds == TARGET]", "clean[:, kinds >= 1]"),  # what is listened to, twice as well
    Mutant(TWIN, "torch.arange(len(ids))", "torch.arange(1, len(ids) + 1)"),
    Mutant(TWIN, "torch.tensor(sequence.targets).long()", "(kinds == 0).long()"),  # prompts are learned too
    Mutant("one_stream_is_the_clean_one_alone", "if not two_streams:", "if False:"),
]
