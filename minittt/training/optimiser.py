"""Two optimisers as one: Muon for the matrices inside the Transformer, AdamW for embeddings, norms and biases.

Muon makes each step's update of a matrix nearly orthogonal, so that no direction is neglected. In single runs on the
shipped tokens it reached AdamW's loss (`--optimiser adamw`) in about half the steps: one seed, so no proof.
"""

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim import Muon as TorchMuon

from minittt.model import Transformer


def orthogonalise(matrix: Tensor, steps: int, coefficients: tuple[float, float, float], eps: float) -> Tensor:
    """matrix (n, m) -> (n, m) with its singular vectors and singular values near 1, in its own precision.

    Newton-Schulz: each step maps every singular value s to a s + b s^3 + c s^5, which pulls those in (0, 1] towards 1.
    """
    a, b, c = coefficients
    is_tall = len(matrix) > matrix.shape[1]
    if is_tall:
        matrix = matrix.T  # the products below are smaller on the short side
    x = matrix / matrix.norm().clamp(min=eps)  # (n, m), n <= m
    for _ in range(steps):
        gram = x @ x.T  # (n, n)
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)  # b gram + c gram^2
        x = torch.addmm(x, polynomial, x, beta=a)  # a x + polynomial x
    if is_tall:
        return x.T
    return x


class Muon(TorchMuon):
    """torch's Muon in the precision of the weights. torch orthogonalises in bfloat16, in which most CPUs multiply some
    thirty times more slowly than in float32, so that the optimiser cost ten times as much as the model."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step of decoupled weight decay and an orthogonal update, as large as AdamW's would be."""
        for group in self.param_groups:
            lr = group["lr"]
            momentum = group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                mean = state.setdefault("momentum_buffer", torch.zeros_like(p.grad))
                mean.lerp_(p.grad, 1 - momentum)
                ahead = p.grad.lerp(mean, momentum)  # Nesterov's
                update = orthogonalise(ahead, group["ns_steps"], group["ns_coefficients"], group["eps"])
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update, alpha=-lr * 0.2 * max(p.shape) ** 0.5)


def make_optimiser(
    model: Transformer,
    name: str,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> "CombinedOptimiser":
    """name: 'muon' or 'adamw'. Each group of parameters notes its own peak learning rate as `peak`."""
    inside = dict(model.layers.named_parameters()) if name == "muon" else {}
    matrices = [p for p in inside.values() if p.dim() == 2]
    rest = {id(p): p for p in model.parameters()}  # tied embeddings count once
    for matrix in matrices:
        del rest[id(matrix)]
    decayed = [p for p in rest.values() if p.dim() > 1]
    plain = [p for p in rest.values() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    parts: list[Optimizer] = [AdamW(groups, lr=learning_rate, betas=betas)]
    if matrices:
        parts.append(Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay))
    return CombinedOptimiser(parts)


KEPT = {
    AdamW: {"step", "exp_avg", "exp_avg_sq"},
    Muon: {"momentum_buffer"},
}  # of each parameter that has moved


class CombinedOptimiser:
    """Several optimisers that are stepped, saved and restored as one: their parameters are numbered consecutively."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        for group in self.param_groups:
            group["peak"] = group["lr"]

    @property
    def param_groups(self) -> list[dict]:
        """The groups of all parts, in order."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to this share of its peak."""
        for group in self.param_groups:
            group["lr"] = share * group["peak"]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """One step of every part."""
        for part in self.parts:
            part.step()

    def _sizes(self) -> list[int]:
        return [sum(len(group["params"]) for group in part.param_groups) for part in self.parts]

    def state_dict(self) -> dict:
        """{'state': {number of the parameter: its moments}}."""
        state = {}
        first = 0  # number of the part's first parameter
        for part, size in zip(self.parts, self._sizes(), strict=True):
            for i, moments in part.state_dict()["state"].items():
                state[first + i] = moments
            first += size
        return {"state": state}

    def load_state_dict(self, saved: dict) -> None:
        """Restore what `state_dict` gave. Raises KeyError if a parameter has some of its moments, but not all."""
        first = 0
        for part, size in zip(self.parts, self._sizes(), strict=True):
            mine = {}
            for i, moments in saved["state"].items():
                if first <= i < first + size:
                    _complete(KEPT[type(part)], moments)
                    mine[i - first] = moments
            groups = part.state_dict()["param_groups"]  # as they are: rates are set anew in each step
            part.load_state_dict({"state": mine, "param_groups": groups})
            first += size


def _complete(kept: set[str], moments: dict) -> None:
    """Raise KeyError naming the first of the moments that are missing."""
    missing = sorted(kept - moments.keys())
    if missing:
        raise KeyError(missing[0])
