"""`AdaptationLoss`: what every end-to-end method adds to the training of a network, in one form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from graft.alignment.tensors import at_least_float32, checked
from graft.errors import RequestError

# The label of a target example whose class is not known.
UNKNOWN = -1
ANY_TASK = ("classification", "multilabel", "regression")


@dataclass(frozen=True, eq=False)
class DomainOutputs:
    """What a network makes of a batch of each domain.

    Parameters
    ----------
    source_features : tensor of shape (n, d)
        The trunk's features of labelled source examples.
    source_logits : tensor of shape (n, K)
        The head's outputs for them.
    source_labels : tensor of int (n,), optional
        Their classes, 0 to K - 1. Methods for tasks of any kind need none.
    target_features : tensor of shape (m, d)
        The same network's features of target examples.
    target_logits : tensor of shape (m, K)
        The head's outputs for them.
    target_labels : tensor of int (m,), optional
        The classes of those that are labelled; -1 elsewhere. None: of none. They are for methods that look at labels:
        further heads learn them (MCD), plans keep to them (DeepJDOT); for all others they count in the loss of the
        labelled examples alone, which is the caller's.

    Raises
    ------
    RequestError
        If shapes do not agree, a domain has no example, or a label is no class.
    """

    source_features: torch.Tensor
    source_logits: torch.Tensor
    source_labels: torch.Tensor | None
    target_features: torch.Tensor
    target_logits: torch.Tensor
    target_labels: torch.Tensor | None = None

    def __post_init__(self) -> None:
        features = checked("source_features", self.source_features)
        logits = checked("source_logits", self.source_logits)
        checked("target_features", self.target_features, features.shape[1])
        checked("target_logits", self.target_logits, logits.shape[1])
        _require_rows("source_logits", self.source_logits, len(self.source_features))
        _require_rows("target_logits", self.target_logits, len(self.target_features))
        if self.source_labels is not None:
            _require_classes("source_labels", self.source_labels, self.source_logits, 0)
        if self.target_labels is not None:
            _require_classes("target_labels", self.target_labels, self.target_logits, UNKNOWN)

    def classes(self) -> torch.Tensor:
        """Return the source labels, or raise `RequestError` where there are none."""
        if self.source_labels is None:
            raise RequestError(
                "source_labels",
                expected="the class of each source example",
                found="None",
                remedy="Pass them, or choose a method that compares features alone, such as DeepCORAL.",
            )
        return self.source_labels.long()

    def labelled_loss(self, head: nn.Module) -> torch.Tensor:
        """Return the mean cross-entropy of another head on source examples and labelled target examples."""
        features, labels = self.source_features, self.classes()
        if self.target_labels is not None:
            known = self.target_labels != UNKNOWN
            features = torch.cat([features, self.target_features[known]])
            labels = torch.cat([labels, self.target_labels[known].long()])
        return functional.cross_entropy(apply(head, features), labels)


class AdaptationLoss(ABC):
    """A method of unsupervised domain adaptation that trains a network end to end. Concrete classes are final.

    A training step computes features and logits of a batch of each domain in one pass, adds `loss` to the mean loss of
    the labelled examples (those of the source, and labelled ones of the target), and takes one gradient step for the
    network and `modules` together. Adversarial parts turn their gradient around on its way to the features, so that one
    optimizer and one backward pass serve every method. An instance holds options alone: nothing changes from step to
    step but the parameters.

    Attributes
    ----------
    tasks : tuple of str
        The kinds of task that it can be used for.
    """

    tasks: ClassVar[tuple[str, ...]]

    @abstractmethod
    def modules(self, feature_dim: int, n_outputs: int, *, seed: int) -> nn.ModuleDict:
        """Return the networks beside the trained one that the method needs, with weights drawn from a seed.

        Parameters
        ----------
        feature_dim : int
            d, the length of a feature vector.
        n_outputs : int
            K, the number of classes, or of the head's outputs.
        seed : int
            For the weights.
        """

    @abstractmethod
    def loss(self, outputs: DomainOutputs, *, modules: nn.ModuleDict, progress: float) -> torch.Tensor:
        """Return what is added to the loss of the labelled examples, shape ().

        Parameters
        ----------
        outputs : DomainOutputs
            Features and logits of both domains, with their graph.
        modules : ModuleDict
            What `modules` returned, on the same device.
        progress : float
            step / steps in [0, 1].
        """


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Return linear layers of those sizes, inputs and outputs included, with rectifiers between them.

    The weights are drawn from torch's current generator.
    """
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU()] * (place > 0) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def apply(module: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return a module's outputs in full precision; what it reads is given in the precision of its weights."""
    return at_least_float32(module(values.to(next(module.parameters()).dtype)))


def _require_rows(subject: str, values: torch.Tensor, rows: int) -> None:
    if len(values) != rows:
        raise RequestError(
            subject,
            expected=f"{rows} rows, one for each row of the features",
            found=str(len(values)),
            remedy="Pass the head's outputs for those features.",
        )


def _require_classes(subject: str, labels: torch.Tensor, logits: torch.Tensor, low: int) -> None:
    high = logits.shape[1] - 1
    if labels.shape != (len(logits),) or labels.is_floating_point() or labels.is_complex():
        found = f"shape {tuple(labels.shape)} of {labels.dtype}"
    elif len(labels) and (int(labels.min()) < low or int(labels.max()) > high):
        found = f"labels from {int(labels.min())} to {int(labels.max())}"
    else:
        return
    raise RequestError(
        subject,
        expected=f"integers (n,) from {low} to {high} for {len(logits)} examples",
        found=found,
        remedy="Pass the places of the labels among the classes.",
    )
