"""``graft rank``: which pretrained network, and which of its layers, without training one."""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.options import (
    Data,
    Group,
    Image,
    Json,
    Label,
    Pooling,
    Seed,
    Strict,
    Text,
    is_whole,
    naming_options,
    read_data,
)
from graft.cli.show import counted, print_json
from graft.errors import DataError, RequestError

OWN_OUTPUT = "output"
# What arguments of `graft.rank_backbones` are called here.
_OPTIONS = {name: f"--{name}" for name in ("backbone", "folds", "head", "layer", "pooling")} | {
    "layer and pooling": "--layer and --pooling",
    "layers": "--layer",
}


def rank(
    data: Data,
    *,
    backbone: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A pretrained network; may be repeated. Default: all that are here."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Take the features at this layer; each one given is compared; '{OWN_OUTPUT}' is the network's own.",
        ),
    ] = None,
    pooling: Pooling = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=1, help="The side of the input of all networks.")
    ] = None,
    head: Annotated[str, typer.Option(metavar="NAME", help="The head of the probe.")] = "auto",
    shortlist: Annotated[int, typer.Option(metavar="N", min=1, help="How many are probed.")] = 3,
    folds: Annotated[
        int,
        typer.Option(metavar="N", min=2, help="Of the probe, whose head is chosen anew in each."),
    ] = 5,
    text: Text = None,
    image: Image = None,
    label: Label = None,
    group: Group = None,
    strict: Strict = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Rank pretrained networks for DATA, and layers of them; none is trained.

    Estimates that fit no head make a shortlist; of those the cross-validated probe decides.
    """
    from graft.backbones import load_backbone
    from graft.evaluation import rank_backbones

    modality, domain = read_data(data, image=image, text=text, labels=label, group=group)
    if domain.labels is None:
        raise DataError(data, expected="labels", found="none", remedy="Name their column with --label.")
    if image_size is not None and not backbone:
        raise RequestError(
            "--image-size",
            expected="networks to give it to",
            found="no --backbone",
            remedy="Name them with --backbone.",
        )
    if modality == "features" and backbone:
        raise RequestError(
            "--backbone",
            expected="images or texts to embed",
            found=f"feature vectors in {data}",
            remedy="Leave out --backbone, or name the column with --image or --text.",
        )
    with naming_options(_OPTIONS):
        named = [
            name if image_size is None else load_backbone(name, image_size=image_size)
            for name in dict.fromkeys(backbone or ())
        ]
        found = rank_backbones(
            domain.inputs,
            domain.labels,
            named or None,
            layers=_layers(layer),
            pooling=pooling,
            head=head,
            shortlist=shortlist,
            folds=folds,
            groups=domain.groups,
            strict=strict,
            random_state=seed,
        )
    if json:
        print_json(found.to_dict())
        return
    print(found)
    if found.left_out:
        print(f"{counted(len(found.left_out), 'input')} could not be read, left out:")
        for _, source, reason in found.left_out[:5]:
            print(f"  {source}: {reason}")
    if found.unlabelled:
        print(f"{counted(found.unlabelled, 'example')} without a label, left out.")
    for name, reason in found.passed_over:
        print(f"Passed over {name}: {reason}")


def _layers(names: list[str] | None) -> list[str | int | None] | None:
    if not names:
        return None
    return [None if name == OWN_OUTPUT else int(name) if is_whole(name.removeprefix("-")) else name for name in names]
