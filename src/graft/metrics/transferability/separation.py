"""The H-score: how much of the features' variation lies between the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft._checks import number
from graft.errors import RequestError
from graft.metrics.transferability.labelled_features import class_means, features_and_codes
from graft.metrics.transferability.principal_axes import principal_coordinates


def h_score(features: Any, labels: Any, *, shrinkage: float | str = "auto") -> float:
    r"""Return the H-score of features for classes.

    .. math::
        H_\alpha = \operatorname{tr}\bigl(\Sigma_\alpha^{-1} (1 - \alpha) \Sigma_z\bigr), \qquad
        \Sigma_\alpha = (1 - \alpha) \Sigma + \alpha \tfrac{\operatorname{tr} \Sigma}{d} I

    with the covariance :math:`\Sigma` (d, d) of the features, the covariance :math:`\Sigma_z` of their class means
    (each as often as its class has examples), both with denominator n, and the shrinkage :math:`\alpha`. It lies
    between 0 and K - 1. Constant features have the score 0.

    Without shrinkage the score does not change under invertible linear maps of the features; but with n of about d
    or less any labels can be told apart and it is near K - 1 for every network. Hence the default.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    labels : array of shape (n,)
        Their classes, K of them.
    shrinkage : float or "auto"
        :math:`\alpha` in [0, 1]; ``"auto"``: Ledoit and Wolf's, which has the least expected squared error. 0 uses the
        pseudo-inverse where the covariance is singular.

    Raises
    ------
    RequestError
        If the shrinkage is not usable.
    DataError
        If the features are no table of finite numbers, or there are fewer than two classes.

    References
    ----------
    Bao et al. (2019), An Information-Theoretic Approach to Transferability in Task Transfer Learning, definition 2.
    Ibrahim, Ponomareva and Mazumder (2021), Newer is not always better: Rethinking transferability metrics, their
    peculiarities, stability and performance, section 3 (shrinkage). Their between-class covariance has denominator
    n - 1 beside Ledoit and Wolf's n; here both have n.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft.evaluation import h_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(h_score(X, y), 2), round(h_score(X[:, :2], y), 2)
    (1.17, 0.89)
    """
    array, codes, classes = features_and_codes(features, labels)
    coordinates = principal_coordinates(array)
    if isinstance(shrinkage, str):
        if shrinkage != "auto":
            raise RequestError(
                "shrinkage", expected="a number in [0, 1] or 'auto'", found=repr(shrinkage), remedy="Pass 'auto'."
            )
        alpha = ledoit_wolf(coordinates, array.shape[1])
    else:
        alpha = number("shrinkage", shrinkage, low=0, high=1)
    if coordinates.shape[1] == 0 or alpha == 1:
        return 0.0
    variances = (coordinates**2).mean(axis=0)
    means, counts = class_means(coordinates, codes, classes)
    between = counts / len(codes) @ means**2
    shrunk = (1 - alpha) * variances + alpha * variances.sum() / array.shape[1]
    return float((1 - alpha) * (between / shrunk).sum())


def ledoit_wolf(coordinates: np.ndarray, dimensions: int) -> float:
    r"""Return the shrinkage of Ledoit and Wolf in [0, 1], from principal coordinates x (n, r) of features of width d.

    .. math::
        \delta^2 = \tfrac1d \lVert S - \mu I \rVert_F^2, \qquad
        \beta^2 = \min\Bigl(\delta^2, \tfrac{1}{d n}
            \bigl(\tfrac1n \sum_i \lVert x_i \rVert^4 - \lVert S \rVert_F^2\bigr)\Bigr), \qquad
        \alpha = \beta^2 / \delta^2

    with the covariance S and :math:`\mu = \operatorname{tr} S / d`. Only norms of rows and of S occur, so that it is
    computed in time n r instead of n d^2.

    References
    ----------
    Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices, lemmas 3.2 to 3.4.
    """
    rows = len(coordinates)
    variances = (coordinates**2).mean(axis=0)
    squared = float((variances**2).sum())
    spread = (squared - variances.sum() ** 2 / dimensions) / dimensions
    if spread <= 0:
        return 0.0
    fourth = float(((coordinates**2).sum(axis=1) ** 2).mean())
    return float(np.clip((fourth - squared) / (dimensions * rows) / spread, 0.0, 1.0))
