"""Some rows of a table at a time, whatever its format, as any format can write them.

Each kind of chunk keeps its rows as they came, so that a table written in its own format loses
nothing: numbers as written in JSON, types in Parquet, bytes that are no UTF-8 in CSV.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeml.data.tables import NOT_A_NUMBER
from edgeml.data.text_lines import parse_object
from edgeml.errors import DataError, EdgemlError, InputError

Text = str | EdgemlError

_BATCH_ROWS = 4096


class Chunk(Protocol):
    """Rows of a table, and the text of each or why it has none."""

    @property
    def texts(self) -> Sequence[Text]:
        """One a row."""
        ...

    def cells(self) -> list[list[str]]:
        """Return every value as text, row by row; nothing stands for a missing one."""
        ...

    def objects(self) -> list[str]:
        """Return each row as a JSON object."""
        ...

    def arrays(self) -> Mapping[str, Any]:
        """Return each column as an Arrow array."""
        ...


@dataclass(frozen=True, kw_only=True)
class CellChunk:
    """Rows of comma- or tab-separated text, each as long as ``columns``."""

    columns: Sequence[str]
    rows: list[list[str]]
    texts: Sequence[Text]

    def cells(self) -> list[list[str]]:
        """Return the rows."""
        return self.rows

    def objects(self) -> list[str]:
        """Return each row as a JSON object of texts."""
        return [
            json.dumps(dict(zip(self.columns, map(_valid, row), strict=True)), ensure_ascii=False)
            for row in self.rows
        ]

    def arrays(self) -> Mapping[str, Any]:
        """Return each column as text."""
        return _text_arrays(self.columns, self.rows)


@dataclass(frozen=True, kw_only=True)
class LineChunk:
    """Lines of JSON objects; None for a line that is none."""

    columns: Sequence[str]
    lines: list[str | None]
    texts: Sequence[Text]

    def cells(self) -> list[list[str]]:
        """Return the values of each object as text, lists and objects as JSON."""
        rows = []
        for line in self.lines:
            value = {} if line is None else parse_object(0, line.encode(), as_written=True)
            rows.append([_valid(_cell(value.get(name))) for name in self.columns])
        return rows

    def objects(self) -> list[str]:
        """Return the lines as they are."""
        return ["{}" if line is None else line for line in self.lines]

    def arrays(self) -> Mapping[str, Any]:
        """Return each column as text, nothing where it is missing."""
        return _text_arrays(self.columns, self.cells())


@dataclass(frozen=True, kw_only=True)
class BatchChunk:
    """Rows of a Parquet file."""

    batch: Any
    texts: Sequence[Text]

    def cells(self) -> list[list[str]]:
        """Return the values as text, lists and structures as JSON."""
        columns = [self._column(index) for index in range(self.batch.num_columns)]
        return [list(row) for row in zip(*columns, strict=True)]

    def objects(self) -> list[str]:
        """Return each row as a JSON object; what JSON has no word for becomes text."""
        names = self.batch.schema.names
        columns = [_values(self.batch.column(name), name) for name in names]
        rows = zip(*columns, strict=True)
        return [_dumps(dict(zip(names, row, strict=True))) for row in rows]

    def arrays(self) -> Mapping[str, Any]:
        """Return the columns as they are."""
        return dict(zip(self.batch.schema.names, self.batch.columns, strict=True))

    def _column(self, index: int) -> list[str]:
        column = self.batch.column(index)
        values = arrow_texts(column, 0)
        if values is None or any(isinstance(value, EdgemlError) for value in values):
            return [_cell(value) for value in _values(column, self.batch.schema.names[index])]
        return ["" if value is None else str(value) for value in values]


def _values(column: Any, name: str) -> list[Any]:
    """Return an Arrow column as values that JSON has, or that :func:`_dumps` has a word for."""
    arrow: Any = importlib.import_module("pyarrow")
    if arrow.types.is_temporal(column.type) or arrow.types.is_string(column.type):
        texts = arrow_texts(column, 0)  # Python's own dates have no nanoseconds
        if texts is not None and not any(isinstance(text, EdgemlError) for text in texts):
            return list(texts)
    try:
        if arrow.types.is_string(column.type):
            column = column.cast(arrow.binary())
        return list(column.to_pylist())
    except (ValueError, arrow.ArrowException) as exc:
        reason = f"its values cannot be written in this format ({exc}); choose .parquet for --out"
        raise DataError(source=f"the column '{name}'", reason=reason) from exc


def cell_text(line: int, row: Sequence[str], place: int, width: int) -> Text:
    """Return the text of a row, or why it has none.

    Args:
        line: The line on which the row starts.
        row: Its fields; bytes that were no UTF-8 are escaped.
        place: Which of them is the text.
        width: How many there should be.
    """
    if len(row) != width:
        fault = "too many" if len(row) > width else "too few"
        return InputError(
            f"line {line} has {len(row)} fields, {fault}: the header has {width}; put fields that "
            "hold the delimiter into quotes, or mend the line"
        )
    text = row[place]
    escaped = next((char for char in text if "\udc80" <= char <= "\udcff"), None)
    if escaped is not None:
        return InputError(
            f"byte 0x{ord(escaped) - 0xDC00:02x} in the row that starts in line {line} is not "
            "UTF-8; text in UTF-8 was expected; convert it, such as with 'iconv -f latin1 -t utf-8'"
        )
    return text


def batch_chunks(path: Path, text: str) -> Iterator[BatchChunk]:
    """Read a Parquet file.

    Args:
        path: The file.
        text: Its column of texts.

    Raises:
        DataError: It is damaged.
    """
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    start = 0
    try:
        with parquet.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                found = arrow_texts(batch.column(text), start) or []
                texts = [
                    _missing(row, text) if one is None else one
                    for row, one in enumerate(found, start=start + 1)
                ]
                start += batch.num_rows
                if texts:
                    yield BatchChunk(batch=batch, texts=texts)
    except (arrow.ArrowException, OSError) as exc:
        reason = f"this Parquet file is damaged ({exc}); make it or fetch it again"
        raise DataError(source=str(path), reason=reason) from exc


def _missing(row: int, column: str) -> InputError:
    return InputError(
        f"row {row} has no value in '{column}'; a text was expected; fill it in or remove the row"
    )


def arrow_texts(column: Any, start: int) -> list[str | EdgemlError | None] | None:
    """Return an Arrow column as text; None where its type has none.

    Args:
        column: The array.
        start: Rows of the table before it, for messages.

    Returns:
        A text a row: None for a missing value, which NaN is too, an error for one that is no
        Unicode.
    """
    arrow: Any = importlib.import_module("pyarrow")
    try:
        values = column.cast(arrow.string()).to_pylist()
    except arrow.ArrowNotImplementedError:
        return None
    except (arrow.ArrowException, UnicodeDecodeError):
        return [_arrow_text(column[row], start + row + 1) for row in range(len(column))]
    if arrow.types.is_floating(column.type):
        return [None if value in NOT_A_NUMBER else value for value in values]
    return list(values)


def _arrow_text(value: Any, row: int) -> str | EdgemlError | None:
    arrow: Any = importlib.import_module("pyarrow")
    try:
        text = value.cast(arrow.string()).as_py()
    except (arrow.ArrowException, UnicodeDecodeError) as exc:
        return InputError(f"row {row} holds no text ({exc}); text in UTF-8 was expected; mend it")
    return None if text is None else str(text)


def _text_arrays(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Mapping[str, Any]:
    arrow: Any = importlib.import_module("pyarrow")
    return {
        name: arrow.array([_valid(row[index]) for row in rows], arrow.string())
        for index, name in enumerate(columns)
    }


def _valid(text: str) -> str:
    """Return a text in which what is no Unicode is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)
    return text


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return _word(value)
    return value if isinstance(value, str) else _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, default=_word)


def _word(value: Any) -> str:
    """Return what stands in JSON for a value that it does not have; bytes may be no text."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _plain(value: Any) -> Any:
    """Return a value without numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
