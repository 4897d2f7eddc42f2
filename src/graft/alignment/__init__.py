"""Alignment: representations in which a labelled source domain and an unlabelled target domain look alike.

In closed form, scikit-learn transformers on arrays; as losses for networks, functions on tensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The module of each name, imported when asked for: the methods on arrays need no torch.
_MODULES = {
    "AFN": "moments",
    "BSP": "adversarial",
    "CDAN": "adversarial",
    "CORAL": "coral",
    "DAN": "mean_embedding",
    "DANN": "adversarial",
    "JAN": "mean_embedding",
    "MCC": "discrepancy",
    "MCD": "discrepancy",
    "MDD": "discrepancy",
    "MEDA": "meda",
    "AdaptationLoss": "adaptation_loss",
    "Alignment": "alignment",
    "CentroidRefinement": "centroid_refinement",
    "DeepCORAL": "moments",
    "DeepJDOT": "transport_loss",
    "DomainOutputs": "adaptation_loss",
    "DomainStandardization": "standardization",
    "GeodesicFlowKernel": "geodesic_flow",
    "InvariantHead": "invariant_head",
    "JointDistributionAdaptation": "joint_distribution",
    "LinearTransport": "transport",
    "ManifoldRegularization": "manifold_regularization",
    "OptimalTransport": "transport",
    "SubspaceAlignment": "subspace_alignment",
    "Supports": "test_time",
    "TransferComponentAnalysis": "transfer_components",
    "adjust_templates": "test_time",
    "centroid_labels": "source_free",
    "class_confusion": "discrepancy",
    "classifier_discrepancy": "discrepancy",
    "coral_loss": "moments",
    "domain_loss": "adversarial",
    "entropy_loss": "test_time",
    "hard_norm_loss": "moments",
    "information_maximization": "source_free",
    "joint_mmd_loss": "mean_embedding",
    "joint_transport_loss": "transport_loss",
    "margin_disparity": "discrepancy",
    "mmd_loss": "mean_embedding",
    "normalization_parameters": "test_time",
    "renormalize": "test_time",
    "reversal_schedule": "gradient_reversal",
    "reverse_gradient": "gradient_reversal",
    "shot_loss": "source_free",
    "spectral_penalty": "adversarial",
    "stepwise_norm_loss": "moments",
}

# The methods that train a network end to end: options alone, all with the same two functions (`AdaptationLoss`).
ADAPTATION_LOSSES = {
    "deep-coral": "DeepCORAL",
    "dan": "DAN",
    "jan": "JAN",
    "dann": "DANN",
    "cdan": "CDAN",
    "mcd": "MCD",
    "mdd": "MDD",
    "mcc": "MCC",
    "afn": "AFN",
    "bsp": "BSP",
    "deep-jdot": "DeepJDOT",
}

__all__ = [
    "ADAPTATION_LOSSES",
    "AFN",
    "BSP",
    "CDAN",
    "CORAL",
    "DAN",
    "DANN",
    "JAN",
    "MCC",
    "MCD",
    "MDD",
    "MEDA",
    "AdaptationLoss",
    "Alignment",
    "CentroidRefinement",
    "DeepCORAL",
    "DeepJDOT",
    "DomainOutputs",
    "DomainStandardization",
    "GeodesicFlowKernel",
    "InvariantHead",
    "JointDistributionAdaptation",
    "LinearTransport",
    "ManifoldRegularization",
    "OptimalTransport",
    "SubspaceAlignment",
    "Supports",
    "TransferComponentAnalysis",
    "adjust_templates",
    "centroid_labels",
    "class_confusion",
    "classifier_discrepancy",
    "coral_loss",
    "domain_loss",
    "entropy_loss",
    "hard_norm_loss",
    "information_maximization",
    "joint_mmd_loss",
    "joint_transport_loss",
    "margin_disparity",
    "mmd_loss",
    "normalization_parameters",
    "renormalize",
    "reversal_schedule",
    "reverse_gradient",
    "shot_loss",
    "spectral_penalty",
    "stepwise_norm_loss",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
