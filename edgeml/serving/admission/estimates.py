"""How long calls take of late: a mean and a quantile over the last few of them."""

from __future__ import annotations

import bisect
import math
from collections import deque


class RecentTimes:
    """The last few durations, in seconds.

    Args:
        window: How many are kept.

    Example:
        >>> times = RecentTimes(window=4)
        >>> for seconds in (9.0, 0.1, 0.2, 0.3, 0.4):
        ...     times.add(seconds)
        >>> times.mean_s, times.quantile_s(1.0)
        (0.25, 0.4)
    """

    def __init__(self, *, window: int) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, seconds: float) -> None:
        """Take a duration in, and let the oldest go."""
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect.bisect_left(self._sorted, self._recent[0])]
        self._recent.append(seconds)
        bisect.insort(self._sorted, seconds)

    @property
    def mean_s(self) -> float:
        """Their mean; 0 without any."""
        return sum(self._sorted) / len(self._sorted) if self._sorted else 0.0

    def quantile_s(self, share: float) -> float:
        """Return the shortest duration that this share of them does not exceed; 0 without any."""
        if not self._sorted:
            return 0.0
        return self._sorted[max(0, math.ceil(share * len(self._sorted)) - 1)]
