"""`Part`: what serves some of the tasks of a multi-task model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graft.backbones import Backbone
from graft.techniques.multiple.joint_head import Middle
from graft.techniques.multiple.stack import Stack

# Examples whose representations are computed together.
_TOGETHER = 4096


@dataclass(frozen=True, eq=False)
class Part:
    """A network, what stands between its features and the heads, and a head for each task.

    Parameters
    ----------
    backbone : Backbone
        It makes features.
    middle : Middle, Stack or None
        None: the heads read the features as they are.
    heads : dict of str to estimator
        The head of each task, in the order in which the middle knows the tasks.
    """

    backbone: Backbone
    middle: Middle | Stack | None
    heads: dict[str, Any]

    def representations(self, features: Any) -> dict[str, Any]:
        """Return what each task's head reads (n, h), for features (n, d)."""
        return representations(self.middle, features, list(self.heads))

    @property
    def has_shared(self) -> bool:
        """Whether a module makes one representation that all tasks read."""
        return isinstance(self.middle, Middle) and self.middle.hard


def representations(middle: Middle | Stack | None, features: Any, names: list[str]) -> dict[str, Any]:
    """Return what the heads of tasks read, arrays (n, h), for features (n, d).

    A `Middle` knows its tasks by their places, of which these are the first ones.
    """
    match middle:
        case None:
            return dict.fromkeys(names, features)
        case Stack():
            found = middle.representations(features)
            return {name: found[name] for name in names}
    each: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with torch.inference_mode():
        for at in range(0, features.shape[0], _TOGETHER):
            rows = torch.from_numpy(dense(features[at : at + _TOGETHER])).to(middle.location.device)
            for name, values in zip(names, middle(rows), strict=False):
                each[name].append(values.cpu().numpy())
    return {name: np.concatenate(values) for name, values in each.items()}


def dense(features: Any) -> np.ndarray:
    """Return features (n, d) as an array in float32."""
    plain = features.toarray() if callable(getattr(features, "toarray", None)) else features
    return np.asarray(plain, dtype=np.float32)
