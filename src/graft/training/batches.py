"""Batches: which examples stand in which, and how they are made ready beside the computing.

Nothing here keeps a state. What stands in the batch of a step follows from the seed and the step alone, so that a
training that is continued sees exactly what one that was never interrupted sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from graft import _runtime
from graft.errors import DataError

Made = TypeVar("Made")
# Batches that are made ready ahead of the one that is computed, and threads that make them.
_AHEAD = 4
_MOST_WORKERS = 8
# Batches whose examples are dealt out by size together: padding is short within them, their mixture still random.
_SORTED_TOGETHER = 16


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples of one step.

    Parameters
    ----------
    inputs : tensor of shape (n, ...), or dict of such
        What the network reads.
    targets : tensor of shape (n, ...), or dict of such
        What the loss compares with.
    weight : tensor of shape (n,)
        The weight of each example in the loss.
    rows : tensor of int (n,), optional
        Which of the examples that are trained on they are, for losses that know more of them than their targets.
    """

    inputs: Any
    targets: Any
    weight: torch.Tensor
    rows: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """The number of examples, n."""
        return len(self.weight)

    def part(self, number: int, of: int) -> Batch:
        """Return the part with a number, 0 to ``of - 1``, of the batch in as many parts of nearly equal size."""
        cut = slice(self.size * number // of, self.size * (number + 1) // of)
        return self._map(lambda values: values[cut])

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return self._map(lambda values: values.to(device, non_blocking=True))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        def changed(values: Any) -> Any:
            if isinstance(values, dict):
                return {name: changed(one) for name, one in values.items()}
            return change(values)

        rows = None if self.rows is None else change(self.rows)
        return Batch(changed(self.inputs), changed(self.targets), change(self.weight), rows)


class Order:
    """Which examples stand in the batch of each step: every epoch is a new permutation, cut into full batches.

    The few examples that do not fill a last batch are left out of that epoch; the next one leaves out others.

    Parameters
    ----------
    count : int
        The number of examples.
    batch_size : int
        Examples of a batch; all of them where there are fewer.
    seed : int
        With the step, it decides.
    sizes : sequence of int, optional
        What each example takes (tokens): examples of like size are put in one batch, which saves padding.

    Raises
    ------
    DataError
        If there are no examples.
    """

    def __init__(self, count: int, batch_size: int, seed: int, sizes: Sequence[int] | None = None) -> None:
        if count < 1:
            raise DataError("examples", expected="one or more to train on", found="none", remedy="Pass some examples.")
        self.count, self.batch_size, self._seed = count, min(batch_size, count), seed
        self.batches = count // self.batch_size
        self._sizes = None if sizes is None else np.asarray(sizes)
        self._dealt: tuple[int, np.ndarray] | None = None

    def epoch(self, step: int) -> int:
        """Return the epoch of a step, counted from 0."""
        return step // self.batches

    def rows(self, step: int) -> np.ndarray:
        """Return the examples of the batch of a step, of shape (batch_size,)."""
        epoch = self.epoch(step)
        dealt = self._dealt
        if dealt is None or dealt[0] != epoch:
            dealt = self._dealt = (epoch, self._deal(epoch))
        return dealt[1][step % self.batches]

    def _deal(self, epoch: int) -> np.ndarray:
        draw = np.random.default_rng((self._seed, epoch))
        order = draw.permutation(self.count)[: self.batches * self.batch_size]
        if self._sizes is None:
            return order.reshape(self.batches, self.batch_size)
        together = _SORTED_TOGETHER * self.batch_size
        parts = [order[at : at + together] for at in range(0, len(order), together)]
        by_size = [part[np.argsort(self._sizes[part], kind="stable")] for part in parts]
        return draw.permutation(np.concatenate(by_size).reshape(self.batches, self.batch_size))


class ClassOrder:
    """Batches of a few examples each of several classes, so that every example has a partner of its own class.

    Parameters
    ----------
    labels : array of int (n,)
        The class of each example.
    batch_size : int
        Examples of a batch: half as many classes, two examples of each; with fewer classes, more of each.
    seed : int
        With the step, it decides.

    Raises
    ------
    DataError
        If no class has two examples.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int) -> None:
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._members = [rows for rows in members if len(rows) > 1]
        if not self._members:
            raise DataError(
                "labels",
                expected="two examples or more of some class, to make pairs of",
                found="one of each",
                remedy="Use objective='supervised', or label more examples.",
            )
        self.batch_size, self._seed = batch_size, seed
        self._each = max(2, batch_size // len(self._members))
        self.batches = max(1, len(labels) // batch_size)

    def epoch(self, step: int) -> int:
        """Return the epoch of a step, counted from 0: as many batches as would hold every example once."""
        return step // self.batches

    def rows(self, step: int) -> np.ndarray:
        """Return the examples of the batch of a step, at most batch_size."""
        draw = np.random.default_rng((self._seed, step))
        classes = draw.permutation(len(self._members))[: max(1, self.batch_size // self._each)]
        return np.concatenate([draw.permutation(self._members[place])[: self._each] for place in classes])


def prefetch(make: Callable[[int], Made], steps: range) -> Generator[Made, None, None]:
    """Yield ``make(step)`` for every step in order, made in threads while earlier ones are computed with.

    Parameters
    ----------
    make : callable
        From a step to its batch; safe to call from several threads.
    steps : range
        The steps.
    """
    workers = min(_runtime.cores(), _MOST_WORKERS)
    waiting: deque[Future[Made]] = deque()
    with (
        _threads_kept(),
        ThreadPoolExecutor(workers, "graft-batches", torch.set_num_threads, (1,)) as pool,
    ):
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Keep how many threads an operation may use: torch lets every new thread begin with what was last set in any."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
