"""Replies of one shape from any network, as a fair race of decoders needs: nothing may end a part early or late."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minittt.data.vocabulary import Vocabulary
from minittt.decoding import Settings
from minittt.model import Transformer
from minittt.unmasking import Sampling, confidence_released


@dataclass
class Shape:
    """What a reply looks like, and the rule that makes any network write it: logits to add, by place after the prompt."""

    vocabulary: Vocabulary
    text: int  # tokens, OPEN and END apart
    span: int  # slots, the last of which is EOA

    def __post_init__(self) -> None:
        v, opened, ended = self.vocabulary, self.text, self.text + self.span
        self.text_rule = torch.full((ended + 2, v.size), -torch.inf)
        self.text_rule[:opened, v.text_choices()] = 0.0
        self.text_rule[:opened, [v.open, v.end]] = -torch.inf
        self.text_rule[opened, v.open] = self.text_rule[ended + 1, v.end] = 0.0
        self.audio_rule = torch.full((ended + 2, v.size), -torch.inf)
        self.audio_rule[opened + 1 : ended, v.first_code : v.eoa] = 0.0
        self.audio_rule[ended, v.eoa] = 0.0

    def settings(self, preset: str, block: int, steps: int) -> Settings:
        """`exact` draws in random order; `paper` takes the likeliest as the released code does."""
        limits = {"block_size": block, "steps": steps, "max_text": self.text + 2, "max_span": self.span}
        if preset == "exact":
            return Settings(**limits)
        greedy = Sampling(0.0)
        ways = {"policy": confidence_released, "text_sampling": greedy, "audio_sampling": greedy}
        return Settings(full_span=True, **ways, **limits)


class Shaped:
    """A context whose replies all have one shape; it notes when each forward begins, and how much it is given."""

    def __init__(self, context, shape: Shape, prompts: list[list[int]], clock: Callable[[], float]) -> None:
        self.context, self.shape, self.clock = context, shape, clock
        self.place = -torch.tensor([len(ids) for ids in prompts])  # of the next token after the prompt, (B,)
        self.begun: list[float] = []
        self.drafting: list[bool] = []

    def step(self, commit: Tensor, commit_groups: Tensor, draft: Tensor) -> Tensor:
        """See `decoding.Context`."""
        self.begun.append(self.clock())
        self.drafting.append(draft.shape[1] > 0)
        logits = self.context.step(commit, commit_groups, draft)
        self.place += (commit_groups >= 0).sum(1)
        last = len(self.shape.text_rule) - 1
        slots = (self.place[:, None] + torch.arange(draft.shape[1])).clamp(max=last)  # (B, D)
        logits[:, 0] += self.shape.text_rule[self.place.clamp(max=last)].to(logits)
        logits[:, 1:] += self.shape.audio_rule[slots].to(logits)
        return logits


class ShapedModel(nn.Module):
    """The same rule for the released loop, which calls the network itself."""

    def __init__(self, model: Transformer, shape: Shape, prompt: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self.model, self.embed_tokens, self.shape, self.prompt = model, model.embed_tokens, shape, prompt
        self.clock, self.begun, self.drafting = clock, [], []

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (1, L), mask (1, L, L) -> logits (1, L, V)."""
        self.begun.append(self.clock())
        self.drafting.append(bool((ids == self.shape.vocabulary.mask).any()))
        logits, start = self.model(ids, mask), self.prompt - 1
        masked = (ids == self.shape.vocabulary.mask)[0, start:, None]  # (L - start, 1)
        places = torch.arange(len(masked))
        audio = self.shape.audio_rule[(places - 1).clamp(min=0)]
        logits[0, start:] += torch.where(masked, audio.to(logits), self.shape.text_rule[places].to(logits))
        return logits
