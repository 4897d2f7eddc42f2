"""`training_steps`: how long the trainings are that techniques are compared by."""

from __future__ import annotations

from typing import Any

from graft.evaluation.comparison.candidates import SCRATCH_FACTOR
from graft.techniques.network_training import number_of_steps
from graft.techniques.objectives import Supervised
from graft.techniques.settings import Settings

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
    settings = Settings(
        pretrained=not scratch,
        train="all",
        epochs=epochs if epochs == "auto" else (SCRATCH_FACTOR if scratch else 1) * epochs,
        batch_size=BATCH,
        learning_rate="auto",
        layer_decay="auto",
        weight_decay=0.0,
        augment=0.0,
        views=None,
        batch_norm="auto",
        precision="auto",
        average=None,
        seed=0,
    )
    batches = -(-examples // BATCH)
    epoch_steps = max(1.0, examples / BATCH)
    return number_of_steps(settings, least_steps=Supervised.least_steps, batches=batches, epoch_steps=epoch_steps)
