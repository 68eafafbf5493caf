"""One step in several parts, by one process or by two: the gradient is that of one batch (float64)."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minittt.data.batches import Batch
from minittt.objective import Noise, unified_loss
from minittt.training.parallel import full_tensor, shard_like
from minittt.training.trainer import Trainer, TrainingSettings
from tests.processes import together
from tests.toy import toy_corpus

TINY = {"d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
SETTINGS = TrainingSettings(
    records=7, accumulate=3, row_length=160, precision="float64", samples=0, model=TINY
)
PADDING = {"kinds": -1, "groups": -1, "documents": -1, "segments": -1}


def joined(parts, pad):
    """All parts as one batch and its noise: their rows one below the other, padded to the longest."""
    length = max(part.batch.ids.shape[1] for part in parts)

    def stack(name, tensors):
        value = pad if name == "ids" else PADDING.get(name, 0)
        return torch.cat([F.pad(t, (0, length - t.shape[1]), value=value) for t in tensors])

    batch = {n: stack(n, [getattr(p.batch, n) for p in parts]) for n in vars(parts[0].batch)}
    noise = {n: stack(n, [getattr(p.noise, n) for p in parts]) for n in Noise._fields}
    return Batch(**batch), Noise(**noise)


def gradients(model):
    return {n: full_tensor(p.grad).clone() for n, p in model.named_parameters()}


def of_one_batch(trainer, step):
    """The oracle: every part's rows in one batch, one forward, the preset's own normalisation."""
    parts = [trainer.accumulator.draw(step, i) for i in range(trainer.s.accumulate)]
    trainer.model.zero_grad()
    batch, noise = joined(parts, trainer.corpus.vocabulary.pad)
    loss = unified_loss(trainer.model, batch, trainer.corpus.vocabulary, trainer.p, None, noise)
    loss.total.backward()
    return gradients(trainer.model), loss, parts


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-10, atol=1e-10 * float(gradient.abs().max())
        )


@pytest.mark.parametrize("preset", ["exact", "mended", "paper"])
def test_law_01_parts_add_up_to_one_batch(preset, tmp_path):
    trainer = Trainer(toy_corpus(1), tmp_path, replace(SETTINGS, preset=preset))
    uneven = set()
    for step in range(3):
        expected, loss, parts = of_one_batch(trainer, step)
        uneven |= {(part.counts.text, part.counts.audio) for part in parts}
        trainer.model.zero_grad()
        text, audio, counts = trainer.accumulator.add_gradient(step)
        assert_same(gradients(trainer.model), expected)
        assert (counts.text, counts.audio, counts.records) == (loss.n_text, loss.n_audio, 7)
        assert text == pytest.approx(loss.text_sum.item(), rel=1e-12)
        assert audio == pytest.approx(loss.audio_sum.item(), rel=1e-12)
    assert len(uneven) > 1


def _process(rank, folder):
    """One of two processes: leave what it drew and, under DDP and FSDP2, its gradients, norm and first weights."""
    found = {}
    for shard in (False, True):
        s = replace(SETTINGS, accumulate=2, shard=shard, steps=1)
        trainer = Trainer(toy_corpus(1), f"{folder}/{shard}", s)
        trainer.accumulator.add_gradient(5)
        found[f"gradients {shard}"] = gradients(trainer.model)
        trainer._one_step()
        trainer._save()
        found[f"weights {shard}"] = {n: full_tensor(p.detach()) for n, p in trainer.model.named_parameters()}
        if shard:
            for parameter in trainer.model.parameters():
                assert torch.equal(
                    shard_like(full_tensor(parameter.detach()), parameter).full_tensor(),
                    full_tensor(parameter),
                )
            resumed = Trainer(toy_corpus(1), f"{folder}/{shard}", s, resume=True)
            found["resumed"] = {n: full_tensor(p.detach()) for n, p in resumed.model.named_parameters()}
    found["ids"] = [trainer.accumulator.draw(5, 2 * rank + i).batch.ids for i in range(2)]
    torch.save(found, f"{folder}/{rank}.pt")


def test_law_02_two_processes_train_as_one(tmp_path):
    alone = Trainer(toy_corpus(1), tmp_path / "alone", replace(SETTINGS, accumulate=4, steps=1))
    expected, _, parts = of_one_batch(alone, 5)
    assert len({part.counts.text for part in parts}) > 1
    alone.model.zero_grad()
    alone._one_step()
    together(2, tmp_path / "meeting", _process, str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for rank in (0, 1):
        for i in (0, 1):
            assert torch.equal(found[rank]["ids"][i], parts[2 * rank + i].batch.ids)
        for shard in (False, True):
            assert_same(found[rank][f"gradients {shard}"], expected)
            # Adam's first step is the sign of the gradient: what is nearly 0 may go either way by rounding.
            for name, parameter in alone.model.named_parameters():
                weights = found[rank][f"weights {shard}"][name]
                torch.testing.assert_close(weights, parameter.detach(), rtol=1e-6, atol=1e-6)
        for name, weights in found[rank]["weights True"].items():
            assert torch.equal(weights, found[rank]["resumed"][name])
    assert len(list((tmp_path / "False").glob("state-*"))) == 1
