"""From the user's labels to targets, losses and validation scores, for each kind of task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch.nn import functional

from graft.data import Task
from graft.errors import DataError
from graft.heads.calibration import fit_temperature


class Supervision(ABC):
    """How a head's outputs are compared with the labels of one task.

    Concrete classes are final; `supervision` chooses one.
    """

    kind: ClassVar[str]
    outputs: int

    @abstractmethod
    def targets(self, labels: np.ndarray) -> torch.Tensor:
        """Return labels (n,) or (n, columns) as targets (n, outputs) in float32; NaN: unknown."""

    @abstractmethod
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example (n,)."""

    @abstractmethod
    def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what outputs for held-out examples are worth: ``score``, larger is better, and what a reader knows."""

    @abstractmethod
    def shares(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        """Return what each held-out example (n,) adds to the score: their mean is the score."""


@final
class Classes(Supervision):
    r"""Single-label classification: cross-entropy :math:`-\sum_k q_k \log p_k` with targets q (smoothed or mixed).

    The score is the negative log loss after the best temperature, which ranks models as their calibrated probabilities
    will, and with less noise than the accuracy of a small validation set.

    Parameters
    ----------
    classes : sequence
        In the order of the outputs.
    smoothing : float
        ε in [0, 1): the targets are :math:`(1 - ε)\, 1[k = y] + ε / K`.

    References
    ----------
    Szegedy et al. (2016), Rethinking the Inception Architecture, section 7 (label smoothing).
    """

    kind = "classification"

    def __init__(self, classes: Any, smoothing: float = 0.0) -> None:
        self._position = {label: place for place, label in enumerate(classes)}
        self._smoothing = smoothing
        self.outputs = len(self._position)

    def targets(self, labels: np.ndarray) -> torch.Tensor:
        codes = torch.tensor([self._position[label] for label in np.asarray(labels).tolist()])
        return functional.one_hot(codes, self.outputs).float()

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = (1 - self._smoothing) * targets + self._smoothing / self.outputs
        return -(wanted * functional.log_softmax(outputs.float(), dim=1)).sum(dim=1)

    def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        right = outputs.argmax(dim=1) == targets.argmax(dim=1)
        return {"score": float(self.shares(outputs, targets).mean()), "accuracy": float(right.double().mean())}

    def shares(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        logits, codes = outputs.double().cpu().numpy(), targets.argmax(dim=1).cpu().numpy()
        temperature = fit_temperature(logits, codes, np.ones(len(codes)))
        loss = functional.cross_entropy(
            torch.from_numpy(logits / temperature), torch.from_numpy(codes), reduction="none"
        )
        return -loss.numpy()


@final
class Labels(Supervision):
    """Multi-label classification: the mean binary cross-entropy over the labels that are known.

    The score is the negative mean log loss over all known cells, after the best temperature.

    Parameters
    ----------
    labels : int
        How many.
    value_weight : array of shape (labels, 2), optional
        The weight in the loss of a 0 and of a 1 of each label; 1 by default.
    """

    kind = "multilabel"

    def __init__(self, labels: int, value_weight: np.ndarray | None = None) -> None:
        self.outputs = labels
        self._weight = None if value_weight is None else torch.from_numpy(np.asarray(value_weight, np.float32))

    def targets(self, labels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(labels, dtype=np.float32).reshape(len(labels), -1))

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = ~targets.isnan()
        wanted = targets.nan_to_num(0.0)
        cells = functional.binary_cross_entropy_with_logits(outputs.float(), wanted, reduction="none")
        if self._weight is not None:
            weight = self._weight.to(cells.device)
            cells = cells * torch.lerp(weight[:, 0], weight[:, 1], wanted)
        return (cells * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        known = ~targets.isnan()
        right = (outputs > 0)[known] == (targets > 0.5)[known]
        return {"score": float(self.shares(outputs, targets).mean()), "accuracy": float(right.float().mean())}

    def shares(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        known = (~targets.isnan()).cpu()
        cells, wanted = outputs.double().cpu()[known], targets.double().cpu()[known]
        both = torch.stack([-cells / 2, cells / 2], dim=1).numpy()
        temperature = fit_temperature(both, wanted.long().numpy(), np.ones(len(both)))
        table = torch.zeros(known.shape, dtype=torch.float64)
        table[known] = functional.binary_cross_entropy_with_logits(cells / temperature, wanted, reduction="none")
        return -(table.sum(dim=1) * len(known) / known.sum()).numpy()


@final
class Numbers(Supervision):
    """Regression: the squared error, each output in units of its standard deviation among the training examples.

    The score is R², averaged over the outputs.

    Parameters
    ----------
    values : array of shape (n,) or (n, outputs)
        The training examples' values.

    Raises
    ------
    DataError
        If all values are the same.
    """

    kind = "regression"

    def __init__(self, values: np.ndarray) -> None:
        table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        self.outputs = table.shape[1]
        self.location, self.scale = table.mean(axis=0), table.std(axis=0)
        if not (self.scale > 0).all():
            raise DataError(
                "labels", expected="numbers that vary", found="the same for all", remedy="Leave that column out."
            )

    def targets(self, labels: np.ndarray) -> torch.Tensor:
        table = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
        return torch.from_numpy(((table - self.location) / self.scale).astype(np.float32))

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs.float() - targets).square().mean(dim=1)

    def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        error = (outputs.float() - targets).square().mean(dim=0)
        return {
            "score": float(self.shares(outputs, targets).mean()),
            "rmse": float((error * torch.from_numpy(self.scale**2).to(error)).mean().sqrt()),
        }

    def shares(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        spread = (targets - targets.mean(dim=0)).square().mean(dim=0).clamp(min=1e-12)
        return (1 - (outputs.float() - targets).square() / spread).mean(dim=1).double().cpu().numpy()


def supervision(
    task: Task, labels: np.ndarray, *, smoothing: float = 0.0, value_weight: np.ndarray | None = None
) -> Supervision:
    """Return how outputs are compared with the labels of a task.

    Parameters
    ----------
    task : Task
        Its kind and classes.
    labels : array
        Those of the training examples.
    smoothing : float
        For single-label classification.
    value_weight : array of shape (labels, 2), optional
        For several labels: the weight of a 0 and of a 1 of each.
    """
    if task.kind == "regression":
        return Numbers(labels)
    if task.kind == "multilabel":
        return Labels(len(task.classes), value_weight)
    return Classes(task.classes, smoothing)
