"""What a prediction is worth: metrics as functions of means, their intervals, and the evaluation they make."""

from graft.metrics.estimate import Estimate, Statistic, bootstrap
from graft.metrics.evaluation import (
    METRIC_TITLES,
    Evaluation,
    evaluate_classification,
    evaluate_multilabel,
    evaluate_regression,
)

__all__ = [
    "METRIC_TITLES",
    "Estimate",
    "Evaluation",
    "Statistic",
    "bootstrap",
    "evaluate_classification",
    "evaluate_multilabel",
    "evaluate_regression",
]
