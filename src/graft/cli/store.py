"""``graft store``: what the feature store holds, and how to clear it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from graft.cli.options import Json
from graft.cli.show import counted, print_json, print_table
from graft.errors import RequestError


def store(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept, instead of listing it.")] = False,
    backbone: Annotated[str | None, typer.Option(metavar="NAME", help="Of this network only.")] = None,
    json: Json = False,
) -> None:
    """List or clear the features, and the heads fitted on them, that are kept on disk.

    The variable GRAFT_STORE moves them to another folder.
    """
    from graft.backbones.store import FeatureStore

    kept = FeatureStore()
    known = {entry.network for entry in kept.entries()}
    if backbone is not None and backbone not in known:
        raise RequestError(
            "--backbone",
            expected=f"one of {', '.join(sorted(known))}, of which something is kept"
            if known
            else "features to be kept",
            found=f"{backbone!r}, of which nothing is",
            remedy="Leave out --backbone to see or clear everything.",
        )
    freed = kept.clear(network=backbone) if clear else 0
    entries = [entry for entry in kept.entries() if clear or backbone in (None, entry.network)]
    if json:
        print_json({"folder": str(kept.root), "freed_bytes": freed, "entries": [asdict(entry) for entry in entries]})
        return
    if clear:
        print(f"Freed {freed / 1e6:.1f} MB in {kept.root}.")
    if entries:
        rows = [
            (
                entry.network,
                entry.kind,
                "" if entry.kind == "heads" else "own" if entry.layer is None else ",".join(entry.layer),
                entry.precision,
                str(entry.rows),
                f"{entry.bytes / 1e6:.1f} MB",
            )
            for entry in entries
        ]
        print_table(("network", "kept", "layer", "precision", "number", "size"), rows)
    total = sum(entry.bytes for entry in entries)
    heads = sum(entry.rows for entry in entries if entry.kind == "heads")
    kinds = sum(entry.kind == "features" for entry in entries)
    print(f"{counted(kinds, 'kind')} of features and {counted(heads, 'head')}, {total / 1e6:.1f} MB, in {kept.root}")
