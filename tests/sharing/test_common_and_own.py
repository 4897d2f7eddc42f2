"""Linear models with a common and an own part: closed forms, limits, brute force, scikit-learn, and real tasks."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from graft.errors import DataError, RequestError
from graft.sharing import CommonAndOwnLogistic, CommonAndOwnRidge

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZES = (9, 14, 5)
FIXED = {"common": 0.7, "own": 3.0, "own_intercept": 2.0, "standardize": False}


def table(seed=0, d=3, sizes=SIZES):
    draws = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(len(sizes)), sizes)
    X = draws.normal(size=(len(tasks), d))
    own = draws.normal(size=(len(sizes), d)) * 0.5
    y = np.einsum("nd,nd->n", X, 1.0 + own[tasks]) + draws.normal(size=len(sizes))[tasks] + draws.normal(size=len(X))
    order = draws.permutation(len(X))
    return X[order], y[order], tasks[order]


def augmented(X, tasks, count, common=0.7, own=3.0, own_intercept=2.0):
    """Daumé's features, scaled so that one penalty of 1 serves all; the last column is the common intercept."""
    parts = [X / np.sqrt(common)]
    for task in range(count):
        mine = (tasks == task)[:, None]
        parts += [mine * X / np.sqrt(own), mine / np.sqrt(own_intercept)]
    return np.hstack([*parts, np.ones((len(X), 1))])


def by_hand(X, y, tasks, asked_X, asked_tasks, weight=None):
    wide, penalty = augmented(X, tasks, 3), np.ones(3 + 4 * 3 + 1)
    penalty[-1] = 0
    weight = np.ones(len(y)) if weight is None else weight
    solved = np.linalg.solve(wide.T @ (weight[:, None] * wide) + np.diag(penalty), wide.T @ (weight * y))
    return augmented(asked_X, asked_tasks, 3) @ solved


def test_ridge_is_the_solution_of_the_augmented_system():
    X, y, tasks = table()
    weight = np.random.default_rng(5).uniform(0.2, 3, len(y))
    Z, _, asked = table(seed=1)
    model = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=tasks, sample_weight=weight)
    np.testing.assert_allclose(model.predict(Z, tasks=asked), by_hand(X, y, tasks, Z, asked, weight), rtol=1e-9)
    nobody = np.full(len(Z), 99)
    np.testing.assert_allclose(model.predict(Z, tasks=nobody), by_hand(X, y, tasks, Z, nobody, weight), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(Z), model.predict(Z, tasks=nobody))


def test_ridge_leaves_out_exactly():
    X, y, tasks = table()
    found = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=tasks).out_of_fold_
    for row in range(len(y)):
        rest = np.arange(len(y)) != row
        one = by_hand(X[rest], y[rest], tasks[rest], X[[row]], tasks[[row]])[0]
        assert found[row] == pytest.approx(one, rel=1e-8)


def test_ridge_leaves_groups_out_exactly():
    X, y, tasks = table()
    draws = np.random.default_rng(3)
    groups, weight = draws.integers(8, size=len(y)), draws.uniform(0.2, 3, len(y))
    model = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=tasks, sample_weight=weight, groups=groups)
    several = 0
    for group in np.unique(groups):
        left, rest = groups == group, groups != group
        several += len(set(tasks[left])) > 1
        found = by_hand(X[rest], y[rest], tasks[rest], X[left], tasks[left], weight[rest])
        np.testing.assert_allclose(model.out_of_fold_[left], found, rtol=1e-8)
    assert several > 2  # groups of several tasks
    alone = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=tasks, sample_weight=weight)
    own = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=tasks, sample_weight=weight, groups=np.arange(len(y)))
    np.testing.assert_allclose(own.out_of_fold_, alone.out_of_fold_, rtol=1e-8)
    np.testing.assert_array_equal(model.coef_, alone.coef_)


def test_what_groups_share_is_not_taken_for_what_tasks_share():
    """Each group has a feature of its own, and a label: a weak penalty recalls the others of a group, nothing else."""
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    X = np.eye(30)[groups] + 0.01 * draws.normal(size=(120, 30))
    tasks = np.tile(["a", "b"], 60)
    number, code = draws.normal(size=30)[groups], (draws.normal(size=30) > 0)[groups]
    for model, y in ((CommonAndOwnRidge(standardize=False), number), (CommonAndOwnLogistic(), code)):
        apart, together = (clone(model).fit(X, y, tasks=tasks, groups=one) for one in (None, groups))
        assert together.strengths_["common"] > 10 * apart.strengths_["common"]
    with pytest.raises(DataError, match="groups"):
        CommonAndOwnRidge().fit(X, number, tasks=tasks, groups=groups[:-1])
    with pytest.raises(DataError, match="one group"):
        CommonAndOwnLogistic().fit(X, code, tasks=tasks, groups=np.zeros(120))


def test_ridge_with_integer_weights_is_ridge_with_copies():
    X, y, tasks = table()
    weight = np.random.default_rng(2).integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), weight)
    first = CommonAndOwnRidge(**{**FIXED, "standardize": True}).fit(X, y, tasks=tasks, sample_weight=weight)
    second = CommonAndOwnRidge(**{**FIXED, "standardize": True}).fit(X[rows], y[rows], tasks=tasks[rows])
    np.testing.assert_allclose(first.predict(X, tasks=tasks), second.predict(X, tasks=tasks), rtol=1e-9)


def test_ridge_limits_are_one_regression_and_one_for_each():
    X, y, tasks = table()
    pooled = CommonAndOwnRidge(common=2.0, own=1e10, own_intercept=1e10, standardize=False).fit(X, y, tasks=tasks)
    np.testing.assert_allclose(pooled.predict(X, tasks=tasks), Ridge(alpha=2.0).fit(X, y).predict(X), rtol=1e-6)
    single = CommonAndOwnRidge(common=1e10, own=2.0, own_intercept=1e-8, standardize=False).fit(X, y, tasks=tasks)
    for task in range(3):
        mine = tasks == task
        expected = Ridge(alpha=2.0).fit(X[mine], y[mine]).predict(X[mine])
        np.testing.assert_allclose(single.predict(X[mine], tasks=tasks[mine]), expected, rtol=1e-5)


def test_ridge_chooses_the_least_error_of_those_left_out():
    X, y, tasks = table(sizes=(30, 30, 30))
    model = CommonAndOwnRidge().fit(X, y, tasks=tasks)
    errors = [one["error"] for one in model.selection_]
    assert np.mean((y - model.out_of_fold_) ** 2) == pytest.approx(min(errors))
    chosen = min(model.selection_, key=lambda one: one["error"])
    assert {name: chosen[name] for name in model.strengths_} == model.strengths_
    again = CommonAndOwnRidge(**model.strengths_).fit(X, y, tasks=tasks)
    np.testing.assert_allclose(again.predict(X, tasks=tasks), model.predict(X, tasks=tasks))


def test_ridge_standardised_does_not_depend_on_units():
    X, y, tasks = table()
    first = CommonAndOwnRidge().fit(X, y, tasks=tasks)
    moved = X * [1e3, 1e-4, 1] + [5, 0, -7]
    second = CommonAndOwnRidge().fit(moved, 10 * y + 3, tasks=tasks)
    np.testing.assert_allclose(second.predict(moved, tasks=tasks), 10 * first.predict(X, tasks=tasks) + 3, rtol=1e-6)
    assert second.strengths_ == first.strengths_


def test_ridge_takes_constant_columns_tasks_of_one_example_and_more_features_than_examples():
    draws = np.random.default_rng(0)
    X = np.hstack([draws.normal(size=(12, 20)), np.full((12, 1), 3.3)])
    tasks = np.array(["a"] * 6 + ["b"] * 5 + ["c"])
    model = CommonAndOwnRidge().fit(X, draws.normal(size=12), tasks=tasks)
    assert np.isfinite(model.predict(X, tasks=tasks)).all()
    assert np.isfinite(model.out_of_fold_).all()


def classes(seed=0, count=2, sizes=(60, 80, 40)):
    X, y, tasks = table(seed, sizes=sizes)
    return X, np.array(["no", "yes", "perhaps"])[np.digitize(y, np.quantile(y, np.arange(1, count) / count))], tasks


@pytest.mark.parametrize("count", [2, 3])
def test_logistic_is_scikit_learns_on_the_augmented_features(count):
    X, y, tasks = classes(count=count)
    Z, _, asked = classes(seed=1)
    model = CommonAndOwnLogistic(common=0.7, ratio=3.0 / 0.7, own_intercept=2.0, center=0.0).fit(X, y, tasks=tasks)
    wide, wide_asked = (augmented(a, b, 3)[:, :-1] for a, b in ((X, tasks), (Z, asked)))
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(wide, y)
    np.testing.assert_allclose(model.predict_proba(Z, tasks=asked), peer.predict_proba(wide_asked), atol=2e-5)
    np.testing.assert_array_equal(model.predict(Z, tasks=asked), peer.predict(wide_asked))
    assert model.classes_.tolist() == peer.classes_.tolist()


@pytest.mark.parametrize("count", [2, 3])
def test_logistic_on_sparse_features_is_that_on_dense_ones(count):
    X, y, tasks = classes(count=count)
    X = np.where(np.abs(X) > 0.8, X, 0.0)
    X[tasks == 1, 2] = 0.0
    first, second = (CommonAndOwnLogistic().fit(one, y, tasks=tasks) for one in (X, sparse.csr_matrix(X)))
    np.testing.assert_allclose(first.coef_, second.coef_, atol=1e-4)
    np.testing.assert_allclose(
        first.predict_proba(X, tasks=tasks), second.predict_proba(sparse.csr_matrix(X), tasks=tasks), atol=1e-4
    )


def test_logistic_limits_are_one_model_and_one_for_each():
    X, y, tasks = classes()
    pooled = CommonAndOwnLogistic(common=2.0, ratio=1e8, own_intercept=1e8, center=0.0).fit(X, y, tasks=tasks)
    expected = LogisticRegression(C=0.5, tol=1e-10).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(pooled.predict_proba(X, tasks=tasks), expected, atol=1e-4)
    single = CommonAndOwnLogistic(common=1e8, ratio=2e-8, own_intercept=1e-8, center=0.0).fit(X, y, tasks=tasks)
    for task in range(3):
        mine = tasks == task
        expected = LogisticRegression(C=0.5, tol=1e-10).fit(X[mine], y[mine]).predict_proba(X[mine])
        np.testing.assert_allclose(single.predict_proba(X[mine], tasks=tasks[mine]), expected, atol=1e-3)


def test_logistic_weights_are_copies():
    X, y, tasks = classes()
    weight = np.random.default_rng(2).integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), weight)
    fixed = CommonAndOwnLogistic(common=1.0, ratio=2.0, own_intercept=1.0, center=1.0)
    first = clone(fixed).fit(X, y, tasks=tasks, sample_weight=weight)
    second = clone(fixed).fit(X[rows], y[rows], tasks=tasks[rows])
    np.testing.assert_allclose(first.coef_, second.coef_, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_logistic_centred_is_that_on_features_without_their_tasks_shrunk_mean(count):
    X, y, tasks = classes(count=count)
    X = X + 3.0 * np.arange(3)[tasks][:, None]
    fixed = {"common": 0.7, "ratio": 3.0, "own_intercept": 2.0}
    means = np.stack([X[tasks == task].sum(axis=0) / ((tasks == task).sum() + 20) for task in range(3)])
    for features in (X, sparse.csr_matrix(X)):
        model = CommonAndOwnLogistic(**fixed, center=0.5).fit(features, y, tasks=tasks)
        moved = X - 0.5 * means[tasks]
        by_hand = CommonAndOwnLogistic(**fixed, center=0.0).fit(moved, y, tasks=tasks)
        np.testing.assert_allclose(model.coef_, by_hand.coef_, atol=1e-4)
        np.testing.assert_allclose(
            model.predict_proba(features, tasks=tasks), by_hand.predict_proba(moved, tasks=tasks), atol=1e-4
        )
        # A task that was never seen is centred by the mean of the others.
        new = by_hand.predict_proba(X - 0.5 * means.mean(axis=0))
        np.testing.assert_allclose(model.predict_proba(features), new, atol=1e-4)


def test_centres_are_chosen_where_tasks_differ_along_a_direction_that_means_nothing():
    X, _, tasks = classes()
    labels = X[:, 0] > 0
    moved = X + np.array([[8.0, 0, 0], [-8.0, 0, 0], [0, 0, 0]])[tasks]
    assert CommonAndOwnLogistic().fit(moved, labels, tasks=tasks).strengths_["center"] == 1.0


def test_both_beat_one_model_and_one_for_each_where_tasks_are_alike_but_not_the_same():
    draws = np.random.default_rng(3)
    tasks = np.repeat(np.arange(20), 100)
    slopes = draws.normal(size=10) + 0.7 * draws.normal(size=(20, 10))
    X = draws.normal(size=(2000, 10))
    values = np.einsum("nd,nd->n", X, slopes[tasks]) + draws.normal(size=2000)
    train = np.arange(2000) % 100 < 14
    for model, y, far in (
        (CommonAndOwnRidge(), values, {"pooled": ("own", 1e8), "single": ("common", 1e8)}),
        (CommonAndOwnLogistic(), values > 0, {"pooled": ("ratio", 1e6), "single": ("ratio", 1e-3)}),
    ):
        score = {"both": model.fit(X[train], y[train], tasks=tasks[train]).score(X[~train], y[~train], tasks[~train])}
        for name, (option, value) in far.items():
            one = clone(model).set_params(**{option: value}).fit(X[train], y[train], tasks=tasks[train])
            score[name] = one.score(X[~train], y[~train], tasks[~train])
        assert score["both"] > max(score["pooled"], score["single"]) + 0.005


def test_names_of_tasks_are_those_of_the_user():
    X, y, tasks = table()
    names = np.array(["north", "south", "east"])[tasks]
    for column in (names, names.astype(object), names.tolist()):
        model = CommonAndOwnRidge(**FIXED).fit(X, y, tasks=column)
        assert model.tasks_.tolist() == ["east", "north", "south"]
        np.testing.assert_allclose(model.predict(X, tasks=column), by_hand(X, y, tasks, X, tasks), rtol=1e-9)


@pytest.mark.parametrize("model", [CommonAndOwnRidge(), CommonAndOwnLogistic()])
def test_bad_task_columns_are_refused(model):
    X, y, tasks = table()
    with pytest.raises(DataError, match=r"one task for each of the 28 rows"):
        clone(model).fit(X, y > 0, tasks=tasks[:-1])
    holes = tasks.astype(object)
    holes[[3, 5]] = None, float("nan")
    with pytest.raises(DataError, match=r"2 missing, the first at row 3"):
        clone(model).fit(X, y > 0, tasks=holes)


def test_bad_options_are_refused():
    X, y, tasks = table()
    for model in (
        CommonAndOwnRidge(common=0),
        CommonAndOwnRidge(own=[]),
        CommonAndOwnLogistic(ratio=[-1.0]),
        CommonAndOwnLogistic(center=2.0),
    ):
        with pytest.raises(RequestError):
            model.fit(X, y > 0, tasks=tasks)
    with pytest.raises(DataError, match="two classes or more"):
        CommonAndOwnLogistic().fit(X, np.zeros(len(y), dtype=int), tasks=tasks)


@pytest.mark.skipif(not (DATA / "school").exists(), reason="needs ../shared/data/school")
def test_schools_gain_from_each_other():
    from scipy.io import loadmat

    contents = loadmat(DATA / "school" / "school.mat")
    X, y = (
        np.vstack(contents["X"].ravel())[:, :-1].astype(float),
        np.vstack(contents["Y"].ravel()).ravel().astype(float),
    )
    schools = np.repeat(np.arange(139), [len(one) for one in contents["X"].ravel()])
    train = np.random.default_rng(0).random(len(y)) < 0.75
    fixed = {"common": 3.0, "own": 300.0, "own_intercept": 30.0}
    scores = {
        name: CommonAndOwnRidge(**{**fixed, **other})
        .fit(X[train], y[train], tasks=schools[train])
        .score(X[~train], y[~train], schools[~train])
        for name, other in {"both": {}, "pooled": {"own": 1e8, "own_intercept": 1e8}, "single": {"common": 1e8}}.items()
    }
    assert scores["both"] > 0.362
    assert scores["both"] > max(scores["pooled"], scores["single"]) + 0.02
