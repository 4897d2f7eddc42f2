"""Metrics agree with scikit-learn, and their intervals with brute-force resampling."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from graft.errors import DataError
from graft.metrics import (
    Evaluation,
    Statistic,
    bootstrap,
    evaluate_classification,
    evaluate_multilabel,
    evaluate_regression,
)


@pytest.fixture(scope="module")
def classified():
    rng = np.random.default_rng(0)
    classes = np.array(["ash", "birch", "cedar", "dogwood"])
    labels = classes[rng.integers(0, 4, 300)]
    logits = rng.normal(size=(300, 4)) + 2 * (labels[:, None] == classes)
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, proba, classes


def test_classification_metrics_agree_with_scikit_learn(classified):
    labels, proba, classes = classified
    guess = classes[proba.argmax(axis=1)]
    found = evaluate_classification(labels, proba, classes)
    assert found.metrics["accuracy"].value == pytest.approx(reference.accuracy_score(labels, guess))
    assert found.metrics["macro_f1"].value == pytest.approx(reference.f1_score(labels, guess, average="macro"))
    assert found.metrics["log_loss"].value == pytest.approx(reference.log_loss(labels, proba))
    assert (found.confusion == reference.confusion_matrix(labels, guess)).all()
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, guess)
    for k, row in enumerate(found.per_class):
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((precision[k], recall[k], f1[k]))
        assert row["examples"] == support[k]


def test_macro_f1_leaves_out_classes_that_neither_side_mentions():
    found = evaluate_classification(["a", "b"], [[1, 0, 0], [0, 1, 0]], ["a", "b", "never"])
    assert found.metrics["macro_f1"].value == 1.0


def test_calibration_error_against_its_definition(classified):
    labels, proba, classes = classified
    confidence, correct = proba.max(axis=1), classes[proba.argmax(axis=1)] == labels
    expected = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert evaluate_classification(labels, proba, classes).metrics["ece"].value == pytest.approx(expected)


def test_interval_agrees_with_resampling_by_hand(classified):
    labels, proba, classes = classified
    found = evaluate_classification(labels, proba, classes).metrics
    rng = np.random.default_rng(1)
    guess = classes[proba.argmax(axis=1)]
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, len(labels), len(labels))
        drawn.append(reference.f1_score(labels[rows], guess[rows], average="macro"))
    low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975])
    assert found["macro_f1"].low == pytest.approx(low + found["macro_f1"].value - middle, abs=0.01)
    assert found["macro_f1"].high == pytest.approx(high + found["macro_f1"].value - middle, abs=0.01)


def test_intervals_repeat_and_cover_the_value(classified):
    first, second = evaluate_classification(*classified).metrics, evaluate_classification(*classified).metrics
    assert first == second
    for estimate in first.values():
        assert estimate.low < estimate.value < estimate.high


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        correct = (rng.uniform(size=(150, 1)) < 0.8).astype(float)
        metric = {"accuracy": Statistic(correct, lambda means: means[..., 0], (0, 1))}
        found = bootstrap(metric, random_state=seed)["accuracy"]
        hits += found.low <= 0.8 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_perfect_predictions_still_have_an_honest_interval():
    found = evaluate_classification(["a", "b"] * 5, [[1, 0], [0, 1]] * 5, ["a", "b"]).metrics["accuracy"]
    assert found.value == 1.0
    assert found.high == pytest.approx(1.0)
    assert found.low == pytest.approx(10 / (10 + 1.959963984540054**2))  # Wilson's closed form at p = 1


def test_perfect_predictions_of_few_groups_are_few_trials():
    """However many copies each group holds."""
    labels, groups = np.array(["a", "b", "a", "b", "a"]).repeat(100), np.arange(5).repeat(100)
    shares = np.where((labels == "a")[:, None], [0.9, 0.1], [0.1, 0.9])
    table = np.stack([labels == "a", labels == "b"], axis=1).astype(float)
    table[groups == 4] = np.nan  # of which nothing is known
    for trials, found in (
        (5, evaluate_classification(labels, shares, ["a", "b"], groups=groups)),
        (4, evaluate_multilabel(table, shares, ["a", "b"], groups=groups)),
        (400, evaluate_multilabel(table, shares, ["a", "b"])),
        (400, evaluate_multilabel(1 - table, shares, ["a", "b"])),
    ):
        for name in ("accuracy", "macro_f1"):
            one = found.metrics[name]
            least = trials / (trials + 1.959963984540054**2)
            assert (one.low, one.high) == pytest.approx((least, 1) if one.value == 1 else (0, 1 - least))


@pytest.mark.filterwarnings("error")
def test_resamples_without_a_known_cell_are_passed_over():
    table = np.full((5, 2), np.nan)
    table[0, 0], table[1, 1] = 1, 0
    found = evaluate_multilabel(table, np.full((5, 2), 0.4), ["p", "q"])
    assert found.metrics["accuracy"].value == 0.5
    assert found.metrics["accuracy"].low == 0


def test_groups_of_copies_widen_the_interval_as_if_there_were_no_copies():
    rng = np.random.default_rng(0)
    correct = rng.integers(0, 2, 60).astype(float)
    metric = {"accuracy": Statistic(correct[:, None], lambda means: means[..., 0])}
    copies = {"accuracy": Statistic(np.repeat(correct, 5)[:, None], lambda means: means[..., 0])}
    assert bootstrap(copies, groups=np.repeat(np.arange(100, 160), 5)) == bootstrap(metric)


def test_regression_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    for shape in ((80,), (80, 3)):
        truth = 1e4 + rng.normal(size=shape)
        guess = truth + rng.normal(size=shape)
        found = evaluate_regression(truth, guess).metrics
        assert found["rmse"].value == pytest.approx(np.sqrt(reference.mean_squared_error(truth, guess)))
        assert found["mae"].value == pytest.approx(reference.mean_absolute_error(truth, guess))
        assert found["r2"].value == pytest.approx(reference.r2_score(truth, guess))


def test_multilabel_without_gaps_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth, proba = rng.integers(0, 2, (90, 4)), rng.uniform(size=(90, 4))
    found = evaluate_multilabel(truth, proba, list("abcd")).metrics
    assert found["macro_f1"].value == pytest.approx(reference.f1_score(truth, proba >= 0.5, average="macro"))
    assert found["accuracy"].value == pytest.approx((truth == (proba >= 0.5)).mean())
    assert found["log_loss"].value == pytest.approx(reference.log_loss(truth.ravel(), proba.ravel()))


def test_unknown_cells_do_not_count():
    rng = np.random.default_rng(0)
    truth, proba = rng.integers(0, 2, (50, 2)).astype(float), rng.uniform(size=(50, 2))
    alone = evaluate_multilabel(truth, proba, ["a", "b"]).metrics
    padded = np.concatenate([truth, np.full((20, 2), np.nan)])
    with_gaps = evaluate_multilabel(padded, np.concatenate([proba, rng.uniform(size=(20, 2))]), ["a", "b"]).metrics
    for name in alone:
        assert with_gaps[name].value == pytest.approx(alone[name].value)


def test_a_class_the_model_does_not_know_is_named():
    with pytest.raises(DataError, match="'zebra'"):
        evaluate_classification(["a", "zebra"], [[1, 0], [0, 1]], ["a", "b"])


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="at least one labelled example"):
        evaluate_regression([], [])


def test_the_dictionary_is_json_and_comes_back(classified):
    found = evaluate_classification(*classified)
    plain = json.loads(json.dumps(found.to_dict()))
    assert Evaluation.from_dict(plain).to_dict() == found.to_dict()
    assert plain["examples"] == 300
    assert set(plain["metrics"]["accuracy"]) == {"value", "low", "high"}


def test_what_is_not_finite_is_none_in_json():
    found = evaluate_regression([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert found.metrics["r2"].value == -np.inf
    assert found.to_dict()["metrics"]["r2"]["value"] is None
