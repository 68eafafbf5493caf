"""Replies of a talker whose text is denoised too (preset `nar`): to the block decoder, such a reply is one span.

ASSISTANT opens it, END closes it, and a slot may hold whatever replies are made of. Nothing makes slots agree on where
words end and speech begins: what is out of place is passed over, and counted.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from minittt.attention import TARGET, assign_groups
from minittt.context import CachedContext
from minittt.conversation import render
from minittt.decoding import End, Settings, TokenClasses, generate
from minittt.strategies import denoise_replies
from minittt.talker import Reply, Talker
from minittt.unmasking import Sampling
from minittt.vocabulary import Vocabulary

LONGEST = 256  # slots of a reply


def reply_classes(v: Vocabulary) -> TokenClasses:
    """The decoder's classes: "audio" is all that replies are made of; "text" is the opener and, to end with, BOS."""
    text, audio = torch.zeros(v.size, dtype=torch.bool), torch.zeros(v.size, dtype=torch.bool)
    text[[v.assistant, v.bos]] = audio[v.text_choices()] = audio[v.audio_choices()] = True
    return TokenClasses(text, audio, v.assistant, end_audio=v.end, end=v.bos, mask=v.mask, pad=v.pad)


def greedy_text(sampling: Callable[[Tensor], Tensor], n_text: int) -> Callable[[Tensor], Tensor]:
    """Slots (N, A) that most likely hold text, one of the first n_text choices, are drawn greedily, as text is elsewhere."""

    def draw_from(logits: Tensor) -> Tensor:
        is_text = logits.softmax(-1)[:, :n_text].sum(-1, keepdim=True) > 0.5  # (N, 1)
        return torch.where(is_text, Sampling(0.0)(logits), sampling(logits))

    return draw_from


def split_reply(slots: list[int], v: Vocabulary) -> tuple[list[int], list[list[int]], int]:
    """The text pieces of a reply, the codes of its spans counted from 0, and how many tokens were out of place."""
    pieces, spans, out_of_place, speaking = [], [], 0, False
    for token in slots:
        if token in (v.open, v.eoa):
            out_of_place += speaking == (token == v.open)
            speaking = token == v.open
            spans += [[]] if speaking else []
        elif token < v.text_size:
            out_of_place += speaking
            pieces.append(token)
        elif speaking:
            spans[-1].append(token - v.first_code)
        else:
            out_of_place += 1
    return pieces, spans, out_of_place


class DenoisingTalker(Talker):
    """A `Talker` whose replies are denoised whole, block by block, text and all."""

    def converse(
        self, conversations: list[list], settings: Settings, seed: int = 0, max_length: int | None = None
    ) -> list[Reply]:
        """As `Talker.converse`. `overwritten` counts tokens that were out of place, too."""
        v, replies, sampling = self.vocabulary, [Reply() for _ in conversations], settings.audio_sampling
        for reply, messages in zip(replies, conversations, strict=True):
            sequence = render({"messages": [*messages, ["assistant"]]}, self, reply=False)
            sequence = denoise_replies(sequence, settings.block_size, settings.first_block)
            reply.prompt, reply.kinds = sequence.ids, sequence.kinds
            kinds = torch.tensor(sequence.kinds)
            reply.groups = assign_groups(kinds, settings.block_size, settings.first_block).tolist()
        classes, longest = reply_classes(v), max(len(r.prompt) for r in replies)
        limits = {"max_text": 1, "max_spans": 1, "max_span": LONGEST, "full_span": False}
        how = replace(settings, audio_sampling=greedy_text(sampling, len(v.text_choices())), **limits)
        context = CachedContext(self.model, len(replies), v.pad, max_length or longest + LONGEST + 1, classes)
        generators = [torch.Generator().manual_seed(1_000_003 * seed + row) for row in range(len(replies))]
        given = [r.prompt for r in replies], [r.groups for r in replies]
        for event in generate(context, *given, classes, how, generators):
            replies[event.row].events.append(event)
            if isinstance(event, End):
                self._split(replies[event.row], event)
        return replies

    def _split(self, reply: Reply, end: End) -> None:
        pieces, reply.spans, out_of_place = split_reply(list(end.spans[0]), self.vocabulary)
        reply.text, reply.nfe = self.tokeniser.decode(pieces), end.nfe
        reply.ids, reply.groups = list(end.ids[:-1]), reply.groups + list(end.groups[:-1])
        reply.kinds = reply.kinds + [TARGET] * len(reply.ids)
        reply.reason, reply.overwritten = "limit" if end.forced else "end", end.changed + out_of_place
