"""ManifoldRegularization: its closed form, its limits, what leaves it unchanged; and the temperature of scores."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax, softmax
from sklearn.kernel_ridge import KernelRidge

from graft.alignment import ManifoldRegularization
from graft.alignment.direction_kernel import direction_kernel, unit_rows
from graft.alignment.neighbor_graph import normalized_laplacian
from graft.alignment.softmax_temperature import softmax_temperature
from graft.errors import DataError

CLASSES = np.array(["ash", "elm", "oak"])


@pytest.fixture(scope="module")
def told():
    """Forty examples in many dimensions, and probabilities of three classes."""
    draws = np.random.default_rng(0)
    return draws.normal(size=(40, 100)), softmax(2 * draws.normal(size=(40, 3)), axis=1)


def placed(X):
    """Return z, written anew: standardised columns and a one behind them, of length one."""
    rows = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gaussian(left, right):
    return np.exp(-np.square(left[:, None] - right[None]).sum(axis=2) / 2)


def fitted(X, p, **options):
    return ManifoldRegularization(**options).fit(X, probabilities=p, classes=CLASSES)


def test_the_kernel_is_that_of_distances():
    draws = np.random.default_rng(1)
    left, right = unit_rows(draws.normal(size=(7, 4))), unit_rows(draws.normal(size=(5, 4)))
    np.testing.assert_allclose(direction_kernel(left, right), gaussian(left, right), rtol=1e-12)
    np.testing.assert_array_equal(unit_rows(np.zeros((2, 3))), np.zeros((2, 3)))
    assert unit_rows(np.zeros((2, 0))).shape == (2, 1)


@pytest.mark.parametrize(("shrinkage", "smoothness"), [(0.1, 1.0), (2.0, 0.3), (1e-3, 20.0)])
def test_its_scores_are_those_of_a_direct_solve(told, shrinkage, smoothness):
    X, p = told
    model = fitted(X, p, shrinkage=shrinkage, smoothness=smoothness, n_neighbors=5)
    z = placed(X)
    K, L = gaussian(z, z), normalized_laplacian(z, 5).toarray()
    # The stationary point of the objective in β: K ((I + ρL) K + ηI) β = K (p - p̄), K of full rank.
    beta = np.linalg.solve((np.eye(40) + smoothness * L) @ K + shrinkage * np.eye(40), p - p.mean(axis=0))
    np.testing.assert_allclose(model.decision_function(X), K @ beta + p.mean(axis=0), atol=1e-10)
    new = np.random.default_rng(2).normal(size=(6, 100))
    standardised = np.column_stack([(new - X.mean(axis=0)) / X.std(axis=0), np.ones(6)])
    across = gaussian(standardised / np.linalg.norm(standardised, axis=1, keepdims=True), z)
    np.testing.assert_allclose(model.decision_function(new), across @ beta + p.mean(axis=0), atol=1e-10)


def test_no_other_coefficients_have_a_smaller_objective(told):
    X, p = told
    model, z = fitted(X, p), placed(X)
    K, L, p_bar = gaussian(z, z), normalized_laplacian(z, 10).toarray(), p.mean(axis=0)

    def objective(beta):
        f = K @ beta
        return np.square(p - p_bar - f).sum() + 0.1 * np.sum(beta * (K @ beta)) + np.sum(f * (L @ f))

    draws, least = np.random.default_rng(3), objective(model.dual_coef_)
    for size in (1e-3, 1e-1, 1.0):
        assert objective(model.dual_coef_ + size * draws.normal(size=(40, 3))) > least


def test_without_smoothness_it_is_kernel_ridge(told):
    X, p = told
    z = placed(X)
    ridge = KernelRidge(alpha=0.1, kernel="precomputed").fit(gaussian(z, z), p - p.mean(axis=0))
    expected = ridge.predict(gaussian(z, z)) + p.mean(axis=0)
    np.testing.assert_allclose(fitted(X, p, smoothness=0.0).decision_function(X), expected, atol=1e-10)
    np.testing.assert_allclose(fitted(X, p, smoothness=1e-9).decision_function(X), expected, atol=1e-8)


@pytest.mark.parametrize("smoothness", [0.5, 9.0])
def test_without_shrinkage_labels_are_propagated_on_the_graph(told, smoothness):
    X, p = told
    model = fitted(X, p, shrinkage=1e-10, smoothness=smoothness, n_neighbors=4)
    similar = np.eye(40) - normalized_laplacian(placed(X), 4).toarray()
    # Zhou and others (2004), equation 4: F = (1 - α) (I - α S)^-1 Y with α = ρ / (1 + ρ).
    alpha = smoothness / (1 + smoothness)
    propagated = (1 - alpha) * np.linalg.solve(np.eye(40) - alpha * similar, p - p.mean(axis=0))
    np.testing.assert_allclose(model.decision_function(X) - p.mean(axis=0), propagated, atol=1e-7)


def test_scores_sum_to_one_and_much_shrinkage_leaves_the_shares(told):
    X, p = told
    np.testing.assert_allclose(fitted(X, p).decision_function(X).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(
        fitted(X, p, shrinkage=1e9).decision_function(X), np.tile(p.mean(axis=0), (40, 1)), atol=1e-6
    )


def test_the_order_of_examples_and_classes_does_not_matter(told):
    X, p = told
    new, order = np.random.default_rng(4).normal(size=(9, 100)), np.random.default_rng(5).permutation(40)
    model, turned = fitted(X, p), fitted(X[order], p[order])
    np.testing.assert_allclose(turned.predict_proba(new), model.predict_proba(new), atol=1e-6)
    columns = [2, 0, 1]
    other = ManifoldRegularization().fit(X, probabilities=p[:, columns], classes=CLASSES[columns])
    np.testing.assert_allclose(other.predict_proba(new), model.predict_proba(new)[:, columns], atol=1e-6)
    np.testing.assert_array_equal(other.predict(new), model.predict(new))


def test_units_of_the_columns_do_not_matter(told):
    X, p = told
    units = np.random.default_rng(6).uniform(0.1, 50, size=100)
    np.testing.assert_allclose(
        fitted(X * units + 7, p).decision_function(X * units + 7), fitted(X, p).decision_function(X), atol=1e-9
    )


def test_rows_may_come_as_lists(told):
    X, p = told
    model = fitted(X.tolist(), p)
    assert np.array_equal(model.predict_proba(X.tolist()), fitted(X, p).predict_proba(X))


def test_labels_are_kept_and_are_probabilities_of_one():
    draws = np.random.default_rng(7)
    codes = np.repeat([0, 1, 2], 20)
    X = draws.normal(size=(60, 5)) + np.eye(5)[codes] * 8
    model = ManifoldRegularization().fit(X, CLASSES[codes])
    np.testing.assert_array_equal(model.predict(X), CLASSES[codes])
    soft = ManifoldRegularization().fit(X, probabilities=np.eye(3)[codes], classes=CLASSES)
    np.testing.assert_allclose(soft.predict_proba(X), model.predict_proba(X), atol=1e-12)
    # With no more than a trace of smoothing and shrinking, even a label against all neighbours is kept.
    odd = codes.copy()
    odd[0] = 2
    kept = ManifoldRegularization(shrinkage=1e-6, smoothness=1e-6).fit(X, CLASSES[odd])
    assert kept.predict(X[:1]) == ["oak"]
    assert ManifoldRegularization(smoothness=5.0).fit(X, CLASSES[odd]).predict(X[:1]) == ["ash"]


def test_landmarks_come_near_to_all_examples():
    draws = np.random.default_rng(8)
    codes = np.repeat([0, 1, 2], 40)
    X = draws.normal(size=(120, 5)) + np.eye(5)[codes] * 3
    p = softmax(2 * np.eye(3)[codes] + draws.normal(size=(120, 3)), axis=1)
    whole, some = fitted(X, p), fitted(X, p, max_landmarks=60, random_state=0)
    assert some.examples_.shape == (60, 6)
    assert (whole.predict(X) == some.predict(X)).mean() > 0.95
    assert np.abs(whole.decision_function(X) - some.decision_function(X)).max() < 0.1
    same = fitted(X, p, max_landmarks=60, random_state=0)
    np.testing.assert_array_equal(same.decision_function(X), some.decision_function(X))


def test_sparse_features_and_arrays_give_the_same():
    draws = np.random.default_rng(9)
    X = draws.poisson(0.7, size=(50, 8)).astype(float)
    y = X[:, 0] > X[:, 1]
    dense, thin = ManifoldRegularization().fit(X, y), ManifoldRegularization().fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(thin.predict_proba(sparse.csr_matrix(X)), dense.predict_proba(X), atol=1e-12)
    assert dense.decision_function(X).shape == (50,)


@pytest.mark.parametrize(
    ("table", "named"),
    [(np.ones((39, 3)) / 3, "shape"), (np.ones((40, 2)) / 2, "shape"), (np.full((40, 3), np.nan), "finite")],
)
def test_probabilities_that_do_not_fit_are_refused(told, table, named):
    with pytest.raises(DataError, match=named):
        ManifoldRegularization().fit(told[0], probabilities=table, classes=CLASSES)
    with pytest.raises(DataError, match="probabilities in their place"):
        ManifoldRegularization().fit(told[0])


def test_the_temperature_is_found_that_scores_were_drawn_with():
    draws = np.random.default_rng(0)
    scores = draws.normal(size=(4000, 4))
    for temperature in (0.25, 1.0, 3.0):
        given = softmax(scores / temperature, axis=1)
        assert softmax_temperature(scores, given) == pytest.approx(temperature, rel=0.02)
        drawn = (given.cumsum(axis=1) > draws.uniform(size=(4000, 1))).argmax(axis=1)
        assert softmax_temperature(scores, np.eye(4)[drawn]) == pytest.approx(temperature, rel=0.15)


def test_the_temperature_has_the_unit_of_the_scores_and_is_the_best_one():
    draws = np.random.default_rng(1)
    scores, wanted = draws.normal(size=(80, 3)), softmax(draws.normal(size=(80, 3)), axis=1)
    wanted = 0.7 * wanted + 0.3 * np.eye(3)[scores.argmax(axis=1)]
    found = softmax_temperature(scores, wanted)
    assert softmax_temperature(5 * scores, wanted) == pytest.approx(5 * found, rel=1e-3)
    np.testing.assert_allclose(softmax_temperature(scores + 4, wanted), found, rtol=1e-3)
    softened = 81 / 82 * wanted + 1 / 82 / 3

    def loss(temperature):
        return -np.sum(softened * log_softmax(scores / temperature, axis=1))

    assert loss(found) <= min(loss(found * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_few_right_answers_make_less_sure_than_many():
    certain = [
        softmax(np.array([1.0, 0.0]) / softmax_temperature(np.tile([1.0, 0.0], (n, 1)), np.tile([1.0, 0.0], (n, 1))))[0]
        for n in (3, 30, 300)
    ]
    # One example in n + 2 is taken to be of any class, half of two: 1 - 1 / (2 (n + 2)).
    np.testing.assert_allclose(certain, [1 - 1 / 10, 1 - 1 / 64, 1 - 1 / 604], atol=1e-4)
