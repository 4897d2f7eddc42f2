"""Transfer component analysis: directions of large variance in which the domains have one mean."""

from __future__ import annotations

from typing import final

import numpy as np

from graft.alignment.alignment import DomainPair
from graft.alignment.component_analysis import ComponentAnalysis, marginal_contrast


@final
class TransferComponentAnalysis(ComponentAnalysis):
    r"""Components with large variance in which the maximum mean discrepancy between the domains is small.

    Pan, Tsang, Kwok and Yang, "Domain adaptation via transfer component analysis" (2011, equations 5 to 7): with the
    kernel :math:`K` (n, n) of all :math:`n = n_s + n_t` inputs, the centring :math:`H` and
    :math:`L = e e^T / \lVert e \rVert^2`, :math:`e_i = 1/n_s` in the source and :math:`-1/n_t` in the target,

    .. math:: \max_W \operatorname{tr} W^T K H K W \quad\text{subject to}\quad W^T (K L K + \mu I) W = I,

    the components are :math:`K W`. ``kernel="primal"`` is the same with weights on the inputs (Long, Wang, Ding, Sun
    and Yu, 2013), :math:`\max \operatorname{tr} A^T X^T H X A` subject to :math:`A^T (X^T L X + \mu I) A = I`, in d
    instead of n dimensions. The kernel is centred and divided by its mean diagonal, so that μ has no unit; L has norm 1
    as in the code of Long et al. (the paper's L leaves it at :math:`1/n_s + 1/n_t`, which makes μ depend on the number
    of inputs).

    Nothing of size n x n is decomposed: see `ComponentProblem`.

    Parameters
    ----------
    n_components : int
        At most the rank.
    kernel : {"primal", "linear", "rbf"}
        ``"linear"`` and ``"rbf"`` put weights on the n inputs, and regularise these.
    gamma : float, optional
        Of :math:`\exp(-\gamma \lVert x - z \rVert^2)`. None: the inverse median of the squared distances.
    regularization : float > 0
        μ.

    Attributes
    ----------
    map_ : ndarray (d, k) or (n, k)
        Weights on the inputs, or on the kernel with each of the `anchors_`.
    eigenvalues_ : ndarray (k,)
        Variance of each component beside its constraint, descending.
    mean_ : ndarray
    anchors_ : ndarray (n, d) or None
    gamma_ : float or None

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import TransferComponentAnalysis
    >>> draws = np.random.default_rng(0)
    >>> source = draws.normal(size=(100, 3)) * [1, 3, 1]
    >>> target = draws.normal(size=(100, 3)) * [1, 3, 1] + [9, 0, 0]
    >>> components = TransferComponentAnalysis(n_components=1).fit(source, target=target)
    >>> np.abs(components.map_ / np.abs(components.map_).max()).round(1).ravel().tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        *,
        n_components: int = 50,
        kernel: str = "primal",
        gamma: float | None = None,
        regularization: float = 1.0,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.regularization = regularization

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        space = self._space(pair)
        contrast = marginal_contrast(pair)
        components, self.eigenvalues_ = space.problem.solve(
            contrast[:, None] / np.linalg.norm(contrast), ridge=self.regularization, count=self.n_components
        )
        return self._adopt(space, components)
