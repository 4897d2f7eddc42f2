"""Scores by which candidates are compared, with their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.heads.calibration import fit_temperature, log_loss
from graft.heads.training_set import TrainingSet


def classification_scores(logits: np.ndarray, training: TrainingSet) -> dict[str, float]:
    """Return accuracy with its standard error, macro-F1, and the log loss at the best temperature, of out-of-fold
    logits (n, K).

    Over the examples that can be held out, weighted. The standard error of the weighted mean m of hits h is
    :math:`\\sqrt{\\sum w^2 (h - m)^2} / \\sum w`.
    """
    held_out = training.held_out
    assert training.codes is not None
    codes, weight, kept = training.codes[held_out], training.weight[held_out], logits[held_out]
    predicted = kept.argmax(axis=1)
    hits = (predicted == codes).astype(np.float64)
    mean = float(np.average(hits, weights=weight))
    kept = kept.astype(np.float32)
    # The loss is flat at its minimum: an error of 3 % in the temperature moves it in the fourth digit.
    temperature = fit_temperature(kept, codes, weight, tolerance=0.03)
    loss = log_loss(kept / np.float32(temperature), codes, weight)
    return {
        "accuracy": mean,
        "standard_error": float(np.sqrt((weight**2 * (hits - mean) ** 2).sum()) / weight.sum()),
        "macro_f1": _macro_f1(predicted, codes, weight, training.classes),
        "log_loss": loss,
    }


def paired_difference(first: np.ndarray, second: np.ndarray, training: TrainingSet) -> tuple[float, float]:
    """Return by how much the first logits (n, K) are more accurate than the second, and that difference's standard
    error.

    On the same examples: what both get right or both get wrong cancels.
    """
    held_out = training.held_out
    assert training.codes is not None
    codes, weight = training.codes[held_out], training.weight[held_out]
    hits = [(logits[held_out].argmax(axis=1) == codes).astype(np.float64) for logits in (first, second)]
    gain = hits[0] - hits[1]
    mean = float(np.average(gain, weights=weight))
    return mean, float(np.sqrt((weight**2 * (gain - mean) ** 2).sum()) / weight.sum())


def _macro_f1(predicted: np.ndarray, codes: np.ndarray, weight: np.ndarray, classes: int) -> float:
    right = np.bincount(codes, weights=weight * (predicted == codes), minlength=classes)
    total = np.bincount(codes, weights=weight, minlength=classes) + np.bincount(
        predicted, weights=weight, minlength=classes
    )
    present = np.bincount(codes, minlength=classes) > 0
    return float((2 * right[present] / total[present]).mean())


def best(tried: list[dict[str, Any]]) -> int:
    """Return the position of the best score: highest accuracy; among equals the lowest log loss; then the first."""
    return min(range(len(tried)), key=lambda at: (-round(tried[at]["accuracy"], 12), tried[at]["log_loss"], at))


def regression_scores(predictions: np.ndarray, training: TrainingSet) -> dict[str, float]:
    """Return mean squared error, its standard error and R² of predictions (n, outputs) of standardised targets."""
    assert training.targets is not None
    held_out = training.held_out
    weight = training.weight[held_out]
    errors = ((predictions - training.targets)[held_out] ** 2).mean(axis=1)
    mean = float(np.average(errors, weights=weight))
    return {
        "mean_squared_error": mean,
        "standard_error": float(np.sqrt((weight**2 * (errors - mean) ** 2).sum()) / weight.sum()),
        # The standardised targets have variance 1 (0 where they are constant).
        "r2": 1 - mean,
    }


def best_regression(tried: list[dict[str, Any]]) -> int:
    """Return the position of the lowest mean squared error, the first among equals."""
    return min(range(len(tried)), key=lambda at: (tried[at]["mean_squared_error"], at))
