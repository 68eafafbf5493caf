"""Ways to break the unmasking policies, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(16, "return lowest(draft, entropy(draft.p))", "return lowest(draft, -draft.p[:, 0])"),
    Mutant(16, "return lowest(draft, draft.noise)", "return lowest(draft, draft.noise + draft.candidates)"),
    Mutant(16, "lowest(draft, -p_of_drawn)", "lowest(draft, -draft.p.amax(-1))"),
    Mutant(16, "draft.masked & (top > threshold) | best", "draft.masked & (top > threshold)"),
    Mutant(16, "key.masked_fill(~draft.masked, math.inf)", "key"),
    Mutant(17, "H.cumsum(0) - H <= gamma", "H.cumsum(0) <= gamma"),
    Mutant(17, "H.cumsum(0) - H <= gamma", "H <= gamma"),
    Mutant(17, "H, order = H.sort(stable=True)", "order = torch.arange(len(H))"),
    Mutant(17, "return torch.special.entr(p).sum(-1)", "return 1 - p.amax(-1)"),
    Mutant("sampling_stops_as_soon_as", "ranked_before >= self.top_p", "ranked_before > self.top_p"),
    Mutant(
        "sampling_takes_top_p_of_what_top_k_left",
        "p = ranked.softmax(-1)",
        "p = logits.softmax(-1).gather(-1, order)",
    ),
    Mutant(
        "sampling_keeps_what_the_rules_keep",
        "most_likely(logits, self.top_k)",
        "most_likely(logits, self.top_k + 1)",
    ),
    Mutant(
        "sampling_at_temperature_zero_is_greedy",
        "logits.argmax(-1, keepdim=True)",
        "logits.argmin(-1, keepdim=True)",
    ),
    Mutant(16, "math.ceil(int(draft.masked.sum()) / draft.steps_left)", "int(draft.masked.sum())"),
    Mutant(
        "what_is_left_of_the_candidates",
        "kept, rank = order.sort(-1)",
        "kept, rank = order, order.argsort(-1)",
    ),
]
