"""The drawing board: places, anti-aliased masks and blurs.

A canvas is an array of float32 (size, size, 3), 0 to 1. Masks are drawn three times too large by Pillow and averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graft.data.samples.leaf_shapes import LeafShape

Array = np.ndarray
Place = Callable[[Array], Array]  # leaf coordinates -> pixels (x, y)
FINE = 3  # supersampling of the masks


def rgb(red: float, green: float, blue: float) -> Array:
    """Return a colour, each part 0 to 1."""
    return np.array((red, green, blue), dtype=np.float32)


def direction(angle: float) -> tuple[float, float]:
    """Return the unit vector at `angle` (radians)."""
    return float(np.cos(angle)), float(np.sin(angle))


def placed(
    shape: LeafShape, *, length: float, turn: float, centre: Array, tilt: Array | None = None, squeeze: float = 1.0
) -> Place:
    """Return the map of leaf coordinates to the picture.

    The longer side of the blade becomes `length`, turned by `turn` degrees around `centre`; `tilt` adds perspective:
    a point p is divided by 1 + tilt . p, after foreshortening across by `squeeze`.
    """
    low, high = shape.outline.min(0), shape.outline.max(0)
    scale = length / float(np.max(high - low))
    middle = (low + high) / 2
    angle = np.deg2rad(turn)
    rotation = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))

    def place(points: Array) -> Array:
        moved = (points - middle) * (scale * squeeze, -scale) @ rotation
        if tilt is not None:
            moved = moved / (1 + moved @ tilt / length)[:, None]
        return moved + centre

    return place


def fill_mask(frame: tuple[int, int], polygons: list[Array]) -> Any:
    """Return the supersampled mask of `polygons`, in pixels of a frame of (height, width)."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (frame[1] * FINE, frame[0] * FINE), 0)
    pen = ImageDraw.Draw(image)
    for polygon in polygons:
        pen.polygon((polygon * FINE).ravel().tolist(), fill=255)
    return image


def stroke_mask(frame: tuple[int, int], lines: list[tuple[Array, float]]) -> Any:
    """Return the supersampled mask of polylines with their widths, in pixels of a frame of (height, width)."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (frame[1] * FINE, frame[0] * FINE), 0)
    pen = ImageDraw.Draw(image)
    for line, width in lines:
        pen.line((line * FINE).ravel().tolist(), fill=255, width=max(1, round(width * FINE)))
    return image


def smooth(mask: Any) -> Array:
    """Average a supersampled mask into coverage, 0 to 1."""
    return np.asarray(mask.reduce(FINE), dtype=np.float32) / 255


def blurred(coverage: Array, radius: float) -> Array:
    """Blur with a Gaussian of standard deviation `radius`, in pixels."""
    from PIL import Image, ImageFilter

    image = Image.fromarray((coverage * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def spread(coverage: Array, radius: float) -> Array:
    """Blur with a box: a third of the cost of `blurred`, for what lies inside the leaf and is not seen as an edge."""
    from PIL import Image, ImageFilter

    image = Image.fromarray((coverage * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(1.6 * radius)), dtype=np.float32) / 255


def shifted(values: Array, right: int, down: int) -> Array:
    """Return `values` moved by whole pixels, with zeros where nothing moved in."""
    height, width = values.shape
    moved = np.zeros_like(values)
    into = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    out_of = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
    moved[into] = values[out_of]
    return moved


def blend(canvas: Array, colour: Array, cover: Array) -> None:
    """Lay `colour` over the canvas, in place, where `cover` (height, width) says."""
    canvas += cover[:, :, None] * (colour - canvas)
