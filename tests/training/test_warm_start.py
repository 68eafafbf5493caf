"""A run that starts from a talker knows what it knew: equal pieces, control tokens and codes keep their embeddings."""

import json
from dataclasses import replace

import pytest
import torch

from minittt.data.vocabulary import Vocabulary, train_tokeniser
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer
from minittt.settings import TrainingSettings
from minittt.talker import Talker
from minittt.training.trainer import Trainer
from minittt.training.warm_start import rows_in_common, warm_start
from tests.toy import toy_corpus

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16, "max_length": 512}
SETTINGS = TrainingSettings(
    steps=4, records=4, row_length=160, save_every=1, precision="float32", samples=0, model=SIZES
)


def corpus_with(tmp_path, texts: list[str], codebook_size: int = 5, pieces: int = 60):
    """The toy corpus, its tokeniser a SentencePiece model of these texts."""
    corpus = toy_corpus(1, codebook_size)
    texts = [*texts, "one two three four answer speak"]
    corpus.tokeniser = train_tokeniser(texts * 20, tmp_path / f"{len(texts)}.model", pieces)
    return corpus


def talker_of(corpus, seed: int = 0, **sizes) -> Talker:
    torch.manual_seed(seed)
    vocabulary = corpus.vocabulary
    model = Transformer(ModelConfig(vocabulary.size, **{**SIZES, **sizes}))
    info = {"codec": corpus.info["codec"], "step": 7}
    return Talker(model, vocabulary, corpus.tokeniser, info)


def test_what_both_vocabularies_have_keeps_its_embedding(tmp_path):
    old = corpus_with(tmp_path, ["one two three"], pieces=50)
    new = corpus_with(tmp_path, ["one two three", "how much is four", "i did not understand"])
    assert len(new.tokeniser) > len(old.tokeniser)
    talker = talker_of(old)
    model = talker_of(new, seed=1).model
    born = {name: weight.clone() for name, weight in model.state_dict().items()}
    warm_start(model, new, talker)
    found = model.state_dict()
    learned = talker.model.state_dict()
    theirs = {piece: i for i, piece in enumerate(old.tokeniser.all_pieces())}
    n_new = 0
    for i, piece in enumerate(new.tokeniser.all_pieces()):
        if piece in theirs:
            expected = learned["embed_tokens.weight"][theirs[piece]]
        else:
            expected = born["embed_tokens.weight"][i]
            n_new += 1
        assert torch.equal(found["embed_tokens.weight"][i], expected)
    assert n_new > 0
    mine, other = new.vocabulary, old.vocabulary
    for name in ("pad", "user", "open", "end", "first_code", "eoa", "mask"):
        row = found["embed_tokens.weight"][getattr(mine, name)]
        assert torch.equal(row, learned["embed_tokens.weight"][getattr(other, name)])
    for name, weight in found.items():
        if name not in ("embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(weight, learned[name])


def test_with_the_same_vocabulary_the_model_is_the_talkers(tmp_path):
    corpus = corpus_with(tmp_path, ["one two three"])
    talker = talker_of(corpus)
    model = talker_of(corpus, seed=1).model
    warm_start(model, corpus, talker)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, talker.model.state_dict()[name])
    old, new = rows_in_common(talker, corpus)
    assert torch.equal(old, new)
    assert len(old) == corpus.vocabulary.size


def test_a_talker_of_another_shape_is_refused(tmp_path, capsys):
    corpus = corpus_with(tmp_path, ["one two three"])
    model = talker_of(corpus).model
    with pytest.raises(MinitttError, match="gate_proj.weight is 24 x 16 in the talker, 16 x 16 in the model"):
        warm_start(model, corpus, talker_of(corpus, d_ff=24))
    with pytest.raises(MinitttError, match="not there in the talker"):
        warm_start(talker_of(corpus, n_layers=2).model, corpus, talker_of(corpus))
    more = corpus_with(tmp_path, ["one two three"], codebook_size=6)
    with pytest.raises(MinitttError, match=r"are \(1, 6\) in the talker, \(1, 5\) in the corpus"):
        warm_start(model, corpus, talker_of(more))
    talker = talker_of(corpus)
    talker.info["codec"] = "other"
    warm_start(model, corpus, talker)
    assert "the talker's codec is other, the corpus's toy" in capsys.readouterr().out


def test_a_run_starts_from_its_talker_and_resumes_as_if_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "sample", lambda self: "")
    corpus = corpus_with(tmp_path, ["one two three"])
    start = talker_of(corpus, seed=5)
    whole = Trainer(corpus, tmp_path / "whole", SETTINGS, start=start)
    assert torch.equal(whole.model.embed_tokens.weight, start.model.embed_tokens.weight)
    talker = whole.train()
    assert talker.info["started_from"] == {"talker": start.fingerprint(), "step": 7}
    Trainer(corpus, tmp_path / "parts", SETTINGS, start=start).train(until=2)
    Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True, start=start).train()
    logs = [
        (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        for name in ("whole", "parts")
    ]
    losses = [[(json.loads(line)["text"], json.loads(line)["audio"]) for line in log] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    with pytest.raises(MinitttError, match="start"):
        Trainer(corpus, tmp_path / "parts", SETTINGS, resume=True, start=talker_of(corpus, seed=3))
    other = Trainer(corpus, tmp_path / "chance", replace(SETTINGS, seed=0))
    assert not torch.equal(other.model.embed_tokens.weight, start.model.embed_tokens.weight)


def test_the_vocabulary_of_the_tests_is_that_of_the_corpus(tmp_path):
    corpus = corpus_with(tmp_path, ["one two three"])
    assert corpus.vocabulary == Vocabulary(len(corpus.tokeniser), 5)
