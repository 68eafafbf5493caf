"""Ways to break the decoder, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # random order that is not random; candidates drawn from something else than p; revealed slots drawn again
    Mutant(16, "order = draft.noise.masked_fill(", "order = draft.p.amax(-1).double().masked_fill("),
    Mutant(
        16,
        "draft.noise.masked_fill(~draft.masked",
        "(draft.noise + draft.candidates).masked_fill(~draft.masked",
    ),
    Mutant(16, "cdf = logits.softmax(-1).cumsum(-1)", "cdf = logits.sigmoid().cumsum(-1)"),
    Mutant(16, "right=True)", "right=False)"),
    Mutant(16, "torch.where(reveal, self.audio_ids", "torch.where(masked, self.audio_ids"),
    # steps spread unevenly; not counted; counted wrongly
    Mutant(17, "share = -(-n_masked // draft.steps_left)", "share = n_masked // draft.steps_left"),
    Mutant(17, "max(1, settings.steps - self.step)", "settings.steps"),
    Mutant(17, "max(1, settings.steps - self.step)", "max(1, settings.steps - 1 - self.step)"),
    Mutant(17, "        self.step = 0\n\n    def _close_block", "\n    def _close_block"),
    # groups that do not grow; tokens committed twice; logits of the wrong slots
    Mutant(18, "first_slot = 1 + len(self._uncommitted())", "first_slot = len(self._uncommitted())"),
    Mutant(18, "first_slot = 1 + len(self._uncommitted())", "first_slot = 1"),
    Mutant(18, "group = self.groups[-1] + 1", "group = self.groups[-1]"),
    Mutant(18, "self.n_committed = len(self.ids)", "self.n_committed = len(self.ids) - 1"),
    # MASK, audio in text, no end, chance from elsewhere, filler forgotten, a forward wasted,
    # a span drafted without its closed blocks, or with those committed already
    Mutant(19, "return self.audio.nonzero()[:, 0]", "return self.audio.nonzero()[:, 0] + 1"),
    Mutant(19, "return self.text.nonzero()[:, 0]", "return (self.text | self.audio).nonzero()[:, 0]"),
    Mutant(
        19,
        "if len(self.spans) >= self.settings.max_spans:",
        "if len(self.spans) > self.settings.max_spans:",
    ),
    Mutant(
        19,
        "is_last = len(self.text) == self.settings.max_text - 1",
        "is_last = len(self.text) == self.settings.max_text",
    ),
    Mutant(
        19,
        "len(self.span) + len(drawn) + self._block_size() > self.settings.max_span",
        "len(self.span) + len(drawn) > self.settings.max_span",
    ),
    Mutant(19, "dtype=torch.float64, generator=self.generator)", "dtype=torch.float64)"),
    Mutant(19, "n_codes = drawn.index(end_audio)", "n_codes = len(drawn)"),
    Mutant(19, "[*codes, self.classes.end_audio]", "[*codes]"),
    Mutant(19, "if not self.span and self.settings.first_block is", "if self.settings.first_block is"),
    Mutant(19, "        self.nfe += 1", "        self.nfe += 2"),
    Mutant(
        19,
        "        if not self._span_is_one_group():\n            self._append_group(block)",
        "        self._append_group(block)",
    ),
    Mutant(19, "return self.span if self._span_is_one_group() else []", "return []"),
    Mutant(19, "return self.span if self._span_is_one_group() else []", "return self.span"),
    Mutant(19, "        if self.done:\n            return [], []\n", ""),
    # what `generate` is given
    Mutant(
        "bad_prompts_are_named",
        "len(prompts) == len(prompt_groups) == len(generators)",
        "len(prompts) == len(prompt_groups)",
    ),
    Mutant("a_shared_generator_is_refused", "< len(generators):", "< 1:"),
]
