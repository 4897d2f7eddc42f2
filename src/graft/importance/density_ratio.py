"""Direct estimation of the ratio of densities by a sum of kernels: KLIEP, uLSIF and RuLSIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from graft._checks import integer, number
from graft.importance.domain_pair import (
    Scaling,
    deal_folds,
    domain_pair,
    drawn_rows,
    gaussian,
    median_distance,
    squared_distances,
)
from graft.importance.mixture import mixture_proportions
from graft.importance.weights import Ratio, Weights, weights_of

# Of the median distance. In many dimensions all distances are alike, and only widths near the median tell anything.
BANDWIDTHS = (0.25, 0.4, 0.6, 1.0, 1.5)
PENALTIES = tuple(float(f"{value:.4g}") for value in np.logspace(-3, 1, 9))
_FOLDS = 5


@final
@dataclass(frozen=True)
class KernelRatio(Ratio):
    r"""The ratio :math:`\max(0, c + \sum_l \theta_l \, k(x, c_l))`."""

    scaling: Scaling
    centers: Any
    bandwidth: float
    coefficients: np.ndarray
    constant: float

    def __call__(self, points: Any) -> np.ndarray:
        kernel = gaussian(squared_distances(self.scaling.place(points), self.centers), self.bandwidth)
        return np.maximum(self.constant + kernel @ self.coefficients, 0)


def _widths(bandwidth: float | None, median: float) -> list[float]:
    if bandwidth is not None:
        return [number("bandwidth", bandwidth, low=0, open_low=True)]
    return [factor * median for factor in BANDWIDTHS]


def kliep(
    source: Any,
    target: Any,
    *,
    bandwidth: float | None = None,
    centers: int = 200,
    standardize: bool = True,
    tolerance: float = 1e-6,
    random_state: int = 0,
) -> Weights:
    r"""Kullback-Leibler importance estimation.

    Maximises :math:`\frac{1}{n_t} \sum_j \log r(z_j)` over :math:`r(x) = \theta_0 + \sum_l \theta_l k(x, c_l)`,
    :math:`\theta \ge 0`, subject to :math:`\frac{1}{n_s} \sum_i r(x_i) = 1`; the centres are target examples.
    (Sugiyama, Suzuki, Nakajima, Kashima, von Bünau and Kawanabe, 2008, equations 9 and 10 and figure 1.)

    With :math:`\beta_l = \theta_l \, \frac{1}{n_s} \sum_i k(x_i, c_l)` this is the maximum likelihood of mixture
    proportions, whose maximiser is approached by Newton's method on the positive proportions instead of the paper's
    projected gradient; it stops when the likelihood is proven to lie within `tolerance` of the maximum. The constant
    :math:`\theta_0` is ours: with it identical samples get exactly flat weights.

    The bandwidth maximises :math:`\frac{1}{n_t} \sum_j \log r(z_j) - \frac{1}{n_s} \sum_i r(x_i) + 1`, a bound of the
    divergence from below, over examples of both domains that the fit did not see. The paper holds out the target only,
    which rewards narrow kernels where the source happens to have few examples.

    A sum of kernels that are all counted positively follows a slope of the log ratio only where the bandwidth is of the
    order of the slope's own length; in tens of dimensions distances are much longer, and the weights stay nearly flat.
    `ulsif`, whose coefficients have signs, serves there.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    bandwidth : float, optional
        σ of the Gaussian kernel; by default chosen among fractions of the median distance.
    centers : int
        The largest number of target examples that carry a kernel.
    standardize : bool
        Divide each column by its standard deviation.
    tolerance : float
        On the mean log likelihood, in nats.
    random_state : int
        Draws the centres and deals the folds.

    Returns
    -------
    Weights

    Raises
    ------
    DataError
        If a sample cannot be used, or the domains do not overlap at all.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import kliep
    >>> draws = np.random.default_rng(0)
    >>> weights = kliep(draws.normal(size=(300, 1)), draws.normal(0.5, 1, size=(300, 1)))
    >>> bool(weights.evaluate([[1.0]]) > weights.evaluate([[-1.0]]))
    True
    """
    integer("centers", centers, low=1)
    number("tolerance", tolerance, low=0, open_low=True)
    pair = domain_pair(source, target, standardize=standardize)
    widths = _widths(bandwidth, median_distance(pair))
    places = drawn_rows(pair.given_target, centers, random_state)
    chosen_rows = pair.target[places]
    source_distances = squared_distances(pair.source, chosen_rows)
    target_distances = squared_distances(pair.target, chosen_rows)
    folds = [deal_folds(given, _FOLDS, random_state) for given in (pair.given_source, pair.given_target)]
    logs, levels = np.zeros((len(widths), pair.sizes[1])), np.ones((len(widths), pair.sizes[0]))
    for row, sigma in enumerate(widths if len(widths) > 1 else []):
        for one in range(_FOLDS):
            inside = [fold == one for fold in folds]
            if not all(mask.any() and not mask.all() for mask in inside):
                continue
            # A kernel on a held-out example would find it again.
            apart = ~inside[1][places]
            table, means = _mixture(source_distances[~inside[0]][:, apart], target_distances[:, apart], sigma)
            # Between bandwidths the likelihoods differ by far more than this.
            part = mixture_proportions(table[~inside[1]], tolerance=max(tolerance, 1e-4))
            logs[row, inside[1]] = np.log(np.maximum(table[inside[1]] @ part, 1e-300))
            kernel = gaussian(source_distances[inside[0]][:, apart], sigma)
            levels[row, inside[0]] = part[0] + kernel @ (part / means)[1:]
    scores = logs.mean(axis=1) - levels.mean(axis=1) + 1
    # The widest kernel that is not clearly worse than the best, example by example: narrow ones make spiky weights.
    best = int(scores.argmax())
    errors = (logs - logs[best]).var(axis=1) / logs.shape[1] + (levels - levels[best]).var(axis=1) / levels.shape[1]
    fair = scores[best] - scores <= np.sqrt(errors)
    sigma = widths[int(np.flatnonzero(fair)[-1])]
    table, means = _mixture(source_distances, target_distances, sigma)
    proportions = mixture_proportions(table, tolerance=tolerance)
    coefficients = proportions / means
    ratio = KernelRatio(pair.scaling, chosen_rows, sigma, coefficients[1:], float(coefficients[0]))
    values = ratio.constant + gaussian(source_distances, sigma) @ ratio.coefficients
    parameters = {
        "bandwidth": sigma,
        "centers": len(coefficients) - 1,
        "log_likelihood": float(np.log(table @ proportions).mean()),
        "tried": [{"bandwidth": w, "score": float(s)} for w, s in zip(widths, scores, strict=True)],
    }
    return weights_of("kliep", values, parameters, ratio=ratio)


def _mixture(source_distances: np.ndarray, target_distances: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the components' densities at the target (n_target, b + 1) and the kernels' source means (b + 1,).

    Component 0 is the constant. A kernel without any source example under it has no finite density: it is kept out by
    a mean of infinity.
    """
    means = gaussian(source_distances, sigma).mean(axis=0)
    means = np.where(means > 1e-12, means, np.inf)
    table = gaussian(target_distances, sigma) / means
    return np.hstack([np.ones((len(table), 1)), table]), np.concatenate([[1.0], means])


def ulsif(
    source: Any,
    target: Any,
    *,
    bandwidth: float | None = None,
    penalties: Sequence[float] = PENALTIES,
    centers: int = 200,
    standardize: bool = True,
    random_state: int = 0,
) -> Weights:
    r"""Unconstrained least-squares importance fitting: `rulsif` with α = 0, the plain ratio.

    (Kanamori, Hido and Sugiyama, 2009, section 3.) See `rulsif` for the formula and where it departs from the paper.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    bandwidth : float, optional
        σ of the Gaussian kernel; by default chosen by leave-one-out.
    penalties : sequence of float
        λ to try.
    centers : int
        The largest number of target examples that carry a kernel.
    standardize : bool
        Divide each column by its standard deviation.
    random_state : int
        Draws the centres.

    Returns
    -------
    Weights

    Raises
    ------
    DataError
        If a sample cannot be used, or the domains do not overlap at all.

    Examples
    --------
    >>> import numpy as np
    >>> from graft.importance import ulsif
    >>> draws = np.random.default_rng(0)
    >>> weights = ulsif(draws.normal(size=(300, 1)), draws.normal(0.5, 1, size=(300, 1)))
    >>> bool(weights.evaluate([[1.0]]) > weights.evaluate([[-1.0]]))
    True
    """
    return _least_squares("ulsif", source, target, 0.0, bandwidth, penalties, centers, standardize, random_state)


def rulsif(
    source: Any,
    target: Any,
    *,
    relative: float = 0.1,
    bandwidth: float | None = None,
    penalties: Sequence[float] = PENALTIES,
    centers: int = 200,
    standardize: bool = True,
    random_state: int = 0,
) -> Weights:
    r"""Relative unconstrained least-squares importance fitting.

    Estimates :math:`r_\alpha(x) = p_t(x) / (\alpha p_t(x) + (1 - \alpha) p_s(x))`, which never exceeds 1/α, by
    :math:`r(x) = \theta_0 + \sum_l \theta_l k(x, c_l)` with

    .. math:: \hat\theta = (H + \lambda P)^{-1} h, \quad
        H = \tfrac{\alpha}{n_t} \Phi_t^\top \Phi_t + \tfrac{1 - \alpha}{n_s} \Phi_s^\top \Phi_s, \quad
        h = \tfrac{1}{n_t} \Phi_t^\top 1

    and P the identity without the constant's entry. (Yamada, Suzuki, Kanamori, Hachiya and Sugiyama, 2013, equations 6
    and 7.) The papers have no constant; with it, unpenalised, identical samples get exactly flat weights.

    Bandwidth and λ minimise :math:`\frac{1}{2} \int r^2 q - \int r \, p_t`, q the mixture, with each example judged by
    the fit that leaves it out. Leaving out example i takes :math:`a \phi_i \phi_i^\top` from H (a = α/n_t or
    (1 - α)/n_s; the others keep their weight), so that with :math:`q_i = \phi_i^\top (H + \lambda P)^{-1} \phi_i`

    .. math:: r_{-i}(x_i) = \frac{r(x_i)}{1 - a q_i} \;\text{(source)}, \qquad
        r_{-j}(z_j) = \frac{r(z_j) - q_j / n_t}{1 - a q_j} \;\text{(target)}

    by the Sherman-Morrison identity: one eigendecomposition per bandwidth serves every λ and every example. The papers
    leave out pairs, one example of each domain; here every example counts. They cut negative coefficients, here the
    ratio is cut at zero.

    Parameters
    ----------
    source : array or sparse matrix (n_source, d)
        Features of the source.
    target : array or sparse matrix (n_target, d)
        Features of the target.
    relative : float in [0, 1)
        α.
    bandwidth : float, optional
        σ of the Gaussian kernel; by default chosen by leave-one-out.
    penalties : sequence of float
        λ to try.
    centers : int
        The largest number of target examples that carry a kernel.
    standardize : bool
        Divide each column by its standard deviation.
    random_state : int
        Draws the centres.

    Returns
    -------
    Weights
        Of the relative ratio.

    Raises
    ------
    DataError
        If a sample cannot be used, or the domains do not overlap at all.
    """
    number("relative", relative, low=0, high=0.999)
    return _least_squares("rulsif", source, target, relative, bandwidth, penalties, centers, standardize, random_state)


def _least_squares(
    method: str,
    source: Any,
    target: Any,
    relative: float,
    bandwidth: float | None,
    penalties: Sequence[float],
    centers: int,
    standardize: bool,
    random_state: int,
) -> Weights:
    integer("centers", centers, low=1)
    strengths = [number("penalties", value, low=0, open_low=True) for value in penalties]
    pair = domain_pair(source, target, standardize=standardize)
    widths = _widths(bandwidth, median_distance(pair))
    places = drawn_rows(pair.given_target, centers, random_state)
    chosen_rows = pair.target[places]
    source_distances = squared_distances(pair.source, chosen_rows)
    target_distances = squared_distances(pair.target, chosen_rows)
    best: tuple[float, float, float] | None = None
    tried = []
    for sigma in widths:
        fits = _Fits.of(gaussian(source_distances, sigma), gaussian(target_distances, sigma), relative)
        for penalty in strengths:
            score = fits.leave_one_out(penalty)
            tried.append({"bandwidth": sigma, "penalty": penalty, "score": score})
            if best is None or score < best[0]:
                best = score, sigma, penalty
    assert best is not None
    score, sigma, penalty = best
    kernel = gaussian(source_distances, sigma)
    fits = _Fits.of(kernel, gaussian(target_distances, sigma), relative)
    coefficients, constant = fits.coefficients(penalty)
    ratio = KernelRatio(pair.scaling, chosen_rows, sigma, coefficients, constant)
    parameters = {"bandwidth": sigma, "penalty": penalty, "relative": relative, "score": score, "tried": tried}
    return weights_of(method, constant + kernel @ coefficients, parameters, ratio=ratio)


@final
@dataclass(frozen=True)
class _Fits:
    """Everything that one bandwidth's fits of all penalties share.

    The unpenalised constant is eliminated by centring the kernels about their mean in the mixture; it returns as the
    one added to every ratio and to every q.
    """

    mean: np.ndarray  # (b,), of the kernels in the mixture
    values: np.ndarray  # (b,), eigenvalues of the kernels' covariance in the mixture
    vectors: np.ndarray  # (b, b)
    right: np.ndarray  # (b,), mean of the centred kernels in the target, in the eigenvectors
    source: np.ndarray  # (n_source, b), centred kernels in the eigenvectors
    target: np.ndarray  # (n_target, b)
    relative: float

    @classmethod
    def of(cls, source_kernel: np.ndarray, target_kernel: np.ndarray, relative: float) -> _Fits:
        """Return the shared parts of kernels (n_source, b) and (n_target, b)."""
        mean = relative * target_kernel.mean(axis=0) + (1 - relative) * source_kernel.mean(axis=0)
        source, target = source_kernel - mean, target_kernel - mean
        covariance = (1 - relative) / len(source) * (source.T @ source)
        if relative:
            covariance += relative / len(target) * (target.T @ target)
        values, vectors = np.linalg.eigh(covariance)
        right = target.mean(axis=0) @ vectors
        return cls(mean, np.maximum(values, 0), vectors, right, source @ vectors, target @ vectors, relative)

    def coefficients(self, penalty: float) -> tuple[np.ndarray, float]:
        """Return the kernels' coefficients (b,) and the constant."""
        kernels = self.vectors @ (self.right / (self.values + penalty))
        return kernels, float(1 - self.mean @ kernels)

    def leave_one_out(self, penalty: float) -> float:
        """Return the score of the fits that leave each example out."""
        inverse = 1 / (self.values + penalty)
        source_ratio = 1 + self.source @ (self.right * inverse)
        target_ratio = 1 + self.target @ (self.right * inverse)
        source_reach = 1 + self.source**2 @ inverse
        target_reach = 1 + self.target**2 @ inverse
        weight = (1 - self.relative) / len(self.source), self.relative / len(self.target)
        source_left = np.maximum(source_ratio / (1 - weight[0] * source_reach), 0)
        target_left = np.maximum((target_ratio - target_reach / len(self.target)) / (1 - weight[1] * target_reach), 0)
        return float(
            0.5 * weight[0] * (source_left @ source_left)
            + 0.5 * weight[1] * (target_left @ target_left)
            - target_left.mean()
        )
