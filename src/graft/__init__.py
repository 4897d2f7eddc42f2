"""Graft: transfer learning that measures what it is worth.

The names below are loaded when they are first used, so that ``import graft`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.backbones import Backbone, load_backbone
    from graft.data import Domain, Task, check, read_features, read_images, read_texts
    from graft.evaluation import advise, compare, rank_backbones
    from graft.export import export_model
    from graft.techniques import DomainAdaptation, FeatureExtraction, FineTuning, MultiTask, load

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "graft.backbones",
    "Domain": "graft.data",
    "DomainAdaptation": "graft.techniques",
    "FeatureExtraction": "graft.techniques",
    "FineTuning": "graft.techniques",
    "MultiTask": "graft.techniques",
    "Task": "graft.data",
    "advise": "graft.evaluation",
    "check": "graft.data",
    "compare": "graft.evaluation",
    "export_model": "graft.export",
    "load": "graft.techniques",
    "load_backbone": "graft.backbones",
    "rank_backbones": "graft.evaluation",
    "read_features": "graft.data",
    "read_images": "graft.data",
    "read_texts": "graft.data",
}

__all__ = [
    "Backbone",
    "Domain",
    "DomainAdaptation",
    "FeatureExtraction",
    "FineTuning",
    "MultiTask",
    "Task",
    "__version__",
    "advise",
    "check",
    "compare",
    "export_model",
    "load",
    "load_backbone",
    "rank_backbones",
    "read_features",
    "read_images",
    "read_texts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
