"""What can be wrong with texts and features: nothing in them, or nothing finite."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.data.check_report import Problem, problem
from graft.data.content import content_hash

_ROWS = 4096  # rows of a feature table that are looked at together, so that a mapped file stays on disk


def normalized(text: str) -> str:
    """Return a text without differences in case, white space or the way accents are encoded."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_faults(inputs: Any, names: Sequence[str]) -> tuple[list[bytes | None], list[Problem]]:
    """Return the digest of each text, its case and white space aside, and the problems."""
    digests: list[bytes | None] = []
    empty = []
    for text, name in zip(inputs, names, strict=True):
        plain = normalized(str(text)) if text is not None else ""
        if not plain:
            empty.append(name)
        digests.append(
            hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest() if plain else None
        )
    remedy = "Remove these rows: nothing can be learnt or predicted from an empty text."
    return digests, problem("empty text", empty, remedy, harmful=True)


def feature_faults(inputs: Any, names: Sequence[str]) -> tuple[list[bytes | None], list[Problem]]:
    """Return the digest of each row and the problems of rows and columns; rows that are not finite have no digest."""
    sparse = type(inputs).__module__.startswith("scipy.sparse")
    width = inputs.shape[1]
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    broken_columns = np.zeros(width, dtype=bool)
    digests: list[bytes | None] = []
    broken_rows, flat_rows = [], []
    for start in range(0, inputs.shape[0], _ROWS):
        block = inputs[start : start + _ROWS]
        values = block.toarray() if sparse else np.asarray(block)
        finite = np.isfinite(values)
        broken_columns |= ~finite.all(axis=0)
        low = np.minimum(low, np.where(finite, values, np.inf).min(axis=0))
        high = np.maximum(high, np.where(finite, values, -np.inf).max(axis=0))
        whole = finite.all(axis=1)
        flat = whole & (values == values[:, :1]).all(axis=1) if width > 1 else np.zeros(len(values), dtype=bool)
        broken_rows += [names[start + row] for row in np.flatnonzero(~whole).tolist()]
        flat_rows += [names[start + row] for row in np.flatnonzero(flat).tolist()]
        digests += [
            content_hash(values[row] + 0.0, modality="features") if whole[row] else None for row in range(len(values))
        ]
    columns = [f"column {column}" for column in np.flatnonzero(broken_columns)]
    constant = [f"column {column}" for column in np.flatnonzero(low >= high)]
    found = problem(
        "non-finite features",
        columns + broken_rows,
        "Fill in or remove missing and infinite values: a head can be fitted to finite numbers only.",
        harmful=True,
    )
    found += problem("constant column", constant, "Remove it: it says nothing about any label.", harmful=False)
    found += problem("constant row", flat_rows, "See whether these rows were ever measured.", harmful=False)
    return digests, found
