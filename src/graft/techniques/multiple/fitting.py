"""Fitting some tasks together on some examples, and what the fit says of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import nn

from graft.backbones import Backbone
from graft.balancing import TaskOrder
from graft.sharing import CommonAndOwnLogistic, CommonAndOwnRidge
from graft.techniques.material import Material
from graft.techniques.multiple.balance import Balance
from graft.techniques.multiple.fusion import second_layer
from graft.techniques.multiple.joint_head import COMMON_AND_OWN, STACKED, JointHead, Middle
from graft.techniques.multiple.joint_material import JointMaterial
from graft.techniques.multiple.part import Part, dense, representations
from graft.techniques.multiple.stack import Stack, left_out_signals
from graft.techniques.multiple.together import Together
from graft.techniques.network_training import NetworkTraining, Run, number_of_steps
from graft.techniques.objectives import HEAD
from graft.techniques.settings import Settings
from graft.training import Checkpoints, Examples, Order, forward_all, linear_head


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """How tasks are fitted together.

    Parameters
    ----------
    sharing : str
        See `graft.techniques.multiple.joint_head.SHARINGS`.
    options : dict
        Of its module.
    balancing : str
        See `graft.techniques.multiple.balance.BALANCINGS`.
    balancing_options : dict
        Of that method.
    exact : bool
        Aggregate gradients in the parameters, not at what the tasks share.
    sampling : str
        See `graft.balancing.TaskOrder`.
    settings : Settings
        Of the training.
    """

    sharing: str
    options: dict[str, Any]
    balancing: str
    balancing_options: dict[str, Any]
    exact: bool
    sampling: str
    settings: Settings


@dataclass(frozen=True, eq=False)
class Fitted:
    """Tasks that were fitted together.

    Parameters
    ----------
    outputs : dict of int to tensor (m, outputs)
        Of each task, by its place, for the examples that were asked for; in the units of its goal.
    heads : dict of int to callable
        From temperatures and representations of all examples to the fitted head of a task.
    middle : Middle, Stack or None
        What stands before the heads.
    run : Run or None
        The training; None where there was no loop.
    """

    outputs: dict[int, torch.Tensor]
    heads: dict[int, Callable[[Any, Any], Any]]
    middle: Middle | Stack | None
    run: Run | None


@final
class Fitter:
    """Fits tasks together, alone, or as a probe.

    Parameters
    ----------
    material : JointMaterial
        All tasks and examples; its backbone is what is trained, the identity where features are the inputs.
    design : Design
        How.
    random_state : int or None
        For the heads that are fitted in closed form.
    """

    def __init__(self, material: JointMaterial, design: Design, random_state: int | None) -> None:
        self.material, self._design, self._random_state = material, design, random_state

    def probe(self, place: int, chosen: np.ndarray, asked: np.ndarray) -> Fitted:
        """Fit the best head for the frozen features to one task's labels among the chosen examples (mask (n,))."""
        task = self.material.tasks[place]
        head = task.probe(chosen & task.known, self._random_state)
        outputs = {place: task.head_outputs(head, task.found.features[asked])} if asked.any() else {}
        return Fitted(outputs, {place: partial(_as_fitted, head)}, None, None)

    def together(
        self,
        places: tuple[int, ...],
        chosen: np.ndarray,
        asked: np.ndarray,
        what: str,
        checkpoints: Checkpoints | None = None,
    ) -> Fitted:
        """Fit tasks together to the chosen examples, and return what the fit says of those that are asked for."""
        if self._design.sharing == COMMON_AND_OWN:
            return self._common_and_own(places, chosen, asked)
        if self._design.sharing == STACKED:
            return self._stacked(places, chosen, asked)
        joint = self.material.of(places)
        learning = chosen & joint.known
        training = NetworkTraining(joint, self._design.settings, self._objective(joint, learning))
        run = training.run(learning, None, checkpoints, what)
        outputs = {}
        if asked.any():
            _, found = forward_all(joint.examples(asked), run.network, bfloat16=training.bfloat16)
            outputs = {place: found[HEAD][:, columns] for place, columns in zip(places, joint.slices, strict=True)}
        whole: Any = run.network.heads[HEAD]
        whole.cpu()
        heads = {
            place: _trained(task, layer) for place, task, layer in zip(places, joint.tasks, whole.heads, strict=True)
        }
        return Fitted(outputs, heads, whole.middle, run)

    def part(self, places: tuple[int, ...], fitted: Fitted, temperatures: dict[int, Any]) -> Part:
        """Return what serves tasks that were fitted."""
        tasks = [self.material.tasks[place] for place in places]
        first = tasks[0]
        backbone: Backbone = first.backbone
        features = first.found.features
        if fitted.run is not None and self._trains_network:
            backbone = first.backbone.with_module(fitted.run.plain_trunk())
            features = backbone.embed(first.inputs, store=False)
        names = [task.found.task.name for task in tasks]
        each = representations(fitted.middle, features, names)
        heads = {
            name: fitted.heads[place](temperatures.get(place, 1.0), each[name])
            for place, name in zip(places, names, strict=True)
        }
        return Part(backbone, fitted.middle, heads)

    @property
    def has_twin(self) -> bool:
        """Whether a task alone, fitted in the same way, is another model than its probe."""
        return self._design.sharing != STACKED

    @property
    def has_probe(self) -> bool:
        """Whether there are features of a frozen network that a head can be fitted to."""
        return self._design.settings.pretrained

    def enough(self, place: int, chosen: np.ndarray) -> bool:
        """Return whether the chosen examples (mask (n,)) have labels of a task that differ."""
        return _differ(self.material.tasks[place], chosen)

    @property
    def _trains_network(self) -> bool:
        return self.material.backbone is self.material.tasks[0].backbone

    def _objective(
        self, joint: JointMaterial, learning: np.ndarray
    ) -> Callable[[nn.Module, Examples, np.ndarray], Together]:
        design, settings = self._design, self._design.settings

        def make(trunk: nn.Module, examples: Examples, chosen: np.ndarray) -> Together:
            starts = [self._start(task, learning & task.known) for task in joint.tasks]
            location, scale = self._moments(joint, learning)
            middle = Middle(
                design.sharing,
                len(starts),
                starts[0].in_features,
                options=design.options,
                seed=settings.seed,
                location=location,
                scale=scale,
            )
            balanced = [task.found.task for task in joint.tasks]
            size = min(settings.batch_size, examples.count)
            steps = number_of_steps(
                settings.epochs,
                pretrained=settings.pretrained,
                least_steps=Together.least_steps,
                batches=examples.count // size,
                epoch_steps=examples.count / size,
            )
            balance = Balance(design.balancing, balanced, design.balancing_options, exact=design.exact)
            return Together(
                [task.goal for task in joint.tasks],
                joint.slices,
                examples,
                JointHead(middle, starts, balance),
                order=_order(joint, learning, examples, design, steps),
                batch_size=settings.batch_size,
                seed=settings.seed,
                steps=steps,
            )

        return make

    def _start(self, task: Material, learning: np.ndarray) -> nn.Linear:
        """Return the converged linear head of the frozen features; zeros where a class has no example to learn from."""
        if not self._design.settings.pretrained:
            return task.random_head(self._design.settings.seed)
        every = task.kind != "classification" or set(task.found.task.classes) <= set(
            task.found.targets[learning].tolist()
        )
        if not every or not _differ(task, learning):
            width = task.found.features.shape[1]
            return linear_head(np.zeros((task.goal.outputs, width)), np.zeros(task.goal.outputs))
        return task.start(learning, self._random_state)

    def _moments(self, joint: JointMaterial, learning: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return mean and deviation of the frozen features; none where features change in the training."""
        features = joint.tasks[0].found.features
        if self._trains_network or features is None:
            return None, None
        plain = dense(features[learning])
        scale = plain.std(axis=0)
        return plain.mean(axis=0), np.where(scale > 1e-6 * max(float(scale.max()), 1e-12), scale, 1.0)

    def _stacked(self, places: tuple[int, ...], chosen: np.ndarray, asked: np.ndarray) -> Fitted:
        tasks = {place: self.material.tasks[place] for place in places if self.enough(place, chosen)}
        features = self.material.tasks[places[0]].found.features
        names = {place: task.found.task.name for place, task in tasks.items()}
        masks = {place: chosen & task.known for place, task in tasks.items()}
        first = {place: task.probe(masks[place], self._random_state) for place, task in tasks.items()}
        # The scales, too, are those of the chosen examples.
        said = {
            names[place]: left_out_signals(head, features[chosen], masks[place][chosen])
            for place, head in first.items()
        }
        stack = Stack({names[place]: head for place, head in first.items()}).fit(said)
        layers = {}
        for place, task in tasks.items() if len(tasks) > 1 else ():
            rows, name = masks[place][chosen], names[place]
            layer = second_layer(
                task,
                first[place],
                masks[place],
                features.shape[1],
                said[name][rows],
                stack.others(said, name)[rows],
                self._random_state or 0,
            )
            if layer is not None:
                layers[place] = layer
        stack.fused = tuple(names[place] for place in layers)
        outputs: dict[int, torch.Tensor] = {}
        heads: dict[int, Callable[[Any, Any], Any]] = {}
        read = stack.representations(features[asked]) if asked.any() else {}
        for place, task in tasks.items():
            layer = layers.get(place)
            heads[place] = partial(_as_fitted, first[place]) if layer is None else _trained(task, layer)
            if asked.any():
                plain = layer is None
                made = read[names[place]]
                outputs[place] = task.head_outputs(first[place], made) if plain else _applied(layer, made)
        return Fitted(outputs, heads, stack, None)

    def _common_and_own(self, places: tuple[int, ...], chosen: np.ndarray, asked: np.ndarray) -> Fitted:
        tasks = [self.material.tasks[place] for place in places]
        masks = [chosen & task.known for task in tasks]
        features = tasks[0].found.features
        rows = np.concatenate([np.flatnonzero(mask) for mask in masks])
        which = np.repeat(np.arange(len(tasks)), [int(mask.sum()) for mask in masks])
        labels = np.concatenate([task.found.targets[mask] for task, mask in zip(tasks, masks, strict=True)])
        weight = tasks[0].found.sample_weight
        number = tasks[0].kind == "regression"
        model: Any = CommonAndOwnRidge() if number else CommonAndOwnLogistic(random_state=self._random_state or 0)
        groups = tasks[0].found.groups
        kept = None if groups is None else np.asarray(groups)[rows].astype(str)
        model.fit(
            features[rows],
            labels,
            tasks=which,
            sample_weight=None if weight is None else weight[rows],
            groups=kept if kept is not None and len(np.unique(kept)) > 1 else None,
        )
        outputs, heads = {}, {}
        for at, (place, task) in enumerate(zip(places, tasks, strict=True)):
            coefficients, intercept = model.coef_[at], np.atleast_1d(model.intercept_[at])
            temperature = 1.0 if number else model.temperature_
            layer = task.layer(np.atleast_2d(coefficients.T) / temperature, intercept / temperature)
            outputs[place] = _applied(layer, features[asked])
            heads[place] = _trained(task, layer)
        return Fitted(outputs, heads, None, None)


def _differ(task: Material, chosen: np.ndarray) -> bool:
    """Return whether some of the labels of chosen examples differ."""
    table = task.found.targets[chosen & task.known].reshape(int((chosen & task.known).sum()), -1)
    if task.kind == "multilabel":
        return any(len(np.unique(column[np.isfinite(column)])) > 1 for column in table.T)
    return len(set(table[:, 0].tolist())) > 1


def _as_fitted(head: Any, _temperature: Any, _features: Any) -> Any:
    """Return a head that is fitted and calibrated already."""
    return head


def _applied(layer: Any, features: Any) -> torch.Tensor:
    """Return the outputs (n, outputs) of a linear layer for features, which may be sparse."""
    found = np.asarray(features @ layer.weight.detach().numpy().T) + layer.bias.detach().numpy()
    return torch.from_numpy(found.astype(np.float32))


def _trained(task: Material, layer: Any) -> Callable[[Any, Any], Any]:
    """Return what makes the head of a task from its layer, temperatures and the representations of all examples."""

    def head(temperature: Any, features: Any) -> Any:
        known = task.known
        return task.trained_head(layer, temperature).fit(features[known], task.found.targets[known])

    return head


def _order(
    joint: JointMaterial, learning: np.ndarray, examples: Examples, design: Design, steps: int
) -> Callable[[int], np.ndarray]:
    """Return the examples of the batch of each step: of all, or task by task."""
    settings = design.settings
    if design.sampling == "proportional":
        return Order(examples.count, settings.batch_size, settings.seed, examples.sizes).rows
    rows = [np.flatnonzero(task.known[learning]) for task in joint.tasks]
    dealt = TaskOrder(
        [len(one) for one in rows], settings.batch_size, settings.seed, sampling=design.sampling, steps=steps
    )

    def of_step(step: int) -> np.ndarray:
        task, chosen = dealt.rows(step)
        return rows[task][chosen]

    return of_step
