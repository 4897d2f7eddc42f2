"""Adaptation through the network: the methods, and what each one does with the one training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from graft import alignment
from graft.alignment import ADAPTATION_LOSSES, AdaptationLoss
from graft.backbones import Backbone
from graft.backbones.backbone import on_device
from graft.errors import RequestError
from graft.techniques.adaptation.adapting import WithoutSource, adapting
from graft.techniques.adaptation.methods import ANY_TASK, CLASSES_ONLY, INVARIANT_HEADS
from graft.techniques.material import Material
from graft.techniques.network_training import NetworkTraining, Run
from graft.techniques.objectives import HEAD, Objective, task_objective
from graft.techniques.phases import Phases
from graft.techniques.serving import tuned
from graft.techniques.settings import Settings
from graft.training import Examples, linear_head

# After a training on the source alone: what needs the target's inputs alone.
AFTERWARDS = ("shot", "tent", "adabn", "t3a")
NETWORK_METHODS = (*ADAPTATION_LOSSES, *AFTERWARDS)
# How often SHOT finds its pseudo-labels, and steps it takes with each at least.
ROUNDS, ROUND_STEPS = 3, 50
# What pseudo-labels count beside information maximisation.
_PSEUDO_WEIGHT = 0.3
# Target examples that are normalised together.
_TOGETHER = 256


@dataclass(frozen=True, eq=False)
class AdaptedNetwork:
    """A network for the target.

    Parameters
    ----------
    backbone : Backbone
        It.
    features : array (n, d)
        Of all examples of both domains.
    layer : Linear
        The head.
    runs : dict of str to Run
        The trainings, in their order.
    """

    backbone: Backbone
    features: np.ndarray
    layer: nn.Linear
    runs: dict[str, Run]

    def outputs(self, rows: np.ndarray) -> torch.Tensor:
        """Return the head's outputs (m, outputs) for some of the examples."""
        weight, bias = self.layer.weight.detach().cpu(), self.layer.bias.detach().cpu()
        return functional.linear(torch.from_numpy(self.features[rows]), weight, bias)

    def to_dict(self) -> dict[str, Any]:
        """Return how the trainings went, one after the other, as plain values."""
        told = [run.to_dict() for run in self.runs.values()]
        starts = np.cumsum([0, *(one["steps"] for one in told)]).tolist()
        return {
            "steps": starts[-1],
            "epochs": sum(one["epochs"] for one in told),
            "examples_seen": sum(one["examples_seen"] for one in told),
            "examples_evaluated": sum(one["examples_evaluated"] for one in told),
            "losses": [value for one in told for value in one["losses"]],
            "evaluations": [
                {**found, "step": found["step"] + start}
                for one, start in zip(told, starts[:-1], strict=True)
                for found in one["evaluations"]
            ],
            "skipped": sum(one["skipped"] for one in told),
            "parts": max(one["parts"] for one in told),
            "stages": {name: one["steps"] for name, one in zip(self.runs, told, strict=True)},
            "trained_parameters": max(run.trained_parameters for run in self.runs.values()),
            "cached": next(iter(self.runs.values())).cached,
        }


def adaptation_loss(method: str | AdaptationLoss) -> AdaptationLoss | None:
    """Return the loss of a method of a name, or itself; None for those of `AFTERWARDS`."""
    if isinstance(method, AdaptationLoss):
        return method
    return None if method in AFTERWARDS else getattr(alignment, ADAPTATION_LOSSES[method])()


def tasks_of(method: str | AdaptationLoss) -> tuple[str, ...]:
    """Return the kinds of task that a method can be used for."""
    loss = adaptation_loss(method)
    if loss is not None:
        return loss.tasks
    return ANY_TASK if method == "adabn" else CLASSES_ONLY


def require_alone(options: Mapping[str, Any], method: Any, others: Sequence[str], what: str) -> None:
    """Refuse options that mean something beside other methods alone.

    Parameters
    ----------
    options : mapping
        Those that were given.
    method : object
        The method beside which they were.
    others : sequence of str
        Methods beside which they may stand.
    what : str
        What those do.

    Raises
    ------
    RequestError
        If there are any.
    """
    for name, value in options.items():
        raise RequestError(
            name,
            expected=f"a method beside it that {what}",
            found=f"{name}={value!r} beside method={method if isinstance(method, str) else type(method).__name__!r}",
            remedy=f"Leave it out, or name one of {', '.join(others)}.",
        )


def require_usable(method: str | AdaptationLoss, kind: str, backbone: Backbone) -> None:
    """Refuse a method for a kind of task that it does not fit, or a network that has not what it adapts.

    Raises
    ------
    RequestError
        If so; it says which methods fit.
    """
    if kind not in tasks_of(method):
        name = method if isinstance(method, str) else type(method).__name__
        raise RequestError(
            "method",
            expected=f"a method for {kind} tasks",
            found=f"{name!r}, which is for {' and '.join(tasks_of(method))}",
            remedy=f"These can: {', '.join(other for other in NETWORK_METHODS if kind in tasks_of(other))}.",
        )
    if not any(True for _ in backbone.module.parameters()):
        name = method if isinstance(method, str) else type(method).__name__
        alike = f"{name}-head"
        raise RequestError(
            "method",
            expected="a method on features, since there is no network whose layers can be trained",
            found=repr(name),
            remedy=f"Pass method={alike if alike in INVARIANT_HEADS else 'auto'!r}, or name a network.",
        )
    if method == "adabn":
        pair = on_device(backbone.collate([backbone.example_item()] * 2), backbone.device)
        alignment.renormalize(backbone.copy_module(), [pair])
    if method == "tent":
        alignment.normalization_parameters(backbone.module)


def adapt_network(
    material: Material,
    settings: Settings,
    method: str | AdaptationLoss,
    *,
    target: np.ndarray,
    held: np.ndarray,
    phases: Phases,
) -> AdaptedNetwork:
    """Train a network for the target.

    Parameters
    ----------
    material : Material
        The examples of both domains.
    settings : Settings
        Of the training.
    method : str or AdaptationLoss
        One of `NETWORK_METHODS`, or a loss with options of one's own.
    target, held : array of bool (n,)
        Which examples are of the target, and which of the source are held out.
    phases : Phases
        Where checkpoints are written.
    """
    watched = held if held.any() else None
    loss = adaptation_loss(method)
    if loss is not None:
        objective = adapting(material, settings, loss, target)
        training, name = NetworkTraining(material, settings, objective), "adaptation"
        run = training.run(~held, watched, phases.checkpoints(name, material, held), "adapting")
    else:
        objective = task_objective(material, settings, kind="supervised", regularizer=None, strength=None)
        training, name = NetworkTraining(material, settings, objective), "source"
        run = training.run(~held & material.known, watched, phases.checkpoints(name, material, held), "on the source")
    layer: Any = run.network.heads[HEAD]
    backbone, features = tuned(material, run)
    plain = AdaptedNetwork(backbone, features, layer, {name: run})
    if loss is not None:
        return plain
    afterwards = _Afterwards(material, settings, target, watched, phases, held)
    stages = {"shot": afterwards.shot, "tent": afterwards.tent, "adabn": afterwards.adabn, "t3a": afterwards.t3a}
    return stages[str(method)](plain)


@dataclass(frozen=True, eq=False)
class _Afterwards:
    """What follows a training on the source: the parameters are those of `adapt_network`, and who is watched."""

    material: Material
    settings: Settings
    target: np.ndarray
    watched: np.ndarray | None
    phases: Phases
    held: np.ndarray

    def shot(self, plain: AdaptedNetwork) -> AdaptedNetwork:
        """Sharpen and balance predictions on the target; pseudo-labels are found anew in every round."""
        settings, now = self._gently(), plain
        if settings.epochs != "auto":
            settings = replace(settings, epochs=settings.epochs / ROUNDS)
        rows, targets = np.flatnonzero(self.target), self.material.examples(self.target).targets
        known = torch.from_numpy(self.material.known[rows])
        for number in range(ROUNDS):
            labels = alignment.centroid_labels(torch.from_numpy(now.features[rows]), now.outputs(rows))
            labels = torch.where(known, targets.nan_to_num(0.0).argmax(dim=1), labels)

            def loss(logits: torch.Tensor, seen: torch.Tensor, labels: torch.Tensor = labels) -> torch.Tensor:
                return alignment.shot_loss(logits, labels.to(seen.device)[seen], pseudo_weight=_PSEUDO_WEIGHT)

            now = self._train(f"round {number + 1}", loss, settings, now, least_steps=ROUND_STEPS)
        return now

    def tent(self, plain: AdaptedNetwork) -> AdaptedNetwork:
        """Sharpen predictions on the target by scales and shifts alone, with the target's own statistics."""
        settings = replace(self._gently(), train="normalizations")
        settings = replace(settings, epochs=1.0 if settings.epochs == "auto" else settings.epochs)

        def loss(logits: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
            return alignment.entropy_loss(logits)

        now = self._train("entropy", loss, settings, plain, least_steps=1)
        layers = now.backbone.module.modules()
        return self.adabn(now) if any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in layers) else now

    def adabn(self, plain: AdaptedNetwork) -> AdaptedNetwork:
        """Let batch normalisation have the target's statistics."""
        examples, trunk = self.material.examples(self.target), plain.backbone.copy_module()
        parts = np.array_split(np.arange(examples.count), max(1, examples.count // _TOGETHER))
        device = plain.backbone.device
        alignment.renormalize(trunk, (on_device(examples.batch(rows).inputs, device) for rows in parts))
        backbone = plain.backbone.with_module(trunk)
        return replace(plain, backbone=backbone, features=backbone.embed(self.material.inputs, store=False))

    def t3a(self, plain: AdaptedNetwork) -> AdaptedNetwork:
        """Let the target's surest examples, and the head's weights, be the templates of each class."""
        weight, bias = plain.layer.weight.detach().cpu(), plain.layer.bias.detach().cpu()
        _, supports = alignment.adjust_templates(torch.from_numpy(plain.features[self.target]), weight, bias)
        members = functional.one_hot(supports.labels, len(weight)).to(supports.features)
        templates = functional.normalize(members.T @ supports.features, dim=1)
        return replace(plain, layer=linear_head(templates, torch.zeros(len(weight))))

    def _train(
        self,
        name: str,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Settings,
        now: AdaptedNetwork,
        *,
        least_steps: int,
    ) -> AdaptedNetwork:
        """Train the trunk on target examples alone; the head stays as it is."""

        def make(trunk: nn.Module, learning: Examples, chosen: np.ndarray) -> Objective:
            size, seed = settings.batch_size, settings.seed
            return WithoutSource(self.material.goal, learning, size, seed, now.layer, loss, least_steps=least_steps)

        material = replace(self.material, backbone=now.backbone)
        training = NetworkTraining(material, settings, make)
        run = training.run(
            self.target, self.watched, self.phases.checkpoints(name, material, self.held), "on the target"
        )
        backbone, features = tuned(material, run)
        return AdaptedNetwork(backbone, features, now.layer, {**now.runs, name: run})

    def _gently(self) -> Settings:
        """Return the settings of a training that goes on from trained weights; statistics become the target's."""
        norm = "train" if self.settings.batch_norm == "auto" else self.settings.batch_norm
        return replace(self.settings, pretrained=True, batch_norm=norm)
