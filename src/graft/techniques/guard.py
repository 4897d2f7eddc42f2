"""The guard: of several models, the one that held-out examples speak for, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graft.metrics import Statistic, bootstrap
from graft.training import Supervision

# Scores (nats of log loss, or R²) that differ by less say nothing, and the baseline is the simpler model.
_TIE = 0.005
# Standard errors by which another candidate has to be better than a favourite: a level of 10 % on one side.
_AHEAD = 1.28


@dataclass(frozen=True)
class Verdict:
    """Which model is served.

    Parameters
    ----------
    chosen : str
        Its name.
    candidates : dict of str to dict
        For each: ``score`` (larger is better) and what the task's reader knows, such as ``accuracy``.
    gain : dict of str to float or None
        What the chosen one is better by than the baseline, on the same held-out examples: ``value``, ``low``, ``high``
        (a 95 % interval of the paired difference), in accuracy, or in squared error of standardised values.
    examples : int
        How many held-out examples decided.
    """

    chosen: str
    candidates: dict[str, dict[str, float | None]]
    gain: dict[str, float | None]
    examples: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def judge(
    supervision: Supervision,
    outputs: Mapping[str, torch.Tensor],
    targets: torch.Tensor,
    *,
    baseline: str,
    served: str | None = None,
    favourite: str | None = None,
    groups: np.ndarray | None = None,
) -> Verdict:
    """Return the candidate with the best score on held-out examples; the baseline where none is better.

    Parameters
    ----------
    supervision : Supervision
        Scores.
    outputs : mapping of str to tensor (n, outputs)
        Each candidate's, for the held-out examples.
    targets : tensor of shape (n, outputs)
        Theirs.
    baseline : str
        The candidate that the others have to beat.
    served : str, optional
        The candidate that is served whatever the scores say; its gain is then what is told.
    favourite : str, optional
        The candidate that all but the baseline have to beat by more than noise: by 1.28 standard errors of the paired
        difference. Of few held-out examples, the best of several scores is often the luckiest.
    groups : array of shape (n,), optional
        Examples of one group are resampled together for the interval.
    """
    candidates: dict[str, Any] = {name: supervision.score(found, targets) for name, found in outputs.items()}
    # A model that has diverged says nothing, and beats nobody.
    scores = {name: one["score"] if math.isfinite(one["score"]) else -math.inf for name, one in candidates.items()}
    if favourite is not None and math.isfinite(scores[favourite]):
        own = supervision.shares(outputs[favourite], targets)
        for name in set(scores) - {favourite, baseline}:
            if math.isfinite(scores[name]):
                ahead = supervision.shares(outputs[name], targets) - own
                if ahead.mean() < _AHEAD * ahead.std() / math.sqrt(len(ahead)):
                    scores[name] = -math.inf
    chosen = max(scores, key=scores.__getitem__)
    if not scores[chosen] - scores[baseline] >= _TIE:
        chosen = baseline
    chosen = chosen if served is None else served
    candidates = {
        name: {key: value if math.isfinite(value) else None for key, value in one.items()}
        for name, one in candidates.items()
    }
    difference = worth(outputs[chosen], targets, supervision) - worth(outputs[baseline], targets, supervision)
    estimate = bootstrap({"gain": Statistic(difference[:, None], lambda means: means[..., 0])}, groups=groups)["gain"]
    return Verdict(chosen, candidates, estimate.to_dict(), len(targets))


def worth(outputs: torch.Tensor, targets: torch.Tensor, supervision: Supervision) -> np.ndarray:
    """Return how right each prediction is (n,): 0 or 1, the share of right labels, or minus the squared error."""
    match supervision.kind:
        case "classification":
            right = outputs.argmax(dim=1) == targets.argmax(dim=1)
            return right.double().numpy()
        case "multilabel":
            known = ~targets.isnan()
            right = ((outputs > 0) == (targets > 0.5)) & known
            return (right.sum(dim=1) / known.sum(dim=1).clamp(min=1)).double().numpy()
    return -(outputs - targets).square().mean(dim=1).double().numpy()
