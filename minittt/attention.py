"""Who may see whom: attention masks from one generation group per token.

Text-to-Talk writes text token by token and audio block by block (arXiv 2509.20072: a partial order
of the sequence). That order is a number: every token has a generation *group*, groups count upwards, and

    a query sees a key  if and only if  group[key] <= group[query]

within one document. A text token is a group of its own, a source span (audio listened to) is one group, a
target span (audio spoken) is one group, or one per block: block size 1 is causal attention, None the paper's
full span.

The rule is written once, from small predicates joined with & and |, and read in two ways: as a dense boolean
mask for `scaled_dot_product_attention`, and as a `mask_mod` for FlexAttention. What FlexAttention needs besides, which
tiles of the square are empty and which are full, follows from the ranges of groups and documents in each tile
(`group_block_mask`): no square of L x L is ever made.

The file needs torch and nothing else. Copied alone into a folder, it works like this:

```python
import torch
from torch.nn.functional import scaled_dot_product_attention

from attention import TARGET, TEXT, assign_groups, explain, group_mask

kinds = torch.tensor([[TEXT] * 3 + [TARGET] * 4])  # (B, L): three words, then a spoken span
groups = assign_groups(kinds, block_size=2)
assert groups.tolist() == [[0, 1, 2, 3, 3, 4, 4]]
x = torch.randn(1, 1, 7, 16)  # (B, heads, L, d)
y = scaled_dot_product_attention(x, x, x, attn_mask=group_mask(groups)[:, None])  # (B, heads, L, d)
print(explain(groups[0], kinds[0], query=5))
# token 5, audio block 2, sees: text (0-2), audio block 1 (3-4), audio block 2 (5-6, its own)
```
"""

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

PAD_KIND, TEXT, SOURCE, TARGET = -1, 0, 1, 2  # what a token is
PAD_GROUP = -1  # the group of batch padding

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (b, h, q_idx, kv_idx) -> bool


# ---- groups from kinds


def assign_groups(
    kinds: Tensor,
    block_size: int | Tensor | None,
    first_block: int | Tensor | None = None,
    documents: Tensor | None = None,
) -> Tensor:
    """Number the generation groups of each row from 0; padding gets -1 (the paper's partial order).

    A text token is a group; a run of SOURCE is a group; a run of TARGET is cut into blocks of `block_size`
    tokens, the first of them `first_block` long. A run is a longest stretch of equal kinds in one document;
    its last block may be short.

    Args:
        kinds: (B, L) or (L,) integers, each PAD_KIND, TEXT, SOURCE or TARGET.
        block_size: tokens per block; None leaves a target run whole. A tensor (B,): one per row, 0 for None.
        first_block: tokens in the first block of each target run; None: `block_size`. A tensor (B,) as above.
        documents: the number of each token's document, of the shape of `kinds`; None: a row is one document.

    Returns: groups, of the shape of `kinds`, long.
    Raises: ValueError for an unknown kind, for a size that is not a whole number of tokens or not one per row, or for
    documents of another shape.
    """
    if kinds.dim() not in (1, 2) or kinds.is_floating_point():
        raise ValueError(f"kinds must be integers (B, L) or (L,), not {kinds.dtype} {tuple(kinds.shape)}")
    unknown = set(kinds.unique().tolist()) - {PAD_KIND, TEXT, SOURCE, TARGET}
    if unknown:
        raise ValueError(
            f"kinds are {PAD_KIND} (padding) to {TARGET} (target audio); found {sorted(unknown)}"
        )
    if documents is not None and documents.shape != kinds.shape:
        raise ValueError(
            f"documents have shape {tuple(documents.shape)}, kinds {tuple(kinds.shape)}; they must agree"
        )
    L = kinds.shape[-1]
    block = _sizes_per_row("block_size", block_size, kinds)  # (B, 1) or (1,)
    first = _sizes_per_row("first_block", first_block, kinds)
    block = torch.where(block == 0, max(L, 1), block)  # None: a block that covers any run
    first = torch.where(first == 0, block, first)
    # 1. Where a run of equal kinds in one document begins, and for each token, where its own run began.
    position = torch.arange(L, device=kinds.device)  # (L,)
    run_begins = torch.ones_like(kinds, dtype=torch.bool)  # (B, L)
    run_begins[..., 1:] = kinds[..., 1:] != kinds[..., :-1]
    if documents is not None:
        run_begins[..., 1:] |= documents[..., 1:] != documents[..., :-1]
    run_start = torch.where(run_begins, position, 0).cummax(-1).values  # (B, L)
    # 2. Where a block of target audio begins: at the end of the first block, and every `block` tokens after it.
    past_first = position - run_start - first  # (B, L): tokens beyond the first block; negative inside it
    block_begins = (kinds == TARGET) & (past_first >= 0) & (past_first % block == 0)
    # 3. A group begins there, and with every text token; counting beginnings numbers the groups.
    group_begins = run_begins | block_begins | (kinds == TEXT)
    group_begins = group_begins & (kinds != PAD_KIND)
    groups = group_begins.cumsum(-1) - 1  # (B, L)
    return groups.masked_fill(kinds == PAD_KIND, PAD_GROUP)


def _sizes_per_row(name: str, size: int | Tensor | None, kinds: Tensor) -> Tensor:
    """`size` as (B, 1) or (1,), to broadcast against `kinds`; 0 stands for None."""
    if isinstance(size, Tensor):
        if size.shape != kinds.shape[:-1] or size.is_floating_point() or bool((size < 0).any()):
            wanted = f"integers of shape {tuple(kinds.shape[:-1])}, one per row of kinds, 0 or more"
            raise ValueError(f"{name} must be {wanted}; it is {size.tolist()}")
        return size.to(kinds.device, torch.long).unsqueeze(-1)
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"{name} must be a whole number of tokens, 1 or more, or None; it is {size!r}")
    return torch.tensor([size or 0], device=kinds.device)


# ---- the rules: what a query token may see


class Tokens(NamedTuple):
    """What the rules ask of a token; tensors of one shape (B, L)."""

    group: Tensor
    document: Tensor
    noisy: Tensor

    def at(self, *index) -> "Tokens":
        """The same index of every tensor."""
        return Tokens(*(values[index] for values in self))

    def as_queries(self) -> "Tokens":
        """(B, L) as the left side of a rule."""
        return self.at(..., None)  # (B, L, 1)

    def as_keys(self) -> "Tokens":
        """(B, L) as the right side of a rule."""
        return self.at(..., None, slice(None))  # (B, 1, L)


Rule = Callable[[Tokens, Tokens], Tensor]


def is_real(q: Tokens, k: Tokens) -> Tensor:
    """Padding is never a key."""
    return k.group > PAD_GROUP


def same_document(q: Tokens, k: Tokens) -> Tensor:
    """Packed documents are blind to each other."""
    return k.document == q.document


def not_later(q: Tokens, k: Tokens) -> Tensor:
    """Earlier groups and the query's own: what a committed token may see."""
    return k.group <= q.group


def earlier(q: Tokens, k: Tokens) -> Tensor:
    """Earlier groups only: what a draft may see of the committed tokens."""
    return k.group < q.group


def same_group(q: Tokens, k: Tokens) -> Tensor:
    """The query's own group only: bidirectional inside a block or a span."""
    return k.group == q.group


def one_stream(q: Tokens, k: Tokens) -> Tensor:
    """The rule of one sequence: a real key, of the same document, of no later group."""
    return is_real(q, k) & same_document(q, k) & not_later(q, k)


def two_streams(q: Tokens, k: Tokens) -> Tensor:
    """The two-stream rule: the clean stream C holds every token, the noisy stream N the target audio once more.

    C sees C as one stream does, and never N: noise reaches neither text nor later blocks. N sees everything
    before its own group, and that group: exactly what a decoder sees while it fills the group in.
    """
    clean_sees_clean = ~q.noisy & ~k.noisy & not_later(q, k)
    noisy_sees_clean = q.noisy & ~k.noisy & earlier(q, k)
    noisy_sees_noisy = q.noisy & k.noisy & same_group(q, k)
    return is_real(q, k) & same_document(q, k) & (clean_sees_clean | noisy_sees_clean | noisy_sees_noisy)


# ---- dense masks


def visible(
    q_groups: Tensor, k_groups: Tensor, q_documents: Tensor | None = None, k_documents: Tensor | None = None
) -> Tensor:
    """Which cached keys each new query sees: (B, Q) and (B, K) -> bool (B, Q, K), for decoding with a cache.

    Group -1 marks an absent slot. As a key it is hidden from every real query. As a query it sees every key: its output
    is never read, and an empty row would make the softmax NaN. Raises: ValueError if the shapes or types do not fit, or
    documents are given on one side only.
    """
    if len(q_groups) != len(k_groups) or (q_documents is None) != (k_documents is None):
        raise ValueError("queries and keys must have equally many rows, and both documents or neither")
    queries = _tokens(q_groups, q_documents).as_queries()
    seen = one_stream(queries, _tokens(k_groups, k_documents).as_keys())  # (B, Q, K)
    return seen | (queries.group == PAD_GROUP)


def group_mask(groups: Tensor, documents: Tensor | None = None) -> Tensor:
    """The square mask of a batch, (B, L) -> bool (B, L, L), [b, q, k] True where q may attend to k.

    Every query also sees itself, so that rows of padding are not empty. `documents` (B, L), integers, number the
    sequences packed into one row; they are blind to each other. Raises: ValueError if the shapes or types do not fit.
    """
    return _square(one_stream, _tokens(groups, documents))


def two_stream_mask(groups: Tensor, noisy: Tensor, documents: Tensor | None = None) -> Tensor:
    """The square mask of rows that hold both streams, bool (B, L, L); the rule is `two_streams`.

    A noisy token (`noisy` (B, L) bool) has the group of its clean twin; the tokens of the two streams may come in any
    order. Every query also sees itself. Raises: ValueError if the shapes or types do not fit.
    """
    return _square(two_streams, _tokens(groups, documents, noisy))


def _square(rule: Rule, tokens: Tokens) -> Tensor:
    itself = torch.eye(tokens.group.shape[1], dtype=torch.bool, device=tokens.group.device)  # (L, L)
    return rule(tokens.as_queries(), tokens.as_keys()) | itself


def _tokens(groups: Tensor, documents: Tensor | None, noisy: Tensor | None = None) -> Tokens:
    if groups.dim() != 2 or groups.is_floating_point():
        raise ValueError(f"groups must be integers (B, L), not {groups.dtype} {tuple(groups.shape)}")
    for name, values in (("documents", documents), ("noisy", noisy)):
        if values is not None and values.shape != groups.shape:
            shapes = f"{tuple(values.shape)}, groups {tuple(groups.shape)}"
            raise ValueError(f"{name} have shape {shapes}; they must agree")
    if documents is not None and (documents.is_floating_point() or documents.dtype == torch.bool):
        found = f"{documents.dtype} {tuple(documents.shape)}"
        raise ValueError(f"documents must be integers (B, L), not {found}")
    if noisy is not None and noisy.dtype != torch.bool:
        raise ValueError(f"noisy must be boolean, not {noisy.dtype}")
    if documents is None:
        documents = torch.zeros_like(groups)
    if noisy is None:
        noisy = torch.zeros_like(groups, dtype=torch.bool)
    return Tokens(groups, documents, noisy)


# ---- the same rules for FlexAttention


def group_mask_mod(groups: Tensor, documents: Tensor | None = None) -> MaskMod:
    """`group_mask` as a FlexAttention mask_mod(b, h, q_idx, kv_idx): same arguments and errors."""
    return _mask_mod(one_stream, _tokens(groups, documents))


def two_stream_mask_mod(groups: Tensor, noisy: Tensor, documents: Tensor | None = None) -> MaskMod:
    """`two_stream_mask` as a FlexAttention mask_mod(b, h, q_idx, kv_idx): same arguments and errors."""
    return _mask_mod(two_streams, _tokens(groups, documents, noisy))


def _mask_mod(rule: Rule, tokens: Tokens) -> MaskMod:
    def mask_mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        """Whether a query sees a key: by the rule, and always itself."""
        return rule(tokens.at(b, q_idx), tokens.at(b, kv_idx)) | (q_idx == kv_idx)

    return mask_mod


# ---- which tiles of the square are empty, and which are full

TILE = 128  # tokens on a side: FlexAttention's own


class _Ranges(NamedTuple):
    """Lowest and highest group and document of one stream's tokens in each tile, all (B, n); empty ones are inverted."""

    lowest: Tensor
    highest: Tensor
    first: Tensor
    last: Tensor

    def as_queries(self) -> "_Ranges":
        """(B, n) as the left side of a comparison: (B, n, 1)."""
        return _Ranges(*(values[:, :, None] for values in self))

    def as_keys(self) -> "_Ranges":
        """(B, n) as the right side of a comparison: (B, 1, n)."""
        return _Ranges(*(values[:, None] for values in self))


def group_block_mask(groups: Tensor, documents: Tensor | None = None, tile: int = TILE):
    """`group_mask` as FlexAttention's BlockMask: same arguments and errors; tiles of `tile` tokens on a side."""
    return _block_mask(group_mask_mod(groups, documents), _tokens(groups, documents), tile)


def two_stream_block_mask(groups: Tensor, noisy: Tensor, documents: Tensor | None = None, tile: int = TILE):
    """`two_stream_mask` as FlexAttention's BlockMask: same arguments and errors; tiles of `tile` tokens on a side."""
    return _block_mask(two_stream_mask_mod(groups, noisy, documents), _tokens(groups, documents, noisy), tile)


def _block_mask(mask_mod: MaskMod, tokens: Tokens, tile: int):
    from torch.nn.attention.flex_attention import BlockMask  # slow to import, and rarely wanted

    some, full = tiles_seen(tokens, tile)  # (B, n, n) each
    partial_count, partial_order = _listed(some & ~full)
    full_count, full_order = _listed(full)
    L = tokens.group.shape[1]
    return BlockMask.from_kv_blocks(
        partial_count,
        partial_order,
        full_count,
        full_order,
        BLOCK_SIZE=tile,
        mask_mod=mask_mod,
        seq_lengths=(L, L),
    )


def tiles_seen(tokens: Tokens, tile: int) -> tuple[Tensor, Tensor]:
    """Which (query tile, key tile) pairs hold a visible pair, and which hold only visible pairs: two of (B, n, n) bool.

    Without noisy tokens two streams are one, so the rule of two serves for both. The first errs on the side of seeing:
    ranges overlap where groups or documents need not; the predicate then has the last word. The second never errs.
    """
    real = tokens.group > PAD_GROUP  # (B, L)
    clean = _ranges(tokens, real & ~tokens.noisy, tile)
    noisy = _ranges(tokens, real & tokens.noisy, tile)
    clean_q, noisy_q = clean.as_queries(), noisy.as_queries()  # (B, n, 1) each
    clean_k, noisy_k = clean.as_keys(), noisy.as_keys()  # (B, 1, n) each
    # 1. Some pair may be visible: the three ways to see, by ranges; and every token sees itself.
    clean_sees_clean = _share_documents(clean_q, clean_k) & (clean_k.lowest <= clean_q.highest)
    noisy_sees_clean = _share_documents(noisy_q, clean_k) & (clean_k.lowest < noisy_q.highest)
    noisy_sees_noisy = _share_documents(noisy_q, noisy_k)
    noisy_sees_noisy &= (noisy_k.lowest <= noisy_q.highest) & (noisy_q.lowest <= noisy_k.highest)
    n = clean.lowest.shape[1]
    itself = torch.eye(n, dtype=torch.bool, device=real.device)  # (n, n)
    some = noisy_sees_clean | clean_sees_clean | noisy_sees_noisy | itself
    # 2. Every pair is visible. An empty range passes every comparison.
    no_padding = _in_tiles(real, tile, False).all(-1)  # (B, n)
    first = torch.minimum(clean.first, noisy.first)  # (B, n)
    last = torch.maximum(clean.last, noisy.last)  # (B, n)
    whole = no_padding & (first == last)  # (B, n): no padding, one document
    same_documents = first[:, :, None] == first[:, None]  # (B, n, n)
    clean_sees_all_clean = clean_k.highest <= clean_q.lowest  # (B, n, n)
    noisy_sees_all_clean = clean_k.highest < noisy_q.lowest  # (B, n, n)
    noisy_sees_all_noisy = (noisy_k.highest <= noisy_q.lowest) & (noisy_q.highest <= noisy_k.lowest)
    has_clean_query = clean_q.lowest <= clean_q.highest  # (B, n, 1)
    has_noisy_key = noisy_k.lowest <= noisy_k.highest  # (B, 1, n)
    clean_meets_noise = has_clean_query & has_noisy_key  # (B, n, n): never visible
    full = whole[:, :, None] & whole[:, None] & same_documents
    full &= clean_sees_all_clean & noisy_sees_all_clean & noisy_sees_all_noisy & ~clean_meets_noise
    return some, full


def _ranges(tokens: Tokens, members: Tensor, tile: int) -> _Ranges:
    """Ranges of the tokens that are `members` (B, L) bool."""
    ranges = []
    for values in (tokens.group, tokens.document):
        limits = torch.iinfo(values.dtype)  # groups and documents may be of different integer types
        lowest = values.masked_fill(~members, limits.max)  # (B, L)
        highest = values.masked_fill(~members, limits.min)
        ranges.append(_in_tiles(lowest, tile, limits.max).amin(-1))  # (B, n)
        ranges.append(_in_tiles(highest, tile, limits.min).amax(-1))
    return _Ranges(*ranges)


def _in_tiles(values: Tensor, tile: int, fill: int | bool) -> Tensor:
    """(B, L) -> (B, n, tile), the last tile filled up."""
    missing = -values.shape[1] % tile
    return torch.nn.functional.pad(values, (0, missing), value=fill).unflatten(1, (-1, tile))


def _share_documents(q: _Ranges, k: _Ranges) -> Tensor:
    """Whether the ranges of documents meet."""
    return (q.first <= k.last) & (k.first <= q.last)


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """(B, n, n) bool as FlexAttention wants it: how many key tiles each query tile has, and which, those first."""
    count = tiles.sum(-1).int()  # (B, n)
    order = tiles.int().argsort(dim=-1, descending=True, stable=True).int()  # (B, n, n)
    return count[:, None], order[:, None]


# ---- a mask in words


def explain(
    groups: Tensor, kinds: Tensor, query: int, documents: Tensor | None = None, noisy: Tensor | None = None
) -> str:
    """Say in words what one query of one row sees, what it does not, and why; all tensors are (L,).

    Positions count from 0; audio blocks and source spans count from 1 within their document. With `noisy` the
    row holds two streams. Raises: ValueError if `query` is no position of the row or the shapes do not fit.
    """
    if kinds.shape != groups.shape or not 0 <= query < len(groups):
        shapes = f"groups {tuple(groups.shape)}, kinds {tuple(kinds.shape)}"
        raise ValueError(f"{shapes} must be of one length L, and query in 0..L-1; it is {query}")
    # 1. One row of the mask.
    documents_row = None if documents is None else documents[None]
    noisy_row = None if noisy is None else noisy[None]
    row = _tokens(groups[None], documents_row, noisy_row)
    rule = one_stream if noisy is None else two_streams
    seen = _square(rule, row)[0, query].tolist()  # L booleans
    # 2. A name and a remark for each key.
    tokens = []
    for group, document, is_noisy in zip(*(values[0].tolist() for values in row), strict=True):
        tokens.append(Tokens(group, document, is_noisy))
    names = [_name(tokens, kinds.tolist(), i) for i in range(len(tokens))]
    remarks = [_remark(tokens[query], key, sees) for key, sees in zip(tokens, seen, strict=True)]
    # 3. Neighbours of which the same can be said are named together.
    visible_parts = []
    hidden_parts = []
    for (sees, name, remark), run in groupby(range(len(tokens)), lambda i: (seen[i], names[i], remarks[i])):
        positions = list(run)
        where = str(positions[0])
        if len(positions) > 1:
            where += f"-{positions[-1]}"
        part = f"{name} ({where}{remark})"
        if sees:
            visible_parts.append(part)
        else:
            hidden_parts.append(part)
    # 4. The sentence.
    sentence = f"token {query}, {names[query]}"
    if documents is not None:
        sentence += f" of document {tokens[query].document}"
    sentence += ", sees: " + ", ".join(visible_parts)
    if hidden_parts:
        sentence += "; does not see: " + ", ".join(hidden_parts)
    return sentence


def _name(tokens: list[Tokens], kinds: list[int], i: int) -> str:
    """What token i is: "text", "source span 1", "noisy audio block 2", "padding"."""
    group, document, noisy = tokens[i]
    if group == PAD_GROUP:
        return "padding"
    if kinds[i] == TEXT:
        return "text"
    if kinds[i] == SOURCE:
        what = "source span"
    elif noisy:
        what = "noisy audio block"
    else:
        what = "audio block"
    # its number: how many groups of this kind there are in the document up to its own
    groups_up_to_here = set()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind == kinds[i] and token.document == document and token.group <= group:
            groups_up_to_here.add(token.group)
    return f"{what} {len(groups_up_to_here)}"


def _remark(q: Tokens, k: Tokens, sees: bool) -> str:
    """Why a key is hidden, or that it is the query's own group; empty where the name is enough."""
    own_group = k.group == q.group and k.document == q.document
    if sees:
        return ", its own" if own_group else ""
    if PAD_GROUP in (q.group, k.group):
        return ""
    if k.document != q.document:
        return f", document {k.document}"
    if k.noisy:
        return ", another noisy block" if q.noisy else ", noise"
    return ", its clean twin" if own_group else ", later"
