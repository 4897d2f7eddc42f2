"""What holds for every alignment of two domains on arrays, whatever it does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline

from graft.alignment import (
    CORAL,
    GeodesicFlowKernel,
    JointDistributionAdaptation,
    LinearTransport,
    OptimalTransport,
    SubspaceAlignment,
    TransferComponentAnalysis,
)
from graft.errors import DataError, GraftError
from graft.persistence import assemble, dismantle

METHODS = {
    "coral": CORAL(),
    "coral-exact": CORAL(shrinkage=0),
    "subspace": SubspaceAlignment(n_components=3),
    "subspace-chosen": SubspaceAlignment(),
    "flow": GeodesicFlowKernel(n_components=3),
    "flow-chosen": GeodesicFlowKernel(),
    "tca": TransferComponentAnalysis(n_components=3),
    "tca-linear": TransferComponentAnalysis(n_components=3, kernel="linear"),
    "tca-rbf": TransferComponentAnalysis(n_components=3, kernel="rbf"),
    "jda": JointDistributionAdaptation(n_components=3),
    "jda-rbf": JointDistributionAdaptation(n_components=3, kernel="rbf"),
    "bda": JointDistributionAdaptation(n_components=3, balance=None),
    "bda-classes": JointDistributionAdaptation(n_components=3, kernel="linear", balance=0.9),
    "transport": OptimalTransport(),
    "transport-linear": LinearTransport(),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
COLUMNS = 6


def domains(rows=(90, 70), *, seed=0, columns=COLUMNS):
    """Three classes; the target is turned a little, scaled and shifted along two columns that say nothing."""
    draws = np.random.default_rng(seed)
    centres = 4 * draws.normal(size=(3, columns))
    centres[:, -2:] = 0
    labels = [np.arange(count) % 3 for count in rows]
    source, target = (centres[codes] + draws.normal(size=(len(codes), columns)) for codes in labels)
    turn = np.linalg.qr(np.eye(columns) + 0.1 * draws.normal(size=(columns, columns)))[0]
    turn = turn * np.sign(np.diag(turn))
    target = target @ turn * 1.3
    target[:, -1] += 5
    names = np.array(["bird", "cat", "dog"])
    return source, names[labels[0]], target, names[labels[1]]


def pairwise(left, right=None):
    right = left if right is None else right
    return np.sqrt(np.maximum(((left[:, None] - right[None]) ** 2).sum(axis=2), 0))


def mean_distance(source, target):
    """The squared distance of the means beside the variance of both domains together."""
    both = np.concatenate([source, target])
    return ((source.mean(axis=0) - target.mean(axis=0)) ** 2).sum() / both.var(axis=0).sum()


@every_method
def test_identical_domains_keep_their_neighbours(method):
    source, y, _, _ = domains()
    # Three directions carry nearly everything, and equally, so that three components of any scale can keep it.
    source -= source.mean(axis=0)
    source[:, :3] = np.linalg.svd(source[:, :3], full_matrices=False)[0] * np.sqrt(len(source))
    source[:, 3:] *= 1e-3
    fitted = clone(method).fit(source, y, target=source.copy())
    mapped = fitted.transform(source)
    np.testing.assert_allclose(fitted.transform_source(source), mapped, atol=1e-9)
    before, after = (
        NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(return_distance=False) for rows in (source, mapped)
    )
    kept = np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(before, after, strict=True)])
    assert kept > 0.8


@every_method
def test_without_a_target_there_is_nothing_to_bridge(method):
    source, y, _, _ = domains()
    fitted = clone(method).fit(source, y)
    np.testing.assert_allclose(fitted.transform(source), fitted.transform_source(source), atol=1e-9)


@every_method
def test_the_order_of_rows_does_not_matter(method):
    source, y, target, _ = domains()
    draws = np.random.default_rng(1)
    left, right = draws.permutation(len(source)), draws.permutation(len(target))
    first = clone(method).fit(source, y, target=target)
    second = clone(method).fit(source[left], y[left], target=target[right])
    # Distances, because directions that both domains share may be turned within their subspace.
    distances = [pairwise(each.transform_source(source), each.transform(target)) for each in (first, second)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-6 * distances[0].max())


@every_method
def test_inputs_are_mapped_one_by_one(method):
    """In sample and out of it: the representation of an input does not depend on those beside it."""
    source, y, target, _ = domains()
    fitted = clone(method).fit(source, y, target=target)
    np.testing.assert_allclose(fitted.transform(target[:1]), fitted.transform(target)[:1], atol=1e-10)
    np.testing.assert_allclose(fitted.transform_source(source[3:5]), fitted.transform_source(source)[3:5], atol=1e-10)
    np.testing.assert_allclose(clone(method).fit_transform(source, y, target=target), fitted.transform_source(source))


@every_method
def test_the_map_is_continuous(method):
    source, y, target, _ = domains()
    fitted = clone(method).fit(source, y, target=target)
    there, near = fitted.transform(target), fitted.transform(target + 1e-7)
    assert np.abs(there - near).max() < 1e-4 * np.abs(there).max()


@every_method
def test_the_means_of_the_domains_come_closer(method):
    source, y, target, _ = domains()
    fitted = clone(method).fit(source, y, target=target)
    before = mean_distance(source, target)
    after = mean_distance(fitted.transform_source(source), fitted.transform(target))
    assert before > 0.2
    assert after < before / 5


@every_method
def test_the_neighbour_of_another_domain_is_right_more_often(method):
    source, y, target, truth = domains()
    fitted = clone(method).fit(source, y, target=target)
    before = KNeighborsClassifier(1).fit(source, y).score(target, truth)
    after = KNeighborsClassifier(1).fit(fitted.transform_source(source), y).score(fitted.transform(target), truth)
    assert after >= before
    assert after > 0.9


@every_method
def test_the_unit_of_the_features_does_not_matter(method):
    source, y, target, _ = domains()
    small, large = (clone(method).fit(unit * source, y, target=unit * target) for unit in (1.0, 1e3))
    first, second = small.transform(target), large.transform(1e3 * target)
    distances = pairwise(first) / np.linalg.norm(first), pairwise(second) / np.linalg.norm(second)
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-6 * distances[0].max())


@every_method
def test_arrays_are_left_alone_and_float32_is_kept(method):
    source, y, target, _ = domains()
    arrays = [source, target, *(each.astype(np.float32) for each in (source, target))]
    copies = [each.copy() for each in arrays]
    double = clone(method).fit(arrays[0], y, target=arrays[1])
    single = clone(method).fit(arrays[2], y, target=arrays[3])
    assert double.transform(arrays[1]).dtype == np.float64
    mapped = single.transform(arrays[3])
    assert mapped.dtype == np.float32
    mapped[:] = 0
    for each, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(each, copy)


@every_method
def test_sparse_domains_give_what_dense_ones_give(method):
    source, y, target, _ = domains()
    dense = clone(method).fit(source, y, target=target)
    thin = clone(method).fit(sparse.csr_matrix(source), y, target=sparse.csc_matrix(target))
    np.testing.assert_allclose(thin.transform(sparse.csr_matrix(target)), dense.transform(target), atol=1e-8)


@every_method
def test_more_columns_than_rows(method):
    source, y, target, truth = domains((30, 24), columns=60)
    fitted = clone(method).fit(source, y, target=target)
    mapped = fitted.transform(target)
    assert np.isfinite(mapped).all()
    score = KNeighborsClassifier(1).fit(fitted.transform_source(source), y).score(mapped, truth)
    # The exact covariance of thirty rows in sixty columns is noise.
    assert score > (0.3 if method.get_params().get("shrinkage") == 0 else 0.8)


@every_method
def test_a_class_may_be_missing_in_the_target(method):
    source, y, target, truth = domains()
    kept = truth != "dog"
    fitted = clone(method).fit(source, y, target=target[kept])
    assert np.isfinite(fitted.transform(target)).all()


@every_method
def test_a_constant_column_and_a_constant_domain(method):
    source, y, target, _ = domains()
    source[:, 2] = target[:, 2] = 7.0
    assert np.isfinite(clone(method).fit(source, y, target=target).transform(target)).all()
    assert np.isfinite(clone(method).fit(source, y, target=np.ones((5, COLUMNS))).transform(target)).all()


@every_method
def test_wrong_domains_are_refused(method):
    source, y, target, _ = domains()
    with pytest.raises(DataError, match="target: expected the source's 6 columns, found 5 columns"):
        clone(method).fit(source, y, target=target[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        clone(method).fit(source, y, target=np.where(target > 0, np.nan, target))


@every_method
def test_what_is_saved_maps_as_before(method):
    source, y, target, _ = domains()
    fitted = clone(method).fit(source, y, target=target)
    tensors: dict[str, np.ndarray] = {}
    plain = json.loads(json.dumps(dismantle(fitted, "alignment", tensors)))
    again = assemble(plain, tensors, {type(method).__name__: type(method)})
    np.testing.assert_array_equal(again.transform(target), fitted.transform(target))
    np.testing.assert_array_equal(again.transform_source(source), fitted.transform_source(source))


@every_method
def test_in_a_pipeline_the_next_step_learns_from_the_source(method):
    source, y, target, truth = domains()
    step = type(method).__name__.lower()
    model = make_pipeline(clone(method), KNeighborsClassifier(1))
    model.fit(source, y, **{f"{step}__target": target})
    assert model.score(target, truth) > 0.9


@pytest.mark.parametrize("name", ["jda", "jda-rbf", "bda", "bda-classes"])
class TestLabels:
    def test_any_kind_of_label(self, name):
        source, y, target, truth = domains()
        codes = {"bird": -1, "cat": 1, "dog": 5}
        numbers = np.array([codes[each] for each in y])
        words = clone(METHODS[name]).fit(source, y, target=target)
        fitted = clone(METHODS[name]).fit(source, numbers, target=target)
        assert fitted.pseudo_labels_.dtype == numbers.dtype
        np.testing.assert_array_equal([codes[each] for each in words.pseudo_labels_], fitted.pseudo_labels_)
        assert (words.pseudo_labels_ == truth).mean() > 0.9

    def test_given_target_labels_are_kept(self, name):
        source, y, target, truth = domains()
        wrong = np.full(len(target), None, dtype=object)
        wrong[[2, 5]] = "bird"
        fitted = clone(METHODS[name]).fit(source, y, target=target, target_labels=wrong)
        assert fitted.pseudo_labels_[[2, 5]].tolist() == ["bird", "bird"]
        numbers = np.searchsorted(np.unique(y), y)
        some = np.where(np.arange(len(target)) < 4, np.searchsorted(np.unique(y), truth), np.nan)
        assert len(clone(METHODS[name]).fit(source, numbers, target=target, target_labels=some).pseudo_labels_) == 70

    def test_no_label_given_is_the_same_as_none_known(self, name):
        source, y, target, _ = domains()
        missing = np.full(len(target), np.nan)
        without = clone(METHODS[name]).fit(source, y, target=target)
        with_none = clone(METHODS[name]).fit(source, y, target=target, target_labels=missing)
        np.testing.assert_array_equal(without.transform(target), with_none.transform(target))

    def test_all_target_labels_leave_nothing_to_guess(self, name):
        source, y, target, truth = domains()
        fitted = clone(METHODS[name]).fit(source, y, target=target, target_labels=truth.astype(object))
        assert fitted.n_iter_ == 1
        np.testing.assert_array_equal(fitted.pseudo_labels_, truth)

    def test_wrong_labels_are_refused(self, name):
        source, y, target, _ = domains()
        with pytest.raises(DataError, match="one label for each of the 70 target inputs"):
            clone(METHODS[name]).fit(source, y, target=target, target_labels=["cat"])
        with pytest.raises(DataError, match="'fish' in row 1"):
            clone(METHODS[name]).fit(source, y, target=target, target_labels=[None, "fish"] + [None] * 68)
        with pytest.raises(ValueError, match="requires y to be passed"):
            clone(METHODS[name]).fit(source, target=target)


@pytest.mark.parametrize(
    "method",
    [
        CORAL(shrinkage=-1),
        SubspaceAlignment(n_components=0),
        GeodesicFlowKernel(n_components=1.5),
        TransferComponentAnalysis(n_components=0),
        TransferComponentAnalysis(kernel="polynomial"),
        TransferComponentAnalysis(regularization=0),
        TransferComponentAnalysis(kernel="rbf", gamma=-1),
        JointDistributionAdaptation(balance=2),
        JointDistributionAdaptation(max_iter=0),
    ],
    ids=str,
)
def test_wrong_options_are_refused(method):
    source, y, target, _ = domains()
    with pytest.raises(GraftError):
        method.fit(source, y, target=target)


def test_the_methods_on_arrays_need_no_torch():
    code = (
        "import sys; from graft.alignment import CORAL, GeodesicFlowKernel, JointDistributionAdaptation, "
        "SubspaceAlignment, TransferComponentAnalysis; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
