"""The one exception of minittt's outer modules: what was wrong, and what would be right.

The command line prints it as one line and exits with code 2; core modules raise plain `ValueError`s instead, so that
each of them can be copied into another project on its own.
"""


class MinitttError(ValueError):
    """Bad input: the message names what was wrong and what would be right."""
