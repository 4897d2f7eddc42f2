"""`Candidate`: a technique as it is compared; which ones there are for the data, and the model that each one fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft._checks import did_you_mean
from graft.backbones import Backbone, ModuleBackbone
from graft.backbones.preprocessing import ImagePreprocessing
from graft.data import Task
from graft.errors import RequestError
from graft.evaluation.comparison.boosted_trees import BoostedTrees
from graft.evaluation.comparison.each_task import EachTask
from graft.evaluation.comparison.raw_input import RawInput
from graft.techniques import DomainAdaptation, FeatureExtraction, FineTuning, MultiTask
from graft.techniques.adaptation.methods import BOOSTED, FEATURE_METHODS, feature_method
from graft.techniques.adaptation.through_network import AFTERWARDS, NETWORK_METHODS, tasks_of

RAW, SCRATCH, FROZEN, TUNED = "raw-input", "from-scratch", "feature-extraction", "fine-tuning"
UNADAPTED, ADAPTED = "source-only", "domain-adaptation"
ALONE, TOGETHER = "single-task", "multi-task"
TUNED_ALONE, TUNED_TOGETHER = "single-task-network", "multi-task-network"

_RAW_TITLES = {
    "image": "simple heads on the pixels",
    "text": "simple heads on word counts",
    "features": "simple heads on the vectors",
}
# From random weights a network needs so many times the steps; where `epochs` is given, so many times the epochs.
SCRATCH_FACTOR = 4


@dataclass(frozen=True)
class Candidate:
    """A technique as it is compared.

    Parameters
    ----------
    name, title : str
        Its name, and what it is called in a sentence.
    sides : tuple of str
        Which side it stands on: ``"transfer"`` or ``"scratch"``; ``"adapted"`` or ``"unadapted"``; ``"together"`` or
        ``"alone"``.
    description : str
        What it does, in a sentence.
    embeds : bool
        Whether it embeds the training inputs by the frozen network.
    trains : bool
        Whether it trains a network.
    method : str, optional
        With a target, the ``method`` of `DomainAdaptation`; None: it is not told of the target.
    usual : bool
        Whether it takes part where nothing else was asked for.
    """

    name: str
    title: str
    sides: tuple[str, ...]
    description: str
    embeds: bool
    trains: bool
    method: str | None = None
    usual: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return what the results say of it."""
        return {"name": self.name, "title": self.title, "sides": list(self.sides), "description": self.description}


def candidates(
    modality: str, backbone: Backbone | None, *, kind: str, target: bool, several: bool
) -> dict[str, Candidate]:
    """Return the techniques that can be compared on such data, the cheapest first, single adaptations last.

    Parameters
    ----------
    modality : str
        Of the inputs.
    backbone : Backbone or None
        The pretrained network; None for feature vectors.
    kind : str
        Of the task, if it is one.
    target : bool
        Whether there is another domain to adapt to.
    several : bool
        Whether there are several tasks.
    """
    network = "" if backbone is None else backbone.name
    transfer: tuple[str, ...] = () if backbone is None else ("transfer",)
    found = [
        Candidate(
            RAW,
            _RAW_TITLES[modality],
            ("scratch",),
            "No network: logistic regression, a kernel or a discriminant on the input itself, by cross-validation.",
            embeds=False,
            trains=False,
        )
    ]
    what = f"features of {network}" if network else "the vectors"
    single = _adaptations(kind, what, network, transfer) if target else []
    if target:
        found += [
            Candidate(
                UNADAPTED,
                f"source only on {what}",
                (*transfer, "unadapted"),
                f"A head on {what}, fitted to the source and used on the target as it is.",
                embeds=True,
                trains=False,
                method="source-only",
            ),
            Candidate(
                ADAPTED,
                f"domain adaptation on {what}",
                (*transfer, "adapted"),
                f"A head on {what}, adapted to the target by the method that most evidence without labels speaks for.",
                embeds=True,
                trains=False,
                method="auto",
            ),
        ]
    elif several:
        found += [
            Candidate(
                ALONE,
                f"each task alone on {what}",
                (*transfer, "alone"),
                f"A head on {what} for each task, chosen by cross-validation, from the labels of that task.",
                embeds=backbone is not None,
                trains=False,
            ),
            Candidate(
                TOGETHER,
                f"all tasks together on {what}",
                (*transfer, "together"),
                f"All tasks learnt together on {what}.",
                embeds=backbone is not None,
                trains=False,
            ),
        ]
        if backbone is not None:
            found += _networks_of_several(backbone, network)
        return {one.name: one for one in found}
    elif backbone is not None:
        found.append(
            Candidate(
                FROZEN,
                f"feature extraction with {network}",
                transfer,
                f"A head on the features of the frozen {network}, chosen by cross-validation.",
                embeds=True,
                trains=False,
            )
        )
    if backbone is None:
        found.append(
            Candidate(
                SCRATCH,
                "gradient boosting",
                ("scratch",),
                "Boosted trees, which learn their own representation of the vectors.",
                embeds=False,
                trains=False,
            )
        )
        return {one.name: one for one in [*found, *single]}
    found.append(
        Candidate(
            TUNED,
            f"fine-tuning {network}",
            (*transfer, "unadapted") if target else transfer,
            f"All layers of {network} retrained, gently, from the head of feature extraction.",
            embeds=True,
            trains=True,
        )
    )
    if not isinstance(backbone, ModuleBackbone):  # which has its weights and no name to make it from
        found.append(
            Candidate(
                SCRATCH,
                f"{network} from scratch",
                ("scratch",),
                f"The architecture of {network} from random weights: higher rate, four times the steps.",
                embeds=False,
                trains=True,
            )
        )
    return {one.name: one for one in [*found, *single]}


def _adaptations(kind: str, what: str, network: str, transfer: tuple[str, ...]) -> list[Candidate]:
    """Return the single methods of adaptation: those on features, then, if there is a network, those that train it.

    A comparison adapts to a target without labels: what needs some is not among them, nor is *source only*, which has
    a name of its own.
    """
    here = [name for name in FEATURE_METHODS if name not in ("source-only", BOOSTED)]

    def single(name: str, title: str, description: str, *, trains: bool) -> Candidate:
        sides = (*transfer, "adapted")
        full = f"{ADAPTED}:{name}"
        return Candidate(full, title, sides, description, embeds=True, trains=trains, method=name, usual=False)

    found = [
        single(name, f"{name} on {what}", f"A head on {what}, adapted to the target by {name}.", trains=False)
        for name in here
        if kind in feature_method(name).tasks
    ]
    found += [
        single(
            name,
            f"{name} through {network}",
            f"All layers of {network} retrained on "
            + ("the source, then adapted to the target" if name in AFTERWARDS else "both domains")
            + f" by {name}.",
            trains=True,
        )
        for name in (NETWORK_METHODS if network else ())
        if kind in tasks_of(name)
    ]
    return found


def _networks_of_several(backbone: Backbone, network: str) -> list[Candidate]:
    """Return the trainings of a network for several tasks: one network each, one for all, one for all from scratch."""
    found = [
        Candidate(
            TUNED_TOGETHER,
            f"one {network} fine-tuned for all tasks",
            ("transfer", "together"),
            f"All layers of {network} retrained for all tasks at once, with a head for each.",
            embeds=True,
            trains=True,
        ),
        Candidate(
            TUNED_ALONE,
            f"a {network} fine-tuned for each task",
            ("transfer", "alone"),
            f"All layers of {network} retrained for each task by itself: as many networks as tasks.",
            embeds=True,
            trains=True,
        ),
    ]
    if not isinstance(backbone, ModuleBackbone):
        found.append(
            Candidate(
                SCRATCH,
                f"{network} from scratch for all tasks",
                ("scratch",),
                f"The architecture of {network} from random weights, all tasks at once: higher rate, four times the "
                "steps.",
                embeds=False,
                trains=True,
            )
        )
    return found


def chosen(asked: Sequence[str] | None, offered: dict[str, Candidate]) -> tuple[Candidate, ...]:
    """Return the techniques asked for, in the order in which they are offered; by default the usual ones.

    Raises
    ------
    RequestError
        If one is not offered for this data.
    """
    if asked is None:
        return tuple(one for one in offered.values() if one.usual)
    if isinstance(asked, str) or not len(asked):
        raise RequestError(
            "techniques",
            expected="a sequence of names",
            found=repr(asked),
            remedy=f"Pass techniques=[{next(iter(offered))!r}], for example, or leave it out for the usual ones.",
        )
    for name in asked:
        if name not in offered:
            raise _not_offered(str(name), offered)
    return tuple(one for name, one in offered.items() if name in asked)


def _not_offered(name: str, offered: dict[str, Candidate]) -> RequestError:
    """Return what is said of a technique that is not offered: of a wrong method the methods, else the usual ones."""
    usual = [other for other, one in offered.items() if one.usual]
    methods = [str(one.method) for one in offered.values() if not one.usual]
    technique, colon, method = name.partition(":")
    if technique in (ADAPTED, UNADAPTED) and not methods:
        remedy = "Pass a target to adapt to (--target DATA), beside one label column."
    elif technique == ADAPTED and colon:
        plain = {"auto": ADAPTED, "source-only": UNADAPTED}.get(method)
        remedy = (
            did_you_mean(method, methods, otherwise="Choose one of those.") if plain is None else f"Pass {plain!r}."
        )
    elif name in methods:
        remedy = f"Did you mean '{ADAPTED}:{name}'?"
    else:
        remedy = did_you_mean(name, usual, otherwise="Choose one of those.")
    of_methods = technique == ADAPTED and colon and methods
    expected = f"{ADAPTED}: and one of {', '.join(methods)}" if of_methods else f"one of {', '.join(map(repr, usual))}"
    return RequestError("techniques", expected=expected, found=repr(name), remedy=remedy)


def model_of(
    candidate: Candidate,
    tasks: Sequence[Task],
    *,
    modality: str,
    backbone: Backbone | None,
    device: str | None,
    epochs: Any,
    store: Any,
    label_names: Any,
    seed: int,
    seconds: float | None = None,
) -> Any:
    """Return the unfitted model of a candidate.

    Parameters
    ----------
    candidate : Candidate
        Which.
    tasks : sequence of Task
        What is predicted.
    modality, backbone, device, epochs, store, label_names, seed
        As `graft.compare` has them.
    seconds : float, optional
        After which a tournament of adaptations tries no further method, if that is less than it would take by itself.
    """
    task = tasks[0]
    placed: dict[str, Any] = {"device": device, "store": store, "random_state": seed}
    longer = epochs if epochs == "auto" else SCRATCH_FACTOR * epochs
    # A network object has its weights already; the same architecture from random ones is made from its name.
    afresh: dict[str, Any] = {"pretrained": False, "epochs": longer}
    if backbone is not None:
        afresh |= {"layer": backbone.layer, "pooling": backbone.pooling, "image_size": image_size_of(backbone)}
    if len(tasks) > 1:
        every: dict[str, Any] = {"tasks": list(tasks), "label_names": label_names, "compare": False, **placed}
        if candidate.name == TOGETHER:
            return MultiTask(backbone, **every)
        if candidate.name == TUNED_TOGETHER:
            return MultiTask(backbone, train="all", epochs=epochs, **every)
        if candidate.name == SCRATCH and backbone is not None:
            return MultiTask(backbone.name, **afresh, **every)
        if candidate.name == TUNED_ALONE:
            return EachTask(tasks, lambda one: FineTuning(backbone, epochs=epochs, task=one.kind, **placed))
        return EachTask(tasks, lambda one: _alone(candidate, one, modality, backbone, None, placed))
    common: dict[str, Any] = {"task": task.kind, "label_names": label_names, **placed}
    if candidate.name in (RAW, FROZEN):
        return _alone(candidate, task, modality, backbone, label_names, placed)
    if candidate.method is not None:
        if candidate.trains:
            common["epochs"] = epochs
        adaptation = DomainAdaptation(backbone, method=candidate.method, **common)
        if seconds is not None and candidate.method == "auto":
            adaptation.set_params(budget=min(seconds, adaptation.get_params()["budget"]))
        return adaptation
    if candidate.name == TUNED:
        return FineTuning(backbone, epochs=epochs, **common)
    if backbone is None:
        return BoostedTrees(task, random_state=seed)
    return FineTuning(backbone.name, **afresh, **common)


def image_size_of(backbone: Backbone) -> tuple[int, int] | None:
    """Return the size of what a network of images reads: its counterpart from random weights reads the same."""
    return backbone.preprocessing.size if isinstance(backbone.preprocessing, ImagePreprocessing) else None


def _alone(
    candidate: Candidate, task: Task, modality: str, backbone: Backbone | None, label_names: Any, placed: dict[str, Any]
) -> Any:
    """Return the model of one task that needs no training of a network."""
    if candidate.name == RAW:
        return RawInput(modality, task=task.kind, label_names=label_names, random_state=placed["random_state"])
    return FeatureExtraction(backbone, task=task.kind, label_names=label_names, **placed)
