"""A profile's row: one target in one scenario, from one run or several in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bench.floors import Floor
from edgeml.bench.percentiles import Percentile, percentile
from edgeml.bench.record import Outcome, Record
from edgeml.bench.summary import SHARES
from edgeml.bench.validity import Limits, judge, spread_of

# Runs of one target whose medians lie further apart than this are marked.
MAX_SPREAD = 0.05
_KEPT = 300


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a row is about.

    Attributes:
        target: The deployment's name.
        placement: ``co-located`` or ``remote``.
        served_by: Who answers; empty where a server does not say.
        variant: The bundle's variant that answers; empty where it is not known.
        accuracy: That variant's share of right answers, from the manifest; None without labels.
        size_bytes: Size of its file.
        threads: Threads that compute; None for a server of the user's.
        floor: What the client costs by itself.
    """

    target: str
    placement: str
    served_by: str
    variant: str
    accuracy: float | None
    size_bytes: int | None
    threads: int | None
    floor: Floor


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        subject: What it is about.
        scenario: The scenario.
        batch: Samples of one query.
        response: Percentiles from due to done.
        service: Percentiles from sent to done.
        throughput_per_s: Samples answered well, a second.
        counts: Queries by their end.
        offered_per_s: What was asked for; None in a closed loop.
        send_lag_p99_ms: How late the generator was at most, 99 of 100.
        valid: Whether it may be believed.
        reason: Why not, or what is said of it besides.
        wrong: Whether answers were wrong.
        stable: Whether runs agree within 5 %; None for a single run.
        spread: How far their medians lie apart; None for a single run.
        runs: How many runs.
        runs_p50_ms: The median of each.
        response_ms: Up to 300 quantiles of the response time, for pictures.
        service_sample_ms: The service times, for the queue model; not written out.
        attempts: How often it was measured.
    """

    subject: Subject
    scenario: str
    batch: int
    response: Mapping[str, Percentile]
    service: Mapping[str, Percentile]
    throughput_per_s: float
    counts: Mapping[str, int]
    offered_per_s: float | None
    send_lag_p99_ms: float | None
    valid: bool
    reason: str
    wrong: bool
    stable: bool | None
    spread: float | None
    runs: int
    runs_p50_ms: tuple[float, ...]
    response_ms: tuple[float, ...]
    service_sample_ms: npt.NDArray[np.float64] = field(repr=False)
    attempts: int = 1

    @property
    def p50_ms(self) -> float | None:
        """Median response time."""
        return self.response["p50"].value_ms

    @property
    def p99_ms(self) -> float | None:
        """99th percentile of the response time; None where the sample does not support it."""
        return self.response["p99"].value_ms

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values, DESIGN's keys first."""
        subject = self.subject
        return {
            "target": subject.target,
            "scenario": self.scenario,
            "placement": subject.placement,
            "threads": subject.threads,
            "batch": self.batch,
            "p50_ms": self.p50_ms,
            "p90_ms": self.response["p90"].value_ms,
            "p99_ms": self.p99_ms,
            "throughput_per_s": self.throughput_per_s,
            "errors": sum(self.counts.values()) - self.counts["ok"],
            "accuracy": subject.accuracy,
            "valid": self.valid,
            "reason": self.reason,
            "kind": "measured",
            "variant": subject.variant,
            "served_by": subject.served_by,
            "size_bytes": subject.size_bytes,
            "stable": self.stable,
            "spread": self.spread,
            "runs": self.runs,
            "runs_p50_ms": list(self.runs_p50_ms),
            "attempts": self.attempts,
            "counts": dict(self.counts),
            "offered_per_s": self.offered_per_s,
            "send_lag_p99_ms": self.send_lag_p99_ms,
            "response": {name: row.to_json() for name, row in self.response.items()},
            "service": {name: row.to_json() for name, row in self.service.items()},
            "floor": subject.floor.to_json(),
            "response_ms": list(self.response_ms),
        }


def make_row(
    subject: Subject, records: Sequence[Record], *, batch: int = 1, attempts: int = 1
) -> Row:
    """Pool the runs of one target in one scenario.

    The row is valid where every run is and the middle half of their medians lies within 25 %; where
    all of them do not lie within 5 % it is marked as unstable.
    """
    scenario = records[0].scenario
    response = np.concatenate([record.response_ms for record in records])
    service = np.concatenate([record.service_ms for record in records])
    good = response[np.isfinite(response)]
    medians = tuple(
        float(np.median(part))
        for record in records
        if (part := record.response_ms[np.isfinite(record.response_ms)]).size
    )
    several = len(records) > 1 and len(medians) == len(records)
    spread = spread_of(medians) if several else None
    limits = Limits(num_parts=1) if several else Limits()  # the runs are the parts then
    verdicts = [judge(record, limits=limits) for record in records]
    reasons = list(dict.fromkeys(line for verdict in verdicts for line in verdict.reasons))
    stable = None if spread is None else spread <= MAX_SPREAD
    said = [] if stable in (None, True) else [_spread_text(spread or 0.0, len(records))]
    apart = several and _middle_half(medians) > limits.max_spread
    if apart:
        reasons.append(_apart_text(_middle_half(medians), len(records)))
    lags = [record.send_lag_ms for record in records if record.scenario == "server"]
    lag = np.concatenate(lags) if lags else np.empty(0)
    latencies = response if scenario != "offline" else response[:0]
    services = service if scenario != "offline" else service[:0]
    return Row(
        subject=subject,
        scenario=scenario,
        batch=batch,
        response={name: percentile(latencies, share) for name, share in SHARES.items()},
        service={name: percentile(services, share) for name, share in SHARES.items()},
        throughput_per_s=_throughput(records, batch),
        counts={
            outcome.name.lower(): sum(record.count(outcome) for record in records)
            for outcome in Outcome
        },
        offered_per_s=records[0].offered_per_s,
        send_lag_p99_ms=float(np.quantile(lag, 0.99)) if lag.size else None,
        valid=all(verdict.valid for verdict in verdicts) and not apart,
        wrong=any(verdict.wrong for verdict in verdicts),
        reason="; ".join([*reasons, *said]),
        stable=stable,
        spread=spread,
        runs=len(records),
        runs_p50_ms=medians,
        response_ms=_quantiles(good) if scenario != "offline" else (),
        service_sample_ms=service[np.isfinite(service)],
        attempts=attempts,
    )


def _throughput(records: Sequence[Record], batch: int) -> float:
    answered = sum(record.count(Outcome.OK) for record in records) * batch
    return answered / sum(record.seconds for record in records)


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    if not values.size:
        return ()
    shares = np.linspace(0, 1, min(_KEPT, values.size))
    return tuple(round(float(value), 5) for value in np.quantile(values, shares))


def _middle_half(medians: Sequence[float]) -> float:
    """Return how far the middle half of the runs lies apart: one disturbed run does not decide."""
    low, middle, high = np.quantile(medians, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def _apart_text(apart: float, runs: int) -> str:
    share = f"{100 * apart:.0f} %"
    return f"the middle half of its {runs} runs lies {share} apart; at most 25 % is allowed"


def _spread_text(spread: float, runs: int) -> str:
    return (
        f"unstable: the medians of its {runs} runs lie {100 * spread:.1f} % apart, above "
        f"{100 * MAX_SPREAD:.0f} %"
    )
