r"""Ridge regression for many tasks that mean the same thing: a common part, and an own part for each task.

With :math:`\tilde x = (x, 1)`, task t predicts :math:`\tilde x^T (\beta + v_t)`, and the sum over all examples

.. math:: \sum_i w_i \bigl(y_i - \tilde x_i^T (\beta + v_{t_i})\bigr)^2 + \beta^T D_0 \beta + \sum_t v_t^T D v_t

is least, :math:`D_0 = \operatorname{diag}(\lambda_0, …, \lambda_0, 0)`,
:math:`D = \operatorname{diag}(\lambda_1, …, \lambda_1, \lambda_b)`. With the moments of each task
:math:`G_t = \sum_{i \in t} w_i \tilde x_i \tilde x_i^T`, :math:`c_t = \sum_{i \in t} w_i \tilde x_i y_i` and
:math:`P_t = (G_t + D)^{-1}`, the own parts can be eliminated:

.. math:: S \beta = \sum_t D P_t c_t, \qquad S = D_0 + \sum_t G_t P_t D, \qquad v_t = P_t (c_t - G_t \beta) .

The residual of an example that is left out is the residual divided by one minus its leverage (Allen, 1974), where

.. math:: h_i = w_i \, \tilde x_i^T \bigl(P_t + P_t D S^{-1} D P_t\bigr) \tilde x_i ,

the bracket being the part of the inverse of the whole normal matrix that belongs to :math:`\beta + v_t`. No system is
larger than the features are wide, whatever the number of tasks and examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from graft._checks import number
from graft.errors import RequestError
from graft.sharing.task_column import group_places, places_of, task_places

STRENGTHS = tuple(float(f"{value:.4g}") for value in np.logspace(-2, 6, 17))
_NAMES = ("common", "own", "own_intercept")


@final
class CommonAndOwnRidge(BaseEstimator):
    r"""Ridge regression of many tasks, with a common part and an own part for each task.

    Minimises :math:`\sum_i w_i (y_i - x_i^T (w + v_t) - b - b_t)^2 + \lambda_0 \lVert w \rVert^2 + \sum_t \lambda_1
    \lVert v_t \rVert^2 + \lambda_b b_t^2`, exactly. A large λ₁ is one regression for all tasks, a large λ₀ one for each
    alone; the strengths are chosen by leave-one-out in closed form, one after the other over a grid until none
    improves. The same model with features (x, x at the place of the task) is Daumé's; as a kernel it is
    :math:`(1 / \lambda_0 + [s = t] / \lambda_1) \, x^T z`.

    Parameters
    ----------
    common, own, own_intercept : float or sequence of float
        λ₀, λ₁ and λ_b to choose from; one number fixes it. In units of standardised features.
    standardize : bool
        Whether features are brought to mean 0 and variance 1 first, over all tasks.

    Attributes
    ----------
    tasks_ : ndarray (T,)
        The tasks, sorted.
    coef_ : ndarray (T, d)
        w + v, for features as given.
    intercept_ : ndarray (T,)
        b + b_t.
    common_coef_, common_intercept_ : ndarray (d,), float
        w and b: what a task that was never seen is predicted with.
    strengths_ : dict
        The chosen λ₀, λ₁ and λ_b.
    out_of_fold_ : ndarray (n,)
        The prediction of each example without it, or without its group.
    selection_ : list of dict
        Every combination that was tried, with its mean squared error of examples left out.

    References
    ----------
    Evgeniou and Pontil (2004), Regularized Multi-Task Learning, section 2. Daumé (2007), Frustratingly Easy Domain
    Adaptation, section 3. Evgeniou, Micchelli and Pontil (2005), Learning Multiple Tasks with Kernel Methods,
    section 3.1.1.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.sharing import CommonAndOwnRidge
    >>> draws = np.random.default_rng(0)
    >>> X, tasks = draws.normal(size=(60, 2)), np.repeat(["a", "b", "c"], 20)
    >>> y = X @ [1.0, 2.0] + (tasks == "b") * 3.0
    >>> model = CommonAndOwnRidge().fit(X, y, tasks=tasks)
    >>> model.predict([[1.0, 1.0], [1.0, 1.0]], tasks=["a", "b"]).round(1).tolist()
    [3.0, 6.0]
    """

    def __init__(
        self,
        *,
        common: float | Sequence[float] = STRENGTHS,
        own: float | Sequence[float] = STRENGTHS,
        own_intercept: float | Sequence[float] = STRENGTHS,
        standardize: bool = True,
    ) -> None:
        self.common = common
        self.own = own
        self.own_intercept = own_intercept
        self.standardize = standardize

    def fit(self, X: Any, y: Any, tasks: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit all tasks.

        Parameters
        ----------
        X : array (n, d)
            Features.
        y : array (n,)
            Numbers to predict.
        tasks : array (n,)
            The task of each example: names or numbers.
        sample_weight : array (n,), optional
            An integer weight equals as many copies of the example, which are left out together.
        groups : array (n,), optional
            Examples of one group are left out together.

        Raises
        ------
        DataError
            If `tasks` or `groups` does not fit X, or `tasks` has missing values.
        RequestError
            If a strength is not positive.
        """
        grids = [_grid(name, getattr(self, name)) for name in _NAMES]
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.tasks_, places = task_places(tasks, len(X))
        location, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.standardize:
            share = weight / weight.sum()
            location = share @ X
            deviation = np.sqrt(share @ np.square(X - location))
            scale = np.where(deviation > 1e-12 * np.maximum(1.0, np.abs(location)), deviation, 1.0)
        family = _Family.of((X - location) / scale, y, weight, places, len(self.tasks_))
        if groups is not None:
            family = replace(family, groups=_parts(group_places(groups, len(X))))
        chosen, self.selection_ = _search(family, grids)
        solution = family.solve(chosen)
        self.strengths_ = dict(zip(_NAMES, (float(value) for value in chosen), strict=True))
        self.out_of_fold_ = y - solution.left_out
        self.coef_ = solution.parameters[:, :-1] / scale
        self.intercept_ = solution.parameters[:, -1] - self.coef_ @ location
        self.common_coef_ = solution.common[:-1] / scale
        self.common_intercept_ = float(solution.common[-1] - self.common_coef_ @ location)
        return self

    def predict(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Return the prediction for each input (n,).

        Parameters
        ----------
        X : array (n, d)
            Features.
        tasks : array (n,), optional
            The task of each; one that was never seen, and all without `tasks`, get the common part.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        places = places_of(tasks, self.tasks_, len(X))
        coefficients = np.vstack([self.coef_, self.common_coef_])
        intercepts = np.append(self.intercept_, self.common_intercept_)
        return np.einsum("nd,nd->n", X, coefficients[places]) + intercepts[places]

    def score(self, X: Any, y: Any, tasks: Any = None) -> float:
        """Return the explained variance over all examples, 1 - Σ (y - f)² / Σ (y - mean y)²."""
        y = np.asarray(y, dtype=np.float64)
        return 1 - float(np.square(y - self.predict(X, tasks)).sum() / np.square(y - y.mean()).sum())


@dataclass(frozen=True)
class _Solution:
    """Parameters (T, d + 1) of each task, those in common (d + 1,), and the residuals (n,) of examples left out."""

    parameters: np.ndarray
    common: np.ndarray
    left_out: np.ndarray


@dataclass(frozen=True)
class _Family:
    """The moments of each task, from which the solution for any strengths follows."""

    rows: list[np.ndarray]
    design: list[np.ndarray]
    targets: list[np.ndarray]
    weight: list[np.ndarray]
    second: np.ndarray
    first: np.ndarray
    groups: list[np.ndarray] | None = None

    @staticmethod
    def of(features: np.ndarray, targets: np.ndarray, weight: np.ndarray, places: np.ndarray, tasks: int) -> _Family:
        order = np.argsort(places, kind="stable")
        rows = np.split(order, np.cumsum(np.bincount(places, minlength=tasks))[:-1])
        wide = np.column_stack([features, np.ones(len(features))])
        design, values, weights = ([array[part] for part in rows] for array in (wide, targets, weight))
        triples = list(zip(design, values, weights, strict=True))
        second = np.stack([(one * w[:, None]).T @ one for one, _, w in triples])
        first = np.stack([one.T @ (w * y) for one, y, w in triples])
        return _Family(rows, design, values, weights, second, first)

    def solve(self, strengths: Sequence[float]) -> _Solution:
        common, own, own_intercept = strengths
        width = self.first.shape[1]
        penalty = np.append(np.full(width - 1, own), own_intercept)
        # D^(1/2) (D^(1/2) (I + D^(-1/2) G D^(-1/2)) D^(1/2))^(-1) D^(1/2): well conditioned for any strength.
        root = np.sqrt(penalty)
        inner = np.linalg.inv(np.eye(width) + self.second / root[:, None] / root)
        shrinking = inner / root[:, None] * root  # P D
        inverse = inner / root[:, None] / root  # P
        system = np.einsum("tij,tjk->ik", self.second, shrinking)
        system[np.arange(width - 1), np.arange(width - 1)] += common
        system = (system + system.T) / 2
        right = np.einsum("tji,tj->i", shrinking, self.first)
        beta = np.linalg.solve(system, right)
        own_parts = np.einsum("tij,tj->ti", inverse, self.first - self.second @ beta)
        parameters = beta + own_parts
        if self.groups is not None:
            return _Solution(parameters, beta, self._without_groups(parameters, inverse, shrinking, system))
        spread = inverse + shrinking @ np.linalg.solve(system, shrinking.transpose(0, 2, 1))
        left_out = np.empty(sum(len(part) for part in self.rows))
        for place, part in enumerate(self.rows):
            design, weight = self.design[place], self.weight[place]
            leverage = weight * np.einsum("nd,nd->n", design @ spread[place], design)
            residual = self.targets[place] - design @ parameters[place]
            left_out[part] = residual / np.maximum(1 - leverage, 1e-10)
        return _Solution(parameters, beta, left_out)

    def _without_groups(
        self, parameters: np.ndarray, inverse: np.ndarray, shrinking: np.ndarray, system: np.ndarray
    ) -> np.ndarray:
        r"""Return the residual (n,) of each example by the solution without its group.

        That of a group g is :math:`(I - H_{gg})^{-1} (y_g - f_g)`, with

        .. math:: H_{ij} = w_j (x_i^\top \tilde P_t S^{-1} \tilde P_u^\top x_j + [t = u] \, x_i^\top P_t x_j)

        for example i of task t and j of task u: P is `inverse`, P̃ is `shrinking`, S is `system`.
        """
        count = sum(len(part) for part in self.rows)
        task, design = np.empty(count, np.intp), np.empty((count, self.first.shape[1]))
        weight, residual = np.empty(count), np.empty(count)
        common, own = np.empty_like(design), np.empty_like(design)
        for place, part in enumerate(self.rows):
            task[part], weight[part], design[part] = place, self.weight[place], self.design[place]
            common[part], own[part] = self.design[place] @ shrinking[place], self.design[place] @ inverse[place]
            residual[part] = self.targets[place] - self.design[place] @ parameters[place]
        shared = np.linalg.solve(system, common.T).T
        left_out = np.empty(count)
        for group in self.groups or ():
            same = task[group][:, None] == task[group]
            hat = common[group] @ shared[group].T + same * (own[group] @ design[group].T)
            left_out[group] = np.linalg.solve(np.eye(len(group)) - hat * weight[group], residual[group])
        return left_out

    def error(self, strengths: Sequence[float]) -> float:
        """Return the weighted mean squared error of examples left out."""
        left_out = self.solve(strengths).left_out
        weight = np.concatenate(self.weight)
        return float(weight @ np.square(left_out[np.concatenate(self.rows)]) / weight.sum())


def _parts(places: np.ndarray) -> list[np.ndarray]:
    """Return the examples of each group."""
    order = np.argsort(places, kind="stable")
    return np.split(order, np.cumsum(np.bincount(places))[:-1])


def _search(family: _Family, grids: list[list[float]]) -> tuple[list[float], list[dict[str, float]]]:
    """Return the strengths of least error, each chosen in turn over its grid until none changes, and all errors."""
    tried: dict[tuple[int, ...], float] = {}

    def error(at: tuple[int, ...]) -> float:
        if at not in tried:
            tried[at] = family.error([grid[place] for grid, place in zip(grids, at, strict=True)])
        return tried[at]

    best = tuple(len(grid) // 2 for grid in grids)
    if all(len(grid) == 1 for grid in grids):
        return [grid[0] for grid in grids], []
    while True:
        before = best
        for axis, grid in enumerate(grids):
            line = [(*best[:axis], place, *best[axis + 1 :]) for place in range(len(grid))]
            best = min(line, key=error)
        if best == before:
            break
    listed = [
        {**{name: grid[place] for name, grid, place in zip(_NAMES, grids, at, strict=True)}, "error": value}
        for at, value in tried.items()
    ]
    return [grid[place] for grid, place in zip(grids, best, strict=True)], listed


def _grid(name: str, values: Any) -> list[float]:
    listed = list(values) if isinstance(values, Sequence | np.ndarray) else [values]
    if not listed:
        raise RequestError(name, expected="a number, or some to choose from", found="none", remedy=f"Pass {name}=1.0.")
    return sorted({number(name, value, low=0, open_low=True) for value in listed})
