"""`NetworkCost`: what a pass through the frozen network costs for one of these inputs, measured on a sample of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.backbones import Backbone, embed
from graft.backbones.backbone import Unreadable, on_device
from graft.evaluation.comparison.energy import EnergyMeter
from graft.evaluation.comparison.memory import peak_memory

SAMPLED = 64
_COUNTED = 8  # inputs of the batch whose operations are counted


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one input, and of holding the network.

    Parameters
    ----------
    data_seconds : float
        Reading and decoding it.
    feature_seconds : float
        Embedding it, beyond that: reading runs beside computing.
    step_seconds : float
        What it takes in a step of a training of all layers: forward and backward, in float32.
    energy_joules : float or None
        Reading and embedding it.
    flops : float or None
        Floating-point operations of one pass, a multiplication and an addition counted as two.
    peak_mib : float or None
        What embedding a sample needs at most, without the network.
    network_mib : float
        The network's parameters and buffers.
    """

    data_seconds: float = 0.0
    feature_seconds: float = 0.0
    step_seconds: float = 0.0
    energy_joules: float | None = None
    flops: float | None = None
    peak_mib: float | None = None
    network_mib: float = 0.0


def network_cost(backbone: Backbone, inputs: Any, rows: np.ndarray, meter: EnergyMeter, *, seed: int) -> NetworkCost:
    """Measure on a sample of some rows of the inputs; nothing is read from the feature store or written there.

    Parameters
    ----------
    backbone : Backbone
        The network. The identity costs nothing.
    inputs : array of shape (n,) or (n, ...)
        All inputs.
    rows : array of shape (m,)
        Those that may be sampled.
    meter : EnergyMeter
        Reads the counters.
    seed : int
        Draws the sample.
    """
    if next(backbone.module.parameters(), None) is None:
        return NetworkCost()
    draw = np.random.default_rng((seed, 0xC057))
    sample = [inputs[row] for row in draw.permutation(rows)[:SAMPLED]]
    options: dict[str, Any] = {"store": False, "progress": False, "strict": False}
    embed(backbone, sample, **options)  # threads started, precision chosen, a faster copy made
    started = time.perf_counter()
    items = backbone.read(sample)
    reading = time.perf_counter() - started
    before = meter.reading()
    with peak_memory(backbone.device) as peak:
        started = time.perf_counter()
        embed(backbone, sample, **options)
        embedding = time.perf_counter() - started
    joules = meter.joules_since(before)
    count = len(sample)
    readable = [item for item in items if not isinstance(item, Unreadable)]
    # Embedding reads in several threads; what it took cannot be less than nothing.
    data = min(reading, embedding)
    held = sum(one.numel() * one.element_size() for one in backbone.module.state_dict().values())
    return NetworkCost(
        data_seconds=data / count,
        feature_seconds=(embedding - data) / count,
        step_seconds=_step_seconds(backbone, readable[:_COUNTED]),
        energy_joules=None if joules is None else joules / count,
        flops=forward_flops(backbone, readable[:_COUNTED]),
        peak_mib=peak.mib,
        network_mib=held / 2**20,
    )


def forward_flops(backbone: Backbone, items: list[Any]) -> float | None:
    """Return the operations of one pass for one item, counted by ``torch.utils.flop_counter``; None without items."""
    if not items:
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    batch = on_device(backbone.collate(items), backbone.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.module(batch)
    return counter.get_total_flops() / len(items)


def _step_seconds(backbone: Backbone, items: list[Any]) -> float:
    """Return the seconds for one item, forward and backward through all layers; the faster of two steps."""
    if not items:
        return 0.0
    network = backbone.copy_module()
    batch = on_device(backbone.collate(items), backbone.device)
    took = []
    for _ in range(2):
        started = time.perf_counter()
        total = network(batch).sum()
        total.backward()
        float(total.detach())  # a graphics card is waited for
        network.zero_grad()
        took.append(time.perf_counter() - started)
    return min(took) / len(items)
