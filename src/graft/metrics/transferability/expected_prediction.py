"""LEEP and NLEEP: how well labels are predicted from the classes, or clusters, that a network already tells apart."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from graft._checks import integer, number
from graft.errors import DataError
from graft.metrics.transferability.labelled_features import features_and_codes
from graft.metrics.transferability.principal_axes import principal_coordinates

# A component of fewer examples than this knows their labels by heart.
_EXAMPLES_EACH = 5


def leep(probabilities: Any, labels: Any) -> float:
    r"""Return the log expected empirical prediction.

    .. math::
        \mathrm{LEEP} = \tfrac1n \sum_i \log \sum_z \hat P(y_i \mid z)\, \theta_{iz}, \qquad
        \hat P(y \mid z) = \frac{\sum_{i: y_i = y} \theta_{iz}}{\sum_i \theta_{iz}}

    with the probability :math:`\theta_{iz}` that the network gives its own class z for example i. It lies between
    minus the entropy of the labels (in nats; every example looks alike) and 0.

    Parameters
    ----------
    probabilities : array of shape (n, Z)
        Not negative; rows sum to one.
    labels : array of shape (n,)
        The classes of the new task.

    Raises
    ------
    DataError
        If these are no probabilities, or there are fewer than two classes.

    References
    ----------
    Nguyen, Hassner, Seeger and Archambeau (2020), LEEP: A New Measure to Evaluate Transferability of Learned
    Representations, eqs. 1 and 2.

    Examples
    --------
    >>> from graft.evaluation import leep
    >>> leep([[1, 0], [1, 0], [0, 1]], ["cat", "cat", "dog"])
    0.0
    """
    theta, codes, classes = features_and_codes(probabilities, labels)
    if theta.min() < 0 or not np.allclose(theta.sum(axis=1), 1, atol=1e-4):
        raise DataError(
            "probabilities",
            expected="rows that are not negative and sum to one",
            found=f"values from {theta.min():g}, sums from {theta.sum(axis=1).min():g} to {theta.sum(axis=1).max():g}",
            remedy="Pass probabilities, not logits.",
        )
    joint = np.eye(classes)[codes].T @ theta
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = (conditional[codes] * theta).sum(axis=1)
    return float(np.log(np.clip(expected, np.finfo(np.float64).tiny, 1)).mean())


def nleep(
    features: Any, labels: Any, *, energy: float = 0.8, components_per_class: int = 5, random_state: int = 0
) -> float:
    """Return LEEP with the components of a Gaussian mixture in the place of the network's own classes.

    The features are reduced to the principal axes that hold a share `energy` of their variance, and a mixture of
    ``components_per_class * K`` Gaussians with diagonal covariances is fitted to them without the labels; theta is the
    probability of each component. The mixture has at most one component for five examples (the authors set no limit: a
    component of one example knows its label). Examples are put in the order of their coordinates first, so that the
    start of the mixture, and with it the result, does not depend on the order in which they come.

    Parameters
    ----------
    features : array of shape (n, d)
        Of n examples.
    labels : array of shape (n,)
        Their classes, K of them.
    energy : float
        The share of the variance to keep, in (0, 1].
    components_per_class : int
        How many Gaussians for each class.
    random_state : int
        Seeds the start of the mixture.

    Returns
    -------
    float
        Between minus the entropy of the labels (constant features) and 0.

    Raises
    ------
    RequestError
        If an option cannot be used.
    DataError
        If the features are no table of finite numbers, or there are fewer than two classes.

    References
    ----------
    Li, Jia, Sang, Zhu, Green, Wang and Gong (2021), Ranking Neural Checkpoints, section 4.2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from graft.evaluation import nleep
    >>> X, y = load_iris(return_X_y=True)
    >>> nleep(X, y) > nleep(X[:, :2], y)
    True
    """
    share = number("energy", energy, low=0, high=1, open_low=True)
    each = integer("components_per_class", components_per_class, low=1)
    array, codes, classes = features_and_codes(features, labels)
    coordinates = principal_coordinates(array)
    if coordinates.shape[1] == 0:
        return leep(np.ones((len(codes), 1)), codes)
    variances = (coordinates**2).mean(axis=0)
    explained = np.cumsum(variances) / variances.sum()
    axes = int(np.searchsorted(explained, share - 1e-12)) + 1
    coordinates = coordinates[:, :axes] / np.sqrt(variances[:axes].mean())
    order = np.lexsort(coordinates.T[::-1])
    components = min(each * classes, max(1, len(codes) // _EXAMPLES_EACH))
    return leep(_component_probabilities(coordinates[order], components, random_state), codes[order])


def _component_probabilities(coordinates: np.ndarray, components: int, random_state: int) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(components, covariance_type="diag", random_state=random_state)
    with warnings.catch_warnings():
        # Fewer distinct rows than components, or a likelihood that still grows: the probabilities are usable.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(coordinates).predict_proba(coordinates)
