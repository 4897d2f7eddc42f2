"""What a prediction is worth: against labels, with intervals; and on a target domain without labels, by agreement."""

from graft.metrics.candidate_scores import (
    score_classifiers,
    score_regressors,
)
from graft.metrics.estimate import Estimate, Statistic, bootstrap
from graft.metrics.evaluation import (
    METRIC_TITLES,
    Evaluation,
    evaluate_classification,
    evaluate_multilabel,
    evaluate_regression,
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
    predicted_shares,
)
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
    "EVIDENCE_WEIGHT",
    "METRIC_TITLES",
    "Choice",
    "Estimate",
    "Evaluation",
    "MaximumEvidence",
    "RiskScore",
    "Statistic",
    "bootstrap",
    "calibrate",
    "choose",
    "cluster_agreement",
    "committee_agreement",
    "confidence_difference",
    "deep_embedded_validation",
    "evaluate_classification",
    "evaluate_multilabel",
    "evaluate_regression",
    "example_losses",
    "gbc",
    "h_score",
    "importance_weighted_validation",
    "knn_accuracy",
    "knn_r2",
    "leep",
    "logme",
    "maximum_evidence",
    "mean_entropy",
    "mutual_information",
    "nleep",
    "nuclear_norm",
    "predicted_shares",
    "reverse_validation",
    "score_classifiers",
    "score_regressors",
    "soft_neighborhood_density",
    "target_clusters",
    "thresholded_confidence",
]
