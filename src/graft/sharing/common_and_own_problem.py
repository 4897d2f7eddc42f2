r"""The penalised log-loss of a common part and an own part for each task, and where it is least.

The rows of a task are kept together with the columns that occur in them. A task's logits are then one product with the
sum of both parts, and one product backwards gives the gradient of both: the cost is that of one model, not of one with
T + 1 times the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

# So many examples at zero count with those of a task in its mean.
_PRIOR_EXAMPLES = 20.0


@dataclass(frozen=True)
class TaskBlock:
    """The rows of one task, with the columns that occur in them, their shrunk mean, and where its parameters stand."""

    rows: np.ndarray
    columns: np.ndarray
    design: Any
    transposed: Any
    mean: np.ndarray
    own: slice
    own_intercept: int


@dataclass(frozen=True)
class CommonAndOwnProblem:
    """The parameters (p,) of an output are: w (d), b, then for each task v_t (its columns) and b_t."""

    blocks: list[TaskBlock]
    indicator: np.ndarray
    weight: np.ndarray
    features: int
    count: int
    center: float = 0.0

    @staticmethod
    def of(
        X: Any, codes: np.ndarray, classes: int, weight: np.ndarray, places: np.ndarray, tasks: int
    ) -> CommonAndOwnProblem:
        blocks, at = [], X.shape[1] + 1
        for place in range(tasks):
            rows = np.flatnonzero(places == place)
            part = X[rows]
            columns = np.arange(X.shape[1])
            if sparse.issparse(part):
                columns = np.unique(part.indices)
                part = part[:, columns].tocsr()
            own = slice(at, at + len(columns))
            transposed = part.T.tocsr() if sparse.issparse(part) else part.T
            heavy = weight[rows]
            mean = np.asarray(part.T @ heavy).ravel() / (heavy.sum() + _PRIOR_EXAMPLES)
            blocks.append(TaskBlock(rows, columns, part, transposed, mean, own, own.stop))
            at = own.stop + 1
        indicator = (codes == 1)[:, None] if classes == 2 else codes[:, None] == np.arange(classes)
        return CommonAndOwnProblem(blocks, indicator.astype(np.float64), weight, X.shape[1], at)

    def penalty(self, common: float, ratio: float, own_intercept: float) -> np.ndarray:
        """Return the penalty of each parameter (p,)."""
        penalty = np.full(self.count, common * ratio)
        penalty[: self.features] = common
        # The common intercept is free but for what keeps it finite.
        penalty[self.features] = 1e-6
        penalty[[block.own_intercept for block in self.blocks]] = own_intercept
        return penalty

    def images(self, parameters: np.ndarray) -> np.ndarray:
        """Return the logits (n, m) of m sets of parameters (p, m)."""
        found = np.empty((len(self.indicator), parameters.shape[1]))
        for block in self.blocks:
            both = parameters[block.columns] + parameters[block.own]
            found[block.rows] = block.design @ both
            found[block.rows] -= self.center * (block.mean @ both)
            found[block.rows] += parameters[self.features] + parameters[block.own_intercept]
        return found

    def pulled_back(self, slopes: np.ndarray, *, squares: bool = False) -> np.ndarray:
        """Return the transposed map (p, m) of (n, m); with `squares`, about that of the squared entries."""
        found = np.zeros((self.count, slopes.shape[1]))
        for block in self.blocks:
            own = slopes[block.rows]
            design = block.transposed
            if squares:
                design = design.multiply(design).tocsr() if sparse.issparse(design) else np.square(design)
            found[block.own] = design @ own
            if self.center and not squares:
                found[block.own] -= self.center * np.outer(block.mean, own.sum(axis=0))
            found[block.own_intercept] = own.sum(axis=0)
            found[block.columns] += found[block.own]
            found[self.features] += found[block.own_intercept]
        return found

    def losses(self, logits: np.ndarray) -> np.ndarray:
        """Return the log-loss of each example (n, sets), in nats, of logits (n, sets, outputs)."""
        if logits.shape[2] == 1:
            return np.logaddexp(0, logits[:, :, 0]) - self.indicator * logits[:, :, 0]
        return logsumexp(logits, axis=2) - (self.indicator[:, None] * logits).sum(axis=2)

    def calibrated(self, logits: np.ndarray) -> tuple[float, float]:
        """Return the mean log-loss of logits (n, 1, outputs) at the temperature that makes it least, and that one."""

        def loss(log_temperature: float) -> float:
            return float(self.weight @ self.losses(logits / np.exp(log_temperature))[:, 0] / self.weight.sum())

        found = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded", options={"xatol": 1e-3})
        return float(found.fun), float(np.exp(found.x))


def solve(
    problem: CommonAndOwnProblem, penalty: np.ndarray, weight: np.ndarray, start: np.ndarray | None, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters (p, sets, outputs) and logits (n, sets, outputs) of least loss, for sets of weights (n, sets).

    Newton's method, its systems solved by conjugate gradients with a diagonal preconditioner, all sets side by side:
    one pass over the features serves every one. Done when no set's gradient, in the preconditioner's norm, is larger
    than `tolerance` times the root of its total weight.
    """
    sets, outputs = weight.shape[1], problem.indicator.shape[1]
    shape = (problem.count, sets, outputs)
    heavy = penalty[:, None, None]

    def images(values: np.ndarray) -> np.ndarray:
        return problem.images(values.reshape(problem.count, -1)).reshape(-1, sets, outputs)

    def pulled_back(values: np.ndarray) -> np.ndarray:
        return problem.pulled_back(values.reshape(len(values), -1)).reshape(shape)

    def dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.einsum("psk,psk->s", one, other)

    def loss(logits: np.ndarray, square: np.ndarray) -> np.ndarray:
        return (weight * problem.losses(logits)).sum(axis=0) + square / 2

    at = np.zeros(shape) if start is None else start.copy()
    logits = images(at)
    scale = tolerance * np.sqrt(weight.sum(axis=0))
    for _ in range(60):
        if outputs == 1:
            likely = expit(logits)
            spread = weight[:, :, None] * likely * (1 - likely)
        else:
            likely = np.exp(logits - logsumexp(logits, axis=2, keepdims=True))
            spread = weight[:, :, None] * likely
        gradient = pulled_back(weight[:, :, None] * (likely - problem.indicator[:, None])) + heavy * at
        diagonal = problem.pulled_back(spread.reshape(len(spread), -1), squares=True).reshape(shape) + heavy
        first = np.sqrt(dot(gradient, gradient / diagonal))
        if (first <= scale).all():
            break

        def curvature(values: np.ndarray, spread: np.ndarray = spread, likely: np.ndarray = likely) -> np.ndarray:
            image = images(values)
            if outputs > 1:
                image = image - (likely * image).sum(axis=2, keepdims=True)
            return pulled_back(spread * image) + heavy * values

        wanted = np.maximum(np.minimum(0.1, np.sqrt(first / np.sqrt(weight.sum(axis=0)))) * first, scale / 3)
        step = _conjugate_gradients(curvature, -gradient, diagonal, wanted, dot)
        image = images(step)
        slope = dot(gradient, step)
        squares = [dot(one, heavy * other) for one, other in ((at, at), (at, step), (step, step))]
        before = loss(logits, squares[0])
        length = np.ones(sets)
        for _ in range(40):
            after = loss(
                logits + length[:, None] * image, squares[0] + 2 * length * squares[1] + length**2 * squares[2]
            )
            short = after > before + 1e-4 * length * slope + 1e-12 * np.abs(before)
            if not short.any():
                break
            length = np.where(short, length / 2, length)
        at += length[:, None] * step
        logits += length[:, None] * image
    return at, logits


def _conjugate_gradients(
    curvature: Any, right: np.ndarray, diagonal: np.ndarray, wanted: np.ndarray, dot: Any
) -> np.ndarray:
    """Return approximate solutions of one system a set; those that are done rest while others go on."""
    solution, residual = np.zeros_like(right), right.copy()
    scaled = residual / diagonal
    direction = scaled.copy()
    size = dot(residual, scaled)
    for _ in range(200):
        going = np.sqrt(size) > wanted
        if not going.any():
            break
        image = curvature(direction)
        length = np.where(going, size / np.maximum(dot(direction, image), np.finfo(np.float64).tiny), 0.0)
        solution += length[:, None] * direction
        residual -= length[:, None] * image
        scaled = residual / diagonal
        new = dot(residual, scaled)
        direction = scaled + (new / np.maximum(size, np.finfo(np.float64).tiny))[:, None] * direction
        size = new
    return solution
