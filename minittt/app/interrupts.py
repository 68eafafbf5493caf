"""What a Ctrl-C does: before the work begins it ends the process at once; from then on it is an exception.

Before the work there is nothing to clean up, and an exception might not come through: one that lands in the import of a C++
library ends Python with a message from that library. This file and `__main__.py` import next to nothing, to keep those first
moments as short as possible.
"""

import _signal  # what `signal` wraps, without the enumerations that it has to build first
import os


def stop_at_once(number: int, frame: object) -> None:
    """End the process with the same word and exit code as for any Ctrl-C."""
    try:
        os.write(2, b"stopped\n")
    finally:
        os._exit(130)


def end_at_ctrl_c() -> None:
    """From now on a Ctrl-C ends the process at once, unless whoever started it has other plans for it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, stop_at_once)


def raise_at_ctrl_c() -> None:
    """From now on a Ctrl-C is a KeyboardInterrupt, where `end_at_ctrl_c` was called."""
    if _signal.getsignal(_signal.SIGINT) is stop_at_once:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
