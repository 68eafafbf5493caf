"""Ways to break `minittt/talker.py`, each of which the named law must notice."""

from tests.mutants.run import Mutant

SAYS_SO = "who_is_too_unsure_says_so"
LISTENER = "only_a_listener_declines"

MUTANTS = [
    Mutant(SAYS_SO, "and not is_sure", "and False"),
    Mutant(SAYS_SO, "*[TEXT for _ in begun]", ""),
    Mutant(SAYS_SO, "ids=(*begun, *event.ids)", "ids=event.ids"),
    Mutant(LISTENER, "unsure[row] = copy.deepcopy(replies[row])", "unsure[row] = replies[row]"),
    Mutant(LISTENER, 'role == "user" and any(not isinstance(part, str) for part in parts)', "True"),
    Mutant(LISTENER, 'messages[0] == ["system", instruction]', "True"),
    Mutant(LISTENER, "seeds = [seeds[row] for row in rows]", "seeds = seeds[: len(rows)]"),
    Mutant(
        LISTENER,
        "return None if fields is None else Declining(**fields)",
        'return Declining(1.0, "two", "answer")',
    ),
    Mutant(LISTENER, 'self.info["declines"] = None', "pass"),
]
