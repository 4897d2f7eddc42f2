"""``report.html``: one file that needs nothing else, on a screen or on paper, in light and in dark."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from graft.evaluation.results import Results, require_folder, write_whole
from graft.reports.evidence import domains, learning, tasks, worth
from graft.reports.markup import Markup, element, joined
from graft.reports.models import models
from graft.reports.palette import style_sheet
from graft.reports.record import every_cell, left_out, measured
from graft.reports.soundness import check_sound
from graft.reports.verdict import heading, headline, title_of, verdict

HTML_FILE = "report.html"
# A browser that obeys it loads nothing at all, whatever a name or a text in the results may try.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html(results: Results, *more: Results) -> str:
    """Return a report as one HTML document without scripts, that loads nothing.

    The same results give the same document.

    Parameters
    ----------
    results, *more : Results
        Of a comparison. Several ones follow each other in one document, their verdicts together at its top.

    Raises
    ------
    RunError
        If the results lack what a report shows.

    Examples
    --------
    >>> from graft import reports
    >>> from graft.evaluation.cell import Cell
    >>> from graft.evaluation.results import Results
    >>> cell = Cell("fine-tuning", 5, 0, 10, "left out", "needs about 90 s, 20 s were left")
    >>> "needs about 90 s" in reports.html(Results(command="graft compare photos/", cells=(cell,)))
    True
    """
    everything = (results, *more)
    for one in everything:
        check_sound(one)
    title = f"Is transfer worth it: {', '.join(one.data.get('name') or 'a comparison' for one in everything)}"
    css = style_sheet() + files("graft.reports").joinpath("page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"graft {results.versions.get('graft', '')}".strip()),
        element("title", title),
        element("style", Markup(css)),
    )
    if more:
        content: list[Markup] = [_overview(everything)]
        articles = [
            element("article", heading(one), _sections(one), id=f"comparison{n}") for n, one in enumerate(everything)
        ]
        content.append(element("main", articles))
    else:
        content = [heading(results), element("main", _sections(results))]
    body = element("body", content, _foot())
    return joined([Markup("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), Markup("\n")])


def write_html(results: Results, *more: Results, folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    Parameters
    ----------
    results, *more : Results
        Of a comparison, or of several ones.
    folder : path
        Made if it is not there.

    Raises
    ------
    RunError
        If the results lack what a report shows.
    RequestError
        If `folder` is a file.
    GraftError
        If the disk does not take it.
    """
    require_folder(Path(folder))
    return write_whole(Path(folder) / HTML_FILE, html(results, *more))


def _sections(results: Results) -> list[Markup | None]:
    sections = (verdict, learning, worth, domains, tasks, models, left_out, measured, every_cell)
    return [section(results) for section in sections]


def _overview(everything: Sequence[Results]) -> Markup:
    """Return the verdicts of several comparisons, each with a link to it."""
    rows = []
    for place, one in enumerate(everything):
        sign, sentence = headline(one)
        name = element("a", title_of(one), href=f"#comparison{place}")
        rows.append(element("li", element("b", name), f" {sign} {sentence}"))
    return element("header", element("h1", "Is transfer worth it?"), element("ul", rows, class_="overview"))


def _foot() -> Markup:
    said = (
        "Made by Graft from results.json alone; graft report renders it again. This page loads nothing from elsewhere."
    )
    return element("footer", element("p", said, class_="small quiet"))
