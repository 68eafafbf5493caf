"""Ways to break `minittt/nar.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

LAID_OUT = "a_prompt_is_laid_out_as_in_training"
SURE = "a_sure_network_says_what_it_knows"
READ = "what_a_reply_is_made_of_is_read_again"

MUTANTS = [
    # blocks of earlier replies, and of this one
    Mutant(
        LAID_OUT,
        "denoise_replies(sequence, settings.block_size, settings.first_block)",
        "denoise_replies(sequence, settings.block_size)",
    ),
    Mutant(
        LAID_OUT,
        "assign_groups(kinds, settings.block_size, settings.first_block)",
        "assign_groups(kinds, settings.block_size)",
    ),
    Mutant(SURE, "full_span=False,", "full_span=False,\n            first_block=None,"),
    Mutant(SURE, "list(end.groups[:-1])", "list(end.groups[1:])"),
    Mutant(SURE, "[TARGET] * len(reply.ids)", "[TARGET]"),
    # what slots are read as
    Mutant(READ, "            speaking = False\n        elif", "            speaking = True\n        elif"),
    Mutant(READ, "token - v.first_code)", "token)"),
    Mutant(
        "what_is_out_of_place_is_counted",
        "            if speaking:  # text inside a span\n",
        "            if False:\n",
    ),
    Mutant("slots_of_text_are_greedy", "[:, :n_text]", "[:, n_text:]"),
    Mutant("every_slot_may_hold_all", "audio[v.text_choices()] = True", "pass"),
]
