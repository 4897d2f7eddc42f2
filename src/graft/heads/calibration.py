"""Temperature scaling: probabilities that mean what they say."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(l_k) / sum_j exp(l_j) along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return log softmax(l / T) along the last axis."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def log_loss(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted mean of -log softmax(l)_y, in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(codes)), codes]
    return float(np.average(losses, weights=weight))


def fit_temperature(logits: np.ndarray, codes: np.ndarray, weight: np.ndarray, *, tolerance: float = 1e-9) -> float:
    r"""Return the temperature T that minimises the log loss of softmax(logits / T).

    In the inverse temperature :math:`\beta = 1/T` the loss is convex, with derivative
    :math:`\sum_i w_i (\sum_k p_{ik} l_{ik} - l_{i y_i})`; its minimum is found by a safeguarded Newton's method in log
    β. Logits that separate all examples have no minimiser: β then stops where the mean loss is 1 / (n + 2), all the
    certainty that n right answers give. (Guo, Pleiss, Sun and Weinberger, 2017, section 4.2.)

    Parameters
    ----------
    logits : ndarray (n, K)
        Out-of-fold: logits of examples that were trained on are overconfident.
    codes : ndarray (n,) of int
        The classes.
    weight : ndarray (n,)
        Of the examples.
    tolerance : float
        On log T.
    """
    centred = logits - logits[np.arange(len(codes)), codes, None]
    spread = float(np.average(np.abs(centred).max(axis=1), weights=weight))
    if not spread > 0:
        return 1.0
    centred = centred / spread
    share = weight / weight.sum()
    low, high = np.log(1e-2), np.log(1e3)
    # Laplace's rule: n right answers out of n (the total weight) leave 1 / (n + 2) to be wrong.
    certain = 1 / (weight.sum() + 2)

    def derivatives(log_beta: float) -> tuple[float, float, float]:
        """Return the loss and its first and second derivative in β."""
        scaled = centred * np.exp(log_beta)
        top = scaled.max(axis=1, keepdims=True)
        probability = np.exp(scaled - top)
        totals = probability.sum(axis=1, keepdims=True)
        probability /= totals
        mean = np.einsum("ik,ik->i", probability, centred)
        square = np.einsum("ik,ik,ik->i", probability, centred, centred)
        return float(share @ (top + np.log(totals))[:, 0]), float(share @ mean), float(share @ (square - mean**2))

    # Newton's method in log β, kept between what is known to lie below and above the root.
    log_beta = 2.0
    for _ in range(60):
        loss, first, second = derivatives(log_beta)
        if first > 0 or loss < certain:
            high = log_beta
        else:
            low = log_beta
        beta = np.exp(log_beta)
        # In log β the derivatives are β f' and β f' + β² f''.
        slope, curvature = beta * first, beta * first + beta**2 * second
        step = -slope / curvature if curvature > 0 and loss >= certain else np.inf
        proposed = log_beta + step
        if not low < proposed < high:
            proposed = (low + high) / 2
        if abs(proposed - log_beta) < tolerance:
            log_beta = proposed
            break
        log_beta = proposed
    return float(spread * np.exp(-log_beta))
