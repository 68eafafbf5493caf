"""The Transformer: RMSNorm, rotary positions, grouped-query attention with QKV bias, SwiGLU (the shape of Qwen2.5).

It knows nothing of audio or diffusion: who sees whom comes in as a mask, and nothing tells it how noisy its input is
(absorbing diffusion needs no time embedding: the number of MASKs says so). Parameter names are those of Hugging Face's
Qwen2 without the leading `model.`, so that a Qwen2 checkpoint loads by name.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minittt.errors import MinitttError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Transformer. `max_length` bounds positions; `n_heads` query heads share `n_kv_heads` keys and values."""

    vocab_size: int
    d_model: int = 160
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    d_ff: int = 432
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    max_length: int = 512

    @property
    def head_dim(self) -> int:
        """Channels per head."""
        return self.d_model // self.n_heads

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads or self.head_dim % 2:
            raise MinitttError(
                f"d_model {self.d_model} must be an even number of channels for each of {self.n_heads} heads"
            )
        if self.n_heads % self.n_kv_heads:
            raise MinitttError(f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}")
        if not (self.rope_theta > 0 and self.norm_eps >= 0):
            raise MinitttError(
                f"rope_theta must be above 0 and norm_eps not below, not {self.rope_theta} and {self.norm_eps}"
            )


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> the same shape."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotary(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles. positions (B, L) -> two of (B, 1, L, head_dim / 2)."""
    precise = torch.promote_types(dtype, torch.float32)
    channel = torch.arange(0, head_dim, 2, device=positions.device, dtype=precise)  # (head_dim / 2,)
    frequency = theta ** -(channel / head_dim)  # (head_dim / 2,)
    position = positions[:, None, :, None].to(precise)  # (B, 1, L, 1)
    angle = position * frequency  # (B, 1, L, head_dim / 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x (B, heads, L, head_dim) by its angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask) -> Tensor:
    """Softmax attention of q (B, heads, L, head_dim) over k, v (B, kv_heads, K, head_dim).

    mask (B, L, K) bool, True = may see; or a BlockMask, for FlexAttention; None: everything is seen.
    """
    if mask is not None and not isinstance(mask, Tensor):
        return _flex_attention(compiled=q.device.type == "cuda")(q, k, v, block_mask=mask, enable_gqa=True)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return _attend_by_hand(q, k, v, mask)
    shared = q.shape[1] // k.shape[1]
    if shared > 1:  # heads that share a key
        k = k.repeat_interleave(shared, dim=1)  # (B, heads, K, head_dim)
        v = v.repeat_interleave(shared, dim=1)
    if mask is not None:
        mask = mask[:, None]  # (B, 1, L, K): the same for all heads
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@lru_cache
def _flex_attention(compiled: bool):
    """torch's FlexAttention. Uncompiled, it makes a dense mask, for checks; compiled, it skips what nobody sees."""
    from torch.nn.attention.flex_attention import flex_attention  # slow to import, and rarely wanted

    return torch.compile(flex_attention) if compiled else flex_attention


def _attend_by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """As `attend`. On a CPU in bfloat16, torch's own kernel takes twice as long."""
    B, heads, L, head_dim = q.shape
    kv_heads, K = k.shape[1:3]
    shared = heads // kv_heads
    q = (q * head_dim**-0.5).reshape(B, kv_heads, shared * L, head_dim)
    scores = q @ k.mT  # (B, kv_heads, shared * L, K)
    scores = scores.view(B, kv_heads, shared, L, K)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=q.dtype)  # (B, L, K)
        hidden = hidden.masked_fill_(~mask, -torch.inf)
        scores = scores + hidden[:, None, None]
    weights = scores.softmax(-1).view(B, kv_heads, shared * L, K)
    return (weights @ v).view(B, heads, L, head_dim)


class Attention(nn.Module):
    """Grouped-query attention under a boolean mask; a cache, if given, does the attending (see `context.py`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.n_heads
        self.kv_heads = config.n_kv_heads
        self.head_dim = config.head_dim
        kv_width = self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.k_proj = nn.Linear(config.d_model, kv_width)
        self.v_proj = nn.Linear(config.d_model, kv_width)
        self.o_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None, angles: tuple[Tensor, Tensor], cache=None) -> Tensor:
        """x (B, L, d), mask (B, L, K) bool, angles from `rotary` -> (B, L, d). K includes what the cache keeps."""
        B, L, _ = x.shape
        q = self.q_proj(x).view(B, L, self.heads, self.head_dim).transpose(1, 2)  # (B, heads, L, head_dim)
        k = self.k_proj(x).view(B, L, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, L, self.kv_heads, self.head_dim).transpose(1, 2)
        cos, sin = angles
        q = rotate(q, cos, sin).to(v.dtype)  # autocast computes only v in bfloat16
        k = rotate(k, cos, sin).to(v.dtype)
        if cache is None:
            y = attend(q, k, v, mask)  # (B, heads, L, head_dim)
        else:
            y = cache.attend(q, k, v)
        y = y.transpose(1, 2).reshape(B, L, -1)  # (B, L, d)
        return self.o_proj(y)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, d) -> (B, L, d)."""
        gate = F.silu(self.gate_proj(x))  # (B, L, d_ff)
        return self.down_proj(gate * self.up_proj(x))


class Layer(nn.Module):
    """Attention, then SwiGLU, each on a normalised copy and added back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, mask: Tensor | None, angles: tuple[Tensor, Tensor], cache=None) -> Tensor:
        """x (B, L, d) -> (B, L, d); arguments as for `Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), mask, angles, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


@torch.no_grad()
def place_codes(model: "Transformer", first_code: int, codebooks: Tensor, spread: float = 0.04) -> None:
    """Initialise the embeddings of audio codes from the codec's latents: codes that sound similar begin close together.

    codebooks (n, dimension): the latent of each code; their ids begin at `first_code`. A random projection roughly
    preserves distances; some noise keeps equal entries apart. spread: standard deviation of the embeddings, per channel.
    """
    weight = model.embed_tokens.weight[first_code : first_code + len(codebooks)]  # (n, d)
    latents = (codebooks - codebooks.mean(0)).to(weight)  # (n, dimension)
    projection = torch.randn(latents.shape[1], weight.shape[1]).to(weight)  # (dimension, d)
    placed = latents @ projection  # (n, d)
    placed = spread * placed / placed.std()
    noise = torch.randn(weight.shape).to(weight)  # (n, d)
    weight.copy_(placed + 0.3 * spread * noise)


def runs_and_gaps(ids: Tensor) -> list[int]:
    """Lengths of the runs in rising ids (n,) and of the gaps between them, alternating: 3 4 5 9 -> [3, 3, 1]."""
    lengths = []
    start = 0
    ends = (ids.diff() > 1).nonzero()[:, 0] + 1  # of all runs but the last
    for end in ends.tolist():
        gap = int(ids[end] - ids[end - 1]) - 1
        lengths += [end - start, gap]
        start = end
    return [*lengths, len(ids) - start]


class Transformer(nn.Module):
    """Token ids and a mask in, logits out; one network for reading, writing and denoising."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # if True, keep only each layer's input, and recompute the layer in the backward pass
        self.gradient_checkpointing = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._initialise()
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                std = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    # what is added to the residual stream starts smaller, the more layers add to it (as in GPT-2)
                    std /= math.sqrt(2 * self.config.n_layers)
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor | None = None, caches: list | None = None
    ) -> Tensor:
        """Last hidden states (B, L, d) of ids (B, L) under mask (B, L, L) bool, True = may see, or a BlockMask.

        positions (B, L): default 0, 1, 2, ... With `caches`, one per layer, it is the caches that say who sees whom.
        """
        B, L = ids.shape
        if positions is None:
            positions = torch.arange(L, device=ids.device).expand(B, L)
        x = self.embed_tokens(ids)  # (B, L, d)
        angles = rotary(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        if caches is None:
            caches = [None] * len(self.layers)
        for layer, cache in zip(self.layers, caches, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                # nothing in a layer is random, so there is no generator state to keep
                x = checkpoint(layer, x, mask, angles, cache, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, mask, angles, cache)
        return self.norm(x)

    def logits(self, hidden: Tensor, choices: Tensor | None = None) -> Tensor:
        """hidden (..., d) -> logits (..., V); with `choices` (n,) long, in rising order, only those of these ids, (..., n).

        Choices are nearly a range (all codes, all text pieces but a few), so the logits of that range are computed from a
        view of the head, and the few others dropped: a head of 150,000 rows is too large to copy in every forward pass.
        """
        weight = self.lm_head.weight  # (V, d)
        if choices is None:
            return hidden @ weight.T
        first = int(choices[0])
        last = int(choices[-1])
        logits = hidden @ weight[first : last + 1].T  # (..., last + 1 - first)
        runs = logits.split(runs_and_gaps(choices), dim=-1)[::2]
        return runs[0] if len(runs) == 1 else torch.cat(runs, dim=-1)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor | None = None) -> Tensor:
        """ids (B, L), mask (B, L, L) bool -> logits (B, L, V)."""
        return self.logits(self.hidden(ids, mask, positions))
