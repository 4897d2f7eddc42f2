"""How good a model is, and which of several: seen through what models answer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["target_risk"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"graft.evaluation.{name}")
    raise AttributeError(f"module 'graft.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
