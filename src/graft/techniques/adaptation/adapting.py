"""What a network minimises that is adapted to a target domain: with the source at hand, or without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from graft.alignment import AdaptationLoss, DomainOutputs
from graft.alignment.adaptation_loss import UNKNOWN
from graft.techniques.adaptation.domain_batches import DomainBatches
from graft.techniques.material import Material
from graft.techniques.objectives import HEAD, Objective
from graft.techniques.settings import Settings
from graft.training import Batch, Examples, InBatches, Order, Supervision, forward_all

# The name under which a network holds what a method needs beside it.
BESIDE = "adaptation"


@final
class Beside(nn.Module):
    """Networks that take part in the loss alone; as a head, they say nothing.

    Parameters
    ----------
    parts : ModuleDict
        What `AdaptationLoss.modules` returned.
    """

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return no outputs (n, 0)."""
        return features[:, :0]


@final
class Adapting(Objective):
    """The loss of the task on labelled examples, and beside it what draws source and target together.

    Features and logits of both domains are computed in one pass, so that batch normalisation sees them mixed.

    Parameters
    ----------
    goal : Supervision
        The task's.
    method : AdaptationLoss
        What is added.
    examples : Examples
        Those of both domains; targets are NaN where nobody knows them.
    target : array of bool (n,)
        Which of them are of the target.
    batch_size, seed : int
        Of the batches: half of each domain.
    head : Linear
        From features to outputs.
    """

    trains_head, needs_inputs, holds_weights, after = True, False, False, None

    def __init__(
        self,
        goal: Supervision,
        method: AdaptationLoss,
        examples: Examples,
        target: np.ndarray,
        batch_size: int,
        seed: int,
        head: nn.Linear,
    ) -> None:
        self._goal, self._method, self._classes = goal, method, goal.kind == "classification"
        known = ~examples.targets.isnan().all(dim=1)
        codes = examples.targets.nan_to_num(0.0).argmax(dim=1).numpy() if self._classes else None
        self._batches = DomainBatches(target, known.numpy(), codes, batch_size, seed)
        self._target = torch.from_numpy(target)
        self._factor = torch.from_numpy(self._batches.factor).float()
        self.batches, self.epoch_steps = self._batches.batches, max(1.0, examples.count / batch_size)
        # However small one of the domains is: the other one is seen once besides.
        self.least_steps = max(150, round(self.epoch_steps))
        parts = method.modules(head.in_features, head.out_features, seed=seed)
        self.heads = {HEAD: head, BESIDE: Beside(parts)}

    def rows(self, step: int) -> np.ndarray:
        return self._batches.rows(step)

    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        assert part.rows is not None
        features, outputs = network(part.inputs)
        logits, rows = outputs[HEAD], part.rows
        there, known = self._target.to(rows.device)[rows], ~part.targets.isnan().all(dim=1)
        weight = (part.weight * self._factor.to(rows.device)[rows])[known]
        total = (self._goal.losses(logits[known], part.targets[known]) * weight).sum()
        # A part of a batch may be so small that it holds one domain alone: there is nothing to compare then.
        if bool(there.any()) and not bool(there.all()):
            heads: Any = network.heads
            both = self._both(features, logits, part.targets, there, known)
            total = total + weight.sum() * self._method.loss(both, modules=heads[BESIDE].parts, progress=progress)
        return total, weight.sum()

    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        _, outputs = forward_all(watched, network, bfloat16=bfloat16)
        return self._goal.score(outputs[HEAD], watched.targets)

    def _both(
        self,
        features: torch.Tensor,
        logits: torch.Tensor,
        targets: torch.Tensor,
        there: torch.Tensor,
        known: torch.Tensor,
    ) -> DomainOutputs:
        labels = None
        if self._classes:
            labels = torch.where(known, targets.nan_to_num(0.0).argmax(dim=1), UNKNOWN)
        return DomainOutputs(
            features[~there],
            logits[~there],
            None if labels is None else labels[~there],
            features[there],
            logits[there],
            None if labels is None else labels[there],
        )


@final
class WithoutSource(Objective):
    """A loss of target examples alone, through a head that stays as it is.

    Parameters
    ----------
    goal : Supervision
        The task's, for the curve.
    examples : Examples
        Of the target.
    batch_size, seed : int
        Of the batches.
    head : Linear
        It is not trained.
    loss : callable
        From logits (b, K) and the numbers (b,) of those examples to their mean loss.
    least_steps : int
        Steps that it takes however few examples there are.
    """

    trains_head, needs_inputs, holds_weights, after = False, False, False, None

    def __init__(
        self,
        goal: Supervision,
        examples: Examples,
        batch_size: int,
        seed: int,
        head: nn.Linear,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        least_steps: int,
    ) -> None:
        self._goal, self._loss, self.least_steps = goal, loss, least_steps
        self._weight, self._bias = head.weight.detach().clone(), head.bias.detach().clone()
        self._order = Order(examples.count, batch_size, seed, examples.sizes)
        self.batches, self.epoch_steps = self._order.batches, examples.count / self._order.batch_size
        self.heads = {}

    def rows(self, step: int) -> np.ndarray:
        return self._order.rows(step)

    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        assert part.rows is not None
        features, _ = network(part.inputs)
        return self._loss(self._logits(features), part.rows) * part.size, part.weight.new_tensor(float(part.size))

    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        features, _ = forward_all(watched, network, bfloat16=bfloat16)
        return self._goal.score(self._logits(features), watched.targets)

    def _logits(self, features: torch.Tensor) -> torch.Tensor:
        return functional.linear(features, self._weight.to(features), self._bias.to(features))


def adapting(
    material: Material, settings: Settings, method: AdaptationLoss, target: np.ndarray
) -> Callable[[nn.Module, Examples, np.ndarray], Objective]:
    """Return a function that makes the objective of an adaptation for a training; see `NetworkTraining`.

    Parameters
    ----------
    material : Material
        The examples of both domains.
    settings : Settings
        Of the training.
    method : AdaptationLoss
        What is added to the loss of the task.
    target : array of bool (n,)
        Which examples are of the target.
    """

    def make(trunk: nn.Module, learning: Examples, chosen: np.ndarray) -> Objective:
        seed = settings.seed
        labelled = chosen & material.known
        head = material.start(labelled, seed) if settings.pretrained else material.random_head(seed)
        return Adapting(material.goal, method, learning, target[chosen], settings.batch_size, seed, head)

    return make
