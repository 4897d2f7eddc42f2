"""The data: domains, tasks, readers, splits, the data doctor, and built-in example data."""

from graft.data.domain import Domain

__all__ = ["Domain"]
