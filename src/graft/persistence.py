"""The folder of a saved run: ``model.safetensors``, ``config.json``, ``README.md``; whole or not at all, no pickle.

One value alone is one safetensors file (`pack`), its JSON in the header. This module knows arrays and JSON values, and
nothing of networks: what a run means is said by the technique that writes it. Anything that is not what was written is
refused when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graft.errors import GraftError, RequestError, RunError

FORMAT = 1
CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"
_MARK = "$"  # begins the key of a JSON object that stands for something JSON has no word for


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of a run folder: the configuration and the tensors by name."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]


def check_destination(folder: str | os.PathLike[str]) -> Path:
    """Return the path if a run can be written there: before the training, not after it.

    Raises
    ------
    RequestError
        If it is a file, a folder of something else than a run, or cannot be written to.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise RequestError(str(path), expected="a folder", found="a file", remedy="Name another folder for the run.")
    if path.is_dir() and any(path.iterdir()) and not (path / CONFIG).is_file():
        raise RequestError(
            str(path),
            expected="a new folder, an empty one or an earlier run",
            found="a folder with other files in it",
            remedy="Name another folder: a run replaces everything in its own.",
        )
    require_writable(path)
    return path


def require_writable(path: Path) -> None:
    """Check that a file or folder can be made at `path`: by making one beside it, because rights alone do not tell.

    Raises
    ------
    RequestError
        If none can.
    """
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".graft", dir=parent))
    except OSError as error:
        raise RequestError(
            str(path),
            expected="a place that can be written to",
            found=f"{error.strerror or error} in {parent}",
            remedy="Free some space there, or name a place of your own.",
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a file to write, and move it to `path` once it is whole; else nothing of it is left.

    Raises
    ------
    GraftError
        If the disk is full or fails.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise GraftError(
            str(path),
            expected="a disk that takes the file",
            found=error.strerror or str(error),
            remedy="Free some space or name another place; nothing was written.",
        ) from error
    finally:
        with suppress(OSError):  # nothing was begun where the folder is a file
            partial.unlink(missing_ok=True)


def write_run(
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    card: str,
    pages: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a run folder in one step: either all of it is there afterwards, or what was there before.

    Parameters
    ----------
    folder : path
        New, empty, or an earlier run, which is replaced.
    config : mapping
        JSON values. The format's version and the digests of both files are added.
    tensors : mapping of str to array
        Goes to ``model.safetensors``.
    card : str
        The model card, Markdown.
    pages : mapping of str to bytes, optional
        Further files by name, for people; they are not read again.

    Raises
    ------
    RequestError
        If the folder cannot take a run (see `check_destination`).
    GraftError
        If the disk is full or fails; nothing is left behind.
    """
    from safetensors.numpy import save

    path = check_destination(folder)
    partial = path.absolute().with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        content = save({name: np.array(value, order="C") for name, value in tensors.items()})
        (partial / TENSORS).write_bytes(content)
        (partial / CARD).write_text(card, encoding="utf-8")
        for name, page in (pages or {}).items():
            (partial / name).write_bytes(page)
        signed = {"format": FORMAT, **config, "sha256": hashlib.sha256(content).hexdigest()}
        signed["digest"] = _digest(signed)
        text = json.dumps(signed, indent=2, ensure_ascii=False, allow_nan=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        _replace(partial, path)
    except OSError as error:
        raise GraftError(
            str(path),
            expected="a disk that takes the run",
            found=error.strerror or str(error),
            remedy="Free some space or name another folder; nothing was written.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder.

    Raises
    ------
    RunError
        If it is not a run, was written by a newer version, or is not what was written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(folder)
    if not (path / CONFIG).is_file():
        found = "a folder without config.json" if path.is_dir() else "a file" if path.exists() else "no such folder"
        raise RunError(
            str(path),
            expected="the folder of a saved run",
            found=found,
            remedy="Name a folder that `graft fit --out` or `model.save` wrote.",
        )
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        version = config["format"]
        digest, expected = config["digest"], config["sha256"]
        content = (path / TENSORS).read_bytes()
    except (ValueError, KeyError, TypeError) as error:
        raise _not_as_written(path / CONFIG, "something else") from error
    except OSError as error:
        raise _not_as_written(path / TENSORS, error.strerror or str(error)) from error
    if not isinstance(version, int) or version > FORMAT:
        raise RunError(
            str(path),
            expected=f"run format {FORMAT} or older",
            found=f"format {version}, written by graft {config.get('versions', {}).get('graft', 'of a newer version')}",
            remedy="Install a newer version: pip install --upgrade graft-learn.",
        )
    if digest != _digest(config):
        raise _not_as_written(path / CONFIG, "a configuration that was changed afterwards")
    if hashlib.sha256(content).hexdigest() != expected:
        raise _not_as_written(path / TENSORS, "tensors with another SHA-256")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise _not_as_written(path / TENSORS, str(error)) from error
    return Run(path, config, tensors)


def dismantle(value: Any, name: str, tensors: dict[str, np.ndarray], *, leave_out: frozenset[str] = frozenset()) -> Any:
    """Return `value` as JSON values, its numeric arrays moved to `tensors` under names that begin with `name`.

    Taken are None, booleans, numbers, strings, arrays of numbers or of labels, lists, tuples, dicts with such values,
    records (dataclasses), and estimators of scikit-learn's conventions (parameters, and fitted attributes that end in
    an underscore, without those in `leave_out`).

    Raises
    ------
    RequestError
        If a value is of another kind.
    """

    def part(inner: Any, label: str) -> Any:
        return dismantle(inner, f"{name}.{label}", tensors, leave_out=leave_out)

    match value:
        case None | bool() | int() | str():
            return value
        case np.bool_() | np.integer() | np.floating():
            return part(value.item(), "value")
        case float():
            return value if math.isfinite(value) else {"$float": repr(value)}
        case np.ndarray() if value.dtype.kind in "biuf":
            tensors[name] = value
            return {"$tensor": name}
        case np.ndarray():
            kind = "str" if value.dtype.kind == "U" else "object"
            items = [part(item, str(index)) for index, item in enumerate(value.ravel().tolist())]
            return {"$array": items, "dtype": kind, "shape": list(value.shape)}
        case list():
            return [part(item, str(index)) for index, item in enumerate(value)]
        case tuple():
            return {"$tuple": [part(item, str(index)) for index, item in enumerate(value)]}
        case dict() if all(isinstance(key, str) and not key.startswith(_MARK) for key in value):
            return {key: part(item, key) for key, item in value.items()}
        case dict():
            pairs = [[part(key, f"{i}.key"), part(item, f"{i}.value")] for i, (key, item) in enumerate(value.items())]
            return {"$dict": pairs}
    if is_dataclass(value) and not isinstance(value, type):
        # Made again from its options, as an estimator that is not fitted.
        options = {one.name: part(getattr(value, one.name), one.name) for one in fields(value)}
        return {"$estimator": type(value).__name__, "params": options, "fitted": {}}
    if not callable(getattr(value, "get_params", None)):
        raise RequestError(
            name,
            expected="plain values, arrays, records or estimators",
            found=type(value).__name__,
            remedy="Such a value cannot be saved; pass one that can.",
        )
    params = value.get_params(deep=False)
    fitted = {key: item for key, item in vars(value).items() if key.endswith("_") and key not in leave_out}
    return {
        "$estimator": type(value).__name__,
        "params": {key: part(item, key) for key, item in params.items()},
        "fitted": {key: part(item, key) for key, item in fitted.items()},
    }


def assemble(plain: Any, tensors: Mapping[str, np.ndarray], classes: Mapping[str, type]) -> Any:
    """Return the value that `dismantle` took apart; estimators only of the `classes` given.

    Raises
    ------
    RunError
        If a tensor is missing or an estimator is not one of `classes`.
    """

    def part(inner: Any) -> Any:
        return assemble(inner, tensors, classes)

    match plain:
        case {"$float": text}:
            return float(text)
        case {"$tensor": name}:
            if name not in tensors:
                raise RunError("run", expected=f"a tensor {name!r}", found="none", remedy="Save the run again.")
            return tensors[name]
        case {"$array": items, "dtype": kind, "shape": shape}:
            values = np.empty(len(items), dtype=object)
            values[:] = [part(item) for item in items]
            return (values.astype(str) if kind == "str" else values).reshape(shape)
        case {"$tuple": items}:
            return tuple(part(item) for item in items)
        case {"$dict": pairs}:
            return {part(key): part(item) for key, item in pairs}
        case {"$estimator": kind, "params": params, "fitted": fitted}:
            if kind not in classes:
                raise RunError(
                    "run",
                    expected=f"one of {', '.join(sorted(classes))}",
                    found=repr(kind),
                    remedy=f"If {kind} is a class of your own, pass it: graft.load(run, classes=[{kind}]). Otherwise "
                    "install the version of Graft that wrote the run.",
                )
            estimator = classes[kind](**{key: part(item) for key, item in params.items()})
            for key, item in fitted.items():
                setattr(estimator, key, part(item))
            return estimator
        case dict():
            return {key: part(item) for key, item in plain.items()}
        case list():
            return [part(item) for item in plain]
    return plain


def pack(value: Any, facts: Mapping[str, str]) -> bytes:
    """Return a value that `dismantle` takes as the bytes of a safetensors file; its JSON and `facts` are the metadata.

    Raises
    ------
    RequestError
        If a part of the value is of another kind.
    """
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {}
    plain = json.dumps(dismantle(value, "value", tensors))
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(tensors, {**facts, "value": plain, "digest": _packed_digest(plain, tensors)})


def packed_facts(start: bytes) -> dict[str, str]:
    """Return the facts that `pack` was given, from the bytes of the file or its beginning.

    Raises
    ------
    ValueError
        If these are not the bytes of such a file.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 + length:
        raise ValueError(f"{len(start)} bytes of a header of {length}")
    header = json.loads(start[8 : 8 + length])
    return dict(header["__metadata__"]) if isinstance(header, dict) and "__metadata__" in header else {}


def unpack(content: bytes, classes: Mapping[str, type]) -> Any:
    """Return the value that `pack` made the bytes of; estimators only of the `classes` given.

    Raises
    ------
    RunError
        If these are not the bytes that were written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        facts = packed_facts(content)
        tensors = load(content)
        if facts["digest"] != _packed_digest(facts["value"], tensors):
            raise _not_as_written("a kept value", "another SHA-256")
        return assemble(json.loads(facts["value"]), tensors, classes)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _not_as_written("a kept value", str(error)) from error


def _packed_digest(plain: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(plain.encode())
    for name in sorted(tensors):
        digest.update(f"{name}\0{tensors[name].dtype.str}\0{tensors[name].shape}\0".encode())
        digest.update(tensors[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the configuration without its own digest, in canonical JSON."""
    rest = {key: value for key, value in config.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _not_as_written(file: Path | str, found: str) -> RunError:
    return RunError(
        str(file),
        expected="the file as it was saved",
        found=found,
        remedy="Copy the run again from where it was made, or fit anew; a run is never edited by hand.",
    )


def _replace(new: Path, path: Path) -> None:
    """Put the finished folder `new` at `path`; an earlier run there is removed only once the new one stands."""
    if not path.exists():
        os.replace(new, path)
        return
    old = new.with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
