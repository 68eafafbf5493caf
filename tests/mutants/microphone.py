"""Ways to break `minittt/world/microphone.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

PLACE = "every_recording_is_a_wave_beside_its_clean_voice"
SEED = "one_seed_gives_one_recording"
NOISE = "noise_is_as_loud_as_said"
TILT = "tilted_noise_falls"
ECHO = "echoes_decay"
REST = "level_clipping_offset_and_band"
MP3 = "mp3_keeps_place_and_length"

MUTANTS = [
    Mutant(
        PLACE,
        "np.pad(wave.astype(np.float64), (before, after))",
        "np.pad(wave.astype(np.float64), (after, before))",
    ),
    Mutant(
        PLACE,
        "np.convolve(heard, echoes(how, sample_rate, rng))[: len(clean)]",
        "np.convolve(heard, echoes(how, sample_rate, rng))",
    ),
    Mutant(
        SEED, "spectrum = np.fft.rfft(rng.normal(size=n))", "spectrum = np.fft.rfft(np.random.normal(size=n))"
    ),
    Mutant(NOISE, "_rms(wave) * _factor(-how.noise)", "_factor(-how.noise)"),
    Mutant(NOISE, "return noise / (_rms(noise) + 1e-12)", "return noise"),
    Mutant(TILT, "10 ** (-tilt * octaves / 20)", "10 ** (-tilt * octaves / 10)"),
    Mutant(ECHO, "10 ** (-3 * seconds / how.reverberation)", "10 ** (-1 * seconds / how.reverberation)"),
    Mutant(ECHO, "np.sqrt((tail**2).sum() + 1e-12)", "(tail**2).sum()"),
    Mutant(REST, "heard = heard * _factor(how.level)", "heard = heard / _factor(how.level)"),
    Mutant(REST, "heard = heard + how.offset", "heard = heard - how.offset"),
    Mutant(REST, "_factor(-how.clipped)", "_factor(how.clipped)"),
    Mutant(REST, "(frequency / low) ** 4", "(low / frequency) ** 4"),
    Mutant(MP3, "    if how.mp3:", "    if not how.mp3:"),
]
