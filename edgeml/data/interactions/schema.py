"""``schema.yaml``: what each column of a log is, which signal is positive, how the log is split.

A column has one role. What nobody declares is not read, so a new column of the log changes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeml.data.interactions.leaks import refuse_leak
from edgeml.errors import DataError

ROLES = ("user", "item", "time", "signal", "context", "user feature", "item feature")
KINDS = ("category", "hashed", "number", "date")
SIGNAL_KINDS = ("binary", "amount")
UNITS = ("s", "ms", "us", "ns", "iso")
SPLITS = ("temporal", "random")
_TOP = ("columns", "users", "items", "positive", "split", "missing_ids", "repeated", "log")
_OPTIONS = ("role", "name", "kind", "unit", "scale", "known_before")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One declared column.

    Attributes:
        column: Its name in the file.
        role: One of :data:`ROLES`.
        name: What it is called here; the column's name unless told.
        kind: One of :data:`KINDS`, or of :data:`SIGNAL_KINDS` for signals; empty: told from the
            signal's values.
        unit: Of a time: ``s``, ``ms``, ``us``, ``ns``, ``iso``; empty: told from its values.
        scale: What a signal's values are multiplied by, such as 0.001 for milliseconds.
    """

    column: str
    role: str
    name: str
    kind: str = ""
    unit: str = ""
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SideTable:
    """A table of users or items: its file, its key, and its columns."""

    file: str
    key: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How rows become train, validation and test.

    Attributes:
        kind: ``temporal``: one moment for all users; ``random``: by user, as RecBole does.
        validation: Share of the rows; unused where a date is given.
        test: Likewise.
        validation_from: First day of validation, as ISO date; empty: by share.
        test_from: First day of test, likewise.
        timezone_hours: What the dates are in, as hours ahead of UTC.
        seed: Of the random split.
    """

    kind: str = "temporal"
    validation: float = 0.1
    test: float = 0.1
    validation_from: str = ""
    test_from: str = ""
    timezone_hours: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a log's columns mean.

    Attributes:
        columns: The declared columns of the log.
        users: Table of users, or None.
        items: Table of items, or None.
        positive_signal: Signal that shows that a user wanted an item; empty: every row does.
        positive_at_least: Its smallest positive value.
        split: How rows are split.
        missing_ids: ``refuse`` or ``drop`` rows without a user or an item.
        repeated: ``keep`` all rows of a user and an item, or the ``first`` alone.
    """

    columns: tuple[Column, ...]
    users: SideTable | None = None
    items: SideTable | None = None
    positive_signal: str = ""
    positive_at_least: float = 1.0
    split: SplitRule = SplitRule()
    missing_ids: str = "refuse"
    repeated: str = "keep"

    def of_role(self, role: str) -> tuple[Column, ...]:
        """Return the log's columns of a role."""
        return tuple(column for column in self.columns if column.role == role)

    def one(self, role: str) -> Column:
        """Return the log's only column of a role."""
        return self.of_role(role)[0]


def read_schema(path: str | Path) -> Schema:
    """Read ``schema.yaml``.

    Raises:
        DataError: It is missing, no YAML, or does not say what it must.
    """
    place = Path(path)
    try:
        value = yaml.safe_load(place.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        reason = "there is no such schema; a YAML file was expected; see docs/guides/recommendation"
        raise DataError(source=str(place), reason=reason) from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        reason = f"this cannot be read as YAML ({exc}); mend it"
        raise DataError(source=str(place), reason=reason) from exc
    return parse_schema(value, source=str(place))


def parse_schema(value: Any, *, source: str) -> Schema:
    """Check the parsed contents of a schema.

    Args:
        value: What YAML gave.
        source: The file, for messages.

    Raises:
        DataError: A key is unknown, a role is missing, or a column would leak the label.
    """
    if not isinstance(value, Mapping):
        raise _unfit(source, "a mapping with 'columns' was expected")
    _known(value, _TOP, source, "the schema")
    listed = value.get("columns")
    if not isinstance(listed, Mapping) or not listed:
        raise _unfit(source, "'columns' must map each column of the log to its role")
    columns = tuple(_column(str(name), entry, source) for name, entry in listed.items())
    _check_roles(columns, source)
    signals = {column.name: column for column in columns if column.role == "signal"}
    positive, at_least = _positive(value.get("positive"), signals, source)
    return Schema(
        columns=columns,
        users=_side(value.get("users"), "user feature", source),
        items=_side(value.get("items"), "item feature", source),
        positive_signal=positive,
        positive_at_least=at_least,
        split=_split(value.get("split"), source),
        missing_ids=_one_of(value, "missing_ids", ("refuse", "drop"), source),
        repeated=_one_of(value, "repeated", ("keep", "first"), source),
    )


def _column(name: str, entry: Any, source: str, *, role: str = "") -> Column:
    options = entry if isinstance(entry, Mapping) else {"kind" if role else "role": entry}
    _known(options, _OPTIONS, source, f"column '{name}'")
    found = role or str(options.get("role", "")).replace("_", " ")
    if found not in ROLES:
        raise _unfit(
            source, f"column '{name}' has the role '{found}'; {', '.join(ROLES)} are known"
        )
    kind = str(options.get("kind", "")) or _default_kind(found)
    kinds = SIGNAL_KINDS if found == "signal" else KINDS
    undecided = found == "signal" and not kind  # told from its values
    if found not in ("user", "item", "time") and not undecided and kind not in kinds:
        raise _unfit(source, f"column '{name}' has the kind '{kind}'; {', '.join(kinds)} are known")
    unit = str(options.get("unit", ""))
    if unit and unit not in UNITS:
        raise _unfit(source, f"column '{name}' has the unit '{unit}'; {', '.join(UNITS)} are known")
    if not role and found in ("context", "user feature", "item feature"):
        refuse_leak(name, source=source, known_before=options.get("known_before") is True)
    return Column(
        column=name,
        role=found,
        name=str(options.get("name", name)),
        kind=kind,
        unit=unit,
        scale=_number(options.get("scale", 1.0), f"column '{name}': scale", source),
    )


def _default_kind(role: str) -> str:
    return "" if role in ("signal", "user", "item", "time") else "category"


def _check_roles(columns: tuple[Column, ...], source: str) -> None:
    for role in ("user", "item", "time"):
        count = sum(column.role == role for column in columns)
        if count != 1:
            raise _unfit(source, f"{count} columns have the role '{role}'; one must")
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _unfit(source, f"the name '{twice[0]}' stands for two columns")


def _positive(value: Any, signals: Mapping[str, Column], source: str) -> tuple[str, float]:
    if value is None or value == "all":
        return "", 1.0
    entry = value if isinstance(value, Mapping) else {"signal": value}
    _known(entry, ("signal", "at_least"), source, "positive")
    by_column = {column.column: name for name, column in signals.items()}
    name = str(entry.get("signal", ""))
    name = name if name in signals else by_column.get(name, name)
    if name not in signals:
        known = ", ".join(signals) or "none is declared"
        raise _unfit(source, f"positive names '{name}', which is no signal ({known})")
    return name, _number(entry.get("at_least", 1.0), "positive: at_least", source)


def _side(value: Any, role: str, source: str) -> SideTable | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _unfit(source, "a table of users or items needs 'file', 'key' and 'columns'")
    _known(value, ("file", "key", "columns"), source, "a table of users or items")
    columns = value.get("columns")
    if not all(isinstance(value.get(key), str) for key in ("file", "key")) or not isinstance(
        columns, Mapping
    ):
        raise _unfit(source, "a table of users or items needs 'file', 'key' and 'columns'")
    file = Path(value["file"])
    return SideTable(
        file=str(file if file.is_absolute() else Path(source).absolute().parent / file),
        key=value["key"],
        columns=tuple(
            _column(str(name), entry, source, role=role) for name, entry in columns.items()
        ),
    )


def _split(value: Any, source: str) -> SplitRule:
    entry = {"kind": value} if isinstance(value, str) else (value or {})
    if not isinstance(entry, Mapping):
        raise _unfit(source, "'split' must be a mapping or one word")
    _known(entry, tuple(SplitRule.__dataclass_fields__), source, "split")
    kind = str(entry.get("kind", "temporal"))
    if kind not in SPLITS:
        raise _unfit(source, f"split has the kind '{kind}'; {', '.join(SPLITS)} are known")
    shares = {
        key: _number(entry.get(key, 0.1), f"split: {key}", source) for key in ("validation", "test")
    }
    if min(shares.values()) <= 0 or sum(shares.values()) >= 0.9:
        raise _unfit(source, "split: validation and test must be above 0 and leave 0.1 to train")
    dates = {key: _date(entry.get(key), key, source) for key in ("validation_from", "test_from")}
    if bool(dates["validation_from"]) != bool(dates["test_from"]):
        raise _unfit(source, "split: validation_from and test_from go together")
    if dates["test_from"] and dates["test_from"] <= dates["validation_from"]:
        raise _unfit(source, "split: test_from must be after validation_from")
    return SplitRule(
        kind=kind,
        timezone_hours=_number(entry.get("timezone_hours", 0), "split: timezone_hours", source),
        seed=int(_number(entry.get("seed", 0), "split: seed", source)),
        validation=shares["validation"],
        test=shares["test"],
        validation_from=dates["validation_from"],
        test_from=dates["test_from"],
    )


def _date(value: Any, key: str, source: str) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.date):
        return value.isoformat()
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError as exc:
        raise _unfit(source, f"split: {key} is {value!r}; a date as 2022-05-01 is needed") from exc


def _number(value: Any, what: str, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unfit(source, f"{what} is {value!r}; a number is needed")
    return float(value)


def _one_of(value: Mapping[str, Any], key: str, known: tuple[str, ...], source: str) -> str:
    found = str(value.get(key, known[0]))
    if found not in known:
        raise _unfit(source, f"{key} is '{found}'; {' or '.join(known)} is known")
    return found


def _known(value: Mapping[Any, Any], known: tuple[str, ...], source: str, what: str) -> None:
    for key in value:
        if key not in known:
            raise _unfit(source, f"{what} has the key '{key}'; {', '.join(known)} are known")


def _unfit(source: str, reason: str) -> DataError:
    return DataError(source=source, reason=f"the schema does not fit: {reason}; mend it")
