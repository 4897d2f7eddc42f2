"""The examples of a source and a target together, as the training of a network takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.backbones import Backbone, Views
from graft.techniques.adaptation.problem import Problem, known_share
from graft.techniques.holding_out import hold_out, require_both
from graft.techniques.labelled import Labelled
from graft.techniques.material import Material, goal_of


@dataclass(frozen=True, eq=False)
class BothDomains:
    """The examples of the source, and those of the target behind them.

    Parameters
    ----------
    material : Material
        All of them.
    target : array of bool (n,)
        Which are of the target.
    held : array of bool (n,)
        Which are held out: of the source, none of the target.
    """

    material: Material
    target: np.ndarray
    held: np.ndarray


def both_domains(
    backbone: Backbone,
    inputs: list[Any],
    source: Labelled,
    problem: Problem,
    *,
    class_weight: Any,
    augment: float,
    validation: float,
    random_state: int | None,
) -> BothDomains:
    """Return the examples of both domains.

    Parameters
    ----------
    backbone : Backbone
        The network that the training starts from.
    inputs : list of n inputs
        Those of the source, then those of the target.
    source : Labelled
        The source's examples.
    problem : Problem
        What is known of both.
    class_weight : "balanced", dict or None
        The weight of each class, or of the two values of each label.
    augment : float
        How strongly pictures are varied.
    validation : float
        The fraction of the source that is held out; it may be 0, and comes to nothing where there are few.
    random_state : int or None
        Decides which, and the variations.

    Raises
    ------
    DataError
        If no examples of a class are left to learn from.
    """
    count, total = len(source.rows), len(inputs)
    held = np.zeros(total, bool)
    if validation > 0:
        held[:count] = hold_out(source, validation, random_state)
        if held.any():  # of a few examples, a small fraction is none
            require_both(source, held[:count])
    found, known = _joined(source, problem)
    goal = goal_of(found, known & ~held, class_weight=class_weight)
    views = Views(seed=problem.random_state, magnitude=augment)
    return BothDomains(Material(backbone, inputs, found, goal, class_weight, views), np.arange(total) >= count, held)


def _joined(source: Labelled, problem: Problem) -> tuple[Labelled, np.ndarray]:
    """Return the examples of both domains, and which of them (n,) have a label."""
    count, there = len(source.rows), problem.target.shape[0]
    labels = np.concatenate([source.labels, np.repeat(source.labels[:1], there, axis=0)])
    targets = np.concatenate([source.targets, np.repeat(source.targets[:1], there, axis=0)])
    weight = np.concatenate([problem.weight, np.full(there, problem.weight.mean())])
    known = np.arange(count + there) < count
    if len(problem.known):
        rows = count + problem.known
        targets[rows], known[rows] = problem.known_targets, True
        weight[rows] *= known_share(count, len(problem.known))
    groups = problem.groups
    if groups is not None:
        # Every target example is a group of its own.
        codes = np.unique(groups, return_inverse=True)[1]
        groups = np.concatenate([codes, codes.max() + 1 + np.arange(there)])
    found = replace(
        source,
        rows=np.concatenate([source.rows, np.arange(there)]),
        features=np.concatenate([problem.source, problem.target]),
        labels=labels,
        targets=targets,
        sample_weight=weight,
        groups=groups,
        known=known,
    )
    return found, known
