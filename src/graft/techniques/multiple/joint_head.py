"""From features to the outputs of several tasks: what they share, and a linear head for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import nn

from graft._checks import one_of
from graft.errors import RequestError
from graft.sharing import PLE, CrossStitch, HardSharing, MMoE, TaskAdapters
from graft.techniques.multiple.balance import Balance

# What stands between the features and the heads, by the name that users write.
_MODULES: dict[str, Callable[..., nn.Module]] = {
    "hard": HardSharing,
    "mmoe": MMoE,
    "ple": PLE,
    "cross-stitch": CrossStitch,
    "adapters": TaskAdapters,
}
# Heads on the features themselves; and what needs no training loop: heads that read what the others say, and linear
# models with a common and an own part.
FEATURES, STACKED, COMMON_AND_OWN = "features", "stacked", "common-and-own"
SHARINGS = (FEATURES, *_MODULES, STACKED, COMMON_AND_OWN)

Split = Callable[[torch.Tensor], Sequence[torch.Tensor]]


@final
class Middle(nn.Module):
    r"""What stands between features and the heads of several tasks: task k reads :math:`[\tilde x, s_k(\tilde x)]`.

    :math:`\tilde x = (x - μ) / σ`, and s is a module of `graft.sharing`. The features stand beside what it makes of
    them, so that a head begins as the linear model which it would be alone. With `TaskAdapters`, which start from the
    features, task k reads :math:`s_k(\tilde x)` alone; without a module, :math:`\tilde x`.

    Parameters
    ----------
    sharing : str
        One of `SHARINGS` that has a module, or "features".
    n_tasks, feature_dim : int
        K and d.
    options : mapping
        Of the module, such as ``hidden`` or ``experts``.
    seed : int
        For its weights.
    location, scale : array of shape (d,), optional
        μ and σ; 0 and 1 by default.

    Raises
    ------
    RequestError
        If the module has no such option.
    """

    location: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        sharing: str,
        n_tasks: int,
        feature_dim: int,
        *,
        options: Mapping[str, Any],
        seed: int = 0,
        location: np.ndarray | None = None,
        scale: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        one_of("sharing", sharing, (FEATURES, *_MODULES))
        self.facts = {
            "sharing": sharing,
            "n_tasks": n_tasks,
            "feature_dim": feature_dim,
            "options": {name: list(one) if isinstance(one, tuple) else one for name, one in options.items()},
        }
        start = torch.zeros(feature_dim) if location is None else torch.from_numpy(location.astype(np.float32))
        self.register_buffer("location", start)
        spread = torch.ones(feature_dim) if scale is None else torch.from_numpy(scale.astype(np.float32))
        self.register_buffer("scale", spread)
        self.n_tasks = n_tasks
        self.module: nn.Module | None = None
        if sharing != FEATURES:
            try:
                self.module = _MODULES[sharing](n_tasks, feature_dim, seed=seed, **dict(options))
            except TypeError as error:
                raise RequestError(
                    "sharing_options",
                    expected=f"options of {_MODULES[sharing].__name__}",
                    found=", ".join(options),
                    remedy=f"See graft.sharing.{_MODULES[sharing].__name__}.",
                ) from error
        elif options:
            raise RequestError(
                "sharing_options", expected="none for 'features'", found=", ".join(options), remedy="Leave them out."
            )

    @property
    def hard(self) -> bool:
        """Whether all tasks read one representation that a module makes."""
        return isinstance(self.module, HardSharing)

    def forward(self, features: torch.Tensor, split: Split | None = None) -> list[torch.Tensor]:
        """Return what each task's head reads, K tensors (n, h).

        Parameters
        ----------
        features : tensor of shape (n, d)
            x.
        split : callable, optional
            From a representation that all tasks read to a copy for each, through which gradients are balanced. It is
            applied to the features where they have a gradient, else to what hard sharing makes of them.
        """
        plain = (features - self.location) / self.scale
        apart = split is not None and plain.requires_grad
        copies: Sequence[torch.Tensor] = split(plain) if split is not None and apart else [plain] * self.n_tasks
        match self.module:
            case None:
                return list(copies)
            case HardSharing(network=network) if apart:
                made = [network(copy) for copy in copies]
            case HardSharing(network=network):
                one = network(plain)
                made = [one] * self.n_tasks if split is None else list(split(one))
            case module if apart:
                made = [module(copy)[place] for place, copy in enumerate(copies)]
            case module:
                made = list(module(plain))
        if isinstance(self.module, TaskAdapters):
            return made
        return [torch.cat([copy, one], dim=1) for copy, one in zip(copies, made, strict=True)]


@final
class JointHead(nn.Module):
    """The heads of several tasks and what stands before them; their outputs side by side.

    Parameters
    ----------
    middle : Middle
        What stands before them.
    heads : sequence of K Linear
        A head for each task, on the features (d columns); columns for what the middle adds are zero at first.
    balance : Balance
        How the tasks are balanced in the training.
    """

    def __init__(self, middle: Middle, heads: Sequence[nn.Linear], balance: Balance) -> None:
        super().__init__()
        self.middle, self.balance = middle, balance
        with torch.no_grad():
            widths = [one.shape[1] for one in middle(torch.zeros(1, len(middle.location)))]
            self.heads = nn.ModuleList(
                _standardized(head, middle, width) for head, width in zip(heads, widths, strict=True)
            )

    def outputs(self, features: torch.Tensor, split: Split | None = None) -> list[torch.Tensor]:
        """Return each task's outputs; `split` as in `Middle`."""
        return [head(one) for head, one in zip(self.heads, self.middle(features, split), strict=True)]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all tasks side by side (n, columns)."""
        return torch.cat(self.outputs(features), dim=1)


def _standardized(head: nn.Linear, middle: Middle, width: int) -> nn.Linear:
    """Return a head on features as one on standardised features, with zeros for further columns."""
    wide = nn.Linear(width, head.out_features)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : head.in_features] = head.weight * middle.scale
        wide.bias.copy_(head.bias + head.weight @ middle.location)
    return wide
