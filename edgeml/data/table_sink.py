"""Tables with more columns than they came with, written in chunks, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from edgeml._optional import require
from edgeml.data.table_chunks import Chunk
from edgeml.data.table_stream import TableStream
from edgeml.data.tables import SUFFIXES
from edgeml.errors import DataError

# The added columns by name, and what is in them: str, float or bool.
Added = Mapping[str, type]

_GROUP_ROWS = 16_384
_GROUP_BYTES = 64 << 20


class Sink(Protocol):
    """Writes a table."""

    def write(self, chunk: Chunk, added: Sequence[Sequence[Any]]) -> None:
        """Append a chunk.

        Args:
            chunk: Rows as they were read.
            added: For each row the values of the added columns, None where there is none.
        """
        ...

    def close(self) -> None:
        """Write what is still held back, and the end of the file."""
        ...


def check_sink(source: Path, place: Path) -> None:
    """Refuse a place for a table before the work that would fill it.

    Args:
        source: The table that is read.
        place: Where the new one shall stand.

    Raises:
        DataError: Its suffix is no table's, it is the source itself, or it cannot be written.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    known = ", ".join(SUFFIXES)
    folder = place.absolute().parent
    if place.suffix.lower() not in SUFFIXES:
        reason = f"the suffix '{place.suffix}' is not that of a table; {known} were expected"
    elif place.exists() and place.samefile(source):
        reason = "this is the table that is read; another file was expected"
    elif place.exists() and not place.is_file():
        reason = f"this exists and is not a file; a table ({known}) or a new place was expected"
    elif not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = f"no file can be written in '{folder}'; a folder to write in was expected"
    else:
        if place.suffix.lower() == ".parquet":
            require("pyarrow", extra="tables")
        return
    raise DataError(source=str(place), reason=f"{reason}; choose another --out")


@contextlib.contextmanager
def open_sink(place: Path, table: TableStream, added: Added) -> Iterator[Sink]:
    """Yield what writes a table beside its place; it is put there if the block succeeds.

    Args:
        place: The file; its suffix names the format. One that is there is replaced at the end.
        table: The table whose chunks are written.
        added: Columns that each row gets beside its own.
    """
    place = place.absolute()
    staged = place.parent / f".{place.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    suffix = place.suffix.lower()
    try:
        if suffix == ".parquet":
            with contextlib.closing(_ParquetSink(staged, table, added)) as parquet:
                yield parquet
        else:
            # Bytes of a CSV that are no UTF-8 are written as they were read.
            with staged.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                if suffix == ".jsonl":
                    yield _LineSink(file, added)
                else:
                    same = suffix == table.source.suffix.lower() and table.delimiter
                    delimiter = same or ("\t" if suffix == ".tsv" else ",")
                    yield _CellSink(file, [*table.columns, *added], delimiter)
        with staged.open("rb") as whole:
            os.fsync(whole.fileno())
        staged.replace(place)
    finally:
        staged.unlink(missing_ok=True)


class _CellSink:
    """Text with delimiters after RFC 4180, except that a line feed alone ends a row."""

    def __init__(self, file: IO[str], columns: Sequence[str], delimiter: str) -> None:
        self._plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._quoted = csv.writer(
            file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        self._write([list(columns)])

    def write(self, chunk: Chunk, added: Sequence[Sequence[Any]]) -> None:
        rows = zip(chunk.cells(), added, strict=True)
        self._write([[*cells, *map(_cell, values)] for cells, values in rows])

    def close(self) -> None:
        """Do nothing: every row is written."""

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        for row in rows:
            # The module itself leaves a lone carriage return without the quotes that it needs.
            returns = any("\r" in cell for cell in row)
            (self._quoted if returns else self._plain).writerow(row)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _LineSink:
    """One JSON object a line: the row's own text, with keys appended."""

    def __init__(self, file: IO[str], added: Added) -> None:
        self._file = file
        self._names = tuple(added)

    def write(self, chunk: Chunk, added: Sequence[Sequence[Any]]) -> None:
        for line, values in zip(chunk.objects(), added, strict=True):
            more = json.dumps(
                dict(zip(self._names, values, strict=True)), ensure_ascii=False, allow_nan=False
            )
            own = line.rstrip()[:-1].rstrip()
            between = "" if own == "{" else ", "
            self._file.write(f"{own}{between}{more[1:]}\n")

    def close(self) -> None:
        """Do nothing: every row is written."""


class _ParquetSink:
    """A Parquet file in row groups; text for what came from a format without types."""

    def __init__(self, path: Path, table: TableStream, added: Added) -> None:
        self._arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow = self._arrow
        kinds = {str: arrow.string(), float: arrow.float64(), bool: arrow.bool_()}
        text = arrow.schema([arrow.field(name, arrow.string()) for name in table.columns])
        schema = text if table.schema is None else table.schema
        for name, kind in added.items():
            schema = schema.append(arrow.field(name, kinds[kind]))
        self._schema, self._names = schema, tuple(added)
        self._held: list[Any] = []
        self._writer = parquet.ParquetWriter(str(path), schema)

    def write(self, chunk: Chunk, added: Sequence[Sequence[Any]]) -> None:
        arrays = dict(chunk.arrays())
        for index, name in enumerate(self._names):
            kind = self._schema.field(name).type
            arrays[name] = self._arrow.array([values[index] for values in added], kind)
        columns = [arrays[name] for name in self._schema.names]
        self._held.append(self._arrow.Table.from_arrays(columns, schema=self._schema))
        rows = sum(table.num_rows for table in self._held)
        if rows >= _GROUP_ROWS or sum(table.nbytes for table in self._held) >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        try:
            self._write_group()
        finally:
            self._writer.close()

    def _write_group(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.concat_tables(self._held))
        self._held = []


def added_columns(table: TableStream, wanted: Mapping[str, type]) -> dict[str, type]:
    """Return the names under which columns can be added.

    Those of an answer go together: ``predicted_`` stands before each of them where the table has
    one of their names already.

    Args:
        table: The table.
        wanted: The columns, by the names that they have where they are free.

    Raises:
        DataError: The table has those names, too.
    """
    taken = set(table.columns)
    answer = [name for name in wanted if name in ("label", "score", "labels")]
    clash = {name for name in wanted if name in taken}
    clash |= set(answer) if clash & set(answer) else set()
    names = {name: f"predicted_{name}" if name in clash else name for name in wanted}
    twice = [name for name in names.values() if name in taken]
    if twice:
        reason = (
            f"the column '{twice[0]}' is there already, beside '{twice[0][10:]}'; names for what "
            "is predicted were expected to be free; rename or remove one"
        )
        raise DataError(source=str(table.source), reason=reason)
    return {names[name]: kind for name, kind in wanted.items()}
