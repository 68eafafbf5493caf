"""`python -m minittt` is the command `minittt`."""

import sys

from minittt.app.cli import main

sys.exit(main())
