"""Scores without target labels: closed forms, and their order where the true target accuracy is known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, spearmanr

from graft.errors import RequestError
from graft.evaluation import target_risk as public
from graft.metrics import (
    RiskScore,
    calibrate,
    cluster_agreement,
    committee_agreement,
    confidence_difference,
    deep_embedded_validation,
    example_losses,
    importance_weighted_validation,
    mean_entropy,
    mutual_information,
    nuclear_norm,
    reverse_validation,
    score_classifiers,
    score_regressors,
    soft_neighborhood_density,
    target_clusters,
    thresholded_confidence,
)

CLASSES = np.array(["a", "b", "c"])
CENTRES = np.array([[0.0, 2.5], [2.2, -1.3], [-2.2, -1.3]])


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sure(codes, count):
    return np.eye(count)[codes]


@pytest.fixture(scope="module")
def moved():
    """Three Gaussian classes whose target is turned and moved, and classifiers that know ever more of the turn."""
    rng = np.random.default_rng(0)
    angle = 0.9
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    codes = np.repeat(np.arange(3), 100)
    source = CENTRES[codes] + rng.normal(size=(300, 2))
    target = (CENTRES[codes] + rng.normal(size=(300, 2))) @ turn.T + 1.5

    def answers(features, known):
        """Bayes' rule for the fraction `known` of the way from source to target."""
        part = np.array(
            [[np.cos(known * angle), -np.sin(known * angle)], [np.sin(known * angle), np.cos(known * angle)]]
        )
        centres = CENTRES @ part.T + 1.5 * known
        return softmax(-0.5 * ((features[:, None, :] - centres) ** 2).sum(axis=2))

    knows = {f"knows {known:g}": known for known in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}
    return {
        "source": source,
        "target": target,
        "codes": codes,
        "answers": {name: answers(target, known) for name, known in knows.items()},
        "held_out": {name: answers(source, known) for name, known in knows.items()},
    }


def order(values, accuracy):
    return spearmanr([values[name] for name in accuracy], list(accuracy.values()))[0]


# Weighted source


def test_true_weights_recover_the_target_risk():
    """Covariate shift with known Gaussians: p(y | x) stays, the ratio is known, hence the risk too."""
    plain, weighted, dev = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, 1, 400)
        y = rng.uniform(size=400) < norm.cdf(2 * x)
        weight = norm.pdf(x, 0.7, 0.8) / norm.pdf(x, 0, 1)
        losses = example_losses(y, x > -0.8)  # its threshold is wrong where the source lies, less so on the target
        plain.append(losses.mean())
        weighted.append(importance_weighted_validation(losses, weight).value)
        dev.append(deep_embedded_validation(losses, weight).value)
    grid = np.linspace(-6, 6, 20001)
    wrong = np.where(grid > -0.8, 1 - norm.cdf(2 * grid), norm.cdf(2 * grid))
    truth = np.trapezoid(wrong * norm.pdf(grid, 0.7, 0.8), grid)
    assert np.mean(weighted) == pytest.approx(truth, abs=0.01)
    assert np.mean(dev) == pytest.approx(truth, abs=0.01)
    assert abs(np.mean(plain) - truth) > 0.05


def test_dev_varies_less_than_the_plain_weighted_mean():
    means, devs = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=100)
        weight = norm.pdf(x, 0.8, 1) / norm.pdf(x)
        losses = 0.5 + 0.1 * rng.normal(size=100)  # what varies is the weights, and that the control variate removes
        means.append(np.mean(weight * losses))
        devs.append(deep_embedded_validation(losses, weight).value)
    assert np.std(devs) < 0.3 * np.std(means)
    assert np.mean(devs) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("score", [importance_weighted_validation, deep_embedded_validation])
def test_equal_weights_give_the_mean_loss(score):
    losses = np.random.default_rng(0).uniform(size=50)
    assert score(losses, np.ones(50)).value == pytest.approx(losses.mean())


@pytest.mark.parametrize("score", [importance_weighted_validation, deep_embedded_validation])
def test_without_overlap_nothing_is_said(score):
    weight = np.full(200, 1e-6)
    weight[:3] = 60.0
    assert np.isnan(score(np.ones(200), weight).value)


def test_weights_must_be_weights():
    with pytest.raises(RequestError, match="not all zero"):
        importance_weighted_validation(np.ones(3), np.zeros(3))
    with pytest.raises(RequestError, match="sample_weight"):
        deep_embedded_validation(np.ones(3), np.ones(4))


def test_losses_are_what_they_are_called():
    assert example_losses(["a", "b"], ["a", "a"]).tolist() == [0.0, 1.0]
    assert example_losses(["a", "b"], [[0.9, 0.1], [0.8, 0.2]], loss="log-loss", classes=["a", "b"]) == pytest.approx(
        -np.log([0.9, 0.2])
    )
    assert example_losses([[1.0, 2.0]], [[0.0, 4.0]], loss="squared-error").tolist() == [5.0]
    with pytest.raises(RequestError, match="classes"):
        example_losses(["z"], [[0.5, 0.5]], loss="log-loss", classes=["a", "b"])


# Closed forms of what looks at the target's answers


def test_confidence_scores_at_their_limits():
    even, flat, one = sure(np.arange(30) % 3, 3), np.full((30, 3), 1 / 3), sure(np.zeros(30, int), 3)
    assert mean_entropy(even).value == pytest.approx(0)
    assert mean_entropy(flat).value == pytest.approx(np.log(3))
    assert mutual_information(even).value == pytest.approx(np.log(3))
    assert mutual_information(flat).value == pytest.approx(0)
    assert mutual_information(one).value == pytest.approx(0)
    assert nuclear_norm(even).value == pytest.approx(1)
    assert nuclear_norm(one).value == pytest.approx(1 / np.sqrt(3))
    assert not mean_entropy(even).larger_is_better
    assert mutual_information(even).larger_is_better


def test_nuclear_norm_is_the_sum_of_singular_values():
    table = softmax(np.random.default_rng(0).normal(size=(40, 5)))
    expected = np.linalg.svd(table, compute_uv=False).sum() / np.sqrt(40 * 5)
    assert nuclear_norm(table).value == pytest.approx(expected)


def test_density_agrees_with_its_definition_and_with_counting():
    table = softmax(2 * np.random.default_rng(0).normal(size=(25, 4)))
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    total = 0.0
    for i in range(25):
        terms = np.exp([unit[i] @ unit[j] / 0.05 for j in range(25) if j != i])
        share = terms / terms.sum()
        total -= (share * np.log(share)).sum()
    assert soft_neighborhood_density(table).value == pytest.approx(total / 25)
    # Three sure groups of ten: nine equal neighbours each; in chunks as at once.
    assert soft_neighborhood_density(sure(np.arange(30) % 3, 3)).value == pytest.approx(np.log(9), abs=1e-5)
    many = softmax(2 * np.random.default_rng(1).normal(size=(1100, 3)))
    halves = np.concatenate([many[600:], many[:600]])
    assert soft_neighborhood_density(many).value == pytest.approx(soft_neighborhood_density(halves).value)


@pytest.mark.filterwarnings("error")
def test_one_example_has_no_neighbours():
    assert np.isnan(soft_neighborhood_density([[0.5, 0.5]]).value)


def test_thresholded_confidence_is_the_accuracy_where_confidence_tells_right_from_wrong():
    rng = np.random.default_rng(0)
    right = rng.uniform(size=500) < 0.7
    on_target = rng.uniform(size=400) < 0.45

    def answers(correct):
        return np.where(correct[:, None], [[0.05, 0.95]], [[0.4, 0.6]])

    found = thresholded_confidence(np.where(right, "y", "x"), answers(right), answers(on_target), ["x", "y"])
    assert found.value == pytest.approx(on_target.mean())


def test_equal_confidence_is_given_the_source_accuracy():
    labels, flat = np.array(["x", "y"] * 5), np.tile([[0.0, 1.0]], (10, 1))
    assert thresholded_confidence(labels, flat, flat, ["x", "y"]).value == pytest.approx(0.5)
    assert confidence_difference(labels, flat, flat, ["x", "y"]).value == pytest.approx(0.5)


def test_calibrated_confidence_estimates_the_target_accuracy():
    """Covariate shift of a Bayes classifier: its probabilities stay true, so the estimate must be."""
    rng = np.random.default_rng(0)
    centres = np.array([-1.0, 1.0])

    def draw(mean, n):
        x = rng.normal(mean, 1.2, n)
        table = softmax(-0.5 * (x[:, None] - centres) ** 2)
        return table, (rng.uniform(size=n) < table[:, 1]).astype(int)

    source, y = draw(2.0, 4000)
    target, truth = draw(0.0, 4000)
    accuracy = (target.argmax(axis=1) == truth).mean()
    assert (source.argmax(axis=1) == y).mean() > accuracy + 0.08
    assert confidence_difference(y, source, target, [0, 1]).value == pytest.approx(accuracy, abs=0.02)
    # ATC is no unbiased estimate under such a shift, but knows which way it goes.
    assert thresholded_confidence(y, source, target, [0, 1]).value < (source.argmax(axis=1) == y).mean() - 0.08


def test_calibration_takes_back_what_is_only_claimed():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    logits = rng.normal(size=(600, 3)) + 1.5 * np.eye(3)[labels]
    honest, boastful = softmax(1.5 * logits), softmax(12 * logits)
    one, two = (calibrate(labels, table, table, [0, 1, 2]) for table in (honest, boastful))
    assert one == pytest.approx(two, abs=1e-3)
    assert one.max(axis=1).mean() == pytest.approx((one.argmax(axis=1) == labels).mean(), abs=0.02)
    guesses = np.eye(3)[rng.integers(0, 3, 600)]
    assert calibrate(labels, guesses, guesses, [0, 1, 2]).max() < 0.4
    perfect = np.eye(3)[labels]
    assert 0.95 < calibrate(labels, perfect, perfect, [0, 1, 2]).max() < 1


def test_cluster_agreement_knows_chance_and_names_do_not_matter(moved):
    clusters = target_clusters(moved["target"], 3)
    names = CLASSES[moved["codes"]]
    good = cluster_agreement(names, clusters).value
    assert good > 0.7
    assert cluster_agreement(np.roll(CLASSES, 1)[moved["codes"]], clusters).value == pytest.approx(good)
    assert cluster_agreement(np.full(300, "a"), clusters).value == 0
    assert abs(cluster_agreement(np.random.default_rng(0).permutation(names), clusters).value) < 0.05


def test_clusters_do_not_depend_on_the_features_unit():
    features = np.random.default_rng(0).normal(size=(60, 80)) + 3 * np.repeat(np.eye(80)[:3], 20, axis=0)
    clusters = target_clusters(features, 3)
    assert cluster_agreement(clusters, target_clusters(1000 * features + 5, 3)).value == pytest.approx(1)


def test_committee_agrees_with_itself():
    right, odd = sure(np.arange(9) % 3, 3), sure((np.arange(9) + 1) % 3, 3)
    found = committee_agreement({"one": right, "two": right, "odd": odd})
    assert (found["one"].value, found["two"].value, found["odd"].value) == (1.0, 1.0, 0.0)
    numbers = committee_agreement({"one": np.zeros(4), "two": np.full(4, 2.0)}, numbers=True)
    assert numbers["one"].value == numbers["two"].value == 1.0
    assert not numbers["one"].larger_is_better


@pytest.mark.parametrize("score", [mean_entropy, mutual_information, nuclear_norm, soft_neighborhood_density])
def test_rows_may_come_in_any_order_and_answers_in_any_columns(score):
    rng = np.random.default_rng(0)
    table = softmax(rng.normal(size=(50, 4)))
    assert score(table[rng.permutation(50)][:, [2, 0, 3, 1]]).value == pytest.approx(score(table).value)


@pytest.mark.parametrize("score", [mean_entropy, mutual_information, nuclear_norm, soft_neighborhood_density])
def test_what_is_no_probability_is_refused(score):
    with pytest.raises(RequestError, match="sum to one"):
        score(np.array([[2.0, -1.0], [0.5, 0.5]]))


# The way there and back


def nearest_mean(features, labels, others):
    """Class means, moved by the difference of the domains' means: right where the domains differ by a shift."""
    names = np.unique(labels)
    means = np.stack([features[labels == k].mean(axis=0) for k in names]) + others.mean(axis=0) - features.mean(axis=0)
    return lambda x: names[((x[:, None, :] - means) ** 2).sum(axis=2).argmin(axis=1)]


def nearest_mean_unmoved(features, labels, others):
    names = np.unique(labels)
    means = np.stack([features[labels == k].mean(axis=0) for k in names])
    return lambda x: names[((x[:, None, :] - means) ** 2).sum(axis=2).argmin(axis=1)]


def test_the_circle_closes_for_the_method_that_bridges_the_gap():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(3), 40)
    source, target = (CENTRES[codes] + rng.normal(size=(120, 2)) for _ in range(2))
    target = target + np.array([6.0, 0.0])
    bridged = reverse_validation(nearest_mean, source, CLASSES[codes], target)
    plain = reverse_validation(nearest_mean_unmoved, source, CLASSES[codes], target)
    assert bridged.value < 0.2 < 0.3 < plain.value


def test_the_circle_through_one_class_is_as_wrong_as_that_class():
    rng = np.random.default_rng(0)
    source, labels = rng.normal(size=(60, 2)), np.repeat(["a", "b"], 30)

    def constant(features, labels, others):
        return lambda x: np.full(len(x), "a")

    assert reverse_validation(constant, source, labels, rng.normal(size=(40, 2))).value == pytest.approx(0.5)


def test_the_circle_of_numbers_is_a_squared_error():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(90, 1)), rng.normal(size=(80, 1)) + 4
    numbers = 2 * source[:, 0]

    def line(features, labels, others):
        slope = np.linalg.lstsq(np.c_[features, np.ones(len(features))], labels, rcond=None)[0]
        return lambda x: np.c_[x, np.ones(len(x))] @ slope

    def mean(features, labels, others):
        return lambda x: np.full(len(x), labels.mean())

    assert reverse_validation(line, source, numbers, target, loss="squared-error").value < 1e-12
    found = reverse_validation(mean, source, numbers, target, loss="squared-error").value
    assert found == pytest.approx(numbers.var(), rel=0.1)


# Known order


def test_scores_order_classifiers_as_their_true_accuracy_does(moved):
    accuracy = {m: float((table.argmax(axis=1) == moved["codes"]).mean()) for m, table in moved["answers"].items()}
    assert list(accuracy.values()) == sorted(accuracy.values())
    assert accuracy["knows 1"] - accuracy["knows 0"] > 0.15
    found = score_classifiers(moved["answers"], CLASSES, target_features=moved["target"])
    values = {}
    for name, scores in found.items():
        for score in scores:
            values.setdefault(score.name, {})[name] = score.merit
    for score in ("entropy", "mutual-information", "nuclear-norm", "cluster-agreement"):
        assert order(values[score], accuracy) > 0.75, score


def test_weighted_validation_orders_classifiers_under_covariate_shift():
    """p(y | x) is one rule of x; the target lies where linear rules of other slopes are right."""
    rng = np.random.default_rng(0)
    source = rng.normal(0, 1.5, (3000, 2))
    target = rng.multivariate_normal([1.0, 0.5], 0.7 * np.eye(2), 3000)

    def truth(x):
        return (x[:, 1] > np.sin(2 * x[:, 0])).astype(int)

    ratio = multivariate_normal([1.0, 0.5], 0.7 * np.eye(2)).pdf(source)
    ratio /= multivariate_normal([0, 0], 2.25 * np.eye(2)).pdf(source)
    accuracy, weighted, dev = {}, {}, {}
    for k, slope in enumerate(np.linspace(-1.5, 1.5, 9)):
        name = f"slope {k}"
        rule = lambda x, slope=slope: (x[:, 1] > slope * (x[:, 0] - 1) + 0.6).astype(int)  # noqa: E731
        accuracy[name] = (rule(target) == truth(target)).mean()
        losses = example_losses(truth(source), rule(source))
        weighted[name] = importance_weighted_validation(losses, ratio).merit
        dev[name] = deep_embedded_validation(losses, ratio).merit
    assert order(weighted, accuracy) > 0.9
    assert order(dev, accuracy) > 0.9


def test_weighted_squared_error_orders_regressions():
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, 2000), rng.normal(1, 0.6, 2000)
    weight = norm.pdf(source, 1, 0.6) / norm.pdf(source)
    models = {f"at {c:g}": (lambda x, c=c: np.sin(c) + np.cos(c) * (x - c)) for c in (-1.0, -0.5, 0.0, 0.5, 1.0)}
    found = score_regressors(
        {name: model(target) for name, model in models.items()},
        source={name: model(source) for name, model in models.items()},
        source_labels=np.sin(source),
        sample_weight=weight,
    )
    risk = {name: -np.mean((model(target) - np.sin(target)) ** 2) for name, model in models.items()}
    for score in ("importance-weighted", "dev"):
        values = {m: next(s.merit for s in scores if s.name == score) for m, scores in found.items()}
        assert order(values, risk) > 0.85, score


def test_every_score_says_its_direction_and_evidence(moved):
    found = score_classifiers(
        moved["answers"],
        CLASSES,
        target_features=moved["target"],
        source=moved["held_out"],
        source_labels=CLASSES[moved["codes"]],
        sample_weight=np.ones(300),
        circle=dict.fromkeys(moved["answers"], RiskScore("reverse-validation", 0.1, False, "circle")),
    )
    for scores in found.values():
        assert len({score.name for score in scores}) == len(scores) == 12
        assert {score.evidence for score in scores} == set(public.EVIDENCE_WEIGHT)
        assert all(np.isfinite(score.value) for score in scores)


def test_nothing_handed_in_is_changed(moved):
    table = moved["answers"]["knows 0.4"].copy()
    features = moved["target"].copy()
    score_classifiers({"one": table, "two": moved["answers"]["knows 1"]}, CLASSES, target_features=features)
    assert (table == moved["answers"]["knows 0.4"]).all()
    assert (features == moved["target"]).all()


def test_source_answers_need_their_labels(moved):
    with pytest.raises(RequestError, match="source_labels"):
        score_classifiers(moved["answers"], CLASSES, source=moved["held_out"])
