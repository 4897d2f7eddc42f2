"""From a label table with a column per task to the tasks, and who has a label of which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft._checks import did_you_mean, one_of
from graft.data import Task, check_classes, class_order, infer_task, label_array, missing, require_trainable
from graft.data.task import written_as_booleans
from graft.errors import DataError, RequestError
from graft.techniques.kept_heads import KeptHeads
from graft.techniques.labelled import Labelled
from graft.techniques.technique import Failure, label_table, targets_of

_KINDS = ("auto", "classification", "regression")
# More different whole numbers than this are amounts, not the names of classes.
_MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """The labels of one task.

    Parameters
    ----------
    task : Task
        It, with the name of its column.
    labels : array of shape (n,), or (n, columns) for a multi-label task
        As the user wrote them; missing where nobody knows.
    """

    task: Task
    labels: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Which examples (n,) have a label; of several columns, at least one."""
        given = ~missing(self.labels)
        return given if given.ndim == 1 else np.any(given, axis=1)

    def labelled(
        self,
        rows: np.ndarray,
        features: Any,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        failures: tuple[Failure, ...] = (),
        kept: KeptHeads | None = None,
    ) -> Labelled:
        """Return the examples of some rows with the labels of this task, some of which may be missing.

        Parameters
        ----------
        rows : array of int (m,)
            Those that could be read.
        features : array (m, d) or None
            Of them.
        sample_weight, groups : array of shape (n,) or None
            Of all examples.
        failures : tuple of Failure
            The inputs that could not be read.
        kept : KeptHeads, optional
            Where heads are kept.

        Raises
        ------
        DataError
            If nothing can be learnt from the labels of these rows.
        """
        known = self.known[rows]
        require_trainable(self.labels[rows[known]], self.task)
        return Labelled(
            task=self.task,
            rows=rows,
            features=features,
            labels=self.labels[rows],
            targets=self._targets(rows),
            sample_weight=None if sample_weight is None else np.asarray(sample_weight)[rows],
            groups=None if groups is None else np.asarray(groups)[rows],
            failures=failures,
            unlabelled=int((~known).sum()),
            known=known,
            kept=KeptHeads() if kept is None else kept,
        )

    def _targets(self, rows: np.ndarray) -> np.ndarray:
        """Return the labels of some rows as heads take them; what stands where there is none means nothing."""
        labels, known = self.labels[rows], self.known[rows]
        if self.task.kind == "multilabel":
            return label_table(labels)
        given = targets_of(self.task, labels[known])
        found = np.resize(given[:1], len(rows))
        found[known] = given
        return found


def table_of(Y: Any, names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a label table (n, columns), and what its columns are called: by default their positions.

    Raises
    ------
    DataError
        If there are not as many names as columns.
    """
    array = label_array(Y)
    array = array[:, None] if array.ndim == 1 else array
    given = getattr(Y, "columns", ()) if names is None else names
    named = tuple(str(name) for name in given) or tuple(str(place) for place in range(array.shape[1]))
    if len(named) != array.shape[1]:
        raise DataError(
            "label_names",
            expected=f"{array.shape[1]} names, one for each column of the label table",
            found=str(len(named)),
            remedy="Name every column.",
        )
    if twice := [name for name in named if named.count(name) > 1]:
        raise DataError(
            "label_names",
            expected="a name of its own for each column",
            found=f"{twice[0]!r} {named.count(twice[0])} times",
            remedy="Rename one of them.",
        )
    return array, named


def label_columns(Y: Any, tasks: Any = None, names: Sequence[str] | None = None) -> tuple[LabelColumn, ...]:
    """Return the tasks of a label table, in the order in which they are stated, else of its columns.

    Text, booleans and numbers with at most 20 different whole values name classes; other numbers are a regression.

    Parameters
    ----------
    Y : table of shape (n, columns)
        A data frame, an array or a list of rows; missing cells are None, NaN or empty.
    tasks : None, sequence of str or Task, or mapping
        Which columns are learnt (all, by default); a mapping says of what kind they are: ``{"species":
        "classification", "damage": "regression", "tags": ["round", "red"]}``, where several columns are one multi-label
        task. A `Task` has its classes stated.
    names : sequence of str, optional
        What the columns are called.

    Raises
    ------
    RequestError
        If a task is stated in another way.
    DataError
        If a column does not exist, or nothing can be learnt from it: it is empty, constant, infinite or of mixed types.
    """
    table, named = table_of(Y, names)
    stated: dict[str, Any]
    match tasks:
        case None | "auto":
            stated = dict.fromkeys(named, "auto")
        case Mapping():
            stated = {str(name): kind for name, kind in tasks.items()}
        case str() | bytes():
            raise RequestError(
                "tasks", expected="names of columns, or a mapping", found=repr(tasks), remedy=f"Pass [{tasks!r}]."
            )
        case _:
            stated = {one.name if isinstance(one, Task) else str(one): one for one in tasks}
            stated = {name: kind if isinstance(kind, Task) else "auto" for name, kind in stated.items()}
    if not stated:
        raise RequestError("tasks", expected="one task or more", found="none", remedy="Name columns of the table.")
    return tuple(_column(name, kind, table, named) for name, kind in stated.items())


def known_columns(Y: Any, tasks: Sequence[Task], names: Sequence[str] | None = None) -> tuple[LabelColumn, ...]:
    """Return the columns of a later label table that belong to tasks, in their order; some may be lacking.

    Raises
    ------
    DataError
        If the table has none of them, or a label is one that its task does not know.
    """
    wanted = [str(one) for task in tasks for one in (task.classes if task.kind == "multilabel" else [task.name])]
    array = label_array(Y)
    width = 1 if array.ndim == 1 else array.shape[1]
    fits = names is not None and len(names) == width
    table, named = table_of(Y, names if fits else getattr(Y, "columns", wanted if len(wanted) == width else None))
    found = []
    for task in tasks:
        several = [str(one) for one in task.classes] if task.kind == "multilabel" else [task.name]
        if not set(several) <= set(named):
            continue
        labels = label_array(table[:, [named.index(one) for one in several]].tolist())
        labels = labels if task.kind == "multilabel" else labels[:, 0]
        if task.kind == "classification":
            check_classes(task.classes, labels, subject=f"labels {task.name!r}")
        found.append(LabelColumn(task, labels))
    if not found:
        raise DataError(
            "Y",
            expected=f"columns called {', '.join(wanted)}",
            found=", ".join(named),
            remedy="Pass a table with the tasks' columns.",
        )
    return tuple(found)


def require_learnable(columns: Sequence[LabelColumn], held: np.ndarray) -> None:
    """Refuse tasks all labels of which are held out (mask (n,)), or a class of which is.

    Raises
    ------
    DataError
        If there is one.
    """
    for column in columns:
        learning = column.labels[column.known & ~held]
        lacking: list[Any] = []
        if column.task.kind == "classification":
            lacking = sorted(set(column.task.classes) - set(learning.tolist()), key=str)
        if lacking or not len(learning):
            raise DataError(
                f"labels {column.task.name!r}",
                expected="labels to learn from, in the training split",
                found=f"none of {lacking[0]!r}" if len(learning) else "labels among the held-out examples alone",
                remedy="Move labelled examples to the training split, or leave the column out.",
            )


def mean_the_same(columns: tuple[LabelColumn, ...]) -> bool:
    """Return whether all tasks have the same classes, or are numbers of which an example has one at most."""
    kinds = {column.task.kind for column in columns}
    if kinds == {"regression"}:
        # Different quantities, mostly: that they are one is told by examples that each have one of them.
        return bool((np.sum([column.known for column in columns], axis=0) <= 1).all())
    return kinds == {"classification"} and len({column.task.classes for column in columns}) == 1


def _column(name: str, kind: Any, table: np.ndarray, named: tuple[str, ...]) -> LabelColumn:
    several: Sequence[str] = ()
    if isinstance(kind, Task):
        several = [str(one) for one in kind.classes] if kind.kind == "multilabel" else ()
    elif not isinstance(kind, str):
        several, kind = [str(one) for one in kind], "multilabel"
    if several:
        labels = label_array(np.stack([table[:, _place(one, named)] for one in several], axis=1).tolist())
        task = kind
        if not isinstance(kind, Task):
            task = Task(name, "multilabel", tuple(several), boolean=written_as_booleans(labels))
    else:
        labels = label_array(table[:, _place(name, named)].tolist(), subject=f"labels {name!r}")
        task = kind if isinstance(kind, Task) else _task(name, one_of(f"tasks[{name!r}]", kind, _KINDS), labels)
    column = LabelColumn(task, labels)
    require_trainable(labels[column.known], task)
    if task.kind == "classification" and isinstance(kind, str) and len(task.classes) > _MOST_CLASSES:
        count = int(column.known.sum())
        if 2 * len(task.classes) > count:
            raise DataError(
                f"labels {name!r}",
                expected="classes that occur several times",
                found=f"{len(task.classes)} different values in {count} cells",
                remedy="Correct the column if it holds numbers, or name another one.",
            )
    return column


def _place(name: str, named: tuple[str, ...]) -> int:
    if name not in named:
        raise DataError(
            "tasks",
            expected=f"columns of the label table: {', '.join(named)}",
            found=repr(name),
            remedy=did_you_mean(name, named, otherwise="Name one of its columns."),
        )
    return named.index(name)


def _task(name: str, kind: str, labels: np.ndarray) -> Task:
    found = infer_task(labels, name=name)
    if kind == "regression" or (kind == "auto" and found.kind == "classification" and _amounts(found.classes)):
        return Task(name, "regression")
    if kind == "classification" and found.kind == "regression":
        classes = class_order(labels, subject=f"labels {name!r}")
        if not all(isinstance(one, int) for one in classes):
            raise DataError(
                f"labels {name!r}",
                expected="classes",
                found="numbers with fractions",
                remedy="State it as a regression, or write the classes as text.",
            )
        return Task(name, "classification", classes)
    return found


def _amounts(classes: tuple) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in classes)
    return numbers and len(classes) > _MOST_CLASSES
