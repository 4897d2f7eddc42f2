"""The data sets on which advice is settled, and those on which it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench._real_data import DATA, banking77, few_shot, pacs, reviews, trec, wine
from graft import Domain

# Pixels on a side of photos and of digits; words of a review that are read.
PHOTO, DIGIT, WORDS = 48, 64, 48
# The most examples that are tested on.
TESTED = 400


@dataclass(frozen=True, eq=False)
class Case:
    """A data set: what is learnt from, where the model is to work, and what is tested on.

    Parameters
    ----------
    domain : Domain
        With labels.
    target : Domain or None
        Another domain, without labels.
    test : Domain
        Never seen by anything but the scores.
    backbone : str or None
        The pretrained network.
    image_size : int or None
        Of the network's input.
    epochs : float or "auto"
        Of fine-tuning; from scratch four times as many.
    views : int or None
        As in `FineTuning`.
    """

    domain: Domain
    target: Domain | None
    test: Domain
    backbone: str | None
    image_size: int | None = None
    epochs: float | str = "auto"
    views: int | None = None


def _pictures(paths: Any, size: int) -> np.ndarray:
    """Return small pictures (an eighth larger than the network's input, of which a cut is taken)."""
    from PIL import Image

    from graft.data import decode_image

    side = round(size / 0.875)
    made = [np.asarray(decode_image(path).resize((side, side), Image.Resampling.BICUBIC)) for path in paths]
    return _objects(made)


def _objects(values: Any) -> np.ndarray:
    table = np.empty(len(values), dtype=object)
    table[:] = list(values)
    return table


def _dealt(
    inputs: Any, labels: Any, per_class: int, seed: int, backbone: str | None, *, rest: Any = None, **options: Any
) -> Case:
    """Return a case of so many examples of each class; the others, or those given, are tested on."""
    rows, others = few_shot(labels, per_class, seed)
    asked, known = (inputs[others], labels[others]) if rest is None else rest
    some = np.random.default_rng(seed).permutation(len(known))[:TESTED]
    return Case(
        Domain(inputs[rows], labels[rows]),
        None,
        Domain(asked[some], known[some]),
        backbone,
        **options,
    )


def photos(per_class: int, seed: int) -> Case:
    """Photos of caltech101, so many of each class, all others to test on."""
    from bench._real_data import caltech101

    paths, labels = caltech101()
    return _dealt(_pictures(paths, PHOTO), labels, per_class, seed, "efficientnet_lite0", image_size=PHOTO)


def digits(name: str, per_class: int, seed: int) -> Case:
    """Digits; that mirrored ones are others is not told."""
    from bench.digits import mnist, usps

    rest = None
    if name == "usps":
        pictures, labels = usps("train")
        asked, known = usps("test")
        rest = _objects(asked), known
    elif name == "mnist":
        found, labels = mnist()
        chosen = np.random.default_rng(1).permutation(len(labels))[:5000]
        pictures, labels = np.stack([found[row] for row in chosen]), labels[chosen]
    else:
        from sklearn.datasets import load_digits

        pictures, labels = load_digits(return_X_y=True)
        pictures = (pictures.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    return _dealt(
        _objects(pictures),
        labels,
        per_class,
        seed,
        "efficientnet_lite0",
        rest=rest,
        image_size=DIGIT,
    )


def _trec(seed: int) -> Case:
    (inputs, labels), (asked, known) = trec("train"), trec("test")
    rows = np.random.default_rng(seed).permutation(len(inputs))[:500]
    kinds, true = (np.array([label.split(":")[0] for label in found]) for found in (labels, known))
    return Case(Domain(inputs[rows], kinds[rows]), None, Domain(asked[:TESTED], true[:TESTED]), "minilm")


def _banking(seed: int) -> Case:
    inputs, labels = banking77("train")
    asked, known = banking77("test")
    return _dealt(inputs, labels, 8, seed, "minilm", rest=(asked, known))


def _pacs(source: str, target: str, seed: int) -> Case:
    paths = pacs()
    names = np.array([str(path).split("/")[-3] for path in paths])
    labels = np.array([str(path).split("/")[-2] for path in paths])
    here, there = np.flatnonzero(names == source), np.flatnonzero(names == target)
    inputs = _pictures(paths[there], PHOTO)
    return Case(
        Domain(_pictures(paths[here], PHOTO), labels[here], name=source),
        Domain(inputs, name=target),
        Domain(inputs, labels[there], name=target),
        "efficientnet_lite0",
        PHOTO,
    )


def _reviews(per_domain: int, seed: int) -> Case:
    """Reviews of 16 domains: a column of labels for each, and one cell of a row is filled. Trainings, 16, are short."""
    found = {}
    for part, each in (("train", per_domain), ("test", 50)):
        texts, favourable, domains = reviews(part)
        rows = few_shot(domains, each, seed)[0]
        names = np.unique(domains)
        table = np.full((len(rows), len(names)), None, dtype=object)
        for place, row in enumerate(rows):
            table[place, names.tolist().index(domains[row])] = "favourable" if favourable[row] else "not"
        short = [" ".join(text.split()[:WORDS]) for text in texts[rows]]
        found[part] = Domain(_objects(short), table, tasks=tuple(names.tolist()))
    return Case(found["train"], None, found["test"], "minilm", epochs=4.0)


def _wine(seed: int) -> Case:
    (here, red), (there, white) = wine("red"), wine("white")
    draws = np.random.default_rng(seed)
    mine, asked = draws.permutation(len(red))[:1000], draws.permutation(len(white))[:1000]
    return Case(Domain(here[mine], red[mine]), Domain(there[asked]), Domain(there[asked], white[asked]), None)


def _leaves(per_class: int, seed: int) -> Case:
    from graft.data.samples import leaves

    found = leaves(per_class=per_class + 20, size=64, random_state=seed)
    return _dealt(found.inputs, found.labels[:, 0], per_class, seed, "efficientnet_lite0", image_size=PHOTO)


def _leaves_outside(seed: int) -> Case:
    from graft.data.samples import leaves

    here, there = (leaves(name, per_class=15, size=64, random_state=seed) for name in ("scan", "field"))
    return Case(
        Domain(here.inputs, here.labels[:, 0]),
        Domain(there.inputs),
        Domain(there.inputs, there.labels[:, 0]),
        "efficientnet_lite0",
        PHOTO,
    )


def _tickets(per_class: int, seed: int) -> Case:
    from graft.data.samples import tickets

    found = tickets("bank")
    return _dealt(found.inputs, found.labels[:, 0], per_class, seed, "minilm")


def _tickets_elsewhere(seed: int) -> Case:
    from graft.data.samples import tickets

    here, there = tickets("bank"), tickets("telecom")
    return Case(
        Domain(here.inputs, here.labels[:, 0]),
        Domain(there.inputs),
        Domain(there.inputs, there.labels[:, 0]),
        "minilm",
    )


def _ticket_tasks(seed: int) -> Case:
    """Three tasks of the tickets: all intents, a third of the other cells."""
    from graft.data.samples import tickets

    found, draws = tickets("bank"), np.random.default_rng(seed)
    rows = draws.permutation(found.size)
    mine, rest = rows[:140], rows[140:]
    table = found.labels[mine].copy()
    table[:, 1:][draws.random((len(mine), 2)) > 1 / 3] = None
    return Case(
        Domain(found.inputs[mine], table, tasks=found.tasks),
        None,
        Domain(found.inputs[rest], found.labels[rest], tasks=found.tasks),
        "minilm",
    )


# What the constants of the advice were settled on, and what it is judged on.
SETTLING = {
    "leaves, 5 per class": lambda seed: _leaves(5, seed),
    "leaves, 20 per class": lambda seed: _leaves(20, seed),
    "digits 8x8, 10 per class": lambda seed: digits("8x8", 10, seed),
    "digits 8x8, 50 per class": lambda seed: digits("8x8", 50, seed),
    "MNIST, 10 per class": lambda seed: digits("mnist", 10, seed),
    "MNIST, 60 per class": lambda seed: digits("mnist", 60, seed),
    "tickets, 5 per class": lambda seed: _tickets(5, seed),
    "tickets, 20 per class": lambda seed: _tickets(20, seed),
    "leaves, scan > field": _leaves_outside,
    "tickets, bank > telecom": _tickets_elsewhere,
    "tickets, three tasks": _ticket_tasks,
}
SUITE = {
    "caltech101, 5 per class": lambda seed: photos(5, seed),
    "caltech101, 10 per class": lambda seed: photos(10, seed),
    "caltech101, 20 per class": lambda seed: photos(20, seed),
    "TREC, 500 questions": _trec,
    "banking77, 8 per class": _banking,
    "USPS, 10 per class": lambda seed: digits("usps", 10, seed),
    "USPS, 60 per class": lambda seed: digits("usps", 60, seed),
    "PACS, photo > art": lambda seed: _pacs("photo", "art_painting", seed),
    "PACS, art > cartoon": lambda seed: _pacs("art_painting", "cartoon", seed),
    "PACS, cartoon > sketch": lambda seed: _pacs("cartoon", "sketch", seed),
    "reviews, 20 per domain": lambda seed: _reviews(20, seed),
    "reviews, 50 per domain": lambda seed: _reviews(50, seed),
    "wine, red > white": _wine,
}
CASES = SETTLING | SUITE
__all__ = ["CASES", "DATA", "SETTLING", "SUITE", "Case", "digits", "photos"]
