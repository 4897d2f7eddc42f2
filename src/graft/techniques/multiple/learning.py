"""The course of a multi-task fit: held-out parts judge together against alone, then all examples are learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graft.metrics import Evaluation
from graft.techniques.choosing import calibrated
from graft.techniques.multiple.fitting import Fitted, Fitter
from graft.techniques.multiple.part import Part
from graft.techniques.multiple.verdict import ALONE, TOGETHER, MultiTaskVerdict, TaskGain, task_gain, verdict_of
from graft.techniques.phases import Phases

_NETWORK, _PROBE = "network", "probe"


@dataclass(frozen=True, eq=False)
class Learned:
    """What a fit came to.

    Parameters
    ----------
    parts : tuple of Part
        What serves the tasks: the first one that has a task's head predicts it.
    validation : dict of str to Evaluation or None
        Of what is served, on examples that it had not seen, for each task.
    verdict : MultiTaskVerdict or None
        Together beside alone; None where that was not asked for, or nothing could be held out.
    training : list of dict
        How each training on all examples went.
    """

    parts: tuple[Part, ...]
    validation: dict[str, Evaluation | None]
    verdict: MultiTaskVerdict | None
    training: list[dict[str, Any]]


class _Held:
    """Outputs for held-out examples, of one way to fit, filled in part by part; NaN where there are none."""

    def __init__(self, fitter: Fitter) -> None:
        count = len(fitter.material.inputs)
        self.outputs = [torch.full((count, task.goal.outputs), torch.nan) for task in fitter.material.tasks]

    def put(self, fitted: Fitted, held: np.ndarray) -> None:
        for place, found in fitted.outputs.items():
            self.outputs[place][torch.from_numpy(held)] = found.float()


def learn(
    fitter: Fitter,
    groups: Sequence[tuple[int, ...]],
    folds: Sequence[np.ndarray],
    phases: Phases,
    *,
    compare: bool,
    protect: bool,
) -> Learned:
    """Fit groups of tasks; `folds` are masks (n,) of what is held out in turn.

    Parameters
    ----------
    fitter : Fitter
        Fits.
    groups : sequence of tuple of int
        The places of the tasks of each group; every task is in one.
    folds : sequence of array of bool (n,)
        Held out in turn, disjoint.
    phases : Phases
        Where checkpoints are written.
    compare : bool
        Fit every task alone too.
    protect : bool
        Serve the single-task solution of a task that learning together harms.
    """
    tasks = fitter.material.tasks
    ways = {TOGETHER: _Held(fitter)}
    if compare:
        ways |= {_NETWORK: _Held(fitter)} if fitter.has_twin else {}
        ways |= {_PROBE: _Held(fitter)} if fitter.has_probe else {}

    seen: dict[tuple[int, ...], int] = {}

    def fit(places: tuple[int, ...], held: np.ndarray, what: str) -> Fitted:
        checkpoints = phases.checkpoints(what, fitter.material.of(places), held)
        found = fitter.together(places, ~held, held, what, checkpoints)
        seen[places] = seen.get(places, 0) + (0 if found.run is None else found.run.examples_seen)
        return found

    for number, held in enumerate(folds):
        which = f" {number + 1} of {len(folds)}" if len(folds) > 1 else ""
        for group in groups:
            together = fit(group, held, _title(fitter, group) + which)
            ways[TOGETHER].put(together, held)
            if _NETWORK in ways and len(group) == 1:
                ways[_NETWORK].put(together, held)
        for place in range(len(tasks)) if compare else ():
            if _NETWORK in ways and (place,) not in groups:
                ways[_NETWORK].put(fit((place,), held, _title(fitter, (place,)) + which), held)
            if _PROBE in ways and fitter.enough(place, ~held):
                ways[_PROBE].put(fitter.probe(place, ~held, held), held)
    gains: dict[int, TaskGain] = {}
    validation: dict[str, Evaluation | None] = {}
    temperatures: dict[str, dict[int, Any]] = {name: {} for name in ways}
    for place, task in enumerate(tasks):
        measured = task.known & np.all(
            [torch.isfinite(way.outputs[place]).all(dim=1).numpy() for way in ways.values()], axis=0
        )
        name = task.found.task.name
        validation[name] = None
        if not measured.any():
            continue
        found = {key: way.outputs[place][torch.from_numpy(measured)] for key, way in ways.items()}
        served = TOGETHER
        if compare:
            gain = task_gain(task, found, measured, protect=protect and all((place,) != group for group in groups))
            gains[place] = gain
            served = gain.twin if gain.served == ALONE else TOGETHER
        evaluations = {key: calibrated(task, outputs, measured) for key, outputs in found.items()}
        validation[name] = evaluations[served][0]
        for key, (_, temperature) in evaluations.items():
            temperatures[key][place] = temperature
    parts, training = [], []
    nothing, everything = np.zeros(len(fitter.material.inputs), bool), np.ones(len(fitter.material.inputs), bool)
    for place, gain in gains.items():
        if gain.served == TOGETHER:
            continue
        if gain.twin == _PROBE:
            alone = fitter.probe(place, everything, nothing)
        else:
            alone = fit((place,), nothing, _title(fitter, (place,)) + " on all")
        parts.append(fitter.part((place,), alone, temperatures[gain.twin]))
        training += _told(fitter, (place,), alone, seen)
    for group in groups:
        if all(place in gains and gains[place].served == ALONE for place in group):
            continue
        together = fit(group, nothing, _title(fitter, group) + " on all")
        parts.append(fitter.part(group, together, temperatures[TOGETHER]))
        training += _told(fitter, group, together, seen)
    verdict = verdict_of([gains[place] for place in sorted(gains)]) if gains else None
    return Learned(tuple(parts), validation, verdict, training)


def _title(fitter: Fitter, places: tuple[int, ...]) -> str:
    tasks = fitter.material.tasks
    if len(places) == 1:
        return f"{tasks[places[0]].found.task.name} alone"
    return "together" if len(places) == len(tasks) else " and ".join(tasks[one].found.task.name for one in places)


def _told(
    fitter: Fitter, places: tuple[int, ...], fitted: Fitted, seen: Mapping[tuple[int, ...], int]
) -> list[dict[str, Any]]:
    """Return how a training on all examples went; what was seen is that of those that measured before it, too."""
    if fitted.run is None:
        return []
    names = [fitter.material.tasks[place].found.task.name for place in places]
    told = fitted.run.to_dict() | {"examples_seen": seen[places]}
    return [{"tasks": names, "trained_parameters": fitted.run.trained_parameters, **told}]
