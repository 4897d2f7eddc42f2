"""Image networks: any architecture that timm knows."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from graft._checks import one_of
from graft.backbones.backbone import PLAIN, Backbone, BackboneFacts, Layer, Unreadable, Views, reason_of, resolve_layers
from graft.backbones.input_size import network_at_size, pixel_size
from graft.backbones.pixels import fit_pixels, read_pixels
from graft.backbones.pooling import IMAGE_POOLINGS, pool_patches
from graft.backbones.preprocessing import ImagePreprocessing
from graft.errors import DataError, RequestError


class PixelScale(nn.Module):
    """From pixel values p in 0..255 to (p / 255 - mean) / std per channel.

    Parameters
    ----------
    mean, std : sequence of 3 floats
        In units of the full scale.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        shift = torch.tensor(mean, dtype=torch.float32).reshape(1, 3, 1, 1) * 255
        scale = torch.tensor(std, dtype=torch.float32).reshape(1, 3, 1, 1) * 255
        # Constants, not weights: they belong to the preprocessing and stay out of the weights hash.
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return normalised pixels in the precision of the buffers, shape (n, 3, height, width)."""
        # In float32 whatever follows: 8-bit values times a mean lose a grey level in bfloat16.
        return (pixels.float() - self.shift.float()) / self.scale.float()


class ImageNetwork(nn.Module):
    """A timm network from pixels to features: scaling, the network up to the chosen layers, pooling.

    Parameters
    ----------
    network : Module
        Made by timm with ``num_classes=0``.
    preprocessing : ImagePreprocessing
        For its mean and standard deviation.
    taps : tuple of int or None
        Which of the network's intermediate outputs are the features; None: its own output.
    pooling : str or None
        One of `IMAGE_POOLINGS`; None: the network's own, or for intermediate outputs the mean over positions.
    """

    def __init__(
        self, network: nn.Module, preprocessing: ImagePreprocessing, taps: tuple[int, ...] | None, pooling: str | None
    ) -> None:
        super().__init__()
        self.scale = PixelScale(preprocessing.mean, preprocessing.std)
        self.network = network
        self.taps = taps
        self.pooling = pooling

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, feature_dim) for pixels of shape (n, 3, height, width), values 0..255."""
        network: Any = self.network
        inputs = self.scale(pixels).to(dtype_of(network))
        if self.taps is None:
            if self.pooling is None:
                return network(inputs)
            return pool_patches(*_positions(network, network.forward_features(inputs)), self.pooling)
        asked: dict[str, Any] = {"indices": list(self.taps), "stop_early": True, "intermediates_only": True}
        known = inspect.signature(network.forward_intermediates).parameters
        wants_prefix = "return_prefix_tokens" in known and getattr(network, "num_prefix_tokens", 0) > 0
        if wants_prefix:
            asked["return_prefix_tokens"] = True
        if "norm" in known:
            asked["norm"] = wants_prefix  # transformers: the final norm brings every block to one scale
        pooled = []
        for output in network.forward_intermediates(inputs, **asked):
            grid, prefix = output if wants_prefix else (output, None)
            pooled.append(pool_patches(grid.flatten(2).transpose(1, 2), prefix, self.pooling or "avg"))
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)


class ImageBackbone(Backbone):
    """A network from timm; made by `load_backbone`. Final.

    Parameters
    ----------
    name : str
        The name that `load_backbone` resolved.
    network : Module
        Made by timm with ``num_classes=0``.
    preprocessing : ImagePreprocessing
        How it was evaluated by those who trained it.
    license, revision : str
        Of the weights.
    layer, pooling
        As in `with_output`.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preprocessing: ImagePreprocessing,
        *,
        license: str = "",
        revision: str = "",
        layer: Layer = None,
        pooling: str | None = None,
    ) -> None:
        information: Any = getattr(network, "feature_info", None)
        taps = getattr(network, "forward_intermediates", None)
        layers = tuple(one["module"] for one in information) if information and taps else ()
        facts = BackboneFacts(
            name,
            "image",
            preprocessing,
            license=license,
            revision=revision,
            layers=layers,
            layer=resolve_layers(layer, layers, name=name),
            pooling=None if pooling is None else one_of("pooling", pooling, IMAGE_POOLINGS),
        )
        if pooling in ("cls", "cls+avg") and getattr(network, "cls_token", None) is None:
            raise RequestError(
                "pooling",
                expected="avg, max or gem, because this network has no class token",
                found=repr(pooling),
                remedy="Choose avg, for example.",
            )
        indices = None if facts.layer is None else tuple(layers.index(one) for one in facts.layer)
        # The same weights in another order of memory: convolutions run up to three times as fast.
        self._network: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._plan = preprocessing
        super().__init__(facts, ImageNetwork(self._network, preprocessing, indices, pooling))
        self._module.requires_grad_(False)

    @property
    def layer_prefixes(self) -> tuple[tuple[str, str], ...]:
        from timm.models import group_parameters

        network: Any = self._network
        groups = group_parameters(network, network.group_matcher(coarse=False))
        pairs: list[tuple[str, str]] = []
        for _, names in sorted(groups.items()):
            title = _shared_prefix(names)
            pairs.extend((title, f"network.{name}") for name in names)
        return tuple(pairs)

    def with_output(self, *, layer: Layer = None, pooling: str | None = None) -> Self:
        made = self._around(self._network, self.name, self._plan, layer, pooling)
        made._weights_hash = self._weights_hash
        return made

    def with_module(self, module: nn.Module) -> Self:
        if not isinstance(module, ImageNetwork):
            raise RequestError(
                "module",
                expected="a trained copy_module() of this backbone",
                found=type(module).__name__,
                remedy="Pass the copy itself, or use module_backbone for another network.",
            )
        made = self._around(module.network, self.name, self._plan, self.layer, self.pooling)
        made.own_weights, made.adapters = True, None
        return made

    def with_image_size(self, size: int | tuple[int, int]) -> Self:
        """Return the same network for another input size; see `load_backbone` for what that means.

        Parameters
        ----------
        size : int or tuple of (int, int)
            The side of a square, or height and width, in pixels.

        Raises
        ------
        RequestError
            If the network cannot read images of this size.
        """
        plan = dataclasses.replace(self._plan, size=pixel_size(size))
        if plan == self._plan:
            return self
        network = network_at_size(self._network, plan.size, name=self.name)
        made = self._around(network, self.name, plan, self.layer, self.pooling)
        if network is self._network:
            made._weights_hash = self._weights_hash
        return made

    def _around(
        self, network: nn.Module, name: str, plan: ImagePreprocessing, layer: Layer, pooling: str | None
    ) -> Self:
        made = type(self)(
            name, network, plan, license=self.license, revision=self.revision, layer=layer, pooling=pooling
        )
        made.own_weights, made.adapters = self.own_weights, self.adapters
        return made

    def read(self, sources: Sequence[Any], *, views: Views = PLAIN) -> list[Any]:
        return [read_image(source, self._plan, views) for source in sources]

    def collate(self, items: Sequence[Any]) -> torch.Tensor:
        return stack_pixels(items)

    def item_size(self, item: Any) -> int:
        return 1

    def example_item(self) -> torch.Tensor:
        return torch.zeros(3, *self._plan.size, dtype=torch.uint8)


def read_image(source: Any, plan: ImagePreprocessing, views: Views) -> Any:
    """Return the pixels of one picture at the input size (a tuple of them for several views), or `Unreadable`."""
    try:
        pixels = read_pixels(source)
        if views.numbers == (0,):
            return _plain(pixels, plan, views)
        from graft.backbones.image_views import random_view
        from graft.data.images import content_hash

        key = content_hash(source)
        made = tuple(
            random_view(pixels, plan, views, key, number) if number else _plain(pixels, plan, views)
            for number in views.numbers
        )
    except (DataError, OSError) as error:
        return Unreadable(reason_of(error))
    return made[0] if len(made) == 1 else made


def _plain(pixels: torch.Tensor, plan: ImagePreprocessing, views: Views) -> torch.Tensor:
    fitted = fit_pixels(pixels, plan)
    return fitted.flip(2) if views.mirror == "always" else fitted


def stack_pixels(items: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the pictures as one batch of shape (n, 3, height, width), uint8, in channels-last memory order."""
    return torch.stack([item.permute(1, 2, 0) for item in items]).permute(0, 3, 1, 2)


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the precision of a network's parameters (of its constants where those are prepared for inference)."""
    for values in itertools.chain(network.parameters(), network.buffers()):
        if values.is_floating_point():
            return values.dtype
    return torch.float32


def _positions(network: Any, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what `forward_features` gave as (n, positions, channels), and the prefix tokens where there are some."""
    if output.ndim == 3:
        count = getattr(network, "num_prefix_tokens", 0)
        return output[:, count:], output[:, :count] if count else None
    if output.ndim == 4:
        if getattr(network, "output_fmt", "NCHW") == "NHWC":
            return output.flatten(1, 2), None
        return output.flatten(2).transpose(1, 2), None
    return output.unsqueeze(1), None  # the network pools by itself


def _shared_prefix(names: Sequence[str]) -> str:
    """Return the module path that parameter names have in common, such as blocks.3.

    Where timm counts a head's convolution with the last block, the path is that of the block.
    """
    top = names[0].split(".")[0]
    parts = [name.split(".")[:-1] for name in names if name.split(".")[0] == top]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared) if shared else ".".join(parts[0]) or names[0]
