"""Balancing: several tasks trained at once, none of them at the cost of the others.

Weights of losses, aggregates of gradients, and the order in which tasks are sampled; on tensors, for anyone's loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The module of each name, imported when asked for.
_MODULES = {
    "DWA": "adaptive_weighting",
    "FAMO": "adaptive_weighting",
    "IMTLG": "equal_angle",
    "IMTLL": "learned_weighting",
    "MGDA": "hull",
    "RLW": "plain_weighting",
    "STCH": "scale_free_weighting",
    "Aggregator": "aggregator",
    "AlignedMTL": "conditioning",
    "CAGrad": "dual_cone",
    "ConFIG": "equal_angle",
    "DualProj": "dual_cone",
    "EqualWeighting": "plain_weighting",
    "FairGrad": "bargaining",
    "GeometricMean": "scale_free_weighting",
    "GradDrop": "sign_dropout",
    "GradNorm": "adaptive_weighting",
    "GradVac": "pairwise",
    "LossWeighting": "loss_weighting",
    "MeanGradient": "plain_aggregation",
    "NashMTL": "bargaining",
    "PCGrad": "pairwise",
    "SDMGrad": "hull",
    "ScaleInvariant": "scale_free_weighting",
    "StaticWeighting": "plain_weighting",
    "SumGradient": "plain_aggregation",
    "TaskGradients": "backward",
    "UPGrad": "dual_cone",
    "TaskOrder": "task_order",
    "UncertaintyWeighting": "learned_weighting",
    "WeightedAggregator": "aggregator",
    "balanced_backward": "backward",
    "balanced_features": "backward",
}

# The class of each loss weighting, by the name that users write.
LOSS_WEIGHTINGS = {
    "equal": "EqualWeighting",
    "static": "StaticWeighting",
    "uncertainty": "UncertaintyWeighting",
    "dwa": "DWA",
    "rlw": "RLW",
    "geometric": "GeometricMean",
    "gradnorm": "GradNorm",
    "imtl-l": "IMTLL",
    "famo": "FAMO",
    "scale-invariant": "ScaleInvariant",
    "stch": "STCH",
}

# The class of each aggregator of gradients, by the name that users write.
AGGREGATORS = {
    "sum": "SumGradient",
    "mean": "MeanGradient",
    "mgda": "MGDA",
    "pcgrad": "PCGrad",
    "gradvac": "GradVac",
    "graddrop": "GradDrop",
    "cagrad": "CAGrad",
    "imtl-g": "IMTLG",
    "nash-mtl": "NashMTL",
    "aligned-mtl": "AlignedMTL",
    "fairgrad": "FairGrad",
    "sdmgrad": "SDMGrad",
    "upgrad": "UPGrad",
    "dualproj": "DualProj",
    "config": "ConFIG",
}

__all__ = [
    "AGGREGATORS",
    "DWA",
    "FAMO",
    "IMTLG",
    "IMTLL",
    "LOSS_WEIGHTINGS",
    "MGDA",
    "RLW",
    "STCH",
    "Aggregator",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "DualProj",
    "EqualWeighting",
    "FairGrad",
    "GeometricMean",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "LossWeighting",
    "MeanGradient",
    "NashMTL",
    "PCGrad",
    "SDMGrad",
    "ScaleInvariant",
    "StaticWeighting",
    "SumGradient",
    "TaskGradients",
    "TaskOrder",
    "UPGrad",
    "UncertaintyWeighting",
    "WeightedAggregator",
    "balanced_backward",
    "balanced_features",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
