"""What every method of reweighting returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np

from graft._checks import number
from graft.errors import DataError, RequestError


class Ratio(ABC):
    """A ratio of densities as a function of examples, up to a factor.

    Abstract: a method provides ``__call__``.
    """

    @abstractmethod
    def __call__(self, points: Any) -> np.ndarray:
        """Return the ratio (n,), nowhere below zero, of points (n, d) (of labels (n,) under label shift)."""


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of the source's examples.

    Attributes
    ----------
    method : str
        The name of the method.
    sample_weight : ndarray (n_source,)
        Not below zero, with mean one.
    parameters : mapping
        What was set and what was chosen (bandwidth, penalty, scores), as plain values.
    ratio : Ratio, optional
        For methods that define the weight of any point; `evaluate` calls it.
    scale : float
        The ratio's mean over the source: `evaluate` divides by it.
    class_weight : mapping, optional
        Under label shift: p_target(y) / p_source(y) of each class.
    """

    method: str
    sample_weight: np.ndarray
    parameters: Mapping[str, Any]
    ratio: Ratio | None = field(default=None, repr=False)
    scale: float = 1.0
    class_weight: Mapping[Any, float] | None = None

    @property
    def effective_sample_size(self) -> float:
        r"""Return :math:`(\sum_i w_i)^2 / \sum_i w_i^2`: the number of equally weighted examples that tell as much.

        (Kong, 1992; Gretton et al., 2009, section 8.3.)
        """
        return float(self.sample_weight.sum() ** 2 / (self.sample_weight**2).sum())

    def evaluate(self, points: Any) -> np.ndarray:
        """Return the weights of other examples of the source, on the scale of `sample_weight`.

        Parameters
        ----------
        points : array (m, d), or labels (m,) under label shift
            Held-out examples, for importance-weighted validation.

        Returns
        -------
        ndarray (m,)

        Raises
        ------
        RequestError
            If the method only weighs the examples that it was given.
        """
        if self.ratio is None:
            raise RequestError(
                "points",
                expected="a method that defines a ratio of densities",
                found=repr(self.method),
                remedy="Estimate the weights on all examples of the source, held-out ones included, and take the rows.",
            )
        return self.ratio(points) / self.scale

    def flattened(self, exponent: float) -> Self:
        r"""Return the weights :math:`w^\gamma`, again of mean one: less variance for some bias.

        Parameters
        ----------
        exponent : float in [0, 1]
            γ; 0 gives every example the same weight. (Shimodaira, 2000.)
        """
        number("exponent", exponent, low=0, high=1)
        powered = self.sample_weight**exponent
        mean = float(powered.mean())
        powered = powered / mean
        powered.flags.writeable = False
        return replace(
            self,
            sample_weight=powered,
            parameters={**self.parameters, "exponent": exponent},
            ratio=None if self.ratio is None else _Flattened(self.ratio, self.scale, exponent),
            scale=mean,
            class_weight=None,
        )

    def tempered(self, effective_share: float) -> Self:
        """Return the weights flattened as little as leaves this share of the source effective.

        Where the domains hardly overlap, a few examples get all the weight and a model fitted to them is worse than one
        fitted to the whole source.

        Parameters
        ----------
        effective_share : float in (0, 1]
            The least effective sample size, as a share of n_source.
        """
        number("effective_share", effective_share, low=0, high=1, open_low=True)
        least = effective_share * len(self.sample_weight)
        if self.effective_sample_size >= least:
            return self
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            if self.flattened(middle).effective_sample_size >= least:
                low = middle
            else:
                high = middle
        return self.flattened(low)


@final
@dataclass(frozen=True)
class _Flattened(Ratio):
    ratio: Ratio
    scale: float
    exponent: float

    def __call__(self, points: Any) -> np.ndarray:
        return (self.ratio(points) / self.scale) ** self.exponent


def weights_of(
    method: str,
    values: np.ndarray,
    parameters: Mapping[str, Any],
    *,
    ratio: Ratio | None = None,
    class_weight: Mapping[Any, float] | None = None,
) -> Weights:
    """Return values (n_source,) as weights of mean one.

    Raises
    ------
    DataError
        If no example keeps a weight.
    """
    values = np.maximum(values, 0)
    mean = float(values.mean())
    if not (mean > 0 and np.isfinite(mean)):
        raise DataError(
            "target",
            expected="examples where the source has some too",
            found=f"weights that are all zero or not finite ({method})",
            remedy="The domains do not overlap in these features: reweighting cannot help; align the features instead.",
        )
    sample_weight = values / mean
    sample_weight.flags.writeable = False
    return Weights(method, sample_weight, dict(parameters), ratio, mean, class_weight)
