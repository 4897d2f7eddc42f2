"""`Question`: the data that advice is asked for, with features computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.backbones import Backbone, ModuleBackbone
from graft.data import Domain, Task, missing
from graft.evaluation.comparison.candidates import ADAPTED, FROZEN, RAW, SCRATCH, TOGETHER, TUNED

# What a score is, by the kind of a task: all of them are 1 where everything is right.
METRICS = {"classification": "accuracy", "multilabel": "accuracy", "regression": "r2"}


@dataclass(frozen=True, eq=False)
class Question:
    """What advice is asked for.

    Parameters
    ----------
    inputs : array of shape (n,) or (n, ...)
        The labelled examples that can be read.
    features : array or sparse matrix (n, d)
        Of the frozen network; the inputs themselves where they are vectors.
    labels : array of shape (n,) or (n, columns)
        As the user wrote them.
    tasks : tuple of Task
        One; or, for several tasks, one for each column of the labels.
    groups : array of shape (n,) or None
        Examples of one group are never divided.
    modality : str
        Of the inputs.
    backbone : Backbone or None
        The pretrained network; None for vectors.
    target : Domain or None
        The other domain, its features as inputs, without labels.
    epochs, views, store
        As `graft.advise` has them.
    seed : int
        Of everything that is drawn.
    """

    inputs: Any
    features: Any
    labels: np.ndarray
    tasks: tuple[Task, ...]
    groups: np.ndarray | None
    modality: str
    backbone: Backbone | None
    target: Domain | None
    epochs: Any
    views: int | None
    store: Any
    seed: int

    @property
    def examples(self) -> int:
        """The number of labelled examples, n."""
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether there are several tasks."""
        return len(self.tasks) > 1

    @property
    def techniques(self) -> tuple[str, ...]:
        """The techniques that can be used, those that cost least first."""
        names = [FROZEN] if self.backbone is None else [RAW, FROZEN]
        if self.several:
            names.append(TOGETHER)
        if self.target is not None and not self.several:
            names.append(ADAPTED)
        if self.backbone is not None and any(True for _ in self.backbone.module.parameters()):
            names += [TUNED, SCRATCH] if self.can_start_afresh else [TUNED]
        return tuple(names)

    @property
    def can_start_afresh(self) -> bool:
        """Whether the architecture can be made from random weights: a network of one's own has no name for that."""
        own = self.backbone is None or self.backbone.own_weights or isinstance(self.backbone, ModuleBackbone)
        return not own

    def column(self, place: int) -> np.ndarray:
        """Return the labels (n,) of one of several tasks."""
        return self.labels[:, place]

    def known(self, place: int) -> np.ndarray:
        """Return the rows that have a label of one of several tasks."""
        return np.flatnonzero(~missing(self.column(place)))
