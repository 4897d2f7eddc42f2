"""The Gaussian Bhattacharyya coefficient: how little the classes overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft._checks import integer, one_of
from graft.errors import DataError
from graft.metrics.transferability.labelled_features import class_means, features_and_codes
from graft.metrics.transferability.principal_axes import principal_coordinates

# Variances below this fraction of the mean variance count as this: a class of copies is not infinitely narrow.
_NARROWEST = 1e-4


def gbc(features: Any, labels: Any, *, covariance: str = "spherical", components: int | None = 64) -> float:
    r"""Return the negative sum of the classes' overlaps, each class a Gaussian.

    .. math::
        \mathrm{GBC} = -\sum_{i \ne j} e^{-D_{ij}}, \qquad
        D_{ij} = \tfrac18 \delta^\top \Sigma^{-1} \delta +
            \tfrac12 \log \frac{\lvert \Sigma \rvert}{\sqrt{\lvert \Sigma_i \rvert \lvert \Sigma_j \rvert}}, \qquad
        \Sigma = \tfrac12 (\Sigma_i + \Sigma_j), \quad \delta = \mu_i - \mu_j

    with the mean :math:`\mu_i` and the spherical or diagonal covariance :math:`\Sigma_i` of class i in the first
    principal axes of all features. It lies between -K (K - 1) (constant features: all classes are one) and 0.

    A class with one example has the mean within-class variance of the others. Variances are never taken to be below
    10^-4 of the mean variance of the axes, where the authors' bound is an absolute 10^-4: hence the scale of the
    features does not matter. For spherical covariances the authors' code counts the logarithm of the one variance
    once, not for each of the axes; here it is the determinant, as the formula says.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    labels : array of shape (n,)
        Their classes, K of them.
    covariance : {"spherical", "diagonal"}
        One variance for each class, or one for each class and axis.
    components : int or None
        How many principal axes; None for all of them.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If the features are no table of finite numbers, there are fewer than two classes, or no class has two examples.

    References
    ----------
    Pandy, Agostinelli, Uijlings, Ferrari and Mensink (2022), Transferability Estimation using Bhattacharyya Class
    Separability, eqs. 3 to 5 and section 4 (64 principal axes).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft.evaluation import gbc
    >>> X, y = load_iris(return_X_y=True)
    >>> gbc(X, y) > gbc(X[:, :2], y)
    True
    """
    one_of("covariance", covariance, ["spherical", "diagonal"])
    kept = None if components is None else integer("components", components, low=1)
    array, codes, classes = features_and_codes(features, labels)
    coordinates = principal_coordinates(array)[:, :kept]
    if coordinates.shape[1] == 0:
        return -float(classes * (classes - 1))
    means, counts = class_means(coordinates, codes, classes)
    several = counts > 1
    if not several.any():
        raise DataError(
            "labels",
            expected="a class with 2 examples or more, to see how widely a class is spread",
            found="one example of each class",
            remedy="Label more examples.",
        )
    squares, _ = class_means((coordinates - means[codes]) ** 2, codes, classes)
    if covariance == "spherical":
        squares = squares.mean(axis=1, keepdims=True)
    squares[~several] = np.average(squares[several], axis=0, weights=counts[several])
    variances = np.maximum(squares, _NARROWEST * (coordinates**2).mean())
    # A spherical covariance counts once for each axis.
    repeats = coordinates.shape[1] // variances.shape[1]
    total = 0.0
    for one in range(classes - 1):
        middle = (variances[one] + variances[one + 1 :]) / 2
        distance = ((means[one] - means[one + 1 :]) ** 2 / middle).sum(axis=1) / 8
        logs = np.log(middle) - (np.log(variances[one]) + np.log(variances[one + 1 :])) / 2
        distance += repeats * logs.sum(axis=1) / 2
        total += 2 * np.exp(-distance).sum()
    return -float(total)
