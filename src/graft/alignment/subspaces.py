"""Principal subspaces of a domain, the angles between two of them, and how many directions agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from graft._checks import integer

# An angle with a smaller sine (in radians, the same) is none: the direction stands in both subspaces.
_NO_ANGLE = 1e-7
# The most directions that are chosen unasked: where domains agree on more, more bridge nothing.
_MOST = 100


def positive_largest(directions: np.ndarray) -> np.ndarray:
    """Return the columns with the sign that makes each one's largest entry positive, so that results are determined."""
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    return directions * np.where(largest < 0, -1.0, 1.0)


def principal_directions(centred: np.ndarray, count: int) -> np.ndarray:
    """Return an orthonormal basis (d, k) of the directions of largest variance, largest first.

    At most `count` of them, and no more than the numerical rank: directions without variance are arbitrary.
    """
    rows, columns = centred.shape
    wide = columns > rows
    scatter = centred @ centred.T if wide else centred.T @ centred
    side = len(scatter)
    values, vectors = eigh(scatter, subset_by_index=(side - min(count, side), side - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    keep = values > max(values[0], 0.0) * np.finfo(np.float64).eps * max(rows, columns)
    vectors = vectors[:, keep]
    if wide:
        vectors = centred.T @ (vectors / np.sqrt(values[keep]))
        vectors /= np.linalg.norm(vectors, axis=0)
    return positive_largest(vectors)


@dataclass(frozen=True)
class PrincipalAngles:
    r"""Principal vectors and angles between two subspaces, spanned by orthonormal :math:`P_s` and :math:`P_t`.

    Attributes
    ----------
    start : ndarray (d, k)
        Principal vectors :math:`A` of the source subspace.
    leaving : ndarray (d, k)
        Unit vectors :math:`C` orthogonal to the source subspace, so that :math:`A \cos\theta + C \sin\theta` are the
        principal vectors of the target subspace; zero where the angle is.
    angle : ndarray (k,)
        :math:`\theta` in radians, ascending, from 0 to :math:`\pi/2`.
    """

    start: np.ndarray
    leaving: np.ndarray
    angle: np.ndarray


def principal_angles(source_basis: np.ndarray, target_basis: np.ndarray) -> PrincipalAngles:
    """Return the principal angles of two orthonormal bases (d, k), with small angles as exact as large ones.

    Björck and Golub (1973): the cosines are the singular values of the product of the bases; the sines come from what
    is left of the target's principal vectors outside the source subspace, because the arc cosine of a number near one
    loses half its digits.
    """
    left, cosines, right = np.linalg.svd(source_basis.T @ target_basis)
    start, end = source_basis @ left, target_basis @ right.T
    rest = end - start * cosines
    rest -= source_basis @ (source_basis.T @ rest)
    sines = np.linalg.norm(rest, axis=0)
    leaving = rest / np.where(sines > _NO_ANGLE, sines, np.inf)
    return PrincipalAngles(start, leaving, np.arctan2(sines, cosines))


def agreeing_directions(source: np.ndarray, target: np.ndarray) -> int:
    r"""Return how many principal directions two centred domains (n_s, d), (n_t, d) share, at most 100.

    The subspace disagreement measure of Gong, Shi, Sha and Grauman (2012, equation 9):
    :math:`D(k) = \frac12 (\sin\alpha_k + \sin\beta_k)` with the largest angles of the first k source and target
    directions to the first k directions of both domains together; the smallest k with :math:`D(k) = 1` is the number
    of directions of which each is still of use to the other. Where no k reaches 1 (within 1e-3), all are, as many as
    both domains have.
    """
    limit = min(*source.shape, *target.shape, _MOST)
    bases = [principal_directions(each, limit) for each in (source, target, np.concatenate([source, target]))]
    limit = min(basis.shape[1] for basis in bases)
    source_basis, target_basis, both = (basis[:, :limit] for basis in bases)
    to_source, to_target = source_basis.T @ both, target_basis.T @ both

    def disagreement(count: int) -> float:
        smallest = [np.linalg.svd(product[:count, :count], compute_uv=False)[-1] for product in (to_source, to_target)]
        return sum(np.sqrt(max(0.0, 1 - value**2)) for value in smallest) / 2

    for count in range(1, limit + 1):
        if disagreement(count) > 1 - 1e-3:
            return count
    return max(limit, 1)


def shared_count(requested: int | None, source: np.ndarray, target: np.ndarray) -> int:
    """Return the number of directions asked for, or that on which the centred domains agree."""
    if requested is not None:
        return integer("n_components", requested, low=1)
    return agreeing_directions(source, target)
