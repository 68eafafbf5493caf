"""Laws 8 to 11 of the attention masks: who sees whom, and that nothing leaks.

Every oracle here is written from the rule with plain loops over positions. `tests/golden/masks.npz` holds
figures recorded from the released TtT code on four batches: token ids, which of them are real, and its mask.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from minittt.attention import (
    PAD_KIND,
    SOURCE,
    TARGET,
    TEXT,
    assign_groups,
    explain,
    group_block_mask,
    group_mask,
    group_mask_mod,
    two_stream_block_mask,
    two_stream_mask,
    two_stream_mask_mod,
    visible,
)

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.one_of(st.none(), st.integers(1, 5))
VOCABULARY = 11


# ---- what the cases are drawn from


@st.composite
def tables(draw, low: int, high: int, rows: int | None = None, length: int | None = None) -> Tensor:
    """A (B, L) table of arbitrary integers in low..high."""
    rows = rows or draw(st.integers(1, 3))
    length = length or draw(st.integers(1, 12))
    values = draw(st.lists(st.integers(low, high), min_size=rows * length, max_size=rows * length))
    return torch.tensor(values).view(rows, length)


@st.composite
def arbitrary_rows(draw) -> tuple[Tensor, Tensor | None, Tensor]:
    """Groups, documents, streams in any order whatever: masks must follow the rule, not the usual layout."""
    groups = draw(tables(-1, 4))
    rows, length = groups.shape
    documents = draw(st.one_of(st.none(), tables(0, 2, rows, length)))
    return groups, documents, draw(tables(0, 1, rows, length)).bool()


@st.composite
def rows_of_runs(draw) -> Tensor:
    """Kinds (B, L) in any order, padding in the middle too, each standing for a run of 1 to 7 tokens."""
    runs = draw(tables(PAD_KIND, TARGET, length=draw(st.integers(1, 4))))
    lengths = draw(tables(1, 7, *runs.shape))
    rows = [kinds.repeat_interleave(n) for kinds, n in zip(runs, lengths, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_KIND)


@st.composite
def conversations(draw, padding: int = 0) -> Tensor:
    """The kinds (L,) of a sequence as really laid out: text before, between and after spans of audio."""
    kinds = [TEXT] * draw(st.integers(1, 2))
    for _ in range(draw(st.integers(1, 2))):
        kinds += [draw(st.sampled_from([SOURCE, TARGET]))] * draw(st.integers(1, 4))
        kinds += [TEXT] * draw(st.integers(1, 2))
    return torch.tensor(kinds + [PAD_KIND] * draw(st.integers(0, padding)))


# ---- the rule, in loops


def groups_by_the_rule(kinds: list[int], block: int | None, first: int | None) -> list[int]:
    groups, group, room = [], -1, 0  # room: slots left in the open block
    for i, kind in enumerate(kinds):
        if kind == PAD_KIND:
            groups.append(-1)
            continue
        begins = i == 0 or kinds[i - 1] != kind
        if kind == TEXT or begins or (kind == TARGET and room == 0):
            group += 1
            room = ((first if begins else None) or block or len(kinds)) if kind == TARGET else 0
        room -= kind == TARGET
        groups.append(group)
    return groups


def sees(q: int, k: int, groups: list[int], documents: list[int] | None, noisy: list[bool] | None) -> bool:
    """May position q attend to position k of the same row? Without the extra sight of itself."""
    if groups[k] < 0 or (documents and documents[q] != documents[k]):
        return False
    if noisy and noisy[k]:
        return noisy[q] and groups[k] == groups[q]
    if noisy and noisy[q]:
        return groups[k] < groups[q]
    return groups[k] <= groups[q]


def mask_by_the_rule(groups: Tensor, documents: Tensor | None = None, noisy: Tensor | None = None) -> Tensor:
    mask = torch.zeros(*groups.shape, groups.shape[1], dtype=torch.bool)
    for b, row in enumerate(groups.tolist()):
        rest = [None if x is None else x[b].tolist() for x in (documents, noisy)]
        for q in range(len(row)):
            for k in range(len(row)):
                mask[b, q, k] = q == k or sees(q, k, row, *rest)
    return mask


# ---- a small attention network: two layers, float64, random weights


class Network:
    """Token and position embeddings, two layers of attention and tanh, logits over VOCABULARY."""

    def __init__(self, seed: int, width: int = 8, layers: int = 2) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens, self.places, self.head, *weights = (
            torch.randn(n, width, generator=generator, dtype=torch.float64)
            for n in (VOCABULARY, 32, VOCABULARY, *[width] * 4 * layers)
        )
        # Scaled down, so that no softmax is so sharp that an influence is lost in rounding.
        self.layers = [[w / width**0.5 for w in weights[4 * i : 4 * i + 4]] for i in range(layers)]

    def embed(self, ids: Tensor, places: Tensor) -> Tensor:
        return self.tokens[ids] + self.places[places]  # (B, L, d)

    def logits(self, x: Tensor, mask: Tensor, cache: list | None = None) -> Tensor:
        """x (B, Q, d), mask (B, Q, K) -> (B, Q, V). `cache`: each layer's past keys and values; it grows."""
        for i, (q, k, v, mix) in enumerate(self.layers):
            h = torch.nn.functional.layer_norm(x, x.shape[-1:])
            keys, values = h @ k, h @ v  # (B, Q, d)
            if cache is not None:
                past = cache[i] if i < len(cache) else (keys[:, :0], values[:, :0])
                keys, values = torch.cat([past[0], keys], 1), torch.cat([past[1], values], 1)  # (B, K, d)
                cache[i : i + 1] = [(keys, values)]
            x = x + scaled_dot_product_attention(h @ q, keys, values, attn_mask=mask)
            x = x + torch.tanh(x) @ mix
        return x @ self.head.T

    def __call__(self, ids: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        return self.logits(self.embed(ids, torch.arange(ids.shape[1]) if places is None else places), mask)


def random_ids(length: int, seed: int) -> Tensor:
    return torch.randint(VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))  # (1, L)


def equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def influence(network: Network, ids: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
    """(L, L) [q, k]: the largest absolute derivative of q's logits by k's embedding."""
    places = torch.arange(ids.shape[1]) if places is None else places
    x = network.embed(ids, places).requires_grad_()
    mixed = (network.logits(x, mask)[0] * torch.arange(1.0, VOCABULARY + 1)).sum(-1)  # (L,)
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0][0].abs().amax(-1) for value in mixed]
    return torch.stack(rows)


# ---- law 8: every mask equals the rule


@given(st.data(), rows_of_runs(), SIZES, SIZES)
def test_law_08_groups_follow_the_rule(data, kinds, block, first):
    expected = [groups_by_the_rule(row, block, first) for row in kinds.tolist()]
    assert assign_groups(kinds, block, first).tolist() == expected
    assert assign_groups(kinds[0], block, first).tolist() == expected[0]

    rows = len(kinds)
    blocks, firsts = data.draw(tables(0, 5, 2, rows))  # each (B,), 0 for None
    row_by_row = zip(kinds.tolist(), blocks.tolist(), firsts.tolist(), strict=True)
    assert assign_groups(kinds, blocks, firsts).tolist() == [groups_by_the_rule(*row) for row in row_by_row]


@given(arbitrary_rows())
def test_law_08_one_stream_equals_the_rule(case):
    groups, documents, _ = case
    mask = group_mask(groups, documents)
    assert torch.equal(mask, mask_by_the_rule(groups, documents))
    assert mask.any(-1).all()  # no empty row


@given(arbitrary_rows())
def test_law_08_two_streams_equal_the_rule(case):
    groups, documents, noisy = case
    mask = two_stream_mask(groups, noisy, documents)
    assert torch.equal(mask, mask_by_the_rule(groups, documents, noisy))
    assert mask.any(-1).all()


@given(arbitrary_rows())
def test_law_08_mask_mod_equals_the_dense_mask(case):
    groups, documents, noisy = case
    for mask_mod, oracle in (
        (group_mask_mod(groups, documents), mask_by_the_rule(groups, documents)),
        (two_stream_mask_mod(groups, noisy, documents), mask_by_the_rule(groups, documents, noisy)),
    ):
        rows, length = groups.shape
        assert torch.equal(create_mask(mask_mod, rows, 1, length, length, device="cpu")[:, 0], oracle)


@given(st.data(), arbitrary_rows())
def test_law_08_visible_equals_the_rule(data, case):
    """Queries and keys from two different tables: keys are what lies in a cache, queries what is new."""
    k_groups, k_documents, _ = case
    rows = len(k_groups)
    q_groups = data.draw(tables(-1, 4, rows))
    q_documents = None if k_documents is None else data.draw(tables(0, 2, rows, q_groups.shape[1]))
    seen = visible(q_groups, k_groups, q_documents, k_documents)
    assert seen.shape == (rows, q_groups.shape[1], k_groups.shape[1])
    for b, q, k in np.ndindex(*seen.shape):
        pair = [q_groups[b, q].item(), k_groups[b, k].item()]
        documents = None if k_documents is None else [q_documents[b, q].item(), k_documents[b, k].item()]
        assert seen[b, q, k] == (pair[0] == -1 or sees(0, 1, pair, documents, None))
    if seen.shape[2]:
        absent = seen[q_groups < 0]  # (n, K)
        assert torch.zeros(absent.shape).masked_fill(~absent, -torch.inf).softmax(-1).isfinite().all()


@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_law_10_runs_end_where_a_document_ends(data, block, first):
    """Each document of a row is cut as it would be alone."""
    pieces = data.draw(
        st.lists(st.lists(st.integers(TEXT, TARGET), min_size=1, max_size=6), min_size=1, max_size=4)
    )
    kinds = torch.tensor([kind for piece in pieces for kind in piece])
    documents = torch.tensor([number for number, piece in enumerate(pieces) for _ in piece])
    groups = assign_groups(kinds, block, first, documents)
    assert torch.equal(assign_groups(kinds[None], block, first, documents[None])[0], groups)
    begin, before = 0, 0
    for piece in pieces:
        alone = assign_groups(torch.tensor(piece), block, first)
        assert torch.equal(groups[begin : begin + len(piece)], alone + before)
        begin += len(piece)
        before += int(alone[-1]) + 1


@given(st.data(), arbitrary_rows(), st.booleans())
def test_law_08_explain_names_exactly_the_visible_keys(data, case, two_streams):
    groups, documents, noisy = (None if x is None else x[0] for x in case)
    noisy = noisy if two_streams else None
    kinds = torch.where(groups < 0, PAD_KIND, data.draw(tables(TEXT, TARGET, 1, len(groups)))[0])
    oracle = mask_by_the_rule(*(None if x is None else x[None] for x in (groups, documents, noisy)))[0]
    for query in range(len(groups)):
        words = explain(groups, kinds, query, documents, noisy)
        told = [set(), set()]
        for part, listed in zip(words.split("; does not see: "), told, strict=False):
            for first, last in re.findall(r"\((\d+)(?:-(\d+))?", part):
                listed.update(range(int(first), int(last or first) + 1))
        assert told[0] == {k for k in range(len(groups)) if oracle[query, k]}, words
        assert told[1] == set(range(len(groups))) - told[0], words


def test_law_08_explain_speaks_plainly():
    kinds = torch.tensor([TEXT, SOURCE, SOURCE, TEXT, TARGET, TARGET, TARGET, TARGET, TEXT, PAD_KIND])
    groups = assign_groups(kinds, 2)
    assert explain(groups, kinds, 6) == (
        "token 6, audio block 2, sees: text (0), source span 1 (1-2), text (3), audio block 1 (4-5), "
        "audio block 2 (6-7, its own); does not see: text (8, later), padding (9)"
    )
    noisy = torch.tensor([False] * 10 + [True] * 4)
    twice = [torch.cat([x, x[4:8]]) for x in (groups, kinds)]
    assert explain(*twice, 10, noisy=noisy) == (
        "token 10, noisy audio block 1, sees: text (0), source span 1 (1-2), text (3), "
        "noisy audio block 1 (10-11, its own); does not see: audio block 1 (4-5, its clean twin), "
        "audio block 2 (6-7, later), text (8, later), padding (9), "
        "noisy audio block 2 (12-13, another noisy block)"
    )
    assert explain(*twice, 8, noisy=noisy).endswith(
        "does not see: padding (9), noisy audio block 1 (10-11, noise), noisy audio block 2 (12-13, noise)"
    )
    documents = torch.tensor([0] * 6 + [1] * 4)
    assert explain(groups, kinds, 6, documents) == (
        "token 6, audio block 1 of document 1, sees: audio block 1 (6-7, its own); "
        "does not see: text (0, document 0), source span 1 (1-2, document 0), text (3, document 0), "
        "audio block 1 (4-5, document 0), text (8, later), padding (9)"
    )
    assert explain(groups, kinds, 9) == (
        "token 9, padding, sees: padding (9, its own); does not see: text (0), source span 1 (1-2), "
        "text (3), audio block 1 (4-5), audio block 2 (6-7), text (8)"
    )


def long_row(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Groups, documents, streams (1, L): two packed conversations, each with its noisy twin, and padding."""
    kinds = torch.tensor([TEXT] * 5 + [SOURCE] * 20 + [TEXT] * 6 + [TARGET] * 24 + [TEXT] * 3)
    groups = assign_groups(kinds, 8)
    spoken = groups[kinds == TARGET]
    groups = torch.cat([groups, spoken, groups, spoken])
    noisy = torch.cat([torch.zeros(len(kinds)), torch.ones(len(spoken))]).bool().repeat(2)
    documents = torch.arange(2).repeat_interleave(len(groups) // 2)
    room = (0, length - len(groups))
    pad = torch.nn.functional.pad
    return pad(groups, room, value=-1)[None], pad(documents, room, value=2)[None], pad(noisy, room)[None]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_law_08_flex_attention_equals_sdpa():
    groups, documents, noisy = long_row(192)
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 192, 16, generator=generator, dtype=torch.float64)  # each (B, heads, L, d)
    for mask_mod, dense in (
        (group_mask_mod(groups, documents), group_mask(groups, documents)),
        (two_stream_mask_mod(groups, noisy, documents), two_stream_mask(groups, noisy, documents)),
    ):
        block_mask = create_block_mask(mask_mod, 1, None, 192, 192, device="cpu", BLOCK_SIZE=64)
        assert block_mask.sparsity() > 0  # whole blocks of the square are skipped
        flexible = flex_attention(q, k, v, block_mask=block_mask)
        assert equal(flexible, scaled_dot_product_attention(q, k, v, attn_mask=dense[:, None]))


def in_tiles(mask: Tensor, tile: int) -> Tensor:
    """(B, L, L) -> (B, n, n, tile * tile), what is beyond the row hidden."""
    room = -mask.shape[1] % tile
    filled = torch.nn.functional.pad(mask, (0, room, 0, room))
    return filled.unflatten(1, (-1, tile)).unflatten(3, (-1, tile)).transpose(2, 3).flatten(3)


@given(arbitrary_rows(), st.integers(1, 5), st.booleans())
def test_law_08_no_tile_that_is_seen_is_left_out_and_full_ones_are_full(rows, tile, two):
    """From ranges alone, whatever lies in a row: FlexAttention skips the first kind, and asks no predicate in the second."""
    groups, documents, noisy = rows
    if two:
        dense = two_stream_mask(groups, noisy, documents)
        block_mask = two_stream_block_mask(groups, noisy, documents, tile)
    else:
        dense = group_mask(groups, documents)
        block_mask = group_block_mask(groups, documents, tile)
    tiles = in_tiles(dense, tile)
    listed = block_mask.to_dense()[:, 0].bool()  # (B, n, n)
    assert (listed | ~tiles.any(-1)).all()
    full = listed_tiles(block_mask.full_kv_num_blocks, block_mask.full_kv_indices)
    assert (tiles.all(-1) | ~full).all()
    partial = listed_tiles(block_mask.kv_num_blocks, block_mask.kv_indices)
    assert not (partial & full).any() and (partial | full).equal(listed)


@given(arbitrary_rows(), st.integers(1, 5), st.sampled_from([torch.int8, torch.int32]))
def test_law_08_documents_may_have_another_integer_type_than_groups(rows, tile, dtype):
    """Documents are often int32, as `unique` or a file gives them, where groups are int64: the masks are the same."""
    groups, documents, noisy = rows
    if documents is None:
        documents = torch.zeros_like(groups)
    narrow = documents.to(dtype)
    assert group_mask(groups, narrow).equal(group_mask(groups, documents))
    assert two_stream_mask(groups, noisy, narrow).equal(two_stream_mask(groups, noisy, documents))
    for block_mask, wanted in (
        (group_block_mask(groups, narrow, tile), group_block_mask(groups, documents, tile)),
        (
            two_stream_block_mask(groups, noisy, narrow, tile),
            two_stream_block_mask(groups, noisy, documents, tile),
        ),
    ):
        assert listed_tiles(block_mask.kv_num_blocks, block_mask.kv_indices).equal(
            listed_tiles(wanted.kv_num_blocks, wanted.kv_indices)
        )
        assert listed_tiles(block_mask.full_kv_num_blocks, block_mask.full_kv_indices).equal(
            listed_tiles(wanted.full_kv_num_blocks, wanted.full_kv_indices)
        )


def listed_tiles(count: Tensor, order: Tensor) -> Tensor:
    """What a BlockMask lists, (B, n, n) bool: of each row of tiles the first `count` (B, 1, n) of `order` (B, 1, n, n)."""
    is_listed = torch.arange(order.shape[-1]) < count[..., None]
    return torch.zeros_like(is_listed).scatter(-1, order.long(), is_listed)[:, 0]


@pytest.mark.parametrize("tile", [4, 8, 16])
def test_law_08_ranges_find_the_tiles_that_a_dense_mask_would(tile):
    """In rows as they are laid out: few tiles too many, and every full one."""
    groups, documents, noisy = long_row(192)
    tiles = in_tiles(two_stream_mask(groups, noisy, documents), tile)
    block_mask = two_stream_block_mask(groups, noisy, documents, tile)
    listed = block_mask.to_dense()[:, 0].bool()
    full = listed_tiles(block_mask.full_kv_num_blocks, block_mask.full_kv_indices)
    assert listed.sum() <= 1.2 * tiles.any(-1).sum() < 0.7 * listed.numel()
    assert full.equal(tiles.all(-1)) and full.any()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_law_08_block_masks_from_ranges_give_what_sdpa_gives():
    groups, documents, noisy = long_row(192)
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 192, 16, generator=generator, dtype=torch.float64)  # each (B, heads, L, d)
    for block_mask, dense in (
        (group_block_mask(groups, documents, 64), group_mask(groups, documents)),
        (two_stream_block_mask(groups, noisy, documents, 64), two_stream_mask(groups, noisy, documents)),
    ):
        flexible = flex_attention(q, k, v, block_mask=block_mask)
        assert equal(flexible, scaled_dot_product_attention(q, k, v, attn_mask=dense[:, None]))


@pytest.mark.slow  # it compiles: one minute on a core of its own, with one head and two tiles a side
def test_law_08_the_compiled_kernel_that_skips_tiles_gives_what_sdpa_gives():
    groups, documents, noisy = long_row(256)
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 256, 16, generator=generator)  # each (B, heads, L, d)
    flexible = torch.compile(flex_attention)
    for _ in range(2):  # a mask of its own in every step
        block_mask = two_stream_block_mask(groups, noisy, documents)
        dense = two_stream_mask(groups, noisy, documents)
        with torch.no_grad():
            y = flexible(q, k, v, block_mask=block_mask)
        wanted = scaled_dot_product_attention(q, k, v, attn_mask=dense[:, None])
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        noisy = noisy & False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention has no backward pass on the CPU")
def test_law_08_flex_attention_equals_sdpa_forward_and_backward_on_a_gpu():
    groups, documents, noisy = (x.cuda() for x in long_row(256))
    block_mask = create_block_mask(
        two_stream_mask_mod(groups, noisy, documents), 1, None, 256, 256, device="cuda"
    )
    dense = two_stream_mask(groups, noisy, documents)[:, None]
    generator = torch.Generator("cuda").manual_seed(0)
    inputs = torch.randn(3, 1, 2, 256, 32, generator=generator, device="cuda")
    results = []
    for attend in (
        lambda q, k, v: torch.compile(flex_attention)(q, k, v, block_mask=block_mask),
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=dense),
    ):
        qkv = inputs.clone().requires_grad_()
        y = attend(*qkv)
        (gradient,) = torch.autograd.grad((y * torch.arange(32.0, device="cuda").cos()).sum(), qkv)
        results.append((y, gradient))
    for flexible, plain in zip(*results, strict=True):
        assert torch.allclose(flexible, plain, rtol=1e-3, atol=1e-3)


def test_bad_input_is_named():
    groups, two = torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long)
    for message, call in {
        r"kinds are -1 \(padding\) to 2 \(target audio\); found \[5\]": lambda: assign_groups(groups + 5, 1),
        r"documents have shape": lambda: assign_groups(groups, 1, None, groups[0]),
        r"kinds must be integers": lambda: assign_groups(groups.double(), 1),
        r"block_size must be a whole number of tokens, 1 or more, or None; it is 0": lambda: assign_groups(
            groups, 0
        ),
        r"first_block must be a whole number .* it is 1.5": lambda: assign_groups(groups, 1, 1.5),
        r"block_size must be integers of shape \(1,\)": lambda: assign_groups(groups, torch.tensor([1, 2])),
        r"first_block must be integers": lambda: assign_groups(groups, 1, torch.tensor([-1])),
        r"groups must be integers \(B, L\), not torch.int64 \(3,\)": lambda: group_mask(groups[0]),
        r"documents have shape \(1, 2\), groups \(1, 3\)": lambda: group_mask(groups, two),
        r"documents must be integers \(B, L\), not torch.float64 \(1, 3\)": lambda: group_block_mask(
            groups, groups.double()
        ),
        r"documents must be integers \(B, L\), not torch.bool": lambda: group_mask(groups, groups.bool()),
        r"noisy have shape": lambda: two_stream_mask_mod(groups, two.bool()),
        r"noisy must be boolean, not torch.int64": lambda: two_stream_mask(groups, groups),
        r"equally many rows": lambda: visible(groups, groups.repeat(2, 1)),
        r"both documents or neither": lambda: visible(groups, groups, groups),
        r"query in 0..L-1; it is 3": lambda: explain(groups[0], groups[0], 3),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


# ---- law 9: no leak


@given(conversations(padding=2), SIZES, SEEDS)
def test_law_09_changing_later_groups_leaves_earlier_logits_unchanged(kinds, block, seed):
    network, groups = Network(seed), assign_groups(kinds, block)[None]
    mask, ids = group_mask(groups), random_ids(len(kinds), seed)
    logits = network(ids, mask)
    for group in range(groups.max()):
        later = (groups > group) | (groups < 0)  # padding is later than everything
        changed = network(torch.where(later, (ids + 1) % VOCABULARY, ids), mask)
        assert equal(changed[~later], logits[~later])
        assert not torch.isclose(changed[later], logits[later]).all(-1).any()


@given(conversations(padding=2), SIZES, SEEDS)
def test_law_09_gradients_flow_from_visible_tokens_and_from_no_others(kinds, block, seed):
    """Two layers reach no farther than one, since the order of groups is transitive."""
    groups = assign_groups(kinds, block)[None]
    reach = influence(Network(seed), random_ids(len(kinds), seed), group_mask(groups))
    allowed = mask_by_the_rule(groups)[0]
    assert (reach[~allowed] == 0).all()
    assert (reach[allowed] > 0).all()


@st.composite
def cuts(draw, groups: Tensor) -> list[int]:
    """Positions 0 = c0 < c1 < ... = L at which a decoder may cut (L,) groups: never inside a group."""
    between = [i for i in range(1, len(groups)) if groups[i] != groups[i - 1]]
    inner = draw(st.lists(st.sampled_from(between), unique=True)) if between else []
    return [0, *sorted(inner), len(groups)]


@given(st.data(), conversations(), SIZES, SEEDS)
def test_law_09_cached_decoding_equals_one_pass(data, kinds, block, seed):
    """A closed group never changes again, so its keys and values may be kept, however one cuts."""
    groups = assign_groups(kinds, block)[None]
    mask, network, ids = group_mask(groups), Network(seed), random_ids(len(kinds), seed)
    cache, stepwise, ends = [], [], data.draw(cuts(groups[0]))
    for begin, end in zip(ends, ends[1:], strict=False):
        rows = visible(groups[:, begin:end], groups[:, :end])  # (1, Q, K)
        assert torch.equal(rows, mask[:, begin:end, :end])
        assert not mask[:, begin:end, end:].any()
        x = network.embed(ids[:, begin:end], torch.arange(begin, end))
        stepwise.append(network.logits(x, rows, cache))
    assert equal(torch.cat(stepwise, 1), network(ids, mask))


@given(st.integers(2, 5), st.integers(1, 4), SEEDS)
def test_law_09_a_cache_cut_inside_a_group_is_stale(span, cut, seed):
    """Full span, cut in two: the first half is cached before it can see the second, and the logits differ."""
    cut = min(cut, span - 1)
    kinds = torch.tensor([TEXT] + [TARGET] * span + [TEXT])
    groups, network, ids = assign_groups(kinds, None)[None], Network(seed), random_ids(span + 2, seed)
    cache, ends = [], (0, 1 + cut, span + 2)
    for begin, end in zip(ends, ends[1:], strict=False):
        x = network.embed(ids[:, begin:end], torch.arange(begin, end))
        logits = network.logits(x, visible(groups[:, begin:end], groups[:, :end]), cache)
    assert not torch.isclose(logits, network(ids, group_mask(groups))[:, 1 + cut :]).all()


# ---- law 10: block size 1 is causal, None is the released mask, documents are blind to each other


@given(st.lists(st.sampled_from([TEXT, TARGET]), min_size=1, max_size=12))
def test_law_10_block_size_1_is_causal(kinds):
    groups = assign_groups(torch.tensor([kinds]), 1)
    assert groups[0].tolist() == list(range(len(kinds)))
    assert torch.equal(group_mask(groups)[0], torch.ones(len(kinds), len(kinds)).tril().bool())


@given(conversations(), st.integers(1, 5))
def test_law_10_merged_blocks_only_add_sight(kinds, block):
    """Causal is contained in block-causal, that in blocks twice as long and in full span; what is added stays in a span."""
    sizes = (1, block, 2 * block, None)
    causal, blocks, doubled, whole = (group_mask(assign_groups(kinds, size)[None])[0] for size in sizes)
    assert (causal <= blocks).all()
    assert (blocks <= doubled).all()
    assert (doubled <= whole).all()
    for q, k in (whole & ~causal).nonzero().tolist():
        assert k > q
        assert set(kinds[q : k + 1].tolist()) <= {TARGET}


def test_law_10_a_larger_block_that_is_no_multiple_also_takes_sight_away():
    kinds = torch.full((6,), TARGET)
    two, three = (group_mask(assign_groups(kinds, size)[None])[0] for size in (2, 3))
    assert two[2, 3]
    assert not three[2, 3]


GOLDEN = np.load(Path(__file__).parent / "golden" / "masks.npz", allow_pickle=False)
FIRST_AUDIO_ID = (
    307  # the recorded vocabulary: from here on codes, MASK and the two assistant-side end tokens
)


@pytest.mark.parametrize("batch", ["b0", "b1", "b4", "b5"])
@pytest.mark.parametrize("audio", [SOURCE, TARGET])
def test_law_10_block_size_none_is_the_released_mask(batch, audio):
    """Compared are the rows of all real queries, with all their keys, padding included.

    Rows of padding differ on purpose and are read by no loss: released, a padding query sees every real token
    before it; here it sees itself alone. The released code knows audio, not who speaks; with full spans that
    makes no difference.
    """
    ids, real = (torch.from_numpy(GOLDEN[f"{batch}_{name}"]) for name in ("input_ids", "attention_mask"))
    length = ids.shape[1]
    released = torch.from_numpy(np.unpackbits(GOLDEN[f"{batch}_visible"], axis=-1)[..., :length]).bool()
    kinds = torch.where(ids >= FIRST_AUDIO_ID, audio, TEXT).masked_fill(~real, PAD_KIND)
    ours = group_mask(assign_groups(kinds, None))
    assert real.any(1).all()
    assert (kinds == audio).any(1).all()
    assert torch.equal(ours[real], released[real])
    causal_over_real = torch.ones(length, length).tril().bool() & real[:, None, :]  # (B, L, L)
    assert torch.equal(released[~real], causal_over_real[~real])
    assert torch.equal(ours[~real], torch.eye(length).bool().expand(len(ids), -1, -1)[~real])


@given(conversations(), conversations(), SIZES, st.booleans(), SEEDS)
def test_law_10_packed_documents_are_blind_to_each_other(one, two, block, restart, seed):
    """In one row, each gives the logits it gives alone, whether group numbers go on or begin anew."""
    network, cut = Network(seed), len(one)
    kinds = torch.cat([one, two])
    groups = assign_groups(kinds, block)
    if restart:
        groups = torch.cat([assign_groups(one, block), assign_groups(two, block)])
    documents = torch.tensor([0] * cut + [1] * len(two))
    mask = group_mask(groups[None], documents[None])
    assert not mask[0, :cut, cut:].any()
    assert not mask[0, cut:, :cut].any()
    ids, places = random_ids(len(kinds), seed), torch.cat([torch.arange(cut), torch.arange(len(two))])
    packed = network(ids, mask, places)
    for part, alone in ((slice(cut), one), (slice(cut, None), two)):
        assert equal(packed[:, part], network(ids[:, part], group_mask(assign_groups(alone, block)[None])))
    rows = visible(groups[None, cut:], groups[None], documents[None, cut:], documents[None])
    assert torch.equal(rows, mask[:, cut:])


# ---- law 11: two streams in one pass equal a clean pass and one pass per group


@st.composite
def two_stream_rows(draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Groups, places, streams and kinds (1, L + N), the tokens of both streams shuffled together."""
    kinds = draw(conversations(padding=1))
    groups, spoken = assign_groups(kinds, draw(SIZES)), kinds == TARGET
    places = torch.arange(len(kinds))
    columns = [torch.cat([x, x[spoken]]) for x in (groups, places, torch.zeros_like(kinds), kinds)]
    columns[2][len(kinds) :] = 1
    order = torch.tensor(draw(st.permutations(range(len(columns[0])))))
    groups, places, noisy, kinds = (x[order][None] for x in columns)
    return groups, places, noisy.bool(), kinds


@given(two_stream_rows(), SEEDS)
def test_law_11_the_clean_stream_equals_a_clean_pass(row, seed):
    groups, places, noisy, _ = row
    network, ids, clean = Network(seed), random_ids(groups.shape[1], seed), ~noisy[0]
    mask = two_stream_mask(groups, noisy)
    assert torch.equal(mask[:, clean][:, :, clean], group_mask(groups[:, clean]))
    assert not mask[:, clean][:, :, ~clean].any()
    alone = network(ids[:, clean], group_mask(groups[:, clean]), places[:, clean])
    assert equal(network(ids, mask, places)[:, clean], alone)


@given(two_stream_rows(), SEEDS)
def test_law_11_the_noisy_stream_equals_one_pass_per_group(row, seed):
    """A pass for group g: the clean tokens of the groups before g and, in g's place, its noisy tokens."""
    groups, places, noisy, _ = row
    network, ids = Network(seed), random_ids(groups.shape[1], seed)
    mask = two_stream_mask(groups, noisy)
    logits = network(ids, mask, places)
    for group in groups[noisy].unique():
        kept = ((~noisy & (groups < group)) | (noisy & (groups == group)))[0]  # (L + N,)
        queries = (noisy & (groups == group))[0]
        assert torch.equal(mask[:, queries][:, :, kept], group_mask(groups[:, kept])[:, queries[kept]])
        assert not (mask[:, queries][:, :, ~kept] & (groups[:, None, ~kept] >= 0)).any()
        alone = network(ids[:, kept], group_mask(groups[:, kept]), places[:, kept])
        assert equal(logits[:, queries], alone[:, queries[kept]])


@given(two_stream_rows(), SEEDS)
def test_law_11_gradients_flow_from_visible_tokens_and_from_no_others(row, seed):
    groups, places, noisy, _ = row
    mask = two_stream_mask(groups, noisy)
    reach = influence(Network(seed), random_ids(groups.shape[1], seed), mask, places)
    allowed = mask_by_the_rule(groups, None, noisy)[0]
    assert (reach[~allowed] == 0).all()
    assert (reach[allowed] > 0).all()
