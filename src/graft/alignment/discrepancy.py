"""Discrepancies of classifiers: of two heads (MCD), of a head and its adversary (MDD), between classes (MCC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn
from torch.nn import functional

from graft._checks import integer, number
from graft.alignment.adaptation_loss import AdaptationLoss, DomainOutputs, apply, perceptron
from graft.alignment.gradient_reversal import reversal_schedule, reverse_gradient
from graft.alignment.tensors import checked, checked_pair, product, softmax_entropy
from graft.errors import RequestError


def classifier_discrepancy(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    r"""Return how much two heads disagree about the same examples.

    .. math:: d = \frac{1}{n K} \sum_{i,k} |p_{ik} - q_{ik}|

    Parameters
    ----------
    first, second : tensor of shape (n, K)
        Logits of two heads; p and q are their softmax.

    Returns
    -------
    tensor of shape ()
        In [0, 2 / K].

    Raises
    ------
    RequestError
        If shapes differ.

    References
    ----------
    Saito, Watanabe, Ushiku and Harada (2018), Maximum Classifier Discrepancy for Unsupervised Domain
    Adaptation, section 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import classifier_discrepancy
    >>> classifier_discrepancy(torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]]))
    tensor(1.)
    """
    first, second = checked_pair(first, second, ("first", "second"))
    if len(first) != len(second):
        raise RequestError(
            "second", expected=f"{len(first)} rows", found=str(len(second)), remedy="Pass logits of the same examples."
        )
    return (first.softmax(dim=1) - second.softmax(dim=1)).abs().mean()


def margin_disparity(
    source_logits: torch.Tensor,
    source_adversary: torch.Tensor,
    target_logits: torch.Tensor,
    target_adversary: torch.Tensor,
    *,
    margin: float = 4.0,
) -> torch.Tensor:
    r"""Return what the adversary of the margin disparity discrepancy minimises.

    .. math:: \ell = -\frac{\gamma}{n} \sum_i \log q_{i, k(i)}
        - \frac{1}{m} \sum_j \log(1 - q_{j, k(j)}), \qquad k(i) = \arg\max_k f_k(x_i)

    with q the adversary's softmax: it agrees with the head on the source and disagrees on the target. Its negative is
    the discrepancy, which the features minimise.

    Parameters
    ----------
    source_logits, target_logits : tensor of shape (n, K), (m, K)
        f, the head's; only which is largest is used.
    source_adversary, target_adversary : tensor of shape (n, K), (m, K)
        The adversary's logits.
    margin : float
        γ = exp ρ > 0, with ρ the margin. The paper chose it from 2, 3 and 4.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the logits are.

    Raises
    ------
    RequestError
        If shapes differ, there is one class alone, or γ is not above zero.

    References
    ----------
    Zhang, Liu, Long and Jordan (2019), Bridging Theory and Algorithm for Domain Adaptation,
    section 4.
    """
    margin = number("margin", margin, low=0, open_low=True)
    source_logits, source_adversary = checked_pair(
        source_logits, source_adversary, ("source_logits", "source_adversary")
    )
    target_logits, target_adversary = checked_pair(
        target_logits, target_adversary, ("target_logits", "target_adversary")
    )
    if source_logits.shape[1] < 2:
        raise RequestError("source_logits", expected="two classes or more", found="one", remedy="Pass (n, K) logits.")
    agree = functional.cross_entropy(source_adversary, source_logits.argmax(dim=1))
    chosen = functional.one_hot(target_logits.argmax(dim=1), target_logits.shape[1]).bool()
    # log(1 - q_k) as the sum of the others: it is finite where q_k rounds to one.
    others = target_adversary.masked_fill(chosen, -torch.inf).logsumexp(dim=1)
    return margin * agree + (target_adversary.logsumexp(dim=1) - others).mean()


def class_confusion(logits: torch.Tensor, *, temperature: float = 2.5) -> torch.Tensor:
    r"""Return how much predictions confuse pairs of classes (MCC).

    .. math:: C_{kl} = \sum_i w_i p_{ik} p_{il}, \qquad
        \ell = \frac{1}{K} \sum_k \sum_{l \neq k} \frac{C_{kl}}{\sum_{l'} C_{kl'}}

    with p the softmax of logits over a temperature T, and weights :math:`w_i \propto 1 + \exp(-H(p_i))`, which favour
    examples of low entropy; as in the authors' code they are held constant in the gradient.

    Parameters
    ----------
    logits : tensor of shape (n, K)
        Of target examples.
    temperature : float
        T > 0; the paper's is 2.5.

    Returns
    -------
    tensor of shape ()
        In [0, 1 - 1 / K]. A class that has no probability at all confuses nothing.

    Raises
    ------
    RequestError
        If there are no examples, or T is not above zero.

    References
    ----------
    Jin, Wang, Long and Wang (2020), Minimum Class Confusion for Versatile Domain Adaptation,
    section 3.

    Examples
    --------
    >>> import torch
    >>> from graft.alignment import class_confusion
    >>> class_confusion(torch.zeros(5, 4))
    tensor(0.7500)
    """
    scaled = checked("logits", logits) / number("temperature", temperature, low=0, open_low=True)
    weight = (1 + torch.exp(-softmax_entropy(scaled))).detach()
    p = scaled.softmax(dim=1)
    confusion = product((weight / weight.mean() * p.T), p)
    mass = confusion.sum(dim=1)
    empty = mass <= torch.finfo(mass.dtype).tiny
    within = confusion.diagonal().masked_fill(empty, 1) / mass.masked_fill(empty, 1)
    return (1 - within).sum() / len(mass)


@final
@dataclass(frozen=True, kw_only=True)
class MCD(AdaptationLoss):
    """Maximum classifier discrepancy in one backward pass.

    Two further heads learn the labelled examples, and to disagree on the target; the features learn to let them agree.
    The paper alternates three steps; here the features' gradient of the discrepancy is turned around instead, which the
    authors' code offers too. The network's own head, which predicts, learns from labels alone.

    Parameters
    ----------
    hidden : int
        Size of the hidden layer of each head.
    strength : float
        The weight of the discrepancy; it counts for the features times `reversal_schedule`.

    References
    ----------
    Saito, Watanabe, Ushiku and Harada (2018), Maximum Classifier Discrepancy for Unsupervised Domain
    Adaptation, section 3.
    """

    hidden: int = 256
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        integer("hidden", self.hidden, low=1)
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        sizes = [feature_dim, self.hidden, n_outputs]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.ModuleDict({"first": perceptron(sizes), "second": perceptron(sizes)})

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        first, second = modules["first"], modules["second"]
        features = reverse_gradient(outputs.target_features, reversal_schedule(progress))
        apart = classifier_discrepancy(apply(first, features), apply(second, features))
        learnt = (outputs.labelled_loss(first) + outputs.labelled_loss(second)) / 2
        return learnt - self.strength * apart


@final
@dataclass(frozen=True, kw_only=True)
class MDD(AdaptationLoss):
    """Margin disparity discrepancy: an adversary of the head, and features that leave it none; see `margin_disparity`.

    Parameters
    ----------
    margin : float
        γ.
    hidden : int
        Size of the adversary's hidden layer.
    reversal : float
        How much the discrepancy counts for the features at the end, beside its weight for the adversary; 0.1 in the
        authors' code. It grows with `reversal_schedule`.
    strength : float
        The weight of the loss.
    """

    margin: float = 4.0
    hidden: int = 1024
    reversal: float = 0.1
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        number("margin", self.margin, low=0, open_low=True)
        integer("hidden", self.hidden, low=1)
        number("reversal", self.reversal, low=0)
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.ModuleDict({"adversary": perceptron([feature_dim, self.hidden, n_outputs])})

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        factor = self.reversal * reversal_schedule(progress)
        source, target = (
            apply(modules["adversary"], reverse_gradient(features, factor))
            for features in (outputs.source_features, outputs.target_features)
        )
        logits = outputs.source_logits.detach(), outputs.target_logits.detach()
        return self.strength * margin_disparity(logits[0], source, logits[1], target, margin=self.margin)


@final
@dataclass(frozen=True, kw_only=True)
class MCC(AdaptationLoss):
    """Minimum class confusion: predictions on the target confuse no classes; see `class_confusion`.

    Parameters
    ----------
    temperature : float
        T.
    strength : float
        The weight of the loss; the paper's is 1.
    """

    temperature: float = 2.5
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        number("temperature", self.temperature, low=0, open_low=True)
        number("strength", self.strength, low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        return self.strength * class_confusion(outputs.target_logits, temperature=self.temperature)
