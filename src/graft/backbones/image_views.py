"""Random variations of a picture: a cut at another place and scale, mirrored or not."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from graft.backbones.pixels import resize_pixels

if TYPE_CHECKING:
    import torch

    from graft.backbones.preprocessing import ImagePreprocessing

# The version of the variation. It is part of every key of a stored view.
VARIATION = "crop-and-mirror/1"
# The cut's share of the picture's area and its aspect ratio (Szegedy et al. 2015, section 6, with a larger smallest
# share: frozen features are to describe the same object, not a corner of it).
_AREA = (0.35, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def random_view(pixels: torch.Tensor, plan: ImagePreprocessing, seed: int, key: bytes, number: int) -> torch.Tensor:
    """Return one variation of a picture, decided by `seed`, the picture's content and the view's number alone.

    Parameters
    ----------
    pixels : tensor of shape (3, height, width), uint8
        The decoded picture.
    plan : ImagePreprocessing
        The input size and the interpolation.
    seed : int
        The user's random state.
    key : bytes
        The hash of the picture's content.
    number : int
        The number of the view, 1 or more.

    Returns
    -------
    tensor of shape (3, plan.size[0], plan.size[1]), uint8
    """
    digest = hashlib.blake2b(f"{VARIATION}\0{seed}\0{number}\0".encode() + key, digest_size=16).digest()
    draw = np.random.default_rng(int.from_bytes(digest, "little"))
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    top, left, high, wide = _cut(draw, height, width)
    view = resize_pixels(pixels[:, top : top + high, left : left + wide], plan.size, plan.interpolation)
    return view.flip(2) if draw.random() < 0.5 else view


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
