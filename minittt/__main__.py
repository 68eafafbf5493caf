"""`python -m minittt` and the command `minittt`: one entry, which is quiet about Ctrl-C from its first line on.

What comes before that line cannot be reached from here: Python's own start, and the search for this file.
"""

import sys


def main() -> int:
    """Run the command line. Its own imports can be stopped, too, and so can Python's end."""
    try:
        from minittt.app.interrupts import end_at_ctrl_c

        end_at_ctrl_c()
        from minittt.app.cli import main as run

        code = run()
        end_at_ctrl_c()  # all is written; threads may take a moment to end
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
