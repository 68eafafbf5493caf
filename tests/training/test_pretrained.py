"""A language model comes in as it was, learns to speak without forgetting how it writes, and leaves as it is."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.distributed.run import get_args_parser

pytest.importorskip("tokenizers")

from minittt.app.cli import main
from minittt.data.tokenisers import JsonTokeniser
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.settings import TrainingSettings
from minittt.talker import Talker
from minittt.training.pretrained import (
    SPREAD,
    export_talker,
    extended,
    load_pretrained,
    load_weights,
    model_config,
    resized,
    start_from,
)
from minittt.training.trainer import Trainer
from tests.small_llm import CONTROLS, PADDED, config_of, small_model, tokenizer_json, write_llm
from tests.toy import toy_corpus

ROOT = Path(__file__).parents[2]
TOKENISER = JsonTokeniser(tokenizer_json(), "small")
KNOWN = len(TOKENISER)
SETTINGS = TrainingSettings(
    steps=2, records=4, row_length=160, save_every=1, precision="float32", samples=0, optimiser="adamw"
)


def logits_of(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    """ids (B, L) -> logits (B, L, V), every token a group of its own."""
    B, L = ids.shape
    return model(ids, torch.ones(B, L, L, dtype=torch.bool).tril())


def some_ids(below: int = KNOWN) -> torch.Tensor:
    return torch.randint(0, below, (2, 11), generator=torch.Generator().manual_seed(3))


def read(folder) -> Transformer:
    return load_weights(
        folder, model_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    )


# ---- in


@given(
    kind=st.sampled_from(["qwen2", "llama"]),
    version=st.sampled_from([4, 5]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    files=st.integers(1, 3),
    tied=st.booleans(),
)
@settings(max_examples=10)
def test_a_folder_is_read_as_it_was_written(tmp_path_factory, kind, version, dtype, files, tied):
    """Either kind, by either version of transformers, in one file or several, tied or not, with biases or none."""
    model = small_model(tied=tied, biased=kind == "qwen2")
    folder = write_llm(tmp_path_factory.mktemp("llm"), model, kind, version, dtype, files)
    found = read(folder)
    assert found.config == replace(model.config, max_length=64)
    assert (found.lm_head.weight is found.embed_tokens.weight) == tied
    for name, weight in model.named_parameters():
        assert torch.equal(found.get_parameter(name), weight.to(dtype).float()), name


def test_rows_that_pad_the_vocabulary_are_left_out(tmp_path):
    model = small_model()
    assert KNOWN < PADDED
    found, tokeniser = load_pretrained(write_llm(tmp_path, model))
    assert len(tokeniser) == found.config.vocab_size == KNOWN
    assert torch.equal(logits_of(found, some_ids()), logits_of(model, some_ids())[..., :KNOWN])


REFUSED = {
    "model_type 'qwen3'; only 'qwen2' or 'llama'": {"model_type": "qwen3"},
    "hidden_act 'gelu'": {"hidden_act": "gelu"},
    "use_sliding_window True": {"use_sliding_window": True},
    "layer_types 'sliding_attention'": {"layer_types": ["full_attention", "sliding_attention"]},
    "rope_scaling with rope_type 'yarn'": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "rope_scaling with type 'linear'": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "rope_parameters with rope_type 'llama3'": {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}
    },
    "rope_parameters with factor 4.0": {"rope_parameters": {"rope_theta": 1e4, "factor": 4.0}},
    "partial_rotary_factor 0.5": {"partial_rotary_factor": 0.5},
    "rope_interleaved True": {"rope_interleaved": True},
    "attention_bias True": {"attention_bias": True},
    "mlp_bias True": {"mlp_bias": True},
    "head_dim 8": {"head_dim": 8},
    "quantization_config": {"quantization_config": {"bits": 4}},
    "minittt": {"minittt": {"codec": "toy"}},
    "lacks hidden_size, intermediate_size": {"hidden_size": None, "intermediate_size": None},
    "n_heads 4 must be a multiple of n_kv_heads 3": {"num_key_value_heads": 3},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_computed_is_refused_by_name_before_a_weight_is_read(tmp_path, message):
    config = config_of(small_model()) | REFUSED[message]
    (tmp_path / "config.json").write_text(
        json.dumps(config), encoding="utf-8"
    )  # and nothing else: no weights to read
    with pytest.raises(MinitttError) as caught:
        load_pretrained(tmp_path)
    assert message in str(caught.value)


def test_a_config_without_a_type_is_refused():
    with pytest.raises(MinitttError, match="no model_type"):
        model_config({"hidden_size": 16})


def _changed(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


Q = "model.layers.1.self_attn.q_proj.weight"
WEIGHT_FAULTS = {
    f"lacks {Q}": lambda t: t.pop(Q),
    "lacks lm_head.weight": lambda t: t.pop("lm_head.weight"),
    f"{Q} has the shape (16, 15)": lambda t: t.update({Q: torch.zeros(16, 15)}),
    f"{Q} is of type I8": lambda t: t.update({Q: torch.zeros(16, 16, dtype=torch.int8)}),
    "model.layers.0.self_attn.q_norm.weight, for which": lambda t: t.update(
        {"model.layers.0.self_attn.q_norm.weight": torch.zeros(4)}
    ),
}


@pytest.mark.parametrize("message", WEIGHT_FAULTS)
def test_a_weight_that_does_not_fit_is_named(tmp_path, message):
    folder = write_llm(tmp_path, small_model())
    _changed(folder, WEIGHT_FAULTS[message])
    with pytest.raises(MinitttError) as caught:
        load_pretrained(folder)
    assert message in str(caught.value)


def test_a_folder_without_a_part_says_which(tmp_path):
    with pytest.raises(MinitttError, match="no Hugging Face model: it needs config.json"):
        load_pretrained(tmp_path)
    folder = write_llm(tmp_path / "parts", small_model(), files=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MinitttError, match="names model-00002-of-00003.safetensors, which is not there"):
        load_pretrained(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(MinitttError, match="has no model.safetensors"):
        load_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MinitttError, match="has no tokenizer.json"):
        load_pretrained(folder)


def test_needless_tensors_are_passed_over(tmp_path):
    """A second copy of tied embeddings, which transformers ignores too, and the angles of old Llama files."""
    model = small_model(tied=True)
    folder = write_llm(tmp_path, model)
    extra = {"lm_head.weight": torch.zeros(3), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(2)}
    _changed(folder, lambda tensors: tensors.update(extra))
    assert torch.equal(logits_of(read(folder), some_ids()), logits_of(model, some_ids()))


# ---- a larger vocabulary


@pytest.mark.parametrize("tied", [False, True])
def test_the_extension_leaves_the_english_unchanged(tmp_path, tied):
    """Old ids have the same logits to the bit, and the same probabilities in the softmax over text."""
    folder = write_llm(tmp_path, small_model(tied=tied))
    base, _ = load_pretrained(folder)
    talker, corpus = start_from(folder, toy_corpus(1))
    v = talker.vocabulary
    assert v == corpus.vocabulary
    assert (v.text_size, v.size) == (KNOWN, talker.model.config.vocab_size)
    before = logits_of(base, some_ids())
    after = logits_of(talker.model, some_ids())
    assert torch.equal(after[..., :KNOWN], before)
    pieces = v.text_choices()
    pieces = pieces[pieces < KNOWN]
    assert torch.equal(after[..., pieces].softmax(-1), before[..., pieces].softmax(-1))


def test_what_the_model_had_words_for_begins_as_these(tmp_path):
    """And END takes the place of the model's own end of turn, which itself is never written."""
    folder = write_llm(tmp_path, small_model())
    base, tokeniser = load_pretrained(folder)
    talker, _ = start_from(folder, toy_corpus(1))
    v = talker.vocabulary
    text, start, end = (tokeniser.id_of(name) for name in CONTROLS)
    for mine, ids in (
        (v.bos, [text]),
        (v.user, [start, tokeniser.id_of("user")]),
        (v.assistant, [start, tokeniser.id_of("assistant")]),
        (v.end, [end]),
    ):
        for table in ("embed_tokens", "lm_head"):
            expected = getattr(base, table).weight[ids].mean(0)
            assert torch.equal(getattr(talker.model, table).weight[mine], expected)
    assert not {text, start, end} & set(v.text_choices().tolist())
    ids = some_ids()
    assert torch.allclose(logits_of(talker.model, ids)[..., v.end], logits_of(base, ids)[..., end])


@pytest.mark.parametrize("placed", [False, True])
def test_other_new_rows_are_drawn_near_the_mean_of_the_old_ones(placed):
    """Mean and a share of the spread, within what so many draws allow; so with codes that the codec places, no two equal."""
    model = small_model()
    with torch.no_grad():
        for table in (model.embed_tokens, model.lm_head):
            table.weight += torch.linspace(-2, 2, 16)  # a direction that all rows share
    n = 3000
    corpus = replace(toy_corpus(1, codebook_size=n), tokeniser=TOKENISER)
    codebooks = torch.randn(n, 8) if placed else None
    torch.manual_seed(0)
    larger = extended(resized(model, KNOWN), TOKENISER, corpus.vocabulary, codebooks)
    first = corpus.vocabulary.first_code
    for name in ("embed_tokens", "lm_head"):
        old = getattr(model, name).weight[:KNOWN].detach()
        new = getattr(larger, name).weight[first : first + n].detach()
        assert torch.allclose(new.mean(0), old.mean(0), atol=0.05)
        assert torch.allclose(new.std(0).mean(), SPREAD * old.std(0).mean(), rtol=0.1)
        assert len(new.unique(dim=0)) == n


# ---- through a training, and out


def theirs(transformers, folder, dtype: torch.dtype, ids: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("kind", ["Qwen2", "Llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_what_transformers_writes_computes_the_same_here(tmp_path, transformers, kind, tied):
    """transformers' own random model, saved by itself, in shards. Its angles are in float32 even where all else is not."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=PADDED, intermediate_size=48, rope_theta=777.0, tie_word_embeddings=tied, **sizes
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))  # biases are zero otherwise
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        found = logits_of(read(tmp_path).to(dtype), some_ids())
        assert torch.allclose(
            found, theirs(transformers, tmp_path, dtype, some_ids()), atol=tolerance, rtol=tolerance
        )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lora", [None, 2])
def test_a_trained_talker_is_saved_exported_and_loaded_by_transformers(tmp_path, transformers, tied, lora):
    """Two steps of `exact` on a toy corpus; all ids are compared, the new ones too."""
    folder = write_llm(tmp_path / "llm", small_model(tied=tied))
    start, corpus = start_from(folder, toy_corpus(1))
    Trainer(corpus, tmp_path / "run", replace(SETTINGS, lora=lora), start=start).train()
    talker = Talker.load(tmp_path / "run" / "talker.safetensors")
    assert talker.vocabulary == start.vocabulary
    assert talker.tokeniser.decode(talker.tokeniser.encode("one two")) == "one two"
    assert not torch.equal(talker.model.embed_tokens.weight, start.model.embed_tokens.weight)
    assert main(["export", str(tmp_path / "run" / "talker.safetensors"), "-o", str(tmp_path / "out")]) == 0
    ids = some_ids(talker.vocabulary.size)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        found = logits_of(talker.model.to(dtype), ids)
        assert torch.allclose(
            found, theirs(transformers, tmp_path / "out", dtype, ids), atol=tolerance, rtol=tolerance
        )


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_exported_is_read_back_to_the_bit(tmp_path, tied):
    """And a talker is not taken for a language model: its file says more than the folder does."""
    folder = write_llm(tmp_path / "llm", small_model(tied=tied))
    talker, _ = start_from(folder, toy_corpus(1))
    export_talker(talker, tmp_path / "out", torch.float32)
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == talker.model.config.rope_theta
    assert config["minittt"]["codec"] == "toy"
    assert config["minittt"]["vocabulary"]["text_size"] == KNOWN
    with pytest.raises(MinitttError, match="has minittt"):
        start_from(tmp_path / "out", toy_corpus(1))
    del config["minittt"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    again = read(tmp_path / "out")
    for name, weight in talker.model.named_parameters():
        assert torch.equal(again.get_parameter(name), weight)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == TOKENISER.content


def test_a_start_is_a_talker_a_language_model_or_nothing(tmp_path):
    corpus = toy_corpus(1)
    assert start_from(None, corpus) == (None, corpus)
    talker, read_by_it = start_from(write_llm(tmp_path / "llm", small_model()), corpus)
    talker.save(tmp_path / "talker.safetensors")
    again, same = start_from(tmp_path / "talker.safetensors", read_by_it)
    assert same is read_by_it
    assert again.tokeniser.content == talker.tokeniser.content
    assert again.vocabulary == talker.vocabulary
    one, _ = start_from(tmp_path / "llm", corpus)
    assert torch.equal(one.model.embed_tokens.weight, talker.model.embed_tokens.weight)  # drawn from a seed


def test_the_tables_of_the_chapter_are_what_its_arithmetic_prints(capsys):
    page = (ROOT / "tutorials" / "from_tiny_to_real.md").read_text(encoding="utf-8")
    space: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        if "import transformers" in code:
            continue  # tried where it is installed, in `test_hugging_face.py`
        exec(compile(code, "from_tiny_to_real.md", "exec"), space)
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 6 + 12
    assert all(row in page.splitlines() for row in rows)
    # shards divide what is held, and nothing else; sixteen GPUs that need not wait are sixteen times as fast as one
    model = (1.54e9, 1536, 28, 150)
    whole, parts = (space["on_several"](*model, shard=shard)[0] for shard in (False, True))
    assert whole - parts == pytest.approx(16 * 1.54 * 15 / 16)
    alone = space["budget"](1.54e9, 150)
    assert space["on_several"](*model, shard=False, network=1e30)[2] == pytest.approx(alone[2] / 16)


def test_the_commands_for_several_processes_exist(capsys):
    page = (ROOT / "tutorials" / "from_tiny_to_real.md").read_text(encoding="utf-8")
    lines = re.findall(r"^torchrun (.*)$", page, re.M)
    assert len(lines) == 2
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    helped = capsys.readouterr().out
    for line in lines:
        found = get_args_parser().parse_args(line.split())
        assert found.module and found.training_script == "minittt"
        command, *rest = found.training_script_args
        assert command == "train"
        assert all(option in helped for option in rest if option.startswith("--"))
        processes = int(found.nnodes.split(":")[0]) * int(found.nproc_per_node)
        assert processes * int(rest[rest.index("--accumulate") + 1]) == 64  # parts, as the chapter says


def test_the_commands_of_the_chapter_exist(capsys):
    page = (ROOT / "tutorials" / "from_tiny_to_real.md").read_text(encoding="utf-8")
    lines = re.findall(r"^minittt (\w+)(.*)$", page, re.M)
    assert len(lines) == 5
    for command, rest in lines:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helped = capsys.readouterr().out
        assert all(option in helped for option in re.findall(r"--[a-z-]+", rest)), (command, rest)
