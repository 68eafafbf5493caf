"""Two of torch's optimisers as one: Muon for the matrices inside the Transformer, AdamW for embeddings, norms and biases.

Muon makes each step's update of a matrix nearly orthogonal, so that no direction is left behind. In single
runs on the shipped tokens it reached AdamW's loss (`--optimiser adamw`) in about half the steps: one seed, no proof.
"""

from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def make_optimiser(
    model: nn.Module,
    name: str,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> "Together":
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
        # its steps are scaled to the size that AdamW's have, so that rates and decay compare
        muon = Muon(
            matrices, lr=muon_learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        parts.append(muon)
    return Together(parts)


class Together:
    """Several optimisers that are stepped, saved and restored as one: parameters are numbered through."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        for group in self.param_groups:
            group["peak"] = group["lr"]

    @property
    def param_groups(self) -> list[dict]:
        """The groups of all parts, in order."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, share: float) -> None:
        """Every learning rate becomes this share of its peak."""
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
        state, first = {}, 0
        for part, size in zip(self.parts, self._sizes(), strict=True):
            state |= {first + i: moments for i, moments in part.state_dict()["state"].items()}
            first += size
        return {"state": state}

    def load_state_dict(self, saved: dict) -> None:
        """Take back what `state_dict` gave."""
        first = 0
        for part, size in zip(self.parts, self._sizes(), strict=True):
            mine = {i - first: moments for i, moments in saved["state"].items() if first <= i < first + size}
            part.load_state_dict({"state": mine, "param_groups": part.state_dict()["param_groups"]})
            first += size
