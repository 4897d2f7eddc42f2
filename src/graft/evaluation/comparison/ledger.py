"""`Ledger`: the finished cells of a comparison on disk, so that none of them is ever measured twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import graft
from graft.data import Domain, Task
from graft.errors import RequestError
from graft.evaluation.comparison.deals import kind_of
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.comparison.setup import fingerprint
from graft.evaluation.results import CELLS, CSV_FILE, JSON_FILE, earlier_results, require_folder, write_whole

# Raised when a cell of the same name would be measured otherwise: cells of before are then measured again.
PROCEDURE = 6
# So often may the process end while a cell is measured before that cell is held to be the reason.
MOST_ENDS = 2
_NAMED = 5  # classes or columns of labels, in an error


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


def check_same_data(
    folder: str | os.PathLike[str] | None, domain: Domain, tasks: Sequence[Task], target: Domain | None, modality: str
) -> None:
    """Check that a report which is already in the folder is of the same data, labels and target.

    Raises
    ------
    RequestError
        If it is of others: it would be replaced, and nothing of it would be of use.
    """
    earlier = None if folder is None else earlier_results(folder)
    if earlier is None or not earlier.data.get("fingerprint"):
        return
    before: Mapping[str, Any] = earlier.data
    task: Mapping[str, Any] = before.get("task") or {}
    goal: Mapping[str, Any] = before.get("target") or {}
    classes = [str(one.name) for one in tasks] if len(tasks) > 1 else list(map(str, tasks[0].classes))
    here = _words(domain.name, kind_of(tasks), classes, target and target.name)
    there = _words(before.get("name"), task.get("kind"), task.get("classes"), goal.get("name"))
    same = before["fingerprint"] == fingerprint(domain, modality)
    same = same and goal.get("fingerprint") == (None if target is None else fingerprint(target, modality))
    if same and (task.get("kind"), list(task.get("classes") or ())) == (kind_of(tasks), classes):
        return
    raise RequestError(
        str(folder),
        expected=f"a new folder, or one with a report of {here}",
        found=f"the report of {there}" + (" with other inputs, labels, groups or splits" if here == there else ""),
        remedy=f"Name another folder: this one was written by `{earlier.command}`.",
    )


def _words(name: Any, kind: Any, classes: Any, target: Any) -> str:
    """Return what a report is of: the data, what is predicted, and where."""
    listed = [str(one) for one in classes or ()]
    shown = ", ".join(listed[:_NAMED]) + (", …" if len(listed) > _NAMED else "")
    said = f"{name} ({kind}: {shown})" if listed else f"{name} ({kind})"
    return f"{said}, adapted to {target}" if target else said


def _usable(folder: Path) -> Path:
    require_folder(folder)
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
