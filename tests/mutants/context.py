"""Ways to break the contexts, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    # who sees what: not to the end of the group; a draft that looks left alone; padding and order of slots
    Mutant(
        18,
        "return [end_of_group[group] for group in groups]",
        "return [length + i + 1 for i, _ in enumerate(groups)]",
    ),
    Mutant(18, "+ [total] * n_draft", "+ [total - n_draft + i + 1 for i in range(n_draft)]"),
    Mutant(18, "mask = slot < self.new.seen", "mask = slot <= self.new.seen"),
    Mutant(18, "sees_all=all(seen[row][0] == keys for row in rows)", "sees_all=True"),
    Mutant(18, "range(self.lengths[row], self.lengths[row] + n)", "range(n)"),
    # what is kept: the draft too; values that are keys
    Mutant(18, "self.lengths[row] += n_commit[row]", "self.lengths[row] += n_commit[row] + n_draft[row]"),
    Mutant(
        18,
        "self.values[rows, :, slots] = v[0]",
        "self.values[rows, :, slots] = k[0]",
    ),
    # which logits are read
    Mutant(
        18, "[first[row] + n_commit[row] - 1 for row in committing]", "[first[row] for row in committing]"
    ),
    Mutant(
        18,
        "[first[row] + n_commit[row] + slot for row, slot in drafted_at]",
        "[first[row] + slot for row, slot in drafted_at]",
    ),
    Mutant(
        18,
        "= self.model.logits(drafted, self.audio_choices)",
        "= 2 * self.model.logits(drafted, self.audio_choices)",
    ),
    # the reference itself
    Mutant(18, "[max(self.groups[row], default=-1) + 1] * d", "[max(self.groups[row], default=-1)] * d"),
    Mutant(18, "self.lengths[row] += n_commit[row]", "self.lengths[row] += commit.shape[1] + draft.shape[1]"),
    # law 19: replies that end, whatever the network: heads exchanged, logits kept for the rows that do not ask, a token
    # that sees nothing, groups and slots refused that are free
    Mutant(19, "self.text_choices = classes.text_ids", "self.text_choices = classes.audio_ids"),
    Mutant(19, "for r, d in enumerate(n_draft) if d == 0]", "for r, d in enumerate(n_draft) if d]"),
    Mutant(
        19,
        "logits[row[:, None], 1 + slot[:, None], self.audio_ids]",
        "logits[row[:, None], slot[:, None], self.audio_ids]",
    ),
    Mutant(19, "end_of_group[group] = length + i + 1", "end_of_group[group] = length + i"),
    Mutant(19, "is_closed = group < current or", "is_closed = group < current + 2 or"),
    Mutant(
        19,
        "self.closed[row] = int(commit_groups[row, n_commit[row] - 1])",
        "self.closed[row] += n_commit[row]",
    ),
]
