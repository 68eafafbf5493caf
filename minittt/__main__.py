"""`python -m minittt` is the command `minittt`."""

import sys

from minittt.cli import main

sys.exit(main())
