"""MEDA: laws of its solver, of its graph and of μ, and what it does with difficult inputs."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from graft.alignment import GeodesicFlowKernel, meda
from graft.alignment.domain_distance import balance_factor, proxy_a_distance
from graft.alignment.meda import MEDA
from graft.alignment.neighbor_graph import normalized_laplacian
from graft.alignment.structural_risk import StructuralRisk
from graft.persistence import assemble, dismantle


def domains(rows=90, columns=6, classes=3, seed=0):
    """Return source, its classes, a turned and shifted target, and its classes."""
    draws = np.random.default_rng(seed)
    centers = draws.normal(size=(classes, columns)) * 3
    y, goal = np.arange(rows) % classes, np.arange(rows + classes) % classes
    turn = np.linalg.qr(np.eye(columns) + 0.15 * draws.normal(size=(columns, columns)))[0]
    turn *= np.sign(np.diag(turn))
    source = centers[y] + draws.normal(size=(rows, columns))
    target = (centers[goal] + draws.normal(size=(len(goal), columns))) @ turn + 1
    return source, y, target, goal


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gram(left, right):
    return np.exp(-((left[:, None] - right[None]) ** 2).sum(axis=2) / 2)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MEDA()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_example_in_the_documentation():
    assert doctest.testmod(meda).failed == 0


def test_saved_and_loaded_it_answers_alike():
    source, y, target, _ = domains()
    model = MEDA(n_components=4, random_state=0).fit(source, np.array(["ash", "elm", "oak"])[y], target=target)
    tensors = {}
    plain = dismantle(model, "model", tensors)
    again = assemble(plain, tensors, {"MEDA": MEDA, "GeodesicFlowKernel": GeodesicFlowKernel})
    np.testing.assert_array_equal(again.predict(target), model.predict(target))
    np.testing.assert_array_equal(again.predict_proba(target), model.predict_proba(target))


def test_solution_is_that_of_the_full_system():
    draws = np.random.default_rng(1)
    points = unit(draws.normal(size=(30, 5)))
    kernel, laplacian = gram(points, points), normalized_laplacian(points, 4)
    labelled = np.arange(30) < 18
    indicators = np.eye(3)[np.arange(30) % 3] * labelled[:, None]
    directions = draws.normal(size=(30, 4))
    risk = StructuralRisk(kernel, laplacian, labelled, indicators, shrinkage=0.1, smoothness=0.7)
    penalty = np.diag(labelled * 1.0) + 0.7 * laplacian.toarray()
    for chosen in (directions[:, :0], directions, directions[:, :2]):
        full = (penalty + chosen @ chosen.T) @ kernel + 0.1 * np.eye(30)
        expected = np.linalg.solve(full, indicators)
        np.testing.assert_allclose(risk.discrepancy(chosen).coefficients(), expected, atol=1e-10)


def test_all_examples_as_landmarks_change_nothing():
    draws = np.random.default_rng(15)
    points = unit(draws.normal(size=(30, 5)))
    kernel, laplacian = gram(points, points), normalized_laplacian(points, 4)
    labelled = np.arange(30) < 18
    indicators = np.eye(3)[np.arange(30) % 3] * labelled[:, None]
    directions = draws.normal(size=(30, 4))
    scores, left_out = [], []
    for landmarks in (None, np.arange(30)):
        risk = StructuralRisk(
            kernel, laplacian, labelled, indicators, shrinkage=0.1, smoothness=0.7, landmarks=landmarks
        )
        scores.append(kernel @ risk.discrepancy(directions).coefficients())
        left_out.append(risk.left_out(scores[-1], np.arange(18)))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-7)
    np.testing.assert_allclose(left_out[0], left_out[1], atol=1e-7)


def test_landmarks_answer_much_like_all_examples():
    source, y, target, _ = domains(rows=300, seed=16)
    whole = MEDA(n_components=4).fit(source, y, target=target)
    part = MEDA(n_components=4, max_landmarks=150, random_state=0).fit(source, y, target=target)
    assert part.dual_coef_.shape == (150, 3)
    assert (part.predict(target) == whole.predict(target)).mean() > 0.98
    np.testing.assert_array_equal(part.predict(target), part.target_labels_)
    again = MEDA(n_components=4, max_landmarks=150, random_state=0).fit(source, y, target=target)
    np.testing.assert_array_equal(part.dual_coef_, again.dual_coef_)


def test_solution_is_a_minimum():
    draws = np.random.default_rng(2)
    points = unit(draws.normal(size=(25, 4)))
    kernel, laplacian = gram(points, points), normalized_laplacian(points, 3).toarray()
    labelled = np.arange(25) < 15
    indicators = np.eye(2)[np.arange(25) % 2] * labelled[:, None]
    directions = draws.normal(size=(25, 3))
    risk = StructuralRisk(
        kernel, sparse.csr_matrix(laplacian), labelled, indicators, shrinkage=0.3, smoothness=0.5
    ).discrepancy(directions)

    def objective(dual):
        scores = kernel @ dual
        misfit = ((indicators - scores)[labelled] ** 2).sum()
        smooth = np.trace(scores.T @ (directions @ directions.T + 0.5 * laplacian) @ scores)
        return misfit + 0.3 * np.trace(dual.T @ scores) + smooth

    best = risk.coefficients()
    for _ in range(20):
        assert objective(best + 0.01 * draws.normal(size=best.shape)) > objective(best)


def test_leaving_one_label_out_is_fitting_without_it():
    draws = np.random.default_rng(3)
    points = unit(draws.normal(size=(24, 4)))
    kernel, laplacian = gram(points, points), normalized_laplacian(points, 3)
    labelled = np.arange(24) < 14
    indicators = np.eye(2)[np.arange(24) % 2] * labelled[:, None]
    directions = draws.normal(size=(24, 2))

    def fitted(marks):
        risk = StructuralRisk(kernel, laplacian, marks, indicators, shrinkage=0.2, smoothness=1.0)
        return risk.discrepancy(directions)

    risk = fitted(labelled)
    closed = risk.left_out(kernel @ risk.coefficients(), np.array([0, 5, 13]))
    for row, scores in zip([0, 5, 13], closed, strict=True):
        without = labelled.copy()
        without[row] = False
        np.testing.assert_allclose(scores, (kernel @ fitted(without).coefficients())[row], atol=1e-10)


def test_identical_domains_give_kernel_ridge():
    source, y, _, _ = domains()
    model = MEDA(n_components=4, smoothness=0.0).fit(source, y, target=source)
    points = unit(model.flow_.transform_source(source))
    kernel = gram(points, points)
    ridge = kernel @ np.linalg.solve(kernel + 0.1 * np.eye(len(y)), np.eye(3)[y])
    np.testing.assert_array_equal(model.target_labels_, y)
    np.testing.assert_allclose(model.decision_function(source), ridge, atol=1e-8)


def test_without_alignment_and_graph_it_is_kernel_ridge_on_the_source():
    source, y, target, _ = domains(seed=4)
    model = MEDA(n_components=4, alignment=0.0, smoothness=0.0).fit(source, y, target=target)
    here, there = unit(model.flow_.transform_source(source)), unit(model.flow_.transform(target))
    dual = np.linalg.solve(gram(here, here) + 0.1 * np.eye(len(y)), np.eye(3)[y])
    np.testing.assert_allclose(model.decision_function(target), gram(there, here) @ dual, atol=1e-8)


def test_order_of_examples_does_not_matter():
    source, y, target, _ = domains(seed=5)
    draws = np.random.default_rng(0)
    here, there = draws.permutation(len(source)), draws.permutation(len(target))
    one = MEDA(n_components=3).fit(source, y, target=target)
    other = MEDA(n_components=3).fit(source[here], y[here], target=target[there])
    np.testing.assert_allclose(other.predict_proba(target), one.predict_proba(target), atol=1e-6)
    np.testing.assert_array_equal(other.target_labels_, one.target_labels_[there])


def test_target_of_the_fit_and_new_inputs_have_one_answer():
    source, y, target, goal = domains(rows=120, seed=6)
    model = MEDA(n_components=4).fit(source, y, target=target[:80])
    np.testing.assert_array_equal(model.predict(target[:80]), model.target_labels_)
    assert (model.predict(target[80:]) == goal[80:]).mean() > 0.9
    np.testing.assert_allclose(model.predict_proba(target).sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict_proba(target).argmax(axis=1), model.predict(target))


def test_strong_alignment_makes_mean_scores_equal():
    source, y, target, _ = domains(seed=7)
    gaps = []
    for alignment in (0.0, 1e6):
        model = MEDA(n_components=4, alignment=alignment, balance=0.0).fit(source, y, target=target)
        scores = gram(model.examples_, model.examples_) @ model.dual_coef_
        gaps.append(np.abs(scores[: len(y)].mean(axis=0) - scores[len(y) :].mean(axis=0)).max())
    assert gaps[1] < 1e-4 < gaps[0]


def test_labelled_target_inputs_are_used():
    draws = np.random.default_rng(8)
    source = draws.normal(size=(80, 2)) * 0.4 + np.repeat([[2, 0], [-2, 0]], 40, axis=0)
    y = np.repeat(["left", "right"], 40)
    # Turned by a quarter of a circle: the source says nothing about where the classes are.
    target = source @ np.array([[0, 1], [-1, 0]])
    given = np.full(80, None, dtype=object)
    given[[0, 1, 40, 41]] = y[[0, 1, 40, 41]]
    plain = MEDA(n_components=2).fit(source, y, target=target)
    told = MEDA(n_components=2).fit(source, y, target=target, target_labels=given)
    assert (told.target_labels_ == y)[[0, 1, 40, 41]].all()
    assert (told.predict(target) == y).mean() > 0.95 > (plain.predict(target) == y).mean()


@pytest.mark.parametrize("names", [["ash", "elm", "oak"], [-1, 1, 3], [True, False, True]])
def test_labels_of_any_type(names):
    source, y, target, goal = domains(seed=9)
    names = np.array(names)
    model = MEDA(n_components=4).fit(source, names[y], target=target)
    assert (model.predict(target) == names[goal]).mean() > 0.9
    assert model.predict(target).dtype == names.dtype


def test_a_class_that_the_target_lacks():
    source, y, target, goal = domains(rows=120, seed=10)
    here = goal != 2
    model = MEDA(n_components=4).fit(source, y, target=target[here])
    assert (model.predict(target[here]) == goal[here]).mean() > 0.85
    assert np.isfinite(model.predict_proba(target)).all()


def test_single_precision_constant_columns_sparse_inputs_and_untouched_arrays():
    source, y, target, _ = domains(seed=11)
    source, target = np.hstack([source, np.ones((len(source), 2))]), np.hstack([target, np.ones((len(target), 2))])
    source.setflags(write=False)
    target.setflags(write=False)
    expected = MEDA(n_components=4).fit(source, y, target=target).predict(target)
    single = MEDA(n_components=4).fit(source.astype(np.float32), y, target=target.astype(np.float32))
    assert (single.predict(target.astype(np.float32)) == expected).mean() > 0.98
    thin = MEDA(n_components=4).fit(sparse.csr_matrix(source), y, target=sparse.csr_matrix(target))
    np.testing.assert_array_equal(thin.predict(sparse.csr_matrix(target)), expected)


def test_columns_that_say_nothing_give_one_answer():
    model = MEDA().fit(np.ones((6, 3)), [0, 0, 0, 0, 1, 1], target=np.ones((5, 3)))
    assert len(set(model.predict(np.ones((5, 3))).tolist())) == 1


@pytest.mark.parametrize(
    ("options", "subject"),
    [({"shrinkage": 0.0}, "shrinkage"), ({"balance": 2.0}, "balance"), ({"max_iter": 0}, "max_iter")],
)
def test_options_out_of_range(options, subject):
    source, y, target, _ = domains()
    with pytest.raises(ValueError, match=subject):
        MEDA(**options).fit(source, y, target=target)


def test_laplacian_is_symmetric_and_positive_semidefinite_with_a_known_null_vector():
    points = unit(np.random.default_rng(12).normal(size=(40, 3)))
    laplacian = normalized_laplacian(points, 5).toarray()
    np.testing.assert_allclose(laplacian, laplacian.T, atol=1e-14)
    values = np.linalg.eigvalsh(laplacian)
    assert values[0] > -1e-12
    assert values[-1] < 2
    # D^(1/2) 1 is in the null space, and w_ii = 1 gives the degrees: L_ii = 1 - 1 / d_i.
    degrees = 1 / (1 - np.diag(laplacian))
    np.testing.assert_allclose(laplacian @ np.sqrt(degrees), 0, atol=1e-12)
    assert (np.count_nonzero(laplacian, axis=1) <= 40).all()
    assert np.isfinite(normalized_laplacian(np.zeros((4, 2)), 2).toarray()).all()


def test_distance_of_domains():
    draws = np.random.default_rng(13)
    one, other = draws.normal(size=(400, 3)), draws.normal(size=(60, 3))
    assert proxy_a_distance(one, one) == 0
    assert proxy_a_distance(one, other) < 0.5
    assert proxy_a_distance(one, other + 20) == 2
    assert proxy_a_distance(one, other) == pytest.approx(proxy_a_distance(other, one), abs=0.02)


def test_balance_says_where_domains_differ():
    draws = np.random.default_rng(14)
    codes = np.repeat([0, 1], 150)
    source = draws.normal(size=(300, 2)) + np.where(codes == 0, 4, -4)[:, None] * [1, 0]
    # The classes have moved apart in opposite directions: the whole is hardly told apart, the classes are.
    within = draws.normal(size=(300, 2)) + np.where(codes == 0, 4, -4)[:, None] * [1, 1]
    assert balance_factor(source, within, codes, codes) > 0.65
    assert balance_factor(source, source + np.array([0, 50]), codes, codes) == pytest.approx(0.5)
    assert balance_factor(source, source, codes, codes) == 0.5
    only = balance_factor(source, within[:150], codes, codes[:150])
    assert 0 <= only <= 1
