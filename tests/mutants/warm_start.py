"""Ways to break `minittt/training/warm_start.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

KEEPS = "what_both_vocabularies_have_keeps_its_embedding"
SAME = "with_the_same_vocabulary_the_model_is_the_talkers"
SHAPE = "a_talker_of_another_shape_is_refused"

MUTANTS = [
    Mutant(KEEPS, "weight[new_rows] = source[old_rows]", "weight[old_rows] = source[old_rows]"),
    Mutant(KEEPS, "pairs.append((i, theirs[piece]))", "pairs.append((i, i))"),
    Mutant(
        KEEPS,
        "corpus.vocabulary.text_size + offset))",
        "corpus.vocabulary.text_size + n_others - 1 - offset))",
    ),
    Mutant(SAME, "weight.copy_(source)", "weight.copy_(2 * source)"),
    Mutant(SHAPE, "if mine != theirs:", "if False:"),
    Mutant(SHAPE, "expected[compared] != weight.shape[compared]", "False"),
    Mutant(SHAPE, 'talker.info["codec"] != corpus.info["codec"]', "False"),
]
