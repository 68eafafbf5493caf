"""Ways to break `minittt/data/conversation.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

LAYOUT = "a_conversation_is_laid_out_as_the_docstring_says"
FILLER = "filler_completes_blocks_and_no_more"
PROMPT = "the_prompt_is_the_beginning_of_the_whole"
TARGETS = "what_is_said_is_target_and_what_is_told_is_not"

MUTANTS = [
    # filler
    Mutant(FILLER, "    if in_last_block == 0:\n        return 0\n", ""),
    Mutant(FILLER, "first = first_block or block_size", "first = block_size"),
    Mutant(LAYOUT, "[vocabulary.eoa] * filler(len(ids)", "[vocabulary.eoa] * filler(len(ids) - 1"),
    Mutant(LAYOUT, "filler(len(ids), block_size, first_block)", "filler(len(ids), block_size)"),
    Mutant(
        LAYOUT,
        "    if target:\n        kind = TARGET\n",
        "    if True:\n        kind = TARGET if target else SOURCE\n",
    ),  # of what is listened to
    # spans
    Mutant(TARGETS, "for code in codes] + [vocabulary.eoa]", "for code in codes]"),
    Mutant(LAYOUT, "vocabulary.first_code + int(code)", "vocabulary.first_code + int(code) + 1"),
    Mutant(TARGETS, "kind = SOURCE\n", "kind = TARGET\n"),
    # targets
    Mutant(TARGETS, "[target and kind == TEXT]", "[target]"),
    Mutant(
        LAYOUT, "sequence.add([vocabulary.end], TEXT, True)", "sequence.add([vocabulary.end], TEXT, False)"
    ),
    Mutant(
        LAYOUT,
        "sequence.add([vocabulary.open], TEXT, target)",
        "sequence.add([vocabulary.open], TEXT, False)",
    ),
    Mutant(LAYOUT, 'role in ("assistant", "document")\n        if', 'role == "assistant"\n        if'),
    Mutant(LAYOUT, "[getattr(vocabulary, role)], TEXT, False", "[getattr(vocabulary, role)], TEXT, target"),
    # prompts
    Mutant(PROMPT, "if target and not reply and number == len(messages) - 1", "if target and not reply"),
    Mutant("only_what_ends_with_a_reply", 'return " ".join', 'return "".join'),
]
