"""Nats of a reply are what a decoder that is made to write it would add up, one forward at a time."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minittt.attention import TARGET, assign_groups
from minittt.context import RecomputingContext
from minittt.data.conversation import render
from minittt.evaluation.likelihood import estimator, reply_nats
from minittt.objective import PRESETS, Noise, preset
from tests.toy import toy_corpus, toy_model

SEEDS = st.integers(0, 100)


def surprise(logits: Tensor, token: int, choices: Tensor) -> float:
    """-log p of a token under a softmax over `choices`."""
    return (logits[choices].logsumexp(0) - logits[token]).item()


def forced(model, corpus, record, block, of_block) -> tuple[float, float]:
    """Text and audio nats of a record: a decoder's context is fed all groups in turn. of_block(look, ids) prices a block."""
    v, sequence = corpus.vocabulary, render(record, corpus, block)
    ids, kinds = torch.tensor(sequence.ids), torch.tensor(sequence.kinds)
    groups, text, audio = assign_groups(kinds, block), 0.0, 0.0
    context, none = RecomputingContext(model, 1, v.pad), torch.zeros(1, 0, dtype=torch.long)
    logits = None
    for group in groups.unique():
        at = (groups == group).nonzero()[:, 0]
        if sequence.targets[at[0]]:
            text += surprise(logits, sequence.ids[at[0]], v.text_choices())
        if kinds[at[0]] == TARGET:
            audio += of_block(lambda draft: context.step(none, none, draft[None])[0, 1:], ids[at])
        logits = context.step(ids[at][None], groups[at][None], none)[0, 0]
    return text, audio


@settings(max_examples=8)
@given(SEEDS)
def test_text_is_exact_and_so_is_audio_in_blocks_of_one(seed):
    corpus = toy_corpus(seed)
    v, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)

    def of_block(look, ids):
        return surprise(look(torch.tensor([v.mask]))[0], int(ids[0]), v.audio_choices())

    records = corpus.split("train")
    found = reply_nats(model, corpus, records, estimator(preset("ar"), 1), draws=2, seed=seed)
    for i, record in enumerate(records):
        text, audio = forced(model, corpus, record, 1, of_block)
        assert found.text[i] == pytest.approx(text, rel=1e-12)
        assert found.audio[i] == pytest.approx(audio, rel=1e-12)


def test_audio_of_a_whole_span_is_the_any_order_bound_on_average():
    """Whatever preset trained the talker: `paper` is asked for whole spans, finished text and spans before them."""
    corpus = toy_corpus(3, longest=2)
    v, model = corpus.vocabulary, toy_model(corpus.vocabulary, 3)

    def of_block(look, ids):  # sum over masked sets of (k - 1)! (n - k)! / n! CE
        n, total = len(ids), 0.0
        for size in range(1, n + 1):
            for masked in itertools.combinations(range(n), size):
                logits = look(ids.index_fill(0, torch.tensor(masked), v.mask))
                ce = sum(surprise(logits[i], int(ids[i]), v.audio_choices()) for i in masked)
                total += ce / (size * math.comb(n, size))
        return total

    record = corpus.split("train")[0]
    text, audio = forced(model, corpus, record, None, of_block)
    found = reply_nats(model, corpus, [record], estimator(preset("paper"), 8), draws=6000)
    assert found.text[0] == pytest.approx(text, rel=1e-12)
    assert found.audio[0] == pytest.approx(audio, rel=0.02)


def test_figures_are_per_code_and_one_eoa_a_span_filler_or_not():
    corpus = toy_corpus(1)
    model = toy_model(corpus.vocabulary, 1)
    for name, p in PRESETS.items():
        found = reply_nats(model, corpus, corpus.split("train"), estimator(p, 4), draws=1)
        for record, n_text, n_audio in zip(corpus.split("train"), found.n_text, found.n_audio, strict=True):
            said = [m for m in record["messages"] if m[0] in ("assistant", "document")]
            spans = [part for m in said for part in m[1:] if isinstance(part, int)]
            words = [word for m in said for part in m[1:] if isinstance(part, str) for word in part.split()]
            assert n_audio == sum(len(corpus.audio(n)) + 1 for n in spans), name
            assert n_text == len(words) + len(spans) + len(said), (
                name
            )  # pieces, an OPEN a span, an END a turn
        assert found.score("audio", "x").value == pytest.approx(sum(found.audio) / sum(found.n_audio))


def test_the_estimator_has_no_coins_and_asks_for_what_was_trained():
    for name, p in PRESETS.items():
        made = estimator(p, 8)
        assert made.block_sizes == ((8,) if p.two_streams else (None,)), name
        assert made == replace(made, banom=0.0, ppm=0.0, sst=0.0, short_first_block=0.0, two_streams=True)
        assert made.denoise_text == p.denoise_text


def every_subset(block: int):
    """Noise without chance for `reply_nats`: row i masks the i-th subset of every block, weighed by its probability.

    With a draw for each subset, the mean over draws is the expectation. It also checks what it is given: whole blocks."""
    subsets = [s for k in range(1, block + 1) for s in itertools.combinations(range(block), k)]

    def noise(batch, p, generator):
        assert len(batch.ids) == len(subsets)
        masked = torch.zeros_like(batch.noisy)
        weight = torch.zeros(batch.ids.shape, dtype=torch.float64)
        for group in batch.groups[batch.noisy].unique():
            slots = (batch.noisy[0] & (batch.groups[0] == group)).nonzero()[:, 0]
            assert len(slots) == block, "a span that is not filled up to whole blocks"
            for row, subset in enumerate(subsets):
                k, chosen = len(subset), slots[list(subset)]
                masked[row, chosen] = True
                weight[row, chosen] = block / k * len(subsets) / (block * math.comb(block, k))
        return Noise(masked, weight, torch.where(batch.noisy, batch.groups, -1))

    return noise, len(subsets)


@settings(max_examples=6)
@given(SEEDS, st.sampled_from([2, 3]), st.sampled_from(["exact", "ar"]))
def test_audio_is_measured_in_the_filled_blocks_that_the_decoder_writes(seed, block, name):
    """The end of a span that ends inside a block is EOA to the block's end, in the bound as in decoding and training.

    Measured without filler, a talker is asked about blocks that it never writes, and seems better or worse than it is."""
    corpus = toy_corpus(seed, longest=4)
    v, model = corpus.vocabulary, toy_model(corpus.vocabulary, seed)

    def of_block(look, ids):  # the mean over all orders of the slots, each slot after those before it
        total = 0.0
        for order in itertools.permutations(range(len(ids))):
            draft = torch.full_like(ids, v.mask)
            for slot in order:
                total += surprise(look(draft)[slot], int(ids[slot]), v.audio_choices())
                draft = draft.index_fill(0, torch.tensor(slot), int(ids[slot]))
        return total / math.factorial(len(ids))

    records = corpus.split("train")[:3]
    noise, draws = every_subset(block)
    found = reply_nats(model, corpus, records, estimator(preset(name), block), draws, noise=noise)
    for i, record in enumerate(records):
        text, audio = forced(model, corpus, record, block, of_block)
        assert found.text[i] == pytest.approx(text, rel=1e-11)
        assert found.audio[i] == pytest.approx(audio, rel=1e-11, abs=1e-12)


def test_nats_do_not_depend_on_how_many_draws_they_are_a_mean_of():
    """Text is exact, and audio in blocks of one as well: two draws give what seven give."""
    corpus = toy_corpus(2)
    model = toy_model(corpus.vocabulary, 2)
    few, many = (
        reply_nats(model, corpus, corpus.split("train"), estimator(preset("ar"), 1), draws)
        for draws in (2, 7)
    )
    assert few.text == pytest.approx(many.text, rel=1e-12)
    assert few.audio == pytest.approx(many.audio, rel=1e-12)
