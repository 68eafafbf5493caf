"""The Transformer against its parts: Qwen2's shape by name, relative positions, no leak through the mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.attention import group_block_mask, group_mask
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer, attend, place_codes, rotary, rotate
from tests.toy import toy_model

SEEDS = st.integers(0, 10_000)
VOCABULARY = Vocabulary(6, 5)


@given(SEEDS, st.integers(0, 50))
def test_rotary_scores_depend_on_distance_alone(seed, shift):
    g = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=g, dtype=torch.float64)
    score = lambda i, j: (turn(q, i) * turn(k, j)).sum().item()  # noqa: E731

    def turn(x, position):
        return rotate(x, *rotary(torch.tensor([[position]]), 8, 10_000.0, torch.float64))

    assert abs(score(3, 7) - score(3 + shift, 7 + shift)) < 1e-10


@given(SEEDS)
def test_law_09_on_the_real_model_a_later_group_leaves_no_trace(seed):
    model, g = toy_model(VOCABULARY, seed), torch.Generator().manual_seed(seed)
    groups = torch.cat([torch.zeros(1).long(), torch.randint(0, 2, (9,), generator=g).cumsum(0)])[None]
    ids = torch.randint(0, VOCABULARY.size, (1, 10), generator=g)
    cut = int(groups.max())
    changed = torch.where(groups == cut, (ids + 1) % VOCABULARY.size, ids)
    mask, earlier = group_mask(groups), (groups < cut)[0]
    assert torch.equal(model(ids, mask)[0, earlier], model(changed, mask)[0, earlier])
    embedded = model.embed_tokens(ids).detach().requires_grad_()
    model.embed_tokens.forward = lambda _: embedded
    model(ids, mask)[0, earlier].sum().backward()
    assert embedded.grad[0, ~earlier].abs().sum() == 0
    assert cut == 0 or embedded.grad[0, earlier].abs().sum() > 0


@given(SEEDS)
def test_gradient_checkpointing_changes_no_output_and_no_gradient(seed):
    """It computes every layer twice, and the same each time."""
    found = []
    for checkpointing in (False, True):
        model, g = toy_model(VOCABULARY, seed), torch.Generator().manual_seed(seed)
        model.gradient_checkpointing = checkpointing
        ids = torch.randint(0, VOCABULARY.size, (2, 7), generator=g)
        calls = []
        model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        logits = model(ids, group_mask(torch.arange(7).expand(2, 7)))
        logits.square().mean().backward()
        found.append((logits, [p.grad for p in model.parameters()]))
        assert len(calls) == 1 + checkpointing
        with torch.no_grad():
            model(ids, group_mask(torch.arange(7).expand(2, 7)))
        assert len(calls) == 2 + checkpointing  # without gradients nothing is computed twice
    (plain, plain_gradients), (again, again_gradients) = found
    assert torch.equal(plain, again)
    assert all(torch.equal(a, b) for a, b in zip(plain_gradients, again_gradients, strict=True))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_block_mask_gives_what_the_dense_mask_gives():
    model, groups = toy_model(VOCABULARY, 0), torch.tensor([[0, 1, 2, 2, 2, 3, 4, 4, 5, -1]])
    ids = torch.arange(10)[None]
    with torch.no_grad():
        dense = model(ids, group_mask(groups))
        flexible = model(ids, group_block_mask(groups))
    assert torch.allclose(flexible, dense, rtol=1e-10, atol=1e-12)


def test_names_are_those_of_qwen2():
    names = dict(Transformer(ModelConfig(20, tie_embeddings=False)).named_parameters())
    assert {"embed_tokens.weight", "norm.weight", "lm_head.weight", "layers.0.mlp.gate_proj.weight"} <= set(
        names
    )
    assert {f"layers.1.self_attn.{p}_proj.bias" for p in "qkv"} <= set(names)
    assert "layers.1.self_attn.o_proj.bias" not in names


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(0, VOCABULARY.size - 1), min_size=1))
def test_choices_are_columns_of_the_logits_and_so_are_their_gradients(chosen):
    model, choices = toy_model(VOCABULARY), torch.tensor(sorted(chosen))
    hidden = torch.randn(3, 16, dtype=torch.float64)
    weights = torch.randn(3, len(choices), dtype=torch.float64)
    found = model.logits(hidden, choices)
    expected = model.logits(hidden)[:, choices]
    torch.testing.assert_close(found, expected)
    [mine] = torch.autograd.grad((found * weights).sum(), [model.lm_head.weight])
    [theirs] = torch.autograd.grad((expected * weights).sum(), [model.lm_head.weight])
    torch.testing.assert_close(mine, theirs)


def test_the_head_is_not_copied_for_choices():
    """A large head is looked at through a view: the backward pass keeps no second one."""
    model = toy_model(VOCABULARY)
    kept = []

    def keep(tensor):
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor

    hidden = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.logits(hidden, VOCABULARY.text_choices())
    known = {model.lm_head.weight.untyped_storage().data_ptr(), hidden.untyped_storage().data_ptr()}
    assert kept
    assert set(kept) <= known


@pytest.mark.parametrize(
    "sizes", [{"d_model": 30, "n_heads": 4}, {"n_heads": 4, "n_kv_heads": 3}, {"d_model": 12, "n_heads": 4}]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(MinitttError, match="must be"):
        ModelConfig(20, **sizes)


@given(
    SEEDS, st.integers(1, 2), st.sampled_from([(2, 1), (4, 2), (3, 3)]), st.integers(1, 9), st.integers(0, 5)
)
def test_attention_by_hand_in_bfloat16_equals_the_kernel(seed, B, heads, L, kept):
    """The branch that a CPU takes in bfloat16, against torch's kernel in float32, forward and backward."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(B, heads[0], L, 8), (B, heads[1], kept + L, 8), (B, heads[1], kept + L, 8)]
    coarse = [torch.randn(s, generator=generator).bfloat16().requires_grad_() for s in shapes]
    exact = [x.detach().float().requires_grad_() for x in coarse]
    mask = torch.rand(B, L, kept + L, generator=generator) < 0.5
    mask[:, :, -1] = True  # no empty row
    a, b = attend(*coarse, mask), attend(*exact, mask)
    assert a.dtype == torch.bfloat16 and a.shape == b.shape
    assert torch.allclose(a.float(), b, atol=0.05)
    direction = torch.randn(b.shape, generator=generator)
    (a.float() * direction).sum().backward()
    (b * direction).sum().backward()
    assert all(torch.allclose(x.grad.float(), y.grad, atol=0.2) for x, y in zip(coarse, exact, strict=True))


@given(SEEDS, st.integers(2, 40))
def test_codes_that_sound_alike_begin_alike(seed, dimension):
    torch.manual_seed(seed)
    vocabulary = Vocabulary(6, 50)
    model = toy_model(vocabulary, seed, d_model=128)
    before = model.embed_tokens.weight.clone()
    latents = torch.randn(50, dimension) * 7 + 3
    latents[1] = latents[0]  # two entries that sound the same
    place_codes(model, vocabulary.first_code, latents, spread=0.1)
    after = model.embed_tokens.weight.detach()
    codes = slice(vocabulary.first_code, vocabulary.first_code + 50)
    others = torch.ones(len(after), dtype=torch.bool)
    others[codes] = False
    assert torch.equal(after[others], before[others])
    assert after[codes].std() == pytest.approx(0.1, rel=0.1)
    far, near = (torch.cdist(x, x).double() for x in (after[codes], latents))
    assert 0 < far[0, 1] < far[0, 2:].median()
    assert torch.corrcoef(torch.stack([far.flatten(), near.flatten()]))[0, 1] > 0.5
