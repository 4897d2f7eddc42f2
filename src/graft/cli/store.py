"""``graft store``: what the feature store holds, and how to clear it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from graft.cli.options import Json
from graft.cli.show import counted, print_json, print_table


def store(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept, instead of listing it.")] = False,
    backbone: Annotated[str | None, typer.Option(metavar="NAME", help="With --clear: of this network only.")] = None,
    json: Json = False,
) -> None:
    """List or clear the features, and the heads fitted on them, that are kept on disk.

    The variable GRAFT_STORE moves them to another folder.
    """
    from graft.backbones.store import FeatureStore

    kept = FeatureStore()
    freed = kept.clear(network=backbone) if clear else 0
    entries = kept.entries()
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
