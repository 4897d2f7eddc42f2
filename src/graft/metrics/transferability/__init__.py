"""How well features suit labels, without fitting a head: estimates by which pretrained networks are ranked.

All take features (n, d) and labels (n,), return one number, and are larger where the network suits the task better.
None depends on the order of the examples, on the names of the classes or on a rotation of the features.
"""

from graft.metrics.transferability.evidence import MaximumEvidence, logme, maximum_evidence
from graft.metrics.transferability.expected_prediction import leep, nleep
from graft.metrics.transferability.neighbors import knn_accuracy, knn_r2
from graft.metrics.transferability.overlap import gbc
from graft.metrics.transferability.separation import h_score

__all__ = [
    "MaximumEvidence",
    "gbc",
    "h_score",
    "knn_accuracy",
    "knn_r2",
    "leep",
    "logme",
    "maximum_evidence",
    "nleep",
]
