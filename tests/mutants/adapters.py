"""Ways to break `minittt/training/adapters.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

START = "at_the_start_nothing_is_added"
MERGED = "merged_equals_unmerged"
MOVES = "training_moves_adapters_and_new_rows_and_nothing_else"

MUTANTS = [
    Mutant(START, "torch.zeros(n_out, rank)", "torch.ones(n_out, rank)"),
    Mutant(START, "torch.cat([self.old, self.new])", "torch.cat([self.new, self.old])"),
    Mutant(MERGED, "self.base.weight + self.up @ self.down", "self.base.weight"),
    Mutant(MERGED, 'kind == "weight" else module.base.bias', 'kind == "weight" else 0 * module.base.bias'),
    Mutant(MERGED, "weight = module.weight\n", "weight = parameter\n"),
    Mutant(MERGED, "    if tied:\n", "    if not tied:\n"),
    Mutant(
        "every_matrix_of_the_layers",
        '(layer.get_submodule("self_attn"), layer.get_submodule("mlp"))',
        '(layer.get_submodule("self_attn"),)',
    ),
    Mutant(MOVES, "model.requires_grad_(False)", "pass"),
    Mutant(MOVES, "weight[:known].clone(), requires_grad=False", "weight[:known].clone()"),
    Mutant("adapters_need_something", "if rank >= model.config.d_model:", "if False:"),
]
