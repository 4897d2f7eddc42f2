"""Batches: parts, the order of examples as a function of seed and step, and making them ahead."""

import threading

import numpy as np
import pytest
import torch

from graft import _runtime
from graft.errors import DataError
from graft.training import Batch, Order, prefetch


def epoch_rows(order, epoch):
    return np.concatenate([order.rows(epoch * order.batches + place) for place in range(order.batches)])


@pytest.mark.parametrize("sizes", [None, np.arange(24) % 7])
@pytest.mark.parametrize("count", [24, 20])
def test_every_epoch_is_a_permutation_without_repetition(count, sizes):
    order = Order(count, 4, seed=3, sizes=None if sizes is None else sizes[:count])
    epochs = [epoch_rows(order, epoch) for epoch in range(5)]
    for rows in epochs:
        assert sorted(rows) == list(range(count))
    assert len({tuple(rows) for rows in epochs}) == 5


def test_what_does_not_fill_a_batch_is_left_out_of_that_epoch_alone():
    order = Order(10, 4, seed=0)
    left_out = [set(range(10)) - set(epoch_rows(order, epoch)) for epoch in range(40)]
    assert all(len(rows) == 2 for rows in left_out)
    assert set().union(*left_out) == set(range(10))


@pytest.mark.parametrize("sizes", [None, list(range(30))])
def test_the_batch_of_a_step_depends_on_seed_and_step_alone(sizes):
    in_turn = Order(30, 4, seed=1, sizes=sizes)
    expected = [in_turn.rows(step).tolist() for step in range(40)]
    at_random = Order(30, 4, seed=1, sizes=sizes)
    for step in np.random.default_rng(0).permutation(40):
        assert at_random.rows(int(step)).tolist() == expected[step]
    assert [Order(30, 4, seed=1, sizes=sizes).rows(step).tolist() for step in (39, 0, 17)] == [
        expected[step] for step in (39, 0, 17)
    ]
    assert [Order(30, 4, seed=2, sizes=sizes).rows(step).tolist() for step in range(40)] != expected


def test_the_order_is_the_same_when_threads_ask_for_it():
    order = Order(30, 4, seed=1)
    expected = [order.rows(step).tolist() for step in range(200)]
    shared = Order(30, 4, seed=1)
    assert [rows.tolist() for rows in prefetch(shared.rows, range(200))] == expected


def test_examples_of_like_size_share_a_batch():
    sizes = np.random.default_rng(0).geometric(0.05, size=640)

    def padded(order):
        return sum(sizes[order.rows(step)].max() * 8 for step in range(order.batches))

    by_size, plain = Order(640, 8, 0, sizes), Order(640, 8, 0)
    assert padded(by_size) < 0.6 * padded(plain)
    largest = [sizes[by_size.rows(step)].max() for step in range(by_size.batches)]
    assert np.abs(np.corrcoef(largest, np.arange(len(largest)))[0, 1]) < 0.3  # batches still come in random order


def test_fewer_examples_than_a_batch_make_one():
    order = Order(3, 8, seed=0)
    assert (order.batches, order.batch_size) == (1, 3)
    assert [order.epoch(step) for step in range(3)] == [0, 1, 2]
    assert sorted(order.rows(5)) == [0, 1, 2]


def test_no_examples_are_an_error():
    with pytest.raises(DataError, match="one or more"):
        Order(0, 8, seed=0)


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_parts_are_the_batch_in_order_and_of_nearly_equal_size(of):
    rows = torch.arange(7)
    batch = Batch({"ids": rows, "mask": rows * 2}, {"task": rows + 1}, rows.float())
    parts = [batch.part(number, of) for number in range(of)]
    assert torch.equal(torch.cat([part.inputs["ids"] for part in parts]), rows)
    assert torch.equal(torch.cat([part.inputs["mask"] for part in parts]), rows * 2)
    assert torch.equal(torch.cat([part.targets["task"] for part in parts]), rows + 1)
    assert torch.equal(torch.cat([part.weight for part in parts]), rows.float())
    assert max(part.size for part in parts) - min(part.size for part in parts) <= 1


def test_a_batch_moves_as_a_whole():
    moved = Batch({"ids": torch.ones(2)}, torch.ones(2, 3), torch.ones(2)).to(torch.device("meta"))
    assert {moved.inputs["ids"].device.type, moved.targets.device.type, moved.weight.device.type} == {"meta"}


def test_prefetched_values_come_in_order_whichever_is_ready_first():
    ready = threading.Event()

    parallel = _runtime.cores() > 1

    def make(step):
        if step > 0:
            ready.set()
        elif parallel:
            assert ready.wait(600)  # until a later one has been begun
        return step * step

    assert list(prefetch(make, range(3, 3))) == []
    assert list(prefetch(make, range(20))) == [step * step for step in range(20)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_in_a_thread_is_raised_where_it_is_its_turn(error):
    def make(step):
        if step == 6:
            raise error("seven")
        return step

    values = prefetch(make, range(20))
    assert [next(values) for _ in range(6)] == list(range(6))
    with pytest.raises(error, match="seven"):
        next(values)


def test_it_makes_a_few_ahead_and_stops_when_nobody_asks():
    made = []
    values = prefetch(lambda step: made.append(step) or step, range(1000))
    assert next(values) == 0
    values.close()
    assert len(made) < 10


def test_the_threads_of_the_rest_of_the_program_are_left_alone():
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        list(prefetch(lambda step: step, range(3)))
        found.append(torch.get_num_threads())
        new = threading.Thread(target=lambda: found.append(torch.ones(2).sum() * 0 + torch.get_num_threads()))
        new.start()
        new.join()
    finally:
        torch.set_num_threads(before)
    assert found == [3, 3]
