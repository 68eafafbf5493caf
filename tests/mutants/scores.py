"""Ways to break `minittt/evaluation/scores.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

INTERVAL = "the_interval_draws_items_whole_a_thousand_times"
NORMAL = "text_is_compared_without_case_punctuation"
PERFECT = "a_perfect_transcriber_scores_no_error"
RIGHT = "words_right_are_true_words_minus_errors"
DISTANCE = "errors_are_the_edit_distance"
NOTHING = "what_cannot_be_measured_is_no_figure"
JSON = "scores_are_written_as_json_without_nan"

MUTANTS = [
    # the interval: denominators that are not drawn, too few draws, another level
    Mutant(INTERVAL, "bottoms = b[drawn].sum(1)", "bottoms = np.full(DRAWS, b.sum())"),
    Mutant(INTERVAL, "DRAWS = 1000", "DRAWS = 20"),
    Mutant(INTERVAL, "INTERVAL = (0.025, 0.975)", "INTERVAL = (0.05, 0.95)"),
    Mutant(INTERVAL, "integers(0, n, (DRAWS, n))", "integers(0, n, (DRAWS, max(1, n // 2)))"),
    # what is no figure
    Mutant(NOTHING, "if n == 0 or b.sum() == 0:", "if n == 0:"),
    Mutant(JSON, "json_text([", "__import__('json').dumps(["),
    # one side normalised; what is ignored
    Mutant(
        PERFECT,
        "    said = normal(said)\n    heard = normal(heard)\n    if not said:\n        return len(heard.split()), 0",
        "    heard = normal(heard)\n    if not said:\n        return len(heard.split()), 0",
    ),
    Mutant(NORMAL, ".casefold()", ""),
    Mutant(NORMAL, 'unicodedata.normalize("NFKC", text)', "text"),
    Mutant(NORMAL, '.replace("’", "\'")', ""),
    Mutant(NORMAL, 'kept.append(" " if is_punctuation else character)', "kept.append(character)"),
    # errors
    Mutant(RIGHT, "right.append(words - errors)", "right.append(max(0, words - errors))"),
    Mutant(
        DISTANCE,
        "out.substitutions + out.deletions + out.insertions, len(said.split())",
        "out.substitutions + out.deletions, len(said.split())",
    ),
    Mutant(
        DISTANCE,
        "out.substitutions + out.deletions + out.insertions, len(said)\n",
        "out.substitutions + out.insertions, len(said)\n",
    ),
]
