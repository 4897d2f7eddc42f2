"""Freed memory is kept while a training runs, and given back afterwards."""

import ctypes
import json
import subprocess
import sys

import pytest

# In a process of its own: where else memory is free decides what a block of it costs.
MEASURED = """
import json, resource
import torch
from graft.training.memory import freed_memory_kept

def faults():
    "Pages that the system hands out while 64 MiB are filled and dropped, again and again."
    for _ in range(8):  # until the heap has settled: a small block behind the large one moves that a few times
        torch.ones(16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

told = {"without": faults()}
with freed_memory_kept():
    with freed_memory_kept():
        told["within both"] = faults()
    told["within one"] = faults()
    told["resident"] = resident()
told["resident after"] = resident()
try:
    with freed_memory_kept():
        torch.ones(16 << 20)
        told["resident"] = resident()
        raise ValueError
except ValueError:
    told["resident after an error"] = resident()
print(json.dumps(told))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc is told"
)
def test_memory_is_kept_until_the_last_block_ends():
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert max(told["within both"], told["within one"]) < told["without"] / 10
    assert max(told["resident after"], told["resident after an error"]) < told["resident"] - 32
