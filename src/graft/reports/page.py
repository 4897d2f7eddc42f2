"""``report.html``: one file that needs nothing else, on a screen or on paper, in light and in dark."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from graft.errors import GraftError
from graft.evaluation.results import Results, write_whole
from graft.reports.evidence import domains, learning, tasks, worth
from graft.reports.markup import Markup, element, joined
from graft.reports.models import models
from graft.reports.palette import style_sheet
from graft.reports.record import every_cell, left_out, measured
from graft.reports.soundness import check_sound
from graft.reports.verdict import heading, verdict

HTML_FILE = "report.html"
# A browser that obeys it loads nothing at all, whatever a name or a text in the results may try.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html(results: Results) -> str:
    """Return a report as one HTML document without scripts, that loads nothing.

    The same results give the same document.

    Parameters
    ----------
    results : Results
        Of a comparison.

    Raises
    ------
    RunError
        If the results lack what a report shows.

    Examples
    --------
    >>> from graft import reports
    >>> from graft.evaluation.results import Cell, Results
    >>> cell = Cell("fine-tuning", 5, 0, 10, "left out", "needs about 90 s, 20 s were left")
    >>> "needs about 90 s" in reports.html(Results(command="graft compare photos/", cells=(cell,)))
    True
    """
    check_sound(results)
    title = f"Is transfer worth it: {results.data.get('name') or 'a comparison'}"
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
    sections = (verdict, learning, worth, domains, tasks, models, left_out, measured, every_cell)
    body = element("body", heading(results), element("main", [section(results) for section in sections]), _foot())
    return joined([Markup("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), Markup("\n")])


def write_html(results: Results, folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    Parameters
    ----------
    results : Results
        Of a comparison.
    folder : path
        Made if it is not there.

    Raises
    ------
    RunError
        If the results lack what a report shows.
    GraftError
        If the disk does not take it.
    """
    place, text = Path(folder), html(results)
    try:
        place.mkdir(parents=True, exist_ok=True)
        return write_whole(place / HTML_FILE, text)
    except OSError as error:
        raise GraftError(
            str(place),
            expected="a folder that takes the report",
            found=error.strerror or str(error),
            remedy="Free some space or name another folder.",
        ) from error


def _foot() -> Markup:
    said = (
        "Made by Graft from results.json alone; graft report renders it again. This page loads nothing from elsewhere."
    )
    return element("footer", element("p", said, class_="small quiet"))
