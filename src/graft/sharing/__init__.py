"""Sharing: what several tasks have in common and what each has of its own.

Linear models with a common and an own part, modules between features and heads, and which tasks should share at all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The module of each name, imported when asked for: the linear models need no torch.
_MODULES = {
    "CommonAndOwnLogistic": "common_and_own_logistic",
    "CommonAndOwnRidge": "common_and_own_ridge",
    "CrossStitch": "trunks",
    "HardSharing": "trunks",
    "MMoE": "trunks",
    "PLE": "trunks",
    "TaskAdapters": "trunks",
    "gradient_affinity": "affinity",
    "group_tasks": "grouping",
    "lookahead_affinity": "affinity",
    "probe_affinity": "affinity",
}

__all__ = [
    "PLE",
    "CommonAndOwnLogistic",
    "CommonAndOwnRidge",
    "CrossStitch",
    "HardSharing",
    "MMoE",
    "TaskAdapters",
    "gradient_affinity",
    "group_tasks",
    "lookahead_affinity",
    "probe_affinity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
