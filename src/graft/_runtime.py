"""Where the work runs, in which precision and from which seed: device, threads, generators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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

    Of several processes that ``torchrun`` started on a machine, each has a CUDA device of its own, unless `name` has
    a number.

    Raises
    ------
    RequestError
        If the device does not exist on this machine.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return _own_cuda()
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = str(name).split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(key for key, there in available.items() if there)
        raise RequestError(
            "device", expected=f"one of {usable}", found=repr(name), remedy="Pass device=None to choose."
        )
    return _own_cuda() if str(name) == "cuda" else torch.device(name)


def _own_cuda() -> torch.device:
    import torch

    place = os.environ.get("LOCAL_RANK")
    return torch.device("cuda" if place is None else f"cuda:{int(place) % torch.cuda.device_count()}")


def require_one_process(what: str) -> None:
    """Refuse what measures time and decides by it where ``torchrun`` started several processes: each would by its own.

    Raises
    ------
    RequestError
        If there are several.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise RequestError(
            what,
            expected="one process",
            found=f"{count} that torchrun started",
            remedy="Run it alone first, and name the technique beside torchrun.",
        )


def generator(random_state: Any) -> np.random.Generator:
    """Return a NumPy generator from a seed: None, an int, a Generator, or scikit-learn's legacy RandomState."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**31 - 1))
    return np.random.default_rng(random_state)


def bfloat16_is_fast(where: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, so that it is faster than float32 there.

    x86 processors: AVX512-BF16 or AMX. CUDA: compute capability 8.0 and later. Elsewhere it would be emulated.
    """
    import torch

    if where.type == "cuda":
        return torch.cuda.get_device_capability(where)[0] >= 8
    if where.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # Private names of torch 2.4 and later; a build that lacks them simply stays in float32.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def processor() -> str:
    """Return what the arithmetic of this process depends on: torch's version and the vector units it uses."""
    import torch

    kind = torch.backends.cpu.get_cpu_capability()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no-cuda"
    return f"torch {torch.__version__}; {kind}; {card}"


@contextmanager
def threads_per_operation(count: int) -> Iterator[None]:
    """Let every operation of torch use `count` threads while the block runs, in threads that are started within it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
