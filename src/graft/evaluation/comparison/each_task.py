"""`EachTask`: one model for each label column, which is what learning them together is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self, final

import numpy as np

from graft.data import Task, label_array, missing
from graft.techniques import Predictions
from graft.techniques.technique import Failure, class_columns


@final
class EachTask:
    """A model for each task, fitted to the examples that have a label of it.

    Parameters
    ----------
    tasks : sequence of Task
        One for each column of the label table.
    make : callable
        Returns the unfitted model of a task.

    Attributes
    ----------
    models_ : dict of str to model
        By the tasks' names.
    left_out_ : tuple of (int, str, str)
        Row, name and reason of each training input that could not be read.
    seconds_ : dict of str to float
        The sums over the models.
    """

    def __init__(self, tasks: Sequence[Task], make: Callable[[Task], Any]) -> None:
        self._tasks, self._make = tuple(tasks), make

    @property
    def store(self) -> Any:
        """Where the models keep features; what is set holds for all of them."""
        return next(iter(self.models_.values())).store

    @store.setter
    def store(self, store: Any) -> None:
        for model in self.models_.values():
            model.store = store

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit to inputs X (n,) and a label table y (n, tasks)."""
        table = label_array(y)
        gaps = missing(table)
        self.models_: dict[str, Any] = {}
        unread: dict[int, Failure] = {}
        for place, task in enumerate(self._tasks):
            known = np.flatnonzero(~gaps[:, place])
            model = self._make(task)
            model.fit(
                X[known], label_array(table[known, place].tolist()), groups=None if groups is None else groups[known]
            )
            self.models_[task.name] = model
            unread |= {int(known[row]): (int(known[row]), name, reason) for row, name, reason in model.left_out_}
        self.left_out_ = tuple(unread[row] for row in sorted(unread))
        parts = [model.seconds_ for model in self.models_.values()]
        self.seconds_ = {
            name: float(sum(part.get(name, 0.0) for part in parts)) for name in ("data", "features", "training")
        }
        return self

    def predictions(self, X: Any) -> dict[str, Predictions]:
        """Predict every task of what can be read; probabilities have a column for each class of a task."""
        found = {name: model.predictions(X) for name, model in self.models_.items()}
        for task in self._tasks:
            shares = found[task.name].probabilities
            if task.kind == "classification" and shares is not None:
                known = self.models_[task.name].task_.classes
                found[task.name] = replace(found[task.name], probabilities=class_columns(shares, known, task.classes))
        return found
