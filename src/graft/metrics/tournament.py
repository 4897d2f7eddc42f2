"""Choosing among candidates without target labels: scores agree, or the baseline stays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.errors import RequestError
from graft.metrics.target_risk import RiskScore, check_probabilities

# The weight of each kind of evidence. Those that look at which classes are predicted, and not at how surely, count
# whole; those that certainty, a change of p(y | x) or memory can buy count half.
EVIDENCE_WEIGHT = {
    "clusters": 1.0,
    "committee": 1.0,
    "weighted source": 0.5,
    "confidence": 0.5,
    "density": 0.5,
    "circle": 0.5,
}
# Predicted shares of classes so far from the source's (half the sum of absolute differences) are worth a warning; the
# allowance for chance comes on top.
_FAR = 0.25


@dataclass(frozen=True, eq=False)
class Choice:
    """What a tournament decided, and why.

    Attributes
    ----------
    chosen : str
        The candidate that is to be used.
    reason : str
        One sentence.
    scores : dict of str to tuple of RiskScore
        Every score of every candidate, as they were handed in.
    standing : dict of str to float
        The weighted mean rank of each candidate, from 0 (last by all evidence) to 1 (first by all).
    for_it, against_it : dict of str to tuple of str
        The kinds of evidence by which each candidate is better, or worse, than the baseline.
    convincing : tuple of str
        The candidates that are better than the baseline by two kinds of evidence or more, and by more than half of the
        weighted evidence, the best first.
    voices : dict of str to float
        What each candidate counts in a `consensus`: its standing, divided by the sum of all. All is the baseline's
        where no candidate convinces.
    warnings : tuple of str
        What the user should know before trusting the choice.
    """

    chosen: str
    reason: str
    scores: dict[str, tuple[RiskScore, ...]]
    standing: dict[str, float]
    for_it: dict[str, tuple[str, ...]]
    against_it: dict[str, tuple[str, ...]]
    convincing: tuple[str, ...]
    voices: dict[str, float]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; a score that says nothing is None."""
        return {
            "chosen": self.chosen,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "candidates": {
                name: {
                    "standing": self.standing[name],
                    "voice": self.voices[name],
                    "for": list(self.for_it[name]),
                    "against": list(self.against_it[name]),
                    "scores": {
                        score.name: {
                            "value": score.value if math.isfinite(score.value) else None,
                            "larger_is_better": score.larger_is_better,
                            "evidence": score.evidence,
                        }
                        for score in scores
                    },
                }
                for name, scores in self.scores.items()
            },
        }


def choose(
    scores: Mapping[str, Sequence[RiskScore]],
    *,
    baseline: str = "source-only",
    shares: Mapping[str, Any] | None = None,
    source_shares: Any = None,
    classes: Any = None,
    examples: int | None = None,
) -> Choice:
    r"""Choose a candidate by the agreement of scores that need no target labels.

    Within each kind of evidence e, candidates are ranked by each of its scores, from 0 (last) to 1 (first), ties
    sharing their mean, and the ranks averaged to :math:`r_{me}`, so that many scores of one kind have one voice. The
    standing of candidate m is :math:`\sum_e v_e r_{me} / \sum_e v_e`, over the evidence that there is for it, with
    :math:`v_e` of 1 for clusters and committee and 1/2 for the rest. In the order of standing, the first candidate wins
    that is better than the baseline by two kinds of evidence or more, and by more than half of the weighted evidence;
    at the baseline's own place the search ends. A candidate that gives one class to every target example does not take
    part.

    Parameters
    ----------
    scores : mapping of str to sequence of RiskScore
        The scores of each candidate, the baseline among them. A NaN takes no part.
    baseline : str
        The candidate that stays if nothing is surely better.
    shares : mapping of str to array (K,), optional
        The share of each class among each candidate's predictions on the target (`predicted_shares`).
    source_shares : array (K,), optional
        The share of each class among the source's labels; with it, shares that differ much are warned of.
    classes : array (K,), optional
        Their names, for the warnings.
    examples : int, optional
        The number of target examples, for the warnings.

    Returns
    -------
    Choice

    Raises
    ------
    RequestError
        If the baseline is not among the candidates, or a score has an unknown kind of evidence, or is given twice.

    Notes
    -----
    Sums of ranks are Borda's rule. Candidates that are nearly copies of each other outvote the rest in the committee:
    hand in different ones.

    The weights come from a look at true target accuracies, with fifteen simple adaptations of a logistic regression on
    frozen features: on 12 pairs of PACS (34 images a class, EfficientNet-Lite0) this rule reached 75.9 %, source only
    44.4, the best candidate of each pair 77.6; on 12 pairs of Office-Caltech (SURF, 400 examples at most) 49.3, 43.4
    and 52.7, at worst 0.5 points below source only. About forty other rules were tried on the same pairs, so these
    figures flatter the rule a little; leaving out any one kind of evidence gave 72.1 to 76.0 and 47.7 to 49.5.

    Examples
    --------
    >>> from graft.metrics import RiskScore, choose
    >>> def of(clusters, circle):
    ...     return [RiskScore("ami", clusters, True, "clusters"), RiskScore("back", circle, False, "circle")]
    >>> choice = choose({"source-only": of(0.4, 0.3), "coral": of(0.6, 0.2), "sure": of(0.1, 0.5)})
    >>> choice.chosen, choice.standing
    ('coral', {'source-only': 0.5, 'coral': 1.0, 'sure': 0.0})
    """
    if baseline not in scores:
        raise RequestError(
            "baseline",
            expected="one of the candidates: " + ", ".join(repr(name) for name in scores),
            found=repr(baseline),
            remedy="Score the model without adaptation too; it is what all others are held against.",
        )
    names = list(scores)
    collapsed = [] if shares is None else [m for m in names if m != baseline and _collapsed(shares.get(m))]
    playing = [name for name in names if name not in collapsed]
    ranks = _ranks({name: scores[name] for name in playing})
    standing = dict.fromkeys(names, 0.0) | {name: _mean(ranks[name]) for name in playing}
    better: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    worse = dict(better)
    convincing = []
    for name in playing:
        common = [kind for kind in ranks[name] if kind in ranks[baseline]]
        ahead = {kind: round(ranks[name][kind] - ranks[baseline][kind], 9) for kind in common}
        better[name] = tuple(kind for kind in common if ahead[kind] > 0)
        worse[name] = tuple(kind for kind in common if ahead[kind] < 0)
        lead = sum(EVIDENCE_WEIGHT[kind] * np.sign(ahead[kind]) for kind in common)
        # One kind of evidence is no agreement, however much it weighs.
        if name != baseline and len(better[name]) > 1 and lead > 0:
            convincing.append(name)
    # The baseline wins its ties; others fall to what more evidence is for, then to the alphabet.
    order = sorted(playing, key=lambda name: (-round(standing[name], 9), name != baseline, -len(better[name]), name))
    chosen = next(name for name in order if name in convincing or name == baseline)
    heard = standing if convincing else dict.fromkeys(names, 0.0) | {baseline: 1.0}
    return Choice(
        chosen=chosen,
        reason=_reason(chosen, baseline, playing, convincing, standing, better, worse),
        scores={name: tuple(values) for name, values in scores.items()},
        standing=standing,
        for_it=better,
        against_it=worse,
        convincing=tuple(name for name in order if name in convincing),
        voices={name: value / sum(heard.values()) for name, value in heard.items()},
        warnings=(
            *_harm(baseline, playing, convincing, better, worse),
            *(f"{name!r} gives one class to every target example, and took no part." for name in collapsed),
            *(() if shares is None else class_warnings(shares.get(chosen), shares, source_shares, classes, examples)),
        ),
    )


def consensus(answers: Mapping[str, Any], voices: Mapping[str, float]) -> np.ndarray:
    r"""Return the mean of candidates' probabilities (n, K), each counted by its voice.

    Whatever is true, its squared error (Brier score) is the mean error of the candidates, weighted in the same way,
    less what they vary about their mean, :math:`\sum_m v_m \lVert p_m - \bar p \rVert^2` (Krogh and Vedelsby, 1995,
    equation 6); its log loss is not above their mean log loss either, since the logarithm is concave. It is never worse
    than the candidates on average, but may be worse than the best of them: it is for when nobody knows which that is.

    Parameters
    ----------
    answers : mapping of str to array (n, K)
        Probabilities of the same examples.
    voices : mapping of str to float
        `Choice.voices`; whoever has none is not heard.

    References
    ----------
    Krogh and Vedelsby (1995), Neural network ensembles, cross validation, and active learning.

    Examples
    --------
    >>> from graft.metrics import consensus
    >>> consensus({"one": [[0.9, 0.1]], "other": [[0.2, 0.8]]}, {"one": 0.5, "other": 0.5}).round(2).tolist()
    [[0.55, 0.45]]
    """
    heard = {
        name: check_probabilities(f"answers of {name!r}", answers[name]) for name, voice in voices.items() if voice
    }
    total = sum(voices.values())
    return np.sum([voices[name] / total * table for name, table in heard.items()], axis=0)


def predicted_shares(probabilities: Any) -> np.ndarray:
    """Return the share of examples (K,) in which each column has the largest probability."""
    table = np.asarray(probabilities)
    return np.bincount(table.argmax(axis=1), minlength=table.shape[1]) / len(table)


def class_warnings(
    own: Any, shares: Mapping[str, Any], source_shares: Any, classes: Any = None, examples: int | None = None
) -> tuple[str, ...]:
    """Return what is to be said about classes that are predicted in other shares than the source has them.

    Parameters
    ----------
    own : array (K,) or None
        The shares of the classes among the predictions that are served.
    shares : mapping of str to array (K,)
        Among those of each candidate.
    source_shares, classes, examples
        As in `choose`; without shares of the source there is nothing to say.
    """
    if own is None or source_shares is None:
        return ()
    source = np.asarray(source_shares, dtype=np.float64)
    names = [repr(k) for k in (np.arange(len(source)) if classes is None else np.asarray(classes)).tolist()]
    found = []
    ours = np.asarray(own, dtype=np.float64)
    # Of fewer than five expected examples, none at all is no surprise.
    floor = 0.0 if examples is None else 5 / examples
    missing = [name for name, mine, theirs in zip(names, ours, source, strict=True) if mine == 0 and theirs > floor]
    if missing:
        found.append(
            f"No target example is taken for {_listed(missing)}: the target may not have every class of the source."
        )
    # Methods that force the source's shares on the target hide a difference that the others show.
    typical = np.mean([np.asarray(share, dtype=np.float64) for share in shares.values()], axis=0)
    distance = float(np.abs(typical - source).sum() / 2)
    chance = 0.0 if examples is None else math.sqrt(len(source) / (2 * math.pi * examples))
    if distance > _FAR + chance:
        most = int(np.abs(typical - source).argmax())
        found.append(
            f"Target classes seem to differ from the source's: the shares that the candidates predict are "
            f"{distance:.2f} away (0 is equal, 1 disjoint), most for {names[most]} ({source[most]:.0%} of the source, "
            f"{typical[most]:.0%} predicted). Methods that assume equal shares may mislead."
        )
    return tuple(found)


def _ranks(scores: Mapping[str, Sequence[RiskScore]]) -> dict[str, dict[str, float]]:
    """Return, for each candidate, its mean rank in [0, 1] by each kind of evidence, in the order of the weights."""
    from scipy.stats import rankdata

    merits: dict[str, dict[str, float]] = {}
    evidence: dict[str, str] = {}
    for name, values in scores.items():
        if len({score.name for score in values}) < len(values):
            raise RequestError(
                f"scores of {name!r}",
                expected="each score once",
                found=", ".join(score.name for score in values),
                remedy="Give scores different names.",
            )
        for score in values:
            if score.evidence not in EVIDENCE_WEIGHT:
                raise RequestError(
                    f"evidence of score {score.name!r}",
                    expected="one of " + ", ".join(repr(kind) for kind in EVIDENCE_WEIGHT),
                    found=repr(score.evidence),
                    remedy="Name the kind of evidence that deceives it in the same way.",
                )
            evidence[score.name] = score.evidence
            if not math.isnan(score.value):
                merits.setdefault(score.name, {})[name] = score.merit
    collected: dict[str, dict[str, list[float]]] = {name: {} for name in scores}
    for score_name, values_of in merits.items():
        if len(values_of) < 2:
            continue
        # Differences below what rounding makes are ties.
        places = rankdata([float(f"{value:.9g}") for value in values_of.values()])
        for name, place in zip(values_of, places, strict=True):
            share = (place - 1) / (len(values_of) - 1)
            collected[name].setdefault(evidence[score_name], []).append(float(share))
    return {
        name: {kind: float(np.mean(kinds[kind])) for kind in EVIDENCE_WEIGHT if kind in kinds}
        for name, kinds in collected.items()
    }


def _mean(ranks: Mapping[str, float]) -> float:
    total = sum(EVIDENCE_WEIGHT[kind] for kind in ranks)
    return sum(EVIDENCE_WEIGHT[kind] * rank for kind, rank in ranks.items()) / total if total else 0.0


def _collapsed(share: Any) -> bool:
    return share is not None and len(share) > 1 and float(np.max(share)) >= 1.0


def _reason(
    chosen: str,
    baseline: str,
    playing: Sequence[str],
    convincing: Sequence[str],
    standing: Mapping[str, float],
    better: Mapping[str, tuple[str, ...]],
    worse: Mapping[str, tuple[str, ...]],
) -> str:
    if chosen != baseline:
        against = f", worse by {_listed(worse[chosen])}" if worse[chosen] else ""
        return (
            f"{chosen!r} has the best standing ({standing[chosen]:.2f}) of the candidates that beat {baseline!r} "
            f"({standing[baseline]:.2f}): better by {_listed(better[chosen])}{against}."
        )
    if len(playing) == 1:
        return f"{baseline!r} stays: there is no other candidate."
    if not any(better[name] or worse[name] for name in playing):
        return f"{baseline!r} stays: no score tells the candidates apart."
    if convincing:
        return f"{baseline!r} has the best standing ({standing[baseline]:.2f}) of all candidates that could be chosen."
    return f"{baseline!r} stays: no candidate is better by more than half of at least two kinds of evidence."


def _listed(kinds: Sequence[str]) -> str:
    return kinds[0] if len(kinds) == 1 else ", ".join(kinds[:-1]) + " and " + kinds[-1]


def _harm(
    baseline: str,
    playing: Sequence[str],
    convincing: Sequence[str],
    better: Mapping[str, tuple[str, ...]],
    worse: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Return the warning that is due where no adapted candidate convinces and all are worse by some evidence."""
    adapted = [name for name in playing if name != baseline]
    if not adapted or convincing or not all(worse[name] for name in adapted):
        return []
    most = max(len(better[name]) for name in adapted)
    return [
        f"Adaptation looks harmful here: of {len(adapted)} adapted candidates none is better than {baseline!r} by "
        f"the majority of the evidence (at most {most} kinds). The target may differ in more than its inputs."
    ]
