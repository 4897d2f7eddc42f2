"""Laws that hold for every head: permutation, repetition, scale, groups, calibration, rejection, plain state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from graft.errors import RequestError
from graft.heads import HEADS, head_class, make_head

CLASSIFIERS = list(HEADS["classification"])
REGRESSORS = list(HEADS["regression"])


def blobs(seed: int = 0, *, n: int = 90, d: int = 6, classes: int = 3, spread: float = 1.5):
    numbers = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, d)) * spread
    codes = np.arange(n) % classes
    return centers[codes] + numbers.normal(size=(n, d)), np.array(["ash", "birch", "cedar", "elm"])[codes]


def curve(seed: int = 0, *, n: int = 80):
    numbers = np.random.default_rng(seed)
    X = numbers.normal(size=(n, 4))
    return X, np.sin(X[:, 0]) + X[:, 1] + 0.1 * numbers.normal(size=n)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_row_order_does_not_matter(name):
    X, y = blobs()
    order = np.random.default_rng(1).permutation(len(y))
    one, other = make_head(name).fit(X, y), make_head(name).fit(X[order], y[order])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(one.out_of_fold_[order], other.out_of_fold_, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_renaming_classes_permutes_the_columns(name):
    X, y = blobs()
    renamed = np.array([{"ash": "zelkova", "birch": "birch", "cedar": "aspen"}[label] for label in y])
    one, other = make_head(name).fit(X, y), make_head(name).fit(X, renamed)
    assert list(other.classes_) == ["aspen", "birch", "zelkova"]
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X)[:, [2, 1, 0]], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("scaling", ["auto", "global", "columns"])
def test_units_and_origin_of_the_features_do_not_matter(name, scaling):
    X, y = blobs()
    one = head_class(name)(scaling=scaling).fit(X, y).predict_proba(X)
    moved = 300 * X - 17
    other = head_class(name)(scaling=scaling).fit(moved, y).predict_proba(moved)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "kernel-ridge", "discriminant", "nearest-neighbors"])
def test_columns_of_different_units_are_a_table(name):
    # A column in other units would drown the rest if all were divided by one number.
    X, y = blobs(n=150)
    units = np.array([1e4, 1, 1e-3, 1, 1, 1])
    test_X, test_y = blobs(1, n=150)
    plain = make_head(name).fit(X, y).score(test_X, test_y)
    assert make_head(name).fit(X * units, y).score(test_X * units, test_y) >= plain - 0.05


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_weights_are_repetitions_and_zero_is_absence(name):
    X, y = blobs(n=45)
    weight = np.random.default_rng(3).integers(0, 4, size=45)
    one = make_head(name).fit(X, y, sample_weight=weight)
    other = make_head(name).fit(X.repeat(weight, axis=0), y.repeat(weight))
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-5, atol=1e-7)
    assert one.temperature_ == pytest.approx(other.temperature_, rel=1e-5)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regression_weights_are_repetitions_and_zero_is_absence(name):
    X, y = curve()
    weight = np.random.default_rng(3).integers(0, 4, size=len(y))
    one = make_head(name, "regression").fit(X, y, sample_weight=weight)
    other = make_head(name, "regression").fit(X.repeat(weight, axis=0), y.repeat(weight))
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regression_follows_the_targets_units(name):
    X, y = curve()
    one, other = make_head(name, "regression").fit(X, y), make_head(name, "regression").fit(X, 1024 * y - 7)
    np.testing.assert_allclose(1024 * one.predict(X) - 7, other.predict(X), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(1024 * one.out_of_fold_ - 7, other.out_of_fold_, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", REGRESSORS)
def test_several_outputs_keep_their_shape(name):
    X, y = curve()
    Y = np.stack([y, -y, X[:, 2]], axis=1)
    head = make_head(name, "regression").fit(X, Y)
    assert head.predict(X).shape == head.out_of_fold_.shape == Y.shape
    assert head.score(X, Y) > 0.9


def accuracy_on_noise(name: str, *, jitter: float, grouped: bool) -> float:
    """Held-out accuracy on random labels, where every example has a twin: only the twin could give a label away."""
    results = []
    for seed in range(4):
        numbers = np.random.default_rng(seed)
        X = np.repeat(numbers.normal(size=(60, 60)), 2, axis=0) + jitter * numbers.normal(size=(120, 60))
        y = np.repeat(numbers.permutation(np.arange(60) % 2), 2)
        head = make_head(name).fit(X, y, groups=np.repeat(np.arange(60), 2) if grouped else None)
        results.append((head.out_of_fold_.argmax(axis=1) == y).mean())
    return float(np.mean(results))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_groups_never_cross_folds(name):
    honest = accuracy_on_noise(name, jitter=1e-3, grouped=True)
    assert honest < 0.65
    assert accuracy_on_noise(name, jitter=1e-3, grouped=False) > honest + 0.1


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_exact_duplicates_are_one_group(name):
    assert accuracy_on_noise(name, jitter=0.0, grouped=False) < 0.65


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_calibrated_on_held_out_data(name):
    X, y = blobs(n=240, spread=0.8)
    test_X, test_y = blobs(1, n=900, spread=0.8)
    head = make_head(name).fit(X, y)
    probability = head.predict_proba(test_X)
    right = head.classes_[probability.argmax(axis=1)] == test_y
    assert abs(probability.max(axis=1).mean() - right.mean()) < 0.08
    np.testing.assert_allclose(probability.sum(axis=1), 1)


@pytest.mark.parametrize("name", [*CLASSIFIERS, "multilabel", "ridge", "regression"])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_come_at_the_rate_asked(name, rate):
    X, y = blobs(n=400)
    test_X, _ = blobs(1, n=1000)
    if name == "multilabel":
        head = make_head("auto", "multilabel").fit(X, np.stack([y == "ash", y == "birch"], axis=1))
    elif name in ("ridge", "regression"):
        head = make_head("ridge" if name == "ridge" else "auto", "regression").fit(X, X[:, 0])
    else:
        head = make_head(name).fit(X, y)
    alarms = head.ood_score(test_X) > head.ood_threshold(rate)
    assert abs(alarms.mean() - rate) < 0.05
    answers = head.predict(test_X, reject=rate)
    assert [answer is None or (np.ndim(answer) == 1 and answer[0] is None) for answer in answers] == alarms.tolist()
    foreign = head.predict(test_X + 60, reject=rate)
    assert all(answer is None or (np.ndim(answer) == 1 and answer[0] is None) for answer in foreign)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_one_example_per_class(name):
    X = 5 * np.eye(4) + 0.1
    head = make_head(name).fit(X, ["a", "b", "c", "d"])
    assert head.out_of_fold_ is None
    assert head.temperature_ == 1
    assert head.predict(X).tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_with_one_example_is_learnt_and_never_held_out(name):
    X, y = blobs(n=30)
    X, y = np.vstack([X, np.full((1, 6), 9.0)]), np.append(y, "yew")
    head = make_head(name).fit(X, y)
    assert np.isnan(head.out_of_fold_[-1]).all()
    assert np.isfinite(head.out_of_fold_[:-1]).all()
    assert head.classes_.tolist() == ["ash", "birch", "cedar", "yew"]
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_many_classes(name):
    classes = 400 if name == "auto" else 200
    numbers = np.random.default_rng(0)
    centers = numbers.normal(size=(classes, 24))
    X = np.repeat(centers, 2, axis=0) + 0.2 * numbers.normal(size=(2 * classes, 24))
    head = make_head(name).fit(X, np.repeat(np.arange(classes), 2))
    assert (head.predict(centers) == np.arange(classes)).mean() > 0.95


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_fewer_examples_than_features(name):
    numbers = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 5)
    X = numbers.normal(size=(15, 300))
    X[np.arange(15), y] += 12
    assert make_head(name).fit(X, y).score(X, y) == 1
    assert np.isfinite(make_head(name).fit(X, y).out_of_fold_).all()


# Not the prototype: balancing moves the origin of its cosines too.
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "prototype"])
def test_balanced_class_weights_lift_the_rare_class(name):
    numbers = np.random.default_rng(0)
    y = np.r_[np.zeros(190, int), np.ones(10, int)]
    X = numbers.normal(size=(200, 2)) + 1.2 * y[:, None]
    plain = make_head(name).fit(X, y).predict(X)[y == 1].mean()
    lifted = make_head(name, class_weight="balanced").fit(X, y).predict(X)[y == 1].mean()
    assert lifted > plain or lifted == 1


def plain(value) -> bool:
    if value is None or isinstance(value, bool | int | float | str | np.ndarray):
        return True
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return isinstance(value, BaseEstimator) and all(plain(item) for item in vars(value).values())


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in HEADS.items() for name in names])
def test_state_is_plain_and_enough_to_rebuild(task, name):
    X, y = blobs() if task != "regression" else curve()
    if task == "multilabel":
        y = np.stack([y == "ash", y == "birch"], axis=1)
    head = make_head(name, task).fit(X, y)
    assert plain(head)
    json.dumps(head.selection_, allow_nan=False)
    rebuilt = head_class(name, task)(**head.get_params(deep=False))
    for key, value in vars(head).items():
        if key.endswith("_") and key != "out_of_fold_":
            setattr(rebuilt, key, value)
    np.testing.assert_array_equal(rebuilt.predict(X, reject=0.1), head.predict(X, reject=0.1))
    assert set(vars(head)) == set(head.get_params(deep=False)) | {key for key in vars(head) if key.endswith("_")}


def test_an_unknown_head_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match="Did you mean 'kernel-ridge'"):
        make_head("kernelridge")
    with pytest.raises(RequestError, match="regression"):
        make_head("auto", "regresion")
    with pytest.raises(RequestError, match="scaling"):
        head_class("logistic")(scaling="col").fit(*blobs())


@pytest.mark.parametrize("columns", [4, 40])
def test_foreign_is_another_direction_in_an_embedding_and_another_place_in_a_table(columns):
    numbers = np.random.default_rng(0)
    X = numbers.normal(size=(200, columns)) + 4 * np.eye(2, columns)[np.arange(200) % 2]
    head = make_head("prototype").fit(X, np.arange(200) % 2)
    near, far = X + 0.1 * numbers.normal(size=X.shape), 50 * X
    assert (head.ood_score(far) > head.ood_threshold(0.05)).mean() > 0.95
    assert (head.ood_score(near) > head.ood_threshold(0.05)).mean() < 0.1
    turned = X[:, ::-1]
    assert np.median(head.ood_score(turned)) > np.median(head.novelty_scores_)
