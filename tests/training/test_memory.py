"""Freed memory is kept while a training runs, and given back afterwards."""

import ctypes
import json
import subprocess
import sys

import pytest

# In a process of its own: where else memory is free decides what a block of it costs.
MEASURED = """
import ctypes, json, resource
import torch
from graft.training.memory import freed_memory_kept

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size, on every machine

def faults():
    "Pages that the system hands out while 64 MiB are filled and dropped, again and again."
    for _ in range(8):  # until the heap has settled: a small block behind the large one moves that a few times
        torch.ones(16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    "MiB that the process holds, in memory or moved out of it where others need it."
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmSwap:"))) / 1024

told = {"without": faults()}
with freed_memory_kept():
    with freed_memory_kept():
        told["within both"] = faults()
    told["within one"] = faults()
    told["held"] = held()
told["held after"] = held()
try:
    with freed_memory_kept():
        torch.ones(16 << 20)
        told["held before an error"] = held()
        raise ValueError
except ValueError:
    told["held after an error"] = held()
print(json.dumps(told))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc is told"
)
def test_memory_is_kept_until_the_last_block_ends():
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert max(told["within both"], told["within one"]) < told["without"] / 10
    assert told["held after"] < told["held"] - 32
    assert told["held after an error"] < told["held before an error"] - 32
