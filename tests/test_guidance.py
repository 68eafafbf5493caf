"""Guided logits are the stated mixture of two decodings that know nothing of each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.context import CachedContext, RecomputingContext
from minittt.decoding import DenoisingStep, Settings, collect, generate
from minittt.guidance import GuidedContext
from tests.small_networks import GroupContext, GroupNetwork
from tests.test_context import VOCABULARY, manners, prompts
from tests.test_decoding import MASK, PAD, SEEDS, V, cases, classes, decode, generators, without_entropies
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
    assert without_entropies(events) == without_entropies(plain)


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
        events = generate(context, ids, groups, VOCABULARY.classes(), how, seeds)
        return [e._replace(entropies=()) if isinstance(e, DenoisingStep) else e for e in events]

    batched = reply(GuidedContext(context, *starts, 1.5, pad))
    passes = (RecomputingContext(model, rows, pad) for _ in range(2))
    assert batched == reply(TwoPasses(*passes, *map(torch.tensor, starts), 1.5))
    assert forwards == max(end.nfe for end in collect(batched))


def test_guidance_towards_a_condition_that_is_missing_changes_replies():
    network = GroupNetwork(V, 0)
    replies = []
    for scale in (0.0, 2.0):
        guided = GuidedContext(GroupContext(network, 2, PAD, MASK, True), [[0]], [[0]], scale, PAD)
        events = generate(guided, [[1, 2, 0]], [[0, 1, 2]], classes(), Settings(max_span=16), generators([3]))
        replies.append(collect(events)[0].ids)
    assert replies[0] != replies[1]


def test_bad_guidance_is_named():
    with pytest.raises(ValueError, match="at least one id"):
        GuidedContext(None, [[]], [[]], 1.0, PAD)
    with pytest.raises(ValueError, match="cannot guide 2 rows"):
        GuidedContext(None, [[0]], [[0]], 1.0, PAD).step(
            torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 0)
        )
