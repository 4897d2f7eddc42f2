"""Linear discriminant analysis with a shrunken covariance, for fewer examples than features, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from graft.heads.classifier_head import ClassifierHead, Outcome
from graft.heads.scores import best, classification_scores
from graft.heads.table import Table
from graft.heads.training_set import TrainingSet, symmetric_eigen

SHRINKAGES: tuple[float | str, ...] = ("ledoit-wolf", 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)


@final
class ShrinkageDiscriminant(ClassifierHead):
    r"""Gaussian classes with one shrunken covariance; the shrinkage is chosen by closed-form leave-one-out.

    With class means m, within-class scatter :math:`W = \sum_i w_i (x_i - m_{y_i})(x_i - m_{y_i})^T`, total weight n
    and :math:`\mu = \mathrm{tr} W / (n d)`, the covariance is :math:`S = (1 - a) W / n + a \mu I` and the logits are
    :math:`m_k^T S^{-1} x - \frac12 m_k^T S^{-1} m_k + \log \pi_k`. Ledoit and Wolf's (2004) a is one of the candidates.

    *Leave-one-out.* Up to the factor :math:`1 - a`, S is :math:`(W + \rho I) / n` with
    :math:`\rho = n a \mu / (1 - a)`. Without example i (weight w, class k of weight :math:`n_k`) the mean moves to
    :math:`m_k - \frac{w}{n_k - w} r`, with the residual :math:`r = x_i - m_k`, and the scatter to
    :math:`W - \frac{w n_k}{n_k - w} r r^T`: a change of rank one, whose inverse the Sherman-Morrison formula gives. At
    fixed ρ the result is exact.

    Parameters
    ----------
    shrinkages : sequence of float in (0, 1] or "ledoit-wolf"
        The values of a to try.
    scaling, class_weight, calibrate, random_state
        As in `graft.heads.LogisticPath`.

    Attributes
    ----------
    classes_ : ndarray (K,)
    coef_ : ndarray (K, d)
        For the features as given.
    intercept_ : ndarray (K,)
    shrinkage_ : float
        The chosen a.
    ridge_ : float
        ρ.
    temperature_ : float
    out_of_fold_ : ndarray (n, K) or None
        Logits without the example's fold, at the ρ chosen by leave-one-out.
    selection_ : dict

    Examples
    --------
    >>> import numpy as np
    >>> from graft.heads import ShrinkageDiscriminant
    >>> X = np.random.default_rng(0).normal(size=(12, 100))
    >>> X[:, :3] += 8 * np.repeat(np.eye(3), 4, axis=0)
    >>> ShrinkageDiscriminant().fit(X, np.repeat(["a", "b", "c"], 4)).predict(X[::4]).tolist()
    ['a', 'b', 'c']
    """

    def __init__(
        self,
        *,
        shrinkages: Sequence[float | str] = SHRINKAGES,
        scaling: str = "auto",
        class_weight: dict | str | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.shrinkages = shrinkages
        self.scaling = scaling
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.random_state = random_state

    def _solve(self, training: TrainingSet) -> Outcome:
        training.dense  # noqa: B018 (refuses a sparse table that is too large)
        spectrum = training.spectrum
        assert spectrum is not None
        assert training.codes is not None
        coordinates, weight, codes = spectrum.coordinates, training.weight, training.codes
        class_weights = np.bincount(codes, weights=weight, minlength=training.classes)
        indicators = np.zeros((training.rows, training.classes))
        indicators[np.arange(training.rows), codes] = weight
        precision = coordinates.dtype
        means = ((indicators.T.astype(precision) @ coordinates) / class_weights[:, None]).astype(precision)
        residuals = coordinates - means[codes]
        total = weight.sum()
        rooted = residuals * np.sqrt(weight).astype(precision)[:, None]
        values, basis = symmetric_eigen(rooted.T @ rooted)
        values = np.maximum(values.astype(np.float64), 0)
        columns = training.features.shape[1]
        spread = values.sum() / (total * columns)
        if spread <= 1e-12:
            # One example per class (or copies of it): no scatter to shrink. The identity remains: the nearest mean,
            # in the scaled features.
            candidates = [(1.0, total, 1.0)]
        else:
            candidates = []
            for shrinkage in self.shrinkages:
                amount = ledoit_wolf(residuals, weight, columns) if shrinkage == "ledoit-wolf" else float(shrinkage)
                amount = min(max(amount, 1e-3), 0.999)
                candidates.append((amount, total * amount * spread / (1 - amount), 1 / (1 - amount)))
        geometry = Geometry(residuals @ basis, means @ basis, values, codes, weight, class_weights)
        held_out = training.can_cross_validate
        left_out = (
            [geometry.leave_out(ridge, training.groups, gain=gain) for _, ridge, gain in candidates] if held_out else []
        )
        scores = []
        for logits in left_out:
            logits[~training.held_out] = np.nan
            scores.append(classification_scores(logits, training))
        chosen = best(scores) if scores else len(candidates) // 2
        self.shrinkage_, self.ridge_, gain = (float(value) for value in candidates[chosen])
        directions = gain * total * (means @ basis) / (values + self.ridge_)
        offsets = -0.5 * np.einsum("kr,kr->k", directions, means @ basis) + np.log(class_weights / total)
        coefficients = (spectrum.basis @ (basis @ directions.T)) / training.scale[:, None]
        self.coef_ = np.ascontiguousarray(coefficients.T)
        self.intercept_ = offsets - training.location @ coefficients
        tried = [
            {"shrinkage": candidates[at][0], "named": str(self.shrinkages[at]), **score}
            for at, score in enumerate(scores)
            if spread > 1e-12
        ]
        out_of_fold = _without_folds(coordinates, training, self.ridge_, gain) if left_out else None
        return Outcome(out_of_fold, {"shrinkage": self.shrinkage_, "tried": tried})

    def _logits(self, features: Table) -> np.ndarray:
        return np.asarray(features @ self.coef_.T) + self.intercept_


def ledoit_wolf(residuals: np.ndarray, weight: np.ndarray, columns: int) -> float:
    r"""Return Ledoit and Wolf's (2004, lemmas 3.2 to 3.5) shrinkage of the covariance of centred residuals r (n, r)
    with weights w (n,).

    With :math:`S = \sum_i w_i r_i r_i^T / n`, n the total weight and :math:`\mu = \mathrm{tr} S / d`:
    :math:`\delta^2 = \lVert S \rVert^2 - d \mu^2`,
    :math:`\beta^2 = (\sum_i w_i \lVert r_i \rVert^4 / n - \lVert S \rVert^2) / n`, and the shrinkage is
    :math:`\min(\beta^2, \delta^2) / \delta^2`. `columns` is d: the residuals may be coordinates in the span of the
    features.
    """
    total = weight.sum()
    rooted = residuals * np.sqrt(weight).astype(residuals.dtype)[:, None]
    small = rooted @ rooted.T if len(rooted) < rooted.shape[1] else rooted.T @ rooted
    square = float((small**2).sum()) / total**2
    squared_norms = np.einsum("ir,ir->i", residuals, residuals)
    distance = square - (float(weight @ squared_norms) / total) ** 2 / columns
    noise = (float(weight @ squared_norms**2) / total - square) / total
    return min(max(noise, 0.0), distance) / distance if distance > 0 else 1.0


def _without_folds(coordinates: np.ndarray, training: TrainingSet, ridge: float, gain: float) -> np.ndarray:
    """Return the logits (n, K) of each example from those outside its fold, at the ridge ρ; NaN without a fold."""
    codes, weight = training.codes, training.weight
    assert codes is not None
    logits = np.full((training.rows, training.classes), np.nan)
    for fold in np.unique(training.fold[training.held_out]):
        inside = training.fold != fold
        own_codes, own_weight = codes[inside], weight[inside]
        class_weights = np.bincount(own_codes, weights=own_weight, minlength=training.classes)
        indicators = np.zeros((len(own_codes), training.classes))
        indicators[np.arange(len(own_codes)), own_codes] = own_weight
        means = (indicators.T @ coordinates[inside]) / class_weights[:, None]
        rooted = ((coordinates[inside] - means[own_codes]) * np.sqrt(own_weight)[:, None]).astype(
            training.features.dtype
        )
        scatter = rooted.T @ rooted
        scatter[np.diag_indices_from(scatter)] += ridge
        directions = gain * own_weight.sum() * _solve_positive(scatter, means.T)
        offsets = np.log(class_weights / class_weights.sum()) - 0.5 * np.einsum("kr,rk->k", means, directions)
        logits[~inside] = coordinates[~inside] @ directions + offsets
    return logits


def _solve_positive(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the solution of a symmetric positive system by Cholesky (in torch: several times NumPy's speed)."""
    import torch

    factor = torch.linalg.cholesky(torch.from_numpy(matrix))
    return torch.cholesky_solve(torch.from_numpy(right).to(factor.dtype), factor).numpy().astype(np.float64)


@dataclass(frozen=True)
class Geometry:
    """The classes in the eigenbasis of the within-class scatter.

    Attributes
    ----------
    residuals : ndarray (n, r)
        Of each example from its class mean.
    means : ndarray (K, r)
    values : ndarray (r,)
        Eigenvalues of the scatter.
    codes : ndarray (n,)
    weight : ndarray (n,)
    class_weights : ndarray (K,)
        Total weight of each class.
    """

    residuals: np.ndarray
    means: np.ndarray
    values: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    class_weights: np.ndarray

    def leave_out(self, ridge: float, groups: np.ndarray, *, gain: float = 1.0) -> np.ndarray:
        """Return the logits (n, K) of each example without the examples of its group.

        Parameters
        ----------
        ridge : float
            ρ.
        groups : ndarray (n,) of int
            Examples of one group are left out together.
        gain : float
            Factor of the inverse covariance, 1 / (1 - a).
        """
        inverse = (1 / (self.values + ridge)).astype(self.means.dtype)
        logits = self._leave_one_out(inverse, gain)
        _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(sizes)
        for group in np.flatnonzero(sizes > 1):
            rows = order[ends[group] - sizes[group] : ends[group]]
            logits[rows] = self._leave_group_out(rows, inverse, gain)
        return logits

    def _leave_one_out(self, inverse: np.ndarray, gain: float) -> np.ndarray:
        rows = np.arange(len(self.codes))
        weight, own = self.weight, self.class_weights[self.codes]
        # The only example of a class has no class left: its row is not used, its division must not fail.
        left = np.where(own - weight > 1e-9 * own, own - weight, np.inf)
        scaled_means = self.means * inverse
        along = (self.residuals @ scaled_means.T).astype(np.float64)
        squares = np.einsum("kr,kr->k", scaled_means, self.means)
        own_square = (np.square(self.residuals) @ inverse).astype(np.float64)
        point = along + (scaled_means @ self.means.T)[self.codes]
        residual_point = own_square + along[rows, self.codes]
        shift = weight / left
        removed = weight * own / left
        factor = (removed / np.maximum(1 - removed * own_square, 1e-12))[:, None]
        quadratic = np.repeat(squares[None, :], len(rows), axis=0)
        quadratic[rows, self.codes] += -2 * shift * along[rows, self.codes] + shift**2 * own_square
        point[rows, self.codes] -= shift * residual_point
        along[rows, self.codes] -= shift * own_square
        total = self.class_weights.sum() - weight
        logits = point + factor * along * residual_point[:, None] - 0.5 * (quadratic + factor * along**2)
        return gain * logits * total[:, None] + self._log_priors(rows[:, None])

    def _leave_group_out(self, rows: np.ndarray, inverse: np.ndarray, gain: float) -> np.ndarray:
        means = self.means.copy()
        downdates = [self.residuals[rows] * np.sqrt(self.weight[rows])[:, None]]
        for code in np.unique(self.codes[rows]):
            own = rows[self.codes[rows] == code]
            left = self.class_weights[code] - self.weight[own].sum()
            if left <= 1e-9 * self.class_weights[code]:
                continue
            moved = self.weight[own] @ self.residuals[own]
            means[code] -= moved / left
            downdates.append(moved[None, :] / np.sqrt(left))
        update = np.vstack(downdates)
        scaled = update * inverse
        core = np.linalg.pinv(np.eye(len(update)) - scaled @ update.T, hermitian=True)
        points = self.means[self.codes[rows]] + self.residuals[rows]
        mean_update, point_update = means @ scaled.T, points @ scaled.T
        cross = (points * inverse) @ means.T + point_update @ core @ mean_update.T
        squares = np.einsum("kr,r,kr->k", means, inverse, means, optimize=True)
        squares += np.einsum("kq,qp,kp->k", mean_update, core, mean_update, optimize=True)
        total = self.class_weights.sum() - self.weight[rows].sum()
        return gain * total * (cross - 0.5 * squares) + self._log_priors(rows[None, :])[:1]

    def _log_priors(self, sets: np.ndarray) -> np.ndarray:
        """Return log class shares without each set of rows, (sets, K)."""
        left = np.repeat(self.class_weights[None, :], len(sets), axis=0)
        for column in sets.T:
            left[np.arange(len(sets)), self.codes[column]] -= self.weight[column]
        return np.log(np.maximum(left, 1e-12) / left.sum(axis=1, keepdims=True))
