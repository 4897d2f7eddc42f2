"""`Ledger`: the finished cells of a comparison on disk, so that none of them is ever measured twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import graft
from graft.errors import RequestError
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.results import CSV_FILE, JSON_FILE, write_whole

CELLS = "cells"
# Raised when a cell of the same name would be measured otherwise: cells of before are then measured again.
PROCEDURE = 4
# So often may the process end while a cell is measured before that cell is held to be the reason.
MOST_ENDS = 2


class Ledger:
    """Keeps finished cells, each in a file of its own that is written whole. Final.

    A cell says what measured it: one of another version of Graft counts for nothing, since techniques, recipes and
    costs may have changed with it, and cells are compared with each other.

    Parameters
    ----------
    folder : path or None
        The folder of the report; None keeps nothing.

    Attributes
    ----------
    outdated : dict of str to str
        By its key, what measured each cell that was found but not taken.

    Raises
    ------
    RequestError
        If the folder holds something else than a report, or is a file.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._cells = None if folder is None else _usable(Path(folder)) / CELLS
        self.outdated: dict[str, str] = {}

    def find(self, key: str) -> Measured | None:
        """Return a finished cell that this version measured, or None; a file that is not whole counts for nothing."""
        if self._cells is None:
            return None
        try:
            plain = json.loads((self._cells / f"{key}.json").read_text(encoding="utf-8"))
            by = str(plain.get("measured_by", "an earlier Graft"))
            if by != measured_by():
                self.outdated[key] = by
                return None
            return Measured.from_dict(plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, key: str, measured: Measured) -> None:
        """Write a finished cell down."""
        if self._cells is None:
            return
        plain = {"measured_by": measured_by(), **measured.to_dict()}
        write_whole(self._cells / f"{key}.json", json.dumps(plain, ensure_ascii=False))

    def begin(self, key: str) -> int:
        """Note that a cell is begun; returns how often the process has ended within it before."""
        if self._cells is None:
            return 0
        self._cells.mkdir(parents=True, exist_ok=True)
        mark = self._cells / f"{key}.begun"
        # What another version could not measure, this one may.
        ends = mark.read_text(encoding="utf-8").splitlines().count(measured_by()) if mark.exists() else 0
        if ends < MOST_ENDS:
            with mark.open("a", encoding="utf-8") as file:
                file.write(f"{measured_by()}\n")
        return ends

    def end(self, key: str) -> None:
        """Note that the process has not ended within a cell."""
        if self._cells is not None:
            (self._cells / f"{key}.begun").unlink(missing_ok=True)


def measured_by() -> str:
    """Return what measures cells here: the version of Graft, and the number of the procedure."""
    return f"Graft {graft.__version__}, procedure {PROCEDURE}"


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
