"""Checkpoints: everything that the next steps depend on, written whole, the last two kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graft.errors import RunError
from graft.persistence import read_run, write_run

_KEPT = 2
_NAME = re.compile(r"step-(\d{9})")
_CUT_OFF = re.compile(r"\.step-\d{9}\.\d+\.(partial|old)")
_CARD = "# A checkpoint of a training\n\nContinue it with `--resume`.\n"


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints of one training are kept.

    Parameters
    ----------
    folder : Path
        A folder for them alone.
    facts : mapping
        What decides the training (data, network, options) as JSON values: another training's are refused.
    seconds : float
        A checkpoint is written when this much time has passed since the last one.
    resume : bool
        Continue from the last one that is there; otherwise what is there is removed.
    """

    folder: Path
    facts: Mapping[str, Any]
    seconds: float = 60.0
    resume: bool = False

    def latest(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """Return the state and the tensors of the last checkpoint that is whole; None if there is none.

        Raises
        ------
        RunError
            If it belongs to a training on other data, of another network, or with other options.
        """
        for path in reversed(self._all()):
            try:
                run = read_run(path)
            except RunError:
                continue  # cut off by a crash of the machine: the one before it is whole
            mine, its = json.loads(json.dumps(dict(self.facts))), run.config["facts"]
            if mine != its:
                absent = object()
                differ = sorted(key for key in {*mine, *its} if mine.get(key, absent) != its.get(key, absent))
                raise RunError(
                    str(self.folder),
                    expected="a checkpoint of the same training",
                    found=f"one with another {', '.join(differ)}",
                    remedy="Start with the same data and options to resume, or without --resume to train anew.",
                )
            return run.config["state"], run.tensors
        return None

    def write(self, step: int, state: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint after `step` steps and remove all but the last two.

        What stands there as of this step or a later one was cut off when it was written: it is removed first.
        """
        for path in self._all():
            if int(path.name.removeprefix("step-")) >= step:
                shutil.rmtree(path, ignore_errors=True)
        config = {"facts": dict(self.facts), "state": dict(state), "versions": {}}
        write_run(self.folder / f"step-{step:09d}", config=config, tensors=tensors, card=_CARD)
        for path in self._all()[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Remove all checkpoints, and the folder where nothing else stands in it."""
        for path in [*self._all(), *self._matching(_CUT_OFF)]:
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _all(self) -> list[Path]:
        return self._matching(_NAME)

    def _matching(self, name: re.Pattern[str]) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if name.fullmatch(path.name))
