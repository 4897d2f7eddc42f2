"""What classifiers of the target's features by scores have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin


class ScoredClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of *target* inputs by a score for each class; the largest wins.

    Attributes
    ----------
    classes_ : ndarray (K,)
    temperature_ : float
        Probabilities are softmax(scores / temperature).
    """

    classes_: np.ndarray
    temperature_: float

    def decision_function(self, X) -> np.ndarray:
        """Return the scores (n, K) of *target* inputs; for two classes, the second's minus the first's (n,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X) -> np.ndarray:
        """Return the class of each *target* input (n,), of those of the fit or of new ones."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X) -> np.ndarray:
        """Return softmax(scores / `temperature_`) of *target* inputs, (n, K), columns as in `classes_`."""
        return softmax(self._scores(X) / self.temperature_, axis=1)

    @abstractmethod
    def _scores(self, X: Any) -> np.ndarray:
        """Return the scores (n, K) of checked inputs."""
