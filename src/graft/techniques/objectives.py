"""What a training minimises, and which examples stand in its batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from graft._checks import one_of
from graft.errors import RequestError
from graft.regularization import supervised_contrastive
from graft.techniques.material import Material
from graft.techniques.regularizers import Regularizer, make_regularizer
from graft.techniques.settings import Settings
from graft.training import Batch, ClassOrder, Examples, InBatches, Order, Supervision, forward_all

# The name of the head whose outputs the loss of the task compares with the labels.
HEAD = "task"
OBJECTIVES = ("supervised", "contrastive")
# Parts of like length in which the texts of a batch that holds all lengths are computed.
_LENGTHS = 4


class Objective(ABC):
    """What a training minimises, and which examples stand in its batches. Concrete classes are final.

    Attributes
    ----------
    heads : mapping of str to Module
        The heads that are trained with the trunk, as they are before the first step.
    batches : int
        Full batches of an epoch of the order.
    epoch_steps : float
        Steps that see as many examples as there are.
    least_steps : int
        Steps that it takes however few examples there are.
    trains_head : bool
        Whether the head called `HEAD` predicts the task; otherwise a head is fitted to the features afterwards.
    needs_inputs : bool
        Whether it reads the inputs of the whole network, so that activations cannot stand for them.
    holds_weights : bool
        Whether it holds the weights where they started, which takes the place of weight decay.
    after : callable or None
        Is given the network and the batch once a step is taken: for a loss whose weights learn from it.
    """

    heads: Mapping[str, nn.Module]
    batches: int
    epoch_steps: float
    least_steps: int
    trains_head: bool
    needs_inputs: bool
    holds_weights: bool
    after: Callable[[nn.Module, Batch], None] | None

    @abstractmethod
    def rows(self, step: int) -> np.ndarray:
        """Return the examples of the batch of a step."""

    @abstractmethod
    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the losses and of the weights of a part of a batch; progress is step / steps."""

    @abstractmethod
    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        """Return what a network, as it stands, is worth on watched examples: ``score``, and what a reader knows.

        Parameters
        ----------
        network : Network
            Trunk and heads.
        learned, watched : Examples or ActivationStore
            Those that were trained on, and those that are watched.
        bfloat16 : bool
            Compute in bfloat16 where that is safe.
        """

    def share(self, step: int, share: int, shares: int) -> np.ndarray:
        """Return a process's share of the batch of a step: neighbours stay together."""
        rows = self.rows(step)
        return rows[len(rows) * share // shares : len(rows) * (share + 1) // shares]

    def epoch(self, step: int) -> int:
        """Return the epoch of a step, counted from 0."""
        return step // self.batches


@final
class Supervised(Objective):
    """The loss of the task itself.

    Parameters
    ----------
    goal : Supervision
        It.
    examples : Examples
        Those that are trained on.
    batch_size, seed : int
        Of the batches.
    head : Module
        From features to outputs.
    regularizer : Regularizer, optional
        What is added to it.
    """

    least_steps, trains_head, after = 150, True, None

    def __init__(
        self,
        goal: Supervision,
        examples: Examples,
        batch_size: int,
        seed: int,
        head: nn.Module,
        regularizer: Regularizer | None = None,
    ) -> None:
        self._goal, self._regularizer = goal, regularizer
        self._order = Order(examples.count, batch_size, seed, examples.sizes)
        self.batches, self.epoch_steps = self._order.batches, examples.count / self._order.batch_size
        self.heads = {HEAD: head, **({} if regularizer is None else regularizer.heads)}
        self.needs_inputs = regularizer is not None and regularizer.needs_inputs
        self.holds_weights = regularizer is not None and regularizer.holds_weights

    def rows(self, step: int) -> np.ndarray:
        return self._order.rows(step)

    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        if self._regularizer is None:
            _, outputs = network(part.inputs)
            losses = self._goal.losses(outputs[HEAD], part.targets)
        else:
            with self._regularizer.watching(network):
                features, outputs = network(part.inputs)
            losses = self._goal.losses(outputs[HEAD], part.targets)
            losses = losses + self._regularizer.terms(network, part, features, outputs)
        return (losses * part.weight).sum(), part.weight.sum()

    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        _, outputs = forward_all(watched, network, bfloat16=bfloat16)
        return self._goal.score(outputs[HEAD], watched.targets)


@final
class Contrastive(Objective):
    r"""Examples of one class are drawn together and others pushed apart; the head is fitted afterwards.

    Every batch holds a few examples each of many classes, drawn as it is needed, so that each example is compared with
    every other one of its batch: B examples are B (B - 1) / 2 pairs, and no list of pairs is ever made.

    Parameters
    ----------
    goal : Supervision
        Of a single-label classification.
    examples : Examples
        Those that are trained on.
    batch_size, seed : int
        Of the batches.
    head : Module
        From features to outputs. It takes no part in the loss.
    temperature : float
        Of the similarities.

    References
    ----------
    Khosla et al. (2020), Supervised Contrastive Learning, eq. 2.
    Tunstall et al. (2022), Efficient Few-Shot Learning Without Prompts (SetFit: a sentence encoder is tuned on pairs).
    """

    least_steps, trains_head, needs_inputs, holds_weights, after = 60, False, False, False, None

    def __init__(
        self,
        goal: Supervision,
        examples: Examples,
        batch_size: int,
        seed: int,
        head: nn.Module,
        temperature: float = 0.1,
    ) -> None:
        self._goal, self._temperature = goal, temperature
        self._order = ClassOrder(examples.targets.argmax(dim=1).numpy(), batch_size, seed)
        self.batches, self.epoch_steps = self._order.batches, max(1.0, examples.count / batch_size)
        self.heads = {HEAD: head}

    def rows(self, step: int) -> np.ndarray:
        return self._order.rows(step)

    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        features = _features_by_length(network, part.inputs)
        labels = part.targets.argmax(dim=1)
        losses, paired = supervised_contrastive(features, labels, temperature=self._temperature)
        weight = part.weight * paired
        return (losses * weight).sum(), weight.sum()

    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        # The head comes afterwards: until then, the cosine to the mean of each class stands for it.
        asked, _ = forward_all(watched, network, bfloat16=bfloat16)
        known, _ = forward_all(learned, network, bfloat16=bfloat16)
        means = functional.normalize(learned.targets.T @ functional.normalize(known, dim=1), dim=1)
        return self._goal.score(functional.normalize(asked, dim=1) @ means.T, watched.targets)


# Steps that a training for each objective takes, however few examples there are.
LEAST_STEPS = {"supervised": Supervised.least_steps, "contrastive": Contrastive.least_steps}


def require_objective(name: str, settings: Settings) -> None:
    """Refuse an objective that does not exist, or not beside such settings.

    Raises
    ------
    RequestError
        If so.
    """
    one_of("objective", name, OBJECTIVES)
    if name == "contrastive" and (settings.parts > 1 or settings.mixup > 0 or settings.cutmix > 0):
        raise RequestError(
            "objective",
            expected="'supervised' beside parts, mixup or cutmix",
            found="'contrastive', which compares whole examples within a whole batch",
            remedy="Leave those out, or take a smaller batch_size.",
        )


def require_fit_for(kind: str, name: str, label_smoothing: float) -> None:
    """Refuse an objective, or the smoothing of labels, for a kind of task that it does not fit.

    Raises
    ------
    RequestError
        If it does not.
    """
    if name == "contrastive" and kind != "classification":
        raise RequestError(
            "objective",
            expected="'supervised' for this task",
            found=f"'contrastive' for a {kind} task",
            remedy="Contrastive tuning compares classes: use it where every example has one label.",
        )
    if label_smoothing > 0 and (kind != "classification" or name != "supervised"):
        raise RequestError(
            "label_smoothing",
            expected="0 unless each example has one class and objective='supervised'",
            found=f"{label_smoothing:g} for a {kind} task with objective={name!r}",
            remedy="Leave it out.",
        )


def task_objective(
    material: Material, settings: Settings, *, kind: str, regularizer: str | None, strength: float | None
) -> Callable[[nn.Module, Examples, np.ndarray], Objective]:
    """Return a function that makes the objective of a task for a training; see `NetworkTraining`.

    Parameters
    ----------
    material : Material
        All examples.
    settings : Settings
        Of the training.
    kind : str
        One of `OBJECTIVES`.
    regularizer : str or None
        What is added to it; one of `graft.techniques.regularizers.REGULARIZERS`.
    strength : float or None
        How much that counts.
    """

    def make(trunk: nn.Module, learning: Examples, chosen: np.ndarray) -> Objective:
        seed, size = settings.seed, settings.batch_size
        head = material.start(chosen, seed) if settings.pretrained else material.random_head(seed)
        if kind == "contrastive":
            return Contrastive(material.goal, learning, size, seed, head)
        added = None
        if regularizer is not None:
            added = make_regularizer(
                regularizer,
                material.backbone,
                trunk,
                head,
                goal=material.goal,
                learning=learning,
                features=material.found.features[chosen],
                codes=learning.targets.argmax(dim=1).numpy() if material.kind == "classification" else None,
                strength=strength,
                seed=seed,
            )
        return Supervised(material.goal, learning, size, seed, head, added)

    return make


def _features_by_length(network: nn.Module, inputs: Any) -> torch.Tensor:
    """Return the features (n, d) of a batch; texts pass in parts of like length, which saves most of the padding."""
    if not isinstance(inputs, dict) or "attention_mask" not in inputs:
        return network(inputs)[0]
    lengths = inputs["attention_mask"].sum(dim=1)
    order = lengths.argsort(stable=True)
    parts = []
    for rows in order.chunk(_LENGTHS):
        longest = int(lengths[rows].max())
        # What has a place for every token is cut to the longest of the part; all else is taken as it is.
        part = {
            name: values[rows, :longest]
            if values.ndim > 1 and values.shape[1] == inputs["attention_mask"].shape[1]
            else values[rows]
            for name, values in inputs.items()
        }
        parts.append(network(part)[0])
    return torch.cat(parts)[order.argsort()]
