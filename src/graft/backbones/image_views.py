"""Random variations of a picture: a cut at another place and scale, mirrored or not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.backbones.pixels import resize_pixels

if TYPE_CHECKING:
    import torch

    from graft.backbones.backbone import Views
    from graft.backbones.preprocessing import ImagePreprocessing

# The version of the variation. It is part of every key of a stored view.
VARIATION = "crop-and-mirror/1"
# The cut's share of the picture's area and its aspect ratio (Szegedy et al. 2015, section 6, with a larger smallest
# share: frozen features are to describe the same object, not a corner of it).
_AREA = (0.35, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def random_view(pixels: torch.Tensor, plan: ImagePreprocessing, views: Views, key: bytes, number: int) -> torch.Tensor:
    """Return one variation of a picture, decided by the seed, the picture's content and the view's number alone.

    A cut at another place and scale, mirrored or not (``views.mirror``); with ``views.magnitude`` m above 0 also two of
    the 14 operations of RandAugment, each of strength m / 10 of its largest.

    Parameters
    ----------
    pixels : tensor of shape (3, height, width), uint8
        The decoded picture.
    plan : ImagePreprocessing
        The input size and the interpolation.
    views : Views
        The seed, the magnitude m, and what is mirrored.
    key : bytes
        The hash of the picture's content.
    number : int
        The number of the view, 1 or more.

    Returns
    -------
    tensor of shape (3, plan.size[0], plan.size[1]), uint8

    References
    ----------
    Cubuk, Zoph, Shlens and Le (2020), RandAugment, section 3 (N = 2 operations, one magnitude).
    """
    digest = hashlib.blake2b(f"{VARIATION}\0{views.seed}\0{number}\0".encode() + key, digest_size=16).digest()
    draw = np.random.default_rng(int.from_bytes(digest, "little"))
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    top, left, high, wide = _cut(draw, height, width)
    view = resize_pixels(pixels[:, top : top + high, left : left + wide], plan.size, plan.interpolation)
    chosen = draw.random() < 0.5  # also where it decides nothing: the rest of the variation is then the same
    if views.mirror == "always" or (views.mirror == "random" and chosen):
        view = view.flip(2)
    if views.magnitude > 0:
        for operation in draw.integers(len(_OPERATIONS), size=2):
            view = _OPERATIONS[operation](view, views.magnitude / 10, 1.0 if draw.random() < 0.5 else -1.0)
    return view


def _cut(draw: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a cut that lies within the picture."""
    for _ in range(_ATTEMPTS):
        area = height * width * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(draw.integers(height - high + 1)), int(draw.integers(width - wide + 1)), high, wide
    # No cut of that shape fits a very long picture: the largest centred one of an allowed shape.
    wide, high = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    return (height - high) // 2, (width - wide) // 2, max(1, high), max(1, wide)


def _functional() -> Any:
    from graft.backbones.torchvision_repair import import_torchvision

    import_torchvision()
    from torchvision.transforms.v2 import functional

    return functional


def _moved(view: torch.Tensor, *, angle: float = 0.0, right: float = 0.0, down: float = 0.0, shear: tuple = (0, 0)):
    shift = [round(right * view.shape[2]), round(down * view.shape[1])]
    return _functional().affine(view, angle=angle, translate=shift, scale=1.0, shear=list(shear), fill=[128.0] * 3)


def _posterized(view: torch.Tensor, strength: float, _sign: float) -> torch.Tensor:
    return _functional().posterize(view, bits=8 - round(4 * strength))


# Each from (view, strength in 0..1, sign), with the ranges of the paper: 30 degrees, shear 0.3, shift 0.45 of a side,
# colours by a factor of 0.1 to 1.9, down to 4 bits, solarizing from 255 down to 0.
_OPERATIONS: tuple[Callable[[Any, float, float], Any], ...] = (
    lambda view, _strength, _sign: view,
    lambda view, _strength, _sign: _functional().autocontrast(view),
    lambda view, _strength, _sign: _functional().equalize(view),
    lambda view, strength, sign: _moved(view, angle=30 * strength * sign),
    lambda view, strength, sign: _moved(view, shear=(math.degrees(math.atan(0.3 * strength * sign)), 0.0)),
    lambda view, strength, sign: _moved(view, shear=(0.0, math.degrees(math.atan(0.3 * strength * sign)))),
    lambda view, strength, sign: _moved(view, right=0.45 * strength * sign),
    lambda view, strength, sign: _moved(view, down=0.45 * strength * sign),
    lambda view, strength, sign: _functional().adjust_brightness(view, 1 + 0.9 * strength * sign),
    lambda view, strength, sign: _functional().adjust_contrast(view, 1 + 0.9 * strength * sign),
    lambda view, strength, sign: _functional().adjust_saturation(view, 1 + 0.9 * strength * sign),
    lambda view, strength, sign: _functional().adjust_sharpness(view, 1 + 0.9 * strength * sign),
    _posterized,
    lambda view, strength, _sign: _functional().solarize(view, 255 * (1 - strength)),
)
