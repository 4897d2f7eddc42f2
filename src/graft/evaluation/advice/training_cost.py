"""What a training takes on this machine: a step is measured, the number of steps is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graft.backbones import Backbone, Views
from graft.backbones.backbone import on_device
from graft.evaluation.comparison.training_length import BATCH, training_steps
from graft.techniques.mirroring import trial_steps
from graft.techniques.network_training import uses_bfloat16
from graft.training import Examples, fast_convolutions, freed_memory_kept

# As `FineTuning` has them by default: evaluations of a training, what they look at.
_EVALUATIONS, _HELD_OUT = 12, 0.2
# Steps that are measured, after one that is not.
_MEASURED = 3


@dataclass(frozen=True)
class TrainingCost:
    """Seconds of the parts of a training.

    Parameters
    ----------
    step : float
        Of one step.
    forward : float
        Of computing the features of as many examples.
    epochs : float or "auto"
        As in `FineTuning`.
    tries_mirroring : bool
        Whether a short training finds out first whether pictures may be mirrored.
    batch : int
        The examples of the step that was measured, at most 32.
    """

    step: float
    forward: float
    epochs: Any
    tries_mirroring: bool = False
    batch: int = BATCH

    def fit(self, examples: int, *, scratch: bool, share: float = 1.0) -> float:
        """Return the seconds of fitting: to four fifths, watching the last; then, where that chose it, to all.

        `share` is the part of the steps that is taken.
        """
        held = round(_HELD_OUT * examples)
        first, again = (
            training_steps(count, epochs=self.epochs, scratch=scratch) for count in (examples - held, examples)
        )
        if self.tries_mirroring:
            first += trial_steps(first, pretrained=not scratch)
        evaluations = _EVALUATIONS * held / self.batch
        # A step of fewer examples takes less.
        step = self.step * min(1.0, examples / self.batch)
        return share * (first + again) * step + evaluations * self.forward

    def longest(self, seconds: float, trainings: Sequence[tuple[int, bool]]) -> float:
        """Return the part of the steps of all trainings for which so many seconds are enough.

        0 where not even watching fits; a training is its number of examples, and whether it is one from scratch.
        """
        fixed, whole = (sum(self.fit(n, scratch=afresh, share=part) for n, afresh in trainings) for part in (0.0, 1.0))
        if whole <= fixed:  # steps that take no time that a clock could tell
            return float(seconds >= fixed)
        return max(0.0, (seconds - fixed) / (whole - fixed))

    def to_dict(self) -> dict[str, float]:
        """Return the seconds."""
        return {"step": self.step, "forward": self.forward}


def training_cost(
    backbone: Backbone,
    inputs: Any,
    epochs: Any,
    *,
    views: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingCost:
    """Measure a step of training all layers of a network, and computing features, on some of the inputs.

    Parameters
    ----------
    backbone : Backbone
        The network; a copy is trained.
    inputs : sequence of n inputs
        That can be read.
    epochs : float or "auto"
        Of the trainings whose cost is asked for.
    views : int or None
        As in `FineTuning`.
    clock : callable
        Seconds now.
    """
    rows = np.arange(min(BATCH, len(inputs)))
    examples = Examples(backbone, [inputs[row] for row in rows], torch.zeros(len(rows), 1), views=Views(seed=0))
    trunk = backbone.copy_module().to(backbone.device).train()
    optimizer = torch.optim.AdamW(trunk.parameters(), lr=0.0)

    def synchronized() -> float:
        if backbone.device.type == "cuda":
            torch.cuda.synchronize(backbone.device)
        return clock()

    def features(view: int) -> torch.Tensor:
        inputs = on_device(examples.batch(rows, view).inputs, backbone.device)
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=uses_bfloat16(backbone, "auto")):
            return trunk(inputs).float()

    varied, taken = backbone.modality == "image", []
    # As a training computes.
    with freed_memory_kept(), fast_convolutions(trunk, on_device(examples.batch(rows[:2]).inputs, backbone.device)):
        for number in range(1 + _MEASURED):
            started = synchronized()
            features(number + 1 if varied else 0).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            taken.append(synchronized() - started)
    trunk.eval()
    with torch.no_grad():
        started = synchronized()
        features(0)
        forward = synchronized() - started
    return TrainingCost(min(taken[1:]), forward, epochs, varied and views != 1, batch=len(rows))
