"""The examples of several tasks, of which each has labels for some."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from graft.backbones import Backbone
from graft.techniques.material import Material
from graft.training import Examples


@dataclass(frozen=True, eq=False)
class JointMaterial:
    """What the trainings of some tasks on the same examples share.

    Parameters
    ----------
    backbone : Backbone
        What makes features from inputs in the training: the network, or the identity where the inputs are features.
    inputs : list of n inputs
        The examples.
    tasks : tuple of Material
        The labels of each task; `Material.known` says where there are some.
    """

    backbone: Backbone
    inputs: list[Any]
    tasks: tuple[Material, ...]

    @property
    def known(self) -> np.ndarray:
        """Which examples (n,) have a label of any of the tasks."""
        return np.any([one.known for one in self.tasks], axis=0)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The columns of each task among all targets."""
        ends = np.cumsum([one.goal.outputs for one in self.tasks]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))

    def of(self, places: tuple[int, ...]) -> JointMaterial:
        """Return the same examples with some of the tasks."""
        return JointMaterial(self.backbone, self.inputs, tuple(self.tasks[place] for place in places))

    @cached_property
    def _all(self) -> Examples:
        first = self.tasks[0]
        weight = first.found.sample_weight
        return Examples(
            self.backbone,
            self.inputs,
            torch.cat([targets_of(one) for one in self.tasks], dim=1),
            weight=np.ones(len(self.inputs)) if weight is None else weight,
            views=first.views,
        )

    def examples(self, chosen: np.ndarray) -> Examples:
        """Return the examples of a mask (n,)."""
        return self._all.subset(np.flatnonzero(chosen))

    def facts(self, held: np.ndarray) -> dict[str, Any]:
        """Return what tells these examples and tasks from others, of which a mask (n,) is held out."""
        each = [one.facts(held) for one in self.tasks]
        data = hashlib.sha256("".join(one["data"] for one in each).encode()).hexdigest()
        return {**each[0], "data": data, "tasks": [one.found.task.name for one in self.tasks]}


def targets_of(material: Material) -> torch.Tensor:
    """Return the targets (n, outputs) of a task; NaN where an example has no label."""
    known = material.known
    targets = torch.full((len(known), material.goal.outputs), torch.nan)
    targets[torch.from_numpy(known)] = material.goal.targets(material.found.targets[known])
    return targets
