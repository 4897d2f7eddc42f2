"""``graft fit``: data and a pretrained network go in, a fitted, saved and evaluated model comes out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graft.cli.options import (
    Data,
    Group,
    Image,
    Json,
    Label,
    Layer,
    Pooling,
    Seed,
    Strict,
    Text,
    chosen_layer,
    network_for,
    read_data,
)
from graft.cli.show import counted, metric_rows, print_json, print_table
from graft.errors import DataError


def fit(
    data: Data,
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="The folder to save the model in.")],
    technique: Annotated[
        str, typer.Option(metavar="NAME", help="auto or feature-extraction.", show_default=True)
    ] = "auto",
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The pretrained network; see `graft backbones`. Default: one for the data."),
    ] = None,
    head: Annotated[str, typer.Option(metavar="NAME", help="The head on the features, or auto.")] = "auto",
    task: Annotated[str, typer.Option(metavar="KIND", help="auto, classification, multilabel or regression.")] = "auto",
    text: Text = None,
    image: Image = None,
    label: Label = None,
    group: Group = None,
    layer: Layer = None,
    pooling: Pooling = None,
    views: Annotated[int, typer.Option(metavar="N", help="Train on this many views of each image.")] = 1,
    strict: Strict = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit a model on DATA and save it as a run.

    Given splits are kept: the model is fitted on train, and measured on val and test where there are such.
    """
    from graft._checks import one_of
    from graft.data import check_classes, class_order, infer_task
    from graft.persistence import check_destination

    one_of("--technique", technique, ["auto", "feature-extraction"])
    check_destination(out)
    modality, domain = read_data(data, image=image, text=text, labels=label, group=group)
    if domain.labels is None:
        raise DataError(
            data,
            expected="labelled examples",
            found="no labels",
            remedy="Put the images in a folder per class, or name the label column with --label.",
        )
    from graft.techniques import FeatureExtraction

    train = domain.split("train") or domain
    if train is domain and domain.splits is not None:
        raise DataError(
            data,
            expected="a split called train",
            found="none",
            remedy="Add a train split, or leave out the split column.",
        )
    splits = {"validation": domain.split("val"), "test": domain.split("test")}
    held_out = {key: part for key, part in splits.items() if part is not None}
    if task == "classification" or (task == "auto" and infer_task(train.labels).kind == "classification"):
        for key, part in held_out.items():  # before the training, not after it
            check_classes(class_order(train.labels), part.labels, subject=f"labels of the {key} split")
    model = FeatureExtraction(
        network_for(modality, data, backbone),
        head=head,
        task=task,
        label_names=domain.tasks or label,
        layer=chosen_layer(layer),
        pooling=pooling,
        views=views,
        strict=strict,
        random_state=seed,
    )
    model.fit(train.inputs, train.labels, groups=train.groups)
    measured = {"validation": model.validation_}
    for key, part in held_out.items():
        measured[key] = model.evaluate(part.inputs, part.labels, groups=part.groups)
    cross_validated = domain.split("val") is None
    run = model.save(out)
    if json:
        print_json(_summary(model, str(run), measured))
    else:
        _print(model, str(run), train.size - len(model.left_out_) - model.unlabelled_, measured, cross_validated)


def _summary(model: Any, run: str, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "technique": model.technique,
        "backbone": model.backbone_.name,
        "head": type(model.head_).__name__,
        "selection": getattr(model.head_, "selection_", None),
        "task": model.task_.kind,
        "classes": list(model.task_.classes),
        "seconds": model.seconds_,
        **{name: None if found is None else found.to_dict() for name, found in measured.items()},
        "left_out": [{"row": row, "input": name, "reason": reason} for row, name, reason in model.left_out_],
        "unlabelled": model.unlabelled_,
    }


def _print(model: Any, run: str, examples: int, measured: dict[str, Any], cross_validated: bool) -> None:
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
    print(_head_line(model.head_))
    titles = {"validation": "Validation" + (" (cross-validated)" if cross_validated else ""), "test": "Test"}
    for name, found in measured.items():
        if found is None:
            print("No validation: too few examples to hold any out.")
            continue
        title = f"{titles[name]}, {found.examples} examples"
        print_table(("metric", "value", "95 % interval"), metric_rows(found.metrics), title=title)
    seconds = model.seconds_
    print(f"Seconds: {seconds['features']:.1f} features, {seconds['training']:.1f} head, {seconds['total']:.1f} total.")
    print(f"Saved in {run}. Next: graft predict {run} DATA")


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
