"""Kernel least squares whose solution is smooth on a graph and has equal means on two domains, in closed form."""

from __future__ import annotations

from typing import final

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve, lu_factor, lu_solve

# Added to the diagonal of a system of landmarks, in units of its mean: two that are alike make it singular.
_JITTER = 1e-12


@final
class StructuralRisk:
    r"""The minimiser of a regularised squared loss, for a changing discrepancy of the domains.

    For scores :math:`f = K\beta` of all n examples (source and target), their Gram matrix K, the diagonal matrix E that
    marks the labelled examples, the indicators Y of their classes (rows of zeros elsewhere), the Laplacian L and a
    discrepancy :math:`M = V V^T`,

    .. math::
        \min_\beta \; \lVert E (Y - K \beta) \rVert_F^2 + \eta \operatorname{tr} \beta^T K \beta
            + \operatorname{tr} \beta^T K (\lambda M + \rho L) K \beta

    has the solution :math:`\beta = ((E + \lambda M + \rho L) K + \eta I)^{-1} E Y` (Wang and others, 2018, equations
    14 and 17). Only M changes from one iteration to the next, and its rank is one more than the number of classes:
    :math:`(E + \rho L) K + \eta I` is factored once, and M enters by the identity of Woodbury. This matrix is not
    symmetric; the symmetric forms of the same system first need products or inverses of dense matrices that cost more
    than the factorisation (n = 4,000 on one core: 1.5 s against more than 4 s).

    With m landmarks, :math:`f = K_{nm} \beta` has only their coefficients, and the minimum solves a symmetric positive
    definite system of their number:

    .. math::
        \bigl( K_{nm}^T (E + \lambda M + \rho L) K_{nm} + \eta K_{mm} \bigr) \beta = K_{nm}^T E Y

    Parameters
    ----------
    kernel : ndarray (n, n) or (n, m)
        Kernel values of all examples with each other, or with the landmarks.
    laplacian : sparse matrix (n, n)
        L.
    labelled : ndarray (n,) of bool
        The diagonal of E.
    indicators : ndarray (n, C)
        Y.
    shrinkage : float
        η > 0.
    smoothness : float
        ρ ≥ 0.
    landmarks : ndarray (m,) of int, optional
        Rows of the landmarks; None: every example has a coefficient.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        laplacian: sparse.csr_matrix,
        labelled: np.ndarray,
        indicators: np.ndarray,
        *,
        shrinkage: float,
        smoothness: float,
        landmarks: np.ndarray | None = None,
    ) -> None:
        self._kernel = kernel
        self._indicators = indicators
        self._all = landmarks is None
        penalty = sparse.diags(labelled.astype(np.float64)) + smoothness * laplacian
        if landmarks is None:
            # The transpose, K (E + ρL) + ηI, lies in memory as LAPACK wants the matrix itself.
            system = (penalty @ kernel).T
            system[np.diag_indices_from(system)] += shrinkage
            self._factors = lu_factor(system, overwrite_a=True, check_finite=False)
        else:
            system = kernel.T @ (penalty @ kernel)
            system += shrinkage * kernel[landmarks]
            system[np.diag_indices_from(system)] += _JITTER * np.trace(system) / len(system)
            self._factors = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        self._plain = self._plainly_solved(indicators * labelled[:, None])
        self._directions = np.zeros((len(kernel), 0))
        self._seen = self._answers = self._directions

    def discrepancy(self, directions: np.ndarray) -> StructuralRisk:
        """Set V (n, r), so that λM is V Vᵀ, and return this object."""
        self._directions = directions
        self._seen = self._kernel.T @ directions
        self._answers = self._plainly_solved(directions)
        return self

    def coefficients(self) -> np.ndarray:
        """Return β, (n, C) or (m, C)."""
        return self._corrected(self._plain)

    def left_out(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        r"""Return the score of each labelled example in `rows`, fitted without its own label, (r, C).

        The scores are linear in the indicators, :math:`f = H E Y` with :math:`H = K ((E + \lambda M + \rho L) K +
        \eta I)^{-1}`, so that leaving one label out gives :math:`(f_i - H_{ii} y_i) / (1 - H_{ii})`; the example itself
        stays, as one without a label.

        Parameters
        ----------
        scores : ndarray (n, C)
            Kβ.
        rows : ndarray (r,) of int
        """
        unit = np.zeros((len(self._kernel), len(rows)))
        unit[rows, np.arange(len(rows))] = 1
        leverage = np.einsum("ij,ji->i", self._kernel[rows], self._corrected(self._plainly_solved(unit)))
        leverage = np.clip(leverage, 0, 1 - 1e-9)[:, None]
        return (scores[rows] - leverage * self._indicators[rows]) / (1 - leverage)

    def _plainly_solved(self, right: np.ndarray) -> np.ndarray:
        if self._all:
            return lu_solve(self._factors, right, trans=1, check_finite=False)
        return cho_solve(self._factors, self._kernel.T @ right, check_finite=False)

    def _corrected(self, solved: np.ndarray) -> np.ndarray:
        """Return the solution with the discrepancy from the one without."""
        if not self._directions.shape[1]:
            return solved
        inner = self._seen.T @ self._answers
        inner[np.diag_indices_from(inner)] += 1
        return solved - self._answers @ np.linalg.solve(inner, self._seen.T @ solved)
