"""Leave-one-out and leave-group-out in closed form against refits, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from graft.heads import KernelRidgeClassifier, KernelRidgeRegressor, NearestNeighbors, Prototype, ShrinkageDiscriminant
from graft.heads.calibration import fit_temperature, log_loss, softmax
from graft.heads.leave_one_out import family_of_features, family_of_kernel
from graft.heads.shrinkage_discriminant import Geometry, ledoit_wolf


def problem(seed: int = 0, *, n: int = 40, d: int = 5):
    numbers = np.random.default_rng(seed)
    X = numbers.normal(size=(n, d))
    return X, numbers.normal(size=(n, 3)), numbers.uniform(0.3, 2.5, size=n), numbers.integers(0, 12, size=n)


def refit(kernel, weight, targets, penalty, inside):
    """Predictions for all rows of the ridge on the rows `inside`, with an unpenalised intercept, by its equations."""
    K, W = kernel[np.ix_(inside, inside)], np.diag(weight[inside])
    size = inside.sum()
    # Minimise (y - K a - b)' W (y - K a - b) + penalty a' K a: bordered system in (a, b).
    system = np.block([[K + penalty * np.linalg.inv(W), np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.vstack([targets[inside], np.zeros((1, targets.shape[1]))]))
    return kernel[:, inside] @ solution[:-1] + solution[-1]


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_left_out_equals_refits(penalty, linear, grouped):
    X, Y, weight, groups = problem()
    if not grouped:
        groups = np.arange(len(X))
    distances = ((X[:, None] - X[None]) ** 2).sum(axis=2)
    kernel = X @ X.T if linear else np.exp(-0.3 * distances)
    family = family_of_features(X, weight, Y) if linear else family_of_kernel(kernel, weight, Y)
    left_out = family.leave_out_predictions(penalty, groups)
    for group in np.unique(groups):
        out = groups == group
        np.testing.assert_allclose(left_out[out], refit(kernel, weight, Y, penalty, ~out)[out], rtol=1e-6, atol=1e-7)
    dual, intercept = family.solve(penalty)
    everyone = np.ones(len(X), bool)
    np.testing.assert_allclose(kernel @ dual + intercept, refit(kernel, weight, Y, penalty, everyone), atol=1e-7)


def test_rows_outside_every_set_are_not_predicted():
    X, Y, weight, _ = problem()
    sets = np.where(np.arange(40) < 3, -1, np.arange(40) % 5)
    left_out = family_of_features(X, weight, Y).leave_out_predictions(1.0, sets)
    assert np.isnan(left_out[:3]).all()
    assert np.isfinite(left_out[3:]).all()


def discriminant_by_hand(X, codes, weight, ridge, at):
    """Logits at rows `at` of the discriminant with scatter + ridge, divided by the total weight."""
    total = weight.sum()
    means = np.stack([np.average(X[codes == k], axis=0, weights=weight[codes == k]) for k in range(3)])
    residuals = X - means[codes]
    S = ((residuals * weight[:, None]).T @ residuals + ridge * np.eye(X.shape[1])) / total
    solved = np.linalg.solve(S, means.T)
    shares = np.bincount(codes, weights=weight) / total
    return at @ solved - 0.5 * (means.T * solved).sum(axis=0) + np.log(shares)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("ridge", [0.1, 5.0])
def test_discriminant_left_out_equals_refits(grouped, ridge):
    X, _, weight, groups = problem()
    codes = np.arange(40) % 3
    if not grouped:
        groups = np.arange(40)
    class_weights = np.bincount(codes, weights=weight)
    means = np.stack([np.average(X[codes == k], axis=0, weights=weight[codes == k]) for k in range(3)])
    residuals = X - means[codes]
    values, basis = np.linalg.eigh((residuals * weight[:, None]).T @ residuals)
    geometry = Geometry(residuals @ basis, means @ basis, values, codes, weight, class_weights)
    logits = geometry.leave_out(ridge, groups)
    for group in np.unique(groups):
        out = groups == group
        expected = discriminant_by_hand(X[~out], codes[~out], weight[~out], ridge, X[out])
        np.testing.assert_allclose(log_softmax(logits[out], axis=1), log_softmax(expected, axis=1), atol=1e-8)


def test_shrinkage_is_ledoit_and_wolfs():
    numbers = np.random.default_rng(0)
    X = numbers.normal(size=(30, 12)) * np.linspace(0.5, 2, 12)
    X -= X.mean(axis=0)
    expected = LedoitWolf(assume_centered=True).fit(X).shrinkage_
    assert ledoit_wolf(X, np.ones(30), 12) == pytest.approx(expected, rel=1e-10)
    # In coordinates of the span of fewer examples than features, too.
    wide = numbers.normal(size=(8, 40))
    U, s, _ = np.linalg.svd(wide, full_matrices=False)
    expected = LedoitWolf(assume_centered=True).fit(wide).shrinkage_
    assert ledoit_wolf(U * s, np.ones(8), 40) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(60, 6), (12, 30)])
def test_discriminant_is_scikit_learns_at_the_same_shrinkage(shape):
    numbers = np.random.default_rng(0)
    y = np.arange(shape[0]) % 3
    X = numbers.normal(size=shape) + numbers.normal(size=(3, shape[1]))[y]
    head = ShrinkageDiscriminant(shrinkages=[0.3], calibrate=False).fit(X, y)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), rtol=1e-6, atol=1e-9)


def test_discriminant_works_with_fewer_examples_than_classes_have_features():
    numbers = np.random.default_rng(0)
    centers = numbers.normal(size=(50, 400))
    X = np.repeat(centers, 2, axis=0) + 0.3 * numbers.normal(size=(100, 400))
    assert ShrinkageDiscriminant().fit(X, np.repeat(np.arange(50), 2)).score(centers, np.arange(50)) == 1


@pytest.mark.parametrize(
    "head", [Prototype(), NearestNeighbors(neighbors=[3]), KernelRidgeClassifier(gammas=[1.0], penalties=[0.1])]
)
def test_out_of_fold_logits_are_those_of_refits_without_the_fold(head):
    numbers = np.random.default_rng(0)
    codes = np.arange(60) % 3
    X = numbers.normal(size=(60, 4)) + 2 * numbers.normal(size=(3, 4))[codes]
    # Scaled beforehand so that every refit works in the same coordinates.
    X -= X.mean(axis=0)
    X /= np.sqrt((X**2).sum(axis=1).mean())
    head.set_params(scaling="none", calibrate=False)
    head.fit(X, codes)
    from graft.heads.folds import fold_numbers, group_codes, identities

    identity = identities(X, random_state=None)
    fold = fold_numbers(identity, group_codes(identity, None), codes)
    assert set(fold) == set(range(5))
    whole = head.out_of_fold_.copy()
    for number in range(5):
        out = fold == number
        other = head.__class__(**head.get_params()).fit(X[~out], codes[~out])
        np.testing.assert_allclose(
            log_softmax(whole[out], axis=1), log_softmax(other.decision_function(X[out]), axis=1), atol=0.1
        )


def test_width_and_penalty_are_the_best_by_leave_one_out():
    numbers = np.random.default_rng(0)
    X = numbers.uniform(-3, 3, size=(70, 1))
    y = np.sin(2 * X[:, 0]) + 0.1 * numbers.normal(size=70)
    head = KernelRidgeRegressor().fit(X, y)
    best = min(head.selection_["tried"], key=lambda row: row["mean_squared_error"])
    assert (head.gamma_, head.penalty_) == (best["gamma"], best["penalty"])
    assert head.score(X, y) > 0.95


def test_landmarks_come_close_to_the_whole_kernel(monkeypatch):
    import graft.heads.kernel_ridge as module

    numbers = np.random.default_rng(0)
    X = numbers.normal(size=(400, 2))
    y = np.sin(2 * X[:, 0]) * X[:, 1]
    test = numbers.normal(size=(200, 2))
    whole = KernelRidgeRegressor(gammas=[1.0], penalties=[0.01]).fit(X, y).predict(test)
    monkeypatch.setattr(module, "_LANDMARKS", 150)
    projected = KernelRidgeRegressor(gammas=[1.0], penalties=[0.01]).fit(X, y)
    assert projected.centers_.shape == (150, 2)
    assert np.corrcoef(whole, projected.predict(test))[0, 1] > 0.999


def test_temperature_minimises_the_log_loss_and_follows_the_logits_scale():
    numbers = np.random.default_rng(0)
    codes = numbers.integers(0, 5, size=500)
    logits = 3 * numbers.normal(size=(500, 5))
    logits[np.arange(500), codes] += 2
    weight = numbers.uniform(0.1, 2, size=500)
    temperature = fit_temperature(logits, codes, weight)
    losses = [log_loss(logits / value, codes, weight) for value in temperature * np.array([0.99, 1.0, 1.01])]
    assert losses[1] < min(losses[0], losses[2])
    assert fit_temperature(7 * logits, codes, weight) == pytest.approx(7 * temperature)
    # At the optimum the mean logit under the model equals the mean logit of the true class.
    probability = softmax(logits / temperature)
    expected = np.average((probability * logits).sum(axis=1), weights=weight)
    assert np.average(logits[np.arange(500), codes], weights=weight) == pytest.approx(expected, abs=1e-6)


def test_temperature_of_separated_logits_stops_at_what_the_count_supports():
    codes = np.arange(40) % 4
    logits = np.eye(4)[codes]
    temperature = fit_temperature(logits, codes, np.ones(40))
    assert log_loss(logits / temperature, codes, np.ones(40)) == pytest.approx(1 / 42, rel=1e-3)
