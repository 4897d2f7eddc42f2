"""What a training of several tasks at once minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import nn

from graft.techniques.multiple.joint_head import JointHead
from graft.techniques.objectives import HEAD, Objective
from graft.training import Batch, Examples, InBatches, Supervision, forward_all


@final
class Together(Objective):
    r"""Several tasks at once, each on the examples of a batch that have its label.

    The loss of a task is the weighted mean :math:`\ell_k = \sum_i m_{ik} w_i \ell_{ik} / \sum_i m_{ik} w_i` over them
    (m: who has a label). `Balance` makes one number of them. Where a batch is computed in parts or by several
    processes, a weighting that is additive gives what the whole batch would; others, and aggregates of gradients,
    balance the tasks of each part, and the parts count by their sizes.

    Parameters
    ----------
    goals : sequence of K Supervision
        How each task's outputs are compared with its labels.
    columns : sequence of K slices
        Of each task among the targets.
    examples : Examples
        Those that are trained on.
    head : JointHead
        From features to the outputs of all tasks.
    order : callable
        From a step to the rows of its batch.
    batch_size, seed : int
        Of the batches.
    steps : int
        Of the training.
    """

    least_steps, trains_head, needs_inputs, holds_weights = 150, True, False, False

    def __init__(
        self,
        goals: Sequence[Supervision],
        columns: Sequence[slice],
        examples: Examples,
        head: JointHead,
        *,
        order: Callable[[int], np.ndarray],
        batch_size: int,
        seed: int,
        steps: int,
    ) -> None:
        self._goals, self._columns, self._order, self._seed = list(goals), list(columns), order, seed
        self._steps = steps
        self._counts = self._task_weight(examples.targets, torch.as_tensor(examples.weight))
        size = min(batch_size, examples.count)
        self.batches, self.epoch_steps = examples.count // size, examples.count / size
        self.heads = {HEAD: head}
        self.after = self._after

    def rows(self, step: int) -> np.ndarray:
        return self._order(step)

    def loss(self, network: nn.Module, part: Batch, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        whole: Any = network
        head: JointHead = whole.heads[HEAD]
        balance = head.balance
        rows = self.rows(min(round(progress * self._steps), self._steps - 1))
        weight = self._task_weight(part.targets, part.weight)
        share = part.weight.new_tensor(part.weight.shape[0] / len(rows))
        total = weight.sum(dim=0)
        if balance.additive:
            total = self._counts[rows].sum(dim=0).to(total) * share
        present = total > 0
        features = whole.trunk(part.inputs)
        if not bool(present.any()):
            return head(features).sum() * 0, part.weight.new_zeros(())
        draw = self._seed + int(progress * 2**40)
        losses = self._losses(head.outputs(features, balance.split(present, draw)), part.targets, weight, total)
        parameters = [*whole.trunk.parameters(), *head.middle.parameters()]
        combined = balance.combined(
            losses,
            present,
            draw,
            shared=features if features.requires_grad else None,
            parameters=[one for one in parameters if one.requires_grad],
        )
        return combined * share, share

    def score(
        self, network: nn.Module, learned: InBatches, watched: InBatches, *, bfloat16: bool = False
    ) -> dict[str, float]:
        _, outputs = forward_all(watched, network, bfloat16=bfloat16)
        found = {}
        for place, (goal, column) in enumerate(zip(self._goals, self._columns, strict=True)):
            known = ~watched.targets[:, column].isnan().all(dim=1)
            if known.any():
                found[str(place)] = goal.score(outputs[HEAD][known, column], watched.targets[known, column])["score"]
        return {"score": float(np.mean(list(found.values()))), **found}

    def task_losses(self, network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each task in a batch (K,), and which of them have a label in it (K,)."""
        whole: Any = network
        weight = self._task_weight(batch.targets, batch.weight)
        outputs = whole.heads[HEAD].outputs(whole.trunk(batch.inputs))
        total = weight.sum(dim=0)
        return self._losses(outputs, batch.targets, weight, total), total > 0

    def _after(self, network: nn.Module, batch: Batch) -> None:
        whole: Any = network
        head: JointHead = whole.heads[HEAD]
        head.balance.learn(lambda: self.task_losses(network, batch)[0])

    def _task_weight(self, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight of each example in each task (n, K); 0 without a label."""
        known = [~targets[:, column].isnan().all(dim=1) for column in self._columns]
        return weight[:, None] * torch.stack(known, dim=1)

    def _losses(
        self, outputs: Sequence[torch.Tensor], targets: torch.Tensor, weight: torch.Tensor, total: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of each task's losses over a total (K,)."""
        found = []
        for place, (goal, column) in enumerate(zip(self._goals, self._columns, strict=True)):
            there = weight[:, place] > 0
            # Of rows without a label nothing is computed: 0 times what is no number would be no number.
            each = goal.losses(outputs[place][there], targets[there, column])
            found.append((each * weight[there, place]).sum() / total[place].clamp(min=1e-12))
        return torch.stack(found)
