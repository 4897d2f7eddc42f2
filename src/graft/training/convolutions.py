"""Convolutions as they are computed in a training: faster, with the same function and gradient.

Three things cost most of a step that trains the end of a convolutional network on a processor, and need not:

- batch normalisation with frozen statistics reads and writes every activation again, forward and backward, though it is
  one more factor and summand of each channel. It is folded into the weights of the convolution before it, in every
  step: a pass over weights instead of one over activations;
- oneDNN has no fast gradient of the weights of depthwise convolutions wider than 3 x 3. On small maps it is a product
  of two matrices for each channel: for 5 x 5 on maps of 4 x 4, six times as fast;
- the gradient of a mean over all places is one number for each channel. torch writes it out for every place, in the
  memory order of plain maps, and what comes before then works through maps of two orders: a tenth of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graft.backbones.forward_trace import evaluating

# What is compared before a folded network is used, relative to the largest value.
_SAME = 1e-3
# The widest kernel whose weights' gradient oneDNN computes well, and the most pairs of a place of the input and one of
# the output up to which the product of all of them is faster (7 x 7 each).
_NARROW, _FEW_PAIRS = 3, 49 * 49


@contextmanager
def fast_convolutions(trunk: nn.Module, example: Any) -> Iterator[None]:
    r"""Let the convolutions of a network be computed faster while the block runs. Nothing else of it changes.

    With W and b of a convolution and :math:`\gamma, \beta, \mu, \sigma^2` of the batch normalisation that reads its
    output, both are one convolution with :math:`W \gamma / \sqrt{\sigma^2 + \epsilon}` and
    :math:`\beta + (b - \mu) \gamma / \sqrt{\sigma^2 + \epsilon}`, through which the gradient reaches W, b,
    :math:`\gamma` and :math:`\beta`. This is done wherever the statistics are frozen when it is computed, and the
    scale is not trained without the convolution: then its own gradient is cheaper than that of the folded weights.

    A mean over all places is computed as a sum that is divided afterwards, so that its gradient is divided before it
    is spread over the places, and is not written out. ReLU6 is not computed in place, for which autograd copies its
    input first.

    Parameters
    ----------
    trunk : Module
        From a batch to features. Its modules, parameters and buffers stay the same ones under the same names.
    example : tensor or dict of tensors
        A batch, which shows which normalisation reads which convolution. Where another layer reads the convolution's
        output too, the features would not be the same, and nothing is folded.
    """
    replaced: list[nn.Module] = []

    def replace(module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        module.forward = forward
        replaced.append(module)

    def restore() -> None:
        while replaced:
            replaced.pop().__dict__.pop("forward", None)

    convolutions = [one for one in trunk.modules() if _known(one)]
    try:
        if convolutions:
            wanted, followers = _watched(trunk, example)
            for conv in convolutions:
                _replace(conv, followers.get(conv), replace)
            for module in trunk.modules():
                if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
                    replace(module, _mean_over_places)
                elif type(module) is nn.ReLU6:
                    replace(module, functional.relu6)
            with evaluating(trunk):
                found = trunk(example)
            if not torch.allclose(found, wanted, rtol=_SAME, atol=_SAME * float(wanted.abs().max()), equal_nan=True):
                restore()
        yield
    finally:
        restore()


def _known(module: nn.Module) -> bool:
    """Return whether a module computes what its type says, with padding by zeros."""
    plain = type(module) is nn.Conv2d and not isinstance(module.padding, str)
    return (plain or type(module).__name__ == "Conv2dSame") and module.padding_mode == "zeros"


def _watched(trunk: nn.Module, example: Any) -> tuple[torch.Tensor, dict[nn.Module, nn.Module]]:
    """Return the features of a batch, and which normalisation reads the output of which convolution."""
    outputs: dict[int, tuple[nn.Module, torch.Tensor]] = {}
    followers: dict[nn.Module, nn.Module] = {}
    times: dict[nn.Module, int] = {}

    def seen(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        times[module] = times.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = (module, output)  # held, so that its identity stays its own
        elif inputs and id(inputs[0]) in outputs:
            followers[outputs[id(inputs[0])][0]] = module

    kinds = nn.Conv2d | nn.BatchNorm2d
    handles = [one.register_forward_hook(seen) for one in trunk.modules() if isinstance(one, kinds)]
    try:
        with evaluating(trunk):
            wanted = trunk(example)
    finally:
        for handle in handles:
            handle.remove()
    return wanted, {
        conv: norm
        for conv, norm in followers.items()
        if times[conv] == times[norm] == 1 and _has_statistics(norm) and _rest(norm) is not None
    }


def _has_statistics(norm: nn.Module) -> bool:
    return getattr(norm, "running_mean", None) is not None and getattr(norm, "running_var", None) is not None


def _rest(norm: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return what a normalisation does after normalising; None where that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return lambda inputs: inputs
    if type(norm).__name__ == "BatchNormAct2d":  # timm's, which holds its activation
        return lambda inputs: norm.act(norm.drop(inputs))
    return None


def _replace(
    conv: Any, norm: Any, replace: Callable[[nn.Module, Callable[[torch.Tensor], torch.Tensor]], None]
) -> None:
    if norm is None:
        if _wide_and_depthwise(conv):
            replace(conv, lambda inputs: _convolved(conv, inputs, conv.weight, conv.bias))
        return
    normalise, rest = norm.forward, _rest(norm)
    assert rest is not None

    def folds() -> bool:
        trained_alone = norm.weight is not None and norm.weight.requires_grad and not conv.weight.requires_grad
        return not norm.training and not trained_alone

    kept: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def folded() -> tuple[torch.Tensor, torch.Tensor]:
        read = [conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
        there = [values for values in read if values is not None]
        if any(values.requires_grad for values in there):
            return fold()
        # Frozen layers are folded once: torch counts how often each tensor was written to.
        written = tuple(values._version for values in there)
        if written not in kept:
            kept.clear()
            with torch.no_grad():
                weight, bias = fold()
            kept[written] = weight.contiguous(memory_format=torch.channels_last), bias
        return kept[written]

    def fold() -> tuple[torch.Tensor, torch.Tensor]:
        gain = torch.rsqrt(norm.running_var + norm.eps)
        gain = gain if norm.weight is None else gain * norm.weight
        shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        offset = shift * gain if norm.bias is None else torch.addcmul(norm.bias, shift, gain)
        return conv.weight * gain.reshape(-1, 1, 1, 1), offset

    def convolve(inputs: torch.Tensor) -> torch.Tensor:
        return _convolved(conv, inputs, *(folded() if folds() else (conv.weight, conv.bias)))

    replace(conv, convolve)
    replace(norm, lambda inputs: rest(inputs) if folds() else normalise(inputs))


def _mean_over_places(maps: torch.Tensor) -> torch.Tensor:
    return maps.sum((-2, -1), keepdim=True) / (maps.shape[-2] * maps.shape[-1])


def _convolved(conv: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return the convolution of inputs with a weight and bias in place of its own."""
    padding = conv.padding
    if type(conv) is not nn.Conv2d:
        inputs, padding = _padded(inputs, conv), (0, 0)
    small = (
        _wide_and_depthwise(conv)
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _pairs(inputs.shape[2:], weight.shape[2:], conv.stride, padding, conv.dilation) <= _FEW_PAIRS
    )
    if small:
        return _Depthwise.apply(inputs, weight, bias, conv.stride, padding, conv.dilation)
    return functional.conv2d(inputs, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def _wide_and_depthwise(conv: Any) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels and max(conv.kernel_size) > _NARROW


def _padded(inputs: torch.Tensor, conv: Any) -> torch.Tensor:
    """Return inputs padded as TensorFlow's "same" convolutions do."""
    pads: list[int] = []
    for axis in (1, 0):
        size, stride = inputs.shape[2 + axis], conv.stride[axis]
        reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
        needed = max(0, (-(-size // stride) - 1) * stride + reach - size)
        pads += [needed // 2, needed - needed // 2]
    return functional.pad(inputs, pads) if any(pads) else inputs


def _pairs(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> int:
    """Return how many pairs of a place of the input and one of the output there are."""
    count = 1
    for axis in (0, 1):
        out = (size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        count *= size[axis] * out
    return count


class _Depthwise(torch.autograd.Function):
    r"""A depthwise convolution whose weights' gradient is computed from all pairs of places.

    With x (n, c, p) the input at places p and g (n, c, q) the gradient of the output at places q, the gradient of a tap
    is :math:`\sum_{(p, q)} \sum_n x_{ncp} g_{ncq}` over the pairs of places that the tap connects.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.how, ctx.has_bias = (stride, padding, dilation), bias is not None
        return functional.conv2d(inputs, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_inputs = torch.ops.aten.convolution_backward(
                gradient,
                inputs,
                weight,
                None,
                stride,
                padding,
                dilation,
                False,
                [0, 0],
                len(weight),
                [True, False, False],
            )[0]
        if ctx.needs_input_grad[1]:
            taps = [
                _taps(*sizes)
                for sizes in zip(
                    inputs.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
                )
            ]
            connected = torch.einsum("aio,bjq->ijoqab", *taps).flatten(0, 3).flatten(1)
            products = torch.bmm(_by_channel(inputs).transpose(1, 2), _by_channel(gradient))
            of_weight = (products.flatten(1) @ connected).view_as(weight)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_inputs, of_weight, of_bias, None, None, None


def _by_channel(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (n, c, h, w) as (c, n, h w)."""
    count, channels = maps.shape[:2]
    # One transposition of a matrix, which is quick where the maps lie in channels-last order.
    return maps.permute(0, 2, 3, 1).reshape(-1, channels).t().contiguous().view(channels, count, -1)


@lru_cache(maxsize=64)
def _taps(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> torch.Tensor:
    """Return (kernel, size, out): 1 where a tap connects a place of the input and one of the output, along an axis."""
    tap, place, end = torch.meshgrid(torch.arange(kernel), torch.arange(size), torch.arange(out), indexing="ij")
    return (place == end * stride + tap * dilation - padding).float()
