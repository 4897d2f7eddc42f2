"""How good a model is on a target domain of which no label is known, and which of several to use.

The scores themselves are arithmetic on arrays and stand in `graft.metrics`, where techniques select by them.
"""

from graft.metrics.candidate_scores import (
    calibrated_answers,
    score_classifiers,
    score_regressors,
)
from graft.metrics.source_risk import (
    deep_embedded_validation,
    example_losses,
    importance_weighted_validation,
    reverse_validation,
)
from graft.metrics.target_risk import (
    RiskScore,
    calibrate,
    cluster_agreement,
    committee_agreement,
    confidence_difference,
    mean_entropy,
    mutual_information,
    nuclear_norm,
    soft_neighborhood_density,
    target_clusters,
    thresholded_confidence,
)
from graft.metrics.tournament import (
    EVIDENCE_WEIGHT,
    Choice,
    choose,
    class_warnings,
    consensus,
    predicted_shares,
)

__all__ = [
    "EVIDENCE_WEIGHT",
    "Choice",
    "RiskScore",
    "calibrate",
    "calibrated_answers",
    "choose",
    "class_warnings",
    "cluster_agreement",
    "committee_agreement",
    "confidence_difference",
    "consensus",
    "deep_embedded_validation",
    "example_losses",
    "importance_weighted_validation",
    "mean_entropy",
    "mutual_information",
    "nuclear_norm",
    "predicted_shares",
    "reverse_validation",
    "score_classifiers",
    "score_regressors",
    "soft_neighborhood_density",
    "target_clusters",
    "thresholded_confidence",
]
