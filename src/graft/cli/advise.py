"""``graft advise``: which technique, and why: measured on this data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.domain_adaptation import read_target
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
    Text,
    as_seconds,
    chosen_layer,
    naming_options,
    network_for,
    read_data,
)
from graft.cli.show import print_json, print_table
from graft.errors import DataError

if TYPE_CHECKING:
    from graft.evaluation import Advice

SCRATCH = "from-scratch"
# What arguments of `graft.advise` are called here.
_OPTIONS = {name: f"--{name}" for name in ("backbone", "epochs", "layer", "pooling", "target", "task")} | {
    "layer and pooling": "--layer and --pooling"
}
COLUMNS = ("technique", "forecast (95 %)", "held out (95 %)", "s a fit")


def advise(
    data: Data,
    *,
    target: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Examples of the domain where the model is to work.", show_default=False),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The pretrained network; see `graft backbones`. Default: one for the data."),
    ] = None,
    task: Annotated[str, typer.Option(metavar="KIND", help="auto, classification, multilabel or regression.")] = "auto",
    text: Text = None,
    image: Image = None,
    label: Label = None,
    group: Group = None,
    layer: Layer = None,
    pooling: Pooling = None,
    image_size: ImageSize = None,
    epochs: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Of fine-tuning.", show_default=False)
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="For measuring and trying, such as 90s, 10m or 1h; more tries more.")
    ] = "60s",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say which technique suits DATA, and why: measured, forecast, and checked on held-out examples."""
    seconds = as_seconds("--budget", budget)
    modality, domain = read_data(data, image=image, text=text, labels=label, group=group)
    if domain.labels is None:
        raise DataError(data, expected="labels", found="none", remedy="Name their column with --label.")
    there = None
    if target is not None:
        there, _ = read_target(modality, target, image=image, text=text, group=group, labels=label)
    with naming_options(_OPTIONS):
        found = advice_for(
            domain,
            label,
            target=there,
            backbone=network_for(modality, data, backbone, image_size=image_size),
            task=task,
            layer=layer,
            pooling=pooling,
            image_size=image_size,
            epochs="auto" if epochs is None else epochs,
            budget=seconds,
            seed=seed,
        )
    if json:
        print_json(found.to_dict())
    else:
        show(found)


def advice_for(
    domain: Any,
    label: list[str] | None,
    *,
    target: Any,
    backbone: Any,
    task: str,
    layer: list[str] | None,
    pooling: str | None,
    image_size: int | None,
    epochs: Any,
    budget: float,
    seed: int,
) -> Advice:
    """Return the advice for a domain as it was read: its train split, compared with its test split."""
    from graft.evaluation import advise as ask

    return ask(
        domain,
        target=target,
        backbone=backbone,
        task=task,
        label_names=label or None,
        layer=chosen_layer(layer),
        pooling=pooling,
        image_size=image_size,
        epochs=epochs,
        budget=budget,
        random_state=seed,
    )


def show(advice: Advice) -> None:
    """Print the advice, its reasons, and what is known of every technique."""
    print("\n".join(advice.lines()))
    print_table(COLUMNS, advice.rows(), title="Techniques, on examples that they have not learnt from")
    print("".join(f"{line}\n" for line in advice.not_tried()), end="")
    limit = "" if advice.budget is None else f" of {advice.budget:g}"
    print(f"Spent: {advice.seconds:.1f}{limit} seconds.")


def implied(modality: str, labels: Any, *, head: str, views: int | None, task: str) -> str:
    """Return the technique of ``graft fit --technique auto`` where there is nothing to advise, else ``"auto"``.

    A head or views that were asked for are those of feature extraction; vectors with one task leave no choice.
    """
    several = getattr(labels, "ndim", 1) == 2 and labels.shape[1] > 1 and task == "auto"
    if head != "auto" or views is not None or (modality == "features" and not several):
        return "feature-extraction"
    return "auto"


def fitting_lines(advice: Advice | None) -> list[str]:
    """Return a few lines that say what is fitted, and why; none where nothing was advised."""
    from textwrap import wrap

    if advice is None:
        return []

    first, fits = advice.candidates[0], advice.fits
    said = [f"Technique: {fits}." if fits == advice.technique else f"Advised: {advice.technique}; fitted: {fits}."]
    said += advice.reasons[-3:]
    if fits != advice.technique and first.seconds is not None and first.checked is None:
        said.append(
            f"{first.technique} was not checked and would take about {first.seconds:.0f} s: more than the budget. "
            f"Pass --budget {first.seconds * 6:.0f}, or name the technique."
        )
    return [part for line in said for part in wrap(line, 80, subsequent_indent="  ", break_on_hyphens=False)]
