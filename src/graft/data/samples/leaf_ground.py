"""The ground of the field photos: soil, grass, gravel, twigs and other leaves, drawn twice too large and averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data.samples.leaf_canvas import Array, direction, placed, rgb
from graft.data.samples.leaf_shapes import SPECIES, leaf_shape
from graft.data.samples.leaf_texture import noise


def draw_ground(rng: np.random.Generator, size: int, light: tuple[float, float]) -> Array:
    """Return soil, grass, litter or gravel, or what is between them."""
    from PIL import Image, ImageDraw

    soil = rgb(0.36, 0.27, 0.19) * rng.lognormal(0, 0.25) * rng.lognormal(0, 0.08, 3).astype(np.float32)
    moss = rgb(0.24, 0.32, 0.12) * rng.lognormal(0, 0.25)
    mix = (0.3 + 0.6 * rng.normal() + 0.5 * noise(rng, "cloud", size)).clip(0, 1)[:, :, None]
    rough = 1 + 0.22 * noise(rng, "grain", size) + 0.12 * noise(rng, "grit", size)
    base = (soil + mix * (moss - soil)) * rough[:, :, None]

    double = 2 * size
    image = Image.fromarray((base.clip(0, 1) * 255).astype(np.uint8)).resize(
        (double, double), Image.Resampling.BILINEAR
    )
    pen = ImageDraw.Draw(image)
    kind = rng.choice(("soil", "grass", "litter", "gravel", "mixed"), p=(0.12, 0.3, 0.28, 0.1, 0.2))
    if kind == "gravel":
        _pebbles(pen, rng, double, int(rng.integers(60, 110)), light)
    elif kind == "soil":
        _pebbles(pen, rng, double, int(rng.integers(8, 25)), light)
        _twigs(pen, rng, double, int(rng.integers(3, 8)))
    if kind in ("litter", "mixed"):
        for _ in range(int(rng.integers(5, 9))):
            _litter(pen, rng, double, light)
        _twigs(pen, rng, double, int(rng.integers(0, 4)))
    if kind in ("grass", "mixed"):
        _grass(pen, rng, double, int(rng.integers(90, 170) if kind == "grass" else rng.integers(15, 50)))
    canvas = np.asarray(image.reduce(2), dtype=np.float32) / 255
    return canvas * (1 + 0.1 * noise(rng, "grain", size))[:, :, None]


def _tint(colour: Array) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in (colour.clip(0, 1) * 255))
    return red, green, blue


def grass_blades(rng: np.random.Generator, size: int, count: int, *, lean: float) -> Array:
    """Return `count` blades of grass as polygons (count, 14, 2): a curve that tapers to its tip."""
    root = rng.uniform(-0.15, 1.15, (count, 1, 2)) * size
    aim = (lean + rng.normal(0, 0.45, count))[:, None]
    length = (size * rng.uniform(0.25, 0.75, count))[:, None]
    t = np.linspace(0, 1, 7)
    turn = aim + rng.normal(0, 0.5, (count, 1)) * t
    along = np.stack((np.sin(turn), -np.cos(turn)), axis=2) * (length * t)[:, :, None]
    across = np.stack((np.cos(turn), np.sin(turn)), axis=2)
    half = (size * rng.uniform(0.004, 0.013, (count, 1)) * (1 - t**1.6))[:, :, None]
    spine = root + along
    return np.concatenate((spine + across * half, (spine - across * half)[:, ::-1]), axis=1)


def _grass(pen: Any, rng: np.random.Generator, size: int, count: int) -> None:
    fresh = np.array((0.34, 0.47, 0.16)) * rng.lognormal(0, 0.15) * rng.lognormal(0, 0.08, 3)
    straw = np.array((0.62, 0.55, 0.3))
    blades = grass_blades(rng, size, count, lean=rng.normal(0, 0.5))
    depth = np.linspace(0.35, 1.1, count)[:, None]
    dry = rng.beta(0.5, 2.0, (count, 1))
    colours = (fresh + dry * (straw - fresh)) * depth * rng.lognormal(0, 0.15, (count, 1))
    for blade, colour in zip(blades, colours, strict=True):
        pen.polygon(blade.ravel().tolist(), fill=_tint(colour))


def _pebbles(pen: Any, rng: np.random.Generator, size: int, count: int, light: tuple[float, float]) -> None:
    turn = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    for _ in range(count):
        radius = size * 0.02 * rng.lognormal(0, 0.6)
        centre = rng.uniform(0, size, 2)
        ring = (
            np.column_stack((np.cos(turn), np.sin(turn) * rng.uniform(0.6, 1))) * rng.normal(1, 0.08, (11, 1)) * radius
        )
        grey = np.array((0.5, 0.47, 0.43)) * rng.lognormal(0, 0.25) * rng.lognormal(0, 0.04, 3)
        toward = np.array(light) * radius * 0.25
        pen.polygon((ring + centre - toward * 1.6).ravel().tolist(), fill=_tint(grey * 0.3))
        pen.polygon((ring + centre).ravel().tolist(), fill=_tint(grey * 0.8))
        pen.polygon((ring * 0.7 + centre + toward).ravel().tolist(), fill=_tint(grey))


def _twigs(pen: Any, rng: np.random.Generator, size: int, count: int) -> None:
    for _ in range(count):
        start, aim = rng.uniform(0, size, 2), np.array(direction(rng.uniform(0, 2 * np.pi)))
        along = np.linspace(0, rng.uniform(0.2, 0.6) * size, 6)[:, None] * aim
        line = start + along + np.cumsum(rng.normal(0, 0.01 * size, (6, 2)), axis=0)
        wood = np.array((0.36, 0.27, 0.18)) * rng.lognormal(0, 0.3)
        width = max(1, round(size * rng.uniform(0.006, 0.018)))
        pen.line((line + width * 0.4).ravel().tolist(), fill=_tint(wood * 0.4), width=width)
        pen.line(line.ravel().tolist(), fill=_tint(wood), width=width)


def _litter(pen: Any, rng: np.random.Generator, size: int, light: tuple[float, float]) -> None:
    """Draw one leaf of the ground, of any species: darker and plainer than the one that the picture is of."""
    names = list(SPECIES)
    shape, _ = leaf_shape(rng, names[rng.integers(0, len(names))])
    place = placed(
        shape,
        length=size * float(rng.uniform(0.25, 0.6)),
        turn=float(rng.uniform(0, 360)),
        centre=rng.uniform(-0.05, 1.05, 2) * size,
        squeeze=float(rng.uniform(0.5, 1)),
    )
    kinds = np.array(((0.42, 0.3, 0.18), (0.5, 0.4, 0.18), (0.3, 0.38, 0.16), (0.36, 0.2, 0.12)))
    colour = kinds[rng.integers(0, len(kinds))] * rng.lognormal(-0.3, 0.22)
    outline = place(shape.outline)[::2]
    pen.polygon((outline - np.array(light) * 0.012 * size).ravel().tolist(), fill=_tint(colour * 0.3))
    pen.polygon(outline.ravel().tolist(), fill=_tint(colour))
    half = place(shape.outline[: shape.apex + 1 : 2])
    pen.polygon(half.ravel().tolist(), fill=_tint(colour * rng.uniform(0.8, 1.2)))
    for line, width in shape.veins[: 1 + 2 * int(rng.integers(0, 6))]:
        ends = place(line[[0, -1]])
        pen.line(ends.ravel().tolist(), fill=_tint(colour * 1.25), width=max(1, round(width * size * 0.3)))
