"""Each alignment on arrays beside its formula, computed in the most direct way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh, null_space, sqrtm, subspace_angles
from sklearn.metrics.pairwise import rbf_kernel

from graft.alignment import (
    CORAL,
    GeodesicFlowKernel,
    JointDistributionAdaptation,
    SubspaceAlignment,
    TransferComponentAnalysis,
)
from graft.alignment.contrasts import discrepancy_contrasts
from graft.alignment.spectral import ComponentProblem
from graft.alignment.subspaces import agreeing_directions, principal_angles, principal_directions


def two_domains(rows=(60, 45), columns=7, *, seed=0):
    draws = np.random.default_rng(seed)
    source = draws.normal(size=(rows[0], columns)) * np.arange(1, columns + 1)
    turn = np.linalg.qr(draws.normal(size=(columns, columns)))[0]
    target = draws.normal(size=(rows[1], columns)) * np.arange(columns, 0, -1) @ turn + 2
    return source, target


def up_to_sign(left, right):
    return left * np.sign((left * right).sum(axis=0))


class TestCORAL:
    def test_the_mapped_source_has_the_mean_and_covariance_of_the_target(self):
        source, target = two_domains()
        mapped = CORAL(shrinkage=0).fit_transform(source, target=target)
        np.testing.assert_allclose(mapped.mean(axis=0), target.mean(axis=0), atol=1e-10)
        np.testing.assert_allclose(np.cov(mapped.T), np.cov(target.T), atol=1e-8)

    def test_the_formula(self):
        source, target = two_domains()
        covariances = np.cov(source.T), np.cov(target.T)
        added = 0.3 * (np.trace(covariances[0]) + np.trace(covariances[1])) / 14 * np.eye(7)
        expected = np.linalg.inv(sqrtm(covariances[0] + added)) @ sqrtm(covariances[1] + added)
        np.testing.assert_allclose(CORAL(shrinkage=0.3).fit(source, target=target).map_, expected, atol=1e-10)

    @pytest.mark.parametrize("shrinkage", [0.3, 0.0])
    def test_of_few_examples_it_is_that_of_whole_covariances(self, shrinkage):
        draws = np.random.default_rng(4)
        source, target = draws.normal(size=(12, 40)), draws.normal(size=(9, 40)) * draws.uniform(0.3, 3, 40) + 1
        covariances = np.cov(source.T), np.cov(target.T)
        added = shrinkage * (np.trace(covariances[0]) + np.trace(covariances[1])) / 80 * np.eye(40)
        expected = np.linalg.pinv(sqrtm(covariances[0] + added).real, rcond=1e-6) @ sqrtm(covariances[1] + added).real
        found = CORAL(shrinkage=shrinkage).fit(source, target=target).map_
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_one_is_the_identity_on_the_diagonal_for_standardised_columns(self):
        source, target = ((each - each.mean(axis=0)) / each.std(axis=0, ddof=1) for each in two_domains())
        covariances = np.cov(source.T) + np.eye(7), np.cov(target.T) + np.eye(7)
        expected = source @ np.linalg.inv(sqrtm(covariances[0])) @ sqrtm(covariances[1])
        np.testing.assert_allclose(CORAL().fit_transform(source, target=target), expected, atol=1e-10)

    def test_directions_without_variance_stay_at_the_mean(self):
        source, target = two_domains()
        source[:, 0] = 1
        mapped = CORAL(shrinkage=0).fit_transform(source, target=target)
        assert np.linalg.matrix_rank(np.cov(mapped.T), tol=1e-8) == 6


class TestSubspaces:
    def test_the_formula_of_subspace_alignment(self):
        source, target = two_domains()
        centred = source - source.mean(axis=0), target - target.mean(axis=0)
        bases = [np.linalg.svd(each)[2][:3].T for each in centred]
        fitted = SubspaceAlignment(n_components=3).fit(source, target=target)
        expected = centred[0] @ bases[0] @ bases[0].T @ bases[1]
        mapped = fitted.transform_source(source)
        np.testing.assert_allclose(up_to_sign(mapped, expected), expected, atol=1e-9)
        np.testing.assert_allclose(
            up_to_sign(fitted.transform(target), centred[1] @ bases[1]), centred[1] @ bases[1], atol=1e-9
        )

    def test_the_flow_kernel_is_the_integral_over_the_geodesic(self):
        """The geodesic with the complement of the source's basis and its own decompositions, as the paper has it."""
        source, target = two_domains()
        fitted = GeodesicFlowKernel(n_components=3).fit(source, target=target)
        start = np.linalg.svd(source - source.mean(axis=0))[2][:3].T
        end = np.linalg.svd(target - target.mean(axis=0))[2][:3].T
        outside = null_space(start.T)
        left, cosines, right = np.linalg.svd(start.T @ end)
        angles = np.arccos(cosines)
        leaving = -outside.T @ end @ right.T / np.sin(angles)
        times, weights = np.polynomial.legendre.leggauss(30)
        total = np.zeros((7, 7))
        for time, weight in zip((times + 1) / 2, weights / 2, strict=True):
            place = start @ left * np.cos(time * angles) - outside @ leaving * np.sin(time * angles)
            np.testing.assert_allclose(place.T @ place, np.eye(3), atol=1e-10)
            total += weight * place @ place.T
        np.testing.assert_allclose(fitted.kernel_, total, atol=1e-10)
        np.testing.assert_allclose(np.sort(fitted.angles_), np.sort(subspace_angles(start, end)), atol=1e-10)
        np.testing.assert_allclose(
            fitted.transform_source(source) @ fitted.transform(target).T,
            (source - source.mean(axis=0)) @ total @ (target - target.mean(axis=0)).T,
            atol=1e-8,
        )

    @pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1e-3, 1.0, np.pi / 2])
    def test_angles_of_any_size(self, angle):
        start = np.eye(4)[:, :2]
        end = np.stack([np.eye(4)[0] * np.cos(angle) + np.eye(4)[2] * np.sin(angle), np.eye(4)[1]], axis=1)
        found = principal_angles(start, end)
        np.testing.assert_allclose(np.sort(found.angle), [0, angle], atol=1e-9 * angle + 1e-15)

    def test_principal_directions_of_wide_and_tall_rows(self):
        rows = two_domains()[0]
        for table in (rows, rows.T):
            centred = table - table.mean(axis=0)
            found = principal_directions(centred, 4)
            expected = np.linalg.svd(centred)[2][:4].T
            np.testing.assert_allclose(up_to_sign(found, expected), expected, atol=1e-9)
        assert principal_directions(np.outer(np.arange(5) - 2.0, np.ones(3)), 3).shape == (3, 1)

    def test_domains_that_agree_on_two_directions(self):
        draws = np.random.default_rng(0)
        scales = np.array([9, 8, 3, 3, 0.1, 0.1])
        source = draws.normal(size=(500, 6)) * scales
        target = draws.normal(size=(500, 6)) * scales[[0, 1, 4, 5, 2, 3]]
        source, target = source - source.mean(axis=0), target - target.mean(axis=0)
        assert agreeing_directions(source, source) == 6
        assert agreeing_directions(source, target) in (3, 4)


def direct(coordinates, contrasts, ridge, count):
    left = coordinates.T @ coordinates
    right = coordinates.T @ contrasts @ contrasts.T @ coordinates + ridge * np.eye(len(left))
    values, vectors = eigh(left, right)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def centred_kernel(rows, kernel, gamma=None):
    matrix = rows @ rows.T if kernel == "linear" else rbf_kernel(rows, gamma=gamma)
    centring = np.eye(len(rows)) - 1 / len(rows)
    matrix = centring @ matrix @ centring
    return matrix * len(rows) / np.trace(matrix)


class TestComponents:
    @pytest.mark.parametrize("kernel", ["linear", "rbf"])
    @pytest.mark.parametrize("ridge", [0.01, 1.0, 100.0])
    def test_transfer_components_solve_the_generalised_problem(self, kernel, ridge):
        source, target = two_domains()
        fitted = TransferComponentAnalysis(n_components=3, kernel=kernel, regularization=ridge).fit(
            source, target=target
        )
        matrix = centred_kernel(np.concatenate([source, target]), kernel, fitted.gamma_)
        contrast = np.repeat([1 / 60, -1 / 45], [60, 45])
        contrast = (contrast / np.linalg.norm(contrast))[:, None]
        values, weights = direct(matrix, contrast, ridge, 3)
        np.testing.assert_allclose(fitted.eigenvalues_, values, rtol=1e-9)
        mapped = np.concatenate([fitted.transform_source(source), fitted.transform(target)])
        np.testing.assert_allclose(up_to_sign(mapped, matrix @ weights), matrix @ weights, atol=1e-7)
        # The objective: no other weights that keep the constraint have more variance.
        assert np.isclose((mapped**2).sum(), values.sum())
        draws = np.random.default_rng(1)
        constraint = matrix @ contrast @ contrast.T @ matrix + ridge * np.eye(105)
        for _ in range(20):
            other = draws.normal(size=(105, 3)) * 0.1 + weights
            other = other @ np.linalg.inv(np.linalg.cholesky(other.T @ constraint @ other)).T
            assert ((matrix @ other) ** 2).sum() < values.sum()

    def test_primal_components_keep_the_conditions_of_the_optimum(self):
        source, target = two_domains()
        fitted = TransferComponentAnalysis(n_components=4, regularization=0.5).fit(source, target=target)
        rows = np.concatenate([source, target])
        rows = rows - rows.mean(axis=0)
        unit = np.sqrt((rows**2).sum() / len(rows))
        rows, weights = rows / unit, fitted.map_ * unit
        contrast = np.repeat([1 / 60, -1 / 45], [60, 45])
        contrast = (contrast / np.linalg.norm(contrast))[:, None]
        constraint = rows.T @ contrast @ contrast.T @ rows + 0.5 * np.eye(7)
        np.testing.assert_allclose(weights.T @ constraint @ weights, np.eye(4), atol=1e-10)
        np.testing.assert_allclose(rows.T @ rows @ weights, constraint @ weights * fitted.eigenvalues_, atol=1e-8)

    def test_identical_domains_give_principal_components(self):
        rows = two_domains()[0]
        fitted = TransferComponentAnalysis(n_components=3, regularization=4.0).fit(rows, target=rows.copy())
        centred = rows - rows.mean(axis=0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        unit = np.sqrt((centred**2).sum() / len(rows))
        expected = left[:, :3] * singular[:3] / unit / 2
        np.testing.assert_allclose(up_to_sign(fitted.transform(rows), expected), expected, atol=1e-10)

    def test_the_median_of_the_squared_distances(self):
        source, target = two_domains((8, 7))
        rows = np.concatenate([source, target])
        squared = [((rows[i] - rows[j]) ** 2).sum() for i in range(15) for j in range(i)]
        fitted = TransferComponentAnalysis(kernel="rbf").fit(source, target=target)
        assert np.isclose(fitted.gamma_, 1 / np.median(squared))

    def test_joint_distributions_solve_the_problem_of_their_last_round(self):
        source, target = two_domains()
        y = np.arange(60) % 3
        fitted = JointDistributionAdaptation(n_components=2, kernel="linear", balance=0.3, max_iter=50).fit(
            source + 50 * np.eye(7)[y], y, target=target + 50 * np.eye(7)[np.arange(45) % 3]
        )
        assert fitted.history_[-1]["changed"] == 0
        rows = np.concatenate([source + 50 * np.eye(7)[y], target + 50 * np.eye(7)[np.arange(45) % 3]])
        matrix = centred_kernel(rows, "linear")
        contrasts = discrepancy_contrasts(y, fitted.pseudo_labels_, 3, 0.3)
        values, weights = direct(matrix, contrasts, 1.0, 2)
        np.testing.assert_allclose(fitted.eigenvalues_, values, rtol=1e-9)
        mapped = np.concatenate([fitted.transform_source(rows[:60]), fitted.transform(rows[60:])])
        np.testing.assert_allclose(up_to_sign(mapped, matrix @ weights), matrix @ weights, atol=1e-6)

    def test_balance_zero_is_transfer_component_analysis(self):
        source, target = two_domains()
        y = np.arange(60) % 3
        joint = JointDistributionAdaptation(n_components=3, balance=0).fit(source, y, target=target)
        plain = TransferComponentAnalysis(n_components=3).fit(source, target=target)
        np.testing.assert_allclose(joint.transform(target), plain.transform(target), atol=1e-9)

    def test_the_history_tells_of_each_round(self):
        source, target = two_domains()
        y = np.arange(60) % 3
        fitted = JointDistributionAdaptation(n_components=3, balance=None, max_iter=4).fit(source, y, target=target)
        assert len(fitted.history_) == fitted.n_iter_ <= 4
        assert fitted.history_[0]["changed"] == 1
        assert all(0 <= entry["balance"] <= 1 and entry["discrepancy"] >= 0 for entry in fitted.history_)


class TestContrasts:
    def test_the_matrix_of_the_discrepancy(self):
        here, there = np.array([0, 0, 1, 2]), np.array([0, 1, 1, -1, 3])
        contrasts = discrepancy_contrasts(here, there, 4, 0.4)
        expected = np.zeros((9, 9))
        pairs = [(0.6 * 4, here > -9, there > -9)] + [(0.4, here == code, there == code) for code in (0, 1)]
        for weight, left, right in pairs:
            e = np.concatenate([left / left.sum(), -(right / right.sum())])
            expected += weight * np.outer(e, e)
        np.testing.assert_allclose(contrasts @ contrasts.T, expected / np.linalg.norm(expected), atol=1e-12)

    def test_without_a_shared_class_and_with_no_weight_on_the_domains_nothing_is_left(self):
        assert not discrepancy_contrasts(np.array([0, 0]), np.array([1, 1]), 2, 1.0).any()


class TestComponentProblem:
    def test_large_problems_are_solved_as_exactly_as_small_ones(self):
        """More than a thousand columns: by the block Krylov method, and from a start as well."""
        draws = np.random.default_rng(0)
        coordinates = draws.normal(size=(300, 1100)) * (1 / np.arange(1, 1101)) ** 0.5
        coordinates -= coordinates.mean(axis=0)
        contrasts = draws.normal(size=(300, 3))
        values, vectors = direct(coordinates, contrasts, 2.0, 10)
        problem = ComponentProblem(coordinates)
        for start in (None, draws.normal(size=(1100, 10))):
            weights, found = problem.solve(contrasts, ridge=2.0, count=10, start=start)
            np.testing.assert_allclose(found, values, rtol=1e-10)
            np.testing.assert_allclose(up_to_sign(weights, vectors), vectors, atol=1e-6)

    def test_components_too_small_for_single_precision_are_found(self):
        """The first eigenvalue is 10^10 times the last wanted one: single precision sees nothing but rounding there."""
        draws = np.random.default_rng(1)
        deviations = np.concatenate([[1e5], np.linspace(4, 1, 11), np.full(1088, 0.1)])
        rotation, _ = np.linalg.qr(draws.normal(size=(1100, 1100)))
        coordinates = (draws.normal(size=(300, 1100)) * deviations) @ rotation.T
        coordinates -= coordinates.mean(axis=0)
        contrasts = draws.normal(size=(300, 1))
        values, vectors = direct(coordinates, contrasts, 2.0, 8)
        weights, found = ComponentProblem(coordinates).solve(contrasts, ridge=2.0, count=8)
        np.testing.assert_allclose(found, values, rtol=1e-6)
        np.testing.assert_allclose(up_to_sign(weights, vectors), vectors, atol=1e-4)

    def test_a_problem_of_small_rank_gives_no_more_components_than_it_has(self):
        draws = np.random.default_rng(0)
        for columns in (5, 1200):
            coordinates = draws.normal(size=(40, 3)) @ draws.normal(size=(3, columns))
            weights, values = ComponentProblem(coordinates).solve(draws.normal(size=(40, 1)), ridge=1.0, count=5)
            assert weights.shape == (columns, 3)
            assert (values > 0).all()
