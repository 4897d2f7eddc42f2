"""Standardised domains, and centroids that go where the target's examples lie."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from graft.alignment import CentroidRefinement, DomainStandardization
from graft.errors import DataError


@pytest.fixture
def domains():
    draws = np.random.default_rng(0)
    centres = 3 * draws.normal(size=(3, 6))
    codes = np.arange(90) % 3
    source, target = (centres[codes] + draws.normal(size=(90, 6)) for _ in range(2))
    names = np.array(["bird", "cat", "dog"])[codes]
    return source, names, target * [1, 2, 3, 1, 2, 3] + 4, names


def test_each_domain_has_mean_zero_and_deviation_one(domains):
    source, _, target, _ = domains
    fitted = DomainStandardization(unit_length=False).fit(source, target=target)
    for values in (fitted.transform_source(source), fitted.transform(target)):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(values.std(axis=0), 1)


def test_rows_have_unit_length_and_a_constant_column_says_nothing(domains):
    source, _, target, _ = domains
    source, target = source.copy(), target.copy()
    source[:, 2] = 7
    fitted = DomainStandardization().fit(source, target=target)
    moved = fitted.transform_source(source)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1)
    assert (moved[:, 2] == 0).all()


def test_units_and_origins_of_either_domain_do_not_matter(domains):
    source, y, target, _ = domains
    plain = CentroidRefinement().fit(source, y, target=target).predict_proba(target)
    other = CentroidRefinement().fit(source * 5 - 1, y, target=target * 0.1 + 9).predict_proba(target * 0.1 + 9)
    np.testing.assert_allclose(plain, other, atol=1e-8)


def test_the_centroids_are_a_fixed_point(domains):
    source, y, target, truth = domains
    model = CentroidRefinement(max_iter=200, temperature=0.05).fit(source, y, target=target)
    z = model.standardization_.transform(target)
    shares = model.predict_proba(target)
    again = shares.T @ z
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    np.testing.assert_allclose(again, model.centroids_, atol=0.05)
    assert (model.predict(target) == truth).mean() > 0.95


def test_small_temperatures_give_nearest_centroids_by_angle(domains):
    source, y, target, _ = domains
    model = CentroidRefinement(temperature=1e-3).fit(source, y, target=target)
    z = model.standardization_.transform(target)
    hard = (z @ model.centroids_.T).argmax(axis=1)
    np.testing.assert_array_equal(model.classes_[hard], model.predict(target))
    means = np.array([z[hard == k].mean(axis=0) for k in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, model.centroids_, atol=1e-2)


def test_labelled_target_examples_keep_their_labels_and_draw_the_centroids():
    """Two classes that have changed places in the target: labels of a few lead the centroids there."""
    draws = np.random.default_rng(0)
    y = np.repeat(["left", "right"], 40)
    sign = np.where(y == "left", -2.0, 2.0)[:, None]
    source = draws.normal(size=(80, 2)) + sign * [1, 0]
    target = draws.normal(size=(80, 2)) + sign * [0, 1]
    known = np.full(80, None, dtype=object)
    known[::4] = y[::4]
    model = CentroidRefinement().fit(source, y, target=target, target_labels=known)
    assert (model.predict(target) == y).mean() > 0.9


def test_a_class_that_no_target_example_takes_keeps_the_sources_centroid(domains):
    source, y, target, truth = domains
    there = truth != "dog"
    model = CentroidRefinement(temperature=1e-3).fit(source, y, target=target[there])
    assert np.isfinite(model.centroids_).all()
    np.testing.assert_allclose(np.linalg.norm(model.centroids_, axis=1), 1)


def test_another_classifier_may_begin(domains):
    source, y, target, truth = domains
    model = CentroidRefinement(classifier=LogisticRegression(C=0.01)).fit(source, y, target=target)
    assert (model.predict(target) == truth).mean() > 0.95


def test_one_class_is_refused(domains):
    source, _, target, _ = domains
    with pytest.raises(DataError, match="2 or more classes"):
        CentroidRefinement().fit(source, ["bird"] * len(source), target=target)
