"""Labelled inputs as batches of a network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from graft.backbones import Backbone, Unreadable, Views
from graft.errors import UnreadableInputsError
from graft.training.batches import Batch, prefetch

# Examples in a batch that is only evaluated.
_EVALUATED = 64


class Examples:
    """Inputs that can be read, with targets and weights. Final.

    Parameters
    ----------
    backbone : Backbone
        It reads and collates.
    inputs : sequence of n inputs
        Paths, pictures or texts.
    targets : tensor of shape (n, outputs)
        What a loss compares with.
    weight : array of shape (n,), optional
        The weight of each example; 1 by default.
    views : Views
        The seed and magnitude of variations, and what is mirrored.
    """

    def __init__(
        self,
        backbone: Backbone,
        inputs: Sequence[Any],
        targets: torch.Tensor,
        *,
        weight: np.ndarray | None = None,
        views: Views | None = None,
    ) -> None:
        self._backbone, self._inputs, self._targets = backbone, inputs, targets
        self.weight = torch.ones(len(inputs)) if weight is None else torch.from_numpy(weight.astype(np.float32))
        self._views = Views() if views is None else views
        # Tokens are few and take time to make: once is enough. Pictures are read when they are needed.
        self._items = backbone.read(list(inputs)) if backbone.modality != "image" else None

    @property
    def count(self) -> int:
        """The number of examples, n."""
        return len(self._inputs)

    @property
    def targets(self) -> torch.Tensor:
        """What a loss compares with, (n, outputs)."""
        return self._targets

    @property
    def sizes(self) -> list[int] | None:
        """What each example takes (tokens); None where all are alike."""
        if self._backbone.modality != "text" or self._items is None:
            return None
        return [self._backbone.item_size(item) for item in self._items]

    def subset(self, rows: np.ndarray) -> Examples:
        """Return some of the examples; what was read already is not read again."""
        part, chosen = copy.copy(self), torch.from_numpy(np.asarray(rows))
        part._inputs = [self._inputs[row] for row in rows]
        part._items = None if self._items is None else [self._items[row] for row in rows]
        part._targets, part.weight = self._targets[chosen], self.weight[chosen]
        return part

    def seen_as(self, views: Views) -> Examples:
        """Return the same examples with other variations."""
        part = copy.copy(self)
        part._views = views
        return part

    def batch(self, rows: np.ndarray, view: int = 0) -> Batch:
        """Return some of the examples, of images one view.

        Raises
        ------
        UnreadableInputsError
            If one of them can no longer be read.
        """
        if self._items is not None:
            items = [self._items[row] for row in rows]
        else:
            plan = replace(self._views, numbers=(view,))
            items = self._backbone.read([self._inputs[row] for row in rows], views=plan)
        failures = tuple(
            (int(row), str(self._inputs[row]), item.reason)
            for row, item in zip(rows, items, strict=True)
            if isinstance(item, Unreadable)
        )
        if failures:
            raise UnreadableInputsError(failures, self.count)
        chosen = torch.from_numpy(np.asarray(rows))
        return Batch(self._backbone.collate(items), self._targets[chosen], self.weight[chosen], chosen)


class InBatches(Protocol):
    """Examples that batches can be had of."""

    @property
    def count(self) -> int: ...

    @property
    def sizes(self) -> list[int] | None: ...

    @property
    def targets(self) -> torch.Tensor: ...

    def batch(self, rows: np.ndarray, view: int = 0) -> Batch: ...


def forward_all(
    examples: InBatches, network: nn.Module, *, bfloat16: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return features (n, d), and every head's outputs (n, outputs), for the plain views of examples.

    Both in float32 on the CPU; without gradients, in the mode in which the network is.

    Parameters
    ----------
    examples : Examples or ActivationStore
        The inputs.
    network : Network
        Trunk and heads.
    bfloat16 : bool
        Compute in bfloat16 where that is safe.
    """
    device = next(network.parameters()).device
    # By length: texts that are padded together are about as long as each other.
    order = np.arange(examples.count) if examples.sizes is None else np.argsort(examples.sizes, kind="stable")
    parts = [order[at : at + _EVALUATED] for at in range(0, examples.count, _EVALUATED)]
    features: list[torch.Tensor] = []
    found: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for batch in prefetch(lambda number: examples.batch(parts[number]), range(len(parts))):
            made, outputs = network(batch.to(device).inputs)
            features.append(made.float().cpu())
            for name, values in outputs.items():
                found.setdefault(name, []).append(values.float().cpu())
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return torch.cat(features)[back], {name: torch.cat(values)[back] for name, values in found.items()}
