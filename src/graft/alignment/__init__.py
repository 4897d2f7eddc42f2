"""Alignment: representations in which a labelled source domain and an unlabelled target domain look alike.

In closed form, scikit-learn transformers on arrays; as losses for networks, functions on tensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The module of each name, imported when asked for: the methods on arrays need no torch.
_MODULES = {
    "Alignment": "alignment",
    "GeodesicFlowKernel": "geodesic_flow",
}

__all__ = ["Alignment", "GeodesicFlowKernel"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_MODULES)
