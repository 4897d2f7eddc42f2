"""Laws that hold for every method of reweighting by features."""

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import spearmanr

from graft.errors import DataError, RequestError
from graft.importance import DENSITY_RATIOS, Weights, method

METHODS = list(DENSITY_RATIOS)
WITH_RATIO = [name for name in METHODS if name != "kmm"]
# Between Gaussians in one dimension and in three, a mean shift: floor of the rank correlation, ceiling of the squared
# error relative to that of flat weights. A method that returns flat or inverted weights fails both.
RECOVERY = {
    "classifier": (0.97, 0.10),
    "kliep": (0.90, 0.40),
    "ulsif": (0.80, 0.45),
    "rulsif": (0.80, 0.45),
    "kmm": (0.85, 0.30),
    "nearest-neighbors": (0.75, 0.60),
}


def gaussians(columns: int, *, seed: int = 0, shift: float = 0.8, rows: tuple[int, int] = (500, 400)):
    """Source N(0, I), target N(shift e_1, I), and the true ratio at the source."""
    draws = np.random.default_rng(seed)
    source, target = draws.normal(size=(rows[0], columns)), draws.normal(size=(rows[1], columns))
    target[:, 0] += shift
    return source, target, np.exp(shift * source[:, 0] - shift**2 / 2)


def estimate(name: str, source, target) -> Weights:
    return method(name)(source, target)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_the_true_ratio_of_gaussians_is_recovered(name, columns):
    rank, error = RECOVERY[name]
    for seed in range(4):
        source, target, truth = gaussians(columns, seed=seed)
        if name == "rulsif":
            truth = truth / (0.1 * truth + 0.9)
        truth = truth / truth.mean()
        found = estimate(name, source, target).sample_weight
        assert spearmanr(found, truth)[0] > rank
        assert ((found - truth) ** 2).mean() < error * ((1 - truth) ** 2).mean()


@pytest.mark.parametrize("name", METHODS)
def test_a_narrower_target_weighs_the_middle(name):
    draws = np.random.default_rng(3)
    source, target = draws.normal(size=(500, 2)), 0.5 * draws.normal(size=(400, 2))
    found = estimate(name, source, target).sample_weight
    assert spearmanr(found, -(source**2).sum(axis=1))[0] > 0.7


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_not_negative_and_average_one(name, dtype):
    source, target, _ = gaussians(4)
    found = estimate(name, source.astype(dtype), target.astype(dtype))
    assert found.sample_weight.dtype == np.float64
    assert found.sample_weight.shape == (len(source),)
    assert found.sample_weight.min() >= 0
    assert found.sample_weight.mean() == pytest.approx(1, abs=1e-12)
    assert np.std(found.sample_weight) > 0.1
    exact = estimate(name, source.astype(dtype).astype(np.float64), target.astype(dtype).astype(np.float64))
    np.testing.assert_allclose(found.sample_weight, exact.sample_weight, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_identical_domains_get_flat_weights(name):
    source, _, _ = gaussians(5)
    np.testing.assert_allclose(estimate(name, source, source[::-1]).sample_weight, 1, atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_samples_of_one_distribution_keep_nearly_all_examples(name):
    source, target, _ = gaussians(5, shift=0.0)
    assert estimate(name, source, target).effective_sample_size > 0.8 * len(source)


@pytest.mark.parametrize("name", METHODS)
def test_shuffled_rows_get_shuffled_weights(name):
    source, target, _ = gaussians(3, rows=(260, 240))
    draws = np.random.default_rng(5)
    rows, target_rows = draws.permutation(len(source)), draws.permutation(len(target))
    plain = estimate(name, source, target).sample_weight
    shuffled = estimate(name, source[rows], target[target_rows]).sample_weight
    np.testing.assert_allclose(shuffled, plain[rows], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_moving_and_stretching_columns_changes_nothing(name):
    source, target, _ = gaussians(3, rows=(200, 200))
    stretch, move = np.array([1e-3, 1.0, 1e4]), np.array([5.0, 1e5, -2.0])
    plain = estimate(name, source, target).sample_weight
    # Rows are drawn by their content, which moving changes: as many centres as rows leaves nothing to draw.
    moved = estimate(name, source * stretch + move, target * stretch + move).sample_weight
    tolerance = 1e-4 if name in {"kmm", "nearest-neighbors"} else None
    if tolerance is not None:
        np.testing.assert_allclose(moved, plain, atol=tolerance)
    else:
        assert spearmanr(moved, plain)[0] > 0.8


@pytest.mark.parametrize("name", METHODS)
def test_the_callers_arrays_stay_as_they_are(name):
    source, target, _ = gaussians(3, rows=(120, 100))
    for table in (source, target):
        table.flags.writeable = False
    before = source.copy(), target.copy()
    estimate(name, source, target)
    np.testing.assert_array_equal(source, before[0])
    np.testing.assert_array_equal(target, before[1])


@pytest.mark.parametrize("name", METHODS)
def test_duplicates_and_constant_columns(name):
    source, target, _ = gaussians(2, rows=(150, 120))
    source, target = (np.column_stack([t, np.full(len(t), 7.0), np.zeros(len(t))]) for t in (source, target))
    source = np.vstack([source, source[:50], source[:50]])
    found = estimate(name, source, target).sample_weight
    assert np.isfinite(found).all()
    tolerance = 1e-5 if name == "kmm" else 1e-6  # that of its solver
    np.testing.assert_allclose(found[150:200], found[200:250], atol=tolerance)
    np.testing.assert_allclose(found[:50], found[200:250], atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_wide_features(name):
    draws = np.random.default_rng(0)
    source, target = (draws.normal(size=(200, 1280)).astype(np.float32) for _ in range(2))
    target[:, :40] += 1.0
    found = estimate(name, source, target).sample_weight
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx(1)
    if name not in {"nearest-neighbors", "kliep"}:
        assert spearmanr(found, source[:, :40].sum(axis=1))[0] > 0.1


@pytest.mark.parametrize("name", METHODS)
def test_sparse_features_weigh_as_dense_ones(name):
    draws = np.random.default_rng(0)
    source, target = (draws.poisson(rate, size=(150, 8)).astype(float) for rate in (0.3, 0.6))
    dense = estimate(name, source, target).sample_weight
    sparse = estimate(name, scipy.sparse.csr_matrix(source), scipy.sparse.csr_matrix(target)).sample_weight
    if name == "classifier":  # without squares; and penalised intercepts see the location
        assert spearmanr(dense, sparse)[0] > 0.8
    else:
        assert spearmanr(dense, sparse)[0] > 0.7
    assert sparse.mean() == pytest.approx(1)


@pytest.mark.parametrize("name", WITH_RATIO)
def test_other_points_are_weighed_on_the_same_scale(name):
    source, target, _ = gaussians(1)
    found = estimate(name, source, target)
    again = found.evaluate(source)
    if name == "classifier":  # the source's own weights come from classifiers that did not see the example
        np.testing.assert_allclose(again, found.sample_weight, rtol=0.25)
    else:
        np.testing.assert_allclose(again, found.sample_weight, atol=1e-9)
    fresh, _, truth = gaussians(1, seed=77)
    assert spearmanr(found.evaluate(fresh), truth)[0] > 0.9


def test_kernel_matching_weighs_no_other_points():
    source, target, _ = gaussians(1, rows=(50, 50))
    with pytest.raises(RequestError, match="a method that defines a ratio"):
        estimate("kmm", source, target).evaluate(source)


@pytest.mark.parametrize("name", METHODS)
def test_flattened_weights_are_powers(name):
    source, target, _ = gaussians(1, rows=(120, 100))
    found = estimate(name, source, target)
    half = found.flattened(0.5)
    np.testing.assert_allclose(half.sample_weight, np.sqrt(found.sample_weight) / np.sqrt(found.sample_weight).mean())
    np.testing.assert_allclose(found.flattened(0).sample_weight, 1)
    assert half.effective_sample_size > found.effective_sample_size
    if half.ratio is not None:
        whole, rooted = found.evaluate(source), half.evaluate(source)
        np.testing.assert_allclose(rooted * np.sqrt(whole.max()), np.sqrt(whole) * rooted.max(), atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_tempered_weights_keep_the_share_that_was_asked_for(name):
    source, target, _ = gaussians(1, rows=(120, 100), shift=1.5)
    found = estimate(name, source, target)
    tempered = found.tempered(0.7)
    assert tempered.effective_sample_size == pytest.approx(84, abs=1) or (found.sample_weight == 0).mean() > 0.3
    assert tempered.effective_sample_size >= 84 - 1e-6
    assert found.tempered(0.01) is found
    assert (np.diff(tempered.sample_weight[np.argsort(found.sample_weight)]) >= -1e-12).all()


@pytest.mark.parametrize("name", METHODS)
def test_unusable_samples_are_refused(name):
    source, target, _ = gaussians(2, rows=(30, 30))
    with pytest.raises(DataError, match="target: expected 2 columns, as in the source, found 1"):
        estimate(name, source, target[:, :1])
    with pytest.raises(DataError, match="source: expected 2 or more examples"):
        estimate(name, source[:1], target)
    source[0, 0] = np.nan
    with pytest.raises(DataError, match="source: expected a table of finite numbers"):
        estimate(name, source, target)
