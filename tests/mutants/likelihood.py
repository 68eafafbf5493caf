"""Ways to break `minittt/evaluation/likelihood.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

FILLED = "audio_is_measured_in_the_filled_blocks_that_the_decoder_writes"
EXACT = "text_is_exact_and_so_is_audio_in_blocks_of_one"
SPAN = "audio_of_a_whole_span_is_the_any_order_bound"
PER_TOKEN = "figures_are_per_code_and_one_eoa_a_span"
ESTIMATOR = "the_estimator_has_no_coins"

MUTANTS = [
    # blocks: no filler, or filled blocks that are not groups
    Mutant(FILLED, "example(render(record, corpus, block), p", "example(render(record, corpus), p"),
    Mutant(FILLED, "p, block, None, rng)", "p, None, None, rng)"),
    Mutant(FILLED, "noise(batch, p, generator)", "draw_noise(batch, p, generator)"),
    # means
    Mutant(EXACT, "audio.nats().item() / draws", "audio.nats().item()"),
    Mutant("nats_do_not_depend_on_how_many_draws", "text.nats().item() / draws", "text.nats().item() / 8"),
    Mutant(PER_TOKEN, "bare.kinds.count(TARGET)", "int(batch.noisy[0].sum())"),  # filler counts as speech
    Mutant(PER_TOKEN, "found.n_text.append(sum(bare.targets))", "found.n_text.append(bare.kinds.count(0))"),
    # what is asked of whom
    Mutant(ESTIMATOR, "(block,) if p.two_streams else (None,)", "(block,)"),
    Mutant(SPAN, "two_streams=True, block_sizes", "two_streams=p.two_streams, block_sizes"),
    Mutant(SPAN, "restrict_classes=True", "restrict_classes=p.restrict_classes"),
    Mutant(ESTIMATOR, '"banom": 0.0, ', ""),
]
