"""One immutable file of the feature store: sorted keys, their features, a checksum."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np

# magic, number of rows, width of a row, checksum of the keys, checksum of the features; 64 bytes with the padding.
_HEADER = struct.Struct("<8sQQII32x")
_MAGIC = b"GRAFTFS1"
KEY_BYTES = 16


class Shard:
    """A shard whose header and keys have been checked; its features are mapped, and checked when first read. Final.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is not a whole shard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            header = stream.read(_HEADER.size)
            size = os.fstat(stream.fileno()).st_size
            if len(header) < _HEADER.size:
                raise ValueError("no header")
            magic, rows, width, key_sum, self._feature_sum = _HEADER.unpack(header)
            if magic != _MAGIC or size != _HEADER.size + rows * (KEY_BYTES + 4 * width):
                raise ValueError("another format or length")
            keys = stream.read(rows * KEY_BYTES)
        if zlib.crc32(keys) != key_sum:
            raise ValueError("damaged keys")
        self.keys = np.frombuffer(keys, dtype="<u8").reshape(rows, 2)
        self.width = int(width)
        self._features: np.ndarray | None = None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the features at `rows`, shape (len(rows), width), float32.

        Raises
        ------
        OSError
            If the file is gone.
        ValueError
            If the features are damaged.
        """
        if self._features is None:
            start = _HEADER.size + self.keys.size * 8
            features = np.memmap(
                self.path, dtype="<f4", mode="r", offset=start, shape=(len(self.keys), self.width), order="C"
            )
            if zlib.crc32(_bytes(features)) != self._feature_sum:
                raise ValueError("damaged features")
            self._features = features
        return np.asarray(self._features[rows], dtype=np.float32)


def write_shard(path: Path, keys: list[bytes], features: np.ndarray) -> None:
    """Write a shard beside its place and move it there, so that it is whole or not there.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    table = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)
    order = np.lexsort((table[:, 1], table[:, 0]))
    key_block = np.ascontiguousarray(table[order])
    feature_block = np.ascontiguousarray(features[order], dtype="<f4")
    sums = zlib.crc32(_bytes(key_block)), zlib.crc32(_bytes(feature_block))
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(_HEADER.pack(_MAGIC, len(table), feature_block.shape[1], *sums))
            stream.write(_bytes(key_block))
            stream.write(_bytes(feature_block))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _bytes(values: np.ndarray) -> memoryview:
    """Return an array's memory as bytes, without a copy."""
    return values.reshape(-1).view(np.uint8).data
