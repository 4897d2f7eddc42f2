"""``graft export``: a saved run as a file that runs without Graft."""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.options import Json, Run
from graft.cli.show import print_json, print_table


def export(
    run: Run,
    *,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The file to write: model.onnx, or model.pt2 for torch.export.")
    ],
    json: Json = False,
) -> None:
    """Write a saved run as one file that needs no Graft: network and heads in one graph, for ONNX or torch.

    Its inputs are what the network reads: pixels, tokens (the tokenizer is written beside it) or features; its outputs
    are probabilities or numbers. How inputs are prepared, and the classes, stand within the file. It is run on made-up
    inputs and compared with the run before it is moved to its place.
    """
    from graft.export import export_model
    from graft.techniques import load

    written = export_model(load(run), out)
    if json:
        print_json(written.to_dict())
        return
    print(f"Wrote {written.file} ({written.file.stat().st_size / 1e6:,.1f} MB).")
    rows = [
        (kind, name, " x ".join(map(str, shape)))
        for kind, shapes in (("input", written.inputs), ("output", written.outputs))
        for name, shape in shapes.items()
    ]
    print_table(("", "name", "shape"), rows)
    for place in written.beside:
        print(f"Beside it: {place}.")
    if written.difference is None:
        print("It was not run: onnxruntime is not installed.")
    else:
        print(f"On made-up inputs its answers differ from those of the run by {written.difference:.1g} at most.")
