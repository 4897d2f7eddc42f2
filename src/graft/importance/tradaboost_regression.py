"""Two-stage TrAdaBoost.R2: boosting a regression with a few labelled target examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from scipy.optimize import brentq
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from graft._checks import integer
from graft.importance.domain_pair import deal_folds
from graft.importance.tradaboost import seeded, target_rows


@dataclass(frozen=True)
class _Ensemble:
    """The estimators of AdaBoost.R2 with their votes; they answer by the weighted median."""

    models: list[Any]
    votes: np.ndarray

    def predict(self, X: np.ndarray) -> np.ndarray:
        answers = np.stack([model.predict(X) for model in self.models], axis=1)
        order = np.argsort(answers, axis=1, kind="stable")
        reached = np.cumsum(self.votes[order], axis=1) >= 0.5 * self.votes.sum() * (1 - 1e-12)
        places = order[np.arange(len(order)), reached.argmax(axis=1)]
        return answers[np.arange(len(order)), places]


@final
class TrAdaBoostRegressor(RegressorMixin, BaseEstimator):
    r"""Two-stage TrAdaBoost.R2.

    In stage one of S steps the source's weights fall by :math:`\beta_t^{e_i}`, :math:`e_i = |y_i - h(x_i)| / \max_j
    |y_j - h(x_j)|`, with the number :math:`\beta_t` for which the target's share of all weight rises evenly from
    :math:`n_t / n` in the first step to one in the last. In stage two, for the weights of each step, AdaBoost.R2
    (Drucker, 1997) runs with the source's weights frozen; the step whose ensemble errs least on held-out target
    examples is kept. (Pardoe and Stone, 2010, algorithm 3.)

    Parameters
    ----------
    estimator : regressor that takes ``sample_weight``, optional
        By default a decision tree of depth 4.
    steps : int
        S.
    rounds : int
        Of AdaBoost.R2 in each step.
    folds : int
        Of the target, to judge the steps.
    random_state : int
        Deals the folds, and of the estimators that have one.

    Attributes
    ----------
    ensemble_ : object
        Of the chosen step.
    step_ : int
    errors_ : ndarray (S,)
        Mean squared errors on held-out target examples.
    sample_weight_ : ndarray (n,)
        Of the chosen step, of mean one.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import TrAdaBoostRegressor
    >>> draws = np.random.default_rng(0)
    >>> X = draws.uniform(-1, 1, size=(150, 1))
    >>> in_target = np.arange(150) >= 120
    >>> y = np.where(in_target, 2.0, 1.0) * X[:, 0]
    >>> model = TrAdaBoostRegressor(steps=5, rounds=5).fit(X, y, in_target=in_target)
    >>> bool(abs(model.predict([[0.8]])[0] - 1.6) < 0.25)
    True
    """

    def __init__(
        self, estimator: Any = None, *, steps: int = 10, rounds: int = 10, folds: int = 5, random_state: int = 0
    ) -> None:
        self.estimator = estimator
        self.steps = steps
        self.rounds = rounds
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, in_target: Any = None) -> Self:
        """Fit to the source and the few labelled target examples together.

        Parameters
        ----------
        X : array (n, d)
            Features of both domains.
        y : array (n,)
            Numbers.
        in_target : array (n,) of bool, optional
            Which rows belong to the target: a mask, which cross-validation slices along with X. By default all, and
            this is AdaBoost.R2.

        Raises
        ------
        DataError
            If the mask does not fit.
        """
        for name, low in (("steps", 1), ("rounds", 1), ("folds", 2)):
            integer(name, getattr(self, name), low=low)
        X, y = validate_data(self, X, y, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        mask = target_rows(in_target, len(y))
        base = DecisionTreeRegressor(max_depth=4) if self.estimator is None else self.estimator
        targets = np.flatnonzero(mask)
        folds = min(self.folds, len(targets))
        fold = deal_folds(np.column_stack([X[targets], y[targets]]), folds, self.random_state) if folds > 1 else None
        steps = self.steps if len(targets) < len(y) else 1
        weight = np.full(len(y), 1 / len(y))
        errors, kept = [], []
        for step in range(steps):
            kept.append(weight)
            errors.append(self._held_out_error(base, X, y, weight, mask, targets, fold))
            if step + 1 < steps:
                model = seeded(base, self.random_state + step).fit(X, y, sample_weight=weight * len(y))
                gap = np.abs(y - model.predict(X))
                share = len(targets) / len(y)
                goal = share + (step + 1) / (steps - 1) * (1 - share)
                weight = _with_target_share(weight, gap / max(gap.max(), 1e-300), mask, goal)
        self.errors_ = np.array(errors)
        self.step_ = int(np.argmin(self.errors_))
        chosen = kept[self.step_]
        self.sample_weight_ = chosen / chosen.mean()
        self.ensemble_ = _boosted(base, X, y, chosen, mask, self.rounds, self.random_state)
        return self

    def _held_out_error(
        self,
        base: Any,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        mask: np.ndarray,
        targets: np.ndarray,
        fold: np.ndarray | None,
    ) -> float:
        if fold is None or self.steps == 1:
            return 0.0
        squares = np.zeros(len(targets))
        for held_out in range(int(fold.max()) + 1):
            inside = fold == held_out
            rest = np.ones(len(y), dtype=bool)
            rest[targets[inside]] = False
            if not mask[rest].any():
                continue
            ensemble = _boosted(base, X[rest], y[rest], weight[rest], mask[rest], self.rounds, self.random_state)
            squares[inside] = (ensemble.predict(X[targets[inside]]) - y[targets[inside]]) ** 2
        return float(squares.mean())

    def predict(self, X: Any) -> np.ndarray:
        """Return the weighted median of the estimators' answers (n,)."""
        check_is_fitted(self)
        return self.ensemble_.predict(validate_data(self, X, reset=False))


def _with_target_share(weight: np.ndarray, error: np.ndarray, mask: np.ndarray, goal: float) -> np.ndarray:
    """Return weights of sum one in which source examples are multiplied by β^error, β so that the target has `goal`.

    Source examples without any error keep their weight however small β is; where they alone exceed the goal's rest,
    the whole source is scaled down to it.
    """
    target, source, gaps = weight[mask], weight[~mask], error[~mask]
    allowed = target.sum() * (1 - goal) / goal

    def excess(log_beta: float) -> float:
        return float((source * np.exp(log_beta * gaps)).sum() - allowed)

    log_beta = -1e3
    if excess(0.0) <= 0:
        log_beta = 0.0
    elif excess(log_beta) < 0:
        log_beta = brentq(excess, log_beta, 0.0, xtol=1e-12)
    changed = weight.copy()
    changed[~mask] = source * np.exp(log_beta * gaps)
    total = changed[~mask].sum()
    changed[~mask] *= allowed / total if total > 0 else 0.0
    return changed / changed.sum()


def _boosted(
    base: Any, X: np.ndarray, y: np.ndarray, weight: np.ndarray, mask: np.ndarray, rounds: int, seed: int
) -> _Ensemble:
    """Return AdaBoost.R2 that only changes the target's weights, within their share."""
    weight = weight / weight.sum()
    share = float(weight[mask].sum())
    models: list[Any] = []
    votes: list[float] = []
    for number_of_round in range(rounds):
        model = seeded(base, seed + number_of_round).fit(X, y, sample_weight=weight * len(y))
        gap = np.abs(y - model.predict(X))
        gap = gap[mask] / max(gap.max(), 1e-300)
        error = float(weight[mask] @ gap / share)
        if error >= 0.5 and models:
            break
        beta = max(error, 1e-9) / (1 - min(error, 0.5 - 1e-9))
        models.append(model)
        votes.append(-np.log(min(beta, 1 - 1e-9)))
        if error >= 0.5 or error < 1e-9:
            break
        moved = weight[mask] * beta ** (1 - gap)
        weight = weight.copy()
        weight[mask] = moved * share / moved.sum()
    return _Ensemble(models, np.array(votes))
