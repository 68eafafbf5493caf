"""Ways to break minittt/diffusion.py, each with the law that must notice (law 5 belongs to bounds)."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(1, "kernel[mask_id, mask_id] = 1.0", "pass"),  # MASK no longer absorbs
    Mutant(1, "stays = alpha_t / alpha_s if", "stays = alpha_t if"),
    Mutant("bad_input_is_named", "0 <= mask_id < vocab_size", "mask_id <= vocab_size"),
    Mutant(1, "x0.masked_fill(masked, mask_id)", "x0.masked_fill(~masked, mask_id)"),
    Mutant(2, "revealed_by_s = (alpha_s - alpha_t) / (1 - alpha_t)", "revealed_by_s = alpha_s - alpha_t"),
    Mutant(2, "stays_masked = (1 - alpha_s) / (1 - alpha_t)", "stays_masked = 1 - alpha_s"),
    Mutant(2, "of_masked, itself)", "of_masked, p_x0 * alpha_t)"),
    Mutant(3, "logits.masked_fill(is_mask_id, -math.inf).log_softmax(-1)", "logits.log_softmax(-1)"),
    Mutant(3, "torch.where(masked, log_p, itself)", "log_p"),
    Mutant(2, "if p_x0[..., mask_id].any():", "if p_x0[..., mask_id].all():"),
    Mutant(2, "if alpha_t == 1 and masked.any():", "if alpha_t == 1 and masked.all():"),
    Mutant(3, "revealed_by_s * p_x0 +", "revealed_by_s * p_x0 ** (1 + alpha_s) +"),  # sharper early on
    Mutant(4, "return torch.full_like(t, self.eps - 1)", "return torch.full_like(t, -1.0)"),
    Mutant(4, "-math.pi / 2 * torch.cos(", "-torch.cos("),
    Mutant(4, "return 1 - torch.sin(math.pi / 2 * t)", "return 1 - 0.999 * torch.sin(math.pi / 2 * t)"),
    Mutant(4, "slope / (alpha_0 - alpha_1)", "slope"),
    Mutant(4, "(alpha - alpha_1) / (alpha_0 - alpha_1)", "alpha / alpha_0"),
    Mutant(6, ".clamp(max=size - 1) + 1", ""),  # k from 0 to n - 1
    Mutant(6, "(u * size).long()", "(u * u * size).long()"),  # k no longer uniform
    Mutant(
        6, "shuffled[group[shuffled].argsort(stable=True)]", "group.argsort(stable=True)"
    ),  # always the first k
    Mutant(
        6,
        "(torch.randperm(count, generator=generator, device=device) + offset)",
        "(torch.arange(count) + offset)",
    ),
    Mutant(
        6,
        "(torch.randperm(count, generator=generator, device=device) + offset) / count",
        "torch.rand(count).double()",
    ),  # not spread
    Mutant(6, "weight = size / k.double()", "weight = (size + 1) / k.double()"),
    Mutant(6, "weight = size / k.double()", "weight = size / k"),  # float32
    Mutant(6, "weight = 1 / p", "weight = 1 / t"),
    Mutant(
        6,
        "t = _uniforms(len(size), generator, stratified)",
        "t = _uniforms(1, generator, False).expand(len(size))",
    ),
    Mutant(6, "row * stride + number", "number"),  # groups leak across rows
    Mutant(7, "return (1 - eps) * t + eps", "return t.clamp(min=eps)"),
    Mutant(7, "return (1 - eps) * t + eps", "return t + eps"),
    Mutant(7, "(1 - eps) * (n.double() + 1) / k", "(n.double() + 1) / k"),
    Mutant(7, "(1 - eps) * (n.double() + 1) / k", "(1 - eps) * (n + 1) / k"),  # float32
    Mutant(7, "_binomial_cdf(k, n + 1, eps)", "_binomial_cdf(k, n, eps)"),
]
