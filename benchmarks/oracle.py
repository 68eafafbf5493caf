"""An oracle in the network's place: a small hidden Markov model with exact conditionals, its samplers enumerated.

When the network makes no mistakes, what remains is the sampler's own error. A hidden state that seldom changes is a voice:
slots depend on each other only through it, as the codes of one speaker do.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minittt.decoding import Draft
from minittt.unmasking import confidence_released, random_order

MASKED = -1
State = tuple[int, ...]  # the tokens of a block, MASKED where not revealed


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """L slots over A tokens, hidden states H: start (H,), transition (H, H), emission (H, A), float64, rows sum to 1."""

    start: Tensor
    transition: Tensor
    emission: Tensor
    length: int

    def conditionals(self, state: State) -> Tensor:
        """p(x_i | what is revealed) by forward-backward, (L, A); a revealed slot is certain. One pass each way."""
        A = self.emission.shape[1]
        seen = [
            torch.ones_like(self.start) if x == MASKED else self.emission[:, x] for x in state
        ]  # (H,) each
        ahead, back = [self.start], [torch.ones_like(self.start)]
        for x in seen[:-1]:
            ahead.append((ahead[-1] * x) @ self.transition)  # p(earlier tokens, hidden state here)
        for x in reversed(seen[1:]):
            back.insert(0, self.transition @ (x * back[0]))  # p(later tokens | hidden state here)
        rows = [
            (f * b) @ self.emission if x == MASKED else torch.eye(A, dtype=f.dtype)[x]
            for x, f, b in zip(state, ahead, back, strict=True)
        ]
        joint = torch.stack(rows)  # (L, A)
        return joint / joint.sum(-1, keepdim=True)

    def probability(self, state: State) -> float:
        """p(what is revealed), all else summed out."""
        weight = self.start
        for i, x in enumerate(state):
            weight = weight if i == 0 else weight @ self.transition
            weight = weight if x == MASKED else weight * self.emission[:, x]
        return float(weight.sum())

    def joint(self) -> dict[State, float]:
        """q(x) of all A^L sequences."""
        return {
            x: self.probability(x)
            for x in itertools.product(range(self.emission.shape[1]), repeat=self.length)
        }


def voices(stay: float, length: int, n: int = 3, loyalty: float = 0.8) -> HiddenMarkov:
    """n voices, each with a favourite token of share `loyalty`; the voice stays with probability `stay`, else is redrawn."""
    eye, even = torch.eye(n, dtype=torch.float64), torch.full((n, n), 1 / n, dtype=torch.float64)
    other = (1 - loyalty) / (n - 1)
    return HiddenMarkov(even[0], stay * eye + (1 - stay) * even, (loyalty - other) * eye + other, length)


def biased_bits(p: float, length: int) -> HiddenMarkov:
    """Independent bits, 1 with probability p."""
    one = torch.ones(1, dtype=torch.float64)
    return HiddenMarkov(one, one[None], torch.tensor([[1 - p, p]], dtype=torch.float64), length)


Moves = dict[State, float]  # states after one step, and how likely each is


def moves(oracle: HiddenMarkov, policy: Callable, state: State, steps_left: int) -> tuple[Moves, float]:
    """One denoising step from a state: where it leads, and the entropy bound on what it costs, nats.

    The bound is the mean over revealed sets R of sum H_i - max H_i, i in R: drawing R independently costs KL of the joint
    from the product of marginals, sum H_i - H(joint) <= sum H_i - max H_i.
    """
    p = oracle.conditionals(state)  # (L, A)
    masked = torch.tensor([x == MASKED for x in state])
    hidden = masked.nonzero()[:, 0].tolist()
    entropy, chance_of = torch.special.entr(p).sum(-1), p.tolist()  # (L,), and lists are read faster

    def draft(candidates: Tensor) -> Draft:
        # slots that are equally certain are so to the last digit: ties go left, on every machine
        return Draft(masked, p.round(decimals=12), candidates, torch.zeros(len(state)), steps_left)

    if policy is confidence_released:  # looks at what was drawn: every draw of all masked slots
        ways = []
        for drawn in itertools.product(range(p.shape[1]), repeat=len(hidden)):
            candidates = torch.zeros(len(state), dtype=torch.long)
            candidates[hidden] = torch.tensor(drawn)
            chance = math.prod(chance_of[i][x] for i, x in zip(hidden, drawn, strict=True))
            revealed = policy(draft(candidates)).nonzero()[:, 0].tolist()
            ways.append((chance, revealed, [tuple(int(candidates[i]) for i in revealed)]))
    elif policy is random_order:
        size = math.ceil(len(hidden) / steps_left)
        subsets = list(itertools.combinations(hidden, size))
        ways = [(1 / len(subsets), list(subset), None) for subset in subsets]
    else:
        ways = [
            (1.0, policy(draft(torch.zeros(len(state), dtype=torch.long))).nonzero()[:, 0].tolist(), None)
        ]
    after, bound = defaultdict(float), 0.0
    for chance, revealed, tokens in ways:
        bound += chance * float(entropy[revealed].sum() - entropy[revealed].max())
        for drawn in tokens or itertools.product(range(p.shape[1]), repeat=len(revealed)):
            likely = (
                1.0 if tokens else math.prod(chance_of[i][x] for i, x in zip(revealed, drawn, strict=True))
            )
            new = list(state)
            for i, x in zip(revealed, drawn, strict=True):
                new[i] = x
            after[tuple(new)] += chance * likely
    return after, bound


@dataclass
class Sampled:
    """What a sampler does, exactly."""

    p: dict[State, float]  # its distribution over sequences
    steps: float  # forwards, on average
    bound: float  # nats: the entropy bounds of its steps along the data's own path, summed; a promise for all but one policy


def enumerate_sampler(oracle: HiddenMarkov, policy: Callable, steps: int) -> Sampled:
    """Follow every state a sampler can be in, with its probability. The bound follows the data: each state a policy can
    lead to counts with the probability that real tokens, revealed by that policy, stand there."""
    blank = (MASKED,) * oracle.length
    live, true, done, mean_steps, bound = {blank: 1.0}, {blank: 1.0}, defaultdict(float), 0.0, 0.0
    for step in range(oracle.length):
        following, truly = defaultdict(float), defaultdict(float)
        mean_steps += sum(live.values())
        for state, weight in live.items():
            after, cost = moves(oracle, policy, state, max(1, steps - step))
            bound += true.get(state, 0.0) * cost
            reached = _real(oracle, state, after)
            for new, chance in after.items():
                place = following if MASKED in new else done
                place[new] += weight * chance
                truly[new] += true.get(state, 0.0) * reached[new]
        live, true = following, truly
        if not live:
            break
    return Sampled(dict(done), mean_steps, bound)


def _real(oracle: HiddenMarkov, state: State, after: Moves) -> Moves:
    """The same step taken with real tokens: the revealed set as the policy has it, its tokens by the joint conditional."""
    chances = defaultdict(float)  # of each revealed set
    for new, chance in after.items():
        chances[_where(state, new)] += chance
    total = oracle.probability(state)
    return {new: chances[_where(state, new)] * oracle.probability(new) / total for new in after}


def _where(state: State, new: State) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(zip(state, new, strict=True)) if a != b)


def kl(q: dict[State, float], p: dict[State, float]) -> float:
    """sum q log q/p, nats."""
    return sum(w * math.log(w / p[x]) for x, w in q.items() if w > 0)


def total_variation(q: dict[State, float], p: dict[State, float]) -> float:
    """Half the sum of |q - p|."""
    return 0.5 * sum(abs(w - p.get(x, 0.0)) for x, w in q.items())
