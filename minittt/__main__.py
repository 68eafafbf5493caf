"""`python -m minittt` and the command `minittt`: one entry, which is quiet about Ctrl-C from its first line on."""

import sys


def main() -> int:
    """Run the command line. Its own imports can be stopped, too."""
    try:
        from minittt.app.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
