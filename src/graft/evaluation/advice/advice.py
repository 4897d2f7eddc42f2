"""`Advice`: which technique, and why: a frozen value with every number that led to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from graft.evaluation.advice.evidence import Evidence
from graft.evaluation.advice.trial import Trial
from graft.evaluation.comparison.candidates import FROZEN, RAW, SCRATCH, TOGETHER, TUNED
from graft.metrics import Estimate

_WIDTH = 80


@dataclass(frozen=True)
class AdvisedCandidate:
    """A technique that could be used.

    Parameters
    ----------
    technique : str
        Its name.
    predicted : Estimate
        Its score as forecast, with the interval that holds it with 95 % probability.
    checked : Estimate or None
        Its score on held-out examples, with the interval; None where it was not tried.
    seconds : float or None
        What fitting it to all examples will take on this machine, about; None where nothing was measured.
    """

    technique: str
    predicted: Estimate
    checked: Estimate | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "technique": self.technique,
            "predicted": self.predicted.to_dict(),
            "checked": None if self.checked is None else self.checked.to_dict(),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Advice:
    """Which technique, and why: measured on the data.

    Scores are the accuracy (classes), the share of right cells (labels) or R² (numbers); of several tasks, the mean.

    Parameters
    ----------
    technique : str
        ``"feature-extraction"``, ``"fine-tuning"``, ``"from-scratch"``, ``"domain-adaptation"``, ``"multi-task"``, or
        ``"raw-input"``: a simple head without any network.
    backbone : str or None
        The pretrained network; None for feature vectors.
    metric : str
        ``"accuracy"``, ``"r2"``, or ``"score"`` for tasks of different kinds.
    transfer_pays : bool or None
        Whether what the network knows is worth more than the input itself: False where a head on the raw input, or the
        network from random weights, is advised. None where there is no network, or where a technique that is expected
        to be better with it was not checked.
    reasons : tuple of str
        Sentences, each with the numbers that it rests on.
    evidence : Evidence
        Those numbers.
    candidates : tuple of AdvisedCandidate
        The techniques that could be used, the advised one first, then as they are expected to score.
    trial : Trial or None
        The check of the first two on held-out examples.
    tournament : dict or None
        With a target: what the methods of adaptation were judged by, as in ``DomainAdaptation.adaptation_``.
    not_checked : dict of str to str
        Why the others were not tried.
    budget, seconds : float or None, float
        What could be spent, and was.
    """

    technique: str
    backbone: str | None
    metric: str
    transfer_pays: bool | None
    reasons: tuple[str, ...]
    evidence: Evidence
    candidates: tuple[AdvisedCandidate, ...]
    trial: Trial | None
    tournament: dict[str, Any] | None
    not_checked: dict[str, str]
    budget: float | None
    seconds: float = field(compare=False)

    @property
    def fits(self) -> str:
        """The technique that ``graft fit --technique auto`` fits.

        That is the advised one, except where no run can hold it (a head on pixels or word counts alone; several tasks,
        each by itself), or where it is a training that nobody has checked and that takes longer than the budget.
        """
        names = [one.technique for one in self.candidates]
        if TOGETHER in names:
            return TOGETHER
        first = self.candidates[0]
        long = first.seconds is not None and self.budget is not None and first.seconds > self.budget
        if first.technique in (TUNED, SCRATCH) and first.checked is None and long:
            return FROZEN
        if first.technique != RAW:
            return first.technique
        # One that was tried, if there is one; else the one that costs least.
        return next((one.technique for one in self.candidates[1:] if one.checked is not None), FROZEN)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold.

        ``technique``, ``fits``, ``backbone``, ``metric``, ``transfer_pays``, ``reasons``; ``measured`` (examples,
        tasks, imbalance, missing_cells, shift, frozen_features, raw_input); ``candidates`` (technique, predicted,
        checked, seconds; scores as value, low, high); ``check`` (first, second, folds, examples, scores, gain,
        share_of_steps, seconds, winner) or null; ``tournament`` or null; ``not_checked`` (technique: why); ``budget``,
        ``seconds``.
        """
        return {
            "technique": self.technique,
            "fits": self.fits,
            "backbone": self.backbone,
            "metric": self.metric,
            "transfer_pays": self.transfer_pays,
            "reasons": list(self.reasons),
            "measured": self.evidence.to_dict(),
            "candidates": [one.to_dict() for one in self.candidates],
            "check": None if self.trial is None else self.trial.to_dict(),
            "tournament": self.tournament,
            "not_checked": self.not_checked,
            "budget": self.budget,
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """Return the advice and its reasons as lines of at most 80 columns."""
        network = f" with {self.backbone}" if self.backbone and self.technique != RAW else ""
        start = " (a simple head on the input, no network)" if self.technique == RAW else ""
        start = " (the architecture alone, from random weights)" if self.technique == SCRATCH else start
        said = [f"Advice: {self.technique}{network}{start}."]
        said += [f"- {reason}" for reason in self.reasons]
        return [part for line in said for part in wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return a row for each candidate: technique, forecast, score on held-out examples, seconds of a fit."""
        return [
            (
                one.technique,
                _interval(one.predicted),
                "-" if one.checked is None else _interval(one.checked),
                "-" if one.seconds is None else f"{one.seconds:.0f}" if one.seconds >= 10 else f"{one.seconds:.1f}",
            )
            for one in self.candidates
        ]

    def not_tried(self) -> list[str]:
        """Return what was not tried, and why, as lines of at most 80 columns; what was told is not repeated."""
        shared: dict[str, list[str]] = {}
        for name, why in self.not_checked.items():
            shared.setdefault(why, []).append(name)
        said = []
        for why, names in shared.items():
            told = any(why in reason for reason in self.reasons)
            said.append(f"Not tried: {', '.join(names)}{', as said above' if told else f', {why}'}.")
        return [part for line in said for part in wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]

    def __str__(self) -> str:
        """The advice, its reasons and the candidates, at most 80 columns wide."""
        titles = ("technique", "forecast (95 %)", "held out (95 %)", "s a fit")
        rows = [titles, *self.rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        table.insert(1, "-" * (sum(widths) + 6))
        why = self.not_tried()
        return "\n".join([*self.lines(), "", *table, *([""] if why else []), *why])


def _interval(score: Estimate) -> str:
    value = f"{score.value:.3f}"
    return value if score.low != score.low else f"{value} ({score.low:.3f} to {score.high:.3f})"
