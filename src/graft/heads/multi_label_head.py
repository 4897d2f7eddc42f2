"""What every head for several yes-or-no labels does in the same way: checking, missing labels, rejection."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self, final

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import _check_sample_weight, validate_data

from graft._checks import one_of
from graft.heads.folds import fold_numbers
from graft.heads.head import SCALINGS, Head
from graft.heads.label_table import encode, label_table, missing, value_weights
from graft.heads.novelty import fit_novelty
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, prepare


class MultiLabelHead(ClassifierMixin, Head):
    """Several two-valued labels on features, each of which may be missing, with a score for foreign inputs.

    Abstract: a head provides ``_solve`` and ``_label_logits`` and its options.
    """

    class_weight: dict | str | None
    calibrate: bool
    temperature_: np.ndarray

    @abstractmethod
    def _solve(
        self, training: TrainingSet, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray
    ) -> np.ndarray | None:
        """Fit to prepared examples, set the temperatures, and return the out-of-fold logits (n, labels).

        Targets are 0 and 1 (n, labels), weights 0 where a label is missing, folds -1 where it cannot be held out.
        """

    @abstractmethod
    def _label_logits(self, features: Table) -> np.ndarray:
        """Return the logit of each label's second value (n, labels) of validated, unscaled features."""

    @final
    def fit(self, X, y, sample_weight=None, groups=None) -> Self:
        """Fit every label to the examples that have it.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        y : array or data frame (n, labels), or (n,)
            The same two values in every column (0 and 1, "no" and "yes"); NaN or None where a label is missing.
        sample_weight : array (n,), optional
            An integer weight equals as many copies of the example.
        groups : array (n,), optional
            Examples of one group never stand on both sides of a split.

        Raises
        ------
        DataError
            If a label does not have both values among the examples that have it.
        """
        one_of("scaling", self.scaling, SCALINGS)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2)
        table = label_table(y, X.shape[0])
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        used = weight > 0
        self.single_label_ = table.ndim == 1
        columns = table.reshape(len(table), -1)[used]
        values, targets, present = encode(columns)
        self.classes_ = values
        weights = weight[used, None] * present
        if self.class_weight is not None:
            for at in range(columns.shape[1]):
                weights[:, at] *= value_weights(self.class_weight, values, targets[:, at], weights[:, at])
        training = prepare(
            X[used],
            weight=weight[used],
            groups=None if groups is None else np.asarray(groups)[used],
            codes=None,
            classes=0,
            targets=None,
            scaling=self.scaling,
            random_state=self.random_state,
        )
        self.location_, self.scale_ = training.location, training.scale
        folds = _folds(training, targets, present)
        out_of_fold = self._solve(training, targets, weights, folds)
        self.novelty_rows_, self.novelty_scores_ = fit_novelty(training)
        self.out_of_fold_ = None
        if out_of_fold is not None:
            whole = np.full((len(table), columns.shape[1]), np.nan)
            whole[used] = out_of_fold
            if not used.all():
                whole[~used] = self._label_logits(X[~used])
            self.out_of_fold_ = whole
        return self

    @final
    def decision_function(self, X) -> np.ndarray:
        """Return the logit of each label's second value, (n, labels) or (n,)."""
        logits = self._label_logits(self._checked(X))
        return logits[:, 0] if self.single_label_ else logits

    @final
    def predict_proba(self, X) -> np.ndarray:
        """Return the probability of each label's second value (n, labels); for one-dimensional y, of both (n, 2)."""
        probability = _sigmoid(self._label_logits(self._checked(X)) / self.temperature_)
        return np.hstack([1 - probability, probability]) if self.single_label_ else probability

    @final
    def _answers(self, features: Table) -> np.ndarray:
        answers = self.classes_[(self._label_logits(features) > 0).astype(int)]
        return answers[:, 0] if self.single_label_ else answers

    @final
    def score(self, X, y, sample_weight=None) -> float:
        """Return the fraction of labels present that are predicted rightly."""
        table = label_table(y, X.shape[0] if sparse.issparse(X) else len(X))
        right = self.predict(X) == table
        weight = np.ones(len(table)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        present = ~missing(table)
        share = present * (weight if table.ndim == 1 else weight[:, None])
        return float((right * share).sum() / share.sum())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


def _folds(training: TrainingSet, targets: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the fold of each example for each label (n, labels); -1 where it is missing or cannot be held out."""
    folds = np.full(targets.shape, -1)
    for at in range(targets.shape[1]):
        rows = np.flatnonzero(present[:, at])
        _, groups = np.unique(training.groups[rows], return_inverse=True)
        folds[rows, at] = fold_numbers(training.identity[rows], groups, targets[rows, at].astype(np.int64))
    return folds


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(logits)
