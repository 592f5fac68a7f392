"""What had happened strictly before a moment: counts and sums by key, for any keys and moments.

Training rows and requests ask the same index the same way, so a feature cannot mean one thing in
training and another when it is served. Events at the moment itself do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Before:
    """What an index says of each question.

    Attributes:
        count: int64 ``(questions,)``, events of the key before the moment.
        sums: float64 ``(questions, values)``, sums of their values.
        last_ms: int64 ``(questions,)``, time of the last of them; -1 where there is none.
    """

    count: Integers
    sums: Numbers
    last_ms: Integers


class EventIndex:
    """Events by key and time.

    Args:
        keys: int64 ``(events,)``.
        times_ms: int64 ``(events,)``.
        values: float64 ``(events, values)``.
    """

    def __init__(self, keys: Integers, times_ms: Integers, values: Numbers) -> None:
        self._keys, ranks = np.unique(keys, return_inverse=True)
        self._start = int(times_ms.min()) if len(times_ms) else 0
        self._span = (int(times_ms.max()) - self._start + 2) if len(times_ms) else 2
        # One number a key and moment, so that a question is one binary search.
        places = ranks.astype(np.int64) * self._span + (times_ms - self._start)
        order = np.argsort(places, kind="stable")
        self._places = places[order]
        self._sums = np.zeros((len(keys) + 1, values.shape[1]))
        np.cumsum(values[order], axis=0, out=self._sums[1:])

    def before(self, keys: Integers, times_ms: Integers, *, window_ms: int | None = None) -> Before:
        """Answer questions.

        Args:
            keys: int64 ``(questions,)``.
            times_ms: int64 ``(questions,)``.
            window_ms: How far back events count; None: all of them.
        """
        if not len(self._keys):
            return Before(
                count=np.zeros(len(keys), dtype=np.int64),
                sums=np.zeros((len(keys), self._sums.shape[1])),
                last_ms=np.full(len(keys), -1, dtype=np.int64),
            )
        ranks = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = self._keys[ranks] == keys
        base = ranks.astype(np.int64) * self._span
        moment = np.clip(times_ms - self._start, 0, self._span - 1)
        since = np.zeros(1, dtype=np.int64)
        if window_ms is not None:
            since = np.clip(times_ms - window_ms - self._start, 0, self._span - 1)
        first = np.searchsorted(self._places, base + since)
        last = np.searchsorted(self._places, base + moment)
        last = np.where(known, last, first)
        some = last > first
        latest = self._places[np.maximum(last - 1, 0)] - base + self._start
        return Before(
            count=(last - first).astype(np.int64),
            sums=self._sums[last] - self._sums[first],
            last_ms=np.where(some, latest, -1),
        )
