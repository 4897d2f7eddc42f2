"""Weights that follow how training goes: dynamic weight average, GradNorm, FAMO."""

from __future__ import annotations

from typing import ClassVar, final

import torch

from graft._checks import integer, number
from graft.balancing.loss_weighting import LossWeighting, log_losses


@final
class DWA(LossWeighting):
    r"""Dynamic weight average: a task whose loss falls slowly gets more weight.

    .. math:: \ell = \sum_k \operatorname{softmax}(r / T)_k \, \ell_k, \qquad
        r_k = \frac{\bar\ell_k(t-1)}{\bar\ell_k(t-2)}

    where :math:`\bar\ell_k(t)` is the mean loss over period t of the task, and r = 1 until it has two. (The paper's
    periods are epochs and its weights sum to K. Here a period is a number of batches in which the task is present, so
    that a task of few labels has its own.)

    Parameters
    ----------
    n_tasks : int
        K.
    period : int
        Batches of a task that are averaged; those of an epoch, for example.
    temperature : float
        T.

    References
    ----------
    Liu, Johns and Davison (2019), End-to-End Multi-Task Learning with Attention.
    """

    additive: ClassVar[bool] = True

    loss_sum: torch.Tensor
    loss_count: torch.Tensor
    latest: torch.Tensor
    earlier: torch.Tensor

    def __init__(self, n_tasks: int, *, period: int = 100, temperature: float = 2.0) -> None:
        super().__init__(n_tasks)
        self.period = integer("period", period, low=1)
        self.temperature = number("temperature", temperature, low=0, open_low=True)
        self.register_buffer("loss_sum", torch.zeros(n_tasks))
        self.register_buffer("loss_count", torch.zeros(n_tasks, dtype=torch.int64))
        self.register_buffer("latest", torch.full((n_tasks,), torch.nan))
        self.register_buffer("earlier", torch.full((n_tasks,), torch.nan))

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        ratio = self.latest[places] / self.earlier[places]
        ratio = torch.where(ratio.isfinite(), ratio, 1.0).to(losses)
        return torch.softmax(ratio / self.temperature, dim=0) @ losses

    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        self.loss_sum[places] += losses.to(self.loss_sum)
        self.loss_count[places] += 1
        ended = places[self.loss_count[places] >= self.period]
        self.earlier[ended] = self.latest[ended]
        self.latest[ended] = self.loss_sum[ended] / self.loss_count[ended]
        self.loss_sum[ended] = 0
        self.loss_count[ended] = 0


@final
class GradNorm(LossWeighting):
    r"""Weights that make the gradients' norms alike, larger for tasks that lag behind.

    .. math:: \ell = \sum_k w_k \ell_k, \qquad w_k g_k \to \bar G \, r_k^\alpha, \qquad
        r_k = \frac{\ell_k / \ell_k(0)}{\operatorname{mean}_j \ell_j / \ell_j(0)}

    with g the norms of the unweighted gradients and :math:`\bar G` the mean of :math:`w_j g_j`. The paper descends
    :math:`\sum_k |w_k g_k - \bar G r_k^\alpha|` in w; the size of such a step depends on the scale of the losses. Here
    log w takes a step of `rate` down :math:`\tfrac12 (\log w_k g_k - \log \bar G r_k^\alpha)^2`, which has the same
    fixed point and no scale; its mean over the present tasks is taken out, so that they do not drift against absent
    ones. The weights of the present tasks sum to 1 (to K in the paper).

    Parameters
    ----------
    n_tasks : int
        K.
    asymmetry : float
        α ≥ 0; 0 makes all norms equal.
    rate : float
        The step, in (0, 1].

    References
    ----------
    Chen, Badrinarayanan, Lee and Rabinovich (2018), GradNorm: Gradient Normalization for Adaptive Loss Balancing in
    Deep Multitask Networks.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradient_norms"})
    log_weight: torch.Tensor
    initial: torch.Tensor

    def __init__(self, n_tasks: int, *, asymmetry: float = 1.5, rate: float = 0.025) -> None:
        super().__init__(n_tasks)
        self.asymmetry = number("asymmetry", asymmetry, low=0)
        self.rate = number("rate", rate, low=0, high=1, open_low=True)
        self.register_buffer("log_weight", torch.zeros(n_tasks))
        # The logarithm of each task's first loss; NaN until it is seen.
        self.register_buffer("initial", torch.full((n_tasks,), torch.nan))

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        return torch.softmax(self.log_weight[places], dim=0).to(losses) @ losses

    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        logs = log_losses(losses.to(self.initial))
        new = places[self.initial[places].isnan()]
        self.initial[new] = logs[self.initial[places].isnan()]
        progress = logs - self.initial[places]
        lag = progress - torch.logsumexp(progress, dim=0)
        norms = torch.log_softmax(self.log_weight[places], dim=0) + log_losses(extra["gradient_norms"].to(self.initial))
        # A task with no gradient (one that is solved) would get all the weight in the end: it is left as it is.
        moving = extra["gradient_norms"] > 0
        # The mean of the norms is the same for all: it falls out with the mean of the steps.
        excess = (norms - self.asymmetry * lag)[moving]
        self.log_weight[places[moving]] -= self.rate * (excess - excess.mean())


@final
class FAMO(LossWeighting):
    r"""Fast adaptive multitask optimization: all log losses fall alike, at the cost of one more forward pass.

    .. math:: \ell = \frac{1}{c} \sum_k z_k \log(\ell_k - m_k), \qquad z = \operatorname{softmax}(\xi), \qquad
        c = \sum_k \frac{z_k}{\ell_k - m_k}

    with c held constant, so that the gradient is a weighted mean of the task gradients. After the step ξ descends

    .. math:: J^T \bigl(\log(\ell - m) - \log(\ell^{+} - m)\bigr) + \gamma \xi, \qquad J = \partial z / \partial \xi,

    where ℓ⁺ are the losses of the same batch after the step: the task that fell least gains. As in the authors' code
    the step is Adam's (the paper's algorithm 1 writes plain descent); every task has its own moments and count. The
    value of ℓ is no measure of progress, only its gradient counts.

    Parameters
    ----------
    n_tasks : int
        K.
    rate : float
        Adam's step for ξ.
    decay : float
        γ.
    floor : float
        m, a lower bound of the losses.

    References
    ----------
    Liu, Feng, Stone and Liu (2023), FAMO: Fast Adaptive Multitask Optimization, algorithm 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"losses_after"})
    logits: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    steps: torch.Tensor

    def __init__(self, n_tasks: int, *, rate: float = 0.025, decay: float = 0.01, floor: float = 0.0) -> None:
        super().__init__(n_tasks)
        self.rate = number("rate", rate, low=0, open_low=True)
        self.decay = number("decay", decay, low=0)
        self.floor = number("floor", floor)
        for name in ("logits", "first_moment", "second_moment", "steps"):
            self.register_buffer(name, torch.zeros(n_tasks))

    def _combine(self, losses: torch.Tensor, places: torch.Tensor, step: int) -> torch.Tensor:
        above = losses - self.floor
        logs = log_losses(above)
        # A solved task has nothing to give, and would take the whole of c.
        unsolved = above > 0
        if not bool(unsolved.any()):
            return above.sum() * 0
        share = torch.log_softmax(self.logits[places], dim=0).to(losses)[unsolved]
        weight = torch.softmax(share - logs.detach()[unsolved], dim=0)
        return (weight * above.detach()[unsolved]) @ logs[unsolved]

    def _learn(self, losses: torch.Tensor, places: torch.Tensor, extra: dict[str, torch.Tensor]) -> None:
        before, after = (log_losses(values.to(self.logits) - self.floor) for values in (losses, extra["losses_after"]))
        share = torch.softmax(self.logits[places], dim=0)
        fall = before - after
        gradient = share * (fall - share @ fall) + self.decay * self.logits[places]
        self.steps[places] += 1
        count = self.steps[places]
        self.first_moment[places] = 0.9 * self.first_moment[places] + 0.1 * gradient
        self.second_moment[places] = 0.999 * self.second_moment[places] + 0.001 * gradient.square()
        mean = self.first_moment[places] / (1 - 0.9**count)
        spread = (self.second_moment[places] / (1 - 0.999**count)).sqrt()
        self.logits[places] -= self.rate * mean / (spread + 1e-8)
