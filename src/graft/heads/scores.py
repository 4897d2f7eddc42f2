"""Scores by which candidates are compared, with their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.heads.calibration import fit_temperature, softmax
from graft.heads.training_set import TrainingSet


def classification_scores(logits: np.ndarray, training: TrainingSet) -> dict[str, float]:
    """Return accuracy with its standard error, macro-F1, and the log loss at the best temperature, of out-of-fold logits (n, K).

    Over the examples that can be held out, weighted. The standard error of the weighted mean m of hits h is
    :math:`\\sqrt{\\sum w^2 (h - m)^2} / \\sum w`.
    """
    held_out = training.held_out
    assert training.codes is not None
    codes, weight, kept = training.codes[held_out], training.weight[held_out], logits[held_out]
    predicted = kept.argmax(axis=1)
    hits = (predicted == codes).astype(np.float64)
    mean = float(np.average(hits, weights=weight))
    temperature = fit_temperature(kept, codes, weight)
    probability = softmax(kept / temperature)[np.arange(len(codes)), codes]
    loss = float(np.average(-np.log(np.maximum(probability, 1e-30)), weights=weight))
    return {
        "accuracy": mean,
        "standard_error": float(np.sqrt((weight**2 * (hits - mean) ** 2).sum()) / weight.sum()),
        "macro_f1": _macro_f1(predicted, codes, weight, training.classes),
        "log_loss": loss,
    }


def _macro_f1(predicted: np.ndarray, codes: np.ndarray, weight: np.ndarray, classes: int) -> float:
    right = np.bincount(codes, weights=weight * (predicted == codes), minlength=classes)
    total = np.bincount(codes, weights=weight, minlength=classes) + np.bincount(predicted, weights=weight, minlength=classes)
    present = np.bincount(codes, minlength=classes) > 0
    return float((2 * right[present] / total[present]).mean())


def best(tried: list[dict[str, Any]]) -> int:
    """Return the position of the best of several scores: highest accuracy; among equals the lowest log loss; then the first."""
    return min(range(len(tried)), key=lambda at: (-round(tried[at]["accuracy"], 12), tried[at]["log_loss"], at))
