"""Weightings that do not change when a loss is multiplied by a number: geometric mean, logarithms, Tchebycheff."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch

from graft._checks import integer, number
from graft.balancing.loss_weighting import LossWeighting, SteadyWeighting, log_losses
from graft.errors import RequestError


@final
class GeometricMean(SteadyWeighting):
    r"""GLS, the geometric loss strategy: :math:`\ell = \bigl(\prod_k \ell_k\bigr)^{1/K}`.

    Its gradient is :math:`\frac{\ell}{K} \sum_k \nabla \ell_k / \ell_k`: that of the log losses, times the mean. The
    product is taken as a sum of logarithms, which neither overflows nor underflows.

    References
    ----------
    Chennupati, Sistu, Yogamani and Rawashdeh (2019), MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
    Strategy for Multi-Task Learning.

    Examples
    --------
    >>> import torch
    >>> from graft.balancing import GeometricMean
    >>> GeometricMean(2)(torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        return log_losses(losses).mean().exp()


@final
class ScaleInvariant(SteadyWeighting):
    r"""The mean of the logarithms, :math:`\ell = \frac{1}{K} \sum_k \log \ell_k`: every task counts by its relative
    progress.

    References
    ----------
    Navon et al. (2022), Multi-Task Learning as a Bargaining Game, section 5 (the baseline SI).
    """

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        return log_losses(losses).mean()


@final
class STCH(LossWeighting):
    r"""Smooth Tchebycheff: a soft maximum of the losses, so that the worst task counts most.

    .. math:: \ell = \mu \log \sum_k \lambda_k \exp(f_k / \mu), \qquad f_k = \log(\ell_k / n_k)

    with preferences λ that sum to 1. μ → 0 gives the largest of the :math:`f_k`, μ → ∞ their mean. As in the authors'
    multi-task code, losses are made comparable by logarithms relative to n, the mean loss of the task's first `warmup`
    batches; while no present task is past them, ℓ is the mean of :math:`\log \ell_k`, and later a task within them has
    f from what it has seen so far. (The code keeps λ = 1, multiplies by K, and freezes n after one epoch of all tasks.)

    Parameters
    ----------
    n_tasks : int
        K.
    warmup : int
        Batches of a task that its n is the mean of.
    smoothing : float
        μ.
    preference : sequence of float (K,), optional
        λ up to a factor, positive; those of the present tasks are scaled to sum to 1.

    References
    ----------
    Lin et al. (2024), Smooth Tchebycheff Scalarization for Multi-Objective Optimization.
    """

    loss_sum: torch.Tensor
    loss_count: torch.Tensor
    log_preference: torch.Tensor

    def __init__(
        self, n_tasks: int, *, warmup: int = 100, smoothing: float = 1.0, preference: Sequence[float] | None = None
    ) -> None:
        super().__init__(n_tasks)
        self.warmup = integer("warmup", warmup, low=1)
        self.smoothing = number("smoothing", smoothing, low=0, open_low=True)
        chosen = [1.0] * n_tasks if preference is None else [*preference]
        if len(chosen) != n_tasks:
            raise RequestError(
                "preference",
                expected=f"{n_tasks} numbers, one for each task",
                found=str(len(chosen)),
                remedy="Pass one for each task.",
            )
        logs = [math.log(number("preference", value, low=0, open_low=True)) for value in chosen]
        self.register_buffer("log_preference", torch.tensor(logs))
        self.register_buffer("loss_sum", torch.zeros(n_tasks))
        self.register_buffer("loss_count", torch.zeros(n_tasks, dtype=torch.int64))

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        logs = log_losses(losses)
        seen = self.loss_count[places]
        if bool((seen < self.warmup).all()):
            return logs.mean()
        typical = (self.loss_sum[places] / seen.clamp_min(1)).to(losses)
        # A task that was never seen stands where it starts: f = 0.
        typical = torch.where(seen > 0, typical, losses.detach())
        preference = torch.log_softmax(self.log_preference[places].to(losses), dim=0)
        return self.smoothing * torch.logsumexp(preference + (logs - log_losses(typical)) / self.smoothing, dim=0)

    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        still = self.loss_count[places] < self.warmup
        self.loss_sum[places[still]] += losses[still].to(self.loss_sum)
        self.loss_count[places[still]] += 1
