"""Moving the source onto the target at the least cost: optimal transport, of examples and of Gaussians."""

from __future__ import annotations

from typing import final

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.neighbors import NearestNeighbors

from graft._checks import integer, number, one_of
from graft.alignment.alignment import Alignment, DomainPair
from graft.alignment.joint_span import joint_span, widened, within
from graft.alignment.transport_plan import class_plan, entropic_plan, exact_plan, neighborly_plan, squared_costs

PLANS = ("exact", "entropic", "class", "laplacian")
# What it costs to take a labelled target example for one of another class, in multiples of the largest cost.
_OTHER_CLASS = 10.0
# Relative to the mean variance, what is added to covariances without shrinkage, so that they have inverses.
# More of it where there are not more examples than columns, and some directions have nothing else.
_LEAST_VARIANCE, _LEAST_OF_FEW = 1e-10, 1e-6


@final
class OptimalTransport(Alignment):
    r"""Moves every source example to where a transport plan sends its mass (Courty and others, 2017).

    The plan γ says how much of the mass of source example i goes to target example j, at the cost of their squared
    distance, divided by the mean of all. The image of a source example is the mean of what it is sent to (equation 12),

    .. math:: \hat x_i = \frac{\sum_j \gamma_{ij} x_j^t}{\sum_j \gamma_{ij}}

    and the image of any other source input x is displaced like its nearest source example i (Ferradans, Papadakis,
    Peyré and Aujol, 2014): :math:`x + \hat x_i - x_i`. Equal source examples share the mean of their images. Target
    inputs stay where they are: ``transform`` returns them unchanged.

    All mass is transported. Where the classes have other shares in the target than in the source, or the target lacks
    a class, some examples are therefore sent to another class. With ``plan="class"``, labelled target inputs receive
    from examples of their own class alone, as far as the marginals allow.

    Parameters
    ----------
    plan : {"exact", "entropic", "class", "laplacian"}
        "exact": the least cost (`exact_plan`); "entropic": smoothed by entropy, solved by Sinkhorn's algorithm
        (`entropic_plan`); "class": entropic, and each target example receives from few classes (`class_plan`);
        "laplacian": exact, and neighbours stay neighbours (`neighborly_plan`).
    entropy : float
        ε > 0 of "entropic" and "class", in units of the mean cost.
    strength : float
        η ≥ 0 of "class" and "laplacian".
    n_neighbors : int
        Neighbours in the graphs of "laplacian".
    iterations : int
        Of "class" and "laplacian", at most: fewer where the plan settles.

    Attributes
    ----------
    examples_ : ndarray (u, d)
        The different source examples.
    images_ : ndarray (u, d)
        Where they go.

    References
    ----------
    Courty, Flamary, Tuia and Rakotomamonjy (2017), Optimal transport for domain adaptation, IEEE Transactions on
    Pattern Analysis and Machine Intelligence 39 (9).

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import OptimalTransport
    >>> source = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> moved = OptimalTransport().fit(source, target=source[::-1] + 10)
    >>> moved.transform_source([[1.0, 0.0], [1.0, 0.1]]).tolist()
    [[11.0, 10.0], [11.0, 10.1]]
    """

    def __init__(
        self,
        plan: str = "exact",
        *,
        entropy: float = 0.05,
        strength: float = 0.1,
        n_neighbors: int = 3,
        iterations: int = 10,
    ) -> None:
        self.plan = plan
        self.entropy = entropy
        self.strength = strength
        self.n_neighbors = n_neighbors
        self.iterations = iterations

    @property
    def _needs_labels(self) -> bool:
        return self.plan == "class"

    def _solve(self, pair: DomainPair) -> int:
        plan = self._planned(pair)
        images = (plan / plan.sum(axis=1, keepdims=True)) @ pair.target
        self.examples_, place, copies = np.unique(pair.source, axis=0, return_inverse=True, return_counts=True)
        self.images_ = np.zeros_like(self.examples_)
        np.add.at(self.images_, place.ravel(), images)
        self.images_ /= copies[:, None]
        return pair.source.shape[1]

    def _planned(self, pair: DomainPair) -> np.ndarray:
        name = one_of("plan", self.plan, PLANS)
        entropy = number("entropy", self.entropy, low=0.0, open_low=True)
        strength = number("strength", self.strength, low=0.0)
        neighbors = integer("n_neighbors", self.n_neighbors, low=1)
        rounds = integer("iterations", self.iterations, low=1)
        if name == "laplacian":
            return neighborly_plan(
                pair.source, pair.target, strength=strength, n_neighbors=neighbors, iterations=rounds
            )
        costs = squared_costs(pair.source, pair.target)
        if name == "exact":
            return exact_plan(costs)
        if name == "entropic":
            return entropic_plan(costs, entropy)
        assert pair.source_codes is not None
        told = pair.target_codes >= 0
        others = told & (pair.source_codes[:, None] != pair.target_codes)
        costs[others] += _OTHER_CLASS * costs.max()
        return class_plan(costs, pair.source_codes, entropy=entropy, strength=strength, iterations=rounds)

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        search = NearestNeighbors(n_neighbors=1).fit(self.examples_)
        nearest = search.kneighbors(features, return_distance=False)[:, 0]
        return features + (self.images_ - self.examples_)[nearest]

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return features.copy()


@final
class LinearTransport(Alignment):
    r"""Moves the source by the optimal transport between Gaussians with the means and covariances of the domains.

    .. math::
        T(x) = m_t + A (x - m_s), \qquad
        A = \Sigma_s^{-1/2} \bigl( \Sigma_s^{1/2} \Sigma_t \Sigma_s^{1/2} \bigr)^{1/2} \Sigma_s^{-1/2}

    gives the source the target's mean and covariance (Knott and Smith, 1984), and of all affine maps that do is the one
    that moves it least, which CORAL's is not. Target inputs stay where they are: ``transform`` returns them unchanged.

    Parameters
    ----------
    shrinkage : float in [0, 1], optional
        Share s of the covariances that is replaced by a multiple of the identity with the same trace. None: chosen for
        each domain by Ledoit and Wolf (2004), closer to 0 the more examples there are.

    Attributes
    ----------
    matrix_ : ndarray (d, d)
        A, symmetric and positive definite.
    source_mean_, target_mean_ : ndarray (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import LinearTransport
    >>> source = np.random.default_rng(0).normal(size=(500, 2))
    >>> moved = LinearTransport(shrinkage=0.0).fit(source, target=source * [3, 1] + 5)
    >>> bool(np.allclose(moved.matrix_, np.diag([3, 1])))
    True
    """

    def __init__(self, *, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        import ot

        shrinkage = None if self.shrinkage is None else number("shrinkage", self.shrinkage, low=0.0, high=1.0)
        self.source_mean_, self.target_mean_ = pair.source.mean(axis=0), pair.target.mean(axis=0)
        centred = pair.source - self.source_mean_, pair.target - self.target_mean_
        basis, columns = joint_span(*centred), pair.source.shape[1]
        spreads, levels = zip(*(_covariance(rows, within(basis, rows), shrinkage) for rows in centred), strict=True)
        least = _LEAST_VARIANCE if min(map(len, centred)) > columns else _LEAST_OF_FEW
        least *= sum(np.square(rows).sum() / len(rows) for rows in centred) / (2 * columns) or 1.0
        for spread, level in zip(spreads, levels, strict=True):
            spread[np.diag_indices(len(spread))] += level + least
        nothing = np.zeros(len(spreads[0]))
        inner, _ = ot.gaussian.bures_wasserstein_mapping(nothing, nothing, *spreads)
        # Outside of the span each covariance is a multiple of the identity.
        outside = float(np.sqrt((levels[1] + least) / (levels[0] + least)))
        self.matrix_ = widened(basis, (inner + inner.T) / 2, outside)
        return columns

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return (features - self.source_mean_) @ self.matrix_ + self.target_mean_

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return features.copy()


def _covariance(centred: np.ndarray, inner: np.ndarray, shrinkage: float | None) -> tuple[np.ndarray, float]:
    """Return a shrunk covariance: what is no multiple of the identity, in `inner` coordinates, and that multiple."""
    if shrinkage is None:
        shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    rows, columns = centred.shape
    return (1 - shrinkage) * inner.T @ inner / rows, shrinkage * float(np.square(centred).sum()) / (rows * columns)
