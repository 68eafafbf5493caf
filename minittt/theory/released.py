"""What the released TtT code does differently: kept for parity and comparison, used nowhere else.

Four things differ from this project's own way; each is written here once, plainly, with nothing cached:

weights     Hugging Face's Qwen2 files, untied, with four more keys in `config.json`
classes     a token is audio if its id is `first_audio` or more, including MASK and what ends a span; what
            opens a span is text. Who speaks is neither known nor needed: every run of audio is one group
training    one masking probability for a whole row, two normalisers, one softmax over all ids
decoding    a span has no class restriction; the most likely candidates are committed; guidance forgets the past
            by writing MASK over it, which turns all of it into one span that sees itself in both directions

Everything is checked against recordings of the original (law 13): masks, noise and greedy ids exactly; logits,
losses and gradients up to float32 rounding.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from minittt.attention import visible
from minittt.diffusion import corrupt, mask_probability
from minittt.errors import MinitttError
from minittt.model import ModelConfig, Transformer

# ---- weights

_SIZES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "max_length": "max_position_embeddings",
}
_FIXED = {"model_type": "qwen2", "hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}
_EXTRA = ("audio_token_id_start", "mask_token", "unmasked_audio_prob", "prefix_preservation_ratio")


def load_qwen2(folder: str | Path) -> tuple[Transformer, dict]:
    """A Transformer in float32 from Hugging Face's `config.json` and `*.safetensors` of a Qwen2 model.

    Returns it with what TtT adds to the configuration: those of `audio_token_id_start`, `mask_token`,
    `unmasked_audio_prob` (BANOM) and `prefix_preservation_ratio` (PPM) that are there.
    Raises MinitttError if a file, a setting or a weight is missing, unknown, or of another shape.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise MinitttError(f"{folder} is no Hugging Face model: it needs config.json and *.safetensors files")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = Transformer(_sizes(config))
    wanted = dict(model.named_parameters())  # tied embeddings are listed once, as embed_tokens.weight
    found = {key.removeprefix("model."): value for file in files for key, value in load_file(file).items()}
    if wanted.keys() != found.keys():
        missing = sorted(wanted.keys() - found.keys())
        odd = sorted(found.keys() - wanted.keys())
        raise MinitttError(f"the weights in {folder} are not those of Qwen2: missing {missing}, odd {odd}")
    for name, parameter in wanted.items():
        if parameter.shape != found[name].shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(parameter.shape)} as config.json says"
            raise MinitttError(f"{name} in {folder} has the shape {shapes}")
        parameter.data.copy_(found[name])
    return model, {key: config[key] for key in _EXTRA if key in config}


def _sizes(config: dict) -> ModelConfig:
    if missing := [theirs for theirs in _SIZES.values() if theirs not in config]:
        raise MinitttError(f"config.json lacks {', '.join(missing)}")
    for key, only in _FIXED.items():
        if config.get(key, only) != only:
            raise MinitttError(f"config.json has {key} {config[key]!r}; only {only!r} can be loaded")
    return ModelConfig(**{ours: config[theirs] for ours, theirs in _SIZES.items()})


# ---- classes, groups, mask


@dataclass(frozen=True)
class ReleasedIds:
    """The ids that the released code tells apart."""

    first_audio: int  # from here on audio: codes, MASK and `enders`; below it text: everything else
    mask: int
    end_of_turn: int
    openers: tuple[int, ...]  # a text token that starts a span
    enders: tuple[int, ...]  # an audio token that ends one


def released_groups(ids: Tensor, first_audio: int) -> Tensor:
    """Group numbers from ids alone, (B, L) -> (B, L), counted from 0: the released rule as a number.

    The rule: a query sees what is not after it; an audio query also sees all audio with as many text tokens
    before it. So a run of audio is one group, and so is a text token. It does not matter which audio is MASK.
    """
    text = ids < first_audio
    count = 2 * text.cumsum(1) - text.long()  # (B, L): never falls; odd at text, even and equal in a run
    return (count.diff(dim=1, prepend=torch.full_like(count[:, :1], -1)) > 0).cumsum(1) - 1


def released_mask(ids: Tensor, real: Tensor, first_audio: int) -> Tensor:
    """Who sees whom, (B, L, L) bool, for ids (B, L), where `real` (B, L) bool marks what is not padding.

    Padding is on the right. As a query it sees all real tokens, but nobody reads its output.
    """
    groups = released_groups(ids, first_audio)
    return visible(groups, groups) & real[:, None]


# ---- noise


class Draws(NamedTuple):
    """The random numbers for one noised batch, in the order in which the released code draws them."""

    u_prefix: Tensor  # (B,) uniform: does the row keep a prefix clean?
    split_draw: Tensor  # (n,) long: for each row that does and has a maskable span, where one of them starts
    u_t: Tensor  # (B,) uniform: the row's time
    u_mask: Tensor  # (B, L) uniform: is the token masked?


class ReleasedNoise(NamedTuple):
    """What the draws result in."""

    masked: Tensor  # (B, L) bool
    ids: Tensor  # (B, L): MASK where masked
    p_mask: Tensor  # (B,): the row's masking probability
    answer_lengths: Tensor  # (B,): how many tokens of the row could have been masked, at least 1


def released_noise(
    ids: Tensor, real: Tensor, prompt_lengths: Tensor, draws: Draws, prefix_ratio: float, layout: ReleasedIds
) -> ReleasedNoise:
    """The noise of one batch, ids (B, L), real (B, L) bool, prompt_lengths (B,) (the paper's PPM).

    Audio after the prompt may be masked; with probability `prefix_ratio` only from a random one of its spans on.
    With several turns, the lengths of all prompts are summed into one, so part of the first reply stays clean
    and a later question may be masked: kept as in the original. Raises MinitttError for a wrong `split_draw`.
    """
    position = torch.arange(ids.shape[1], device=ids.device)  # (L,)
    audio = ids >= layout.first_audio
    maskable = audio & real & (position >= prompt_lengths[:, None])  # (B, L)
    starts = maskable & ~F.pad(audio[:, :-1], (1, 0))  # (B, L): a span that began in the prompt has none
    keeps_prefix = (draws.u_prefix < prefix_ratio) & starts.any(1)  # (B,)
    rows = keeps_prefix.nonzero()[:, 0]  # (n,)
    if draws.split_draw.shape != rows.shape or not starts[rows, draws.split_draw].all():
        found = draws.split_draw.tolist()
        raise MinitttError(
            f"split_draw is {found}; it must be a maskable span's start in rows {rows.tolist()}"
        )
    split = torch.zeros_like(prompt_lengths).index_copy(0, rows, draws.split_draw)  # (B,)
    maskable = maskable & (position >= split[:, None])
    p_mask = mask_probability(draws.u_t, 1e-3)  # (B,)
    masked = maskable & (draws.u_mask < p_mask[:, None])
    return ReleasedNoise(masked, corrupt(ids, masked, layout.mask), p_mask, maskable.sum(1).clamp(min=1))


# ---- losses


def released_ar_loss(logits: Tensor, labels: Tensor, first_audio: int) -> Tensor:
    """Next-token cross-entropy of text: a mean per row, then over all rows, even those without text.

    logits (B, L, V) over all ids, labels (B, L), -100 where there is nothing to learn -> a scalar in nats. A
    short reply weighs as much as a long one.
    """
    target = labels[:, 1:]  # (B, L - 1)
    text = (target >= 0) & (target < first_audio)  # (B, L - 1)
    by_class = logits[:, :-1].transpose(1, 2)  # (B, V, L - 1)
    losses = F.cross_entropy(by_class, target.where(text, -100), reduction="none")  # (B, L - 1)
    by_row = losses.sum(1) / text.sum(1).clamp(min=1)  # (B,)
    return by_row.mean()


def released_diffusion_loss(logits: Tensor, labels: Tensor, noise: ReleasedNoise) -> Tensor:
    """Cross-entropy at the masked positions themselves, divided by p_mask and by how many could have been masked.

    logits (B, L, V), labels (B, L) -> a scalar in nats, the mean over all B rows, added to the text loss; a
    batch left clean (BANOM) goes without it. A masked question has label -100 and costs nothing.
    """
    by_class = logits.transpose(1, 2)  # (B, V, L)
    targets = labels.where(noise.masked, -100)  # (B, L)
    losses = F.cross_entropy(by_class, targets, reduction="none")  # (B, L)
    by_row = losses.sum(1) / noise.p_mask / noise.answer_lengths  # (B,)
    return by_row.mean()


# ---- greedy generation


@dataclass(frozen=True)
class ReleasedSettings:
    """How to decode: `steps` for each block; `guidance` s for un + (1 + s)(cond - un), no second row at 0."""

    block_size: int = 26
    steps: int = 2
    guidance: float = 0.0
    max_new: int = 512  # tokens in all; checked only between runs, see `generate_released`
    gen_length: int = 2600  # slots of one run of blocks, a multiple of `block_size`
    min_text_after_audio: int = 0  # tokens that have to follow a span before the turn may end

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.gen_length < 1 or self.gen_length % self.block_size:
            raise MinitttError(
                f"gen_length must be a multiple of block_size, {self.block_size} slots, not {self.gen_length}"
            )


class Forward(NamedTuple):
    """One call to the network: what it was for and what it was given, (1 or 2, L)."""

    diffusion: bool
    ids: Tensor


class ReleasedReply(NamedTuple):
    """The prompt with everything generated after it, and every forward pass it took."""

    ids: list[int]
    forwards: list[Forward]

    def cost(self) -> tuple[int, int, int]:
        """AR forwards, diffusion forwards (two rows count once), tokens forwarded in all of them."""
        diffusion = sum(forward.diffusion for forward in self.forwards)
        tokens = sum(forward.ids.numel() for forward in self.forwards)
        return len(self.forwards) - diffusion, diffusion, tokens


@torch.no_grad()
def generate_released(
    model: Transformer, prompt: list[int], layout: ReleasedIds, settings: ReleasedSettings
) -> ReleasedReply:
    """Continue one prompt greedily; every forward pass computes all positions anew, on the model's device.

    Neither text nor audio is restricted to its class. A span is filled in runs of at most `gen_length` slots; a run
    without an ender leaves the span open, and the next run continues it. `max_new` is checked between text tokens
    and between runs, never inside a run: so a reply may exceed it by at most one run, and may end in an open span,
    as in the original.
    """
    ids = list(prompt)
    forwards = []
    limit = len(prompt) + settings.max_new
    owed = 0  # text tokens that must still follow the last span
    in_span = False
    while len(ids) < limit:
        # 1. In a span: one run of blocks. Without an ender the span stays open.
        if in_span:
            ids += _fill_run(model, ids, layout, settings, forwards)
            in_span = ids[-1] not in layout.enders
            owed = settings.min_text_after_audio
            continue
        # 2. One text token, the most likely one.
        row = torch.tensor([ids], device=model.embed_tokens.weight.device)  # (1, L)
        logits = _look(model, row, layout, forwards, diffusion=False)[0, -1]  # (V,)
        if owed > 0:
            logits[layout.end_of_turn] = -torch.inf
        ids.append(int(logits.argmax()))
        owed -= 1
        if ids[-1] == layout.end_of_turn:
            break
        in_span = ids[-1] in layout.openers
    return ReleasedReply(ids, forwards)


def _look(model: Transformer, ids: Tensor, layout: ReleasedIds, forwards: list, diffusion: bool) -> Tensor:
    """One recorded forward pass: ids (R, L) -> logits (R, L, V), under the mask that follows from the ids."""
    forwards.append(Forward(diffusion, ids))
    everything_is_real = torch.ones_like(ids, dtype=torch.bool)  # (R, L)
    mask = released_mask(ids, everything_is_real, layout.first_audio)  # (R, L, L)
    return model(ids, mask)


def _fill_run(
    model: Transformer, past: list[int], layout: ReleasedIds, settings: ReleasedSettings, forwards: list
) -> list[int]:
    """The blocks of a span, until one holds an ender or there are `gen_length` slots."""
    run: list[int] = []
    while len(run) < settings.gen_length:
        run += _fill_block(model, past + run, layout, settings, forwards)
        if run[-1] in layout.enders:
            break
    return run


def _fill_block(
    model: Transformer, past: list[int], layout: ReleasedIds, settings: ReleasedSettings, forwards: list
) -> list[int]:
    """The next block of a span, up to and including its first ender if it has one."""
    n = settings.block_size
    s = settings.guidance
    start = len(past)
    ids = torch.tensor(past + [layout.mask] * n, device=model.embed_tokens.weight.device)  # (L,)
    for step in range(settings.steps):
        # 1. What the network says of the block, with guidance against a second row that has forgotten the past:
        #    MASK is audio, so that row is a single span.
        rows = ids.repeat(2 if s else 1, 1)  # (1 or 2, L)
        rows[1:, :start] = layout.mask
        found = _look(model, rows, layout, forwards, diffusion=True)[:, start:]  # (1 or 2, n, V)
        logits = found[0]  # (n, V)
        if s:
            cond, un = found
            logits = un + (1 + s) * (cond - un)
        logits[:, layout.end_of_turn] = -torch.inf
        # 2. Greedy: the most likely token for each slot. It may be MASK itself: then it is drawn again, or stays.
        confidence, candidates = logits.softmax(-1).max(-1)  # (n,), (n,)
        confidence = confidence.masked_fill(ids[start:] != layout.mask, -torch.inf)
        # 3. The surest slots are revealed, an even share per step; the first steps take the remainder. Sure slots tie at
        #    1.0, and which of them topk takes depends on the length of its input: so a row as long as the original's.
        share = n // settings.steps
        if step < n % settings.steps:
            share += 1
        whole_row = F.pad(confidence, (start, 0), value=-torch.inf)  # (L,)
        best = whole_row.topk(share).indices
        ids[best] = candidates[best - start]
    block = ids[start:].tolist()
    for i, token in enumerate(block):
        if token in layout.enders:
            return block[: i + 1]
    return block
