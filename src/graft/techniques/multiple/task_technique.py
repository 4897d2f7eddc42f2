"""`TaskTechnique`: what a fitted model of several tasks can do."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from graft.backbones import Backbone, Embedding, Views, embed
from graft.backbones.embedding import input_count
from graft.data import Task, label_array
from graft.errors import DataError, RequestError, UnreadableInputsError
from graft.metrics import Evaluation
from graft.techniques.material import Material, goal_of
from graft.techniques.multiple.label_columns import known_columns, label_columns
from graft.techniques.multiple.part import Part, representations
from graft.techniques.multiple.saving import save_tasks
from graft.techniques.multiple.stack import Stack
from graft.techniques.multiple.verdict import MultiTaskVerdict
from graft.techniques.technique import (
    Failure,
    Predictions,
    as_written,
    class_columns,
    evaluate,
    held_out_evaluation,
    require_one_each,
)


class TaskTechnique(BaseEstimator, ABC):
    """A model of several tasks, in scikit-learn's conventions; the label table has a column per task.

    Attributes
    ----------
    tasks_ : tuple of Task
        In the order of the columns of `predict`.
    parts_ : tuple of Part
        What serves them: the first one that has a task's head.
    columns_ : tuple of str
        The columns of what `predict` returns.
    validation_ : dict of str to Evaluation or None
        For each task, how good the model is on examples that it was not fitted on.
    verdict_ : MultiTaskVerdict or None
        Each task beside its single-task twin.
    groups_ : tuple of tuple of str
        Which tasks were learnt together.
    affinity_ : array of shape (K, K) or None
        What task i does for task j, where the groups were found by it.
    left_out_, unlabelled_, seconds_
        As in `Technique`.
    training_ : list of dict
        How the trainings on all examples went.
    """

    technique: ClassVar[str]
    backbone: Any
    label_names: Any
    strict: bool
    store: Any
    random_state: int | None
    tasks_: tuple[Task, ...]
    parts_: tuple[Part, ...]
    groups_: tuple[tuple[str, ...], ...]
    validation_: dict[str, Evaluation | None]
    verdict_: MultiTaskVerdict | None
    affinity_: np.ndarray | None
    left_out_: tuple[Failure, ...]
    unlabelled_: int
    seconds_: dict[str, float]
    training_: list[dict[str, Any]]

    @abstractmethod
    def fit(self, X: Any, Y: Any) -> TaskTechnique:
        """Fit on inputs of shape (n,) or (n, ...) and a label table (n, columns)."""

    def predict(self, X: Any, *, reject: float | None = None) -> np.ndarray:
        """Predict every task of each input.

        Parameters
        ----------
        X : sequence of n inputs
            As for `fit`.
        reject : float, optional
            Predict None where an input is more foreign to a task's training data than all but this fraction of it.

        Returns
        -------
        array of shape (n, columns)
            In the order of ``columns_``; a multi-label task has a column for each of its labels. Floats where every
            task is a regression, else objects, in the user's own labels.

        Raises
        ------
        UnreadableInputsError
            If some inputs cannot be read; `predictions` leaves them out instead.
        """
        found = []
        for task, (head, features, _) in self._read_by_heads(X, strict=True).items():
            rejecting = {} if reject is None or self._task(task).kind == "regression" else {"reject": reject}
            labels = as_written(self._task(task), np.asarray(head.predict(features, **rejecting)))
            found.append(labels.reshape(len(labels), -1))
        if all(task.kind == "regression" for task in self.tasks_):
            return np.concatenate(found, axis=1)
        return np.concatenate([labels.astype(object) for labels in found], axis=1)

    def predict_proba(self, X: Any) -> dict[str, np.ndarray]:
        """Return calibrated probabilities (n, classes) of every task that is no regression, by its name."""
        read = self._read_by_heads(X, strict=True)
        return {
            name: self._probabilities(name, head, features)
            for name, (head, features, _) in read.items()
            if self._task(name).kind != "regression"
        }

    def predictions(self, X: Any) -> dict[str, Predictions]:
        """Predict what can be read, with probabilities and out-of-distribution scores, and list what cannot."""
        found = {}
        for name, (head, features, embedding) in self._read_by_heads(X, strict=False).items():
            number = self._task(name).kind == "regression"
            found[name] = Predictions(
                embedding.rows,
                as_written(self._task(name), head.predict(features)),
                None if number else self._probabilities(name, head, features),
                head.ood_score(features),
                embedding.failures,
            )
        return found

    def evaluate(self, X: Any, Y: Any, *, groups: Any = None) -> dict[str, Evaluation]:
        """Measure each task on the inputs that have a label of it, every figure with its interval.

        Parameters
        ----------
        X : sequence of n inputs
            As for `fit`.
        Y : table of shape (n, columns)
            The true labels, with the columns that `fit` was given or with those of ``columns_``.
        groups : array of shape (n,), optional
            Examples of one group are resampled together for the intervals.

        Returns
        -------
        dict of str to Evaluation
            Of the tasks that have labels among the inputs.

        Raises
        ------
        DataError
            If no task has one, or a label is one that its task does not know.
        """
        self._require_fitted()
        columns = known_columns(Y, self.tasks_, self._names(Y))
        require_one_each("Y", Y, input_count(X))
        found = self.predictions(X)
        evaluations = {}
        for column in columns:
            name, one = column.task.name, found[column.task.name]
            known = column.known[one.rows]
            if not known.any():
                continue
            rows = one.rows[known]
            apart = None if groups is None else np.asarray(groups)[rows]
            sure = None if one.probabilities is None else one.probabilities[known]
            evaluations[name] = evaluate(column.task, column.labels[rows], one.labels[known], sure, groups=apart)
        if not evaluations:
            raise DataError(
                "Y", expected="labels of one task or more", found="none", remedy="Pass a table with the tasks' columns."
            )
        return evaluations

    def score(self, X: Any, Y: Any) -> float:
        """Return the mean over the tasks of accuracy (classes), the share of right cells (labels) or R² (numbers)."""
        names = {"classification": "accuracy", "multilabel": "accuracy", "regression": "r2"}
        found = self.evaluate(X, Y)
        return float(np.mean([one.metrics[names[self._task(name).kind]].value for name, one in found.items()]))

    def add_task(self, X: Any, y: Any, name: str, *, task: str = "auto", head: str = "auto") -> Self:
        """Add a task to the fitted model: a new head on what the tasks share; the others stay as they are.

        The head reads the network's features, or what hard sharing makes of them: whichever scores better on held-out
        examples.

        Parameters
        ----------
        X : sequence of n inputs
            As for `fit`.
        y : array of shape (n,), or (n, labels)
            The new task's labels, as many.
        name : str
            What it is called.
        task : str
            Its kind, as in `FeatureExtraction`.
        head : str
            As there.

        Raises
        ------
        RequestError
            If there is a task of this name already.
        DataError
            If nothing can be learnt from the labels.
        """
        self._require_fitted()
        if name in [one.name for one in self.tasks_]:
            raise RequestError("name", expected="a new name", found=repr(name), remedy="Name the task otherwise.")
        labels = label_array(y)
        several = labels.ndim == 2 and labels.shape[1] > 1
        if several:
            names = [str(one) for one in getattr(y, "columns", range(labels.shape[1]))]
            column = label_columns(labels, {name: names}, names)[0]
        else:
            column = label_columns(labels.reshape(len(labels), 1), {name: task}, [name])[0]
        require_one_each("y", column.labels, input_count(X))
        part = self.parts_[0]
        embedding = self._embed(part.backbone, X, strict=self.strict)
        known = column.known[embedding.rows]
        rows, features = embedding.rows[known], embedding.features[known]
        labelled = column.labelled(rows, features)
        material = Material(
            part.backbone, [None] * len(rows), labelled, goal_of(labelled, np.ones(len(rows), bool)), None, Views()
        )
        everything = np.ones(len(rows), bool)
        fitted = {"features": material.head(head, features, everything, self.random_state)}
        if part.has_shared:
            shared = representations(part.middle, features, [name])[name]
            fitted["shared"] = material.head(head, shared, everything, self.random_state)
        best = max(fitted, key=lambda one: _held_out_score(column.task, fitted[one], labelled.labels))
        middle = part.middle if best == "shared" else None
        self.parts_ = (*self.parts_, Part(part.backbone, middle, {name: fitted[best]}))
        self.tasks_ = (*self.tasks_, column.task)
        self.groups_ = (*self.groups_, (name,))
        self.validation_ = {**self.validation_, name: held_out_evaluation(column.task, fitted[best], labelled.labels)}
        return self

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Save the fitted model as a folder; see `Technique.save`."""
        self._require_fitted()
        return save_tasks(self, folder)

    @property
    def columns_(self) -> tuple[str, ...]:
        self._require_fitted()
        return tuple(
            name
            for task in self.tasks_
            for name in ([str(one) for one in task.classes] if task.kind == "multilabel" else [task.name])
        )

    @property
    def classes_(self) -> dict[str, tuple]:
        """The classes of each task, or the names of its labels; none for a regression."""
        self._require_fitted()
        return {task.name: task.classes for task in self.tasks_}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.input_tags.sparse = self.backbone is None
        tags.input_tags.string = self.backbone is not None
        return tags

    def _embed(self, backbone: Backbone, X: Any, *, strict: bool) -> Embedding:
        embedding = embed(backbone, X, store=self.store, strict=strict)
        if not len(embedding.rows):
            raise UnreadableInputsError(embedding.failures, total=len(embedding.failures))
        return embedding

    def _names(self, Y: Any) -> Any:
        return getattr(Y, "columns", None) if self.label_names is None else self.label_names

    def _read_by_heads(self, X: Any, *, strict: bool) -> dict[str, tuple[Any, Any, Embedding]]:
        """Return each task's head with what it reads, and how the inputs were read."""
        self._require_fitted()
        embedded: dict[int, Embedding] = {}
        found: dict[str, tuple[Any, Any, Embedding]] = {}
        for part in self.parts_:
            wanted = [name for name in part.heads if name not in found]
            if not wanted:
                continue
            key = id(part.backbone)
            if key not in embedded:
                embedded[key] = self._embed(part.backbone, X, strict=strict)
            self._require_width(part, embedded[key].features.shape[-1])
            each = part.representations(embedded[key].features)
            found |= {name: (part.heads[name], each[name], embedded[key]) for name in wanted}
        return {task.name: found[task.name] for task in self.tasks_}

    def _require_width(self, part: Part, width: int) -> None:
        match part.middle:
            case None:
                expected = next(iter(part.heads.values())).n_features_in_
            case Stack(first=first):
                expected = next(iter(first.values())).n_features_in_
            case middle:
                expected = len(middle.location)
        if width != expected:
            raise DataError(
                "inputs",
                expected=f"{expected} values in each vector, as when the model was fitted",
                found=str(width),
                remedy="Pass the same columns.",
            )

    def _probabilities(self, name: str, head: Any, features: Any) -> np.ndarray:
        """Return a column for each class of a task (n, classes), also for one that its head was given no example of."""
        task, found = self._task(name), head.predict_proba(features)
        return class_columns(found, head.classes_.tolist(), task.classes) if task.kind == "classification" else found

    def _task(self, name: str) -> Task:
        return next(task for task in self.tasks_ if task.name == name)

    def _require_fitted(self) -> None:
        if "parts_" not in vars(self):
            raise NotFittedError("This MultiTask is not fitted yet. Call fit(X, Y) before it predicts or is saved.")


def _held_out_score(task: Task, head: Any, labels: np.ndarray) -> float:
    found = held_out_evaluation(task, head, labels)
    if found is None:
        return -np.inf
    if task.kind == "regression":
        return -found.metrics["rmse"].value
    return -found.metrics["log_loss"].value
