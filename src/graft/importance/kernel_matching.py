"""Kernel mean matching: weights under which the source's mean in a kernel's feature space is the target's."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from graft._checks import number
from graft.errors import RequestError
from graft.importance.box_budget import BoxBudget, Quadratic, minimize
from graft.importance.domain_pair import DomainPair, domain_pair, median_distance, squared_norms
from graft.importance.single_precision import products
from graft.importance.weights import Weights, weights_of

_BLOCK = 256  # rows of the kernel at a time
# Single precision holds the exponents to 1e-4 up to this squared norm in bandwidths, and the solution to 1e-6 with
# such a ridge; what is farther, or asked for more exactly, is computed in double.
_SINGLE_REACH = 500.0
_SINGLE_RIDGE = 0.1
_SINGLE_TOLERANCE = 1e-5


def kmm(
    source: Any,
    target: Any,
    *,
    bandwidth: float | None = None,
    upper: float = 1000.0,
    slack: float | None = None,
    ridge: float = 1.0,
    standardize: bool = True,
    tolerance: float = 1e-5,
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
        On the largest entry of :math:`w - P(w - \nabla)`, P the projection on the constraints, ∇ the gradient; weights
        have mean one. From 1e-5 on, and with a ridge of 0.1 or more, kernels are held in single precision.

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
    rows, _ = pair.sizes
    slack = float(1 / np.sqrt(rows)) if slack is None else number("slack", slack, low=0, high=1)
    sigma = median_distance(pair) if bandwidth is None else number("bandwidth", bandwidth, low=0, open_low=True)
    reach = max(float(squared_norms(table).max()) for table in (pair.source, pair.target)) / sigma**2
    if not np.isfinite(reach):
        raise RequestError(
            "bandwidth", expected="a width of the order of the distances", found=repr(sigma), remedy="Leave it out."
        )
    single = reach <= _SINGLE_REACH and ridge >= _SINGLE_RIDGE and tolerance >= _SINGLE_TOLERANCE
    kernel, excess = _kernel_and_excess(pair, sigma, np.float32 if single else np.float64)
    kernel.matrix.flat[:: rows + 1] += ridge
    # In v = w - 1: the ridge and whatever both domains share drop out of the linear term before anything is rounded.
    allowed = BoxBudget(upper - 1, -rows * slack, rows * slack, lower=-1.0)
    solution = minimize(kernel, excess, allowed, tolerance=tolerance)
    parameters = {
        "bandwidth": sigma,
        "upper": upper,
        "slack": slack,
        "ridge": ridge,
        "residual": solution.residual,
        "rounds": solution.rounds,
    }
    return weights_of("kmm", solution.point + 1, parameters)


def _kernel_and_excess(pair: DomainPair, sigma: float, dtype: type) -> tuple[Quadratic, np.ndarray]:
    """Return K (n_source, n_source) and κ - K 1 (n_source,), summed in double precision.

    The exponents come from one product: of [x, -|x|²/2, 1] and [z, 1, -|z|²/2], z from the source, then the target.
    """
    rows, target_rows = pair.sizes
    left, right = _exponent_factors(pair.source, sigma, dtype)
    _, seen = _exponent_factors(pair.target, sigma, dtype)
    stack = scipy.sparse.vstack if scipy.sparse.issparse(seen) else np.concatenate
    both = stack([right, seen])
    multiply = products(left, both)
    kernel: np.ndarray = np.empty((rows, rows), dtype=dtype)
    totals, excess = np.empty(rows), np.empty(rows)
    for start in range(0, rows, _BLOCK):
        block, after = slice(start, start + _BLOCK), start + _BLOCK
        # Left of the diagonal the kernel is known by symmetry.
        part = multiply(left[block], both[start:])
        part = np.exp(part, out=part)
        own, across = part[:, : rows - start], part[:, rows - start :]
        kernel[block, start:] = own
        kernel[after:, block] = own[:, _BLOCK:].T
        excess[block] = across.sum(axis=1, dtype=np.float64) * (rows / target_rows)
        totals[block] = kernel[block].sum(axis=1, dtype=np.float64)
    common = float(totals.mean()) / rows
    kernel -= common
    return Quadratic(kernel, common), excess - totals


def _exponent_factors(table: Any, sigma: float, dtype: type) -> tuple[Any, Any]:
    half = squared_norms(table)[:, None] / (-2 * sigma**2)
    ones = np.ones_like(half)
    if scipy.sparse.issparse(table):
        parts = ([table / sigma, half, ones], [table / sigma, ones, half])
        first, second = (scipy.sparse.csr_array(scipy.sparse.hstack(part), dtype=dtype) for part in parts)
        return first, second
    rows, columns = table.shape
    first = np.empty((rows, columns + 2), dtype=dtype)
    np.multiply(table, 1 / sigma, out=first[:, :columns], casting="same_kind")
    second = first.copy()
    first[:, columns:], second[:, columns:] = np.hstack([half, ones]), np.hstack([ones, half])
    return first, second
