"""Replies of a talker whose text is denoised too (preset `nar`): to the block decoder, such a reply is one span.

ASSISTANT opens it, END closes it, and a slot may hold anything that replies are made of. Nothing makes slots agree on where
words end and speech begins: tokens that are out of place are skipped and counted.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from minittt.attention import TARGET, assign_groups
from minittt.context import CachedContext
from minittt.data.conversation import render
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import End, Settings, TokenClasses, generate
from minittt.errors import MinitttError
from minittt.settings import MAX_REPLY
from minittt.strategies import denoise_replies
from minittt.talker import Reply, Talker, row_generators
from minittt.unmasking import Sampling


def reply_classes(v: Vocabulary) -> TokenClasses:
    """The decoder's classes: "audio" is all that replies are made of; "text" is the opener, and BOS as the end."""
    text = torch.zeros(v.size, dtype=torch.bool)
    text[v.assistant] = True
    text[v.bos] = True
    audio = torch.zeros(v.size, dtype=torch.bool)
    audio[v.text_choices()] = True
    audio[v.audio_choices()] = True
    return TokenClasses(
        text, audio, open_audio=v.assistant, end_audio=v.end, end=v.bos, mask=v.mask, pad=v.pad
    )


def greedy_text(sampling: Callable[[Tensor], Tensor], n_text: int) -> Callable[[Tensor], Tensor]:
    """Slots (N, A) that most likely hold text, one of the first n_text choices, are drawn greedily, as text is elsewhere."""

    def draw_from(logits: Tensor) -> Tensor:
        """Logits (N, A) -> what to draw from, (N, A)."""
        p = logits.softmax(-1)  # (N, A)
        is_text = p[:, :n_text].sum(-1, keepdim=True) > 0.5  # (N, 1)
        return torch.where(is_text, Sampling(0.0)(logits), sampling(logits))

    return draw_from


def split_reply(slots: list[int], v: Vocabulary) -> tuple[list[int], list[list[int]], int]:
    """The text pieces of a reply, the codes of its spans counted from 0, and how many tokens were out of place."""
    pieces: list[int] = []
    spans: list[list[int]] = []
    out_of_place = 0
    speaking = False
    for token in slots:
        if token == v.open:
            if speaking:  # a span inside a span
                out_of_place += 1
            speaking = True
            spans.append([])
        elif token == v.eoa:
            if not speaking:  # the end of nothing
                out_of_place += 1
            speaking = False
        elif token < v.text_size:
            if speaking:  # text inside a span
                out_of_place += 1
            pieces.append(token)
        elif speaking:
            spans[-1].append(token - v.first_code)
        else:  # a code outside of any span
            out_of_place += 1
    return pieces, spans, out_of_place


class DenoisingTalker(Talker):
    """A `Talker` whose replies are denoised whole, block by block, text and all."""

    def converse(
        self,
        conversations: list[list],
        settings: Settings,
        seed: int | list[int] = 0,
        max_length: int | None = None,
    ) -> list[Reply]:
        """As `Talker.converse`. `overwritten` also counts tokens that were out of place."""
        v = self.vocabulary
        if v.n_codebooks > 1:
            raise MinitttError(
                f"a reply denoised whole has one codebook, not {v.n_codebooks}: use preset exact"
            )
        replies = [Reply() for _ in conversations]
        # 1. The prompts: replies of earlier turns are whole spans here, too.
        for reply, messages in zip(replies, conversations, strict=True):
            sequence = render({"messages": [*messages, ["assistant"]]}, self, reply=False)
            sequence = denoise_replies(sequence, settings.block_size, settings.first_block)
            reply.prompt = sequence.ids
            reply.kinds = sequence.kinds
            kinds = torch.tensor(sequence.kinds)
            reply.groups = assign_groups(kinds, settings.block_size, settings.first_block).tolist()
        # 2. To the decoder a reply is one span: no text before it, and none after it.
        whole_reply = replace(
            settings,
            audio_sampling=greedy_text(settings.audio_sampling, len(v.text_choices())),
            max_text=1,
            max_spans=1,
            max_span=MAX_REPLY,
            full_span=False,
        )
        classes = reply_classes(v)
        longest = max(len(reply.prompt) for reply in replies)
        capacity = max_length or longest + MAX_REPLY + 1
        context = CachedContext(self.model, len(replies), v.pad, capacity, classes)
        # 3. Decode, and split each span into text and speech.
        events = generate(
            context,
            [reply.prompt for reply in replies],
            [reply.groups for reply in replies],
            classes,
            whole_reply,
            row_generators(seed, len(replies)),
        )
        for event in events:
            replies[event.row].events.append(event)
            if isinstance(event, End):
                self._split(replies[event.row], event)
        return replies

    def _split(self, reply: Reply, end: End) -> None:
        """Fill in a reply from the one span that the decoder took it for; its last token is the decoder's own end."""
        pieces, spans, out_of_place = split_reply(list(end.spans[0]), self.vocabulary)
        reply.text = self.tokeniser.decode(pieces)
        reply.spans = spans
        reply.ids = list(end.ids[:-1])
        reply.groups = reply.groups + list(end.groups[:-1])
        reply.kinds = reply.kinds + [TARGET] * len(reply.ids)
        reply.nfe = end.nfe
        reply.reason = "limit" if end.forced else "end"
        reply.overwritten = end.changed + out_of_place
