"""Two optimisers as one: who moves what, by how much, and nothing is lost on the way through a checkpoint."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.data.vocabulary import Vocabulary
from minittt.training.optimiser import Muon, make_optimiser, orthogonalise
from tests.toy import toy_model

SEEDS = st.integers(0, 10_000)


def made(seed: int, name: str = "muon", **sizes):
    model = toy_model(Vocabulary(6, 5), seed, torch.float32, **sizes)
    return model, make_optimiser(model, name, 1e-3, 1e-2, 0.0, (0.9, 0.99))


def push(model, optimiser, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step()


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_parameter_belongs_to_one_optimiser(name):
    model, optimiser = made(0, name)
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())  # tied weights count once
    assert len(optimiser.parts) == (2 if name == "muon" else 1)


@given(SEEDS)
def test_a_matrix_moves_by_a_nearly_orthogonal_step_and_the_rest_by_its_sign(seed):
    model, optimiser = made(seed)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser.set_rate(0.5)
    push(model, optimiser, seed)
    for name, p in model.named_parameters():
        step = before[name] - p.detach()
        if p.dim() == 2 and "layers" in name:
            size = 0.5 * 1e-2 * 0.2 * max(p.shape) ** 0.5  # what makes an orthogonal step as large as AdamW's
            values = torch.linalg.svdvals(step) / size
            assert values.max() < 1.4
            assert (values > 0.4).float().mean() > 0.8  # Newton and Schulz leave the smallest behind
        else:
            assert torch.allclose(step, 0.5 * 1e-3 * p.grad.sign(), atol=1e-5)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_without_a_gradient_matrices_decay_and_norms_do_not(name):
    """Decoupled: the weights shrink by rate times decay, whatever the gradient. Each has the rate of its optimiser."""
    model = toy_model(Vocabulary(6, 5), 0, torch.float64)
    optimiser = make_optimiser(model, name, 1e-3, 1e-2, 0.1, (0.9, 0.99))
    optimiser.set_rate(0.5)
    wanted = []
    for parameter_name, p in model.named_parameters():
        rate = 1e-2 if name == "muon" and "layers" in parameter_name else 1e-3
        kept = 1 - 0.5 * rate * 0.1 if p.dim() == 2 else 1.0
        wanted.append(kept * p.detach())
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for p, expected in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=0)


def test_no_gradient_is_left_after_zero_grad():
    model, optimiser = made(0)
    push(model, optimiser, 0)
    optimiser.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    optimiser.step()  # what has no gradient is left where it is
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_orthogonalising_keeps_the_singular_vectors_and_maps_the_values_by_the_polynomial(seed, n, m):
    g = torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a, b, c = coefficients = 3.4445, -4.7750, 2.0315
    u, values, v = torch.linalg.svd(g, full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    expected = u @ values.diag() @ v
    assert torch.allclose(orthogonalise(g, 5, coefficients, 1e-7), expected, rtol=1e-9, atol=1e-12)
    assert orthogonalise(torch.zeros_like(g), 5, coefficients, 1e-7).eq(0).all()


def test_a_step_is_that_of_torchs_muon_up_to_its_bfloat16():
    g = torch.Generator().manual_seed(0)
    start = torch.randn(24, 40, generator=g)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    how = {"lr": 0.05, "weight_decay": 0.1}
    pairs = [
        (ours, Muon([ours], **how)),
        (theirs, torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **how)),
    ]
    for _ in range(5):
        gradient = torch.randn(24, 40, generator=g)
        for parameter, optimiser in pairs:
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(["muon", "adamw"]))
def test_what_is_saved_goes_on_as_if_nothing_had_happened(seed, name):
    (one, a), (two, b) = made(seed, name), made(seed, name)
    for i in range(3):
        push(one, a, i)
        push(two, b, i)
    (three, c) = made(seed, name)
    three.load_state_dict(two.state_dict())
    c.load_state_dict(b.state_dict())
    push(one, a, 9)
    push(three, c, 9)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), three.parameters(), strict=True))
