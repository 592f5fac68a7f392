"""A run's figures: what a table shows of a record, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.bench.floors import Floor
from edgeml.bench.percentiles import Percentile, percentile
from edgeml.bench.record import Outcome, Record
from edgeml.bench.validity import Limits, Verdict, judge

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The figures of one run.

    Attributes:
        scenario: ``single-stream``, ``multi-stream``, ``server`` or ``offline``.
        client: The client that carried the queries.
        floor: What that client costs against a server that does nothing.
        num_queries: All queries, those without an answer included.
        counts: ``ok``, ``refused``, ``timeout``, ``error``, ``dropped``.
        offered_per_s: What the schedule asked for; None in a closed loop.
        throughput_per_s: Samples answered well, a second.
        slo_ms: The bound that goodput refers to; None without one.
        goodput_per_s: Queries answered well and within the bound, a second; None without a bound.
        response: Percentiles from due to done.
        service: Percentiles from sent to done.
        send_lag_p50_ms: Half of the queries were sent no later than this after they could be.
        send_lag_p99_ms: 99 of 100.
        num_checked: Answers compared with the right ones.
        num_wrong: Wrong ones.
        failures: The first few errors.
        verdict: Whether the run may be believed, and why not.
        conditions: How the run was made.
    """

    scenario: str
    client: str
    floor: Floor
    num_queries: int
    counts: Mapping[str, int]
    offered_per_s: float | None
    throughput_per_s: float
    slo_ms: float | None
    goodput_per_s: float | None
    response: Mapping[str, Percentile]
    service: Mapping[str, Percentile]
    send_lag_p50_ms: float | None
    send_lag_p99_ms: float | None
    num_checked: int
    num_wrong: int
    failures: tuple[str, ...]
    verdict: Verdict
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Queries without a good answer."""
        return self.num_queries - self.counts["ok"]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; a percentile that is not supported is null there."""
        return {
            "scenario": self.scenario,
            "client": self.client,
            "floor": self.floor.to_json(),
            "num_queries": self.num_queries,
            "counts": dict(self.counts),
            "errors": self.errors,
            "offered_per_s": self.offered_per_s,
            "throughput_per_s": self.throughput_per_s,
            "slo_ms": self.slo_ms,
            "goodput_per_s": self.goodput_per_s,
            **{f"{name}_ms": found.value_ms for name, found in self.response.items()},
            "response": {name: found.to_json() for name, found in self.response.items()},
            "service": {name: found.to_json() for name, found in self.service.items()},
            "send_lag_p50_ms": self.send_lag_p50_ms,
            "send_lag_p99_ms": self.send_lag_p99_ms,
            "num_checked": self.num_checked,
            "num_wrong": self.num_wrong,
            "failures": list(self.failures),
            "spread": self.verdict.spread,
            "valid": self.verdict.valid,
            "reason": self.verdict.reason,
            "conditions": dict(self.conditions),
        }


def summarise(
    record: Record,
    *,
    floor: Floor,
    slo_ms: float | None = None,
    limits: Limits | None = None,
) -> Summary:
    """Turn a record into figures.

    Args:
        record: The run.
        floor: The floor of the client that the run used.
        slo_ms: Bound on the response time that goodput refers to.
        limits: What makes a run invalid.
    """
    lag = record.send_lag_ms
    response = record.response_ms
    good = int(np.count_nonzero(response <= slo_ms)) if slo_ms is not None else 0
    return Summary(
        scenario=record.scenario,
        client=record.client,
        floor=floor,
        num_queries=len(record),
        counts={outcome.name.lower(): record.count(outcome) for outcome in Outcome},
        offered_per_s=record.offered_per_s,
        throughput_per_s=record.count(Outcome.OK) * record.samples_per_query / record.seconds,
        slo_ms=slo_ms,
        goodput_per_s=None if slo_ms is None else good / record.seconds,
        response=_percentiles(record, response),
        service=_percentiles(record, record.service_ms),
        send_lag_p50_ms=float(np.quantile(lag, 0.5)) if lag.size else None,
        send_lag_p99_ms=float(np.quantile(lag, 0.99)) if lag.size else None,
        num_checked=record.num_checked,
        num_wrong=record.num_wrong,
        failures=record.failures,
        verdict=judge(record, limits=limits),
        conditions=record.conditions,
    )


def _percentiles(record: Record, latencies_ms: Any) -> dict[str, Percentile]:
    if record.scenario == "offline":  # everything is due at once: its latency says nothing
        latencies_ms = latencies_ms[:0]
    return {name: percentile(latencies_ms, share) for name, share in SHARES.items()}
