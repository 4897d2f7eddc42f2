"""Optimal transport: its laws, its limits, and agreement with trusted solvers."""

from __future__ import annotations

import doctest
import warnings

import numpy as np
import ot
import pytest
from scipy import sparse
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment, linprog
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.alignment import transport
from graft.alignment.transport import PLANS, LinearTransport, OptimalTransport
from graft.alignment.transport_plan import class_plan, entropic_plan, exact_plan, neighborly_plan, squared_costs
from graft.persistence import assemble, dismantle

# fit_transform returns the source, moved. A plan that is blurred by entropy moves it even onto itself, so that this is
# not what transform returns, which is for target inputs and leaves them where they are.
MOVES = "the transformed source is not the transformed target, and transform is for the target"
EXPECTED = {"check_transformer_general": MOVES, "check_transformer_data_not_an_array": MOVES}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        OptimalTransport(),
        OptimalTransport("entropic"),
        OptimalTransport("class", iterations=2),
        OptimalTransport("laplacian", iterations=3),
    ],
    expected_failed_checks=lambda estimator: EXPECTED if estimator.plan in ("entropic", "class") else {},
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([LinearTransport(), LinearTransport(shrinkage=0.0)])
def test_scikit_learn_contract_of_the_linear_map(estimator, check):
    check(estimator)


def samples(rows=40, columns=3, seed=0):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(rows, columns)), draws.normal(size=(rows, columns)) @ np.diag([2.0, 1, 0.5]) + 1


def test_exact_plan_of_equal_sizes_is_the_assignment():
    source, target = samples(60)
    costs = squared_costs(source, target)
    rows, columns = linear_sum_assignment(costs)
    plan = exact_plan(costs) * 60
    np.testing.assert_allclose(plan[rows, columns], 1)
    assert np.count_nonzero(plan) == 60
    moved = OptimalTransport().fit(source, target=target).transform_source(source)
    np.testing.assert_allclose(moved, target[columns])


def test_exact_plan_of_different_sizes_is_the_linear_program():
    source, target = samples(9)
    costs = squared_costs(source, target[:6])
    marginals = np.vstack([np.kron(np.eye(9), np.ones(6)), np.kron(np.ones(9), np.eye(6))])
    least = linprog(costs.ravel(), A_eq=marginals, b_eq=[1 / 9] * 9 + [1 / 6] * 6).fun
    plan = exact_plan(costs)
    assert (plan * costs).sum() == pytest.approx(least)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 6)


def test_costs_are_squared_distances_in_units_of_their_mean():
    source, target = samples(7)
    expected = ((source[:, None] - target[None, :5]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_costs(source + 1e4, target[:5] + 1e4), expected / expected.mean(), rtol=1e-9)
    np.testing.assert_array_equal(squared_costs(np.ones((3, 2)), np.ones((4, 2))), 0)


def test_entropic_plan_has_the_form_of_its_optimum():
    source, target = samples(15)
    costs = squared_costs(source, target[:11])
    plan = entropic_plan(costs, 0.2)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 15, atol=1e-6)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 11, atol=1e-6)
    # log γ + C / ε is a number for the row plus one for the column, and nothing else.
    rest = np.log(plan) + costs / 0.2
    rest = rest - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True) + rest.mean()
    np.testing.assert_allclose(rest, 0, atol=1e-8)


def test_entropic_plan_approaches_the_exact_one():
    costs = squared_costs(*samples(20))
    least = (exact_plan(costs) * costs).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        above = [(entropic_plan(costs, entropy) * costs).sum() - least for entropy in (1.0, 0.1, 0.01, 0.002)]
    assert above[0] > above[1] > above[2] > above[3] > -1e-4
    assert above[3] < 1e-3
    moved = OptimalTransport("entropic", entropy=1e3).fit(*samples(20)[:1], target=samples(20)[1])
    np.testing.assert_allclose(moved.images_, np.tile(samples(20)[1].mean(axis=0), (20, 1)), atol=1e-2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::UserWarning")
def test_both_ways_to_scale_give_one_plan():
    # Far apart and near each other: with and without logarithms on either side of the limit.
    costs = squared_costs(*samples(12))
    costs /= (costs - costs.min(axis=1, keepdims=True)).max()
    plain, logarithms = entropic_plan(costs, 1 / 190), entropic_plan(costs, 1 / 260)
    middle = ot.sinkhorn(np.full(12, 1 / 12), np.full(12, 1 / 12), costs, 1 / 260, method="sinkhorn_log", stopThr=1e-10)
    np.testing.assert_allclose(logarithms, middle, atol=1e-4)
    assert (plain * costs).sum() > (logarithms * costs).sum()
    assert np.isfinite(plain).all()


def test_class_plan_is_that_of_the_library():
    source, target = samples(24)
    target = target[:18]
    codes = np.arange(24) % 3
    costs = squared_costs(source, target)
    # Its penalty is not divided by the number of target examples: the same one at another strength and floor.
    ours = class_plan(costs, codes, entropy=0.1, strength=0.5 * np.sqrt(18), iterations=5, floor=18e-3)
    theirs = ot.da.sinkhorn_lpl1_mm(
        np.full(24, 1 / 24),
        codes,
        np.full(18, 1 / 18),
        costs,
        0.1,
        eta=0.5,
        numItermax=6,
        numInnerItermax=5000,
        stopInnerThr=1e-10,
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_class_plan_gathers_the_mass_of_few_classes():
    source, target = samples(60, seed=2)
    codes = np.arange(60) % 3
    costs = squared_costs(source, target)

    def purity(strength):
        plan = class_plan(costs, codes, entropy=0.1, strength=strength, iterations=10)
        shares = np.eye(3)[codes].T @ plan * 60
        return shares.max(axis=0).mean()

    assert purity(0.0) + 0.1 < purity(1.0) <= 1 + 1e-6
    np.testing.assert_allclose(
        class_plan(costs, codes, entropy=0.1, strength=0.0, iterations=3), entropic_plan(costs, 0.1), atol=1e-12
    )


def test_laplacian_plan_is_that_of_the_library():
    source, target = samples(30, seed=12)
    target = target[:20]
    unit = np.sqrt(((source[:, None] - target) ** 2).sum(axis=2).mean())
    ours = neighborly_plan(source, target, strength=0.7, n_neighbors=3, iterations=20)
    theirs = ot.da.emd_laplace(
        np.full(30, 1 / 30),
        np.full(20, 1 / 20),
        source / unit,
        target / unit,
        squared_costs(source, target),
        sim="knn",
        sim_param=3,
        eta=0.7 * 25,
        alpha=30 / 50,
        numItermax=20,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_laplacian_plan_without_strength_is_exact_and_with_it_smoother():
    source, target = samples(30, seed=3)
    plans = [neighborly_plan(source, target, strength=s, n_neighbors=3, iterations=30) for s in (0.0, 1.0)]
    np.testing.assert_allclose(plans[0], exact_plan(squared_costs(source, target)), atol=1e-9)
    near = ((source[:, None] - source[None]) ** 2).sum(axis=2).argsort(axis=1)[:, 1:4]

    def roughness(plan):
        images = 30 * plan @ target
        return ((images[:, None] - images[near]) ** 2).sum()

    assert roughness(plans[1]) < 0.8 * roughness(plans[0])


@pytest.mark.parametrize("plan", ["exact", "laplacian"])
def test_identical_domains_stay_in_place(plan):
    source = samples(30)[0]
    y = np.arange(30) % 2
    moved = OptimalTransport(plan, strength=1e-3).fit(source, y, target=source[::-1])
    np.testing.assert_allclose(moved.transform_source(source), source, atol=1e-9)
    new = samples(10, seed=5)[0]
    np.testing.assert_allclose(moved.transform_source(new), new, atol=1e-9)


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.3])
def test_linear_map_leaves_identical_domains_in_place(shrinkage):
    source = np.hstack([samples(30)[0], np.ones((30, 1))])
    moved = LinearTransport(shrinkage=shrinkage).fit(source, target=source[::-1])
    np.testing.assert_allclose(moved.transform_source(source), source, atol=1e-6)


@pytest.mark.parametrize("shrinkage", [None, 0.3])
def test_linear_map_of_few_examples_is_that_of_whole_covariances(shrinkage):
    """With fewer examples than columns it is computed in their span, and has to be the same."""
    draws = np.random.default_rng(4)
    source, target = draws.normal(size=(12, 40)), draws.normal(size=(9, 40)) * draws.uniform(0.3, 3, 40) + 1
    spreads = []
    for rows in (source - source.mean(axis=0), target - target.mean(axis=0)):
        share = ledoit_wolf_shrinkage(rows, assume_centered=True) if shrinkage is None else shrinkage
        whole = rows.T @ rows / len(rows)
        spreads.append((1 - share) * whole + share * np.trace(whole) / 40 * np.eye(40))
    root = sqrtm(spreads[0])
    expected = np.linalg.inv(root) @ sqrtm(root @ spreads[1] @ root) @ np.linalg.inv(root)
    found = LinearTransport(shrinkage=shrinkage).fit(source, target=target).matrix_
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_linear_map_of_few_examples_is_finite_without_shrinkage():
    draws = np.random.default_rng(5)
    moved = LinearTransport(shrinkage=0.0).fit_transform(
        draws.normal(size=(30, 200)), target=draws.normal(size=(20, 200))
    )
    assert np.isfinite(moved).all()


def test_linear_map_takes_one_gaussian_to_the_other():
    source, target = samples(50, seed=4)
    model = LinearTransport(shrinkage=0.0).fit(source, target=target)
    moved = model.transform_source(source)
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), atol=1e-6)
    # Of all maps that do, the gradient of a convex function is the one that moves least: symmetric, positive.
    np.testing.assert_allclose(model.matrix_, model.matrix_.T)
    assert np.linalg.eigvalsh(model.matrix_)[0] > 0
    back = LinearTransport(shrinkage=0.0).fit(target, target=source)
    np.testing.assert_allclose(back.transform_source(moved), source, atol=1e-6)


def test_linear_map_moves_less_than_another_that_matches_the_covariance():
    source, target = samples(50, seed=6)
    target = target @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = LinearTransport(shrinkage=0.0).fit(source, target=target).transform_source(source)
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(source.T))).T
    other = (source - source.mean(axis=0)) @ whiten @ np.linalg.cholesky(np.cov(target.T)).T + target.mean(axis=0)
    np.testing.assert_allclose(np.cov(other.T), np.cov(target.T), atol=1e-9)
    assert ((moved - source) ** 2).sum() < ((other - source) ** 2).sum()


@pytest.mark.parametrize("model", [*(OptimalTransport(plan) for plan in PLANS), LinearTransport()], ids=repr)
def test_order_of_examples_and_place_and_scale_do_not_matter(model):
    source, target = samples(30, seed=7)
    y = np.array(["ash", "elm"])[(source[:, 0] > 0).astype(int)]
    draws = np.random.default_rng(1)
    here, there = draws.permutation(30), draws.permutation(25)
    target = target[:25]
    moved = model.fit(source, y, target=target).transform_source(source)
    again = model.fit(source[here], y[here], target=target[there]).transform_source(source)
    np.testing.assert_allclose(again, moved, atol=1e-5)
    larger = model.fit(100 * source + 7, y, target=100 * target + 7).transform_source(100 * source + 7)
    np.testing.assert_allclose(larger, 100 * moved + 7, atol=1e-2)
    np.testing.assert_array_equal(model.transform(target), target)


def test_new_source_inputs_follow_their_nearest_neighbour_and_equal_ones_stay_together():
    source, target = samples(20, seed=8)
    source[1] = source[0]
    model = OptimalTransport().fit(source, target=target)
    moved = model.transform_source(source)
    np.testing.assert_array_equal(moved[0], moved[1])
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0))
    np.testing.assert_allclose(model.transform_source(source[5:6] + 1e-6), moved[5:6] + 1e-6)


def test_labelled_target_inputs_receive_from_their_class():
    draws = np.random.default_rng(9)
    y = np.repeat([-1, 1], 30)
    source = draws.normal(size=(60, 2)) * 0.3 + y[:, None] * [2, 0]
    # Turned by more than a quarter of a circle: the nearest class is the wrong one.
    turned = source @ np.array([[-0.3, 0.95], [-0.95, -0.3]])
    given = np.where(np.arange(60) % 10, y, np.nan)
    plain = OptimalTransport("class").fit(source, y, target=turned)
    told = OptimalTransport("class").fit(source, y, target=turned, target_labels=given)
    goal = turned[y == 1].mean(axis=0)

    def distance(model):
        return np.linalg.norm(model.transform_source(source[y == 1]).mean(axis=0) - goal)

    assert distance(told) < 0.5 * distance(plain)


@pytest.mark.parametrize("model", [*(OptimalTransport(plan) for plan in PLANS), LinearTransport()], ids=repr)
def test_single_precision_constant_columns_sparse_inputs_and_untouched_arrays(model):
    source, target = (np.hstack([part, np.ones((len(part), 1))]) for part in samples(30, seed=10))
    y = np.arange(30) % 3
    target = target[:20]
    for part in (source, target, y):
        part.setflags(write=False)
    moved = model.fit(source, y, target=target).transform_source(source)
    np.testing.assert_allclose(moved[:, 3], 1, atol=1e-6)
    thin = model.fit(sparse.csr_matrix(source), y, target=sparse.csr_matrix(target))
    np.testing.assert_allclose(thin.transform_source(sparse.csr_matrix(source)), moved, atol=1e-9)
    single = model.fit(source.astype(np.float32), y, target=target.astype(np.float32))
    assert single.transform_source(source.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(single.transform_source(source.astype(np.float32)), moved, atol=1e-3)
    same = model.fit(np.ones((5, 2)), [0, 1, 0, 1, 0], target=np.full((4, 2), 3.0))
    np.testing.assert_allclose(same.transform_source(np.ones((5, 2))), 3)


def test_examples_in_the_documentation():
    assert doctest.testmod(transport).failed == 0


@pytest.mark.parametrize("model", [OptimalTransport(), LinearTransport()], ids=repr)
def test_saved_and_loaded_it_maps_alike(model):
    source, target = samples()
    tensors = {}
    plain = dismantle(model.fit(source, target=target), "model", tensors)
    again = assemble(plain, tensors, {type(model).__name__: type(model)})
    np.testing.assert_array_equal(again.transform_source(source + 1), model.transform_source(source + 1))


def test_sinkhorn_says_when_it_has_not_converged():
    draws = np.random.default_rng(11)
    with pytest.warns(ConvergenceWarning, match="larger entropy"):
        entropic_plan(squared_costs(draws.normal(size=(40, 1)), draws.normal(size=(41, 1)) ** 3), 1e-6)


@pytest.mark.parametrize(
    ("options", "subject"),
    [({"plan": "sinkhorn"}, "plan"), ({"entropy": 0.0}, "entropy"), ({"strength": -1.0}, "strength")],
)
def test_options_out_of_range(options, subject):
    source, target = samples()
    with pytest.raises(ValueError, match=subject):
        OptimalTransport(**options).fit(source, target=target)
    with pytest.raises(ValueError, match="shrinkage"):
        LinearTransport(shrinkage=1.5).fit(source, target=target)
