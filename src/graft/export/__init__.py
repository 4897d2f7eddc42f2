"""A fitted model as a file that runs without Graft: ONNX, or a program of ``torch.export``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {"Exported": "writing", "export_model": "writing", "prediction_module": "network"}

__all__ = ["Exported", "export_model", "prediction_module"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft.export' has no attribute {name!r}")
    return getattr(import_module(f"graft.export.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
