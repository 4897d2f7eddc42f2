"""Linear heads whose weights were trained with the network before them; `fit` learns what is foreign to them."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator

from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.multi_label_head import MultiLabelHead
from graft.heads.regressor_head import RegressorHead
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet

_SELECTION = {"trained": "with the network"}


class GivenWeights(BaseEstimator):
    """Weights that are to be calibrated already, and what they give.

    Parameters
    ----------
    coefficients : array (outputs, d)
        One row of weights per class (in sorted order), label or number (in the user's unit).
    intercept : array (outputs,)
        For each of them.
    scaling : {"auto", "global", "columns", "none"}
        That of the distances to the training examples, as in `graft.heads.LogisticPath`.
    random_state : int, optional
        Another number deals other folds.
    """

    class_weight: dict | str | None = None
    calibrate: bool = False

    def __init__(
        self, coefficients: Any, intercept: Any, *, scaling: str = "auto", random_state: int | None = None
    ) -> None:
        self.coefficients = coefficients
        self.intercept = intercept
        self.scaling = scaling
        self.random_state = random_state

    @final
    def _outputs(self, features: Table) -> np.ndarray:
        return np.asarray(features @ self.coefficients.T) + self.intercept


@final
class LinearClassifier(GivenWeights, ClassifierHead):
    """A linear classifier with given weights; see `GivenWeights`."""

    def _solve(self, training: TrainingSet) -> Outcome:
        return Outcome(None, _SELECTION)

    def _logits(self, features: Table) -> np.ndarray:
        return self._outputs(features)


@final
class LinearRegressor(GivenWeights, RegressorHead):
    """A linear regressor with given weights; see `GivenWeights`."""

    def _solve(self, training: TrainingSet) -> Outcome:
        return Outcome(None, _SELECTION)

    def _values(self, features: Table) -> np.ndarray:
        return (self._outputs(features) - self.target_location_) / self.target_scale_


@final
class LinearMultiLabel(GivenWeights, MultiLabelHead):
    """A linear logit per label with given weights; see `GivenWeights`."""

    def _solve(
        self, training: TrainingSet, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray
    ) -> np.ndarray | None:
        self.selection_ = _SELECTION
        self.temperature_ = np.ones(targets.shape[1])
        return None

    def _label_logits(self, features: Table) -> np.ndarray:
        return self._outputs(features)
