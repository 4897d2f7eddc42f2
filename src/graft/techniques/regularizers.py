"""What a training adds to the loss of the task, so that little data does not undo what the network knew."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import nn

from graft._checks import number, one_of
from graft.backbones import Backbone, source_head
from graft.backbones.forward_trace import evaluating
from graft.errors import RequestError
from graft.regularization import (
    channel_attention,
    co_tuning_loss,
    contrastive_cross_entropy,
    cosine_logits,
    delta_distances,
    l2_sp,
    learn_relationship,
    supervised_contrastive,
)
from graft.techniques.settings import Settings
from graft.training import Batch, Examples, Supervision

REGULARIZERS = ("l2-sp", "delta", "bi-tuning", "co-tuning")
# How much each counts beside the loss of the task. Co-tuning: the authors' 2.3 (You et al. 2020, section 4).
STRENGTHS = {"l2-sp": 0.01, "delta": 0.01, "bi-tuning": 0.3, "co-tuning": 2.3}
# Layers whose outputs DELTA compares, counted from the last, and the width of Bi-tuning's projection.
_COMPARED, _PROJECTED = 3, 128
# Examples that say which channels the task needs, and how many of them are computed at once.
_JUDGED, _AT_ONCE = 256, 32


class Regularizer(ABC):
    """A term beside the loss of the task. Concrete classes are final; `make_regularizer` chooses one.

    Attributes
    ----------
    heads : dict of str to Module
        Further heads that it needs, trained with the network.
    needs_inputs : bool
        Whether it reads the inputs of the whole network, so that activations cannot stand for them.
    holds_weights : bool
        Whether it holds the weights where they started, which takes the place of weight decay.
    """

    heads: dict[str, nn.Module]
    needs_inputs: ClassVar[bool] = False
    holds_weights: ClassVar[bool] = False

    @abstractmethod
    def terms(
        self, network: nn.Module, part: Batch, features: torch.Tensor, outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the term of each example (n,), or one number for all."""

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Let the regularizer see what passes through a network while the block runs."""
        yield


@final
class StartingPoint(Regularizer):
    """L2-SP: the squared distance of the weights to where they started; see `graft.regularization.l2_sp`."""

    holds_weights = True

    def __init__(self, trunk: nn.Module, strength: float) -> None:
        self.heads = {}
        self._start = {f"trunk.{name}": values.detach().clone() for name, values in trunk.named_parameters()}
        self._strength = strength

    def terms(
        self, network: nn.Module, part: Batch, features: torch.Tensor, outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        parameters = dict(network.named_parameters())
        start = {name: values for name, values in self._start.items() if name in parameters}
        return l2_sp(parameters, start, alpha=self._strength, beta=self._strength / 10)


@final
class Behaviour(Regularizer):
    """DELTA: the distance of the last layers' outputs to those of the pretrained network; see `delta_distances`.

    A channel counts the more, the more the task needs it: see `needed_channels`.
    """

    needs_inputs = True

    def __init__(
        self, backbone: Backbone, head: nn.Module, goal: Supervision, learning: Examples, strength: float, seed: int
    ) -> None:
        self.heads = {}
        self._source, self._strength = backbone.module, strength
        self._paths = _layer_paths(backbone)[-_COMPARED:]
        self._seen: dict[str, torch.Tensor] = {}
        rows = np.random.default_rng(seed).permutation(learning.count)[:_JUDGED]
        batches = (learning.batch(rows[at : at + _AT_ONCE]) for at in range(0, len(rows), _AT_ONCE))
        model = copy.deepcopy(head).to(backbone.device)
        self._attention = needed_channels(
            self._source, self._paths, model, goal, (batch.to(backbone.device) for batch in batches)
        )

    def terms(
        self, network: nn.Module, part: Batch, features: torch.Tensor, outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        tuned = [self._seen[path] for path in self._paths]
        with torch.no_grad(), _outputs(self._source, self._paths, self._seen):
            self._source(part.inputs)
            source = [self._seen[path] for path in self._paths]
        mask = part.inputs.get("attention_mask") if isinstance(part.inputs, dict) else None
        return self._strength * delta_distances(tuned, source, self._attention, mask=mask)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        with _outputs(network.get_submodule("trunk"), self._paths, self._seen):
            yield


@final
class BiTuning(Regularizer):
    """Bi-tuning within the batch: contrastive cross-entropy of the head, and contrastive learning in a projection."""

    def __init__(self, feature_dim: int, head: nn.Linear, strength: float, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = {"projection": nn.Linear(feature_dim, _PROJECTED)}
        self._head, self._strength = head, strength

    def terms(
        self, network: nn.Module, part: Batch, features: torch.Tensor, outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        labels = part.targets.argmax(dim=1)
        scores = cosine_logits(features.float(), self._head.weight, self._head.bias)
        together, _ = supervised_contrastive(outputs["projection"], labels, temperature=0.07)
        return self._strength * (contrastive_cross_entropy(scores, labels) + together)


@final
class CoTuning(Regularizer):
    """Co-tuning: the pretrained network's own classifier goes on learning, with targets that its classes' relationship
    to the new ones gives; see `graft.regularization.learn_relationship`.
    """

    def __init__(
        self, backbone: Backbone, features: np.ndarray, codes: np.ndarray, classes: int, strength: float
    ) -> None:
        head = source_head(backbone)
        self.heads, self._strength = {"source": head}, strength
        with torch.no_grad():
            probabilities = head(torch.from_numpy(np.asarray(features, np.float32))).softmax(dim=1)
        self._relationship = learn_relationship(probabilities, torch.from_numpy(codes), classes)

    def terms(
        self, network: nn.Module, part: Batch, features: torch.Tensor, outputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        rows = self._relationship.to(features.device)[part.targets.argmax(dim=1)]
        return self._strength * co_tuning_loss(outputs["source"], rows)


def require_beside(name: str | None, strength: float | None, objective: str, settings: Settings) -> None:
    """Refuse a regularizer, or its strength, beside options that leave it nothing to do.

    Raises
    ------
    RequestError
        If there is no such regularizer, or not beside these.
    """
    if strength is not None:
        number("strength", strength, low=0)
    if name is None:
        if strength is not None:
            raise RequestError(
                "strength",
                expected="a regularizer beside it",
                found="none",
                remedy="Pass regularizer='l2-sp', for example, or leave the strength out.",
            )
        return
    one_of("regularizer", name, REGULARIZERS)
    if not settings.pretrained or objective != "supervised":
        raise RequestError(
            "regularizer",
            expected="a pretrained network and objective='supervised' beside it",
            found=f"pretrained={settings.pretrained}, objective={objective!r}",
            remedy="Leave it out, or change those.",
        )
    if name == "l2-sp" and settings.adapters:
        raise RequestError(
            "regularizer",
            expected="layers that are trained themselves beside 'l2-sp'",
            found=f"train={settings.train!r}, which leaves them as they are",
            remedy="Leave the regularizer out.",
        )


def require_usable(name: str, backbone: Backbone, kind: str) -> None:
    """Refuse a regularizer that cannot be used for a network or a kind of task.

    Parameters
    ----------
    name : str
        One of `REGULARIZERS`.
    backbone : Backbone
        The pretrained network.
    kind : str
        ``"classification"``, ``"multilabel"`` or ``"regression"``.

    Raises
    ------
    RequestError
        If it cannot.
    BackboneError
        If the classifier of the pretraining is needed and cannot be obtained.
    """
    if name in ("bi-tuning", "co-tuning") and kind != "classification":
        raise RequestError(
            "regularizer",
            expected="'l2-sp' or 'delta' where an example does not have exactly one class",
            found=f"{name!r} for a {kind} task",
            remedy="Choose one of those.",
        )
    if name == "co-tuning":
        source_head(backbone)
    if name == "delta":
        _layer_paths(backbone)


def make_regularizer(
    name: str,
    backbone: Backbone,
    trunk: nn.Module,
    head: nn.Linear,
    *,
    goal: Supervision,
    learning: Examples,
    features: np.ndarray,
    codes: np.ndarray | None,
    strength: float | None,
    seed: int,
) -> Regularizer:
    """Return a regularizer by its name.

    Parameters
    ----------
    name : str
        One of `REGULARIZERS`.
    backbone : Backbone
        The pretrained network.
    trunk : Module
        The copy of it that is trained, before its first step.
    head : Linear
        The head for the task, likewise.
    goal : Supervision
        The loss of the task.
    learning : Examples
        Those that are trained on.
    features : array (n, d)
        Their frozen features.
    codes : array of int (n,) or None
        Their classes; None unless each has one.
    strength : float or None
        How much it counts; None: `STRENGTHS`.
    seed : int
        For what is drawn.
    """
    chosen = STRENGTHS[name] if strength is None else strength
    if name == "l2-sp":
        return StartingPoint(trunk, chosen)
    if name == "delta":
        return Behaviour(backbone, head, goal, learning, chosen, seed)
    assert codes is not None  # `require_usable` was asked
    if name == "bi-tuning":
        return BiTuning(backbone.feature_dim, head, chosen, seed)
    return CoTuning(backbone, features, codes, head.out_features, chosen)


def needed_channels(
    trunk: nn.Module, paths: list[str], head: nn.Module, goal: Supervision, batches: Iterable[Batch]
) -> list[torch.Tensor]:
    r"""Return the attention of DELTA (c,) to the channels of each layer, by how much the task needs them.

    The paper switches every channel off in turn and takes the softmax of the losses. Here the change of the loss is
    taken to first order, :math:`L(w^{\setminus j}) - L(w) \approx -\sum_p F_{jp}\, \partial L / \partial F_{jp}` over
    the positions p of channel j: one backward pass instead of one over the examples for each of some hundred channels.

    Parameters
    ----------
    trunk : Module
        The pretrained network, from a batch to features.
    paths : list of str
        The layers.
    head : Module
        Fitted to the task.
    goal : Supervision
        The loss of the task.
    batches : iterable of Batch
        Examples of it, on the network's device.

    References
    ----------
    Li et al. (2019), DELTA, section 3. Molchanov et al. (2017), Pruning Convolutional Neural Networks for Resource
    Efficient Inference, eq. 7 (the first order of switching a feature map off).
    """
    changes: dict[str, Any] = dict.fromkeys(paths, 0.0)
    total = 0.0
    for batch in batches:
        seen: dict[str, torch.Tensor] = {}
        with evaluating(trunk), torch.enable_grad(), _read(trunk, paths, seen):
            losses = goal.losses(head(trunk(batch.inputs).float()), batch.targets)
            loss = (losses * batch.weight).sum()
        found = torch.autograd.grad(loss, [seen[path] for path in paths])
        for path, gradient in zip(paths, found, strict=True):
            effect = (gradient * seen[path].detach()).float()
            changes[path] = changes[path] - effect.sum(dim=[at for at in range(effect.ndim) if at != _channels(effect)])
        total += float(batch.weight.sum())
    return [channel_attention(changes[path] / (total or 1.0)) for path in paths]


def _channels(outputs: torch.Tensor) -> int:
    """Return which dimension of a layer's outputs holds the channels, as `delta_distances` takes it."""
    return 1 if outputs.ndim == 4 else outputs.ndim - 1


@contextmanager
def _read(module: nn.Module, paths: list[str], seen: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keep the outputs of some submodules in `seen`, with a gradient, while the block runs."""

    def keep(path: str, output: Any) -> Any:
        values = output[0] if isinstance(output, tuple) else output
        seen[path] = values if values.requires_grad else values.detach().requires_grad_()
        # A copy goes on: what follows may work in place.
        return (seen[path].clone(), *output[1:]) if isinstance(output, tuple) else seen[path].clone()

    handles = [
        module.get_submodule(path).register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
        for path in paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_paths(backbone: Backbone) -> list[str]:
    """Return the paths of the modules whose outputs are the layers of a network, from input to output."""
    paths = {prefix for _, prefix in backbone.layer_prefixes} | {f"network.{name}" for name in backbone.layers}
    known = dict(backbone.module.named_modules())
    order = {name: place for place, name in enumerate(known)}
    names = set(backbone.layers)
    found = [path for path in paths if path in known and (path.removeprefix("network.") in names or ".layer." in path)]
    if not found:
        raise RequestError(
            "regularizer",
            expected="a network with layers whose outputs can be compared",
            found=f"{backbone.name}, which names none",
            remedy="Choose regularizer='l2-sp'.",
        )
    return sorted(found, key=order.__getitem__)


@contextmanager
def _outputs(module: nn.Module, paths: list[str], seen: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keep the outputs of some submodules in `seen` while the block runs."""

    def keep(path: str, output: Any) -> None:
        seen[path] = output[0] if isinstance(output, tuple) else output

    handles = [
        module.get_submodule(path).register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
        for path in paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
