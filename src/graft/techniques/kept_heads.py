"""Heads fitted on frozen features, kept in the feature store: the same head on the same examples is never fitted twice.

A head is found by the hash of everything that decides it: the features in their order, targets, weights and groups, the
head's class and options, the code of `graft.heads` and the libraries that it computes with. What is read is, bit for
bit, what was fitted.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from graft import _runtime, heads
from graft.backbones.store import FeatureStore
from graft.errors import RequestError, RunError
from graft.persistence import dismantle, pack, unpack

# A head that is fitted within this many seconds is not worth a file.
_WORTH_SECONDS = 0.05
# Types of labels whose text tells them apart.
_LABELS = (str, int, float, bool)
_LIBRARIES = ("graft-learn", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class KeptHeads:
    """Where the heads fitted on one network's features are kept.

    Parameters
    ----------
    store : FeatureStore or None
        None: every head is fitted.
    network : str
        Its name, by which the store lists and clears the heads.
    """

    store: FeatureStore | None = None
    network: str = ""

    def fit(self, head: Any, features: Any, targets: Any, *, sample_weight: Any = None, groups: Any = None) -> Any:
        """Return `head` fitted, or one that was fitted alike before.

        Parameters
        ----------
        head : head
            Not fitted yet. Heads of other classes than those of `graft.heads.HEADS` are fitted and not kept.
        features : array or sparse matrix (n, d)
            Those of the frozen network, or the user's own vectors.
        targets : array of shape (n,) or (n, outputs)
            As the head takes them.
        sample_weight, groups : array of shape (n,), optional
            Likewise.

        Returns
        -------
        head
        """
        store = self.store if self.store is not None and self.store.keep_heads else None
        key = None if store is None else head_key(head, features, targets, sample_weight, groups)
        if store is None or key is None:
            return head.fit(features, targets, sample_weight=sample_weight, groups=groups)
        content = store.head(key)
        if content is not None:
            try:
                return unpack(content, _classes())
            except RunError:
                pass  # damaged: it is fitted again, and the file replaced
        started = time.perf_counter()
        fitted = head.fit(features, targets, sample_weight=sample_weight, groups=groups)
        if time.perf_counter() - started >= _WORTH_SECONDS:
            store.keep_head(key, pack(fitted, {"network": self.network}))
        return fitted


def head_key(head: Any, features: Any, targets: Any, sample_weight: Any, groups: Any) -> str | None:
    """Return the hash of everything that decides a fitted head, 64 hexadecimal digits; None for what cannot be kept."""
    if type(head) not in _classes().values():
        return None
    arrays: dict[str, np.ndarray] = {}
    try:
        options = dismantle(head.get_params(deep=False), "options", arrays)
        data = (features, targets, sample_weight, groups, *(arrays[name] for name in sorted(arrays)))
        digests = [_digest(values) for values in data]
    except (RequestError, TypeError):
        return None
    facts = [type(head).__name__, options, sorted(arrays), digests, _software()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _digest(values: Any) -> str | None:
    """Return the hash of an array, dense or sparse.

    Raises
    ------
    TypeError
        If it holds objects that are neither text nor numbers.
    """
    if values is None:
        return None
    if sparse.issparse(values):
        table = values.tocsr()
        parts = [np.asarray(table.shape), table.indptr, table.indices, table.data]
        return f"{values.format} {' '.join(str(_digest(part)) for part in parts)}"
    array = np.asarray(values, order="C")
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}\0".encode())
    if array.dtype.kind == "O":
        cells = array.ravel().tolist()
        if not all(type(cell) in _LABELS for cell in cells):
            raise TypeError(f"objects other than {_LABELS}")
        found.update(repr(cells).encode("utf-8", "surrogatepass"))
    elif array.dtype.kind in "biufSUM":
        found.update(array.reshape(-1).view(np.uint8).data)
    else:
        raise TypeError(f"an array of {array.dtype}")
    return found.hexdigest()


@cache
def _classes() -> dict[str, type]:
    found = [heads.head_class(name, task) for task, names in heads.HEADS.items() for name in names]
    return {kind.__name__: kind for kind in found}


@cache
def _software() -> list[str]:
    """Return what fits: the versions of the libraries, and the hash of the code of the heads.

    Heads of other code are other heads, whatever the version says.
    """
    code = hashlib.sha256()
    for path in (*sorted(Path(str(heads.__file__)).parent.glob("*.py")), Path(str(_runtime.__file__))):
        code.update(path.read_bytes() if path.is_file() else b"")
    return [*(f"{name} {version(name)}" for name in _LIBRARIES), code.hexdigest()]
