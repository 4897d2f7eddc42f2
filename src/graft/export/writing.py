"""`export_model`: write a fitted model as a file that other programs run."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft.backbones.feature_backbone import FeatureBackbone
from graft.backbones.text_backbone import TextBackbone
from graft.errors import GraftError, MissingDependencyError, RequestError, RunError
from graft.export.network import Prediction, prediction
from graft.persistence import require_writable, whole_file

# What a file's name ends with, and the format that its readers take it for.
FORMATS = {".onnx": "onnx", ".pt2": "torch"}
# The name of the facts within the file: ONNX metadata, or an extra file of the program of torch.export.
FACTS = "graft.json"
# Of probabilities, and of numbers in units of what they vary by: float32 beside the float64 of the heads.
_CLOSE = 1e-3
_EXAMPLES = 8  # that a file is run on
# In what torch says.
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")
_ONE_SIZE = re.compile(r"marked (\w+) as dynamic but your code specialized it")
# Protobuf, which ONNX is written in, holds no more than this in one file; some of it is not weights.
_ONNX_BYTES = 2**31 - 2**24
_SENTENCES = ("a", "The quick brown fox jumps over the lazy dog.", "How much is it, and when does it arrive?", "no")
# The axes of any length that each input has.
_FREE: dict[str, dict[int, str]] = {
    "pixels": {0: "batch"},
    "input_ids": {0: "batch", 1: "length"},
    "attention_mask": {0: "batch", 1: "length"},
    "features": {0: "batch"},
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    file : Path
        The model.
    format : {"onnx", "torch"}
    inputs, outputs : dict of str to list
        The shape of each; a word stands for an axis of any length.
    beside : tuple of Path
        Further files that belong to it: the tokenizer of a text model.
    difference : float or None
        The largest difference between its answers and the model's own, in float32: of probabilities, or of numbers in
        units of their standard deviation in training. None where the file could not be run here (ONNX without
        onnxruntime).
    """

    file: Path
    format: str
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    beside: tuple[Path, ...]
    difference: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "file": str(self.file),
            "format": self.format,
            "bytes": self.file.stat().st_size,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "beside": [str(one) for one in self.beside],
            "difference": self.difference,
        }


def export_model(model: Any, file: str | os.PathLike[str]) -> Exported:
    """Write a fitted model as one file that needs no Graft: network, alignment and heads in one graph, in float32.

    The inputs are what the network reads, with any number of examples: ``pixels`` (batch, 3, height, width), 8-bit
    values of pictures that are resized and cut (their normalisation is within); or ``input_ids`` and
    ``attention_mask`` (batch, length), for which the tokenizer is written beside the file, as
    ``NAME.tokenizer.json``; or ``features`` (batch, d). The output ``probabilities`` has a column for each class or
    label, ``values`` one for each number; of several tasks there is ``probabilities.TASK`` or ``values.TASK`` for each.
    How inputs are prepared, and the classes in their order, stand within the file as JSON: in the metadata
    ``graft.json`` of ONNX, in the extra file of that name of ``torch.export.load``.

    The file (of ``torch.export``: the program that is written) is run on a few inputs before it is moved to its place,
    and its answers are compared with the model's own.

    Parameters
    ----------
    model : fitted technique
        Of any kind; or what `graft.load` returned.
    file : path
        What to write: its name ends with ``.onnx`` (ONNX), or ``.pt2`` (a program of ``torch.export``).

    Returns
    -------
    Exported

    Raises
    ------
    RequestError
        If the file's name ends otherwise, or the model holds a part that is not one of Graft's.
    MissingDependencyError
        If onnx and onnxscript are not installed (``pip install 'graft-learn[export]'``).
    RunError
        If the network cannot be written in this format, or what was written answers otherwise than the model.

    Examples
    --------
    >>> import tempfile, numpy as np, graft
    >>> from pathlib import Path
    >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    >>> model = graft.FeatureExtraction(None, head="logistic").fit(X, np.where(X[:, 0] > 0, "up", "down"))
    >>> written = graft.export_model(model, Path(tempfile.mkdtemp()) / "model.pt2")
    >>> written.inputs, written.outputs, written.difference < 1e-5
    ({'features': ['batch', 3]}, {'probabilities': ['batch', 2]}, True)
    """
    path = Path(file)
    format = _format_of(path)
    require_writable(path)
    found = prediction(model)
    if format == "onnx":
        _require_small(path, found.module)
    example = _example(found)
    batch, want = found.named(example), found.expected(example)
    names = [one.name for one in found.outputs]
    inputs = {
        name: [_FREE[name].get(axis, size) for axis, size in enumerate(values.shape)] for name, values in batch.items()
    }
    outputs: dict[str, list[Any]] = {name: ["batch", values.shape[1]] for name, values in zip(names, want, strict=True)}
    facts = json.dumps(
        {
            "graft": version("graft-learn"),
            "technique": model.technique,
            "backbone": found.backbone.name,
            "license": found.backbone.license,
            "preprocessing": found.backbone.preprocessing.to_dict(),
            "inputs": inputs,
            "outputs": [{**one.facts(), "shape": outputs[one.name]} for one in found.outputs],
        },
        ensure_ascii=False,
    )
    tokenizer = found.backbone.tokenizer_json() if isinstance(found.backbone, TextBackbone) else None
    pages = {} if tokenizer is None else {path.with_name(f"{path.stem}.tokenizer.json"): tokenizer}
    answers: Sequence[np.ndarray] | None
    with whole_file(path) as partial:
        with _refusals(path, "Write this part of the network, or of graft.export.prediction_module(model), otherwise."):
            program = torch.export.export(
                found.module,
                tuple(batch.values()),
                dynamic_shapes=_free_axes(found, list(batch)),
            )
        with _refusals(path, _other(path)):
            if format == "torch":
                answers = _write_torch(program, facts, batch, partial)
            else:
                _write_onnx(program, facts, list(batch), names, partial)
                answers = _run_onnx(partial, batch, names)
        difference = None if answers is None else _difference(path, names, answers, want, found.units())
        for place, text in pages.items():  # before the model has its place: without them it is of no use
            with whole_file(place) as page:
                page.write_text(text, encoding="utf-8")
    return Exported(path, format, inputs, outputs, tuple(pages), difference)


def _format_of(path: Path) -> str:
    """Return the format of a file by its name."""
    if path.suffix not in FORMATS:
        raise RequestError(
            str(path),
            expected=f"a file that ends with {' or '.join(FORMATS)}",
            found="another name",
            remedy=f"Name it {path.stem or 'model'}.onnx, or {path.stem or 'model'}.pt2 for torch.export.",
        )
    format = FORMATS[path.suffix]
    if path.is_dir():
        inside = path / f"model{path.suffix}"
        raise RequestError(str(path), expected="a file", found="a folder", remedy=f"Name a file in it: {inside}.")
    lacking = [name for name in ("onnx", "onnxscript") if format == "onnx" and find_spec(name) is None]
    if lacking:
        raise MissingDependencyError(
            str(path),
            expected="the packages onnx and onnxscript",
            found=f"no {' and no '.join(lacking)}",
            remedy="Run: pip install 'graft-learn[export]'",
        )
    return format


def _require_small(path: Path, module: torch.nn.Module) -> None:
    size = sum(values.nbytes for values in (*module.parameters(), *module.buffers()))
    if size > _ONNX_BYTES:
        raise RequestError(
            str(path),
            expected="a model of less than 2 GiB, which ONNX ends at",
            found=f"{size / 2**30:.1f} GiB of weights",
            remedy=f"Name it {path.stem}.pt2, for torch.export.",
        )


def _free_axes(found: Prediction, inputs: Sequence[str]) -> dict[str, dict[int, Any]]:
    plan = found.backbone.preprocessing
    axes = {
        "batch": torch.export.Dim("batch", min=1),
        # As many tokens as texts are cut to: a network has places for no more.
        "length": torch.export.Dim("length", min=1, max=getattr(plan, "max_tokens", None)),
    }
    return {name: {axis: axes[free] for axis, free in _FREE[name].items()} for name in inputs}


def _example(found: Prediction) -> Any:
    """Return a batch of made-up inputs."""
    backbone = found.backbone
    draw = np.random.default_rng(0)
    match backbone.modality:
        case "text":
            return backbone.collate(backbone.read([_SENTENCES[at % len(_SENTENCES)] for at in range(_EXAMPLES)]))
        case "image":
            pixels = draw.integers(256, size=(_EXAMPLES, *backbone.example_item().shape), dtype=np.uint8)
            return backbone.collate(list(torch.from_numpy(pixels)))
        case _ if isinstance(backbone, FeatureBackbone):
            location, scale = found.spread()
        case _:
            location = scale = np.ones(len(backbone.example_item()))
    rows = location + scale * draw.normal(size=(_EXAMPLES, len(location)))
    return backbone.collate(list(torch.from_numpy(rows.astype(np.float32))))


@contextmanager
def _refusals(path: Path, remedy: str) -> Iterator[None]:
    """Say in one message what a network has that cannot be written down."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, of its own parts
            yield
    except (GraftError, OSError, MemoryError):
        raise
    except Exception as error:  # onnxruntime raises nothing narrower, a network anything
        raise RunError(
            str(path),
            expected="a network of operations that this format can hold, the same for every input",
            found=_reason(error),
            remedy=f"Nothing was written. {remedy}",
        ) from error


def _reason(error: BaseException) -> str:
    """Return in a few words what stands in the way, without the advice of torch to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error)
    if operator := _NO_OPERATOR.search(said):
        return f"{operator[1]}, for which ONNX has no operator"
    if "data-dependent" in said:
        return "a step that depends on the values of the inputs"
    if axis := _ONE_SIZE.search(said):
        return f"a step that takes one size of the axis {axis[1]} alone"
    first = next(iter(said.strip().splitlines()), "").rstrip(".!")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _other(path: Path) -> str:
    """Return the remedy where the other format may do."""
    return f"Name it {path.stem}.onnx." if FORMATS[path.suffix] == "torch" else f"Name it {path.stem}.pt2."


def _write_torch(program: Any, facts: str, batch: dict[str, torch.Tensor], place: Path) -> Sequence[np.ndarray]:
    """Write a program, and return what it answers; it is not read again, which could run code."""
    with place.open("wb") as archive:
        torch.export.save(program, archive, extra_files={FACTS: facts})
    return [one.numpy() for one in program.module()(*batch.values())]


def _write_onnx(program: Any, facts: str, inputs: list[str], outputs: list[str], place: Path) -> None:
    from torch import onnx

    made: Any = onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes={name: _FREE[name] for name in inputs},
    )
    made.model.metadata_props[FACTS] = facts
    # As one file: its own way to save moves large weights to a second one.
    place.write_bytes(made.model_proto.SerializeToString())


def _run_onnx(place: Path, batch: dict[str, torch.Tensor], names: list[str]) -> Sequence[np.ndarray] | None:
    """Return what the model in a file answers; None where nothing here can run it."""
    if find_spec("onnxruntime") is None:
        return None
    from onnxruntime import InferenceSession

    session = InferenceSession(place, providers=["CPUExecutionProvider"])
    return session.run(names, {name: values.numpy() for name, values in batch.items()})


def _difference(
    path: Path, names: list[str], answers: Sequence[np.ndarray], want: Sequence[np.ndarray], units: Sequence[Any]
) -> float:
    """Return by how much answers differ from those that are wanted, in their units.

    Raises
    ------
    RunError
        If it is more than rounding explains.
    """
    worst = 0.0
    for name, given, right, unit in zip(names, answers, want, units, strict=True):
        # Of numbers far from zero float32 keeps seven digits, however little they vary.
        apart = float((np.abs(given - right) / np.maximum(unit, _CLOSE * np.abs(right))).max())
        if not apart <= _CLOSE:
            raise RunError(
                str(path),
                expected=f"{name} that differ from the model's own by less than {_CLOSE:g}",
                found=f"{apart:.3g}",
                remedy=f"Nothing was written. {_other(path)}",
            )
        worst = max(worst, apart)
    return worst
