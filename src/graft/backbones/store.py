"""`FeatureStore`: features on disk, so that no input goes through the same network twice, and heads fitted on them.

::

    <root>/v1/<space>/space.json       which network, layer, pooling, precision and view: what the space's name hashes
                      <shard>.features  immutable files of keys and features, written beside and moved into place
    <root>/v1/heads/<hash>.safetensors  a fitted head; the name hashes everything that decides it

A *space* is everything that decides features except the input; a key within it is the hash of one input's content.
Files are only ever added and removed, never changed, so any number of processes may read and write at once: the worst
that can happen is that two compute the same thing.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from graft.backbones.shard import KEY_BYTES, Shard, write_shard
from graft.backbones.space import Space, StoreEntry
from graft.persistence import packed_facts

# Bytes of features that are kept before the least recently used are removed.
DEFAULT_BOUND = 20 * 2**30
# Shards of a space are merged when there are more than this, up to this many bytes in one.
_MANY_SHARDS = 32
_MERGED_BYTES = 256 * 2**20
# How often a lookup starts over because other processes merged what it was reading.
_MOST_LOOKS = 5
# The folder beside the spaces.
_HEADS = "heads"
# A temporary file that is older than this many seconds was left by a process that died.
_STALE = 24 * 3600.0


def default_root() -> Path:
    """Return where features are kept: ``GRAFT_STORE``, else ``graft/store`` in the user's cache folder."""
    told = os.environ.get("GRAFT_STORE")
    if told:
        return Path(told).expanduser()
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "graft" / "store"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "graft" / "store"


class FeatureStore:
    """Features on disk, found by the network and the content of the input. Final.

    Parameters
    ----------
    root : path, optional
        Its folder; by default `default_root`.
    max_bytes : int
        Above this the least recently used features are removed.
    keep_heads : bool
        False: features alone. Every head is fitted, so that what fitting it takes can be measured.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from graft.backbones import FeatureStore
    >>> from graft.backbones.store import Space
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> space = Space("net", "0" * 64, "{}", None, None, "float32", "plain", 2)
    >>> store.write(space, [b"a" * 16], np.ones((1, 2)))
    >>> found, features = store.read(space, [b"b" * 16, b"a" * 16])
    >>> found, features
    (array([False,  True]), array([[0., 0.],
           [1., 1.]], dtype=float32))
    """

    def __init__(
        self, root: str | Path | None = None, *, max_bytes: int = DEFAULT_BOUND, keep_heads: bool = True
    ) -> None:
        self.root = (default_root() if root is None else Path(root)).resolve()
        self.max_bytes = max_bytes
        self.keep_heads = keep_heads
        self._base = self.root / "v1"
        self._open: dict[str, dict[str, Shard | None]] = {}
        self._silent = False

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.root)!r})"

    def read(self, space: Space, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys are held, and their features.

        Parameters
        ----------
        space : Space
            Where to look.
        keys : sequence of n bytes of length 16
            Hashes of inputs.

        Returns
        -------
        found : array of shape (n,), bool
        features : array of shape (n, feature_dim), float32
            Zeros where nothing was found.
        """
        features = np.zeros((len(keys), space.feature_dim), np.float32)
        found = np.zeros(len(keys), bool)
        if not keys:
            return found, features
        asked = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)
        names = self._names(space)
        for _ in range(_MOST_LOOKS):
            self._look(self._shards(space, names), asked, found, features)
            before, names = names, self._names(space)
            # Another process may have merged shards while this one looked: what was in them now stands in a new one.
            if found.all() or names == before:
                break
        features[~found] = 0
        return found, features

    def _look(self, shards: Sequence[Shard], asked: np.ndarray, found: np.ndarray, features: np.ndarray) -> None:
        """Fill in, of the keys that were not found yet, those that are in `shards`."""
        for shard in shards:
            missing = np.flatnonzero(~found)
            if not len(missing):
                break
            places, hits = _find(shard.keys, asked[missing])
            rows = missing[hits]
            if not len(rows):
                continue
            try:
                features[rows] = shard.read(places[hits])
                os.utime(shard.path)
            except (OSError, ValueError):
                # Removed by another process, or damaged: the features are computed again.
                self._open[shard.path.parent.name][shard.path.name] = None
                continue
            found[rows] = True

    def write(self, space: Space, keys: Sequence[bytes], features: np.ndarray) -> None:
        """Keep features; where that cannot be done (a full disk), warn once and go on without.

        Parameters
        ----------
        space : Space
            Where they belong.
        keys : sequence of n bytes of length 16
            Hashes of the inputs.
        features : array of shape (n, feature_dim)
            Their features.
        """
        if self._silent or not len(keys):
            return
        folder = self._base / space.key
        # One row for each key: the same photo may stand twice among the inputs.
        unique = {key: row for row, key in enumerate(keys)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            facts = folder / "space.json"
            if not facts.is_file():
                _write(facts, json.dumps(asdict(space), indent=1).encode())
            path = folder / f"{uuid.uuid4().hex}.features"
            write_shard(path, list(unique), np.asarray(features)[list(unique.values())])
            self._merge(space)
            self._evict()
        except OSError as error:
            self._warn(error)

    def head(self, key: str) -> bytes | None:
        """Return the file that `keep_head` kept under a key, or None."""
        path = self._base / _HEADS / f"{key}.safetensors"
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return content

    def keep_head(self, key: str, content: bytes) -> None:
        """Keep the file of a fitted head; where that cannot be done, warn once and go on without.

        Parameters
        ----------
        key : str
            The hash, in hexadecimal digits, of everything that decides the head.
        content : bytes
            From `graft.persistence.pack`, with the network's name as the fact ``"network"``.
        """
        if self._silent:
            return
        path = self._base / _HEADS / f"{key}.safetensors"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
            self._evict()
        except OSError as error:
            self._warn(error)

    def entries(self) -> list[StoreEntry]:
        """Return what the store holds, the most recently used first."""
        found = []
        for folder in self._spaces():
            try:
                facts = json.loads((folder / "space.json").read_text(encoding="utf-8"))
                files = [(path, path.stat()) for path in folder.glob("*.features")]
                width = int(facts["feature_dim"])
                found.append(
                    StoreEntry(
                        kind="features",
                        key=folder.name,
                        network=facts["network"],
                        layer=None if facts["layer"] is None else tuple(facts["layer"]),
                        pooling=facts["pooling"],
                        precision=facts["precision"],
                        view=facts["view"],
                        rows=sum((stat.st_size - 64) // (KEY_BYTES + 4 * width) for _, stat in files),
                        bytes=sum(stat.st_size for _, stat in files),
                        last_used=max((stat.st_mtime for _, stat in files), default=0.0),
                    )
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue
        heads: dict[str, list[os.stat_result]] = {}
        for path in (self._base / _HEADS).glob("*.safetensors"):
            try:
                heads.setdefault(_network_of(path), []).append(path.stat())
            except OSError:
                continue
        for network, stats in heads.items():
            size, used = sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)
            found.append(StoreEntry("heads", "", network, None, None, "", "", len(stats), size, used))
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

    @property
    def size(self) -> int:
        """The bytes that features and heads take."""
        return sum(size for _, size, _ in self._files())

    def clear(self, *, network: str | None = None) -> int:
        """Remove all features and heads, or those of one network, and return how many bytes became free."""
        freed = 0
        keys = {entry.key for entry in self.entries() if network in (None, entry.network)}
        for folder in (*self._spaces(), self._base / _HEADS):
            heads = folder.name == _HEADS
            if (network is not None and not heads and folder.name not in keys) or not folder.is_dir():
                continue
            for path in folder.iterdir():
                try:
                    if heads and network is not None and _network_of(path) != network:
                        continue
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
                except OSError:
                    continue
            try:
                folder.rmdir()
            except OSError:
                continue
        self._open.clear()
        return freed

    def _warn(self, error: OSError) -> None:
        self._silent = True
        warnings.warn(
            f"Features cannot be kept in {self.root} ({error.strerror or error}): they are computed and not "
            "stored. Make room, or set GRAFT_STORE to another folder.",
            UserWarning,
            stacklevel=3,
        )

    def _names(self, space: Space) -> set[str]:
        """Return the names of the space's shards as they stand."""
        try:
            with os.scandir(self._base / space.key) as files:
                return {file.name for file in files if file.name.endswith(".features")}
        except OSError:
            return set()

    def _shards(self, space: Space, names: set[str]) -> list[Shard]:
        """Return the whole shards of those `names`; those seen before are not opened again."""
        known = self._open.setdefault(space.key, {})
        for name in set(known) - names:
            del known[name]
        for name in names - set(known):
            try:
                shard = Shard(self._base / space.key / name)
                known[name] = shard if shard.width == space.feature_dim else None
            except (OSError, ValueError):
                known[name] = None  # half-written or damaged: as if it were not there
        whole = [shard for shard in known.values() if shard is not None]
        return sorted(whole, key=lambda shard: len(shard.keys), reverse=True)

    def _merge(self, space: Space) -> None:
        """Put many small shards into one; the old ones are removed once the new one stands."""
        shards = self._shards(space, self._names(space))
        row_bytes = KEY_BYTES + 4 * space.feature_dim
        small = [shard for shard in shards if len(shard.keys) * row_bytes < _MERGED_BYTES // 4]
        if len(small) <= _MANY_SHARDS:
            return
        merged: dict[bytes, np.ndarray] = {}
        done = []
        for shard in small:
            if (len(merged) + len(shard.keys)) * row_bytes > _MERGED_BYTES:
                break
            try:
                features = shard.read(np.arange(len(shard.keys)))
            except (OSError, ValueError):
                continue
            merged.update(zip((key.tobytes() for key in shard.keys), features, strict=True))
            done.append(shard)
        if len(done) < 2:
            return
        path = self._base / space.key / f"{uuid.uuid4().hex}.features"
        write_shard(path, list(merged), np.stack(list(merged.values())))
        for shard in done:
            self._forget(shard.path)

    def _evict(self) -> None:
        """Remove the least recently used shards until the bound holds, and what dead processes left."""
        for folder in (*self._spaces(), self._base / _HEADS):
            for path in folder.glob("*.tmp"):
                try:
                    if time.time() - path.stat().st_mtime > _STALE:
                        path.unlink()
                except OSError:
                    continue
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if total <= self.max_bytes:
                break
            self._forget(path)
            total -= size

    def _forget(self, path: Path) -> None:
        self._open.get(path.parent.name, {}).pop(path.name, None)
        try:
            path.unlink()
        except OSError:
            return  # another process was faster, or holds it open on Windows

    def _spaces(self) -> Iterator[Path]:
        try:
            folders = [path for path in self._base.iterdir() if path.is_dir() and path.name != _HEADS]
        except OSError:
            return
        yield from folders

    def _files(self) -> list[tuple[Path, int, float]]:
        files = []
        for folder in (*self._spaces(), self._base / _HEADS):
            for path in (*folder.glob("*.features"), *folder.glob("*.safetensors")):
                try:
                    stat = path.stat()
                except OSError:
                    continue
                files.append((path, stat.st_size, stat.st_mtime))
        return files


def open_store(store: Any) -> FeatureStore | None:
    """Return the store that an argument means: True the default one, a path another, False or None none."""
    if store is None or store is False:
        return None
    if isinstance(store, FeatureStore):
        return store
    return FeatureStore(None if store is True else store)


def features_only(store: Any) -> FeatureStore | bool:
    """Return the store that an argument means, as one that keeps no heads; False where it means none."""
    kept = open_store(store)
    return False if kept is None else FeatureStore(kept.root, max_bytes=kept.max_bytes, keep_heads=False)


def _find(keys: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each asked key the place where it would stand among sorted keys, and the asked ones that do stand."""
    first = np.searchsorted(keys[:, 0], asked[:, 0])
    # Two keys with one first half among 2^64 are not to be expected; a run of them would only cost a recomputation.
    places = np.minimum(first, len(keys) - 1)
    return places, np.flatnonzero((keys[places] == asked).all(axis=1)) if len(keys) else np.zeros(0, np.intp)


def _network_of(path: Path) -> str:
    """Return the network on whose features a kept head was fitted; "" where the file does not say."""
    with path.open("rb") as stream:
        start = stream.read(8)
        try:
            return packed_facts(start + stream.read(int.from_bytes(start, "little"))).get("network", "")
        except (ValueError, OverflowError, MemoryError):
            return ""


def _write(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that it is whole or not there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
