"""Logistic path, multi-label logistic and ridge path against scikit-learn and against refits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from graft.errors import DataError
from graft.heads import LogisticPath, MultiLabelLogistic, RidgePath
from graft.heads.training_set import location_and_scale


def data(seed: int = 0, *, n: int = 120, d: int = 8, classes: int = 4):
    numbers = np.random.default_rng(seed)
    X = numbers.normal(size=(n, d)) * np.linspace(0.2, 2, d) + 3
    y = ((X - 3) @ numbers.normal(size=(d, classes)) + numbers.gumbel(size=(n, classes))).argmax(axis=1)
    return X, y


def objective(coef, intercept, X, y, C, weight):
    logits = X @ coef.T + intercept
    if logits.shape[1] == 1:
        losses = np.logaddexp(0, np.where(y == 1, -1, 1) * logits[:, 0])
    else:
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]
    return C * weight @ losses + 0.5 * (coef**2).sum()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0, 10_000.0])
def test_reaches_scikit_learns_objective(classes, C):
    X, y = data(classes=classes)
    weight = np.random.default_rng(1).uniform(0.2, 3, size=len(y))
    ours = LogisticPath(Cs=[C], scaling="none").fit(X, y, sample_weight=weight)
    peer = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(X, y, sample_weight=weight)
    reached = objective(ours.coef_, ours.intercept_, X, y, C, weight)
    assert reached <= objective(peer.coef_, peer.intercept_, X, y, C, weight) * (1 + 1e-9)
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=2e-3, atol=2e-3)


def test_float32_reaches_the_objective_to_one_in_a_hundred_thousand(monkeypatch):
    import graft.heads.logistic_path as module

    # From this much work on problems are solved in float32: here, all.
    monkeypatch.setattr(module, "_EXACT_WORK", 0)
    numbers = np.random.default_rng(0)
    centers = numbers.normal(size=(15, 64))
    y = np.arange(1500) % 15
    X = (centers[y] + 4 * numbers.normal(size=(1500, 64))).astype(np.float32)
    ours = LogisticPath(Cs=[0.01], scaling="none").fit(X, y)
    peer = LogisticRegression(C=0.01, solver="newton-cholesky", tol=1e-9).fit(X.astype(float), y)
    weight = np.ones(len(y))
    reached = objective(ours.coef_, ours.intercept_, X.astype(float), y, 0.01, weight)
    assert reached <= objective(peer.coef_, peer.intercept_, X.astype(float), y, 0.01, weight) * (1 + 1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_out_of_fold_logits_are_those_of_refits(classes):
    X, y = data(classes=classes)
    head = LogisticPath(Cs=[3.0]).fit(X, y)
    location, scale = location_and_scale(X, np.ones(len(y)), scaling="auto")
    Z = (X - location) / scale
    # The folds are known from whose logits agree: refit without each candidate set of rows.
    from graft.heads.folds import fold_numbers, group_codes, identities

    identity = identities(X, random_state=None)
    fold = fold_numbers(identity, group_codes(identity, None), y)
    for number in range(5):
        out = fold == number
        peer = LogisticRegression(C=3.0, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(Z[~out], y[~out])
        theirs, own = peer.decision_function(Z[out]), head.out_of_fold_[out]
        if classes == 2:
            np.testing.assert_allclose(own[:, 1] - own[:, 0], theirs, atol=1e-4)
        else:
            centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (theirs, own)]
            np.testing.assert_allclose(*centred, atol=1e-4)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_a_sparse_table_gives_what_the_dense_one_gives(shape):
    numbers = np.random.default_rng(0)
    X = sparse.random(*shape, density=0.1, format="csr", random_state=0)
    y = (X @ numbers.normal(size=shape[1]) > 0).astype(int)
    one = LogisticPath(Cs=[5.0], calibrate=False).fit(X, y)
    other = LogisticPath(Cs=[5.0], calibrate=False).fit(X.toarray(), y)
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X.toarray()), rtol=1e-6, atol=1e-6)


def test_a_large_sparse_table_stays_sparse():
    numbers = np.random.default_rng(0)
    X = sparse.random(4000, 6000, density=0.004, format="csr", random_state=0, dtype=np.float64)
    y = (X @ numbers.normal(size=6000) > 0).astype(int)
    head = LogisticPath(Cs=[0.1, 10.0, 1000.0]).fit(X[:3500], y[:3500])
    assert head.score(X[3500:], y[3500:]) > 0.6
    peer = LogisticRegression(C=head.C_ / head.scale_[0] ** 2, tol=1e-9, max_iter=5000).fit(X[:3500], y[:3500])
    assert (head.predict(X[3500:]) == peer.predict(X[3500:])).mean() > 0.98
    ridge = RidgePath(penalties=[1.0, 100.0]).fit(X[:3500], X[:3500] @ np.ones(6000))
    assert ridge.score(X[3500:], X[3500:] @ np.ones(6000)) > 0.3


def test_the_chosen_strength_is_the_best_tried():
    X, y = data()
    head = LogisticPath().fit(X, y)
    tried = head.selection_["tried"]
    assert max(tried, key=lambda row: (row["accuracy"], -row["log_loss"]))["C"] == head.C_
    assert 3 <= len(tried) <= 10


def test_multi_label_equals_one_path_per_label_and_skips_what_is_missing():
    X, _ = data()
    numbers = np.random.default_rng(5)
    Y = ((X - 3) @ numbers.normal(size=(8, 3)) + numbers.normal(size=(120, 3)) > np.array([0, 2, -1])).astype(float)
    Y[numbers.random(Y.shape) < 0.3] = np.nan
    head = MultiLabelLogistic(Cs=[2.0], scaling="none").fit(X, Y)
    for label in range(3):
        there = ~np.isnan(Y[:, label])
        peer = LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(
            X[there], Y[there, label]
        )
        np.testing.assert_allclose(head.coef_[label], peer.coef_[0], rtol=1e-4, atol=1e-4)
        assert np.array_equal(np.isnan(head.out_of_fold_[:, label]), ~there)


def test_multi_label_takes_words_frames_and_missing_words():
    pandas = pytest.importorskip("pandas")
    X, _ = data()
    table = pandas.DataFrame({"a": np.where(X[:, 0] > 3, "yes", "no"), "b": np.where(X[:, 1] > 3, "yes", "no")})
    table.loc[3:20, "b"] = None
    head = MultiLabelLogistic().fit(X, table)
    assert head.classes_.tolist() == ["no", "yes"]
    assert set(np.unique(head.predict(X))) == {"no", "yes"}
    assert head.score(X, table) > 0.9


def test_multi_label_names_the_label_that_cannot_be_learnt():
    X, _ = data()
    with pytest.raises(DataError, match="column 1"):
        MultiLabelLogistic().fit(X, np.stack([X[:, 0] > 3, np.ones(120, bool)], axis=1))


@pytest.mark.parametrize("shape", [(60, 5), (20, 50)])
def test_ridge_reaches_scikit_learns_solution(shape):
    numbers = np.random.default_rng(0)
    X, Y = numbers.normal(size=shape) + 2, numbers.normal(size=(shape[0], 2)) * [3, 0.1]
    weight = numbers.uniform(0.2, 3, size=shape[0])
    head = RidgePath(penalties=[0.7], scaling="none").fit(X, Y, sample_weight=weight)
    peer = Ridge(alpha=0.7, solver="cholesky" if shape[0] > shape[1] else "svd").fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(head.coef_, peer.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(head.intercept_, peer.intercept_, rtol=1e-6, atol=1e-8)
