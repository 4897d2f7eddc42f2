"""`measure_all`: cheap cells first, dear ones last, none that does not fit into the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graft.errors import GraftError
from graft.evaluation.cell import DONE, FAILED, LEFT_OUT, Cell
from graft.evaluation.comparison.candidates import TUNED_ALONE
from graft.evaluation.comparison.ledger import MOST_ENDS, Ledger
from graft.evaluation.comparison.measuring import Measured
from graft.evaluation.comparison.network_cost import NetworkCost
from graft.evaluation.comparison.setup import Job, Setup
from graft.evaluation.comparison.training_length import BATCH, adaptation_examples, training_steps
from graft.techniques import DomainAdaptation

# Before a technique has been measured: seconds for a head, and for a tournament of adaptations.
_HEAD, _ADAPTATION = 1.0, 10.0


class Estimates:
    """How long cells will take, learnt from those that are finished. Final.

    Embedding counts once for each example: the features are kept. The rest is that of the finished cell of the
    technique whose number of examples is nearest, times the ratio of the numbers where there are more; a smaller one is
    held to take as long. Before there is such a cell, a training is held to take as many passes as its recipe has.

    Parameters
    ----------
    setup : Setup
        What the cells share.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._embedded = np.zeros(setup.domain.size, bool)
        self._tested = self._embedded if setup.target is None else np.zeros(setup.target.size, bool)
        self._seen: dict[str, list[tuple[int, float]]] = {}

    def learn(self, job: Job, measured: Measured) -> None:
        """Take a finished cell into account."""
        if job.candidate.embeds:
            self._embedded[job.rows] = True
            self._tested[job.deal.test] = True
            if self._setup.target is not None:
                self._tested[:] = True
        self._seen.setdefault(job.candidate.name, []).append((len(job.rows), measured.seconds))

    def seconds(self, job: Job) -> float:
        """Return how long a cell will take."""
        cost, name, count = self._setup.cost, job.candidate.name, len(job.rows)
        new = 0
        if job.candidate.embeds:
            new = int((~self._embedded[job.rows]).sum() + (~self._tested[job.deal.test]).sum())
        embedding = new * (cost.data_seconds + cost.feature_seconds)
        if name not in self._seen:
            return embedding + _unseen(job, count, cost, self._setup)
        nearest, seconds = min(self._seen[name], key=lambda one: (abs(np.log(one[0] / count)), one[0]))
        return embedding + seconds * max(1.0, count / nearest)


def measure_all(
    setup: Setup,
    jobs: Sequence[Job],
    *,
    ledger: Ledger,
    measure: Callable[[Job], Measured],
    left: Callable[[], float] | None,
    advance: Callable[[str], None],
) -> tuple[list[Measured], int]:
    """Measure cells until none is left, or none fits into the time that is left.

    Parameters
    ----------
    setup : Setup
        What they share.
    jobs : sequence of Job
        The cells.
    ledger : Ledger
        Has those that are finished, and keeps those that are finished here.
    measure : callable
        Measures one.
    left : callable, optional
        Returns the seconds that are left; None: there is no end.
    advance : callable
        Is told of each cell that is settled, in a few words.

    Returns
    -------
    list of Measured
        One for each job, in their order: done, failed, or left out.
    int
        How many were finished before.
    """
    estimates = Estimates(setup)
    keys = [setup.key(job) for job in jobs]
    settled: dict[int, Measured] = {}
    for place, (job, key) in enumerate(zip(jobs, keys, strict=True)):
        found = ledger.find(key)
        if found is not None:
            settled[place] = found
            estimates.learn(job, found)
            advance(_words(job))
    resumed = len(settled)
    waiting = [place for place in range(len(jobs)) if place not in settled]
    while waiting:
        place = min(waiting, key=lambda one: (estimates.seconds(jobs[one]), one))
        job, needed, remaining = jobs[place], estimates.seconds(jobs[place]), None if left is None else left()
        if remaining is not None and needed > remaining:
            break  # it is the cheapest: no other one fits either
        waiting.remove(place)
        settled[place] = _settle(job, keys[place], ledger, measure)
        if settled[place].cell.status == DONE:
            estimates.learn(job, settled[place])
        advance(_words(job))
    for place in waiting:
        assert left is not None
        needed, remaining = estimates.seconds(jobs[place]), max(0.0, left())
        reason = f"needs {_seconds(needed)}, with {_seconds(remaining)} of the time budget left"
        settled[place] = Measured(_without(jobs[place], LEFT_OUT, reason))
    return [settled[place] for place in range(len(jobs))], resumed


def _settle(job: Job, key: str, ledger: Ledger, measure: Callable[[Job], Measured]) -> Measured:
    """Measure a cell and keep it; what goes wrong with it is said in it, and the others go on."""
    if ledger.begin(key) >= MOST_ENDS:
        return Measured(
            _without(job, FAILED, f"the process ended {MOST_ENDS} times while it was measured: too little memory?")
        )
    try:
        found = measure(job)
    except GraftError as error:
        found = Measured(_without(job, FAILED, str(error)))
    except (RuntimeError, MemoryError, ValueError, ArithmeticError, LookupError) as error:
        # What a library says of data that it cannot take; memory that has run out is a RuntimeError in torch.
        found = Measured(_without(job, FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    finally:
        ledger.end(key)  # also where it was interrupted: that says nothing against it
    if found.cell.status == DONE and not found.cut_short:
        ledger.keep(key, found)
    return found


def _unseen(job: Job, count: int, cost: NetworkCost, setup: Setup) -> float:
    """Return the seconds of a cell of which there is no like."""
    if not job.candidate.trains:
        return _ADAPTATION if job.candidate.method == "auto" else _HEAD
    predicted = len(job.deal.test) * (cost.data_seconds + cost.feature_seconds)
    if setup.adapted_to is not None and job.candidate.method is not None:
        learnt = max(1, round((1 - DomainAdaptation().validation) * count))
        passes = adaptation_examples(job.candidate.method, learnt, setup.adapted_to.size, epochs=setup.epochs)
    else:
        times = len(setup.tasks) if job.candidate.name == TUNED_ALONE else 1
        steps = training_steps(count, epochs=setup.epochs, scratch=not job.candidate.embeds)
        passes = 2 * times * steps * min(BATCH, count)  # once to choose, and once more on all examples
    return _HEAD + predicted + passes * cost.step_seconds


def _without(job: Job, status: str, reason: str) -> Cell:
    return Cell(job.candidate.name, job.budget, job.deal.seed, len(job.rows), status, reason)


def _words(job: Job) -> str:
    return f"{job.candidate.name}, {'all' if job.budget is None else job.budget} labels"


def _seconds(value: float) -> str:
    return f"about {value:.0f} s" if value >= 1 else "less than 1 s"
