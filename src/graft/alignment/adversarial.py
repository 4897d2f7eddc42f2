"""Adversarial alignment: features from which a discriminator cannot tell the domain (DANN, CDAN), and BSP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.nn import functional

from graft._checks import integer, number
from graft.alignment.adaptation_loss import ANY_TASK, AdaptationLoss, DomainOutputs, apply, perceptron
from graft.alignment.gradient_reversal import reversal_schedule, reverse_gradient
from graft.alignment.tensors import at_least_float32, checked, product, softmax_entropy
from graft.errors import RequestError

# The longest product of features and predictions that is taken as it is (Long et al. 2018).
_LONGEST_PRODUCT = 4096


def domain_loss(
    source_logits: torch.Tensor,
    target_logits: torch.Tensor,
    *,
    source_weight: torch.Tensor | None = None,
    target_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Return the cross-entropy of a domain discriminator, both domains counting alike.

    .. math:: \ell = -\tfrac12 \sum_i u_i \log \sigma(s_i) - \tfrac12 \sum_j v_j \log(1 - \sigma(t_j)), \qquad
        \sum_i u_i = \sum_j v_j = 1

    Parameters
    ----------
    source_logits, target_logits : tensor of shape (n, 1), (m, 1)
        s and t, the discriminator's logits of "source".
    source_weight, target_weight : tensor of shape (n,), (m,), optional
        u and v up to a factor, not negative, held constant in the gradient. By default all alike.

    Returns
    -------
    tensor of shape ()
        ℓ in nats: log 2 where it knows nothing.

    Raises
    ------
    RequestError
        If a domain has no examples or logits have another shape.

    References
    ----------
    Ganin et al. (2016), Domain-Adversarial Training of Neural Networks, section 4.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import domain_loss
    >>> domain_loss(torch.zeros(2, 1), torch.zeros(3, 1))
    tensor(0.6931)
    """
    wrong = (
        functional.softplus(-checked("source_logits", source_logits, 1)[:, 0]),
        functional.softplus(checked("target_logits", target_logits, 1)[:, 0]),
    )
    first, second = (
        values.mean() if weight is None else (values * (weight / weight.sum()).detach().to(values)).sum()
        for values, weight in zip(wrong, (source_weight, target_weight), strict=True)
    )
    return (first + second) / 2


def spectral_penalty(features: torch.Tensor, *, count: int = 1) -> torch.Tensor:
    r"""Return the largest squared singular values of a batch of features.

    .. math:: \ell = \sum_{i=1}^k \sigma_i^2

    Adversarial alignment lets a few directions dominate; the others then tell the classes less well. It is computed for
    each domain and added up.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Those of one domain, not centred.
    count : int
        k; the paper's is 1.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the features are.

    Raises
    ------
    RequestError
        If there are no examples, or k is not 1 or more.

    References
    ----------
    Chen, Wang, Long and Wang (2019), Transferability vs. Discriminability: Batch Spectral Penalization
    for Adversarial Domain Adaptation.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import spectral_penalty
    >>> spectral_penalty(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor(9.)
    """
    features = checked("features", features)
    kept = integer("count", count, low=1)
    # Eigenvalues of the smaller product: their gradient needs no differences of singular values.
    gram = product(features, features.T) if len(features) <= features.shape[1] else product(features.T, features)
    return torch.linalg.eigvalsh(gram)[-kept:].sum()


@final
class FeaturePrediction(nn.Module):
    r"""The product of features and predictions that CDAN's discriminator reads.

    .. math:: T(f, g) = f \otimes g \quad \text{or} \quad \frac{1}{\sqrt r} (R_f f) \odot (R_g g)

    the second, with random matrices drawn once, where the first would be longer than 4,096.

    Parameters
    ----------
    feature_dim, n_classes : int
        d and K.
    randomized : int, optional
        r; None: the product itself. The entries of R are standard normal, from torch's current generator.

    References
    ----------
    Long, Cao, Wang and Jordan (2018), Conditional Adversarial Domain Adaptation (multilinear and
    randomized multilinear conditioning).
    """

    def __init__(self, feature_dim: int, n_classes: int, randomized: int | None) -> None:
        super().__init__()
        self.length = feature_dim * n_classes if randomized is None else randomized
        drawn = randomized is not None
        self.register_buffer("of_features", torch.randn(feature_dim, self.length) if drawn else None)
        self.register_buffer("of_predictions", torch.randn(n_classes, self.length) if drawn else None)

    def forward(self, features: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
        """Return the product (n, length) of features (n, d) and predictions (n, K)."""
        first: Any = self.of_features
        second: Any = self.of_predictions
        if first is None:
            return (predictions[:, :, None] * features[:, None, :]).flatten(1)
        projected = product(features, first.to(features)) * product(predictions, second.to(features))
        return projected / math.sqrt(self.length)


@final
@dataclass(frozen=True, kw_only=True)
class DANN(AdaptationLoss):
    """Domain-adversarial network: a discriminator learns to tell the domains, the features to prevent it.

    Parameters
    ----------
    hidden : sequence of int
        Sizes of the discriminator's hidden layers.
    strength : float
        The weight of the loss, for the discriminator and, times `reversal_schedule`, for the features.

    References
    ----------
    Ganin et al. (2016), Domain-Adversarial Training of Neural Networks, sections 4.2 and 5.2.2.
    """

    hidden: Sequence[int] = (1024, 1024)
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    def __post_init__(self) -> None:
        _check_options(self.hidden, self.strength)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.ModuleDict({"discriminator": perceptron([feature_dim, *self.hidden, 1])})

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        factor = reversal_schedule(progress)
        source, target = (
            apply(modules["discriminator"], reverse_gradient(features, factor))
            for features in (outputs.source_features, outputs.target_features)
        )
        return self.strength * domain_loss(source, target)


@final
@dataclass(frozen=True, kw_only=True)
class CDAN(AdaptationLoss):
    r"""Conditional domain-adversarial network: the discriminator reads features together with predicted classes.

    With entropy conditioning (CDAN+E) an example counts :math:`1 + \exp(-H(g))`, with H the entropy of its predictions
    g: those that are sure count most. As in the authors' code, predictions are held constant, so that the head is not
    drawn to hide the domain, and each domain's weights add up to one.

    Parameters
    ----------
    entropy : bool
        CDAN+E, or CDAN.
    hidden : sequence of int
        Sizes of the discriminator's hidden layers.
    randomized : int
        Length of the random product where the whole one would be longer than 4,096.
    strength : float
        The weight of the loss, for the discriminator and, times `reversal_schedule`, for the features.

    References
    ----------
    Long, Cao, Wang and Jordan (2018), Conditional Adversarial Domain Adaptation (CDAN and CDAN+E).
    """

    entropy: bool = True
    hidden: Sequence[int] = (1024, 1024)
    randomized: int = 1024
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        _check_options(self.hidden, self.strength)
        integer("randomized", self.randomized, low=1)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        short = feature_dim * n_outputs <= _LONGEST_PRODUCT
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            joint = FeaturePrediction(feature_dim, n_outputs, None if short else self.randomized)
            return nn.ModuleDict({"joint": joint, "discriminator": perceptron([joint.length, *self.hidden, 1])})

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        factor = reversal_schedule(progress)
        found, weights = [], []
        for features, logits in (
            (outputs.source_features, outputs.source_logits),
            (outputs.target_features, outputs.target_logits),
        ):
            predictions = at_least_float32(logits.detach()).softmax(dim=1)
            joint = modules["joint"](reverse_gradient(at_least_float32(features), factor), predictions)
            found.append(apply(modules["discriminator"], joint))
            weights.append(1 + torch.exp(-softmax_entropy(logits.detach())) if self.entropy else None)
        return self.strength * domain_loss(*found, source_weight=weights[0], target_weight=weights[1])


@final
@dataclass(frozen=True, kw_only=True)
class BSP(AdaptationLoss):
    """Batch spectral penalization beside an adversarial method; see `spectral_penalty`.

    Parameters
    ----------
    adversary : DANN or CDAN
        The method beside it.
    penalty : float
        The weight of the penalty; the paper's is 10⁻⁴.
    count : int
        How many singular values are held down.
    """

    adversary: DANN | CDAN = field(default_factory=CDAN)
    penalty: float = 1e-4
    count: int = 1
    # Its purpose is that features tell classes apart, whichever adversary it stands beside.
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        number("penalty", self.penalty, low=0)
        integer("count", self.count, low=1)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return self.adversary.modules(feature_dim, n_outputs, seed=seed)

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        both = (outputs.source_features, outputs.target_features)
        first, second = (spectral_penalty(features, count=self.count) for features in both)
        return self.adversary.loss(outputs, modules=modules, progress=progress) + self.penalty * (first + second)


def _check_options(hidden: Sequence[int], strength: float) -> None:
    number("strength", strength, low=0)
    if isinstance(hidden, int):
        raise RequestError("hidden", expected="sizes of layers", found=repr(hidden), remedy=f"Pass hidden=({hidden},).")
    for size in hidden:
        integer("hidden", size, low=1)
