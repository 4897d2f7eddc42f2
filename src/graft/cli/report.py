"""``graft report``: render the report of a comparison again, without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Json
from graft.cli.show import print_json


def report(
    report: Annotated[str, typer.Argument(metavar="REPORT", help="The folder of a comparison, or its results.json.")],
    *,
    json: Json = False,
) -> None:
    """Write report.html again from the results.json of a comparison, and show its figures. Nothing is measured."""
    from graft.evaluation.results import read_results
    from graft.reports import show, write_html

    results = read_results(report)
    place = Path(report)
    written = write_html(results, place if place.is_dir() else place.parent)
    if json:
        print_json({"report": str(written)})
        return
    show(results, models=True)
    print(f"\nReport: {written}")
