"""`read_delimited`: a CSV or TSV file as columns of strings, nothing guessed away and no row lost."""

from __future__ import annotations

import codecs
import csv
import io
import warnings
from typing import TYPE_CHECKING, Any

from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 28  # bytes: the longest row that can be read, and the piece that is parsed at a time


def read_delimited(path: str, *, tabs: bool) -> tuple[tuple[str, ...], list[pa.ChunkedArray]]:
    """Return the names and the columns, all strings: ``NA``, ``null``, ``007`` and ``1e5`` stay what was written.

    The first row names the columns. Quoted cells may hold delimiters and line breaks. The file is UTF-8 (a byte order
    mark is passed over) or UTF-16 with a byte order mark; anything else is read as Windows-1252, the superset of
    Latin-1 that spreadsheets write, with a warning, unless it cannot be that. A comma-separated file whose header
    holds no comma but semicolons or tabs is read with those.

    Raises
    ------
    DataError
        If the file is empty, binary or in another encoding, a column is named twice, or rows have another number of
        cells than the header.
    """
    data = _utf8(path)
    delimiter = "\t" if tabs else _delimiter(data)
    names = _header(data, delimiter, path)
    if not tabs:
        return names, _parse(data, names, delimiter, '"', path)
    # Many TSV files quote nothing, and a stray quote would swallow every row up to the next one.
    try:
        columns = _parse(data, names, delimiter, '"', path)
        swallowed = any(_holds_rows(column) for column in columns)
    except DataError:
        swallowed = True
    if swallowed:
        return _header(data, delimiter, path, quoting=csv.QUOTE_NONE), _parse(data, names, delimiter, False, path)
    return names, columns


def _utf8(path: str) -> bytes:
    """Return the text of a file in UTF-8 without a byte order mark."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise DataError(
            path,
            expected="a file that can be read",
            found=error.strerror or type(error).__name__,
            remedy="Check the path and its permissions.",
        ) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise _undecodable(path, data, error) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise DataError(
            path,
            expected="a text file",
            found="binary data (null characters)",
            remedy="Export it as CSV in UTF-8, or name a .parquet file so.",
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise _undecodable(path, data, error) from error
        warnings.warn(
            f"{path} is not UTF-8 (byte {error.start}); it is read as Windows-1252. Save it as UTF-8 to be sure.",
            UserWarning,
            stacklevel=2,
        )
        data = text.encode()
    if not data.strip():
        raise DataError(path, expected="a header row and data", found="an empty file", remedy="Export it again.")
    return data


def _undecodable(path: str, data: bytes, error: UnicodeDecodeError) -> DataError:
    line = data.count(b"\n", 0, error.start) + 1
    return DataError(
        path,
        expected="text in UTF-8",
        found=f"the byte 0x{data[error.start]:02x} in line {line}, which is neither UTF-8 nor Windows-1252",
        remedy="Save the file again as UTF-8.",
    )


def _delimiter(data: bytes) -> str:
    line = data.split(b"\n", 1)[0]
    return next((sign for sign in (",", ";", "\t") if sign.encode() in line), ",")


def _header(data: bytes, delimiter: str, path: str, quoting: Any = csv.QUOTE_MINIMAL) -> tuple[str, ...]:
    lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    try:
        names = next(row for row in csv.reader(lines, delimiter=delimiter, quoting=quoting) if row)
    except csv.Error as error:
        raise DataError(
            path, expected="a header row", found=str(error), remedy="Name the columns in the first row."
        ) from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            path,
            expected="every column named once",
            found=f"{twice[0]!r} twice",
            remedy="Name every column in the first row, each differently.",
        )
    return tuple(names)


def _parse(data: bytes, names: tuple[str, ...], delimiter: str, quote: str | bool, path: str) -> list[pa.ChunkedArray]:
    import pyarrow as pa
    from pyarrow import csv as arrow

    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip"  # to count them all; the file is refused below

    try:
        read = arrow.read_csv(
            pa.BufferReader(data),
            # Rows are numbered only on one thread.
            read_options=arrow.ReadOptions(use_threads=False, block_size=min(max(len(data), 1), _BLOCK)),
            parse_options=arrow.ParseOptions(
                delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote), invalid_row_handler=note
            ),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            path,
            expected="a table of delimited text",
            found=" ".join(str(error).split())[:120],
            remedy="Look for a quotation mark that is never closed, or export the file again.",
        ) from error
    if ragged:
        first = ragged[0]
        number = f"row {first.number}" if first.number is not None else "a row"
        raise DataError(
            path,
            expected=f"{first.expected_columns} cells in every row, as in the header",
            found=f"{first.actual_columns} in {number}" + (f" and {len(ragged) - 1} more rows" if ragged[1:] else ""),
            remedy=f"Quote cells that hold {'a tab' if delimiter == chr(9) else repr(delimiter)}, or mend those rows.",
        )
    return list(read.columns)


def _holds_rows(column: pa.ChunkedArray) -> bool:
    """Return whether a cell holds both a tab and a line break, as whole rows swallowed by a quotation mark do."""
    import pyarrow.compute as pc

    both = pc.and_(pc.match_substring(column, "\t"), pc.match_substring(column, "\n"))
    return bool(pc.any(both).as_py())
