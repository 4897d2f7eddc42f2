"""What can be wrong with images: files that cannot be decoded, names that promise another format."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from graft._progress import progress
from graft._runtime import cores
from graft.data.check_report import Problem, problem
from graft.data.formats import named_format, signed_format
from graft.data.images import decode_image
from graft.errors import DataError

_BLOCK = 32  # images that one thread takes at a time


@dataclass(frozen=True)
class _Finding:
    """One image: the digest of its pixels, or the kind of fault and its reason; the format that its name hides."""

    digest: bytes | None = None
    fault: str = ""
    reason: str = ""
    format: str = ""


def image_faults(inputs: Any, names: Sequence[str], *, max_pixels: int) -> tuple[list[bytes | None], list[Problem]]:
    """Decode every image, on all cores, and return the digest of each one's pixels and the problems.

    The digest is taken after decoding, in RGB and upright, so that a photo saved again without loss has the same one.
    No input can make this fail: whatever a decoder raises is a finding.
    """
    blocks = [range(start, min(start + _BLOCK, len(names))) for start in range(0, len(names), _BLOCK)]
    findings: list[_Finding] = []

    def look(rows: range) -> list[_Finding]:
        return [_look(inputs[row], max_pixels) for row in rows]

    with (
        warnings.catch_warnings(),  # Pillow warns of odd metadata, for each file anew
        progress("checking", len(names), "images") as advance,
        ThreadPoolExecutor(max_workers=cores()) as pool,
    ):
        warnings.simplefilter("ignore")
        try:
            for found in pool.map(look, blocks):
                findings.extend(found)
                advance(len(found))
        except BaseException:  # Ctrl-C must not wait for what is queued
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    problems = []
    for fault, remedy in _REMEDIES.items():
        places = [
            _place(name, found.reason) for name, found in zip(names, findings, strict=True) if found.fault == fault
        ]
        problems += problem(fault, places, remedy, harmful=True)
    disguised = [f"{name} ({found.format})" for name, found in zip(names, findings, strict=True) if found.format]
    problems += problem(
        "wrong suffix",
        disguised,
        "Rename them after what they are; Graft reads them, other programs may not.",
        harmful=False,
    )
    return [found.digest for found in findings], problems


_REMEDIES = {
    "missing file": "Restore the files, or remove their rows; they are left out of a training.",
    "empty file": "Fetch or export the files again; they are left out of a training.",
    "truncated image": "Fetch or export the files again; they are left out of a training.",
    "unreadable image": "Export them again as JPEG or PNG; they are left out of a training.",
    "oversized image": "Shrink them, or raise max_pixels if you trust them; they are left out of a training.",
}


def _look(source: Any, max_pixels: int) -> _Finding:
    """Decode one image; never raises."""
    try:
        image = decode_image(source, max_pixels=max_pixels)
        digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
        digest.update(image.tobytes())
        return _Finding(digest.digest(), format=_disguise(source))
    except DataError as error:
        return _Finding(fault=_fault(source, error), reason=error.found)
    except Exception as error:  # MemoryError among them
        return _Finding(fault="unreadable image", reason=f"{type(error).__name__}: {error}")


def _fault(source: Any, error: DataError) -> str:
    if "no such file" in error.found or source == "":
        return "missing file"
    if "0 bytes" in error.found:
        return "empty file"
    if "truncated" in error.found:
        return "truncated image"
    return "oversized image" if "an image of at most" in str(error) else "unreadable image"


def _disguise(source: Any) -> str:
    """Return the format of a file whose name promises another, or nothing."""
    if not isinstance(source, (str, os.PathLike)):
        return ""
    promised = named_format(os.fspath(source))
    with open(source, "rb") as stream:
        found = signed_format(stream.read(32))
    return found if found is not None and promised is not None and found != promised else ""


def _place(name: str, reason: str) -> str:
    return name if reason.startswith(("no such file", "an empty file")) else f"{name} ({reason})"
