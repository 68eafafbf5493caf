"""Ways to break minittt/theory/bounds.py, each with the law that must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(4, "[0.0] + [1 / (j * math.comb(n, j))", "[0.0] + [1 / (n * math.comb(n, j))"),
    Mutant(4, "(n / k * mean_by_count(table)[1:]).mean()", "(mean_by_count(table)[1:]).mean()"),
    Mutant(4, "return total / torch.bincount(k)", "return total / torch.bincount(k).sqrt()"),
    Mutant(4, "j / (4 * j**2 - 1).sqrt()", "j / (4 * j**2 + 1).sqrt()"),
    Mutant(4, "_gauss_legendre(table.shape[1], lower, upper)", "_gauss_legendre(table.shape[1], 0.0, upper)"),
    Mutant(4, "-schedule.alpha_prime(t)", "schedule.alpha(t)"),
    Mutant(4, "share.diff() * _ce_over_p(table, share[1:])", "share.diff() * _ce_over_p(table, share[:-1])"),
    Mutant(4, "size / left * m[left]", "m[left] / left"),
    Mutant(4, "sizes[j] += 1", "sizes[-1 - j] += 1"),  # the larger rounds last
    Mutant(4, "(2**order).cumsum(1) - 2**order", "(2**order).cumsum(1) - 2 ** order.sort(1).values"),
    Mutant(4, "x0.masked_fill(groups > group, mask_id)", "x0"),  # later groups seen
    Mutant(4, "x0.masked_fill(groups > group, mask_id)", "x0.masked_fill(groups != group, mask_id)"),
    Mutant(4, "torch.where(masked, surprisal, 0.0)", "surprisal"),
    Mutant(5, "math.log(len(nll)) - torch.logsumexp(-nll, 0)", "-torch.logsumexp(-nll, 0)"),
    Mutant(5, "math.log(len(nll)) - torch.logsumexp(-nll, 0)", "nll.mean()"),
    Mutant(5, "table[2**n - 1 - revealed, order]", "table[2**n - 1 - revealed // 2 * 2, order]"),
    Mutant(6, "(n / k**2 * _mean_square_by_count(ce)[1:])", "(n / k * _mean_square_by_count(ce)[1:])"),
    Mutant(6, "integral_of_inverse = math.inf", "integral_of_inverse = -math.log(1e-9)"),
    Mutant(6, "integral + n * square[1] * single", "integral + square[1] * single"),
    Mutant(6, "p ** (k - 2) * (1 - p)", "p ** (k - 1) * (1 - p)"),
    Mutant(
        6, "mean = lambda_integral(table, eps, 1.0) / (1 - eps)", "mean = lambda_integral(table, 0.0, 1.0)"
    ),
    Mutant(
        7,
        "return lambda_integral(table, eps, 1.0) / (1 - eps) -",
        "return lambda_integral(table, eps, 1.0) -",
    ),
    Mutant(
        7, "return lambda_integral(table, eps, 1.0) / (1 - eps) -", "return closed_form(table) * (1 + eps) -"
    ),
    Mutant(17, "size / left * m[left]", "size / table.shape[1] * m[left]"),  # too low
    Mutant(17, "x_t[positions] = x0[positions]", "x_t[positions] = 0 * x0[positions]"),
    Mutant(17, "nll - log_p[positions, x0[positions]].sum()", "nll - log_p[positions].max(-1).values.sum()"),
]
