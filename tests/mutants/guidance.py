"""Ways to break `minittt/guidance.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

COUNTING = "both_halves_go_on_counting_from_their_own_prompts"
FORMULA = "guidance_is_the_formula_over_two_separate_passes"
LONGER = "the_prompt_without_the_condition_may_be_the_longer_one"
RULED_OUT = "what_was_not_computed_or_is_ruled_out_stays_so"

MUTANTS = [
    # the shift of groups: negated, dropped, of another row, of padding
    Mutant(COUNTING, "commit_groups + self.shift, -1", "commit_groups - self.shift, -1"),
    Mutant(COUNTING, "commit_groups + self.shift, -1", "commit_groups, -1"),
    Mutant(LONGER, "commit_groups + self.shift, -1", "commit_groups - self.shift, -1"),
    Mutant(LONGER, "commit_groups + self.shift, -1", "commit_groups, -1"),
    Mutant(COUNTING, "self.groups.amax(1, keepdim=True)", "self.groups.amax()"),
    Mutant(
        COUNTING,
        "torch.where(commit_groups >= 0, commit_groups + self.shift, -1)",
        "commit_groups + self.shift",
    ),
    Mutant(COUNTING, "commit_groups.amax(1, keepdim=True)\n", "commit_groups.amax(1, keepdim=True) + 1\n"),
    # the prompts: the condition in both halves; padding as tokens
    Mutant(
        FORMULA,
        "other, other_groups = self.prompt, self.groups ",
        "other, other_groups = commit, commit_groups ",
    ),
    Mutant(COUNTING, "_stacked(commit_groups, other_groups, -1)", "_stacked(commit_groups, other_groups, 0)"),
    # the formula
    Mutant(FORMULA, "(1 + self.scale) *", "self.scale *"),
    Mutant(FORMULA, "guided = unconditional + (1", "guided = conditional + (1"),
    Mutant(FORMULA, "(conditional - unconditional)", "(unconditional - conditional)"),
    Mutant(RULED_OUT, "conditional == -torch.inf  #", "conditional == torch.inf  #"),
]
