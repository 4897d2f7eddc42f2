"""Lets ``python -m graft`` stand for ``graft``."""

import sys

from graft.cli import main

sys.exit(main())
