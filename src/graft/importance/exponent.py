"""How far weights are flattened: by importance-weighted cross-validation, towards the source as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.stats import norm

from graft._checks import number
from graft.errors import DataError, RequestError
from graft.importance.two_sample import AucTest
from graft.importance.weights import Weights

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@final
@dataclass(frozen=True)
class TriedExponent:
    """One exponent and what validation says of it.

    Attributes
    ----------
    exponent : float
        γ.
    risk : float
        The importance-weighted mean of the held-out losses.
    excess : float
        By how much it exceeds the least risk.
    standard_error : float
        Of that excess, example by example.
    """

    exponent: float
    risk: float
    excess: float
    standard_error: float


@final
@dataclass(frozen=True, eq=False)
class Flattening:
    """The chosen exponent.

    Attributes
    ----------
    exponent : float
        γ.
    weights : Weights
        :math:`w^\\gamma`, of mean one; the same object that the losses of this exponent were computed for.
    tried : tuple of TriedExponent
        From the smallest exponent up; empty where nothing had to be validated.
    reason : str
        Why this exponent.
    """

    exponent: float
    weights: Weights
    tried: tuple[TriedExponent, ...]
    reason: str


def flattening(
    weights: Weights,
    held_out_losses: Callable[[Weights], Any],
    *,
    exponents: Sequence[float] = EXPONENTS,
    domains: AucTest | None = None,
    least_share: float = 0.05,
    validation_share: float = 0.25,
    confidence: float = 0.95,
) -> Flattening:
    r"""Choose the exponent γ with which weights :math:`w^\gamma` serve best.

    Full weights make the fit unbiased for the target and its variance large, none make it stable and biased; an
    exponent between 0 and 1 trades one for the other. (Shimodaira, 2000.) The trade is judged by
    importance-weighted cross-validation,

    .. math:: \hat R(\gamma) = \frac{\sum_i v_i \, \ell_i(\gamma)}{\sum_i v_i},

    :math:`\ell_i(\gamma)` the loss of source example i under a model that was fitted with :math:`w^\gamma` and did not
    see it. (Sugiyama, Krauledat and Müller, 2007; there :math:`v = w` and a plain mean.)

    Precautions, because w is an estimate:

    - The v are w flattened as little as leaves `validation_share` of the source effective; otherwise a handful of
      examples decides.
    - Of all exponents whose risk lies within one standard error of the least, the smallest is taken, the error that of
      the paired difference :math:`d_i = \ell_i(\gamma) - \ell_i(\gamma^*)`,
      :math:`\sqrt{\sum v_i^2 (d_i - \bar d)^2} / \sum v_i`.
    - The burden of proof lies with weighting: unless the source as it is (γ = 0) is worse than γ* with this confidence,
      it is taken.
    - Where less than `least_share` of the source is effective, the domains hardly overlap and γ is 0: by w itself, and
      by how well a classifier tells the domains apart (`AucTest.effective_share`), because smooth estimates of a ratio
      look flat where the ratio is not.

    Parameters
    ----------
    weights : Weights
        As they were estimated.
    held_out_losses : callable
        ``held_out_losses(w^γ)`` fits with these `Weights` and returns the losses (n_source,) of source examples held
        out of the fit; NaN for those that could not be. It is called once for each exponent, in ascending order.
    exponents : sequence of float in [0, 1]
        To choose from; 0 is always among them.
    domains : AucTest, optional
        `domain_auc` of source and target features. To be left out for weights under label shift, which need no overlap
        of the features.
    least_share : float in (0, 1]
        The effective share of the source below which nothing is weighted.
    validation_share : float in (0, 1]
        The least effective share of v.
    confidence : float in [0.5, 1)
        One-sided, of the test against γ = 0.

    Returns
    -------
    Flattening

    Raises
    ------
    DataError
        If there is not one loss for each source example.
    RequestError
        If an option is out of range.

    Examples
    --------
    A parabola to which a straight line is fitted: where the target lies decides which line is best.

    >>> import numpy as np
    >>> from graft.importance import domain_classifier, flattening
    >>> draws = np.random.default_rng(0)
    >>> source, target = draws.normal(size=(600, 1)), draws.normal(1, 0.7, size=(600, 1))
    >>> numbers = source[:, 0] ** 2 + 0.1 * draws.normal(size=600)
    >>> def losses(weights):
    ...     told = np.empty(600)
    ...     for fold in range(5):
    ...         held_out = np.arange(600) % 5 == fold
    ...         x, root = source[:, 0], np.sqrt(weights.sample_weight)
    ...         line = np.polyfit(x[~held_out], numbers[~held_out], 1, w=root[~held_out])
    ...         told[held_out] = np.polyval(line, x[held_out])
    ...     return (told - numbers) ** 2
    >>> chosen = flattening(domain_classifier(source, target), losses)
    >>> chosen.exponent >= 0.5, chosen.tried[0].excess > 0
    (True, True)
    """
    number("least_share", least_share, low=0, high=1, open_low=True)
    number("validation_share", validation_share, low=0, high=1, open_low=True)
    number("confidence", confidence, low=0.5, high=0.999999)
    if len(exponents) == 0:
        raise RequestError("exponents", expected="at least one number", found="none", remedy="Leave them out.")
    wanted = sorted({0.0, *(number("exponents", value, low=0, high=1) for value in exponents)})
    rows = len(weights.sample_weight)
    plain = weights.flattened(0.0)
    share = weights.effective_sample_size / rows
    if share < least_share:
        return Flattening(0.0, plain, (), f"the weights leave {share:.1%} of the source effective: hardly any overlap")
    if domains is not None and domains.effective_share < least_share:
        found = f"{domains.effective_share:.1%} of the source can be effective where the AUC of the domains is"
        return Flattening(0.0, plain, (), f"{found} {domains.auc:.3f}: hardly any overlap")
    if np.ptp(weights.sample_weight) < 1e-9:
        return Flattening(0.0, plain, (), "the weights are all the same")
    candidates = [plain if value == 0 else weights if value == 1 else weights.flattened(value) for value in wanted]
    table = np.stack([_checked(held_out_losses(candidate), rows) for candidate in candidates], axis=1)
    known = np.isfinite(table).all(axis=1)
    weight = weights.tempered(validation_share).sample_weight * known
    if not weight.any():
        return Flattening(0.0, plain, (), "no weighted example could be held out under every exponent")
    table = np.where(known[:, None], table, 0.0)
    share_of = weight / weight.sum()
    risks = share_of @ table
    best = int(risks.argmin())
    gaps = table - table[:, [best]]
    excess = share_of @ gaps
    errors = np.sqrt((share_of**2) @ (gaps - excess) ** 2)
    fair = excess <= errors * (1 + 1e-12)
    chosen = int(np.flatnonzero(fair)[0])
    tried = tuple(
        TriedExponent(value, float(risk), float(more), float(error))
        for value, risk, more, error in zip(wanted, risks, excess, errors, strict=True)
    )
    if excess[0] <= norm.ppf(confidence) * errors[0]:
        chosen = 0
        reason = "no weights are better than none beyond chance"
    elif chosen == best:
        reason = "the least importance-weighted risk"
    else:
        reason = f"within a standard error of the least importance-weighted risk, which exponent {wanted[best]:g} has"
    return Flattening(wanted[chosen], candidates[chosen], tried, reason)


def _checked(losses: Any, rows: int) -> np.ndarray:
    found = np.asarray(losses, dtype=np.float64)
    if found.shape != (rows,):
        raise DataError(
            "held_out_losses",
            expected=f"shape ({rows},), one loss for each source example",
            found=f"shape {found.shape}",
            remedy="Return the loss of each source example by a model that did not see it, NaN where there is none.",
        )
    return found
