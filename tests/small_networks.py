"""Networks small enough to enumerate: tables over one block, and a two-layer network under the group rule.

Written from the rules, using nothing of minittt, so that tests can compare with them.
"""

import itertools
import math

import torch
from torch import Tensor

MASKED = -1


def random_joint(L: int, A: int, seed: int, sharpness: float = 2.0) -> Tensor:
    """q(x), shape (A,) * L: a joint distribution without structure."""
    g = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(A**L, generator=g, dtype=torch.float64)
    return logits.softmax(0).reshape([A] * L)


class Oracle:
    """The exact conditionals of an explicit joint: p(x_i | revealed)."""

    def __init__(self, joint: Tensor) -> None:
        self.joint, self.L, self.A = joint, joint.dim(), joint.shape[0]

    def p(self, state: tuple[int, ...]) -> Tensor:
        """state (L,) with MASKED where masked -> (L, A)."""
        seen = self.joint[tuple(slice(None) if x == MASKED else slice(x, x + 1) for x in state)]
        rows = []
        for i, x in enumerate(state):
            marginal = seen.movedim(i, 0).flatten(1).sum(1) if self.L > 1 else seen  # (A,) or (1,)
            one_hot = torch.eye(self.A, dtype=torch.float64)[x]
            total = marginal.sum()  # 0 in a state that the joint rules out, where any answer will do
            p = marginal / total if total > 0 else torch.full_like(marginal, 1 / self.A)
            rows.append(p if x == MASKED else one_hot)
        return torch.stack(rows)


class Table:
    """An arbitrary network over one block: unrelated conditionals in every state, of no joint."""

    def __init__(self, L: int, A: int, seed: int, sharpness: float = 2.0) -> None:
        self.L, self.A = L, A
        g = torch.Generator().manual_seed(seed)
        self.table = {
            state: (sharpness * torch.randn(L, A, generator=g, dtype=torch.float64)).softmax(-1)
            for state in itertools.product(range(-1, A), repeat=L)
        }

    def p(self, state: tuple[int, ...]) -> Tensor:
        return self.table[state]


def propagate(network, policy, make_draft, steps: int) -> tuple[dict[tuple[int, ...], float], float]:
    """A sampler's exact distribution and mean number of steps, by every ranking of noise and every draw.

    make_draft(masked, p, candidates, noise, steps_left) builds what the policy looks at.
    """
    L, A = network.L, network.A
    live, done, mean_steps = {(MASKED,) * L: 1.0}, {}, 0.0
    for step in range(L):
        following: dict[tuple[int, ...], float] = {}
        mean_steps += sum(live.values())
        for state, weight in live.items():
            p = network.p(state)  # (L, A)
            hidden = [i for i in range(L) if state[i] == MASKED]
            masked = torch.tensor([x == MASKED for x in state])
            for ranks in itertools.permutations(range(len(hidden))):
                noise = torch.zeros(L, dtype=torch.float64)
                noise[hidden] = (torch.tensor(ranks, dtype=torch.float64) + 0.5) / L
                for drawn in itertools.product(range(A), repeat=len(hidden)):
                    candidates = torch.zeros(L, dtype=torch.long)
                    candidates[hidden] = torch.tensor(drawn)
                    chance = math.prod(float(p[i, x]) for i, x in zip(hidden, drawn, strict=True))
                    if chance == 0:
                        continue
                    reveal = policy(make_draft(masked, p, candidates, noise, max(1, steps - step)))
                    new = tuple(int(candidates[i]) if reveal[i] else state[i] for i in range(L))
                    assert reveal.any()
                    assert not (reveal & ~masked).any()
                    bin_ = following if MASKED in new else done
                    bin_[new] = bin_.get(new, 0.0) + weight * chance / math.factorial(len(hidden))
        live = following
    assert not live
    return done, mean_steps


def kl(q: dict, p: dict) -> float:
    return sum(w * math.log(w / p[x]) for x, w in q.items() if w > 0)


def as_dict(joint: Tensor) -> dict[tuple[int, ...], float]:
    return {x: float(joint[x]) for x in itertools.product(range(joint.shape[0]), repeat=joint.dim())}


class GroupNetwork:
    """Two layers of averaging over what the group rule shows: (L,) ids -> (L, V) logits."""

    def __init__(self, V: int, seed: int, sharpness: float = 4.0, d: int = 5) -> None:
        g = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
        self.V, self.embed, self.where = V, 2 * normal(V, d), normal(4096, d)
        self.mix = [(normal(d, d), normal(d, d)), (normal(d, V) * sharpness, normal(d, V) * sharpness)]

    def inputs(self, ids: list[int]) -> Tensor:
        return self.embed[ids] + self.where[: len(ids)]  # (L, d)

    def layer(self, n: int, x: Tensor, q_groups: Tensor, k_groups: Tensor) -> Tensor:
        """Features of all keys x (K, d); the last Q of them are the queries -> (Q, d or V)."""
        seen = (k_groups[None, :] <= q_groups[:, None]).double()  # (Q, K)
        own, around = self.mix[n]
        out = x[len(x) - len(q_groups) :] @ own + (seen @ x) / seen.sum(-1, keepdim=True) @ around
        return out.tanh() if n == 0 else out


class GroupContext:
    """The decoder's protocol on a GroupNetwork. cached: what is committed is computed once, when committed.

    It checks what a decoder may rightly ask, remembers every call, and may return float32 logits."""

    def __init__(
        self, network: GroupNetwork, rows: int, pad: int, mask: int, cached: bool, dtype=torch.float64
    ):
        self.network, self.pad, self.mask, self.cached, self.dtype = network, pad, mask, cached, dtype
        self.ids, self.groups = [[] for _ in range(rows)], [[] for _ in range(rows)]
        self.first = [
            torch.zeros(0, 5, dtype=torch.float64) for _ in range(rows)
        ]  # layer 1 of what is committed
        self.last = [torch.zeros(network.V, dtype=torch.float64) for _ in range(rows)]
        self.calls: list[
            list[tuple]
        ] = []  # per forward and row: commit, its groups, draft, logits of the draft

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        assert commit.shape == commit_groups.shape
        assert len(commit) == len(draft) == len(self.ids)
        logits = torch.full((len(draft), 1 + draft.shape[1], self.network.V), math.nan, dtype=torch.float64)
        self.calls.append([])
        for row in range(len(draft)):
            present, drafted = commit_groups[row] >= 0, draft[row] != self.pad
            assert present.tolist() == sorted(present.tolist(), reverse=True), "real slots come first"
            assert drafted.tolist() == sorted(drafted.tolist(), reverse=True), "real slots come first"
            assert (commit[row][~present] == self.pad).all()
            new, groups = commit[row][present].tolist(), commit_groups[row][present].tolist()
            assert self.mask not in new, "MASK may never be committed"
            assert groups == sorted(groups)
            assert not groups or not self.groups[row] or groups[0] > self.groups[row][-1]
            logits[row, 0], shown = self._row(row, new, groups, draft[row][drafted].tolist())
            logits[row, 1 : 1 + len(shown)] = shown
            self.calls[-1].append((new, groups, draft[row][drafted].tolist(), shown))
        return logits.to(self.dtype)

    def _row(self, row: int, new: list[int], groups: list[int], draft: list[int]) -> tuple[Tensor, Tensor]:
        self.ids[row], self.groups[row] = self.ids[row] + new, self.groups[row] + groups
        top = self.groups[row][-1] + 1
        x = self.network.inputs(self.ids[row] + draft)  # (L, d)
        g = torch.tensor(self.groups[row] + [top] * len(draft))  # (L,)
        kept = self.first[row] if self.cached else self.first[row][:0]
        hidden = torch.cat([kept, self.network.layer(0, x, g[len(kept) :], g)])  # (L, d)
        committed = len(self.ids[row])
        self.first[row] = hidden[:committed]
        logits = self.network.layer(1, hidden, g[len(kept) :], g) if len(hidden) > len(kept) else x[:0]
        if new:
            self.last[row] = logits[committed - 1 - len(kept)]
        return self.last[row], logits[committed - len(kept) :] if draft else torch.zeros(0, self.network.V)
