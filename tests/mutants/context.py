"""Ways to break the contexts, each of which its law must notice."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(18, "seen += [end] * n", "seen += list(range(end - n + 1, end + 1))"),
    Mutant(
        18, "return seen + [end + drafted] * drafted", "return seen + [end + i + 1 for i in range(drafted)]"
    ),
    Mutant(18, "self.lengths[row] += n_commit[row]", "self.lengths[row] += n_commit[row] + n_draft[row]"),
    Mutant(
        18,
        "hidden[[first[row] + n_commit[row] - 1 for row in committing]]",
        "hidden[[first[row] for row in committing]]",
    ),
    Mutant(18, "mask = slot < new.seen", "mask = slot <= new.seen"),
    Mutant(18, "[self.lengths[row] + i for row in order", "[i for row in order"),
    Mutant(18, "self.values[new.rows, :, new.slots] = v[0]", "self.values[new.rows, :, new.slots] = k[0]"),
    Mutant(18, "whole = all(seen[row][0] == keys for row in some)", "whole = True"),
    Mutant(
        18,
        "drafted = hidden[[first[row] + n_commit[row] + j for row, j in at]]",
        "drafted = hidden[[first[row] + j for row, j in at]]",
    ),
    Mutant(18, "[max(self.groups[row], default=-1) + 1] * d", "[max(self.groups[row], default=-1)] * d"),
    Mutant(
        18,
        "logits[row[:, None], 1 + slot[:, None], audio] = drafted",
        "logits[row[:, None], 1 + slot[:, None], audio] = 2 * drafted",
    ),
    Mutant(18, "self.lengths[row] += n_commit[row]", "self.lengths[row] += commit.shape[1] + draft.shape[1]"),
    # law 19: replies that end, whatever the network: heads exchanged, logits kept for the rows that do not ask, a token
    # that sees nothing, groups and slots refused that are free
    Mutant(19, "for x in (classes.text, classes.audio)]", "for x in (classes.audio, classes.text)]"),
    Mutant(19, "enumerate(n_draft) if not d]", "enumerate(n_draft) if d]"),
    Mutant(
        19, "logits[row[:, None], 1 + slot[:, None], audio]", "logits[row[:, None], slot[:, None], audio]"
    ),
    Mutant(19, "seen += [end] * n", "seen += [end - n] * n"),
    Mutant(19, "if group <= before:", "if group <= before + 1:"),
    Mutant(
        19,
        "self.closed[row] = int(commit_groups[row, n_commit[row] - 1])",
        "self.closed[row] += n_commit[row]",
    ),
]
