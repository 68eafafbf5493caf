"""Low-rank adapters: nothing at the start, one matrix at the end, and what is frozen stays as it was."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.errors import MinitttError
from minittt.settings import TrainingSettings
from minittt.talker import Talker
from minittt.training.adapters import LowRank, add_adapters, merged
from minittt.training.trainer import Trainer
from tests.toy import toy_corpus, toy_model

KNOWN = 7  # text ids of the toy corpus
SETTINGS = TrainingSettings(
    steps=4, records=4, row_length=160, save_every=2, precision="float32", samples=0, lora=2
)


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    """The toy tokeniser is no SentencePiece model, so nothing is decoded or saved as a talker here."""
    monkeypatch.setattr(Trainer, "sample", lambda self: "")
    monkeypatch.setattr("minittt.talker.Talker.save", lambda self, path: None)


def logits_of(model, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, (2, 9), generator=generator)
    mask = torch.rand(2, 9, 9, generator=generator) < 0.5
    return model(ids, mask | torch.eye(9, dtype=torch.bool))


def adapted(seed: int, rank: int, tied: bool):
    """A model, and a copy of it with adapters, in float64."""
    base = toy_model(toy_corpus(1).vocabulary, seed, tie_embeddings=tied)
    model = toy_model(toy_corpus(1).vocabulary, seed, tie_embeddings=tied)
    add_adapters(model, rank, KNOWN)
    return base, model


def disturb(model) -> None:
    """As if the adapters and the new rows had learned something."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape))


@given(seed=st.integers(0, 50), rank=st.integers(1, 5), tied=st.booleans())
def test_at_the_start_nothing_is_added(seed, rank, tied):
    base, model = adapted(seed, rank, tied)
    assert torch.equal(logits_of(model, seed), logits_of(base, seed))
    assert torch.equal(logits_of(merged(model), seed), logits_of(base, seed))


@given(seed=st.integers(0, 50), rank=st.integers(1, 5), tied=st.booleans())
def test_merged_equals_unmerged(seed, rank, tied):
    base, model = adapted(seed, rank, tied)
    disturb(model)
    plain = merged(model)
    assert list(plain.state_dict()) == list(base.state_dict())
    assert (plain.lm_head.weight is plain.embed_tokens.weight) == tied
    assert torch.allclose(logits_of(plain, seed), logits_of(model, seed), atol=1e-10)
    assert not torch.allclose(logits_of(plain, seed), logits_of(base, seed), atol=1e-3)
    assert merged(plain) is plain


def test_every_matrix_of_the_layers_has_an_adapter_of_the_rank_asked_for():
    _, model = adapted(0, 3, False)
    for layer in model.layers:
        for part in (layer.self_attn, layer.mlp):
            assert all(isinstance(child, LowRank) for child in part.children())
    for module in model.modules():
        if isinstance(module, LowRank):
            change = module.up @ module.down
            assert change.shape == module.base.weight.shape
            assert len(module.down) == 3


def start_of(corpus) -> Talker:
    model = toy_model(corpus.vocabulary, 3, torch.float32)
    return Talker(model, corpus.vocabulary, corpus.tokeniser, {"codec": "toy"})


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_training_moves_adapters_and_new_rows_and_nothing_else(tmp_path, optimiser):
    """Weight decay included: it must not shrink what is frozen."""
    corpus = toy_corpus(1)
    start = start_of(corpus)
    trainer = Trainer(corpus, tmp_path, replace(SETTINGS, optimiser=optimiser), start=start)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    talker = trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if name.endswith((".up", ".down", ".new"))}
    assert moved == expected
    old = start.model.embed_tokens.weight[: corpus.vocabulary.text_size]
    assert torch.equal(talker.model.embed_tokens.weight[: corpus.vocabulary.text_size], old)
    assert not isinstance(talker.model.layers[0].mlp.up_proj, LowRank)
    assert torch.allclose(logits_of(talker.model, 0), logits_of(trainer.model, 0), atol=1e-4)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    corpus = toy_corpus(1)
    whole = Trainer(corpus, tmp_path / "whole", SETTINGS, start=start_of(corpus)).train()
    Trainer(corpus, tmp_path / "parts", SETTINGS, start=start_of(corpus)).train(until=2)
    parts = Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True, start=start_of(corpus)).train()
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], weight)


def test_adapters_need_something_to_adapt(tmp_path):
    corpus = toy_corpus(1)
    with pytest.raises(MinitttError, match="start from one, with --init"):
        Trainer(corpus, tmp_path, SETTINGS)
    other = start_of(corpus)
    other.tokeniser = type("Other", (type(corpus.tokeniser),), {"fingerprint": lambda self: "other"})()
    with pytest.raises(MinitttError, match="has this corpus's tokeniser"):
        Trainer(corpus, tmp_path, SETTINGS, start=other)
    with pytest.raises(MinitttError, match="lora 16 must be below the model's width, 16"):
        Trainer(corpus, tmp_path, replace(SETTINGS, lora=16), start=start_of(corpus))
    with pytest.raises(MinitttError, match="lora and shard do not go together"):
        replace(SETTINGS, shard=True)
