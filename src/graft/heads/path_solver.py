r"""L2-penalised linear models over a path of penalties, several problems at once, each start taken from the last solution.

For a strength C > 0 and every problem p (a cross-validation fold, a label) with its own example weights, minimise over the weights
:math:`W_p` (r, K) and the unpenalised intercepts :math:`b_p` (K,)

.. math:: F_p(W, b) = \sum_i w_{ip} \, \ell(z_i^T W_p + b_p, y_i) + \frac{1}{2 C} \lVert W_p \rVert^2 ,

which is scikit-learn's objective divided by C. One product of the feature matrix with all the problems side by side serves them all: a
fold costs its share of a large matrix product, not a call of its own.

The method is L-BFGS (Nocedal and Wright, 2006, algorithm 7.4) with three things added that this setting allows:

- *Preconditioning.* In the eigenbasis of the features the Hessian is close to diagonal, so the initial matrix is the inverse of twice its exact
  diagonal :math:`\sum_i w_i h_i z_{ij}^2 + 1/C`; the factor two is the distance between the curvature here and Böhning's (1992)
  bound for the multinomial loss, and keeps first steps from overshooting.
- *The curvature survives a change of C.* The pairs keep the gradient difference of the loss alone; the penalty's part, known exactly, is added
  for the C at hand.
- *Prediction along the path.* The next C starts where the line through the last two solutions leads, when that is lower.

Logits are linear in the parameters: they are updated along with them, and a line search costs no matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import torch

# The largest Newton system (side) that is formed to finish a small problem to the last digits.
_NEWTON_SIDE = 400


class Loss(ABC):
    """A loss of logits L (n, P, K) that is convex, with weights (n, P)."""

    @abstractmethod
    def evaluate(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each problem (P,) and the predictions (n, P, K) that the derivatives need."""

    @abstractmethod
    def residual(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the weighted derivative with respect to the logits, (n, P, K)."""

    @abstractmethod
    def curvature(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the weighted diagonal second derivative with respect to the logits, (n, P, K)."""

    @abstractmethod
    def hessian(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the weighted second derivatives of the only problem, (n, K, K)."""


class Multinomial(Loss):
    """Cross-entropy of a softmax over K classes.

    Parameters
    ----------
    codes : Tensor (n,)
        The class of each example, 0 to K-1.
    weight : Tensor (n, P)
        The weight of each example in each problem.
    """

    def __init__(self, codes: torch.Tensor, weight: torch.Tensor) -> None:
        self._index = codes[:, None, None].expand(-1, weight.shape[1], 1)
        self._weight = weight

    def evaluate(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        prediction = logits.softmax(dim=2)
        # log-sum-exp read off the largest entry, whose probability is 1/K or more: one pass of exponentials, no underflow.
        log_total = logits.amax(dim=2) - prediction.amax(dim=2).log()
        losses = log_total - logits.gather(2, self._index)[..., 0]
        return (losses * self._weight).sum(dim=0), prediction

    def residual(self, prediction: torch.Tensor) -> torch.Tensor:
        rest = prediction * self._weight[..., None]
        return rest.scatter_add_(2, self._index, -self._weight[..., None])

    def curvature(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction * (1 - prediction) * self._weight[..., None]

    def hessian(self, prediction: torch.Tensor) -> torch.Tensor:
        p = prediction[:, 0]
        return (p.diag_embed() - p[:, :, None] * p[:, None, :]) * self._weight[:, :, None]


class Binomial(Loss):
    """Logistic loss of one logit, K = 1: log(1 + exp(L)) - y L."""

    def __init__(self, targets: torch.Tensor, weight: torch.Tensor) -> None:
        self._targets = targets
        self._weight = weight

    def evaluate(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from torch.nn.functional import softplus

        logit = logits[..., 0]
        # softplus(-L) for y = 1 rather than softplus(L) - L: no cancellation. Its threshold is lifted to stay exact.
        losses = softplus(logit * (1 - 2 * self._targets), threshold=50)
        return (losses * self._weight).sum(dim=0), logits.sigmoid()

    def residual(self, prediction: torch.Tensor) -> torch.Tensor:
        return (prediction - self._targets[..., None]) * self._weight[..., None]

    def curvature(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction * (1 - prediction) * self._weight[..., None]

    def hessian(self, prediction: torch.Tensor) -> torch.Tensor:
        return self.curvature(prediction)


class Quadratic(Loss):
    """Half squared error to targets (n, K): the ridge path where neither rows nor columns are few."""

    def __init__(self, targets: torch.Tensor, weight: torch.Tensor) -> None:
        self._targets = targets[:, None, :]
        self._weight = weight

    def evaluate(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (0.5 * (logits - self._targets).square().sum(dim=2) * self._weight).sum(dim=0), logits

    def residual(self, prediction: torch.Tensor) -> torch.Tensor:
        return (prediction - self._targets) * self._weight[..., None]

    def curvature(self, prediction: torch.Tensor) -> torch.Tensor:
        return self._weight[..., None].expand_as(prediction)

    def hessian(self, prediction: torch.Tensor) -> torch.Tensor:
        return self.curvature(prediction).transpose(1, 2).diag_embed()[:, :, 0]


@dataclass(frozen=True)
class PathPoint:
    """The solution of every problem at one strength.

    Attributes
    ----------
    strength : float
        C.
    parameters : Tensor (r + 1, P, K)
        Weights, and the intercepts in the last row.
    logits : Tensor (n, P, K)
        Of the training examples.
    iterations : int
        How many steps this strength took.
    """

    strength: float
    parameters: torch.Tensor
    logits: torch.Tensor
    iterations: int


class Design:
    """The feature matrix with a column of ones, dense or sparse, and its products with all problems at once."""

    def __init__(self, features: np.ndarray | sparse.csr_matrix, *, dtype: torch.dtype) -> None:
        import torch

        rows = features.shape[0]
        if sparse.issparse(features):
            ones = np.ones((rows, 1))
            table = sparse.csr_matrix(sparse.hstack([features, ones]))
            self._forward = _torch_csr(table, dtype)
            self._adjoint = _torch_csr(sparse.csr_matrix(table.T), dtype)
            self._squares = _torch_csr(sparse.csr_matrix(table.multiply(table).T), dtype)
        else:
            dense = torch.from_numpy(np.ascontiguousarray(features)).to(dtype)
            self._forward = torch.cat([dense, torch.ones(rows, 1, dtype=dtype)], dim=1)
            self._adjoint = self._forward.T.contiguous()
            self._squares = None
        self.rows, self.columns = self._forward.shape
        self.dtype = dtype

    def logits(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return Z W (n, P, K) for parameters (r + 1, P, K)."""
        return (self._forward @ parameters.reshape(self.columns, -1)).view(self.rows, *parameters.shape[1:])

    def gradient(self, residual: torch.Tensor) -> torch.Tensor:
        """Return Z' R (r + 1, P, K) for residuals (n, P, K)."""
        return (self._adjoint @ residual.reshape(self.rows, -1)).view(self.columns, *residual.shape[1:])

    def hessian_diagonal(self, curvature: torch.Tensor) -> torch.Tensor:
        """Return the sum over examples of squared features times the curvature, (r + 1, P, K)."""
        squares = self._adjoint.square() if self._squares is None else self._squares
        return (squares @ curvature.reshape(self.rows, -1)).view(self.columns, *curvature.shape[1:])

    def hessian(self, second: torch.Tensor) -> torch.Tensor:
        """Return the full Hessian ((r + 1) K, (r + 1) K) of one problem from second derivatives (n, K, K)."""
        import torch

        dense = self._forward.to_dense() if self._squares is not None else self._forward
        full = torch.einsum("ij,ikl,im->jkml", dense, second, dense)
        return full.reshape(self.columns * second.shape[1], -1)


def _torch_csr(table: sparse.csr_matrix, dtype: torch.dtype) -> torch.Tensor:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(table.indptr.astype(np.int64)),
            torch.from_numpy(table.indices.astype(np.int64)),
            torch.from_numpy(table.data).to(dtype),
            size=table.shape,
        )


def solve_path(
    design: Design,
    loss: Loss,
    strengths: Sequence[float],
    *,
    problems: int,
    outputs: int,
    tolerance: float,
    start: torch.Tensor | None = None,
    memory: int = 6,
    max_iterations: int = 500,
    polish: bool = False,
) -> Iterator[PathPoint]:
    """Solve all problems at each strength, in the order given (increasing strengths warm-start well).

    Parameters
    ----------
    design : Design
        The features.
    loss : Loss
        With as many weight columns as there are problems.
    strengths : sequence of float
        C.
    problems, outputs : int
        P and K.
    tolerance : float
        Stop when the decrease that the quadratic model still promises, g' H g / 2, is below this fraction of F for every problem.
    start : Tensor (r + 1, P, K), optional
        Where to start; zero by default.
    memory : int
        Pairs kept by L-BFGS.
    max_iterations : int
        Per strength.
    polish : bool
        Finish one small problem by Newton steps to the last digits.

    Yields
    ------
    PathPoint
    """
    import torch

    shape = (design.columns, problems, outputs)
    parameters = torch.zeros(shape, dtype=design.dtype) if start is None else start.to(design.dtype).clone()
    logits = design.logits(parameters)
    value, prediction = loss.evaluate(logits)
    loss_gradient = design.gradient(loss.residual(prediction))
    penalised = torch.ones(design.columns, 1, 1, dtype=design.dtype)
    penalised[-1] = 0
    steps: list[torch.Tensor] = []
    changes: list[torch.Tensor] = []
    earlier: tuple[torch.Tensor, torch.Tensor] | None = None
    # Rounding of the objective, which a line search must not take for an increase.
    slack = 10 * torch.finfo(design.dtype).eps

    for position, strength in enumerate(strengths):
        penalty = penalised / strength
        here = (parameters, logits)
        if earlier is not None:
            ahead = (2 * parameters - earlier[0], 2 * logits - earlier[1])
            lower = loss.evaluate(ahead[1])[0] + _half_square(penalty, ahead[0]) < value + _half_square(
                penalty, parameters
            )
            parameters = torch.where(lower[None, :, None], ahead[0], parameters)
            logits = torch.where(lower[None, :, None], ahead[1], logits)
            value, prediction = loss.evaluate(logits)
            loss_gradient = design.gradient(loss.residual(prediction))
        if position > 0 or start is None:
            earlier = here if position > 0 else None

        # An output without curvature left (all examples certain) would make the intercept's row zero: floored relative to its scale.
        diagonal = design.hessian_diagonal(loss.curvature(prediction))
        inverse = 1 / (2 * diagonal + penalty + 1e-6 * diagonal.amax(dim=(0, 2), keepdim=True) + 1e-12)
        objective = value + _half_square(penalty, parameters)
        iterations = 0
        pairs = [_pair(step, change, penalty) for step, change in zip(steps, changes, strict=True)]
        while iterations < max_iterations:
            gradient = loss_gradient + penalty * parameters
            direction = _two_loops(gradient, pairs, inverse)
            slope = -_dot(gradient, direction)
            promised = -slope / 2
            if bool((promised <= tolerance * objective.abs()).all()):
                break
            direction = -direction
            direction_logits = design.logits(direction)
            length = torch.ones(problems, dtype=design.dtype)
            for _ in range(30):
                trial = parameters + length[None, :, None] * direction
                trial_logits = logits + length[None, :, None] * direction_logits
                trial_value, trial_prediction = loss.evaluate(trial_logits)
                trial_objective = trial_value + _half_square(penalty, trial)
                rise = trial_objective - objective
                bad = rise > 1e-4 * length * slope + slack * objective.abs()
                if not bool(bad.any()):
                    break
                # The minimiser of the parabola through the value and slope here and the value there.
                parabola = -slope * length.square() / (2 * (rise - slope * length)).clamp_min(1e-30)
                length = torch.where(bad, parabola.clamp(min=0.1 * length, max=0.7 * length), length)
            else:
                break
            new_gradient = design.gradient(loss.residual(trial_prediction))
            step, change = trial - parameters, new_gradient - loss_gradient
            steps, changes = [*steps[1 - memory :], step], [*changes[1 - memory :], change]
            pairs = [*pairs[1 - memory :], _pair(step, change, penalty)]
            parameters, logits, value, objective = trial, trial_logits, trial_value, trial_objective
            prediction, loss_gradient = trial_prediction, new_gradient
            iterations += 1
        if polish and problems == 1 and design.columns * outputs <= _NEWTON_SIDE:
            parameters, logits = _newton(design, loss, penalty, parameters, logits)
            value, prediction = loss.evaluate(logits)
            loss_gradient = design.gradient(loss.residual(prediction))
        yield PathPoint(float(strength), parameters, logits, iterations)


def _dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left * right).sum(dim=(0, 2))


def _half_square(penalty: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    return 0.5 * (penalty * parameters.square()).sum(dim=(0, 2))


def _pair(
    step: torch.Tensor, change: torch.Tensor, penalty: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a step, the gradient's change along it at this penalty, and the inverse of their product (0 to skip it)."""
    full = change + penalty * step
    product = _dot(step, full)
    usable = product > 1e-30
    return step, full, usable / product.where(usable, 1)


def _two_loops(gradient: torch.Tensor, pairs: list, inverse: torch.Tensor) -> torch.Tensor:
    direction = gradient.clone()
    along = []
    for step, change, reciprocal in reversed(pairs):
        amount = reciprocal * _dot(step, direction)
        direction.addcmul_(change, amount[None, :, None], value=-1)
        along.append(amount)
    direction *= inverse
    for (step, change, reciprocal), amount in zip(pairs, reversed(along), strict=True):
        rest = amount - reciprocal * _dot(change, direction)
        direction.addcmul_(step, rest[None, :, None])
    return direction


def _newton(
    design: Design, loss: Loss, penalty: torch.Tensor, parameters: torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the minimiser of a small problem by damped Newton steps.

    A softmax does not change when one number is added to all its intercepts: that direction has no curvature and is given some.
    """
    import torch

    outputs = parameters.shape[2]
    flat_penalty = penalty.expand_as(parameters).reshape(-1)
    value, prediction = loss.evaluate(logits)
    objective = value + _half_square(penalty, parameters)
    for _ in range(50):
        gradient = (design.gradient(loss.residual(prediction)) + penalty * parameters).reshape(-1)
        hessian = design.hessian(loss.hessian(prediction)) + flat_penalty.diag()
        scale = hessian.diagonal()[-outputs:].mean()
        if outputs > 1:
            hessian[-outputs:, -outputs:] += scale / outputs
        hessian.diagonal().add_(1e-14 * hessian.diagonal().amax())
        step, info = torch.linalg.solve_ex(hessian, gradient)
        if int(info) != 0 or not bool(torch.isfinite(step).all()):
            break
        promised = float(gradient @ step)
        direction = -step.view_as(parameters)
        direction_logits = design.logits(direction)
        length = 1.0
        improved = False
        for _ in range(30):
            trial, trial_logits = parameters + length * direction, logits + length * direction_logits
            trial_value, trial_prediction = loss.evaluate(trial_logits)
            trial_objective = trial_value + _half_square(penalty, trial)
            if float(trial_objective) <= float(objective) + 1e-14 * abs(float(objective)):
                improved = True
                break
            length /= 2
        if not improved:
            break
        parameters, logits, objective, prediction = trial, trial_logits, trial_objective, trial_prediction
        if promised <= 1e-26 * max(float(objective), 1e-300):
            break
    return parameters, logits
