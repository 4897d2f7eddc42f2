"""Which examples of a source and a target stand in the batches of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from graft.errors import DataError
from graft.techniques.adaptation.problem import known_share


@final
class Turns:
    """Examples of several groups, drawn in turn; what is drawn when follows from the seed alone.

    In every cycle each group is drawn from once, in a new order; in every round each example of a group once.

    Parameters
    ----------
    groups : sequence of arrays of int
        The examples of each; none is empty.
    seed : int or tuple of int
        It decides.
    """

    def __init__(self, groups: Sequence[np.ndarray], seed: int | tuple[int, ...]) -> None:
        self._groups, self._seed = groups, (seed,) if isinstance(seed, int) else seed

    def take(self, first: int, count: int) -> np.ndarray:
        """Return the examples (count,) that are drawn from the draw with the number `first` on."""
        cycles, places = np.divmod(np.arange(first, first + count), len(self._groups))
        chosen = np.empty(count, np.intp)
        for cycle in np.unique(cycles):
            order = np.random.default_rng((*self._seed, 0, int(cycle))).permutation(len(self._groups))
            chosen[cycles == cycle] = order[places[cycles == cycle]]
        rows = np.empty(count, np.intp)
        for group in np.unique(chosen):
            drawn, members = np.flatnonzero(chosen == group), self._groups[group]
            rounds, at = np.divmod(cycles[drawn], len(members))
            for turn in np.unique(rounds):
                shuffled = np.random.default_rng((*self._seed, 1, int(group), int(turn))).permutation(members)
                rows[drawn[rounds == turn]] = shuffled[at[rounds == turn]]
        return rows


@final
class DomainBatches:
    """Half of every batch is labelled, of the source and, where it has some, of the target; half is of the target.

    Classes of the source are drawn alike often, so that domains are compared class by class in every batch. `factor`
    takes that back in the loss of the labelled examples, where a class counts as much as it has examples.

    Neighbours are mixed: every part of a batch holds both domains in equal shares.

    Parameters
    ----------
    target : array of bool (n,)
        Which examples are of the target; the others are of the source.
    known : array of bool (n,)
        Which have a label.
    codes : array of int (n,) or None
        The class of those; None where the task has none.
    batch_size : int
        Of both domains together.
    seed : int
        With the step, it decides.

    Attributes
    ----------
    factor : array (n,)
        What a labelled example counts in a batch, times its own weight: over many batches, each then counts alike,
        however often it is drawn. Zero for those without a label.
    batches : int
        Batches that hold every example of the smaller domain once.

    Raises
    ------
    DataError
        If one of the domains has no example.
    """

    def __init__(
        self, target: np.ndarray, known: np.ndarray, codes: np.ndarray | None, batch_size: int, seed: int
    ) -> None:
        source, there, few = np.flatnonzero(~target), np.flatnonzero(target), np.flatnonzero(target & known)
        if not len(source) or not len(there):
            raise DataError(
                "examples",
                expected="some of the source and some of the target",
                found=f"{len(source)} and {len(there)}",
                remedy="Pass both.",
            )
        groups = [source] if codes is None else [source[codes[source] == code] for code in np.unique(codes[source])]
        half = max(1, batch_size // 2)
        self._there = max(1, batch_size - half)
        by_chance = self._there * len(few) / len(there)
        self._few = 0
        if len(few) and half > 1:
            share = known_share(len(source), len(few)) * len(few)
            wanted = half * share / (len(source) + share)
            self._few = int(np.clip(np.ceil(wanted - by_chance), 0, half // 2))
        self._source = half - self._few
        self._parts = (
            (Turns(groups, (seed, 0)), self._source),
            (Turns([few] if len(few) else [source], (seed, 1)), self._few),
            (Turns([there], (seed, 2)), self._there),
        )
        labelled = len(source) + len(few)
        self.factor = np.zeros(len(target))
        for members in groups:
            self.factor[members] = len(members) / labelled / (self._source / len(groups))
        if len(few):
            self.factor[few] = len(few) / labelled / (self._few + by_chance)
        self.factor /= self.factor[source].mean()
        self.batches = max(1, min(len(source) // half, len(there) // self._there))

    def rows(self, step: int) -> np.ndarray:
        """Return the examples of the batch of a step."""
        rows = np.concatenate([turns.take(step * count, count) for turns, count in self._parts])
        places = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for _, count in self._parts])
        return rows[np.argsort(places, kind="stable")]
