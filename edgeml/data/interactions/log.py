"""A log as it was read: ids as text, every declared column, rows in the order of time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.reading import as_numbers, as_text, as_times, read_columns
from edgeml.data.interactions.schema import Column, Schema, SideTable
from edgeml.errors import DataError

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class RawColumn:
    """A declared feature: texts for categories, float64 for numbers and dates (in days)."""

    column: Column
    values: npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """Users or items with their features: ids and columns of the same length."""

    ids: Texts
    columns: tuple[RawColumn, ...]


@dataclass(frozen=True, kw_only=True)
class InteractionLog:
    """Rows in the order of time.

    Attributes:
        name: The data set or file.
        schema: What its columns mean.
        users: Text ``(rows,)``.
        items: Text ``(rows,)``.
        times_ms: int64 ``(rows,)``, ascending.
        positive: bool ``(rows,)``.
        signals: Name to float32 ``(rows,)``; NaN where not observed.
        context: What is known when an item is asked for, a row each.
        user_table: Features of users, or None.
        item_table: Features of items, or None.
        source: Where it came from, with hashes.
        notes: What was mended while reading, each a sentence.
    """

    name: str
    schema: Schema
    users: Texts
    items: Texts
    times_ms: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    signals: Mapping[str, npt.NDArray[np.float32]]
    context: tuple[RawColumn, ...] = ()
    user_table: RawTable | None = None
    item_table: RawTable | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.users)

    def fingerprint(self) -> str:
        """Return a hash of the rows, whatever file they came from."""
        digest = hashlib.sha256()
        for column in (self.users, self.items):
            digest.update("\n".join(column.tolist()).encode())
        digest.update(self.times_ms.tobytes())
        digest.update(self.positive.tobytes())
        return digest.hexdigest()


def read_log(
    paths: list[Path], schema: Schema, *, name: str, source: Mapping[str, Any] | None = None
) -> InteractionLog:
    """Read a log by its schema.

    Args:
        paths: Files of the same columns, read one after the other.
        schema: What the columns mean.
        name: For messages and reports.
        source: Where it came from; None describes the files.

    Raises:
        DataError: A column is missing, an id is missing, a value is no number or time, or nothing
            is left.
    """
    names = [column.column for column in schema.columns]
    ids = [schema.one(role).column for role in ("user", "item")]
    tables = [read_columns(path, names, text=ids) for path in paths]
    where = str(paths[0])
    read = [_columns(table, schema, source=where) for table in tables]
    joined = {key: np.concatenate([part[key] for part in read]) for key in read[0]}
    notes: list[str] = []
    keep = _with_ids(joined, schema, where, notes)
    order = np.argsort(joined["time"][keep], kind="stable")
    moved = int((np.diff(joined["time"][keep]) < 0).sum())
    if moved:
        notes.append(f"{moved} rows were older than the row before: rows are sorted by time")
    rows = keep[order]
    if schema.repeated == "first":
        rows = _first_of_pairs(joined["user"][rows], joined["item"][rows], rows, notes)
    signals = {
        column.name: (joined[column.column][rows] * column.scale).astype(np.float32)
        for column in schema.of_role("signal")
    }
    return InteractionLog(
        name=name,
        schema=schema,
        users=joined["user"][rows],
        items=joined["item"][rows],
        times_ms=joined["time"][rows],
        positive=_positive(schema, signals, len(rows), where),
        signals=signals,
        context=_features(joined, schema, ("context",), rows),
        user_table=_side_of(schema, "user", joined, rows),
        item_table=_side_of(schema, "item", joined, rows),
        source=source or {"files": {str(path): _sha256(path) for path in paths}},
        notes=tuple(notes),
    )


def _columns(table: Any, schema: Schema, *, source: str) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of one file: user, item, time, and the others by their own names."""
    found: dict[str, npt.NDArray[Any]] = {}
    for column in schema.columns:
        values = table[column.column]
        if column.role in ("user", "item"):
            found[column.role] = as_text(values)
        elif column.role == "time":
            found["time"] = as_times(values, source=source, name=column.column, unit=column.unit)
        else:
            found[column.column] = _feature(values, column, source)
    return found


def _feature(values: Any, column: Column, source: str) -> npt.NDArray[Any]:
    if column.kind in ("category", "hashed"):
        return as_text(values)
    if column.kind == "date":
        known = (
            values.fill_null(0)
            if values.null_count and "date" not in str(values.type)
            else (values.drop_null() if values.null_count else values)
        )
        days = as_times(known, source=source, name=column.column, unit=column.unit) / 86_400_000
        if len(days) == len(values):
            return np.asarray(days, dtype=np.float64)
        full = np.full(len(values), np.nan)
        full[np.asarray(values.is_valid().to_numpy(), dtype=bool)] = days
        return full
    return as_numbers(values, source=source, name=column.column)


def _with_ids(
    joined: Mapping[str, npt.NDArray[Any]], schema: Schema, source: str, notes: list[str]
) -> npt.NDArray[np.int64]:
    """Return the rows that name a user and an item, as the schema says of the others."""
    if not len(joined["user"]):
        raise DataError(source=source, reason="the log has no rows; a log with rows was expected")
    missing = _missing(joined["user"]) | _missing(joined["item"])
    count = int(missing.sum())
    if count and schema.missing_ids == "refuse":
        row = int(np.flatnonzero(missing)[0]) + 1
        reason = (
            f"{count} rows have no user or no item id, first row {row}; mend them, or write "
            "'missing_ids: drop' in the schema"
        )
        raise DataError(source=source, reason=reason)
    if count:
        notes.append(f"{count} rows without a user or an item id were dropped")
    if count == len(missing):
        raise DataError(source=source, reason="no row has both a user and an item id")
    return np.flatnonzero(~missing)


def _missing(texts: Texts) -> npt.NDArray[np.bool_]:
    return np.fromiter((text is None for text in texts), dtype=bool, count=len(texts))


def _first_of_pairs(
    users: Texts, items: Texts, rows: npt.NDArray[np.int64], notes: list[str]
) -> npt.NDArray[np.int64]:
    seen: set[tuple[str, str]] = set()
    first = np.zeros(len(rows), dtype=bool)
    for index, pair in enumerate(zip(users, items, strict=True)):
        if pair not in seen:
            seen.add(pair)
            first[index] = True
    if not first.all():
        notes.append(f"{int((~first).sum())} later rows of a user and an item were dropped")
    return rows[first]


def _positive(
    schema: Schema, signals: Mapping[str, npt.NDArray[np.float32]], rows: int, source: str
) -> npt.NDArray[np.bool_]:
    if not schema.positive_signal:
        return np.ones(rows, dtype=bool)
    values = signals[schema.positive_signal]
    missing = int(np.isnan(values).sum())
    if missing:
        reason = f"the positive signal '{schema.positive_signal}' is missing in {missing} rows"
        raise DataError(source=source, reason=f"{reason}; a number in each was expected; mend them")
    positive: npt.NDArray[np.bool_] = values >= schema.positive_at_least
    if not positive.any():
        reason = (
            f"no row has '{schema.positive_signal}' of at least {schema.positive_at_least:g}; "
            "some positive rows were expected; look at 'positive' in the schema"
        )
        raise DataError(source=source, reason=reason)
    return positive


def _features(
    joined: Mapping[str, npt.NDArray[Any]],
    schema: Schema,
    roles: tuple[str, ...],
    rows: npt.NDArray[np.int64],
) -> tuple[RawColumn, ...]:
    return tuple(
        RawColumn(column=column, values=joined[column.column][rows])
        for column in schema.columns
        if column.role in roles
    )


def _side_of(
    schema: Schema, side: str, joined: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]
) -> RawTable | None:
    """Return the features of users or items: of their table, or of the log's own columns."""
    declared = schema.users if side == "user" else schema.items
    inline = _features(joined, schema, (f"{side} feature",), rows)
    if declared is not None and inline:
        reason = f"{side} features are declared both in a table and in the log; declare one of them"
        raise DataError(source=declared.file, reason=reason)
    if declared is not None:
        return _read_side(declared)
    if not inline:
        return None
    # The log repeats them in every row: what a row first said of an id is what holds.
    ids, first = np.unique(joined[side][rows].astype(str), return_index=True)
    columns = tuple(RawColumn(column=raw.column, values=raw.values[first]) for raw in inline)
    return RawTable(ids=ids.astype(object), columns=columns)


def _read_side(table: SideTable) -> RawTable:
    names = [column.column for column in table.columns]
    read = read_columns(table.file, [table.key, *names], text=[table.key])
    ids = as_text(read[table.key])
    if _missing(ids).any():
        row = int(np.flatnonzero(_missing(ids))[0]) + 1
        raise DataError(source=table.file, reason=f"row {row} has no '{table.key}'; mend it")
    values, counts = np.unique(ids.astype(str), return_counts=True)
    if (counts > 1).any():
        reason = (
            f"the {table.key} '{values[counts > 1][0]}' stands in {counts.max()} rows "
            f"({int((counts > 1).sum())} such ids); one row an id was expected; remove the others"
        )
        raise DataError(source=table.file, reason=reason)
    columns = tuple(
        RawColumn(column=column, values=_feature(read[column.column], column, table.file))
        for column in table.columns
    )
    return RawTable(ids=ids, columns=columns)


def _sha256(path: Path) -> str:
    from edgeml.core.files import sha256_of

    return sha256_of(path) if path.is_file() else ""
