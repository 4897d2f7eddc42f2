"""Which tasks are fitted together: asked for, or told by how they get on with each other on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from graft.errors import RequestError
from graft.sharing import gradient_affinity, group_tasks, probe_affinity
from graft.techniques.multiple.fitting import Fitter
from graft.techniques.multiple.joint_material import targets_of
from graft.techniques.objectives import HEAD
from graft.training import Numbers

# Up to so many tasks every pair is fitted; beyond, the angles of the gradients of one common fit decide.
_MOST_PAIRED = 8
# Batches whose gradients are compared, and examples of each.
_BATCHES, _BATCH = 16, 256
# Gains of a pair, in units of the score without knowledge, that are not told from noise.
_NOISE = 0.005


def stated_groups(grouping: Sequence[Sequence[str]], names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return groups of tasks that were asked for, as places; tasks that none names stay alone.

    Raises
    ------
    RequestError
        If a name is unknown, or in two groups.
    """
    if isinstance(grouping, str):
        raise RequestError(
            "grouping", expected="None, 'auto' or groups of tasks", found=repr(grouping), remedy="Pass 'auto'."
        )
    named = [str(name) for group in grouping for name in group]
    wrong = [name for name in named if name not in names or named.count(name) > 1]
    if wrong:
        raise RequestError(
            "grouping",
            expected=f"each of {', '.join(names)} at most once",
            found=repr(wrong[0]) + (" twice" if wrong[0] in names else ""),
            remedy="Correct the groups.",
        )
    groups = [tuple(sorted(names.index(str(name)) for name in group)) for group in grouping if len(group)]
    return groups + [(place,) for place, name in enumerate(names) if name not in named]


def found_groups(fitter: Fitter, held: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Return the groups that gain most from being fitted together, and the affinity (K, K) that says so.

    Parameters
    ----------
    fitter : Fitter
        On frozen features.
    held : array of bool (n,)
        Examples that the fits are measured on.
    """
    count = len(fitter.material.tasks)
    if count <= _MOST_PAIRED:
        affinity = probe_affinity(lambda places: _scores(fitter, places, held), count)
        return group_tasks(np.where(np.abs(affinity) < _NOISE, 0.0, affinity)), affinity
    affinity = _gradient_affinity(fitter, held)
    return group_tasks(affinity), affinity


def _scores(fitter: Fitter, places: tuple[int, ...], held: np.ndarray) -> dict[int, float]:
    """Return what each task scores on held-out examples, 0 being worth no more than its labels' distribution."""
    fitted = fitter.together(places, ~held, held, "affinity")
    scores = {}
    for place in places:
        task = fitter.material.tasks[place]
        targets = targets_of(task)[torch.from_numpy(held)]
        known = torch.from_numpy(task.known[held])
        score = task.goal.score(fitted.outputs[place][known], targets[known])["score"]
        if not isinstance(task.goal, Numbers):
            score = 1 + score / _entropy(targets[known])
        scores[place] = score
    return scores


def _entropy(targets: torch.Tensor) -> float:
    """Return the log loss (nats) of predicting nothing but how frequent the values are."""
    share = targets.nanmean(dim=0).clamp(1e-6, 1 - 1e-6)
    if bool((targets.sum(dim=1) == 1).all()):
        return max(float(-(share * share.log()).sum()), 1e-6)
    return max(float(-(share * share.log() + (1 - share) * (1 - share).log()).mean()), 1e-6)


def _gradient_affinity(fitter: Fitter, held: np.ndarray) -> np.ndarray:
    """Return the mean cosine between the tasks' gradients in what they share, over batches, at the end of a fit."""
    places = tuple(range(len(fitter.material.tasks)))
    fitted = fitter.together(places, ~held, np.zeros_like(held), "affinity")
    assert fitted.run is not None
    network: Any = fitted.run.network
    objective: Any = fitted.run.objective
    examples = fitter.material.examples(held)
    shared = list(network.heads[HEAD].middle.parameters())
    draws = np.random.default_rng(0)
    found, there = [], []

    def flat(loss: torch.Tensor) -> torch.Tensor:
        slopes = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(one) if g is None else g).flatten() for one, g in zip(shared, slopes, strict=True)]
        )

    for _ in range(_BATCHES):
        rows = draws.choice(examples.count, size=min(_BATCH, examples.count), replace=False)
        losses, present = objective.task_losses(network, examples.batch(np.sort(rows)))
        found.append(torch.stack([flat(one) for one in losses]))
        there.append(present)
    return gradient_affinity(torch.stack(found), present=torch.stack(there))
