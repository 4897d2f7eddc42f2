"""``graft embed``: features of every input, streamed to a Parquet file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.options import (
    Data,
    Image,
    ImageSize,
    Json,
    Label,
    Layer,
    Pooling,
    Strict,
    Text,
    chosen_layer,
    network_for,
    read_data,
)
from graft.cli.show import counted, input_cell, print_json
from graft.errors import DataError, RequestError, UnreadableInputsError

if TYPE_CHECKING:
    from graft.backbones import Backbone, Embedding
    from graft.data import Domain


def embed(
    data: Data,
    *,
    out: Annotated[str, typer.Option(metavar="PARQUET", help="The file to write.")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The pretrained network. Default: one for the data.")
    ] = None,
    text: Text = None,
    image: Image = None,
    label: Label = None,
    layer: Layer = None,
    pooling: Pooling = None,
    image_size: ImageSize = None,
    precision: Annotated[str, typer.Option(metavar="NAME", help="auto, float32 or bfloat16.")] = "auto",
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Write the features of every input of DATA to a Parquet file: columns row, input, label(s), features.

    The file is written as the features come, so that they need not fit into memory.
    """
    from graft.persistence import require_writable

    path = Path(out)
    if path.suffix != ".parquet":
        raise RequestError(
            "--out", expected="a file that ends in .parquet", found=repr(out), remedy=f"Pass --out {path.stem}.parquet."
        )
    require_writable(path)
    modality, domain = read_data(data, image=image, text=text, labels=label)
    network = network_for(modality, data, backbone, layer=chosen_layer(layer), pooling=pooling, image_size=image_size)
    if network is None:
        raise DataError(
            data,
            expected="images or texts",
            found="feature vectors, which are embedded already",
            remedy="Name the column with --image or --text.",
        )
    started = time.perf_counter()
    failures = _stream(path, domain, network, precision=precision, strict=strict)
    facts = {
        "features": str(path),
        "examples": domain.size - len(failures),
        "feature_dim": network.feature_dim,
        "backbone": network.name,
        "seconds": time.perf_counter() - started,
        "unreadable": [{"row": row, "input": source, "reason": reason} for row, source, reason in failures],
    }
    if json:
        print_json(facts)
        return
    print(f"{facts['examples']} inputs, {network.feature_dim} values each, in {facts['seconds']:.1f} s: {path}")
    if failures:
        print(f"{counted(len(failures), 'input')} could not be read, left out:")
        for _, source, reason in failures[:5]:
            print(f"  {source}: {reason}")


def _stream(
    path: Path, domain: Domain, network: Backbone, *, precision: str, strict: bool
) -> list[tuple[int, str, str]]:
    import pyarrow.parquet as pq

    from graft.backbones import iter_embed
    from graft.persistence import whole_file

    failures: list[tuple[int, str, str]] = []
    writer = None
    with whole_file(path) as partial:
        try:
            for part in iter_embed(network, domain.inputs, precision=precision):
                failures += part.failures
                if strict and failures:
                    raise UnreadableInputsError(failures, domain.size)
                if not len(part.rows):
                    continue
                table = _table(part, domain)
                writer = pq.ParquetWriter(partial, table.schema) if writer is None else writer
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise UnreadableInputsError(failures, domain.size)
    return failures


def _table(part: Embedding, domain: Domain) -> Any:
    import pyarrow as pa

    rows = part.rows
    columns = {
        "row": pa.array(rows, pa.int64()),
        "input": pa.array([input_cell(domain.inputs[row]) for row in rows], pa.string()),
    }
    if domain.labels is not None:
        labels = domain.labels if domain.labels.ndim == 2 else domain.labels[:, None]
        for place, name in enumerate(domain.tasks or ("label",)):
            # One type for the whole file, whichever part comes first: the strings, or the numbers as they are.
            values = labels[rows, place]
            cells = values if values.dtype.kind in "biuf" else [None if v is None else str(v) for v in values]
            columns[name] = pa.array(cells) if values.dtype.kind in "biuf" else pa.array(cells, pa.string())
    flat = pa.array(part.features.reshape(-1), pa.float32())
    columns["features"] = pa.FixedSizeListArray.from_arrays(flat, part.features.shape[1])
    return pa.table(columns)
