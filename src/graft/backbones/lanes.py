"""Lanes: threads that each read, decode and compute batches of their own, so that no core waits for another.

On a processor a lane owns one core and every operation in it runs on one thread. Measured on two cores for
EfficientNet-Lite0 in bfloat16: 507 photos a second in two lanes of batches of four, 488 with both cores on one batch
of eight, and the decoding of the next batch needs no core of its own. On a GPU the lanes decode, and take turns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft import _runtime
from graft.backbones.backbone import Backbone, Unreadable, Views, on_device
from graft.backbones.engine import Engine
from graft.backbones.space import content_key

# Photos, or tokens with their padding, in a batch: what stays in a core's cache, and what fills a GPU.
_PHOTOS = {"cpu": 8, "cuda": 64, "mps": 32}
_TOKENS = {"cpu": 1024, "cuda": 32_768, "mps": 8192}
_ROWS = 1024
# Files that one thread hashes at a time.
_HASHED_TOGETHER = 64
# More lanes than this gain nothing: Python itself becomes the bottleneck.
_MOST_LANES = 16


@dataclass(frozen=True, eq=False)
class Result:
    """The features of one batch.

    Parameters
    ----------
    rows : list of int
        The inputs that could be read.
    features : array of shape (len(rows), views, d), float32
        Their features.
    keys : list of bytes
        The hashes of their content, where they were asked for; else empty.
    failures : list of (int, str)
        Row and reason of the others.
    """

    rows: list[int]
    features: np.ndarray
    keys: list[bytes]
    failures: list[tuple[int, str]]


class Lanes:
    """The lanes of one embedding; a context manager. Final.

    Parameters
    ----------
    backbone : Backbone
        It reads and collates.
    engine : Engine
        It computes.
    views : Views
        Which views of every input.
    batch_size : int or None
        Examples in a batch; None: as measured above.
    keyed : bool
        Hash the content of every input that is read.
    """

    def __init__(
        self, backbone: Backbone, engine: Engine, views: Views, batch_size: int | None, *, keyed: bool
    ) -> None:
        self._backbone, self._engine, self._views = backbone, engine, views
        self._batch_size, self._keyed = batch_size, keyed
        self._kind = backbone.device.type
        cores = _runtime.cores()
        self._count = min(cores, _MOST_LANES)
        self._threads = max(1, cores // self._count) if self._kind == "cpu" else torch.get_num_threads()
        self._module: torch.nn.Module | None = None
        self._turn = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    def keys(self, sources: Sequence[Any], start: int) -> list[bytes | None]:
        """Return the hash of the content of each input from row `start` on; None for one that cannot be opened."""
        modality, known = self._backbone.modality, self._engine.keys
        files = modality == "image" and all(isinstance(source, str | os.PathLike) for source in sources)
        if not files or len(sources) <= _HASHED_TOGETHER:
            rows = enumerate(sources, start)
            return [known[row] if row in known else content_key(source, modality) for row, source in rows]
        # Reading and hashing let go of the interpreter: each core takes a share.
        parts = [sources[start : start + _HASHED_TOGETHER] for start in range(0, len(sources), _HASHED_TOGETHER)]
        with ThreadPoolExecutor(_runtime.cores()) as pool:
            hashed = pool.map(lambda part: [content_key(source, modality) for source in part], parts)
            return [key for part in hashed for key in part]

    def run(self, inputs: Sequence[tuple[int, Any]]) -> Iterator[Result]:
        """Yield the results of all batches as they come, at most a few of them waiting.

        Parameters
        ----------
        inputs : sequence of (row, source)
            What to compute.
        """
        batches = self._batches(inputs)
        self._module = self._engine.module
        if len(batches) == 1:
            yield self._compute(*batches[0])  # a single batch has all cores to itself
            return
        pool = self._start()
        waiting: set[Future[Result]] = set()
        queue = iter(batches)
        try:
            for batch in queue:
                waiting.add(pool.submit(self._compute, *batch))
                if len(waiting) < 2 * self._count:
                    continue
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in finished:
                    yield one.result()
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in finished:
                    yield one.result()
        finally:
            for one in waiting:
                one.cancel()

    def _start(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._stack.enter_context(_runtime.threads_per_operation(self._threads))
            each = self._threads
            self._pool = ThreadPoolExecutor(self._count, "graft-lane", torch.set_num_threads, (each,))
        return self._pool

    def _batches(self, inputs: Sequence[tuple[int, Any]]) -> list[tuple[list[int], list[Any], list[Any] | None]]:
        """Cut the inputs into batches of (rows, sources, items); texts are tokenized here, and sorted by length."""
        if self._backbone.modality != "text":
            size = self._batch_size or (_PHOTOS[self._kind] if self._backbone.modality == "image" else _ROWS)
            size = max(1, size // self._views.count)
            groups = [inputs[at : at + size] for at in range(0, len(inputs), size)]
            return [([row for row, _ in group], [source for _, source in group], None) for group in groups]
        rows, sources = [row for row, _ in inputs], [source for _, source in inputs]
        items = self._backbone.read(sources, views=self._views)
        sizes = [0 if isinstance(item, Unreadable) else self._backbone.item_size(item) for item in items]
        # The longest first: the last batches, for which lanes wait at the end, are short.
        order = sorted(range(len(items)), key=sizes.__getitem__, reverse=True)
        groups_: list[list[int]] = [[]]
        for place in order:
            group = groups_[-1]
            full = (
                len(group) >= self._batch_size
                if self._batch_size
                else (len(group) + 1) * sizes[group[0] if group else place] > _TOKENS[self._kind]
            )
            if group and full:
                groups_.append([place])
            else:
                group.append(place)
        return [
            ([rows[place] for place in group], [sources[place] for place in group], [items[place] for place in group])
            for group in groups_
        ]

    def _compute(self, rows: list[int], sources: list[Any], items: list[Any] | None) -> Result:
        backbone = self._backbone
        keys: list[bytes | None] = [None] * len(rows)
        if self._keyed:
            # The bytes that are hashed are the bytes that are decoded, whatever happens to the file meanwhile.
            sources = [opened(source) if backbone.modality == "image" else source for source in sources]
            keys = [content_key(source, backbone.modality) for source in sources]
        if items is None:
            items = backbone.read(sources, views=self._views)
        good = [place for place, item in enumerate(items) if not isinstance(item, Unreadable)]
        failures = [(row, item.reason) for row, item in zip(rows, items, strict=True) if isinstance(item, Unreadable)]
        count = self._views.count
        flat = [one for place in good for one in (items[place] if count > 1 else (items[place],))]
        empty = np.zeros((0, backbone.feature_dim), np.float32)
        features = self._forward(backbone.collate(flat)) if flat else empty
        found = [key for key in (keys[place] for place in good) if key is not None]
        return Result(
            [rows[place] for place in good], features.reshape(len(good), count, features.shape[1]), found, failures
        )

    def _forward(self, batch: Any) -> np.ndarray:
        assert self._module is not None
        with torch.inference_mode():
            if self._kind == "cpu":
                return self._module(batch).float().numpy()
            with self._turn:
                return self._module(on_device(batch, self._backbone.device)).float().cpu().numpy()


def opened(source: Any) -> Any:
    """Return the bytes of a file, or the source itself where it is none or cannot be opened."""
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).read_bytes()
        except (OSError, ValueError):
            return source  # reading it says why
    return source
