"""Activations at a boundary, kept on disk for as long as a training lasts."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from graft._progress import progress as progress_bar
from graft.backbones.backbone import on_device
from graft.errors import RequestError
from graft.training.batches import Batch, prefetch
from graft.training.boundary import ACTIVATIONS, Boundary
from graft.training.examples import Examples

# Examples of a batch that passes through the front part.
_COMPUTED = 32
# Disk that is left free for others.
_SPARED = 1 << 30


class ActivationStore:
    """The activations at a boundary of all examples and views, as batches for `Boundary.module`. Final.

    They are computed when the store is made, and lie in one file in a temporary folder, float32, which is read in
    batches: memory holds one batch at a time. Texts are kept at their own length and padded in each batch. The file is
    deleted when the store is closed; used as a context manager it closes itself.

    Parameters
    ----------
    boundary : Boundary
        Its front part computes them.
    examples : Examples
        The inputs, with targets and weights.
    views : sequence of int
        Which views of each input are wanted. Texts have one, which stands for all of these.
    folder : path, optional
        Where the file is put; by default where the system puts temporary files.
    show : bool, optional
        Show a progress bar; by default where standard error is a terminal.

    Raises
    ------
    RequestError
        If they do not fit on the disk.
    UnreadableInputsError
        If an input can no longer be read.
    """

    def __init__(
        self,
        boundary: Boundary,
        examples: Examples,
        *,
        views: Sequence[int] = (0,),
        folder: str | Path | None = None,
        show: bool | None = None,
    ) -> None:
        self._examples = examples
        self._text = examples.sizes is not None
        self._views = {view: 0 if self._text else place for place, view in enumerate(dict.fromkeys(views))}
        self.weight = examples.weight
        lengths = np.ones(examples.count, np.int64) if examples.sizes is None else np.asarray(examples.sizes, np.int64)
        # Where each example's part begins, in rows of the file; an example without tokens is padded by one.
        self._starts = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])
        self._channels_last = False
        self._values: np.ndarray | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="graft-activations-", dir=folder)
        try:
            self._fill(boundary, show)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """The number of examples, n."""
        return self._examples.count

    @property
    def sizes(self) -> list[int] | None:
        """What each example takes (tokens); None where all are alike."""
        return self._examples.sizes

    @property
    def targets(self) -> torch.Tensor:
        """What a loss compares with, (n, outputs)."""
        return self._examples.targets

    @property
    def nbytes(self) -> int:
        """The size of the file in bytes."""
        return 0 if self._values is None else self._values.nbytes

    def batch(self, rows: np.ndarray, view: int = 0) -> Batch:
        """Return some of the examples, as one of the stored views has them.

        Raises
        ------
        RequestError
            If that view is not stored, or the store is closed.
        """
        if self._values is None or view not in self._views:
            raise RequestError(
                "view",
                expected=f"one of the stored views {sorted(self._views)}",
                found=f"{view}" if self._values is not None else "a store that is closed",
                remedy="Store that view too, by views=..., and use the store before it is closed.",
            )
        values, chosen = self._values[self._views[view]], torch.from_numpy(np.asarray(rows))
        if not self._text:
            stored = torch.from_numpy(values[np.asarray(rows)])
            inputs = {ACTIVATIONS: stored.movedim(-1, 1) if self._channels_last else stored}
            return Batch(inputs, self._examples.targets[chosen], self.weight[chosen], chosen)
        made = self._examples.batch(rows)
        length = next(iter(made.inputs.values())).shape[1]
        padded = torch.zeros(len(rows), length, *values.shape[1:])
        for place, row in enumerate(rows):
            part = values[self._starts[row] : self._starts[row + 1]]
            padded[place, : len(part)] = torch.from_numpy(np.array(part))
        return replace(made, inputs={**made.inputs, ACTIVATIONS: padded})

    def close(self) -> None:
        """Delete the file. May be called again."""
        self._values = None
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, boundary: Boundary, show: bool | None) -> None:
        examples = self._examples
        order = np.arange(examples.count) if examples.sizes is None else np.argsort(examples.sizes, kind="stable")
        cuts = [order[at : at + _COMPUTED] for at in range(0, examples.count, _COMPUTED)]
        places = {place: view for view, place in reversed(self._views.items())}
        jobs = [(place, view, rows) for place, view in sorted(places.items()) for rows in cuts]
        device = next(boundary.module.parameters()).device

        def read(number: int) -> Any:
            _, view, rows = jobs[number]
            return examples.batch(rows, view).inputs

        with progress_bar("storing activations", len(jobs) * _COMPUTED, "examples", enabled=show) as advance:
            for (place, _, rows), inputs in zip(jobs, prefetch(read, range(len(jobs))), strict=True):
                found = boundary.activations(on_device(inputs, device)).float().cpu()
                self._write(place, rows, found, inputs)
                advance(len(rows))

    def _write(self, place: int, rows: np.ndarray, found: torch.Tensor, inputs: Any) -> None:
        if self._values is None:
            # Convolutions are faster on the order of memory that they themselves chose; it is kept.
            self._channels_last = found.ndim == 4 and not found.is_contiguous()
            self._values = self._room((found.movedim(1, -1) if self._channels_last else found).shape)
        values = self._values[place]
        if not self._text:
            values[rows] = (found.movedim(1, -1) if self._channels_last else found).numpy()
            return
        assert isinstance(inputs, Mapping)
        for row, activations in zip(rows, found, strict=True):
            length = self._starts[row + 1] - self._starts[row]
            values[self._starts[row] : self._starts[row + 1]] = activations[:length].numpy()

    def _room(self, shape: torch.Size) -> np.ndarray:
        """Return the array on disk that holds all activations, given the shape of those of one batch."""
        kept = tuple(shape[2:]) if self._text else tuple(shape[1:])
        whole = (len(set(self._views.values())), int(self._starts[-1]), *kept)
        need, free = 4 * math.prod(whole), shutil.disk_usage(self._folder.name).free
        if need > free - _SPARED:
            raise RequestError(
                "activations",
                expected=f"{(need + _SPARED) / 1e9:.1f} GB of free disk in {Path(self._folder.name).parent}",
                found=f"{free / 1e9:.1f} GB",
                remedy="Store fewer views, choose a folder on another disk, or train without stored activations.",
            )
        return np.memmap(Path(self._folder.name) / "activations.f32", np.float32, "w+", shape=whole)
