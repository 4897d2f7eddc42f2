"""Which source example goes to which target example: transport plans between two samples (solved by POT)."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import laplacian
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import kneighbors_graph

# Pivots of the network simplex and iterations of Sinkhorn's algorithm after which either stops unfinished.
_PIVOTS = 10_000_000
_SCALINGS = 2_000
# Sinkhorn's algorithm stops once the marginals are right to this (the Euclidean norm of what is missing).
_MARGINALS = 1e-6
# From this ratio of costs to entropy on, the scalings are computed as logarithms: exp(-200) is still far from zero.
_LOGARITHMS = 200.0
# Share of a target example's mass below which the class penalty grows no steeper.
_FLOOR = 1e-3


def squared_costs(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances (n_s, n_t), divided by their mean, so that options have no unit."""
    # By products of matrices, many times faster than by differences; centred, so that no digits are lost in them.
    center = target.mean(axis=0)
    costs = euclidean_distances(source - center, target - center, squared=True)
    mean = costs.mean()
    return costs / mean if mean > 0 else costs


def exact_plan(costs: np.ndarray) -> np.ndarray:
    r"""Return the plan (n_s, n_t) of least total cost, by the network simplex method.

    .. math::
        \min_{\gamma \ge 0} \; \langle \gamma, C \rangle \quad \text{with} \quad
        \gamma 1 = 1 / n_s, \; \gamma^T 1 = 1 / n_t
    """
    import ot

    return ot.emd(*_marginals(costs), costs, numItermax=_PIVOTS)


def entropic_plan(costs: np.ndarray, entropy: float) -> np.ndarray:
    r"""Return the plan (n_s, n_t) that minimises :math:`\langle \gamma, C \rangle - \epsilon H(\gamma)`.

    With :math:`H(\gamma) = -\sum \gamma_{ij} \log \gamma_{ij}` and the marginals of `exact_plan`, by Sinkhorn's
    algorithm (Cuturi, 2013).

    Parameters
    ----------
    costs : ndarray (n_s, n_t)
        C.
    entropy : float
        ε > 0, in the unit of the costs. As it goes to zero, the plan becomes the exact one (of those, where there are
        several, the most spread out).
    """
    import ot

    # A number added to a row or a column changes no plan, but large costs would vanish in exp(-C / ε).
    reduced = costs - costs.min(axis=1, keepdims=True)
    reduced -= reduced.min(axis=0, keepdims=True)
    plan = ot.sinkhorn(
        *_marginals(costs),
        reduced,
        entropy,
        method="sinkhorn" if reduced.max() < _LOGARITHMS * entropy else "sinkhorn_log",
        numItermax=_SCALINGS,
        stopThr=_MARGINALS,
        warn=False,
    )
    missing = max(np.abs(plan.sum(axis=axis) * costs.shape[1 - axis] - 1).max() for axis in (0, 1))
    if missing > 0.01:
        warnings.warn(
            f"Sinkhorn's algorithm stopped after {_SCALINGS} iterations with a marginal {missing:.1%} off; a larger "
            "entropy converges faster.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return plan


def class_plan(
    costs: np.ndarray, codes: np.ndarray, *, entropy: float, strength: float, iterations: int, floor: float = _FLOOR
) -> np.ndarray:
    r"""Return the entropic plan (n_s, n_t) in which target examples receive from few classes each.

    .. math::
        \min_\gamma \; \langle \gamma, C \rangle - \epsilon H(\gamma)
            + \frac{\eta}{n_t} \sum_j \sum_c \Bigl( n_t \sum_{i \in c} \gamma_{ij} \Bigr)^{1/2}

    Courty, Flamary and Tuia (2014, equation 5; 2017, section 4.2): the concave root is replaced by its tangent
    :math:`\frac12 (s + \delta)^{-1/2}` at the class shares s of the plan before, and Sinkhorn's algorithm run again.
    The factors :math:`n_t`, which make s a share of a target example's mass, are not in the paper: without them the
    strength would mean something else for every number of examples.

    Parameters
    ----------
    costs : ndarray (n_s, n_t)
    codes : ndarray (n_s,) of int
        Classes of the source examples, from 0.
    entropy, strength : float
        ε > 0 and η ≥ 0.
    iterations : int
        Plans after the first one, at most; fewer where the plan settles.
    floor : float
        δ.
    """
    indicators = np.eye(codes.max() + 1)[codes]
    plan = entropic_plan(costs, entropy)
    if strength == 0:
        return plan
    for _ in range(iterations):
        shares = indicators.T @ plan * costs.shape[1]
        slopes = 0.5 / np.sqrt(shares + floor)
        before, plan = plan, entropic_plan(costs + strength * slopes[codes], entropy)
        if np.abs(plan - before).sum() < 1e-6:
            break
    return plan


def neighborly_plan(
    source: np.ndarray, target: np.ndarray, *, strength: float, n_neighbors: int, iterations: int
) -> np.ndarray:
    r"""Return the plan (n_s, n_t) that keeps neighbours together on both sides.

    .. math::
        \min_\gamma \; \langle \gamma, C \rangle
            + \frac{\eta}{2 n_s} \operatorname{tr} \hat X_s^T L_s \hat X_s
            + \frac{\eta}{2 n_t} \operatorname{tr} \hat X_t^T L_t \hat X_t, \qquad
        \hat X_s = n_s \gamma X_t, \; \hat X_t = n_t \gamma^T X_s

    with the marginals of `exact_plan`, and the Laplacians L of the graphs of nearest neighbours, in which an edge
    counts one half from either end (Flamary, Courty, Tuia and Rakotomamonjy, 2014; Courty and others, 2017, section
    4.3); solved by conditional gradients. Inputs are divided by the root of the mean squared distance between the
    domains, as the costs C are by that mean, so that the strength η has no unit.
    """
    import ot

    rows, columns = len(source), len(target)
    costs = squared_costs(source, target)
    center = target.mean(axis=0)
    # The mean squared distance, from means alone.
    unit = np.sqrt(((source - center) ** 2).sum(axis=1).mean() + ((target - center) ** 2).sum(axis=1).mean()) or 1.0
    source, target = (source - center) / unit, (target - center) / unit
    # The images are n times the products with γ: n² / 2n is left of the factors.
    graphs = (
        strength * rows / 2 * _neighbor_laplacian(source, n_neighbors),
        strength * columns / 2 * _neighbor_laplacian(target, n_neighbors),
    )

    def roughness(plan: np.ndarray) -> float:
        images = plan @ target, plan.T @ source
        return sum(float((image * (graph @ image)).sum()) for graph, image in zip(graphs, images, strict=True))

    def slope(plan: np.ndarray) -> np.ndarray:
        return 2 * (graphs[0] @ (plan @ target)) @ target.T + 2 * source @ (graphs[1] @ (plan.T @ source)).T

    with warnings.catch_warnings():
        # It warns wherever the iterations asked for are used up.
        warnings.simplefilter("ignore", UserWarning)
        return ot.optim.cg(
            *_marginals(costs), costs, 1.0, roughness, slope, numItermax=iterations, numItermaxEmd=_PIVOTS
        )


def _neighbor_laplacian(examples: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    graph = kneighbors_graph(examples, min(n_neighbors, len(examples) - 1))
    return sparse.csr_matrix(laplacian((graph + graph.T) / 2))


def _marginals(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = costs.shape
    return np.full(rows, 1 / rows), np.full(columns, 1 / columns)
