"""A context for CUDA: few shapes, each of which is captured as a CUDA graph and replayed.

A small network on a GPU spends its time launching kernels. A graph launches a whole forward pass at once, but its shapes are
fixed: so every row gets equally many new tokens (1, 2, 4, ...) and looks at one of a few numbers of slots (256, 512, ...).
Padding goes to the cache's spare slot, which nobody sees. Long prompts, and all devices but CUDA, take the same steps
without a graph, so that the shapes can be tested anywhere.

Nothing here has been timed: no CUDA device was at hand.
"""

import torch
from torch import Tensor

from minittt.context import Bucket, CachedContext, NewTokens
from minittt.device import move

LONGEST = 64  # new tokens a row; more (a prompt) are computed as they are
FEWEST_KEYS = 256


class GraphedContext(CachedContext):
    """`CachedContext` in fixed shapes. `graphs=False` on CUDA: the same shapes without recording."""

    def __init__(self, *given, graphs: bool = True, **more) -> None:
        super().__init__(*given, **more)
        self._make_room(self.capacity + 1)  # a graph's memory may not move; the spare slot is for padding
        self.graphs = graphs and self.last.is_cuda
        self.recorded: dict[tuple[int, int], tuple] = {}  # by new tokens a row and slots looked at

    def _lay_out(self, ids: list[list[int]], seen: list[list[int]]) -> tuple[NewTokens, dict[int, int]]:
        longest = max(map(len, ids))
        if not 0 < longest <= LONGEST:
            return super()._lay_out(ids, seen)
        n, B, device = _power_of_two(longest), len(ids), self.last.device
        keys = max(FEWEST_KEYS, _power_of_two(max(row[-1] for row in seen if row)))
        made = torch.full((4, B, n), self.pad)  # ids, rows, slots, seen
        made[1], made[2], made[3] = torch.arange(B)[:, None], self.capacity, 1
        for row, (tokens, how_many) in enumerate(zip(ids, seen, strict=True)):
            start = self.lengths[row]
            columns = (tokens, [row] * len(tokens), range(start, start + len(tokens)), how_many)
            made[:, row, : len(tokens)] = torch.tensor([list(column) for column in columns])
        bucket = Bucket(slice(0, B), slice(0, B * n), n, min(keys, self.capacity + 1), sees_all=False)
        return NewTokens(*move(made.view(4, B * n), device), [bucket]), {row: row * n for row in range(B)}

    def _forward(self, new: NewTokens) -> Tensor:
        [bucket, *more] = new.buckets
        if not self.graphs or more or bucket.n > LONGEST:
            return super()._forward(new)
        key = (bucket.n, bucket.keys)
        if key not in self.recorded:
            self.recorded[key] = self._record(new)
        graph, given, hidden = self.recorded[key]
        for mine, values in zip(given[:4], new[:4], strict=True):
            mine.copy_(values)
        graph.replay()
        return hidden

    def _record(self, new: NewTokens) -> tuple:
        """A graph of this forward, the tensors it reads, and the one it writes, (B * n, d)."""
        given = NewTokens(*(values.clone() for values in new[:4]), new.buckets)
        aside = (
            torch.cuda.Stream()
        )  # a first run elsewhere lets libraries take their memory; it writes what will be written
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            super()._forward(given)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hidden = super()._forward(given)
        return graph, given, hidden


def _power_of_two(n: int) -> int:
    """The least power of two that is n or more."""
    return 1 << (n - 1).bit_length()
