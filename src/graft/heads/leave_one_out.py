r"""Leave-one-out of every kernel or linear ridge regression in closed form, from one eigendecomposition for all
penalties.

Minimise over functions f of the kernel K, with an unpenalised intercept b,
:math:`\sum_i w_i (y_i - f(x_i) - b)^2 + \lambda \lVert f \rVert^2`. The dual coefficients and the intercept solve the
bordered system

.. math:: (K + \lambda W^{-1}) \alpha + 1 b = y, \qquad 1^T \alpha = 0 ,

so that :math:`\alpha = G y` with :math:`G = M - M 1 1^T M / (1^T M 1)`, :math:`M = (K + \lambda W^{-1})^{-1}`. Leaving
out the examples S, their residuals are (the inverse of a block of a matrix in terms of the block of its inverse)

.. math:: y_S - \hat y_S^{(-S)} = (G_{SS})^{-1} \alpha_S ,

for one example :math:`\alpha_i / G_{ii}`. With :math:`W^{1/2} K W^{1/2} = U \Lambda U^T`,
:math:`M = W^{1/2} [U ((\Lambda + \lambda)^{-1} - \lambda^{-1}) U^T + \lambda^{-1}] W^{1/2}`, where directions of no
eigenvalue need not be stored: the same formula serves a kernel of low rank. (Allen, 1974, for the linear case; Rifkin
and Lippert, 2007, section 3, for kernels.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graft.heads.training_set import symmetric_eigen


@dataclass(frozen=True)
class RidgeFamily:
    """Ridge regressions of one kernel, for any penalty.

    Attributes
    ----------
    vectors : ndarray (n, r)
        U.
    values : ndarray (r,)
        Λ, positive.
    weight : ndarray (n,)
        w.
    targets : ndarray (n, outputs)
        y.
    """

    vectors: np.ndarray
    values: np.ndarray
    weight: np.ndarray
    targets: np.ndarray

    @cached_property
    def _root(self) -> np.ndarray:
        return np.sqrt(self.weight).astype(self.vectors.dtype)

    @cached_property
    def _projected_targets(self) -> np.ndarray:
        """U' W^(1/2) [y, 1], (r, outputs + 1)."""
        return self.vectors.T @ self._weighted_targets

    @cached_property
    def _weighted_targets(self) -> np.ndarray:
        table = np.hstack([self.targets, np.ones((len(self.targets), 1))]).astype(self.vectors.dtype)
        return table * self._root[:, None]

    def solve(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the dual coefficients α (n, outputs) and the intercepts b (outputs,)."""
        both = self._inverse_times(penalty)
        image, ones = both[:, :-1].astype(np.float64), both[:, -1:].astype(np.float64)
        intercept = image.sum(axis=0) / ones.sum()
        return image - ones * intercept, intercept

    def leave_out_predictions(self, penalty: float, sets: np.ndarray) -> np.ndarray:
        """Return each example's prediction (n, outputs) without the examples of its set.

        Parameters
        ----------
        penalty : float
            λ.
        sets : ndarray (n,) of int
            Groups, or folds; -1 for examples that are not left out, whose predictions are NaN.
        """
        both = self._inverse_times(penalty).astype(np.float64)
        image, ones = both[:, :-1], both[:, -1]
        dual = image - ones[:, None] * (image.sum(axis=0) / ones.sum())
        edge = ones / np.sqrt(ones.sum())
        shrunk = self._shrinkage(penalty)
        residuals = np.full_like(dual, np.nan)
        for rows in _blocks(sets):
            if rows.shape[1] == len(sets):
                # Leaving out everything leaves nothing to predict with.
                residuals[rows] = self.targets[rows]
            elif rows.shape[1] == 1:
                at = rows[:, 0]
                diagonal = np.square(self.vectors[at]) @ shrunk.astype(self.vectors.dtype)
                block = (diagonal + 1 / penalty) * self.weight[at] - edge[at] ** 2
                residuals[at] = dual[at] / np.maximum(block, np.finfo(np.float64).tiny)[:, None]
            else:
                for part in rows if rows.shape[1] > 50 else [rows]:
                    stack = np.atleast_2d(part)
                    vectors = self.vectors[stack]
                    block = ((vectors * shrunk) @ vectors.transpose(0, 2, 1)).astype(np.float64)
                    block += np.eye(stack.shape[1]) / penalty
                    root = self._root[stack].astype(np.float64)
                    block *= root[:, :, None] * root[:, None, :]
                    block -= edge[stack][:, :, None] * edge[stack][:, None, :]
                    residuals[stack] = np.linalg.solve(block, dual[stack])
        return self.targets - residuals

    def _shrinkage(self, penalty: float) -> np.ndarray:
        return (1 / (self.values + penalty) - 1 / penalty).astype(self.vectors.dtype)

    def _inverse_times(self, penalty: float) -> np.ndarray:
        """Return M [y, 1], (n, outputs + 1)."""
        image = self.vectors @ (self._projected_targets * self._shrinkage(penalty)[:, None])
        image += self._weighted_targets / self.vectors.dtype.type(penalty)
        return image * self._root[:, None]


def _blocks(sets: np.ndarray) -> list[np.ndarray]:
    """Return the rows of the sets of each size, (sets, size); rows of set -1 are in none."""
    order = np.argsort(sets, kind="stable")[np.count_nonzero(sets < 0) :]
    _, starts, sizes = np.unique(sets[order], return_index=True, return_counts=True)
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def family_of_kernel(kernel: np.ndarray, weight: np.ndarray, targets: np.ndarray) -> RidgeFamily:
    """Return the family of a kernel matrix (n, n)."""
    root = np.sqrt(weight).astype(kernel.dtype)
    values, vectors = symmetric_eigen(kernel * root[:, None] * root[None, :])
    return RidgeFamily(vectors, np.maximum(values, 0), weight, targets)


def family_of_features(features: np.ndarray, weight: np.ndarray, targets: np.ndarray) -> RidgeFamily:
    """Return the family of the linear kernel of features (n, r), r ≤ n."""
    weighted = features * np.sqrt(weight).astype(features.dtype)[:, None]
    values, basis = symmetric_eigen(weighted.T @ weighted)
    keep = values > values[-1] * np.finfo(values.dtype).eps * max(features.shape)
    return RidgeFamily(weighted @ (basis[:, keep] / np.sqrt(values[keep])), values[keep], weight, targets)
