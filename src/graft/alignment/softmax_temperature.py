"""How sure scores may be: the temperature of a softmax, from what scores were wanted."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def softmax_temperature(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Return the temperature that minimises the mean cross-entropy of softmax(scores / temperature).

    One example in r + 2 is taken to be of any class: where all are right, n right answers give no more certainty.

    Parameters
    ----------
    scores : ndarray (r, C)
        Of examples whose own label took no part in them.
    wanted : ndarray (r, C)
        The probabilities of their classes; indicators where these are known.
    """
    rows, count = scores.shape
    doubt = 1 / (rows + 2)
    softened = (1 - doubt) * wanted + doubt / count

    def loss(logarithm: float) -> float:
        return -float((softened * log_softmax(scores / np.exp(logarithm), axis=1)).sum() / rows)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e2)), method="bounded").x))
