"""Ways to break `minittt/world/users.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

DRAWN = "everybody_is_drawn_and_who_is_left_out_is_not"
JOINED = "words_of_a_person_are_joined_in_order"
ONE = "people_say_one_word_a_file"
HEARD = "what_is_heard_lies_on_the_clean_voice"
VOICE = "a_perturbed_voice_is_between"

MUTANTS = [
    Mutant(DRAWN, 'if row["voice"] not in left_out', "if True"),
    Mutant(DRAWN, '            kinds.append("makes")\n', "            pass\n"),
    Mutant(JOINED, "wave = np.concatenate(parts[:-1])", "wave = parts[0]"),
    Mutant(ONE, '        if " " in row["text"]:', "        if False:"),
    Mutant(
        HEARD,
        "front_end.at_level(clean[start:stop], RATE)",
        "front_end.at_level(clean[: stop - start], RATE)",
    ),
    Mutant(HEARD, "front_end.at_level(clean[start:stop], RATE)", "clean[start:stop]"),
    Mutant(VOICE, "np.log(1.35)", "np.log(1.8)"),
    Mutant(VOICE, "soxr.resample(wave, RATE * factor, RATE)", "soxr.resample(wave, RATE, RATE * factor)"),
]
