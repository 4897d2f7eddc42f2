"""Estimates of transferability: what they must not depend on, their definitions, brute force, published code."""

import importlib
import pkgutil

import numpy as np
import pytest
from scipy import integrate, optimize, sparse, stats
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from graft import evaluation
from graft.errors import DataError, RequestError
from graft.metrics import gbc, h_score, knn_accuracy, knn_r2, leep, logme, maximum_evidence, nleep, transferability
from graft.metrics.transferability.principal_axes import principal_coordinates
from graft.metrics.transferability.separation import ledoit_wolf

ESTIMATES = {
    "h_score": h_score,
    "h_score without shrinkage": lambda features, labels: h_score(features, labels, shrinkage=0),
    "logme": logme,
    "logme centred": lambda features, labels: logme(features, labels, centered=True),
    "nleep": nleep,
    "gbc spherical": gbc,
    "gbc diagonal": lambda features, labels: gbc(features, labels, covariance="diagonal", components=3),
    "knn_accuracy": knn_accuracy,
}
every_estimate = pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)


def clusters(seed=0, *, examples=150, width=8, classes=4, apart=1.5):
    """Features of classes around separate centres, with unequal spreads; classes of unequal size."""
    draws = np.random.default_rng(seed)
    labels = draws.choice(classes, size=examples, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    labels[:classes] = np.arange(classes)
    centres = draws.normal(size=(classes, width)) * apart
    spread = draws.uniform(0.5, 2, size=width)
    return centres[labels] + draws.normal(size=(examples, width)) * spread + 3, labels


def rotation(width, seed=1):
    return stats.ortho_group.rvs(width, random_state=seed)


@every_estimate
def test_the_order_of_the_examples_does_not_matter(estimate):
    features, labels = clusters()
    order = np.random.default_rng(5).permutation(len(labels))
    assert estimate(features[order], labels[order]) == pytest.approx(estimate(features, labels), rel=1e-8)


@every_estimate
def test_the_names_of_the_classes_do_not_matter(estimate):
    features, labels = clusters()
    names = np.array(["zebra", "ape", "mouse", "cat"])
    assert estimate(features, names[labels]) == pytest.approx(estimate(features, labels), rel=1e-10)


@every_estimate
def test_a_rotation_of_the_features_does_not_matter(estimate):
    features, labels = clusters()
    assert estimate(features @ rotation(8), labels) == pytest.approx(estimate(features, labels), rel=1e-8)


@every_estimate
def test_the_unit_of_the_features_does_not_matter(estimate):
    features, labels = clusters()
    assert estimate(1e4 * features, labels) == pytest.approx(estimate(features, labels), rel=1e-8)


@pytest.mark.parametrize("name", [name for name in ESTIMATES if name not in ("logme", "knn_accuracy")])
def test_a_shift_of_the_features_does_not_matter(name):
    features, labels = clusters()
    assert ESTIMATES[name](features + 100, labels) == pytest.approx(ESTIMATES[name](features, labels), rel=1e-6)


@pytest.mark.parametrize("name", [name for name in ESTIMATES if name != "h_score"])  # shrunk, it counts the axes
def test_axes_without_variation_do_not_matter(name):
    features, labels = clusters()
    padded = np.concatenate([features, np.zeros((len(labels), 2))], axis=1)
    assert ESTIMATES[name](padded, labels) == pytest.approx(ESTIMATES[name](features, labels), rel=1e-8)


@every_estimate
def test_noise_lowers_every_score(estimate):
    features, labels = clusters(examples=400)
    noise = np.random.default_rng(2).normal(size=features.shape)
    scores = [estimate(features + level * noise, labels) for level in (0, 2, 5, 20)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


@every_estimate
def test_dealt_out_labels_score_lower(estimate):
    features, labels = clusters()
    assert estimate(features, np.random.default_rng(3).permutation(labels)) < estimate(features, labels)


@every_estimate
def test_sparse_features_are_read(estimate):
    features, labels = clusters()
    assert estimate(sparse.csr_matrix(features), labels) == pytest.approx(estimate(features, labels))


@every_estimate
def test_more_columns_than_rows_are_finite(estimate):
    features, labels = clusters(examples=20, width=60)
    assert np.isfinite(estimate(features, labels))


@every_estimate
def test_a_class_with_one_example_is_finite(estimate):
    features, labels = clusters()
    labels[0] = 9
    assert np.isfinite(estimate(features, labels))


@every_estimate
def test_one_class_is_refused(estimate):
    with pytest.raises(DataError, match="2 classes or more, found 1: 'cat'"):
        estimate(np.eye(4), ["cat"] * 4)


@every_estimate
def test_unusable_tables_are_refused(estimate):
    with pytest.raises(DataError, match="finite"):
        estimate([[0.0, 1.0], [np.nan, 1.0]], [0, 1])
    with pytest.raises(DataError, match="one for each of the 3"):
        estimate(np.eye(3), [0, 1])
    with pytest.raises(DataError, match=r"table of numbers"):
        estimate(np.arange(4), [0, 1, 0, 1])


def test_constant_features_score_what_guessing_does():
    labels = np.array([0] * 30 + [1] * 20 + [2] * 10)
    constant = np.full((60, 5), 0.1)  # a number that a mean of 60 copies does not reproduce to the last digit
    share = np.array([30, 20, 10]) / 60
    assert h_score(constant, labels) == 0
    assert nleep(constant, labels) == pytest.approx((share * np.log(share)).sum())
    assert gbc(constant, labels) == -6
    assert knn_accuracy(constant, labels) == 0.5
    flat = np.zeros((60, 5))
    alone = np.mean([(np.log(60 / n) - np.log(2 * np.pi) - 1) / 2 for n in (30, 20, 10)])
    assert logme(flat, labels) == pytest.approx(alone)


def test_the_h_score_is_its_definition():
    features, labels = clusters(examples=3000)
    means = np.array([features[labels == name].mean(axis=0) for name in range(4)])
    expected = np.trace(np.linalg.inv(np.cov(features.T)) @ np.cov(means[labels].T))
    assert h_score(features, labels, shrinkage=0) == pytest.approx(expected, rel=1e-10)


def test_the_h_score_does_not_change_under_invertible_maps():
    features, labels = clusters(examples=3000)
    stretched = features @ (np.random.default_rng(4).normal(size=(8, 8)) + 2 * np.eye(8))
    assert h_score(stretched, labels, shrinkage=0) == pytest.approx(h_score(features, labels, shrinkage=0), rel=1e-8)
    assert h_score(stretched, labels) == pytest.approx(h_score(features, labels), rel=0.02)  # n far above d


def test_the_h_score_of_two_classes_is_a_distance_of_means():
    features, labels = clusters(classes=2)
    share, gap = labels.mean(), features[labels == 1].mean(axis=0) - features[labels == 0].mean(axis=0)
    distance = gap @ np.linalg.solve(np.cov(features.T, ddof=0), gap)
    assert h_score(features, labels, shrinkage=0) == pytest.approx(share * (1 - share) * distance)


def test_without_shrinkage_few_examples_fit_any_labels():
    draws = np.random.default_rng(0)
    features, labels = draws.normal(size=(40, 100)), np.repeat(np.arange(4), 10)
    assert h_score(features, labels, shrinkage=0) == pytest.approx(3)
    assert h_score(features, labels) < 1.5
    assert h_score(features, labels, shrinkage=1) == 0


@pytest.mark.parametrize(("rows", "columns"), [(60, 5), (30, 80), (500, 20)])
def test_the_shrinkage_is_that_of_scikit_learn(rows, columns):
    features = np.random.default_rng(1).normal(size=(rows, columns)) * np.linspace(0.2, 3, columns) + 7
    assert ledoit_wolf(principal_coordinates(features), columns) == pytest.approx(ledoit_wolf_shrinkage(features))


def evidence_by_definition(features, column, alpha, beta):
    covariance = np.eye(len(column)) / beta + features @ features.T / alpha
    _, logarithm = np.linalg.slogdet(2 * np.pi * covariance)
    return -(logarithm + column @ np.linalg.solve(covariance, column)) / 2 / len(column)


@pytest.mark.parametrize(("rows", "columns", "noise"), [(30, 4, 0.3), (25, 40, 0.5), (40, 3, 2.0), (30, 5, 30.0)])
def test_the_maximum_evidence_is_found_by_brute_force(rows, columns, noise):
    draws = np.random.default_rng(rows)
    features = draws.normal(size=(rows, columns)) * np.linspace(0.5, 2, columns)
    column = features @ draws.normal(size=columns) + noise * draws.normal(size=rows)
    found = maximum_evidence(features, column[:, None])

    def loss(point):
        return -evidence_by_definition(features, column, *np.exp(point))

    grid = [(loss((a, b)), a, b) for a in np.arange(-8, 12, 2.0) for b in np.arange(-8, 12, 2.0)]
    _, a, b = min(grid)
    best = -optimize.minimize(loss, (a, b), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).fun
    assert found.log_evidence[0] == pytest.approx(best, abs=1e-7)
    at = evidence_by_definition(features, column, found.alpha[0], found.beta[0])
    assert at == pytest.approx(found.log_evidence[0], abs=1e-7)


def test_the_maximum_is_a_fixed_point_of_the_authors_iteration():
    features, labels = clusters()
    targets = np.eye(4)[labels]
    found = maximum_evidence(features, targets)
    values = np.linalg.eigvalsh(features.T @ features)
    for output in range(4):
        alpha, beta = found.alpha[output], found.beta[output]
        weights = beta * np.linalg.solve(alpha * np.eye(8) + beta * features.T @ features, features.T)
        weights = weights @ targets[:, output]
        gamma = (beta * values / (alpha + beta * values)).sum()
        assert alpha == pytest.approx(gamma / (weights @ weights), rel=1e-5)
        residual = ((targets[:, output] - features @ weights) ** 2).sum()
        assert beta == pytest.approx((len(labels) - gamma) / residual, rel=1e-5)


def test_labels_that_are_linear_in_the_features_have_a_bounded_evidence():
    labels = np.repeat(np.arange(3), 10)
    exact = logme(np.eye(3)[labels], labels)
    assert np.isfinite(exact)
    assert exact > logme(np.eye(3)[labels] + 0.01 * np.random.default_rng(0).normal(size=(30, 3)), labels)


def test_numbers_and_their_unit():
    draws = np.random.default_rng(0)
    features = draws.normal(size=(80, 6))
    y = features @ draws.normal(size=6) + draws.normal(size=80)
    assert logme(features, 10 * y, task="regression") == pytest.approx(
        logme(features, y, task="regression") - np.log(10)
    )
    both = logme(features, np.stack([y, -y], axis=1), task="regression")
    assert both == pytest.approx(logme(features, y, task="regression"))
    shifted = logme(features + 5, y + 100, task="regression", centered=True)
    assert shifted == pytest.approx(logme(features, y, task="regression", centered=True))
    with pytest.raises(DataError, match="that differ"):
        logme(features, np.ones(80), task="regression")
    with pytest.raises(RequestError, match="task"):
        logme(features, y, task="multilabel")


def published_data(load):
    features, labels = load(return_X_y=True)
    return (features - features.mean(axis=0)) / features.std(axis=0), labels


# What the authors' code (github.com/thuml/LogME, _fit_fixed_point) returns for scikit-learn's data sets with columns
# of mean 0 and standard deviation 1; the regularised H-score of Transfer-Learning-Library (which mixes denominators n
# and n - 1); the diagonal GBC of google-research/stable_transfer on all principal axes.
PUBLISHED = {
    "iris": (load_iris, -0.6391509974589067, 1.1729479299986476, -0.768316760808418),
    "wine": (load_wine, -0.5377070003891449, 1.672600302568636, -0.29580847851846176),
    "cancer": (load_breast_cancer, -0.8521448166652459, 0.7552971202887332, -0.262650049709501),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_code_agrees(name):
    load, evidence, separation, overlap = PUBLISHED[name]
    features, labels = published_data(load)
    n = len(labels)
    assert logme(features, labels) == pytest.approx(evidence, abs=1e-7)
    assert h_score(features, labels) == pytest.approx(separation * (n - 1) / n, rel=1e-9)
    assert gbc(features, labels, covariance="diagonal", components=None) == pytest.approx(overlap, rel=1e-9)


def test_published_code_agrees_for_a_regression():
    features, y = load_diabetes(return_X_y=True)
    value = logme(features / features.std(axis=0), (y - y.mean()) / y.std(), task="regression")
    assert value == pytest.approx(-1.0990414697706798, abs=1e-7)


def test_leep_is_its_definition():
    draws = np.random.default_rng(0)
    theta, labels = draws.dirichlet(np.ones(5), size=30), draws.integers(0, 3, 30)
    total = 0.0
    for row in range(30):
        expected = 0.0
        for z in range(5):
            same = sum(theta[i, z] for i in range(30) if labels[i] == labels[row])
            expected += same / theta[:, z].sum() * theta[row, z]
        total += np.log(expected)
    assert leep(theta, labels) == pytest.approx(total / 30)


def test_leep_lies_between_minus_the_entropy_and_zero():
    labels = np.array([0, 0, 1, 2])
    share = np.array([2, 1, 1]) / 4
    assert leep(np.eye(3)[labels], labels) == 0
    assert leep(np.full((4, 7), 1 / 7), labels) == pytest.approx((share * np.log(share)).sum())
    with pytest.raises(DataError, match="sum to one"):
        leep(np.eye(3)[labels] * 2, labels)


def test_nleep_of_far_clusters_is_zero_and_of_one_component_minus_the_entropy():
    features, labels = clusters(apart=100)
    share = np.bincount(labels) / len(labels)
    assert nleep(features, labels) == pytest.approx(0, abs=1e-6)
    assert nleep(features[:9], np.array([0, 1] * 4 + [0])) == pytest.approx(
        5 / 9 * np.log(5 / 9) + 4 / 9 * np.log(4 / 9)
    )
    assert (share * np.log(share)).sum() < nleep(*clusters(apart=0.5)) < 0
    with pytest.raises(RequestError, match="energy"):
        nleep(features, labels, energy=0)


def test_the_overlap_of_two_gaussians_is_the_integral_of_the_root_of_their_product():
    draws = np.random.default_rng(0)
    features = np.concatenate([draws.normal(0, 1, 200), draws.normal(2, 3, 100)])[:, None]
    labels = np.repeat([0, 1], [200, 100])
    one, other = (stats.norm(features[labels == k].mean(), features[labels == k].std()) for k in (0, 1))
    area, _ = integrate.quad(lambda x: np.sqrt(one.pdf(x) * other.pdf(x)), -30, 30)
    assert gbc(features, labels) == pytest.approx(-2 * area, rel=1e-6)


def test_a_spherical_class_is_a_diagonal_one_with_equal_variances():
    """Mirror images in every axis make the variances of all axes equal."""
    corner, centre = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]), np.array([4, 0])
    features = np.concatenate([corner + centre, 2 * corner - centre])
    labels = np.repeat(["narrow", "wide"], 4)
    assert gbc(features, labels) == pytest.approx(gbc(features, labels, covariance="diagonal"))


def test_an_overlap_needs_two_examples_of_some_class():
    with pytest.raises(DataError, match="a class with 2 examples"):
        gbc(np.eye(3), [0, 1, 2])
    with pytest.raises(RequestError, match="covariance"):
        gbc(np.eye(3), [0, 1, 1], covariance="full")


def left_out_by_hand(model, features, targets):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = np.arange(len(unit))
    return np.array([model.fit(unit[rows != i], targets[rows != i]).predict(unit[[i]])[0] for i in rows])


def test_neighbours_are_those_of_scikit_learn():
    features, labels = clusters(classes=2)  # an odd number of neighbours then decides without a tie
    expected = left_out_by_hand(KNeighborsClassifier(5), features, labels) == labels
    assert knn_accuracy(features, labels) == pytest.approx(expected.mean())
    y = features.sum(axis=1)
    predicted = left_out_by_hand(KNeighborsRegressor(3), features, y)
    assert knn_r2(features, y, neighbors=3) == pytest.approx(1 - ((predicted - y) ** 2).mean() / y.var())


def test_examples_of_a_group_do_not_vote_for_each_other():
    features, labels = clusters(apart=0)
    twice, names = np.concatenate([features, features]), np.concatenate([labels, labels])
    groups = np.tile(np.arange(len(labels)), 2)
    assert knn_accuracy(twice, names, neighbors=1) == 1
    alone = knn_accuracy(features, labels, neighbors=1)
    assert knn_accuracy(twice, names, neighbors=1, groups=groups) == pytest.approx(alone)
    with pytest.raises(DataError, match="2 groups or more"):
        knn_accuracy(features, labels, groups=np.zeros(len(labels)))


def test_fewer_examples_than_neighbours_all_vote():
    assert knn_accuracy(np.eye(3) + 1, ["a", "a", "b"], neighbors=50) == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_no_module_hides_a_public_name():
    for module in pkgutil.iter_modules(transferability.__path__):
        importlib.import_module(f"graft.metrics.transferability.{module.name}")
    for name in transferability.__all__:
        assert callable(getattr(transferability, name))
        if name in evaluation.__all__:
            assert getattr(evaluation, name) is getattr(transferability, name)
