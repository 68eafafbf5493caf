"""Ways to break the two optimisers, each of which the named law must notice."""

from tests.mutants.run import Mutant

ORTHOGONAL = "orthogonalising_keeps_the_singular_vectors"
MOVES = "a_matrix_moves_by_a_nearly_orthogonal_step"
TORCH = "a_step_is_that_of_torchs_muon"
DECAY = "without_a_gradient_matrices_decay"
WHOSE = "every_parameter_belongs_to_one_optimiser"
SAVED = "what_is_saved_goes_on"
CHECKPOINTS = "training/test_checkpoints.py"

MUTANTS = [
    # Newton-Schulz
    Mutant(ORTHOGONAL, "gram, gram, gram, beta=b, alpha=c", "gram, gram, gram, beta=c, alpha=b"),
    Mutant(ORTHOGONAL, "torch.addmm(x, polynomial, x, beta=a)", "torch.addmm(x, polynomial, x)"),
    Mutant(ORTHOGONAL, "gram = x @ x.T  # (n, n)", "gram = x @ x.T / 2"),
    Mutant(ORTHOGONAL, "matrix.norm().clamp(min=eps)", "matrix.norm()"),  # a gradient of zeros
    Mutant(ORTHOGONAL, "        return x.T\n", "        return x\n"),
    # one step of Muon
    Mutant(TORCH, "mean.lerp_(p.grad, 1 - momentum)", "mean.lerp_(p.grad, momentum)"),
    Mutant(TORCH, "ahead = p.grad.lerp(mean, momentum)", "ahead = mean"),
    Mutant(TORCH, 'p.mul_(1 - lr * group["weight_decay"])', "pass"),
    Mutant(MOVES, "alpha=-lr * 0.2 * max(p.shape) ** 0.5", "alpha=-lr * 0.2"),
    Mutant("no_gradient_is_left", "if p.grad is None:", "if False:"),
    # who moves what
    Mutant(WHOSE, "        del rest[id(matrix)]\n", "        pass\n"),
    Mutant(WHOSE, 'if name == "muon" else {}', "if True else {}"),
    Mutant(
        DECAY, '{"params": plain, "weight_decay": 0.0}', '{"params": plain, "weight_decay": weight_decay}'
    ),
    Mutant(
        DECAY, '{"params": decayed, "weight_decay": weight_decay}', '{"params": decayed, "weight_decay": 0.0}'
    ),
    Mutant(
        DECAY, "lr=muon_learning_rate, weight_decay=weight_decay", "lr=muon_learning_rate, weight_decay=0.0"
    ),
    Mutant(DECAY, "Muon(matrices, lr=muon_learning_rate", "Muon(matrices, lr=learning_rate"),
    # both as one
    Mutant(MOVES, 'group["lr"] = share * group["peak"]', 'group["lr"] = group["peak"]'),
    Mutant("no_gradient_is_left", "            part.zero_grad()", "            pass"),
    Mutant(SAVED, "state[first + i] = moments", "state[i] = moments"),
    Mutant(SAVED, "mine[i - first] = moments", "mine[i] = moments"),
    Mutant(SAVED, "if first <= i < first + size:", "if first < i < first + size:"),
    Mutant("a_moment_that_is_missing", "    if missing:\n", "    if False:\n", file=CHECKPOINTS),
]
