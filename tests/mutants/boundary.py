"""Checks of input and output, removed one by one: each must be missed by the named test.

They lie in many modules, so each mutant names its own, and the file of its tests.
"""

from tests.mutants.run import Mutant

CHECK = "refused_by_the_check_alone"
REQUEST = "what_is_no_question_is_refused"
BOUNDARY = "app/test_boundary.py"
SERVE = "app/test_serve.py"
FILES = "test_files.py"
HEADERS = "data/test_headers.py"
READERS = "fuzz/test_readers.py"
ENDS = "the_ends_of_a_range"
METADATA = "what_is_wrong_with_metadata"


def without(law: str, condition: str, module: str, file: str) -> Mutant:
    """The check that asks `if condition:` is never made."""
    return Mutant(law, f"if {condition}:", "if False:", module, file)


MUTANTS = [
    # ranges
    Mutant(
        ENDS,
        'return rules["at_most"] is None or value <= rules["at_most"]',
        "return True",
        "settings",
    ),
    without(
        ENDS,
        "isinstance(value, float) and not math.isfinite(value)",
        "settings",
        "test_settings.py",
    ),
    without(REQUEST, "not LOWEST_RATE <= rate <= HIGHEST_RATE", "serve", SERVE),
    without(REQUEST, "options.steps > MAX_SPAN", "serve", SERVE),
    # options that would be ignored, or do not go together
    without(CHECK, "_is_given(args, option) and not _is_given(args, needed)", "checks", BOUNDARY),
    without(CHECK, "_is_given(args, option) and _is_given(args, other)", "checks", BOUNDARY),
    without(CHECK, "option not in ONLY[command, action] and _is_given(args, option)", "checks", BOUNDARY),
    without(CHECK, "_is_given(args, option) and not are_there", "checks", BOUNDARY),
    Mutant(CHECK, "or args.data[0].is_file():", "or True:", "checks", BOUNDARY),
    # places that cannot be written to
    without(CHECK, "suffixes and path.suffix.lower() not in suffixes", "files", BOUNDARY),
    without(CHECK, "not path.parent.is_dir()", "files", BOUNDARY),
    without(CHECK, "len(answers) > 1", "checks", BOUNDARY),
    without("is_left_alone", "states(out)", "adapt", "app/test_adapt.py"),
    without("nothing_is_written", "path.resolve().is_relative_to(PACKAGE)", "checks", BOUNDARY),
    without("read_only_folder", "not os.access(folder, os.W_OK | os.X_OK)", "files", FILES),
    without("folder_that_is_not_ours", "foreign", "files", FILES),
    without("folder_that_is_not_ours", "Path.cwd().is_relative_to(path)", "files", FILES),
    Mutant(
        "only_an_ordinary_file",
        'raise OSError("it is a folder, a link or a device")',
        "pass",
        "codec",
        FILES,
    ),
    without("a_codec_left_unfinished", "state.is_file() and not resume", "codec_training", BOUNDARY),
    # targets that are inputs
    Mutant(
        "a_file_that_is_read_is_not_replaced",
        "return os.path.samefile(path, other)",
        "return os.path.abspath(path) == os.path.abspath(other)",
        "files",
        FILES,
    ),
    Mutant(CHECK, "if args.stream else SOUNDS, inputs)", "if args.stream else SOUNDS)", "checks", BOUNDARY),
    Mutant(CHECK, "check_folder(output, inputs=inputs)", "check_folder(output)", "checks", BOUNDARY),
    # one process at a time
    Mutant("a_second_process_is_told", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH", "files", FILES),
    Mutant(
        "never_two_processes",
        "if os.path.samestat(os.fstat(place), os.stat(holder)):",
        "if True:",
        "files",
        FILES,
    ),
    Mutant(
        "another_process_trains_in",
        "self.lock.enter_context(locked(self.out))",
        "pass",
        "trainer",
    ),
    # sizes of files, and what they hold
    without("longer_than_its_file", "size > length - 8", "codec", HEADERS),
    Mutant(
        "any_byte_changed", "intact = checksum == _checksum(head, file)", "intact = True", "codec", HEADERS
    ),
    without("a_changed_byte_in_a_corpus", "_checksum(folder / name) != checksum", "corpus", HEADERS),
    without(
        "arrays_that_unpack_to_gigabytes",
        "sum(member.file_size for member in members) > _room(path)",
        "corpus",
        READERS,
    ),
    without(
        "sizes_beyond_the_weights",
        "name not in _NO_SIZES and (max(numbers, default=0) > most or len(numbers) > len(tensors) + 1)",
        "codec",
        READERS,
    ),
    without("a_corpus_that_unpacks_to_gigabytes", "room < 0", "corpus", READERS),
    Mutant("too_long_or_of_no_rate", "seconds <= longest or", "True or", "codec", READERS),
    Mutant("too_long_or_of_no_rate", "LOWEST_RATE <= rate <= HIGHEST_RATE,", "True,", "codec", READERS),
    Mutant("a_recording_cut_off", "cut = held < stated < _PIPE", "cut = False", "codec", READERS),
    without(METADATA, "place in line_of", "recordings", READERS),
    without(METADATA, "len(fields) > len(columns)", "recordings", READERS),
    # values that are no numbers
    Mutant(
        "weights_that_are_no_numbers",
        "finite = bool(tensor.isfinite().all())",
        "finite = True",
        "codec",
        READERS,
    ),
    Mutant("without_sound", "_require(np.isfinite(wave).all(), f", "_require(True, f", "codec"),
    Mutant(
        "arrays_that_do_not_fit",
        " or not np.isfinite(codebooks).all())",
        ")",
        "corpus",
        READERS,
    ),
    without("a_gradient_that_is_not_finite", "wrong", "trainer", "training/test_trainer.py"),
    without("json_is_what_every", "isinstance(value, float) and not math.isfinite(value)", "files", FILES),
    # a disk that is full
    Mutant(
        "a_full_disk_leaves",
        "        os.replace(unfinished, path)\n    except (OSError, SafetensorError,",
        "        os.replace(unfinished, path)\n    except (SafetensorError,",
        "codec",
        FILES,
    ),
    without(
        "errors_of_libraries", "isinstance(error, OSError) and error.errno == errno.ENOSPC", "cli", BOUNDARY
    ),
    # Ctrl-C
    Mutant(
        "ends_imports_at_once",
        "        os._exit(130)",
        "        raise KeyboardInterrupt",
        "interrupts",
        BOUNDARY,
    ),
    Mutant("ends_imports_at_once", "    raise_at_ctrl_c()\n", "", "cli", BOUNDARY),
    without("inside_a_callback", "ignored.exc_type is KeyboardInterrupt", "cli", BOUNDARY),
    without("an_import_that_was_stopped", "_was_stopped(error)", "cli", BOUNDARY),
    # the page that is served
    without("a_foreign_name_is_refused", "port != self.port", "gate", SERVE),
    without("a_foreign_name_is_refused", "is_loopback(self.host)", "gate", SERVE),
    without(
        "another_page_may_not_ask",
        "origin is not None and origin != f\"http://{headers['host']}\"",
        "gate",
        SERVE,
    ),
    Mutant("another_page_may_not_ask", 'in ("same-origin", "none")', "is not None", "gate", SERVE),
    Mutant("cannot_pass_for_json", '!= "application/json":', "is None:", "gate", SERVE),
    without("a_body_that_is_too_large", "len(body) > LARGEST_BODY", "gate", SERVE),
    Mutant("a_body_without_end", "asyncio.timeout(BODY_SECONDS)", "asyncio.timeout(None)", "gate", SERVE),
    Mutant("takes_no_answer", "asyncio.timeout(SEND_SECONDS)", "asyncio.timeout(None)", "gate", SERVE),
    without("takes_too_long", "time.monotonic() > deadline", "gate", SERVE),
    without("fifty_at_once", "len(self.tickets) > self.waiting", "gate", SERVE),
    Mutant("forgotten", "while len(self.answers) > KEPT:", "while False:", "serve", SERVE),
    without("another_codec", 'other.talker.info["codec"] != speaker.talker.info["codec"]', "serve", SERVE),
    # signs of life
    without(
        "notices_who_stands_still",
        "silent * self.beat >= self.patience",
        "heartbeat",
        "training/test_heartbeat.py",
    ),
    Mutant("leaves_in_good_order", "found == last != LEFT", "found == last", "heartbeat"),
]
