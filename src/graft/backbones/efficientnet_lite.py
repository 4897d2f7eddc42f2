"""EfficientNet-Lite0 as its PyPI package holds it, brought to the names of timm's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graft.backbones.preprocessing import ImagePreprocessing
from graft.errors import BackboneError

if TYPE_CHECKING:
    import torch

# How the network was evaluated by those who trained it (the EfficientNet-lite release of TensorFlow's TPU models).
INPUT = ImagePreprocessing(
    size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop=0.875
)


def to_timm(state: Mapping[str, torch.Tensor], network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of the package under the names of timm's ``tf_efficientnet_lite0``.

    Both list the same layers from input to output, so tensor k of one is tensor k of the other;
    every shape is compared.

    Parameters
    ----------
    state : mapping from str to tensor
        What the package's file holds, in its order.
    network : Module
        timm's network with its classifier of 1,000 classes.

    Raises
    ------
    BackboneError
        If the number or the shapes of the tensors differ.
    """
    own = network.state_dict()
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    given = [tuple(tensor.shape) for tensor in state.values()]
    if shapes != given:
        raise BackboneError(
            "backbone 'efficientnet_lite0'",
            expected=f"{len(shapes)} tensors of the shapes of tf_efficientnet_lite0",
            found=f"{len(given)} tensors of other shapes",
            remedy="Install the pinned package again: pip install 'graft-learn[offline]'.",
        )
    return dict(zip(own, state.values(), strict=True))
