"""Logistic regression for many tasks that mean the same thing: a common part, and an own part for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
from scipy.special import expit, logsumexp
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from graft._checks import integer, number
from graft.errors import DataError, RequestError
from graft.sharing.common_and_own_problem import CommonAndOwnProblem, solve
from graft.sharing.task_column import group_places, places_of, task_places

COMMON = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RATIOS = (0.3, 1.0, 3.0, 10.0, 30.0, 1000.0)
INTERCEPTS = (1.0, 10.0, 100.0, 1000.0)
CENTERS = (0.0, 1.0)
# Differences of held-out log-loss (nats) that are not worth another fit are far above what these leave.
_NAMES = ("common", "ratio", "own_intercept", "center")
_SEARCH_TOLERANCE = 3e-3
_FINAL_TOLERANCE = 1e-6


@final
class CommonAndOwnLogistic(BaseEstimator):
    r"""Logistic regression of many tasks with the same classes: a common part and an own part for each task.

    .. math:: \sum_i w_i \log \bigl(1 + e^{-y_i f_i}\bigr) + \tfrac{\lambda_0}{2} \lVert w \rVert^2
        + \tfrac{r \lambda_0}{2} \sum_t \lVert v_t \rVert^2 + \tfrac{\lambda_b}{2} \sum_t b_t^2, \qquad
        f_i = (x_i - \alpha m_{t_i})^T (w + v_{t_i}) + b + b_{t_i}

    is least; with more than two classes the first term is the cross-entropy of a softmax. m is the mean of a task's
    features, shrunk towards zero as if 20 examples stood there: without it (α = 0), the direction in which tasks differ
    would count as evidence for a class. Large r and λ_b are one model for all tasks, a small r is one for each alone.
    All four are chosen by cross-validated log-loss, one after another
    over their grids until none improves; the log-loss is taken at its best temperature, which `predict_proba` then
    uses: otherwise weak penalties would be favoured for being sure, not for being right.

    Parameters
    ----------
    common : float or sequence of float
        λ₀ to choose from; one number fixes it.
    ratio : float or sequence of float
        r to choose from.
    own_intercept : float or sequence of float
        λ_b to choose from: how alike the tasks' proportions of classes are.
    center : float or sequence of float
        α to choose from, 0 to 1.
    folds : int
        Parts of each task that are left out in turn.
    random_state : int
        Another number deals other folds.

    Attributes
    ----------
    classes_ : ndarray (K,)
    tasks_ : ndarray (T,)
        The tasks, sorted.
    coef_ : ndarray (T, d, outputs)
        w + v; outputs is 1 for two classes and K for more.
    intercept_ : ndarray (T, outputs)
        b + b_t - α m_t (w + v_t): the model is linear in the features as they are.
    common_coef_, common_intercept_ : ndarray (d, outputs), (outputs,)
        w, and b for the mean of all m: what a task that was never seen is predicted with.
    strengths_ : dict
        The chosen λ₀, r, λ_b and α.
    temperature_ : float
        What `predict_proba` divides the logits by; 1 where nothing was chosen.
    selection_ : list of dict
        Every combination that was tried, with its cross-validated log-loss (nats).

    References
    ----------
    Evgeniou and Pontil (2004), Regularized Multi-Task Learning, section 2. Daumé (2007), Frustratingly Easy Domain
    Adaptation, section 3; Finkel and Manning (2009), Hierarchical Bayesian Domain Adaptation, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.sharing import CommonAndOwnLogistic
    >>> draws = np.random.default_rng(0)
    >>> X, tasks = draws.normal(size=(200, 2)), np.repeat(["a", "b"], 100)
    >>> y = np.where(X[:, 0] + np.where(tasks == "a", 1, -1) * X[:, 1] > 0, "good", "bad")
    >>> model = CommonAndOwnLogistic().fit(X, y, tasks=tasks)
    >>> model.predict([[0.0, 1.0], [0.0, 1.0]], tasks=["a", "b"]).tolist()
    ['good', 'bad']
    """

    def __init__(
        self,
        *,
        common: float | Sequence[float] = COMMON,
        ratio: float | Sequence[float] = RATIOS,
        own_intercept: float | Sequence[float] = INTERCEPTS,
        center: float | Sequence[float] = CENTERS,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.common = common
        self.ratio = ratio
        self.own_intercept = own_intercept
        self.center = center
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, tasks: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit all tasks.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features, of norms near 1: they are taken as they are.
        y : array (n,)
            Classes.
        tasks : array (n,)
            The task of each example: names or numbers.
        sample_weight : array (n,), optional
            w.
        groups : array (n,), optional
            Examples of one group are left out together.

        Raises
        ------
        DataError
            If there is one class alone, or `tasks` or `groups` does not fit X, or `tasks` has missing values.
        RequestError
            If an option is out of range.
        """
        grids = [_grid(name, getattr(self, name), most=1.0 if name == "center" else None) for name in _NAMES]
        folds = integer("folds", self.folds, low=2)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                "y", expected="two classes or more", found=repr(self.classes_.tolist()), remedy="Label another class."
            )
        self.tasks_, places = task_places(tasks, X.shape[0])
        problem = CommonAndOwnProblem.of(X, codes, len(self.classes_), weight, places, len(self.tasks_))
        choice = _Choice([grid[0] for grid in grids], 1.0, None, [])
        if any(len(grid) > 1 for grid in grids):
            seed = integer("random_state", self.random_state, low=0)
            together = None if groups is None else group_places(groups, len(y))
            dealt = _dealt(places, folds, seed) if together is None else _undivided(together, folds, seed)
            choice = _search(problem, grids, dealt)
        chosen, self.temperature_, self.selection_ = choice.strengths, choice.temperature, choice.tried
        problem = replace(problem, center=chosen[-1])
        penalty = problem.penalty(*chosen[:-1])
        solved, _ = solve(problem, penalty, problem.weight[:, None], choice.start, _FINAL_TOLERANCE)
        parameters = solved[:, 0]
        self.strengths_ = dict(zip(_NAMES, chosen, strict=True))
        self.common_coef_, self.common_intercept_ = parameters[: X.shape[1]].copy(), parameters[X.shape[1]].copy()
        self.coef_ = np.stack([self.common_coef_] * len(self.tasks_))
        self.intercept_ = np.stack([self.common_intercept_] * len(self.tasks_))
        for place, block in enumerate(problem.blocks):
            self.coef_[place, block.columns] += parameters[block.own]
            shift = problem.center * block.mean
            self.intercept_[place] += parameters[block.own_intercept] - shift @ self.coef_[place, block.columns]
            self.common_intercept_ -= shift @ self.common_coef_[block.columns] / len(self.tasks_)
        return self

    def decision_function(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Return the logits, (n,) for two classes, (n, K) for more; arguments as in `predict`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=np.float64)
        places = places_of(tasks, self.tasks_, X.shape[0])
        logits = np.empty((X.shape[0], self.common_coef_.shape[1]))
        for place in np.unique(places):
            rows = np.flatnonzero(places == place)
            known = place < len(self.tasks_)
            coefficients = self.coef_[place] if known else self.common_coef_
            intercept = self.intercept_[place] if known else self.common_intercept_
            logits[rows] = np.asarray(X[rows] @ coefficients) + intercept
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Return probabilities (n, K); arguments as in `predict`."""
        logits = self.decision_function(X, tasks) / self.temperature_
        if logits.ndim == 1:
            return np.column_stack([expit(-logits), expit(logits)])
        return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))

    def predict(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Return the class of each input (n,).

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Features.
        tasks : array (n,), optional
            The task of each; one that was never seen, and all without `tasks`, get the common part.
        """
        logits = self.decision_function(X, tasks)
        return self.classes_[(logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)]

    def score(self, X: Any, y: Any, tasks: Any = None) -> float:
        """Return the accuracy over all examples."""
        return float(np.mean(self.predict(X, tasks) == np.asarray(y)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@dataclass(frozen=True)
class _Choice:
    """λ₀, r, λ_b and α; the temperature; parameters to start from; all that was tried."""

    strengths: list[float]
    temperature: float
    start: np.ndarray | None
    tried: list[dict[str, float]]


def _search(problem: CommonAndOwnProblem, grids: list[list[float]], fold: np.ndarray) -> _Choice:
    """Return λ₀, r, λ_b and α of least cross-validated log-loss."""
    tried: dict[tuple[int, ...], tuple[float, float]] = {}
    training = problem.weight[:, None] * (fold[:, None] != np.arange(fold.max() + 1))
    start: np.ndarray | None = None

    def error(at: tuple[int, ...]) -> float:
        nonlocal start
        if at not in tried:
            *penalties, center = (grid[place] for grid, place in zip(grids, at, strict=True))
            centred = replace(problem, center=center)
            start, logits = solve(centred, centred.penalty(*penalties), training, start, _SEARCH_TOLERANCE)
            tried[at] = problem.calibrated(logits[np.arange(len(fold)), fold][:, None])
        return tried[at][0]

    def descend(best: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Walk along an axis for as long as the error falls."""
        for direction in (-1, 1):
            while 0 <= best[axis] + direction < len(grids[axis]):
                after = tuple(place + direction * (one == axis) for one, place in enumerate(best))
                if error(after) >= error(best):
                    break
                best = after
        return best

    best = tuple(len(grid) // 2 for grid in grids)
    before: tuple[int, ...] = ()
    while best != before:
        before = best
        for axis in range(len(grids)):
            best = descend(best, axis)
    listed = [
        {**{name: grid[place] for name, grid, place in zip(_NAMES, grids, at, strict=True)}, "error": value}
        for at, (value, _) in tried.items()
    ]
    assert start is not None
    chosen = [grid[place] for grid, place in zip(grids, best, strict=True)]
    return _Choice(chosen, tried[best][1], start.mean(axis=1, keepdims=True), listed)


def _dealt(places: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each example (n,): each task is dealt out evenly.

    Not each class: held-out parts with the proportions of the others would speak for own intercepts that are noise.
    """
    shuffled = np.random.default_rng(seed).permutation(len(places))
    fold = np.empty(len(places), dtype=np.intp)
    fold[shuffled[np.argsort(places[shuffled], kind="stable")]] = np.arange(len(places)) % folds
    return fold


def _undivided(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each example (n,), that of its group; `groups` are numbers from 0."""
    number = int(groups.max()) + 1
    fold: np.ndarray = np.random.default_rng(seed).permutation(np.arange(number) % folds)[groups]
    return fold


def _grid(name: str, values: Any, *, most: float | None = None) -> list[float]:
    listed = list(values) if isinstance(values, Sequence | np.ndarray) else [values]
    if not listed:
        raise RequestError(name, expected="a number, or some to choose from", found="none", remedy=f"Pass {name}=1.0.")
    if most is not None:
        return sorted({number(name, value, low=0, high=most) for value in listed})
    return sorted({number(name, value, low=0, open_low=True) for value in listed})
