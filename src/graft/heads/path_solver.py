r"""L2-penalised linear models over a path of penalties, several problems at once, each start taken from the last
solution.

For a strength C > 0 and every problem p (a cross-validation fold, a label) with its own example weights, minimise over
the weights :math:`W_p` (r, K) and the unpenalised intercepts :math:`b_p` (K,)

.. math:: F_p(W, b) = \sum_i w_{ip} \, \ell(z_i^T W_p + b_p, y_i) + \frac{1}{2 C} \lVert W_p \rVert^2 ,

which is scikit-learn's objective divided by C. The sum over p is minimised as one convex function. One product of the
feature matrix with all the problems side by side serves them all: a fold costs its share of a large matrix product,
not a call of its own.

The method is L-BFGS (Nocedal and Wright, 2006, section 7.2) with three things added that this setting allows:

- *Preconditioning.* In the eigenbasis of the features the Hessian is close to diagonal, so the initial matrix is the
inverse of twice its exact
  diagonal :math:`\sum_i w_i h_i z_{ij}^2 + 1/C`; the factor two is the distance between the curvature here and
  Böhning's (1992) bound for the multinomial loss, and keeps first steps from overshooting.
- *The curvature survives a change of C.* The pairs keep the gradient difference of the loss alone; the penalty's part,
known exactly, is added
  for the C at hand.
- *Prediction along the path.* The next C starts where the line through the last two solutions leads, when that is
lower.

Folds differ little, so that one step length and one memory serve them all. Logits are linear in the parameters: they
are updated along with them, and a line search costs no matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from graft.heads.losses import Loss
from graft.heads.table import Table

if TYPE_CHECKING:
    import torch

# The largest Newton system (side) that is formed to finish a small problem to the last digits.
_NEWTON_SIDE = 400


@dataclass(frozen=True)
class PathPoint:
    """The solution of every problem at one strength.

    Attributes
    ----------
    parameters : Tensor (r + 1, P, K)
        Weights, and the intercepts in the last row.
    logits : Tensor (n, P, K)
        Of the training examples.
    iterations : int
        How many steps this strength took.
    """

    parameters: torch.Tensor
    logits: torch.Tensor
    iterations: int


class Design:
    """The feature matrix with a column of ones, dense or sparse, and its products with all problems at once."""

    def __init__(self, features: Table, *, dtype: torch.dtype) -> None:
        import torch

        rows = features.shape[0]
        if sparse.issparse(features):
            ones = np.ones((rows, 1))
            table = sparse.csr_matrix(sparse.hstack([features, ones]))
            self._forward = _torch_csr(table, dtype)
            self._adjoint = _torch_csr(sparse.csr_matrix(table.T), dtype)
            self._squares: torch.Tensor | None = _torch_csr(sparse.csr_matrix(table.multiply(table).T), dtype)
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
            check_invariants=False,  # SciPy's matrix is one; without a word on it torch warns the user
        )


def solve_path(
    design: Design,
    loss: Loss,
    strengths: Sequence[float | np.ndarray],
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
    strengths : sequence of float or ndarray (P,)
        C, for all problems or for each.
    problems, outputs : int
        P and K.
    tolerance : float
        Stop when the decrease that the quadratic model still promises, g' H g / 2, is below this fraction of the
        objective.
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
    penalised = torch.ones(shape, dtype=design.dtype)
    penalised[-1] = 0
    curvature = _Curvature(memory, parameters.numel(), design.dtype)
    earlier: tuple[torch.Tensor, torch.Tensor] | None = None
    # Rounding of the objective, which a line search must not take for an increase.
    slack = 10 * torch.finfo(design.dtype).eps

    for position, strength in enumerate(strengths):
        penalty = penalised / torch.as_tensor(strength, dtype=design.dtype).reshape(-1, 1)
        here = (parameters, logits)
        if earlier is not None:
            ahead = (2 * parameters - earlier[0], 2 * logits - earlier[1])
            ahead_value, ahead_prediction = loss.evaluate(ahead[1])
            if ahead_value + _half_square(penalty, ahead[0]) < value + _half_square(penalty, parameters):
                (parameters, logits), value, prediction = ahead, ahead_value, ahead_prediction
                loss_gradient = design.gradient(loss.residual(prediction))
        # The zeros before the first strength are no point of the path to extrapolate from.
        earlier = here if position > 0 else None

        diagonal = design.hessian_diagonal(loss.curvature(prediction))
        # An output of which all examples are certain has no curvature left: floored relative to its row's largest.
        inverse = 1 / (2 * diagonal + penalty + 1e-6 * diagonal.amax(dim=2, keepdim=True) + 1e-12)
        curvature.rebase(inverse.reshape(-1), penalty.reshape(-1))
        half_square = _half_square(penalty, parameters)
        gradient = torch.addcmul(loss_gradient, penalty, parameters)
        iterations = 0
        while iterations < max_iterations:
            direction = curvature.direction(gradient.reshape(-1)).view(shape)
            slope = _dot(gradient, direction)
            objective = value + half_square
            if -slope / 2 <= tolerance * abs(objective):
                break
            direction_logits = design.logits(direction)
            # The penalty along the direction is a parabola with these coefficients.
            weighted = penalty * direction
            linear, square = _dot(weighted, parameters), _dot(weighted, direction)
            length = 1.0
            for _ in range(30):
                trial_logits = torch.add(logits, direction_logits, alpha=length)
                trial_value, trial_prediction = loss.evaluate(trial_logits)
                trial_half_square = half_square + length * linear + length**2 * square / 2
                rise = trial_value + trial_half_square - objective
                if rise <= 1e-4 * length * slope + slack * abs(objective):
                    break
                # The minimiser of the parabola through the value and slope here and the value there.
                parabola = -slope * length**2 / (2 * (rise - slope * length))
                length = min(max(parabola, 0.1 * length), 0.7 * length)
            else:
                break
            step = direction * length
            parameters, logits, value, half_square = parameters + step, trial_logits, trial_value, trial_half_square
            new_gradient = design.gradient(loss.residual(trial_prediction))
            curvature.add(step.reshape(-1), (new_gradient - loss_gradient).reshape(-1))
            prediction, loss_gradient = trial_prediction, new_gradient
            gradient = torch.addcmul(loss_gradient, penalty, parameters)
            iterations += 1
        if polish and problems == 1 and design.columns * outputs <= _NEWTON_SIDE:
            parameters, logits = _newton(design, loss, penalty, parameters, logits)
            value, prediction = loss.evaluate(logits)
            loss_gradient = design.gradient(loss.residual(prediction))
        yield PathPoint(parameters, logits, iterations)


class _Curvature:
    """The inverse Hessian that L-BFGS knows, in the compact form of Byrd, Nocedal and Schnabel (1994, theorem 2.2).

    With steps S and gradient changes Y as columns, R the upper triangle of S'Y, E its diagonal, and the initial
    diagonal matrix H0: H g = H0 g + S a + H0 Y b, where t = R^-1 S'g, b = -t, a = R^-T ((E + Y'H0 Y) t - (H0 Y)'g).
    Two passes over one matrix replace the four passes over every pair of the two loops: long vectors are read once,
    and threads meet twice an iteration.
    """

    def __init__(self, memory: int, size: int, dtype: torch.dtype) -> None:
        import torch

        self._memory = memory
        self._count = 0
        self._steps = torch.zeros(memory, size, dtype=dtype)
        self._changes = torch.zeros(memory, size, dtype=dtype)
        # Rows: the steps, then the preconditioned full changes.
        self._both = torch.zeros(2 * memory, size, dtype=dtype)
        self._products = np.zeros((2 * memory, memory))

    def rebase(self, inverse: torch.Tensor, penalty: torch.Tensor) -> None:
        """Take over a new initial matrix and penalty."""
        self._inverse, self._penalty = inverse, penalty
        full = self._changes + penalty * self._steps
        self._both[: self._memory] = self._steps
        self._both[self._memory :] = full * inverse
        self._products = (self._both @ full.T).double().numpy()

    def add(self, step: torch.Tensor, change: torch.Tensor) -> None:
        """Learn a step and the change of the loss's gradient along it."""
        import torch

        full = torch.addcmul(change, self._penalty, step)
        if not float(step @ full) > 0:
            return
        memory, at = self._memory, min(self._count, self._memory - 1)
        if self._count == memory:
            self._steps = self._steps.roll(-1, 0)
            self._changes = self._changes.roll(-1, 0)
            self._both = self._both.view(2, memory, -1).roll(-1, 1).reshape(2 * memory, -1)
            self._products = np.roll(np.roll(self._products.reshape(2, memory, memory), -1, 1), -1, 2).reshape(
                -1, memory
            )
        self._count = at + 1
        self._steps[at], self._changes[at] = step, change
        self._both[at], self._both[memory + at] = step, full * self._inverse
        products = (self._both @ full).double().numpy()
        self._products[:, at] = products
        self._products[memory + at, :] = products[memory:]

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return -H g."""
        import torch
        from scipy.linalg import solve_triangular

        result = -self._inverse * gradient
        count, memory = self._count, self._memory
        if count == 0:
            return result
        along = (self._both @ gradient).double().numpy()
        upper = np.triu(self._products[:count, :count])
        squares = self._products[memory : memory + count, :count]
        t = solve_triangular(upper, along[:count])
        a = solve_triangular(upper, (np.diag(np.diag(upper)) + squares) @ t - along[memory : memory + count], trans="T")
        coefficients = np.zeros(2 * memory)
        coefficients[:count], coefficients[memory : memory + count] = -a, t
        return result.add_(torch.from_numpy(coefficients).to(gradient.dtype) @ self._both)


def _dot(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(left.reshape(-1) @ right.reshape(-1))


def _half_square(penalty: torch.Tensor, parameters: torch.Tensor) -> float:
    return 0.5 * _dot(penalty * parameters, parameters)


def _newton(
    design: Design, loss: Loss, penalty: torch.Tensor, parameters: torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the minimiser of a small problem by damped Newton steps.

    A softmax does not change when one number is added to all its intercepts: that direction has no curvature and is
    given some.
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
            if trial_objective <= objective + 1e-14 * abs(objective):
                improved = True
                break
            length /= 2
        if not improved:
            break
        parameters, logits, objective, prediction = trial, trial_logits, trial_objective, trial_prediction
        if promised <= 1e-26 * max(objective, 1e-300):
            break
    return parameters, logits
