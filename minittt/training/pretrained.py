"""Pretrained language models in and out: a talker starts from a Hugging Face folder, or is exported as one.

In:   models shaped like Qwen2, Qwen2.5 or Llama. What this Transformer cannot compute is refused by the name of its key,
      before any weight is read. The old vocabulary keeps its ids and rows; control tokens, codes, EOA and MASK follow it.
Out:  always Qwen2: it has every part that this Transformer has (Llama has no biases for q, k and v), so that one format
      holds all talkers, including those that never were an LLM.

What is exported is the network. Who sees whom is not part of it: transformers gives every token a causal mask, which
equals ours only where no group has more than one token. Text agrees; blocks of audio need `attention.py`.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minittt.codec import whole_file
from minittt.data.corpus import Corpus
from minittt.data.tokenisers import JsonTokeniser, Tokeniser
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer, place_codes
from minittt.talker import Talker

# Decoding reserves room for the keys and values of this many tokens per row; an LLM's own 32,768 would take gigabytes.
LONGEST = 2048
# The spread of new rows, as a share of that of the old. On SmolLM2, of 1, 0.3 and 0.1: the lowest losses after seven steps.
SPREAD = 0.3

SIZES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "norm_eps": "rms_norm_eps",
}
# What must hold, where it is stated at all: anything else would be a different computation.
ONLY = {
    "model_type": ("qwen2", "llama"),
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "attention_bias": (False,),  # Llama's would have a bias of o_proj
    "mlp_bias": (False,),
    "partial_rotary_factor": (1,),
    "rope_interleaved": (False,),
    "quantization_config": (),
    "minittt": (),  # a talker written by `export_talker`: its file says more
}
ROPE = {"rope_type": ("default",), "type": ("default",), "partial_rotary_factor": (1,)}  # beside rope_theta
DTYPES = {"F64", "F32", "F16", "BF16"}

# Control tokens that begin as the mean of rows that mean nearly the same to the LLM: the first of these that it has.
OWN_TOKENS = {
    "BOS": (["<|begin_of_text|>"], ["<s>"], ["<|endoftext|>"]),
    "USER": (["<|im_start|>", "user"], ["<|start_header_id|>", "user"], ["[INST]"]),
    "ASSISTANT": (["<|im_start|>", "assistant"], ["<|start_header_id|>", "assistant"], ["[/INST]"]),
    "END": (["<|im_end|>"], ["<|eot_id|>"], ["</s>"], ["<|endoftext|>"]),
}


# ---- in


def model_config(config: dict, where: str = "config.json") -> ModelConfig:
    """The sizes in a Hugging Face `config.json`, as transformers 4 or 5 writes it.

    Raises MinitttError naming a key that is missing, or whose value this Transformer cannot compute.
    """
    # 1. What must hold.
    if "model_type" not in config:
        raise MinitttError(f"{where} has no model_type: it must be qwen2 or llama")
    for key, allowed in ONLY.items():
        value = config.get(key)
        if value is not None and value not in allowed:
            wanted = " or ".join(map(repr, allowed)) or "a model without it"
            raise MinitttError(f"{where} has {key} {value!r:.80}; only {wanted} can be loaded")
    for kind in config.get("layer_types") or []:
        if kind != "full_attention":
            raise MinitttError(f"{where} has layer_types {kind!r}; only 'full_attention' can be loaded")
    # 2. The sizes.
    given = dict(config)
    if given.get("num_key_value_heads") is None:  # older than grouped queries: each head has its own keys
        given["num_key_value_heads"] = config.get("num_attention_heads")
    missing = [theirs for theirs in SIZES.values() if given.get(theirs) is None]
    if missing:
        raise MinitttError(f"{where} lacks {', '.join(missing)}")
    sizes = {ours: given[theirs] for ours, theirs in SIZES.items()}
    found = ModelConfig(
        **sizes,
        rope_theta=_rope_theta(config, where),
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),  # the default of both model types
        max_length=min(LONGEST, config.get("max_position_embeddings") or LONGEST),
    )
    head_dim = config.get("head_dim") or found.head_dim
    if head_dim != found.head_dim:
        raise MinitttError(
            f"{where} has head_dim {head_dim}; only hidden_size / num_attention_heads, "
            f"{found.head_dim}, can be loaded"
        )
    return found


def _rope_theta(config: dict, where: str) -> float:
    """The base of the rotary angles: `rope_theta` in transformers 4, inside `rope_parameters` in 5.

    Long-context variants scale the angles and state theta as well: reading theta alone would load, and be silently wrong.
    """
    for key in ("rope_scaling", "rope_parameters"):
        stated = config.get(key) or {}
        for entry, value in stated.items():
            if value is not None and entry != "rope_theta" and value not in ROPE.get(entry, ()):
                raise MinitttError(
                    f"{where} has {key} with {entry} {value!r}; only unscaled angles can be loaded"
                )
    in_version_5 = (config.get("rope_parameters") or {}).get("rope_theta")
    return float(in_version_5 or config.get("rope_theta") or 10_000.0)


def load_pretrained(folder: str | Path) -> tuple[Transformer, JsonTokeniser]:
    """The language model in a Hugging Face folder, unchanged and in float32, and its tokeniser.

    Rows that pad the vocabulary beyond the tokeniser (Qwen's do) are left out: no text has their ids.
    Raises MinitttError if a file, a setting or a weight is missing, unknown, or of another shape.
    """
    folder = Path(folder)
    config = model_config(_read_json(folder, "config.json"), str(folder / "config.json"))
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MinitttError(
            f"{folder} has no tokenizer.json: the model cannot be told what to read without it"
        )
    tokeniser = JsonTokeniser(path.read_bytes(), str(path))
    if len(tokeniser) > config.vocab_size:
        raise MinitttError(
            f"{path} has {len(tokeniser)} ids, but config.json a vocab_size of {config.vocab_size}"
        )
    model = load_weights(folder, config)
    return resized(model, len(tokeniser)), tokeniser


def load_weights(folder: str | Path, config: ModelConfig) -> Transformer:
    """A Transformer of these sizes with the weights in `folder`, from one safetensors file or several, in float32.

    Every key and shape is checked before the first weight is read. Raises MinitttError naming the key.
    """
    folder = Path(folder)
    with torch.device("meta"):  # shapes only: nothing is allocated
        model = Transformer(config)
    wanted = dict(model.named_parameters())  # tied embeddings are listed once, as embed_tokens.weight
    files = _weight_files(folder)
    # 1. Keys, shapes and types.
    places = {}
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118 (a safetensors file is not a dictionary)
                name = key.removeprefix("model.")
                if _is_needless(name, config):
                    continue
                if name not in wanted:
                    raise MinitttError(f"{path} has {key}, for which this Transformer has no place")
                weight = file.get_slice(key)
                shape = tuple(weight.get_shape())
                if shape != tuple(wanted[name].shape):
                    raise MinitttError(
                        f"{path}: {key} has the shape {shape}, but config.json says {tuple(wanted[name].shape)}"
                    )
                if weight.get_dtype() not in DTYPES:
                    raise MinitttError(
                        f"{path}: {key} is of type {weight.get_dtype()}; floating point is read: {', '.join(sorted(DTYPES))}"
                    )
                places[name] = (path, key)
    missing = [name for name in wanted if name not in places and not _is_qkv_bias(name)]
    if missing:
        key = missing[0] if missing[0].startswith("lm_head") else f"model.{missing[0]}"
        raise MinitttError(f"{folder} lacks {key}: {len(missing)} of the weights that config.json asks for")
    # 2. The weights, file by file.
    weights = {name: torch.zeros(parameter.shape) for name, parameter in wanted.items() if name not in places}
    for path in files:
        with _opened(path) as file:
            for name, (place, key) in places.items():
                if place == path:
                    weights[name] = file.get_tensor(key).float()
    return _with_weights(model, weights)


def _with_weights(model: Transformer, weights: dict[str, Tensor]) -> Transformer:
    """A model that had only shapes, given its weights."""
    model.load_state_dict(weights, strict=False, assign=True)
    if model.config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.requires_grad_(True).eval()


def _is_needless(name: str, config: ModelConfig) -> bool:
    """Whether a file may hold this besides the parameters: a second copy of tied embeddings, or angles of older versions."""
    return name.endswith("rotary_emb.inv_freq") or (config.tie_embeddings and name == "lm_head.weight")


def _is_qkv_bias(name: str) -> bool:
    """Llama has none of these: they start at zero, which is the same."""
    return name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))


def _read_json(folder: Path, name: str) -> dict:
    path = folder / name
    if not path.is_file():
        raise MinitttError(
            f"{folder} is no Hugging Face model: it needs {name}, tokenizer.json and *.safetensors files"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MinitttError(f"{path} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise MinitttError(f"{path} is no JSON object")
    return found


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, or the only one."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        path = folder / "model.safetensors"
        if not path.is_file():
            raise MinitttError(
                f"{folder} has no model.safetensors and no {index.name}; other formats are not read"
            )
        return [path]
    names = _read_json(folder, index.name).get("weight_map", {}).values()
    files = [folder / Path(name).name for name in sorted(set(names))]  # never outside the folder
    for path in files:
        if not path.is_file():
            raise MinitttError(f"{index} names {path.name}, which is not there")
    return files


def _opened(path: Path):
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise MinitttError(f"{path} cannot be read ({error})") from error


# ---- a larger vocabulary


def resized(model: Transformer, size: int, spread: float = SPREAD) -> Transformer:
    """The model with `size` rows in its vocabulary: the old rows are kept, and new ones drawn near their mean.

    Near the mean, because rows share a direction that the layers expect and the head scores: a new row gets the logit of a
    token that nothing speaks for. With noise, because equal rows would get equal gradients; `spread` is its size as a share
    of the old rows' own spread, channel by channel. The full spread would be too much: noise that no hidden state was
    trained with gives logits as large as those of words, and a network that is sure of codes it has never seen.
    """
    old = model.config.vocab_size
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for name in ("embed_tokens.weight", "lm_head.weight"):
        if name not in weights:
            continue  # tied
        rows = weights[name].detach()  # (V, d)
        noise = torch.randn(max(0, size - old), rows.shape[1])  # (new, d)
        new = rows.mean(0) + spread * rows.std(0) * noise
        weights[name] = torch.cat([rows[:size], new])
    with torch.device("meta"):
        larger = Transformer(ModelConfig(**{**asdict(model.config), "vocab_size": size}))
    weights = {name: weight.detach() for name, weight in weights.items()}
    return _with_weights(larger, weights)


@torch.no_grad()
def extended(
    model: Transformer, tokeniser: JsonTokeniser, vocabulary: Vocabulary, codebooks: Tensor | None = None
) -> Transformer:
    """The language model with the ids of `vocabulary`: its own first, unchanged, then the others that a talker needs.

    Control tokens for which the LLM has its own words begin as those (`OWN_TOKENS`); codes begin where the codec has
    them, if `codebooks` (n, dimension) is given; the rest is drawn as `resized` says.
    """
    larger = resized(model, vocabulary.size)
    old = larger.embed_tokens.weight[: vocabulary.text_size]  # (V, d)
    if codebooks is not None:
        place_codes(larger, vocabulary.first_code, codebooks, spread=SPREAD * float(old.std(0).mean()))
        larger.embed_tokens.weight[vocabulary.first_code : vocabulary.eoa] += old.mean(0)
    for name, choices in OWN_TOKENS.items():
        for pieces in choices:
            ids = [tokeniser.id_of(piece) for piece in pieces]
            if None in ids:
                continue
            row = getattr(vocabulary, name.lower())
            for table in (larger.embed_tokens, larger.lm_head):
                table.weight[row] = table.weight[ids].mean(0)
            break
    return larger


def start_from(path: str | Path | None, corpus: Corpus, seed: int = 0) -> tuple[Talker | None, Corpus]:
    """What training starts from (nothing, a talker's file, or a folder with a pretrained LLM), and its corpus.

    An LLM brings its tokeniser: the corpus is then read with that.
    """
    if path is None:
        return None, corpus
    if not Path(path).is_dir():
        return Talker.load(path), corpus
    torch.manual_seed(seed)
    model, tokeniser = load_pretrained(path)
    corpus = corpus.read_by(tokeniser)
    codebooks = None if corpus.codebooks is None else torch.from_numpy(corpus.codebooks)
    model = extended(model, tokeniser, corpus.vocabulary, codebooks)
    info = {"codec": corpus.info["codec"]}  # of the corpus: the model itself knows no code yet
    return Talker(model, corpus.vocabulary, tokeniser, info), corpus


# ---- out


def export_talker(talker: Talker, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a Hugging Face folder that transformers loads as Qwen2: config.json, model.safetensors and the tokeniser.

    What each id means, and which codec the codes belong to, is stated in config.json under `minittt`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # 1. The weights, by Qwen2's names.
    tensors = {}
    for name, weight in talker.model.named_parameters():
        key = name if name.startswith("lm_head") else f"model.{name}"
        tensors[key] = weight.detach().cpu().to(dtype).contiguous()
    with whole_file(folder / "model.safetensors") as unfinished:
        save_file(tensors, unfinished, {"format": "pt"})
    # 2. The tokeniser: for text only, without the ids that follow.
    _write_tokeniser(folder, talker.tokeniser)
    # 3. The configuration, last.
    with whole_file(folder / "config.json") as unfinished:
        text = json.dumps(huggingface_config(talker, dtype), indent=2)
        unfinished.write_text(text + "\n", encoding="utf-8")


def _write_tokeniser(folder: Path, tokeniser: Tokeniser) -> None:
    name = "tokenizer.json" if isinstance(tokeniser, JsonTokeniser) else "tokeniser.model"
    with whole_file(folder / name) as unfinished:
        unfinished.write_bytes(tokeniser.content)


def huggingface_config(talker: Talker, dtype: torch.dtype) -> dict:
    """`config.json` of a talker, readable by transformers 4 and 5."""
    config = talker.model.config
    found = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
    about = {"vocabulary": asdict(talker.vocabulary), "codec": talker.info["codec"]}
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **found,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_length,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "use_sliding_window": False,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": talker.vocabulary.bos,
        "eos_token_id": talker.vocabulary.end,
        "pad_token_id": talker.vocabulary.pad,
        "minittt": about,
    }
