"""What each technique will score, before it is tried: a forecast with its uncertainty, from what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.advice.evidence import Evidence, TaskSize
from graft.evaluation.advice.learning_curve import LearningCurve
from graft.evaluation.comparison.candidates import ADAPTED, FROZEN, RAW, SCRATCH, TOGETHER, TUNED
from graft.metrics import Estimate

_DRAWS = 4000
# What a technique has to gain before it is preferred to one that costs less: seconds and memory are worth something.
_EARNS = {RAW: 0.0, FROZEN: 0.0, TOGETHER: 0.002, ADAPTED: 0.0, TUNED: 0.005, SCRATCH: 0.005}


@dataclass(frozen=True)
class Law:
    r"""How the error of a technique follows from that of a head which costs little.

    :math:`\log (e / e_0) = a + b \log_2 (n / 100) + c s \pm \sigma`, with n the labels of a task and s the similarity,
    :math:`\log (e_{raw} / e_{frozen})` within -1 and 2: above 0 where the network's features are worth more than the
    input itself. Unless `earned`, σ grows with n up to 320 labels: with few, what is held out of a training mostly
    keeps it from changing anything. The ratio is held between two bounds, and where `earned`, multiplied by
    :math:`\min(1, \log_{10} (n / 10))` and by the share :math:`1 - e_0 / e_{chance}` of what there is to know that the
    head knows: a network whose features say nothing of a task learns little of it from few labels.
    """

    constant: float
    per_doubling: float
    similarity: float
    spread: float
    bounds: tuple[float, float] = (-2.0, 1.0)
    earned: bool = False

    def at(self, labels: int, similarity: float, known: Any = 1.0) -> Any:
        """Return the expected log ratio; `known` is the share of what there is to know, a number or an array."""
        found = self.constant + self.per_doubling * math.log2(max(labels, 10) / 100) + self.similarity * similarity
        found = max(min(found, self.bounds[1]), self.bounds[0])
        if not self.earned:
            return found
        return found * min(1.0, math.log10(max(labels, 10) / 10)) * np.clip(known, 0, 1)

    def doubt(self, labels: int) -> float:
        """Return σ."""
        if self.earned:  # few labels make the expected gain smaller, not surer
            return self.spread
        return self.spread * max(0.0, min(1.0, math.log2(max(labels, 10) / 10) / 5))


# Against the head on frozen features; against the head on the input itself; against one head for each task. What is
# written in the field stands behind them, and what was seen on the examples that come with Graft, on MNIST and on other
# draws of caltech101 (docs/measurements.md); no test score of the suite. Fine-tuning gains most where the features are
# worth no more than the input itself, and nothing where they are worth much more.
TUNED_LAW = Law(-0.9, 0.0, 1.0, 0.3, bounds=(-0.8, 0.05), earned=True)
SCRATCH_LAW = Law(0.5, -0.35, 0.2, 0.4)
TOGETHER_LAW = Law(-0.05, 0.0, 0.0, 0.15)
# The part of what lies between a score and chance that a shift takes away, for each step of the AUC from 0.5 to 1; and
# the part of what it took that adaptation wins back.
_LOST, _LOST_SPREAD = 0.5, 0.25
_WON_BACK, _WON_SPREAD = 0.25, 0.2


@dataclass(frozen=True, eq=False)
class Forecast:
    """A technique's score as it is expected.

    Parameters
    ----------
    technique : str
        Its name.
    draws : array of shape (draws,)
        Of the score; the same draw of all techniques shares what is uncertain for all of them.
    trainings : int
        How many networks it trains: one for each task, unless it learns them together. Each has to earn its cost.
    """

    technique: str
    draws: np.ndarray
    trainings: int = 1

    @property
    def score(self) -> Estimate:
        """The mean, and the interval that holds 95 % of the draws."""
        low, high = np.quantile(self.draws, [0.025, 0.975])
        return Estimate(float(self.draws.mean()), float(low), float(high))

    @property
    def worth(self) -> np.ndarray:
        """The draws, less what the technique has to earn for what it costs."""
        return self.draws - self.trainings * _EARNS[self.technique]


def forecasts(evidence: Evidence, techniques: tuple[str, ...], *, seed: int) -> dict[str, Forecast]:
    """Forecast the score of each technique, the mean over tasks; on the target where there is one.

    Parameters
    ----------
    evidence : Evidence
        What was measured.
    techniques : tuple of str
        Which can be used.
    seed : int
        Of the draws.
    """
    draw = np.random.default_rng(seed)
    common = {name: draw.standard_normal(_DRAWS) for name in techniques}
    lost = np.clip(_LOST + _LOST_SPREAD * draw.standard_normal(_DRAWS), 0, 1)
    won = np.clip(_WON_BACK + _WON_SPREAD * draw.standard_normal(_DRAWS), 0, 1)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in techniques}
    for size, frozen, raw in zip(evidence.sizes, evidence.frozen, evidence.raw, strict=True):
        noise = [draw.standard_normal(_DRAWS) for _ in range(2)]
        own = _errors(size, frozen, noise[0])
        plain = _errors(size, raw, noise[1]) if raw is not None else own
        similarity, worst = similarity_of(frozen, raw), max(1 - size.chance, 1e-6)
        for name in techniques:
            if name == RAW:
                error = plain
            elif name in (FROZEN, ADAPTED):
                error = own
            else:
                law = {TUNED: TUNED_LAW, SCRATCH: SCRATCH_LAW, TOGETHER: TOGETHER_LAW}[name]
                start = plain if name == SCRATCH else own
                known = 1 - own / worst
                error = start * np.exp(law.at(size.labels, similarity, known) + law.doubt(size.labels) * common[name])
            error = np.minimum(error, 1.1 * worst)
            shift = evidence.shift
            if shift is not None and shift.against == "target" and shift.found:
                reach = max(2 * shift.auc - 1, 0.0)
                # What knows nothing of the network loses more.
                gone = lost * reach * np.maximum(worst - error, 0) * (1.3 if name in (RAW, SCRATCH) else 1.0)
                error = error + gone * ((1 - won) if name == ADAPTED else 1.0)
            scores[name].append(1 - error)
    each = {TUNED: len(evidence.sizes), SCRATCH: len(evidence.sizes)}
    return {name: Forecast(name, np.mean(found, axis=0), each.get(name, 1)) for name, found in scores.items()}


def similarity_of(frozen: LearningCurve | None, raw: LearningCurve | None) -> float:
    """Return the logarithm of the error on raw input over that on frozen features, within -1 and 2; 0 if unknown."""
    if frozen is None or raw is None:
        return 0.0
    return max(-1.0, min(2.0, raw.log_error[0] - frozen.log_error[0]))


def _errors(size: TaskSize, curve: LearningCurve | None, noise: np.ndarray) -> np.ndarray:
    """Draw the error of a head that learns from all examples."""
    if curve is None:  # anything between half of what chance does wrong, and all of it
        value, spread = math.log(max(1 - size.chance, 0.1) / math.sqrt(2)), 0.35
    else:
        value, spread = curve.at(curve.examples[-1])
    return np.exp(value + spread * noise)
