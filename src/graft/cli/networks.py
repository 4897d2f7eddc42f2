"""``graft backbones``: which pretrained networks can be used here and now."""

from __future__ import annotations

from dataclasses import asdict

from graft.cli.options import Json
from graft.cli.show import print_json, print_table


def backbones(*, json: Json = False) -> None:
    """List the pretrained networks that can be used here and now, without downloading anything."""
    from graft.backbones import available

    found = available()
    if json:
        print_json({"backbones": [asdict(entry) for entry in found]})
        return
    rows = [
        (
            entry.name,
            entry.modality,
            str(entry.feature_dim or ""),
            f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "",
            f"{entry.megabytes:.0f} MB",
            entry.license,
        )
        for entry in found
    ]
    print_table(("backbone", "inputs", "dim", "parameters", "size", "licence"), rows)
    print("Any timm or sentence-transformers name works too: downloaded once, from the hub.")
