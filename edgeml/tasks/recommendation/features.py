"""From events to a ranker's inputs: one code for training rows and for requests.

What depends on the request alone is kept apart from what depends on the candidate, so that a
request computes it once. All history is strictly earlier than the row's moment.

Legend of shapes: E events, N rows, V values of an event (positive first, then the other signals).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.tasks.recommendation.history import Before, EventIndex
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.tasks.recommendation.ranking import Head, IdField, RankingFields
from edgeml.tasks.recommendation.tables import EncodedTable, FeatureEncoder

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# How many average events stand beside what was counted, so that one event is no rate of 0 or 1.
_USER_WEIGHT, _ITEM_WEIGHT, _AFFINITY_WEIGHT = 5.0, 10.0, 3.0
SignalKind = Literal["binary", "amount"]
RETRIEVAL = ("retrieval_score", "retrieval_rank_log")


@dataclass(frozen=True, kw_only=True)
class EventIndexes:
    """The same events by user, item, group of items, and pairs of these."""

    user: EventIndex
    item: EventIndex
    user_item: EventIndex
    groups: tuple[EventIndex, ...]
    user_groups: tuple[EventIndex, ...]


@dataclass(frozen=True, kw_only=True)
class RankingFeatures:
    """Everything that turns events and codes into a ranker's inputs; part of the bundle.

    Attributes:
        users: Features by user code.
        items: Features by item code.
        context: Encoders of what is known when an item is asked for.
        groups: Columns of ``items.ids`` whose history with a user counts, such as an author's.
        signals: Name and kind of each signal, the positive one left out.
        means: float64 ``(V,)``: average of each value in train.
        item_codes: int64 ``(items,)``: what the ranker reads as an item's code; 0 where train has
            too few events to learn one.
        timezone_hours: Of the hour of the day, ahead of UTC.
        with_retrieval: Whether scores and ranks of retrieval are among the inputs, as they are of
            a ranker that learns from retrieval's candidates.
    """

    users: EncodedTable
    items: EncodedTable
    context: tuple[FeatureEncoder, ...]
    groups: tuple[int, ...]
    signals: tuple[tuple[str, SignalKind], ...]
    means: Numbers
    item_codes: Integers
    timezone_hours: float = 0.0
    with_retrieval: bool = False

    @cached_property
    def fields(self) -> RankingFields:
        """Names and sizes of the inputs."""
        return RankingFields(
            request_ids=(
                *(IdField(name=row.name, size=row.encoder.size) for row in self.users.encoders),
                *(IdField(name=row.name, size=row.encoder.size) for row in self.context),
                IdField(name="hour", size=25),
            ),
            request_numbers=self._request_names(),
            candidate_ids=(
                IdField(name="item", size=len(self.items.ids)),
                *(IdField(name=row.name, size=row.encoder.size) for row in self.items.encoders),
            ),
            candidate_numbers=self._candidate_names(),
            crosses=(),
            heads=(
                Head(name="positive", kind="binary"),
                # Of candidates that nobody was shown there is nothing else to learn.
                *(() if self.with_retrieval else (Head(name=n, kind=k) for n, k in self.signals)),
            ),
        )

    def _request_names(self) -> tuple[str, ...]:
        return (
            *(row.name for row in self.users.numeric),
            *("user_events_log", "user_positives_log", "user_rate", "user_day_events_log"),
            *("user_day_rate", "user_hours_since_log"),
            *(f"user_{name}_mean" for name, _ in self.signals),
        )

    def _candidate_names(self) -> tuple[str, ...]:
        names = _numeric_names(self.items)
        names += ["item_events_log", "item_positives_log", "item_rate"]
        names += ["item_day_events_log", "item_day_positives_log", "item_day_rate"]
        names += [f"item_{name}_mean" for name, _ in self.signals]
        for column in self.groups:
            group = self.items.encoders[column].name
            names += [f"{group}_events_log", f"{group}_rate"]
            names += [f"user_{group}_events_log", f"user_{group}_rate"]
            names += [f"user_{group}_{name}_mean" for name, _ in self.signals]
        names += ["user_item_events"]
        return (*names, *(RETRIEVAL if self.with_retrieval else ()))

    def index(self, events: Interactions) -> EventIndexes:
        """Index events for questions."""
        values = self.values_of(events)
        users, items, times = events.users, events.items, events.times_ms
        groups = [self._group(items, column) for column in self.groups]
        return EventIndexes(
            user=EventIndex(users, times, values),
            item=EventIndex(items, times, values),
            user_item=EventIndex(_pair(users, items), times, values),
            groups=tuple(EventIndex(group, times, values) for group in groups),
            user_groups=tuple(EventIndex(_pair(users, group), times, values) for group in groups),
        )

    def values_of(self, events: Interactions) -> Numbers:
        """Return float64 ``(E, V)``: positive or not, then each signal; amounts as their log."""
        columns = [events.positive.astype(np.float64)]
        for name, kind in self.signals:
            known = np.nan_to_num(events.signals[name].astype(np.float64))
            columns.append(np.log1p(np.maximum(known, 0)) if kind == "amount" else known)
        return np.stack(columns, axis=1)

    def request_part(
        self,
        known: EventIndexes,
        users: Integers,
        times_ms: Integers,
        context_ids: Integers | None = None,
    ) -> tuple[Integers, npt.NDArray[np.float32]]:
        """Return what depends on the request alone.

        Args:
            known: What the users did.
            users: int64 ``(N,)``; 0 or a code beyond the table is an unknown user.
            times_ms: int64 ``(N,)``.
            context_ids: int64 ``(N, context)``; None: unknown.

        Returns:
            int64 ``(N, R)`` and float32 ``(N, P)``.
        """
        rows = np.where(users < len(self.users.ids), users, 0)
        if context_ids is None:
            context_ids = np.zeros((len(users), len(self.context)), dtype=np.int64)
        local = times_ms + int(self.timezone_hours * _HOUR_MS)
        hour = 1 + (local // _HOUR_MS) % 24
        ever = known.user.before(users, times_ms)
        day = known.user.before(users, times_ms, window_ms=_DAY_MS)
        since = np.where(ever.last_ms < 0, 30 * _DAY_MS, times_ms - ever.last_ms) / _HOUR_MS
        means = self._smoothed(ever, _USER_WEIGHT)
        numbers = [
            *_columns(self.users.numbers[rows]),
            np.log1p(ever.count),
            np.log1p(ever.sums[:, 0]),
            means[:, 0],
            np.log1p(day.count),
            self._smoothed(day, _USER_WEIGHT)[:, 0],
            np.log1p(np.maximum(since, 0)),
            *_columns(means[:, 1:]),
        ]
        ids = np.concatenate([self.users.ids[rows], context_ids, hour[:, None]], axis=1)
        return ids, np.stack(numbers, axis=1).astype(np.float32)

    def candidate_part(
        self,
        items_known: EventIndexes,
        users_known: EventIndexes,
        users: Integers,
        items: Integers,
        times_ms: Integers,
        retrieval: npt.NDArray[np.float32] | None = None,
    ) -> tuple[Integers, npt.NDArray[np.float32]]:
        """Return what depends on the candidate, and on the user and the candidate.

        Args:
            items_known: What happened to the items.
            users_known: What the users did; of a user without an account, the history given.
            users: int64 ``(N,)``.
            items: int64 ``(N,)``; a code beyond the table is an unknown item.
            times_ms: int64 ``(N,)``.
            retrieval: float32 ``(N, 2)``: score and rank (from 0), where these are inputs.

        Returns:
            int64 ``(N, C)`` and float32 ``(N, Q)``.
        """
        rows = np.where(items < len(self.items.ids), items, 0)
        ever = items_known.item.before(items, times_ms)
        day = items_known.item.before(items, times_ms, window_ms=_DAY_MS)
        means = self._smoothed(ever, _ITEM_WEIGHT)
        numbers = [
            *self._item_numbers(rows, times_ms),
            np.log1p(ever.count),
            np.log1p(ever.sums[:, 0]),
            means[:, 0],
            np.log1p(day.count),
            np.log1p(day.sums[:, 0]),
            self._smoothed(day, _ITEM_WEIGHT)[:, 0],
            *_columns(means[:, 1:]),
        ]
        for position, column in enumerate(self.groups):
            group = self._group(items, column)
            every = items_known.groups[position].before(group, times_ms)
            own = users_known.user_groups[position].before(_pair(users, group), times_ms)
            liked = self._smoothed(own, _AFFINITY_WEIGHT)
            numbers += [np.log1p(every.count), self._smoothed(every, _ITEM_WEIGHT)[:, 0]]
            numbers += [np.log1p(own.count), liked[:, 0], *_columns(liked[:, 1:])]
        numbers.append(users_known.user_item.before(_pair(users, items), times_ms).count)
        if self.with_retrieval:
            if retrieval is None:
                raise ValueError("this ranker reads scores of retrieval, and none were given")
            numbers += [retrieval[:, 0], np.log1p(retrieval[:, 1])]
        ids = np.concatenate([self.item_codes[rows, None], self.items.ids[rows]], axis=1)
        return ids, np.stack(numbers, axis=1).astype(np.float32)

    def _item_numbers(self, rows: Integers, times_ms: Integers) -> list[Numbers]:
        """Return the items' numbers; of dates, how many days ago they were."""
        found = []
        for encoder, values in zip(
            self.items.numeric, _columns(self.items.numbers[rows]), strict=True
        ):
            found.append(times_ms / _DAY_MS - values if encoder.kind == "date" else values)
        return found

    def _group(self, items: Integers, column: int) -> Integers:
        rows = np.where(items < len(self.items.ids), items, 0)
        return np.asarray(self.items.ids[rows, column], dtype=np.int64)

    def _smoothed(self, before: Before, weight: float) -> Numbers:
        counted = before.count[:, None] + weight
        return np.asarray((before.sums + weight * self.means) / counted)


def context_codes(
    encoders: tuple[FeatureEncoder, ...], context: Mapping[str, Any], rows: int = 1
) -> Integers:
    """Return the codes of one request's context; what is not given is unknown.

    Raises:
        KeyError: A name is no context of the schema.
    """
    for name in context:
        if name not in {row.name for row in encoders}:
            raise KeyError(name)
    codes = [int(row.encoder.encode([_plain(context.get(row.name), row)])[0]) for row in encoders]
    return np.tile(np.asarray(codes, dtype=np.int64)[None, :], (rows, 1))


def _plain(value: Any, encoder: FeatureEncoder) -> Any:
    if encoder.kind in ("category", "hashed"):
        return None if value is None else str(value)
    return float("nan") if value is None else float(value)


def _numeric_names(table: EncodedTable) -> list[str]:
    return [f"{row.name}_age_days" if row.kind == "date" else row.name for row in table.numeric]


def _columns(matrix: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [matrix[:, position] for position in range(matrix.shape[1])]


def _pair(left: Integers, right: Integers) -> Integers:
    """Return one key for two codes below 2**31."""
    return np.asarray((left << 32) | right, dtype=np.int64)
