"""How long the last answers took."""

from __future__ import annotations

import threading
from collections import deque

_FEWEST = 20


class RecentLatencies:
    """The latencies of one member's last answers to single samples.

    Args:
        size: Answers that are kept.
    """

    def __init__(self, size: int = 200) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def note(self, seconds: float) -> None:
        """Keep one."""
        with self._lock:
            self._values.append(seconds)

    def quantile_s(self, share: float, *, fewest: int = _FEWEST) -> float | None:
        """Return the latency that a share of the answers kept to; None where too few are known.

        Args:
            share: From 0 to 1.
            fewest: Answers that it takes.
        """
        with self._lock:
            values = sorted(self._values)
        if len(values) < max(1, fewest):
            return None
        return values[min(len(values) - 1, int(share * len(values)))]
