"""Training a network on labelled examples: what a technique hands to the one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from graft import _runtime
from graft.backbones import Backbone
from graft.backbones.adapters import adapter_names, add_adapters, merge_adapters
from graft.backbones.backbone import on_device
from graft.errors import RequestError
from graft.techniques.objectives import Objective
from graft.techniques.settings import Settings, require_package
from graft.training import (
    ActivationStore,
    Batch,
    Boundary,
    Checkpoints,
    Examples,
    InBatches,
    Network,
    Plan,
    Recipe,
    Trained,
    depth_of,
    fast_convolutions,
    find_learning_rate,
    mix_examples,
    recompute_activations,
    train,
    trained_parts,
)

# Peak learning rates by modality: of a pretrained network, and of one that starts from random weights.
_RATES = {"image": 1e-4, "text": 2e-4, "features": 1e-3}
_RATES_FROM_SCRATCH = {"image": 2e-3, "text": 5e-4, "features": 1e-3}
# Of a pretrained network of images with batch normalisation: what follows such a layer does not change with the size
# of the weights before it, and statistics that are kept hold the features in their range. At 1e-4 EfficientNet-Lite0
# hardly leaves photos; at 1e-3 it loses on photos with few labels what it gains on digits (docs/measurements.md).
_RATE_NORMALIZED = 5e-4
# Besides the least steps of an objective, so many epochs; a network from random weights takes that many times as many.
_EPOCHS, _FROM_SCRATCH = 3, 4
# Adapters learn with a multiple of the rate: they start at zero and are small.
_ADAPTER_RATE = 5.0
# Evaluations of a training.
_EVALUATIONS = 12
# The first layer group's rate as a fraction of the last one's.
_FIRST_RATE = 0.1


class Trainable(Protocol):
    """A network to start from, and examples with targets."""

    @property
    def backbone(self) -> Backbone: ...

    def examples(self, chosen: np.ndarray) -> Examples: ...


@dataclass(frozen=True, eq=False)
class Run:
    """A network that was trained, and what became of it.

    Parameters
    ----------
    network : Network
        It.
    trunk : Module
        The part that makes features from inputs.
    objective : Objective
        What it was trained for.
    start : dict of str to tensor
        The weights as they were before.
    done : Trained
        Losses, evaluations, the best weights.
    epochs : float
        How often every example was seen.
    examples_seen, examples_evaluated : int
        How many examples all steps held together, and all evaluations; one that comes again counts again.
    trained_parameters : int
        How many numbers were trained at the end.
    cached : str
        The module at whose output activations were stored; empty where none were.
    """

    network: Network
    trunk: nn.Module
    objective: Objective
    start: dict[str, torch.Tensor]
    done: Trained
    epochs: float
    examples_seen: int
    examples_evaluated: int
    trained_parameters: int
    cached: str

    @property
    def steps_per_epoch(self) -> float:
        """How many steps see as many examples as there are."""
        return self.done.progress.step / self.epochs

    def to_dict(self) -> dict[str, Any]:
        """Return how the training went, as plain values: what is not finite is None."""
        progress = self.done.progress
        return {
            "steps": progress.step,
            "epochs": self.epochs,
            "examples_seen": self.examples_seen,
            "examples_evaluated": self.examples_evaluated,
            "losses": [value if math.isfinite(value) else None for value in progress.losses],
            "evaluations": [
                {name: value if math.isfinite(value) else None for name, value in one.items()}
                for one in progress.evaluations
            ],
            "skipped": progress.skipped,
            "parts": progress.parts,
        }

    def plain_trunk(self) -> nn.Module:
        """Return the part that makes features with the structure that the backbone gave it: adapters are merged."""
        return merge_adapters(self.trunk) if adapter_names(self.trunk) else self.trunk


class NetworkTraining:
    """Trains the network of a technique on some of its examples. Final.

    Parameters
    ----------
    material : Trainable
        The examples and the network, such as `Material`.
    settings : Settings
        How.
    objective : callable
        From the trunk that is trained, the examples that it is trained on, and which of all examples those are (mask of
        shape (n,)), to what is minimised; called once for each training.
    """

    def __init__(
        self,
        material: Trainable,
        settings: Settings,
        objective: Callable[[nn.Module, Examples, np.ndarray], Objective],
    ) -> None:
        self._material, self._settings, self._objective = material, settings, objective
        self.bfloat16 = uses_bfloat16(material.backbone, settings.precision)

    @property
    def goes_far(self) -> bool:
        """Whether the weights end far from where they start: at the rate of `leaving_photos`, or a higher one."""
        rate = self._settings.learning_rate
        high = isinstance(rate, int | float) and rate >= _RATE_NORMALIZED
        return high and _can_go_far(self._settings, self._material.backbone)

    def lasting(self, epochs: float) -> NetworkTraining:
        """Return the same training over so many epochs."""
        return NetworkTraining(self._material, replace(self._settings, epochs=epochs), self._objective)

    def run(
        self,
        chosen: np.ndarray,
        watched: np.ndarray | None,
        checkpoints: Checkpoints | None,
        what: str,
        log_folder: Any = None,
    ) -> Run:
        """Train on the chosen examples (mask of shape (n,)); evaluate on the watched ones as it goes.

        Parameters
        ----------
        chosen, watched : array of bool (n,)
            Examples that are trained on, and those that are evaluated; None: none.
        checkpoints : Checkpoints, optional
            Where to write them, and to continue from.
        what : str
            What the progress bar is called.
        log_folder : path, optional
            Where to write figures for TensorBoard.
        """
        material, settings = self._material, self._settings
        trunk = material.backbone.copy_module()
        if settings.recompute:
            recompute_activations(trunk)
        groups = material.backbone.layer_groups(trunk)
        learning = material.examples(chosen)
        objective = self._objective(trunk, learning, chosen)
        network = Network(trunk, objective.heads).to(material.backbone.device)
        steps = number_of_steps(
            settings.epochs,
            pretrained=settings.pretrained,
            least_steps=objective.least_steps,
            batches=objective.batches,
            epoch_steps=objective.epoch_steps,
        )
        parts = self._parts(network, groups, steps, learning)
        with ExitStack() as stack:
            watching: InBatches | None = None if watched is None else material.examples(watched)
            source: InBatches = learning
            cached = ""
            boundary = self._boundary(trunk, parts(0), learning, objective)
            if boundary is not None:
                views = (0,) if settings.views is None else tuple(range(settings.views))
                source = stack.enter_context(ActivationStore(boundary, learning, views=views))
                network = Network(boundary.module, dict(network.heads))
                if watched is not None:
                    watching = stack.enter_context(ActivationStore(boundary, material.examples(watched)))
                cached = boundary.name
            plan = self._plan(objective, groups, parts, steps)

            def batch(step: int, share: int, shares: int) -> Batch:
                epoch = objective.epoch(step)
                view = epoch + 1 if settings.views is None else epoch % settings.views
                rows = objective.share(step, share, shares)
                made = source.batch(rows, view if material.backbone.modality == "image" else 0)
                if boundary is not None or material.backbone.modality != "image":
                    return made
                draw = np.random.default_rng((settings.seed, step, share))
                return mix_examples(made, draw, mixup=settings.mixup, cutmix=settings.cutmix)

            def loss(model: nn.Module, part: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
                return objective.loss(model, part, min(1.0, step / steps))

            def evaluate(model: nn.Module) -> dict[str, float]:
                assert watching is not None
                return objective.score(model, source, watching, bfloat16=self.bfloat16)

            def after(model: nn.Module, part: Batch, _step: int) -> None:
                assert objective.after is not None
                objective.after(model, part)

            if settings.learning_rate == "find":
                found = find_learning_rate(network, batch, loss, plan)
                plan = replace(plan, recipe=_with_rate(plan.recipe, found.rate))
            start = {name: values.clone() for name, values in network.state_dict().items()}
            example = on_device(source.batch(np.arange(min(2, source.count))).inputs, material.backbone.device)
            stack.enter_context(fast_convolutions(network.trunk, example))
            done = train(
                network,
                batch,
                loss,
                plan,
                evaluate=None if watching is None else evaluate,
                after=None if objective.after is None else after,
                checkpoints=checkpoints,
                log=None if log_folder is None else stack.enter_context(_tensorboard(log_folder)),
                description=what,
            )
        last = parts(steps - 1)
        count = sum(values.numel() for name, values in network.named_parameters() if name in last)
        whole = Network(trunk, dict(network.heads)).eval()
        epochs = done.progress.step / objective.epoch_steps
        seen = done.progress.step * len(objective.share(0, 0, 1))
        asked = len(done.progress.evaluations) * (0 if watching is None else watching.count)
        return Run(whole, trunk, objective, start, done, epochs, seen, asked, count, cached)

    def _parts(self, network: Network, groups: Any, steps: int, learning: Examples) -> Callable[[int], frozenset[str]]:
        """Return what is trained in which step; adapters are put into the network here."""
        settings = self._settings
        if not settings.adapters:
            return trained_parts(settings.train, network, groups, steps)
        device = self._material.backbone.device
        example = on_device(learning.batch(np.arange(min(2, learning.count))).inputs, device)
        dora = settings.train == "dora"
        add_adapters(network.trunk, rank=settings.rank, dora=dora, seed=settings.seed, example=example)
        names = frozenset(f"trunk.{name}" for name in adapter_names(network.trunk))
        heads = frozenset(name for name, _ in network.named_parameters() if name.startswith("heads."))
        return lambda _step: names | heads

    def _boundary(
        self, trunk: nn.Module, trained: frozenset[str], learning: Examples, objective: Objective
    ) -> Boundary | None:
        """Return where the frozen front ends, if activations there can be stored."""
        settings, modality = self._settings, self._material.backbone.modality
        fixed = modality != "image" or (settings.views is not None and settings.mixup == settings.cutmix == 0)
        if (
            not settings.cache
            or objective.needs_inputs
            or not fixed
            or isinstance(settings.train, str)
            or settings.train == 0
        ):
            return None
        example = on_device(learning.batch(np.arange(min(2, learning.count))).inputs, self._material.backbone.device)
        names = [name.removeprefix("trunk.") for name in trained if name.startswith("trunk.")]
        try:
            return Boundary(trunk, names, example)
        except RequestError:
            return None  # another way leads around every frozen layer: the result is the same, only slower

    def _plan(self, objective: Objective, groups: Any, parts: Any, steps: int) -> Plan:
        settings, modality = self._settings, self._material.backbone.modality
        rate = (_RATES if settings.pretrained else _RATES_FROM_SCRATCH)[modality]
        rate *= _ADAPTER_RATE if settings.adapters else 1
        rate = float(settings.learning_rate) if isinstance(settings.learning_rate, int | float) else rate
        decay = settings.layer_decay
        if decay == "auto":
            decay = _FIRST_RATE ** (1 / max(1, len(groups) - 1)) if settings.pretrained else 1.0
        frozen = settings.pretrained if settings.batch_norm == "auto" else settings.batch_norm == "frozen"
        return Plan(
            steps=steps,
            trained=parts,
            depth=depth_of(groups),
            recipe=Recipe(
                learning_rate=rate,
                head_learning_rate=rate,
                layer_decay=decay,
                # The distance to the start takes the place of the distance to zero.
                weight_decay=0.0 if objective.holds_weights else settings.weight_decay,
                warmup=settings.warmup,
                clip=settings.clip,
            ),
            batch_norm="frozen" if frozen else "train",
            parts=settings.parts,
            bfloat16=self.bfloat16,
            average=settings.average,
            evaluate_every=max(1, -(-steps // _EVALUATIONS)),
            patience=settings.patience,
            keep=settings.soup,
            seed=settings.seed,
        )


def number_of_steps(epochs: Any, *, pretrained: bool, least_steps: int, batches: int, epoch_steps: float) -> int:
    """Return the steps of a training, from an objective's least steps, batches of an epoch, and steps of one."""
    if epochs != "auto":
        return max(1, round(epochs * epoch_steps))
    steps = least_steps + _EPOCHS * batches
    return steps if pretrained else _FROM_SCRATCH * steps


def leaving_photos(settings: Settings, backbone: Backbone) -> Settings:
    """Return the settings with the rate that suits a task which the frozen features of a network do not tell.

    Where the network reads images and has batch normalisation, that is a higher one.
    """
    return replace(settings, learning_rate=_RATE_NORMALIZED) if _can_go_far(settings, backbone) else settings


def _can_go_far(settings: Settings, backbone: Backbone) -> bool:
    suited = settings.pretrained and backbone.modality == "image" and not settings.adapters
    return suited and _is_normalized(backbone.module)


def _is_normalized(module: nn.Module) -> bool:
    """Return whether most convolutions of a network are followed by batch normalisation."""
    layers = list(module.modules())
    normalized = sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in layers)
    return normalized > sum(isinstance(one, nn.Conv2d | nn.Linear) for one in layers) / 2


def uses_bfloat16(backbone: Backbone, precision: str) -> bool:
    """Return whether a training computes in bfloat16: as asked for, or where the device trains faster in it."""
    device = backbone.device
    if precision != "auto" or not _runtime.bfloat16_is_fast(device):
        return precision == "bfloat16"
    # On a processor the gradients of depthwise convolutions cost in bfloat16 what everything else saves:
    # EfficientNet-Lite0 at 128 pixels, 122 photos a second in float32 and 117 in bfloat16.
    layers = backbone.module.modules()
    return device.type != "cpu" or not any(isinstance(one, nn.Conv2d) and one.groups > 1 for one in layers)


def _with_rate(recipe: Recipe, rate: float) -> Recipe:
    return replace(recipe, learning_rate=rate, head_learning_rate=rate)


def require_tensorboard() -> None:
    """Refuse to log where TensorBoard is not installed.

    Raises
    ------
    MissingDependencyError
        If it is not.
    """
    require_package("log_folder", "tensorboard", install="'graft-learn[tracking]'")


@contextmanager
def _tensorboard(folder: Any) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield a function that writes the figures of a step for TensorBoard."""
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
