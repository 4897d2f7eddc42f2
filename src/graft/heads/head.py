"""What every head can do, whatever it predicts: check features, answer, and leave foreign inputs without an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from graft._checks import number
from graft.heads.novelty import novelty_score, threshold
from graft.heads.table import Table
from graft.heads.training_set import apply_scaling

SCALINGS = ("auto", "global", "columns", "none")


class Head(BaseEstimator, ABC):
    """A head on features, with a score for inputs that are foreign to the examples it was fitted on.

    Abstract: the contracts for classes, labels and numbers provide ``fit`` and ``_answers``.
    """

    scaling: str
    random_state: int | None
    location_: np.ndarray
    scale_: np.ndarray
    novelty_rows_: Any
    novelty_scores_: np.ndarray

    @abstractmethod
    def _answers(self, features: Table) -> np.ndarray:
        """Return predictions (n,) or (n, outputs), as the user wrote the labels, of validated, unscaled features."""

    @final
    def predict(self, X, reject: float | None = None) -> np.ndarray:
        """Return the prediction for each input, (n,) or (n, outputs).

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        reject : float in (0, 1), optional
            The false-alarm rate: inputs that are more foreign than all but this fraction of inputs like the training
            examples get None, in an array of objects.
        """
        features = self._checked(X)
        answers = self._answers(features)
        if reject is None:
            return answers
        limit = self.ood_threshold(reject)
        answers = answers.astype(object)
        answers[self._novelty(features) > limit] = None
        return answers

    @final
    def ood_score(self, X) -> np.ndarray:
        """Return how foreign each input is (n,): its mean distance to the nearest training examples."""
        return self._novelty(self._checked(X))

    @final
    def ood_threshold(self, rate: float) -> float:
        """Return the score that a fraction `rate` at most of inputs like the training examples exceeds."""
        check_is_fitted(self)
        return threshold(self.novelty_scores_, number("reject", rate, low=0.0, high=1.0, open_low=True))

    @final
    def _checked(self, X) -> Table:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])

    @final
    def _scaled(self, features: Table) -> np.ndarray:
        """Return scaled features, dense."""
        scaled = apply_scaling(features, self.location_, self.scale_)
        return scaled.toarray() if sparse.issparse(scaled) else scaled

    @final
    def _novelty(self, features: Table) -> np.ndarray:
        return novelty_score(apply_scaling(features, self.location_, self.scale_), self.novelty_rows_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
