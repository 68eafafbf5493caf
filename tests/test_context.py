"""Law 18 on the real model: a context that keeps keys and values and one that recomputes say the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.context import CachedContext, RecomputingContext
from minittt.decoding import Settings, collect, generate
from minittt.errors import MinitttError
from minittt.vocabulary import Vocabulary
from tests.toy import toy_model

SEEDS = st.integers(0, 10_000)
VOCABULARY = Vocabulary(6, 5)


def prompts(seed, rows):
    """Ragged prompts with a source span each, and their groups."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(rows):
        n = int(torch.randint(1, 6, (), generator=g))
        codes = (VOCABULARY.first_code + torch.randint(0, 5, (n,), generator=g)).tolist()
        ids = [VOCABULARY.bos, VOCABULARY.open, *codes, VOCABULARY.eoa, VOCABULARY.assistant]
        made.append((ids, [0, 1, *[2] * (n + 1), 3]))
    return [ids for ids, _ in made], [groups for _, groups in made]


def reply(context, seed, rows, settings):
    ids, groups = prompts(seed, rows)
    generators = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    return collect(generate(context, ids, groups, VOCABULARY.classes(), settings, generators))


@given(SEEDS, st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(1, 4), st.booleans())
def test_law_18_cached_equals_recomputed_ids(seed, rows, block, steps, full_span):
    model = toy_model(VOCABULARY, seed)
    settings = Settings(block, full_span=full_span, steps=steps, max_text=8, max_span=12, max_spans=2)
    cached = reply(CachedContext(model, rows, VOCABULARY.pad), seed, rows, settings)
    recomputed = reply(RecomputingContext(model, rows, VOCABULARY.pad), seed, rows, settings)
    assert [(r.ids, r.nfe) for r in cached] == [(r.ids, r.nfe) for r in recomputed]


@given(SEEDS, st.integers(1, 3))
def test_law_18_batched_equals_one_by_one(seed, rows):
    model, settings = toy_model(VOCABULARY, seed), Settings(4, steps=2, max_text=8, max_span=12, max_spans=2)
    together = reply(CachedContext(model, rows, VOCABULARY.pad), seed, rows, settings)
    ids, groups = prompts(seed, rows)
    for row in range(rows):
        context, generator = (
            CachedContext(model, 1, VOCABULARY.pad),
            torch.Generator().manual_seed(seed + row),
        )
        [alone] = collect(
            generate(
                context,
                ids[row : row + 1],
                groups[row : row + 1],
                VOCABULARY.classes(),
                settings,
                [generator],
            )
        )
        assert alone.ids == together[row].ids


@given(SEEDS, st.sampled_from([torch.float64, torch.float32]))
def test_law_18_any_split_into_steps_gives_the_same_logits(seed, dtype):
    """Commit a conversation in random pieces, drafts in between: the logits are those of one step."""
    model, g = toy_model(VOCABULARY, seed, dtype), torch.Generator().manual_seed(seed)
    [ids], [groups] = prompts(seed, 1)
    draft = torch.tensor([[VOCABULARY.mask, VOCABULARY.first_code, VOCABULARY.mask]])
    pieces, at = CachedContext(model, 1, VOCABULARY.pad), 0
    borders = [i for i in range(1, len(ids)) if groups[i] != groups[i - 1]] + [len(ids)]
    for border in borders:
        if border == len(ids) or torch.rand((), generator=g) < 0.6:
            looked = draft if torch.rand((), generator=g) < 0.5 or border == len(ids) else draft[:, :0]
            last = pieces.step(torch.tensor([ids[at:border]]), torch.tensor([groups[at:border]]), looked)
            at = border
    whole = CachedContext(model, 1, VOCABULARY.pad).step(torch.tensor([ids]), torch.tensor([groups]), draft)
    again = RecomputingContext(model, 1, VOCABULARY.pad).step(
        torch.tensor([ids]), torch.tensor([groups]), draft
    )
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(last, whole, **tolerance)
    torch.testing.assert_close(again, whole, **tolerance)


def test_a_full_context_says_so():
    context = CachedContext(toy_model(VOCABULARY), 1, VOCABULARY.pad, max_length=3)
    with pytest.raises(MinitttError, match="holds 3 tokens"):
        context.step(torch.zeros(1, 4).long(), torch.arange(4)[None], torch.zeros(1, 0).long())
