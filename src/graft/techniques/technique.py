"""`Technique`: what every fitted technique can do, which is a backbone whose features a head reads."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from graft.backbones import Backbone, Embedding, embed
from graft.data import Task, check_classes, label_array, missing
from graft.data.task import written_as_booleans
from graft.errors import DataError, RequestError, UnreadableInputsError
from graft.metrics import Evaluation, evaluate_classification, evaluate_multilabel, evaluate_regression
from graft.techniques.saving import save

Failure = tuple[int, str, str]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for the inputs that could be read.

    Parameters
    ----------
    rows : array of shape (m,)
        The rows of the inputs that could be read, ascending.
    labels : array of shape (m,), or (m, labels) for multi-label tasks
        The predictions, in the user's own labels.
    probabilities : array of shape (m, classes), optional
        Calibrated probabilities, columns in the order of ``classes_``; None for regression.
    ood_scores : array of shape (m,), optional
        How foreign each input is to the training data; larger is more foreign. None where that is not known.
    failures : tuple of (int, str, str)
        Row, name and reason of each input that could not be read.
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    ood_scores: np.ndarray | None
    failures: tuple[Failure, ...]


class Technique(BaseEstimator, ABC):
    """A technique of transfer learning, in scikit-learn's conventions.

    Attributes
    ----------
    backbone_ : Backbone
        The network that makes the features; for some techniques an adapted copy of the pretrained one.
    head_ : estimator
        The head that reads them.
    task_ : Task
        What is predicted.
    classes_ : array of shape (K,)
        The user's own labels in sorted order (classification), or the names of the labels (multi-label).
    left_out_ : tuple of (int, str, str)
        Row, name and reason of each training input that could not be read.
    unlabelled_ : int
        How many training examples had no label and were left out.
    seconds_ : dict of str to float
        Wall time of ``"features"``, ``"training"`` and ``"total"``; of what was in the store, the time to read it.
    validation_ : Evaluation or None
        How good the model is on examples that it was not fitted on; None where there were too few.
    training_ : dict or None
        How the training of the network went; None where it is frozen.
    adaptation_ : dict or None
        How the model was adapted to another domain, and what speaks for it; None where there is none.
    """

    technique: ClassVar[str]
    backbone: Any
    task: str
    batch_size: int | None
    precision: str
    store: Any
    backbone_: Backbone
    head_: Any
    task_: Task
    left_out_: tuple[Failure, ...]
    unlabelled_: int
    seconds_: dict[str, float]
    validation_: Evaluation | None
    training_: dict[str, Any] | None
    adaptation_: dict[str, Any] | None = None

    @abstractmethod
    def fit(self, X: Any, y: Any) -> Technique:
        """Fit on inputs of shape (n,) or (n, ...) and their labels."""

    def predict(self, X: Any, *, reject: float | None = None) -> np.ndarray:
        """Predict the label of each input.

        Parameters
        ----------
        X : sequence of n inputs
            As for `fit`.
        reject : float, optional
            Predict None where an input is more foreign to the training data than all but this fraction of it: the
            false-alarm rate. None never rejects.

        Returns
        -------
        array of shape (n,), or (n, labels) for multi-label tasks and (n, outputs) for several outputs

        Raises
        ------
        UnreadableInputsError
            If some inputs cannot be read; `predictions` leaves them out instead.
        """
        features = self._features(X, strict=True).features
        answers = self.head_.predict(features) if reject is None else self.head_.predict(features, reject=reject)
        return as_written(self.task_, answers)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities of shape (n, K), columns in the order of ``classes_``.

        Raises
        ------
        RequestError
            If the task is regression.
        """
        self._require_probabilities()
        return self.head_.predict_proba(self._features(X, strict=True).features)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the head's scores before they become probabilities, as scikit-learn shapes them."""
        self._require_probabilities()
        return self.head_.decision_function(self._features(X, strict=True).features)

    def predictions(self, X: Any) -> Predictions:
        """Predict what can be read, with probabilities and out-of-distribution scores, and list what cannot."""
        embedding = self._features(X, strict=False)
        labels, probabilities = as_written(self.task_, self.head_.predict(embedding.features)), None
        if self.task_.kind != "regression":
            probabilities = self.head_.predict_proba(embedding.features)
        foreign = self.head_.ood_score(embedding.features)
        return Predictions(embedding.rows, labels, probabilities, foreign, embedding.failures)

    def evaluate(self, X: Any, y: Any, *, groups: Any = None) -> Evaluation:
        """Measure how good the predictions are on labelled inputs, every figure with its interval.

        Inputs that cannot be read and examples without a label are left out.

        Parameters
        ----------
        X : sequence of n inputs
            As for `fit`.
        y : array of shape (n,), or (n, labels)
            The true labels.
        groups : array of shape (n,), optional
            Examples of one group are resampled together for the intervals.

        Raises
        ------
        DataError
            If nothing is left to evaluate, or a label is one that the model does not know.
        """
        self._require_fitted()
        labels = task_labels(self.task_, y)
        if self.task_.kind == "classification":
            check_classes(self.task_.classes, labels)  # before the network runs, not after it
        found = self.predictions(X)
        require_one_each("y", labels, len(found.rows) + len(found.failures))
        labels = labels[found.rows]
        groups = None if groups is None else np.asarray(groups)[found.rows]
        return evaluate(self.task_, labels, found.labels, found.probabilities, groups=groups)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy (classification), the share of right cells (multi-label) or R² (regression)."""
        from sklearn.metrics import r2_score

        self._require_fitted()
        labels, predicted = task_labels(self.task_, y), self.predict(X)
        require_one_each("y", labels, len(predicted))
        if self.task_.kind == "multilabel":
            return evaluate(self.task_, labels, predicted, self.predict_proba(X)).metrics["accuracy"].value
        known = labelled_rows(labels)
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        labels, predicted = labels[known], np.asarray(predicted)[known]
        if self.task_.kind == "regression":
            return float(r2_score(numbers(labels), predicted, sample_weight=weight))
        # As Python compares them: 1 and 1.0 are one class, which a gap in a column of integers turns into the other.
        right = np.array([one == other for one, other in zip(labels.tolist(), predicted.tolist(), strict=True)])
        return float(np.average(right, weights=weight))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Save the fitted model as a folder: ``model.safetensors``, ``config.json``, ``README.md``.

        Parameters
        ----------
        folder : path
            New, empty, or an earlier run, which is replaced.

        Returns
        -------
        Path

        Raises
        ------
        RequestError
            If the folder holds something else than a run.
        """
        self._require_fitted()
        return save(self, folder)

    @property
    def classes_(self) -> np.ndarray:
        self._require_fitted()
        if self.task_.kind == "regression":
            raise AttributeError("classes_: a regression has none")
        return np.array(self.task_.classes) if self.task_.kind == "multilabel" else self.head_.classes_

    @property
    def n_features_in_(self) -> int:
        """The width of the input vectors where no backbone stands before the head."""
        self._require_fitted()
        if self.backbone_.modality != "features":
            raise AttributeError(f"n_features_in_: the inputs are {self.backbone_.modality}s, not vectors")
        return self.head_.n_features_in_

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags

        tags = super().__sklearn_tags__()
        kind = self.task_.kind if "task_" in vars(self) else self.task
        if kind == "regression":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        else:
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
            tags.classifier_tags.multi_label = True
        tags.target_tags.required = True
        tags.input_tags.sparse = self.backbone is None
        tags.input_tags.string = self.backbone is not None
        return tags

    def _features(self, X: Any, *, strict: bool) -> Embedding:
        self._require_fitted()
        embedding = embed(
            self.backbone_,
            X,
            batch_size=self.batch_size,
            precision=self.precision,
            store=self.store,
            strict=strict,
        )
        if not len(embedding.rows):
            raise UnreadableInputsError(embedding.failures, total=len(embedding.failures))
        width = embedding.features.shape[-1]
        if width != self.head_.n_features_in_:
            raise DataError(
                "inputs",
                expected=f"{self.head_.n_features_in_} values in each vector, as when the model was fitted",
                found=str(width),
                remedy="Pass the same columns; a column of labels among them is named with --label or left out.",
            )
        return embedding

    def _require_fitted(self) -> None:
        if "head_" not in vars(self):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet. Call fit(X, y) before it predicts or is saved."
            )

    def _require_probabilities(self) -> None:
        self._require_fitted()
        if self.task_.kind == "regression":
            raise RequestError(
                "predict_proba",
                expected="a classification",
                found="a regression",
                remedy="Call predict, which gives the numbers.",
            )


def held_out_evaluation(
    task: Task, head: Any, labels: np.ndarray, *, views: int = 1, groups: Any = None
) -> Evaluation | None:
    """Evaluate a head's predictions of the training examples that were held out; of several views, the plain one.

    Whole `groups` (n,) are resampled for the intervals.
    """
    scores = getattr(head, "out_of_fold_", None)
    if scores is None:
        return None
    scores = scores[::views][: len(labels)]  # what else the head was fitted on comes after the labelled examples
    usable = np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    if not usable.any():
        return None
    scores, labels = scores[usable], labels[usable]
    together = None if groups is None else np.asarray(groups)[usable]
    if task.kind == "regression":
        return evaluate(task, labels, scores, None, groups=together)
    logits = scores / head.temperature_
    if task.kind == "multilabel":
        return evaluate(task, labels, logits > 0, expit(logits), groups=together)
    return evaluate(task, labels, head.classes_[scores.argmax(axis=1)], softmax(logits, axis=1), groups=together)


def evaluate(task: Task, labels: Any, predicted: Any, probabilities: Any, *, groups: Any = None) -> Evaluation:
    """Evaluate predictions of `task`; examples without a label are left out.

    Raises
    ------
    DataError
        If nothing is left to evaluate, or a label is one that the task does not know.
    """
    labels = np.asarray(labels)
    if task.kind == "multilabel":
        return evaluate_multilabel(label_table(labels), probabilities, task.classes, groups=groups)
    known = labelled_rows(labels)
    groups = None if groups is None else np.asarray(groups)[known]
    if task.kind == "regression":
        return evaluate_regression(numbers(labels[known]), np.asarray(predicted)[known], groups=groups)
    return evaluate_classification(
        labels[known], probabilities[known], task.classes, predicted=np.asarray(predicted)[known], groups=groups
    )


def as_written(task: Task, answers: np.ndarray) -> np.ndarray:
    """Return predictions as the user writes labels: True and False where the table was of these, None as it is."""
    if not task.boolean:
        return answers
    if answers.dtype != object:
        return answers.astype(bool)
    written = (answers == 1).astype(object)
    written[missing(answers)] = None
    return written


def task_labels(task: Task, y: Any, *, columns: Sequence[Any] = ()) -> np.ndarray:
    """Return labels as an array; the named columns of a multi-label table in the order of the task.

    Raises
    ------
    DataError
        If a multi-label table has other columns than the task.
    """
    labels = label_array(y)
    if task.kind != "multilabel":
        return labels
    labels = labels.reshape(len(labels), -1)
    named = [str(name) for name in getattr(y, "columns", columns)]
    names = [str(name) for name in task.classes]
    if sorted(named) == sorted(names):
        return labels[:, [named.index(name) for name in names]]
    if labels.shape[1] != len(names):
        raise DataError(
            "labels",
            expected=f"a column for each of {', '.join(map(repr, names))}",
            found=f"{labels.shape[1]} of them",
            remedy="Pass a table with a column for each label, empty where nobody knows.",
        )
    return labels


def class_columns(probabilities: np.ndarray, known: Any, classes: Sequence[Any]) -> np.ndarray:
    """Return probabilities (n, classes) of a head that knows some of the classes: 0 for one that it has never seen."""
    seen = list(known)
    if seen == list(classes):
        return probabilities
    place = {value: column for column, value in enumerate(classes)}
    whole = np.zeros((len(probabilities), len(classes)), probabilities.dtype)
    whole[:, [place[value] for value in seen]] = probabilities
    return whole


def require_one_each(subject: str, values: Any, total: int) -> None:
    """Check that there is one value for each of `total` inputs.

    Raises
    ------
    DataError
        If there are more or fewer.
    """
    if len(values) != total:
        raise DataError(
            subject,
            expected=f"{total} values, one for each input",
            found=str(len(values)),
            remedy=f"Pass X and {subject} of the same length.",
        )


def labelled_rows(labels: np.ndarray) -> np.ndarray:
    """Return which examples (n,) have a label; with a table, at least one."""
    given = ~missing(labels)
    return given if given.ndim == 1 else np.any(given, axis=1)


def label_table(labels: np.ndarray) -> np.ndarray:
    """Return a multi-label table as floats of 0, 1 and NaN (unknown)."""
    return np.where(missing(labels), np.nan, np.where(missing(labels), 0, labels).astype(np.float64))


def targets_of(task: Task, labels: np.ndarray) -> np.ndarray:
    """Return labels without gaps as heads take them: numbers (n,) or (n, outputs), a table (n, labels), classes (n,).

    Raises
    ------
    DataError
        If a number or a cell of the table is none.
    """
    if task.kind == "regression":
        return numbers(labels)
    if task.kind == "multilabel":
        return label_table(labels)
    classes = np.asarray(labels)
    # Those of a column with gaps are objects, which scikit-learn takes for classes if they are strings alone.
    return classes.astype(bool) if classes.dtype == object and written_as_booleans(classes) else classes


def numbers(labels: np.ndarray) -> np.ndarray:
    """Return regression labels as floats.

    Raises
    ------
    DataError
        If some are not finite numbers.
    """
    try:
        values = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            "labels", expected="numbers", found=str(error), remedy="Mend them, or pass task='classification'."
        ) from error
    if not np.isfinite(values).all():
        raise DataError(
            "labels",
            expected="finite numbers",
            found=f"{int((~np.isfinite(values)).sum())} that are infinite or not a number",
            remedy="Mend or remove those examples.",
        )
    return values
