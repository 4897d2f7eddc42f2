"""`scan`: the images in a folder, their classes and given splits, from the names of files and folders alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from graft._checks import did_you_mean
from graft.data.formats import is_image_name
from graft.errors import DataError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a split may be called, in lower case, and what it is called here."""

# Left behind by archives and file managers; counted like other hidden files.
_CLUTTER = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir"))


@dataclass(frozen=True)
class FolderListing:
    """What `scan` found: columns of equal length, and the names of everything that is no image."""

    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def scan(root: str) -> FolderListing:
    """List the images below `root` in the order of their names, without opening one.

    The first folder below `root` is the class; deeper folders only arrange its images. Folders called ``train``,
    ``val`` (``valid``, ``validation``, ``dev``) and ``test`` are splits, with the classes one level below. An image
    that lies in no class folder has no label. Hidden files and files that are no images go to `skipped`, and so do
    folders without an image and, beside split folders, images that lie in none of them.

    Raises
    ------
    DataError
        If a folder cannot be listed, or split folders stand among other folders so that neither reading is safe.
    """
    listing = FolderListing()
    aside: list[str] = []
    folders, files = _entries(root, aside)
    splits = {name: SPLIT_NAMES[name.casefold()] for name in folders if name.casefold() in SPLIT_NAMES}
    if splits and len(splits) < len(folders) and not _are_classes(root, splits):
        others = [name for name in folders if name not in splits]
        raise DataError(
            root,
            expected="either a folder per class, or only train, val and test folders with the classes inside",
            found=f"the split folders {', '.join(map(repr, splits))} beside {', '.join(map(repr, others[:5]))}",
            remedy="Move the other folders elsewhere, or into the split that they belong to.",
        )
    if splits and len(splits) == len(folders):
        listing.skipped.extend((*aside, *files))
        for name, split in splits.items():
            _add_classes(os.path.join(root, name), split, listing)
    else:
        _add_classes(root, None, listing)
    return listing


def _are_classes(root: str, splits: dict[str, str]) -> bool:
    """Return whether every split-like folder holds images directly, as a class called ``train`` does."""
    for name in splits:
        folders, files = _entries(os.path.join(root, name), [])
        if folders or not files:
            return False
    return True


def _add_classes(root: str, split: str | None, listing: FolderListing) -> None:
    """Add the images of one split: those in `root` itself without a label, then class by class."""
    folders, files = _entries(root, listing.skipped)
    _add(files, None, split, listing)
    for name in folders:
        path = os.path.join(root, name)
        images = _walk(path, listing.skipped, ())
        if not images:
            listing.skipped.append(path + os.sep)
        _add(images, name, split, listing)


def _add(images: list[str], label: str | None, split: str | None, listing: FolderListing) -> None:
    listing.paths.extend(images)
    listing.labels.extend([label] * len(images))
    listing.splits.extend([split] * len(images))


def _walk(folder: str, skipped: list[str], above: tuple[tuple[int, int], ...]) -> list[str]:
    """Return the images in and below a folder; links are followed, but not back into a folder that led here."""
    facts = os.stat(folder)
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        return []
    folders, images = _entries(folder, skipped)
    for name in folders:
        images.extend(_walk(os.path.join(folder, name), skipped, (*above, here)))
    return images


def _entries(folder: str, skipped: list[str]) -> tuple[list[str], list[str]]:
    """Return the names of the folders and the paths of the images directly in `folder`, each sorted."""
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.casefold() in _CLUTTER:
                    skipped.append(entry.path)
                elif entry.is_dir():
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    images.append(entry.path)
                else:
                    skipped.append(entry.path)
    except OSError as error:
        raise DataError(
            folder,
            expected="a folder that can be listed",
            found=error.strerror or type(error).__name__,
            remedy="Check the path and its permissions.",
        ) from error
    return sorted(folders), sorted(images)


def split_name(cell: Any, column: str) -> str:
    """Return ``"train"``, ``"val"`` or ``"test"`` for a cell of a column of splits.

    Raises
    ------
    DataError
        If the cell is none of `SPLIT_NAMES`.
    """
    found = SPLIT_NAMES.get(str(cell).strip().casefold())
    if found is None:
        raise DataError(
            f"column {column!r}",
            expected="train, val or test in every cell",
            found=repr(cell),
            remedy=did_you_mean(str(cell), SPLIT_NAMES, otherwise="Correct it, or do not name it as the split."),
        )
    return found
