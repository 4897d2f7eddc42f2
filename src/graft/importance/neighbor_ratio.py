"""The ratio of densities from counts of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from graft._checks import integer
from graft.errors import RequestError
from graft.importance.domain_pair import Scaling, domain_pair, squared_distances
from graft.importance.weights import Ratio, Weights, weights_of

NEIGHBORS = (5, 10, 20, 40, 80, 160)
_ROWS = 512  # of distances held at a time


@final
@dataclass(frozen=True)
class NeighborRatio(Ratio):
    """The target's share within the distance of the k-th source neighbour, by the source's share k / n_source."""

    scaling: Scaling
    source: Any
    target: Any
    neighbors: int

    def __call__(self, points: Any) -> np.ndarray:
        table = self.scaling.place(points)
        (counts,) = _counts(table, self.source, self.target, [self.neighbors])
        return _ratios(counts, self.neighbors, self.source.shape[0], self.target.shape[0])


def neighbor_counts(
    source: Any,
    target: Any,
    *,
    neighbors: int | Sequence[int] = NEIGHBORS,
    standardize: bool = True,
) -> Weights:
    r"""The ratio :math:`r(x) = \frac{n_s}{n_t} \, \frac{1}{k} \, \#\{j : \lVert z_j - x \rVert \le R_k(x)\}`.

    R_k(x) is the distance of the k-th nearest source example, x itself counted where it is one. (Lima, Cunha, Oyaizu,
    Frieman, Lin and Sheldon, 2008, equation 8.) Among several k the one is taken that minimises
    :math:`\frac{1}{2 n_s} \sum_i r(x_i)^2 - \frac{1}{n_t} \sum_j r_{-j}(z_j)`, the least-squares score of a ratio (see
    `rulsif`), with each target example left out of its own count; the paper sets k by hand.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    neighbors : int or sequence of int
        k, or several to choose from; those above half the source are left out.
    standardize : bool
        Divide each column by its standard deviation.

    Returns
    -------
    Weights

    Raises
    ------
    DataError
        If a sample cannot be used, or no target example lies near any source example.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import neighbor_counts
    >>> draws = np.random.default_rng(0)
    >>> weights = neighbor_counts(draws.normal(size=(300, 1)), draws.normal(0.5, 1, size=(300, 1)), neighbors=30)
    >>> bool(weights.evaluate([[1.0]]) > weights.evaluate([[-1.0]]))
    True
    """
    pair = domain_pair(source, target, standardize=standardize)
    rows, target_rows = pair.sizes
    given = [neighbors] if isinstance(neighbors, int) else list(neighbors)
    if not given:
        raise RequestError("neighbors", expected="at least one number", found="none", remedy="Pass neighbors=20.")
    tried = sorted({integer("neighbors", k, low=1) for k in given})
    tried = [k for k in tried if k <= max(rows // 2, 1)] or [max(rows // 2, 1)]
    at_source = _counts(pair.source, pair.source, pair.target, [*tried, *(k + 1 for k in tried)])
    scores: list[float] = []
    if len(tried) > 1:
        at_target = _counts(pair.target, pair.source, pair.target, tried)
        # To be judged, an example of the source is left out too: of k others the nearest k + 1 of all.
        for k, near_source, near_target in zip(tried, at_source[len(tried) :], at_target, strict=True):
            ratio = _ratios(near_source, k, rows, target_rows)
            left_out = _ratios(near_target - 1, k, rows, max(target_rows - 1, 1))
            scores.append(float(0.5 * (ratio**2).mean() - left_out.mean()))
    chosen = int(np.argmin(scores)) if scores else 0
    values = _ratios(at_source[chosen], tried[chosen], rows, target_rows)
    parameters = {
        "neighbors": tried[chosen],
        "tried": [{"neighbors": k, "score": score} for k, score in zip(tried, scores, strict=False)],
    }
    ratio_of_points = NeighborRatio(pair.scaling, pair.source, pair.target, tried[chosen])
    return weights_of("nearest-neighbors", values, parameters, ratio=ratio_of_points)


def _ratios(counts: np.ndarray, neighbors: int, rows: int, target_rows: int) -> np.ndarray:
    return (counts / target_rows) / (neighbors / rows)


def _counts(points: Any, source: Any, target: Any, neighbors: list[int]) -> list[np.ndarray]:
    """Return for each k how many target examples lie within the distance of each point's k-th source example."""
    found = [np.empty(points.shape[0]) for _ in neighbors]
    places = [min(k, source.shape[0]) - 1 for k in neighbors]
    for start in range(0, points.shape[0], _ROWS):
        block = points[start : start + _ROWS]
        to_source = np.partition(squared_distances(block, source), places, axis=1)
        to_target = squared_distances(block, target)
        for counts, place in zip(found, places, strict=True):
            radius = to_source[:, place]
            # Equal distances differ by rounding: both domains' copies of one point must fall inside.
            limit = radius + 1e-9 * (radius + 1e-3)
            counts[start : start + _ROWS] = (to_target <= limit[:, None]).sum(axis=1)
    return found
