"""What a prediction is worth: metrics as functions of means, their intervals, and the evaluation they make."""

from graft.metrics.estimate import Estimate, Statistic, bootstrap
from graft.metrics.evaluation import Evaluation, evaluate_classification, evaluate_multilabel, evaluate_regression

__all__ = [
    "Estimate",
    "Evaluation",
    "Statistic",
    "bootstrap",
    "evaluate_classification",
    "evaluate_multilabel",
    "evaluate_regression",
]
