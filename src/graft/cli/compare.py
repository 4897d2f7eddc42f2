"""``graft compare``: what transfer is worth on the user's own data."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from graft.cli.options import (
    Data,
    Group,
    Image,
    ImageSize,
    Json,
    Label,
    Text,
    as_seconds,
    is_whole,
    naming_options,
    network_for,
    read_data,
)
from graft.cli.show import counted, print_json
from graft.errors import DataError, RequestError

# What arguments of `graft.compare` are called here.
_OPTIONS = {
    "backbone": "--backbone",
    "budgets": "--labels",
    "epochs": "--epochs",
    "target": "--target",
    "task": "--task",
    "techniques": "--technique",
    "test": "--test",
}


def compare(
    data: Data,
    *,
    out: Annotated[str, typer.Option(metavar="REPORT", help="The folder that is written; continues what is in it.")],
    target: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Where the model is to work: adapted to, and tested on its labels."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The pretrained network. Default: one for the data.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End within this time, such as 90s, 10m or 1h: the cheapest first."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Labels of each class, or 'all'; may be repeated. Default: 5, 10, 20, ... all."),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often everything is drawn anew.")] = 3,
    technique: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compare this one; may be repeated; a wrong name lists all. With --target, domain-adaptation:METHOD "
            "is a single method, such as domain-adaptation:coral.",
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(metavar="N", help="Of a network that is trained; from scratch four times as many.")
    ] = None,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Held out, where DATA has no test examples.")] = 0.25,
    task: Annotated[
        str, typer.Option(metavar="KIND", help="auto, classification, multilabel, regression or multi-task.")
    ] = "auto",
    text: Text = None,
    image: Image = None,
    label: Label = None,
    group: Group = None,
    image_size: ImageSize = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The first seed.")] = 0,
    json: Json = False,
) -> None:
    """Measure what transfer is worth on DATA: techniques, numbers of labels and seeds, all on the same splits.

    Beside the pretrained network stand the same network from scratch and simple heads on the raw input. REPORT holds
    report.html, results.json and results.csv; run again, an interrupted comparison continues. With other options for
    the same data it is replaced; a report of other data is refused.
    """
    from graft.evaluation import compare as run
    from graft.evaluation.cell import FAILED
    from graft.evaluation.results import earlier_results, finished_cells
    from graft.reports import show, write_html

    seconds = None if budget is None else as_seconds("--budget", budget)
    sizes = _sizes(labels)
    columns: dict[str, Any] = {"image": image, "text": text, "group": group}
    modality, domain = read_data(data, labels=label, **columns)
    if domain.labels is None:
        raise DataError(data, expected="labels", found="none", remedy="Name their column with --label.")
    goal = None if target is None else _target(target, modality, label, columns)
    with naming_options(_OPTIONS):
        network = network_for(modality, data, backbone, image_size=image_size)
    earlier = earlier_results(out)
    cells = finished_cells(out)
    with naming_options(_OPTIONS):
        found = run(
            domain,
            target=goal,
            backbone=network,
            budgets=sizes,
            seeds=seeds,
            budget_seconds=seconds,
            techniques=technique,
            task=task,
            image_size=image_size,
            epochs="auto" if epochs is None else epochs,
            test=test,
            out=out,
            random_state=seed,
            command=_command(
                data,
                {
                    "out": out,
                    "target": target,
                    "backbone": backbone,
                    "budget": budget,
                    "labels": labels,
                    "seeds": seeds,
                    "technique": technique,
                    "epochs": epochs,
                    "test": test,
                    "task": task,
                    "text": text,
                    "image": image,
                    "label": label,
                    "group": group,
                    "image-size": image_size,
                    "seed": seed,
                },
            ),
        )
    page = write_html(found, folder=out)
    if not json:
        show(found)
    failed = [cell for cell in found.cells if cell.status == FAILED]
    if failed and not any(cell.done for cell in found.cells):
        raise DataError(
            data,
            expected="data on which something can be measured",
            found=f"{counted(len(failed), 'cell')} that failed ({failed[0].reason.rstrip('.')})",
            remedy=f"Mend that, and run the same command again; every reason stands in {page}.",
        )
    if json:
        print_json({"report": str(page), **found.to_dict()})
        return
    resumed = found.settings["resumed_cells"]
    kept = f" ({counted(resumed, 'cell')} measured before)" if resumed else ""
    if outdated := found.settings["outdated_cells"]:
        print(f"\n{counted(outdated, 'cell')} measured by another version of Graft did not count.")
    if earlier is not None and earlier.command != found.command:
        print("\nThe report that was there is replaced" + ("; its measured cells are kept." if cells else "."))
    print(f"\nReport: {page}; figures in results.json and results.csv. {found.settings['spent_seconds']:.0f} s{kept}.")


def _command(data: str, options: dict[str, Any]) -> str:
    """Return the command line that repeats the comparison: whatever was asked for or stood at its default."""
    words = ["graft", "compare", data]
    for name, value in options.items():
        given = value if isinstance(value, list) else [] if value is None else [value]
        # A number that was read as a float stands as it was written: 6, not 6.0.
        words += [word for one in given for word in (f"--{name}", f"{one:g}" if isinstance(one, float) else str(one))]
    return shlex.join(words)


def _target(target: str, modality: str, label: list[str] | None, columns: dict[str, Any]) -> Any:
    found, domain = read_data(target, labels=label, **columns)
    if found != modality:
        raise DataError(
            target,
            expected=f"{modality} inputs, as DATA has",
            found=f"{found} inputs",
            remedy="Name the column with --text or --image.",
        )
    if domain.labels is None:
        raise DataError(
            target,
            expected="labels, to measure on: none is ever learnt from",
            found="none",
            remedy="Label some examples; without any, `graft fit --target` adapts.",
        )
    return domain


def _sizes(words: list[str] | None) -> list[int | None] | None:
    if not words:
        return None
    found: list[int | None] = []
    for word in words:
        if word != "all" and not is_whole(word):
            raise RequestError(
                "--labels", expected="a number, or 'all'", found=repr(word), remedy="Pass --labels 5 --labels all."
            )
        found.append(None if word == "all" else int(word))
    return found
