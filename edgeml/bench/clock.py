"""The generator's clock: an argument of everything that waits, so that tests need not."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Nanoseconds that only rise, and a way to wait for one of them."""

    def now_ns(self) -> int:
        """Return the time."""
        ...

    def wait_until(self, time_ns: int) -> None:
        """Return at that time, or at once if it has passed."""
        ...


class SystemClock:
    """``time.perf_counter_ns``; waits sleep, and spin for their last part.

    The spin gives the interpreter's lock away in each turn, so that a thread whose answer has
    arrived is not held up by the one that waits for the next arrival.

    Args:
        spin_us: The part of a wait that is spun, in microseconds.
    """

    def __init__(self, *, spin_us: float) -> None:
        self._spin_ns = int(spin_us * 1000)
        self.now_ns = time.perf_counter_ns

    def wait_until(self, time_ns: int) -> None:
        """Return at that time, or at once if it has passed."""
        while (left := time_ns - time.perf_counter_ns()) > self._spin_ns:
            time.sleep((left - self._spin_ns) / 1e9)
        while time.perf_counter_ns() < time_ns:
            time.sleep(0)
