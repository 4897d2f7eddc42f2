"""What the analyses of transfer components share: kernels, the row coordinates they give, and maps for new inputs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.linalg import eigh
from sklearn.metrics.pairwise import euclidean_distances

from graft._checks import integer, number, one_of
from graft.alignment.alignment import Alignment, DomainPair
from graft.alignment.spectral import ComponentProblem
from graft.alignment.subspaces import positive_largest

KERNELS = ("primal", "linear", "rbf")
# Rows of a kernel that are computed together: few enough to stay near the processor.
_TOGETHER = 512


@dataclass(frozen=True)
class Space:
    """Coordinates of the rows of both domains, and what turns weights on them into a map for any input.

    Attributes
    ----------
    problem : ComponentProblem
        Holds the coordinates (n_s + n_t, r), centred over all rows and with rows of mean squared norm one ("primal").
    to_inputs : ndarray (d, r) or None
        Coordinates are (x - mean) times this; None for a kernel that is no inner product of the inputs.
    scale : float
        Mean diagonal of the centred kernel.
    """

    problem: ComponentProblem
    to_inputs: np.ndarray | None
    scale: float


class ComponentAnalysis(Alignment):
    """Components of both domains together, linear in the inputs or in a kernel.

    Abstract: a method provides ``_solve``, which calls ``_space`` and then ``_adopt``.
    """

    n_components: int
    kernel: str
    gamma: float | None
    regularization: float
    mean_: np.ndarray
    map_: np.ndarray
    anchors_: np.ndarray | None
    gamma_: float | None

    @abstractmethod
    def _solve(self, pair: DomainPair) -> int:
        """Fit to checked domains."""

    @final
    def _space(self, pair: DomainPair) -> Space:
        integer("n_components", self.n_components, low=1)
        number("regularization", self.regularization, low=0.0, open_low=True)
        one_of("kernel", self.kernel, KERNELS)
        rows = np.concatenate([pair.source, pair.target])
        self.mean_ = rows.mean(axis=0)
        self.anchors_, self.gamma_ = None, None
        if self.kernel == "rbf":
            return self._radial_space(rows)
        rows = rows - self.mean_
        scale = _positive(np.einsum("ij,ij->", rows, rows) / len(rows))
        coordinates = rows / np.sqrt(scale)
        if self.kernel == "primal" and rows.shape[1] <= len(rows):
            return Space(ComponentProblem(coordinates), np.eye(rows.shape[1]) / np.sqrt(scale), scale)
        # In the eigenbasis of the rows: F = U S for weights on the inputs, F = U S^2 for weights on the rows.
        basis, singular = _right_singular(coordinates)
        if self.kernel == "linear":
            basis = basis * singular
        return Space(ComponentProblem(coordinates @ basis), basis / np.sqrt(scale), scale)

    def _radial_space(self, rows: np.ndarray) -> Space:
        squared = euclidean_distances(rows, squared=True)
        if self.gamma is None:
            # The diagonal's zeros come first: the median of the others.
            middle = len(rows) + (squared.size - len(rows)) // 2
            self.gamma_ = 1 / _positive(np.partition(squared, middle, axis=None)[middle])
        else:
            self.gamma_ = number("gamma", self.gamma, low=0.0, open_low=True)
        squared *= -self.gamma_
        kernel = np.exp(squared, out=squared)
        columns = kernel.mean(axis=0)
        scale = _positive(1 - columns.mean())
        kernel /= scale
        kernel -= columns / scale
        kernel -= (columns[:, None] - columns.mean()) / scale
        self.anchors_, self.mean_ = rows, columns
        return Space(ComponentProblem(kernel), None, scale)

    @final
    def _adopt(self, space: Space, components: np.ndarray) -> int:
        """Take over the weights (r, k) on the coordinates as the map for inputs; return k."""
        if space.to_inputs is not None:
            self.map_ = positive_largest(space.to_inputs @ components)
        else:
            # Centring of new rows of the kernel, carried over to the weights: K H W = (H K H) W up to a constant.
            weights = components / space.scale
            self.map_ = positive_largest(weights - weights.mean(axis=0))
        return self.map_.shape[1]

    @final
    def _represented(self, features: np.ndarray) -> np.ndarray:
        if self.anchors_ is None:
            return (features - self.mean_) @ self.map_
        assert self.gamma_ is not None
        represented = np.empty((len(features), self.map_.shape[1]))
        for begin in range(0, len(features), _TOGETHER):
            rows = slice(begin, begin + _TOGETHER)
            kernel = euclidean_distances(features[rows], self.anchors_, squared=True)
            kernel *= -self.gamma_
            represented[rows] = np.exp(kernel, out=kernel) @ self.map_
        return represented - self.mean_ @ self.map_

    @final
    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return self._represented(features)

    @final
    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return self._represented(features)


def marginal_contrast(pair: DomainPair) -> np.ndarray:
    """Return e (n,), 1/n_s in the source and -1/n_t in the target: the difference of the means is e'F."""
    n_s, n_t = len(pair.source), len(pair.target)
    return np.concatenate([np.full(n_s, 1 / n_s), np.full(n_t, -1 / n_t)])


def _right_singular(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return right singular vectors (d, r) and singular values (r,), with those of rounding errors left out."""
    wide = rows.shape[1] > rows.shape[0]
    values, vectors = eigh(rows @ rows.T if wide else rows.T @ rows)
    keep = values > max(values[-1], 0.0) * np.finfo(np.float64).eps * max(rows.shape)
    keep[-1] = True
    singular = np.sqrt(np.maximum(values[keep], 0.0))
    if not wide:
        return vectors[:, keep], singular
    return rows.T @ (vectors[:, keep] / np.where(singular > 0, singular, 1.0)), singular


def _positive(value: float) -> float:
    """Return a scale; one where nothing varies, so that everything stays at zero."""
    return float(value) if value > 0 else 1.0
