"""The command line: minittt talk | chat | serve | transcribe | speak | caption | train | export | evaluate | ...

Whatever goes wrong ends with one line on standard error that says what was wrong and what would be right, and with exit
code 2 (130 for Ctrl-C); `--debug` shows the traceback. What can be written is in `arguments.py`; what each command does
is in `commands.py`. Nothing heavy is imported before the arguments are understood.
"""

import _thread
import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
from typing import Any

from minittt.app.arguments import command_line
from minittt.app.interrupts import raise_at_ctrl_c
from minittt.errors import MinitttError
from minittt.settings import samples_folder

SAMPLES = samples_folder()


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for anything wrong, 130 for Ctrl-C."""
    name = "minittt"
    debug = False
    _prepare(is_the_program=arguments is None)
    try:
        args = command_line().parse_args(arguments)
        if "check" in args:
            args.check(args)
        args.arguments = sys.argv[1:] if arguments is None else arguments
        name = f"minittt {args.command}"
        debug = args.debug
        code = _run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _print_no_more()
        return 2
    except Exception as error:  # the boundary: anything else would be a traceback in front of a user
        if debug:
            raise
        if _was_stopped(error):
            print("stopped", file=sys.stderr)
            return 130
        print(f"{name}: {_in_one_line(error)}", file=sys.stderr)
        _flush_or_give_up()
        return 2


def _prepare(is_the_program: bool) -> None:
    """Make the surroundings harmless: any terminal can be printed to, and a Ctrl-C is noticed wherever it lands."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # LC_ALL=C, or a file name that is not UTF-8
    if is_the_program:
        os.environ["MPLBACKEND"] = (
            "agg"  # no window is ever shown, and matplotlib fails on a backend name that it does not know
        )
        sys.unraisablehook = _hear_what_is_ignored


def _hear_what_is_ignored(ignored: Any) -> None:
    """Python ignores exceptions inside callbacks from C libraries. A Ctrl-C that lands there is raised again afterwards."""
    if ignored.exc_type is KeyboardInterrupt:
        again = threading.Timer(0.05, _interrupt)  # without a delay it would land in this very function
        again.daemon = True
        again.start()
        return
    sys.__unraisablehook__(ignored)


def _interrupt() -> None:
    """A Ctrl-C for the main thread, even while it sleeps."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main()


def _was_stopped(error: BaseException | None) -> bool:
    """Whether an error came from a Ctrl-C: an import that is stopped halfway sometimes ends in an ImportError."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _flush_or_give_up() -> None:
    """Printed output that cannot be written, to a full disk for instance, must not make Python complain as it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _print_no_more()


def _print_no_more() -> None:
    """Whoever was reading has gone: nothing more can be printed, not even by Python as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace) -> int:
    if args.command == "doctor":
        # doctor has to work where most of the package cannot be imported
        from minittt.app.doctor import doctor

        return doctor(SAMPLES)
    from minittt.app.checks import check

    check(args)
    from minittt.app import commands

    raise_at_ctrl_c()
    return getattr(commands, args.command)(args) or 0


def _in_one_line(error: Exception) -> str:
    """What went wrong, in one line. Our own errors say it all; for others, the kind is part of the message."""
    text = " ".join(str(error).split())
    ours = isinstance(error, MinitttError) or type(error).__name__ == "CodecError"
    if ours:
        return text
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "not enough memory: use a shorter recording, a smaller model or fewer records a step"
    if isinstance(error, ImportError):
        return f"{text or 'a module cannot be imported'}; `minittt doctor` says what is missing"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}; name a file or a folder that you may use"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full: make room, or write elsewhere"
    return f"{text or 'no message'} ({type(error).__name__}; --debug before the command shows where)"


if __name__ == "__main__":
    sys.exit(main())
