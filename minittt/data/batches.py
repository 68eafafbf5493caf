"""Sequences to batches: several documents share a row, blind to each other, so that almost no slot is wasted.

For the two-stream objective each document is laid out twice: its clean stream C, then its noisy stream N, a copy of the
target audio that keeps the positions of its clean twins. N is still clean here; the objective corrupts it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minittt.attention import PAD_KIND, TARGET, assign_groups
from minittt.data.conversation import TokenSequence
from minittt.errors import MinitttError

NOISY, TEXT_TARGETS = 4, 5  # rows of a laid-out document; see `lay_out`


@dataclass
class Batch:
    """Rows of packed documents, all (B, L). Padding has kind and group -1."""

    ids: Tensor  # long, clean everywhere
    kinds: Tensor  # TEXT, SOURCE, TARGET
    groups: Tensor  # counted anew in each document
    documents: Tensor  # which document of the row a token belongs to
    positions: Tensor  # within its document; a noisy token has its clean twin's
    noisy: Tensor  # bool: True in the noisy stream
    text_targets: Tensor  # bool: this clean token is to be predicted from the token before it

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})

    @property
    def useful(self) -> float:
        """Share of slots that hold a token."""
        return (self.kinds != PAD_KIND).float().mean().item()


def lay_out(
    sequence: TokenSequence, block_size: int | None, first_block: int | None = None, two_streams: bool = True
) -> Tensor:
    """One document as columns (6, n): ids, kinds, groups, positions, noisy, text_targets (Batch without documents)."""
    # 1. The clean stream: every token once.
    ids = torch.tensor(sequence.ids)  # (L,)
    kinds = torch.tensor(sequence.kinds)  # (L,)
    groups = assign_groups(kinds, block_size, first_block)  # (L,)
    positions = torch.arange(len(ids))  # (L,)
    noisy = torch.zeros_like(ids)  # (L,)
    text_targets = torch.tensor(sequence.targets).long()  # (L,)
    clean = torch.stack([ids, kinds, groups, positions, noisy, text_targets])  # (6, L)
    if not two_streams:
        return clean
    # 2. The noisy stream: target audio once more, with the groups and positions of its clean twins.
    twin = clean[:, kinds == TARGET].clone()  # (6, A)
    twin[NOISY] = 1
    twin[TEXT_TARGETS] = 0
    # 3. One after the other.
    return torch.cat([clean, twin], dim=1)  # (6, L + A)


def pack(documents: list[Tensor], row_length: int, pad: int) -> Batch:
    """First-fit decreasing: each (6, n) document goes into the first row with room. Rows of at most `row_length` slots.

    Raises MinitttError if a document is longer than a row: nothing is silently cut.
    """
    rows: list[list[Tensor]] = []
    room: list[int] = []
    for document in sorted(documents, key=lambda d: -d.shape[1]):
        n = document.shape[1]
        if n > row_length:
            raise MinitttError(
                f"a document of {n} tokens does not fit a row of {row_length}: use longer rows or leave it out"
            )
        row = next((i for i, left in enumerate(room) if left >= n), None)
        if row is None:
            rows.append([])
            room.append(row_length)
            row = len(rows) - 1
        rows[row].append(document)
        room[row] -= n
    return _join(rows, row_length - min(room), pad)


def _join(rows: list[list[Tensor]], length: int, pad: int) -> Batch:
    empty = torch.tensor([pad, PAD_KIND, -1, 0, 0, 0, -1])[:, None]  # one padding slot, documents last
    packed = empty.repeat(len(rows), 1, length).view(len(rows), 7, length)
    for i, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row):
            stop = start + document.shape[1]
            packed[i, :6, start:stop] = document
            packed[i, 6, start:stop] = number
            start = stop
    ids, kinds, groups, positions, noisy, targets, numbers = packed.unbind(1)
    return Batch(ids, kinds, groups, numbers, positions, noisy.bool(), targets.bool())
