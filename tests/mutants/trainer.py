"""Ways to break the trainer, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(1, "self.step, tensors, header = checkpoints.load", "_, tensors, header = checkpoints.load"),
    Mutant(1, "        checkpoints.restore(self.model, self.optimiser, tensors)\n", ""),
    Mutant(1, "            checkpoints.tidy(self.out, self.step)", "            pass"),
    Mutant(
        1, "self.accumulator.add_gradient(self.step)", "self.accumulator.add_gradient(int(time.time_ns()))"
    ),
]
