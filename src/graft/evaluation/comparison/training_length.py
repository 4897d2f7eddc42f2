"""`training_steps`, `adaptation_examples`: how long the trainings are that techniques are compared by."""

from __future__ import annotations

from functools import partial
from typing import Any

from graft.evaluation.comparison.candidates import SCRATCH_FACTOR
from graft.techniques.adaptation.through_network import AFTERWARDS, ROUND_STEPS, ROUNDS
from graft.techniques.domain_adaptation import BATCH as ADAPTATION_BATCH
from graft.techniques.network_training import number_of_steps
from graft.techniques.objectives import Supervised

# Examples of a step, as `FineTuning` has it by default.
BATCH = 32


def training_steps(examples: int, *, epochs: Any, scratch: bool) -> int:
    """Return how many steps `FineTuning` takes on so many examples.

    Parameters
    ----------
    examples : int
        That it learns from.
    epochs : float or "auto"
        Of a pretrained network; from scratch `SCRATCH_FACTOR` times as many.
    scratch : bool
        Whether it starts from random weights.
    """
    batches, epoch_steps = -(-examples // BATCH), max(1.0, examples / BATCH)
    longer = epochs if epochs == "auto" else (SCRATCH_FACTOR if scratch else 1) * epochs
    return number_of_steps(
        longer, pretrained=not scratch, least_steps=Supervised.least_steps, batches=batches, epoch_steps=epoch_steps
    )


def adaptation_examples(method: str, source: int, target: int, *, epochs: Any) -> int:
    """Return how many examples the steps of an adaptation through the network hold.

    Parameters
    ----------
    method : str
        Of `DomainAdaptation`: one that trains the network.
    source, target : int
        Examples of each domain that it learns from.
    epochs : float or "auto"
        As in `DomainAdaptation`.
    """

    steps = partial(number_of_steps, pretrained=True)

    def alone(count: int, least: int, epochs: Any) -> int:
        size = min(ADAPTATION_BATCH, count)
        return size * steps(epochs, least_steps=least, batches=count // size, epoch_steps=count / size)

    if method not in AFTERWARDS:
        half, epoch_steps = ADAPTATION_BATCH // 2, max(1.0, (source + target) / ADAPTATION_BATCH)
        batches = max(1, min(source, target) // half)
        least = max(150, round(epoch_steps))
        return ADAPTATION_BATCH * steps(epochs, least_steps=least, batches=batches, epoch_steps=epoch_steps)
    first = alone(source, Supervised.least_steps, epochs)
    if method == "shot":
        return first + ROUNDS * alone(target, ROUND_STEPS, epochs if epochs == "auto" else epochs / ROUNDS)
    return first + (alone(target, 1, 1.0 if epochs == "auto" else epochs) if method == "tent" else 0)
