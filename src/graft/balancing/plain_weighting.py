"""Weightings that look at no loss: equal, given, and random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
import torch

from graft._checks import integer, number
from graft.balancing.loss_weighting import SteadyWeighting
from graft.errors import RequestError


@final
class EqualWeighting(SteadyWeighting):
    r"""The mean of the losses, :math:`\ell = \frac{1}{K} \sum_k \ell_k`.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import EqualWeighting
    >>> EqualWeighting(2)(torch.tensor([1.0, 3.0]))
    tensor(2.)
    >>> EqualWeighting(2)(torch.tensor([1.0, float("nan")]), present=torch.tensor([True, False]))
    tensor(1.)
    """

    additive: ClassVar[bool] = True

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        return losses.mean()


@final
class StaticWeighting(SteadyWeighting):
    r"""A weighted mean with given weights, :math:`\ell = \sum_k w_k \ell_k / \sum_k w_k`.

    Parameters
    ----------
    task_weight : sequence of float (K,)
        w, not negative, not all zero. With only tasks of weight 0 present, the loss is 0.
    """

    additive: ClassVar[bool] = True

    task_weight: torch.Tensor

    def __init__(self, task_weight: Sequence[float]) -> None:
        weights = [number("task_weight", value, low=0) for value in task_weight]
        if not sum(weights):
            raise RequestError(
                "task_weight", expected="a positive weight", found=repr(weights), remedy="Weigh some task positively."
            )
        super().__init__(len(weights))
        self.register_buffer("task_weight", torch.tensor(weights))

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        weights = self.task_weight[places].to(losses)
        return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)


@final
class RLW(SteadyWeighting):
    r"""Random loss weighting: :math:`\ell = \sum_k \operatorname{softmax}(z)_k \ell_k`, :math:`z \sim N(0, I)` anew in
    every step.

    Parameters
    ----------
    n_tasks : int
        K.
    seed : int
        With the step, it decides the weights.

    References
    ----------
    Lin, Ye, Zhang and Tsang (2022), Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning, section 3 (normal distribution).
    """

    additive: ClassVar[bool] = True

    def __init__(self, n_tasks: int, *, seed: int = 0) -> None:
        super().__init__(n_tasks)
        self.seed = integer("seed", seed, low=0)

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        # Drawn for all tasks: what one gets does not depend on which others are present.
        drawn = torch.from_numpy(np.random.default_rng((self.seed, step)).standard_normal(self.n_tasks)).to(losses)
        return torch.softmax(drawn[places], dim=0) @ losses
