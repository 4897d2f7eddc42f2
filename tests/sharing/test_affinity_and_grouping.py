"""Affinities where the truth is known, and groups against every partition there is."""

import numpy as np
import pytest
import torch

from graft.errors import DataError, RequestError
from graft.sharing import CommonAndOwnRidge, gradient_affinity, group_tasks, lookahead_affinity, probe_affinity
from graft.sharing.grouping import _improved, _merged


def partitions(tasks):
    """Every partition of a list."""
    if not tasks:
        yield []
        return
    for rest in partitions(tasks[1:]):
        yield [[tasks[0]], *rest]
        for place in range(len(rest)):
            yield [*rest[:place], [tasks[0], *rest[place]], *rest[place + 1 :]]


def total(affinity, groups):
    return sum(affinity[i, j] for group in groups for i in group for j in group if i != j)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("most", [None, 1, 2, 3])
def test_groups_are_the_best_of_all_partitions(count, most):
    for seed in range(4):
        affinity = np.random.default_rng(seed).normal(size=(count, count))
        found = group_tasks(affinity, max_groups=most)
        assert sorted(task for group in found for task in group) == list(range(count))
        assert len(found) <= (most or count)
        best = max(total(affinity, one) for one in partitions(list(range(count))) if len(one) <= (most or count))
        assert total(affinity, found) == pytest.approx(best)


@pytest.mark.parametrize("count", [6, 10])
def test_merging_and_moving_comes_near_the_best(count):
    shares = []
    for seed in range(20):
        affinity = np.random.default_rng(seed).normal(size=(count, count))
        gain = affinity + affinity.T
        np.fill_diagonal(gain, 0)
        found = _improved(gain, _merged(gain, count), count)
        shares.append(total(affinity, found) / total(affinity, group_tasks(affinity)))
    assert max(shares) <= 1 + 1e-9
    assert np.mean(shares) > 0.93


@pytest.mark.parametrize("count", [8, 30])
def test_planted_groups_are_found_and_tasks_that_only_harm_stay_alone(count):
    draws = np.random.default_rng(0)
    truth = np.arange(count) % 3
    truth[-1] = 99
    affinity = np.where(truth[:, None] == truth, 0.5, -0.5) + 0.2 * draws.normal(size=(count, count))
    order = draws.permutation(count)
    found = group_tasks(affinity[order][:, order])
    planted = {frozenset(np.flatnonzero(truth[order] == one).tolist()) for one in np.unique(truth)}
    assert {frozenset(group) for group in found} == planted
    few = group_tasks(affinity, max_groups=2)
    assert len(few) == 2


def test_the_order_of_tasks_does_not_matter_and_nan_is_nothing():
    affinity = np.random.default_rng(4).normal(size=(7, 7))
    order = np.random.default_rng(5).permutation(7)
    moved = group_tasks(affinity[order][:, order])
    assert {frozenset(order[list(group)].tolist()) for group in moved} == {frozenset(g) for g in group_tasks(affinity)}
    unknown = np.full((3, 3), np.nan)
    assert group_tasks(unknown) == [(0,), (1,), (2,)]


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.full((2, 2), np.inf), np.empty((0, 0)), np.ones(3)])
def test_what_is_no_affinity_is_refused(wrong):
    with pytest.raises(DataError, match="affinity"):
        group_tasks(wrong)


def test_cosines_are_those_of_numpy_whatever_the_scale_and_absent_tasks_are_not_counted():
    draws = np.random.default_rng(0)
    table = draws.normal(size=(4, 3, 5)) * np.array([1e-200, 1.0, 1e200])[:, None]
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    table[~present] = np.nan
    found = gradient_affinity(table, present=present)
    for i in range(3):
        for j in range(3):
            both = present[:, i] & present[:, j]
            units = [table[both, one] / np.abs(table[both, one]).max(axis=1, keepdims=True) for one in (i, j)]
            cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(*units, strict=True)]
            assert found[i, j] == pytest.approx(np.mean(cosine))
    same = gradient_affinity(torch.from_numpy(table), present=torch.from_numpy(present))
    np.testing.assert_array_equal(same, found)
    assert np.isnan(gradient_affinity(np.array([[[1.0], [0.0]]]))[0, 1])
    for wrong in ({"gradients": table[0]}, {"gradients": table, "present": present[:2]}):
        with pytest.raises(RequestError):
            gradient_affinity(**wrong)


def test_lookahead_is_the_formula_and_leaves_parameters_as_they_were():
    centres = torch.tensor([[1.0, 0.0], [1.0, 0.2], [-1.0, 0.0]], dtype=torch.float64)
    point = torch.tensor([0.0, 0.5], dtype=torch.float64, requires_grad=True)
    before = point.detach().clone()
    found = lookahead_affinity(lambda: (point - centres).square().sum(dim=1), [point], rate=0.1)
    at, near = before.numpy(), centres.numpy()
    for i in range(3):
        stepped = at - 0.1 * 2 * (at - near[i])
        for j in range(3):
            expected = 1 - np.square(stepped - near[j]).sum() / np.square(at - near[j]).sum()
            assert found[i, j] == pytest.approx(expected)
    torch.testing.assert_close(point.detach(), before, rtol=0, atol=0)
    assert group_tasks(found) == [(0, 1), (2,)]


def test_lookahead_restores_parameters_when_a_loss_fails():
    point, calls = torch.ones(2, requires_grad=True), []

    def losses():
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        return torch.stack([point.square().sum(), point.sum()])

    with pytest.raises(RuntimeError, match="out of memory"):
        lookahead_affinity(losses, [point], rate=0.1)
    assert point.tolist() == [1, 1]


def test_probes_by_ridge_find_which_tasks_are_alike():
    draws = np.random.default_rng(0)
    slopes = np.vstack([draws.normal(size=(1, 8))] * 3 + [draws.normal(size=(1, 8)) * 1.0] * 2)
    slopes = slopes + 0.1 * draws.normal(size=slopes.shape)
    X = draws.normal(size=(5, 400, 8))
    Y = np.einsum("tnd,td->tn", X, slopes) + 2 * draws.normal(size=(5, 400))
    called = []

    def score(tasks):
        called.append(tasks)
        rows = np.concatenate([X[task, :14] for task in tasks])
        column = np.repeat(tasks, 14)
        targets = np.concatenate([Y[task, :14] for task in tasks])
        # One regression for all of them: nothing holds tasks that differ apart.
        model = CommonAndOwnRidge(common=1.0, own=1e6, own_intercept=1e6).fit(rows, targets, tasks=column)
        return {task: model.score(X[task, 14:], Y[task, 14:]) for task in tasks}

    affinity = probe_affinity(score, 5)
    assert len(called) == len(set(called)) == 15
    assert group_tasks(affinity) == [(0, 1, 2), (3, 4)]
