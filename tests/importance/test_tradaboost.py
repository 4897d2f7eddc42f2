"""TrAdaBoost: what it must reduce to, and that it follows the target where the source misleads."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.errors import DataError
from graft.importance import TrAdaBoostClassifier, TrAdaBoostRegressor
from graft.importance.tradaboost_regression import _with_target_share


@parametrize_with_checks([TrAdaBoostClassifier(rounds=4), TrAdaBoostRegressor(steps=2, rounds=3)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def rotated(seed: int, *, sources: int = 300, targets: int = 60, classes: int = 2):
    """Three fifths of the source follow another rule than the target."""
    draws = np.random.default_rng(seed)
    X = draws.normal(size=(sources + targets + 500, 2))
    angle = np.arctan2(X[:, 1], X[:, 0]) + np.pi
    codes = (angle / (2 * np.pi) * classes).astype(int) % classes
    codes[:180] = (codes[:180] + 1) % classes
    names = np.array(["a", "b", "c"])[codes]
    in_target = np.arange(sources + targets) >= sources
    fitting = np.arange(len(X)) < sources + targets
    return X[fitting], names[fitting], in_target, X[~fitting], names[~fitting]


@pytest.mark.parametrize("classes", [2, 3])
def test_misleading_source_examples_lose_their_weight(classes):
    for seed in range(3):
        X, y, in_target, test_X, test_y = rotated(seed, classes=classes)
        model = TrAdaBoostClassifier(DecisionTreeClassifier(max_depth=4), rounds=20).fit(X, y, in_target=in_target)
        plain = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
        assert model.score(test_X, test_y) > plain.score(test_X, test_y)
        weight = model.sample_weight_
        assert weight.mean() == pytest.approx(1)
        assert weight[:180].mean() < weight[180:300].mean()


def test_source_weights_follow_the_rule_of_the_paper():
    X, y, in_target, _, _ = rotated(0)
    y = np.where((X[:, 0] > 0) ^ (np.random.default_rng(1).random(len(X)) < 0.2), "a", "b")
    model = TrAdaBoostClassifier(LogisticRegression(), rounds=1).fit(X, y, in_target=in_target)
    wrong = LogisticRegression().fit(X, y).predict(X) != y
    source = model.sample_weight_[~in_target]
    beta = 1 / (1 + np.sqrt(2 * np.log(300)))
    assert source[wrong[~in_target]].max() / source[~wrong[~in_target]].max() == pytest.approx(beta)
    target = model.sample_weight_[in_target]
    error = wrong[in_target].mean()
    assert target[wrong[in_target]].max() / target[~wrong[in_target]].max() == pytest.approx((1 - error) / error)


def test_correcting_the_drift_keeps_the_sources_weight():
    X, y, in_target, _, _ = rotated(0)
    y = np.where(X[:, 0] > 0, "a", "b")  # source and target agree
    shares = []
    for correct in (False, True):
        model = TrAdaBoostClassifier(LogisticRegression(C=0.01), rounds=30, correct_drift=correct)
        shares.append(model.fit(X, y, in_target=in_target).sample_weight_[~in_target].sum())
    assert shares[1] > shares[0]


def test_cross_validation_slices_the_mask():
    X, y, in_target, _, _ = rotated(0)
    scores = cross_val_score(
        TrAdaBoostClassifier(rounds=3),
        X,
        y,
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        params={"in_target": in_target},
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("estimator", [TrAdaBoostClassifier(), TrAdaBoostRegressor()])
def test_masks_that_do_not_fit_are_refused(estimator):
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    with pytest.raises(DataError, match="in_target: expected a mask"):
        estimator.fit(X, y, in_target=np.arange(10))
    with pytest.raises(DataError, match="at least one labelled target example"):
        estimator.fit(X, y, in_target=np.zeros(10, dtype=bool))


def lines(seed: int):
    draws = np.random.default_rng(seed)
    X = draws.uniform(-1, 1, size=(740, 2))
    truth = np.sin(3 * X[:, 0]) + X[:, 1]
    y = truth + 0.05 * draws.normal(size=740)
    y[:100] = -y[:100]  # the source that misleads
    return X, y, truth, np.arange(240) >= 225


def test_the_regression_follows_the_target():
    for seed in range(2):
        X, y, truth, in_target = lines(seed)
        base = DecisionTreeRegressor(max_depth=5)
        model = TrAdaBoostRegressor(base, steps=5, rounds=5).fit(X[:240], y[:240], in_target=in_target)
        plain = DecisionTreeRegressor(max_depth=5, random_state=0).fit(X[:240], y[:240])
        errors = [np.mean((m.predict(X[240:]) - truth[240:]) ** 2) for m in (model, plain)]
        assert errors[0] < errors[1]
        assert model.errors_[model.step_] == model.errors_.min()


@pytest.mark.parametrize("goal", [0.3, 0.7, 1.0])
def test_the_targets_share_is_met(goal):
    draws = np.random.default_rng(0)
    weight, error, mask = np.full(50, 0.02), draws.random(50), np.arange(50) >= 40
    changed = _with_target_share(weight, error, mask, goal)
    assert changed.sum() == pytest.approx(1)
    assert changed[mask].sum() == pytest.approx(goal)
    if goal < 1:
        assert np.corrcoef(error[~mask], changed[~mask])[0, 1] < 0
        # One number β explains all factors.
        logs = np.log(changed[~mask] / changed[mask][0])
        np.testing.assert_allclose(logs / error[~mask], (logs / error[~mask])[0], rtol=1e-6)
