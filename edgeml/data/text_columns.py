"""Which columns of a table are texts, labels and parts, and what stands in them.

The columns are named by the user or known by their names. A comma- or tab-separated file without a
header is read as text and label under one rule: it has two columns, neither has a known name, and
what stands second in the first row is also a label further down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeml.data.tables import Table
from edgeml.errors import DataError

TEXT_COLUMNS = (
    "text",
    "sentence",
    "content",
    "message",
    "review",
    "tweet",
    "query",
    "utterance",
    "body",
    "comment",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "category",
    "intent",
    "sentiment",
    "target",
    "rating",
)
PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}

_SPLIT_COLUMN = "split"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a table is to be read.

    Attributes:
        text_column: The column of texts, or None to look for one.
        label_column: The column of labels, or None to look for one.
        separator: What separates several labels of a text, or None where each has exactly one.
        headerless: Whether the first row is data too, or None to find out.
    """

    text_column: str | None = None
    label_column: str | None = None
    separator: str | None = None
    headerless: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """The columns of a table that matter, stripped and without gaps.

    Attributes:
        reading: The reading that gives the same columns again, here or in a table beside it.
        texts: The texts.
        labels: What stands in the label column.
        parts: train, validation or test by row, or None where the table does not say.
    """

    reading: Reading
    texts: list[str]
    labels: list[str]
    parts: list[str] | None = None


def read_rows(table: Table, reading: Reading, *, by_column: bool) -> TextRows:
    """Take texts, labels and parts out of a table.

    Args:
        table: The table.
        reading: How the user wants it read.
        by_column: Whether a column ``split`` says which part a row is in.

    Raises:
        DataError: A column is missing or ambiguous, a row has a gap or an unknown part.
    """
    if _lacks_header(table, reading) if reading.headerless is None else reading.headerless:
        return _read_headerless(table, reading)
    text = find_column(table, reading.text_column, TEXT_COLUMNS, "text")
    label = find_column(table, reading.label_column, LABEL_COLUMNS, "label")
    if text == label:
        reason = (
            f"the column '{text}' would be both text and label; two columns were expected; name "
            "them with --text-column and --label-column"
        )
        raise DataError(source=table.source, reason=reason)
    split = next((name for name in table.columns if name.casefold() == _SPLIT_COLUMN), None)
    by_column = by_column and split not in (None, text, label)
    return TextRows(
        reading=replace(reading, text_column=text, label_column=label, headerless=False),
        texts=_filled(table, table.columns[text], "text"),
        labels=_filled(table, table.columns[label], "label", optional=bool(reading.separator)),
        parts=_read_parts(table, split) if by_column and split is not None else None,
    )


def _lacks_header(table: Table, reading: Reading) -> bool:
    if Path(table.source).suffix.lower() not in (".csv", ".tsv") or len(table.columns) != 2:
        return False
    if reading.text_column is not None or reading.label_column is not None:
        return False
    second, values = list(table.columns.items())[1]
    if any(name.casefold() in (*TEXT_COLUMNS, *LABEL_COLUMNS) for name in table.columns):
        return False
    return second in {(value or "").strip() for value in values}


def _read_headerless(table: Table, reading: Reading) -> TextRows:
    if len(table.columns) != 2:
        reason = (
            f"the columns are {len(table.columns)}; two without a header were expected, as in the "
            "train table; make the tables alike"
        )
        raise DataError(source=table.source, reason=reason)
    whole = replace(table, lines=[1, *table.lines])
    (text, texts), (label, labels) = table.columns.items()
    return TextRows(
        reading=replace(reading, headerless=True),
        texts=_filled(whole, [text, *texts], "text"),
        labels=_filled(whole, [label, *labels], "label", optional=bool(reading.separator)),
    )


def find_column(table: Table, asked: str | None, known: Sequence[str], role: str) -> str:
    """Return the name of a column: the one asked for, or the first known one that is there.

    Args:
        table: The table; the values of its columns are not looked at.
        asked: The name that the user gave.
        known: Names that such columns have.
        role: What the column is for: ``text`` or ``label``.

    Raises:
        DataError: There is no such column, or it does not hold text.
    """
    spelled = {name.casefold(): name for name in (*table.nested, *table.columns)}
    spelled |= {name: name for name in (*table.nested, *table.columns)}
    wanted = known if asked is None else (asked, asked.casefold())
    found = next((spelled[name] for name in wanted if name in spelled), None)
    if found is None:
        columns = ", ".join(f"'{name}'" for name in (*table.columns, *table.nested))
        expected = f"'{asked}'" if asked is not None else f"one such as {', '.join(known[:4])}"
        reason = (
            f"no {role} column: the columns are {columns}; {expected} was expected; name it with "
            f"--{role}-column"
        )
        raise DataError(source=table.source, reason=reason)
    if found in table.nested:
        reason = (
            f"the {role} column '{found}' is not text ({table.nested[found]}); text or numbers "
            "were expected; write it as text, several labels with a separator between them"
        )
        raise DataError(source=table.source, reason=reason)
    return found


def _filled(
    table: Table, values: Sequence[str | None], role: str, *, optional: bool = False
) -> list[str]:
    stripped = [(value or "").strip() for value in values]
    empty = [line for line, value in zip(table.lines, stripped, strict=True) if not value]
    if empty and not optional:
        reason = (
            f"{len(empty)} of {len(stripped)} rows have no {role}, first in {table.unit} "
            f"{empty[0]}; a {role} in each row was expected; fill in or remove them"
        )
        raise DataError(source=table.source, reason=reason)
    return stripped


def _read_parts(table: Table, column: str) -> list[str]:
    parts: list[str] = []
    for line, value in zip(table.lines, table.columns[column], strict=True):
        part = PARTS.get((value or "").strip().casefold())
        if part is None:
            reason = (
                f"{table.unit} {line} has {value!r} in the column '{column}'; train, validation or "
                "test was expected; correct it or rename the column"
            )
            raise DataError(source=table.source, reason=reason)
        parts.append(part)
    return parts
