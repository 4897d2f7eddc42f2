"""One leaf on the canvas: its shadow, colours, veins, relief and wounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.data.samples.leaf_canvas import (
    FINE,
    Array,
    Place,
    blend,
    blurred,
    fill_mask,
    rgb,
    shifted,
    smooth,
    spread,
    stroke_mask,
)
from graft.data.samples.leaf_damage import Damage, draw_damage
from graft.data.samples.leaf_shapes import LeafShape
from graft.data.samples.leaf_texture import noise


@dataclass(frozen=True)
class Look:
    """The colours of one leaf and the light on it."""

    blade: Array  # (3,)
    other: Array  # (3,) the second colour of its mottling
    mottling: float
    veins: Array  # (3,)
    vein_cover: float
    light: tuple[float, float]  # direction that the light comes from, unit vector in the picture
    relief: float  # strength of the shading of halves and veins
    gloss: float
    shadow: float
    shadow_reach: float  # in pixels


def lay_leaf(
    canvas: Array,
    shape: LeafShape,
    place: Place,
    look: Look,
    rng: np.random.Generator,
    wounds: np.random.Generator,
    *,
    eaten: float,
) -> tuple[Any, Damage]:
    """Draw the leaf with its shadow over the canvas, in place; return the mask of its blade and its damage.

    `eaten` is how much of a leaf of this species is gone, on average.
    """
    from PIL import ImageChops

    size = len(canvas)
    outline, stem_line = place(shape.outline), place(shape.petiole)
    # Only the window that the leaf and its shadow touch is drawn: often half of the picture.
    both = np.concatenate((outline, stem_line))
    around = 2 + 3 * look.shadow_reach
    left_edge, top_edge = np.floor(both.min(0) - around).astype(int).clip(0, size - 1).tolist()
    right_edge, bottom_edge = np.ceil(both.max(0) + around).astype(int).clip(1, size).tolist()
    corner = np.array((left_edge, top_edge))
    canvas = canvas[top_edge:bottom_edge, left_edge:right_edge]
    frame = canvas.shape[0], canvas.shape[1]
    outline, stem_line = outline - corner, stem_line - corner

    def texture(stream: np.random.Generator, kind: str) -> Array:
        return noise(stream, kind, size)[: frame[0], : frame[1]]

    unit = float(np.linalg.norm(np.ptp(outline, axis=0))) / 1.3  # about the length of the blade, in pixels
    blade = fill_mask(frame, [outline])
    damage = draw_damage(wounds, blade, outline * FINE, mean=eaten)
    whole = smooth(blade)
    holes, spots = smooth(damage.holes), smooth(damage.spots)
    left = smooth(ImageChops.subtract(blade, damage.holes))
    stalk = smooth(stroke_mask(frame, [(stem_line, 0.022 * unit)]))
    veins = smooth(stroke_mask(frame, [(place(line) - corner, width * unit) for line, width in shape.veins]))
    side = spread(smooth(fill_mask(frame, [outline[: shape.apex + 1]])), 0.02 * unit)

    fall_x, fall_y = (round(-component * look.shadow_reach) for component in look.light)
    cover = np.maximum(left, stalk)
    shadow = shifted(blurred(cover, 0.4 + 0.7 * look.shadow_reach), fall_x, fall_y)
    canvas *= 1 - look.shadow * (shadow * (1 - 0.4 * cover))[:, :, None]

    mix = (0.5 + look.mottling * texture(rng, "cloud")).clip(0, 1)[:, :, None]
    colour = look.blade + mix * (look.other - look.blade)
    height = spread(veins, 0.012 * unit)
    step = 1 + size // 250
    lit_x, lit_y = (int(np.sign(component)) * step if abs(component) > 0.4 else 0 for component in look.light)
    slope = shifted(height, -lit_x, -lit_y) - shifted(height, lit_x, lit_y)
    spine = outline[shape.apex] - outline[0]
    facing = (spine[0] * look.light[1] - spine[1] * look.light[0]) / (np.linalg.norm(spine) + 1e-9)
    shade = 1 + look.relief * (1.3 * slope + 0.5 * float(facing) * (side - 0.5))
    shade += 0.045 * texture(rng, "grain") + 0.02 * texture(rng, "grit")
    shade *= 0.86 + 0.14 * spread(whole, 0.03 * unit)
    colour = colour * (1 + (veins * look.vein_cover)[:, :, None] * (look.veins / (look.blade + 0.05) - 1))
    colour = colour * shade[:, :, None]
    if look.gloss > 0:
        sheen = (0.6 * texture(rng, "cloud") + 1.2 * float(facing) * (side - 0.5) - 0.35).clip(0, 1)
        colour = colour + (0.4 * look.gloss * sheen * (1 - veins))[:, :, None]

    if damage.fraction > 0:  # brown rims around holes, pale halos around spots, dead tissue in them
        rim = (spread(holes, 0.018 * unit) * 1.5).clip(0, 1)
        blend(colour, rgb(0.36, 0.24, 0.12) * wounds.uniform(0.6, 1.2), rim * 0.8)
        halo = (spread(spots, 0.02 * unit) * 1.6).clip(0, 1)
        blend(colour, rgb(0.72, 0.66, 0.22) * wounds.uniform(0.6, 1.0), halo * wounds.uniform(0.2, 0.8))
        dead = rgb(0.42, 0.27, 0.14) * wounds.uniform(0.3, 1.35)
        blend(colour, dead * (1 + 0.15 * texture(wounds, "grain"))[:, :, None], spots * 0.94)
    stem = look.veins * rgb(0.85, 0.75, 0.6)
    blend(canvas, stem * (0.9 + 0.2 * side)[:, :, None], stalk)
    blend(canvas, colour, left)
    window = (-left_edge * FINE, -top_edge * FINE, (size - left_edge) * FINE, (size - top_edge) * FINE)
    whole_frame = Damage(damage.holes.crop(window), damage.spots.crop(window), damage.fraction)
    return blade.crop(window), whole_frame
