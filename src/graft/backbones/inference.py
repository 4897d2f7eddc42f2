"""Faster copies of a network for inference: same features, fewer passes over memory.

What is done, and what it brought on two cores with AVX512-BF16 for EfficientNet-Lite0, photos a second in batches of
eight (float32 in the ordinary memory order: 37; figures of `bench.embedding` are the ones that are kept up to date):

- channels-last memory order, bfloat16: 313;
- batch normalisation folded into the convolution before it (w' = w γ/√(σ²+ε), b' = β + (b − μ) γ/√(σ²+ε)): 389;
- convolution and ReLU as one oneDNN operation with weights reordered once: 488.

In bfloat16 the weights are rounded, and depthwise convolutions suffer most: a channel's few taps read one and the same
smooth map, so that their rounding errors add up to another gain. Their taps are rounded with the error carried
from tap to tap (see `round_taps`) and the biases stay in float32: on 40 photos the smallest cosine to float32 features
rises from 0.9972 to 0.9993, the mean from 0.9992 to 0.9998.

Compiling (``torch.compile`` with frozen weights) reached 513 after 19 s of compilation: it would earn that back after
some 190,000 photos, and ResNet-18 and ViT-S gained as little. Hence nothing is compiled.

Every copy is compared with the plain network on a batch before it is used; where it disagrees or cannot be made, the
next simpler one is taken, down to the network itself.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from graft.backbones.backbone import Backbone, on_device
from graft.backbones.image_backbone import PixelScale

# A folded network computes the same function up to rounding; a lower precision may turn features by 2.6 degrees.
_SAME = 0.99999
_CLOSE = 0.999
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
# The row count for which oneDNN lays out the weights of a linear layer; others work, this is a typical batch.
_TYPICAL_ROWS = 1024


class PackedConv(nn.Module):
    """A convolution, its folded normalisation and its activation as one oneDNN operation on prepared weights."""

    def __init__(
        self, conv: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor, activation: nn.Module, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.padding, self.stride = [int(p) for p in conv.padding], list(conv.stride)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.attribute, self.scalars = _ACTIVATIONS[type(activation)]
        # Not buffers: casting the network would cast the bias too, and prepared weights cannot be cast.
        self.bias = bias.detach().float()
        if dtype == torch.bfloat16 and weight.shape[1] == 1:
            weight = round_taps(weight)
        laid_out = weight.to(dtype).contiguous(memory_format=torch.channels_last).to_mkldnn()
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.register_buffer("precision", torch.zeros(0, dtype=dtype), persistent=False)  # what the inputs come in
        self.weight = reorder(laid_out, self.padding, self.stride, self.dilation, self.groups)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            inputs,
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            self.attribute,
            self.scalars,
            "",
        )


class PaddedConv(nn.Module):
    """A `PackedConv` whose input is padded first, as TensorFlow's "same" convolutions do."""

    def __init__(self, conv: nn.Conv2d, packed: PackedConv) -> None:
        super().__init__()
        self.packed = packed
        self.kernel = list(conv.kernel_size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for axis in (1, 0):
            size, stride, dilation = inputs.shape[2 + axis], self.packed.stride[axis], self.packed.dilation[axis]
            needed = (-(-size // stride) - 1) * stride + (self.kernel[axis] - 1) * dilation + 1 - size
            pads += [max(needed, 0) // 2, max(needed, 0) - max(needed, 0) // 2]
        return self.packed(nn.functional.pad(inputs, pads))


class PackedLinear(nn.Module):
    """A linear layer as a oneDNN operation on prepared weights."""

    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().to(dtype))
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype), _TYPICAL_ROWS)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")


def fast_module(backbone: Backbone, precision: str, batch: Any) -> tuple[nn.Module, bool]:
    """Return the fastest copy of the network that agrees with it on a batch.

    Parameters
    ----------
    backbone : Backbone
        The network.
    precision : str
        ``"float32"`` or ``"bfloat16"``.
    batch : batch
        A few inputs, as `Backbone.collate` gives them.

    Returns
    -------
    module : Module
        The copy; for float32 the network itself where no copy agrees.
    agrees : bool
        Whether the cosine between its features and the network's own float32 features is at least 0.999 (bfloat16)
        or 0.99999 (float32) for every input of the batch.
    """
    half = precision == "bfloat16"
    dtype = torch.bfloat16 if half else torch.float32
    batch = on_device(batch, backbone.device)
    candidate: nn.Module = backbone.module
    with torch.inference_mode():
        wanted = backbone.module(batch).float()
    for packed in (True, False) if backbone.device.type == "cpu" else (False,):
        try:
            candidate = _build(backbone, dtype, packed, batch)
            with torch.inference_mode():
                found = candidate(batch).float()
        except (RuntimeError, AttributeError, TypeError, ValueError):
            # What an operator that this build lacks raises, and a network that reads its layers' weights directly:
            # the plain form of the same layers computes the same.
            continue
        if bool((_cosine(found, wanted) >= (_CLOSE if half else _SAME)).all()):
            return candidate, True
    return (candidate, False) if half else (backbone.module, True)


def agreement(backbone: Backbone, module: nn.Module, batch: Any) -> list[bool]:
    """Return for each input of a batch whether a copy's features agree with the network's own (cosine of 0.999)."""
    batch = on_device(batch, backbone.device)
    with torch.inference_mode():
        found, wanted = module(batch).float(), backbone.module(batch).float()
    return (_cosine(found, wanted) >= _CLOSE).tolist()


def _cosine(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    # Two vectors of zeros agree; a vector that is not finite agrees with nothing (NaN compares as false).
    both_zero = (found == 0).all(dim=1) & (wanted == 0).all(dim=1)
    cosine = nn.functional.cosine_similarity(found.double(), wanted.double(), dim=1)
    return torch.where(both_zero, torch.ones_like(cosine), cosine)


def _build(backbone: Backbone, dtype: torch.dtype, packed: bool, batch: Any) -> nn.Module:
    module = copy.deepcopy(backbone.module).requires_grad_(False)
    scales = {path: copy.deepcopy(one) for path, one in module.named_modules() if isinstance(one, PixelScale)}
    if packed:
        _pack_convolutions(module, batch, dtype)
        _pack_linears(module, dtype)
    module = module.to(dtype)
    for path, scale in scales.items():
        # The pixels' mean and deviation keep their digits.
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, scale)
    if backbone.modality == "image":
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval()


def _pack_convolutions(module: nn.Module, batch: Any, dtype: torch.dtype) -> None:
    """Replace each convolution, with the normalisation and activation that read its output, by one operation."""
    followers, calls = _trace(module, batch)
    parents = {id(child): (parent, name) for parent in module.modules() for name, child in parent.named_children()}
    for conv in [one for one in module.modules() if isinstance(one, nn.Conv2d)]:
        if calls.get(id(conv)) != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        norm = followers.get(id(conv))
        same_padding = type(conv).__name__ == "Conv2dSame"
        if type(conv) is not nn.Conv2d and not same_padding:
            continue
        weight, bias = conv.weight, conv.bias
        activation: nn.Module = nn.Identity()
        rest: nn.Module | None = None
        if norm is not None and calls.get(id(norm)) == 1:
            weight, bias = _fold(weight, bias, norm)
            # timm's BatchNormAct2d holds its activation; torch's BatchNorm2d has none.
            activation = dict(norm.named_children()).get("act", nn.Identity())
            rest = nn.Identity()
            if type(activation) not in _ACTIVATIONS:
                activation, rest = nn.Identity(), activation
        if bias is None:
            bias = torch.zeros(conv.out_channels)
        fused = PackedConv(conv, weight, bias, activation, dtype)
        parent, name = parents[id(conv)]
        setattr(parent, name, PaddedConv(conv, fused) if same_padding else fused)
        if norm is not None and rest is not None:
            parent, name = parents[id(norm)]
            setattr(parent, name, rest)


def round_taps(weight: torch.Tensor) -> torch.Tensor:
    """Round depthwise weights to bfloat16 so that the sum over each channel's taps keeps its value.

    From the largest tap to the smallest, each is rounded with the error of those before it:
    q_j = round(w_j + e_j), e_(j+1) = w_j + e_j − q_j. The last error, which is all that the sum is off by, is half a
    unit in the last place of the smallest tap (error feedback as in Floyd and Steinberg 1976, along one channel).

    Parameters
    ----------
    weight : tensor of shape (channels, 1, height, width), float32

    Returns
    -------
    tensor of the same shape, float32, every value representable in bfloat16
    """
    taps = weight.detach().flatten(1)
    order = taps.abs().argsort(dim=1, descending=True)
    rounded = torch.empty_like(taps)
    error = torch.zeros(len(taps), 1, dtype=taps.dtype)
    for place in order.split(1, dim=1):
        wanted = taps.gather(1, place) + error
        kept = wanted.bfloat16().to(taps.dtype)
        rounded.scatter_(1, place, kept)
        error = wanted - kept
    return rounded.reshape(weight.shape)


def _trace(module: nn.Module, batch: Any) -> tuple[dict[int, nn.BatchNorm2d], dict[int, int]]:
    """Run a batch and return which batch normalisation reads which convolution's output, and how often each ran."""
    followers: dict[int, nn.BatchNorm2d] = {}
    calls: dict[int, int] = {}
    outputs: dict[int, tuple[nn.Module, torch.Tensor]] = {}

    def seen(one: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        calls[id(one)] = calls.get(id(one), 0) + 1
        if isinstance(one, nn.Conv2d):
            outputs[id(output)] = (one, output)  # the tensor is held, so that its identity stays its own
        elif isinstance(one, nn.BatchNorm2d) and id(inputs[0]) in outputs:
            followers[id(outputs[id(inputs[0])][0])] = one

    watched = [one for one in module.modules() if isinstance(one, nn.Conv2d | nn.BatchNorm2d)]
    handles = [one.register_forward_hook(seen) for one in watched]
    try:
        if watched:
            with torch.inference_mode():
                module(batch[:1])  # one input shows who reads whose output
    finally:
        for handle in handles:
            handle.remove()
    return followers, calls


def _fold(weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the convolution that does what convolution and normalisation did."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = torch.rsqrt(norm.running_var + norm.eps)
    gain = gain if norm.weight is None else gain * norm.weight
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    offset = shift * gain
    return weight * gain.reshape(-1, 1, 1, 1), offset if norm.bias is None else offset + norm.bias


def _pack_linears(module: nn.Module, dtype: torch.dtype) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:  # a subclass may compute something else
                setattr(parent, name, PackedLinear(child, dtype))
