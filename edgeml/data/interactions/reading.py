"""Columns of Parquet, CSV and TSV files as numpy: ids as text, numbers, times in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from edgeml.errors import DataError

_PARQUET = (".parquet", ".pq")
_TEXT = {".csv": "", ".tsv": "\t", ".txt": "\t", ".inter": "\t", ".user": "\t", ".item": "\t"}
# Before these, in the unit: no time stamp of a log is older than 1973 or newer than 2128.
_LARGEST = {"s": 5e9, "ms": 5e12, "us": 5e15, "ns": float("inf")}
_IN_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def read_columns(path: str | Path, names: Iterable[str], *, text: Iterable[str] = ()) -> Any:
    """Read some columns of a table.

    Args:
        path: A ``.parquet``, ``.csv`` or ``.tsv`` file, or a folder of Parquet files.
        names: Columns that must be there.
        text: Those of them that hold ids: kept as text, leading zeros and all.

    Returns:
        A pyarrow table with just these columns.

    Raises:
        DataError: The file is missing or damaged, of another kind, or lacks a column.
    """
    place, wanted = Path(path), list(dict.fromkeys(names))
    if not place.exists():
        reason = "there is no such file; a Parquet, CSV or TSV file was expected; check the path"
        raise DataError(source=str(place), reason=reason)
    try:
        if place.is_dir() or place.suffix in _PARQUET:
            table = pyarrow.parquet.read_table(place)
        else:
            table = _read_text(place, set(text))
    except (pyarrow.ArrowException, OSError, ValueError) as exc:
        if isinstance(exc, DataError):
            raise
        words = " ".join(str(exc).split())[:200]
        raise DataError(source=str(place), reason=f"it cannot be read ({words}); mend it") from exc
    have = table.column_names
    twice = [name for name in wanted if have.count(name) > 1]
    missing = [name for name in wanted if name not in have]
    if missing or twice:
        what = f"has no column '{missing[0]}'" if missing else f"has '{twice[0]}' twice"
        reason = f"it {what}, which the schema declares; it has {', '.join(have)}; mend the schema"
        raise DataError(source=str(place), reason=reason)
    return table.select(wanted)


def _read_text(path: Path, text: set[str]) -> Any:
    delimiter = _TEXT.get(path.suffix.lower())
    if delimiter is None:
        known = ", ".join((*_PARQUET, *_TEXT))
        reason = f"files that end in {known} are read; convert it to one"
        raise DataError(source=str(path), reason=reason)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().rstrip("\r\n")
    if not delimiter:
        delimiter = max(",;\t", key=header.count)
    names = [name.strip('"') for name in header.split(delimiter)]
    # RecBole writes the kind behind the name.
    plain = [name.partition(":")[0] for name in names]
    if not all(":" in name for name in names):
        plain = names
    types = {name: pyarrow.string() for name in plain if name in text}
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=plain, skip_rows=1, use_threads=True),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter, quote_char=False if delimiter == "\t" else '"'
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def as_text(column: Any) -> npt.NDArray[np.object_]:
    """Return a column as text, one ``str`` a row; None where it is missing."""
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pyarrow.types.is_floating(kind):
        # Whole numbers that a missing value turned into floats: "5", not "5.0".
        whole = pc.all(pc.equal(column, pc.floor(column))).as_py() is not False
        column = pc.if_else(pc.is_nan(column), None, column)
        column = column.cast(pyarrow.int64()) if whole else column
    found = column.cast(pyarrow.string()).to_numpy()
    texts: npt.NDArray[np.object_] = np.asarray(found, dtype=object)
    texts[texts == ""] = None
    return texts


def as_numbers(column: Any, *, source: str, name: str) -> npt.NDArray[np.float64]:
    """Return a column as float64 ``(rows,)``; NaN where it is missing or infinite.

    Raises:
        DataError: A value is no number.
    """
    try:
        if pyarrow.types.is_boolean(column.type):
            column = column.cast(pyarrow.int8())
        found = column.cast(pyarrow.float64()).to_numpy()
    except (pyarrow.ArrowException, ValueError) as exc:
        words = " ".join(str(exc).split())[:120]
        reason = f"column '{name}' holds something that is no number ({words}); mend the schema"
        raise DataError(source=source, reason=reason) from exc
    values = np.array(found, dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def as_times(column: Any, *, source: str, name: str, unit: str = "") -> npt.NDArray[np.int64]:
    """Return a column of times as int64 milliseconds since 1970.

    Args:
        column: Numbers since 1970, time stamps, dates, or ISO text.
        source: The file, for messages.
        name: The column, for messages.
        unit: Of numbers; empty tells it from their size.

    Raises:
        DataError: A value is missing or no time.
    """
    kind = column.type
    if column.null_count:
        raise _no_time(source, name, f"misses {column.null_count} values")
    try:
        if pyarrow.types.is_temporal(kind):
            times = column.cast(pyarrow.timestamp("ms"), safe=False).cast(pyarrow.int64())
            return np.asarray(times.to_numpy(), dtype=np.int64)
        if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
            texts = np.asarray(column.to_numpy(), dtype=str)
            if unit in ("", "iso") and not np.char.isdigit(texts).all():
                plain = np.char.rstrip(texts, "Z")
                return plain.astype("datetime64[ms]").astype(np.int64)
        # Nanoseconds have more digits than a float keeps: a rounding of 0.3 us is not of interest.
        values = column.cast(pyarrow.float64(), safe=False).to_numpy()
    except (pyarrow.ArrowException, ValueError) as exc:
        words = " ".join(str(exc).split())[:120]
        raise _no_time(source, name, f"holds something else ({words})") from exc
    if not np.isfinite(values).all():
        raise _no_time(source, name, "holds NaN or infinity")
    if not unit or unit == "iso":
        largest = float(np.abs(values).max(initial=0))
        unit = next(key for key, limit in _LARGEST.items() if largest <= limit)
    return np.asarray(np.round(values * _IN_MS[unit]), dtype=np.int64)


def _no_time(source: str, name: str, what: str) -> DataError:
    reason = (
        f"the column '{name}' of times {what}; numbers since 1970, time stamps or ISO text in "
        "every row were expected; mend the rows or the schema"
    )
    return DataError(source=source, reason=reason)
