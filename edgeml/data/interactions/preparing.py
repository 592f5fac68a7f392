"""From a log to what models are trained on: codes, parts, and features with fitted encoders.

Only train teaches anything: the catalogue is what train or the table of items names, encoders are
fitted on the users, items and requests of train. Items that come later have codes beyond the
catalogue: they count as relevant and cannot be recommended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.leaks import shares_of_codes, suspicious_columns
from edgeml.data.interactions.log import InteractionLog, RawColumn, RawTable
from edgeml.data.interactions.schema import Column, SplitRule
from edgeml.data.interactions.splitting import RowSplit, split_rows
from edgeml.errors import DataError
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.tasks.recommendation.tables import EncodedTable, FeatureEncoder

Codes = npt.NDArray[np.int64]
# Fewer events teach a ranker nothing about an item's own code.
_LEAST_EVENTS = 5
# Histories of a user with a group need groups that hold several items and are several.
_MOST_GROUPS, _GROUP_ITEMS = 3, 1.5


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A log in codes, with its parts and features.

    Attributes:
        log: Where it came from.
        rule: How it was split.
        split: Row numbers of the parts.
        events: Every row.
        user_ids: Text by user code; row 0 is empty.
        item_ids: Text by item code; row 0 is empty.
        num_users: Codes of users that train or the table of users names, 0 included.
        num_items: Size of the catalogue, 0 included.
        features: What makes a ranker's inputs.
        context_ids: int64 ``(rows, context)``.
        notes: What should be looked at, each a sentence.
    """

    log: InteractionLog
    rule: SplitRule
    split: RowSplit
    events: Interactions
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    num_users: int
    num_items: int
    features: RankingFeatures
    context_ids: Codes
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Interactions:
        """The rows that train."""
        return self.events.take(self.split.train)

    @property
    def validation(self) -> Interactions:
        """The rows that choose."""
        return self.events.take(self.split.validation)

    @property
    def test(self) -> Interactions:
        """The rows that report."""
        return self.events.take(self.split.test)


def prepare(
    log: InteractionLog, *, split: str | SplitRule | None = None, seed: int = 0
) -> Prepared:
    """Split and encode a log.

    Args:
        log: The log.
        split: A rule, or ``temporal`` or ``random``; None takes the schema's.
        seed: Of a random split that is asked for by name.

    Raises:
        DataError: A part is empty, or there are too few users or items.
    """
    rule = split if isinstance(split, SplitRule) else log.schema.split
    if isinstance(split, str):
        rule = replace(rule, kind=split, seed=seed)
    _, raw_users = np.unique(log.users.astype(str), return_inverse=True)
    rows = split_rows(log.times_ms, raw_users, rule, source=log.name)
    users, user_ids, num_users = _codes(log.users, rows.train, log.user_table)
    items, item_ids, num_items = _codes(log.items, rows.train, log.item_table)
    events = Interactions(
        users=users,
        items=items,
        times_ms=log.times_ms,
        positive=log.positive,
        signals=log.signals,
    )
    encoders = tuple(_fit(raw, rows.train) for raw in log.context)
    context = EncodedTable.encode(encoders, [raw.values for raw in log.context], len(log))
    features = _features(log, events, rows, (user_ids, num_users), (item_ids, num_items), encoders)
    return Prepared(
        log=log,
        rule=rule,
        split=rows,
        events=events,
        user_ids=user_ids,
        item_ids=item_ids,
        num_users=num_users,
        num_items=num_items,
        features=features,
        context_ids=context.ids,
        notes=(*log.notes, *_suspicions(log, features, events, rows, context.ids)),
    )


def _codes(
    texts: npt.NDArray[np.object_], train: Codes, table: RawTable | None
) -> tuple[Codes, tuple[str, ...], int]:
    """Return codes by row, ids by code, and how many codes are known after training.

    Ids of train come first, then those of the table, then the others.
    """
    order: dict[str, int] = {"": 0}
    for group in (texts[train], table.ids if table is not None else (), texts):
        for text in dict.fromkeys(group):
            order.setdefault(text, len(order))
        if group is not texts:
            known = len(order)
    codes = np.fromiter((order[text] for text in texts), dtype=np.int64, count=len(texts))
    return codes, tuple(order), known


def _features(
    log: InteractionLog,
    events: Interactions,
    rows: RowSplit,
    users: tuple[tuple[str, ...], int],
    items: tuple[tuple[str, ...], int],
    context: tuple[FeatureEncoder, ...],
) -> RankingFeatures:
    train = events.take(rows.train)
    counts = np.bincount(train.items, minlength=items[1])
    codes = np.where(counts >= _LEAST_EVENTS, np.arange(items[1]), 0)
    item_table = _table(log.item_table, items[0][: items[1]], set(log.items[rows.train]))
    features = RankingFeatures(
        users=_table(log.user_table, users[0][: users[1]], set(log.users[rows.train])),
        items=item_table,
        context=context,
        groups=_groups(item_table),
        signals=tuple(
            (column.name, _signal_kind(log, column))
            for column in log.schema.of_role("signal")
            if column.name != log.schema.positive_signal
        ),
        means=np.zeros(1),
        item_codes=codes,
        timezone_hours=log.schema.split.timezone_hours,
    )
    return replace(features, means=features.values_of(train).mean(axis=0))


def _signal_kind(log: InteractionLog, column: Column) -> Literal["binary", "amount"]:
    """Return whether a signal happens or has an amount: what the schema says, or its values."""
    values = log.signals[column.name]
    known = values[np.isfinite(values)]
    binary = bool(np.isin(known, (0, 1)).all())
    if column.kind == "binary" and not binary:
        reason = (
            f"the signal '{column.column}' is declared binary and holds other values than 0 and "
            "1; declare it as an amount, or mend it"
        )
        raise DataError(source=log.name, reason=reason)
    return "binary" if binary and column.kind != "amount" else "amount"


def _table(table: RawTable | None, ids: tuple[str, ...], train: set[str]) -> EncodedTable:
    """Encode a table by code; encoders see the ids of train alone."""
    if table is None:
        return EncodedTable.empty(len(ids))
    place = {text: row for row, text in enumerate(table.ids)}
    rows = np.asarray([place.get(text, -1) for text in ids])
    teaching = np.asarray([row for text, row in place.items() if text in train], dtype=np.int64)
    encoders = tuple(_fit(raw, teaching) for raw in table.columns)
    columns = []
    for raw in table.columns:
        missing = np.nan if raw.column.kind in ("number", "date") else None
        values = raw.values[rows]
        values[rows < 0] = missing
        columns.append(values)
    return EncodedTable.encode(encoders, columns, len(ids))


def _fit(raw: RawColumn, rows: Codes) -> FeatureEncoder:
    return FeatureEncoder.fit(raw.column.name, raw.column.kind, raw.values[rows])


def _groups(table: EncodedTable) -> tuple[int, ...]:
    """Return the categories of items that a user may have a history with."""
    found = []
    for column, encoder in enumerate(table.encoders):
        present = table.ids[:, column][table.ids[:, column] > 0]
        distinct = len(np.unique(present))
        if (
            encoder.kind in ("category", "hashed")
            and distinct > 2
            and (len(present) >= _GROUP_ITEMS * distinct)
        ):
            found.append((distinct, column))
    return tuple(column for _, column in sorted(found, reverse=True)[:_MOST_GROUPS])


def _suspicions(
    log: InteractionLog,
    features: RankingFeatures,
    events: Interactions,
    rows: RowSplit,
    context: Codes,
) -> list[str]:
    """Name single columns that order train's labels nearly perfectly."""
    train = events.take(rows.train)
    if train.positive.all():
        return []
    columns = {}
    for position, raw in enumerate(log.context):
        columns[raw.column.name] = shares_of_codes(context[rows.train, position], train.positive)
    for table, codes in ((features.users, train.users), (features.items, train.items)):
        for position, encoder in enumerate(table.encoders):
            columns[encoder.name] = shares_of_codes(table.ids[codes, position], train.positive)
    return [
        f"the column '{name}' alone reaches AUC {area:.3f} on train: does it leak the label?"
        for name, area in suspicious_columns(columns, train.positive).items()
    ]
