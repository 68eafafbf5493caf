"""Ways to break `minittt/evaluation/confidence.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

FOUND = "the_curve_that_made_the_data_is_found"
RIGHT = "it_is_fitted_to_replies_that_are_right"
NOTHING = "nothing_to_calibrate_on_is_said"
FORECAST = "the_calibration_error_of_a_perfect"
LOG = "surprise_is_the_log_of_the_nats"
LOSES = "declining_loses_no_more_right_answers"
NEVER = "more_surprise_is_never_more_confidence"

MUTANTS = [
    Mutant(LOG, "return math.log(nats + FLOOR)", "return nats"),
    Mutant(FOUND, "offset + slope * centre", "offset"),
    Mutant(NEVER, "if slope < 0:", "if False:"),
    Mutant(RIGHT, "same_text(reply_text(record), reply.text)", "reply_text(record) == reply.text"),
    Mutant(RIGHT, "Calibration(**fields).confidence(certainty)", "certainty"),
    Mutant(NOTHING, "if len(set(right)) == 1:", "if False:"),
    Mutant(
        FORECAST, "abs(confidences[inside].mean() - right[inside].mean())", "abs(right[inside].mean() - 0.5)"
    ),
    Mutant(LOSES, "sorted(certainties)[lost]", "sorted(certainties)[lost + 1 - len(certainties)]"),
    Mutant(LOSES, "int(share * len(certainties))", "0"),
    Mutant(RIGHT, "below_which_few_are_right(understood)", "0.5"),
    Mutant(FORECAST, "error += inside.sum() *", "error +="),
]
