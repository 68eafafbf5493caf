"""Law 18 on the real model: contexts that keep keys and values, and one that recomputes, say the same.

And what keeping costs: one forward per token of text and per denoising step, computed once, for what is asked alone."""

import random
from dataclasses import replace
from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from graphs import GraphedContext
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt import context as module
from minittt.context import CachedContext, RecomputingContext
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import BlockClosed, DenoisingStep, Settings, TextToken, collect, generate
from minittt.errors import MinitttError
from minittt.guidance import GuidedContext
from minittt.model import ModelConfig, Transformer
from minittt.unmasking import POLICIES, Sampling
from tests.test_decoding import EOA, LETTERS, OPEN, PAD, V, check_reply, classes, without_probabilities
from tests.toy import toy_model

SEEDS = st.integers(0, 10_000)
VOCABULARY = Vocabulary(6, 5)
SHORT = Settings(4, steps=2, max_text=8, max_span=12, max_spans=2)
GROUPED = {"n_heads": 4, "n_kv_heads": 2}


def prompts(seed, rows, longest=6):
    """Ragged prompts with a source span each, some of which end where audio is due; and their groups."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(rows):
        n = int(torch.randint(1, longest, (), generator=g))
        codes = (VOCABULARY.first_code + torch.randint(0, 5, (n,), generator=g)).tolist()
        ids = [VOCABULARY.bos, VOCABULARY.open, *codes, VOCABULARY.eoa, VOCABULARY.assistant]
        groups = [0, 1, *[2] * (n + 1), 3]
        if torch.rand((), generator=g) < 0.4:
            ids, groups = [*ids, VOCABULARY.open], [*groups, 4]
        made.append((ids, groups))
    return [ids for ids, _ in made], [groups for _, groups in made]


def events_of(context, seed, rows, how, chosen=None):
    ids, groups = prompts(seed, rows)
    chosen = range(rows) if chosen is None else chosen
    generators = [torch.Generator().manual_seed(seed + row) for row in chosen]
    given = [ids[row] for row in chosen], [groups[row] for row in chosen]
    return list(generate(context, *given, VOCABULARY.classes(), how, generators))


@st.composite
def manners(draw):
    """Both presets, every policy: how to decode."""
    block = draw(st.sampled_from([1, 2, 4]))
    return replace(
        SHORT,
        block_size=draw(st.just(block) | st.none()),
        full_span=draw(st.booleans()),
        steps=draw(st.integers(1, 4)),
        policy=draw(st.sampled_from(list(POLICIES.values()))),
        audio_sampling=Sampling(draw(st.sampled_from([0.0, 1.0]))),
    )


KINDS = {
    "all logits": CachedContext,
    "asked": partial(CachedContext, classes=VOCABULARY.classes()),
    "graph shapes": partial(GraphedContext, classes=VOCABULARY.classes()),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(SEEDS, st.integers(1, 4), manners(), st.sampled_from([{}, GROUPED]))
def test_law_18_cached_equals_recomputed_ids(kind, seed, rows, how, heads):
    model = toy_model(VOCABULARY, seed, **heads)
    cached = events_of(KINDS[kind](model, rows, VOCABULARY.pad), seed, rows, how)
    recomputed = events_of(RecomputingContext(model, rows, VOCABULARY.pad), seed, rows, how)
    assert without_probabilities(cached) == without_probabilities(recomputed)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 3), manners())
def test_law_18_a_recorded_forward_computes_from_what_it_is_given_anew(seed, rows, how):
    """A stand-in for a CUDA graph: it computes again, from the tensors it was recorded with and from nothing else."""

    class Recorded(GraphedContext):
        def _record(self, new):
            given = new._replace(**{name: getattr(new, name).clone() for name in new._fields[:4]})
            hidden = CachedContext._forward(self, given).clone()
            again = SimpleNamespace(replay=lambda: hidden.copy_(CachedContext._forward(self, given)))
            return again, given, hidden

    model = toy_model(VOCABULARY, seed)
    context = Recorded(model, rows, VOCABULARY.pad, classes=VOCABULARY.classes())
    context.graphs = True
    plain = events_of(CachedContext(model, rows, VOCABULARY.pad), seed, rows, how)
    assert collect(events_of(context, seed, rows, how)) == collect(plain)
    assert len(context.recorded) <= 8  # few shapes: that is the point


@settings(max_examples=60)
@given(SEEDS, st.integers(2, 5), manners(), st.sampled_from(list(KINDS)), st.sampled_from([2**24, 30]))
def test_law_18_batched_equals_one_by_one(seed, rows, how, kind, largest):
    """Rows of unequal prompts, some writing and some speaking; also where masks must be cut to a few rows."""
    model = toy_model(VOCABULARY, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGEST_MASK", largest)
        together = collect(events_of(KINDS[kind](model, rows, VOCABULARY.pad), seed, rows, how))
    for row in range(rows):
        [alone] = collect(events_of(CachedContext(model, 1, VOCABULARY.pad), seed, rows, how, [row]))
        assert alone._replace(row=row) == together[row]


@pytest.mark.parametrize("full_span", [False, True])
def test_law_18_rows_are_in_different_states_in_one_forward(full_span):
    """What the law above rests on: forwards in which some rows write and others denoise do occur."""
    model, mixed = toy_model(VOCABULARY, 1), 0
    context = CachedContext(model, 6, VOCABULARY.pad)
    step = context.step

    def watched(commit, commit_groups, draft):
        nonlocal mixed
        busy = [
            (c, d) for c, d in zip((commit_groups >= 0).sum(1), (draft != VOCABULARY.pad).sum(1), strict=True)
        ]
        mixed += len({bool(d) for c, d in busy if c + d}) == 2
        return step(commit, commit_groups, draft)

    context.step = watched
    events_of(context, 4, 6, replace(SHORT, full_span=full_span))
    assert mixed >= 3


@given(SEEDS, st.sampled_from([torch.float64, torch.float32]), st.sampled_from(list(KINDS)))
def test_law_18_any_split_into_steps_gives_the_same_logits(seed, dtype, kind):
    """Commit a conversation in random pieces, drafts in between: the logits are those of one step."""
    model, g = toy_model(VOCABULARY, seed, dtype, **GROUPED), torch.Generator().manual_seed(seed)
    [ids], [groups] = prompts(seed, 1)
    ids, groups = ids + ids, groups + [group + max(groups) + 1 for group in groups]  # two turns
    draft = torch.tensor([[VOCABULARY.mask, VOCABULARY.first_code, VOCABULARY.mask]])
    pieces, at = KINDS[kind](model, 1, VOCABULARY.pad), 0
    borders = [i for i in range(1, len(ids)) if groups[i] != groups[i - 1]] + [len(ids)]
    for border in borders:
        if border == len(ids) or torch.rand((), generator=g) < 0.6:
            looked = draft if torch.rand((), generator=g) < 0.5 or border == len(ids) else draft[:, :0]
            pieces.step(torch.tensor([ids[at:border]]), torch.tensor([groups[at:border]]), looked)
            at = border
    nothing = torch.zeros(1, 0, dtype=torch.long)
    whole = RecomputingContext(model, 1, VOCABULARY.pad)
    whole.step(torch.tensor([ids]), torch.tensor([groups]), nothing)
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    classes = VOCABULARY.classes()
    for looked in (draft, nothing, draft[:, :1]):  # asked again: neither look left a trace
        expected, found = (context.step(nothing, nothing, looked)[0] for context in (whole, pieces))
        if kind != "all logits":
            torch.testing.assert_close(found[1:, classes.audio], expected[1:, classes.audio], **tolerance)
            assert (found[1:, ~classes.audio] == -torch.inf).all()
            expected, found = expected[:1, classes.text], found[:1, classes.text]
            if looked.shape[1]:
                assert (found == -torch.inf).all()
                continue
        torch.testing.assert_close(found, expected, **tolerance)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 4), manners())
def test_law_18_one_forward_per_step_none_to_close_a_block_and_each_committed_token_once(seed, rows, how):
    model, forwards = toy_model(VOCABULARY, seed), []
    hidden = model.hidden
    model.hidden = lambda ids, *more: forwards.append(ids.shape[1]) or hidden(ids, *more)
    events = events_of(CachedContext(model, rows, VOCABULARY.pad), seed, rows, how)
    steps = [
        sum(isinstance(e, TextToken | DenoisingStep) and e.row == row for e in events) for row in range(rows)
    ]
    assert [end.nfe for end in collect(events)] == steps
    assert len(forwards) == max(steps)
    if not (how.full_span or how.block_size is None):
        drafted = sum(len(e.ids) for e in events if isinstance(e, DenoisingStep))
        committed = sum(len(end.ids) - 1 for end in collect(events))  # the end itself is never looked at
        assert sum(forwards) == drafted + committed + sum(map(len, prompts(seed, rows)[0]))
    assert any(isinstance(e, BlockClosed) for e in events) or not any(
        isinstance(e, DenoisingStep) for e in events
    )


# ---------------------------------------------------------------- 19: no network, prompt or setting breaks a reply


def any_settings(r: random.Random) -> Settings:
    block = r.choice([None, 1, 2, 3, 5])
    first = r.choice([None, r.randint(1, block)]) if block else None
    spread = partial(
        Sampling, r.choice([0.0, 0.5, 1.0, 3.0]), r.choice([None, 1, 3]), r.choice([None, 0.1, 0.9])
    )
    return Settings(
        block_size=block,
        first_block=first,
        full_span=r.random() < 0.4,
        steps=r.randint(1, 6),
        policy=r.choice(list(POLICIES.values())),
        text_sampling=spread(),
        audio_sampling=spread(),
        max_text=r.randint(1, 8),
        max_span=max(block or 1, r.randint(1, 10)),
        max_spans=r.randint(0, 3),
    )


def reply_properly(seed: int) -> int:
    """Random weights of any size, random prompts, random settings -> forwards taken; the replies keep the grammar."""
    r, rows = random.Random(seed), 1 + seed % 3
    how, config = any_settings(r), ModelConfig(V, 8, 1, 2, r.choice([1, 2]), 8, max_length=128)
    torch.manual_seed(seed)
    model = Transformer(config).to(r.choice([torch.float32, torch.float64])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, r.choice([0.02, 0.3, 2.0, 20.0]))
    openers = [*LETTERS, OPEN] if how.max_spans else LETTERS
    ids = [[*r.choices(range(EOA + 1), k=r.randint(0, 5)), r.choice(openers)] for _ in range(rows)]
    groups = [list(accumulate(r.randint(0, 2) for _ in row)) for row in ids]
    if r.random() < 0.2:
        context = CachedContext(model, 2 * rows, PAD, classes=classes())
        context = GuidedContext(context, [[0]] * rows, [[0]] * rows, r.choice([0.1, 3.0]), PAD)
    else:
        context = r.choice([CachedContext, GraphedContext])(model, rows, PAD, classes=classes())
    seeds = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    ends = collect(generate(context, ids, groups, classes(), how, seeds))
    for end, prompt, own in zip(ends, ids, groups, strict=True):
        check_reply(end, how, prompt[-1] == OPEN, own[-1] + 1)
        spans = how.max_spans + (prompt[-1] == OPEN)
        assert end.nfe <= how.max_text + spans * how.max_span
    assert len(ends) == rows
    return sum(end.nfe for end in ends)


def test_law_19_a_thousand_random_networks_give_proper_replies():
    assert sum(map(reply_properly, range(1000))) > 9_000


@pytest.mark.slow
def test_law_19_ten_thousand_random_networks_give_proper_replies():
    assert sum(map(reply_properly, range(1000, 11_000))) > 90_000


def test_a_full_context_says_so():
    context = CachedContext(toy_model(VOCABULARY), 1, VOCABULARY.pad, max_length=3)
    with pytest.raises(MinitttError, match="holds 3 tokens"):
        context.step(torch.zeros(1, 4).long(), torch.arange(4)[None], torch.zeros(1, 0).long())


@pytest.mark.parametrize("groups", [[3, 5, 4], [2], [1, 6]])
def test_a_closed_group_takes_no_more(groups):
    context, nothing = CachedContext(toy_model(VOCABULARY), 1, VOCABULARY.pad), torch.zeros(1, 0).long()
    context.step(torch.zeros(1, 2).long(), torch.tensor([[0, 2]]), nothing)
    with pytest.raises(MinitttError, match="which is closed"):
        context.step(torch.zeros(1, len(groups)).long(), torch.tensor([groups]), nothing)


def test_the_cache_grows_with_its_longest_row_and_no_further():
    """A short reply of a model with many positions takes little memory; what is kept survives growing (law 18)."""
    model = toy_model(VOCABULARY)
    context = CachedContext(model, 2, VOCABULARY.pad, max_length=700)
    plain = RecomputingContext(model, 2, VOCABULARY.pad)
    none = torch.zeros(2, 0).long()
    sizes = []
    for n in (3, 254, 300, 100):
        ids = torch.full((2, n), 2)
        ids[1, 1:] = VOCABULARY.pad
        groups = torch.arange(n).expand(2, n) + sum(context.lengths[:1])
        groups = torch.where(ids == VOCABULARY.pad, -1, groups)
        found = context.step(ids, groups, none)
        torch.testing.assert_close(found, plain.step(ids, groups, none))
        sizes.append(context.caches[0].keys.shape[2])
    assert sizes == [module.FEWEST_SLOTS, 2 * module.FEWEST_SLOTS, 700, 700]
