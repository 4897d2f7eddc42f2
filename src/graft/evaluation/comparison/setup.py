"""`Setup`: what all cells of a comparison share, and the identity of each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from graft.backbones import Backbone
from graft.data import Domain, Task, content_hash, label_array
from graft.errors import DataError
from graft.evaluation.comparison.candidates import Candidate
from graft.evaluation.comparison.deals import Deal, kind_of
from graft.evaluation.comparison.network_cost import NetworkCost


@dataclass(frozen=True)
class Job:
    """A cell that is to be measured: a technique, a number of labels (None: all), a deal of the examples."""

    candidate: Candidate
    budget: int | None
    deal: Deal

    @property
    def rows(self) -> np.ndarray:
        """The rows that are learnt from."""
        return self.deal.few(self.budget)


@dataclass(frozen=True, eq=False)
class Setup:
    """What all cells share.

    Parameters
    ----------
    domain : Domain
        With labels.
    target : Domain or None
        Where the model is to work, with what labels it has: they are measured by, and nothing else.
    modality : str
        Of the inputs.
    tasks : tuple of Task
        What is predicted: one task, or one for each label column.
    backbone : Backbone or None
        The pretrained network; None for feature vectors.
    device, epochs, store
        As `graft.compare` has them.
    cost : NetworkCost
        Of the frozen network.
    """

    domain: Domain
    target: Domain | None
    modality: str
    tasks: tuple[Task, ...]
    backbone: Backbone | None
    device: str | None
    epochs: Any
    store: Any
    cost: NetworkCost

    @property
    def task(self) -> Task:
        """What is predicted, where it is one task."""
        return self.tasks[0]

    @property
    def kind(self) -> str:
        """The kind of the task, or ``"multi-task"``."""
        return kind_of(self.tasks)

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """What the columns of the label table are called; None where there is one."""
        if len(self.tasks) > 1:
            return tuple(task.name for task in self.tasks)
        return tuple(str(name) for name in self.task.classes) if self.kind == "multilabel" else None

    @property
    def tested(self) -> Domain:
        """The domain whose examples are tested on."""
        return self.domain if self.target is None else self.target

    @cached_property
    def unlabelled_target(self) -> Domain | None:
        """The target as techniques see it: without labels."""
        return None if self.target is None else replace(self.target, labels=None, tasks=())

    @cached_property
    def adapted_to(self) -> Domain | None:
        """The target examples that an adaptation sees."""
        target = self.unlabelled_target
        return None if target is None else target.split("train") or target

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data."""
        return fingerprint(self.domain, self.modality)

    @cached_property
    def target_fingerprint(self) -> str | None:
        """A digest of the target."""
        return None if self.target is None else fingerprint(self.target, self.modality)

    def key(self, job: Job) -> str:
        """Return 32 hexadecimal digits that stand for all that decides what a cell finds, but the code itself."""
        backbone = self.backbone
        facts = {
            "technique": job.candidate.name,
            "budget": job.budget,
            "seed": job.deal.seed,
            "learnt": _digest(job.rows),
            "tested": _digest(job.deal.test),
            "data": self.fingerprint,
            "target": self.target_fingerprint,
            "tasks": [[task.name, task.kind, [str(value) for value in task.classes]] for task in self.tasks],
            "network": None
            if backbone is None
            else [
                backbone.weights_hash,
                backbone.name,
                backbone.layer,
                backbone.pooling,
                backbone.preprocessing.to_dict(),
            ],
            "epochs": self.epochs if job.candidate.trains else None,
            "device": None if backbone is None else backbone.device.type,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def fingerprint(domain: Domain, modality: str) -> str:
    """Return a digest of a domain's inputs (files by their content, wherever they lie), labels, groups and splits."""
    digest = hashlib.sha256(modality.encode())
    for row in range(domain.size):
        source = domain.inputs[row] if modality != "features" else domain.inputs[row : row + 1]
        try:
            digest.update(content_hash(source, modality=modality))
        except DataError as error:  # what cannot be read is left out by every technique
            digest.update(f"unreadable {error.found}".encode())
    for column in (domain.labels, domain.groups, domain.splits):
        digest.update(repr(None if column is None else label_array(column).tolist()).encode())
    return digest.hexdigest()[:32]


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()[:16]
