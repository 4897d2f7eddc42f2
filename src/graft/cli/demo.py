"""``make demo``: the main job on the built-in example data and the embedded networks, with no hub."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from graft.cli.app import main

PER_SPECIES = 20

# What is compared: every technique and the same network from scratch, each on data that it is for. The pictures are
# small and the trainings short, so that all of it takes little more than a minute; on slow machines the time budget of
# each comparison leaves out what is dear.
_COMPARED = {
    "photos": (
        "{photos} --technique raw-input --technique from-scratch --technique feature-extraction "
        "--technique fine-tuning --image-size 64 --labels 5 --labels 10 --epochs 3"
    ),
    "another domain": (
        "{photos} --target {field} --technique source-only --technique domain-adaptation --image-size 64 --labels all"
    ),
    "several tasks": (
        "{field}/labels.csv --image image --label species --label margin --label damage --technique raw-input "
        "--technique single-task --technique multi-task --image-size 64 --labels all"
    ),
    "texts": (
        "{tickets} --text text --label intent --technique raw-input --technique feature-extraction "
        "--labels 5 --labels all"
    ),
}


def demo(folder: Path) -> int:
    """Fit leaves and tickets as a user would, then say what the pretrained network was worth.

    Parameters
    ----------
    folder : Path
        Where the example data, the runs and the report go.

    Returns
    -------
    int
        The exit code of the first command that failed, or 0.
    """
    from graft.data.samples import write_leaves, write_tickets

    started = time.perf_counter()
    photos, field, tickets = folder / "leaves", folder / "leaves_in_the_field", folder / "tickets.csv"
    print(f"Drawing the example data into {folder} ...")
    write_leaves(photos, per_class=PER_SPECIES)
    write_leaves(field, domain="field", per_class=PER_SPECIES)
    write_tickets(tickets, domain="bank")
    commands = [
        f"check {photos}",
        f"fit {photos} --out {folder}/leaf_model",
        f"fit {tickets} --text text --label intent --out {folder}/ticket_model",
        f"predict {folder}/leaf_model {field} --out {folder}/leaf_predictions.csv --reject 0.05",
    ]
    compared = []
    for name, words in _COMPARED.items():
        compared.append(f"{folder}/compared/{name.replace(' ', '_')}")
        filled = words.format(photos=photos, field=field, tickets=tickets)
        commands.append(f"compare {filled} --seeds 1 --budget 40s --out {compared[-1]}")
    commands.append(f"report {' '.join(compared)} --out {folder}")
    for command in commands:
        if command.startswith("predict"):
            print("\nPhotos from the field are another domain; most should be recognised as foreign:")
        if command.startswith(f"compare {photos} --technique"):
            print("\nWhat was the pretrained network worth? All techniques, beside training from scratch:")
        print(f"\n$ graft {command}")
        if code := main(command.split()):
            return code
    print(f"Models: {folder}/leaf_model and {folder}/ticket_model (each with a README.md that can be shown).")
    print(f"Done in {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(demo(Path("demo")))
