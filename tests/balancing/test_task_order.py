"""The order of tasks: shares that are kept, epochs within tasks, and no step that needs those before it."""

import doctest
import pickle

import numpy as np
import pytest

import graft.balancing.task_order
from graft.balancing import TaskOrder
from graft.errors import DataError, RequestError

SIZES = [1000, 300, 45, 7]
POWERS = {"proportional": 1.0, "square-root": 0.5, "temperature": 0.2, "round-robin": 0.0}
EVERY = pytest.mark.parametrize("sampling", [*POWERS, "annealed"])


def order(sampling="proportional", seed=0, batch_size=10, **options):
    return TaskOrder(SIZES, batch_size, seed, sampling=sampling, steps=2000, **options)


@pytest.mark.parametrize("sampling", POWERS)
def test_shares_are_those_of_the_formula_and_are_kept(sampling):
    wanted = np.array(SIZES, dtype=float) ** POWERS[sampling]
    wanted /= wanted.sum()
    one = order(sampling)
    np.testing.assert_allclose(one.probabilities(5), wanted)
    for steps in (one._round, 3 * one._round, 7 * one._round):
        counts = np.bincount([one.task(step) for step in range(steps)], minlength=4)
        assert (np.abs(counts - steps * wanted) < 1 + 1e-6).all()


def test_annealed_goes_from_proportional_to_nearly_equal():
    one = order("annealed")
    np.testing.assert_allclose(one.probabilities(0), order().probabilities(0))
    np.testing.assert_allclose(one.probabilities(1999), np.array(SIZES) ** 0.2 / (np.array(SIZES) ** 0.2).sum())
    np.testing.assert_allclose(one.probabilities(10**6), one.probabilities(1999))
    found = np.array([one.task(step) for step in range(2000)])
    assert np.mean(found[:400] == 0) > 0.6 > 0.55 > np.mean(found[-400:] == 0)
    expected = sum(one.probabilities(step) for step in range(2000))
    np.testing.assert_allclose(np.bincount(found, minlength=4), expected, atol=0.02 * 2000)
    assert np.bincount([one.task(step) for step in range(5000, 6000)], minlength=4).min() > 50


@EVERY
def test_any_step_can_be_asked_for_without_those_before_it(sampling):
    one = order(sampling)
    expected = [one.rows(step) for step in range(900)]
    for step in (899, 0, 411, 412, 7, 650):
        task, rows = order(sampling).rows(step)
        assert task == expected[step][0] == one.task(step)
        np.testing.assert_array_equal(rows, expected[step][1])


@EVERY
def test_every_epoch_of_a_task_holds_each_of_its_examples_once(sampling):
    one, seen = order(sampling), {task: [] for task in range(4)}
    for step in range(1500):
        task, rows = one.rows(step)
        seen[task].append(rows)
    for task, size in enumerate(SIZES):
        batches, width = max(size // 10, 1), min(size, 10)
        assert all(len(rows) == width for rows in seen[task])
        epochs = [np.concatenate(seen[task][at : at + batches]) for at in range(0, len(seen[task]) - batches, batches)]
        for epoch in epochs:
            assert len(np.unique(epoch)) == len(epoch) == batches * width
        if len(epochs) > 1 and batches > 1:
            assert not np.array_equal(epochs[0], epochs[1])


@EVERY
def test_the_seed_decides(sampling):
    first, second, third = order(sampling), order(sampling), order(sampling, seed=1)
    tasks = [[one.task(step) for step in range(300)] for one in (first, second, third)]
    assert tasks[0] == tasks[1] != tasks[2]


@pytest.mark.parametrize("sizes", [[1], [5, 5], [10**6, 1], [3, 1000, 2, 999, 1], list(range(1, 140))])
@EVERY
def test_every_task_has_its_turn_whatever_the_sizes(sampling, sizes):
    if sizes == [10**6, 1] and sampling == "annealed":
        pytest.skip("a million steps a round")
    one = TaskOrder(sizes, 4, 3, sampling=sampling, steps=100)
    for number in (0, 1, 5):
        tasks, visits = one._deal(number)
        assert len(tasks) == len(visits) == one._round
    found = np.concatenate([one._deal(number)[0] for number in range(3)])
    assert set(found.tolist()) == set(range(len(sizes)))


def test_it_can_be_sent_to_another_process():
    one = order()
    one.rows(3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).rows(77)[1], one.rows(77)[1])


def test_the_example_in_the_documentation_is_right():
    assert doctest.testmod(graft.balancing.task_order).failed == 0


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(DataError, match=r"one example or more of each task, found \[3, 0\]"):
        TaskOrder([3, 0], 1, 0)
    with pytest.raises(DataError):
        TaskOrder([], 1, 0)
    with pytest.raises(RequestError, match="steps"):
        TaskOrder([3], 1, 0, sampling="annealed")
    with pytest.raises(RequestError, match="Did you mean 'round-robin'"):
        TaskOrder([3], 1, 0, sampling="roundrobin")
    with pytest.raises(RequestError, match="step"):
        TaskOrder([3], 1, 0).rows(-1)
