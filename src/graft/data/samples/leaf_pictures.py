"""One picture of a leaf in either domain, with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.data.samples.leaf_canvas import Array
from graft.data.samples.leaf_damage import Damage
from graft.data.samples.leaf_field import draw_field
from graft.data.samples.leaf_scan import draw_scan
from graft.data.samples.leaf_shapes import leaf_shape


@dataclass(frozen=True)
class Picture:
    """A drawn picture with what is known about it.

    Attributes
    ----------
    pixels : array of uint8, shape (size, size, 3)
    blade : PIL.Image.Image
        The supersampled mask of the whole blade, as it was before anything ate of it and without what lies over it.
    damage : Damage
    margin : str
    """

    pixels: Array
    blade: Any
    damage: Damage
    margin: str


def draw_picture(streams: list[np.random.Generator], species: str, domain: str, size: int) -> Picture:
    """Draw one picture; `streams` are three generators: of the leaf, of its damage, and of the scene around it.

    The streams are separate so that the same leaf in the same scene can be drawn with and without its damage.
    """
    shape, margin = leaf_shape(streams[0], species)
    draw = draw_scan if domain == "scan" else draw_field
    canvas, blade, damage = draw(streams, shape, species, size)
    return Picture((canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8), blade, damage, margin)
