"""What ``graft fit`` says of a model of one task: in a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from graft.cli.domain_adaptation import adaptation_lines, candidate_rows
from graft.cli.show import counted, metric_rows, print_table

# Of a training, what the summary tells; the losses of every step are in the run.
_TOLD = ("steps", "epochs", "skipped", "trained_parameters", "served", "mirroring", "verdict")


def summary(model: Any, run: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "run": run,
        "technique": model.technique,
        "backbone": model.backbone_.name,
        "head": type(model.head_).__name__,
        "selection": getattr(model.head_, "selection_", None),
        "task": model.task_.kind,
        "classes": list(model.task_.classes),
        "training": model.training_ and {key: model.training_.get(key) for key in _TOLD},
        "adaptation": model.adaptation_,
        "seconds": model.seconds_,
        **{name: None if found is None else found.to_dict() for name, found in measured.items()},
        "left_out": [{"row": row, "input": name, "reason": reason} for row, name, reason in model.left_out_],
        "unlabelled": model.unlabelled_,
    }


def show_fitted(model: Any, run: str, examples: int, measured: dict[str, Any], cross_validated: bool) -> None:
    """Print what was fitted, how the training went, and every figure that was measured."""
    task = model.task_
    what = f"{len(task.classes)} classes" if task.classes else task.kind
    network = "no network" if model.backbone_.modality == "features" else model.backbone_.name
    print(f"Fitted {model.technique} on {examples} examples, {what}, with {network}.")
    if model.left_out_:
        print(f"{counted(len(model.left_out_), 'input')} could not be read, left out:")
        for _, name, reason in model.left_out_[:5]:
            print(f"  {name}: {reason}")
        if len(model.left_out_) > 5:
            print(f"  and {len(model.left_out_) - 5} more (graft check lists every one)")
    if model.unlabelled_:
        print(f"{counted(model.unlabelled_, 'example')} without a label, left out.")
    adapted = model.adaptation_
    for line in adaptation_lines(adapted) if adapted else ():
        print(line)
    if adapted and "tournament" in adapted:
        print_table(("method", "standing", "better by", "worse by"), candidate_rows(adapted), title="Candidates")
    if model.training_ is not None:
        print("\n".join(_training_lines(model.training_)))
    elif not adapted or "chosen" in model.head_.selection_:
        print(_head_line(model.head_))
    where = ", source" if adapted else ""
    titles = {
        "validation": "Validation" + (f" (cross-validated{where})" if cross_validated else ""),
        "test": f"Test{where}",
        "target": "Target, whose labels nothing but this table looked at",
    }
    for name, found in measured.items():
        if found is None:
            why = "this method holds none of the source out" if adapted else "too few examples to hold any out"
            print(f"No validation: {why}.")
            continue
        title = f"{titles[name]}, {found.examples} examples"
        print_table(("metric", "value", "95 % interval"), metric_rows(found.metrics), title=title)
    seconds = model.seconds_
    trained = "head" if model.training_ is None else "training"
    parts = f"{seconds['features']:.1f} features, {seconds['training']:.1f} {trained}"
    print(f"Seconds: {parts}, {seconds['total']:.1f} total.")
    print(f"Saved in {run}. Next: graft predict {run} DATA")


def _training_lines(training: dict[str, Any]) -> list[str]:
    """Say how the training went and, where there is a probe, which model is served and what it gained."""
    lines = [
        f"Trained {counted(training['steps'], 'step')} ({training['epochs']:.1f} epochs), "
        f"{training['trained_parameters']:,} parameters."
    ]
    if training["skipped"]:
        lines.append(f"{counted(training['skipped'], 'step')} left out, because the loss was not finite.")
    if training.get("mirroring") and not training["mirroring"]["mirrored"]:
        lines += _mirroring_lines(training["mirroring"])
    if "verdict" not in training:
        return lines
    verdict = training["verdict"]
    if verdict is None:
        return [*lines, "Served: the network from random weights; there is no probe to compare it with."]
    what = {"probe": "the probe (frozen network, new head)", "fine-tuned": "the fine-tuned network"}
    served = training["served"]
    lines.append(f"Served: {what.get(served, f'{served}: the average with the pretrained weights')}.")
    gain = verdict["gain"]
    if served != "probe" and gain["low"] is not None:
        scale, unit = (1, "squared error") if "rmse" in verdict["candidates"]["probe"] else (100, "points")
        value, low, high = (scale * gain[name] for name in ("value", "low", "high"))
        lines.append(
            f"  {value:+.1f} {unit} ({low:+.1f} to {high:+.1f}) against the probe, "
            f"on {verdict['examples']} held-out examples."
        )
    return lines


def _mirroring_lines(found: dict[str, Any]) -> list[str]:
    """Say why views were not mirrored."""
    plain, turned = found["plain"], found["turned"]
    numbers = f"{100 * plain:.0f} % of the pictures are right, of their mirror images {100 * turned:.0f} %"
    if plain < 0:  # of numbers, minus the squared error
        numbers = f"the squared error of pictures is {-plain:.2f}, of their mirror images {-turned:.2f}"
    return [f"Views were not mirrored. After {counted(found['steps'], 'step')} on plain ones,", f"  {numbers}."]


def _head_line(head: Any) -> str:
    """Say which head it is; where several were tried, also by how much the best led the next."""
    found = head.selection_
    if "chosen" not in found:
        return f"Head: {type(head).__name__}."
    names = [found["chosen"]] if isinstance(found["chosen"], str) else found["chosen"]
    line = f"Head: {' + '.join(names)}, of {len(found['tried'])} tried by cross-validation"
    if not found["lead"]:
        return f"{line}."
    unit = f"{100 * found['lead']:.1f} points" if found["score"] == "accuracy" else f"{found['lead']:.3g} squared error"
    return f"{line};\n  the best leads the next by {unit}."
