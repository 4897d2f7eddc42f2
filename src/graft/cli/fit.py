"""``graft fit``: data and a pretrained network go in, a fitted, saved and evaluated model comes out."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from graft.cli.advise import SCRATCH, advice_for, fitting_lines, implied
from graft.cli.domain_adaptation import (
    METHODS_BUDGET,
    TECHNIQUE,
    TECHNIQUES_BUDGET,
    Budget,
    Method,
    Target,
    chosen_technique,
    read_target,
)
from graft.cli.fine_tuning import (
    Augment,
    Average,
    BatchNorm,
    BatchSize,
    ClassWeight,
    Clip,
    Cutmix,
    Epochs,
    FromScratch,
    HeldOut,
    KeepAdapters,
    LabelSmoothing,
    LayerDecay,
    LearningRate,
    LogFolder,
    Mirror,
    Mixup,
    NoCache,
    NoGuard,
    Objective,
    Parts,
    Patience,
    Precision,
    Rank,
    Recompute,
    RegularizerName,
    Resume,
    Soup,
    Strength,
    Train,
    Warmup,
    WeightDecay,
    given_options,
    number_or_word,
    refuse_training,
    resumable,
    yes_or_no,
)
from graft.cli.fitted import show_fitted, summary
from graft.cli.multi_task import TECHNIQUE as MULTI_TASK
from graft.cli.multi_task import Balancing, Kind, Protect, Sharing, Together, options_of, show, told
from graft.cli.options import (
    Data,
    Group,
    Image,
    ImageSize,
    Json,
    Label,
    Layer,
    Pooling,
    Seed,
    Strict,
    Text,
    as_seconds,
    chosen_layer,
    is_whole,
    network_for,
    read_data,
)
from graft.cli.show import print_json
from graft.errors import DataError, RequestError


def fit(
    data: Data,
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="The folder to save the model in.")],
    technique: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, feature-extraction, fine-tuning, domain-adaptation or multi-task."),
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
    views: Annotated[
        int | None, typer.Option(metavar="N", help="Train on this many views of each image.", show_default=False)
    ] = None,
    image_size: ImageSize = None,
    target: Target = None,
    method: Method = "auto",
    budget: Budget = None,
    kind: Kind = None,
    sharing: Sharing = "auto",
    balancing: Balancing = "equal",
    together: Together = None,
    protect: Protect = False,
    train: Train = None,
    scratch: FromScratch = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = "auto",
    layer_decay: LayerDecay = "auto",
    objective: Objective = "supervised",
    regularizer: RegularizerName = None,
    strength: Strength = None,
    label_smoothing: LabelSmoothing = 0.0,
    mixup: Mixup = 0.0,
    cutmix: Cutmix = 0.0,
    augment: Augment = 0.0,
    mirror: Mirror = "auto",
    weight_decay: WeightDecay = None,
    warmup: Warmup = None,
    clip: Clip = None,
    class_weight: ClassWeight = None,
    parts: Parts = None,
    recompute: Recompute = False,
    average: Average = None,
    patience: Patience = None,
    soup: Soup = None,
    no_guard: NoGuard = False,
    held_out_part: HeldOut = None,
    rank: Rank = None,
    keep_adapters: KeepAdapters = False,
    batch_norm: BatchNorm = None,
    no_cache: NoCache = False,
    precision: Precision = "auto",
    log_folder: LogFolder = None,
    resume: Resume = False,
    strict: Strict = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit a model on DATA and save it as a run.

    Given splits are kept: the model is fitted on train, and measured on val and test where there are such.
    """
    from inspect import signature

    from graft._checks import one_of
    from graft.data import check_classes, class_order, infer_task, label_array
    from graft.evaluation.advice.advising import several_tasks
    from graft.persistence import check_destination
    from graft.techniques import DomainAdaptation, FeatureExtraction, FineTuning, MultiTask, Technique
    from graft.techniques.adaptation import NETWORK_METHODS

    one_of("--technique", technique, ["auto", "feature-extraction", "fine-tuning", TECHNIQUE, MULTI_TASK])
    technique = chosen_technique(technique, target, method)
    asked = technique == "auto"
    default = METHODS_BUDGET if target else TECHNIQUES_BUDGET
    seconds = default if budget is None else as_seconds("--budget", budget)
    tuning: dict[str, Any] = {
        **({} if train is None else {"train": int(train) if is_whole(train) else train}),
        "epochs": "auto" if epochs is None else epochs,
        "learning_rate": number_or_word("--learning-rate", learning_rate, "auto", "find"),
        "layer_decay": number_or_word("--layer-decay", layer_decay, "auto"),
        "objective": objective,
        "regularizer": regularizer,
        "strength": strength,
        "label_smoothing": label_smoothing,
        "mixup": mixup,
        "cutmix": cutmix,
        "augment": augment,
        "mirror": yes_or_no("--mirror", mirror),
        "precision": precision,
        "log_folder": log_folder,
        "resume": resume,
        "recompute": recompute,
        "guard": not no_guard,
        "keep_adapters": keep_adapters,
        "cache": not no_cache,
        **({} if clip is None else {"clip": None if clip == "none" else number_or_word("--clip", clip, "none")}),
    }
    further = {
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "class_weight": class_weight,
        "parts": parts,
        "average": average,
        "patience": patience,
        "soup": soup,
        "validation": held_out_part,
        "rank": rank,
        "batch_norm": batch_norm,
    }
    tuning |= {name: value for name, value in further.items() if value is not None}
    own = given_options({**tuning, "pretrained": not scratch})
    if technique == MULTI_TASK and "train" in tuning:
        own["train"] = tuning["train"]  # what is the default there is none here
    if technique != "fine-tuning":
        taking = {TECHNIQUE: DomainAdaptation, MULTI_TASK: MultiTask}.get(technique)
        taken: Any = {"class_weight"} if taking is None else signature(taking).parameters
        refuse_training([name for name in own if name not in taken], technique)
    several = {"--kind": kind, "--together": together, "--protect": protect}
    several |= {"--sharing": sharing != "auto", "--balancing": balancing != "equal"}
    if technique != MULTI_TASK and (given := [name for name, value in several.items() if value]):
        raise RequestError(
            given[0],
            expected=f"--technique {MULTI_TASK} beside it",
            found=f"--technique {technique}",
            remedy="Leave the option out, or learn several label columns at once.",
        )
    if technique in ("fine-tuning", MULTI_TASK) and head != "auto":
        raise RequestError(
            "--head",
            expected="--technique feature-extraction beside it",
            found=f"--technique {technique}, which makes heads of its own",
            remedy="Leave --head out.",
        )
    if technique == MULTI_TASK and (views is not None or task != "auto"):
        raise RequestError(
            "--task" if views is None else "--views",
            expected="a technique of one task beside it",
            found=f"--technique {technique}",
            remedy="Leave it out; --kind COLUMN=KIND says what a column is." if views is None else "Leave it out.",
        )
    check_destination(out)
    checkpoints = f"{out.rstrip('/')}.checkpoints"
    modality, domain = read_data(data, image=image, text=text, labels=label, group=group)
    if domain.labels is None:
        raise DataError(
            data,
            expected="labelled examples",
            found="no labels",
            remedy="Put the images in a folder per class, or name the label column with --label.",
        )
    learning = domain.split("train") or domain
    if learning is domain and domain.splits is not None:
        raise DataError(
            data,
            expected="a split called train",
            found="none",
            remedy="Add a train split, or leave out the split column.",
        )
    splits = {"validation": domain.split("val"), "test": domain.split("test")}
    held_out = {key: part for key, part in splits.items() if part is not None}
    there, measuring = None, None
    if target is not None:
        there, measuring = read_target(modality, target, image=image, text=text, group=group, labels=label)
    if measuring is not None:
        held_out["target"] = measuring
    if technique != MULTI_TASK:
        one_column = getattr(learning.labels, "ndim", 1) == 1 or learning.labels.shape[1] == 1
        if task == "classification" or (
            task == "auto" and one_column and infer_task(learning.labels).kind == "classification"
        ):
            for key, part in held_out.items():  # before the training, not after it
                check_classes(
                    class_order(learning.labels),
                    part.labels,
                    subject=f"labels of the {key}" + ("" if key == "target" else " split"),
                )
    advice, network = None, None
    if asked and (technique := implied(modality, learning.labels, head=head, views=views, task=task)) == "auto":
        if several_tasks(label_array(learning.labels)):  # before the advice, not after it
            refuse_training([name for name in own if name not in signature(MultiTask).parameters], MULTI_TASK)
        network = network_for(modality, data, backbone, image_size=image_size)
        advice = advice_for(
            learning,
            label,
            target=None,
            backbone=network,
            task=task,
            layer=layer,
            pooling=pooling,
            image_size=image_size,
            epochs="auto",
            budget=seconds,
            seed=seed,
        )
        technique, scratch = ("fine-tuning", True) if advice.fits == SCRATCH else (advice.fits, False)
        protect = protect or advice.technique != MULTI_TASK  # a task that is better alone is served alone
    if network is None:
        network = network_for(modality, data, backbone, image_size=image_size, pretrained=not scratch)
    if technique == MULTI_TASK:
        start = network.name if scratch and network is not None else network
        columns = tuple(domain.tasks or label or ("label",))
        tasks = MultiTask(
            start,
            **options_of(kind, together, columns),
            label_names=columns,
            sharing=sharing,
            balancing=balancing,
            protect=protect,
            layer=chosen_layer(layer),
            pooling=pooling,
            image_size=image_size if scratch else None,
            strict=strict,
            random_state=seed,
            checkpoints=checkpoints,
            **own,
        )
        with resumable(checkpoints):
            tasks.fit(learning.inputs, learning.labels, groups=learning.groups, validation=splits["validation"])
        if int(os.environ.get("RANK", "0")) > 0:
            return
        every: dict[str, Any] = {"validation": tasks.validation_}
        if splits["test"] is not None:
            every["test"] = tasks.evaluate(splits["test"].inputs, splits["test"].labels, groups=splits["test"].groups)
        run = tasks.save(out)
        if json:
            print_json({**told(tasks, str(run), every), "advice": None if advice is None else advice.to_dict()})
        else:
            print("".join(f"{line}\n" for line in fitting_lines(advice)), end="")
            show(tasks, str(run), learning.size - len(tasks.left_out_) - tasks.unlabelled_, every)
        return
    common: dict[str, Any] = {
        "task": task,
        "label_names": domain.tasks or label,
        "layer": chosen_layer(layer),
        "pooling": pooling,
        "strict": strict,
        "random_state": seed,
    }
    model: Technique
    start = network.name if scratch and network is not None else network
    if technique == "fine-tuning":
        model = FineTuning(
            start,
            pretrained=not scratch,
            image_size=image_size if scratch else None,
            views=views,
            checkpoints=checkpoints,
            **tuning,
            **common,
        )
        with resumable(checkpoints):
            model.fit(learning.inputs, learning.labels, groups=learning.groups, validation=splits["validation"])
    elif technique == TECHNIQUE:
        kept: dict[str, Any] = {"checkpoints": checkpoints} if method in NETWORK_METHODS else {}
        if scratch:
            kept["image_size"] = image_size
        model = DomainAdaptation(start, head=head, method=method, budget=seconds, views=views, **kept, **own, **common)
        with resumable(checkpoints):
            model.fit(learning.inputs, learning.labels, groups=learning.groups, target=there)
    else:
        model = FeatureExtraction(network, head=head, views=1 if views is None else views, **own, **common)
        model.fit(learning.inputs, learning.labels, groups=learning.groups)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # of several processes of torchrun, the first one writes and speaks
    measured = {"validation": model.validation_}
    for key, part in held_out.items():
        if key == "validation" and technique == "fine-tuning":
            continue  # what chose the model is measured already, by the weights that had not seen it
        measured[key] = model.evaluate(part.inputs, part.labels, groups=part.groups)
    cross_validated = domain.split("val") is None and model.training_ is None
    run = model.save(out)
    if json:
        print_json({**summary(model, str(run), measured), "advice": None if advice is None else advice.to_dict()})
    else:
        print("".join(f"{line}\n" for line in fitting_lines(advice)), end="")
        show_fitted(
            model, str(run), learning.size - len(model.left_out_) - model.unlabelled_, measured, cross_validated
        )
