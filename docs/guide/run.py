"""Run the code of the pages beside this file, and put what it prints under it: ``python docs/guide/run.py [PAGE ...]``.

The blocks of Python of a page share their names, an empty folder and an empty feature store. A block of text that
stands right behind one of them is what it printed: figures are those of the machine on which the page was last run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BLOCK = re.compile(r"(^```python\n(?P<code>.*?)^```\n)(?P<shown>\n```text\n.*?^```\n)?", re.M | re.S)


def executed(page: Path) -> str:
    """Return the text of a page with what its code prints today."""
    names: dict[str, object] = {"__name__": page.stem}

    def run(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(found["code"], page.name, "exec"), names)
        lines = "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())
        return found[1] + (f"\n```text\n{lines}```\n" if lines else "")

    text, before, store = page.read_text(encoding="utf-8"), Path.cwd(), os.environ.get("GRAFT_STORE")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as empty:
        os.environ["GRAFT_STORE"] = empty
        os.chdir(folder)
        try:
            return _BLOCK.sub(run, text)
        finally:
            os.chdir(before)
            del os.environ["GRAFT_STORE"]
            if store is not None:
                os.environ["GRAFT_STORE"] = store


if __name__ == "__main__":
    for page in [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.md")):
        page.write_text(executed(page), encoding="utf-8")
        print(page.name)
