"""CORAL: the source gets the target's mean and covariance."""

from __future__ import annotations

from typing import final

import numpy as np
from scipy.linalg import eigh

from graft._checks import number
from graft.alignment.alignment import Alignment, DomainPair
from graft.alignment.joint_span import joint_span, widened, within


@final
class CORAL(Alignment):
    r"""Gives the source the mean and the covariance of the target; the target stays as it is.

    Sun, Feng and Saenko, "Return of frustratingly easy domain adaptation" (2016, algorithm 1): with covariances
    :math:`C_s, C_t` (d, d), a source input x goes to

    .. math:: m_t + (x - m_s) (C_s + \lambda\tau I)^{-1/2} (C_t + \lambda\tau I)^{1/2}

    The paper has :math:`\lambda\tau = 1` for columns of variance one; here :math:`\tau` is the mean variance of a
    column over both domains, so that the result does not depend on the unit of the features. The paper takes means of
    zero for granted; the means are aligned here. With :math:`\lambda = 0` and a source of full rank, mean and
    covariance of the mapped source are the target's; directions in which the source does not vary stay at the mean.

    Parameters
    ----------
    shrinkage : float >= 0
        λ.

    Attributes
    ----------
    map_ : ndarray (d, d)
        What a centred source input is multiplied by.
    source_mean_, target_mean_ : ndarray (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import CORAL
    >>> draws = np.random.default_rng(0)
    >>> source, target = draws.normal(size=(200, 3)), draws.normal(size=(200, 3)) * [1, 5, 2] + 7
    >>> mapped = CORAL(shrinkage=0).fit_transform(source, target=target)
    >>> bool(np.allclose(np.cov(mapped.T), np.cov(target.T)) and np.allclose(mapped.mean(axis=0), target.mean(axis=0)))
    True
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        shrinkage = number("shrinkage", self.shrinkage, low=0.0)
        self.source_mean_, self.target_mean_ = pair.source.mean(axis=0), pair.target.mean(axis=0)
        if pair.target is pair.source:
            self.map_ = np.eye(pair.source.shape[1])
            return pair.source.shape[1]
        columns = pair.source.shape[1]
        centred = pair.source - self.source_mean_, pair.target - self.target_mean_
        basis = joint_span(*centred)
        source, target = (_covariance(within(basis, rows)) for rows in centred)
        added = shrinkage * (np.trace(source) + np.trace(target)) / (2 * columns)
        powers = [_Powers(covariance, added, columns) for covariance in (source, target)]
        # Outside of the span both covariances are what was added: its powers cancel.
        outside = 1.0 if all(one.keeps(added) for one in powers) else 0.0
        self.map_ = widened(basis, powers[0].of(-0.5) @ powers[1].of(0.5), outside)
        return columns

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return (features - self.source_mean_) @ self.map_ + self.target_mean_

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return features.copy()


def _covariance(centred: np.ndarray) -> np.ndarray:
    return centred.T @ centred / (len(centred) - 1)


class _Powers:
    """Powers of a covariance with `added` on its diagonal, zero where it has no variance."""

    def __init__(self, covariance: np.ndarray, added: float, columns: int) -> None:
        values, vectors = eigh(covariance)
        values = values + added
        self._least = max(values[-1], 0.0) * np.finfo(np.float64).eps * columns
        keep = values > self._least
        self._values, self._vectors = values[keep], vectors[:, keep]

    def keeps(self, variance: float) -> bool:
        """Return whether a variance is more than a rounding error."""
        return bool(variance > self._least)

    def of(self, exponent: float) -> np.ndarray:
        """Return one."""
        return self._vectors * self._values**exponent @ self._vectors.T
