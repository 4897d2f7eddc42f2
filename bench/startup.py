"""What it costs to start: ``graft --help`` and ``import graft``; ``python -m bench.startup``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench._real_data import write_results
from graft.cli.show import print_table

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import graft": [sys.executable, "-c", "import graft"],
    "graft --help": [str(Path(sys.executable).with_name("graft")), "--help"],
}


def main() -> None:
    seconds = {}
    for name, command in COMMANDS.items():
        runs = []
        for _ in range(10):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs.append(time.perf_counter() - started)
        seconds[name] = {"median": sorted(runs)[len(runs) // 2], "worst": max(runs)}
    rows = [(name, f"{found['median']:.3f}", f"{found['worst']:.3f}") for name, found in seconds.items()]
    print_table(("whole process", "median s", "worst s"), rows)
    print(write_results("startup", {"seconds": seconds}))


if __name__ == "__main__":
    main()
