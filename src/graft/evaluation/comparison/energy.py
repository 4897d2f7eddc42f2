"""`EnergyMeter`: what the machine's own counters say that a piece of work took; None where there are none."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POWERCAP = Path("/sys/class/powercap")
# A whole processor package; its parts (cores, memory controller) would be counted twice.
_PACKAGE = re.compile(r"intel-rapl:\d+")
_NVML = ("libnvidia-ml.so.1", "nvml.dll")


class EnergyMeter:
    """Reads energy counters: RAPL for the processor, and NVML for a graphics card where the network computes. Final.

    Parameters
    ----------
    device : device, optional
        Where the network computes.
    powercap : Path
        Where the kernel shows the processor's counters (microjoules since some moment, which wrap around). Most systems
        let only the superuser read them.

    Examples
    --------
    >>> from graft.evaluation.comparison.energy import EnergyMeter
    >>> meter = EnergyMeter()
    >>> meter.joules_since(meter.reading()) is None or meter.sources != ()
    True
    """

    def __init__(self, device: Any = None, *, powercap: Path = _POWERCAP) -> None:
        self._packages = _readable_packages(powercap)
        self._card = _card_counter(device) if device is not None and device.type == "cuda" else None
        self.sources = (*(("rapl",) if self._packages else ()), *(("nvml",) if self._card else ()))

    def reading(self) -> tuple[float, ...]:
        """Return the counters in joules."""
        values = [_microjoules(folder / "energy_uj") or 0 for folder in self._packages]
        return (*(value / 1e6 for value in values), *(() if self._card is None else (self._card(),)))

    def joules_since(self, before: tuple[float, ...]) -> float | None:
        """Return the joules since a reading, or None where nothing can be read."""
        if not self.sources:
            return None
        total = 0.0
        for place, (first, now) in enumerate(zip(before, self.reading(), strict=True)):
            gone = now - first
            if gone < 0 and place < len(self._packages):  # wrapped around
                gone += (_microjoules(self._packages[place] / "max_energy_range_uj") or 0) / 1e6
            total += max(0.0, gone)
        return total


def _readable_packages(powercap: Path) -> list[Path]:
    if not powercap.is_dir():
        return []
    folders = sorted(folder for folder in powercap.iterdir() if _PACKAGE.fullmatch(folder.name))
    return [folder for folder in folders if _microjoules(folder / "energy_uj") is not None]


def _microjoules(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _card_counter(device: Any) -> Callable[[], float] | None:
    """Return a function that reads the total energy of a card in joules, or None where its driver has no such counter.

    The card is found by its identifier: which cards a process sees, and in which order, the environment may say.
    """
    import torch

    library = next((loaded for name in _NVML if (loaded := _library(name)) is not None), None)
    if library is None or library.nvmlInit_v2() != 0:
        return None
    handle = ctypes.c_void_p()
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    if library.nvmlDeviceGetHandleByUUID(ctypes.c_char_p(name), ctypes.byref(handle)) != 0:
        return None
    millijoules = ctypes.c_ulonglong()

    def read() -> float:
        library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return millijoules.value / 1000

    failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != 0
    return None if failed else read


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
