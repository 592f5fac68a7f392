"""A clock that moves only when it is told to, and targets that tell it: no test waits for these."""

from __future__ import annotations

from collections.abc import Sequence

from edgeml.bench.targets import CallTarget


class VirtualClock:
    """Time in nanoseconds. For one caller at a time."""

    def __init__(self) -> None:
        self.time_ns = 1_000_000

    def now_ns(self) -> int:
        return self.time_ns

    def wait_until(self, time_ns: int) -> None:
        self.time_ns = max(self.time_ns, time_ns)

    def advance(self, milliseconds: float) -> None:
        self.time_ns += round(milliseconds * 1e6)


def timed_target(clock: VirtualClock, service_ms: Sequence[float]) -> CallTarget:
    """A target whose n-th call takes the n-th time."""
    times = iter(service_ms)

    def call(_sample: int) -> None:
        clock.advance(next(times))

    return CallTarget(call)
