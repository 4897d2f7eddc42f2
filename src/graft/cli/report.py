"""``graft report``: render the report of comparisons again, without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Json
from graft.cli.show import print_json
from graft.errors import RequestError


def report(
    report: Annotated[
        list[str], typer.Argument(metavar="REPORT", help="The folder of a comparison, or its results.json; or several.")
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where report.html is written. Default: the folder of the comparison."),
    ] = None,
    json: Json = False,
) -> None:
    """Write report.html again from the results.json of a comparison, and show its figures. Nothing is measured.

    Several comparisons become one page, their verdicts together at its top. With --json, the figures are those of
    results.json, of several ones a list named comparisons.
    """
    from graft.evaluation.results import read_results
    from graft.reports import show, show_headlines, write_html

    if out is None and len(report) > 1:
        raise RequestError(
            "--out",
            expected="a folder for the page of several comparisons",
            found="none",
            remedy="Pass --out FOLDER.",
        )
    everything = [read_results(one) for one in report]
    place = Path(report[0] if out is None else out)
    written = write_html(*everything, folder=place.parent if out is None and not place.is_dir() else place)
    if json:
        if len(everything) == 1:
            print_json({"report": str(written), **everything[0].to_dict()})
        else:
            print_json({"report": str(written), "comparisons": [one.to_dict() for one in everything]})
        return
    if len(everything) == 1:
        show(everything[0], models=True)
    else:
        show_headlines(everything)
    print(f"\nReport: {written}")
