"""Ways to break `minittt/evaluation/outside_judge.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

DIGITS = "an_equation_in_digits_is_the_equation_in_words"
SPELLED = "numbers_are_spelled_out_and_words_stay"
LONG = "long_numbers_are_read_digit_by_digit"
WAVES = "waves_are_resampled_and_silence_is_not_asked_about"

MUTANTS = [
    Mutant(DIGITS, '"+": " plus "', '"+": " and "'),
    Mutant(DIGITS, 'r"(?<=\\d)\\s*-\\s*(?=\\d)", " minus "', 'r"-", " "'),
    Mutant(SPELLED, "int(word) < len(NUMBERS)", "int(word) < 10"),
    Mutant(LONG, "words += [NUMBERS[int(digit)] for digit in word]", "words.append(word)"),
    Mutant(WAVES, "soxr.resample(wave.astype(np.float32), sample_rate, RATE)", "wave"),
    Mutant(WAVES, "if len(wave) == 0:", "if False:"),
    Mutant(WAVES, "initial_prompt=before or None", "initial_prompt=None"),
]
