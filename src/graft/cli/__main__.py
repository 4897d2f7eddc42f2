"""Lets ``python -m graft.cli`` stand for ``graft``."""

import sys

from graft.cli.app import main

sys.exit(main())
