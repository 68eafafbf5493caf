"""A small language model as a Hugging Face folder, written by hand: for tests that must run without transformers."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from minittt.model import ModelConfig, Transformer

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("user", "assistant", "Ġone", "Ġtwo")


@cache
def tokenizer_json() -> bytes:
    """A byte-level BPE: three control tokens, the 256 bytes, and four words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pieces = [*CONTROLS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    tokeniser = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    tokeniser.add_special_tokens([AddedToken(name, special=True) for name in CONTROLS])
    return tokeniser.to_str().encode()


SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "rope_theta": 5000.0}
PADDED = 288  # rows of the vocabulary; the tokeniser has fewer ids


def small_model(seed: int = 0, tied: bool = False, biased: bool = True) -> Transformer:
    """A random Transformer with weights large enough for every path to matter."""
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(PADDED, **SIZES, tie_embeddings=tied))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5 * biased)
            else:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.eval()


def config_of(model: Transformer, kind: str = "qwen2", version: int = 4) -> dict:
    """`config.json` as that version of transformers writes it, the parts that matter."""
    c = model.config
    found = {
        "model_type": kind,
        "vocab_size": c.vocab_size,
        "hidden_size": c.d_model,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "intermediate_size": c.d_ff,
        "rms_norm_eps": c.norm_eps,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "tie_word_embeddings": c.tie_embeddings,
    }
    if version == 4:
        found |= {"rope_theta": c.rope_theta, "rope_scaling": None}
    else:
        found["rope_parameters"] = {"rope_theta": c.rope_theta, "rope_type": "default"}
    if kind == "qwen2":
        found |= {"use_sliding_window": False, "sliding_window": 4096}
    return found


def write_llm(
    folder: Path,
    model: Transformer,
    kind: str = "qwen2",
    version: int = 4,
    dtype: torch.dtype = torch.float32,
    files: int = 1,
) -> Path:
    """Write the model as a Hugging Face folder, its weights in one file or several. Llama's has no biases."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, weight in model.named_parameters():
        if kind == "llama" and name.endswith("bias"):
            continue
        key = name if name.startswith("lm_head") else f"model.{name}"
        tensors[key] = weight.detach().to(dtype).contiguous()
    if files == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        places = {}
        for i in range(files):
            name = f"model-{i + 1:05d}-of-{files:05d}.safetensors"
            part = dict(list(tensors.items())[i::files])
            save_file(part, folder / name, {"format": "pt"})
            places |= dict.fromkeys(part, name)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": places}), encoding="utf-8"
        )
    (folder / "config.json").write_text(json.dumps(config_of(model, kind, version)), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder
