"""`content_hash`: what an input is made of, in 16 bytes, so that equal content is recognised wherever it lies."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

import numpy as np

from graft.data.formats import is_image_name
from graft.errors import DataError

_CHUNK = 1 << 20  # bytes read at a time, so that a large file never lies in memory whole
# A file that changed less than this many nanoseconds ago may change again without another time of change.
_SETTLED = 2_000_000_000
# How many digests of files this process remembers (about 30 MB), and what it remembers: see `_file_hash`.
_MOST_REMEMBERED = 100_000
_remembered: dict[tuple[str, int, int], tuple[tuple[int, int, int], bytes]] = {}


def image_bytes(source: Any) -> bytes:
    """Return the bytes that determine an image: a file's content, or the pixels with their layout.

    A path and the bytes of that file give the same; a PIL image or an array of the same pixels does not, because the
    encoded file determines more than the pixels (its orientation tag, its palette).

    Parameters
    ----------
    source : path, bytes, PIL image, or array
        As `decode_image` takes it.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    from PIL import Image

    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as stream:
                return stream.read()
        except (OSError, ValueError) as error:
            raise _unreadable(source, error) from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, dict):
        held = source.get("bytes")
        return image_bytes(held if held is not None else source.get("path"))
    if isinstance(source, Image.Image):
        palette = source.getpalette("RGB") if source.mode in ("P", "PA") else None
        facts = (source.mode, source.size, palette, source.info.get("transparency"), source.getexif().get(0x0112, 1))
        return repr(facts).encode() + b"\0" + source.tobytes()
    return array_bytes(source)


def array_bytes(values: Any) -> bytes:
    """Return the type, the shape and the values of an array, a tensor or one row of a sparse matrix."""
    if type(values).__module__.split(".")[0] == "torch":
        values = values.detach().cpu().contiguous()
        # NumPy has no bfloat16: the tensor's own bytes are taken, and its type is named.
        import torch

        return f"{values.dtype} {tuple(values.shape)}\0".encode() + values.view(-1).view(torch.uint8).numpy().tobytes()
    if type(values).__module__.startswith("scipy.sparse"):
        row = values.tocsr().copy()
        row.sum_duplicates()
        row.eliminate_zeros()
        parts = (row.indptr.astype(np.int64), row.indices.astype(np.int64), row.data)
        return f"sparse {row.dtype} {row.shape}\0".encode() + b"".join(part.tobytes() for part in parts)
    array = np.ascontiguousarray(values)
    if array.dtype == object:
        raise DataError(
            "input",
            expected="an image, a text or numbers",
            found=f"a {type(values).__name__}",
            remedy="Pass paths, texts, images or numeric arrays.",
        )
    return f"{array.dtype.str} {np.shape(values)}\0".encode() + array.tobytes()


def content_hash(source: Any, *, modality: str | None = None) -> bytes:
    """Return a 16-byte BLAKE2b digest of the content of one input.

    Equal content gives equal digests wherever it lies: a file that is moved keeps its digest, one that is edited does
    not. The three modalities never collide.

    Parameters
    ----------
    source : path, bytes, text, PIL image, array, tensor or sparse row
        One input of a domain.
    modality : {"image", "text", "features"}, optional
        What `source` is. Without it, a path object, and a string that ends like an image file and exists, is an image;
        any other string is a text; arrays of one dimension and sparse rows are features; the rest are images.

    Raises
    ------
    DataError
        If a file cannot be read.

    Examples
    --------
    >>> from graft.data import content_hash
    >>> content_hash("a text").hex()
    '212f258b6495fb48e6881235a71fde0e'
    """
    kind = modality if modality is not None else _modality(source)
    digest = hashlib.blake2b(f"graft {kind}\0".encode(), digest_size=16)
    if kind == "text":
        digest.update(str(source).encode("utf-8", "surrogatepass"))
    elif kind == "features":
        digest.update(array_bytes(source))
    elif isinstance(source, (str, os.PathLike)):
        try:
            return _file_hash(source, kind, digest)
        except (OSError, ValueError) as error:
            raise _unreadable(source, error) from error
    else:
        digest.update(image_bytes(source))
    return digest.digest()


def _file_hash(source: Any, kind: str, digest: Any) -> bytes:
    """Return the digest once it has been updated with a file's bytes.

    A file whose place on the disk, size, and times of change (of its content, and of its entry, which programs cannot
    set) are those of a file that was hashed before is not read again: folds, and fits one after another, ask for the
    same files many times. A file that changed a moment ago is never remembered.
    """
    state = os.stat(source)
    place, stamp = (kind, state.st_dev, state.st_ino), (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    known = _remembered.get(place)
    if known is not None and known[0] == stamp:
        return known[1]
    hashed_at = time.time_ns()
    with open(source, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    found = digest.digest()
    if state.st_ino and hashed_at - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[place] = stamp, found
    return found


def _modality(source: Any) -> str:
    if isinstance(source, os.PathLike):
        return "image"
    if isinstance(source, str):
        return "image" if is_image_name(source) and os.path.isfile(source) else "text"
    one_row = type(source).__module__.startswith("scipy.sparse") or getattr(source, "ndim", None) == 1
    return "features" if one_row else "image"


def _unreadable(source: Any, error: Exception) -> DataError:
    missing = isinstance(error, FileNotFoundError)
    return DataError(
        str(source),
        expected="a readable image file",
        found="no such file" if missing else " ".join(str(error).split()),
        remedy="Check the path and the permissions.",
    )
