"""The pictures: a leaf on the sheet of a herbarium, and a leaf photographed where it lies.

Everything is drawn in units of the picture's side, masks three times too large and then averaged (anti-aliasing), colour
in floating point from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.data.samples.leaf_damage import Damage, draw_damage
from graft.data.samples.leaf_shapes import SPECIES, LeafShape, leaf_shape
from graft.data.samples.leaf_texture import noise

Array = np.ndarray
Place = Callable[[Array], Array]  # leaf coordinates -> pixels (x, y)
FINE = 3  # supersampling of the masks
GREY = np.array((0.3, 0.59, 0.11), dtype=np.float32)


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
    draw = _draw_scan if domain == "scan" else _draw_field
    canvas, blade, damage = draw(streams, shape, species, size)
    return Picture((canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8), blade, damage, margin)


# ---- placing and masks -----------------------------------------------------------------------------------------------


def _placed(
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


def _mask(size: int, polygons: list[Array], fill: list[int] | None = None) -> Any:
    """Return the supersampled mask of `polygons` (in pixels of the picture)."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (size * FINE, size * FINE), 0)
    pen = ImageDraw.Draw(image)
    for index, polygon in enumerate(polygons):
        pen.polygon((polygon * FINE).ravel().tolist(), fill=255 if fill is None else fill[index])
    return image


def _strokes(size: int, lines: list[tuple[Array, float]]) -> Any:
    """Return the supersampled mask of polylines with their widths (in pixels of the picture)."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (size * FINE, size * FINE), 0)
    pen = ImageDraw.Draw(image)
    for line, width in lines:
        pen.line((line * FINE).ravel().tolist(), fill=255, width=max(1, round(width * FINE)))
    return image


def _smooth(mask: Any) -> Array:
    """Average a supersampled mask into coverage, 0 to 1."""
    return np.asarray(mask.reduce(FINE), dtype=np.float32) / 255


def _blurred(coverage: Array, radius: float) -> Array:
    from PIL import Image, ImageFilter

    image = Image.fromarray((coverage * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def _shifted(values: Array, right: int, down: int) -> Array:
    return np.roll(values, (down, right), axis=(0, 1))


def _blend(canvas: Array, colour: Array, cover: Array) -> None:
    """Lay `colour` over the canvas, in place, where `cover` (size, size) says."""
    canvas += cover[:, :, None] * (colour - canvas)


# ---- the leaf --------------------------------------------------------------------------------------------------------


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


def _lay_leaf(
    canvas: Array, shape: LeafShape, place: Place, look: Look, rng: np.random.Generator, wounds: np.random.Generator
) -> tuple[Any, Damage, Array]:
    """Draw the leaf with its shadow over the canvas; return its blade, its damage and its final coverage."""
    from PIL import ImageChops

    size = len(canvas)
    outline = place(shape.outline)
    unit = float(np.linalg.norm(np.ptp(outline, axis=0))) / 1.3  # about the length of the blade, in pixels
    blade = _mask(size, [outline])
    damage = draw_damage(wounds, blade, outline * FINE)
    whole = _smooth(blade)
    holes, spots = _smooth(damage.holes), _smooth(damage.spots)
    left = _smooth(ImageChops.subtract(blade, damage.holes))
    stalk = _smooth(_strokes(size, [(place(shape.petiole), 0.022 * unit)]))
    veins = _smooth(_strokes(size, [(place(line), width * unit) for line, width in shape.veins]))
    side = _blurred(_smooth(_mask(size, [outline[: shape.apex + 1]])), 0.02 * unit)

    fall_x, fall_y = (round(-component * look.shadow_reach) for component in look.light)
    cover = np.maximum(left, stalk)
    shadow = _shifted(_blurred(cover, 0.4 + 0.7 * look.shadow_reach), fall_x, fall_y)
    canvas *= 1 - look.shadow * (shadow * (1 - 0.4 * cover))[:, :, None]

    mix = (0.5 + look.mottling * noise(rng, "cloud", size)).clip(0, 1)[:, :, None]
    colour = look.blade + mix * (look.other - look.blade)
    height = _blurred(veins, 0.012 * unit)
    step = 1 + size // 250
    lit_x, lit_y = (int(np.sign(component)) * step if abs(component) > 0.4 else 0 for component in look.light)
    slope = _shifted(height, -lit_x, -lit_y) - _shifted(height, lit_x, lit_y)
    spine = outline[shape.apex] - outline[0]
    facing = (spine[0] * look.light[1] - spine[1] * look.light[0]) / (np.linalg.norm(spine) + 1e-9)
    shade = 1 + look.relief * (1.3 * slope + 0.5 * float(facing) * (side - 0.5))
    shade += 0.045 * noise(rng, "grain", size) + 0.02 * noise(rng, "grit", size)
    shade *= 0.86 + 0.14 * _blurred(whole, 0.03 * unit)
    colour = colour * (1 + (veins * look.vein_cover)[:, :, None] * (look.veins / (look.blade + 0.05) - 1))
    colour = colour * shade[:, :, None]
    if look.gloss > 0:
        sheen = (0.6 * noise(rng, "cloud", size) + 1.2 * float(facing) * (side - 0.5) - 0.35).clip(0, 1)
        colour = colour + (0.4 * look.gloss * sheen * (1 - veins))[:, :, None]

    if damage.fraction > 0:  # brown rims around holes, pale halos around spots, dead tissue in them
        rim = (_blurred(holes, 0.018 * unit) * 1.5).clip(0, 1)
        _blend(colour, np.float32((0.36, 0.24, 0.12)) * wounds.uniform(0.6, 1.2), rim * 0.8)
        halo = (_blurred(spots, 0.02 * unit) * 1.6).clip(0, 1)
        _blend(colour, np.float32((0.72, 0.66, 0.22)) * wounds.uniform(0.6, 1.0), halo * wounds.uniform(0.2, 0.8))
        dead = np.float32((0.42, 0.27, 0.14)) * wounds.uniform(0.3, 1.35)
        _blend(colour, dead * (1 + 0.15 * noise(wounds, "grain", size))[:, :, None], spots * 0.94)
    stem = look.veins * np.float32((0.85, 0.75, 0.6))
    _blend(canvas, stem * (0.9 + 0.2 * side)[:, :, None], stalk)
    _blend(canvas, colour, left)
    return blade, damage, cover


def _unit(angle: float) -> tuple[float, float]:
    return float(np.cos(angle)), float(np.sin(angle))


# ---- herbarium scan --------------------------------------------------------------------------------------------------


def _draw_scan(
    streams: list[np.random.Generator], shape: LeafShape, species: str, size: int
) -> tuple[Array, Any, Damage]:
    leaf, wounds, rng = streams
    yellowed = np.float32(rng.beta(1.2, 2.0))  # the age of the paper
    tone = np.float32((0.95, 0.94, 0.91)) - yellowed * np.float32((0.04, 0.07, 0.16))
    tone += np.float32(rng.normal(0, 0.007, 3))
    down = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    fall = 1 + 0.025 * rng.normal() * down + 0.025 * rng.normal() * down.T
    grain = 0.007 * noise(rng, "grit", size) + 0.008 * noise(rng, "cloud", size)
    canvas = (fall + grain)[:, :, None] * tone
    _sheet(canvas, rng)

    dry = np.float32(rng.uniform(0.05, 0.85))  # from freshly pressed to brown
    living = np.float32(SPECIES[species].hue) * np.float32(leaf.lognormal(0, 0.16)) * leaf.lognormal(0, 0.07, 3)
    brown = np.float32((0.47, 0.37, 0.2)) * leaf.lognormal(0, 0.15) * leaf.lognormal(0, 0.06, 3)
    blade = living + dry * (brown - living)
    other = blade + rng.uniform(0.1, 0.5) * (brown - blade) + rng.normal(0, 0.03)
    angle = rng.uniform(-2.6, -0.6)  # the light of a scanner comes from above
    look = Look(
        blade=blade.astype(np.float32),
        other=other.astype(np.float32),
        mottling=0.3,
        veins=(blade * 0.55 + np.float32((0.36, 0.33, 0.2)) * rng.uniform(0.7, 1.25)).astype(np.float32),
        vein_cover=float(rng.uniform(0.3, 0.85)),
        light=_unit(angle),
        relief=float(rng.uniform(0.15, 0.5)),
        gloss=0.0,
        shadow=float(rng.uniform(0.2, 0.45)),
        shadow_reach=size * float(rng.uniform(0.006, 0.018)),
    )
    place = _placed(
        shape,
        length=size * float(rng.uniform(0.54, 0.76)),
        turn=float(rng.normal(0, 20)),
        centre=size * (np.array((0.5, 0.46)) + rng.normal(0, 0.04, 2)),
        squeeze=float(rng.uniform(0.9, 1.0)) * float(rng.choice((-1, 1))),
    )
    blade_mask, damage, _ = _lay_leaf(canvas, shape, place, look, leaf, wounds)
    if rng.random() < 0.4:  # a strip of gummed linen over the petiole
        end = place(shape.petiole)[-3]
        turn = rng.uniform(-0.5, 0.5)
        along, across = np.array(_unit(turn)) * 0.07 * size, np.array(_unit(turn + np.pi / 2)) * 0.018 * size
        strip = np.array((end - along - across, end + along - across, end + along + across, end - along + across))
        _blend(canvas, tone * np.float32(1.03), _smooth(_mask(size, [strip])) * np.float32(0.8))
    return (
        canvas * np.float32(rng.normal(1, 0.04)) + np.float32(rng.normal(0, 0.006)) * down[:, :, None],
        (blade_mask),
        damage,
    )


def _sheet(canvas: Array, rng: np.random.Generator) -> None:
    """Put what else is on a herbarium sheet: a label with lines of script, a scale, a stamp."""
    size = len(canvas)
    if rng.random() < 0.6:
        wide, high = rng.uniform(0.22, 0.36), rng.uniform(0.1, 0.16)
        x = rng.uniform(0.6, 0.68) if rng.random() < 0.75 else rng.uniform(0.03, 0.1)
        y = 0.98 - high - rng.uniform(0, 0.04)
        wide = min(wide, 0.98 - x)
        frame = np.array(((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))) * size
        _blend(canvas, np.float32((0.97, 0.96, 0.93)), _smooth(_mask(size, [frame])))
        border = [(np.concatenate((frame, frame[:1])), 0.004 * size)]
        steps = np.linspace(0.03, wide - 0.03, 26)
        for row in range(3):
            end = int(rng.integers(14, 27))
            script = y + high * (0.28 + 0.25 * row) + rng.normal(0, 0.006, end)
            border.append((np.column_stack((x + steps[:end], script)) * size, 0.005 * size))
        _blend(canvas, np.float32((0.25, 0.23, 0.25)), _smooth(_strokes(size, border)) * np.float32(0.75))
    if rng.random() < 0.35:
        x, y, wide = rng.uniform(0.03, 0.08), rng.uniform(0.9, 0.95), 0.035
        if rng.random() < 0.4:
            y = rng.uniform(0.02, 0.06)
        cells = x + wide * np.arange(7)
        boxes = [np.array(((c, y), (c + wide, y), (c + wide, y + 0.02), (c, y + 0.02))) * size for c in cells]
        _blend(canvas, np.float32((0.12, 0.12, 0.12)), _smooth(_mask(size, boxes[::2])) * np.float32(0.9))
        _blend(canvas, np.float32((0.98, 0.98, 0.98)), _smooth(_mask(size, boxes[1::2])) * np.float32(0.9))
    if rng.random() < 0.2:
        turn = np.linspace(0, 2 * np.pi, 40)
        ring = np.column_stack((np.cos(turn), np.sin(turn)))
        centre = np.array((rng.uniform(0.8, 0.9), rng.uniform(0.1, 0.18)))
        lines = [((centre + ring * radius) * size, 0.006 * size) for radius in (0.07, 0.05)]
        ink = np.float32((0.35, 0.25, 0.5)) if rng.random() < 0.5 else np.float32((0.55, 0.2, 0.2))
        _blend(canvas, ink, _smooth(_strokes(size, lines)) * np.float32(0.45))


# ---- field photo -----------------------------------------------------------------------------------------------------


def _draw_field(
    streams: list[np.random.Generator], shape: LeafShape, species: str, size: int
) -> tuple[Array, Any, Damage]:
    leaf, wounds, rng = streams
    light = _unit(rng.uniform(0, 2 * np.pi))
    harsh = rng.uniform(0.2, 1.0)  # overcast to full sun
    canvas = _ground(rng, size, light) * np.float32(0.85)
    distance = float(rng.uniform(0.002, 0.016)) * size  # the ground is a little out of focus
    if distance > 0.3:
        canvas = _defocused(canvas, distance)

    living = np.float32(SPECIES[species].hue) * np.float32(leaf.lognormal(0.1, 0.2)) * leaf.lognormal(0, 0.09, 3)
    autumn = np.float32(((0.75, 0.6, 0.15), (0.7, 0.33, 0.12), (0.48, 0.33, 0.18)))[leaf.integers(0, 3)]
    turned = float(leaf.beta(0.5, 1.6))
    blade = (living + turned * (autumn - living)) * 1.3
    other = blade + rng.uniform(0.15, 0.5) * (autumn * 0.9 - blade)
    look = Look(
        blade=blade.astype(np.float32),
        other=other.astype(np.float32),
        mottling=0.35,
        veins=(blade * 0.7 + np.float32((0.34, 0.36, 0.2)) * rng.uniform(0.5, 1.1)).astype(np.float32),
        vein_cover=float(rng.uniform(0.25, 0.8)),
        light=light,
        relief=float(0.3 + 0.7 * harsh),
        gloss=SPECIES[species].gloss * float(rng.uniform(0.4, 1.2)) * float(harsh),
        shadow=float(0.35 + 0.35 * harsh),
        shadow_reach=size * float(rng.uniform(0.01, 0.035)),
    )
    place = _placed(
        shape,
        length=size * float(rng.uniform(0.58, 0.84)),
        turn=float(rng.normal(0, 30)),
        centre=size * (np.array((0.5, 0.5)) + rng.normal(0, 0.055, 2)),
        tilt=rng.normal(0, 0.16, 2).clip(-0.4, 0.4),
        squeeze=float(rng.uniform(0.78, 1.0)) * float(rng.choice((-1, 1))),
    )
    blade_mask, damage, cover = _lay_leaf(canvas, shape, place, look, leaf, wounds)
    _overgrow(canvas, rng, light)
    return _photographed(canvas, rng, light, harsh), blade_mask, damage


def _ground(rng: np.random.Generator, size: int, light: tuple[float, float]) -> Array:
    """Return soil, grass, litter or gravel, or what is between them."""
    from PIL import Image, ImageDraw

    soil = np.float32((0.36, 0.27, 0.19)) * rng.lognormal(0, 0.25) * rng.lognormal(0, 0.08, 3).astype(np.float32)
    moss = np.float32((0.24, 0.32, 0.12)) * rng.lognormal(0, 0.25)
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


def _blades(rng: np.random.Generator, size: int, count: int, *, lean: float) -> Array:
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
    blades = _blades(rng, size, count, lean=rng.normal(0, 0.5))
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
        start, aim = rng.uniform(0, size, 2), np.array(_unit(rng.uniform(0, 2 * np.pi)))
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
    place = _placed(
        shape,
        length=size * float(rng.uniform(0.25, 0.6)),
        turn=float(rng.uniform(0, 360)),
        centre=rng.uniform(-0.05, 1.05, 2) * size,
        squeeze=float(rng.uniform(0.5, 1)),
    )
    kinds = np.array(((0.42, 0.3, 0.18), (0.5, 0.4, 0.18), (0.3, 0.38, 0.16), (0.36, 0.2, 0.12)))
    colour = kinds[rng.integers(0, len(kinds))] * rng.lognormal(-0.15, 0.25)
    outline = place(shape.outline)[::2]
    pen.polygon((outline - np.array(light) * 0.012 * size).ravel().tolist(), fill=_tint(colour * 0.3))
    pen.polygon(outline.ravel().tolist(), fill=_tint(colour))
    half = place(shape.outline[: shape.apex + 1 : 2])
    pen.polygon(half.ravel().tolist(), fill=_tint(colour * rng.uniform(0.8, 1.2)))
    for line, width in shape.veins[: 1 + 2 * int(rng.integers(0, 6))]:
        pen.line((place(line[:: max(1, len(line) - 1)])).ravel().tolist(), fill=_tint(colour * 1.25), width=max(1, round(
            width * size * 0.3)))  # fmt: skip


def _overgrow(canvas: Array, rng: np.random.Generator, light: tuple[float, float]) -> None:
    """Lay a few blades of grass over the leaf, with their shadows."""
    size = len(canvas)
    count = int(rng.choice((0, 1, 2, 3, 4), p=(0.4, 0.25, 0.2, 0.1, 0.05)))
    if not count:
        return
    blades = list(_blades(rng, size, count, lean=rng.normal(0, 0.8)))
    cover = _smooth(_mask(size, blades))
    fall_x, fall_y = (round(-component * 0.02 * size) for component in light)
    canvas *= 1 - 0.45 * _shifted(_blurred(cover, 0.008 * size), fall_x, fall_y)[:, :, None]
    colour = np.float32((0.36, 0.48, 0.18)) * rng.lognormal(0, 0.2) + np.float32(rng.beta(0.5, 1.5)) * 0.15
    _blend(canvas, colour * (1 + 0.1 * noise(rng, "cloud", size))[:, :, None], cover)


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
    warm = np.float32(rng.normal(0.02, 0.08))
    canvas = canvas * bright[:, :, None].astype(np.float32)
    exposed = np.float32(0.37 * rng.lognormal(0, 0.18) / max(float(canvas.mean()), 0.02))  # the camera's own exposure
    canvas *= cast * np.float32((1 + warm, 1.0, 1 - warm)) * exposed
    grey = canvas @ GREY
    canvas = grey[:, :, None] + np.float32(rng.normal(0.95, 0.12)) * (canvas - grey[:, :, None])
    canvas = canvas.clip(0, None) ** np.float32(rng.lognormal(0, 0.1))
    blur = float(rng.gamma(1.5, 0.0018)) * size
    if blur > 0.2:
        canvas = _defocused(canvas, min(blur, 0.01 * size))
    grain = rng.standard_normal((size, size, 3), dtype=np.float32)
    return canvas + grain * np.float32(rng.uniform(0.005, 0.028))
