"""Pieces of a page that several sections have: a chart with its caption, a figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graft.evaluation.results import Results
from graft.reports.markup import Markup, element, number
from graft.reports.svg import inline_svg
from graft.reports.wording import UNKNOWN, gain, score, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def chart(figure: Figure | None, name: str, title: str, caption: str, description: str) -> Markup | None:
    """Return a figure with its title and what is to be seen in it; None where there is none."""
    if figure is None:
        return None
    drawn = inline_svg(figure, name=name, description=f"{title}. {description}")
    return element("figure", element("figcaption", element("b", title), caption), drawn)


def estimated(results: Results, estimate: Mapping[str, Any] | None) -> Any:
    """Return a score with its interval below it."""
    if estimate is None:
        return UNKNOWN
    interval = span(estimate["low"], estimate["high"], lambda value: score(value, results.score).removesuffix(" %"))
    shown = number(score(estimate["value"], results.score), estimate["value"])
    return [shown, element("small", interval) if interval else None]


def gained(results: Results, one: Mapping[str, Any]) -> list[Any]:
    """Return a gain with its interval below it."""
    interval = span(one["low"], one["high"], lambda value: gain(value, results.score, unit=False))
    return [number(gain(one["value"], results.score), one["value"]), element("small", interval) if interval else None]
