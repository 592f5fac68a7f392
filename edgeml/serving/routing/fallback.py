"""A server with an edge behind it: who answers a call, and how long it may take to find out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from edgeml.core.deadline import deadline, remaining_s
from edgeml.core.predictor import Predictor
from edgeml.errors import EdgemlError, InferenceError, InputError, RequestRefusedError
from edgeml.serving.routing.breaker import Breaker, State
from edgeml.serving.routing.fallback_metrics import FallbackMetrics
from edgeml.serving.routing.fallback_settings import FallbackSettings
from edgeml.serving.routing.faults import fault_of
from edgeml.serving.routing.hedging import Hedger
from edgeml.serving.routing.late import LateServer
from edgeml.serving.routing.latencies import RecentLatencies
from edgeml.serving.routing.probing import Prober
from edgeml.serving.routing.routed import Call, RoutedPredictor, metrics_around
from edgeml.serving.routing.server_side import SHORTEST_S, ServerSide

Policy = Literal["required", "allowed", "forbidden"]
POLICIES: tuple[Policy, ...] = ("required", "allowed", "forbidden")
Check = Callable[[Predictor], bool]
Answer = TypeVar("Answer")

_LOG = logging.getLogger(__name__)
# What the edge is given of a caller's deadline is at most this share: the server is tried too.
_MOST_FOR_EDGE = 0.5
_OF_THE_INPUT = (InputError, RequestRefusedError, InferenceError)


class FallbackRoute:
    """Asks the server, and where the policy allows it the edge.

    Args:
        server: Asked first.
        edge: In this process.
        policy: ``required``: the server or an error; ``allowed``: the edge where the server does
            not answer; ``forbidden``: the server is never asked.
        settings: The numbers.
        metrics: Told of every decision.
        check: A golden request: whether the server answers it right. None asks what was last
            answered well instead, whoever answered it.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        server: Predictor,
        edge: Predictor,
        *,
        policy: Policy,
        settings: FallbackSettings,
        metrics: FallbackMetrics,
        check: Check | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._edge = edge
        self._policy = policy
        self._settings = settings
        self._metrics = metrics
        self._check = check
        self._clock = clock
        self._last_good: Call[Any] | None = None
        self._edge_latencies = RecentLatencies()
        self.breaker = Breaker(settings, on_change=self._on_change, clock=clock)
        self._side = ServerSide(
            server, breaker=self.breaker, metrics=metrics, settings=settings, clock=clock
        )
        self._prober = Prober(self.breaker, self._probe, settings)
        hedges = settings.hedge_after_s is not None and policy == "allowed"
        self._hedger = Hedger(settings.hedge_threads) if hedges else None

    def __call__(self, call: Call[Answer]) -> Answer:
        """Answer a call.

        Raises:
            EdgemlError: The input is wrong, or nobody who may answer could.
        """
        started = self._clock()
        try:
            answer, served, reason = self._decide(call)
        except EdgemlError as exc:
            reason = fault_of(exc) or ("input" if isinstance(exc, _OF_THE_INPUT) else "error")
            self._metrics.calls.labels("nobody", reason).inc()
            raise
        self._metrics.calls.labels(served, reason).inc()
        self._metrics.latency.labels(served).observe(self._clock() - started)
        if self._check is None and (call.num_samples == 1 or self._last_good is None):
            self._last_good = call
        return answer

    def close(self) -> None:
        """End the golden requests and the races."""
        self._prober.close()
        if self._hedger is not None:
            self._hedger.close()

    def open_at_once(self, error: EdgemlError) -> None:
        """Start with the breaker open: the server could not be reached at all."""
        self._side.fail(error)
        self.breaker.trip(str(error))

    def warm_edge(self) -> None:
        """Ask the edge a golden question before it is needed: its first answer takes longest."""
        if self._check is None or self._policy == "required":
            return
        self._check(self._edge)
        started = self._clock()
        self._check(self._edge)
        self._edge_latencies.note(self._clock() - started)

    def _decide(self, call: Call[Answer]) -> tuple[Answer, str, str]:
        """Return the answer, who gave it, and why it was not the server."""
        if self._policy == "forbidden":
            return self._ask_edge(call), "edge", "policy"
        ticket = self.breaker.admit()
        if self._policy == "required":
            if ticket is None:
                raise self._side.why_not()
            within_s = min(self._settings.deadline_s, remaining_s())
            return self._side.ask(call, ticket=ticket, within_s=within_s), "server", "ok"
        if ticket is None:
            return self._ask_edge(call), "edge", "open"
        within_s = self._time_for_server(call.num_samples)
        if within_s < SHORTEST_S:
            return self._ask_edge(call), "edge", "no_time"
        hedge_s = self._hedge_after_s(call, within_s)
        if hedge_s is not None:
            return self._race(call, ticket=ticket, within_s=within_s, after_s=hedge_s)
        try:
            return self._side.ask(call, ticket=ticket, within_s=within_s), "server", "ok"
        except EdgemlError as exc:
            return self._instead(call, exc)

    def _instead(self, call: Call[Answer], error: EdgemlError) -> tuple[Answer, str, str]:
        """Answer on the edge what the server did not, or raise what is not its fault."""
        fault = fault_of(error)
        if fault is None:
            raise error
        if fault == "timeout":
            self._metrics.cut_overs.inc()
        return self._ask_edge(call), "edge", fault

    def _race(
        self, call: Call[Answer], *, ticket: int, within_s: float, after_s: float
    ) -> tuple[Answer, str, str]:
        assert self._hedger is not None

        def ask_server() -> Answer:
            return self._side.ask(call, ticket=ticket, within_s=within_s)

        finish = self._hedger.race(ask_server, lambda: self._ask_edge(call), after_s=after_s)
        if finish is None:
            self._metrics.hedges.labels("denied").inc()
            try:
                return ask_server(), "server", "ok"
            except EdgemlError as exc:
                return self._instead(call, exc)
        if finish.hedged:
            won = "nobody" if finish.error is not None else finish.runner
            self._metrics.hedges.labels(won).inc()
        if finish.error is None:
            reason = "ok" if finish.runner == "server" else "hedge"
            return finish.answer, finish.runner, reason  # type: ignore[return-value]
        if finish.hedged or not isinstance(finish.error, EdgemlError):
            raise finish.error
        return self._instead(call, finish.error)

    def _ask_edge(self, call: Call[Answer]) -> Answer:
        started = self._clock()
        answer = call(self._edge)
        if call.num_samples == 1:
            self._edge_latencies.note(self._clock() - started)
        return answer

    def _time_for_server(self, num_samples: int) -> float:
        """Return how long the server may take, so that the edge can still answer in time."""
        left_s = remaining_s()
        edge_s = (self._edge_latencies.quantile_s(0.95, fewest=1) or 0.0) * num_samples
        return min(self._settings.cut_over_s, max(left_s - edge_s, left_s * _MOST_FOR_EDGE))

    def _hedge_after_s(self, call: Call[Answer], within_s: float) -> float | None:
        """Return when the edge shall be asked as well; None for not at all."""
        after_s = self._settings.hedge_after_s
        if self._hedger is None or after_s is None:
            return None
        if after_s == "p95":
            found = self._side.latencies.quantile_s(0.95)
            if found is None or call.num_samples != 1:
                return None
            after_s = found
        return after_s if after_s < within_s else None

    def _on_change(self, before: State, after: State, why: str) -> None:
        self._metrics.transitions.labels(before, after).inc()
        self._metrics.show(after)
        if after == "open":
            self._prober.wake()
        if (before, after) == ("closed", "open"):
            instead = "the edge answers" if self._policy == "allowed" else "calls fail at once"
            _LOG.warning("%s is not asked for now (%s): %s", self._server.served_by, why, instead)
        elif after == "closed":
            _LOG.warning("%s answers golden requests again: calls go to it", self._server.served_by)

    def _probe(self, allowed_s: float) -> bool:
        """Ask the server a golden question, and say whether it answered it right and in time."""
        try:
            with deadline(allowed_s):
                outcome = self._golden_request()
        except EdgemlError as exc:
            fault = fault_of(exc)
            if fault is None:
                # A picture that is no longer there, for instance: another call will serve.
                self._last_good = None
            else:
                self._side.fail(exc)
            outcome = fault or "nothing"
        except Exception:  # else nobody would ask any more, and the server be left for good
            _LOG.exception(
                "a golden request to %s came to an end of its own", self._server.served_by
            )
            outcome = "wrong"
        self._metrics.probes.labels(outcome).inc()
        return outcome == "good"

    def _golden_request(self) -> str:
        """Return ``good``, ``wrong``, or ``nothing`` where there is nothing to ask yet."""
        if isinstance(self._server, LateServer):
            self._server.open()
        if self._check is not None:
            return "good" if self._check(self._server) else "wrong"
        last = self._last_good
        if last is None:
            return "nothing"
        last(self._server)
        return "good"


def fallback(
    server: Predictor,
    edge: Predictor,
    *,
    policy: Policy = "allowed",
    settings: FallbackSettings | None = None,
    check: Check | None = None,
    late: EdgemlError | None = None,
    close_members: bool = True,
) -> RoutedPredictor:
    """Return a predictor over a server and the edge behind it.

    Args:
        server: Asked first.
        edge: In this process.
        policy: Whether the edge may, or must, answer.
        settings: The numbers.
        check: A golden request: whether a server answers it right.
        late: Why the server could not be reached yet; None where it was.
        close_members: Whether both are closed with it.

    Raises:
        InputError: The policy is none, or the two are not the same model.
    """
    if policy not in POLICIES:
        raise InputError(f"policy is {policy!r}; one of {', '.join(POLICIES)} was expected")
    settings = settings or FallbackSettings()
    members = {"server": server, "edge": edge}
    metrics = metrics_around(members)
    route = FallbackRoute(
        server,
        edge,
        policy=policy,
        settings=settings,
        metrics=FallbackMetrics(metrics),
        check=check,
    )
    routed = RoutedPredictor(members, route=route, metrics=metrics, close_members=close_members)
    route.warm_edge()
    if late is not None:
        route.open_at_once(late)
    return routed
