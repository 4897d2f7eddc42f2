"""How well a linear classifier tells two domains apart, and what that says about where they differ."""

from __future__ import annotations

import numpy as np
from sklearn.svm import LinearSVC


def proxy_a_distance(source: np.ndarray, target: np.ndarray) -> float:
    r"""Return the proxy A-distance of two samples, from 0 (not told apart) to 2 (separated without an error).

    .. math:: d_A = 2 (1 - 2 \epsilon)

    with the share ε of examples that a linear support vector machine, fitted to tell the samples apart, gets wrong.
    The smaller sample counts as much as the larger one, so that samples of different sizes have distance 0 when they
    are alike; negative values become 0.

    Parameters
    ----------
    source, target : ndarray (a, d), (b, d)

    References
    ----------
    Ben-David, Blitzer, Crammer and Pereira (2007), Analysis of representations for domain adaptation, section 4.
    """
    if not source.shape[1]:
        return 0.0
    examples = np.vstack([source, target])
    sides = np.repeat([0, 1], [len(source), len(target)])
    # The squared hinge loss in the primal has one minimum that is found without drawing anything at random.
    machine = LinearSVC(dual=False, class_weight="balanced").fit(examples, sides)
    wrong = machine.predict(examples) != sides
    error = (wrong[sides == 0].mean() + wrong[sides == 1].mean()) / 2
    return max(0.0, 2 * (1 - 2 * float(error)))


def balance_factor(
    source: np.ndarray,
    target: np.ndarray,
    source_codes: np.ndarray,
    target_codes: np.ndarray,
    *,
    marginal: float | None = None,
) -> float:
    r"""Return μ, from 0 (the domains differ as wholes) to 1 (they differ within the classes).

    .. math:: \mu = \frac{\bar d_c}{\bar d_c + d_M}, \qquad \bar d_c = \frac{1}{|C|} \sum_{c \in C} d_c

    with the proxy A-distances :math:`d_M` of the domains and :math:`d_c` of their examples of class c; C are the
    classes that occur on both sides. Where nothing can be told apart, μ = 1/2.

    Parameters
    ----------
    source, target : ndarray (n_s, d), (n_t, d)
    source_codes, target_codes : ndarray (n_s,), (n_t,) of int
        Classes; those of the target are predictions.
    marginal : float, optional
        :math:`d_M` where it is known already: it does not depend on the predictions.

    References
    ----------
    Wang, Feng, Chen, Yu, Huang and Yu (2018), Visual domain adaptation with manifold embedded distribution alignment,
    equation 15. Their code counts a class that is predicted nowhere in the target as separated; here it is left out.
    """
    if marginal is None:
        marginal = proxy_a_distance(source, target)
    shared = np.intersect1d(source_codes, target_codes)
    conditional = [proxy_a_distance(source[source_codes == code], target[target_codes == code]) for code in shared]
    within = float(np.mean(conditional)) if conditional else 0.0
    return within / (within + marginal) if within + marginal > 0 else 0.5
