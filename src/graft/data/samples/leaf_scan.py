"""The domain ``scan``: a pressed leaf on the sheet of a herbarium."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.data.samples.leaf_blade import Look, lay_leaf
from graft.data.samples.leaf_canvas import Array, blend, direction, fill_mask, placed, rgb, smooth, stroke_mask
from graft.data.samples.leaf_damage import Damage
from graft.data.samples.leaf_shapes import SPECIES, LeafShape
from graft.data.samples.leaf_texture import noise


def draw_scan(
    streams: list[np.random.Generator], shape: LeafShape, species: str, size: int
) -> tuple[Array, Any, Damage]:
    leaf, wounds, rng = streams
    yellowed = np.float32(rng.beta(1.2, 2.0))  # the age of the paper
    tone = rgb(0.95, 0.94, 0.91) - yellowed * rgb(0.04, 0.07, 0.16)
    tone += np.float32(rng.normal(0, 0.007, 3))
    down = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    fall = 1 + 0.025 * rng.normal() * down + 0.025 * rng.normal() * down.T
    grain = 0.007 * noise(rng, "grit", size) + 0.008 * noise(rng, "cloud", size)
    canvas = (fall + grain)[:, :, None] * tone
    _sheet(canvas, rng)

    dry = np.float32(rng.uniform(0.05, 0.85))  # from freshly pressed to brown
    living = rgb(*SPECIES[species].hue) * np.float32(leaf.lognormal(0, 0.16)) * leaf.lognormal(0, 0.07, 3)
    brown = rgb(0.47, 0.37, 0.2) * leaf.lognormal(0, 0.15) * leaf.lognormal(0, 0.06, 3)
    blade = living + dry * (brown - living)
    other = blade + rng.uniform(0.1, 0.5) * (brown - blade) + rng.normal(0, 0.03)
    angle = rng.uniform(-2.6, -0.6)  # the light of a scanner comes from above
    look = Look(
        blade=blade.astype(np.float32),
        other=other.astype(np.float32),
        mottling=0.3,
        veins=(blade * 0.55 + rgb(0.36, 0.33, 0.2) * rng.uniform(0.7, 1.25)).astype(np.float32),
        vein_cover=float(rng.uniform(0.3, 0.85)),
        light=direction(angle),
        relief=float(rng.uniform(0.15, 0.5)),
        gloss=0.0,
        shadow=float(rng.uniform(0.2, 0.45)),
        shadow_reach=size * float(rng.uniform(0.006, 0.018)),
    )
    place = placed(
        shape,
        length=size * float(rng.uniform(0.54, 0.76)),
        turn=float(rng.normal(0, 20)),
        centre=size * (np.array((0.5, 0.46)) + rng.normal(0, 0.04, 2)),
        squeeze=float(rng.uniform(0.9, 1.0)) * float(rng.choice((-1, 1))),
    )
    blade_mask, damage = lay_leaf(canvas, shape, place, look, leaf, wounds, eaten=SPECIES[species].eaten)
    if rng.random() < 0.4:  # a strip of gummed linen over the petiole
        end = place(shape.petiole)[-3]
        turn = rng.uniform(-0.5, 0.5)
        along, across = np.array(direction(turn)) * 0.07 * size, np.array(direction(turn + np.pi / 2)) * 0.018 * size
        strip = np.array((end - along - across, end + along - across, end + along + across, end - along + across))
        blend(canvas, tone * np.float32(1.03), smooth(fill_mask((size, size), [strip])) * np.float32(0.8))
    canvas = canvas * np.float32(rng.normal(1, 0.04)) + np.float32(rng.normal(0, 0.006)) * down[:, :, None]
    return canvas, blade_mask, damage


def _sheet(canvas: Array, rng: np.random.Generator) -> None:
    """Put what else is on a herbarium sheet: a label with lines of script, a scale, a stamp."""
    size = len(canvas)
    if rng.random() < 0.6:
        wide, high = rng.uniform(0.22, 0.36), rng.uniform(0.1, 0.16)
        x = rng.uniform(0.6, 0.68) if rng.random() < 0.75 else rng.uniform(0.03, 0.1)
        y = 0.98 - high - rng.uniform(0, 0.04)
        wide = min(wide, 0.98 - x)
        frame = np.array(((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))) * size
        blend(canvas, rgb(0.97, 0.96, 0.93), smooth(fill_mask((size, size), [frame])))
        border = [(np.concatenate((frame, frame[:1])), 0.004 * size)]
        steps = np.linspace(0.03, wide - 0.03, 26)
        for row in range(3):
            end = int(rng.integers(14, 27))
            script = y + high * (0.28 + 0.25 * row) + rng.normal(0, 0.006, end)
            border.append((np.column_stack((x + steps[:end], script)) * size, 0.005 * size))
        blend(canvas, rgb(0.25, 0.23, 0.25), smooth(stroke_mask((size, size), border)) * np.float32(0.75))
    if rng.random() < 0.35:
        x, y, wide = rng.uniform(0.03, 0.08), rng.uniform(0.9, 0.95), 0.035
        if rng.random() < 0.4:
            y = rng.uniform(0.02, 0.06)
        cells = x + wide * np.arange(7)
        boxes = [np.array(((c, y), (c + wide, y), (c + wide, y + 0.02), (c, y + 0.02))) * size for c in cells]
        blend(canvas, rgb(0.12, 0.12, 0.12), smooth(fill_mask((size, size), boxes[::2])) * np.float32(0.9))
        blend(canvas, rgb(0.98, 0.98, 0.98), smooth(fill_mask((size, size), boxes[1::2])) * np.float32(0.9))
    if rng.random() < 0.2:
        turn = np.linspace(0, 2 * np.pi, 40)
        ring = np.column_stack((np.cos(turn), np.sin(turn)))
        centre = np.array((rng.uniform(0.8, 0.9), rng.uniform(0.1, 0.18)))
        lines = [((centre + ring * radius) * size, 0.006 * size) for radius in (0.07, 0.05)]
        ink = rgb(0.35, 0.25, 0.5) if rng.random() < 0.5 else rgb(0.55, 0.2, 0.2)
        blend(canvas, ink, smooth(stroke_mask((size, size), lines)) * np.float32(0.45))
