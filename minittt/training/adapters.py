"""Low-rank adapters: a large model is trained through two thin matrices beside each of its own, which stay frozen.

    y = W x + B A x        W (out, in) frozen, A (rank, in) random, B (out, rank) zero: at the start nothing is added

Frozen weights need no gradients and no optimiser moments, which for a model of 0.5 B parameters saves 6 GB in float32. The
rows of new ids (control tokens, codes, EOA, MASK) have never been trained, so they are trained in full; the old rows stay.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minittt.errors import MinitttError
from minittt.model import Transformer


class LowRank(nn.Module):
    """A frozen linear layer plus B A."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        n_out, n_in = base.weight.shape
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, n_in).to(base.weight) * n_in**-0.5)  # A
        self.up = nn.Parameter(torch.zeros(n_out, rank).to(base.weight))  # B

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return self.base(x) + F.linear(F.linear(x, self.down), self.up)

    def merged(self) -> Tensor:
        """The one matrix (out, in) that computes the same."""
        return self.base.weight + self.up @ self.down


class Table(nn.Module):
    """Embeddings (V, d) whose first `known` rows are frozen. Used as an embedding and as a head: see `Transformer`."""

    def __init__(self, weight: Tensor, known: int) -> None:
        super().__init__()
        weight = weight.detach()
        self.old = nn.Parameter(weight[:known].clone(), requires_grad=False)  # (known, d)
        self.new = nn.Parameter(weight[known:].clone())  # (V - known, d)

    @property
    def weight(self) -> Tensor:
        """All rows (V, d)."""
        return torch.cat([self.old, self.new])

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> rows (..., d)."""
        return F.embedding(ids, self.weight)


def add_adapters(model: Transformer, rank: int, known: int) -> None:
    """Freeze the model in place and put an adapter of this rank beside every matrix of its layers.

    known: the number of ids whose rows stay frozen; the rows after them are trained in full. Raises MinitttError for a
    rank that is not below the model's width: such an adapter would be as large as the matrix it adapts.
    """
    if rank >= model.config.d_model:
        raise MinitttError(f"lora {rank} must be below the model's width, {model.config.d_model}")
    model.requires_grad_(False)
    for layer in model.layers:
        for part in (layer.get_submodule("self_attn"), layer.get_submodule("mlp")):
            for name, linear in list(part.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(part, name, LowRank(linear, rank))
    tied = model.config.tie_embeddings
    # A Table offers everything that the model needs from an Embedding and from a Linear.
    model.embed_tokens = Table(model.embed_tokens.weight, known)  # type: ignore[assignment]
    if tied:
        model.lm_head = model.embed_tokens  # type: ignore[assignment]
    else:
        model.lm_head = Table(model.lm_head.weight, known)  # type: ignore[assignment]


@torch.no_grad()
def merged(model: Transformer) -> Transformer:
    """A plain Transformer that computes what the adapted one does, on the same device. A plain one is returned unchanged."""
    if not isinstance(model.embed_tokens, Table):
        return model
    plain = Transformer(model.config).to(model.embed_tokens.new)
    weights = model.state_dict()
    adapted = dict(model.named_modules())
    for name, parameter in plain.named_parameters():
        owner, _, kind = name.rpartition(".")
        module = adapted[owner]
        if isinstance(module, LowRank):
            weight = module.merged() if kind == "weight" else module.base.bias
        elif isinstance(module, Table):
            weight = module.weight
        else:
            weight = weights[name]
        parameter.copy_(weight)
    return plain.train(model.training)
