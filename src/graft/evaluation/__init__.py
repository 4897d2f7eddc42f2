"""How good a model is, and which of several: seen through what models answer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where each name is defined; a module stands for itself.
_HOMES = {
    "Advice": "advice.advice",
    "AdvisedCandidate": "advice.advice",
    "MaximumEvidence": "transferability",
    "RankedBackbone": "ranking",
    "Ranking": "ranking",
    "Results": "results",
    "advise": "advice.advising",
    "compare": "comparison.compare",
    "gbc": "transferability",
    "h_score": "transferability",
    "knn_accuracy": "transferability",
    "knn_r2": "transferability",
    "leep": "transferability",
    "logme": "transferability",
    "maximum_evidence": "transferability",
    "nleep": "transferability",
    "rank_backbones": "ranking",
    "read_results": "results",
    "target_risk": "",
}

__all__ = [
    "Advice",
    "AdvisedCandidate",
    "MaximumEvidence",
    "RankedBackbone",
    "Ranking",
    "Results",
    "advise",
    "compare",
    "gbc",
    "h_score",
    "knn_accuracy",
    "knn_r2",
    "leep",
    "logme",
    "maximum_evidence",
    "nleep",
    "rank_backbones",
    "read_results",
    "target_risk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft.evaluation' has no attribute {name!r}")
    home = _HOMES[name]
    return getattr(import_module(f"graft.evaluation.{home}"), name) if home else import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
