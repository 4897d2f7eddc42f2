"""`CheckReport`: what is wrong with a data set, as values and as a table."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_WIDTH = 80  # columns of the printed table
_SHOWN = 5  # places that a problem names; the count tells how many there are


@dataclass(frozen=True)
class Problem:
    """One kind of problem, wherever it occurs.

    Parameters
    ----------
    kind : str
        What is wrong, such as ``"truncated image"``.
    where : tuple of str
        The first few places: paths, rows (counted from 0), columns or classes.
    count : int
        How many places there are.
    remedy : str
        What to do about it.
    harmful : bool
        Whether a training or its evaluation would suffer.
    """

    kind: str
    where: tuple[str, ...]
    count: int
    remedy: str
    harmful: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as plain values for JSON."""
        return {
            "kind": self.kind,
            "where": list(self.where),
            "count": self.count,
            "remedy": self.remedy,
            "harmful": self.harmful,
        }


def problem(kind: str, places: Sequence[str], remedy: str, *, harmful: bool) -> list[Problem]:
    """Return the problem that occurs at `places`, in a list; none if there is no place."""
    if not places:
        return []
    return [Problem(kind, tuple(places[:_SHOWN]), len(places), remedy, harmful)]


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Parameters
    ----------
    name : str
        The name of the domain.
    modality : {"image", "text", "features"}
        What the inputs are.
    examples : int
        How many examples were looked at.
    problems : tuple of Problem
        The harmful ones first.
    """

    name: str
    modality: str
    examples: int
    problems: tuple[Problem, ...]

    @property
    def harmful(self) -> bool:
        """Whether a training or its evaluation would suffer from any of the problems."""
        return any(found.harmful for found in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON: ``{"examples": n, "harmful": …, "problems": [{…}, …]}``."""
        return {
            "examples": self.examples,
            "harmful": self.harmful,
            "problems": [found.to_dict() for found in self.problems],
        }

    def __str__(self) -> str:
        noun = {"image": "images", "text": "texts", "features": "rows of features"}[self.modality]
        head = f"{_shortened(self.name, 30) or 'data'}: {self.examples:,} {noun}, "
        if not self.problems:
            return head + "no problem found"
        grave = sum(found.harmful for found in self.problems)
        kinds_of = f"{len(self.problems)} kind{'s' if len(self.problems) > 1 else ''} of problem"
        head += f"{kinds_of}, {f'{grave} harmful (!)' if grave else 'none harmful'}"
        kinds = max(len("problem"), *(len(found.kind) for found in self.problems))
        counts = max(len("count"), *(len(f"{found.count:,}") for found in self.problems))
        left = 2 + kinds + 2 + counts + 2
        lines = [head, "", f"  {'problem':<{kinds}}  {'count':>{counts}}  where and what to do"]
        for found in self.problems:
            places = [_shortened(line, _WIDTH - left) for place in found.where for line in _lines(place)]
            if found.count > len(found.where):
                places.append(f"and {found.count - len(found.where):,} more")
            start = f"{'!' if found.harmful else ' '} {found.kind:<{kinds}}  {found.count:>{counts},}  "
            for text in (*places, *textwrap.wrap("-> " + found.remedy, _WIDTH - left, subsequent_indent="   ")):
                lines.append((start + text).rstrip())
                start = " " * left
        return "\n".join(lines)


def _lines(place: str) -> list[str]:
    """Return the lines of a place: two paths, or a path and its fault, side by side would hide the name of the file."""
    if "/" not in place:
        return [place]
    return re.sub(r"(\.\w{1,5}) \(", r"\1\n(", place.replace(" = ", "\n= "), count=1).split("\n")


def _shortened(text: str, width: int) -> str:
    """Return a text on one line of at most `width` characters; of a path the end says more than the beginning."""
    line = "".join(character if character.isprintable() else " " for character in text)
    if len(line) <= width:
        return line
    if "/" in line and ": " not in line:
        return "…" + line[-(width - 1) :]
    return line[: width - 1] + "…"
