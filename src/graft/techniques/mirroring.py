"""Whether pictures keep their labels when they are mirrored, by a short training that has seen no mirrored one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.backbones import Views
from graft.techniques.guard import worth
from graft.techniques.material import Material
from graft.techniques.network_training import NetworkTraining, number_of_steps
from graft.techniques.objectives import HEAD, task_objective
from graft.techniques.phases import Phases
from graft.techniques.settings import Settings
from graft.training import Processes, forward_all

# Steps of the short training: this share of those of the whole one, within bounds (a network from random weights needs
# more to know anything). A training of fewer than twice the least is too short to be asked.
_SHARE, _LEAST, _MOST, _MOST_FROM_SCRATCH = 0.25, 20, 60, 300
# Mirroring is left out where it costs so much of the rightness (a share of right answers, or of the variance), and
# that is so many standard errors away from nothing: a test at a level of 5 % on one side.
_HARM, _ERRORS = 0.03, 1.64
# Examples that are looked at.
_ASKED = 1000


@dataclass(frozen=True)
class Mirroring:
    """Whether training views are mirrored, and why.

    Parameters
    ----------
    mirrored : bool
        The answer.
    plain, turned : float or None
        How right the short training is on the pictures that it was trained on, and on their mirror images: the share of
        right answers, or for numbers minus the squared error in units of the variance. None where nothing was tried.
    error : float or None
        The standard error of the difference.
    steps, examples_seen, examples : int
        Of the short training, with the pictures that its steps held, and how many pictures were asked for.
    """

    mirrored: bool
    plain: float | None = None
    turned: float | None = None
    error: float | None = None
    steps: int = 0
    examples_seen: int = 0
    examples: int = 0

    @classmethod
    def of(cls, plain: np.ndarray, turned: np.ndarray, *, steps: int) -> Mirroring:
        """Return the answer of how right the same examples (n,) are predicted as they are, and mirrored."""
        lost = np.asarray(plain, np.float64) - np.asarray(turned, np.float64)
        error = float(lost.std() / math.sqrt(len(lost)))
        harmful = lost.mean() >= _HARM and lost.mean() > _ERRORS * error
        return cls(not harmful, float(np.mean(plain)), float(np.mean(turned)), error, steps=steps, examples=len(lost))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def trial_steps(steps: int, *, pretrained: bool) -> int:
    """Return the steps of the short training before one of so many steps; 0: none, for it would say nothing."""
    if steps < 2 * _LEAST:
        return 0
    return min(max(_LEAST, round(_SHARE * steps)), _MOST if pretrained else _MOST_FROM_SCRATCH)


def is_undecided(mirror: Any, material: Material, settings: Settings) -> bool:
    """Return whether it is to be found out: views are random, and nobody has said how."""
    return mirror == "auto" and material.backbone.modality == "image" and settings.views != 1


def try_mirroring(
    material: Material, held: np.ndarray, settings: Settings, *, least_steps: int, phases: Phases
) -> Mirroring:
    r"""Train for a few steps on views that are not mirrored, and ask for the mirror images of the same pictures.

    Where a mirrored picture has the same label, a network that knows the plain one knows the mirrored one nearly as
    well: networks that were trained on mirrored photos see both alike. Where it has another label or none (digits,
    letters, arrows), it does not. With :math:`r_i` how right example i is predicted as it is and :math:`m_i` mirrored,
    views are not mirrored if the mean of :math:`r_i - m_i` is at least 0.03 and more than 1.64 of its standard errors.
    No example that is held out is looked at.

    Parameters
    ----------
    material : Material
        The examples.
    held : array of bool (n,)
        Those that are held out.
    settings : Settings
        Of the training that it is asked for.
    least_steps : int
        Of the objective of that training.
    phases : Phases
        Where checkpoints are written.
    """
    learning = ~held
    count, size = int(learning.sum()), settings.batch_size
    steps = number_of_steps(
        settings.epochs,
        pretrained=settings.pretrained,
        least_steps=least_steps,
        batches=-(-count // size),
        epoch_steps=max(1.0, count / size),
    )
    few = trial_steps(steps, pretrained=settings.pretrained)
    if not few:
        return Mirroring(True)
    plain = material.seen_as(replace(material.views, mirror="never"))
    short = replace(
        settings,
        epochs=few * min(size, count) / count,
        views=None,
        patience=None,
        average=None,
        soup=1,
    )
    # The task itself, whatever else the training that follows minimises.
    objective = task_objective(plain, short, kind="supervised", regularizer=None, strength=None)
    run = NetworkTraining(plain, short, objective).run(
        learning, None, phases.checkpoints("mirroring", plain, held), "may pictures be mirrored?"
    )
    rows = np.flatnonzero(learning)
    rows = rows[np.sort(np.random.default_rng(settings.seed).permutation(len(rows))[:_ASKED])]
    asked = np.zeros_like(learning)
    asked[rows] = True
    right = []
    for mirror in ("never", "always"):
        examples = plain.seen_as(Views(mirror=mirror)).examples(asked)
        _, outputs = forward_all(examples, run.network)
        right.append(worth(outputs[HEAD], examples.targets, plain.goal))
    found = Mirroring.of(right[0], right[1], steps=run.done.progress.step)
    found = replace(found, examples_seen=run.examples_seen)
    return Mirroring(**Processes(material.backbone.device).told(found.to_dict()))
