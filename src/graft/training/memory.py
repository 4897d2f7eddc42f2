"""Memory that every step of a training asks for again, kept instead of given back to the system."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3): how much freed memory at the end of the heap goes back to the system, and from which
# size on a block is a mapping of its own, which goes back when it is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30
# What glibc lets both grow to by itself, on 64 bits, once a program has freed large blocks.
_USUAL = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}

_lock = threading.Lock()
_users = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep the memory that it frees while the block runs.

    The activations of a step are as large as those of the step before, but glibc gives large blocks back to the system
    when they are freed, and the system hands them out again page by page, each filled with zeros: a quarter of a step
    of EfficientNet-Lite0 on a processor. The most memory that is held at a time stays the same; what is free when the
    block ends is given back. Without effect where the allocator is not glibc's. Blocks may overlap, in any threads.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set({_MMAP_THRESHOLD: _KEPT, _TRIM_THRESHOLD: _KEPT})
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(_USUAL)
                _give_back()


def _set(values: dict[int, int]) -> None:
    mallopt = _function("mallopt")
    if mallopt is not None:
        for parameter, value in values.items():
            mallopt(parameter, value)


def _give_back() -> None:
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc, None elsewhere."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return getattr(library, name, None) if hasattr(library, "gnu_get_libc_version") else None
