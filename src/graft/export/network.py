"""A fitted model as one module: from what the network reads to what the model answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from graft.backbones import Backbone
from graft.data import Task
from graft.export import layers
from graft.export.heads import head_module
from graft.heads import MultiLabelHead, RegressorHead
from graft.techniques import MultiTask
from graft.techniques.adaptation import AdaptedHead
from graft.techniques.multiple.joint_head import Middle
from graft.techniques.multiple.part import Part
from graft.techniques.multiple.stack import LEAST, Stack
from graft.techniques.saving import plain
from graft.techniques.technique import class_columns


@dataclass(frozen=True)
class Output:
    """One output of the module.

    Parameters
    ----------
    name : str
        ``probabilities`` or ``values``; of several tasks, with a point and the task's name behind it.
    task : Task
        What it answers.
    """

    name: str
    task: Task

    def facts(self) -> dict[str, Any]:
        """Return it as plain values: its columns are ``classes`` in their order, or those of the numbers."""
        facts = {"name": self.name, "task": self.task.name, "kind": self.task.kind}
        return facts if self.task.kind == "regression" else {**facts, "classes": list(map(plain, self.task.classes))}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model as a module, with what is needed to write it down and to check it.

    Parameters
    ----------
    module : Module
        From a batch of the networks to a tuple of outputs.
    outputs : tuple of Output
        One for each of them.
    parts : tuple of Part
        Of the model: its networks, all of which read the same batches, and its heads.
    """

    module: nn.Module
    outputs: tuple[Output, ...]
    parts: tuple[Part, ...]

    @property
    def backbone(self) -> Backbone:
        """The first network: how inputs become a batch is the same for all."""
        return self.parts[0].backbone

    def named(self, batch: Any) -> dict[str, torch.Tensor]:
        """Return the tensors of a batch that `Backbone.collate` made, by the names of the module's inputs."""
        if isinstance(batch, dict):
            return dict(batch)
        return {"pixels" if self.backbone.modality == "image" else "features": batch}

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the location and the scale of the features (d,) that the model has learnt from."""
        head: Any = next(iter(self.parts[0].heads.values()))
        match self.parts[0].middle:
            case Stack(first=first):
                head = next(iter(first.values()))
            case Middle(location=location, scale=scale):
                return location.cpu().numpy(), scale.cpu().numpy()
        return head.location_, np.where(np.isfinite(head.scale_), head.scale_, 0.0) / np.sqrt(len(head.scale_))

    def expected(self, batch: Any) -> tuple[np.ndarray, ...]:
        """Return what the model's own heads answer to a batch that `Backbone.collate` made, in float32."""
        found: dict[str, np.ndarray] = {}
        for part in self.parts:
            features = part.backbone.forward_features(batch).cpu().numpy()
            read = part.representations(features)
            for name, head in part.heads.items():
                if name not in found:
                    found[name] = self._answer(name, head, read[name])
        return tuple(found[one.task.name] for one in self.outputs)

    def units(self) -> tuple[Any, ...]:
        """Return what an error of each output is measured in: 1 for probabilities, for numbers what they vary by."""
        heads = {name: head for part in self.parts for name, head in part.heads.items()}
        return tuple(_deviation(heads[one.task.name]) if one.task.kind == "regression" else 1.0 for one in self.outputs)

    def _answer(self, name: str, head: Any, read: np.ndarray) -> np.ndarray:
        task = next(one.task for one in self.outputs if one.task.name == name)
        if task.kind == "regression":
            return np.asarray(head.predict(read)).reshape(len(read), -1)
        given = head.predict_proba(read)
        return class_columns(given, head.classes_.tolist(), task.classes) if task.kind == "classification" else given


def _deviation(head: Any) -> np.ndarray:
    """Return the standard deviation of the numbers (outputs,) that a regressor was fitted to."""
    return _deviation(head.head) if isinstance(head, AdaptedHead) else head.target_scale_


def prediction_module(model: Any) -> nn.Module:
    """Return a fitted model as one `torch.nn.Module`, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    model : fitted technique
        Of any kind.

    Returns
    -------
    Module
        It takes what the network reads: ``pixels`` (n, 3, height, width), 8-bit values; ``input_ids`` and
        ``attention_mask`` (n, length), integers; or ``features`` (n, d), float32. It returns a tuple with a tensor for
        each task: probabilities (n, classes) or (n, labels), as ``predict_proba`` gives them, or the numbers of a
        regression (n, outputs).

    Raises
    ------
    RequestError
        If the model holds a head that is not one of Graft's.

    Examples
    --------
    >>> import numpy as np, torch, graft
    >>> from graft.export import prediction_module
    >>> X = np.array([[0.0], [0.2], [1.0], [1.1]], np.float32)
    >>> model = graft.FeatureExtraction(None, head="discriminant").fit(X, ["no", "no", "yes", "yes"])
    >>> (probabilities,) = prediction_module(model)(torch.from_numpy(X))
    >>> bool(np.allclose(probabilities.numpy(), model.predict_proba(X), atol=1e-5))
    True
    """
    return prediction(model).module


def prediction(model: Any) -> Prediction:
    """Return a fitted model as a module and what belongs to it; see `prediction_module`."""
    model._require_fitted()
    if isinstance(model, MultiTask):
        tasks, parts = model.tasks_, model.parts_
    else:
        tasks, parts = (model.task_,), (Part(model.backbone_, None, {model.task_.name: model.head_}),)
    kind = {"image": ImageModel, "text": TextModel, "features": VectorModel}[parts[0].backbone.modality]
    module = kind(parts, tasks).eval()
    several = isinstance(model, MultiTask)
    outputs = tuple(Output(_output_name(task, several), task) for task in tasks)
    return Prediction(module, outputs, tuple(parts))


def _output_name(task: Task, several: bool) -> str:
    name = "values" if task.kind == "regression" else "probabilities"
    return f"{name}.{task.name}" if several else name


class ModelModule(nn.Module):
    """Networks, what stands between their features and the heads, and the heads: from a batch to all tasks' answers.

    Abstract: what it reads is said by `ImageModel`, `TextModel` and `VectorModel`.

    Parameters
    ----------
    parts : sequence of Part
        Of the fitted model.
    tasks : sequence of Task
        In the order of the answers.
    """

    def __init__(self, parts: Sequence[Part], tasks: Sequence[Task]) -> None:
        super().__init__()
        self.networks, self.parts = nn.ModuleList(), nn.ModuleList()
        self.network_of: list[int] = []
        places: dict[int, int] = {}
        answered: list[str] = []
        for part in parts:
            names = [name for name in part.heads if name not in answered]
            if id(part.backbone) not in places:
                places[id(part.backbone)] = len(self.networks)
                self.networks.append(copy.deepcopy(part.backbone.module).cpu().requires_grad_(False))
            self.network_of.append(places[id(part.backbone)])
            self.parts.append(PartModule(part, [next(task for task in tasks if task.name == name) for name in names]))
            answered += names
        self.order = [answered.index(task.name) for task in tasks]

    def predictions(self, batch: Any) -> tuple[torch.Tensor, ...]:
        """Return the answers of all tasks to a batch that `Backbone.collate` made."""
        features = [network(batch).float() for network in self.networks]
        found = [one for place, part in zip(self.network_of, self.parts, strict=True) for one in part(features[place])]
        return tuple(found[at] for at in self.order)


class ImageModel(ModelModule):
    """A model of pictures (n, 3, height, width), 8-bit values."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.predictions(pixels)


class TextModel(ModelModule):
    """A model of texts, as token ids and their mask (n, length)."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.predictions({"input_ids": input_ids, "attention_mask": attention_mask})


class VectorModel(ModelModule):
    """A model of feature vectors (n, d)."""

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.predictions(features)


class PartModule(nn.Module):
    """Features (n, d) to the answers of the tasks of one part.

    Parameters
    ----------
    part : Part
        Of the fitted model.
    tasks : sequence of Task
        Those of its tasks that it answers, by the name of their heads.
    """

    def __init__(self, part: Part, tasks: Sequence[Task]) -> None:
        super().__init__()
        names = list(part.heads)
        self.places = [names.index(task.name) for task in tasks]
        self.heads = nn.ModuleList(in_classes(part.heads[task.name], task) for task in tasks)
        self.middle: nn.Module | None = None
        if isinstance(part.middle, Middle):
            self.middle = copy.deepcopy(part.middle).cpu().requires_grad_(False)
        elif part.middle is not None:
            self.middle = StackModule(part.middle, names)

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        read = None if self.middle is None else self.middle(features)
        return [head(features if read is None else read[at]) for at, head in zip(self.places, self.heads, strict=True)]


class StackModule(nn.Module):
    """What the head of each task reads of features (n, d); see `graft.techniques.multiple.stack.Stack`."""

    def __init__(self, stack: Stack, names: Sequence[str]) -> None:
        super().__init__()
        self.names, self.first_names, self.fused = list(names), list(stack.first), list(stack.fused)
        self.kinds = [
            "numbers" if isinstance(one, RegressorHead) else "labels" if isinstance(one, MultiLabelHead) else "classes"
            for one in stack.first.values()
        ]
        self.first = nn.ModuleList(head_module(one) for one in stack.first.values() if stack.fused)
        self.standardize = nn.ModuleList(
            layers.Standardize(stack.location_[name], stack.scale_[name]) for name in stack.first if stack.fused
        )

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Return a table (n, columns) for each task."""
        said, seen = [], []
        for kind, first, standardize in zip(self.kinds, self.first, self.standardize, strict=False):
            values = first(features)
            if kind == "numbers":
                said.append(values)
            else:
                values = values.clamp(LEAST, 1 - LEAST)
                said.append(values.log() - (torch.log1p(-values) if kind == "labels" else 0.0))
            seen.append(standardize(values))
        read = []
        for name in self.names:
            if name not in self.fused:
                read.append(features)
                continue
            own = self.first_names.index(name)
            others = [one for place, one in enumerate(seen) if place != own]
            read.append(torch.cat([features, said[own], *others], dim=1))
        return read


def in_classes(head: Any, task: Task) -> nn.Module:
    """Return the answers of a head in the columns of its task: zeros for classes that it has never seen."""
    if task.kind != "classification":
        return head_module(head)
    seen = list(map(plain, head.classes_))
    if seen == list(map(plain, task.classes)):
        return head_module(head)
    places = class_columns(np.eye(len(seen)), seen, task.classes)
    return nn.Sequential(head_module(head), layers.Affine(places.T, np.zeros(len(task.classes))))
