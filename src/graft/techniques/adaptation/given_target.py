"""The target as a user passes it, before anything of it is read."""

from __future__ import annotations

import warnings
from typing import Any

from graft.data import Domain, Task, check_classes
from graft.errors import RequestError
from graft.techniques.technique import labelled_rows, task_labels


def checked_target(target: Any, X: Any, task: Task) -> Domain:
    """Return the target domain that is adapted to, checked as far as that is possible before any input is read.

    Parameters
    ----------
    target : Domain or None
        As the user passed it; None: the source's inputs `X` stand for it, and a warning says so.
    X : sequence of inputs
        The source's.
    task : Task
        What is predicted.

    Raises
    ------
    RequestError
        If it is no domain.
    DataError
        If it has a label that the source does not have.
    """
    if target is None:
        warnings.warn(
            "No target was given: the source stands for it, and there is nothing to adapt to. Pass target=Domain(...).",
            UserWarning,
            stacklevel=3,
        )
        return Domain(X)
    if not isinstance(target, Domain):
        raise RequestError(
            "target",
            expected="a Domain",
            found=f"a {type(target).__name__}",
            remedy="Pass graft.Domain(inputs): scikit-learn cuts any array as long as X in half with it.",
        )
    target = target.split("train") or target
    if target.labels is not None and task.kind == "classification":
        labels = task_labels(task, target.labels)
        check_classes(task.classes, labels[labelled_rows(labels)], subject="labels of the target")
    return target
