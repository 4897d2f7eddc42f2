"""`Ledger`: the finished cells of a comparison on disk, so that none of them is ever measured twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

from graft.errors import RequestError
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.results import CSV_FILE, JSON_FILE, write_whole

CELLS = "cells"
# So often may the process end while a cell is measured before that cell is held to be the reason.
MOST_ENDS = 2


class Ledger:
    """Keeps finished cells, each in a file of its own that is written whole. Final.

    Parameters
    ----------
    folder : path or None
        The folder of the report; None keeps nothing.

    Raises
    ------
    RequestError
        If the folder holds something else than a report, or is a file.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._cells = None if folder is None else _usable(Path(folder)) / CELLS

    def find(self, key: str) -> Measured | None:
        """Return a finished cell, or None; a file that is not what was written counts for nothing."""
        if self._cells is None:
            return None
        try:
            return Measured.from_dict(json.loads((self._cells / f"{key}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, measured: Measured) -> None:
        """Write a finished cell down."""
        if self._cells is None:
            return
        write_whole(self._cells / f"{key}.json", json.dumps(measured.to_dict(), ensure_ascii=False))
        self.end(key)

    def begin(self, key: str) -> int:
        """Note that a cell is begun; returns how often the process has ended within it before."""
        if self._cells is None:
            return 0
        self._cells.mkdir(parents=True, exist_ok=True)
        mark = self._cells / f"{key}.begun"
        ends = len(mark.read_text().splitlines()) if mark.exists() else 0
        if ends < MOST_ENDS:
            with mark.open("a") as file:
                file.write("begun\n")
        return ends

    def end(self, key: str) -> None:
        """Note that the process has not ended within a cell."""
        if self._cells is not None:
            (self._cells / f"{key}.begun").unlink(missing_ok=True)


def _usable(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise RequestError(
            str(folder), expected="a folder for the report", found="a file", remedy="Name another folder."
        )
    # A page or a picture that was made from the results may lie beside them.
    if folder.is_dir() and any(folder.iterdir()):
        known = any((folder / name).exists() for name in (CELLS, JSON_FILE, CSV_FILE))
        if not known:
            raise RequestError(
                str(folder),
                expected="a new folder, an empty one or the report of an earlier comparison",
                found="a folder with other files in it",
                remedy="Name another folder.",
            )
    return folder
