"""Guided logits are the stated mixture of two decodings that know nothing of each other."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.context import CachedContext, RecomputingContext
from minittt.decoding import Settings, collect, generate
from minittt.guidance import GuidedContext
from tests.small_networks import GroupContext, GroupNetwork
from tests.test_context import VOCABULARY, manners, prompts
from tests.test_decoding import MASK, PAD, SEEDS, V, cases, classes, decode, generators, without_probabilities
from tests.toy import toy_model


@given(SEEDS, st.booleans(), st.sampled_from([0.0, 0.5, 3.0]), st.integers(1, 3), st.data())
def test_guidance_is_the_formula_over_two_separate_passes(seed, cached, scale, rows, data):
    def lists(most: int) -> list[list[int]]:
        ids = st.lists(st.integers(0, 8), min_size=1, max_size=most)
        return data.draw(st.lists(ids, min_size=rows, max_size=rows))

    def count(rows_of_ids: list[list[int]]) -> list[list[int]]:
        return [list(range(len(ids))) for ids in rows_of_ids]

    prompts, others = lists(5), lists(5)
    network = GroupNetwork(V, seed)
    guided = GuidedContext(
        GroupContext(network, 2 * rows, PAD, MASK, cached), others, count(others), scale, PAD
    )
    alone = [GroupContext(network, 1, PAD, MASK, cached) for _ in range(2 * rows)]
    history = [list(ids) for ids in prompts + others]
    for n in range(3):  # the prompts, then two commits; row r commits r + 1 tokens of one group, or none
        new = [[5] * (row + 1) if (row + n) % 2 == 0 or n == 1 else [] for row in range(rows)]
        ids = prompts if n == 0 else new
        groups = count(prompts) if n == 0 else [[20 + n] * len(x) for x in new]
        width = max(map(len, ids))
        commit = torch.tensor([x + [PAD] * (width - len(x)) for x in ids], dtype=torch.long).view(rows, width)
        commit_groups = torch.tensor([x + [-1] * (width - len(x)) for x in groups], dtype=torch.long).view(
            rows, width
        )
        draft = torch.full((rows, 2), MASK)
        logits = guided.step(commit, commit_groups, draft)
        for row in range(rows):
            halves = []
            for half, context in ((row, alone[row]), (rows + row, alone[rows + row])):
                own = history[half] if n == 0 else new[row]
                own_groups = list(range(len(own))) if n == 0 else [20 + n] * len(own)
                halves.append(
                    context.step(torch.tensor([own]).long(), torch.tensor([own_groups]).long(), draft[:1])[0]
                )
            conditional, unconditional = halves
            expected = unconditional + (1 + scale) * (conditional - unconditional)
            torch.testing.assert_close(logits[row], expected, rtol=1e-10, atol=1e-9)


@settings(max_examples=20)
@given(cases())
def test_guidance_of_scale_zero_changes_nothing(case):
    options, prompts, groups, seeds, network = case
    _, plain = decode(case, cached=True)
    context = GroupContext(network, 2 * len(prompts), PAD, MASK, cached=True)
    guided = GuidedContext(context, [[0]] * len(prompts), [[0]] * len(prompts), 0.0, PAD)
    events = list(generate(guided, prompts, groups, classes(), options, generators(seeds)))
    assert without_probabilities(events) == without_probabilities(plain)


class TwoPasses:
    """Guidance as two contexts of B rows that know nothing of each other, one forward each."""

    def __init__(self, conditional, unconditional, starts, start_groups, scale):
        self.contexts, self.scale = (conditional, unconditional), scale
        self.starts, self.start_groups, self.begun = starts, start_groups, False

    def step(self, commit, commit_groups, draft):
        other, other_groups = commit, commit_groups
        if not self.begun:
            other, other_groups, self.begun = self.starts, self.start_groups, True
        conditional = self.contexts[0].step(commit, commit_groups, draft)
        unconditional = self.contexts[1].step(other, other_groups, draft)
        return unconditional + (1 + self.scale) * (conditional - unconditional)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 3), manners(), st.booleans())
def test_guidance_on_the_real_model_is_one_batched_forward_a_step(seed, rows, how, asked):
    """The condition is all of the prompt but its last token; the half without it starts from that one."""
    model, forwards = toy_model(VOCABULARY, seed), 0
    (ids, groups), pad = prompts(seed, rows), VOCABULARY.pad
    starts = [x[-1:] for x in ids], [x[-1:] for x in groups]
    context = CachedContext(model, 2 * rows, pad, classes=VOCABULARY.classes() if asked else None)
    step = context._forward

    def counted(new):
        nonlocal forwards
        forwards += 1
        return step(new)

    context._forward = counted

    def reply(context):
        seeds = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
        return list(generate(context, ids, groups, VOCABULARY.classes(), how, seeds))

    batched = reply(GuidedContext(context, *starts, 1.5, pad))
    passes = (RecomputingContext(model, rows, pad) for _ in range(2))
    apart = reply(TwoPasses(*passes, *map(torch.tensor, starts), 1.5))
    assert without_probabilities(batched) == without_probabilities(apart)
    assert forwards == max(end.nfe for end in collect(batched))


def test_guidance_towards_a_condition_that_is_missing_changes_replies():
    network = GroupNetwork(V, 0)
    replies = []
    for scale in (0.0, 2.0):
        guided = GuidedContext(GroupContext(network, 2, PAD, MASK, True), [[0]], [[0]], scale, PAD)
        events = generate(guided, [[1, 2, 0]], [[0, 1, 2]], classes(), Settings(max_span=16), generators([3]))
        replies.append(collect(events)[0].ids)
    assert replies[0] != replies[1]


class Halves:
    """A context whose draft has two tokens: the first rows answer `cond`, the others `un`."""

    def __init__(self, cond: list[float], un: list[float]) -> None:
        self.logits = torch.tensor([[cond] * 2, [un] * 2], dtype=torch.float64).log()  # (2, 2, A)

    def step(self, commit, commit_groups, draft):
        return self.logits


@pytest.mark.parametrize(
    "cond, un, guided",
    [((0.7, 0.3), (0.9, 0.1), (0.377, 0.623)), ((0.9, 0.1), (0.7, 0.3), (0.972, 0.028))],
)
def test_guidance_is_not_always_sharper(cond, un, guided):
    """Chapter 4's example, and the usual case beside it."""
    context = GuidedContext(Halves(cond, un), [[0]], [[0]], scale=1.0, pad=PAD)
    logits = context.step(torch.tensor([[0]]), torch.tensor([[0]]), torch.tensor([[MASK]]))  # (1, 2, 2)
    assert logits[0, 1].softmax(-1).tolist() == pytest.approx(guided, abs=5e-4)


def test_bad_guidance_is_named():
    with pytest.raises(ValueError, match="at least one id"):
        GuidedContext(None, [[]], [[]], 1.0, PAD)
    with pytest.raises(ValueError, match="cannot guide 2 rows"):
        GuidedContext(None, [[0]], [[0]], 1.0, PAD).step(
            torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 0)
        )


class Noting:
    """A context that notes the groups that each of its rows is given, and answers anything."""

    def __init__(self, rows: int) -> None:
        self.groups: list[list[int]] = [[] for _ in range(rows)]

    def step(self, commit, commit_groups, draft):
        for row, groups in enumerate(commit_groups.tolist()):
            self.groups[row] += [group for group in groups if group >= 0]
        return torch.zeros(len(draft), 1 + draft.shape[1], V)


@given(st.data(), st.integers(1, 3))
def test_both_halves_go_on_counting_from_their_own_prompts(data, rows):
    """The prompt without the condition may be the longer or the shorter one: a group is as far from its prompt in both.

    A shift that is dropped or negated gives numbers that are taken already, or leaves a hole, as the difference goes."""
    own = st.lists(st.integers(1, 2), min_size=1, max_size=6)  # steps between the groups of a prompt
    starts = data.draw(st.lists(st.tuples(own, own), min_size=rows, max_size=rows))
    cond, uncond = ([list(accumulate(s[half])) for s in starts] for half in (0, 1))
    context = Noting(2 * rows)
    guided = GuidedContext(context, [[0] * len(g) for g in uncond], uncond, 1.0, PAD)
    empty = torch.zeros(rows, 0, dtype=torch.long)

    def commit(groups):
        width = max(map(len, groups))
        padded = torch.tensor([g + [-1] * (width - len(g)) for g in groups], dtype=torch.long).view(
            rows, width
        )
        guided.step(torch.where(padded < 0, PAD, 0), padded, empty)

    commit(cond)
    expected = [list(groups) for groups in cond + uncond]
    for n in (1, 2, 3):  # row r commits r + 1 tokens of its next group, or nothing
        new = [[cond[row][-1] + n] * (row + 1) if (row + n) % 2 else [] for row in range(rows)]
        commit(new)
        for row, groups in enumerate(new):
            expected[row] += groups
            expected[rows + row] += [uncond[row][-1] + n] * len(groups)
    assert context.groups == expected


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.integers(1, 3), manners(), st.booleans())
def test_the_prompt_without_the_condition_may_be_the_longer_one(seed, rows, how, longer):
    """On the real model: two contexts that never meet, each half with a prompt of another length, decode the same reply."""
    model, pad = toy_model(VOCABULARY, seed), VOCABULARY.pad
    ids, groups = prompts(seed, rows)
    others = prompts(seed + 1, rows, longest=9 if longer else 3)
    openings = [x[-1:] for x in ids]  # text or audio is due in both halves alike
    other_ids = [x[:-1] + last for x, last in zip(others[0], openings, strict=True)]
    if longer:
        other_ids = [[VOCABULARY.bos, 1, 2, *x] for x in other_ids]
    other_groups = [list(range(len(x))) for x in other_ids]
    context = CachedContext(model, 2 * rows, pad, classes=VOCABULARY.classes())
    guided = GuidedContext(context, other_ids, other_groups, 1.5, pad)
    seeds = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    together = collect(generate(guided, ids, groups, VOCABULARY.classes(), how, seeds))
    for row in range(rows):
        apart = Apart(model, (groups[row], ids[row]), (other_groups[row], other_ids[row]), 1.5)
        seeds = [torch.Generator().manual_seed(seed + row)]
        [alone] = collect(generate(apart, [ids[row]], [groups[row]], VOCABULARY.classes(), how, seeds))
        assert alone._replace(row=row) == together[row]


class Apart:
    """One row guided by two recomputing contexts, each of which counts its groups anew from its own prompt."""

    def __init__(self, model, conditional, unconditional, scale):
        self.halves = [RecomputingContext(model, 1, VOCABULARY.pad) for _ in range(2)]
        self.prompts, self.scale, self.begun = (conditional, unconditional), scale, False

    def step(self, commit, commit_groups, draft):
        found = []
        for context, (groups, ids) in zip(self.halves, self.prompts, strict=True):
            if self.begun:  # groups since the prompt, counted on from the half's own last one
                mine = commit, commit_groups - self.prompts[0][0][-1] + groups[-1]
            else:
                mine = torch.tensor([ids]), torch.tensor([groups])
            found.append(context.step(*mine, draft))
        self.begun = True
        conditional, unconditional = found
        return unconditional + (1 + self.scale) * (conditional - unconditional)


def test_what_was_not_computed_or_is_ruled_out_stays_so():
    """Minus infinity less minus infinity is nan, which would spread to all of a softmax: it must stay minus infinity.

    So is a token that the conditional half alone rules out."""
    never = -torch.inf
    halves = torch.tensor([[[never, never, 1.0, 2.0]], [[never, 0.5, 3.0, 1.0]]], dtype=torch.float64)

    class Fixed:
        def step(self, commit, commit_groups, draft):
            return halves

    guided = GuidedContext(Fixed(), [[0]], [[0]], 2.0, PAD)
    logits = guided.step(torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), torch.zeros(1, 0).long())
    assert logits.tolist() == [[[never, never, 3.0 + 3 * (1.0 - 3.0), 1.0 + 3 * (2.0 - 1.0)]]]
