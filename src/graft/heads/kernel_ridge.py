"""Kernel ridge with a Gaussian kernel; width and penalty chosen by closed-form leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.leave_one_out import RidgeFamily, family_of_features, family_of_kernel
from graft.heads.regressor_head import RegressorHead
from graft.heads.scores import best, best_regression, classification_scores, regression_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, squared_distances, symmetric_eigen

GAMMAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# Up to this many examples every width has its own full eigendecomposition; beyond, the width is chosen on this many
# of them.
_WIDTH_ROWS = 600
# Beyond this many examples the kernel is replaced by its projection on this many of them (Nyström).
_LANDMARKS = 3000
# Indicators of classes, -1/K to 1, become logits by this factor: with an indicator of 1 against 0, odds of e^8.
LOGIT = 8.0


@final
class KernelRidgeClassifier(ClassifierHead):
    r"""Gaussian kernel ridge regression of class indicators; γ and λ are chosen by closed-form leave-one-out.

    :math:`k(x, x') = \exp(-\gamma \lVert x - x' \rVert^2)` on the scaled features, whose mean squared distance is 2.
    The logits are the predicted indicators times 8, then calibrated by the temperature. One eigendecomposition per γ
    serves all λ and all examples left out. Beyond 600 examples γ is chosen on 600 of them; beyond 3,000 the kernel
    is projected on 3,000 of them (Nyström).

    Parameters
    ----------
    gammas, penalties : sequence of float
        The values of γ and λ to try.
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`.

    Attributes
    ----------
    classes_ : ndarray (K,)
    gamma_, penalty_ : float
        The chosen ones.
    centers_ : ndarray (m, d)
        Scaled examples that carry a coefficient.
    dual_coef_ : ndarray (m, K)
    intercept_ : ndarray (K,)
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
        Logits without the example's fold, in closed form too: width and penalty are chosen by leave-one-out, but its
        predictions are not comparable with those of a head with folds (the class of the one example left out is one
        short, the others are not).
    selection_ : dict

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import KernelRidgeClassifier
    >>> X = np.random.default_rng(0).normal(size=(80, 2))
    >>> y = (X ** 2).sum(axis=1) > 1.4
    >>> float((KernelRidgeClassifier().fit(X, y).predict(X) == y).mean()) > 0.95
    True
    """

    def __init__(
        self,
        *,
        gammas: Sequence[float] = GAMMAS,
        penalties: Sequence[float] = PENALTIES,
        scaling: str = "auto",
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.gammas = gammas
        self.penalties = penalties
        self.scaling = scaling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        solution, selection = _fit_kernel(
            training, training.one_hot, self.gammas, self.penalties, _classification_score, best
        )
        self.gamma_, self.penalty_ = solution.gamma, solution.penalty
        self.centers_, self.dual_coef_, self.intercept_ = solution.centers, solution.dual, solution.intercept
        if not training.can_cross_validate:
            return Outcome(None, selection)
        return Outcome(solution.left_out * LOGIT, selection)

    def _logits(self, features: Table) -> np.ndarray:
        return LOGIT * _predict(self._scaled(features), self.centers_, self.dual_coef_, self.intercept_, self.gamma_)


@final
class KernelRidgeRegressor(RegressorHead):
    r"""Gaussian kernel ridge regression; γ and λ are chosen by closed-form leave-one-out.

    As `graft.heads.KernelRidgeClassifier`, on standardised targets; the leave-one-out error is averaged over the
    outputs.

    Parameters
    ----------
    gammas, penalties : sequence of float
        The values of γ and λ to try.
    scaling, random_state
        As in `graft.heads.LogisticPath`.

    Attributes
    ----------
    gamma_, penalty_ : float
    centers_ : ndarray (m, d)
    dual_coef_ : ndarray (m, outputs)
    intercept_ : ndarray (outputs,)
    out_of_fold_ : ndarray (n,) or (n, outputs), or None
        Predictions without the example's fold.
    selection_ : dict

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import KernelRidgeRegressor
    >>> X = np.linspace(-3, 3, 60)[:, None]
    >>> round(KernelRidgeRegressor().fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])), 2)
    1.0
    """

    def __init__(
        self,
        *,
        gammas: Sequence[float] = GAMMAS,
        penalties: Sequence[float] = PENALTIES,
        scaling: str = "auto",
        random_state: int | None = None,
    ) -> None:
        self.gammas = gammas
        self.penalties = penalties
        self.scaling = scaling
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        assert training.targets is not None
        solution, selection = _fit_kernel(
            training, training.targets, self.gammas, self.penalties, regression_scores, best_regression
        )
        self.gamma_, self.penalty_ = solution.gamma, solution.penalty
        self.centers_, self.dual_coef_, self.intercept_ = solution.centers, solution.dual, solution.intercept
        return Outcome(solution.left_out if training.can_cross_validate else None, selection)

    def _values(self, features: Table) -> np.ndarray:
        return _predict(self._scaled(features), self.centers_, self.dual_coef_, self.intercept_, self.gamma_)


def _classification_score(predictions: np.ndarray, training: TrainingSet) -> dict[str, float]:
    return classification_scores(predictions * LOGIT, training)


@dataclass(frozen=True)
class _Solution:
    """A kernel ridge: predictions are k(x, centers) dual + intercept; `left_out` those without the folds."""

    gamma: float
    penalty: float
    centers: np.ndarray
    dual: np.ndarray
    intercept: np.ndarray
    left_out: np.ndarray


def _predict(
    scaled: np.ndarray, centers: np.ndarray, dual: np.ndarray, intercept: np.ndarray, gamma: float
) -> np.ndarray:
    result = np.empty((len(scaled), dual.shape[1]))
    step = max(1, 8_000_000 // max(len(centers), 1))
    for first in range(0, len(scaled), step):
        part = scaled[first : first + step].astype(centers.dtype, copy=False)
        result[first : first + step] = np.exp(-gamma * squared_distances(part, centers)) @ dual + intercept
    return result


def _fit_kernel(
    training: TrainingSet,
    targets: np.ndarray,
    gammas: Sequence[float],
    penalties: Sequence[float],
    score: Callable[[np.ndarray, TrainingSet], dict[str, float]],
    choose: Callable[[list[dict[str, Any]]], int],
) -> tuple[_Solution, dict[str, Any]]:
    """Return the kernel ridge of the best width and penalty, and the account of the selection."""
    widths, amounts = [float(value) for value in gammas], [float(value) for value in penalties]
    tried: list[dict[str, Any]] = []
    if not training.can_cross_validate:
        # With one example per class nothing can be left out: the middle of the grid.
        solution = _solution(
            _kernel_family(training, targets, widths[len(widths) // 2]), amounts[len(amounts) // 2], training.fold
        )
        return solution, {"gamma": solution.gamma, "penalty": solution.penalty, "tried": tried}
    if len(widths) > 1 and training.rows > _WIDTH_ROWS:
        rows = training.sample(_WIDTH_ROWS)
        part, part_targets = training.subset(rows), targets[rows]
        for gamma in widths:
            # Every second penalty is enough to compare widths.
            tried += _scores(_kernel_family(part, part_targets, gamma), amounts[::2], part, score)
        widths = [tried[choose(tried)]["gamma"]]
    full: list[dict[str, Any]] = []
    chosen: _KernelFamily | None = None
    for gamma in widths:
        family = _kernel_family(training, targets, gamma)
        full += _scores(family, amounts, training, score)
        if full[choose(full)]["gamma"] == gamma:
            chosen = family
    assert chosen is not None
    solution = _solution(chosen, full[choose(full)]["penalty"], training.fold)
    return solution, {"gamma": solution.gamma, "penalty": solution.penalty, "tried": tried + full}


@dataclass(frozen=True)
class _KernelFamily:
    """All penalties at one width. `to_centers` (m, n) maps dual coefficients to centers; None: no change."""

    gamma: float
    ridge: RidgeFamily
    centers: np.ndarray
    to_centers: np.ndarray | None


def _kernel_family(training: TrainingSet, targets: np.ndarray, gamma: float) -> _KernelFamily:
    features = training.dense
    if training.rows <= _LANDMARKS:
        kernel = np.exp(-gamma * training.squared_distances)
        ridge = family_of_kernel(kernel, training.weight, targets)
        return _KernelFamily(gamma, ridge, features, None)
    centers = features[training.sample(_LANDMARKS)]
    values, vectors = symmetric_eigen(np.exp(-gamma * squared_distances(centers, centers)))
    keep = values > values[-1] * np.finfo(values.dtype).eps * len(values)
    # k(x, centers) V Λ^(-1/2): features whose products are the projected kernel.
    projection = vectors[:, keep] / np.sqrt(values[keep])
    table = np.exp(-gamma * squared_distances(features, centers)) @ projection
    ridge = family_of_features(table, training.weight, targets)
    return _KernelFamily(gamma, ridge, centers, projection @ table.T)


def _scores(
    family: _KernelFamily,
    penalties: Sequence[float],
    training: TrainingSet,
    score: Callable[[np.ndarray, TrainingSet], dict[str, float]],
) -> list[dict[str, Any]]:
    return [
        {
            "gamma": family.gamma,
            "penalty": penalty,
            "examples": training.rows,
            **score(family.ridge.leave_out_predictions(penalty, training.groups), training),
        }
        for penalty in penalties
    ]


def _solution(family: _KernelFamily, penalty: float, sets: np.ndarray) -> _Solution:
    dual, intercept = family.ridge.solve(penalty)
    on_centers = dual if family.to_centers is None else family.to_centers @ dual
    left_out = family.ridge.leave_out_predictions(penalty, sets)
    return _Solution(
        family.gamma, penalty, family.centers, on_centers.astype(family.centers.dtype), intercept, left_out
    )
