"""The four ways to ask: one caller, several callers, arrivals by schedule, everything at once.

Closed loops (SingleStream, MultiStream) send the next query when the last one was answered: they
measure a caller who waits. The open loop (Server) sends by a schedule: it measures users who do
not. Offline measures throughput and has no latency of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeml.bench.arrivals import Schedule
from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SingleStream:
    """One caller who waits for each answer.

    Attributes:
        seconds: How long at least.
        min_queries: How many queries at least.
    """

    seconds: float = 10.0
    min_queries: int = 64

    @property
    def callers(self) -> int:
        """Queries under way at once."""
        return 1

    def __post_init__(self) -> None:
        _check(self.seconds, self.min_queries, callers=1)


@dataclass(frozen=True, kw_only=True)
class MultiStream:
    """Several callers who each wait for their answers.

    Attributes:
        callers: Queries under way at once.
        seconds: How long at least.
        min_queries: How many queries at least, together.
    """

    callers: int
    seconds: float = 10.0
    min_queries: int = 64

    def __post_init__(self) -> None:
        _check(self.seconds, self.min_queries, callers=self.callers)


@dataclass(frozen=True, kw_only=True)
class Server:
    """Queries by a schedule, whether or not earlier ones were answered.

    Attributes:
        schedule: When each one is due.
        callers: Most queries under way at once; each caller has a connection of its own.
        when_busy: What happens to a query that falls due while all callers are busy. ``drop``: it
            is counted as dropped by the generator; take enough callers that this does not happen.
            ``queue``: it waits for a caller; the callers are then a part of what is measured, as
            they are for a model in this process, and the wait counts in the response time.
    """

    schedule: Schedule
    callers: int = 64
    when_busy: Literal["drop", "queue"] = "drop"

    def __post_init__(self) -> None:
        _check(1.0, 1, callers=self.callers)
        if self.when_busy not in ("drop", "queue"):
            raise InputError(f"when_busy is {self.when_busy!r}; 'drop' or 'queue' was expected")


@dataclass(frozen=True, kw_only=True)
class Offline:
    """Everything is due at once; the figure is throughput.

    Attributes:
        num_queries: How many.
        callers: Queries under way at once.
        samples_per_query: Samples that the target answers in one call.
    """

    num_queries: int
    callers: int = 1
    samples_per_query: int = 1

    def __post_init__(self) -> None:
        _check(1.0, self.num_queries, callers=self.callers)
        if self.samples_per_query < 1:
            raise InputError(f"samples_per_query is {self.samples_per_query}; at least 1 expected")


Scenario = SingleStream | MultiStream | Server | Offline


def scenario_name(scenario: Scenario) -> str:
    """Return ``single-stream``, ``multi-stream``, ``server`` or ``offline``."""
    names = {
        SingleStream: "single-stream",
        MultiStream: "multi-stream",
        Server: "server",
        Offline: "offline",
    }
    return names[type(scenario)]


def _check(seconds: float, min_queries: int, *, callers: int) -> None:
    if not 0 < seconds < float("inf"):
        raise InputError(f"a run of {seconds} s was asked for; a positive time was expected")
    if min_queries < 1:
        raise InputError(f"{min_queries} queries were asked for; at least 1 was expected")
    if callers < 1:
        raise InputError(f"{callers} callers were asked for; at least 1 was expected")
