"""The botany of the drawn leaves: outline, margin and venation of ten species, and how readily each is eaten.

Leaf coordinates: x across the blade, y along the midrib from the base of the blade (0) to its apex (about 1); the unit
is the length of the blade. A simple blade is a half-width profile over the midrib with its own exponents at base and
apex (1 is rounded, 2 straight-sided, more is drawn out), displaced along its normal by the teeth of the margin. Palmate
blades (maple, ivy) are star polygons around the end of the petiole, ginkgo is a fan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
POINTS = 240  # points of one side of an outline: about eight for each tooth of the finest margin


@dataclass(frozen=True)
class LeafShape:
    """One leaf, without colour or place.

    Attributes
    ----------
    outline : array of shape (m, 2)
        The closed outline of the blade, from its base up the right side to the apex and down the left side.
    apex : int
        The row of `outline` at the apex.
    veins : tuple of (array of shape (k, 2), float)
        Polylines and their widths.
    petiole : array of shape (k, 2)
        The stalk, from the base of the blade downwards.
    """

    outline: Array
    apex: int
    veins: tuple[tuple[Array, float], ...]
    petiole: Array


@dataclass(frozen=True)
class Species:
    """One species: how its blade is made and how often each margin occurs on it."""

    blade: Callable[[np.random.Generator, str], LeafShape]
    margins: dict[str, float]
    hue: tuple[float, float, float]  # typical colour of a living blade, 0 to 1
    gloss: float
    eaten: float  # mean share of the blade that feeders and fungi take of a leaf that they found, 0 to MOST


def leaf_shape(rng: np.random.Generator, species: str) -> tuple[LeafShape, str]:
    """Return a new leaf of `species` and the type of its margin."""
    kind = SPECIES[species]
    margin = str(rng.choice(list(kind.margins), p=list(kind.margins.values())))
    return _bend(rng, kind.blade(rng, margin)), margin


def _bend(rng: np.random.Generator, shape: LeafShape) -> LeafShape:
    """Curve the midrib sideways and make the halves of the blade unequal, as on every real leaf."""
    curve, wave, skew = rng.normal(0, 0.07), rng.normal(0, 0.012), rng.normal(1, 0.05)

    parts = (shape.outline, shape.petiole, *(line for line, _ in shape.veins))
    points = np.concatenate(parts)
    x, y = points[:, 0], points[:, 1]
    x = np.where(x > 0, x * skew, x / skew) + curve * y * np.abs(y) + wave * np.sin(7 * y)
    bent = np.split(np.column_stack((x, y)), np.cumsum([len(part) for part in parts[:-1]]))
    veins = tuple((line, width) for line, (_, width) in zip(bent[2:], shape.veins, strict=True))
    return LeafShape(bent[0], shape.apex, veins, bent[1])


def _petiole(rng: np.random.Generator, length: float) -> Array:
    t = np.linspace(0, 1, 8)
    return np.column_stack((rng.normal(0, 0.25) * length * t**2, -length * rng.uniform(0.7, 1.25) * t))


# ---- simple blades ---------------------------------------------------------------------------------------------------


def _profile(*, width: float, base: float, apex: float, widest: float, cordate: float) -> tuple[Array, Array]:
    """Return the smooth half-width x(s) and height y(s) of a simple blade, s from base to apex."""
    s = np.linspace(0, 1, POINTS)
    turn = np.pi * s ** (np.log(0.5) / np.log(widest))
    x = width / 2 * np.sin(turn).clip(0) ** (base + (apex - base) * s)
    y = (1 - np.cos(np.pi * s)) / 2 - cordate * np.sin(np.pi * np.minimum(3 * s, 1))
    return x, y


def _wave(margin: str, phase: Array) -> Array:
    """Return the height of the teeth, 0 to 1 (undulate -1 to 1), at `phase` counted in teeth."""
    part = phase % 1
    if margin == "serrate":
        return part**1.3  # rises towards the apex, then drops: the teeth point forward
    if margin == "crenate":
        return np.abs(np.sin(np.pi * phase))
    if margin == "undulate":
        return np.sin(2 * np.pi * phase)
    return (1 - np.abs(2 * part - 1)) ** 3 * 1.25 - 0.25  # spiny: cusps with concave arcs between them


def _teeth(
    rng: np.random.Generator, x: Array, y: Array, margin: str, *, count: float, height: float, forward: float = 0.0
) -> tuple[Array, Array]:
    """Displace a side of the outline along its normal (and `forward`, along its tangent) by the teeth of `margin`."""
    if margin not in ("serrate", "crenate", "undulate", "spiny"):
        return x, y
    dx, dy = np.gradient(x), np.gradient(y)
    step = np.hypot(dx, dy) + 1e-9
    along = np.cumsum(step)
    along = along / along[-1]
    uneven = 0.02 * np.sin(2 * np.pi * (along * rng.uniform(1, 3) + rng.random()))
    taper = np.minimum(1, np.minimum(along / 0.1, (1 - along) / 0.08))
    size = height * taper * (1 + 0.25 * np.sin(2 * np.pi * (along * rng.uniform(2, 5) + rng.random())))
    rise = size * _wave(margin, count * (along + uneven) + rng.random())
    tangent, normal = (dx / step, dy / step), (dy / step, -dx / step)
    return x + rise * (normal[0] + forward * tangent[0]), y + rise * (normal[1] + forward * tangent[1])


def _pinnate_veins(
    rng: np.random.Generator, x: Array, y: Array, *, pairs: int, rise: float, reach: float = 0.97
) -> tuple[tuple[Array, float], ...]:
    """Return a midrib and `pairs` secondary veins, each curving towards the apex and ending at `reach` of the blade."""
    top = float(y[-1])
    midrib = np.column_stack((np.zeros(12), np.linspace(0, top * 0.985, 12)))
    veins = [(midrib, 0.016)]
    order = np.argsort(y)
    starts = np.linspace(0.04, 0.86, pairs) * top
    t = np.linspace(0, 1, 7)
    for side in (1.0, -1.0):
        shift = rng.normal(0, 0.01, pairs)
        for start, moved in zip(starts, shift, strict=True):
            low = max(float(start + moved), 0.01)
            wide = float(np.interp(low + 0.12, y[order], x[order])) * reach
            up = rise * wide * (1 + rng.normal(0, 0.06))
            veins.append((np.column_stack((side * wide * t, low + up * (0.55 * t + 0.45 * t**2))), 0.0075))
    return tuple(veins)


def _simple(
    rng: np.random.Generator,
    margin: str,
    *,
    width: float,
    base: float,
    apex: float,
    widest: float,
    cordate: float = 0.0,
    teeth: float = 24,
    height: float = 0.02,
    double: bool = False,
    pairs: int = 8,
    rise: float = 1.0,
    reach: float = 0.97,
    petiole: float = 0.2,
) -> LeafShape:
    """Return a simple blade; every measure varies from leaf to leaf by the usual 5 to 12 per cent."""
    width *= rng.lognormal(0, 0.11)
    base, apex = base * rng.lognormal(0, 0.08), apex * rng.lognormal(0, 0.09)
    widest = float(np.clip(widest + rng.normal(0, 0.025), 0.2, 0.8))
    x, y = _profile(width=width, base=base, apex=apex, widest=widest, cordate=cordate * rng.uniform(0.5, 1.4))
    sides = []
    for _ in range(2):
        forward = 0.6 if margin == "serrate" else 0.0
        count = teeth * rng.lognormal(0, 0.1)
        right, up = _teeth(rng, x, y, margin, count=count, height=height * rng.lognormal(0, 0.15), forward=forward)
        if double:
            right, up = _teeth(rng, right, up, margin, count=count / 3, height=height * 1.3, forward=forward)
        sides.append((right, up))
    pairs = max(3, round(pairs * rng.lognormal(0, 0.1)))
    veins = _pinnate_veins(rng, x, y, pairs=pairs, rise=rise * rng.lognormal(0, 0.12), reach=reach)
    return LeafShape(_closed(*sides), POINTS - 1, veins, _petiole(rng, petiole))


def _closed(right: tuple[Array, Array], left: tuple[Array, Array]) -> Array:
    """Join the right side and the mirrored left side of an outline."""
    return np.concatenate((np.column_stack(right), np.column_stack((-left[0], left[1]))[::-1]))


def _aspen(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.98, base=0.95, apex=1.7, widest=0.43, teeth=13, height=0.035, pairs=5, rise=0.75,
        petiole=0.65, cordate=0.02,
    )  # fmt: skip


def _beech(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.58, base=1.15, apex=1.95, widest=0.46, teeth=7, height=0.016, pairs=8, rise=0.95,
        petiole=0.1,
    )  # fmt: skip


def _birch(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.76, base=1.05, apex=2.5, widest=0.35, teeth=21, height=0.017, double=True, pairs=7,
        rise=1.05, petiole=0.28,
    )  # fmt: skip


def _holly(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.48, base=1.3, apex=1.8, widest=0.48, teeth=7, height=0.095, pairs=6, rise=0.8, reach=0.8,
        petiole=0.1,
    )  # fmt: skip


def _linden(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.95, base=0.85, apex=2.4, widest=0.34, cordate=0.21, teeth=22, height=0.026, pairs=6,
        rise=0.9, petiole=0.42,
    )  # fmt: skip


def _willow(rng: np.random.Generator, margin: str) -> LeafShape:
    return _simple(
        rng, margin, width=0.2, base=1.5, apex=1.9, widest=0.44, teeth=30, height=0.012, pairs=14, rise=1.6, reach=0.85,
        petiole=0.08,
    )  # fmt: skip


def _oak(rng: np.random.Generator, margin: str) -> LeafShape:
    width = 0.6 * rng.lognormal(0, 0.12)
    x, y = _profile(width=width, base=1.5, apex=0.95, widest=0.58, cordate=0.0)
    lobes = int(rng.integers(4, 7))
    deep = rng.uniform(0.42, 0.66) if margin == "lobed" else rng.uniform(0.12, 0.18)
    sides = []
    veins: list[tuple[Array, float]] = [(np.column_stack((np.zeros(12), np.linspace(0, 0.97, 12))), 0.018)]
    s = np.linspace(0, 1, POINTS)
    for side in (1.0, -1.0):
        warp = 0.16 * s * (1 - s) * np.sin(2 * np.pi * (s * rng.uniform(0.6, 1.4) + rng.random()))
        phase = (lobes + 0.5) * (s + warp)  # ends on the lobe at the apex
        lobe = (0.5 - 0.5 * np.cos(2 * np.pi * phase)) ** 0.6  # round lobes, narrow sinuses
        strength = deep * np.minimum(1, s / 0.25) * (1 + 0.2 * np.sin(3 * phase + rng.uniform(0, 6)))
        right = x * (1 - strength * (1 - lobe)) * (1 + 0.1 * lobe)
        sides.append((right, y + 0.5 * s * (1 - s) * lobe * right))
        tips = np.flatnonzero((lobe[1:-1] > lobe[:-2]) & (lobe[1:-1] >= lobe[2:])) + 1
        t = np.linspace(0, 1, 6)
        for tip in tips[s[tips] < 0.92]:
            low = max(0.02, y[tip] - 0.55 * x[tip])
            veins.append((np.column_stack((side * right[tip] * 0.9 * t, low + (sides[-1][1][tip] - low) * t)), 0.008))
    return LeafShape(_closed(*sides), POINTS - 1, tuple(veins), _petiole(rng, 0.1))


# ---- palmate blades and the fan --------------------------------------------------------------------------------------


def _rounded(points: Array, times: int) -> Array:
    """Cut the corners of an open polyline, keeping its ends (Chaikin 1974): each time, two points for each corner."""
    for _ in range(times):
        before, after = points[:-1], points[1:]
        cut = np.stack((0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after), axis=1).reshape(-1, 2)
        points = np.concatenate((points[:1], cut, points[-1:]))
    return points


def _polar(angle: Array | float, radius: Array | float) -> Array:
    """Return points at `angle` from the apex direction (degrees, clockwise)."""
    turn = np.deg2rad(angle)
    return np.column_stack((np.atleast_1d(radius * np.sin(turn)), np.atleast_1d(radius * np.cos(turn))))


def _palmate(
    rng: np.random.Generator,
    *,
    angles: tuple[float, ...],
    lengths: tuple[float, ...],
    sinus: float,
    spread: float,
    shoulder: float,
    teeth: bool,
    rounds: int,
    petiole: float,
) -> LeafShape:
    """Return a star-shaped blade; `angles` and `lengths` of its lobes run from the middle lobe (0 degrees) outwards."""
    turn = np.array(angles) * rng.lognormal(0, 0.06)
    sides, veins = [], []
    t = np.linspace(0, 1, 8)[:, None]
    for side in (1.0, -1.0):
        aim = turn + np.append(0, rng.normal(0, 3.5, len(turn) - 1))
        reach = np.array(lengths) * np.append(1, rng.lognormal(0, 0.06, len(turn) - 1))
        corners = [np.zeros((1, 2)), _polar(min(aim[-1] + 38, 172), reach[-1] * 0.6)]
        for lobe in range(len(aim) - 1, -1, -1):
            wide = spread * rng.lognormal(0, 0.08)
            flanks = (-1.0,) if lobe == 0 else (-1.0, 1.0)
            for flank in flanks:
                edge = _polar(aim[lobe] - flank * wide, reach[lobe] * shoulder * rng.lognormal(0, 0.03))
                notch = _polar(aim[lobe] - flank * wide * 0.55, reach[lobe] * (shoulder - 0.03))
                tooth = [edge, notch] if teeth else [edge]
                if flank < 0:
                    corners += tooth
                    corners.append(_polar(aim[lobe], reach[lobe]))
                else:
                    corners += tooth[::-1]
            if lobe > 0:
                between = (aim[lobe] + aim[lobe - 1]) / 2
                corners.append(_polar(between, min(reach[lobe], reach[lobe - 1]) * sinus * rng.lognormal(0, 0.07)))
            tip = _polar(aim[lobe], reach[lobe] * 0.95)
            if side > 0 or lobe > 0:
                main = tip * t * [[side, 1]]
                veins.append((main, 0.014 if lobe == 0 else 0.011))
            for start in (0.3, 0.5, 0.7):
                for flank in (-28.0, 28.0):
                    branch = _polar(aim[lobe] + flank, reach[lobe] * 0.26 * (1.25 - start))
                    line = tip * start + branch * t
                    veins.append((line * [[side, 1]], 0.006))
        half = _rounded(np.concatenate(corners), rounds)
        sides.append((half[:, 0].clip(0), half[:, 1]))
    apex = len(sides[0][0]) - 1
    return LeafShape(_closed(*sides), apex, tuple(veins), _petiole(rng, petiole))


def _maple(rng: np.random.Generator, margin: str) -> LeafShape:
    several = rng.random() < 0.6
    return _palmate(
        rng,
        angles=(0, 47, 100) if several else (0, 52),
        lengths=(0.66, 0.6 * rng.lognormal(0, 0.05), 0.36)[: 3 if several else 2],
        sinus=rng.uniform(0.42, 0.6),
        spread=rng.uniform(13, 18),
        shoulder=rng.uniform(0.64, 0.74),
        teeth=True,
        rounds=1,
        petiole=0.5,
    )


def _ivy(rng: np.random.Generator, margin: str) -> LeafShape:
    if margin == "entire":  # the leaves of flowering shoots have no lobes
        return _simple(
            rng, margin, width=0.78, base=0.95, apex=1.9, widest=0.38, cordate=0.05, pairs=4, rise=1.1, reach=0.85,
            petiole=0.4,
        )  # fmt: skip
    several = rng.random() < 0.5
    return _palmate(
        rng,
        angles=(0, 52, 105) if several else (0, 65),
        lengths=(0.64, 0.47, 0.34)[: 3 if several else 2],
        sinus=rng.uniform(0.66, 0.85),
        spread=rng.uniform(17, 22),
        shoulder=rng.uniform(0.74, 0.82),
        teeth=False,
        rounds=3,
        petiole=0.4,
    )


def _ginkgo(rng: np.random.Generator, margin: str) -> LeafShape:
    open_by = rng.uniform(52, 80)
    angle = np.linspace(-open_by, open_by, 2 * POINTS - 41)
    edge = 0.012 * np.sin(angle / open_by * rng.uniform(14, 22) + rng.uniform(0, 6))
    edge += 0.02 * np.sin(angle / open_by * rng.uniform(4, 8) + rng.uniform(0, 6))
    radius = (0.72 + edge) * (1 - 0.16 * np.abs(angle / open_by) ** 3)
    deep, wide = (rng.uniform(0.3, 0.6), rng.uniform(2.5, 7)) if margin == "lobed" else (0.03, 4.0)
    radius = radius * (1 - deep * np.exp(-np.abs(angle - rng.normal(0, 3)) / wide))
    rim = _polar(angle[::-1], radius[::-1])
    t = np.linspace(0.02, 1, 20)
    hollow = 0.07 * np.sin(np.pi * t)  # the sides of the fan are slightly concave
    right = np.column_stack((rim[0, 0] * t - hollow, rim[0, 1] * t + hollow * 0.3))
    left = np.column_stack((rim[-1, 0] * t + hollow, rim[-1, 1] * t + hollow * 0.3))
    outline = np.concatenate((right, rim, left[::-1]))
    veins = []
    along = np.linspace(0.05, 0.97, 6)
    for target in np.linspace(-0.93, 0.93, 27) * open_by:
        length = np.interp(target, angle, radius)
        veins.append((_polar(target * (0.55 + 0.45 * along), length * along), 0.0055))
    return LeafShape(outline, 20 + len(rim) // 2, tuple(veins), _petiole(rng, 0.6))


# Ginkgo is hardly eaten, tough and glossy blades little, the soft ones of oak, linden and aspen most. The figures are
# plausible, not measured on real trees.
SPECIES: dict[str, Species] = {
    "aspen": Species(_aspen, {"crenate": 0.7, "entire": 0.3}, (0.36, 0.52, 0.20), 0.25, 0.20),
    "beech": Species(_beech, {"entire": 0.5, "undulate": 0.5}, (0.27, 0.45, 0.15), 0.3, 0.14),
    "birch": Species(_birch, {"serrate": 1.0}, (0.36, 0.52, 0.18), 0.2, 0.17),
    "ginkgo": Species(_ginkgo, {"entire": 0.5, "lobed": 0.5}, (0.45, 0.58, 0.20), 0.15, 0.02),
    "holly": Species(_holly, {"spiny": 0.65, "entire": 0.35}, (0.15, 0.34, 0.16), 0.8, 0.03),
    "ivy": Species(_ivy, {"lobed": 0.65, "entire": 0.35}, (0.18, 0.37, 0.17), 0.5, 0.05),
    "linden": Species(_linden, {"serrate": 0.7, "crenate": 0.3}, (0.30, 0.50, 0.20), 0.2, 0.22),
    "maple": Species(_maple, {"lobed": 1.0}, (0.33, 0.48, 0.16), 0.2, 0.14),
    "oak": Species(_oak, {"lobed": 0.75, "undulate": 0.25}, (0.28, 0.43, 0.16), 0.3, 0.24),
    "willow": Species(_willow, {"serrate": 0.5, "entire": 0.5}, (0.34, 0.48, 0.26), 0.3, 0.18),
}
