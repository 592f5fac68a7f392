"""What a fallback counts: every decision that it takes."""

from __future__ import annotations

from edgeml.serving.routing.breaker import STATES, State
from edgeml.serving.routing.faults import FAULTS
from edgeml.serving.routing.metrics import Metrics


class FallbackMetrics:
    """The metrics of one fallback.

    Args:
        metrics: Where they are declared.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter(
            "fallback_calls",
            "Calls, by who answered (server, edge, nobody) and why it was not the server.",
            "served",
            "reason",
        )
        self.latency = metrics.histogram(
            "fallback_latency_seconds",
            "Time from a call to its answer, by who answered.",
            "served",
        )
        self.faults = metrics.counter(
            "fallback_server_faults", "Tries on the server that failed, by what was wrong.", "fault"
        )
        self.cut_overs = metrics.counter(
            "fallback_cut_overs", "Calls that the server had not answered in time."
        )
        self.retries = metrics.counter(
            "fallback_retries", "Retries on the server, made or denied by the budget.", "outcome"
        )
        self.hedges = metrics.counter(
            "fallback_hedges",
            "Calls that went to the edge as well, by who answered first; 'denied': too many at "
            "once.",
            "winner",
        )
        self.probes = metrics.counter(
            "fallback_probes", "Golden requests to the open server, by what came back.", "outcome"
        )
        self.transitions = metrics.counter(
            "fallback_breaker_transitions", "Changes of the breaker's state.", "before", "after"
        )
        self._state = metrics.gauge(
            "fallback_breaker_state", "1 for the state that the breaker is in.", "state"
        )
        self._begin_at_zero()
        self.show("closed")

    def _begin_at_zero(self) -> None:
        """Show what has not happened yet: a rate cannot tell a first time from a new series."""
        for fault in FAULTS:
            self.calls.labels("edge", fault)
            self.calls.labels("nobody", fault)
            self.faults.labels(fault)
            self.probes.labels(fault)
        for outcome in ("good", "wrong", "nothing"):
            self.probes.labels(outcome)
        for outcome in ("made", "denied"):
            self.retries.labels(outcome)
        for before, after in (
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "open"),
            ("half_open", "closed"),
        ):
            self.transitions.labels(before, after)
        self.calls.labels("server", "ok")
        self.calls.labels("edge", "open")
        self.calls.labels("nobody", "error")

    def show(self, state: State) -> None:
        """Set the state that the breaker is in."""
        for name in STATES:
            self._state.labels(name).set(float(name == state))
