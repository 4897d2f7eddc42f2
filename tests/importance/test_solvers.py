"""The convex problems behind the methods, held against direct solvers and brute force."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from graft.importance import bbse, kliep, kmm, rulsif, ulsif
from graft.importance.box_budget import BoxBudget, Quadratic, residual
from graft.importance.box_budget import minimize as minimize_box
from graft.importance.density_ratio import _Fits
from graft.importance.domain_pair import domain_pair, gaussian, squared_distances
from graft.importance.label_shift import _norm_penalized
from graft.importance.mixture import mixture_proportions
from graft.importance.single_precision import products


def kernel_problem(seed: int, rows: int = 40, ridge: float = 0.01):
    draws = np.random.default_rng(seed)
    points, target = draws.normal(size=(rows, 2)), draws.normal(0.7, 1, size=(rows, 2))
    quadratic = gaussian(squared_distances(points, points), 1.0) + ridge * np.eye(rows)
    return quadratic, gaussian(squared_distances(points, target), 1.0).sum(axis=1)


SETS = [(1000.0, 0.1), (2.0, 0.1), (1.5, 0.0), (3.0, 1.0)]


@pytest.mark.parametrize(("upper", "slack"), SETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_box_and_budget_solver_agrees_with_a_direct_one(seed, upper, slack):
    quadratic, linear = kernel_problem(seed)
    n = len(linear)
    allowed = BoxBudget(upper, n * (1 - slack), n * (1 + slack))
    found = minimize_box(Quadratic(quadratic), linear, allowed)
    assert found.residual < 1e-8
    assert residual(Quadratic(quadratic), linear, found.point, allowed) == pytest.approx(found.residual)
    direct = minimize(
        lambda w: (0.5 * w @ quadratic @ w - linear @ w, quadratic @ w - linear),
        np.ones(n),
        jac=True,
        method="SLSQP",
        bounds=[(0, upper)] * n,
        constraints=[LinearConstraint(np.ones(n), allowed.low, allowed.high)],
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    objective = 0.5 * found.point @ quadratic @ found.point - linear @ found.point
    assert objective <= direct.fun + 1e-7 * abs(direct.fun)
    np.testing.assert_allclose(found.point, direct.x, atol=5e-3)


@pytest.mark.parametrize("rows", [300, 1500])
@pytest.mark.parametrize("columns", [1, 2, 30])
def test_the_solver_reaches_optimality_on_ill_conditioned_kernels(rows, columns):
    draws = np.random.default_rng(rows)
    source, target = draws.normal(size=(rows, columns)), draws.normal(0.5, 1, size=(200, columns))
    assert kmm(source, target).parameters["residual"] < 1e-5
    assert kmm(source, target, tolerance=1e-9).parameters["residual"] < 1e-9
    assert kmm(source, target, ridge=1e-3, upper=5.0, tolerance=1e-6).parameters["residual"] < 1e-6


@pytest.mark.parametrize("columns", [1, 3, 100])
def test_kernel_matching_in_single_precision_agrees_with_the_exact_solution(columns):
    draws = np.random.default_rng(columns)
    source, target = draws.normal(size=(700, columns)), draws.normal(0.3, 1, size=(400, columns))
    target[0] *= 30  # an outlier
    quick, exact = kmm(source, target), kmm(source, target, tolerance=1e-11)
    assert exact.parameters["residual"] < 1e-11
    np.testing.assert_allclose(quick.sample_weight, exact.sample_weight, atol=1e-4)


def test_kernel_matching_solves_its_formula():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(50, 3)), draws.normal(0.7, 1, size=(40, 3))
    found = kmm(source, target, bandwidth=1.5, ridge=0.5, slack=0.1, upper=3.0, standardize=False)
    kernel = gaussian(squared_distances(source, source), 1.5)
    right = 50 * gaussian(squared_distances(source, target), 1.5).mean(axis=1)
    direct = minimize(
        lambda w: (
            0.5 * w @ kernel @ w - right @ w + 0.25 * ((w - 1) ** 2).sum(),
            kernel @ w - right + 0.5 * (w - 1),
        ),
        np.ones(50),
        jac=True,
        method="SLSQP",
        bounds=[(0, 3)] * 50,
        constraints=[LinearConstraint(np.ones(50), 45, 55)],
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    np.testing.assert_allclose(found.sample_weight, direct.x / direct.x.mean(), atol=1e-4)


@pytest.mark.parametrize("lower", [0.0, -1.0])
def test_projection_with_another_lower_bound_is_the_moved_projection(lower):
    point = np.random.default_rng(0).normal(1, 3, size=10)
    plain = BoxBudget(2.0, 9.0, 11.0).project(point)
    moved = BoxBudget(2.0 + lower, 9.0 + 10 * lower, 11.0 + 10 * lower, lower=lower).project(point + lower)
    np.testing.assert_allclose(moved, plain + lower, atol=1e-12)


def test_projection_on_box_and_budget():
    draws = np.random.default_rng(0)
    for _ in range(50):
        allowed = BoxBudget(float(draws.uniform(1, 4)), 9.0, 11.0)
        point = draws.normal(1, 3, size=10)
        nearest = allowed.project(point)
        assert nearest.min() >= 0
        assert nearest.max() <= allowed.upper
        assert 9 - 1e-9 <= nearest.sum() <= 11 + 1e-9
        # Nearest: no feasible point lies at an acute angle.
        for other in allowed_points(draws, allowed):
            assert (point - nearest) @ (other - nearest) < 1e-8


def allowed_points(draws, allowed, count: int = 30):
    while count:
        point = draws.uniform(0, allowed.upper, size=10)
        point *= draws.uniform(allowed.low, allowed.high) / point.sum()
        if point.max() <= allowed.upper:
            count -= 1
            yield point


@pytest.mark.parametrize("seed", range(4))
def test_mixture_proportions_agree_with_a_direct_solver(seed):
    draws = np.random.default_rng(seed)
    table = draws.gamma(0.5, size=(60, 12)) + 1e-3
    found = mixture_proportions(table, tolerance=1e-10)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0
    direct = minimize(
        lambda b: (-np.log(table @ b).mean(), -(table / (table @ b)[:, None]).mean(axis=0)),
        np.full(12, 1 / 12),
        jac=True,
        method="SLSQP",
        bounds=[(1e-12, 1)] * 12,
        constraints=[LinearConstraint(np.ones(12), 1, 1)],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert -np.log(table @ found).mean() <= direct.fun + 1e-9
    np.testing.assert_allclose(found, direct.x, atol=1e-4)


def test_kliep_is_certified_optimal_and_keeps_its_constraint():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(200, 2)), draws.normal(0.6, 1, size=(150, 2))
    found = kliep(source, target)
    assert found.scale == pytest.approx(1, abs=1e-9)  # the source mean of the ratio, before normalisation
    flat = kliep(source, source).parameters["log_likelihood"]
    assert flat == pytest.approx(0, abs=1e-5)
    assert found.parameters["log_likelihood"] > 0.05


@pytest.mark.parametrize("columns", [1, 3, 10])
def test_held_out_scores_of_bandwidths_do_not_exceed_the_divergence(columns):
    draws = np.random.default_rng(columns)
    source, target = draws.normal(size=(800, columns)), draws.normal(size=(800, columns))
    flat = [one["score"] for one in kliep(source, target).parameters["tried"]]
    assert max(flat) < 0.03
    target[:, 0] += 0.8
    moved = [one["score"] for one in kliep(source, target).parameters["tried"]]
    assert 0.03 < max(moved) < 0.32 + 0.08  # 0.8^2 / 2 nats, and twice a standard error
    assert moved[0] < max(moved)  # the narrowest sees noise


@pytest.mark.parametrize("relative", [0.0, 0.3])
def test_leave_one_out_equals_refitting(relative):
    draws = np.random.default_rng(1)
    source, target = draws.uniform(size=(25, 6)), draws.uniform(0.2, 1.2, size=(18, 6))
    penalty = 0.05
    tables = [np.hstack([np.ones((len(t), 1)), t]) for t in (source, target)]
    shrink = penalty * np.diag([0.0] + [1.0] * 6)

    def fitted(source_weight, target_weight):
        matrix = (1 - relative) * (tables[0].T * source_weight) @ tables[0]
        matrix += relative * (tables[1].T * target_weight) @ tables[1] + shrink
        return np.linalg.solve(matrix, tables[1].T @ target_weight)

    weights = np.full(25, 1 / 25), np.full(18, 1 / 18)
    coefficients, constant = _Fits.of(source, target, relative).coefficients(penalty)
    np.testing.assert_allclose(fitted(*weights), [constant, *coefficients], atol=1e-10)

    def without(weight, row):
        changed = weight.copy()
        changed[row] = 0
        return changed

    at_source = np.array([max(tables[0][i] @ fitted(without(weights[0], i), weights[1]), 0) for i in range(25)])
    at_target = np.array([max(tables[1][j] @ fitted(weights[0], without(weights[1], j)), 0) for j in range(18)])
    brute = 0.5 * (1 - relative) * (at_source**2).mean() + 0.5 * relative * (at_target**2).mean() - at_target.mean()
    assert _Fits.of(source, target, relative).leave_one_out(penalty) == pytest.approx(brute, abs=1e-10)


def test_the_least_squares_ratio_solves_its_normal_equations():
    draws = np.random.default_rng(2)
    source, target = draws.normal(size=(80, 2)), draws.normal(0.5, 1, size=(60, 2))
    found = rulsif(source, target, relative=0.2, bandwidth=1.0, penalties=[0.1])
    pair = domain_pair(source, target)
    kernels = [
        np.hstack([np.ones((len(t), 1)), gaussian(squared_distances(t, found.ratio.centers), 1.0)])
        for t in (pair.source, pair.target)
    ]
    matrix = 0.8 / 80 * kernels[0].T @ kernels[0] + 0.2 / 60 * kernels[1].T @ kernels[1]
    matrix += 0.1 * np.diag([0.0] + [1.0] * 60)
    direct = np.maximum(kernels[0] @ np.linalg.solve(matrix, kernels[1].mean(axis=0)), 0)
    np.testing.assert_allclose(found.sample_weight, direct / direct.mean(), atol=1e-8)


def test_the_plain_ratio_is_the_relative_one_without_mixing():
    draws = np.random.default_rng(2)
    source, target = draws.normal(size=(80, 2)), draws.normal(0.5, 1, size=(60, 2))
    np.testing.assert_array_equal(
        ulsif(source, target).sample_weight, rulsif(source, target, relative=0.0).sample_weight
    )
    assert rulsif(source, target, relative=0.5).ratio(source).max() < 2.5


@pytest.mark.parametrize("penalty", [0.001, 0.02, 0.3])
def test_norms_penalised_by_norms_agree_with_a_direct_solver(penalty):
    draws = np.random.default_rng(4)
    matrix, right = draws.uniform(size=(4, 4)) + np.eye(4), draws.normal(size=4) / 5
    found = _norm_penalized(matrix, right, penalty)

    def objective(theta):
        return np.linalg.norm(matrix @ theta - right) + penalty * np.linalg.norm(theta)

    starts = [np.zeros(4), found, np.linalg.solve(matrix, right)]
    direct = min(
        minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 5000}).fun
        for start in starts
    )
    assert objective(found) <= direct + 1e-8


def test_shift_estimation_solves_its_linear_system():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, size=600)
    told = np.eye(3)[np.where(draws.random(600) < 0.8, labels, draws.integers(0, 3, size=600))]
    target = np.eye(3)[draws.choice(3, p=[0.5, 0.3, 0.2], size=500)]
    confusion = told.T @ np.eye(3)[labels] / 600
    direct = np.linalg.solve(confusion, target.mean(axis=0))
    assert direct.min() > 0
    found = bbse(labels, told, target)
    np.testing.assert_allclose(list(found.class_weight.values()), direct, rtol=1e-9)


@pytest.mark.parametrize("columns", [64, 258])
def test_products_in_single_precision_are_those_of_double(columns):
    torch = pytest.importorskip("torch")
    draws = np.random.default_rng(0)
    left, right = draws.normal(size=(1500, columns)), draws.normal(size=(2000, columns))
    singles = left.astype(np.float32), right.astype(np.float32)
    multiply = products(*singles)
    if torch.backends.mkldnn.is_available():
        assert multiply.__name__ == "by_torch"
    np.testing.assert_allclose(multiply(singles[0][100:300], singles[1][50:]), left[100:300] @ right[50:].T, atol=1e-3)


def test_products_do_not_follow_a_user_who_wants_torch_to_be_less_exact():
    torch = pytest.importorskip("torch")
    draws = np.random.default_rng(0)
    left, right = (draws.normal(size=(1500, 64)).astype(np.float32) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = products(left, right)(left, right)
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(found, left.astype(np.float64) @ right.T.astype(np.float64), atol=1e-3)
