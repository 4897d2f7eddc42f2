"""`Backbone`: the contract between a pretrained network and everything that builds on it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from graft.backbones.preprocessing import Preprocessing
from graft.errors import GraftError, RequestError

if TYPE_CHECKING:
    import torch

Modality = Literal["image", "text", "features"]
Layer = int | str | Sequence[int | str] | None


@dataclass(frozen=True)
class LayerGroup:
    """Parameters that lie at one depth of a network.

    Parameters
    ----------
    name : str
        The module that they have in common, such as ``"blocks.3"``.
    parameter_names : tuple of str
        Their names in the module that was asked.
    parameters : tuple of Parameter
        The parameters themselves, in the same order.
    """

    name: str
    parameter_names: tuple[str, ...]
    parameters: tuple[torch.nn.Parameter, ...]


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of an input that could not be read.

    Parameters
    ----------
    reason : str
        Why, in a few words.
    """

    reason: str


@dataclass(frozen=True)
class Views:
    """Which views of every input to make: view 0 is the plain one, the others are seeded random variations.

    Parameters
    ----------
    numbers : tuple of int
        The views.
    seed : int
        With the content of the input and the number of the view, this decides the variation, and nothing else does:
        not the batch, the order or the process.
    magnitude : float
        How strongly the variations also change colours and shapes, 0 (not at all: cuts and mirroring alone) to 10; see
        `graft.backbones.image_views.random_view`.
    mirror : {"random", "never", "always"}
        Whether half of the variations are mirrored, none, or every view: the plain one too.
    """

    numbers: tuple[int, ...] = (0,)
    seed: int = 0
    magnitude: float = 0.0
    mirror: str = "random"

    @property
    def count(self) -> int:
        """How many views."""
        return len(self.numbers)


PLAIN = Views()


@dataclass(frozen=True)
class BackboneFacts:
    """What a backbone states of itself; the attributes of `Backbone` of the same names explain each."""

    name: str
    modality: Modality
    preprocessing: Preprocessing
    license: str = ""
    revision: str = ""
    layers: tuple[str, ...] = ()
    layer: tuple[str, ...] | None = None
    pooling: str | None = None


class Backbone(ABC):
    """A pretrained network that turns inputs into feature vectors; immutable, cheap to share.

    Concrete classes are final. `load_backbone` makes them from a name, `module_backbone` from a user's own network.

    What flows through it: ``read`` turns sources (paths, pictures, texts, rows) into items, ``collate`` turns items
    into one batch of tensors, and ``module`` maps a batch to features of shape (n, feature_dim). A trainer takes
    ``copy_module()``, which maps the same batches to the same features with parameters of its own.

    Parameters
    ----------
    facts : BackboneFacts
        What it states of itself.
    module : Module
        The network from a batch to features; it is put in evaluation mode.
    """

    def __init__(self, facts: BackboneFacts, module: torch.nn.Module) -> None:
        self._facts = facts
        self._module = module.eval()
        self._feature_dim: int | None = None
        self._weights_hash: str | None = None
        # Whether the weights were trained here: `load_backbone` gives others by this name, and a run has to hold these.
        self.own_weights = False
        # Where they are the named network's with adapters merged into it, these: a run may hold them alone.
        self.adapters: dict[str, torch.Tensor] | None = None
        # Faster copies of the network by precision, and whether bfloat16 agrees for an input by its hash; see `engine`.
        self.faster: dict[str, torch.nn.Module] = {}
        self.agreements: dict[bytes, bool] = {}

    @property
    def name(self) -> str:
        """The name from which `load_backbone` makes this network again."""
        return self._facts.name

    @property
    def modality(self) -> Modality:
        """What it reads: ``"image"``, ``"text"`` or ``"features"``."""
        return self._facts.modality

    @property
    def preprocessing(self) -> Preprocessing:
        """How an input becomes what the network reads, as plain data."""
        return self._facts.preprocessing

    @property
    def license(self) -> str:
        """The licence of the weights as an SPDX identifier in lower case, or an empty string where none is stated."""
        return self._facts.license

    @property
    def revision(self) -> str:
        """The commit of the hub repository that the weights came from; empty for local weights."""
        return self._facts.revision

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose output can be asked for, from input to output."""
        return self._facts.layers

    @property
    def layer(self) -> tuple[str, ...] | None:
        """The layers whose outputs are the features, side by side; None: the network's own output."""
        return self._facts.layer

    @property
    def pooling(self) -> str | None:
        """How positions or tokens become one vector; None: the network's own way."""
        return self._facts.pooling

    @property
    def module(self) -> torch.nn.Module:
        """The network in evaluation mode, from a batch to features. Shared: take `copy_module` to change it."""
        return self._module

    @property
    def device(self) -> torch.device:
        """Where the network lies and computes."""
        import torch

        first = next(self._module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    @abstractmethod
    def layer_prefixes(self) -> tuple[tuple[str, str], ...]:
        """Pairs (group name, prefix of parameter names in `module`), from input to output; see `layer_groups`."""

    @abstractmethod
    def with_output(self, *, layer: Layer = None, pooling: str | None = None) -> Self:
        """Return the same network with features taken elsewhere or pooled otherwise; weights are shared.

        Parameters
        ----------
        layer : int, str, or sequence of them, optional
            A name in `layers` or its index (negative from the end); several are put side by side.
            None: the network's own output.
        pooling : str, optional
            Images: ``"avg"``, ``"max"``, ``"gem"``, ``"cls"``, ``"cls+avg"``. Texts: ``"mean"``, ``"cls"``, ``"max"``,
            ``"mean_sqrt_len"``, ``"weightedmean"``, ``"lasttoken"``. None: the network's own way.

        Raises
        ------
        RequestError
            If the network has no such layer or cannot be pooled so.
        """

    @abstractmethod
    def with_module(self, module: torch.nn.Module) -> Self:
        """Return a backbone of the same kind around `module`, a trained `copy_module()`, which it takes over."""

    @abstractmethod
    def read(self, sources: Sequence[Any], *, views: Views = PLAIN) -> list[Any]:
        """Turn sources into items, one for each (a tuple of `views.count` items for several views).

        An input that cannot be read yields an `Unreadable` in its place.
        """

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Any:
        """Turn items of `read` into one batch of tensors, as `module` takes it."""

    @abstractmethod
    def item_size(self, item: Any) -> int:
        """Return a number that grows with the time an item takes: its tokens; 1 where all items are alike."""

    @property
    def feature_dim(self) -> int:
        """The number of values in a feature vector."""
        if self._feature_dim is None:
            self._feature_dim = int(self.forward_features(self.collate([self.example_item()])).shape[1])
        return self._feature_dim

    @abstractmethod
    def example_item(self) -> Any:
        """Return an item with which the width of the features can be measured."""

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the names, shapes, types and bytes of all tensors of the network (64 hexadecimal digits)."""
        if self._weights_hash is None:
            from graft.backbones.weights import state_hash

            self._weights_hash = state_hash(self.module.state_dict())
        return self._weights_hash

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def forward_features(self, batch: Any) -> torch.Tensor:
        """Return the features, of shape (n, feature_dim) and in float32, of a batch that `collate` made."""
        import torch

        with torch.inference_mode():
            return self.module(on_device(batch, self.device)).float()

    def copy_module(self) -> torch.nn.Module:
        """Return a copy of the network with parameters of its own, in evaluation mode, gradients on."""
        module = copy.deepcopy(self.module)
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        return module

    def layer_groups(self, module: torch.nn.Module | None = None) -> tuple[LayerGroup, ...]:
        """Return the parameters in groups ordered from input to output; every parameter is in exactly one group.

        Parameters
        ----------
        module : Module, optional
            The copy whose parameters are wanted, from `copy_module`; by default the shared network.
        """
        named = dict((self.module if module is None else module).named_parameters())
        prefixes = self.layer_prefixes
        members: list[list[str]] = [[] for _ in prefixes]
        for name in named:
            fits = [(len(prefix), place) for place, (_, prefix) in enumerate(prefixes) if _under(name, prefix)]
            # The most specific prefix wins; what no prefix covers lies after the last block (final norms, projections).
            members[max(fits)[1] if fits else -1].append(name)
        titles: dict[str, list[str]] = {}
        for (title, _), names in zip(prefixes, members, strict=True):
            titles.setdefault(title, []).extend(names)
        return tuple(
            LayerGroup(title, tuple(names), tuple(named[name] for name in names))
            for title, names in titles.items()
            if names
        )

    def embed(
        self,
        X: Any,
        *,
        batch_size: int | None = None,
        precision: str = "auto",
        store: Any = True,
        progress: bool | None = None,
    ) -> np.ndarray:
        """Return the features of all inputs, one row each.

        Parameters
        ----------
        X : sequence of n inputs
            Paths, PIL images or arrays; texts; or feature vectors, as the modality says.
        batch_size, precision, store, progress
            As in `graft.backbones.embed`.

        Returns
        -------
        array of shape (n, feature_dim), float32

        Raises
        ------
        UnreadableInputsError
            If some inputs cannot be read; it lists every one.

        Examples
        --------
        >>> import numpy as np
        >>> from graft.backbones import load_backbone
        >>> load_backbone(None).embed(np.eye(2))
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        from graft.backbones.embedding import embed

        result = embed(self, X, batch_size=batch_size, precision=precision, store=store, progress=progress, strict=True)
        return result.features

    def __sklearn_clone__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        chosen = "" if self.layer is None else f", layer={list(self.layer)!r}"
        pooled = "" if self.pooling is None else f", pooling={self.pooling!r}"
        return f"<{type(self).__name__} {self.name!r}{chosen}{pooled}>"


def resolve_layers(layer: Layer, layers: Sequence[str], *, name: str) -> tuple[str, ...] | None:
    """Return the names of the chosen layers, from a name, an index, or several of them.

    Raises
    ------
    RequestError
        If the network has no such layer.
    """
    if layer is None:
        return None
    chosen: list[str] = []
    for one in [layer] if isinstance(layer, int | str) else layer:
        if isinstance(one, str) and one in layers:
            chosen.append(one)
        elif isinstance(one, int) and not isinstance(one, bool) and -len(layers) <= one < len(layers):
            chosen.append(layers[one])
        else:
            raise RequestError(
                "layer",
                expected=f"a layer of {name}: one of {', '.join(layers)}, or an index from {-len(layers)} to "
                f"{len(layers) - 1}"
                if layers
                else f"no layer, because {name} offers its own output only",
                found=repr(one),
                remedy="Choose one of those, or leave the layer out for the network's own output."
                if layers
                else "Leave the layer out for the network's own output.",
            )
    if not chosen:
        raise RequestError("layer", expected="one layer or more", found="none", remedy="Name one, or leave it out.")
    return tuple(chosen)


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a batch that `Backbone.collate` made, on a device."""
    if isinstance(batch, dict):
        return {name: values.to(device) for name, values in batch.items()}
    return batch.to(device)


def reason_of(error: Exception) -> str:
    """Return why an input could not be read, in a few words, from the error that reading it raised."""
    return error.found if isinstance(error, GraftError) else f"{type(error).__name__}: {error}"


def _under(name: str, prefix: str) -> bool:
    return prefix == "" or name == prefix or name.startswith(prefix + ".")
