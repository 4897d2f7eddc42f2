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
    "IMTLL": "learned_weighting",
    "RLW": "plain_weighting",
    "STCH": "scale_free_weighting",
    "EqualWeighting": "plain_weighting",
    "GeometricMean": "scale_free_weighting",
    "GradNorm": "adaptive_weighting",
    "LossWeighting": "loss_weighting",
    "ScaleInvariant": "scale_free_weighting",
    "StaticWeighting": "plain_weighting",
    "UncertaintyWeighting": "learned_weighting",
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

__all__ = [
    "DWA",
    "FAMO",
    "IMTLL",
    "LOSS_WEIGHTINGS",
    "RLW",
    "STCH",
    "EqualWeighting",
    "GeometricMean",
    "GradNorm",
    "LossWeighting",
    "ScaleInvariant",
    "StaticWeighting",
    "UncertaintyWeighting",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
