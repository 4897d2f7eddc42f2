"""Where a training stands: all that its next step depends on, and how it becomes plain values and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from graft.training.averaging import Snapshot, Weights, put, take


@dataclass
class Progress:
    """Where a training stands: with the weights, all that its next step depends on.

    Attributes
    ----------
    step : int
        Steps done.
    parts : int
        In how many parts a batch is computed; doubled when memory runs out.
    damping : float
        Factor of the learning rate; halved after repeated losses that are not finite.
    skipped, skipped_in_row : int
        Steps left out because the gradient was not finite: all, and the last ones without a good one between.
    losses : list of float
        The mean loss of each step; NaN where it was left out.
    evaluations : list of dict
        What each evaluation found, with ``step``.
    stale : int
        Evaluations since the best one.
    """

    step: int = 0
    parts: int = 1
    damping: float = 1.0
    skipped: int = 0
    skipped_in_row: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    stale: int = 0


def pack(
    here: Progress,
    network: nn.Module,
    kept: list[str],
    optimizer: torch.optim.Optimizer,
    average: Weights | None,
    snapshots: list[Snapshot],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the state as JSON values, and the tensors."""
    tensors = {f"network/{name}": values for name, values in take(network, kept).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": values for name, values in moments.items()}
    if average is not None:
        tensors |= {f"average/{name}": values for name, values in average.items()}
    for place, one in enumerate(snapshots):
        tensors |= {f"snapshot/{place}/{name}": values for name, values in one.weights.items()}
    state = {
        **vars(here),
        "losses": [_plain(value) for value in here.losses],
        "evaluations": [{name: _plain(value) for name, value in one.items()} for one in here.evaluations],
        "snapshots": [[one.step, _plain(one.score)] for one in snapshots],
    }
    return state, {name: values.detach().cpu().numpy() for name, values in tensors.items()}


def unpack(
    found: tuple[dict[str, Any], dict[str, np.ndarray]],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[Progress, Weights | None, list[Snapshot]]:
    """Set the network and the optimizer as a checkpoint has them, and return the rest of it."""
    state, arrays = found
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition("/")
        values = torch.from_numpy(np.array(array))
        # The optimizer puts its moments where its parameters are, and counts its steps on the CPU.
        tensors.setdefault(kind, {})[rest] = values if kind == "optimizer" else values.to(device)
    put(network, tensors["network"])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, values in tensors.get("optimizer", {}).items():
        index, _, moment = name.partition("/")
        moments.setdefault(int(index), {})[moment] = values
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, held in optimizer.state.items():
        for name, values in held.items():
            # The fused step reads all tensors of a parameter in one order of memory, which a file does not keep.
            if values.shape == parameter.shape:
                held[name] = torch.empty_like(parameter, dtype=values.dtype).detach().copy_(values)
    snapshots = []
    for place, (step, score) in enumerate(state.pop("snapshots")):
        prefix = f"{place}/"
        weights = {
            name.removeprefix(prefix): values for name, values in tensors["snapshot"].items() if name.startswith(prefix)
        }
        snapshots.append(Snapshot(step, _value(score), weights))
    state["losses"] = [_value(value) for value in state["losses"]]
    state["evaluations"] = [{name: _value(value) for name, value in one.items()} for one in state["evaluations"]]
    return Progress(**state), tensors.get("average"), snapshots


def _plain(value: float) -> float | str:
    """Return a number as JSON has it, which lacks those that are not finite."""
    return value if math.isfinite(value) else repr(value)


def _value(plain: float | str) -> float:
    return float(plain) if isinstance(plain, str) else plain
