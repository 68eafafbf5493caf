"""Ways to break `minittt/training/pretrained.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

READ = "a_folder_is_read_as_it_was_written"
REFUSED = "what_cannot_be_computed_is_refused"
FITS = "a_weight_that_does_not_fit_is_named"
ENGLISH = "the_extension_leaves_the_english_unchanged"
WORDS = "what_the_model_had_words_for"
ROWS = "other_new_rows_are_drawn_near_the_mean"
BACK = "what_is_exported_is_read_back"

MUTANTS = [
    # configurations
    Mutant(READ, 'config.get("rope_theta") or 10_000.0', "10_000.0"),
    Mutant(READ, "in_version_5 or config.get", "config.get"),
    Mutant(READ, 'bool(config.get("tie_word_embeddings", False))', "False"),
    Mutant(REFUSED, 'for key in ("rope_scaling", "rope_parameters"):', 'for key in ("rope_scaling",):'),
    Mutant(REFUSED, "value not in ROPE.get(entry, ())", "False"),
    Mutant(REFUSED, "value is not None and value not in allowed:", "False:"),
    Mutant(REFUSED, 'if kind != "full_attention":', "if False:"),
    Mutant(REFUSED, "if head_dim != found.head_dim:", "if False:"),
    # weights
    Mutant(READ, "model.lm_head.weight = model.embed_tokens.weight", "pass"),
    Mutant(READ, "torch.zeros(parameter.shape)", "torch.ones(parameter.shape)"),
    Mutant(FITS, "if shape != tuple(wanted[name].shape):", "if False:"),
    Mutant(FITS, "if weight.get_dtype() not in DTYPES:", "if False:"),
    Mutant(FITS, "if name not in wanted:", "if False:"),
    Mutant("rows_that_pad_the_vocabulary", "return resized(model, len(tokeniser)), tokeniser", "return model, tokeniser"),
    Mutant("needless_tensors", "if _is_needless(name, config):", "if False:"),
    # the vocabulary
    Mutant(ENGLISH, "torch.cat([rows[:size], new])", "torch.cat([new, rows[:size]])"),
    Mutant(WORDS, "table.weight[ids].mean(0)", "table.weight[ids[0]]"),
    Mutant(WORDS, "(larger.embed_tokens, larger.lm_head)", "(larger.embed_tokens,)"),
    Mutant(ROWS, "rows.mean(0) + spread", "spread"),
    Mutant(ROWS, "spread * rows.std(0) * noise", "rows.std(0) * noise"),
    Mutant(ROWS, "+= old.mean(0)", "+= 0"),
    Mutant(ROWS, "spread=SPREAD * float", "spread=float"),
    Mutant("a_start_is_a_talker", "torch.manual_seed(seed)", "pass"),
    # out
    Mutant(BACK, '"rope_theta": config.rope_theta,\n', '"rope_theta": 1.0,\n'),
    Mutant(BACK, '"tie_word_embeddings": config.tie_embeddings', '"tie_word_embeddings": False'),
    Mutant(BACK, "unfinished.write_bytes(tokeniser.content)", 'unfinished.write_bytes(b"")'),
]  # fmt: skip
