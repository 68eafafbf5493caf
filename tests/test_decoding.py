"""Laws 16 to 19: exact with an oracle, bounded otherwise, the same with a cache, always a proper reply.

The policies beyond random order have their own file, test_unmasking.py."""

import bdb
import inspect
import itertools
import math
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt import decoding, unmasking
from minittt.decoding import (
    BlockClosed,
    DenoisingStep,
    Draft,
    End,
    Settings,
    SpanClosed,
    TextToken,
    TokenClasses,
    collect,
    generate,
    random_order,
    sample_tokens,
)
from tests.small_networks import (
    MASKED,
    GroupContext,
    GroupNetwork,
    Oracle,
    Table,
    as_dict,
    kl,
    propagate,
    random_joint,
)

SEEDS = st.integers(0, 2**31 - 1)
LETTERS, OPEN, END, CODES, EOA, MASK, PAD, V = [0, 1, 2], 3, 4, [5, 6, 7], 8, 9, 10, 11


def classes() -> TokenClasses:
    ids = torch.arange(V)
    return TokenClasses(ids <= END, (ids >= CODES[0]) & (ids <= EOA), OPEN, EOA, END, MASK, PAD)


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


# ---------------------------------------------------------------- 16: exact with an oracle, one slot a step


@given(SEEDS, st.integers(1, 3), st.integers(2, 3))
def test_law_16_random_order_is_exact_with_an_oracle(seed, L, A):
    joint = random_joint(L, A, seed)
    sampled, steps = propagate(Oracle(joint), random_order, Draft, steps=L)
    assert steps == pytest.approx(L, rel=1e-12)
    for x, q in as_dict(joint).items():
        assert sampled[x] == pytest.approx(q, rel=1e-12)


@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_law_16_every_order_is_as_likely_because_noise_alone_decides(seed, L, steps):
    g = torch.Generator().manual_seed(seed)
    masked = torch.rand(L, generator=g) < 0.7
    noise, p = torch.rand(L, generator=g, dtype=torch.float64), torch.rand(L, 3, generator=g).softmax(-1)
    share = math.ceil(int(masked.sum()) / steps)
    by_noise = sorted((i for i in range(L) if masked[i]), key=lambda i: float(noise[i]))[:share]
    for candidates in (torch.zeros(L, dtype=torch.long), torch.full((L,), 2)):
        reveal = random_order(Draft(masked, p, candidates, noise, steps))
        assert reveal.nonzero()[:, 0].tolist() == sorted(by_noise)


class OracleContext:
    """A span's first block comes from a joint over codes, what follows is all end_audio, then the end."""

    def __init__(self, joint: torch.Tensor, rows: int) -> None:
        self.oracle, self.memory, self.begun = Oracle(joint), {}, [False] * rows

    def step(self, commit, commit_groups, draft):
        logits = torch.full((len(commit), 1 + draft.shape[1], V), -30.0, dtype=torch.float64)
        logits[:, 0, END] = logits[:, 1:, EOA] = 30.0
        for row, block in enumerate(draft.tolist()):
            self.begun[row] |= any(x in CODES for x in commit[row].tolist())
            if not self.begun[row] and block:
                state = tuple(MASKED if x == MASK else x - CODES[0] for x in block)
                if state not in self.memory:
                    self.memory[state] = self.oracle.p(state).log().clamp(min=-30)
                logits[row, 1:, EOA] = -30.0
                logits[row, 1:, CODES[0] : CODES[0] + self.oracle.A] = self.memory[state]
        return logits


def blocks_of(joint: torch.Tensor, settings: Settings, rows: int, seed: int) -> Counter:
    context = OracleContext(joint, rows)
    events = generate(
        context,
        [[0, OPEN]] * rows,
        [[0, 1]] * rows,
        classes(),
        settings,
        generators([seed + r for r in range(rows)]),
    )
    return Counter(
        tuple(x - CODES[0] for x in e.ids)
        for e in events
        if isinstance(e, DenoisingStep) and e.block == 0 and MASK not in e.ids
    )


def chi_square(counts: Counter, joint: torch.Tensor) -> float:
    n = sum(counts.values())
    return sum((counts[x] - n * q) ** 2 / (n * q) for x, q in as_dict(joint).items())


def chi_square_limit(degrees: int, t: float = math.log(1e6)) -> float:
    """Exceeded with probability at most exp(-t), one in a million (Laurent and Massart 2000, lemma 1)."""
    return degrees + 2 * math.sqrt(degrees * t) + 2 * t


@pytest.mark.parametrize("policy", [random_order, unmasking.left_to_right, unmasking.entropy_order])
def test_law_16_generate_samples_the_joint(policy):
    joint = random_joint(3, 2, seed=5, sharpness=1.0)
    counts = blocks_of(joint, Settings(block_size=3, steps=3, policy=policy, max_span=6), rows=1500, seed=1)
    assert sum(counts.values()) == 1500
    assert chi_square(counts, joint) < chi_square_limit(2**3 - 1)


def test_law_16_generate_ranking_by_the_drawn_token_does_not():
    bit = torch.tensor([0.1, 0.9], dtype=torch.float64)
    settings = Settings(block_size=2, steps=2, policy=unmasking.confidence_released, max_span=4)
    counts = blocks_of(torch.outer(bit, bit), settings, rows=1500, seed=1)
    assert chi_square(counts, torch.outer(bit, bit)) > 1.5 * chi_square_limit(2**2 - 1)
    assert counts[1, 1] / 1500 == pytest.approx(0.891, abs=0.03)


@given(SEEDS, st.integers(1, 5), st.integers(1, 6))
def test_law_16_draw_inverts_the_distribution_function(seed, N, A):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, A, generator=g, dtype=torch.float64) * 3
    logits[:, torch.randint(A, (1,), generator=g)] = -math.inf if A > 1 else 0.0
    some = torch.rand(N, generator=g, dtype=torch.float64)
    for u in (some, torch.zeros_like(some), torch.full_like(some, 1 - 2.0**-53)):
        for row, index in enumerate(sample_tokens(logits, u).tolist()):
            p = (logits[row].exp() / logits[row].exp().sum()).tolist()
            assert p[index] > 0
            assert sum(p[:index]) - 1e-12 <= u[row] <= sum(p[: index + 1]) + 1e-12


# ---------------------------------------------------------------- 17: K steps


def nelbo(table, x: tuple[int, ...], K: int) -> tuple[float, float]:
    """Means over all orders, cut into K near-equal steps, of -log p(x | order) and of p(x | order)."""
    L = len(x)
    sizes = [L // K + (i < L % K) for i in range(K)]
    paths = []
    for order in itertools.permutations(range(L)):
        state, log_p, at = [MASKED] * L, 0.0, 0
        for size in sizes:
            p = table.p(tuple(state))
            for i in order[at : at + size]:
                log_p += math.log(p[i, x[i]])
                state[i] = x[i]
            at += size
        paths.append(log_p)
    return -sum(paths) / len(paths), sum(map(math.exp, paths)) / len(paths)


@settings(max_examples=12)
@given(SEEDS, st.integers(1, 4), st.integers(2, 3), st.data())
def test_law_17_k_steps_in_random_order_are_bounded_by_nelbo_k(seed, L, A, data):
    L = min(L, 3) if A == 3 else L
    K = data.draw(st.integers(1, L))
    table, q = Table(L, A, seed), as_dict(random_joint(L, A, seed + 1))
    sampled, steps = propagate(table, random_order, Draft, steps=K)
    bounds = {x: nelbo(table, x, K) for x in q}
    H = -sum(w * math.log(w) for w in q.values())
    assert steps == pytest.approx(K, rel=1e-12)
    assert kl(q, sampled) <= sum(w * bounds[x][0] for x, w in q.items()) - H + 1e-12
    for x in q:
        assert sampled[x] == pytest.approx(
            bounds[x][1], rel=1e-12
        )  # and Jensen is all that the bound gives away


@given(st.integers(1, 9), st.integers(1, 12), SEEDS)
def test_law_17_steps_are_spread_evenly_and_clamped(L, steps, seed):
    """In every block, not in the first alone: a step count that is not reset hurries all later blocks."""
    settings = Settings(block_size=L, steps=steps, max_span=3 * L)
    context = GroupContext(GroupNetwork(V, seed), 1, PAD, MASK, cached=True)
    events = list(generate(context, [[OPEN]], [[0]], classes(), settings, generators([seed])))
    revealed = {}  # by span and block
    for event in events:
        if isinstance(event, DenoisingStep):
            counts = revealed.setdefault((event.span, event.block), [])
            assert event.step == len(counts)
            counts.append(len(event.revealed))
    K = min(steps, L)
    for counts in revealed.values():
        assert counts == [L // K + (i < L % K) for i in range(K)]


# ---------------------------------------------------------------- 18: cached = recomputed

POLICIES = [
    *(unmasking.POLICIES.values()),
    partial(unmasking.confidence_threshold, threshold=0.4),
    partial(unmasking.entropy_bound, gamma=2.0),
]
SAMPLINGS = [unmasking.Sampling(), unmasking.Sampling(0.0), unmasking.Sampling(1.7, top_k=3, top_p=0.8)]


@st.composite
def cases(draw):
    block = draw(st.none() | st.integers(1, 5))
    first = draw(st.none() | st.integers(1, block)) if block else None
    settings = Settings(
        block_size=block,
        first_block=first,
        full_span=draw(st.booleans()),
        steps=draw(st.integers(1, 7)),
        policy=draw(st.sampled_from(POLICIES)),
        text_sampling=draw(st.sampled_from(SAMPLINGS)),
        audio_sampling=draw(st.sampled_from(SAMPLINGS)),
        max_text=draw(st.integers(1, 12)),
        max_span=max(block or 1, draw(st.integers(1, 12))),
        max_spans=draw(st.integers(0, 3)),
    )
    rows = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 6), min_size=rows, max_size=rows))
    prompts = [draw(st.lists(st.sampled_from([*LETTERS, OPEN]), min_size=n, max_size=n)) for n in lengths]
    if not settings.max_spans:
        prompts = [[*ids[:-1], 0] for ids in prompts]
    groups = [
        list(itertools.accumulate(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))) for n in lengths
    ]
    seeds = draw(st.lists(SEEDS, min_size=rows, max_size=rows))
    return settings, prompts, groups, seeds, GroupNetwork(V, draw(SEEDS))


def decode(case, cached: bool, rows: list[int] | None = None, dtype=torch.float64):
    settings, prompts, groups, seeds, network = case
    rows = list(range(len(prompts))) if rows is None else rows
    context = GroupContext(network, len(rows), PAD, MASK, cached, dtype)
    chosen = [prompts[r] for r in rows], [groups[r] for r in rows]
    return context, list(
        generate(context, *chosen, classes(), settings, generators([seeds[r] for r in rows]))
    )


def without_probabilities(events: list) -> list:
    """Events with their types, but not the figures that differ by rounding."""
    plain = []
    for event in events:
        if isinstance(event, DenoisingStep):
            event = event._replace(entropies=())
        elif isinstance(event, TextToken):
            event = event._replace(p=0.0)
        plain.append((type(event), event))
    return plain


@settings(max_examples=60)
@given(cases())
def test_law_18_cached_decoding_is_recomputed_decoding(case):
    (cached, kept), (_, recomputed) = decode(case, cached=True), decode(case, cached=False)
    assert without_probabilities(kept) == without_probabilities(recomputed)
    for a, b in zip(kept, recomputed, strict=True):
        if isinstance(a, DenoisingStep):
            assert a.entropies == pytest.approx(b.entropies, abs=1e-9)
        elif isinstance(a, TextToken):
            assert a.p == pytest.approx(b.p, abs=1e-9)
    for end in collect(
        kept
    ):  # and what was committed is the prompt and the reply, without the end that none follows
        assert cached.ids[end.row] == case[1][end.row] + list(end.ids[:-1])
        assert cached.groups[end.row] == case[2][end.row] + list(end.groups[:-1])


@settings(max_examples=40)
@given(cases())
def test_law_18_every_step_reads_the_logits_of_its_own_slots(case):
    context, events = decode(case, cached=False)
    for row in range(len(case[1])):
        steps = [e for e in events if e.row == row and isinstance(e, DenoisingStep)]
        drafted = [call[row][3] for call in context.calls if call[row][2]]  # (closed slots + D, V) each
        for e, logits in zip(steps, drafted, strict=True):
            p = logits[len(logits) - len(e.ids) :, CODES[0] : EOA + 1].softmax(-1)  # (D, A)
            assert e.entropies == pytest.approx(
                (-p * p.clamp(min=1e-300).log()).sum(-1).tolist(), rel=1e-9, abs=1e-12
            )


def test_law_18_later_blocks_of_a_full_span_read_their_own_logits_too():
    """The case that chance seldom draws: closed blocks of the same span are drafted again before the block at hand."""
    later = 0
    for seed in range(6):
        how = Settings(block_size=2, full_span=True, steps=2, max_text=4, max_span=8, max_spans=1)
        case = how, [[0, OPEN]], [[0, 1]], [seed], GroupNetwork(V, seed)
        test_law_18_every_step_reads_the_logits_of_its_own_slots.hypothesis.inner_test(case)
        later += any(isinstance(e, DenoisingStep) and e.block > 0 for e in decode(case, cached=False)[1])
    assert later >= 2


@settings(max_examples=40)
@given(SEEDS, st.data())
def test_law_18_any_split_into_steps_gives_the_same_logits(seed, data):
    """Of the two mock contexts: what the first test of this law rests on."""
    network = GroupNetwork(V, seed)
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    groups = [g for g, n in enumerate(sizes) for _ in range(n)]
    ids = data.draw(st.lists(st.integers(0, EOA), min_size=len(groups), max_size=len(groups)))
    draft = torch.tensor([data.draw(st.lists(st.integers(0, MASK), max_size=3))], dtype=torch.long)
    cuts = sorted(
        {0, len(ids), *data.draw(st.lists(st.sampled_from([sum(sizes[:n]) for n in range(len(sizes))])))}
    )
    seen = []
    for cached, pieces in ((True, cuts), (False, [0, len(ids)])):
        context = GroupContext(network, 1, PAD, MASK, cached)
        for a, b in itertools.pairwise(pieces):
            logits = context.step(torch.tensor([ids[a:b]]), torch.tensor([groups[a:b]]), draft)
        seen.append(logits)
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- 19: always a proper reply


def check_reply(end: End, settings: Settings, opened: bool, first_group: int) -> None:
    """The grammar of a reply, read token by token: text, spans of whole blocks, one end."""
    c, at, group, text, spans = classes(), 0, first_group, [], []
    assert MASK not in end.ids
    assert PAD not in end.ids
    assert len(end.ids) == len(end.groups)
    one_group = settings.full_span or settings.block_size is None
    while at < len(end.ids):
        if opened:
            slots, n = [], settings.first_block or settings.block_size
            while EOA not in slots:
                n = end.ids.index(EOA, at) + 1 - at if one_group else n
                block = end.ids[at : at + n]
                assert len(block) == n
                assert all(c.audio[x] for x in block)
                assert end.groups[at : at + n] == (group,) * n
                slots, at, group, n = slots + list(block), at + n, group + 1, settings.block_size
            codes = slots[: slots.index(EOA)]
            assert set(slots[len(codes) :]) == {EOA}
            assert len(slots) <= settings.max_span
            spans.append(tuple(codes))
        assert c.text[end.ids[at]]
        assert end.groups[at] == group
        text.append(end.ids[at])
        opened, at, group = end.ids[at] == OPEN, at + 1, group + 1
    assert text[-1] == END
    assert text.count(END) == 1
    assert len(text) <= settings.max_text
    assert len(spans) <= settings.max_spans
    assert end.reason in ("end", "limit")
    assert end.reason == "end" or len(text) == settings.max_text
    assert (tuple(text), tuple(spans)) == (end.text, end.spans)


@settings(max_examples=150)
@given(cases(), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_law_19_every_network_gives_proper_replies(case, cached, dtype):
    settings, prompts, groups, _, _ = case
    _, events = decode(case, cached, dtype=dtype)
    ends = collect(events)
    assert [end.row for end in ends] == list(range(len(prompts)))
    for end, ids, own in zip(ends, prompts, groups, strict=True):
        check_reply(end, settings, opened=ids[-1] == OPEN, first_group=own[-1] + 1)


@settings(max_examples=60)
@given(cases())
def test_law_19_batched_is_one_by_one(case):
    _, together = decode(case, cached=True)
    for row in range(len(case[1])):
        _, alone = decode(case, cached=True, rows=[row])
        alone = [e._replace(row=row) for e in alone]
        assert without_probabilities(alone) == without_probabilities([e for e in together if e.row == row])


@settings(max_examples=60)
@given(cases())
def test_law_19_one_forward_per_text_token_and_denoising_step_and_none_besides(case):
    """And each is given exactly what it must be: opening and closing ride along with the next step."""
    context, events = decode(case, cached=True)
    one_group = case[0].full_span or case[0].block_size is None
    for row, prompt in enumerate(case[1]):
        expected, commit, closed, block = [], prompt, [], None
        for e in events:
            if e.row == row and isinstance(e, TextToken):
                expected.append((commit, []))
                commit = [e.id]
            elif e.row == row and isinstance(e, DenoisingStep):
                expected.append((commit, closed + list(block or [MASK] * len(e.ids))))
                commit, block = [], e.ids
            elif e.row == row and isinstance(e, BlockClosed):
                commit, closed, block = (
                    ([], closed + list(e.ids), None) if one_group else (list(e.ids), [], None)
                )
            elif e.row == row and isinstance(e, SpanClosed):
                commit, closed = [*e.ids, EOA] if one_group else commit, []
        asked = [(call[row][0], call[row][2]) for call in context.calls]
        assert asked == expected + [([], [])] * (len(context.calls) - len(expected))
        assert [e.nfe for e in collect(events) if e.row == row] == [len(expected)]
    assert len(context.calls) == max(e.nfe for e in collect(events))


@settings(max_examples=60)
@given(cases())
def test_law_19_events_tell_what_happened(case):
    settings, last, changed, forced = case[0], {}, Counter(), Counter()
    for e in decode(case, cached=True)[1]:
        if isinstance(e, DenoisingStep):
            before = last.get(e.row, (MASK,) * len(e.ids))
            assert (
                e.revealed == tuple(i for i, x in enumerate(before) if x == MASK and e.ids[i] != MASK) != ()
            )
            assert all(x in (MASK, y) for x, y in zip(before, e.ids, strict=True))
            assert len(e.entropies) == len(e.ids)
            assert min(e.entropies) >= 0
            last[e.row] = e.ids
        elif isinstance(e, BlockClosed):
            drawn = last.pop(e.row)
            assert e.forced == (EOA not in drawn and EOA in e.ids)
            cut = drawn.index(EOA) if EOA in drawn else len(drawn) - e.forced
            assert e.ids == drawn[:cut] + (EOA,) * (len(drawn) - cut)
            assert e.changed == sum(a != b for a, b in zip(drawn, e.ids, strict=True))
            changed[e.row] += e.changed
            forced[e.row] += e.forced
        elif isinstance(e, SpanClosed):
            assert EOA not in e.ids
            assert len(e.ids) < settings.max_span
        elif isinstance(e, End):
            assert (e.changed, e.forced) == (changed[e.row], forced[e.row])


class Constant:
    """The same logits everywhere."""

    def __init__(self, **logits: float) -> None:
        self.logits = torch.zeros(V, dtype=torch.float64)
        for name, value in logits.items():
            self.logits[globals()[name]] = value

    def step(self, commit, commit_groups, draft):
        return self.logits.expand(len(commit), 1 + draft.shape[1], V)


def test_law_19_a_network_that_never_stops_is_stopped():
    settings = Settings(block_size=4, first_block=3, steps=2, max_text=5, max_span=12, max_spans=2)
    endless = Constant(EOA=-99, END=-99, OPEN=99, MASK=200, PAD=200)
    [end] = collect(generate(endless, [[0]], [[0]], classes(), settings, generators([0])))
    assert end.reason == "limit"
    assert len(end.text) == 5
    assert end.text[:2] == (OPEN, OPEN)
    assert OPEN not in end.text[2:]
    assert [len(span) for span in end.spans] == [
        10,
        10,
    ]
    assert end.forced == end.changed == 2
    [end] = collect(
        generate(Constant(END=99), [[0]], [[0]], classes(), replace(settings, max_text=1), generators([0]))
    )
    assert (end.reason, end.ids, end.groups, end.nfe) == ("end", (END,), (1,), 1)


class Drawn:
    """Random logits, the same for the same commitment and draft; V ids, or as many as `width`."""

    def __init__(self, seed: int, width: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.width = width

    def step(self, commit, commit_groups, draft):
        return torch.randn(len(commit), 1 + draft.shape[1], self.width, generator=self.generator)


@given(SEEDS, st.integers(2, 3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_law_19_slots_go_round_the_codebooks_and_spans_end_on_whole_frames(seed, n, size, block, full_span):
    """Ids: 0 text, 1 open, 2 end, n codebooks of `size` codes, end of audio, mask, pad."""
    ids = torch.arange(3 + n * size + 3)
    end_audio = 3 + n * size
    several = TokenClasses(
        text=ids < 3,
        audio=(ids >= 3) & (ids <= end_audio),
        open_audio=1,
        end_audio=end_audio,
        end=2,
        mask=end_audio + 1,
        pad=end_audio + 2,
        codebook=(ids - 3) // size,
    )
    how = Settings(block, steps=2, max_text=9, max_span=17, full_span=full_span)
    network = Drawn(seed, len(ids))
    [end] = collect(generate(network, [[0, 1]], [[0, 1]], several, how, generators([seed])))
    assert end.spans
    for span in end.spans:
        assert len(span) % n == 0
        assert [(code - 3) // size for code in span] == [slot % n for slot in range(len(span))]


@pytest.mark.parametrize("width", [V - 1, V + 1, 2 * V])
def test_logits_of_a_foreign_network_s_shape_are_refused_with_the_shape_wanted(width):
    with pytest.raises(
        ValueError, match=rf"\(1, 1, {width}\); step returns \(B, 1 \+ D, V\), here \(1, 1, {V}\)"
    ):
        collect(generate(Drawn(0, width), [[0]], [[0]], classes(), Settings(), generators([0])))


def test_uncut_logits_are_refused():
    """A Hugging Face model gives logits for all that it was given: (B, C, V), not (B, 1 + D, V)."""

    class Uncut:
        def step(self, commit, commit_groups, draft):
            return torch.zeros(len(commit), commit.shape[1] + draft.shape[1], V)

    with pytest.raises(ValueError, match="after the last committed token"):
        collect(generate(Uncut(), [[0, 0, 0]], [[0, 1, 2]], classes(), Settings(), generators([0])))


def test_law_19_randomness_comes_from_the_rows_generator_alone():
    def reply(seed):
        return collect(
            generate(Constant(), [[0]], [[0]], classes(), Settings(max_span=16), generators([seed]))
        )

    torch.manual_seed(1)
    first = reply(7)
    torch.manual_seed(2)
    assert first == reply(7)
    assert first != reply(8)


BAD_SETTINGS = [
    (dict(block_size=0), "block_size"),
    (dict(first_block=2.0), "first_block"),
    (dict(steps=0), "steps"),
    (dict(steps=None), "steps"),
    (dict(max_text=0), "max_text"),
    (dict(max_spans=-1), "max_spans"),
    (dict(block_size=None, first_block=2), "needs a block_size"),
    (dict(block_size=8, first_block=9), "first_block must be at most block_size, 8 slots, not 9"),
    (dict(block_size=8, max_span=7), "fit into max_span"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_SETTINGS)
def test_bad_settings_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        Settings(**bad)


@pytest.mark.parametrize(
    ("prompts", "groups", "seeds", "message"),
    [
        ([[0]], [[0]], [1, 2], "1 prompts, 1 lists of groups, 2 generators: each row needs one of each"),
        ([[0]], [[0], [0]], [1], "1 prompts, 2 lists of groups, 1 generators: each row needs one of each"),
        ([[]], [[]], [1], "prompt 0 needs"),
        ([[0, 1]], [[0]], [1], "prompt 0 needs"),
        ([[0], [0, 1]], [[0], [1, 0]], [1, 2], "prompt 1 needs"),
        ([[0]], [[-1]], [1], "prompt 0 needs"),
        ([[0, MASK]], [[0, 1]], [1], "mask"),
    ],
)
def test_bad_prompts_are_named(prompts, groups, seeds, message):
    with pytest.raises(ValueError, match=message):
        generate(Constant(), prompts, groups, classes(), Settings(), generators(seeds))


def test_a_shared_generator_is_refused():
    shared = "two rows share a generator; give each row a generator of its own"
    with pytest.raises(ValueError, match=shared):
        generate(Constant(), [[0]] * 2, [[0]] * 2, classes(), Settings(), [torch.Generator()] * 2)


def test_bad_classes_policies_and_logits_are_named():
    c = classes()
    for bad, message in [
        (dict(text=c.text | c.audio), "disjoint"),
        (dict(open_audio=EOA), "open_audio"),
        (dict(mask=CODES[0]), "never be emitted"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(c, **bad)
    for policy in (
        lambda d: d.masked & False,
        lambda d: d.masked | True if not d.masked.all() else random_order(d),
    ):
        settings = Settings(block_size=2, steps=2, policy=policy)
        with pytest.raises(ValueError, match="policy"):
            collect(generate(Constant(), [[OPEN]], [[0]], c, settings, generators([0])))
    with pytest.raises(ValueError, match="nan"):
        collect(generate(Constant(OPEN=math.nan), [[0]], [[0]], c, Settings(), generators([0])))


# ---------------------------------------------------------------- the loop, seen from outside


class Stops(bdb.Bdb):
    """A debugger with one breakpoint; it notes where the row was at each stop: its step in a block, or None in text."""

    def __init__(self, function, line: str) -> None:
        super().__init__()
        self.seen = []
        source, first = inspect.getsourcelines(function)
        [at] = [first + i for i, text in enumerate(source) if line in text]
        self.set_break(inspect.getsourcefile(function), at)

    def user_line(self, frame) -> None:
        row = frame.f_locals.get("row")
        if row is not None:
            self.seen.append(None if row.block is None else row.step)
        self.set_continue()


def test_a_breakpoint_in_the_loop_stops_once_for_each_denoising_step_and_each_text_token():
    events = []

    def decode() -> None:
        context = GroupContext(GroupNetwork(V, 3), 1, PAD, MASK, cached=True)
        how = Settings(block_size=3, steps=3, max_text=12, max_span=9, max_spans=2)
        events.extend(generate(context, [[0, OPEN]], [[0, 1]], classes(), how, generators([4])))

    debugger = Stops(decoding._decode, "yield from row.advance(")
    debugger.runcall(decode)
    expected = []
    for event in events:
        if isinstance(event, DenoisingStep):
            expected.append(event.step)
        elif isinstance(event, TextToken):
            expected.append(None)
    assert debugger.seen == expected
    assert len(expected) > 3 and {0, None} <= set(expected)


@given(SEEDS, st.sampled_from([0.0, 0.7, 1.0]))
def test_a_text_token_knows_its_probability_among_what_was_allowed(seed, temperature):
    """The network's, before temperature and truncation; of the end, too, where max_text forces it."""
    network = GroupNetwork(V, seed)
    context = GroupContext(network, 1, PAD, MASK, cached=True)
    sampling = unmasking.Sampling(temperature)
    how = Settings(block_size=2, steps=2, max_text=5, max_span=4, max_spans=1, text_sampling=sampling)
    ids, groups = [0, 1], [0, 1]
    spans = 0
    for event in generate(context, [list(ids)], [list(groups)], classes(), how, generators([seed])):
        if isinstance(event, TextToken):
            fresh = GroupContext(network, 1, PAD, MASK, cached=False)
            nothing = torch.zeros(1, 0, dtype=torch.long)
            logits = fresh.step(torch.tensor([ids]), torch.tensor([groups]), nothing)[0, 0]  # (V,)
            allowed = [i for i in range(V) if classes().text[i] and (i != OPEN or spans < 1)]
            p = logits[allowed].softmax(-1)
            assert event.p == pytest.approx(float(p[allowed.index(event.id)]), rel=1e-9)
            ids.append(event.id)
            groups.append(groups[-1] + 1)
        elif isinstance(event, BlockClosed):
            ids += event.ids
            groups += [groups[-1] + 1] * len(event.ids)
        elif isinstance(event, SpanClosed):
            spans += 1
