"""Where the work runs and from which seed: device, threads, generators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.errors import RequestError

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Return the number of processor cores that this process may use (containers and affinity respected)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device(name: str | None = None) -> torch.device:
    """Return the device called `name`, or the best one here: CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    RequestError
        If the device does not exist on this machine.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = str(name).split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(key for key, there in available.items() if there)
        raise RequestError(
            "device", expected=f"one of {usable}", found=repr(name), remedy="Pass device=None to choose."
        )
    return torch.device(name)


def generator(random_state: Any) -> np.random.Generator:
    """Return a NumPy generator from a seed: None, an int, a Generator, or scikit-learn's legacy RandomState."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**31 - 1))
    return np.random.default_rng(random_state)
