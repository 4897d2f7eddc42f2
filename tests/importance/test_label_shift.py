"""Label shift: known shares are recovered by every method."""

import numpy as np
import pytest

from graft.errors import DataError, RequestError
from graft.importance import LABEL_SHIFTS, calibrated, method

METHODS = list(LABEL_SHIFTS)
MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])


def posterior(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    logits = -0.5 * ((points[:, None] - MEANS) ** 2).sum(axis=2) + np.log(shares)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def shifted(seed: int = 0, rows: int = 3000):
    """Three Gaussian classes of shares (.5, .3, .2) in the source and (.2, .2, .6) in the target."""
    draws = np.random.default_rng(seed)
    shares = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    codes = [draws.choice(3, p=share, size=rows) for share in shares]
    points = [MEANS[code] + draws.normal(size=(rows, 2)) for code in codes]
    labels = np.array(["x", "y", "z"])[codes[0]]
    return labels, *(posterior(p, shares[0]) for p in points), shares[1] / shares[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_known_class_weights_are_recovered(name, seed):
    labels, source, target, truth = shifted(seed)
    found = method(name)(labels, source, target)
    assert list(found.class_weight) == ["x", "y", "z"]
    np.testing.assert_allclose(list(found.class_weight.values()), truth, atol=0.2)
    np.testing.assert_allclose(found.sample_weight, [found.class_weight[label] for label in labels], rtol=1e-9)
    assert found.sample_weight.mean() == pytest.approx(1)
    np.testing.assert_allclose(found.evaluate(["z", "x"]), [found.class_weight["z"], found.class_weight["x"]])
    assert sum(found.parameters["target_shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize("name", METHODS)
def test_identical_domains_get_flat_weights(name):
    labels, source, _, _ = shifted()
    np.testing.assert_allclose(method(name)(labels, source, source).sample_weight, 1, atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_shuffled_rows_get_shuffled_weights(name):
    labels, source, target, _ = shifted(rows=500)
    rows = np.random.default_rng(0).permutation(500)
    plain = method(name)(labels, source, target).sample_weight
    np.testing.assert_allclose(
        method(name)(labels[rows], source[rows], target[rows]).sample_weight, plain[rows], atol=1e-6
    )


@pytest.mark.parametrize("name", METHODS)
def test_labels_and_arrays_of_any_kind(name):
    labels, source, target, _ = shifted(rows=600)
    numbers = np.where(labels == "x", -1, np.where(labels == "y", 0, 1))
    plain = method(name)(labels, source, target).sample_weight
    for table in (source, target, numbers):
        table.flags.writeable = False
    before = source.copy(), target.copy()
    np.testing.assert_array_equal(method(name)(numbers, source, target).sample_weight, plain)
    np.testing.assert_array_equal(source, before[0])
    np.testing.assert_array_equal(target, before[1])
    single = method(name)(numbers, source.astype(np.float32), target.astype(np.float32)).sample_weight
    np.testing.assert_allclose(single, plain, atol=1e-3)
    turned = method(name)(labels, source[:, ::-1], target[:, ::-1], classes=["z", "y", "x"]).sample_weight
    np.testing.assert_allclose(turned, plain, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_class_without_target_examples_gets_next_to_no_weight(name):
    draws = np.random.default_rng(0)
    labels, source, _, _ = shifted()
    codes = draws.choice([0, 1], size=2000)
    target = posterior(MEANS[codes] + draws.normal(size=(2000, 2)), np.array([0.5, 0.3, 0.2]))
    found = method(name)(labels, source, target)
    assert 0 <= found.class_weight["z"] < 0.15
    assert found.sample_weight.min() >= 0


@pytest.mark.parametrize("name", METHODS)
def test_a_class_without_source_examples_is_left_out(name):
    labels, source, target, _ = shifted()
    kept = labels != "z"
    found = method(name)(labels[kept], source[kept], target, classes=["x", "y", "z"])
    assert found.class_weight["z"] == 0
    assert np.isfinite(found.sample_weight).all()
    with pytest.raises(DataError, match=r"expected shape \(examples, 2\)"):
        method(name)(labels[kept], source[kept], target)


@pytest.mark.parametrize("name", METHODS)
def test_rows_that_could_not_be_held_out_take_no_part(name):
    labels, source, target, _ = shifted(rows=400)
    gaps = source.copy()
    gaps[:50] = np.nan
    found = method(name)(labels, gaps, target)
    assert found.sample_weight.shape == (400,)
    assert np.isfinite(found.sample_weight).all()


def test_calibration_mends_overconfident_and_biased_probabilities():
    labels, source, target, truth = shifted()
    spoilt = [calibrated(p, 0.4, np.array([1.0, 0.0, -1.0])) for p in (source, target)]

    def error(calibration):
        found = method("maximum-likelihood")(labels, *spoilt, calibration=calibration)
        return np.abs(np.array(list(found.class_weight.values())) - truth).max()

    assert error("bias-corrected") < 0.15
    assert error("none") > 2 * error("bias-corrected")
    assert error("none") > error("temperature")


def test_maximum_likelihood_is_a_fixed_point_of_expectation_maximisation():
    labels, source, target, _ = shifted(rows=800)
    found = method("maximum-likelihood")(labels, source, target, calibration="none", tolerance=1e-12)
    before = np.array([np.mean(labels == name) for name in "xyz"])
    shares = np.array(list(found.parameters["target_shares"].values()))
    odds = target * shares / before
    np.testing.assert_allclose((odds / odds.sum(axis=1, keepdims=True)).mean(axis=0), shares, atol=1e-8)


def test_the_penalty_shrinks_to_one():
    labels, source, target, _ = shifted(rows=500)
    plain = np.array(list(method("bbse")(labels, source, target).class_weight.values()))
    none = np.array(list(method("rlls")(labels, source, target, strength=0.0).class_weight.values()))
    np.testing.assert_allclose(none, plain, atol=1e-6)
    spread = [np.std(method("rlls")(labels, source, target, strength=s).sample_weight) for s in (0.01, 0.45, 10.0)]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] == 0


@pytest.mark.parametrize("name", METHODS)
def test_what_does_not_fit_is_refused(name):
    labels, source, target, _ = shifted(rows=60)
    with pytest.raises(DataError, match="expected 60 rows, as many as labels"):
        method(name)(labels, source[:50], target)
    with pytest.raises(DataError, match="rows of probabilities that sum to one"):
        method(name)(labels, source, 3 * target)
    with pytest.raises(DataError, match="labels: expected labels among"):
        method(name)(labels, source, target).evaluate(["unheard-of"])


def test_unknown_names_are_refused():
    labels, source, target, _ = shifted(rows=60)
    with pytest.raises(RequestError, match="calibration"):
        method("maximum-likelihood")(labels, source, target, calibration="platt")
    with pytest.raises(RequestError, match="Did you mean 'rlls'"):
        method("rlss")
