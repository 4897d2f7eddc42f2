"""`compare`: techniques x numbers of labels x seeds on the user's own data, and what they find."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from graft import _runtime
from graft._checks import integer, number
from graft._progress import progress
from graft.backbones import Backbone, ModuleBackbone, load_backbone
from graft.backbones.catalogue import DEFAULT_BACKBONES
from graft.backbones.store import features_only
from graft.data import Domain, check_classes, label_array, modality_of, read
from graft.errors import DataError, RequestError
from graft.evaluation.comparison.candidates import Candidate, candidates, chosen, image_size_of
from graft.evaluation.comparison.curves import Curves
from graft.evaluation.comparison.deals import Deal, checked_budgets, deal, default_budgets, goals, target_test
from graft.evaluation.comparison.energy import EnergyMeter
from graft.evaluation.comparison.ledger import Ledger, check_same_data
from graft.evaluation.comparison.measuring import SCORES, Measured, measure
from graft.evaluation.comparison.network_cost import network_cost
from graft.evaluation.comparison.provenance import data_facts, input_words, library_versions, machine_facts
from graft.evaluation.comparison.schedule import measure_all
from graft.evaluation.comparison.setup import Job, Setup
from graft.evaluation.comparison.verdict import Wording, judge
from graft.evaluation.results import Results
from graft.metrics import METRIC_TITLES
from graft.techniques.adaptation.through_network import require_usable


def compare(
    data: Any,
    y: Any = None,
    *,
    target: Any = None,
    backbone: Any = None,
    budgets: Sequence[int | None] | None = None,
    seeds: int | Sequence[int] = 3,
    budget_seconds: float | None = None,
    techniques: Sequence[str] | None = None,
    task: str = "auto",
    groups: Any = None,
    test: float = 0.25,
    image_size: Any = None,
    epochs: Any = "auto",
    device: str | None = None,
    store: Any = True,
    out: str | os.PathLike[str] | None = None,
    random_state: int = 0,
    command: str = "",
) -> Results:
    """Measure what transfer is worth on this data: techniques, numbers of labels and seeds, all on the same splits.

    Beside the pretrained network stand what it has to beat: the same network from random weights, with a recipe made
    for that (a higher rate, four times the steps), and simple heads on the raw input. With a target, the adaptations
    stand beside a model of the source alone; with several label columns, learning them together beside one model each.

    Parameters
    ----------
    data : path, Domain, or sequence of n inputs
        What ``graft fit`` takes, a domain with labels, or paths, pictures, texts or feature vectors.
    y : array of shape (n,) or (n, columns), optional
        The labels, where `data` is a sequence.
    target : path, Domain, or sequence of inputs, optional
        Where the model is to work: it is adapted to, and its labelled examples are tested on. Nothing is ever chosen by
        its labels.
    backbone : str, path or Backbone, optional
        What `load_backbone` takes; by default EfficientNet-Lite0 for images and MiniLM for texts. Feature vectors need
        none.
    budgets : sequence of int or None, optional
        Numbers of labels of each class (of labelled examples, where there is no single set of classes); None stands for
        all. By default 5, 10, 20, 50, … and all.
    seeds : int or sequence of int
        How often everything is drawn anew.
    budget_seconds : float, optional
        The comparison ends within this time: the cheapest cells are measured first, and what did not fit is listed.
    techniques : sequence of str, optional
        Some of those that can be compared; a wrong name lists them. By default all but single adaptations: with a
        target, ``"domain-adaptation"`` is the method that ``"auto"`` of `DomainAdaptation` finds, and
        ``"domain-adaptation:coral"``, for instance, one of its methods by itself.
    task : {"auto", "classification", "multilabel", "regression", "multi-task"}
        As in `FeatureExtraction`; a table whose columns are not all of zeros and ones has several tasks.
    groups : array of shape (n,), optional
        Examples of one group are never divided by a split, and resampled together for the intervals.
    test : float
        The fraction held out, where the data gives no examples to test on.
    image_size : int, optional
        The side of the network's input, not its own.
    epochs : int or "auto"
        Of fine-tuning; from scratch four times as many.
    device : str, optional
        Where networks compute.
    store : bool or path
        Where features are kept.
    out : path, optional
        The folder of the report: finished cells are kept there, so that an interrupted comparison continues, and
        ``results.json`` and ``results.csv`` are written at the end. Those of the same data with other options are
        replaced.
    random_state : int
        The first seed, where `seeds` is a number.
    command : str
        What repeats the comparison, for the report; by default a line of Python.

    Returns
    -------
    Results
        Cells, learning curves, the verdict and what a report shows; see ``docs/results.md``.

    Raises
    ------
    RequestError
        If an option cannot be used, or `out` holds the report of other data, another label column or another target.
    DataError
        If nothing can be learnt from the data, or tested on it.

    Examples
    --------
    >>> import graft
    >>> from sklearn.datasets import load_iris
    >>> flowers = load_iris()
    >>> found = graft.compare(flowers.data, flowers.target, budgets=[5, None], seeds=2, techniques=["raw-input"])
    >>> [(cell.technique, cell.budget, cell.n_train, cell.status) for cell in found.cells][:2]
    [('raw-input', 5, 15, 'done'), ('raw-input', 5, 15, 'done')]
    """
    started = time.monotonic()
    _runtime.require_one_process("compare")
    if budget_seconds is not None:
        number("budget_seconds", budget_seconds, low=0)
    number("test", test, low=0.01, high=0.9)
    if epochs != "auto":
        number("epochs", epochs, low=0, open_low=True)
    seed_list = _seeds(seeds, random_state)
    modality, domain = _domain(data, y, groups, "data")
    if domain.labels is None:
        raise DataError(
            domain.name or "data",
            expected="labels to learn from",
            found="none",
            remedy="Pass y, or name the column of the labels.",
        )
    goal_domain = None
    if target is not None:
        found_modality, goal_domain = _domain(target, None, None, "target")
        if found_modality != modality:
            raise DataError(
                "target",
                expected=f"{modality} inputs, as the data has",
                found=f"{found_modality} inputs",
                remedy="Pass a target of the same kind.",
            )
        here, there = (getattr(one.inputs, "shape", (0, 0)) for one in (domain, goal_domain))
        if modality == "features" and here[1:] != there[1:]:
            raise DataError(
                "target",
                expected=f"vectors of {here[-1]} numbers, as the data has",
                found=f"vectors of {there[-1]}",
                remedy="Pass the same columns for both.",
            )
    tasks = goals(domain, task)
    network = _network(backbone, modality, image_size=image_size, device=device)
    if len(tasks) > 1 and goal_domain is not None:
        raise RequestError(
            "target",
            expected="one task beside a target",
            found=f"{len(tasks)} label columns",
            remedy="Name one label column, or leave out the target.",
        )
    offered = candidates(modality, network, kind=tasks[0].kind, target=goal_domain is not None, several=len(tasks) > 1)
    compared = chosen(techniques, offered)
    for one in compared:
        if network is not None and one.method is not None and one.trains:
            require_usable(one.method, tasks[0].kind, network)
    deals = [deal(domain, tasks, seed=seed, test=test, target=goal_domain) for seed in seed_list]
    if goal_domain is not None and tasks[0].kind == "classification":
        seen = label_array(goal_domain.labels)[target_test(goal_domain)]
        check_classes(tasks[0].classes, seen, subject=f"labels of target {goal_domain.name!r}")
    sizes = default_budgets(deals, tasks) if budgets is None else checked_budgets(budgets, deals, tasks)
    ledger = Ledger(out)  # a request that is refused leaves no folder behind
    check_same_data(out, domain, tasks, goal_domain, modality)
    meter = EnergyMeter(None if network is None else network.device)
    left = None if budget_seconds is None else lambda: budget_seconds - (time.monotonic() - started)
    jobs = [Job(one, size, dealt) for one in compared for size in sizes for dealt in deals]
    with progress("comparing", len(jobs), "cells") as advance:
        pool = np.unique(np.concatenate([dealt.pool for dealt in deals]))
        cost = network_cost(load_backbone(None) if network is None else network, domain.inputs, pool, meter, seed=0)
        setup = Setup(
            domain=domain,
            target=goal_domain,
            modality=modality,
            tasks=tasks,
            backbone=network,
            device=device,
            epochs=epochs,
            store=features_only(store),  # a head that was read would have taken no time
            cost=cost,
        )
        measured, resumed = measure_all(
            setup,
            jobs,
            ledger=ledger,
            measure=lambda job: measure(setup, job, meter, seconds=None if left is None else max(left(), 0.0)),
            left=left,
            advance=lambda words: advance(1, words),
        )
    results = _results(
        setup,
        compared,
        measured,
        deals,
        sizes,
        seeds=seed_list,
        spent=time.monotonic() - started,
        resumed=resumed,
        outdated=len(ledger.outdated),
        budget_seconds=budget_seconds,
        test=test,
        image_size=image_size,
        random_state=random_state,
    )
    if not command:
        named = isinstance(backbone, Backbone) and not isinstance(backbone, ModuleBackbone)
        sized = image_size_of(backbone) if named and image_size is None else image_size
        command = _line(
            data,
            {
                "target": target,
                "backbone": backbone,
                "budgets": list(sizes),
                "seeds": seed_list,
                "budget_seconds": budget_seconds,
                "techniques": techniques if techniques is None else list(techniques),
                "task": task,
                "groups": groups,
                "test": test,
                "image_size": sized,
                "epochs": epochs,
                "device": device,
                "store": store,
                "out": out,
                "random_state": random_state,
            },
        )
    results = replace(results, command=command)
    if out is not None:
        results.write(out)
    return results


def _domain(data: Any, y: Any, groups: Any, subject: str) -> tuple[str, Domain]:
    """Return the modality and the domain of what a user passes."""
    if isinstance(data, Domain):
        if y is not None:
            raise RequestError("y", expected="no labels beside a Domain", found="some", remedy="Leave out y.")
        domain = data if groups is None else replace(data, groups=np.asarray(groups))
        return modality_of(domain.inputs), domain
    is_path = isinstance(data, str | os.PathLike)
    if is_path and y is not None:
        raise RequestError(
            "y", expected="no labels beside a path", found="some", remedy="Leave out y: they are read with the data."
        )
    if not is_path and subject == "data" and y is None and not hasattr(data, "columns"):
        raise RequestError("y", expected="labels, one for each input", found="None", remedy="Pass compare(X, y).")
    columns = [str(name) for name in getattr(y, "columns", ())]
    if hasattr(data, "columns") and y is not None and not isinstance(y, str) and len(y) == len(data):
        data = np.asarray(data)  # a table of features: beside it y holds labels, not the names of columns
    modality, domain = read(data, labels=y, group=groups)
    if len(columns) > 1 and not domain.tasks:
        domain = replace(domain, tasks=tuple(columns))
    if not domain.name:
        domain = replace(domain, name=Path(str(data)).name if is_path else subject)
    return modality, domain


def _network(backbone: Any, modality: str, *, image_size: Any, device: str | None) -> Backbone | None:
    asked = DEFAULT_BACKBONES[modality] if backbone is None else backbone
    if asked is None:
        return None
    network = load_backbone(asked, image_size=image_size, device=device)
    if network.modality != modality:
        raise DataError(
            "data",
            expected=f"{network.modality} inputs, which {network.name} reads",
            found=f"{modality} inputs",
            remedy="Name a network that reads the data; `graft backbones` lists what each reads.",
        )
    return network


def _seeds(seeds: Any, first: int) -> list[int]:
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        return [first + place for place in range(integer("seeds", int(seeds), low=1))]
    if isinstance(seeds, str) or not isinstance(seeds, Sequence | np.ndarray) or not len(seeds):
        raise RequestError(
            "seeds", expected="a number of seeds, or a sequence of them", found=repr(seeds), remedy="Pass seeds=3."
        )
    return list(dict.fromkeys(integer("seeds", seed, low=0) for seed in seeds))


def _results(
    setup: Setup,
    compared: Sequence[Candidate],
    measured: Sequence[Measured],
    deals: Sequence[Deal],
    sizes: Sequence[int | None],
    *,
    seeds: list[int],
    spent: float,
    resumed: int,
    outdated: int,
    budget_seconds: float | None,
    test: float,
    image_size: Any,
    random_state: int,
) -> Results:
    """Put together what stands in ``results.json``."""
    kind = setup.kind
    metric = SCORES[kind]
    percent = not any(one.kind == "regression" for one in setup.tasks)
    title = "mean score of the tasks" if kind == "multi-task" else METRIC_TITLES[metric]
    curves = Curves(measured, groups=setup.tested.groups, seed=random_state)
    wording = Wording({one.name: one.title for one in compared}, percent, title, kind == "classification")
    of_task = {
        one.name: Curves(
            # A task may have no label among those that a seed tests on.
            [cell.of_task(one.name) for cell in measured if one.name in cell.tasks],
            groups=setup.tested.groups,
            seed=random_state,
        )
        for one in (setup.tasks if len(setup.tasks) > 1 else ())
    }
    verdict = judge(curves, compared, wording, of_task)
    network = setup.backbone
    return Results(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(setup.modality),
        machine=machine_facts(network),
        data=data_facts(setup, deals, measured),
        settings={
            "backbone": None
            if network is None
            else {
                "name": network.name,
                "weights_hash": network.weights_hash,
                "parameters": network.parameters,
                "feature_dim": network.feature_dim,
                "input": input_words(network),
                "license": network.license,
            },
            "budgets": list(sizes),
            "budget_unit": "per class" if kind == "classification" else "examples",
            "seeds": seeds,
            "budget_seconds": budget_seconds,
            "spent_seconds": spent,
            "resumed_cells": resumed,
            "outdated_cells": outdated,
            "test": test,
            "epochs": setup.epochs,
            "image_size": image_size,
            "random_state": random_state,
        },
        score={"name": metric, "title": title, "percent": percent},
        techniques=tuple(one.to_dict() for one in compared),
        cells=tuple(one.cell for one in measured),
        summary=tuple(_summary(curves, compared)),
        verdict=verdict,
        details=tuple(_details(curves, compared)),
    )


def _summary(curves: Curves, compared: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the learning curves."""

    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None

    found = []
    for one in compared:
        for budget in curves.budgets(one.name):
            cells = [measured.cell for measured in curves.cells(one.name, budget).values()]
            found.append(
                {
                    "technique": one.name,
                    "budget": budget,
                    "n_train": curves.n_train(one.name, budget),
                    "seeds": len(cells),
                    "score": curves.estimate(one.name, budget).to_dict(),
                    "seconds": median([cell.seconds["total"] for cell in cells]),
                    "peak_memory_mib": median([cell.peak_memory_mib for cell in cells]),
                    "flops": median([None if cell.flops is None else cell.flops["training"] for cell in cells]),
                    "energy_joules": median([cell.energy_joules for cell in cells]),
                }
            )
    return found


def _details(curves: Curves, compared: Sequence[Candidate]) -> list[Mapping[str, Any]]:
    """Return what is shown of each technique's cell with most labels, the first seed of those."""
    found: list[Mapping[str, Any]] = []
    for one in compared:
        budgets = curves.budgets(one.name)
        if budgets:
            cells = curves.cells(one.name, budgets[-1])
            found += cells[min(cells)].details
    return found


def _line(data: Any, arguments: Mapping[str, Any]) -> str:
    """Return a line of Python that repeats the comparison, as far as values can be written down.

    Other objects than plain values stand there by the names of their arguments.
    """
    is_path = isinstance(data, str | os.PathLike)
    words = [repr(str(data)) if is_path else "domain" if isinstance(data, Domain) else "X, y"]
    usual = signature(compare).parameters
    for name, value in arguments.items():
        plain = isinstance(value, str | int | float | tuple | list)
        if value is usual[name].default or (plain and value == usual[name].default):
            continue
        if isinstance(value, Backbone) and not isinstance(value, ModuleBackbone):
            value = value.name
        elif isinstance(value, os.PathLike):
            value = str(value)
        elif not plain:
            words.append(f"{name}={name}")
            continue
        words.append(f"{name}={value!r}")
    return f"graft.compare({', '.join(words)})"
