"""DeepJDOT: each target example gets the features and the class of the source examples that are transported to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn
from torch.nn import functional

from graft._checks import number
from graft.alignment.adaptation_loss import UNKNOWN, AdaptationLoss, DomainOutputs
from graft.alignment.tensors import at_least_float32, checked_pair, squared_distances
from graft.errors import RequestError


def joint_transport_loss(
    source_features: torch.Tensor,
    source_labels: torch.Tensor,
    target_features: torch.Tensor,
    target_logits: torch.Tensor,
    *,
    target_labels: torch.Tensor | None = None,
    feature_weight: float = 0.01,
    label_weight: float = 1.0,
) -> torch.Tensor:
    r"""Return the cost of the optimal transport between features with labels and features with predictions.

    .. math:: \ell = \min_{\gamma \in \Pi} \sum_{ij} \gamma_{ij} \bigl(\alpha \|x_i - z_j\|^2
        - \lambda \log p_{j, y_i}\bigr)

    over the plans :math:`\Pi` that move 1/n from each source example and 1/m to each target example. The plan is exact
    and held constant: by the envelope theorem, the gradient is that of the minimum.

    Parameters
    ----------
    source_features, target_features : tensor of shape (n, d), (m, d)
        x and z.
    source_labels : tensor of int (n,)
        y.
    target_logits : tensor of shape (m, K)
        p is their softmax.
    target_labels : tensor of int (m,), optional
        Known classes, -1 elsewhere: nothing of another class is moved to such an example while there is another way.
    feature_weight, label_weight : float
        α and λ ≥ 0, by default those of the authors' code for digits.

    Returns
    -------
    tensor of shape ()
        In float32, or float64 where the features are.

    Raises
    ------
    RequestError
        If shapes differ or a weight is negative.

    References
    ----------
    Damodaran, Kellenberger, Flamary, Tuia and Courty (2018), DeepJDOT: Deep Joint Distribution Optimal
    Transport for Unsupervised Domain Adaptation, section 3. The authors' code finds the plan by
    squared distances between labels and probabilities; here, as in the paper, it is of the same cost as the loss.
    """
    alpha, weight = number("feature_weight", feature_weight, low=0), number("label_weight", label_weight, low=0)
    x, z = checked_pair(source_features, target_features, ("source_features", "target_features"))
    log_p = functional.log_softmax(at_least_float32(target_logits), dim=1).to(x)
    if len(source_labels) != len(x) or len(log_p) != len(z):
        raise RequestError(
            "source_labels",
            expected=f"{len(x)} labels, and {len(z)} rows of target_logits",
            found=f"{len(source_labels)} and {len(log_p)}",
            remedy="Pass labels and logits of the examples that the features are of.",
        )
    cost = alpha * squared_distances(x, z) - weight * log_p[:, source_labels.long()].T
    searched = cost.detach().double()
    if target_labels is not None:
        wrong = (target_labels != UNKNOWN)[None, :] & (target_labels[None, :] != source_labels[:, None])
        # More than any detour of right pairs can cost.
        searched = searched + wrong * (1 + searched.max() - searched.min()) * min(len(x), len(z))
    return (_plan(searched).to(cost) * cost).sum()


@final
@dataclass(frozen=True, kw_only=True)
class DeepJDOT(AdaptationLoss):
    """Deep joint distribution optimal transport; see `joint_transport_loss`.

    Parameters
    ----------
    feature_weight, label_weight : float
        α and λ.
    strength : float
        The weight of the loss.
    """

    feature_weight: float = 0.01
    label_weight: float = 1.0
    strength: float = 1.0
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        for name in ("feature_weight", "label_weight", "strength"):
            number(name, getattr(self, name), low=0)

    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        return nn.ModuleDict()

    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        return self.strength * joint_transport_loss(
            outputs.source_features,
            outputs.classes(),
            outputs.target_features,
            outputs.target_logits,
            target_labels=outputs.target_labels,
            feature_weight=self.feature_weight,
            label_weight=self.label_weight,
        )


def _plan(cost: torch.Tensor) -> torch.Tensor:
    """Return the plan (n, m) of least cost between uniform weights."""
    # Here, not above: it needs libraries that the other losses do without.
    from graft.alignment.transport_plan import exact_plan

    # One unit for all costs: the solver's tolerances are absolute.
    table = (cost - cost.min()).cpu().numpy()
    return torch.from_numpy(exact_plan(table / (table.max() or 1.0))).to(cost)
