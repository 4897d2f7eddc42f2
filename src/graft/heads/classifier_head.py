"""What every classifier head does in the same way: checking, scaling, calibration, rejection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Self, final

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from graft._checks import one_of
from graft._runtime import threads_per_operation
from graft.errors import DataError
from graft.heads.calibration import fit_temperature, softmax
from graft.heads.head import SCALINGS, Head
from graft.heads.novelty import fit_novelty
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, prepare

# Below this many products of an example, a feature and a class, one thread does the work.
_SMALL = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """What fitting leaves besides the fitted attributes.

    Attributes
    ----------
    out_of_fold : ndarray (n, K) or None
        Logits of each example from models that did not see its group; NaN rows where that is impossible; None where no
        row can be held out.
    selection : dict
        What was tried, with scores; plain values.
    finish : callable, optional
        Does what remains to be done once this head is wanted (a fit on all examples).
    """

    out_of_fold: np.ndarray | None
    selection: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[], None] | None = None


class ClassifierHead(ClassifierMixin, Head):
    """A classifier on features, with calibrated probabilities and a score for foreign inputs.

    Abstract: a head provides ``_solve`` and ``_logits`` and its options; everything a user calls stands here, final.
    """

    class_weight: dict | str | None
    calibrate: bool

    @abstractmethod
    def _solve(self, training: TrainingSet) -> Outcome:
        """Fit to prepared examples: set the fitted attributes and return the out-of-fold logits."""

    @abstractmethod
    def _logits(self, features: Table) -> np.ndarray:
        """Return logits (n, K) of validated, unscaled features."""

    @final
    def fit(self, X, y, sample_weight=None, groups=None) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        y : array (n,)
            Labels, of any type that sorts.
        sample_weight : array (n,), optional
            An integer weight equals as many copies of the example; an example of weight 0 takes no part.
        groups : array (n,), optional
            Examples of one group (augmented views of one photo) never stand on both sides of a cross-validation split.
            Exactly equal examples are one group of themselves.

        Raises
        ------
        DataError
            If there are fewer than two classes.
        """
        one_of("scaling", self.scaling, SCALINGS)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        taking_part = weight > 0
        if not taking_part.all():
            X_used, y_used, weight = X[taking_part], y[taking_part], weight[taking_part]
            groups = None if groups is None else np.asarray(groups)[taking_part]
        else:
            X_used, y_used = X, y
        self.classes_, codes = np.unique(y_used, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                "y",
                expected="examples of 2 or more classes",
                found=f"{len(self.classes_)} class" if len(self.classes_) else "no class (every weight is 0)",
                remedy="A classifier needs at least one more class to tell apart.",
            )
        if self.class_weight is not None:
            weight = weight * class_weights(self.class_weight, self.classes_, codes, weight)[codes]
        training = prepare(
            X_used,
            weight=weight,
            groups=groups,
            codes=codes,
            classes=len(self.classes_),
            targets=None,
            scaling=self.scaling,
            random_state=self.random_state,
        )
        # Small products only wait for each other when they are divided, and for long where the cores are busy.
        small = X.shape[0] * X.shape[1] * len(self.classes_) < _SMALL
        with threads_per_operation(1) if small else nullcontext():
            outcome = self._adopt(training)
        if outcome.finish is not None:
            outcome.finish()
        self.novelty_rows_, self.novelty_scores_ = fit_novelty(training)
        out_of_fold = outcome.out_of_fold
        if out_of_fold is not None and not taking_part.all():
            # An example of weight 0 took no part: the model itself is one that did not see it.
            whole = np.empty((len(y), out_of_fold.shape[1]), dtype=out_of_fold.dtype)
            whole[taking_part] = out_of_fold
            whole[~taking_part] = self._logits(X[~taking_part])
            out_of_fold = whole
        self.out_of_fold_ = out_of_fold
        return self

    @final
    def _adopt(self, training: TrainingSet) -> Outcome:
        """Fit to a training set that heads may share, with calibration, but no reference for foreign inputs."""
        self.location_, self.scale_ = training.location, training.scale
        outcome = self._solve(training)
        self.temperature_ = 1.0
        if outcome.out_of_fold is not None and self.calibrate:
            held_out = training.held_out
            assert training.codes is not None
            self.temperature_ = fit_temperature(
                outcome.out_of_fold[held_out], training.codes[held_out], training.weight[held_out]
            )
        self.selection_ = outcome.selection
        return outcome

    @final
    def decision_function(self, X) -> np.ndarray:
        """Return the logits (n, K); for two classes, as scikit-learn has it, the second's minus the first's (n,)."""
        logits = self._logits(self._checked(X))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    @final
    def predict_proba(self, X) -> np.ndarray:
        """Return softmax(logits / `temperature_`), (n, K), columns as in `classes_`."""
        return softmax(self._logits(self._checked(X)) / self.temperature_)

    @final
    def _answers(self, features: Table) -> np.ndarray:
        return self.classes_[self._logits(features).argmax(axis=1)]


def class_weights(class_weight: dict | str, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the factor of each class (K,); "balanced" gives all classes the same total weight."""
    if isinstance(class_weight, str):
        one_of("class_weight", class_weight, ["balanced"])
        totals = np.bincount(codes, weights=weight, minlength=len(classes))
        return totals.sum() / (len(classes) * totals)
    return compute_class_weight(class_weight, classes=classes, y=classes[codes])
