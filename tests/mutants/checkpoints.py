"""Ways to break states of a run, each of which the named law must notice."""

from tests.mutants.run import Mutant

ORDER = "states_are_ordered_by_their_steps"
LATER = "an_unreadable_later_state"
FITS = "what_does_not_fit_is_named"
BACK = "what_is_saved_is_put_back"
STAYS = "what_is_free_may_change"
BEGAN = "a_run_that_began_with_a_model"
MEANT = "a_run_knows_how_many_steps"
LINES = "lines_up_to_the_step_are_kept"
LEFT = "what_a_killed_process_left"

MUTANTS = [
    # which states there are
    Mutant(ORDER, "key=lambda path: (_step_in(path), path.name)", "key=lambda path: path.name"),
    Mutant(ORDER, "for old in known[:-keep]:", "for old in known[:keep]:"),
    Mutant(ORDER, "    _remove_old(folder, step, keep)\n\n\ndef save_shards", "\n\ndef save_shards"),
    Mutant(ORDER, "for path in reversed(states(folder)):", "for path in states(folder):"),
    Mutant("other_files_are_no_states", 're.fullmatch(r"state-', 're.match(r"state-'),
    Mutant(LATER, "if _step_in(path) <= step]", "]"),
    Mutant("the_last_reason_is_told", 'wrong = f": {error}"', "pass"),
    # what may change
    Mutant(BEGAN, 'if found.get("start") and not given.get("start"):', "if False:"),
    Mutant("a_tuple_is_what_it_was_written_as", "given = json.loads(json.dumps(given))", "pass"),
    Mutant(STAYS, "if name in now and was[name] != now[name]:", "if was[name] != now.get(name):"),
    Mutant(STAYS, "if name in now and was[name] != now[name]:", "if False:"),
    Mutant(STAYS, 'if name not in (*FREE, "settings")}', 'if name != "settings"}'),
    Mutant(STAYS, '{**header.get("settings", {}), **header}', 'header.get("settings", {})'),
    Mutant(MEANT, "type(steps) is not int", "not isinstance(steps, int)"),
    Mutant(MEANT, " or steps < 0:", ":"),
    # what is put back
    Mutant(BACK, "parameter.copy_(shard_like(weights[name], parameter))", "pass"),
    Mutant(BACK, 'optimiser.load_state_dict({"state": state})', "pass"),
    Mutant(
        BACK,
        "for name, parameter in parameters.items():\n        parameter",
        "for name, parameter in list(parameters.items())[:2]:\n        parameter",
    ),
    Mutant(
        FITS, "if shapes != {name: parameter.shape for name, parameter in parameters.items()}:", "if False:"
    ),
    Mutant(FITS, "if moment.dim() > 0 and moment.shape != shape:", "if False:"),
    # what a killed process left
    Mutant(
        LINES, "if is_whole and _step_of(log, line) <= step:", "if is_whole and _step_of(log, line) < step:"
    ),
    Mutant(LINES, "if is_whole and _step_of(log, line) <= step:", "if _step_of(log, line) <= step:"),
    Mutant(LEFT, '*folder.glob(".*-state-*"), ', ""),
    Mutant(LEFT, ', *folder.glob(".*-log.jsonl")', ""),
    Mutant(LEFT, "        shutil.rmtree(state)\n", "        pass\n"),
    Mutant("a_line_without_a_step", "KeyError, OverflowError, RecursionError", "KeyError, RecursionError"),
]
