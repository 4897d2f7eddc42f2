"""Runs every benchmark, one process each: ``python -m bench``."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    for script in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        print(f"== {script.stem}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{script.stem}"], check=True)
