"""The geodesic flow kernel: inner products over all subspaces on the way from one domain to the other."""

from __future__ import annotations

from typing import final

import numpy as np

from graft.alignment.alignment import Alignment, DomainPair
from graft.alignment.subspaces import PrincipalAngles, principal_angles, principal_directions, shared_count


def flow_map(angles: PrincipalAngles) -> np.ndarray:
    r"""Return the map :math:`T` (d, 2k) with :math:`G = T T^T`, the geodesic flow kernel of two subspaces.

    On the geodesic :math:`\Phi(t) = A \cos(t\theta) + C \sin(t\theta)` between the subspaces (`PrincipalAngles`),
    Gong, Shi, Sha and Grauman (2012, equation 6) define

    .. math::
        G = \int_0^1 \Phi(t) \Phi(t)^T dt
          = \begin{bmatrix} A & C \end{bmatrix}
            \begin{bmatrix} \Lambda_1 & \Lambda_2 \\ \Lambda_2 & \Lambda_3 \end{bmatrix}
            \begin{bmatrix} A^T \\ C^T \end{bmatrix}

    with the diagonal matrices :math:`\lambda_{1,3} = \frac12 (1 \pm \frac{\sin 2\theta}{2\theta})` and
    :math:`\lambda_2 = \frac{1 - \cos 2\theta}{4\theta}`. (The paper writes :math:`C = -R_s U_2`, and leaves out the
    factor one half.) The root of the middle is closed form, too, because it falls into blocks of two: with determinant
    :math:`\delta^2` and trace 1, the root of a block :math:`M` is :math:`(M + \delta I) / \sqrt{1 + 2\delta}`.
    """
    theta = angles.angle
    # numpy's sinc(x) is sin(pi x) / (pi x), and 1 at 0.
    double = np.sinc(2 * theta / np.pi)
    single = np.sinc(theta / np.pi)
    staying, going = (1 + double) / 2, (1 - double) / 2
    mixed = np.sin(theta) * single / 2
    root = np.sqrt(np.maximum(1 - single**2, 0)) / 2
    scale = np.sqrt(1 + 2 * root)
    return np.concatenate(
        [
            (angles.start * (staying + root) + angles.leaving * mixed) / scale,
            (angles.start * mixed + angles.leaving * (going + root)) / scale,
        ],
        axis=1,
    )


@final
class GeodesicFlowKernel(Alignment):
    r"""Inner products averaged over the subspaces that lead from the source to the target.

    Both domains are centred, each by its own mean. Their first k principal directions span two points of the
    Grassmann manifold; every point t of the geodesic between them gives a projection :math:`\Phi(t)^T x`, and
    :math:`\langle x, z \rangle = x^T G z` with :math:`G = \int_0^1 \Phi(t) \Phi(t)^T dt` counts all of them (Gong, Shi,
    Sha and Grauman, "Geodesic flow kernel for unsupervised domain adaptation", 2012). The representation is
    :math:`T^T x` with :math:`T T^T = G` in 2k columns (`flow_map`), so that any classifier of inner products or
    distances can follow; the d x d matrix G is never formed to compute it.

    Parameters
    ----------
    n_components : int, optional
        k, at most the rank of either domain. None: the number on which the domains agree, by the paper's measure of
        subspace disagreement.

    Attributes
    ----------
    n_components_ : int
        k.
    angles_ : ndarray (k,)
        Principal angles between the domains, in radians.
    map_ : ndarray (d, 2k)
        T.
    source_mean_, target_mean_ : ndarray (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import GeodesicFlowKernel
    >>> source = np.random.default_rng(0).normal(size=(60, 5)) * [5, 4, 1, 0.1, 0.1]
    >>> turned = source[:, [0, 2, 1, 3, 4]]
    >>> flow = GeodesicFlowKernel(n_components=2).fit(source, target=turned)
    >>> np.degrees(flow.angles_).round().tolist()
    [0.0, 87.0]
    >>> flow.transform(turned).shape
    (60, 4)
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    @property
    def kernel_(self) -> np.ndarray:
        """G, (d, d)."""
        return self.map_ @ self.map_.T

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        self.source_mean_, self.target_mean_ = pair.source.mean(axis=0), pair.target.mean(axis=0)
        source, target = pair.source - self.source_mean_, pair.target - self.target_mean_
        count = shared_count(self.n_components, source, target)
        bases = principal_directions(source, count), principal_directions(target, count)
        self.n_components_ = min(basis.shape[1] for basis in bases)
        angles = principal_angles(bases[0][:, : self.n_components_], bases[1][:, : self.n_components_])
        self.angles_ = angles.angle
        self.map_ = flow_map(angles)
        return self.map_.shape[1]

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return (features - self.source_mean_) @ self.map_

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return (features - self.target_mean_) @ self.map_
