"""The checkpoints of the trainings of one `fit`, one after the other, in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from graft.errors import RequestError
from graft.training import Checkpoints

# Options of a technique that do not change what it computes.
_APART = frozenset({"backbone", "checkpoints", "resume", "log_folder", "store", "device", "strict"})


class Factual(Protocol):
    """Examples that can be told from others."""

    def facts(self, held: np.ndarray) -> dict[str, Any]: ...


@final
class Phases:
    """Where the trainings of one `fit` write their checkpoints, each into a folder of its own.

    Parameters
    ----------
    folder : path or None
        Of all; None: nothing is written.
    params : mapping
        The technique's options: a training is continued only with the same ones.
    resume : bool
        Continue from what is there.
    """

    def __init__(self, folder: Any, params: Mapping[str, Any], *, resume: bool) -> None:
        self._folder = None if folder is None else Path(folder)
        self._params = {name: repr(value) for name, value in params.items() if name not in _APART}
        self._resume = resume
        self._begun: list[Checkpoints] = []

    def checkpoints(self, phase: str, material: Factual, held: np.ndarray) -> Checkpoints | None:
        """Return those of a training of some material, of which a mask (n,) is held out; None: none are written."""
        if self._folder is None:
            return None
        facts = {**self._params, **material.facts(held)}
        self._begun.append(Checkpoints(self._folder / phase.replace(" ", "-"), facts, resume=self._resume))
        return self._begun[-1]

    def clear(self) -> None:
        """Remove them all."""
        for kept in self._begun:
            kept.clear()
        if self._folder is not None:
            with suppress(OSError):  # something else stands in it, or another process was first
                self._folder.rmdir()


def require_folder(checkpoints: Any, *, resume: bool) -> None:
    """Refuse to continue from nowhere.

    Raises
    ------
    RequestError
        If `resume` is asked for without a folder.
    """
    if resume and checkpoints is None:
        raise RequestError(
            "resume", expected="a folder of checkpoints", found="none", remedy="Pass checkpoints='folder/' too."
        )
