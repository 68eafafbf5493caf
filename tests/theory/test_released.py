"""Parity with the released TtT code: the figures in `tests/golden/` (its README says what they are).

Masks, noise, greedy ids and the input of every forward are compared exactly; losses, gradient norms and
logits to a relative 1e-5, which is what float32 and another order of summation leave.
"""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from minittt.attention import PAD_KIND, TARGET, TEXT, assign_groups, group_mask
from minittt.context import RecomputingContext
from minittt.decoding import Settings, TokenClasses, collect, generate
from minittt.errors import MinitttError
from minittt.theory.released import (
    Draws,
    ReleasedIds,
    ReleasedNoise,
    ReleasedSettings,
    generate_released,
    load_qwen2,
    released_ar_loss,
    released_diffusion_loss,
    released_groups,
    released_mask,
    released_noise,
)
from minittt.unmasking import Sampling, confidence_released

GOLDEN = Path(__file__).parents[1] / "golden"
MASKS, RECORDED, REPLIES = (
    np.load(GOLDEN / f"{name}.npz", allow_pickle=False) for name in ("masks", "released", "generate")
)
LAYOUT = ReleasedIds(first_audio=307, mask=564, end_of_turn=302, openers=(304, 305), enders=(565, 566))
V, PAD = 568, 300
BATCHES = ("b0", "b1", "b4", "b5")
NOISED = [(batch, f"diff{k}") for batch in BATCHES for k in range(3)]
FORWARDS = [  # random weights: a clean and three noised forwards; trained ones: a clean and a noised one
    (batch, weights, part)
    for batch in BATCHES
    for weights, parts in (("random", ("ar", "diff0", "diff1", "diff2")), ("toy", ("ar", "diff0")))
    for part in parts
]


def recorded(name: str) -> torch.Tensor:
    values = torch.from_numpy(RECORDED[name])
    return values.long() if values.dtype == torch.int16 else values


@cache
def network(weights: str):
    return load_qwen2(GOLDEN / weights)[0]


def batch_of(batch: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(MASKS[f"{batch}_input_ids"]).long(), torch.from_numpy(
        MASKS[f"{batch}_attention_mask"]
    )


def noise_of(batch: str, part: str) -> ReleasedNoise:
    ids, real = batch_of(batch)
    draws = Draws(*(recorded(f"{batch}_{part}_{name}") for name in Draws._fields))
    ratio = recorded(f"{batch}_{part}_prefix_ratio").item()
    return released_noise(ids, real, recorded(f"{batch}_prompt_lengths"), draws, ratio, LAYOUT)


# ---- noise


@pytest.mark.parametrize("batch, part", NOISED)
def test_law_07_recorded_draws_give_the_recorded_noise(batch, part):
    noise = noise_of(batch, part)
    assert torch.equal(noise.masked, recorded(f"{batch}_{part}_masked"))
    assert torch.equal(noise.ids, recorded(f"{batch}_{part}_noisy_ids"))
    assert torch.equal(noise.p_mask, recorded(f"{batch}_{part}_p_mask"))
    assert torch.equal(noise.answer_lengths, recorded(f"{batch}_{part}_answer_lengths"))


def test_law_07_a_split_that_is_no_start_of_a_maskable_span_is_refused():
    ids, real = torch.tensor([[1, 310, 311, 2, 312, 313]]), torch.ones(1, 6, dtype=torch.bool)
    prompt, half = torch.tensor([2]), torch.tensor([0.5])
    noise = released_noise(
        ids, real, prompt, Draws(half, torch.tensor([4]), half, torch.ones(1, 6)), 1.0, LAYOUT
    )
    assert noise.answer_lengths.tolist() == [2]
    nowhere = torch.tensor([6])  # the prompt covers all: there is no span to choose from, and no draw is made
    none = torch.zeros(0, dtype=torch.long)
    noise = released_noise(ids, real, nowhere, Draws(half, none, half, torch.zeros(1, 6)), 1.0, LAYOUT)
    assert not noise.masked.any()
    assert noise.answer_lengths.tolist() == [1]
    for split in ([5], [1], [2], []):  # inside a span; in the prompt; in a span begun there; none
        draws = Draws(half, torch.tensor(split, dtype=torch.long), half, torch.ones(1, 6))
        with pytest.raises(MinitttError, match="split_draw"):
            released_noise(ids, real, prompt, draws, 1.0, LAYOUT)


# ---- groups and masks


@st.composite
def padded_rows(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, L) of text and audio in any order, MASK included, and which are real; padding at the right."""
    length, rows = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    token = st.sampled_from([5, 302, 304, 307, 400, 564, 565])
    ids = torch.tensor([[draw(token) for _ in range(length)] for _ in range(rows)])
    sizes = torch.tensor([[draw(st.integers(1, length))] for _ in range(rows)])
    real = torch.arange(length) < sizes
    return ids.where(real, PAD), real


@given(padded_rows())
def test_law_10_released_groups_are_ours_and_its_mask_is_its_rule(batch):
    ids, real = batch
    kinds = torch.where(ids >= LAYOUT.first_audio, TARGET, TEXT)
    assert torch.equal(released_groups(ids, LAYOUT.first_audio), assign_groups(kinds, None))
    mask = released_mask(ids, real, LAYOUT.first_audio)
    for b, row in enumerate(ids.tolist()):
        texts = [sum(token < 307 for token in row[: i + 1]) for i in range(len(row))]
        for q in range(len(row)):
            for k in range(len(row)):
                same_span = row[q] >= 307 and row[k] >= 307 and texts[q] == texts[k]
                assert mask[b, q, k] == ((k <= q or same_span) and bool(real[b, k]))
    ours = group_mask(assign_groups(kinds.masked_fill(~real, PAD_KIND), None))
    assert torch.equal(mask[real], ours[real])


@pytest.mark.parametrize("batch", BATCHES)
def test_law_10_recorded_masks_follow_from_ids_clean_or_noisy(batch):
    ids, real = batch_of(batch)
    released = np.unpackbits(MASKS[f"{batch}_visible"], axis=-1)[..., : ids.shape[1]]
    for given_ids in (ids, recorded(f"{batch}_diff0_noisy_ids")):
        assert torch.equal(released_mask(given_ids, real, 307), torch.from_numpy(released).bool())


# ---- losses


@pytest.mark.parametrize("batch, weights, part", FORWARDS)
def test_law_13_losses_gradients_and_logits_are_those_recorded(batch, weights, part):
    (ids, real), labels, model = batch_of(batch), recorded(f"{batch}_labels"), network(weights)
    noise = None if part == "ar" else noise_of(batch, part)
    logits = model(ids if noise is None else noise.ids, released_mask(ids, real, 307))  # (B, L, V)
    losses = [released_ar_loss(logits, labels, LAYOUT.first_audio)]
    if noise is not None:
        losses.append(released_diffusion_loss(logits, labels, noise))
    near = dict(rtol=1e-5, atol=0.0)
    torch.testing.assert_close(
        torch.stack(losses).detach(), recorded(f"{batch}_{weights}_{part}_losses"), **near
    )

    names = [str(name).removeprefix("model.") for name in RECORDED["grad_names"]]
    parameters = dict(model.named_parameters())
    assert parameters.keys() == set(names)
    gradients = torch.autograd.grad(sum(losses), [parameters[name] for name in names])
    norms = torch.stack([gradient.norm() for gradient in gradients])
    torch.testing.assert_close(norms, recorded(f"{batch}_{weights}_{part}_grad_norm"), **near)

    whole = {"logsumexp": logits.logsumexp(-1), "label_logit": logits.gather(-1, ids[..., None])[..., 0]}
    whole["logits_at_16"] = logits[:, 16]
    for name, ours in whole.items():
        if (key := f"{batch}_{weights}_{part}_{name}") in RECORDED:
            theirs = recorded(key)
            torch.testing.assert_close(ours.detach(), theirs, rtol=0.0, atol=1e-5 * theirs.abs().max().item())
    if (key := f"{batch}_{weights}_{part}_argmax") in RECORDED:
        assert torch.equal(logits.argmax(-1), recorded(key))


@given(padded_rows(), st.integers(0, 2**32 - 1))
def test_law_13_losses_are_their_two_sums(batch, seed):
    """Written out row by row; rows without text, without masks and without labels among them."""
    (ids, real), generator = batch, torch.Generator().manual_seed(seed)
    B, L = ids.shape
    logits = torch.randn(B, L, V, dtype=torch.float64, generator=generator)
    labels = ids.where(real & (torch.rand(B, L, generator=generator) < 0.7), -100)
    masked = (ids >= 307) & (torch.rand(B, L, generator=generator) < 0.5)
    p, lengths = (
        torch.rand(B, generator=generator).double() + 0.1,
        torch.randint(1, 9, (B,), generator=generator),
    )
    cost = -logits.log_softmax(-1)
    ar = diffusion = 0.0
    for b in range(B):
        texts = [(i, labels[b, i]) for i in range(1, L) if 0 <= labels[b, i] < 307]
        ar += sum(cost[b, i - 1, label].item() for i, label in texts) / max(1, len(texts)) / B
        for i in range(L):
            if masked[b, i] and labels[b, i] != -100:
                diffusion += cost[b, i, labels[b, i]].item() / p[b].item() / lengths[b].item() / B
    noise = ReleasedNoise(masked, ids, p, lengths)
    assert released_ar_loss(logits, labels, 307).item() == pytest.approx(ar, rel=1e-12)
    assert released_diffusion_loss(logits, labels, noise).item() == pytest.approx(diffusion, rel=1e-12)


# ---- generation

SETTINGS = [(steps, scale) for steps in (1, 2, 4, 8) for scale in (0.0, 0.1, 1.0)]


def reply_to(prompt: int, settings: ReleasedSettings, model=None):
    return generate_released(model or network("toy"), REPLIES[f"prompt{prompt}"].tolist(), LAYOUT, settings)


@pytest.mark.parametrize("steps, scale", SETTINGS)
@pytest.mark.parametrize("prompt", range(4))
def test_law_13_greedy_replies_and_every_forward_are_those_recorded(prompt, steps, scale):
    key = f"toy_p{prompt}_s{steps}_c{scale}"
    ids_robust, trace_robust = REPLIES[f"{key}_robust"]
    reply = reply_to(prompt, ReleasedSettings(8, steps, scale, max_new=120, gen_length=32))
    assert ids_robust  # true of all of them; what is not robust would prove nothing
    assert reply.ids == REPLIES[f"{key}_ids"].tolist()
    assert list(reply.cost()) == REPLIES[f"{key}_calls"].tolist()
    if f"{key}_trace_flat" in REPLIES:
        assert trace_robust
        assert [f.diffusion for f in reply.forwards] == REPLIES[f"{key}_trace_is_diffusion"].tolist()
        assert [list(f.ids.shape) for f in reply.forwards] == REPLIES[f"{key}_trace_shape"].tolist()
        given_ids = torch.cat([f.ids.flatten() for f in reply.forwards])
        assert given_ids.tolist() == REPLIES[f"{key}_trace_flat"].tolist()


@pytest.mark.parametrize("prompt", range(3))
def test_law_13_a_turn_may_not_end_soon_after_audio(prompt):
    settings = ReleasedSettings(8, 2, max_new=120, gen_length=32, min_text_after_audio=3)
    reply = reply_to(prompt, settings)
    assert reply.ids == REPLIES[f"toy_p{prompt}_mintext3_ids"].tolist()
    assert list(reply.cost()) == REPLIES[f"toy_p{prompt}_mintext3_calls"].tolist()


def test_law_13_guidance_forgets_the_past_and_makes_it_one_span():
    """The second row of a guided forward holds no text, so that every position sees every other."""
    reply = reply_to(1, ReleasedSettings(8, 2, 1.0, max_new=20, gen_length=32))
    first = next(forward.ids for forward in reply.forwards if forward.diffusion)  # (2, L)
    mask = released_mask(first, torch.ones_like(first, dtype=torch.bool), 307)
    assert not mask[0].all()
    assert mask[1].all()
    assert (first[1] == LAYOUT.mask).all()


class Stubborn(torch.nn.Module):
    """Opens a span, and in it is sure of MASK in a share of the slots (of 4), elsewhere of code 400."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.embed_tokens, self.share = torch.nn.Embedding(1, 1), share

    def forward(self, ids, mask):
        logits = torch.zeros(*ids.shape, V)
        logits[:, -1, LAYOUT.openers[0]] = 5.0
        audio = ids == LAYOUT.mask
        slot = torch.arange(ids.shape[1])
        logits[..., 400] += 8.0 * audio
        logits[..., LAYOUT.mask] += 9.0 * (audio & (slot % 4 < 4 * self.share))
        return logits


@pytest.mark.parametrize("share, steps", [(1.0, 1), (1.0, 3), (0.5, 2), (0.5, 12), (0.0, 3)])
def test_law_13_mask_is_left_where_it_is_predicted_and_a_span_without_end_stops(share, steps):
    reply = reply_to(0, ReleasedSettings(8, steps, max_new=20, gen_length=8), Stubborn(share))
    start = len(REPLIES["prompt0"])
    assert len(reply.ids) == start + 1 + 3 * 8  # the opener, and blocks until there are 20 tokens
    assert reply.ids[start] == LAYOUT.openers[0]
    for i, token in enumerate(reply.ids[start + 1 :], start + 1):
        assert token == (LAYOUT.mask if i % 4 < 4 * share else 400)
    assert reply.cost()[:2] == (1, 3 * steps)


@given(st.integers(1, 60), st.integers(1, 5))
def test_law_13_the_cap_is_looked_at_between_runs_of_a_span_alone(max_new, blocks):
    """The opener, then whole runs of `blocks` blocks until the cap is reached; the reply ends in an open span."""
    run = 8 * blocks
    reply = reply_to(0, ReleasedSettings(8, 1, max_new=max_new, gen_length=run), Stubborn(0.0))
    n_runs = -(-(max_new - 1) // run)
    assert len(reply.ids) - len(REPLIES["prompt0"]) == 1 + n_runs * run
    assert reply.cost()[:2] == (1, n_runs * blocks)
    assert reply.ids[-1] == (400 if n_runs else LAYOUT.openers[0])


class Wordy(torch.nn.Module):
    """Opens a span, fills a first block without an end, ends the second at its third slot, then ends the turn."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(1, 1)

    def forward(self, ids, mask):
        n_prompt = len(REPLIES["prompt0"])
        logits = torch.zeros(*ids.shape, V)
        logits[..., 400] = 5.0
        logits[:, n_prompt + 11 :, LAYOUT.enders[0]] = 9.0
        last = ids[0, -1].item()
        if last in LAYOUT.enders:
            logits[:, -1, LAYOUT.end_of_turn] = 20.0
        elif ids.shape[1] == n_prompt:
            logits[:, -1, LAYOUT.openers[0]] = 20.0
        return logits


@pytest.mark.parametrize("gen_length", [8, 16, 24])
def test_law_13_a_span_goes_on_after_a_run_without_an_end(gen_length):
    """And is the same span, whatever the length of a run: the end is found in the second block."""
    reply = reply_to(0, ReleasedSettings(8, 1, max_new=50, gen_length=gen_length), Wordy())
    new = reply.ids[len(REPLIES["prompt0"]) :]
    assert new == [LAYOUT.openers[0], *[400] * 10, LAYOUT.enders[0], LAYOUT.end_of_turn]
    assert reply.cost()[:2] == (2, 2)


@pytest.mark.parametrize("block, gen_length", [(8, 20), (8, 4), (0, 8), (8, 0)])
def test_law_13_a_run_is_a_whole_number_of_blocks(block, gen_length):
    with pytest.raises(MinitttError, match="gen_length must be a multiple of block_size"):
        ReleasedSettings(block, gen_length=gen_length)


@pytest.mark.parametrize("prompt", [0, 3])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_law_13_the_block_decoder_is_the_released_one_where_classes_keep_apart(prompt, steps):
    """Full spans, its commit rule, greedy, no guidance: the same reply in the same number of forwards.

    The replies chosen have one kind of span and no token of the wrong class.
    """
    ids = torch.arange(V)
    text = (ids < LAYOUT.first_audio) & (ids != PAD)
    audio = (ids >= 308) & (ids < LAYOUT.mask) | (ids == 566)
    classes = TokenClasses(
        text, audio, open_audio=305, end_audio=566, end=LAYOUT.end_of_turn, mask=LAYOUT.mask, pad=PAD
    )
    greedy = Sampling(temperature=0.0)
    settings = Settings(
        8,
        full_span=True,
        steps=steps,
        policy=confidence_released,
        text_sampling=greedy,
        audio_sampling=greedy,
    )
    start = REPLIES[f"prompt{prompt}"].tolist()
    groups = released_groups(torch.tensor([start]), LAYOUT.first_audio).tolist()
    context = RecomputingContext(network("toy"), 1, PAD)
    [end] = collect(generate(context, [start], groups, classes, settings, [torch.Generator().manual_seed(0)]))
    assert start + list(end.ids) == REPLIES[f"toy_p{prompt}_s{steps}_c0.0_ids"].tolist()
    assert end.nfe == REPLIES[f"toy_p{prompt}_s{steps}_c0.0_calls"][:2].sum()


# ---- weights


def copy_of(folder: Path, change_config=lambda config: None, change_weights=lambda weights: None) -> Path:
    """A copy of the recorded model with something changed."""
    folder.mkdir(exist_ok=True)
    config, weights = (
        json.loads((GOLDEN / "toy/config.json").read_text(encoding="utf-8")),
        load_file(GOLDEN / "toy/model.safetensors"),
    )
    change_config(config)
    change_weights(weights)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(weights, folder / "model.safetensors")
    return folder


def test_weights_arrive_whole_with_what_ttt_adds_to_the_configuration():
    model, extra = load_qwen2(GOLDEN / "toy")
    file = load_file(GOLDEN / "toy/model.safetensors")
    loaded = dict(model.named_parameters())
    assert {f"model.{name}" if name != "lm_head.weight" else name for name in loaded} == file.keys()
    assert all(torch.equal(loaded[key.removeprefix("model.")], value) for key, value in file.items())
    assert extra == {
        "audio_token_id_start": LAYOUT.first_audio,
        "mask_token": LAYOUT.mask,
        "unmasked_audio_prob": 0.3,
        "prefix_preservation_ratio": 0.3,
    }


def test_weights_may_be_tied_halved_and_in_several_files(tmp_path):
    def tie(config):
        config.update(tie_word_embeddings=True)

    folder = copy_of(tmp_path, tie, lambda weights: weights.pop("lm_head.weight"))
    whole = {key: value.bfloat16() for key, value in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    for i, keys in enumerate((sorted(whole)[:9], sorted(whole)[9:])):
        save_file({key: whole[key] for key in keys}, folder / f"model-0000{i + 1}-of-00002.safetensors")
    model, _ = load_qwen2(folder)
    assert model.lm_head.weight is model.embed_tokens.weight
    assert torch.equal(model.norm.weight, whole["model.norm.weight"].float())


CONFIG_FAULTS = {
    "lacks hidden_size": lambda config: config.pop("hidden_size"),
    "hidden_act 'gelu'": lambda config: config.update(hidden_act="gelu"),
    "model_type 'llama'": lambda config: config.update(model_type="llama"),
    "rope_scaling": lambda config: config.update(rope_scaling={"type": "yarn"}),
    "lm_head.weight": lambda config: config.update(tie_word_embeddings=True),
    "shape .* as config.json says": lambda config: config.update(intermediate_size=96),
}
WEIGHT_FAULTS = {
    r"missing \['norm.weight'\]": lambda weights: weights.pop("model.norm.weight"),
    r"odd \['extra.weight'\]": lambda weights: weights.update({"model.extra.weight": torch.zeros(1)}),
}


@pytest.mark.parametrize("message", CONFIG_FAULTS)
def test_weights_a_wrong_configuration_is_named(tmp_path, message):
    with pytest.raises(MinitttError, match=message):
        load_qwen2(copy_of(tmp_path, change_config=CONFIG_FAULTS[message]))


@pytest.mark.parametrize("message", WEIGHT_FAULTS)
def test_weights_missing_and_odd_ones_are_named(tmp_path, message):
    with pytest.raises(MinitttError, match=message):
        load_qwen2(copy_of(tmp_path, change_weights=WEIGHT_FAULTS[message]))


def test_weights_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(MinitttError, match="config.json and"):
        load_qwen2(tmp_path)
    shutil.copy(GOLDEN / "toy/config.json", tmp_path)
    with pytest.raises(MinitttError, match="safetensors"):
        load_qwen2(tmp_path)
