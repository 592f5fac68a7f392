"""Tables too large for memory: found out about in one pass, and read in chunks in another.

The first pass finds what is wrong with the file as a whole (its quotes, its columns) before any
work is done on it. What is wrong with one row (too many fields, no JSON, bytes that are no UTF-8)
is that row's error in the second; it keeps its place. Dialects and columns are those of
:mod:`edgeml.data.tables`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.data.delimited import (
    Row,
    comma_delimiter,
    is_filled,
    literal_rows,
    strict_rows,
    tab_quotes_are_literal,
)
from edgeml.data.table_chunks import (
    CellChunk,
    Chunk,
    LineChunk,
    Text,
    arrow_texts,
    batch_chunks,
    cell_text,
)
from edgeml.data.tables import MARKS, Table, check_names, check_table_file
from edgeml.data.text_columns import TEXT_COLUMNS, find_column
from edgeml.data.text_lines import parse_object, read_lines, text_in
from edgeml.errors import DataError, InputError

# Characters of a line or a field: above what a text may have, and far below any memory.
_MOST_CHARACTERS = 64_000_000
_CHUNK_ROWS = 1024
_CHUNK_CHARACTERS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class TableStream:
    """A table that is read in chunks.

    Attributes:
        source: The file.
        columns: Names of its columns in their order.
        text_column: The one that holds the texts.
        num_rows: How many rows it has.
        chunks: Reads it from the start: every row once, in order, no chunk without a row.
        delimiter: What separates its fields; None where that is no matter.
        schema: The Arrow schema of a Parquet file.
    """

    source: Path
    columns: Sequence[str]
    text_column: str
    num_rows: int
    chunks: Callable[[], Iterator[Chunk]]
    delimiter: str | None = None
    schema: Any = None


def open_table_stream(path: Path, *, text_column: str | None = None) -> TableStream:
    """Look through a table once and return how to read it.

    Args:
        path: A ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file.
        text_column: The column of texts; None looks for one with a known name.

    Raises:
        DataError: There is no such file or column, it has no row, or its quotes do not match.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    check_table_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _open_parquet(path, text_column)
        if suffix == ".jsonl":
            return _open_jsonl(path, text_column)
        return _open_delimited(path, text_column)
    except PermissionError as exc:
        reason = f"this file cannot be read ({exc.strerror}); check its permissions"
        raise DataError(source=str(path), reason=reason) from exc


def _text_column(
    path: Path, asked: str | None, names: Iterable[str], nested: Mapping[str, str] | None = None
) -> str:
    nested = nested or {}
    columns: dict[str, list[str | None]] = {name: [] for name in names if name not in nested}
    table = Table(source=str(path), columns=columns, lines=(), nested=nested)
    return find_column(table, asked, TEXT_COLUMNS, "text")


def _check_unicode(path: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            reason = (
                f"the name of the column {name!r} is no text; Unicode was expected; convert the "
                "file to UTF-8, such as with 'iconv -f latin1 -t utf-8', or rename the column"
            )
            raise DataError(source=str(path), reason=reason) from exc


def _without_rows(path: Path) -> DataError:
    reason = "this file holds no row; a table with at least one was expected; add rows"
    return DataError(source=str(path), reason=reason)


def _open_delimited(path: Path, asked: str | None) -> TableStream:
    encoding = _encoding(path)

    def lines() -> Iterator[str]:
        return _bounded_lines(path, encoding)

    comma = path.suffix.lower() == ".csv"
    delimiter = comma_delimiter(lines, most=_MOST_CHARACTERS) if comma else "\t"
    literal = delimiter == "\t" and tab_quotes_are_literal(lines, most=_MOST_CHARACTERS)

    def rows() -> Iterator[Row]:
        read: Iterator[Row] = (
            literal_rows(lines())
            if literal
            else strict_rows(str(path), lines(), delimiter, most=_MOST_CHARACTERS)
        )
        header = next((row for row in read if is_filled(row[1])), None)
        if header is not None:
            yield header
            alone = len(header[1]) == 1
            # A quoted empty field is an empty text where it is the only one, and a blank line none.
            yield from (
                row for row in read if is_filled(row[1]) or (alone and not literal and row[1])
            )

    first = next(rows(), None)
    if first is None:
        raise _without_rows(path)
    columns = [name.strip() for name in first[1]]
    check_names(path, columns)
    _check_unicode(path, columns)
    text_column = _text_column(path, asked, columns)
    num_rows = sum(1 for _ in rows()) - 1
    if not num_rows:
        raise _without_rows(path)
    return TableStream(
        source=path,
        columns=columns,
        text_column=text_column,
        num_rows=num_rows,
        chunks=lambda: _cell_chunks(columns, text_column, rows()),
        delimiter=delimiter,
    )


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    name = next((name for mark, name in MARKS if start.startswith(mark)), "utf-8")
    return "utf-8-sig" if name == "utf-8" else name


def _bounded_lines(path: Path, encoding: str) -> Iterator[str]:
    """Read lines with their ends; bytes that are no UTF-8 become what writing turns back."""
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        number = 0
        try:
            while line := file.readline(_MOST_CHARACTERS + 1):
                number += 1
                if len(line) > _MOST_CHARACTERS:
                    reason = (
                        f"line {number} has more than {_MOST_CHARACTERS} characters; a row a line "
                        "was expected; check that this is a table"
                    )
                    raise DataError(source=str(path), reason=reason)
                yield line
        except UnicodeError as exc:
            reason = f"this file is not {encoding} as its first bytes say ({exc}); convert it"
            raise DataError(source=str(path), reason=reason) from exc


def _cell_chunks(columns: Sequence[str], text: str, rows: Iterator[Row]) -> Iterator[Chunk]:
    next(rows)  # the header
    place, width = columns.index(text), len(columns)
    kept: list[list[str]] = []
    texts: list[Text] = []
    size = 0
    for line, row in rows:
        texts.append(cell_text(line, row, place, width))
        kept.append((row + [""] * width)[:width])
        size += sum(map(len, row))
        if len(kept) == _CHUNK_ROWS or size > _CHUNK_CHARACTERS:
            yield CellChunk(columns=columns, rows=kept, texts=texts)
            kept, texts, size = [], [], 0
    if kept:
        yield CellChunk(columns=columns, rows=kept, texts=texts)


def _open_jsonl(path: Path, asked: str | None) -> TableStream:
    encoding = _encoding(path)
    if encoding != "utf-8-sig":
        reason = f"this file is {encoding}; JSON lines in UTF-8 were expected; convert it"
        raise DataError(source=str(path), reason=reason)
    columns: dict[str, None] = {}
    num_rows = 0
    for number, line in _filled_lines(path):
        num_rows += 1
        try:
            columns |= dict.fromkeys(parse_object(number, line, as_written=True))
        except InputError:
            continue  # the row's own error, in its place
    if not num_rows:
        raise _without_rows(path)
    _check_unicode(path, columns)
    text_column = _text_column(path, asked, columns)
    names = list(columns)
    return TableStream(
        source=path,
        columns=names,
        text_column=text_column,
        num_rows=num_rows,
        chunks=lambda: _line_chunks(names, text_column, _filled_lines(path)),
    )


def _filled_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    with path.open("rb") as file:
        yield from (row for row in read_lines(file) if row[1] is None or row[1].strip())


def _line_chunks(
    columns: Sequence[str], text: str, lines: Iterator[tuple[int, bytes | None]]
) -> Iterator[Chunk]:
    kept: list[str | None] = []
    texts: list[Text] = []
    size = 0
    for number, line in lines:
        try:
            value = parse_object(number, line, as_written=True)
        except InputError as exc:
            texts.append(exc)
            kept.append(None)
        else:
            kept.append((line or b"").decode().strip())
            texts.append(_object_text(number, value, text))
        size += len(line or b"")
        if len(kept) == _CHUNK_ROWS or size > _CHUNK_CHARACTERS:
            yield LineChunk(columns=columns, lines=kept, texts=texts)
            kept, texts, size = [], [], 0
    if kept:
        yield LineChunk(columns=columns, lines=kept, texts=texts)


def _object_text(number: int, value: dict[str, Any], key: str) -> Text:
    try:
        return text_in(number, value, key)
    except InputError as exc:
        return exc


def _open_parquet(path: Path, asked: str | None) -> TableStream:
    require("pyarrow", extra="tables")
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(str(path)) as file:
            schema, num_rows = file.schema_arrow, file.metadata.num_rows
    except (arrow.ArrowException, OSError) as exc:
        reason = f"this is not a Parquet file that can be read ({exc}); make it or fetch it again"
        raise DataError(source=str(path), reason=reason) from exc
    check_names(path, schema.names)
    if not num_rows:
        raise _without_rows(path)
    nested = {
        field.name: f"its type is {field.type}"
        for field in schema
        if arrow_texts(arrow.array([], field.type), 0) is None
    }
    text_column = _text_column(path, asked, schema.names, nested)
    return TableStream(
        source=path,
        columns=list(schema.names),
        text_column=text_column,
        num_rows=num_rows,
        chunks=lambda: batch_chunks(path, text_column),
        schema=schema,
    )
