"""Ways to break the decoder, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # random order that is not random; candidates drawn from something else than p; slots drawn from the draws
    Mutant(16, "order = draft.noise.masked_fill(", "order = draft.p.amax(-1).double().masked_fill("),
    Mutant(
        16,
        "draft.noise.masked_fill(~draft.masked",
        "(draft.noise + draft.candidates).masked_fill(~draft.masked",
    ),
    Mutant(16, "cdf = logits.softmax(-1).cumsum(-1)", "cdf = logits.sigmoid().cumsum(-1)"),
    Mutant(16, "right=True)", "right=False)"),
    Mutant(16, "block, masked = torch.where(reveal,", "block, masked = torch.where(masked,"),
    # steps spread unevenly; not counted; counted wrongly
    Mutant(
        17,
        "share = -(-int(draft.masked.sum()) // draft.steps_left)",
        "share = int(draft.masked.sum()) // draft.steps_left",
    ),
    Mutant(17, "max(1, s.steps - step)", "s.steps"),
    Mutant(17, "max(1, s.steps - step)", "max(1, s.steps - 1 - step)"),
    # groups that go on growing; tokens committed twice; logits of the wrong slots
    Mutant(18, "logits[1 + len(shown) :], c.audio)", "logits[len(shown) : -1], c.audio)"),
    Mutant(18, "logits[1 + len(shown) :], c.audio)", "logits[1 : 1 + n], c.audio)"),
    Mutant(18, "[self.groups[-1] + 1] * len(ids)", "[self.groups[-1]] * len(ids)"),
    Mutant(
        18, "self.committed, len(self.ids), self.nfe + 1", "self.committed, len(self.ids) - 1, self.nfe + 1"
    ),
    # MASK, audio in text, no end, chance from elsewhere, filler forgotten, a forward wasted,
    # a span drafted without its closed blocks, or with those committed already
    Mutant(19, "c.audio.nonzero()[:, 0]  # (A,)", "(c.audio.nonzero()[:, 0] + 1)  # (A,)"),
    Mutant(19, "allowed = c.text.clone()", "allowed = c.text | c.audio"),
    Mutant(19, "allowed[c.open_audio] = len(self.spans) < s.max_spans", "allowed[c.open_audio] = True"),
    Mutant(19, "if len(self.text) == s.max_text - 1 else", "if len(self.text) == s.max_text else"),
    Mutant(19, "len(slots) + n + size > s.max_span", "len(slots) + n > s.max_span"),
    Mutant(19, "dtype=torch.float64, generator=self.generator)", "dtype=torch.float64)"),
    Mutant(19, "drawn.index(c.end_audio) if c.end_audio in drawn else n - forced", "n - forced"),
    Mutant(19, "[*codes, c.end_audio]", "[*codes]"),
    Mutant(19, "n = size if slots else s.first_block or size", "n = s.first_block or size"),
    Mutant(
        19,
        "                yield from self.speak()",
        "                yield self.ask([])\n                yield from self.speak()",
    ),
    Mutant(
        19,
        "            if not one_group:\n                self.append(block)",
        "            self.append(block)",
    ),
    Mutant(19, "shown = slots if one_group else []", "shown = []"),
    Mutant(19, "shown = slots if one_group else []", "shown = slots"),
]
