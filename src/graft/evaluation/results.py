"""`Results`: what a comparison found, as one value and one file, ``results.json``, with its cells in ``results.csv``.

The file's schema is told in ``docs/results.md``. A report is rendered from it alone.
"""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from graft._checks import one_of
from graft.errors import GraftError, RequestError, RunError
from graft.evaluation.cell import Cell, cells_table
from graft.persistence import whole_file

FORMAT = 2
KIND = "graft comparison"
JSON_FILE, CSV_FILE, CELLS = "results.json", "results.csv", "cells"

_BEGINNING = re.compile(rb'\s*\{\s*"format"\s*:')  # of a file that a comparison wrote

NO_INTERVAL = "no interval: one split, all alike, or beyond what was measured"
OUTCOMES = ("pays", "does not pay", "mixed", "inconclusive", "not measured")
_SHOWN = 200  # characters of the verdict where results are printed


@dataclass(frozen=True)
class Verdict:
    """What the cells say.

    Parameters
    ----------
    outcome : {"pays", "does not pay", "mixed", "inconclusive", "not measured"}
        Whether transfer (or adaptation, where nothing else was compared) pays on this data.
    text : str
        One paragraph.
    figures : tuple of dict
        Three, or none where no question was answered: ``name`` (``"time"``, ``"labels"``, ``"memory"``), ``title``,
        ``text``, ``sentence`` (with the interval), ``value``, ``low``, ``high``; the values are None where they cannot
        be told.
    findings : tuple of dict
        One for each question asked, with every figure that the paragraph rests on.
    """

    outcome: str
    text: str
    figures: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        one_of("outcome", self.outcome, OUTCOMES)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "outcome": self.outcome,
            "text": self.text,
            "figures": [dict(one) for one in self.figures],
            "findings": [dict(one) for one in self.findings],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the verdict of which `to_dict` made `plain`."""
        return cls(plain["outcome"], plain["text"], tuple(plain["figures"]), tuple(plain["findings"]))


@dataclass(frozen=True)
class Results:
    """What a comparison found; plain values, so that a report needs nothing else.

    Parameters
    ----------
    created : str
        When, in UTC, ISO 8601.
    command : str
        What repeats it.
    versions : dict of str to str
        Of Python, Graft and the libraries that compute.
    machine : dict
        ``system``, ``processor``, ``cores``, ``memory_gib``, ``device``.
    data : dict
        What was measured on; see ``docs/results.md``.
    settings : dict
        How it was measured.
    score : dict
        ``name``, ``title`` and ``percent`` (whether it reads in percent) of the metric that decides.
    techniques : tuple of dict
        ``name``, ``title``, ``sides`` and ``description`` of each technique compared.
    cells : tuple of Cell
        Everything that was measured, and what was not, with the reason.
    summary : tuple of dict
        The learning curves: for each technique and budget the score over the seeds, with its interval, and its cost.
    verdict : Verdict
    details : tuple of dict
        For each technique, of each task that was tested, its cell with most labels in full: classes, confusion,
        calibration, examples.

    Examples
    --------
    >>> from graft.evaluation.cell import Cell
    >>> from graft.evaluation.results import Results, Verdict
    >>> cell = Cell("feature-extraction", 5, 0, 10, "left out", "needs about 90 s, 20 s were left")
    >>> found = Results(command="graft compare photos/ --out report", cells=(cell,))
    >>> Results.from_dict(found.to_dict()) == found
    True
    """

    created: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    techniques: tuple[Mapping[str, Any], ...] = ()
    cells: tuple[Cell, ...] = ()
    summary: tuple[Mapping[str, Any], ...] = ()
    verdict: Verdict = field(default_factory=lambda: Verdict("not measured", ""))
    details: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        """Return what was compared and what came out, in three lines; `graft.reports.show` prints everything."""
        done = sum(cell.done for cell in self.cells)
        cells = f"{done} of {len(self.cells)} cells measured"
        target = self.data.get("target") or {}
        of = [self.data.get("name"), target and f"adapted to {target['name']}"]
        named = list(dict.fromkeys(cell.technique for cell in self.cells))
        lines = [
            f"Results of {', '.join(one for one in of if one) or 'a comparison'}: {cells}",
            f"  techniques: {', '.join(named) or 'none'}",
            f"  verdict: {self.verdict.outcome}",
        ]
        if self.verdict.text:
            lines[-1] += f". {textwrap.shorten(self.verdict.text, _SHOWN, placeholder=' …')}"
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, as ``results.json`` has them."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            "format": FORMAT,
            "kind": KIND,
            **plain,
            "techniques": [dict(one) for one in self.techniques],
            "cells": [cell.to_dict() for cell in self.cells],
            "summary": [dict(one) for one in self.summary],
            "verdict": self.verdict.to_dict(),
            "details": [dict(one) for one in self.details],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, subject: str = "results") -> Self:
        """Return the results of which `to_dict` made `plain`.

        Raises
        ------
        RunError
            If they are of another kind, of a newer format, or lack a part.
        """
        if not isinstance(plain, Mapping) or plain.get("kind") != KIND:
            raise _other_file(subject)
        if not isinstance(plain.get("format"), int) or plain["format"] > FORMAT:
            raise NewerResultsError(
                subject,
                expected=f"results of format {FORMAT} or older",
                found=f"format {plain.get('format')}, written by graft {plain.get('versions', {}).get('graft', '?')}",
                remedy="Install a newer version (pip install --upgrade graft-learn), or name another folder.",
            )
        try:
            parts = {one.name: plain[one.name] for one in fields(cls)}
            return cls(
                **{
                    **parts,
                    "techniques": tuple(plain["techniques"]),
                    "cells": tuple(Cell.from_dict(one) for one in plain["cells"]),
                    "summary": tuple(plain["summary"]),
                    "verdict": Verdict.from_dict(plain["verdict"]),
                    "details": tuple(plain["details"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunError(
                subject,
                expected="the file as it was written",
                found=f"one without {error}" if isinstance(error, KeyError) else "one with a part of another kind",
                remedy="Run the comparison again: what it has measured is kept beside the file.",
            ) from error

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``results.json`` and ``results.csv`` into a folder, each whole or not at all, and return the former.

        Raises
        ------
        RequestError
            If `folder` is a file.
        GraftError
            If the disk does not take them.
        """
        path = Path(folder)
        require_folder(path)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(path / CSV_FILE, self.to_csv())
        return write_whole(path / JSON_FILE, text + "\n")

    def to_csv(self) -> str:
        """Return the table of the cells; see `graft.evaluation.cell.cells_table`."""
        return cells_table(self.cells)


class NewerResultsError(RunError):
    """The results are of a format that a newer version of Graft writes."""


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read ``results.json``, or the folder that it lies in.

    Raises
    ------
    RequestError
        If there is no such file.
    RunError
        If it is not the results of a comparison.
    """
    place = Path(path)
    file = place / JSON_FILE if place.is_dir() else place
    if not file.is_file():
        if kept := finished_cells(place):
            raise RequestError(
                str(place),
                expected=f"a {JSON_FILE}, written at the end of a comparison",
                found=f"a comparison that has not ended, with {kept} finished cell{'' if kept == 1 else 's'}",
                remedy="The same `graft compare` command continues it.",
            )
        raise RequestError(
            str(place),
            expected=f"a {JSON_FILE}, or the folder that holds one",
            found="none",
            remedy="Name the folder that `graft compare --out` wrote.",
        )
    content = file.read_bytes()
    try:
        plain = json.loads(content)
    except ValueError as error:
        if not _BEGINNING.match(content):
            raise _other_file(str(file)) from error
        raise RunError(
            str(file),
            expected="the whole file of a comparison",
            found="one that is cut off or damaged",
            remedy="The same `graft compare` command continues with the cells beside it, and writes it again.",
        ) from error
    return Results.from_dict(plain, subject=str(file))


def factor_text(value: float) -> str:
    """Return how many times, with two digits.

    Examples
    --------
    >>> factor_text(1.234), factor_text(15.9), factor_text(123456)
    ('1.2', '16', '120,000')
    """
    if value < 9.95:
        return f"{value:.1f}"
    power = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return f"{round(value / power) * power:,d}"


def _other_file(subject: str) -> RunError:
    return RunError(
        subject,
        expected=f"a {JSON_FILE}, the results of a comparison",
        found="something else",
        remedy="Name the folder that `graft compare --out` wrote.",
    )


def earlier_results(folder: str | os.PathLike[str]) -> Results | None:
    """Return the results that are in a folder, or None: there are none, or none that can be read.

    Raises
    ------
    NewerResultsError
        If a newer version of Graft wrote them: they are whole, and nothing here could write them again.
    """
    try:
        return read_results(Path(folder))
    except NewerResultsError:
        raise
    except (GraftError, OSError):
        return None


def finished_cells(folder: str | os.PathLike[str]) -> int:
    """Return how many finished cells of a comparison are in its folder."""
    return sum(1 for _ in (Path(folder) / CELLS).glob("*.json"))


def require_folder(folder: Path) -> None:
    """Check that a report can be written into `folder`: that no file stands in its place.

    Raises
    ------
    RequestError
        If one does.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestError(
            str(folder), expected="a folder for the report", found="a file", remedy="Name another folder."
        )


def write_whole(file: Path, text: str) -> Path:
    """Write a text whole or not at all (`graft.persistence.whole_file`), and return its path."""
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return file
