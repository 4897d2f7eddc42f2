"""The order in which tasks, or data sets, of different sizes are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from graft._checks import integer, number, one_of
from graft.errors import DataError, RequestError

TASK_SAMPLINGS = ("proportional", "square-root", "temperature", "round-robin", "annealed")


@final
class TaskOrder:
    r"""Which task stands in the batch of each step, and which of its examples.

    With :math:`n_k` examples of task k, its share of the batches is :math:`p_k \propto n_k^\alpha`:

    ============== ===================================================================================
    proportional   α = 1: every example counts alike
    square-root    α = 1/2
    temperature    α = 1/T
    round-robin    α = 0: every task counts alike
    annealed       α from 1 to 1 - `decay`: :math:`\alpha = 1 - \text{decay} \cdot \text{step} / (\text{steps} - 1)`
    ============== ===================================================================================

    The shares are kept, not only expected: steps are dealt in rounds in which every task has its number of batches,
    to the nearest one, in random order. Within a task every epoch is a new permutation, cut into full batches. Nothing
    is random but by (seed, step): any step can be asked for without those before it, so that a training that is
    continued sees what one that was never interrupted sees.

    Parameters
    ----------
    sizes : sequence of int (K,)
        n, the examples of each task.
    batch_size : int
        Examples of a batch; all of a task where it has fewer.
    seed : int
        With the step, it decides.
    sampling : {"proportional", "square-root", "temperature", "round-robin", "annealed"}
        How shares follow from sizes.
    temperature : float
        T, for "temperature".
    decay : float
        For "annealed", in [0, 1]; the paper's is 0.8.
    steps : int, optional
        All steps of the training, for "annealed". Later steps have the last shares.

    Raises
    ------
    DataError
        If there is no task, or one has no examples.
    RequestError
        If an option is out of range, or "annealed" has no `steps`.

    References
    ----------
    Stickland and Murray (2019), BERT and PALs, section 4.2 (square root, annealed). Arivazhagan et al. (2019),
    Massively Multilingual Neural Machine Translation in the Wild, section 4 (temperature).

    Examples
    --------
    >>> from graft.balancing import TaskOrder
    >>> order = TaskOrder([900, 100], 10, seed=0)
    >>> sum(order.task(step) for step in range(100))
    10
    >>> order.probabilities(0).round(3).tolist()
    [0.9, 0.1]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        sampling: str = "proportional",
        temperature: float = 5.0,
        decay: float = 0.8,
        steps: int | None = None,
    ) -> None:
        if not len(sizes) or min(sizes) < 1:
            raise DataError(
                "sizes",
                expected="one example or more of each task",
                found=repr([int(size) for size in sizes]),
                remedy="Leave out tasks that have no examples.",
            )
        self.sizes = np.array([integer("sizes", size, low=1) for size in sizes])
        self.batch_size = integer("batch_size", batch_size, low=1)
        self.seed = integer("seed", seed, low=0)
        self.sampling = one_of("sampling", sampling, TASK_SAMPLINGS)
        self.temperature = number("temperature", temperature, low=0, open_low=True)
        self.decay = number("decay", decay, low=0, high=1)
        if sampling == "annealed" and steps is None:
            raise RequestError(
                "steps", expected="the number of steps, over which shares are annealed", found="None", remedy="Pass it."
            )
        self.steps = None if steps is None else integer("steps", steps, low=1)
        self._batches = np.maximum(self.sizes // self.batch_size, 1)
        # Long enough that the rarest task has a batch in every round.
        rarest = min(float(self.probabilities(step).min()) for step in (0, (self.steps or 1) - 1))
        self._round = max(int(np.ceil(1 / rarest)), len(self.sizes))
        rounds = 1 if self.sampling != "annealed" else -(-(self.steps or 1) // self._round)
        # Batches of each task before each round, for the rounds in which shares change: the last row goes on.
        shares = np.stack([self.probabilities(one * self._round + self._round // 2) for one in range(rounds)])
        self._before = np.vstack([np.zeros(len(self.sizes)), np.cumsum(shares * self._round, axis=0)])
        self._last = shares[-1] * self._round
        # The last round that was dealt, and each task's last epoch: replaced as a whole, so that threads may ask.
        self._dealt: tuple[int, np.ndarray, np.ndarray] | None = None
        self._permuted: dict[int, tuple[int, np.ndarray]] = {}

    def probabilities(self, step: int) -> np.ndarray:
        """Return p, each task's share of the batches at a step (K,)."""
        alpha = {"proportional": 1.0, "square-root": 0.5, "temperature": 1 / self.temperature, "round-robin": 0.0}
        power = alpha.get(self.sampling)
        if power is None:
            assert self.steps is not None
            power = 1 - self.decay * min(step / max(self.steps - 1, 1), 1.0)
        share = (self.sizes / self.sizes.max()) ** power
        return share / share.sum()

    def task(self, step: int) -> int:
        """Return the task of the batch of a step."""
        return self._visit(step)[0]

    def rows(self, step: int) -> tuple[int, np.ndarray]:
        """Return the task of the batch of a step, and the examples of that task in it, at most batch_size."""
        task, visit = self._visit(step)
        epoch, batch = divmod(visit, int(self._batches[task]))
        permuted = self._permuted.get(task)
        if permuted is None or permuted[0] != epoch:
            permuted = self._permuted[task] = (epoch, self._permute(task, epoch))
        return task, permuted[1][batch]

    def _visit(self, step: int) -> tuple[int, int]:
        """Return the task of a step, and which of the task's batches it is, counted from the start."""
        number_of_round, place = divmod(integer("step", step, low=0), self._round)
        dealt = self._dealt
        if dealt is None or dealt[0] != number_of_round:
            dealt = self._dealt = (number_of_round, *self._deal(number_of_round))
        return int(dealt[1][place]), int(dealt[2][place])

    def _counts(self, rounds: int) -> np.ndarray:
        """Return the batches of each task in the first rounds (K,), whole numbers that add up to all steps in them.

        Sums over the first tasks are rounded, and differences taken: no task is off by more than one, and, as every
        task is due once a round or more, none has fewer after a round than before it.
        """
        whole = len(self._before) - 1
        due = self._before[min(rounds, whole)] + max(rounds - whole, 0) * self._last
        ends = np.floor(np.cumsum(due) + 0.5 - 1e-9).astype(np.int64)
        ends[-1] = rounds * self._round
        return np.diff(ends, prepend=0)

    def _deal(self, number_of_round: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the task of each step of a round, and which of its batches it is."""
        before = self._counts(number_of_round)
        counts = self._counts(number_of_round + 1) - before
        draws = np.random.default_rng((self.seed, 0, number_of_round))
        tasks = draws.permutation(np.repeat(np.arange(len(counts)), counts))
        visits = np.empty(len(tasks), dtype=np.int64)
        for task in range(len(counts)):
            visits[tasks == task] = before[task] + np.arange(counts[task])
        return tasks, visits

    def _permute(self, task: int, epoch: int) -> np.ndarray:
        """Return the batches of an epoch of a task (batches, batch_size)."""
        draws = np.random.default_rng((self.seed, 1, task, epoch))
        size = min(self.batch_size, int(self.sizes[task]))
        return draws.permutation(self.sizes[task])[: self._batches[task] * size].reshape(-1, size)
