"""`EachTask`: one model for each label column, which is what learning them together is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, final

import numpy as np

from graft.data import Task, label_array, missing
from graft.techniques import Predictions


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
    seconds_ : dict of str to float
        The sums over the models.
    """

    def __init__(self, tasks: Sequence[Task], make: Callable[[Task], Any]) -> None:
        self._tasks, self._make = tuple(tasks), make

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit to inputs X (n,) and a label table y (n, tasks)."""
        table = label_array(y)
        gaps = missing(table)
        self.models_: dict[str, Any] = {}
        for place, task in enumerate(self._tasks):
            known = np.flatnonzero(~gaps[:, place])
            model = self._make(task)
            model.fit(
                X[known], label_array(table[known, place].tolist()), groups=None if groups is None else groups[known]
            )
            self.models_[task.name] = model
        parts = [model.seconds_ for model in self.models_.values()]
        self.seconds_ = {name: float(sum(part.get(name, 0.0) for part in parts)) for name in ("data", "training")}
        return self

    def predictions(self, X: Any) -> dict[str, Predictions]:
        """Predict every task of what can be read."""
        return {name: model.predictions(X) for name, model in self.models_.items()}
