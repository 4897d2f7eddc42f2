"""What every regressor head does in the same way: checking, scaling of features and targets, rejection."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self, final

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight, validate_data

from graft._checks import one_of
from graft.errors import DataError
from graft.heads.classifier_head import Outcome
from graft.heads.head import SCALINGS, Head
from graft.heads.novelty import fit_novelty
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, prepare


class RegressorHead(RegressorMixin, Head):
    """A regressor on features, for one or several outputs, with a score for foreign inputs.

    Abstract: a head provides ``_solve`` and ``_values`` and its options. Both see targets of mean 0 and variance 1.
    """

    @abstractmethod
    def _solve(self, training: TrainingSet) -> Outcome:
        """Fit to prepared examples: set the fitted attributes and return the out-of-fold predictions."""

    @abstractmethod
    def _values(self, features: Table) -> np.ndarray:
        """Return predictions (n, outputs) of validated, unscaled features, for the standardised targets."""

    @final
    def fit(self, X, y, sample_weight=None, groups=None) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        y : array (n,) or (n, outputs)
            Numbers to predict.
        sample_weight : array (n,), optional
            An integer weight equals as many copies of the example; an example of weight 0 takes no part.
        groups : array (n,), optional
            Examples of one group are left out together; exactly equal examples are one group of themselves.
        """
        one_of("scaling", self.scaling, SCALINGS)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
        )
        y = np.asarray(y, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        taking_part = weight > 0
        if not taking_part.any():
            raise DataError(
                "sample_weight",
                expected="a positive weight for some example",
                found="only zeros",
                remedy="Leave sample_weight out to weigh all examples alike.",
            )
        self.single_output_ = y.ndim == 1
        targets = y.reshape(len(y), -1)[taking_part]
        weight = weight[taking_part]
        share = weight / weight.sum()
        self.target_location_ = share @ targets
        deviation = np.sqrt(share @ (targets - self.target_location_) ** 2)
        # A constant target is predicted by its value.
        self.target_scale_ = np.where(
            deviation > 1e-12 * np.maximum(1e-300, np.abs(self.target_location_)), deviation, 1.0
        )
        training = prepare(
            X[taking_part],
            weight=weight,
            groups=None if groups is None else np.asarray(groups)[taking_part],
            codes=None,
            classes=0,
            targets=(targets - self.target_location_) / self.target_scale_,
            scaling=self.scaling,
            random_state=self.random_state,
        )
        outcome = self._adopt(training)
        self.novelty_rows_, self.novelty_scores_ = fit_novelty(training)
        self.out_of_fold_ = None
        if outcome.out_of_fold is not None:
            whole = np.empty((len(y), targets.shape[1]))
            whole[taking_part] = outcome.out_of_fold
            if not taking_part.all():
                whole[~taking_part] = self._values(X[~taking_part])
            self.out_of_fold_ = self._in_users_units(whole)
        return self

    @final
    def _adopt(self, training: TrainingSet) -> Outcome:
        """Fit to a prepared training set (shared between heads)."""
        self.location_, self.scale_ = training.location, training.scale
        outcome = self._solve(training)
        self.selection_ = outcome.selection
        return outcome

    @final
    def _answers(self, features: Table) -> np.ndarray:
        return self._in_users_units(self._values(features))

    @final
    def _in_users_units(self, values: np.ndarray) -> np.ndarray:
        result = values * self.target_scale_ + self.target_location_
        return result[:, 0] if self.single_output_ else result

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
