"""LogME: how probable labels are under a Bayesian linear model of the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft._checks import one_of
from graft.metrics.transferability.labelled_features import features_and_codes, features_and_targets
from graft.metrics.transferability.principal_axes import eigenpairs

# The search runs over lambda = alpha / beta between these multiples of the largest eigenvalue, in natural logarithms.
_SPAN = 23.0
_STEP = 0.5
_GOLDEN = (np.sqrt(5) - 1) / 2
_REFINEMENTS = 60  # of an interval of two steps: down to 10^-12 of it


@dataclass(frozen=True, eq=False)
class MaximumEvidence:
    """The maximum over (alpha, beta) of the evidence of each output.

    Parameters
    ----------
    log_evidence : array of shape (outputs,)
        Natural logarithm of the density of the targets, divided by n.
    alpha : array of shape (outputs,)
        The precision of the weights.
    beta : array of shape (outputs,)
        The precision of the noise.
    """

    log_evidence: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray


def logme(features: Any, labels: Any, *, task: str = "classification", centered: bool = False) -> float:
    r"""Return the logarithm of the maximum evidence of labels given features, per example and averaged over outputs.

    Classes become one column of 0 and 1 each (one against the rest); a regression has a column for each output. For
    the model of a column see `maximum_evidence`.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    labels : array of shape (n,), or (n, outputs) for a regression
        Classes or numbers. The unit of numbers shifts the result by a constant.
    task : {"classification", "regression"}
        What the labels are.
    centered : bool
        Subtract their means from features and columns first, which leaves the mean to an intercept that costs
        nothing. The authors do not; then the origins of features and numbers matter.

    Raises
    ------
    RequestError
        If there is no such task.
    DataError
        If features or labels are not usable, there is one class only, or an output is constant.

    References
    ----------
    You, Liu, Wang and Long (2021), LogME: Practical Assessment of Pre-trained Models for Transfer Learning, algo. 1.
    You, Liu, Zhang, Wang, Jordan and Long (2022), Ranking and Tuning Pre-trained Models, algo. 3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft.evaluation import logme
    >>> X, y = load_iris(return_X_y=True)
    >>> logme(X, y) > logme(X[:, :2], y)
    True
    """
    one_of("task", task, ["classification", "regression"])
    if task == "classification":
        array, codes, classes = features_and_codes(features, labels)
        targets = np.eye(classes)[codes]
    else:
        array, targets = features_and_targets(features, labels)
    if centered:
        array, targets = array - array.mean(axis=0), targets - targets.mean(axis=0)
    return float(maximum_evidence(array, targets).log_evidence.mean())


def maximum_evidence(features: np.ndarray, targets: np.ndarray) -> MaximumEvidence:
    r"""Return the maximum of the evidence over the precisions of weights and noise, for each column of the targets.

    With :math:`w \sim \mathcal N(0, \alpha^{-1} I_d)` and :math:`y \mid w \sim \mathcal N(F w, \beta^{-1} I_n)`,

    .. math::
        y \sim \mathcal N\bigl(0,\; \beta^{-1} (I_n + F F^\top / \lambda)\bigr), \qquad \lambda = \alpha / \beta .

    The best :math:`\beta` for a given :math:`\lambda` is n divided by
    :math:`q(\lambda) = \sum_j a_j \lambda / (\lambda + \sigma_j) + a_\perp`, where :math:`\sigma_j` are the eigenvalues
    of :math:`F F^\top`, :math:`a_j` the squared coordinates of y in its eigenvectors and :math:`a_\perp` the rest of
    :math:`\lVert y \rVert^2`. What remains is one dimension:

    .. math::
        \tfrac1n \log p(y) = \tfrac12 \Bigl(\log \tfrac{n}{q(\lambda)} - \log 2\pi - 1
            - \tfrac1n \sum_j \log(1 + \sigma_j / \lambda)\Bigr) .

    The authors iterate a fixed point of the derivatives until :math:`\lambda` changes by less than a thousandth, or 11
    times, with 10^-5 added to denominators. Here the same function is evaluated on a grid and its best cell divided by
    the golden ratio, which finds the maximum, where the fixed point may be that of another cell or not reached.
    Where targets are an exact linear function of the features there is no maximum; then :math:`\lambda` ends at
    10^-10 of the largest eigenvalue, the least that is tried. Features that are zero leave the noise alone.

    Parameters
    ----------
    features : array of shape (n, d)
        F.
    targets : array of shape (n, outputs)
        y, one column for each output; none of them zero throughout.
    """
    rows = len(features)
    vectors, values = eigenpairs(features)
    squares = (targets**2).sum(axis=0)
    inside = (vectors.T @ targets) ** 2
    # The remainder of a difference of nearly equal sums is known to rounding only.
    outside = np.maximum(squares - inside.sum(axis=0), np.finfo(np.float64).eps * squares)
    if not len(values):
        noise = rows / squares
        flat = np.full(len(squares), np.inf)
        return MaximumEvidence((np.log(noise) - np.log(2 * np.pi) - 1) / 2, flat, noise)
    relative = values / values[0]

    def evaluated(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log evidence per example and beta, both (..., outputs), for logarithms of lambda of that shape."""
        ratio = np.exp(place)[..., None, :]
        noise = rows / ((inside * (ratio / (ratio + relative[:, None]))).sum(axis=-2) + outside)
        cost = np.log1p(relative[:, None] / ratio).sum(axis=-2) / rows
        return (np.log(noise) - np.log(2 * np.pi) - 1 - cost) / 2, noise

    outputs = len(squares)
    grid = np.arange(-_SPAN, _SPAN + _STEP / 2, _STEP)
    heights = np.array([evaluated(np.full(outputs, place))[0] for place in grid])
    best = grid[heights.argmax(axis=0)]
    low, high = np.maximum(best - _STEP, -_SPAN), np.minimum(best + _STEP, _SPAN)
    for _ in range(_REFINEMENTS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        keeps_left = evaluated(left)[0] > evaluated(right)[0]
        low, high = np.where(keeps_left, low, left), np.where(keeps_left, right, high)
    place = (low + high) / 2
    log_evidence, noise = evaluated(place)
    return MaximumEvidence(log_evidence, np.exp(place) * values[0] * noise, noise)
