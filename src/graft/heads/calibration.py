"""Temperature scaling: probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(l_k) / sum_j exp(l_j) along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_loss(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted mean of -log softmax(l)_y, in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(codes)), codes]
    return float(np.average(losses, weights=weight))


def fit_temperature(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    r"""Return the temperature T that minimises the log loss of softmax(logits / T).

    In the inverse temperature :math:`\beta = 1/T` the loss is convex; its derivative is
    :math:`\sum_i w_i (\sum_k p_{ik} l_{ik} - l_{i y_i})`, whose root is bracketed in :math:`\log \beta` and found by Brent's method.
    Logits that separate all examples have no minimiser: β then ends at the top of the bracket, where the loss is at most 1e-3 of what it
    was; logits that are worse than none end at the bottom. (Guo, Pleiss, Sun and Weinberger, 2017, section 4.2.)

    Parameters
    ----------
    logits : ndarray (n, K)
        Out-of-fold: logits of examples that were trained on are overconfident.
    codes : ndarray (n,) of int
        The classes.
    weight : ndarray (n,)
        Of the examples.
    """
    centred = logits.astype(np.float64) - logits[np.arange(len(codes)), codes, None]
    spread = np.abs(centred).max(axis=1).mean()
    if not spread > 0:
        return 1.0
    centred /= spread
    share = weight / weight.sum()

    def derivative(log_beta: float) -> float:
        return float(share @ (softmax(centred * np.exp(log_beta)) * centred).sum(axis=1))

    low, high = np.log(1e-2), np.log(1e3)
    if derivative(low) >= 0:
        return float(spread * np.exp(-low))
    if derivative(high) <= 0:
        # Separable: certain beyond what n examples can say. Stop where the mean loss is 1 / (n + 2), Laplace's rule for n successes.
        bound = 1 / (len(codes) + 2)
        excess = lambda b: log_loss(centred * np.exp(b), codes, weight) - bound  # noqa: E731
        log_beta = brentq(excess, low, high) if excess(low) > 0 > excess(high) else (low if excess(low) <= 0 else high)
        return float(spread * np.exp(-log_beta))
    return float(spread * np.exp(-brentq(derivative, low, high, xtol=1e-10)))
