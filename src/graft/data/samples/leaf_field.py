"""The domain ``field``: a leaf photographed where it lies, and what a camera makes of the scene."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data.samples.leaf_blade import Look, lay_leaf
from graft.data.samples.leaf_canvas import Array, blend, direction, fill_mask, placed, rgb, shifted, smooth, spread
from graft.data.samples.leaf_damage import Damage
from graft.data.samples.leaf_ground import draw_ground, grass_blades
from graft.data.samples.leaf_shapes import SPECIES, LeafShape
from graft.data.samples.leaf_texture import noise

GREY = np.array((0.3, 0.59, 0.11), dtype=np.float32)
_AUTUMN = np.array(((0.75, 0.6, 0.15), (0.7, 0.33, 0.12), (0.48, 0.33, 0.18)), dtype=np.float32)


def draw_field(
    streams: list[np.random.Generator], shape: LeafShape, species: str, size: int
) -> tuple[Array, Any, Damage]:
    leaf, wounds, rng = streams
    light = direction(rng.uniform(0, 2 * np.pi))
    harsh = rng.uniform(0.2, 1.0)  # overcast to full sun
    canvas = draw_ground(rng, size, light) * np.float32(0.85)
    distance = float(rng.uniform(0.005, 0.024)) * size  # the ground is a little out of focus
    if distance > 0.3:
        canvas = _defocused(canvas, distance)

    living = rgb(*SPECIES[species].hue) * np.float32(leaf.lognormal(0.1, 0.2)) * leaf.lognormal(0, 0.09, 3)
    autumn = _AUTUMN[leaf.integers(0, 3)]
    turned = float(leaf.beta(0.5, 1.6))
    blade = (living + turned * (autumn - living)) * 1.2
    other = blade + rng.uniform(0.15, 0.5) * (autumn * 0.9 - blade)
    look = Look(
        blade=blade.astype(np.float32),
        other=other.astype(np.float32),
        mottling=0.35,
        veins=(blade * 0.7 + rgb(0.34, 0.36, 0.2) * rng.uniform(0.5, 1.1)).astype(np.float32),
        vein_cover=float(rng.uniform(0.35, 0.9)),
        light=light,
        relief=float(0.3 + 0.7 * harsh),
        gloss=SPECIES[species].gloss * float(rng.uniform(0.4, 1.2)) * float(harsh),
        shadow=float(0.35 + 0.35 * harsh),
        shadow_reach=size * float(rng.uniform(0.01, 0.035)),
    )
    place = placed(
        shape,
        length=size * float(rng.uniform(0.64, 0.88)),
        turn=float(rng.normal(0, 22)),
        centre=size * (np.array((0.5, 0.47)) + rng.normal(0, 0.04, 2)),
        tilt=rng.normal(0, 0.13, 2).clip(-0.35, 0.35),
        squeeze=float(rng.uniform(0.82, 1.0)) * float(rng.choice((-1, 1))),
    )
    blade_mask, damage = lay_leaf(canvas, shape, place, look, leaf, wounds, eaten=SPECIES[species].eaten)
    _overgrow(canvas, rng, light)
    return _photographed(canvas, rng, light, harsh), blade_mask, damage


def _overgrow(canvas: Array, rng: np.random.Generator, light: tuple[float, float]) -> None:
    """Lay a few blades of grass over the leaf, with their shadows."""
    size = len(canvas)
    count = int(rng.choice((0, 1, 2, 3, 4), p=(0.5, 0.25, 0.15, 0.07, 0.03)))
    if not count:
        return
    blades = list(grass_blades(rng, size, count, lean=rng.normal(0, 0.8)))
    cover = smooth(fill_mask((size, size), blades))
    fall_x, fall_y = (round(-component * 0.02 * size) for component in light)
    canvas *= 1 - 0.45 * shifted(spread(cover, 0.008 * size), fall_x, fall_y)[:, :, None]
    colour = rgb(0.36, 0.48, 0.18) * rng.lognormal(0, 0.2) + np.float32(rng.beta(0.5, 1.5)) * 0.15
    blend(canvas, colour * (1 + 0.1 * noise(rng, "cloud", size))[:, :, None], cover)


def _defocused(canvas: Array, radius: float) -> Array:
    from PIL import Image, ImageFilter

    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def _photographed(canvas: Array, rng: np.random.Generator, light: tuple[float, float], harsh: float) -> Array:
    """Return the scene as a camera saw it: light and dappled shade, colour cast, exposure, blur, grain."""
    size = len(canvas)
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    bright = 1 + 0.25 * harsh * (light[0] * x + light[1] * y)
    if rng.random() < 0.3:  # the shade of a crown above
        edge = rng.normal(0, 0.6)
        bright = bright * (1 - rng.uniform(0.25, 0.5) / (1 + np.exp(-3 * (noise(rng, "cloud", size) - edge))))
    bright = bright * (1 - rng.uniform(0.0, 0.25) * (x**2 + y**2) / 2)
    cast = rng.lognormal(0, 0.04, 3).astype(np.float32)
    warm = rng.normal(0.02, 0.08)
    canvas = canvas * bright[:, :, None].astype(np.float32)
    exposed = 0.3 * rng.lognormal(0, 0.15) / max(float(canvas.mean()), 0.02)  # the camera's own exposure
    canvas *= cast * (exposed * rgb(1 + warm, 1.0, 1 - warm)).astype(np.float32)
    canvas = 1.08 * (1 - np.exp(-1.5 * canvas.clip(0, None)))  # the curve of a film: highlights keep their drawing
    grey = canvas @ GREY
    canvas = grey[:, :, None] + np.float32(rng.normal(0.95, 0.12)) * (canvas - grey[:, :, None])
    canvas = canvas.clip(0, None) ** np.float32(rng.lognormal(0, 0.1))
    blur = float(rng.gamma(1.5, 0.0013)) * size
    if blur > 0.2:
        canvas = _defocused(canvas, min(blur, 0.01 * size))
    grain = rng.standard_normal((size, size, 3), dtype=np.float32)
    return canvas + grain * np.float32(rng.uniform(0.004, 0.02))
