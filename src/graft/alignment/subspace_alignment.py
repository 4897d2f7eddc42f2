"""Subspace alignment: the source's principal directions are turned towards the target's."""

from __future__ import annotations

from typing import final

import numpy as np

from graft.alignment.alignment import Alignment, DomainPair
from graft.alignment.subspaces import principal_directions, shared_count


@final
class SubspaceAlignment(Alignment):
    r"""Turns the principal subspace of the source towards that of the target.

    Fernando, Habrard, Sebban and Tuytelaars, "Unsupervised visual domain adaptation using subspace alignment" (2013,
    equations 1 to 4): with the first k principal directions :math:`P_s, P_t` (d, k) of the centred domains, the matrix
    :math:`M = P_s^T P_t` minimises :math:`\lVert P_s M - P_t \rVert_F`. A target input goes to
    :math:`(x - m_t) P_t`, a source input to :math:`(x - m_s) P_s P_s^T P_t`.

    Parameters
    ----------
    n_components : int, optional
        k, at most the rank of either domain. None: the number on which the domains agree, by the measure of subspace
        disagreement of Gong, Shi, Sha and Grauman (2012).

    Attributes
    ----------
    n_components_ : int
        k.
    source_map_, target_map_ : ndarray (d, k)
    source_mean_, target_mean_ : ndarray (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import SubspaceAlignment
    >>> source = np.random.default_rng(0).normal(size=(60, 4)) * [5, 3, 1, 1]
    >>> aligned = SubspaceAlignment(n_components=2).fit(source, target=source * [1, 1, 0.1, 0.1] + 3)
    >>> aligned.transform_source(source).shape
    (60, 2)
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        self.source_mean_, self.target_mean_ = pair.source.mean(axis=0), pair.target.mean(axis=0)
        source, target = pair.source - self.source_mean_, pair.target - self.target_mean_
        count = shared_count(self.n_components, source, target)
        source_basis, target_basis = principal_directions(source, count), principal_directions(target, count)
        self.n_components_ = min(source_basis.shape[1], target_basis.shape[1])
        source_basis, self.target_map_ = source_basis[:, : self.n_components_], target_basis[:, : self.n_components_]
        self.source_map_ = source_basis @ (source_basis.T @ self.target_map_)
        return self.n_components_

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return (features - self.source_mean_) @ self.source_map_

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return (features - self.target_mean_) @ self.target_map_
