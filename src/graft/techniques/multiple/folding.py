"""Which examples are held out in turn, where several tasks have labels for different ones."""

from __future__ import annotations

import numpy as np

from graft.errors import DataError
from graft.techniques.material import Material


def deal_folds(tasks: tuple[Material, ...], folds: int, seed: int) -> np.ndarray:
    """Return the fold of each example (n,): the labels of scarce tasks are dealt evenly first, groups undivided.

    Examples are ordered by the value that they have in the task with the fewest labels that knows them, numbers by
    their rank, and dealt in turn.

    Parameters
    ----------
    tasks : tuple of Material
        The tasks.
    folds : int
        How many.
    seed : int
        Decides within equal values.

    Raises
    ------
    DataError
        If all examples are of one group.
    """
    count = len(tasks[0].inputs)
    draws = np.random.default_rng(seed)
    groups = tasks[0].found.groups
    if groups is not None:
        names, place = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        if len(names) < 2:
            raise DataError(
                "groups",
                expected="two groups or more, of which one can be held out",
                found=f"{len(names)}",
                remedy="Leave groups out, or learn from more of them.",
            )
        return (draws.permutation(len(names)) % folds)[place]
    task_of = np.full(count, len(tasks))
    value = np.zeros(count)
    by_labels = sorted(range(len(tasks)), key=lambda number: -int(tasks[number].known.sum()))
    for rank, number in enumerate(by_labels):
        known = tasks[number].known
        task_of[known], value[known] = rank, _ranks(tasks[number], known)
    order = np.lexsort((draws.random(count), value, task_of))
    fold = np.empty(count, np.intp)
    fold[order] = np.arange(count) % folds
    return fold


def _ranks(task: Material, known: np.ndarray) -> np.ndarray:
    """Return a number for each label: equal for equal classes, ascending for numbers."""
    targets = task.found.targets[known]
    if task.kind == "classification":
        return task.found.task.codes(targets).astype(float)
    table = np.asarray(targets, float).reshape(len(targets), -1)
    return np.nan_to_num(table, nan=-1.0).mean(axis=1)
