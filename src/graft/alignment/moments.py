"""Moments of the features that are made alike: covariances (Deep CORAL) and norms (AFN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from graft._checks import number, one_of
from graft.alignment.adaptation_loss import ANY_TASK, AdaptationLoss, DomainOutputs
from graft.alignment.tensors import checked, checked_pair, product


def coral_loss(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    r"""Return the distance of the covariances of both domains' features.

    .. math:: \ell = \frac{1}{4 d^2} \|C_S - C_T\|_F^2, \qquad
        C = \frac{1}{n - 1} \sum_i (x_i - \bar x)(x_i - \bar x)^\top

    Means are not compared. The covariance of a single example is zero.

    Parameters
    ----------
    source, target : tensor of shape (n, d), (m, d)
        Features.

    Returns
    -------
    tensor of shape ()
        ℓ, in float32, or float64 where the source is.

    Raises
    ------
    RequestError
        If a domain has no examples, or widths differ.

    References
    ----------
    Sun and Saenko (2016), Deep CORAL: Correlation Alignment for Deep Domain Adaptation, eq. 1 to 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import coral_loss
    >>> coral_loss(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [0.0]]))
    tensor(1.)
    """
    source, target = checked_pair(source, target)
    return (_covariance(source) - _covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def hard_norm_loss(features: torch.Tensor, *, radius: float = 25.0) -> torch.Tensor:
    r"""Return how far the mean norm of the features is from a fixed one (hard AFN).

    .. math:: \ell = \Bigl(\frac{1}{n} \sum_i \|x_i\|_2 - R\Bigr)^2

    It is computed for each domain and added up.

    Parameters
    ----------
    features : tensor of shape (n, d)
        x, of one domain.
    radius : float
        R > 0.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the features are.

    Raises
    ------
    RequestError
        If there are no examples, or the radius is not above zero.

    References
    ----------
    Xu, Li, Yang and Lin (2019), Larger Norm More Transferable: An Adaptive Feature Norm Approach
    (hard adaptive feature norm).

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import hard_norm_loss
    >>> hard_norm_loss(torch.tensor([[3.0, 4.0], [0.0, 3.0]]), radius=6.0)
    tensor(4.)
    """
    radius = number("radius", radius, low=0, open_low=True)
    return (_norms(checked("features", features)).mean() - radius).square()


def stepwise_norm_loss(features: torch.Tensor, *, step: float = 1.0) -> torch.Tensor:
    r"""Return the loss whose gradient lets each example's norm grow by a step (stepwise AFN).

    .. math:: \ell = \frac{1}{n} \sum_i \bigl(\|x_i\|_2 - (\|x_i^0\|_2 + \Delta r)\bigr)^2

    with :math:`x^0` the features as they are, held constant: the value is always :math:`\Delta r^2`, the gradient is
    that of :math:`-2 \Delta r` times the mean norm. It is computed for each domain and added up.

    Parameters
    ----------
    features : tensor of shape (n, d)
        x, of one domain.
    step : float
        Δr > 0.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the features are.

    Raises
    ------
    RequestError
        If there are no examples, or the step is not above zero.

    References
    ----------
    Xu, Li, Yang and Lin (2019), Larger Norm More Transferable: An Adaptive Feature Norm Approach
    (stepwise adaptive feature norm; there Δr = 1).
    """
    step = number("step", step, low=0, open_low=True)
    norms = _norms(checked("features", features))
    # The difference first: a large norm would swallow the step.
    return ((norms - norms.detach()) - step).square().mean()


@final
@dataclass(frozen=True, kw_only=True)
class DeepCORAL(AdaptationLoss):
    """Deep CORAL: both domains' features get the same covariance; see `coral_loss`.

    Parameters
    ----------
    strength : float
        The weight of the loss. The paper chose it so that both losses are about the same at the end.
    """

    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    def __post_init__(self) -> None:
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        return self.strength * coral_loss(outputs.source_features, outputs.target_features)


@final
@dataclass(frozen=True, kw_only=True)
class AFN(AdaptationLoss):
    """Adaptive feature norm: the features of both domains get larger norms; see `stepwise_norm_loss`.

    Parameters
    ----------
    kind : {"stepwise", "hard"}
        Let every norm grow step by step, or draw the means of both domains to one radius.
    radius : float
        R of the hard kind, the paper's by default.
    step : float
        Δr of the stepwise kind, the paper's by default.
    strength : float
        The weight of the loss; the paper's is 0.05.
    """

    kind: str = "stepwise"
    radius: float = 25.0
    step: float = 1.0
    strength: float = 0.05
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("stepwise", "hard"))
        number("strength", self.strength, low=0)
        number("radius", self.radius, low=0, open_low=True)
        number("step", self.step, low=0, open_low=True)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        both = (outputs.source_features, outputs.target_features)
        if self.kind == "hard":
            terms = [hard_norm_loss(features, radius=self.radius) for features in both]
        else:
            terms = [stepwise_norm_loss(features, step=self.step) for features in both]
        return self.strength * (terms[0] + terms[1])


def _covariance(values: torch.Tensor) -> torch.Tensor:
    centred = values - values.mean(dim=0)
    return product(centred.T, centred) / max(1, len(values) - 1)


def _norms(values: torch.Tensor) -> torch.Tensor:
    # Its gradient is zero, not NaN, for a row of zeros.
    return torch.linalg.vector_norm(values, dim=1)
