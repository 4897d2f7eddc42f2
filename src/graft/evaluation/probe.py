"""The probe: a head on frozen features, each example predicted by a head that was fitted without its fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.data import Domain, Task, split
from graft.errors import DataError
from graft.heads import make_head
from graft.metrics import Estimate, Evaluation, Statistic, bootstrap
from graft.techniques.technique import class_columns, evaluate

METRICS = {"classification": "accuracy", "multilabel": "macro_f1", "regression": "r2"}


@dataclass(frozen=True, eq=False)
class Probe:
    """What the probe found for one table of features.

    Parameters
    ----------
    predicted : array of shape (n,) or (n, columns)
        The held-out predictions.
    evaluation : Evaluation
        Of those.
    """

    predicted: np.ndarray
    evaluation: Evaluation

    def score(self, kind: str) -> Estimate:
        """Return the score by which networks are compared for a kind of task."""
        return self.evaluation.metrics[METRICS[kind]]


def fold_numbers(labels: np.ndarray, groups: np.ndarray | None, task: Task, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each example (n,); classes are spread evenly, groups never divided.

    They depend on labels, groups and the seed alone, so that all networks are compared on the same folds.

    Raises
    ------
    DataError
        If there are fewer examples, or groups, than folds, or fewer than two classes have two examples.
    """
    if task.kind == "classification":
        _, sizes = np.unique(task.codes(labels), return_counts=True)
        if (sizes > 1).sum() < 2:
            raise DataError(
                "labels",
                expected="at least 2 classes with 2 examples or more, to hold some out",
                found=f"{int((sizes > 1).sum())} of them",
                remedy="Label more examples.",
            )
    rows = Domain(np.arange(len(labels), dtype=np.float64)[:, None], labels, name="of the probe", groups=groups)
    shares = {str(number): 1 / folds for number in range(folds)}
    fold = np.empty(len(labels), np.intp)
    for name, part in split(rows, fractions=shares, random_state=seed).items():
        fold[np.asarray(part.inputs)[:, 0].astype(np.intp)] = int(name)
    return fold


def probe(
    features: Any,
    labels: np.ndarray,
    targets: np.ndarray,
    task: Task,
    fold: np.ndarray,
    *,
    head: Any,
    groups: np.ndarray | None,
    random_state: int | None,
) -> Probe:
    """Predict every example by a head that was fitted on the other folds, and evaluate the predictions.

    Parameters
    ----------
    features : array or sparse matrix (n, d)
        Of the frozen network.
    labels : array of shape (n,) or (n, columns)
        As the user wrote them.
    targets : array of the same shape
        As heads take them.
    task : Task
        What is predicted.
    fold : array of int (n,)
        From `fold_numbers`.
    head : str or head
        As `graft.heads.make_head` takes it.
    groups : array of shape (n,), optional
        Examples of one group are never divided within a fit either, and resampled together for the intervals.
    random_state : int or None
        Seeds the heads.
    """
    predicted: np.ndarray = np.empty(targets.shape, dtype=np.asarray(labels).dtype)
    probabilities = None if task.kind == "regression" else np.zeros((len(labels), len(task.classes)))
    if task.kind != "classification":
        predicted = np.empty(targets.shape, np.float64)
    for number in np.unique(fold):
        held = fold == number
        fitted = make_head(head, task.kind, random_state=random_state)
        fitted.fit(features[~held], targets[~held], groups=None if groups is None else groups[~held])
        predicted[held] = fitted.predict(features[held])
        if probabilities is not None:
            found = fitted.predict_proba(features[held])
            if task.kind == "classification":  # a class may have no example outside of the fold
                found = class_columns(found, fitted.classes_.tolist(), task.classes)
            probabilities[held] = found
    return Probe(predicted, evaluate(task, labels, predicted, probabilities, groups=groups))


def lead(task: Task, targets: np.ndarray, first: Probe, second: Probe, *, groups: np.ndarray | None) -> Estimate:
    """Return by how much the first probe's score is higher, with the interval of the difference on the same examples.

    What both get right or both get wrong cancels, which makes the interval narrower than those of the two scores.
    """
    count = len(targets)
    if task.kind == "classification":
        hits = [(one.predicted == targets).astype(np.float64) for one in (first, second)]
        statistic = Statistic((hits[0] - hits[1])[:, None], lambda means: means[..., 0], (-1, 1))
        return bootstrap({"lead": statistic}, groups=groups)["lead"]
    truth = targets.reshape(count, -1).astype(np.float64)
    answers = [one.predicted.reshape(count, -1).astype(np.float64) for one in (first, second)]
    columns = truth.shape[1]
    if task.kind == "regression":
        centred = truth - truth.mean(axis=0)
        gain = (answers[1] - truth) ** 2 - (answers[0] - truth) ** 2

        def difference(means: np.ndarray) -> np.ndarray:
            better, middle, square = np.split(means, [columns, 2 * columns], axis=-1)
            with np.errstate(invalid="ignore", divide="ignore"):
                return (better / (square - middle**2)).mean(axis=-1)

        rows = np.concatenate([gain, centred, centred**2], axis=1)
        return bootstrap({"lead": Statistic(rows, difference)}, groups=groups)["lead"]
    known = np.isfinite(truth)
    positive = np.where(known, truth, 0)
    parts = [positive]
    for one in answers:
        guessed = (one > 0.5) * known
        parts += [positive * guessed, guessed]

    def f1_difference(means: np.ndarray) -> np.ndarray:
        actual, hits, claimed, other_hits, other_claimed = np.split(means, 5, axis=-1)
        return _macro_f1(hits, actual + claimed) - _macro_f1(other_hits, actual + other_claimed)

    rows = np.concatenate(parts, axis=1).astype(np.float64)
    return bootstrap({"lead": Statistic(rows, f1_difference, (-1, 1))}, groups=groups)["lead"]


def _macro_f1(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return f1.sum(axis=-1) / np.maximum((total > 0).sum(axis=-1), 1)
