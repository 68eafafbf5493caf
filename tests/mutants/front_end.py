"""Ways to break `minittt/data/front_end.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

LEVEL = "a_quieter_recording_gives_the_same_wave"
LOUD = "the_loudest_part_has_the_level"
OFFSET = "an_offset_gives_the_same_wave"
SILENCE = "silence_on_either_side"
NOISE = "room_noise_is_not_taken_for_speech"
CLICK = "a_click_is_neither_speech_nor_loud"
NOTHING = "silence_and_next_to_nothing_come_back"
WORDS = "words_survive_level_and_silence"

MUTANTS = [
    Mutant(LEVEL, "wave * (LEVEL / rms)", "wave * LEVEL"),
    Mutant(
        LOUD,
        "10 ** (loudest(decibels(wave, sample_rate)) / 20)",
        "10 ** (loudest(decibels(wave, sample_rate)) / 10)",
    ),
    Mutant(OFFSET, "    wave = without_offset(wave, sample_rate)\n", ""),
    Mutant(OFFSET, "spectrum * gain", "spectrum"),
    Mutant(SILENCE, "(found[0] * HOP - BEFORE)", "(found[0] * HOP - 3 * BEFORE)"),
    Mutant(SILENCE, "(found[-1] * HOP + AFTER)", "(found[0] * HOP + AFTER)"),
    Mutant(SILENCE, "top - min(DEEPEST, SHARE * (top - background))", "top - 90"),
    Mutant(NOISE, "min(DEEPEST, SHARE * (top - background))", "DEEPEST"),
    Mutant(NOISE, "SHARE * (top - background)", "1.2 * (top - background)"),
    Mutant(CLICK, "if end - begin >= shortest:", "if True:"),
    Mutant(CLICK, "np.sort(power)[-frames]", "np.sort(power)[-1]"),
    Mutant(NOTHING, "    if rms <= 2e-5:", "    if rms <= 0:"),
    Mutant(
        WORDS, "    return at_level(wave[start:stop], sample_rate)", "    return at_level(wave, sample_rate)"
    ),
]
