"""Which rows train, which choose, which report.

The default is one moment for all users: nothing that is learned comes after what is tested. The
random split by user is RecBole's, for comparison with its published figures alone: it lets a model
see what users did after the events that it is tested on.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeml.data.interactions.schema import SplitRule
from edgeml.errors import DataError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RowSplit:
    """Row numbers of each part, ascending, without a row in two parts."""

    train: Rows
    validation: Rows
    test: Rows


def split_rows(
    times_ms: npt.NDArray[np.int64], users: npt.NDArray[np.int64], rule: SplitRule, *, source: str
) -> RowSplit:
    """Split rows that are in the order of time.

    Args:
        times_ms: int64 ``(rows,)``, ascending.
        users: int64 ``(rows,)``, any codes of users.
        rule: How.
        source: The log, for messages.

    Raises:
        DataError: A part is empty.
    """
    split = _random(users, rule) if rule.kind == "random" else _temporal(times_ms, rule)
    for name in ("train", "validation", "test"):
        if not len(getattr(split, name)):
            first, last = (_day(int(times_ms[index])) for index in (0, -1))
            reason = (
                f"the {rule.kind} split leaves no rows for {name} (times go from {first} to "
                f"{last}); change 'split' in the schema or give more rows"
            )
            raise DataError(source=source, reason=reason)
    return split


def _temporal(times_ms: npt.NDArray[np.int64], rule: SplitRule) -> RowSplit:
    if rule.validation_from:
        bounds = [_moment(day, rule) for day in (rule.validation_from, rule.test_from)]
    else:
        shares = (1 - rule.validation - rule.test, 1 - rule.test)
        places = [min(int(share * len(times_ms)), len(times_ms) - 1) for share in shares]
        bounds = [int(times_ms[place]) for place in places]
        if bounds[0] == bounds[1]:  # coarse times, such as days: the moment before is validation's
            bounds[0] = int(times_ms[max(int(np.searchsorted(times_ms, bounds[1])) - 1, 0)])
    rows = np.arange(len(times_ms))
    return RowSplit(
        train=rows[times_ms < bounds[0]],
        validation=rows[(times_ms >= bounds[0]) & (times_ms < bounds[1])],
        test=rows[times_ms >= bounds[1]],
    )


def _random(users: npt.NDArray[np.int64], rule: SplitRule) -> RowSplit:
    """Shuffle all rows, then cut each user's: RecBole's ``RS`` with ``RO``, by user."""
    order = np.random.default_rng(rule.seed).permutation(len(users))
    order = order[np.argsort(users[order], kind="stable")]
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    parts: dict[int, list[Rows]] = {0: [], 1: [], 2: []}
    for start, count in zip(starts, counts, strict=True):
        bounds = np.cumsum(_counts(int(count), (rule.validation, rule.test)))
        for part, rows in enumerate(np.split(order[start : start + count], bounds[:-1])):
            parts[part].append(rows)
    train, validation, test = (np.sort(np.concatenate(parts[part])) for part in range(3))
    return RowSplit(train=train, validation=validation, test=test)


def _counts(total: int, shares: tuple[float, float]) -> list[int]:
    """Return how many of a user's rows go where: whole shares, and one row where it is less."""
    counts = [0, *(int(share * total) for share in shares)]
    counts[0] = total - sum(counts)
    for part in (2, 1):
        if counts[0] <= 1:
            break
        if 0 < shares[part - 1] * total < 1:
            counts[part] += 1
            counts[0] -= 1
    return counts


def _moment(day: str, rule: SplitRule) -> int:
    zone = datetime.timezone(datetime.timedelta(hours=rule.timezone_hours))
    moment = datetime.datetime.fromisoformat(day).replace(tzinfo=zone)
    return int(moment.timestamp() * 1000)


def _day(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms").astype("datetime64[m]"))
