"""Image formats: which one a file name promises, and which one its first bytes are."""

from __future__ import annotations

import os
from typing import Any

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)

_FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG2000"),
    ".gif": "GIF",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tga": "TGA",
}

IMAGE_SUFFIXES = frozenset(_FORMAT_OF_SUFFIX)
"""File name endings, in lower case, that `decode_image` reads."""


def is_image_name(name: Any) -> bool:
    """Return whether `name` is a string that ends like an image file."""
    return isinstance(name, str) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def named_format(name: str) -> str | None:
    """Return the format that a file name promises, such as ``"PNG"``, or None."""
    return _FORMAT_OF_SUFFIX.get(os.path.splitext(name)[1].lower())


def signed_format(header: bytes) -> str | None:
    """Return the format that the first 16 bytes of a file belong to, or None when they belong to none that is read."""
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    if header[4:8] == b"ftyp" and header[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if len(header) > 2 and header[:1] == b"P" and header[1:2] in b"123456" and header[2:3].isspace():
        return "PPM"
    return next((name for magic, name in _SIGNATURES if header.startswith(magic)), None)
