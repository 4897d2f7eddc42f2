"""Weights that the optimizer learns beside the network: homoscedastic uncertainty, and IMTL-L."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import nn

from graft._checks import one_of
from graft.balancing.loss_weighting import SteadyWeighting


@final
class UncertaintyWeighting(SteadyWeighting):
    r"""Weights by the noise σ of each task, learned as s = log σ².

    .. math:: \ell = \frac1K \sum_k c_k e^{-s_k} \ell_k + \tfrac12 s_k, \qquad
        c_k = \begin{cases} \tfrac12 & \text{regression, } \ell_k \text{ a squared error} \\
        1 & \text{classification, } \ell_k \text{ a cross-entropy} \end{cases}

    At the optimum :math:`e^{s_k} = 2 c_k \ell_k`: the weights follow the inverse of the losses. (The paper writes a
    sum over tasks, and for classification an approximation of the scaled softmax.)

    Parameters
    ----------
    kinds : sequence of {"regression", "classification"}
        What each task is.

    Attributes
    ----------
    log_variance : ParameterList of K scalars
        s, zero at first.

    References
    ----------
    Kendall, Gal and Cipolla (2018), Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import UncertaintyWeighting
    >>> weighting = UncertaintyWeighting(["regression", "classification"])
    >>> weighting(torch.tensor([2.0, 3.0])).item()
    2.0
    """

    additive: ClassVar[bool] = True

    def __init__(self, kinds: Sequence[str]) -> None:
        super().__init__(len(kinds))
        self.kinds = tuple(one_of("kinds", kind, ("regression", "classification")) for kind in kinds)
        self.log_variance = _scalars(self.n_tasks)

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        chosen = places.tolist()
        factor = losses.new_tensor([0.5 if self.kinds[place] == "regression" else 1.0 for place in chosen])
        logs = _stacked(self.log_variance, chosen, losses)
        return (factor * torch.exp(-logs) * losses + logs / 2).mean()


@final
class IMTLL(SteadyWeighting):
    r"""IMTL-L: scales learned so that all scaled losses become equal.

    .. math:: \ell = \frac1K \sum_k e^{s_k} \ell_k - s_k

    The optimum in s is :math:`e^{s_k} \ell_k = 1`. (The paper writes a sum over tasks.)

    Parameters
    ----------
    n_tasks : int
        K.

    Attributes
    ----------
    log_scale : ParameterList of K scalars
        s, zero at first.

    References
    ----------
    Liu et al. (2021), Towards Impartial Multi-task Learning.
    """

    additive: ClassVar[bool] = True

    def __init__(self, n_tasks: int) -> None:
        super().__init__(n_tasks)
        self.log_scale = _scalars(self.n_tasks)

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        logs = _stacked(self.log_scale, places.tolist(), losses)
        return (torch.exp(logs) * losses - logs).mean()


def _scalars(count: int) -> nn.ParameterList:
    # One a task: an entry of a longer vector would get the gradient 0 where the task is absent, and momentum move it.
    return nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(count)])


def _stacked(values: nn.ParameterList, places: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.stack([values[place] for place in places]).to(like)
