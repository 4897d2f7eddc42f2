"""What insects and fungi leave of a drawn leaf, counted in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
MOST = 0.5  # no leaf loses more than half of its area
BLOBS = 60  # at most so many wounds
UNHURT = 0.15  # of the leaves of every species
# Of the beta distribution of what a hurt leaf has lost: with it, about a third of the variance of the damage lies
# between the species.
CONCENTRATION = 8.0


@dataclass(frozen=True)
class Damage:
    """The wounds of one leaf.

    Attributes
    ----------
    holes, spots : PIL.Image.Image
        Masks (mode L, 0 or 255) of what is eaten through and of what is dead but still there, at the supersampled
        size; they do not overlap.
    fraction : float
        Wounded pixels of the blade over all pixels of the blade.
    """

    holes: Any
    spots: Any
    fraction: float


def draw_damage(rng: np.random.Generator, blade: Any, outline: Array, *, mean: float) -> Damage:
    """Draw wounds on a blade until a random fraction of it is gone.

    Of some leaves nothing is gone; of the others MOST times a fraction from the beta distribution with a + b =
    CONCENTRATION.

    All candidate wounds are drawn once into an image of ranks, the first on top; the histogram of the ranks inside the
    blade then says how much the first k of them take together, for every k.

    Parameters
    ----------
    blade : PIL.Image.Image
        The mask of the whole blade (mode L, 0 or 255), supersampled.
    outline : array of shape (m, 2)
        Its outline, in pixels of that mask.
    mean : float
        The mean of the fraction over hurt leaves of the species, between 0 and MOST.
    """
    from PIL import Image, ImageDraw
    from scipy.special import betaincinv

    area = blade.histogram()[255]
    # Its rank among leaves of its species is drawn first: with another mean, the same wounds are larger or smaller.
    unhurt, rank = rng.random() < UNHURT, 1 - (1 - rng.beta(1.0, 2.6)) ** 2.6
    eats = CONCENTRATION * mean / MOST
    target = 0.0 if unhurt else MOST * float(betaincinv(eats, CONCENTRATION - eats, rank))
    count = int(rng.integers(4, 36))
    eaten = float(rng.choice([0.0, 0.5, 0.8, 1.0]))
    margin = float(rng.uniform(0, 0.7))
    radius = np.sqrt(target * area / (np.pi * count)) * rng.lognormal(0.1, 0.45, BLOBS)
    hole = rng.random(BLOBS) < eaten

    # Where: on the margin, or between two points of the outline, which is inside for most blades.
    first, second = outline[rng.integers(0, len(outline), (2, BLOBS))]
    share = np.where(rng.random(BLOBS) < margin, 0.0, rng.uniform(0.15, 0.85, BLOBS))[:, None]
    centre = first + share * (second - first)
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False) + rng.uniform(0, 6, (BLOBS, 1))
    ragged = 1 + 0.16 * np.sin(2 * turn + rng.uniform(0, 6, (BLOBS, 1)))
    ragged += 0.1 * np.sin(5 * turn) * hole[:, None] + rng.normal(0, 0.05, turn.shape)
    ring = np.stack((np.cos(turn), np.sin(turn)), axis=2) * (radius[:, None] * ragged)[:, :, None] + centre[:, None]

    ranks = Image.new("L", blade.size, 255)
    pen = ImageDraw.Draw(ranks)
    for rank in range(BLOBS - 1, -1, -1):
        pen.polygon(ring[rank].ravel().tolist(), fill=rank)
    taken = np.cumsum(ranks.histogram(blade)[:BLOBS]) / max(area, 1)
    many = int(np.argmin(np.abs(taken - target))) + 1 if target > 0 else 0
    while many and taken[many - 1] > MOST:
        many -= 1
    in_hole = [255 if rank < many and hole[min(rank, BLOBS - 1)] else 0 for rank in range(256)]
    in_spot = [255 if rank < many and not hole[min(rank, BLOBS - 1)] else 0 for rank in range(256)]
    fraction = float(taken[many - 1]) if many else 0.0
    return Damage(ranks.point(in_hole), ranks.point(in_spot), fraction)
