"""Tables from files, as text: ``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``.

A table that cannot be read whole is refused with the line at fault; nothing is guessed, replaced or
left out. What the columns mean is for others to say.
"""

from __future__ import annotations

import codecs
import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeml._optional import require
from edgeml.data.delimited import Rows, comma_rows, tab_rows
from edgeml.errors import DataError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")

# UTF-32 goes first: the mark of UTF-16 is the beginning of its mark.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How Arrow writes the number that data frames put where a value is missing.
NOT_A_NUMBER = ("nan", "-nan")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of text.

    Attributes:
        source: The file, as the user named it.
        columns: Values by column in the file's order; None where there is no value.
        lines: Where each row starts: the number of its line, or of its row in a Parquet file.
        unit: What ``lines`` counts: ``line`` or ``row``.
        nested: Columns that hold something else than text and numbers, and what.
    """

    source: str
    columns: dict[str, list[str | None]]
    lines: Sequence[int]
    unit: str = "line"
    nested: Mapping[str, str] = field(default_factory=dict)


def read_table(path: Path, *, encoding: str | None = None) -> Table:
    """Read a table; numbers and truth values come as the text that stands for them.

    Args:
        path: A ``.csv`` (commas, semicolons or tabs), ``.tsv``, ``.parquet`` or ``.jsonl`` file;
            the first row of the first two names the columns.
        encoding: The encoding of its text; None for UTF-8, or UTF-16 and UTF-32 with a byte order
            mark. Parquet has its own.

    Raises:
        DataError: There is no such file, or it is not a whole table with at least one row.
        MissingExtraError: A Parquet file, and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    check_table_file(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    text = _decode(path, encoding)
    if suffix == ".jsonl":
        return _read_jsonl(path, text)
    rows = tab_rows(text) if suffix == ".tsv" else comma_rows(str(path), text)
    return _from_rows(path, rows)


def check_table_file(path: Path) -> None:
    """Refuse what is no file of a kind that holds a table.

    Args:
        path: The file.

    Raises:
        DataError: It is missing, a folder, a pipe, or has another suffix.
    """
    suffix = path.suffix.lower()
    known = ", ".join(SUFFIXES)
    if path.is_dir():
        reason = f"this is a folder; a table ({known}) was expected; name the file in it"
    elif not path.exists():
        reason = f"this file does not exist; a table ({known}) was expected; check the path"
    elif not path.is_file():  # a pipe, which would never end
        reason = f"this is not a regular file; a table ({known}) was expected; copy it to a file"
    elif suffix not in SUFFIXES:
        reason = f"the suffix '{suffix}' is not that of a table; {known} were expected; convert it"
    else:
        return
    raise DataError(source=str(path), reason=reason)


def _decode(path: Path, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        reason = f"this file cannot be read ({exc.strerror}); check its permissions"
        raise DataError(source=str(path), reason=reason) from exc
    name = encoding or next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(name)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        reason = (
            f"byte 0x{data[exc.start]:02x} in line {line} (byte {exc.start + 1} of the file) is "
            f"not {name}; text in {name} was expected; convert it, such as with 'iconv -f latin1 "
            "-t utf-8'"
        )
        raise DataError(source=str(path), reason=reason) from exc
    except (LookupError, ValueError) as exc:
        reason = f"{name!r} is not a text encoding; one such as utf-8 or latin1 was expected"
        raise DataError(source=str(path), reason=reason) from exc
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        reason = (
            f"line {line} holds a NUL character; text was expected; remove it, or name the "
            "encoding (utf-16-le and utf-16-be look like this without a byte order mark)"
        )
        raise DataError(source=str(path), reason=reason)
    return text.removeprefix("\ufeff")


def _from_rows(path: Path, rows: Rows) -> Table:
    if len(rows) < 2:
        found = "only one row" if rows else "nothing"
        raise _too_short(path, f"{found}; a header and at least one row were expected")
    names = [name.strip() for name in rows[0][1]]
    check_names(path, names)
    ragged = [(line, len(row)) for line, row in rows[1:] if len(row) != len(names)]
    if ragged:
        line, got = ragged[0]
        fault = "too many" if got > len(names) else "too few"
        reason = (
            f"line {line} has {got} fields, {fault}: the header has {len(names)} ({len(ragged)} "
            "such rows); put fields that hold the delimiter into quotes, or mend the line"
        )
        raise DataError(source=str(path), reason=reason)
    columns = zip(*(row for _, row in rows[1:]), strict=True)
    return Table(
        source=str(path),
        columns={name: list(column) for name, column in zip(names, columns, strict=True)},
        lines=[line for line, _ in rows[1:]],
    )


def _too_short(path: Path, what: str) -> DataError:
    return DataError(source=str(path), reason=f"this file holds {what}; add rows")


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse names of columns that are there twice.

    Raises:
        DataError: A name is.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        reason = (
            f"the column '{twice[0]}' is there more than once; each column once was expected; "
            "rename or remove it"
        )
        raise DataError(source=str(path), reason=reason)


def _read_jsonl(path: Path, text: str) -> Table:
    columns: dict[str, list[str | None]] = {}
    nested: dict[str, str] = {}
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        for name, value in _parse_object(path, number, line).items():
            if isinstance(value, list | dict):
                kind = "list" if isinstance(value, list) else "object"
                nested.setdefault(name, f"line {number} holds a JSON {kind}")
            column = columns.setdefault(name, [])
            column += [None] * (len(lines) - len(column))  # rows before that did not have it
            column.append(_json_text(value))
        lines.append(number)
    if not lines:
        raise _too_short(path, "nothing; one JSON object a line was expected")
    for column in columns.values():
        column += [None] * (len(lines) - len(column))
    flat = {name: column for name, column in columns.items() if name not in nested}
    return Table(source=str(path), columns=flat, lines=lines, nested=nested)


def _parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check_names(path, [name for name, _ in pairs])
        return dict(pairs)

    try:
        value = json.loads(
            line,
            object_pairs_hook=whole,
            parse_int=str,  # as it is written, however long
            parse_float=str,
            parse_constant=lambda _: None,  # NaN and infinity: no value
        )
    except DataError:
        raise
    except (ValueError, RecursionError) as exc:
        reason = f"line {number} is not JSON ({exc}); one object a line was expected; mend it"
        raise DataError(source=str(path), reason=reason) from exc
    if not isinstance(value, dict):
        reason = f'line {number} is not a JSON object; such as {{"text": …}} was expected; mend it'
        raise DataError(source=str(path), reason=reason)
    if "\\u" in line:  # the one way for what is no text to be in a decoded line
        for name, cell in value.items():
            if not _is_text(name) or (isinstance(cell, str) and not _is_text(cell)):
                reason = (
                    f"line {number} holds an escape in {name!r} that is no text (NUL or half a "
                    "character); Unicode text was expected; mend or remove it"
                )
                raise DataError(source=str(path), reason=reason)
    return value


def _json_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _read_parquet(path: Path) -> Table:
    require("pyarrow", extra="tables")
    # Looked up by name: the type checker need not have the package.
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(str(path)) as file:
            check_names(path, file.schema_arrow.names)
            table = file.read()
    except (arrow.ArrowException, OSError) as exc:
        reason = f"this is not a Parquet file that can be read ({exc}); make it or fetch it again"
        raise DataError(source=str(path), reason=reason) from exc
    if not table.num_rows:
        raise _too_short(path, "no row; at least one was expected")
    columns: dict[str, list[str | None]] = {}
    nested: dict[str, str] = {}
    for name in table.column_names:
        try:
            cells = table.column(name)
            texts = cells.cast(arrow.string()).to_pylist()
            if arrow.types.is_floating(cells.type):
                texts = [None if text in NOT_A_NUMBER else text for text in texts]
            columns[name] = texts
        except (arrow.ArrowException, UnicodeDecodeError):
            nested[name] = f"its type is {table.column(name).type}"
    for name, column in columns.items():
        for row, value in enumerate(column, start=1):
            if value is not None and "\0" in value:
                reason = (
                    f"row {row} holds a NUL character in '{name}'; text was expected; remove it"
                )
                raise DataError(source=str(path), reason=reason)
    rows = range(1, table.num_rows + 1)
    return Table(source=str(path), columns=columns, lines=rows, unit="row", nested=nested)
