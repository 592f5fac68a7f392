"""A limit on the calls to one predictor, which adapts; what cannot be answered in time is refused.

Without it a server that is asked for more than it can do answers everything too late: each request
waits behind those that nobody waits for any more. With it the server's queue stays short, the
line is here, and a call that would come too late is told so at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeml.core.deadline import deadline, remaining_s
from edgeml.core.predictor import Predictor
from edgeml.core.priority import PRIORITIES, current_priority
from edgeml.errors import EdgemlError, InputError, ServerOverloadedError, ServerTimeoutError
from edgeml.serving.admission.aimd import TIMED, AdaptiveLimit, Ending
from edgeml.serving.admission.line import SHED, Line, State, Ticket
from edgeml.serving.routing.faults import Fault, fault_of
from edgeml.serving.routing.metrics import Metrics
from edgeml.serving.routing.routed import Answer, Call

Clock = Callable[[], float]
_ENDINGS: dict[Fault | None, Ending] = {"timeout": "timeout", "overloaded": "overloaded"}


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """How a limit behaves.

    Attributes:
        deadline_s: Time that a call has where :func:`edgeml.deadline` gives it none, or more.
        initial: Calls under way at once, at first.
        ceiling: Most calls under way at once.
        backoff: What a sign of overload multiplies the limit with.
        slow_share: An answer that was under way for more than this share of its call's time is a
            sign of overload, in good time as it is: at a limit that is only lowered when deadlines
            are missed already, many are.

    Raises:
        InputError: A number is out of range.
    """

    deadline_s: float = 1.0
    initial: int = 4
    ceiling: int = 64
    backoff: float = 0.9
    slow_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.deadline_s < math.inf:
            raise InputError(f"deadline_s is {self.deadline_s:g}; a positive time was expected")
        if not 1 <= self.initial <= self.ceiling:
            raise InputError(
                f"initial is {self.initial} and ceiling {self.ceiling}; 1 <= initial <= ceiling "
                "was expected"
            )
        for name in ("backoff", "slow_share"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InputError(f"{name} is {value:g}; a share between 0 and 1 was expected")


class LimitMetrics:
    """What a limit counts.

    Args:
        metrics: Where.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter(
            "limit_calls",
            "Calls by how they ended: answered, late (answered after the deadline), timeout, "
            "overloaded (refused by the server), failed; refused here: too_late at once, waited in "
            "vain, shed for a higher priority.",
            "outcome",
            "priority",
        )
        self.cuts = metrics.counter(
            "limit_cuts", "Times that the limit was lowered, by the sign of overload.", "reason"
        )
        self.waits = metrics.histogram(
            "limit_wait_seconds", "Time in the line of the calls that started."
        )
        self.concurrency = metrics.gauge("limit_concurrency", "Calls that may be under way now.")
        self.under_way = metrics.gauge("limit_under_way", "Calls that are under way.")
        self.waiting = metrics.gauge("limit_waiting", "Calls that wait for a place.")


class LimitRoute:
    """Lets calls through to one predictor as far as it keeps up; see ``Route``.

    Args:
        member: Who answers.
        settings: How the limit behaves.
        metrics: Where decisions are counted.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        member: Predictor,
        *,
        settings: LimitSettings | None = None,
        metrics: Metrics,
        clock: Clock = time.monotonic,
    ) -> None:
        self._member = member
        self._settings = settings or LimitSettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = AdaptiveLimit(
            initial=self._settings.initial,
            ceiling=self._settings.ceiling,
            backoff=self._settings.backoff,
        )
        self._line = Line(lambda: self._limit.value, ranks=len(PRIORITIES))
        self._bells: dict[Ticket, threading.Event] = {}
        self._metrics = LimitMetrics(metrics)
        self._metrics.concurrency.set_function(lambda: self._limit.value)
        self._metrics.under_way.set_function(lambda: self._line.under_way)
        self._metrics.waiting.set_function(lambda: self._line.waiting)

    @property
    def concurrency(self) -> int:
        """Calls that may be under way now."""
        return self._limit.value

    def __call__(self, call: Call[Answer]) -> Answer:
        """Wait for a place, and ask.

        Raises:
            ServerOverloadedError: It could not have been answered by its deadline, or a call of
                higher priority took its place; nothing was asked.
            ServerTimeoutError: Its deadline had passed before it came, or passed under way.
        """
        left_s = min(remaining_s(), self._settings.deadline_s)
        if left_s <= 0:
            raise ServerTimeoutError(url=self._member.served_by, timeout_s=0.0)
        ticket = self._enter(left_s)
        ending: Ending = "failed"
        try:
            with deadline(max(ticket.end_s - self._clock(), 1e-6)):
                answer = call(self._member)
            ending = "answered"
            return answer
        except EdgemlError as exc:
            ending = _ENDINGS.get(fault_of(exc), "failed")
            raise
        finally:
            self._leave(ticket, ending)

    def close(self) -> None:
        """Do nothing: calls that wait have their turn, and are then told that all is closed."""

    def _enter(self, left_s: float) -> Ticket:
        """Return the ticket of a call that may start; wait for that if it has to."""
        rank = PRIORITIES.index(current_priority())
        bell: threading.Event | None = None
        with self._lock:
            now_s = self._clock()
            ticket, shed = self._line.arrive(now_s, rank=rank, end_s=now_s + left_s)
            if ticket.state is State.WAITING:
                bell = self._bells[ticket] = threading.Event()
                patience_s = self._line.start_by_s(ticket) - now_s
            self._ring(shed)
        if bell is not None:
            self._wait(ticket, bell, patience_s)
        if ticket.state is State.REFUSED:
            self._count(ticket.reason.replace("-", "_"), ticket)
            raise self._refusal(ticket)
        self._metrics.waits.observe(ticket.waited_s)
        return ticket

    def _wait(self, ticket: Ticket, bell: threading.Event, patience_s: float) -> None:
        rung = False
        try:
            rung = bell.wait(patience_s)
        except BaseException:  # an interrupt: nobody is left to take the place
            with self._lock:
                self._line.give_up(ticket, self._clock())
                if ticket.state is State.STARTED:
                    self._ring(self._line.end(ticket, self._clock(), counts=False))
            raise
        finally:
            if not rung:
                with self._lock:
                    self._line.give_up(ticket, self._clock())
                    self._bells.pop(ticket, None)

    def _leave(self, ticket: Ticket, ending: Ending) -> None:
        with self._lock:
            now_s = self._clock()
            if ending == "answered" and now_s > ticket.end_s:
                ending = "late"
            cut = self._limit.learn(
                ticket,
                ending,
                now_s=now_s,
                under_way=self._line.under_way,
                slow_share=self._settings.slow_share,
            )
            self._ring(self._line.end(ticket, now_s, counts=ending in TIMED))
        if cut is not None:
            self._metrics.cuts.labels(cut).inc()
        self._count(ending, ticket)

    def _ring(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self._bells.pop(ticket).set()

    def _count(self, outcome: str, ticket: Ticket) -> None:
        self._metrics.calls.labels(outcome, PRIORITIES[ticket.rank]).inc()

    def _refusal(self, ticket: Ticket) -> ServerOverloadedError:
        left_ms = 1e3 * (ticket.end_s - ticket.arrived_s)
        why = "calls of higher priority came, and " if ticket.reason == SHED else ""
        return ServerOverloadedError(
            f"more calls than can be answered in time: {why}{ticket.ahead} wait before this one; "
            f"it needs about {1e3 * ticket.needed_s:.0f} ms and has {left_ms:.0f} ms; send fewer "
            "at once, send it later, or give it more time",
            url=self._member.served_by,
            reason=ticket.reason,
            refused_by="limit",
        )
