"""Mean embeddings in a kernel's space that are made alike: of features (DAN), of features with predictions (JAN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from graft._checks import number, one_of
from graft.alignment.adaptation_loss import ANY_TASK, AdaptationLoss, DomainOutputs
from graft.alignment.gradient_reversal import reversal_schedule
from graft.alignment.tensors import at_least_float32, checked_pair, squared_distances
from graft.errors import RequestError

ESTIMATORS = ("biased", "unbiased", "linear")
# Of the mean squared distance: the family of kernels of the authors' code, five powers of two around it.
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Twice σ² of the kernel on predictions in JAN: 1.68 in the authors' code.
_PREDICTIONS = 1.68


def mmd_loss(
    source: torch.Tensor,
    target: torch.Tensor,
    *,
    bandwidths: Sequence[float] | None = None,
    estimator: str = "biased",
) -> torch.Tensor:
    r"""Return the squared maximum mean discrepancy of two samples with a mean of Gaussian kernels.

    .. math:: \mathrm{MMD}^2 = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y), \qquad
        k(x, y) = \frac{1}{B} \sum_b \exp\bigl(-\|x - y\|^2 / h_b\bigr)

    The paper learns the weights of the kernels; its authors' code, and this, gives all the same.

    Parameters
    ----------
    source, target : tensor of shape (n, d), (m, d)
        x and y.
    bandwidths : sequence of float, optional
        h > 0, in units of squared distances (2σ²). By default ¼, ½, 1, 2 and 4 times the mean squared distance among
        all n + m examples, held constant in the gradient.
    estimator : {"biased", "unbiased", "linear"}
        ``"biased"``: means over all pairs, an example with itself included; never negative, zero for equal samples.
        ``"unbiased"``: without an example with itself; may be negative. ``"linear"``: over disjoint pairs of neighbours
        in time linear in n; of the larger sample, or where n is odd, the rest is left out.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the source is.

    Raises
    ------
    RequestError
        If a domain has too few examples, widths differ, or a bandwidth is not above zero.

    References
    ----------
    Gretton et al. (2012), A Kernel Two-Sample Test, eq. 3 (unbiased), 5 (biased) and lemma 14 (linear).
    Long, Cao, Wang and Jordan (2015), Learning Transferable Features with Deep Adaptation Networks,
    section 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import mmd_loss
    >>> mmd_loss(torch.zeros(2, 1), torch.ones(3, 1), bandwidths=[1.0])
    tensor(1.2642)
    """
    return joint_mmd_loss([source], [target], bandwidths=[bandwidths], estimator=estimator)


def joint_mmd_loss(
    source: Sequence[torch.Tensor],
    target: Sequence[torch.Tensor],
    *,
    bandwidths: Sequence[Sequence[float] | None] | None = None,
    estimator: str = "biased",
) -> torch.Tensor:
    r"""Return the squared discrepancy of joint distributions of several layers (JMMD).

    .. math:: k(z, z') = \prod_l k_l(z_l, z'_l)

    in the place of the kernel of `mmd_loss`, each :math:`k_l` a mean of Gaussian kernels.

    Parameters
    ----------
    source, target : sequence of tensor (n, d_l), (m, d_l)
        The layers' activations.
    bandwidths : sequence, optional
        Those of each layer, as for `mmd_loss`; None: that of `mmd_loss` for every layer.
    estimator : {"biased", "unbiased", "linear"}
        As for `mmd_loss`.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the first layer of the source is.

    Raises
    ------
    RequestError
        If layers do not correspond, or as in `mmd_loss`.

    References
    ----------
    Long, Zhu, Wang and Jordan (2017), Deep Transfer Learning with Joint Adaptation Networks (joint
    maximum mean discrepancy).
    """
    one_of("estimator", estimator, ESTIMATORS)
    families: list[Sequence[float] | None] = [None] * len(source) if bandwidths is None else list(bandwidths)
    pairs = [checked_pair(x, y) for x, y in zip(source, target, strict=False)]
    if (
        not pairs
        or not len(source) == len(target) == len(families)
        or any(len(x) != len(pairs[0][0]) for x, _ in pairs)
    ):
        raise RequestError(
            "source",
            expected="the same one or more layers of both domains, each of the same examples",
            found=f"{len(source)} and {len(target)} layers, {len(families)} families of bandwidths",
            remedy="Pass one tensor (and one family of bandwidths) for each layer.",
        )
    n, m = len(pairs[0][0]), len(pairs[0][1])
    least = {"biased": 1, "unbiased": 2, "linear": 2}[estimator]
    if min(n, m) < least or any(len(y) != m for _, y in pairs):
        raise RequestError(
            "target",
            expected=f"{least} or more examples of each domain for the {estimator} estimator",
            found=f"{n} and {m}",
            remedy="Pass larger batches, or estimator='biased'.",
        )
    if estimator == "linear":
        return _linear(pairs, families)
    kernel = torch.ones((), dtype=pairs[0][0].dtype, device=pairs[0][0].device)
    for (x, y), family in zip(pairs, families, strict=True):
        both = torch.cat([x, y])
        distances = squared_distances(both, both)
        kernel = kernel * _gaussians(distances, _bandwidths(distances, family, (n + m) * (n + m - 1)))
    within, beside, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    if estimator == "biased":
        return within.mean() + beside.mean() - 2 * across.mean()
    return _off_diagonal_mean(within) + _off_diagonal_mean(beside) - 2 * across.mean()


@final
@dataclass(frozen=True, kw_only=True)
class DAN(AdaptationLoss):
    """Deep adaptation network: both domains' features, and outputs, get the same mean embedding; see `mmd_loss`.

    Parameters
    ----------
    estimator : {"biased", "unbiased", "linear"}
        Of the discrepancy. The paper's is the linear one; batches are small enough for all pairs.
    outputs : bool
        Whether to compare the head's outputs as well, as the paper does.
    strength : float
        The weight of the loss, at the end; it grows with `reversal_schedule` as in the authors' code.
    """

    estimator: str = "biased"
    outputs: bool = True
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    def __post_init__(self) -> None:
        one_of("estimator", self.estimator, ESTIMATORS)
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        found = mmd_loss(outputs.source_features, outputs.target_features, estimator=self.estimator)
        if self.outputs:
            found = found + mmd_loss(outputs.source_logits, outputs.target_logits, estimator=self.estimator)
        return self.strength * reversal_schedule(progress) * found


@final
@dataclass(frozen=True, kw_only=True)
class JAN(AdaptationLoss):
    """Joint adaptation network: features and predicted classes get the same joint distribution; see `joint_mmd_loss`.

    Parameters
    ----------
    estimator : {"biased", "unbiased", "linear"}
        Of the discrepancy.
    strength : float
        The weight of the loss, at the end; it grows with `reversal_schedule` as in the authors' code.
    """

    estimator: str = "biased"
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        one_of("estimator", self.estimator, ESTIMATORS)
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        source = [outputs.source_features, at_least_float32(outputs.source_logits).softmax(dim=1)]
        target = [outputs.target_features, at_least_float32(outputs.target_logits).softmax(dim=1)]
        found = joint_mmd_loss(source, target, bandwidths=[None, [_PREDICTIONS]], estimator=self.estimator)
        return self.strength * reversal_schedule(progress) * found


def _linear(pairs: list[tuple[torch.Tensor, torch.Tensor]], families: list[Sequence[float] | None]) -> torch.Tensor:
    r"""Return the mean of :math:`k(x_1, x_2) + k(y_1, y_2) - k(x_1, y_2) - k(x_2, y_1)` over disjoint neighbours."""
    half = min(len(pairs[0][0]), len(pairs[0][1])) // 2
    kernel = torch.ones((), dtype=pairs[0][0].dtype, device=pairs[0][0].device)
    for (x, y), family in zip(pairs, families, strict=True):
        x, y = x[: 2 * half].reshape(half, 2, -1), y[: 2 * half].reshape(half, 2, -1)
        first = torch.stack([x[:, 0], y[:, 0], x[:, 0], x[:, 1]])
        second = torch.stack([x[:, 1], y[:, 1], y[:, 1], y[:, 0]])
        distances = (first - second).square().sum(dim=2)
        kernel = kernel * _gaussians(distances, _bandwidths(distances, family, distances.numel()))
    return (kernel[0] + kernel[1] - kernel[2] - kernel[3]).mean()


def _bandwidths(distances: torch.Tensor, family: Sequence[float] | None, different: int) -> torch.Tensor:
    """Return the bandwidths of a layer; `different` of the distances are of two different examples."""
    if family is not None:
        if not family:
            raise RequestError("bandwidths", expected="one or more", found="none", remedy="Pass None for the default.")
        return distances.new_tensor([number("bandwidths", one, low=0, open_low=True) for one in family])
    middle = distances.detach().sum() / different
    # Constant features: any width will do.
    return torch.where(middle > 0, middle, 1.0) * distances.new_tensor(_FACTORS)


def _gaussians(distances: torch.Tensor, bandwidths: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.exp(-distances / one) for one in bandwidths]).mean(dim=0)


def _off_diagonal_mean(kernel: torch.Tensor) -> torch.Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
