"""The small problems behind the aggregators, against a general solver, and what the papers say of their solutions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from graft.balancing import MGDA, CAGrad, ConFIG, DualProj, FairGrad, NashMTL, SDMGrad, UPGrad
from graft.balancing.bargaining import fair_lengths
from graft.balancing.quadratic import dual_cone_weights, min_norm_weights, nonnegative_minimum

SEEDS = pytest.mark.parametrize("seed", range(6))


def gradients(seed, tasks=None, dim=None):
    draws = np.random.default_rng(seed)
    tasks = tasks or int(draws.integers(2, 6))
    return draws.standard_normal((tasks, dim or int(draws.integers(2, 8)))) * draws.uniform(0.3, 3, (tasks, 1))


def on_simplex(value, count):
    best = None
    for start in [np.full(count, 1 / count), *(0.9 * np.eye(count) + 0.1 / count)]:
        found = minimize(
            value,
            start,
            method="SLSQP",
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 500},
        )
        best = found if best is None or found.fun < best.fun else best
    return best.x, best.fun


def nearest_in_cone(matrix, point):
    found = minimize(
        lambda d: ((d - point) ** 2).sum() / 2,
        np.zeros(len(point)),
        jac=lambda d: d - point,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda d: matrix @ d, "jac": lambda d: matrix},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x


def of(method, matrix):
    return method(torch.from_numpy(matrix)).numpy()


@SEEDS
def test_mgda_is_the_shortest_vector_of_the_hull(seed):
    matrix = gradients(seed)
    _, value = on_simplex(lambda w: ((w @ matrix) ** 2).sum(), len(matrix))
    found = of(MGDA(), matrix)
    assert (found**2).sum() <= value + 1e-8
    # The law of the nearest point: every other point of the hull lies behind it.
    assert (matrix @ found >= (found**2).sum() - 1e-9).all()


@SEEDS
@pytest.mark.parametrize("preference", [0.1, 1.0, 10.0])
def test_sdmgrad_is_the_shortest_vector_of_the_shifted_hull(seed, preference):
    matrix = gradients(seed)
    mean = matrix.mean(axis=0)
    _, value = on_simplex(lambda w: ((w @ matrix + preference * mean) ** 2).sum(), len(matrix))
    found = of(SDMGrad(preference=preference), matrix) * (1 + preference)
    assert (found**2).sum() <= value * (1 + 1e-7) + 1e-8


@SEEDS
@pytest.mark.parametrize("radius", [0.1, 0.5, 0.9, 2.0])
def test_cagrad_serves_the_worst_off_task_best(seed, radius):
    """The problem over directions has the value of its dual, which a general solver minimizes over the simplex."""
    matrix = gradients(seed)
    mean = matrix.mean(axis=0)
    size = radius * np.linalg.norm(mean)
    _, dual = on_simplex(lambda w: w @ matrix @ mean + size * np.sqrt(((w @ matrix) ** 2).sum() + 1e-20), len(matrix))
    found = of(CAGrad(radius=radius), matrix)
    assert np.linalg.norm(found - mean) <= size * (1 + 1e-8)
    assert (matrix @ found).min() >= dual - 1e-5 * (matrix**2).sum()


@SEEDS
def test_dual_projections_are_the_nearest_points_of_the_cone(seed):
    matrix = gradients(seed)
    np.testing.assert_allclose(of(DualProj(), matrix), nearest_in_cone(matrix, matrix.mean(axis=0)), atol=1e-5)
    each = np.mean([nearest_in_cone(matrix, row) for row in matrix], axis=0)
    np.testing.assert_allclose(of(UPGrad(), matrix), each, atol=1e-5)


@SEEDS
def test_the_nash_solution_maximizes_the_product_of_gains(seed):
    matrix = gradients(seed, tasks=3, dim=6)
    found = of(NashMTL(max_norm=1.0), matrix)
    best = minimize(
        lambda d: -np.log(np.maximum(matrix @ d, 1e-12)).sum(),
        found + 0.05 * np.random.default_rng(seed).standard_normal(6),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda d: 1 - d @ d},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.linalg.norm(found) == pytest.approx(1.0)
    assert -np.log(matrix @ found).sum() <= best.fun + 1e-8
    np.testing.assert_allclose(found, best.x, atol=1e-4)


@SEEDS
@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0, 5.0])
def test_the_fair_solution_solves_its_equation(seed, alpha):
    matrix = gradients(seed, tasks=4, dim=6)
    weights = FairGrad(alpha=alpha).weights(torch.from_numpy(matrix @ matrix.T)).numpy()
    np.testing.assert_allclose(matrix @ matrix.T @ weights, weights ** (-1 / alpha), rtol=1e-7)


def test_fairness_goes_from_the_sum_to_equal_gains():
    matrix = torch.from_numpy(gradients(1, tasks=3, dim=6))
    torch.testing.assert_close(FairGrad(alpha=1e-4)(matrix), matrix.sum(dim=0), rtol=1e-2, atol=1e-2)
    gains = matrix @ FairGrad(alpha=200.0)(matrix)
    torch.testing.assert_close(gains, gains.mean().expand(3), rtol=2e-2, atol=0)


@SEEDS
def test_fair_solutions_for_norms_far_apart(seed):
    matrix = gradients(seed, tasks=5, dim=9)
    cosines = matrix @ matrix.T / np.outer(*[np.linalg.norm(matrix, axis=1)] * 2)
    for power in (0.2, 0.5, 1.0, 3.0):
        gains = np.logspace(-2, 2, 5)
        found = fair_lengths(cosines, np.log(gains), power=power, ridge=1e-12)
        np.testing.assert_allclose(cosines @ found, gains * found**-power, rtol=1e-6)


@SEEDS
def test_config_is_the_pseudoinverse_of_unit_gradients_at_work(seed):
    matrix = gradients(seed)
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    best = np.linalg.pinv(units) @ np.ones(len(matrix))
    best /= np.linalg.norm(best)
    np.testing.assert_allclose(of(ConFIG(), matrix), (matrix @ best).sum() * best, atol=1e-9)


def test_cagrad_of_radius_0_is_the_mean_and_a_larger_ball_serves_the_worst_better():
    matrix = gradients(3, tasks=4, dim=6)
    np.testing.assert_allclose(of(CAGrad(radius=0.0), matrix), matrix.mean(axis=0))
    worst = [(matrix @ of(CAGrad(radius=radius), matrix)).min() for radius in (0.0, 0.1, 0.5, 1.0, 3.0)]
    assert (np.diff(worst) > 0).all()


@pytest.mark.parametrize("seed", range(200))
def test_nonnegative_minima_fulfil_their_conditions(seed):
    """Complementarity on systems of any rank, with duplicates and opposites, and on several sides at once."""
    draws = np.random.default_rng(seed)
    size = int(draws.integers(1, 13))
    factor = draws.standard_normal((size, int(draws.integers(1, size + 2))))
    if size > 2 and seed % 3 == 0:
        factor[0], factor[1] = factor[-1], -factor[-1]
    factor /= np.maximum(np.linalg.norm(factor, axis=1, keepdims=True), 1e-12)
    hessian = factor @ factor.T + 1e-9 * np.eye(size)
    # Sides in the range of the Hessian: elsewhere solutions are as large as what was added is small.
    linear = draws.standard_normal((3, size)) @ hessian
    found = nonnegative_minimum(hessian, linear)
    gradient = found @ hessian - linear
    scale = 1 + np.abs(found).max()
    assert (found >= 0).all()
    assert (gradient >= -1e-9 * scale).all()
    assert np.abs(found * gradient).max() <= 1e-8 * scale**2


@pytest.mark.parametrize("seed", range(60))
def test_hulls_of_any_shape(seed):
    draws = np.random.default_rng(seed)
    tasks = int(draws.integers(1, 12))
    points = draws.standard_normal((tasks, int(draws.integers(1, 8)))) + draws.uniform(0, 2)
    points *= 10.0 ** draws.integers(-4, 5, size=(tasks, 1))
    weights = min_norm_weights(points @ points.T, ridge=1e-12)
    nearest = weights @ points
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    norms = np.linalg.norm(points, axis=1)
    assert (points @ nearest - nearest @ nearest >= -1e-6 * norms * max(np.linalg.norm(nearest), norms.min())).all()


def test_two_tasks_have_closed_forms():
    first, second = np.array([1.0, 0.0]), np.array([-1.0, 2.0])
    matrix = np.stack([first, second])
    # Nearest point of a segment: its foot, here 3/4 g1 + 1/4 g2.
    np.testing.assert_allclose(min_norm_weights(matrix @ matrix.T, ridge=1e-12), [0.75, 0.25], atol=1e-9)
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = units[0] @ units[1]
    np.testing.assert_allclose(
        dual_cone_weights(units @ units.T + 1e-12 * np.eye(2), np.eye(2)), [[1, -cosine], [-cosine, 1]], atol=1e-9
    )
