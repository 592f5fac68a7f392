"""The server's half of a fallback: one call to it, in time, counted, tried again where allowed."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from typing import TypeVar

from edgeml.core.deadline import deadline
from edgeml.core.predictor import Predictor
from edgeml.errors import EdgemlError, ServerOverloadedError
from edgeml.serving.routing.breaker import Breaker
from edgeml.serving.routing.fallback_metrics import FallbackMetrics
from edgeml.serving.routing.fallback_settings import FallbackSettings
from edgeml.serving.routing.faults import Fault, fault_of
from edgeml.serving.routing.latencies import RecentLatencies
from edgeml.serving.routing.retries import WORTH_A_RETRY, RetryBudget, pause_s
from edgeml.serving.routing.routed import Call

Answer = TypeVar("Answer")

# A timeout of a caller in a hurry says something of the server only where it had this many times
# what it usually takes.
_TIMES_USUAL = 3.0
# Less is no time to ask anybody over a network.
SHORTEST_S = 0.001


class ServerSide:
    """Asks the server. Safe to call from several threads.

    Args:
        server: The server.
        breaker: Told of every call.
        metrics: Told of every fault and retry.
        settings: How often, and within what budget.
        clock: Seconds that only grow.
        sleep: Pauses between two tries.
        source: Of the pauses' randomness.
    """

    def __init__(
        self,
        server: Predictor,
        *,
        breaker: Breaker,
        metrics: FallbackMetrics,
        settings: FallbackSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        source: random.Random | None = None,
    ) -> None:
        self.latencies = RecentLatencies()
        self._server = server
        self._breaker = breaker
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._source = source or random.Random()
        self._budget = RetryBudget(settings.retry_share if settings.idempotent else 0.0)
        self._last_fault: EdgemlError | None = None

    def ask(self, call: Call[Answer], *, ticket: int, within_s: float) -> Answer:
        """Return the server's answer to a call.

        Args:
            call: The call.
            ticket: Of the breaker.
            within_s: Seconds for all tries together.

        Raises:
            EdgemlError: The last try's error.
        """
        self._budget.note_call()
        end = self._clock() + within_s
        attempt = 0
        while True:
            started = self._clock()
            try:
                with deadline(max(SHORTEST_S, end - started)):
                    answer = call(self._server)
            except EdgemlError as exc:
                fault = fault_of(exc)
                if fault is None:
                    raise
                self._note(exc, fault, ticket=ticket, had_s=end - started)
                pause = self._pause_before(attempt, fault, left_s=end - self._clock())
                if pause is None:
                    raise
                self._sleep(pause)
                attempt += 1
                continue
            self._breaker.record(ticket, None)
            if call.num_samples == 1:
                self.latencies.note(self._clock() - started)
            return answer

    def why_not(self) -> EdgemlError:
        """Return the error for a call that is not sent: what was wrong when calls last were.

        A new object each time: several threads raise it.
        """
        assert self._last_fault is not None  # the breaker opened for a reason
        error = copy.copy(self._last_fault)
        error.add_note("nothing was sent: the breaker is open until golden requests are answered")
        return error

    def fail(self, error: EdgemlError) -> None:
        """Note what was wrong outside a call."""
        self._last_fault = error

    def _note(self, error: EdgemlError, fault: Fault, *, ticket: int, had_s: float) -> None:
        self._last_fault = error
        self._metrics.faults.labels(fault).inc()
        if isinstance(error, ServerOverloadedError) and error.refused_by == "limit":
            return  # a limit before the server: the other calls that it lets through are answered
        if fault != "timeout" or self._had_time(had_s):
            self._breaker.record(ticket, fault)

    def _had_time(self, had_s: float) -> bool:
        """Return whether a server that is well could have answered a call that timed out."""
        if had_s >= 0.9 * self._settings.cut_over_s:
            return True
        usual_s = self.latencies.quantile_s(0.5)
        return usual_s is not None and had_s >= _TIMES_USUAL * usual_s

    def _pause_before(self, attempt: int, fault: Fault, *, left_s: float) -> float | None:
        """Return how long to wait before one more try, or None where there shall be none."""
        settings = self._settings
        if attempt >= settings.max_retries or fault not in WORTH_A_RETRY:
            return None
        pause = pause_s(attempt, longest_s=settings.retry_pause_s, source=self._source)
        if pause + SHORTEST_S >= left_s or self._breaker.state != "closed":
            return None
        granted = self._budget.take()
        self._metrics.retries.labels("made" if granted else "denied").inc()
        return pause if granted else None
