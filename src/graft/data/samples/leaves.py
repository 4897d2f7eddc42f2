"""`leaves`: drawn photos of leaves, with three tasks and two domains."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from graft import _checks
from graft.data.domain import Domain
from graft.data.samples.leaf_pictures import Picture, draw_picture
from graft.data.samples.leaf_shapes import SPECIES
from graft.errors import RequestError

LEAF_SPECIES: tuple[str, ...] = tuple(SPECIES)
LEAF_MARGINS: tuple[str, ...] = tuple(sorted({margin for kind in SPECIES.values() for margin in kind.margins}))
LEAF_DOMAINS: tuple[str, ...] = ("scan", "field")
LEAF_TASKS: tuple[str, ...] = ("species", "margin", "damage")


def leaves(domain: str = "scan", *, per_class: int = 40, size: int = 160, random_state: int = 0) -> Domain:
    """Return drawn photos of leaves of ten species: example data that need no download.

    Every picture is drawn from its own seed: (`random_state`, domain, species, number within the species). Picture i of
    a species is therefore the same whatever `per_class`, and no leaf occurs in both domains. The pictures were made by
    this project and are in the public domain (CC0 1.0).

    Parameters
    ----------
    domain : {"scan", "field"}
        ``"scan"``: pressed leaves on the sheets of a herbarium, with a soft shadow, often a label, a scale or a
        strip of linen. ``"field"``: leaves where they fell or grow, in front of soil, grass, gravel or other leaves, in
        perspective, in directional and dappled light, partly overgrown, with the camera's colour cast, blur and noise.
    per_class : int
        Pictures of each of the ten species.
    size : int
        Side of the square pictures in pixels, 48 to 1024.
    random_state : int
        Another seed draws other leaves.

    Returns
    -------
    Domain
        `inputs` is an array of uint8 (10 `per_class`, `size`, `size`, 3), the species one after the other; `labels` an
        object array (n, 3) with the columns `tasks`: ``"species"`` (str), ``"margin"`` (str, the type of the blade's
        margin; it varies within eight of the species, and every type but ``"spiny"`` is shared by several of them) and
        ``"damage"`` (float from 0 to 0.5: eaten or dead area of the blade over its whole area in the picture, before
        anything lies over it; some species are eaten more than others, as real ones are: about a third of its variance
        lies between the species).

    Raises
    ------
    RequestError
        If `domain` is neither, or a number is out of its range.

    Examples
    --------
    >>> from graft.data.samples import leaves
    >>> scans = leaves("scan", per_class=2)
    >>> scans.inputs.shape, scans.tasks
    ((20, 160, 160, 3), ('species', 'margin', 'damage'))
    >>> sorted(set(scans.labels[:, 0]))[:3]
    ['aspen', 'beech', 'birch']
    """
    per_class = _checks.integer("per_class", per_class, low=1)
    pictures = _pictures(domain, per_class, size, random_state)
    inputs = np.stack([picture.pixels for picture in pictures])
    return Domain(inputs, _labels(pictures, per_class), name=f"leaves ({domain})", tasks=LEAF_TASKS)


def write_leaves(
    folder: str | Path,
    *,
    domain: str = "scan",
    per_class: int = 40,
    size: int = 160,
    random_state: int = 0,
) -> Path:
    """Write the pictures of `leaves` as JPEG files, for the command line.

    The folder then holds a folder for each species with its pictures (``beech/beech_003.jpg``), and ``labels.csv`` with
    the columns image (path relative to the folder), species, margin and damage (three decimals). Files that are there
    already are overwritten; the same call writes the same bytes again (with the same release of Pillow).

    Parameters
    ----------
    folder : str or Path
        Where to write; made if it is not there.
    domain, per_class, size, random_state
        As for `leaves`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    RequestError
        As `leaves`, and if `folder` is a file.

    Examples
    --------
    >>> import tempfile
    >>> from graft.data.samples import write_leaves
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = write_leaves(place, domain="field", per_class=1)
    ...     sorted(path.name for path in folder.iterdir())[:3]
    ['aspen', 'beech', 'birch']
    """
    from PIL import Image

    per_class = _checks.integer("per_class", per_class, low=1)
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise RequestError(
            "folder", expected="a folder, or a name that is free", found=f"the file {target}", remedy="Name another."
        )
    pictures = _pictures(domain, per_class, size, random_state)
    labels = _labels(pictures, per_class)
    rows = []
    for index, (picture, (species, margin, damage)) in enumerate(zip(pictures, labels, strict=True)):
        name = f"{species}/{species}_{index % per_class:03d}.jpg"
        (target / species).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels).save(target / name, quality=92, subsampling=0)
        rows.append((name, species, margin, f"{damage:.3f}"))
    with (target / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", *LEAF_TASKS))
        table.writerows(rows)
    return target


def _pictures(domain: str, per_class: int, size: int, random_state: int) -> list[Picture]:
    """Return the pictures, species after species."""
    domain = _checks.one_of("domain", domain, LEAF_DOMAINS)
    size = _checks.integer("size", size, low=48, high=1024)
    random_state = _checks.integer("random_state", random_state, low=0)
    return [
        draw_picture(_streams(random_state, domain, number, index), species, domain, size)
        for number, species in enumerate(LEAF_SPECIES)
        for index in range(per_class)
    ]


def _streams(random_state: int, domain: str, species: int, index: int) -> list[np.random.Generator]:
    """Return the three generators of one picture: leaf, damage, scene."""
    seed = np.random.SeedSequence((random_state, LEAF_DOMAINS.index(domain), species, index))
    return [np.random.default_rng(child) for child in seed.spawn(3)]


def _labels(pictures: list[Picture], per_class: int) -> np.ndarray:
    labels = np.empty((len(pictures), len(LEAF_TASKS)), dtype=object)
    for row, picture in enumerate(pictures):
        labels[row] = (LEAF_SPECIES[row // per_class], picture.margin, picture.damage.fraction)
    return labels
