"""`peak_memory`: the most that a piece of work held beyond what was held before it."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIB = 2.0**20
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SAMPLED_EVERY = 0.005  # seconds


@dataclass
class Peak:
    """What was held at most, in MiB; None while the work runs, and where this machine does not tell."""

    mib: float | None = None


@contextmanager
def peak_memory(device: Any = None) -> Iterator[Peak]:
    """Measure the block; yields a `Peak` that is filled in when the block ends, however it ends.

    On a CUDA device: ``torch.cuda.max_memory_allocated`` beyond what was allocated before. Elsewhere the resident
    memory of the process: what was freed is first given back to the system (glibc keeps it otherwise, and the next work
    would seem to need less), then the kernel's high-water mark is set back (Linux 4.0, ``/proc/self/clear_refs``);
    where that is not allowed, the resident memory is sampled. Where there is no ``/proc``, nothing is known.

    Parameters
    ----------
    device : device, optional
        Where the network computes.
    """
    peak = Peak()
    gc.collect()
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            torch.cuda.synchronize(device)
            peak.mib = (torch.cuda.max_memory_allocated(device) - before) / _MIB
        return
    _give_back()
    start = resident_mib()
    if start is None:
        yield peak
        return
    if _high_water_set_back():
        try:
            yield peak
        finally:
            peak.mib = max(0.0, (_stated("VmHWM") or start) - start)
        return
    seen, ended = [start], threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLED_EVERY):
            seen[0] = max(seen[0], resident_mib() or 0.0)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()
        peak.mib = max(seen[0], resident_mib() or 0.0) - start


def resident_mib() -> float | None:
    """Return the resident memory of this process in MiB, or None where the system does not tell."""
    return _stated("VmRSS")


def total_memory_gib() -> float | None:
    """Return the main memory of the machine in GiB, or None where the system does not tell."""
    found = _kibibytes(Path("/proc/meminfo"), "MemTotal")
    return None if found is None else round(found / 2**20, 1)


def _stated(name: str) -> float | None:
    found = _kibibytes(_STATUS, name)
    return None if found is None else found / 1024


def _kibibytes(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _high_water_set_back() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return
