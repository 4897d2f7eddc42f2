"""How well features suit labels, estimated without fitting a head.

The estimates are arithmetic on arrays and stand in `graft.metrics.transferability`; `graft.rank_backbones` compares
pretrained networks by them.
"""

from graft.metrics.transferability import (
    MaximumEvidence,
    gbc,
    h_score,
    knn_accuracy,
    knn_r2,
    leep,
    logme,
    maximum_evidence,
    nleep,
)

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
