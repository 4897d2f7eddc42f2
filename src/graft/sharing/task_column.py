"""The column that names the task of each example."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.errors import DataError


def task_places(tasks: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tasks (T,), sorted, and the place among them of each example (n,).

    Raises
    ------
    DataError
        If there is not one task for each row, or some are missing.
    """
    column = _column(tasks, rows)
    found, places = np.unique(column, return_inverse=True)
    return found, places


def places_of(tasks: Any, known: np.ndarray, rows: int) -> np.ndarray:
    """Return the place of each example's task among the known ones (n,), T for one that is not known.

    Raises
    ------
    DataError
        As `task_places`.
    """
    if tasks is None:
        return np.full(rows, len(known))
    column = _column(tasks, rows)
    if known.dtype.kind == "U":
        column = column.astype(str)
    place_of = {name: place for place, name in enumerate(known.tolist())}
    return np.array([place_of.get(name, len(known)) for name in column.tolist()], dtype=np.intp)


def group_places(groups: Any, rows: int) -> np.ndarray:
    """Return the number of each example's group (n,), from 0.

    Raises
    ------
    DataError
        If there is not one group for each row, or there is one alone.
    """
    column = np.asarray(groups)
    names, places = np.unique(column.astype(str), return_inverse=True)
    if column.shape != (rows,) or len(names) < 2:
        raise DataError(
            "groups",
            expected=f"one group for each of the {rows} rows, two groups or more",
            found=f"shape {column.shape}" if column.shape != (rows,) else "one group",
            remedy="Pass the group of each example, in the order of the rows, or leave groups out.",
        )
    return places


def _column(tasks: Any, rows: int) -> np.ndarray:
    column = np.asarray(tasks)
    if column.shape != (rows,):
        raise DataError(
            "tasks",
            expected=f"one task for each of the {rows} rows",
            found=f"shape {column.shape}",
            remedy="Pass the name or number of each example's task, in the order of the rows.",
        )
    if column.dtype == object:
        missing = np.array([name is None or name != name for name in column])
        column = column if missing.any() else column.astype(str)
    else:
        missing = column != column
    if missing.any():
        raise DataError(
            "tasks",
            expected="a task for every example",
            found=f"{int(missing.sum())} missing, the first at row {int(np.argmax(missing))}",
            remedy="Name the task of those examples, or leave them out.",
        )
    return column
