"""The command ``graft``."""

from graft.cli.app import main

__all__ = ["main"]
