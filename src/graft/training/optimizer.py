"""Which parameter learns how fast, and when."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graft.training.network import normalisation_and_bias

# The learning rate never falls below this fraction of its peak: the last steps still count.
_FLOOR = 0.01


@dataclass(frozen=True)
class Recipe:
    r"""The optimizer and its schedule.

    AdamW; the learning rate of a parameter at depth k of L groups (k = L at the output) is
    :math:`\eta\, \gamma^{L - k}`, times the schedule: linear warm-up, then a cosine down to a hundredth.

    Parameters
    ----------
    learning_rate : float
        η, the peak rate of the group next to the output.
    head_learning_rate : float
        The peak rate of the heads.
    layer_decay : float
        γ in (0, 1]; 1 gives every layer the same rate.
    weight_decay : float
        Of matrices; normalisations and biases are not decayed.
    warmup : float
        The fraction of all steps in which the rate rises from zero.
    clip : float or None
        The largest Euclidean norm of the gradient over all parameters.
    betas : tuple of (float, float)
        Decay rates of the moments.

    References
    ----------
    Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization.
    Howard and Ruder (2018), Universal Language Model Fine-tuning, section 3.2 (rates that fall with depth).
    Bao et al. (2022), BEiT, appendix (γ as used here).
    """

    learning_rate: float
    head_learning_rate: float
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float | None = 1.0
    betas: tuple[float, float] = (0.9, 0.999)


def make_optimizer(
    network: nn.Module, names: Collection[str], depth: Mapping[str, int], recipe: Recipe
) -> torch.optim.AdamW:
    """Return the optimizer of the parameters that are ever trained.

    Parameters
    ----------
    network : Module
        Holds them.
    names : collection of str
        The parameters that are trained at some time.
    depth : mapping of str to int
        The depth k of each parameter of the trunk, 0 next to the input; a parameter without one belongs to a head.
    recipe : Recipe
        The rates.

    Returns
    -------
    AdamW
        Every group has ``peak``, its learning rate at the height of the schedule.
    """
    plain = normalisation_and_bias(network)
    largest = max(depth.values(), default=0)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if name not in names:
            continue
        rate = recipe.head_learning_rate
        if name in depth:
            rate = recipe.learning_rate * recipe.layer_decay ** (largest - depth[name])
        decay = 0.0 if name in plain else recipe.weight_decay
        members.setdefault((rate, decay), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": 0.0, "peak": rate, "weight_decay": decay}
        for (rate, decay), parameters in members.items()
    ]
    # One pass over each parameter and its moments instead of one for each of the formula's operations.
    return torch.optim.AdamW(groups, betas=recipe.betas, fused=True)


def schedule(step: int, steps: int, warmup: float) -> float:
    r"""Return the fraction of the peak rate at a step: linear warm-up, then :math:`\tfrac12 (1 + \cos \pi t)`.

    Parameters
    ----------
    step : int
        0 to ``steps - 1``.
    steps : int
        All steps of the training.
    warmup : float
        The fraction of them in which the rate rises.

    References
    ----------
    Loshchilov and Hutter (2017), SGDR, eq. 5.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done))
