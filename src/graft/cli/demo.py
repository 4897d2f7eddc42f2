"""``make demo``: the main job on the built-in example data and the embedded networks, with no hub."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.cli.app import main
from graft.cli.show import format_metric, print_table

if TYPE_CHECKING:
    from graft.metrics import Evaluation

PER_SPECIES = 20
THUMBNAIL = 32  # pixels on a side: what the baseline sees of a photo


def demo(folder: Path) -> int:
    """Fit leaves and tickets as a user would, then say what the pretrained network was worth.

    Parameters
    ----------
    folder : Path
        Where the example data and the runs go.

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
    write_leaves(field, domain="field", per_class=4)
    write_tickets(tickets, domain="bank")
    commands = [
        f"check {photos}",
        f"fit {photos} --out {folder}/leaf_model",
        f"fit {tickets} --text text --label intent --out {folder}/ticket_model",
        f"predict {folder}/leaf_model {field} --out {folder}/leaf_predictions.csv --reject 0.05",
    ]
    for command in commands:
        if command.startswith("predict"):
            print("\nPhotos from the field are another domain; most should be recognised as foreign:")
        print(f"\n$ graft {command}")
        if code := main(command.split()):
            return code
    print("\nWhat was the pretrained network worth? The same heads, folds and examples, on the raw input:")
    _worth(photos, tickets, folder)
    print(f"Models: {folder}/leaf_model and {folder}/ticket_model (each with a README.md that can be shown).")
    print(f"Done in {time.perf_counter() - started:.0f} s.")
    return 0


def _worth(photos: Path, tickets: Path, folder: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from graft import FeatureExtraction, load, read_images, read_texts
    from graft.data import decode_image

    leaves, messages = read_images(photos), read_texts(tickets, text="text", labels="intent")
    pixels = np.stack(
        [
            np.asarray(decode_image(path).resize((THUMBNAIL, THUMBNAIL)), np.float32).ravel() / 255
            for path in leaves.inputs
        ]
    )
    words = TfidfVectorizer().fit_transform(messages.inputs)
    raw = {
        "leaf_model": FeatureExtraction(None).fit(pixels, leaves.labels),
        "ticket_model": FeatureExtraction(None).fit(words, messages.labels),
    }
    rows = []
    for name, what, baseline in (("leaf_model", "leaves", "pixels"), ("ticket_model", "tickets", "word counts")):
        model = load(folder / name)
        for features, fitted in ((model.backbone_.name, model), (baseline, raw[name])):
            assert fitted.validation_ is not None  # there are enough examples to hold some out
            rows.append((what, features, *_accuracy(fitted.validation_), f"{fitted.seconds_['total']:.1f}"))
    print_table(("data", "features", "accuracy", "95 % interval", "seconds"), rows)


def _accuracy(found: Evaluation) -> tuple[str, str]:
    estimate = found.metrics["accuracy"]
    low, high = format_metric("accuracy", estimate.low), format_metric("accuracy", estimate.high)
    return format_metric("accuracy", estimate.value), f"{low} to {high}"


if __name__ == "__main__":
    sys.exit(demo(Path("demo")))
