"""Reports: what a comparison found, as one HTML file, as tables in a terminal, as matplotlib figures.

Everything here is made from `Results` alone, without data, network or training, so that a report can be rendered again
from its ``results.json`` at any time::

    from graft import reports
    from graft.evaluation.results import read_results

    found = read_results("report/")
    reports.write_html(found, folder="report/")   # report/report.html, one self-contained file
    reports.show(found)                       # the same figures in a terminal
    reports.learning_curves(found)            # a matplotlib Figure; a notebook shows it

matplotlib and rich are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.reports.charts import (
        calibration,
        confusion_matrix,
        domains,
        gains,
        learning_curves,
        predictions,
        score_against_seconds,
        task_gains,
    )
    from graft.reports.page import html, write_html
    from graft.reports.terminal import show, show_headlines

_HOMES = {
    "calibration": "charts",
    "confusion_matrix": "charts",
    "domains": "charts",
    "gains": "charts",
    "html": "page",
    "learning_curves": "charts",
    "predictions": "charts",
    "score_against_seconds": "charts",
    "show": "terminal",
    "show_headlines": "terminal",
    "task_gains": "charts",
    "write_html": "page",
}

__all__ = [
    "calibration",
    "confusion_matrix",
    "domains",
    "gains",
    "html",
    "learning_curves",
    "predictions",
    "score_against_seconds",
    "show",
    "show_headlines",
    "task_gains",
    "write_html",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"graft.reports.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'graft.reports' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
