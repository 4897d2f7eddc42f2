"""`Evaluation`: how good predictions are on labelled examples, each figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from graft.errors import DataError
from graft.metrics.estimate import Estimate, Statistic, bootstrap

CALIBRATION_BINS = 15

METRIC_TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "log_loss": "log loss (nats)",
    "ece": "calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    task : str
        ``"classification"``, ``"multilabel"`` or ``"regression"``.
    examples : int
        The number of examples evaluated.
    metrics : dict of str to Estimate
        Classification: ``accuracy``, ``macro_f1``, ``log_loss`` (nats), ``ece``. Regression: ``rmse`` and ``mae`` (in
        the unit of the label), ``r2``.
    classes : tuple
        The classes (or labels, multi-label) in the order of `confusion` and `per_class`.
    per_class : tuple of dict
        For each class: ``class``, ``examples``, ``precision``, ``recall``, ``f1``.
    confusion : array of shape (classes, classes), optional
        Row = true class, column = predicted class. None unless the task is single-label classification.
    """

    task: str
    examples: int
    metrics: dict[str, Estimate]
    classes: tuple[Any, ...] = ()
    per_class: tuple[dict[str, Any], ...] = ()
    confusion: np.ndarray | None = None

    def __repr__(self) -> str:
        width = max(map(len, self.metrics), default=0)
        lines = [f"  {name:{width}}  {estimate}" for name, estimate in self.metrics.items()]
        return "\n".join([f"{self.task} of {self.examples} examples, with 95 % intervals", *lines])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        result: dict[str, Any] = {
            "task": self.task,
            "examples": self.examples,
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
        }
        if self.per_class:
            result["per_class"] = [dict(row) for row in self.per_class]
        if self.confusion is not None:
            result["classes"] = list(self.classes)
            result["confusion"] = self.confusion.tolist()
        return result

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the evaluation of which `to_dict` made `plain`."""
        rows = tuple(dict(row) for row in plain.get("per_class", ()))
        confusion = plain.get("confusion")
        return cls(
            task=plain["task"],
            examples=plain["examples"],
            metrics={name: Estimate.from_dict(estimate) for name, estimate in plain["metrics"].items()},
            classes=tuple(row["class"] for row in rows),
            per_class=rows,
            confusion=None if confusion is None else np.array(confusion, dtype=np.int64),
        )


def evaluate_classification(
    labels: Any, probabilities: Any, classes: Any, *, predicted: Any = None, groups: Any = None, random_state: int = 0
) -> Evaluation:
    r"""Evaluate class probabilities against labels.

    .. math::
        \text{accuracy} = \tfrac1n \sum_i 1[\hat y_i = y_i], \qquad
        \text{log loss} = -\tfrac1n \sum_i \log p_{i, y_i}, \qquad
        \text{ece} = \sum_b \Bigl| \tfrac1n \sum_{i \in b} (\max_k p_{ik} - 1[\hat y_i = y_i]) \Bigr|

    Macro-F1 is the mean over the classes found in the labels or the predictions of
    :math:`2\,\mathrm{TP}_k / (\mathrm{true}_k + \mathrm{predicted}_k)`. The calibration error uses 15 bins of equal
    width. Where every prediction is right (or wrong) no resample differs, and the interval of accuracy and macro-F1 is
    Wilson's, of as many trials as there are examples, or groups.

    Parameters
    ----------
    labels : array of shape (n,)
        True labels, each one of `classes`.
    probabilities : array of shape (n, K)
        Rows sum to one, columns in the order of `classes`.
    classes : array of shape (K,)
        The class of each column.
    predicted : array of shape (n,), optional
        The predicted labels; the class of the largest probability by default.
    groups : array of shape (n,), optional
        Whole groups are resampled for the intervals.
    random_state : int
        The seed of the resamples.

    Raises
    ------
    DataError
        If there are no examples, or a label is not among the classes.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, eq. 3 (ece).
    Wilson (1927), Probable Inference (the interval of a proportion).

    Examples
    --------
    >>> from graft.metrics import evaluate_classification
    >>> found = evaluate_classification(["a", "b"], [[0.9, 0.1], [0.6, 0.4]], ["a", "b"])
    >>> found.metrics["accuracy"].value, found.confusion.tolist()
    (0.5, [[1, 0], [1, 0]])
    """
    names = list(np.asarray(classes, dtype=object))
    proba = np.asarray(probabilities, dtype=np.float64)
    true = _positions(labels, names)
    guess = proba.argmax(axis=1) if predicted is None else _positions(predicted, names)
    n, count = len(true), len(names)
    _some(n)
    correct = (guess == true).astype(np.float64)
    truth, guessed = np.eye(count)[true], np.eye(count)[guess]
    likelihood = np.clip(proba[np.arange(n), true], np.finfo(np.float64).tiny, 1)

    confidence = proba[np.arange(n), guess]
    statistics = {
        "accuracy": Statistic(correct[:, None], _first, (0, 1)),
        "macro_f1": Statistic(np.concatenate([truth * guessed, truth, guessed], axis=1), _mean_f1, (0, 1)),
        "log_loss": Statistic(-np.log(likelihood)[:, None], _first, (0, np.inf)),
        "ece": Statistic(_bin_gaps(confidence, correct), _sum_of_gaps, (0, 1)),
    }
    metrics = bootstrap(statistics, groups=groups, random_state=random_state)
    if correct.all() or not correct.any():
        _widen(metrics, _units(np.ones(n, bool), groups))
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (true, guess), 1)
    hits, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return Evaluation(
        task="classification",
        examples=n,
        metrics=metrics,
        classes=tuple(_plain(name) for name in names),
        per_class=_class_table(names, hits, actual, claimed),
        confusion=confusion,
    )


def evaluate_multilabel(
    labels: Any, probabilities: Any, names: Any, *, groups: Any = None, random_state: int = 0
) -> Evaluation:
    r"""Evaluate per-label probabilities against a table of 0, 1 and NaN (unknown).

    ``accuracy`` and ``log_loss`` are means over the known cells, ``macro_f1`` the mean of the labels' F1 at threshold
    one half, ``ece`` the calibration error of the cells' probabilities. Where every known cell is right (or wrong), the
    interval is that of `evaluate_classification`.

    Parameters
    ----------
    labels : array of shape (n, L)
        1 where the label holds, 0 where it does not, NaN where nobody knows.
    probabilities : array of shape (n, L)
        The probability that each label holds.
    names : sequence of L
        The labels' names.
    groups, random_state
        As in `evaluate_classification`.

    Raises
    ------
    DataError
        If no cell is known.
    """
    truth = np.asarray(labels, dtype=np.float64)
    proba = np.asarray(probabilities, dtype=np.float64)
    known = np.isfinite(truth)
    _some(int(known.sum()))
    present = known.astype(np.float64)
    positive = np.where(known, truth, 0.0)
    guessed = (proba >= 0.5) * present
    correct = (guessed == positive) * present
    tiny = np.finfo(np.float64).tiny
    loss = -np.log(np.clip(np.where(positive > 0, proba, 1 - proba), tiny, 1)) * present

    def of_cells(values: np.ndarray, largest: float) -> Statistic:
        return Statistic(np.stack([values.sum(axis=1), present.sum(axis=1)], axis=1), _ratio, (0, largest))

    confidence = np.maximum(proba, 1 - proba)
    gaps = sum(_bin_gaps(confidence[:, j], correct[:, j]) * present[:, j, None] for j in range(truth.shape[1]))
    statistics = {
        "accuracy": of_cells(correct, 1),
        "macro_f1": Statistic(np.concatenate([positive * guessed, positive, guessed], axis=1), _mean_f1, (0, 1)),
        "log_loss": of_cells(loss, np.inf),
        "ece": Statistic(
            np.concatenate([gaps, present.sum(axis=1, keepdims=True)], axis=1), _sum_of_gaps_per_cell, (0, 1)
        ),
    }
    hits, actual, claimed = (positive * guessed).sum(axis=0), positive.sum(axis=0), guessed.sum(axis=0)
    metrics = bootstrap(statistics, groups=groups, random_state=random_state)
    if correct.sum() in (0, present.sum()):
        _widen(metrics, _units(np.any(known, axis=1), groups))
    return Evaluation(
        task="multilabel",
        examples=len(truth),
        metrics=metrics,
        classes=tuple(_plain(name) for name in names),
        per_class=_class_table(list(names), hits, actual, claimed),
    )


def evaluate_regression(labels: Any, predictions: Any, *, groups: Any = None, random_state: int = 0) -> Evaluation:
    r"""Evaluate predicted numbers against true ones.

    .. math::
        \text{rmse} = \sqrt{\tfrac1n \sum_i (y_i - \hat y_i)^2}, \qquad
        \text{mae} = \tfrac1n \sum_i |y_i - \hat y_i|, \qquad
        R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    With several outputs, squares and absolute values are averaged over them and R² is the mean of the outputs' R².

    Parameters
    ----------
    labels, predictions : array of shape (n,) or (n, outputs)
        In the unit of the label.
    groups, random_state
        As in `evaluate_classification`.

    Raises
    ------
    DataError
        If there are no examples.

    Examples
    --------
    >>> from graft.metrics import evaluate_regression
    >>> round(evaluate_regression([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]).metrics["r2"].value, 3)
    0.5
    """
    truth = np.asarray(labels, dtype=np.float64)
    _some(len(truth))
    truth = truth.reshape(len(truth), -1)
    error = np.asarray(predictions, dtype=np.float64).reshape(truth.shape) - truth
    centred = truth - truth.mean(axis=0)  # R² does not change; the variance below then loses no digits
    outputs = truth.shape[1]

    def r2(means: np.ndarray) -> np.ndarray:
        squared, first, second = np.split(means, [outputs, 2 * outputs], axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - squared / (second - first**2)).mean(axis=-1)

    statistics = {
        "rmse": Statistic((error**2).mean(axis=1, keepdims=True), lambda means: np.sqrt(means[..., 0]), (0, np.inf)),
        "mae": Statistic(np.abs(error).mean(axis=1, keepdims=True), _first, (0, np.inf)),
        "r2": Statistic(np.concatenate([error**2, centred, centred**2], axis=1), r2, (-np.inf, 1)),
    }
    metrics = bootstrap(statistics, groups=groups, random_state=random_state)
    return Evaluation(task="regression", examples=len(truth), metrics=metrics)


def _some(count: int) -> None:
    if count == 0:
        raise DataError(
            "labels", expected="at least one labelled example", found="none", remedy="Pass labelled examples."
        )


def _positions(labels: Any, names: list[Any]) -> np.ndarray:
    position = {name: index for index, name in enumerate(names)}
    values = np.asarray(labels, dtype=object).ravel()
    unknown = sorted({repr(_plain(value)) for value in values if value not in position})
    if unknown:
        raise DataError(
            "labels",
            expected=f"classes that the model knows ({len(names)} of them)",
            found=", ".join(unknown[:5]),
            remedy="Evaluate on the classes that the model was fitted on, or fit again with these included.",
        )
    return np.array([position[value] for value in values], dtype=np.intp)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _class_table(
    names: list[Any], hits: np.ndarray, actual: np.ndarray, claimed: np.ndarray
) -> tuple[dict[str, Any], ...]:
    def ratio(part: float, whole: float) -> float | None:
        return float(part / whole) if whole else None

    return tuple(
        {
            "class": _plain(name),
            "examples": int(true),
            "precision": ratio(hit, claim),
            "recall": ratio(hit, true),
            "f1": ratio(2 * hit, true + claim),
        }
        for name, hit, true, claim in zip(names, hits, actual, claimed, strict=True)
    )


def _first(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


def _ratio(means: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a resample may hold no known cell
        return means[..., 0] / means[..., 1]


def _mean_f1(means: np.ndarray) -> np.ndarray:
    hits, actual, claimed = np.split(means, 3, axis=-1)
    seen = (actual + claimed) > 0
    f1 = np.divide(2 * hits, actual + claimed, out=np.zeros_like(hits), where=seen)
    return f1.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)


def _bin_gaps(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return (n, bins): confidence minus correctness in the bin of the example's confidence, 0 elsewhere."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    return np.eye(CALIBRATION_BINS)[bins] * (confidence - correct)[:, None]


def _sum_of_gaps(means: np.ndarray) -> np.ndarray:
    return np.abs(means).sum(axis=-1)


def _sum_of_gaps_per_cell(means: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.abs(means[..., :-1]).sum(axis=-1) / means[..., -1]


def _units(told: np.ndarray, groups: Any) -> int:
    """Return how many examples of those that tell something there are, or groups: what is alike in a group is one."""
    return int(told.sum()) if groups is None else len(np.unique(np.asarray(groups, dtype=str)[told]))


def _widen(metrics: dict[str, Estimate], units: int) -> None:
    """Give the shares that are the same in every resample, all or none, the interval of a proportion."""
    share = metrics["accuracy"].value
    metrics |= {name: _wilson(share, units) for name in ("accuracy", "macro_f1") if metrics[name].value == share}


def _wilson(proportion: float, n: int) -> Estimate:
    """Return the 95 % Wilson interval of a proportion of n."""
    z = 1.959963984540054
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(proportion, float(min(low, proportion)), float(max(high, proportion)))
