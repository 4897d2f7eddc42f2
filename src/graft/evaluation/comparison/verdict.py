"""`judge`: what a comparison finds, in words and three figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.evaluation.comparison.candidates import SCRATCH, Candidate
from graft.evaluation.comparison.curves import Curves
from graft.evaluation.comparison.findings import best_of, common_seeds, find, is_ahead, is_behind
from graft.evaluation.results import NO_INTERVAL, Verdict, factor_text

# question: the side whose worth is asked for, the other side, what it is called in a sentence.
QUESTIONS = {
    "transfer": ("transfer", "scratch", "Transfer"),
    "adaptation": ("adapted", "unadapted", "Adapting to the target"),
    "sharing": ("together", "alone", "Learning the tasks together"),
}
_EQUAL = 1.05  # costs nearer than this are told as equal


@dataclass(frozen=True)
class Wording:
    """How figures are written.

    Parameters
    ----------
    titles : dict of str to str
        What each technique is called in a sentence.
    percent : bool
        Whether scores are read in percent.
    score : str
        What they are called.
    per_class : bool
        Whether a number of labels is that of each class.
    """

    titles: Mapping[str, str]
    percent: bool
    score: str
    per_class: bool

    def value(self, score: float) -> str:
        """Return a score."""
        return f"{100 * score:.1f} %" if self.percent else f"{score:.3f}"

    def difference(self, one: Mapping[str, Any]) -> str:
        """Return the size of a difference of scores, with its interval."""
        scale, digits = (100, 1) if self.percent else (1, 3)
        size = f"{abs(scale * one['value']):.{digits}f}"
        unit = " points" if self.percent else ""
        if one["low"] is None:
            return f"{size}{unit} ({NO_INTERVAL})"
        low, high = scale * one["low"], scale * one["high"]
        if one["value"] < 0:
            low, high = -high, -low
        return f"{size}{unit} (95 %: {low:.{digits}f} to {high:.{digits}f})"

    def labels(self, budget: int | None) -> str:
        """Return a number of labels."""
        if budget is None:
            return "all labels"
        return f"{budget} per class" if self.per_class else f"{budget} labels"


def judge(curves: Curves, candidates: Sequence[Candidate], wording: Wording, of_task: Mapping[str, Curves]) -> Verdict:
    """Return the verdict over all cells.

    Every question of which both sides were measured has a finding; the first of them, in the order transfer,
    adaptation, sharing, gives the outcome. Labels are counted against the best technique of the other side; time and
    memory against the same network trained from scratch, where it was measured: simple heads on raw inputs cost next to
    nothing, whatever they are worth.

    Parameters
    ----------
    curves : Curves
        All scores.
    candidates : sequence of Candidate
        What was compared.
    wording : Wording
        How figures are written.
    of_task : dict of str to Curves
        Several tasks: the scores of each; empty otherwise.
    """

    def side(name: str) -> list[str]:
        return [one.name for one in candidates if name in one.sides]

    findings = []
    for question, (with_, without, _) in QUESTIONS.items():
        found = find(curves, question, side(with_), side(without))
        if found is not None:
            if question == "sharing":
                found["tasks"] = _task_gains(of_task, found)
            findings.append({**found, "text": _finding_text(curves, found, wording)})
    if not findings:
        return Verdict("not measured", _not_measured(curves, candidates, wording))
    first = findings[0]
    costs = first
    if first["question"] == "transfer" and first["without"] != SCRATCH:
        # Time and memory are saved on training a network, not on fitting a head to pixels.
        costs = find(curves, "transfer", [first["with"]], [SCRATCH]) or first
    figures = (_labels_figure(first, wording), *(_cost_figure(costs, name, wording) for name in ("time", "memory")))
    sentences = [first["text"]]
    sentences += [figure["sentence"] for figure in figures if figure["value"] is not None]
    sentences += [one["text"] for one in findings[1:]]
    return Verdict(first["outcome"], " ".join(sentences), figures, tuple(findings))


def _not_measured(curves: Curves, candidates: Sequence[Candidate], wording: Wording) -> str:
    """Return why no question is answered, and what is known all the same."""
    there = [one.name for one in candidates if curves.budgets(one.name)]
    lacking = [one.title for one in candidates if one.name not in there]
    asked = [
        name
        for with_, without, name in QUESTIONS.values()
        if all(_stands(candidates, side) for side in (with_, without))
    ]
    if lacking:
        said = f"Nothing can be said yet: {', '.join(lacking)} {'was' if len(lacking) == 1 else 'were'} not measured"
        said += ", for the reasons listed as left out." if asked else "."
    elif asked:
        said = "Nothing can be said yet: no two techniques were measured with the same number of labels and seed."
    elif any(_stands(candidates, with_) for with_, _, _ in QUESTIONS.values()):
        said = "Nothing was compared that this could be held against."
    else:
        said = "No pretrained network takes part, so that nothing is transferred and there is nothing to weigh."
    best = best_of(curves, there)
    if best is None:
        return said
    name, budgets, _ = best
    if len(there) == 1:
        budgets = budgets[-1:]
    # The best one is so by its mean: with one number of labels or another, others may be ahead.
    mean = sum(curves.score(name, budget)[0] for budget in budgets) / len(budgets)
    several = f"on average over {len(budgets)} numbers of labels"
    over = several if len(budgets) > 1 else f"with {wording.labels(budgets[0])}"
    score = f"{wording.value(mean)} of {wording.score} {over}"
    return f"{said} {'Best' if len(there) > 1 else 'Measured'}: {wording.titles[name]}, {score}."


def _stands(candidates: Sequence[Candidate], side: str) -> bool:
    return any(side in one.sides for one in candidates)


def _task_gains(of_task: Mapping[str, Curves], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what learning together does for each task, over the same numbers of labels and seeds."""
    gains = []
    for task, curves in of_task.items():
        one = find(curves, found["question"], [found["with"]], [found["without"]])
        if one is not None:
            gains.append({"task": task, **one["gain"]})
    return gains


def _finding_text(curves: Curves, found: Mapping[str, Any], wording: Wording) -> str:
    subject = QUESTIONS[found["question"]][2]
    name, other = (wording.titles[found[side]] for side in ("with", "without"))
    gain, gains = found["gain"], found["gains"]
    fewest = gains[0]["budget"]
    seeds = common_seeds(curves, (found["with"], found["without"]), fewest)
    first, second = (wording.value(curves.score(found[side], fewest, seeds)[0]) for side in ("with", "without"))
    scores = f"{first} against {second} with {wording.labels(fewest)}"
    over = f" on average over {len(gains)} numbers of labels" if len(gains) > 1 else ""
    above = "above" if gain["value"] >= 0 else "below"
    compared = (
        f"{name} is{over} {wording.difference(gain)} of {wording.score} {above} {other}, the best without it ({scores})"
    )
    outcome = found["outcome"]
    if outcome == "pays":
        return f"{subject} pays here: {compared}."
    if outcome == "does not pay":
        return f"{subject} does not pay here: {compared}."
    if outcome == "mixed":
        better = [wording.labels(one["budget"]) for one in gains if is_ahead(one)]
        worse = [wording.labels(one["budget"]) for one in gains if is_behind(one)]
        parts = [f"it is ahead with {', '.join(better)}"] if better else []
        parts += [f"it is behind with {', '.join(worse)}"] if worse else []
        return f"{subject} pays with some numbers of labels, not with others: {' and '.join(parts)}; {compared}."
    return f"Whether {subject[0].lower()}{subject[1:]} pays here cannot be told: {compared}."


def _labels_figure(found: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    """Return the figure of the fewest labels that both sides were measured with: there they are dearest."""
    common = [one["budget"] for one in found["gains"]]
    one = next((one for one in found["labels"] if one["budget"] in common), None)
    if one is None:
        return _figure("labels", "Labels", "How many labels it is worth was not measured.", None)
    name, other = (wording.titles[found[side]] for side in ("with", "without"))
    equals, number = f"{one['equals']:.0f}", f"{one['n_train']:.0f}"
    if one["bound"] == "at least":
        text = f"With {number} labelled examples, {name} scores more than {other} with {equals}, the most measured."
    elif one["bound"] == "at most":
        text = f"With {number} labelled examples, {name} scores less than {other} with {equals}, the fewest measured."
    else:
        text = f"With {number} labelled examples, {name} scores what {other} scores with {equals}."
    return {**_figure("labels", "Labels", text, one), "bound": one["bound"]}


def _cost_figure(found: Mapping[str, Any], name: str, wording: Wording) -> dict[str, Any]:
    title = {"time": "Time", "memory": "Memory"}[name]
    one = found["seconds" if name == "time" else "memory"]
    if one is None:
        return _figure(name, title, f"How much {title.lower()} it takes was not measured on both sides.", None)
    with_, without = (wording.titles[found[side]] for side in ("with", "without"))
    numbers = tuple(_seconds(one[side]) if name == "time" else _mebibytes(one[side]) for side in ("with", "without"))
    factor = one["factor"]
    if 1 / _EQUAL < factor < _EQUAL:
        ratio = "as much"
    else:
        ratio = f"{factor_text(factor)} times less" if factor >= 1 else f"{factor_text(1 / factor)} times more"
    text = (
        f"With {wording.labels(one['budget'])}, {with_} takes {numbers[0]} and {without} {numbers[1]}: {ratio} {name}."
    )
    return _figure(name, title, text, one)


def _interval_words(name: str, one: Mapping[str, Any]) -> str:
    """Return the interval of a factor: how many times as many labels, how many times less time, or more."""
    low, high = one["low"] or None, one["high"]  # an interval that begins at zero has no lower end
    if name != "labels" and one["factor"] < 1:
        low, high = (None if not one else 1 / one for one in (high, low))
    if low is None:
        return NO_INTERVAL if high is None else f"95 %: at most {factor_text(high)} times"
    if high is None:
        return f"95 %: at least {factor_text(low)} times"
    return f"95 %: {factor_text(low)} to {factor_text(high)} times"


def _figure(name: str, title: str, text: str, one: Mapping[str, Any] | None) -> dict[str, Any]:
    values = dict.fromkeys(("value", "low", "high"))
    if one is not None:
        values = {"value": one["factor"], "low": one["low"], "high": one["high"]}
    # A bound says itself how far it goes.
    exact = one is not None and not (one.get("bound") and one["low"] is None and one["high"] is None)
    sentence = text if one is None or not exact else f"{text.removesuffix('.')} ({_interval_words(name, one)})."
    return {"name": name, "title": title, "text": text, "sentence": sentence, **values, "bound": None}


def _seconds(value: float) -> str:
    if value < 0.001:
        return "less than 0.001 s"
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def _mebibytes(value: float) -> str:
    return f"{value:,.0f} MiB" if value >= 1 else "less than 1 MiB"
