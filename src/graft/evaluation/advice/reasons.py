"""Plain sentences for what was measured, each with its numbers."""

from __future__ import annotations

import math

from graft.evaluation.advice.evidence import Evidence
from graft.evaluation.advice.forecast import Forecast, similarity_of
from graft.evaluation.advice.learning_curve import LearningCurve
from graft.evaluation.advice.question import Question
from graft.evaluation.advice.trial import Trial
from graft.evaluation.comparison.candidates import ADAPTED, FROZEN, RAW, SCRATCH, TOGETHER, TUNED

# Examples of a class beyond which classes are called uneven.
_UNEVEN = 3.0
_SIMILAR = 0.15
# Scores from which on two heads differ by an example or two.
_PERFECT = 0.99
_INPUT = {"image": "pixels", "text": "word counts", "features": "vectors"}


def measured_reasons(question: Question, evidence: Evidence) -> list[str]:
    """Return what was measured: size, classes, missing cells, shift, similarity, room."""
    said = [_size(evidence)]
    if evidence.imbalance >= _UNEVEN:
        said.append(f"Classes are uneven: the largest has {evidence.imbalance:.3g} examples for one of the smallest.")
    if question.several:
        labels = [one.labels for one in evidence.sizes]
        each = f"{min(labels)}" if min(labels) == max(labels) else f"{min(labels)} to {max(labels)}"
        said.append(
            f"{len(labels)} tasks with {each} labels each; {100 * evidence.missing:.0f} % of the cells are empty."
        )
    said += _shift(evidence)
    pairs = [(one, other) for one, other in zip(evidence.frozen, evidence.raw, strict=True) if one is not None]
    if not pairs:
        return [
            *said,
            "No head could be cross-validated: there are too few examples, too few that differ, or too few groups. "
            "Nothing else could be measured.",
        ]
    return said + (_similarity(question, evidence) if not question.several else _tasks_similarity(question, evidence))


def _size(evidence: Evidence) -> str:
    if len(evidence.sizes) > 1:
        return f"{evidence.examples} labelled examples."
    one = evidence.sizes[0]
    if one.smallest is None or one.largest is None:
        return f"{evidence.examples} labelled examples, {one.kind}."
    each = f"{one.smallest}" if one.smallest == one.largest else f"{one.smallest} to {one.largest}"
    return f"{evidence.examples} labelled examples of {one.classes} classes, {each} each."


def _shift(evidence: Evidence) -> list[str]:
    shift = evidence.shift
    if shift is None:
        return []
    told = f"a classifier tells them apart with an AUC of {shift.auc:.2f} ({shift.low:.2f} to {shift.high:.2f})"
    if not shift.found:
        return [f"The {shift.against} looks like the labelled examples: {told}, which may be chance."]
    more = "" if shift.against == "target" else "; with --target, those examples can be adapted to"
    return [f"The {shift.against} has another distribution: {told}{more}."]


def _similarity(question: Question, evidence: Evidence) -> list[str]:
    frozen, raw = evidence.frozen[0], evidence.raw[0]
    assert frozen is not None
    said = []
    if raw is not None:
        what, ratio = _INPUT[question.modality], math.exp(abs(similarity_of(frozen, raw)))
        alike = similarity_of(frozen, raw)
        verdict = (
            "both hardly err, which says nothing of how similar the task is to what the network was trained for"
            if min(frozen.score.value, raw.score.value) >= _PERFECT
            else f"the network's features are worth more ({ratio:.1f} times fewer errors), so the task is similar to "
            "what it was trained for"
            if alike > _SIMILAR
            else f"the network's features are worth less ({ratio:.1f} times the errors), so the task is far from what "
            "it was trained for"
            if alike < -_SIMILAR
            else "the network's features are worth no more, so the task is not close to what it was trained for"
        )
        said.append(
            f"A head on frozen features scores {_score(frozen)} by cross-validation, one on the {what} {_score(raw)}: "
            f"{verdict}."
        )
    else:
        said.append(f"A head on the vectors scores {_score(frozen)} by cross-validation.")
    said.append(_room(frozen))
    return said


def _tasks_similarity(question: Question, evidence: Evidence) -> list[str]:
    known = [one.score.value for one in evidence.frozen if one is not None]
    said = f"Heads on frozen features, one for each task, score {sum(known) / len(known):.3f} by cross-validation"
    raw = [one.score.value for one in evidence.raw if one is not None]
    return [f"{said}; on the {_INPUT[question.modality]} {sum(raw) / len(raw):.3f}." if raw else f"{said}."]


def _room(curve: LearningCurve) -> str:
    n, exponent = curve.examples[-1], curve.exponent[0]
    errors = [math.exp(curve.at(times * n)[0]) for times in (1, 4)]
    grown = ", ".join(f"{one.value:.3f} with {count}" for count, one in zip(curve.examples, curve.scores, strict=True))
    return (
        f"Room: the error of that head is {errors[0]:.3f} and falls with exponent {exponent:.2f} ({grown} examples); "
        f"with four times as many it would be about {errors[1]:.3f}."
    )


def forecast_reason(first: Forecast, second: Forecast | None) -> str:
    """Return what is expected of the best technique, and of the next."""
    said = f"Expected of {first.technique}: {_expected(first)}"
    if second is None:
        return f"{said}."
    better = float((first.worth > second.worth).mean())
    return (
        f"{said}; of {second.technique}: {_expected(second)}. {first.technique} is better with a probability of "
        f"{100 * better:.0f} %, costs counted."
    )


def check_reason(trial: Trial) -> str:
    """Return what the check found."""
    one, other = trial.scores[trial.first], trial.scores[trial.second]
    cut = f", with {100 * trial.share:.0f} % of the steps" if trial.share < 1 else ""
    gain = trial.gain
    between = "" if math.isnan(gain.low) else f" ({gain.low:+.3f} to {gain.high:+.3f})"
    verdict = (
        f"this confirms {trial.first}"
        if trial.winner == trial.first
        else f"this overturns the forecast: {trial.winner} is kept"
    )
    return (
        f"Checked on {trial.examples} held-out examples{cut}: {trial.first} {one.value:.3f}, {trial.second} "
        f"{other.value:.3f}, difference {gain.value:+.3f}{between}; with the forecast, {verdict}."
    )


def conclusion(technique: str, question: Question, evidence: Evidence, *, undecided: bool = False) -> str:
    """Return the advice in the terms of the field; `undecided`: a transfer that may be better was not checked."""
    n = evidence.examples
    alike = [similarity_of(*pair) for pair in zip(evidence.frozen, evidence.raw, strict=True)]
    similar = sum(alike) / len(alike)
    if technique == RAW and undecided:
        return (
            "Whether transfer pays here is open until that is checked; until then: a simple head on the "
            f"{_INPUT[question.modality]}."
        )
    if technique == RAW:
        known = [pair for pair in zip(evidence.frozen, evidence.raw, strict=True) if None not in pair]
        ahead = sum(raw.score.value - frozen.score.high for frozen, raw in known if frozen and raw) > 0
        compared = "is better than" if ahead else "does as well as"
        return (
            f"Transfer does not pay here: a simple head on the {_INPUT[question.modality]} {compared} what the "
            f"pretrained network gives{'' if ahead else ', and costs less'}."
        )
    if technique == SCRATCH:
        return (
            "Transfer does not pay here: there are enough examples to train the architecture from random weights, and "
            "what the network has learnt elsewhere is of no use."
        )
    if technique == TUNED:
        far = "far from" if similar < -_SIMILAR else "different enough from" if similar < 1 else "not quite"
        return f"With {n} examples of a task that is {far} what the network was trained for: fine-tuning."
    if technique == ADAPTED:
        return "The model has to work on another distribution: domain adaptation."
    if technique == TOGETHER:
        if not evidence.missing:
            return "Several tasks of the same examples: multi-task."
        return f"Related tasks with uneven labels ({100 * evidence.missing:.0f} % of the cells are empty): multi-task."
    assert technique == FROZEN
    if question.backbone is None:
        return "The inputs are vectors, and no network is to be trained: a head on them (feature extraction)."
    if similar > _SIMILAR:
        return f"{n} examples of a task that is similar to what the network was trained for: feature extraction."
    return f"{n} examples are too few to retrain the network with profit: feature extraction."


def _score(curve: LearningCurve) -> str:
    one = curve.score
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _expected(forecast: Forecast) -> str:
    one = forecast.score
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
