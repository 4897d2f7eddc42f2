"""Kernel mean matching: weights under which the source's mean in a kernel's feature space is the target's."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft._checks import number
from graft.errors import RequestError
from graft.importance.box_budget import BoxBudget, minimize
from graft.importance.domain_pair import domain_pair, gaussian, median_distance, squared_distances
from graft.importance.weights import Weights, weights_of


def kmm(
    source: Any,
    target: Any,
    *,
    bandwidth: float | None = None,
    upper: float = 1000.0,
    slack: float | None = None,
    ridge: float = 1.0,
    standardize: bool = True,
    tolerance: float = 1e-9,
) -> Weights:
    r"""Kernel mean matching.

    Minimises

    .. math:: \tfrac12 w^\top K w - \kappa^\top w + \tfrac{\rho}{2} \lVert w - 1 \rVert^2
        \quad\text{s.t.}\quad 0 \le w_i \le B,\; \lvert \textstyle\sum_i w_i - n_s \rvert \le n_s \epsilon

    with :math:`K_{ij} = k(x_i, x_j)` over the source and :math:`\kappa_i = \frac{n_s}{n_t} \sum_j k(x_i, z_j)` over
    source and target. (Huang, Smola, Gretton, Borgwardt and Schölkopf, 2007, equation 5.)

    The paper has no penalty (ρ = 0), and its weights then follow the noise of the sample: between Gaussians in one to
    64 dimensions, ρ = 1, the size of the kernel's own diagonal, divides the squared error of the weights by 2 to 80.
    The penalty pulls to one, so that identical samples get exactly flat weights.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    bandwidth : float, optional
        σ of the Gaussian kernel; by default the median distance.
    upper : float
        B, the largest weight.
    slack : float, optional
        ε; by default :math:`1/\sqrt{n_s}`, the order that the paper gives for it.
    ridge : float
        ρ, 1e-8 or more.
    standardize : bool
        Divide each column by its standard deviation.
    tolerance : float
        On the optimality residual of the solution.

    Returns
    -------
    Weights
        Without a ratio: the method weighs the given examples only.

    Raises
    ------
    DataError
        If a sample cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import kmm
    >>> draws = np.random.default_rng(0)
    >>> source, target = draws.normal(size=(200, 2)), draws.normal(1, 1, size=(200, 2))
    >>> weights = kmm(source, target)
    >>> bool(np.corrcoef(weights.sample_weight, source.sum(axis=1))[0, 1] > 0.5)
    True
    """
    number("ridge", ridge, low=1e-8)
    number("upper", upper, low=1)
    number("tolerance", tolerance, low=0, open_low=True)
    pair = domain_pair(source, target, standardize=standardize)
    rows, target_rows = pair.sizes
    slack = float(1 / np.sqrt(rows)) if slack is None else number("slack", slack, low=0, high=1)
    sigma = median_distance(pair) if bandwidth is None else number("bandwidth", bandwidth, low=0, open_low=True)
    quadratic = gaussian(squared_distances(pair.source, pair.source), sigma)
    if not np.isfinite(quadratic).all():
        raise RequestError(
            "bandwidth", expected="a width of the order of the distances", found=repr(sigma), remedy="Leave it out."
        )
    linear = gaussian(squared_distances(pair.source, pair.target), sigma).sum(axis=1) * (rows / target_rows) + ridge
    quadratic.flat[:: rows + 1] += ridge
    allowed = BoxBudget(upper, rows * (1 - slack), rows * (1 + slack))
    solution = minimize(quadratic, linear, allowed, tolerance=tolerance)
    parameters = {
        "bandwidth": sigma,
        "upper": upper,
        "slack": slack,
        "ridge": ridge,
        "residual": solution.residual,
        "rounds": solution.rounds,
    }
    return weights_of("kmm", solution.point, parameters)
