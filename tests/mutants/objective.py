"""Ways to break `minittt/objective.py`, each to be noticed by the law it is listed under."""

from tests.mutants.run import Mutant

MUTANTS = [
    # two streams
    Mutant(law=12, old="return torch.where(batch.noisy, batch", new="return torch.where(~batch.noisy, batch"),
    Mutant(
        law=12,
        old="audio = _at_the_slot(model, hidden, batch, in_audio, audio_choices, noise)",
        new="audio = _from_the_token_before(model, hidden, batch, in_audio, audio_choices)",
    ),
    Mutant(law=12, old="_states(hidden, row, at - 1)", new="_states(hidden, row, at)"),
    Mutant(law=12, old="_states(hidden, row, at), choices", new="_states(hidden, row, at - 1), choices"),
    Mutant(law=12, old="losses = losses * self.weight", new="losses = losses * 1"),
    Mutant(law=12, old="two_stream_mask(groups, move(batch.noisy, device), ", new="group_mask(groups, "),
    Mutant(law=12, old="logits.to(torch.promote_types(logits.dtype, torch.float32))", new="logits.float()"),
    Mutant(law=12, old='"ar": Preset(two_streams=True,', new='"ar": Preset(two_streams=False,'),
    Mutant(
        law=15, old="return slots & is_text, slots & ~is_text", new="return slots & ~is_text, slots & is_text"
    ),
    Mutant(law=15, old="torch.cat([text_choices, audio_choices])", new="text_choices"),
    Mutant(
        law=15,
        old="text = _at_the_slot(model, hidden, batch, in_text, text_choices, noise)",
        new="text = _from_the_token_before(model, hidden, batch, in_text, text_choices)",
    ),
    # released normalisation, noise and softmax; what mends them
    Mutant(law=13, old="        restrict_classes=False,\n", new=""),
    Mutant(law=13, old='        normalise="sample",\n', new=""),
    Mutant(law=13, old="(size.clamp(min=1).double() * len(found))", new="size.clamp(min=1).double()"),
    Mutant(law=13, old="counted[real].long()", new="real[real].long()"),
    Mutant(
        law=13, old="sample_shares(text.counted, documents)", new="sample_shares(documents >= 0, documents)"
    ),
    Mutant(
        law=13, old="(row * (int(documents.max()) + 1) + documents)[real]", new="(0 * row + documents)[real]"
    ),
    Mutant(
        law=13, old="p.text_weight * text_mean + p.audio_weight * audio_mean", new="p.text_weight * text_mean"
    ),
    Mutant(law=13, old="batch.text_targets & ~follows_mask, slots", new="batch.text_targets, slots"),
    Mutant(law=13, old="F.pad(noise.masked[:, :-1], (1, 0))", new="noise.masked"),
    Mutant(law=13, old="if not p.restrict_classes:\n", new="if True:\n"),
    # strategies, where the objective uses them
    Mutant(law=14, old="    if p.banom:\n", new="    if False:\n"),
    Mutant(
        law=14,
        old="mix_objectives(segments, p.banom, generator)",
        new="mix_objectives(segments, 1.0, generator)",
    ),
    Mutant(law=14, old="    if p.ppm:\n", new="    if False:\n"),
    Mutant(law=14, old="if rng.random() < p.sst:", new="if False:"),
    Mutant(law=14, old="sequence = truncate_span(sequence, rng)", new="truncate_span(sequence, rng)"),
    # two-stream examples
    Mutant(
        law=11,
        old="lay_out(sequence, block, first, p.two_streams)",
        new="lay_out(sequence, block, first, False)",
    ),
    Mutant(
        law=11,
        old="lay_out(sequence, block, first, p.two_streams)",
        new="lay_out(sequence, None, None, p.two_streams)",
    ),
    # what is drawn: weights, sets, strata, one draw for each group
    Mutant(
        law="one_stream_weighs_what_it_draws",
        old="independent_masks(segments, generator, p.eps, dtype=dtype)",
        new='independent_masks(segments, generator, p.eps, weighting="by_count", dtype=dtype)',
    ),
    Mutant(
        law="has_the_mean_of_one_over_p",
        old="independent_masks(segments, generator, p.eps, dtype=dtype)",
        new='independent_masks(segments, generator, p.eps, weighting="by_count", dtype=dtype)',
    ),
    Mutant(
        law="one_stream_weighs_what_it_draws",
        old="independent_masks(segments, generator, p.eps, dtype=dtype)",
        new="independent_masks(segments, generator, dtype=dtype)",
    ),
    Mutant(
        law="one_stream_weighs_what_it_draws",
        old="independent_masks(segments, generator, p.eps, dtype=dtype)",
        new="random_k_subset(segments, generator, dtype=dtype)",
    ),
    Mutant(
        law="two_streams_draw_every_subset",
        old="random_k_subset(segments, generator, dtype=dtype)",
        new="independent_masks(segments, generator, p.eps, dtype=dtype)",
    ),
    Mutant(
        law="two_streams_spread_the_numbers_of_masks",
        old="random_k_subset(segments, generator, dtype=dtype)",
        new="random_k_subset(segments, generator, False, dtype=dtype)",
    ),
    Mutant(law="have_a_draw_each", old="batch.documents * stride + batch.groups", new="batch.groups"),
    Mutant(
        law="have_a_draw_each",
        old="batch.documents * stride + batch.groups",
        new="batch.documents + batch.groups",
    ),
    Mutant(law="have_a_draw_each_in_one_stream", old="target, batch.documents, -1", new="target, 0, -1"),
    Mutant(
        law="the_loss_is_that_of_the_noise_it_draws",
        old="noise = draw_noise(batch, p, generator, dtype)",
        new="noise = draw_noise(batch, replace(p, banom=0.0), generator, dtype)",
    ),
    # means over nothing
    Mutant(law="a_batch_that_banom_left_clean", old="/ max(1, over_audio)", new="/ over_audio"),
    Mutant(law="a_batch_that_banom_left_clean", old="/ max(1, self.n_audio)", new="/ self.n_audio"),
    # block sizes
    Mutant(
        law="block_sizes_are_uniform",
        old="return block, rng.choice(smaller)",
        new="return block, min(smaller)",
    ),
    Mutant(
        law="block_sizes_are_uniform",
        old="return block, rng.choice(smaller)",
        new="return block, max(smaller)",
    ),
    Mutant(law="block_sizes_are_uniform", old="and size < block]", new="and size <= block]"),
    Mutant(
        law="block_sizes_are_uniform", old="rng.random() < p.short_first_block", new="p.short_first_block"
    ),
    Mutant(
        law="block_sizes_are_uniform",
        old="block = rng.choice(p.block_sizes)",
        new="block = p.block_sizes[-1]",
    ),
    Mutant(
        law="begins_with_the_short_first_block",
        old="denoise_replies(sequence, block, first)",
        new="denoise_replies(sequence, block)",
    ),
]
