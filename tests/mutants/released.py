"""Ways to break `minittt/theory/released.py`, each to be noticed by the law it is listed under."""

from tests.mutants.run import Mutant

MUTANTS = [
    # noise
    Mutant(law=7, old="(position >= prompt_lengths[:, None])", new="(position > prompt_lengths[:, None])"),
    Mutant(law=7, old="audio & real & (position", new="real & (position"),
    Mutant(law=7, old="(draws.u_prefix < prefix_ratio) & starts.any(1)", new="draws.u_prefix < prefix_ratio"),
    Mutant(law=7, old="maskable & ~F.pad(audio[:, :-1], (1, 0))", new="maskable"),
    Mutant(law=7, old="maskable & (position >= split[:, None])", new="maskable"),
    Mutant(law=7, old="draws.u_mask < p_mask[:, None]", new="draws.u_mask < draws.u_t[:, None]"),
    Mutant(law=7, old="maskable.sum(1).clamp(min=1)", new="masked.sum(1).clamp(min=1)"),
    # groups and masks
    Mutant(law=10, old="2 * text.cumsum(1) - text.long()", new="text.cumsum(1)"),
    Mutant(law=10, old="2 * text.cumsum(1) - text.long()", new="2 * text.cumsum(1)"),
    Mutant(law=10, old="visible(groups, groups) & real[:, None]", new="visible(groups, groups)"),
    Mutant(law=10, old="ids < first_audio", new="ids <= first_audio"),
    # losses
    Mutant(law=13, old="logits[:, :-1].transpose(1, 2)", new="logits[:, 1:].transpose(1, 2)"),
    Mutant(law=13, old="(target >= 0) & (target < first_audio)", new="target >= 0"),
    Mutant(
        law=13, old="losses.sum(1) / text.sum(1).clamp(min=1)", new="losses.sum(1) / text.sum().clamp(min=1)"
    ),
    Mutant(
        law=13,
        old="text.sum(1).clamp(min=1)  # (B,)\n    return by_row.mean()",
        new="text.sum(1)\n    return by_row.nanmean()",
    ),
    Mutant(law=13, old="labels.where(noise.masked, -100)", new="labels"),
    Mutant(law=13, old="losses.sum(1) / noise.p_mask", new="losses.sum(1)"),
    Mutant(law=13, old=" / noise.answer_lengths", new=" / noise.masked.sum(1).clamp(min=1)"),
    # generation
    Mutant(law=13, old="un + (1 + s) * (cond - un)", new="un + s * (cond - un)"),
    Mutant(law=13, old="rows[1:, :start] = layout.mask", new="rows[1:, :0] = layout.mask"),
    Mutant(law=13, old="            share += 1\n", new="            pass\n"),
    Mutant(law=13, old="(start, 0), value", new="(0, start), value"),
    Mutant(law=13, old="ids[start:] != layout.mask, -torch.inf", new="ids[start:] < 0, -torch.inf"),
    Mutant(law=13, old="return block[: i + 1]", new="return block[:i]"),
    Mutant(law=13, old="in_span = ids[-1] not in layout.enders", new="in_span = False"),
    Mutant(law=13, old="if run[-1] in layout.enders:", new="if False:"),
    Mutant(law=13, old="while len(run) < settings.gen_length:", new="while not run:"),
    Mutant(law=13, old="if owed > 0:", new="if owed > 1:"),
    Mutant(law=13, old="        if token in layout.enders:", new="        if token == 565:"),
]
