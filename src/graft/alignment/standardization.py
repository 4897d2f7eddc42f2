"""Each domain's columns to mean zero and deviation one: the moments of a batch normalisation, on features."""

from __future__ import annotations

from typing import final

import numpy as np

from graft.alignment.alignment import Alignment, DomainPair


@final
class DomainStandardization(Alignment):
    r"""Standardises each domain by its own means and deviations.

    .. math:: z = (x - m_D) / s_D, \qquad \text{then, with unit length, } z / \lVert z \rVert

    for a domain D. Columns without variance in a domain are zero there. What Li, Wang, Shi, Liu and Hou (2017,
    Revisiting batch normalization for practical domain adaptation) do in every layer of a network, on its features.

    Parameters
    ----------
    unit_length : bool
        Divide every row by its length afterwards: what is left is its direction, which says what an input is.

    Attributes
    ----------
    source_mean_, source_scale_, target_mean_, target_scale_ : ndarray (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from graft.alignment import DomainStandardization
    >>> source = np.random.default_rng(0).normal(size=(60, 3))
    >>> aligned = DomainStandardization().fit(source, target=5 * source + 1)
    >>> bool(np.allclose(aligned.transform_source(source), aligned.transform(5 * source + 1)))
    True
    """

    def __init__(self, *, unit_length: bool = True) -> None:
        self.unit_length = unit_length

    @property
    def _needs_labels(self) -> bool:
        return False

    def _solve(self, pair: DomainPair) -> int:
        self.source_mean_, self.source_scale_ = _moments(pair.source)
        self.target_mean_, self.target_scale_ = _moments(pair.target)
        return pair.source.shape[1]

    def _map_source(self, features: np.ndarray) -> np.ndarray:
        return self._placed((features - self.source_mean_) / self.source_scale_)

    def _map_target(self, features: np.ndarray) -> np.ndarray:
        return self._placed((features - self.target_mean_) / self.target_scale_)

    def _placed(self, standardised: np.ndarray) -> np.ndarray:
        if not self.unit_length:
            return standardised
        lengths = np.linalg.norm(standardised, axis=1, keepdims=True)
        return standardised / np.where(lengths > 0, lengths, 1.0)


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the deviation (d,) of each column; the latter infinite where there is no variance."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    magnitude = np.maximum(np.abs(mean), scale)
    return mean, np.where(scale > 1e-10 * np.maximum(magnitude, np.finfo(np.float64).tiny), scale, np.inf)
