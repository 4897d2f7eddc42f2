"""Noise for the drawn leaves: periodic fractal tiles, made once, of which every picture takes crops."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Array = np.ndarray
TILES = {"cloud": 2.6, "grain": 1.6, "grit": 0.7}  # exponent of the power law: large forms, mottling, fine grain


@lru_cache(maxsize=12)
def _tile(kind: str, size: int) -> Array:
    """Return a periodic tile (2 size, 2 size) of noise with spectrum 1 / f**exponent, mean 0 and variance 1."""
    side = 2 * size
    rng = np.random.default_rng(list(TILES).index(kind))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]) * side
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * frequency ** (-TILES[kind] / 2)
    spectrum[0, 0] = 0.0
    tile = np.fft.irfft2(spectrum, s=(side, side))
    tile = (tile / tile.std()).astype(np.float32)
    return np.pad(tile, ((0, size), (0, size)), mode="wrap")


def noise(rng: np.random.Generator, kind: str, size: int) -> Array:
    """Return a random crop (size, size) of the noise of `kind`, mirrored and turned at random."""
    row, column = rng.integers(0, 2 * size, 2)
    crop = _tile(kind, size)[row : row + size, column : column + size]
    if rng.random() < 0.5:
        crop = crop[::-1]
    return crop.T if rng.random() < 0.5 else crop
