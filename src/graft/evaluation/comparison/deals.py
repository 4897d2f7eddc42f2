"""`Deal`: which examples are learnt from, in nested draws, and which are tested on; the same for every technique."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft._checks import one_of
from graft.data import Domain, Task, class_order, infer_task, label_array, missing, require_trainable, split
from graft.errors import DataError, RequestError
from graft.techniques.multiple.label_columns import label_columns

# More test examples narrow no interval that matters, and every technique has to predict them.
MOST_TESTED = 2000
_STEPS = (1, 2, 5)
KINDS = ("auto", "classification", "multilabel", "regression", "multi-task")
SEVERAL = "multi-task"


@dataclass(frozen=True, eq=False)
class Deal:
    """The examples of one seed.

    Parameters
    ----------
    seed : int
        It.
    pool : array of shape (m,)
        The labelled rows that can be learnt from, ascending.
    rank : array of shape (m,)
        With k labels of each class (where there are no classes: k labels), the rows of rank below k are learnt from:
        the examples of a smaller number are among those of a larger one.
    test : array of shape (t,)
        The labelled rows that are tested on, ascending; of the target, where there is one.
    given : bool
        Whether the data says what is tested on.
    """

    seed: int
    pool: np.ndarray
    rank: np.ndarray
    test: np.ndarray
    given: bool

    def few(self, budget: int | None) -> np.ndarray:
        """Return the rows that are learnt from with that many labels, ascending; None: with all."""
        return self.pool if budget is None else self.pool[self.rank < budget]


def goals(domain: Domain, kind: str) -> tuple[Task, ...]:
    """Return what the labels of a domain say: one task, or a task for each column of a table.

    Raises
    ------
    RequestError
        If there is no such kind of task, or the labels cannot be of it.
    DataError
        If nothing can be learnt from a column.
    """
    tasks = _goals(domain, kind)
    if len(tasks) == 1:  # of several, each was looked at as its column was read
        require_trainable(domain.labels, tasks[0])
    return tasks


def _goals(domain: Domain, kind: str) -> tuple[Task, ...]:
    one_of("task", kind, KINDS)
    labels = label_array(domain.labels)
    width = labels.shape[1] if labels.ndim == 2 else 1
    names = domain.tasks or tuple(str(place) for place in range(width))
    if width == 1:
        if kind in ("multilabel", SEVERAL):
            raise RequestError(
                "task", expected="several label columns", found=f"one, beside {kind!r}", remedy="Leave out the task."
            )
        found = infer_task(labels, name=domain.tasks[0] if domain.tasks else "")
        if kind == "regression":
            return (Task(found.name, "regression"),)
        if kind == "classification" and found.kind == "regression":
            return (Task(found.name, "classification", class_order(labels)),)
        return (found,)
    gaps = missing(labels)
    binary = all(value in (0, 1) for value in labels[~gaps].tolist())
    if kind == "classification":
        raise RequestError(
            "task", expected="one label column", found=f"{width} of them", remedy="Name one, or ask for 'multi-task'."
        )
    if kind == "regression":
        return (Task("", "regression"),)
    if kind == "multilabel" or (kind == "auto" and binary):
        return (Task("", "multilabel", names),)
    return tuple(column.task for column in label_columns(labels, None, list(names)))


def kind_of(tasks: Sequence[Task]) -> str:
    """Return the kind of a task, or ``"multi-task"``."""
    return tasks[0].kind if len(tasks) == 1 else SEVERAL


def deal(domain: Domain, tasks: Sequence[Task], *, seed: int, test: float, target: Domain | None = None) -> Deal:
    """Deal the examples of one seed.

    Of given splits, ``test`` is tested on (else ``val``) and everything else is learnt from; otherwise a fraction is
    held out, stratified, whole groups together. With a target, its labelled examples (those of its ``test`` split, if
    it has one) are tested on, and all of the domain, without a ``test`` split of its own, is learnt from.

    Parameters
    ----------
    domain : Domain
        With labels.
    tasks : sequence of Task
        What they say.
    seed : int
        Of everything that is drawn.
    test : float
        The fraction held out.
    target : Domain, optional
        Where the model is to work.

    Raises
    ------
    DataError
        If nothing is left to learn from, or to test on.
    """
    draw = np.random.default_rng((seed, 0xDEA1))
    known = labelled(domain)
    held = given_test(domain)
    given = held is not None
    if target is not None:
        tested = target_test(target)
        pool = known & ~(_split_mask(domain, "test"))
    elif held is not None:
        tested, pool = np.flatnonzero(known & held), known & ~held
    else:
        rows = np.flatnonzero(known)
        grouped = None if domain.groups is None else domain.groups[rows]
        places = Domain(rows, domain.labels[rows], groups=grouped, name=domain.name)
        parts = split(places, fractions={"train": 1 - test, "test": test}, random_state=seed)
        tested, pool = np.sort(parts["test"].inputs), np.zeros(domain.size, bool)
        pool[parts["train"].inputs] = True
    learnt = np.flatnonzero(pool)
    for name, count in (("to learn from", len(learnt)), ("to test on", len(tested))):
        if count < 2:
            raise DataError(
                f"labels of domain {domain.name!r}" if target is None or name == "to learn from" else "target",
                expected=f"labelled examples {name}, two at least",
                found=str(count),
                remedy="Bring more labelled examples; a target's labels are used to measure by, never to learn from.",
            )
    if len(tested) > MOST_TESTED:
        tested = np.sort(draw.choice(tested, MOST_TESTED, replace=False))
    return Deal(seed, learnt, _ranks(domain, tasks, learnt, draw), tested, given or target is not None)


def labelled(domain: Domain) -> np.ndarray:
    """Return which examples (n,) of a domain have a label; of a table, at least one."""
    if domain.labels is None:
        return np.zeros(domain.size, bool)
    there = ~missing(label_array(domain.labels))
    return there if there.ndim == 1 else np.any(there, axis=1)


def given_test(domain: Domain) -> np.ndarray | None:
    """Return which examples (n,) the data itself sets aside to test on, or None."""
    for name in ("test", "val"):
        mask = _split_mask(domain, name)
        if mask.any():
            return mask
    return None


def target_test(target: Domain) -> np.ndarray:
    """Return the rows of the target that are tested on."""
    known, held = labelled(target), _split_mask(target, "test")
    return np.flatnonzero(known & held if held.any() else known)


def default_budgets(deals: Sequence[Deal], tasks: Sequence[Task]) -> tuple[int | None, ...]:
    """Return 5, 10, 20, 50, … per class (20, 50, … examples where there are no classes), and all (None)."""
    first = 5 if kind_of(tasks) == "classification" else 20
    # A number that is nearly all there is would be measured twice.
    most = min(int(one.rank.max()) + 1 for one in deals) / 1.3
    numbers = [step * 10**power for power in range(6) for step in _STEPS]
    return (*(number for number in numbers if first <= number <= most), None)


def checked_budgets(
    asked: Sequence[int | None], deals: Sequence[Deal], tasks: Sequence[Task]
) -> tuple[int | None, ...]:
    """Return numbers of labels in ascending order, all (None) last.

    Raises
    ------
    RequestError
        If one is no positive integer, or more than there are.
    """
    most = min(int(one.rank.max()) + 1 for one in deals)
    unit = "labels of a class" if kind_of(tasks) == "classification" else "labelled examples"
    if isinstance(asked, str) or not isinstance(asked, Sequence | np.ndarray):
        raise RequestError(
            "budgets",
            expected="a sequence of numbers of labels, None for all of them",
            found=repr(asked),
            remedy="Pass budgets=[5, None], for example.",
        )
    for number in asked:
        usable = number is None or (isinstance(number, int | np.integer) and not isinstance(number, bool))
        if not usable or (number is not None and not 1 <= number <= most):
            raise RequestError(
                "budgets",
                expected=f"numbers of {unit} from 1 to {most}, beside those that are tested on",
                found=repr(number),
                remedy="Ask for fewer, or leave it out; None (all on the command line) stands for all of them.",
            )
    chosen: list[int | None] = [*sorted({int(number) for number in asked if number is not None})]
    return (*chosen, None) if None in asked or not chosen else tuple(chosen)


def _split_mask(domain: Domain, name: str) -> np.ndarray:
    if domain.splits is None:
        return np.zeros(domain.size, bool)
    return np.asarray([value == name for value in domain.splits], bool)


def _ranks(domain: Domain, tasks: Sequence[Task], rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return the rank of each row: within its class, or, where there is no single set of classes, among all."""
    order = draw.permutation(len(rows))
    rank = np.empty(len(rows), np.intp)
    labels = label_array(domain.labels)[rows]
    kind = kind_of(tasks)
    if kind == "classification":
        codes = tasks[0].codes(labels.ravel())[order]
        for code in np.unique(codes):
            mine = order[codes == code]
            rank[mine] = np.arange(len(mine))
        return rank
    if kind == "multilabel":
        order = _values_first(labels, [True] * labels.shape[1], order)
    elif kind == SEVERAL:
        order = _values_first(labels, [task.kind != "regression" for task in tasks], order)
    rank[order] = np.arange(len(rows))
    return rank


def _values_first(table: np.ndarray, named: Sequence[bool], order: np.ndarray) -> np.ndarray:
    """Move to the front of an order what each column needs: an example of each value, or two numbers that differ."""
    gaps = missing(table)[order]
    front: list[int] = []
    for place, column in enumerate(table[order].T):
        known = [value for value, gap in zip(column.tolist(), gaps[:, place], strict=True) if not gap]
        distinct = list(dict.fromkeys(known))
        for value in distinct if named[place] else distinct[:2]:
            places = [at for at, one in enumerate(column.tolist()) if not gaps[at, place] and one == value]
            if not set(places) & set(front):
                front.append(places[0])
    rest = np.setdiff1d(np.arange(len(order)), front)
    return order[np.concatenate([np.array(front, np.intp), rest])]
