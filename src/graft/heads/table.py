"""The type of a feature table."""

from __future__ import annotations

from typing import Any

# A dense array or a sparse matrix (n, d), told apart by scipy.sparse.issparse: scipy's classes carry no types.
Table = Any
