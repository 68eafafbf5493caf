"""Ways to break the trainer, each of which its law must notice."""

from tests.mutants.run import Mutant

RATE = "the_rate_rises_from_the_first_step"
STEP = "a_step_uses_its_own_rate_and_its_own_clipped_gradient"
CLEAN = "a_step_that_banom_left_clean"

MUTANTS = [
    Mutant(1, "        self.step = step\n", ""),
    Mutant(1, "        checkpoints.restore(self.model, self.optimiser, tensors)\n", ""),
    Mutant(1, "            checkpoints.tidy(self.out, self.step)", "            pass"),
    Mutant(
        1, "self.accumulator.add_gradient(self.step)", "self.accumulator.add_gradient(int(time.time_ns()))"
    ),
    # the rate: none at the first step, an end that is not the last step, a floor that is missing
    Mutant(RATE, "(step + 1) / max(1, s.warmup))", "step / max(1, s.warmup))"),
    Mutant(RATE, "math.pi * step / s.steps", "math.pi * step / (s.steps + s.warmup)"),
    Mutant(RATE, "warm * (0.02 + 0.98 * cosine)", "warm * cosine"),
    # one step
    Mutant(STEP, "        self.optimiser.set_rate(share)\n", ""),
    Mutant(STEP, "        self.optimiser.zero_grad()\n", ""),
    Mutant(STEP, "self.model.parameters(), self.s.clip)", "self.model.parameters(), math.inf)"),
    Mutant(STEP, '"step": self.step + 1,', '"step": self.step,'),
    Mutant(CLEAN, "audio / max(1, n.audio)", "audio / n.audio"),
    Mutant("losses_are_a_mean_over_the_tokens", "audio / max(1, n.audio)", "audio / max(1, n.text)"),
    Mutant(
        "what_is_held_out_is_heard_without", 's.source_noise if split == "train" else 0.0', "s.source_noise"
    ),
]
