"""Ways to break `minittt/attention.py`, each to be noticed by the law it is listed under."""

from tests.mutants.run import Mutant

MUTANTS = [
    # groups
    Mutant(law=8, old="block_begins | (kinds == TEXT)", new="block_begins"),
    Mutant(law=8, old="(kinds == TARGET) & (past_first >= 0)", new="(past_first >= 0)"),
    Mutant(law=8, old="(past_first >= 0) & ", new=""),
    Mutant(law=8, old="torch.where(first == 0, block, first)", new="block"),
    Mutant(law=8, old="past_first % block == 0", new="past_first % block == 1"),
    Mutant(law=8, old=".unsqueeze(-1)", new="[:1]"),
    Mutant(law=8, old=".masked_fill(kinds == PAD_KIND, PAD_GROUP)", new=""),
    # masks
    Mutant(law=8, old="return k.group > PAD_GROUP", new="return k.group >= PAD_GROUP"),
    Mutant(law=8, old="return k.group <= q.group", new="return k.group < q.group"),
    Mutant(
        law=8,
        old="rule(tokens.as_queries(), tokens.as_keys()) | itself",
        new="rule(tokens.as_queries(), tokens.as_keys())",
    ),
    Mutant(
        law=8,
        old="rule(tokens.as_queries(), tokens.as_keys())",
        new="rule(tokens.as_keys(), tokens.as_queries())",
    ),
    Mutant(law=8, old="noisy_sees_noisy = q.noisy & k.noisy &", new="noisy_sees_noisy = k.noisy &"),
    Mutant(law=8, old="| (q_idx == kv_idx)", new=""),
    Mutant(law=8, old="tokens.at(b, kv_idx))", new="tokens.at(0 * b, kv_idx))"),
    Mutant(law=8, old="return _mask_mod(two_streams,", new="return _mask_mod(one_stream,"),
    Mutant(law=8, old="_tokens(q_groups, q_documents)", new="_tokens(q_groups, None)"),
    Mutant(
        law=8,
        old="_tokens(k_groups, k_documents).as_keys()",
        new="_tokens(k_groups.clamp(min=0), k_documents).as_keys()",
    ),
    # tiles: limits of another type; full where noise is hidden, where padding or two documents are
    Mutant(law=8, old="torch.iinfo(values.dtype)", new="torch.iinfo(tokens.group.dtype)"),
    Mutant(law=8, old="noisy_sees_all_noisy & ~clean_meets_noise", new="noisy_sees_all_noisy"),
    Mutant(law=8, old="noisy_sees_all_clean & noisy_sees_all_noisy &", new="noisy_sees_all_noisy &"),
    Mutant(law=8, old="no_padding & (first == last)", new="(first == last)"),
    Mutant(law=8, old="no_padding & (first == last)", new="no_padding"),
    Mutant(law=8, old="whole[:, None] & same_documents", new="whole[:, None]"),
    Mutant(
        law="bad_input_is_named",
        old="documents.is_floating_point() or documents.dtype == torch.bool",
        new="documents.dtype == torch.bool",
    ),
    # words
    Mutant(
        law=8,
        old="rule = one_stream if noisy is None else two_streams",
        new="rule = one_stream",
    ),
    Mutant(law=8, old="kind == kinds[i] and token.document == document and", new="kind == kinds[i] and"),
    Mutant(law=8, old='", its clean twin" if own_group else ', new=""),
    # leaks
    Mutant(law=9, old="return k.group <= q.group", new="return k.group <= q.group + 1"),
    Mutant(law=9, old="return k.group <= q.group", new="return k.group < q.group"),
    Mutant(law=9, old="return k.group > PAD_GROUP", new="return k.group >= k.group"),
    Mutant(law=9, old="seen = one_stream(queries", new="seen = ~one_stream(queries"),
    # special cases
    Mutant(law=10, old="max(L, 1), block)", new="26, block)"),
    Mutant(law=10, old="return k.document == q.document", new="return k.document <= q.document"),
    Mutant(
        law=10,
        old="return is_real(q, k) & same_document(q, k) & not_later(q, k)",
        new="return is_real(q, k) & not_later(q, k)",
    ),
    Mutant(law=10, old="return k.group <= q.group", new="return k.group >= q.group"),
    Mutant(
        law=10,
        old="    if documents is None:\n        documents = torch",
        new="    if True:\n        documents = torch",
    ),
    # two streams
    Mutant(law=11, old="q.noisy & ~k.noisy & earlier(q, k)", new="q.noisy & ~k.noisy & not_later(q, k)"),
    Mutant(law=11, old="~q.noisy & ~k.noisy & not_later(q, k)", new="~q.noisy & not_later(q, k)"),
    Mutant(law=11, old="~q.noisy & ~k.noisy & not_later(q, k)", new="~q.noisy & ~k.noisy & earlier(q, k)"),
    Mutant(law=11, old="q.noisy & k.noisy & same_group(q, k)", new="q.noisy & k.noisy & not_later(q, k)"),
    Mutant(law=11, old="| noisy_sees_clean", new=""),
    Mutant(
        law=11, old="    if noisy is None:\n        noisy = torch", new="    if True:\n        noisy = torch"
    ),
]
